"""Words of the page as a whole, and the troubles of core/paths, core/models and core/recipe."""

WORDS = {
    "page.tagline": (
        "Retrain a language model on your own machine, and see what changed.",
        "Дообучите языковую модель на своей машине и посмотрите, что изменилось.",
    ),
    "page.started": (
        "Soulsmith: {address}  (Ctrl+C ends the page; training goes on)",
        "Soulsmith: {address}  (Ctrl+C закрывает страницу, обучение продолжается)",
    ),
    "page.ended": ("The page has ended.", "Страница закрыта."),
    "page.ended.training": (
        "The page has ended. Training goes on; start the page again to see it.",
        "Страница закрыта. Обучение продолжается; чтобы увидеть его, запустите страницу снова.",
    ),
    "page.other_language": ("Русский", "English"),
    "page.calculator": ("Calculator", "Калькулятор"),
    "page.corpus": ("Corpus", "Корпус"),
    "page.synth": ("Synthetics", "Синтетика"),
    "page.training": ("Training", "Обучение"),
    "page.playground": ("Playground", "Песочница"),
    "page.runs": ("Runs", "Запуски"),
    "plot.step": ("step", "шаг"),
    "plot.loss": ("loss, nats per token", "loss, нат на токен"),
    "plot.train_loss": ("training loss", "loss на обучении"),
    "plot.smoothed": ("smoothed", "сглаженный"),
    "plot.eval_loss": ("held-out loss (eval_loss)", "loss на отложенных строках (eval_loss)"),
    "plot.learning_rate": ("learning rate", "скорость обучения"),
    "plot.tokens_per_second": ("tokens per second", "токенов в секунду"),
}

TROUBLES = {
    "NotOurs": "«{name}» — не имя того, что хранит Soulsmith. Выберите из списка.",
    "ModelUnknown": (
        "Модели {name} нет. Укажите папку, файл GGUF или имя на Hugging Face Hub, например Qwen/Qwen2.5-0.5B-Instruct."
    ),
    "NoWeights": (
        "В папке {path} нет модели: не хватает {missing}. "
        "Выберите папку, где есть config.json, tokenizer.json и файлы safetensors."
    ),
    "GgufUnreadable": (
        "Файл {path} не читается как модель GGUF: {reason}. Скачайте его заново или выберите другой файл."
    ),
    "StarterUnreachable": (
        "Не удалось скачать стартовую модель: {reason}. "
        "Проверьте сеть и попробуйте ещё раз или выберите папку с моделью либо файл GGUF на этом диске."
    ),
    "StarterDamaged": "Стартовая модель скачалась с повреждением (SHA-256 {found}, ожидался {expected}). Повторите.",
    "HubUnreachable": (
        "Не удалось связаться с Hugging Face Hub, чтобы получить {name}: {reason}. "
        "Проверьте сеть или выберите папку с моделью либо файл GGUF на этом диске."
    ),
    "HubRefused": (
        "Hugging Face Hub не отдаёт {name}: {reason}. Проверьте написание; для модели с закрытым доступом "
        "примите её условия на хабе и задайте HF_TOKEN."
    ),
    "DiskFull": (
        "В {path} нужно {need} ГБ, а свободно {free} ГБ. Освободите место или укажите другую папку в SOULSMITH_HOME."
    ),
    "UnknownField": "В конфигурации нет поля {field}. Уберите его или проверьте написание: есть {known}",
    "NotOneOf": "Поле {field} принимает одно из значений: {allowed}. Задано: {value}.",
    "TooSmall": "Поле {field} должно быть не меньше {least}, задано {value}. Попробуйте {suggestion}.",
    "NotPositive": "Поле {field} должно быть больше 0, задано {value}. Попробуйте {suggestion}.",
    "TooLarge": "Поле {field} должно быть не больше {most}, задано {value}. Попробуйте {suggestion}.",
    "CorpusGone": "В {path} нет корпуса: его переместили или удалили. Выберите другой.",
    "CorpusTooSmall": (
        "Разных строк в корпусе {name}: {rows}, а нужно не меньше {needed}, чтобы часть отложить для проверки. "
        "Добавьте строк."
    ),
    "NothingToLearn": (
        "Ни одна строка корпуса {name} не оставляет модели слов, которым можно учиться, в пределах max_length "
        "{max_length}. Увеличьте max_length или возьмите корпус с репликами ассистента."
    ),
    "NoChatTemplate": (
        "У модели {model} нет шаблона чата, а в корпусе {name} — диалоги. "
        "Возьмите instruct-модель или корпус из текстов."
    ),
    "TemplateRefused": "Шаблон чата не принимает роли {roles}: {reason}",
    "ModelUnreadable": "{model} не открывается как языковая модель: {reason}",
    "LayersUnknown": (
        "В модели {model} нет слоёв {names}, к которым подходит адаптер. Укажите в target_modules значение all-linear."
    ),
    "NotANumber": "В поле {field} должно быть число ({kind}), задано {value}.",
    "NoModelChosen": "Модель не выбрана. Выберите её из списка или впишите папку, файл GGUF либо имя на Hugging Face Hub.",
    "ModelTooLarge": (
        "Память кончилась при загрузке модели. Выберите QLoRA или модель поменьше либо закройте другие программы."
    ),
    "PackingUnsupported": (
        "В модели {model} строки одного блока влияли бы друг на друга: её слои не разделяют документы. "
        "Выключите упаковку (packing)."
    ),
    "NotFinite": (
        "{model}: в {precision} получаются NaN или бесконечности. Поставьте precision fp32 или bf16, если карта его умеет."
    ),
    "SeesAhead": (
        "Модель {model} видит слова, которые должна предсказать, как кодировщики вроде BERT: она ничему не научится. "
        "Выберите модель, которая пишет текст."
    ),
    "LossNotFinite": (
        "На шаге {step} loss стал {value}; в порции были строки корпуса № {rows}. Последняя исправная контрольная "
        "точка — шаг {good} (0 — её нет). Снизьте learning_rate до {suggestion} и начните заново."
    ),
    "AlreadyRunning": (
        "Запуск «{name}» с точно такими же настройками уже есть ({state}). "
        "Дождитесь его, остановите или измените настройки."
    ),
    "StillRunning": "Запуск «{name}» ещё работает. Сначала остановите его.",
    "RunGone": "Запуска {run} нет: его удалили. Выберите другой из списка.",
    "NothingToResume": "Запуск «{name}» уже завершён, продолжать нечего. Начните новый.",
    "AlreadyTraining": "Запуск {run} уже обучает другой процесс.",
    "TrainerDidNotStart": "Процесс обучения не запустился: {reason} Подробности — в log.txt в папке запуска.",
    "OutOfMemory": (
        "Память кончилась на шаге {step}, в порции из {rows} строк по {tokens} токенов (строки корпуса № {numbers}). "
        "Уменьшите batch_size вдвое и удвойте gradient_accumulation_steps: результат тот же. Если не поможет, уменьшите "
        "max_length."
    ),
    "DiskRanFull": "Диск, на котором лежит {path}, заполнен. Освободите место и продолжите запуск.",
    "Unexpected": "{kind}: {reason} Подробности — в log.txt в папке запуска.",
    "PortInUse": "Порт {port} занят другой программой. Закройте её или запустите: python app.py --port {next}",
    "NoAdapter": (
        "У запуска «{name}» ещё нет адаптера. Дождитесь первой контрольной точки или выберите другой запуск."
    ),
    "AdapterForeign": (
        "Адаптер {adapter} не подходит к {model}: совпали {matched} из {tensors} тензоров. "
        "Выберите базовую модель, на которой он обучен."
    ),
    "PromptTooLong": "Токенов в беседе: {tokens}, а модель читает не больше {limit}. Сократите её или начните новую.",
    "NoCorpusChosen": "Корпус не выбран. Создайте его на вкладке «Корпус» или выберите из списка.",
    "NoRunChosen": "Запуск не выбран. Выберите его из списка.",
    "NumberMissing": "В поле {field} нужно число. Впишите его.",
}
