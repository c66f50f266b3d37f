"""Words of the check of this machine: names of the checks, figures with their units, and what mends what."""

WORDS = {
    "check.title": ("Is this machine ready to train?", "Готов ли компьютер к обучению?"),
    "check.about": (
        "Takes three minutes at most. Looks at the card and its driver; tests torch, 4-bit weights, 8-bit optimizers and "
        "the attention kernel, compared with the CPU's results; trains the starter model for a few steps with each method "
        "and compares the speed with the forecast; then kills and resumes a run. Do this first on a new card: the "
        "measurements make the calculator more accurate for the starter model.",
        "Займёт не больше трёх минут. Проверяются карта и драйвер; torch, 4-битные веса, 8-битные оптимизаторы и ядро "
        "внимания сверяются с результатами на процессоре. Затем стартовая модель проходит несколько шагов обучения каждым "
        "методом, скорость сравнивается с прогнозом, а один запуск принудительно останавливается и продолжается. На новой "
        "карте начните с этого: по замерам калькулятор станет точнее для стартовой модели.",
    ),
    "check.go.card": ("Check this graphics card", "Проверить видеокарту"),
    "check.go.computer": ("Check this computer", "Проверить этот компьютер"),
    "check.stop": ("Stop", "Остановить"),
    "check.copy": ("Copy for a report", "Скопировать для отчёта"),
    "check.none": ("This machine has not been checked yet.", "Этот компьютер ещё не проверялся."),
    "check.beginning": ("Starting the check…", "Проверка начинается…"),
    "check.doing": ("Checking now: {name}", "Сейчас проверяется: {name}"),
    "check.verdict.ok": ("Everything works: {device}.", "Всё работает: {device}."),
    "check.verdict.slow": (
        "Everything works, but something is slower than it should be: {device}.",
        "Всё работает, но что-то медленнее, чем должно быть: {device}.",
    ),
    "check.verdict.incomplete": (
        "What was checked works, but not everything was checked: {device}. The table says what was skipped and why.",
        "Всё проверенное работает, но проверено не всё: {device}. Что пропущено и почему, видно из таблицы.",
    ),
    "check.verdict.broken": (
        "Something does not work: {device}. See the last column for what to do.",
        "Что-то не работает: {device}. Что делать — в последнем столбце.",
    ),
    "check.ended.stopped": ("The check was stopped.", "Проверка остановлена."),
    "check.ended.lost": (
        "The check ended unexpectedly: it was killed, or the machine shut down. Start it again.",
        "Проверка неожиданно прервалась: её процесс завершили или компьютер выключился. Запустите её снова.",
    ),
    "check.ended.failed": ("The check could not be completed.", "Проверка завершилась с ошибкой."),
    "check.report": ("The result as JSON, for a report", "Результат в JSON, для отчёта"),
    "check.head.name": ("Check", "Проверка"),
    "check.head.state": ("Result", "Итог"),
    "check.head.value": ("Found", "Получено"),
    "check.head.expected": ("Expected", "Ожидалось"),
    "check.head.advice": ("What to do", "Что делать"),
    "check.state.ok": ("ok", "в порядке"),
    "check.state.slow": ("slow", "медленно"),
    "check.state.broken": ("broken", "не работает"),
    # Names of the checks
    "check.name.card": ("Card and driver", "Карта и драйвер"),
    "check.name.torch": ("torch sees the device", "torch видит устройство"),
    "check.name.architecture": ("torch has kernels for the card", "В torch есть ядра для карты"),
    "check.name.matmul_fp32": ("Matrix multiplication, fp32", "Умножение матриц, fp32"),
    "check.name.matmul_bf16": ("Matrix multiplication, bf16", "Умножение матриц, bf16"),
    "check.name.matmul_fp16": ("Matrix multiplication, fp16", "Умножение матриц, fp16"),
    "check.name.bnb_4bit": ("4-bit weights (bitsandbytes)", "4-битные веса (bitsandbytes)"),
    "check.name.bnb_8bit": ("8-bit optimizer (bitsandbytes)", "8-битный оптимизатор (bitsandbytes)"),
    "check.name.attention": ("Attention kernel", "Ядро внимания"),
    "check.name.packing": ("Packed rows do not see each other", "Упакованные строки не видят друг друга"),
    "check.name.model": ("Model for the test runs", "Модель для пробных запусков"),
    "check.name.train_lora": ("Training, LoRA", "Обучение, LoRA"),
    "check.name.train_lora_packed": ("Training, LoRA, packed", "Обучение, LoRA с упаковкой"),
    "check.name.train_qlora": ("Training, QLoRA", "Обучение, QLoRA"),
    "check.name.train_qlora_packed": ("Training, QLoRA, packed", "Обучение, QLoRA с упаковкой"),
    "check.name.train_full": ("Training, all weights", "Обучение всех весов"),
    "check.name.train_full_packed": ("Training, all weights, packed", "Обучение всех весов с упаковкой"),
    "check.name.resume": ("Kill and resume", "Принудительная остановка и продолжение"),
    # Figures and facts
    "check.figure.tokens_per_second": ("{value} tokens/s", "{value} токенов/с"),
    "check.figure.peak_gib": ("peak memory: {value} GiB", "пик памяти: {value} ГиБ"),
    "check.figure.loss": ("loss of step 1: {value}", "loss на шаге 1: {value}"),
    "check.figure.error": ("difference: {value}", "расхождение: {value}"),
    "check.figure.tflops": ("{value} TFLOP/s", "{value} ТФЛОП/с"),
    "check.figure.rounding": ("rounding error: {value}", "ошибка округления: {value}"),
    "check.figure.forward": ("forward pass: {value}", "прямой проход: {value}"),
    "check.figure.backward": ("backward pass: {value}", "обратный проход: {value}"),
    "check.figure.single": ("single token: {value}", "один токен: {value}"),
    "check.figure.card": ("card: {value}", "карта: {value}"),
    "check.figure.cards": ("cards: {value}", "карт: {value}"),
    "check.figure.driver": ("driver {value}", "драйвер {value}"),
    "check.figure.capability": ("compute capability {value}", "compute capability {value}"),
    "check.figure.memory_gib": ("memory: {value} GiB", "память: {value} ГиБ"),
    "check.figure.free_gib": ("free: {value} GiB", "свободно: {value} ГиБ"),
    "check.figure.cores": ("cores: {value}", "ядер: {value}"),
    "check.figure.torch": ("torch {value}", "torch {value}"),
    "check.figure.cuda": ("CUDA: {value}", "CUDA: {value}"),
    "check.figure.rocm": ("ROCm: {value}", "ROCm: {value}"),
    "check.figure.transformers": ("transformers {value}", "transformers {value}"),
    "check.figure.bitsandbytes": ("bitsandbytes {value}", "bitsandbytes {value}"),
    "check.figure.python": ("Python {value}", "Python {value}"),
    "check.figure.system": ("{value}", "{value}"),
    "check.figure.device": ("device: {value}", "устройство: {value}"),
    "check.figure.architecture": ("needed: {value}", "нужно: {value}"),
    "check.figure.kernels": ("kernels: {value}", "ядра: {value}"),
    "check.figure.attention": ("used: {value}", "используется: {value}"),
    "check.figure.precision": ("precision: {value}", "точность: {value}"),
    "check.figure.lacks": ("FlashAttention 2 needs {value}", "для FlashAttention 2 не хватает {value}"),
    "check.figure.documents": ("documents: {value}", "документы: {value}"),
    "check.figure.way": ("method: {value}", "способ: {value}"),
    "check.figure.model": ("{value}", "{value}"),
    "check.figure.steps": ("steps compared: {value}", "сравнено шагов: {value}"),
    "check.figure.left_out": ("skipped: {value}", "пропущено: {value}"),
    "check.figure.reason": ("{value}", "{value}"),
    # Expected figures that are limits
    "check.expected.error": ("at most {value}", "не больше {value}"),
    "check.expected.rounding": ("rounding error: about {value}", "ошибка округления: около {value}"),
    "check.expected.forward": ("forward pass: at most {value}", "прямой проход: не больше {value}"),
    "check.expected.backward": ("backward pass: at most {value}", "обратный проход: не больше {value}"),
    "check.expected.single": ("single token: at most {value}", "один токен: не больше {value}"),
    # Values that are words
    "check.word.cpu": ("CPU", "процессор"),
    "check.word.the CPU": ("the CPU", "процессор"),
    "check.word.the download takes longer than this check": (
        "the download takes longer than this check",
        "загрузка идёт дольше, чем сама проверка",
    ),
    "check.word.none": ("none", "нет"),
    "check.word.unknown": ("unknown", "неизвестно"),
    "check.word.apart": ("kept apart", "разделены"),
    "check.word.by_document": ("one document at a time", "каждый документ отдельно"),
    "check.word.varlen": (
        "all documents in one call of torch's own kernel",
        "все документы за один вызов ядра из torch",
    ),
    "check.word.flash": ("FlashAttention", "FlashAttention"),
    "check.word.broken": ("a flash-attn that loads", "исправного пакета flash-attn"),
    "check.word.package": ("the flash-attn package", "пакета flash-attn"),
    "check.word.class": ("support by this kind of model", "поддержки в моделях этого вида"),
    "check.word.capability": ("a newer card", "более новой карты"),
    "check.word.card": ("a card", "карты"),
    "check.word.apple": ("a card of NVIDIA, AMD or Intel", "видеокарты NVIDIA, AMD или Intel"),
    "check.word.precision": ("16-bit precision", "16-битной точности"),
    "check.word.time": ("out of time", "не хватило времени"),
    "check.word.memory": ("not enough memory", "не хватило памяти"),
    "check.word.unsupported": ("not supported on this card", "не поддерживается на этой карте"),
    "check.word.losses": (
        "there is no finished training to compare with",
        "нет законченного обучения для сравнения",
    ),
    "check.word.random weights": ("a tiny model with random weights", "крошечная модель со случайными весами"),
    "check.word.none listed": ("none listed", "не перечислены"),
    "check.word.it took too long and was ended": (
        "it took too long and was stopped",
        "проверка шла слишком долго и была прервана",
    ),
}

TROUBLES = {
    "RunBegan": "Началось обучение «{name}», и проверка уступила ему место. Проверьте компьютер, когда оно закончится.",
    "CardInUse": "Компьютер сейчас занят: модель пишет строки, открыт чат в терминале или идёт другая проверка. Остановите то, "
    "что идёт, и проверьте ещё раз.",
    "CheckFirst": "Сейчас идёт обучение «{name}»: оно и проверка мешали бы друг другу. Проверьте компьютер, когда обучение "
    "закончится.",
    "TorchSeesNoCard": "torch {torch} подходит и для {card}, и для её драйвера, но карту не видит. Перезагрузите компьютер или "
    "запустите контейнер с доступом к карте (docker run --gpus all). Если карта в режиме MIG, создайте на ней экземпляр.",
    "CardNotPermitted": "torch {torch} подходит для {card}, но не видит эту карту. Добавьте своего пользователя в группы render и "
    "video и перезагрузите компьютер; контейнер запустите с доступом к карте (docker run --device /dev/kfd --device "
    "/dev/dri).",
    "MetalNotSeen": "torch {torch} не видит {card}. Обновите macOS и проверьте ещё раз.",
    "TorchUnusable": "torch здесь не работает. Переустановите его: {command}",
    "NumbersWrong": "Результаты расходятся с эталоном на процессоре. Переустановите {package}: {command}",
    "BitsandbytesUnusable": "Для QLoRA и 8-битных оптимизаторов нужен bitsandbytes, а он здесь не работает. "
    "Переустановите его: {command}",
    "PackageUnusable": "Для обучения нужны пакеты, которые здесь не работают. Переустановите их: {command}",
    "CardSlow": "Это намного медленнее, чем бывает на такой карте. Закройте другие программы, которые её занимают, дайте ей "
    "остыть и проверьте ещё раз: {command}",
    "NvidiaCardSlow": "Это намного медленнее, чем бывает на такой карте. Посмотрите, какие ещё программы занимают карту и "
    "не замедляет ли её перегрев или ограничение мощности: {command}",
    "ProcessorSlow": "Это намного медленнее, чем бывает на таком процессоре. Закройте другие программы и проверьте ещё раз: "
    "{command}",
    "FlashAttentionBroken": "Установленный flash-attn не загружается: так бывает после обновления torch. Вместо него работает "
    "внимание из самого torch. Удалите пакет (pip uninstall flash-attn) или переустановите его под этот torch: {command}",
    "FlashAttentionLacksKernels": "В torch есть ядра для {card}, а в установленном flash-attn их нет. Удалите его, тогда будет "
    "работать внимание из самого torch: {command}",
    "PackedRowsSlow": "Документы упакованной строки здесь считаются по одному, а это медленнее: flash-attn не используется, и в "
    "этом torch нет ядра, которое берёт их все сразу. Установите torch новее: {command}",
    "PackedRowsStaySlow": "Документы упакованной строки здесь считаются по одному, а это медленнее: flash-attn не используется, "
    "в этом torch нет ядра, которое берёт их все сразу, а более новый torch не умеет считать на {card} с её драйвером. "
    "Без упаковки обучение может идти не медленнее.",
    "TimeWasShort": "На все проверки не хватило времени. Дайте больше: {command}",
    "StarterMissing": "Стартовую модель скачать не удалось ({reason}), поэтому вместо неё взята крошечная модель со "
    "случайными весами: её скорость мало о чём говорит. Скачайте модель и проверьте ещё раз: {command}",
    "CheckBroke": "Это здесь не работает. Приложите к отчёту этот результат и конец файла {log}",
}
