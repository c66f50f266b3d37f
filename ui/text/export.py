"""Words of the exports."""

WORDS = {
    "page.export": ("Export", "Экспорт"),
    "export.intro": (
        "Take a run along. An export goes on in the background, whatever happens to this page, and stays until you "
        "delete it.",
        "Заберите результат с собой. Экспорт идёт в фоне, что бы ни было с этой страницей, и хранится, пока вы его не "
        "удалите.",
    ),
    "export.run": ("Run", "Запуск"),
    "export.kind": ("As", "Вид"),
    "export.capsule": ("Capsule", "Капсула"),
    "export.adapter": ("Adapter", "Адаптер"),
    "export.merged": ("Merged model", "Слитая модель"),
    "export.gguf": ("GGUF", "GGUF"),
    "export.capsule.about": (
        "One zip with train.py, config, rows and pinned versions: unpacked anywhere, it trains again to the same losses.",
        "Один zip: train.py, настройки, строки и версии пакетов. Где угодно обучит снова с теми же потерями.",
    ),
    "export.adapter.about": (
        "PEFT's own format with a model card; plain transformers and peft load it in three lines.",
        "Формат PEFT с карточкой модели; обычные transformers и peft загружают его тремя строками.",
    ),
    "export.merged.about": (
        "The adapter added to the base's own 16-bit or 32-bit weights, never to 4-bit ones. The difference is measured; "
        "a model that speaks differently is refused.",
        "Адаптер, прибавленный к исходным 16- или 32-битным весам базы, а не к 4-битным. Расхождение измеряется; модель, "
        "которая отвечает иначе, не сохраняется.",
    ),
    "export.gguf.about": (
        "Files f16 and q8_0 for Ollama, LM Studio and llama.cpp, with chat template, stop tokens and a Modelfile: Llama, "
        "Mistral, Qwen 2, 2.5 and 3. Each file is read back and compared.",
        "Файлы f16 и q8_0 для Ollama, LM Studio и llama.cpp с шаблоном чата, стоп-токенами и Modelfile: Llama, Mistral, "
        "Qwen 2, 2.5 и 3. Каждый файл читается обратно и сравнивается.",
    ),
    "export.start": ("Export", "Экспортировать"),
    "export.stop": ("Stop", "Остановить"),
    "export.delete": ("Delete with its files", "Удалить с файлами"),
    "export.chosen": ("Export", "Экспорт"),
    "export.none": (
        "No exports yet. Choose a run and what to make of it, then press Export.",
        "Экспортов пока нет. Выберите запуск и вид, затем нажмите «Экспортировать».",
    ),
    "export.file": ("Download", "Скачать"),
    "export.head.name": ("Run", "Запуск"),
    "export.head.kind": ("As", "Вид"),
    "export.head.state": ("State", "Состояние"),
    "export.head.size": ("Size", "Размер"),
    "export.head.place": ("Place", "Где лежит"),
    "export.state.queued": ("Starting", "Запускается"),
    "export.state.running": ("At work", "Выполняется"),
    "export.state.stopping": ("Stopping", "Останавливается"),
    "export.state.finished": ("Ready", "Готово"),
    "export.state.stopped": ("Stopped", "Остановлено"),
    "export.state.failed": ("Failed", "Ошибка"),
    "export.state.lost": ("Interrupted: start it again", "Прервано: начните заново"),
    "export.stage.packing": ("packing", "упаковка"),
    "export.stage.loading": ("loading the base", "загрузка базы"),
    "export.stage.merging": ("merging", "слияние"),
    "export.stage.saving": ("saving", "сохранение"),
    "export.stage.writing": ("writing GGUF, tensors", "запись GGUF, тензоры"),
    "export.stage.comparing": ("reading back and comparing", "чтение и сравнение"),
    "export.place": ("It lies in `{path}`", "Лежит в `{path}`"),
    "export.difference": (
        "Precision {precision}; the logits of the merged model differ from the adapter's by {difference} of their length.",
        "Точность {precision}; логиты слитой модели отличаются от логитов адаптера на {difference} их длины.",
    ),
    "export.compared": (
        "`{file}`: logits differ from the merged model's by {difference}; greedy replies equal: {equal} of {count}.",
        "`{file}`: логиты отличаются от слитой модели на {difference}; жадные ответы совпали: {equal} из {count}.",
    ),
    "export.lines": ("Load it in plain transformers and peft:", "Загрузить в обычных transformers и peft:"),
    "export.ollama": (
        "In Ollama: `ollama create soulsmith -f {path}/Modelfile`, then `ollama run soulsmith`.",
        "В Ollama: `ollama create soulsmith -f {path}/Modelfile`, затем `ollama run soulsmith`.",
    ),
}

TROUBLES = {
    "NoRunToExport": "Запуск не выбран. Выберите его из списка.",
    "NothingToMerge": ("Запуск «{name}» обучил все веса: это уже целая модель. Возьмите файлы GGUF или капсулу."),
    "PlaceTaken": "В {path} уже что-то лежит, и оно останется как есть. Выберите другое место или сначала уберите лежащее.",
    "MergeDiffers": (
        "Слитая модель отвечает не так, как адаптер: логиты отличаются на {difference}, а округление даёт не больше {limit}. "
        "Ничего не записано. Возьмите адаптер."
    ),
    "GgufDiffers": (
        "Файл {kind} отвечает не так, как слитая модель: логиты отличаются на {difference}, а округление даёт не больше "
        "{limit}. Файл удалён. Возьмите слитую модель и convert_hf_to_gguf.py из llama.cpp."
    ),
    "GgufFamily": (
        "Файлы GGUF здесь пишутся для Llama, Mistral, Qwen 2, 2.5 и 3; эта модель — {family}. "
        "Экспортируйте её слитой и запустите для этой папки convert_hf_to_gguf.py из llama.cpp."
    ),
    "GgufTokenizer": (
        "Токенизатор {model} делит тексты так, как файл GGUF здесь описать не может. "
        "Экспортируйте модель слитой и запустите для этой папки convert_hf_to_gguf.py из llama.cpp."
    ),
}
