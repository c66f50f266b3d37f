"""Words of the Training tab and of prompt profiles."""

WORDS = {
    "training.intro": (
        "Choose a model and a corpus, then press Train. The run goes on when you close this page.",
        "Выберите модель и корпус и нажмите «Обучить». Запуск продолжится, даже если закрыть страницу.",
    ),
    "training.name": ("Name of the run", "Имя запуска"),
    "training.name.info": ("Empty: named after the corpus and the method.", "Пусто — по корпусу и способу."),
    "training.train": ("Train", "Обучить"),
    "training.try": ("Try three steps", "Попробовать три шага"),
    "training.try.info": (
        "The longest rows come first: you see at once whether it fits and how long a step takes, and the calculator "
        "learns from it.",
        "Сначала идут самые длинные строки: сразу видно, хватит ли памяти и сколько длится шаг, а калькулятор учится "
        "на этом.",
    ),
    "training.try.name": ("three steps: {name}", "три шага: {name}"),
    "training.more": ("More settings", "Другие настройки"),
    "training.exact": ("Exact config", "Точная конфигурация"),
    "training.starter": (
        "SmolLM2-135M-Instruct, starter model (one download of 93 MB)",
        "SmolLM2-135M-Instruct, стартовая модель (скачать один раз, 93 МБ)",
    ),
    "training.starter_ready": ("SmolLM2-135M-Instruct, starter model", "SmolLM2-135M-Instruct, стартовая модель"),
    "training.no_corpus": (
        "There is no corpus yet. Open the Corpus tab and make one from a bundled sample or your files.",
        "Корпуса пока нет. Откройте вкладку «Корпус» и создайте его из готового образца или своих файлов.",
    ),
    "training.no_runs": (
        "No run yet. Its curves will appear here.",
        "Запусков пока нет. Здесь появятся их кривые.",
    ),
    "training.shown": ("Run shown", "Показан запуск"),
    "training.stop": ("Stop", "Остановить"),
    "training.resume": ("Resume", "Продолжить"),
    "training.live": ("Live", "Обновлять"),
    "training.live.info": ("Switch off to zoom in peace.", "Выключите, чтобы спокойно разглядывать графики."),
    "training.log": ("Log", "Журнал"),
    "training.queued": (
        "Queued as “{name}”. You may close this page.",
        "Запуск «{name}» в очереди. Страницу можно закрыть.",
    ),
    "training.chat_closed": (
        "The model in the Playground was let go to free memory for training.",
        "Модель на вкладке «Песочница» выгружена, чтобы освободить память для обучения.",
    ),
    "training.stop_asked": (
        "Asked to stop: what is trained is saved after the current step or evaluation.",
        "Остановка запрошена: обученное сохранится после текущего шага или проверки.",
    ),
    "training.resumed": (
        "Queued again: it goes on from its newest checkpoint.",
        "Снова в очереди: продолжится с последней контрольной точки.",
    ),
    "state.queued": ("queued", "в очереди"),
    "state.running": ("running", "идёт"),
    "state.stopping": ("stopping", "останавливается"),
    "state.finished": ("finished", "завершён"),
    "state.stopped": ("stopped", "остановлен"),
    "state.failed": ("failed", "сбой"),
    "state.lost": ("lost", "прерван"),
    "state.lost.help": (
        "The process ended without a word: killed, out of memory or a power cut. Press Resume to go on from the newest checkpoint.",
        "Процесс пропал без следа: убит, не хватило памяти или отключили питание. Нажмите «Продолжить», чтобы пойти дальше с последней контрольной точки.",
    ),
    "stage.starting": ("starting", "запуск"),
    "stage.download": ("downloading the model", "скачивание модели"),
    "stage.convert": ("converting the model, about 20 s", "преобразование модели, около 20 с"),
    "stage.loading": ("loading the model and the rows", "загрузка модели и строк"),
    "stage.tokens": ("turning rows into tokens", "преобразование строк в токены"),
    "stage.training": ("training", "обучение"),
    "live.step": ("step", "шаг"),
    "live.left": ("left", "осталось"),
    "live.loss": ("loss", "loss"),
    "live.eval": ("held-out loss", "loss на отложенных строках"),
    "live.speed": ("tokens/s", "токенов/с"),
    "live.memory": ("memory", "память"),
    "live.predicted": ("predicted", "по расчёту"),
    "live.took": ("took", "заняло"),
    "data.rows": ("{rows} rows to learn from, {held} held out", "учебных строк: {rows}, отложено: {held}"),
    "data.tokens": ("{tokens} tokens, {learned} of them learned", "токенов: {tokens}, из них учебных: {learned}"),
    "data.cut": ("{rows} rows cut off at max_length", "строк, обрезанных по max_length: {rows}"),
    "data.text": ("{rows} plain texts among the chats", "сплошных текстов среди переписок: {rows}"),
    "data.blocks": ("{blocks} blocks, {fill}\u00a0% full", "блоков: {blocks}, заполнены на {fill}\u00a0%"),
    "data.attention": ("attention: {kernel}", "внимание: {kernel}"),
    "data.attention.by_document": (
        "attention: {kernel}, each document of a block by itself",
        "внимание: {kernel}, каждый документ блока отдельно",
    ),
    "data.attention.varlen": (
        "attention: {kernel}, all documents of a block in one call",
        "внимание: {kernel}, все документы блока за один вызов",
    ),
    "data.attention.both": (
        "attention: {kernel}, in some layers each document of a block by itself",
        "внимание: {kernel}, в части слоёв каждый документ блока отдельно",
    ),
    "data.attention.because": ("{kernel}, because {why}", "{kernel}, потому что {why}"),
    "data.lacks.card": ("FlashAttention 2 needs a graphics card", "для FlashAttention 2 нужна видеокарта"),
    "data.lacks.apple": (
        "FlashAttention 2 is not made for Apple's GPU",
        "для графики Apple нет FlashAttention 2",
    ),
    "data.lacks.capability": (
        "the card is too old for FlashAttention 2",
        "для FlashAttention 2 карта слишком старая",
    ),
    "data.lacks.precision": (
        "FlashAttention 2 does not compute in fp32",
        "FlashAttention 2 не считает в fp32",
    ),
    "data.lacks.class": (
        "this kind of model does not support FlashAttention 2",
        "модели этого вида не поддерживают FlashAttention 2",
    ),
    "data.lacks.package": (
        "the package flash-attn is not installed",
        "пакет flash-attn не установлен",
    ),
    "data.lacks.broken": (
        "the installed flash-attn does not load: reinstall it for this torch, or remove it",
        "установленный flash-attn не загружается: переустановите его под этот torch или удалите",
    ),
    "data.experts": (
        "adapters on the experts, without dropout; the router is not trained",
        "адаптеры у экспертов, без dropout; маршрутизатор не обучается",
    ),
    "live.left_out": (
        "{count} rows are left out: {reasons}.",
        "Пропущено строк: {count} ({reasons}).",
    ),
    "reason.nothing_to_learn": ("nothing to learn in them", "в них нечему учиться"),
    "reason.template_refused": ("the chat template refuses them", "их не принимает шаблон чата"),
    "unit.gib": ("GiB", "ГиБ"),
}

TROUBLES = {
    "ChatsForPretraining": (
        "В корпусе «{name}» есть диалоги ({chats}), а продолженное предобучение читает сплошной текст. "
        "Возьмите корпус из текстов или обучайте на диалогах: task — chat."
    ),
    "TextsForChat": (
        "В корпусе «{name}» только тексты, а обучение на диалогах учит ответам. "
        "Выберите продолженное предобучение (task — text) или корпус из диалогов."
    ),
    "ArchitectureUnknown": (
        "Модель {model} — вида {kind}, а transformers {version} не умеет обучать его как языковую модель. "
        "Выберите другую модель или обновите transformers."
    ),
    "AdapterRefused": (
        "К модели {model} с такими настройками не подходит адаптер: {reason} "
        "Укажите target_modules — all-linear, use_dora — выключено, init_lora_weights — default."
    ),
    "ExpertsTakePlainLora": (
        "У модели {model} эксперты слоя лежат в одном тензоре, к которому подходит только обычная LoRA, "
        "а в поле {field} — {value}. Укажите в {field} {suggestion} или в target_modules {names}: адаптеры только у внимания."
    ),
    "StoredQuantized": (
        "Веса модели {model} хранятся в формате {kind}, с которого метод {method} начать не может (могут: {methods}). "
        "Выберите ту же модель в 16 битах."
    ),
    "LongerThanTheModel": (
        "Задано max_length {value}, а {model} читает не больше {limit} токенов. Укажите в max_length {limit} или меньше."
    ),
    "VocabularyTooLarge": (
        "Токенизатор модели {model} знает {tokens} токенов, а в весах их {rows}. "
        "Возьмите токенизатор от этой модели или сначала расширьте её эмбеддинги."
    ),
    "NoBf16": (
        "Карта {card} не считает в bf16. Укажите precision — auto: там это fp16, а веса адаптера останутся в fp32."
    ),
    "NoBf16TakesFp32": "Карта {card} не считает в bf16. Укажите precision — auto: там это fp32.",
    "Bf16NeedsNewerMacOS": (
        "Графика Apple считает в bf16, начиная с macOS 14. Обновите macOS или укажите precision — auto: до тех пор это fp32."
    ),
    "Fp16NeedsCard": "Для precision fp16 нужна видеокарта, а здесь torch считает на процессоре. Укажите precision — auto.",
    "Fp16NotOnApple": "На графике Apple обучать в fp16 нельзя. Укажите precision — auto: там это {instead}.",
    "PackageBroken": (
        "Для {what} нужен пакет {package}: он установлен, но не загружается: {reason}. Обойдитесь без {what} или "
        "переустановите пакет: {command}"
    ),
    "LigerNeedsCard": (
        "Для use_liger_kernel нужна видеокарта NVIDIA, AMD или Intel, а torch её здесь не видит. Выключите этот параметр."
    ),
    "LigerMissing": (
        "Для use_liger_kernel нужны видеокарта и пакет liger-kernel; здесь не хватает: {missing}. "
        "Выключите этот параметр или установите пакет: pip install liger-kernel"
    ),
    "DoesNotFit": (
        "Нужно около {need} ГиБ памяти, а есть {there} ГиБ. Уменьшите max_length ({length}) или batch_size ({rows}), "
        "включите gradient_checkpointing, выберите QLoRA или модель поменьше."
    ),
    "LossIsZero": (
        "К шагу {step} loss ровно 0: модель ничему не учится. "
        "Посмотрите раскраску корпуса на вкладке «Корпус»; если ни один ответ не выделен, укажите learn — all."
    ),
    "PissaNeedsWholeBase": (
        "init_lora_weights {value} раскладывает веса базы, а с 4-битными весами это невозможно. "
        "Укажите method — lora или init_lora_weights — default."
    ),
    "ProfileGone": "Профиля {name} нет: его удалили. Выберите другой из списка.",
    "ProfileEmpty": "Профилю нужен системный промпт или хотя бы один пример. Впишите что-нибудь из этого.",
    "ProfileNameless": "Профилю нужно имя. Впишите его.",
    "ExampleOneSided": "В примере {number} не хватает вопроса или ответа. Заполните оба или очистите строку.",
    "TooManyExamples": (
        "Примеров {count}: они заняли бы весь контекст модели, а в профиль помещается не больше {most}. "
        "Обучите на них адаптер."
    ),
}
