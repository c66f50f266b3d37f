"""Words of the Calculator tab."""

WORDS = {
    "page.calculator": ("Calculator", "Калькулятор"),
    "calculator.intro": (
        "What does it take to retrain a language model? Choose a model, a card and a kind of training: the answer "
        "appears at once. Nothing is downloaded.",
        "Что нужно, чтобы дообучить языковую модель? Выберите модель, видеокарту и способ обучения — ответ появится "
        "сразу. Ничего не скачивается.",
    ),
    "calculator.model": ("Model", "Модель"),
    "calculator.model.info": (
        "From the list, or type a hub id, a folder, a GGUF file.",
        "Из списка; можно вписать имя на хабе, папку или файл GGUF.",
    ),
    "calculator.card": ("Graphics card", "Видеокарта"),
    "calculator.card.info": (
        "Yours if it was found, or any other to plan for.",
        "Ваша, если нашлась, или любая другая — для планов.",
    ),
    "calculator.card.mine": ("{name} (this computer)", "{name} (этот компьютер)"),
    "calculator.card.example": ("Example, no card here: {name}", "Для примера, карты здесь нет: {name}"),
    "calculator.card.untried": (
        "{name} (untested)",
        "{name} (не проверено)",
    ),
    "calculator.untried": (
        "Untested on this kind of hardware: these figures come from data sheets only.",
        "На таком оборудовании не проверено: эти числа посчитаны только по паспортным данным.",
    ),
    "calculator.card.cpu": ("This computer's processor", "Процессор этого компьютера"),
    "calculator.method.info": ("What is changed in the model.", "Что именно меняется в модели."),
    "calculator.epochs.info": ("Passes over the corpus.", "Проходы по корпусу."),
    "calculator.method": ("How to train", "Способ обучения"),
    "calculator.method.full": ("Full: all weights", "Полное: все веса"),
    "calculator.method.lora": ("LoRA: a small adapter", "LoRA: небольшой адаптер"),
    "calculator.method.qlora": ("QLoRA: adapter on a 4-bit model", "QLoRA: адаптер к 4-битной модели"),
    "calculator.method.cpt": ("Continued pretraining: all weights, raw text", "Дообучение на сырых текстах: все веса"),
    "calculator.method.prompt": ("Prompt injection: a few trained vectors", "Внедрение промпта: несколько векторов"),
    "calculator.corpus": ("Corpus", "Корпус"),
    "calculator.corpus.info": ("One of yours, or any number of tokens.", "Один из ваших или любое число токенов."),
    "calculator.corpus.none": ("Number of tokens →", "Число токенов →"),
    "calculator.tokens": ("Tokens", "Токены"),
    "calculator.tokens.info": (
        "10M, 2.5B or 40000. A page of Russian is about 700.",
        "10M, 2.5B или 40000. Страница русского текста — около 700.",
    ),
    "calculator.epochs": ("Epochs", "Эпохи"),
    "calculator.settings": ("Settings", "Настройки"),
    "calculator.sequence_length": ("Sequence length, tokens", "Длина последовательности, токены"),
    "calculator.sequence_length.info": (
        "The longest row in tokens (max_length): activations grow with it.",
        "Самая длинная строка в токенах (max_length): с ней растут активации.",
    ),
    "calculator.batch_size.info": (
        "Rows that go through the model at once (per_device_train_batch_size).",
        "Сколько строк проходит через модель разом (per_device_train_batch_size).",
    ),
    "calculator.gradient_accumulation_steps.info": (
        "Batches summed before the weights change: a larger batch for no more memory.",
        "Сколько пакетов складывается до изменения весов: пакет больше, память та же.",
    ),
    "calculator.lora_rank.info": (
        "The width of the adapter (r): more can be learnt, more memory is needed.",
        "Ширина адаптера (r): больше ранг — больше можно выучить и больше нужно памяти.",
    ),
    "calculator.target_modules.info": (
        "Which layers get an adapter; all-linear is the usual choice.",
        "Каким слоям достаётся адаптер; обычный выбор — all-linear.",
    ),
    "calculator.optimizer.info": (
        "8-bit ones keep a quarter of the state; paged ones move it to host memory when the card is full.",
        "8-битные хранят вчетверо меньше; paged уносят состояние в оперативную память, когда карта полна.",
    ),
    "calculator.attention.info": (
        "The kernel of attention: flash and sdpa never keep the matrix of length × length.",
        "Ядро внимания: flash и sdpa не держат в памяти матрицу длина × длина.",
    ),
    "calculator.loss.info": (
        "How the loss is computed: all logits at once take vocabulary × tokens × 4 bytes or more.",
        "Как считается loss: все логиты разом занимают словарь × токены × 4 байта и больше.",
    ),
    "calculator.precision.info": (
        "Number format of the computation: bf16 from RTX 30 on, fp16 on older cards.",
        "Формат чисел при вычислениях: bf16 начиная с RTX 30, fp16 на картах старше.",
    ),
    "calculator.batch_size": ("Batch size", "Размер пакета"),
    "calculator.gradient_accumulation_steps": ("Gradient accumulation steps", "Шаги накопления градиента"),
    "calculator.lora_rank": ("LoRA rank", "Ранг LoRA"),
    "calculator.target_modules": ("Layers with an adapter", "Слои с адаптером"),
    "calculator.optimizer": ("Optimizer", "Оптимизатор"),
    "calculator.save_embeddings": ("Train embeddings and head too", "Обучать и эмбеддинги с выходным слоем"),
    "calculator.save_embeddings.info": (
        "Beside a LoRA adapter, as full copies in fp32: new words or a new language; 16 bytes for each of their numbers.",
        "Рядом с адаптером LoRA, полными копиями в fp32: новые слова или новый язык; 16 байт на каждое их число.",
    ),
    "calculator.gradient_checkpointing": ("Gradient checkpointing", "Контрольные точки градиентов"),
    "calculator.gradient_checkpointing.info": (
        "Keeps less and computes it again: slower by about a third.",
        "Хранит меньше и вычисляет заново: примерно на треть медленнее.",
    ),
    "calculator.attention": ("Attention kernel", "Ядро внимания"),
    "calculator.loss": ("Loss kernel", "Ядро функции потерь"),
    "calculator.loss.tiled": ("Ours: in tiles, logits are never whole", "Наше: по частям, матрицы логитов нет"),
    "calculator.loss.fused": ("TRL, Liger: fused", "TRL, Liger: слитное"),
    "calculator.loss.logits": ("Stock Trainer: all logits", "Обычный Trainer: все логиты"),
    "calculator.precision": ("Precision", "Точность"),
    "calculator.precision.auto": ("The best that the card has", "Лучшая из доступных карте"),
    "calculator.fits": ("Fits", "Помещается"),
    "calculator.tight": ("Tight: may run out of memory", "Впритык: памяти может не хватить"),
    "calculator.no": ("Does not fit", "Не помещается"),
    "calculator.summary": (
        "{model}, {method}: {process} GiB of {budget} GiB on {card}.",
        "{model}, {method}: {process} ГиБ из {budget} ГиБ на {card}.",
    ),
    "calculator.per_epoch": ("an epoch of {tokens} tokens", "одна эпоха, токенов: {tokens}"),
    "calculator.whole": ("the whole plan ({low} to {high})", "весь план (от {low} до {high})"),
    "calculator.rate": ("tokens a second", "токенов в секунду"),
    "calculator.energy": ("of energy", "энергии"),
    "calculator.host": ("of host memory", "оперативной памяти"),
    "calculator.disk": ("of disk", "на диске"),
    "calculator.peak": ("The peak stands in the phase: {phase}.", "Пик приходится на фазу: {phase}."),
    "calculator.phase.forward": ("forward pass", "прямой проход"),
    "calculator.phase.loss": ("loss", "вычисление потерь"),
    "calculator.phase.loss_backward": ("gradient of the loss", "градиент функции потерь"),
    "calculator.phase.backward_first": ("backward pass, last layer", "обратный проход, последний слой"),
    "calculator.phase.backward_last": ("backward pass, first layer", "обратный проход, первый слой"),
    "calculator.phase.optimizer": ("optimizer step", "шаг оптимизатора"),
    "calculator.corrected": (
        "Corrected by {runs} runs on this machine: memory × {memory}, time × {seconds}.",
        "Поправка по запускам на этой машине ({runs}): память × {memory}, время × {seconds}.",
    ),
    "calculator.part.weights": ("Weights", "Веса"),
    "calculator.part.adapter": ("Adapter", "Адаптер"),
    "calculator.part.gradients": ("Gradients", "Градиенты"),
    "calculator.part.optimizer": ("Optimizer", "Оптимизатор"),
    "calculator.part.activations": ("Activations", "Активации"),
    "calculator.part.logits": ("Logits and loss", "Логиты и потери"),
    "calculator.part.workspace": ("Workspace", "Рабочие буферы"),
    "calculator.part.allocator": ("Allocator's reserve", "Запас распределителя"),
    "calculator.part.context": ("CUDA context", "Контекст CUDA"),
    "calculator.part.device": ("Card's part of a micro-step", "Доля карты в микрошаге"),
    "calculator.part.launch": ("Host's part of a micro-step", "Доля процессора в микрошаге"),
    "calculator.part.rate": ("Tokens a second", "Токенов в секунду"),
    "calculator.part.epoch": ("Time of an epoch", "Время эпохи"),
    "calculator.part.range": ("Time of the plan", "Время всего плана"),
    "calculator.part.energy": ("Energy", "Энергия"),
    "calculator.part.upper": ("Upper end of memory", "Верхняя граница памяти"),
    "calculator.part.host": ("Host memory", "Оперативная память"),
    "calculator.part.disk_weights": ("Disk: weights", "Диск: веса"),
    "calculator.part.disk_checkpoints": ("Disk: checkpoints", "Диск: контрольные точки"),
    "calculator.part.disk_corpus": ("Disk: corpus", "Диск: корпус"),
    "calculator.part.disk_cache": ("Disk: cache", "Диск: кэш"),
    "calculator.card_line": ("card", "карта"),
    "calculator.how": ("Every number: formula and source", "Каждое число: формула и источник"),
    "calculator.column.number": ("Number", "Величина"),
    "calculator.column.value": ("Value", "Значение"),
    "calculator.column.formula": ("Formula", "Формула"),
    "calculator.column.source": ("Source", "Источник"),
    "calculator.source.config": ("the model's own config", "config.json модели"),
    "calculator.source.nf4": (
        "NF4, arXiv:2305.14314; embeddings, head and norms stay in 16 bit",
        "NF4, arXiv:2305.14314; эмбеддинги, выходной слой и нормы остаются 16-битными",
    ),
    "calculator.source.lora": (
        "rank × (inputs + outputs) of every adapted layer, arXiv:2106.09685",
        "ранг × (входы + выходы) каждого слоя с адаптером, arXiv:2106.09685",
    ),
    "calculator.source.gradients": (
        "as many as are alive at the peak; accumulation keeps them all",
        "сколько их живо на пике; при накоплении — все",
    ),
    "calculator.source.optimizer": (
        "two states of AdamW; 8-bit ones are bitsandbytes'",
        "два состояния AdamW; 8-битные — из bitsandbytes",
    ),
    "calculator.source.walk": (
        "a walk through the real modules in sizes; agrees with the trace to 0.5 %",
        "проход по настоящим модулям «в размерах»; с трассировкой сходится до 0,5 %",
    ),
    "calculator.source.loss_tiled": ("tiles of positions in our recipe", "части по нескольку позиций в нашем рецепте"),
    "calculator.source.loss_fused": ("tiles of TRL's kernel", "части в ядре TRL"),
    "calculator.source.loss_logits": (
        "logits in fp32, their log-softmax and its gradient at once",
        "логиты в fp32, их log-softmax и его градиент одновременно",
    ),
    "calculator.source.loss_held": ("the same, outputs kept meanwhile", "то же, выходы удерживаются"),
    "calculator.source.loss_half": ("the same in 16 bit", "то же в 16 битах"),
    "calculator.source.cublas": ("PyTorch's cuBLAS workspaces", "буферы cuBLAS в PyTorch"),
    "calculator.source.allocator": (
        "a model of PyTorch's caching allocator, followed through the step",
        "модель кэширующего распределителя PyTorch, проведённая через весь шаг",
    ),
    "calculator.source.context": ("measured: 0.14 GiB (T4) to 0.6 GiB", "измерено: от 0,14 (T4) до 0,6 ГиБ"),
    "calculator.source.rate": (
        "every kernel against the card's measured matmul rate and memory",
        "каждое ядро против измеренной скорости умножения матриц и памяти карты",
    ),
    "calculator.source.rate_sheet": (
        "as for measured cards, from the data sheet × 0.8: try it on the card",
        "как для измеренных карт, но по паспорту × 0,8: проверьте на карте",
    ),
    "calculator.source.launch": (
        "Python and dispatch for every kernel; small models and short batches wait for it",
        "Python и запуск каждого ядра; небольшие модели и короткие пакеты ждут именно этого",
    ),
    "calculator.source.step": (
        "tokens of a step / its time; card and host work at once, and the slower sets the pace",
        "токены шага / его время; карта и процессор работают одновременно, темп задаёт тот, кто медленнее",
    ),
    "calculator.source.fed": (
        "bounded by the data pipeline, 3M tokens a second",
        "ограничено подачей данных: 3 млн токенов в секунду",
    ),
    "calculator.source.prompt": ("trained vectors × width", "обучаемые векторы × ширина"),
    "calculator.source.time": ("tokens / rate", "токены / скорость"),
    "calculator.source.spread": ("nine in ten published runs", "девять из десяти опубликованных запусков"),
    "calculator.source.energy": ("the card's power limit × 0.85", "предел мощности карты × 0,85"),
    "calculator.source.upper": ("nine in ten runs reserve less", "девять из десяти запусков занимают меньше"),
    "calculator.source.host": (
        "program, loader, paged states, largest matrix, merging",
        "программа, загрузчик, выгруженные состояния, крупнейшая матрица, слияние",
    ),
    "calculator.source.disk_weights": ("16 bit, downloaded once", "16 бит, скачиваются один раз"),
    "calculator.source.disk_checkpoints": ("two are kept, one is being written", "две хранятся, одна пишется"),
    "calculator.source.disk_corpus": ("text and its tokens", "текст и его токены"),
    "calculator.source.disk_cache": ("kernels, tokenizer, logs", "ядра, токенизатор, журналы"),
    "calculator.change": ("What to change", "Что изменить"),
    "calculator.change.fits": (
        "It fits as it is. Changes that would free more memory:",
        "Уже помещается. Что освободит ещё больше памяти:",
    ),
    "calculator.change.way": ("The shortest way to make it fit, one after another:", "Кратчайший путь, шаг за шагом:"),
    "calculator.change.none": ("Nothing more can be saved here.", "Здесь экономить уже нечего."),
    "calculator.change.stuck": (
        "Even with all changes it does not fit. Take a smaller model: {model}.",
        "Не помещается даже со всеми изменениями. Возьмите модель поменьше: {model}.",
    ),
    "calculator.change.loss": ("loss in tiles instead of whole logits", "потери по частям вместо всех логитов"),
    "calculator.change.attention": ("attention: {before} → {after}", "внимание: {before} → {after}"),
    "calculator.change.checkpointing": ("gradient checkpointing on", "включить контрольные точки градиентов"),
    "calculator.change.batch": (
        "batch {before} → {after}, accumulation up by as much",
        "пакет {before} → {after}, накопление во столько же раз больше",
    ),
    "calculator.change.optimizer": ("optimizer: {before} → {after}", "оптимизатор: {before} → {after}"),
    "calculator.change.sequence": ("sequence {before} → {after}", "последовательность {before} → {after}"),
    "calculator.change.rank": ("rank {before} → {after}", "ранг {before} → {after}"),
    "calculator.change.method": ("method: {before} → {after}", "способ: {before} → {after}"),
    "calculator.change.same": ("same result", "тот же результат"),
    "calculator.change.nearly": ("nearly the same result", "почти тот же результат"),
    "calculator.change.other": ("another training", "другое обучение"),
    "calculator.column.change": ("Change", "Изменение"),
    "calculator.column.saves": ("Saves, GiB", "Экономит, ГиБ"),
    "calculator.column.time": ("Time", "Время"),
    "calculator.column.result": ("Result", "Результат"),
    "calculator.column.then": ("Then", "Тогда"),
    "calculator.largest": (
        "The largest that fits, the rest as it is:",
        "Самое большое, что помещается при прочих равных:",
    ),
    "calculator.largest.sequence_length": ("sequence", "последовательность"),
    "calculator.largest.batch_size": ("batch", "пакет"),
    "calculator.largest.lora_rank": ("rank", "ранг"),
    "calculator.largest.model": ("model of the catalogue", "модель из каталога"),
    "calculator.plots": ("Memory against length, time against batch", "Память от длины, время от пакета"),
    "calculator.plot.gib": ("GiB", "ГиБ"),
    "calculator.plot.length": ("Sequence length, tokens", "Длина последовательности, токены"),
    "calculator.plot.batch": ("Batch size", "Размер пакета"),
    "calculator.plot.hours": ("Hours of an epoch", "Часы на эпоху"),
    "calculator.plot.memory": ("memory", "память"),
    "calculator.plot.error": ("Error, %", "Ошибка, %"),
    "calculator.plot.share": ("Share of rows, %", "Доля строк, %"),
    "calculator.tables": ("Tables for this card", "Таблицы для этой карты"),
    "calculator.tables.show": ("Compute the tables", "Посчитать таблицы"),
    "calculator.tables.methods": ("Kinds of training", "Виды обучения"),
    "calculator.tables.models": ("Models and methods, GiB", "Модели и способы, ГиБ"),
    "calculator.tables.volumes": ("Volumes of text", "Объёмы текста"),
    "calculator.tables.note": (
        "Computed for {card} at {length} tokens × {batch}. Full fine-tuning is counted with 8-bit AdamW and fp32 weights. "
        "There is no “Saiga 1.3B” on the hub; the nearest are Qwen2.5-1.5B and ruGPT3XL (1.3B).",
        "Посчитано для {card}, {length} токенов × {batch}. Полное дообучение — с 8-битным AdamW и весами в fp32. "
        "Модели «Saiga 1.3B» на хабе нет; ближайшие — Qwen2.5-1.5B и ruGPT3XL (1,3B).",
    ),
    "calculator.tables.edge": (
        "QLoRA of a 14B model is often called “on the edge” for such a card: computed, it takes {gib} GiB.",
        "QLoRA модели 14B для такой карты часто называют «на грани»: по расчёту нужно {gib} ГиБ.",
    ),
    "calculator.kind.full": (
        "Changes every weight. New language, new domain, large corpora; may forget what it knew.",
        "Меняет каждый вес. Новый язык, новая область, большие корпуса; может забыть прежнее.",
    ),
    "calculator.kind.lora": (
        "Changes a small adapter, the model stays. Style, format, tasks; easy to switch off and share.",
        "Меняет небольшой адаптер, модель не тронута. Стиль, формат, задачи; легко отключить и передать.",
    ),
    "calculator.kind.qlora": (
        "The same on a model packed into 4 bits: a third of the memory, about as fast.",
        "То же, но модель сжата до 4 бит: втрое меньше памяти, почти та же скорость.",
    ),
    "calculator.kind.cpt": (
        "Full training on raw text: knowledge and language, from hundreds of millions of tokens.",
        "Полное обучение на сырых текстах: знания и язык, от сотен миллионов токенов.",
    ),
    "calculator.kind.prompt": (
        "Changes only a few vectors before the text: one habit; the cheapest and the weakest.",
        "Меняет лишь несколько векторов перед текстом: одна привычка; дешевле и слабее всего.",
    ),
    "calculator.volume.10000000": (
        "style, format, one narrow task: QLoRA or LoRA",
        "стиль, формат, одна узкая задача: QLoRA или LoRA",
    ),
    "calculator.volume.100000000": ("a domain, a voice: LoRA", "предметная область, голос: LoRA"),
    "calculator.volume.1000000000": (
        "a new language or field: LoRA of high rank, or full",
        "новый язык или отрасль: LoRA высокого ранга или полное",
    ),
    "calculator.volume.10000000000": (
        "continued pretraining: full, and more than one card helps",
        "дообучение на сырых текстах: полное, и одной карты мало",
    ),
    "calculator.column.model": ("Model", "Модель"),
    "calculator.column.method": ("Method", "Способ"),
    "calculator.column.gives": ("What it changes", "Что меняет"),
    "calculator.column.tokens": ("Tokens", "Токены"),
    "calculator.column.suits": ("Suits", "Подходит для"),
    "calculator.column.trained": ("Trained numbers", "Обучаемых чисел"),
    "calculator.column.epoch": ("An epoch", "Одна эпоха"),
    "calculator.column.checkpoint": ("A checkpoint", "Контрольная точка"),
    "calculator.column.memory": ("GiB", "ГиБ"),
    "calculator.epoch_with": ("Epoch, {method}", "Эпоха, {method}"),
    "calculator.mark.fits": ("fits", "помещается"),
    "calculator.mark.tight": ("tight", "впритык"),
    "calculator.mark.no": ("no", "нет"),
    "calculator.exact": ("How it knows", "Откуда это известно"),
    "calculator.exact.text": (
        "The instant answer is checked against published measurements. For your very config, the exact check runs the "
        "real training step of transformers and peft without weights and without a card (10 to 30 seconds).",
        "Мгновенный ответ сверен с опубликованными измерениями. Точная проверка прогоняет настоящий шаг обучения "
        "transformers и peft именно с вашими настройками — без весов и без видеокарты (10–30 секунд).",
    ),
    "calculator.exact.button": ("Check exactly", "Проверить точно"),
    "calculator.exact.stop": ("Stop the check", "Прервать проверку"),
    "calculator.probe": ("Measure this machine", "Измерить эту машину"),
    "calculator.probe.running": ("Multiplying matrices for two seconds…", "Две секунды перемножаются матрицы…"),
    "calculator.probe.done": (
        "{name}: {tflops} TFLOP/s. Times for this machine are estimated with it from now on.",
        "{name}: {tflops} Тфлоп/с. Отныне время для этой машины считается по этой скорости.",
    ),
    "calculator.exact.running": ("The real step is running without weights…", "Настоящий шаг выполняется без весов…"),
    "calculator.exact.stopped": ("The check was stopped.", "Проверка прервана."),
    "calculator.exact.result": (
        "Exactly: {allocated} GiB allocated, {reserved} GiB reserved; the instant answer said {instant} and {instant_reserved}. "
        "Alive at the peak:",
        "Точно: выделено {allocated} ГиБ, занято {reserved} ГиБ; мгновенный ответ — {instant} и {instant_reserved}. "
        "Живо на пике:",
    ),
    "calculator.errors": (
        "Errors on published measurements: instant — median {instant} % over {instant_rows} rows; trace — {trace} % over "
        "{trace_rows}; time — {time} % over {time_rows}. The same rows of the instant answer through accelerate "
        "estimate-memory: {rival} %; through “weights × 1.2 + 16 bytes for a trained parameter”: {rule} %.",
        "Ошибка на опубликованных измерениях: мгновенный ответ — медиана {instant} % на {instant_rows} строках; "
        "трассировка — {trace} % на {trace_rows}; время — {time} % на {time_rows}. Те же строки мгновенного ответа через "
        "accelerate estimate-memory: {rival} %; по правилу «веса × 1,2 + 16 байт на обучаемый параметр»: {rule} %.",
    ),
    "calculator.errors.instant": ("instant", "мгновенно"),
    "calculator.errors.trace": ("trace", "трассировка"),
    "calculator.errors.time": ("time", "время"),
    "calculator.errors.rival": ("accelerate estimate-memory", "accelerate estimate-memory"),
    "calculator.errors.worst": ("Worst: {rows}.", "Худшие: {rows}."),
    "calculator.plan": ("The plan", "План"),
    "calculator.plan.text": (
        "{method} of {model}, epochs: {epochs}. A step takes {length} tokens × {batch} × {steps} of accumulation, in "
        "{precision}, with {attention} and {optimizer}. Steps between evaluations: {every}, between log lines: {log}.",
        "{method}, модель {model}, эпох: {epochs}. За шаг — {length} токенов × {batch} × {steps} шагов накопления, "
        "в {precision}, с {attention} и {optimizer}. Шагов между проверками: {every}, между записями в журнал: {log}.",
    ),
    "calculator.plan.flash": (
        "FlashAttention (torch's own, or the flash-attn package if it is there)",
        "FlashAttention (встроенным в torch или из пакета flash-attn, если он есть)",
    ),
    "calculator.plan.sdpa": ("torch's own attention kernels", "ядрами внимания из torch"),
    "calculator.plan.adapter": (
        "The recipe does not train this way; the nearest that it does is LoRA, and so the plan says.",
        "Этого способа в рецепте нет; ближайший, что есть, — LoRA, он и стоит в плане.",
    ),
    "calculator.plan.open": ("Open in Training", "Открыть в «Обучении»"),
    "calculator.plan.take": ("Take train.py and config away", "Забрать train.py и конфигурацию"),
    "calculator.plan.broken": ("Answer the question above first.", "Сначала исправьте вопрос выше."),
}

# Formulas are mathematics; only their units and two words differ.
UNITS = (
    ("reserved − allocated", "занято − выделено"), ("TFLOP/s", "Тфлоп/с"), ("TFLOP", "Тфлоп"), ("FLOP", "флоп"), (" µs", " мкс"), (" s", " с"), ("GB/s", "ГБ/с"),
    ("GiB", "ГиБ"), ("MiB", "МиБ"), (" h ", " ч "), (" W ", " Вт "), (" B", " Б"),
)  # fmt: skip

TROUBLES = {
    "UnknownModel": (
        "Модели «{name}» нет ни в каталоге, ни в папке, ни в файле GGUF. Ближайшие: {nearest}. "
        "Достаточно папки с её config.json."
    ),
    "NoSuchModel": "Модели «{name}» никогда не выпускали. Ближайшие из существующих: {nearest}.",
    "UnknownCard": "Карты «{name}» нет в каталоге. Ближайшие: {nearest}.",
    "CardGone": "Эта видеокарта компьютера больше не отвечает. Выберите другую или перезагрузите компьютер.",
    "UnknownArchitecture": (
        "Архитектура {name} калькулятору неизвестна. Ближайшие из известных: {nearest}. "
        "Проверьте написание в config.json, выберите одну из них или нажмите «Проверить точно», если transformers её знает."
    ),
    "NeedsTrace": (
        "В {name} чередуются разные слои, и мгновенная формула её не охватывает. "
        "Нажмите «Проверить точно» или выберите {nearest}."
    ),
    "IncompleteConfig": "В {path} не указано {field}. Нужен config.json языковой модели (декодера).",
    "ShapeUnknown": "Размеры {name} каталогу неизвестны. Укажите папку с её config.json или выберите {nearest}.",
    "NotANumber": "{field}: нужно число, например 100M, 2.5B или 40000, а указано «{value}».",
    "CyrillicUnit": "{field}: в «{value}» стоит русская буква {letter}. Напишите {latin} латиницей.",
    "NotPositive": "{field}: нужно не меньше {least}, а указано {value}. Попробуйте {suggestion}.",
    "OutOfRange": "{field}: нужно число x, при котором {range}, а указано {value}. Попробуйте {suggestion}.",
    "RankTooLarge": (
        "Ранг LoRA — {value}, а ширина {model} всего {hidden}: такой адаптер больше самих слоёв. "
        "Возьмите {hidden} или меньше; обычно хватает 8–64."
    ),
    "NotInTransformers": (
        "В установленной transformers нет архитектуры {name}, поэтому прогнать её шаг нельзя. "
        "Ближайшие из имеющихся: {nearest}. Проверьте model_type в config.json."
    ),
    "NoConfig": ("Файла {path} нет. В папке модели лежит config.json: укажите эту папку, сам файл или файл GGUF."),
    "NotOnProcessor": "Процессор не обучает с {what}. Выберите {instead}.",
    "NoFourBitPrompt": "Внедрение промпта считается только на 16-битных весах. Откажитесь от 4 бит или выберите qlora.",
    "NotWhole": "{field}: нужно целое число, а указано {value}. Попробуйте {suggestion}.",
    "NotOneOf": "{field}: возможны значения {choices}, а указано «{value}».",
    "TooLong": "{model} читает не больше {longest} токенов, а sequence_length равна {value}. Возьмите {longest} или меньше.",
    "NoBf16": "У {card} нет bf16: нужна вычислительная способность 8.0, а у неё {capability}. Выберите fp16.",
    "NoFlashAttention": (
        "{card} не умеет FlashAttention 2: нужна вычислительная способность 8.0, а у неё {capability}. Выберите sdpa."
    ),
    "FlashNeedsNvidia": (
        "Калькулятор учитывает FlashAttention 2 только на видеокартах NVIDIA, а это {card}. Выберите sdpa."
    ),
    "NoFourBitFull": (
        "У 4-битных весов нет градиента: полное дообучение и 4 бита несовместимы. "
        "Для 4 бит выберите qlora, для полного — 16 бит."
    ),
    "UnknownTargets": "В {model} нет слоёв {names}. Есть {known}.",
    "TraceFailed": "Точная проверка закончилась без результата: {reason}",
    "ProbeFailed": "Измерить эту машину не удалось: {reason}",
}
