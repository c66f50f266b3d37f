"""Words of the Playground and the Runs tab."""

WORDS = {
    "playground.intro": (
        "One prompt, replies side by side: same seed, same settings, one set of base weights. Edit a message of yours "
        "to branch off there.",
        "Один вопрос — ответы рядом: один seed, одни настройки, одни и те же базовые веса. Измените своё сообщение, "
        "и беседа пойдёт от него другой веткой.",
    ),
    "playground.chat": ("Chat", "Чат"),
    "playground.arena": ("Blind arena", "Слепая арена"),
    "playground.empty": (
        "There is nobody to talk to yet. Train a model first: the Training tab.",
        "Разговаривать пока не с кем. Сначала обучите модель на вкладке «Обучение».",
    ),
    "playground.columns": ("Columns", "Столбцов"),
    "playground.columns.info": ("How many reply side by side.", "Сколько моделей отвечают рядом."),
    "playground.who": ("Who replies: {number}", "Кто отвечает: {number}"),
    "contestant.base": ("Base", "База"),
    "contestant.run": ("Run", "Запуск"),
    "contestant.checkpoint": ("Checkpoint", "Контрольная точка"),
    "contestant.profile": ("Profile", "Профиль"),
    "contestant.merged": ("Merged", "Слитая модель"),
    "playground.prompt": ("Your message", "Ваше сообщение"),
    "playground.prompt.placeholder": (
        "Ask anything, then press Enter; Shift+Enter begins a new line",
        "Спросите о чём угодно и нажмите Enter; Shift+Enter — новая строка",
    ),
    "playground.say_something": ("Write a message first.", "Сначала напишите сообщение."),
    "playground.send": ("Send", "Отправить"),
    "playground.stop": ("Stop", "Стоп"),
    "playground.clear": ("New conversation", "Новая беседа"),
    "playground.branch": ("Branch", "Ветка"),
    "playground.branch.info": (
        "Every edit, repeat and step back keeps the old branch.",
        "Правка, повтор и шаг назад оставляют прежнюю ветку.",
    ),
    "playground.branch.empty": ("empty", "пусто"),
    "playground.back": ("Branch from a turn", "Ветка от реплики"),
    "playground.back.info": (
        "Go on after this message and its replies.",
        "Продолжить после этого сообщения и ответов.",
    ),
    "playground.thinking": ("Thinking", "Размышления"),
    "playground.more": ("Sampling and system prompt", "Сэмплирование и системный промпт"),
    "playground.system": ("System prompt", "Системный промпт"),
    "playground.system.info": ("Stands before the chat in every column.", "Стоит перед беседой в каждом столбце."),
    "playground.busy": ("While a run is training", "Пока идёт обучение"),
    "playground.busy.info": (
        "A run has the graphics card to itself; without a card both share the processor.",
        "Видеокарта занята обучением целиком; без неё обе программы делят процессор.",
    ),
    "playground.busy.cpu": ("Reply on the processor, slowly", "Отвечать на процессоре, медленно"),
    "playground.busy.wait": ("Wait for the card", "Ждать видеокарту"),
    "playground.on_cpu": (
        "This reply comes from the processor: a run has the card.",
        "Отвечает процессор: видеокарта занята обучением.",
    ),
    "playground.waiting": (
        "The run “{name}” is training. The reply waits for the card; Stop ends the waiting.",
        "Идёт обучение «{name}». Ответ ждёт видеокарту; кнопка «Стоп» прекратит ожидание.",
    ),
    "playground.training": (
        "The run “{name}” is training: the reply will be slow.",
        "Идёт обучение «{name}»: ответ будет медленным.",
    ),
    "playground.temperature": ("Temperature (temperature)", "Температура (temperature)"),
    "playground.temperature.info": ("0: always the likeliest word.", "0 — всегда самое вероятное слово."),
    "playground.top_p": ("top_p", "top_p"),
    "playground.top_p.info": (
        "Draw from the likeliest tokens of this share.",
        "Выбор из самых вероятных токенов с такой суммарной вероятностью.",
    ),
    "playground.top_k": ("top_k", "top_k"),
    "playground.top_k.info": ("Draw from that many tokens; 0: all.", "Выбор из стольких токенов; 0 — из всех."),
    "playground.repetition_penalty": (
        "Repetition penalty (repetition_penalty)",
        "Штраф за повторы (repetition_penalty)",
    ),
    "playground.repetition_penalty.info": ("1: none.", "1 — без штрафа."),
    "playground.max_new_tokens": ("Longest reply, tokens (max_new_tokens)", "Длина ответа, токенов (max_new_tokens)"),
    "playground.max_new_tokens.info": ("The reply is cut there.", "На этом ответ обрывается."),
    "playground.seed": ("Seed (seed)", "Начальное число (seed)"),
    "playground.seed.info": ("Same seed, same replies.", "Тот же seed — те же ответы."),
    "playground.loading": ("Loading the model…", "Загрузка модели…"),
    "playground.turn": (
        "Another reply is growing: yours comes right after it. Stop gives up your place.",
        "Сейчас пишется другой ответ, ваш — сразу за ним. «Стоп» отменит ожидание.",
    ),
    "playground.facts": (
        "tokens: {tokens} · {speed} tokens/s · first after {first} s · {reason} · context: {used} of {context}",
        "токенов: {tokens} · {speed} токенов/с · первый через {first} с · {reason} · контекст: {used} из {context}",
    ),
    "finish.stop": ("ended by itself", "ответ закончен"),
    "finish.length": ("cut at max_new_tokens", "обрезан по max_new_tokens"),
    "finish.context": ("the context is full", "контекст заполнен"),
    "finish.stopped": ("stopped", "остановлен"),
    "finish.": ("growing", "пишется"),
    "runs.intro": (
        "Every run, newest first. Choose one to open it.",
        "Все запуски, новые сверху. Выберите, чтобы открыть.",
    ),
    "runs.empty": (
        "No run yet. The Training tab starts the first one.",
        "Запусков пока нет. Первый начинается на вкладке «Обучение».",
    ),
    "runs.refresh": ("Refresh", "Обновить"),
    "runs.pick": ("Run", "Запуск"),
    "runs.id": ("id", "id"),
    "runs.name": ("Name", "Имя"),
    "runs.state": ("State", "Состояние"),
    "runs.model": ("Model", "Модель"),
    "runs.corpus": ("Corpus", "Корпус"),
    "runs.method": ("Method", "Способ"),
    "runs.steps": ("Steps", "Шаги"),
    "runs.base_loss": ("Held-out loss before", "Loss на отложенных до"),
    "runs.loss": ("after", "после"),
    "runs.time": ("Time", "Время"),
    "runs.memory": ("Peak memory", "Пик памяти"),
    "runs.created": ("Created", "Создан"),
    "runs.note": ("Note", "Заметка"),
    "runs.save": ("Save name and note", "Сохранить имя и заметку"),
    "runs.saved": ("Saved.", "Сохранено."),
    "runs.config": ("Config of this run", "Конфигурация запуска"),
    "runs.capsule": ("Pack train.py and the corpus", "Собрать train.py и корпус"),
    "runs.capsule.file": ("train.py, config, rows, pinned requirements", "train.py, config, строки, версии пакетов"),
    "runs.delete": ("Delete…", "Удалить…"),
    "runs.delete.ask": (
        "Delete “{name}” with its checkpoints and adapter ({size})? This cannot be undone.",
        "Удалить «{name}» вместе с контрольными точками и адаптером ({size})? Отменить будет нельзя.",
    ),
    "runs.delete.yes": ("Yes, delete", "Да, удалить"),
    "runs.delete.no": ("Keep it", "Оставить"),
    "runs.deleted": ("Deleted: {name}", "Удалено: {name}"),
    "runs.corpus_hash": ("Corpus hash", "Хеш корпуса"),
    "runs.device": ("Device", "Устройство"),
    "runs.directory": ("Directory", "Папка"),
    "unit.mb": ("MB", "МБ"),
}

TROUBLES = {
    "NobodyChosen": "Не выбрано, кто отвечает. Выберите в списке над столбцом.",
    "ContestantGone": "{contestant}: этого больше нет. Выберите другое из списка.",
    "BaseGone": "Базовой модели {model} больше нет, а без неё «{name}» не отвечает: {reason}",
    "VocabularyResized": (
        "Адаптер {adapter} обучен со словарём из {rows} токенов, а у {model} их {vocabulary}. "
        "Выберите базу, на которой он обучен."
    ),
    "NoRoom": (
        "Модели {model} нужно около {need} ГиБ, а свободно {free} ГиБ. Выберите меньше моделей или закройте другие программы."
    ),
    "MemoryRanOut": "Пока отвечала {model}, кончилась память. Сократите беседу или число столбцов.",
    "CardBusy": "Видеокарта занята обучением «{name}». Дождитесь конца или разрешите отвечать на процессоре.",
    "NotNumbers": (
        "У {model} в {precision} получаются NaN или бесконечности. Пусть отвечает процессор: там "
        "помещаются и большие числа. Если не поможет, сорвалось обучение — выберите более раннюю контрольную точку."
    ),
    "ChatClosed": (
        "Чат отдал память запуску, который начинается. Отправьте снова, когда он закончится, или отвечайте на процессоре."
    ),
    "ChatDied": "Процесс, который держит модель, завершился: {reason}. Отправьте снова: он запустится заново.",
}
