"""Words of the training form: every field of TrainConfig has a label and one sentence of help."""

WORDS = {
    "training.base_model": ("Model", "Модель"),
    "training.base_model.info": (
        "From the list, or type a directory, a GGUF file or a hub id.",
        "Из списка; можно вписать папку, файл GGUF или имя на Hugging Face Hub.",
    ),
    "training.corpus": ("Corpus", "Корпус"),
    "training.corpus.info": ("Made on the Corpus tab.", "Создаётся на вкладке «Корпус»."),
    "training.method": ("Method", "Способ"),
    "training.method.info": (
        "QLoRA: adapter on a base in 4 bits, least memory. LoRA: adapter on the base as it is, faster on small models. "
        "Full: all weights, deepest and dearest; forgets most.",
        "QLoRA: адаптер поверх 4-битной базы, меньше всего памяти. LoRA: поверх обычной базы, быстрее на малых моделях. "
        "Полное: меняются все веса — глубже и дороже всего, и забывается больше.",
    ),
    "training.full": ("Full", "Полное"),
    "training.epochs": ("Epochs", "Эпохи"),
    "training.epochs.info": (
        "How many times each row is read (num_train_epochs).",
        "Сколько раз будет прочитана каждая строка (num_train_epochs).",
    ),
    "training.task": ("What it learns from (task)", "На чём учится (task)"),
    "training.task.info": (
        "chat: conversations; text: continued pretraining on raw text.",
        "chat — диалоги; text — продолженное предобучение на сыром тексте.",
    ),
    "training.use_rslora": ("rsLoRA (use_rslora)", "rsLoRA (use_rslora)"),
    "training.use_rslora.info": (
        "Scales the adapter by lora_alpha / √lora_rank, so that high ranks (64 and more) keep learning.",
        "Множитель адаптера — lora_alpha / √lora_rank: большие ранги (от 64) не перестают учиться.",
    ),
    "training.use_dora": ("DoRA (use_dora)", "DoRA (use_dora)"),
    "training.use_dora.info": (
        "Learns the length and the direction of each weight apart: often better at low ranks, noticeably slower.",
        "Длина и направление весов учатся отдельно: на малых рангах часто лучше, но заметно медленнее.",
    ),
    "training.init_lora_weights": ("Start of the adapter (init_lora_weights)", "Начало адаптера (init_lora_weights)"),
    "training.init_lora_weights.info": (
        "pissa starts from the strongest directions of the base and learns faster; not for QLoRA.",
        "pissa начинает с главных направлений базы и учится быстрее; с QLoRA не сочетается.",
    ),
    "training.loraplus_lr_ratio": ("LoRA+ ratio (loraplus_lr_ratio)", "Отношение LoRA+ (loraplus_lr_ratio)"),
    "training.loraplus_lr_ratio.info": (
        "The second matrix of the adapter learns so many times faster; 16 is usual, 0 switches it off.",
        "Во сколько раз быстрее учится вторая матрица адаптера; обычно 16, 0 — выключено.",
    ),
    "training.train_embeddings": (
        "Train embeddings and head (train_embeddings)",
        "Обучать эмбеддинги и выходной слой (train_embeddings)",
    ),
    "training.train_embeddings.info": (
        "For a new language or field: the words themselves move too; much more memory and a large adapter.",
        "Для нового языка или области: меняются и сами слова; нужно намного больше памяти, адаптер большой.",
    ),
    "training.embedding_learning_rate": (
        "Their learning rate (embedding_learning_rate)",
        "Их скорость обучения (embedding_learning_rate)",
    ),
    "training.embedding_learning_rate.info": (
        "Of embeddings and head; 0: a tenth of learning_rate, and with all weights learning_rate itself.",
        "Для эмбеддингов и выходного слоя; 0 — десятая часть learning_rate, а при полном обучении сам learning_rate.",
    ),
    "training.neftune_noise_alpha": ("Noise, NEFTune (neftune_noise_alpha)", "Шум NEFTune (neftune_noise_alpha)"),
    "training.neftune_noise_alpha.info": (
        "Noise on the embeddings while training: fuller replies from small corpora; 5 is usual, 0 switches it off.",
        "Шум на эмбеддингах при обучении: на малых корпусах ответы полнее; обычно 5, 0 — выключено.",
    ),
    "training.use_liger_kernel": ("Liger kernels (use_liger_kernel)", "Ядра Liger (use_liger_kernel)"),
    "training.use_liger_kernel.info": (
        "Faster and leaner on a card where the package liger-kernel is installed.",
        "Быстрее и экономнее на видеокарте, если установлен пакет liger-kernel.",
    ),
    "training.learn": ("What is learned (learn)", "На чём учиться (learn)"),
    "training.learn.info": (
        "assistant: only replies and their end token; all: every token.",
        "assistant — только на ответах и токене их конца; all — на всех токенах.",
    ),
    "training.max_length": ("Longest row, tokens (max_length)", "Длина строки, токенов (max_length)"),
    "training.max_length.info": ("What is longer is cut off.", "Что длиннее, обрезается."),
    "training.packing": ("Packing (packing)", "Упаковка (packing)"),
    "training.packing.info": (
        "Short rows share blocks of max_length and do not see each other: no padding, and long texts are not cut.",
        "Короткие строки делят блоки длиной max_length и не видят друг друга: без токенов-заполнителей, длинные тексты не режутся.",
    ),
    "training.batch_size": ("Rows a batch (batch_size)", "Строк в порции (batch_size)"),
    "training.batch_size.info": ("More is faster and takes more memory.", "Больше — быстрее, но нужно больше памяти."),
    "training.gradient_accumulation_steps": (
        "Accumulation (gradient_accumulation_steps)",
        "Накопление (gradient_accumulation_steps)",
    ),
    "training.gradient_accumulation_steps.info": (
        "Batches gathered before the weights move: a larger batch without its memory.",
        "Сколько порций собрать до обновления весов: большой batch без лишней памяти.",
    ),
    "training.max_steps": ("Steps at most (max_steps)", "Не больше шагов (max_steps)"),
    "training.max_steps.info": ("0: as many as the epochs need.", "0 — сколько нужно для всех эпох."),
    "training.learning_rate": ("Learning rate (learning_rate)", "Скорость обучения (learning_rate)"),
    "training.learning_rate.info": (
        "How far each step moves the adapter; 0.0002 suits most models, the starter likes 0.001.",
        "Насколько каждый шаг сдвигает адаптер; обычно 0,0002, стартовой модели подходит 0,001.",
    ),
    "training.lr_scheduler_type": ("Schedule (lr_scheduler_type)", "Расписание (lr_scheduler_type)"),
    "training.lr_scheduler_type.info": (
        "How the learning rate falls towards the end; cosine_with_min_lr stops at a tenth of it.",
        "Как скорость обучения снижается к концу; cosine_with_min_lr останавливается на десятой её части.",
    ),
    "training.warmup_ratio": ("Warm-up (warmup_ratio)", "Разогрев (warmup_ratio)"),
    "training.warmup_ratio.info": (
        "Share of the steps in which the learning rate rises from 0.",
        "Доля шагов, за которую скорость обучения растёт от 0.",
    ),
    "training.weight_decay": ("Weight decay (weight_decay)", "Затухание весов (weight_decay)"),
    "training.weight_decay.info": ("Pulls the adapter towards 0.", "Тянет веса адаптера к нулю."),
    "training.max_grad_norm": ("Gradient limit (max_grad_norm)", "Предел градиента (max_grad_norm)"),
    "training.max_grad_norm.info": (
        "Longer gradients are scaled down to it.",
        "Градиент длиннее этого предела уменьшается до него.",
    ),
    "training.lora_rank": ("Rank (lora_rank)", "Ранг (lora_rank)"),
    "training.lora_rank.info": (
        "Size of the adapter: what it can hold, and what it costs.",
        "Размер адаптера: сколько он вместит и сколько будет стоить.",
    ),
    "training.lora_alpha": ("Strength (lora_alpha)", "Сила (lora_alpha)"),
    "training.lora_alpha.info": (
        "The adapter's words are scaled by lora_alpha / lora_rank.",
        "Вклад адаптера умножается на lora_alpha / lora_rank.",
    ),
    "training.lora_dropout": ("Dropout (lora_dropout)", "Dropout (lora_dropout)"),
    "training.lora_dropout.info": (
        "Share of inputs hidden from the adapter at each step; slows learning by heart.",
        "Доля входов, скрытых от адаптера на каждом шаге; мешает зубрить.",
    ),
    "training.target_modules": ("Layers (target_modules)", "Слои (target_modules)"),
    "training.target_modules.info": (
        "all-linear, or names with commas: q_proj,v_proj.",
        "all-linear или имена через запятую: q_proj,v_proj.",
    ),
    "training.precision": ("Precision (precision)", "Точность (precision)"),
    "training.precision.info": (
        "auto: bf16 on cards and processors that have it, fp16 on other cards, fp32 on other processors.",
        "auto: bf16 на картах и процессорах, где он есть, fp16 на других картах, fp32 на других процессорах.",
    ),
    "training.gradient_checkpointing": (
        "Recompute activations (gradient_checkpointing)",
        "Пересчитывать активации (gradient_checkpointing)",
    ),
    "training.gradient_checkpointing.info": (
        "Much less memory for about a third more time.",
        "Намного меньше памяти ценой примерно трети времени.",
    ),
    "training.optim": ("Optimizer (optim)", "Оптимизатор (optim)"),
    "training.optim.info": (
        "adamw_8bit and paged ones take less memory of a card.",
        "adamw_8bit и paged занимают меньше видеопамяти.",
    ),
    "training.validation_share": ("Held out (validation_share)", "Отложить (validation_share)"),
    "training.validation_share.info": (
        "Share of the rows kept from training (1,000 at most), to see whether the model learns or only memorises.",
        "Доля строк, которых модель не увидит (не больше 1000): видно, учится она или зубрит.",
    ),
    "training.eval_steps": ("Steps between evaluations (eval_steps)", "Шагов между проверками (eval_steps)"),
    "training.eval_steps.info": (
        "A checkpoint is saved as often. 0: ten times a run.",
        "Так же часто сохраняется контрольная точка. 0 — десять раз за запуск.",
    ),
    "training.logging_steps": ("Steps between log entries (logging_steps)", "Шагов между записями (logging_steps)"),
    "training.logging_steps.info": ("One point on the plots each time.", "Каждый раз — одна точка на графиках."),
    "training.save_total_limit": (
        "Checkpoints kept (save_total_limit)",
        "Сколько контрольных точек хранить (save_total_limit)",
    ),
    "training.save_total_limit.info": ("Older ones are deleted.", "Более старые удаляются."),
    "training.seed": ("Seed (seed)", "Начальное число (seed)"),
    "training.seed.info": (
        "The same seed gives the same run on the same machine.",
        "С тем же seed на той же машине запуск повторится.",
    ),
}
