"""Words of the tab that makes corpora."""

WORDS = {
    "synth.intro": (
        "A corpus from an idea: a grammar writes it without any model, or a language model writes it from your seeds. "
        "First ten rows, then the price, then the job, which goes on when this page is closed.",
        "Корпус из замысла: его пишет грамматика без всякой модели или языковая модель по вашим заготовкам. "
        "Сначала десять строк, потом цена, потом задание: оно идёт и тогда, когда страница закрыта.",
    ),
    "synth.recipe": ("Recipe", "Рецепт"),
    "synth.recipe.info": ("What is written and how.", "Что и как пишется."),
    "synth.own": ("Your own recipe (YAML)", "Свой рецепт (YAML)"),
    "synth.volume": ("Volume", "Объём"),
    "synth.volume.info": ("In tokens of the base model.", "В токенах базовой модели."),
    "synth.volume.other": ("Another number", "Другое число"),
    "synth.tokens": ("Tokens", "Токенов"),
    "synth.seed": ("Seed", "Начальное число (seed)"),
    "synth.seed.info": ("The same seed gives the same rows.", "Тот же seed — те же строки."),
    "synth.model": ("Whose tokens are counted", "Чьи токены считаем"),
    "synth.model.info": ("Its tokenizer measures the volume.", "Её токенизатором измеряется объём."),
    "synth.model.none": ("estimate by characters", "оценка по знакам"),
    "synth.name": ("Name of the corpus", "Название корпуса"),
    "synth.writer": ("The model that writes", "Модель, которая пишет"),
    "synth.writer.about": (
        "Only for recipes that need a model. Any OpenAI-compatible server will do: Ollama, llama.cpp, vLLM, LM Studio. "
        "A key is taken from the environment: SOULSMITH_API_KEY or OPENAI_API_KEY.",
        "Только для рецептов, которым нужна модель. Подойдёт любой OpenAI-совместимый сервер: Ollama, llama.cpp, vLLM, "
        "LM Studio. Ключ берётся из окружения: SOULSMITH_API_KEY или OPENAI_API_KEY.",
    ),
    "synth.endpoint": ("Address of the server", "Адрес сервера"),
    "synth.endpoint_model": ("Its model", "Модель на нём"),
    "synth.local": ("Or a model of this machine", "Или модель этой машины"),
    "synth.local.info": (
        "Slower than a server, but needs no other program. It waits while a run is using the card.",
        "Медленнее сервера, зато без других программ. Пока видеокарта занята обучением, ждёт.",
    ),
    "synth.corpus": ("Seeds from a corpus", "Заготовки из корпуса"),
    "synth.corpus.info": (
        "What the recipe builds on: texts, or first examples.",
        "На что опирается рецепт: тексты или первые примеры.",
    ),
    "synth.personas": ("Who writes: personas, one a line", "Кто пишет: персоны, каждая с новой строки"),
    "synth.personas.info": (
        "Each takes its turn: a ferry captain, a night nurse. A grid gets them instead of its own.",
        "Каждая пишет в свой черёд: капитан парома, ночная медсестра. В сетке они заменяют её собственных.",
    ),
    "synth.personas.file": ("Or a file of personas", "Или файл с персонами"),
    "synth.personas.unreadable": ("This is not a text file in UTF-8.", "Это не текстовый файл в UTF-8."),
    "synth.parallel": ("Requests at once", "Запросов сразу"),
    "synth.parallel.info": ("As many as the server answers at a time.", "Сколько сервер обслуживает одновременно."),
    "synth.show": ("Ten rows and the price", "Десять строк и цена"),
    "synth.start": ("Make the corpus", "Создать корпус"),
    "synth.showing": ("Writing ten rows and measuring…", "Пишем десять строк и измеряем…"),
    "synth.empty": (
        "Choose a recipe and press “Ten rows and the price”: you will see what it writes and what the volume costs.",
        "Выберите рецепт и нажмите «Десять строк и цена»: увидите, что он пишет и во что обойдётся объём.",
    ),
    "synth.rows": ("Ten rows", "Десять строк"),
    "synth.distinct.exact": ("Different texts: exactly {texts}.", "Разных текстов: ровно {texts}."),
    "synth.distinct.about": (
        "Different texts: at most about 10^{log10}; their words differ, their turns of phrase do not.",
        "Разных текстов: не больше примерно 10^{log10}; слова в них разные, обороты одни.",
    ),
    "synth.verdict.green": (
        "The x-ray finds these rows as varied as natural text.",
        "Просвечивание: строки так же разнообразны, как живой текст.",
    ),
    "synth.verdict.amber": (
        "The x-ray finds these rows less varied than natural text: the words differ from row to row, the turns of phrase "
        "come again. That teaches a manner, a form, a tone; mix in natural text for anything more.",
        "Просвечивание: строки однообразнее живого текста. Слова от строки к строке разные, обороты повторяются. "
        "Так учат манере, форме, тону; для большего подмешайте живой текст.",
    ),
    "synth.verdict.red": (
        "The x-ray sees a template: the rows share phrases and turns, and a model will learn these before any meaning. "
        "That is good for teaching a manner and bad for teaching knowledge; mix in natural text for the rest.",
        "Просвечивание видит шаблон: у строк общие фразы и обороты, и модель выучит их раньше смысла. "
        "Так учат манере, но не знаниям; для остального подмешайте живой текст.",
    ),
    "synth.verdict.none": ("Too few rows to judge variety.", "Строк мало, чтобы судить о разнообразии."),
    "synth.verdict.few": (
        "The x-ray finds no template yet, but these are few rows: a larger corpus of the same recipe looks less varied.",
        "Просвечивание шаблона пока не видит, но строк мало: больший корпус по тому же рецепту однообразнее.",
    ),
    "synth.verdict.collapsed": (
        "The rows have collapsed into one template: do not train on them as they are.",
        "Строки схлопнулись в один шаблон: не учите на них модель в таком виде.",
    ),
    "synth.gauge.vendi": (
        "Vendi: {value} (natural text {natural}, one flat template 0.015).",
        "Vendi: {value} (живой текст {natural}, один плоский шаблон 0,015).",
    ),
    "synth.gauge.compression": (
        "Compression: {value} times (natural text {natural}).",
        "Сжатие: в {value} раза (живой текст {natural}).",
    ),
    "synth.lint.unreachable": ("The rule “{rule}” is never used.", "Правило «{rule}» нигде не используется."),
    "synth.lint.dominating": (
        "“{text}” (rule “{rule}”) stands in {share} % of the rows.",
        "«{text}» (правило «{rule}») стоит в {share} % строк.",
    ),
    "synth.cost.volume": ("Volume", "Объём"),
    "synth.cost.rows": ("Rows", "Строк"),
    "synth.cost.time": ("Making", "Создание"),
    "synth.cost.size": ("Disk", "На диске"),
    "synth.cost.epoch": ("One epoch", "Одна эпоха"),
    "synth.cost.good_for": ("Good for", "Для чего"),
    "synth.cost.speed": (
        "Measured here just now: {rate} tokens a second, {row} tokens a row.",
        "Измерено здесь только что: {rate} токенов в секунду, {row} токенов в строке.",
    ),
    "synth.cost.alone": (
        "In batches {batch} tokens a second, one by one {alone}.",
        "Пачками {batch} токенов в секунду, по одному {alone}.",
    ),
    "synth.cost.card": ("One epoch by QLoRA on {card}.", "Одна эпоха QLoRA на {card}."),
    "synth.cost.estimated": (
        "Tokens are estimated by characters: choose a model to count them.",
        "Токены оценены по знакам: выберите модель, чтобы их считать.",
    ),
    "synth.cost.grammar": (
        "A grammar has no knowledge and no more words than its author gave it. Measured on the Russian meditations: by "
        "row 100,000 (about 5 million tokens) fewer than half of a row's three-word runs are new. Larger volumes teach the "
        "same manner more firmly, and nothing else: use the grammar as a share of a mix, or let a model write.",
        "Грамматика ничего не знает и слов у неё не больше, чем дал автор. Измерено на русских размышлениях: к строке "
        "100 000 (около 5 млн токенов) новых троек слов в строке меньше половины. Больший объём крепче учит той же "
        "манере и ничему больше: возьмите грамматику долей смеси или поручите писать модели.",
    ),
    "synth.near": (", near copies among them: {near}", ", из них почти одинаковых: {near}"),
    "synth.cost.few_texts": (
        "the recipe has fewer texts than that",
        "столько разных текстов в рецепте нет",
    ),
    "synth.cost.no_room": ("the disk has no room for it", "на диске нет столько места"),
    "synth.good.touch": ("a trial, a touch of style", "проба, оттенок стиля"),
    "synth.good.style": ("quick adaptation of style", "быстрая настройка стиля"),
    "synth.good.behaviour": ("light change of behaviour", "лёгкая перемена поведения"),
    "synth.good.patterns": ("deep change of patterns", "глубокая перемена шаблонов"),
    "synth.good.language": ("a new language; then mostly natural text", "новый язык; тогда в основном живой текст"),
    "synth.jobs": ("Jobs", "Задания"),
    "synth.jobs.none": ("No job yet.", "Заданий пока нет."),
    "synth.pause": ("Pause", "Приостановить"),
    "synth.resume": ("Go on", "Продолжить"),
    "synth.stop": ("Stop and keep what there is", "Остановить и оставить что есть"),
    "synth.delete": ("Delete the job", "Удалить задание"),
    "synth.state.starting": ("starting", "запускается"),
    "synth.state.running": ("at work", "идёт"),
    "synth.state.pausing": ("pausing", "приостанавливается"),
    "synth.state.stopping": ("stopping", "останавливается"),
    "synth.state.paused": ("paused", "приостановлено"),
    "synth.state.stopped": ("stopped; its rows are a corpus", "остановлено; строки стали корпусом"),
    "synth.state.finished": ("finished; the corpus is on the Corpus tab", "готово; корпус на вкладке «Корпус»"),
    "synth.state.failed": ("failed", "сорвалось"),
    "synth.state.lost": ("interrupted; it can go on", "прервано; можно продолжить"),
    "synth.progress": (
        "{tokens} of {target} tokens, {rows} rows, {dropped} copies dropped, {aside} set aside",
        "{tokens} из {target} токенов, строк: {rows}, копий отброшено: {dropped}, отложено: {aside}",
    ),
    "synth.waiting": (
        "The run “{name}” is using the card. The job waits and continues by itself afterwards.",
        "Видеокарта занята обучением «{name}». Задание подождёт и потом продолжится само.",
    ),
    "synth.rate": ("{rate} tokens a second, {left} left", "{rate} токенов в секунду, осталось {left}"),
    "synth.reason.novelty": (
        "Fewer than 30 % of the last 200 rows were new: the recipe has little more to say. Go on anyway, or stop and "
        "keep what there is.",
        "Среди последних 200 строк новых меньше 30 %: рецепту почти нечего добавить. Продолжите всё равно или "
        "остановите и оставьте что есть.",
    ),
    "synth.reason.bad_replies": (
        "25 replies in a row were unusable ({aside}). Look at the model, then go on.",
        "25 ответов подряд негодны ({aside}). Проверьте модель и продолжите.",
    ),
    "synth.reason.asked": ("As you asked.", "По вашей просьбе."),
    "corpora.reason.html": ("a web page instead of a reply", "веб-страница вместо ответа"),
    "corpora.reason.half_json": ("a reply broken off in the middle", "ответ, оборванный посередине"),
    "corpora.reason.no_choices": ("a reply without text in it", "ответ без текста внутри"),
    "corpora.reason.bad_request": ("a request that the server refused", "запрос, который сервер отклонил"),
    "corpora.reason.cut": ("cut by the length limit", "обрезано пределом длины"),
    "corpora.reason.thinking": ("left-over thinking", "остатки рассуждений"),
    "corpora.reason.refusal": ("a refusal", "отказ"),
    "corpora.reason.copy": ("a copy of the prompt", "копия запроса"),
    "corpora.reason.empty": ("nothing was said", "пустой ответ модели"),
    "corpora.reason.short": ("too short", "слишком коротко"),
    "corpora.reason.other_language": ("slips into another language", "сбивается на другой язык"),
    "corpora.reason.wrong_shape": ("not in the shape that was asked for", "не в той форме, что просили"),
    "corpora.reason.low_score": ("a low score by the judge", "низкая оценка судьи"),
    "synth.aside": ("Set aside: {reasons}.", "Отложено: {reasons}."),
    "synth.recipe.missing": ("Choose a recipe first.", "Сначала выберите рецепт."),
    "synth.failed": ("The work broke off: {reason}", "Работа сорвалась: {reason}"),
}

TROUBLES = {
    "RuleMissing": "Правило «{rule}» ссылается на «{missing}», а его нет. Определите его или исправьте имя.",
    "RuleEndless": (
        "Правило «{rule}» никогда не кончается: каждый его вариант ведёт обратно. Добавьте такой, который не ведёт."
    ),
    "SlotUnreadable": "В правиле «{rule}» не читается вставка {slot}. Запишите её так: {example}.",
    "NothingRemembered": "Правило «{rule}» вспоминает «${name}» раньше, чем оно запомнено. Запомните его раньше.",
    "RuleEmpty": "У правила «{rule}» нет вариантов. Дайте ему список текстов.",
    "RowTooLong": "Правило «{rule}» пишет тексты длиннее {most} знаков. Уменьшите depth или веса возвратных вариантов.",
    "FormUnknown": "Правило «{rule}» просит форму «{form}», такой нет. Известны: {known}.",
    "NoRussianForms": (
        "Русские слова склоняет pymorphy3, а он не установлен. Выполните: pip install -r requirements.txt"
    ),
    "RecipeMissing": "Рецепта {name} нет. Дайте файл или один из этих: {known}.",
    "RecipeUnreadable": "{file}, строка {line}: это не YAML: {reason}. Исправьте эту строку.",
    "RecipeWrong": "{file}: {what}. Исправьте и попробуйте снова.",
    "JobGone": "Задания {job} нет. Его удалили: выберите другое.",
    "JobAtWork": "Задание «{name}» идёт. Сначала приостановите или остановите его.",
    "NothingToGoOnWith": "Задание «{name}» завершено, продолжать нечего. Начните новое.",
    "VolumeWrong": "Объём — {tokens} токенов, а нужно от {least} до {most}.",
    "AlreadyAtWork": "Над заданием {job} уже работает другой процесс.",
    "EndpointRefused": "{url} отказал с кодом {status}: {reason}. Проверьте ключ в {key}.",
    "EndpointMissing": "По адресу {url} ничего нет (код {status}): {reason}. Проверьте адрес и имя модели.",
    "EndpointDown": "{url} не отвечает после попыток: {attempts}. Последнее: {reason}. Запустите сервер и продолжите.",
    "WriterWaits": "Видеокарта занята обучением «{name}». Дождитесь конца или поручите писать серверу.",
    "WriterOutOfMemory": (
        "Памяти мало: {model} не может писать даже по одной строке. Выберите модель поменьше или ответы покороче либо "
        "закройте другие программы."
    ),
    "NoWriter": "Рецепту «{recipe}» нужна модель. Укажите адрес сервера и модель на нём или модель этой машины.",
    "SeedsMissing": "Рецепт отталкивается от ваших текстов: нужно хотя бы {least}, есть {count}. Выберите корпус с ними.",
    "OtherJobThere": (
        "В {path} лежат строки другого задания. Повторите его команду, чтобы продолжить, удалите этот каталог или "
        "выберите другое место."
    ),
    "TooFewSeeds": "Мало заготовок ({what}): найдено {count}, нужно хотя бы {least}. Добавьте ещё.",
    "EndpointNotAnAddress": "{url} — не адрес сервера. Он выглядит так: http://127.0.0.1:11434/v1",
    "NothingToPack": "Блоки по {length} токенов не сделать: выберите модель, чьи токены считать, и длину от 2.",
    "PersonaAlone": "Персона всего одна: «{persona}». Напишите хотя бы {least}, каждую с новой строки.",
    "PersonasUnused": (
        "Рецепту «{recipe}» персоны ни к чему: его пишет не модель. Очистите их список или выберите другой рецепт."
    ),
    "MixWrong": "Доли смеси неверны: {what}. Исправьте их в рецепте.",
}
