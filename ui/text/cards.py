"""Words of graphics cards: the choice of one, and what keeps torch from computing on one."""

WORDS = {
    "cards.card": ("Graphics card", "Видеокарта"),
    "cards.training.info": (
        "Used for both the forecast and the training.",
        "На ней пойдёт обучение, для неё же считается прогноз.",
    ),
    "cards.queue.info": (
        "The card that the waiting run will train on.",
        "На ней пойдёт запуск, который ждёт своей очереди.",
    ),
    "cards.playground.info": (
        "Replies are computed on it. If a run trains on a different card, both continue.",
        "На ней считаются ответы. Обучению на другой карте они не мешают.",
    ),
    "cards.queue.done": ("“{name}” will train on {card}.", "Запуск «{name}» пойдёт на {card}."),
    "cards.unseen.build": (
        "{card} was found, but torch {version} was built without support for it: everything would run on the CPU.",
        "Найдена карта {card}, но torch {version} собран без её поддержки: считать всё будет процессор.",
    ),
    "cards.unseen.new": (
        "{card} is newer than torch {version}: it has no code for compute capability {needs}, so runs on this card fail.",
        "Карта {card} новее, чем torch {version}: в нём нет кода для compute capability {needs}, и запуск на этой карте "
        "закончится ошибкой.",
    ),
    "cards.unseen.old": (
        "{card} is too old for torch {version}: it has no code for compute capability {needs}, so runs on this card "
        "fail.",
        "Карта {card} слишком стара для torch {version}: в нём нет кода для compute capability {needs}, и запуск на этой "
        "карте закончится ошибкой.",
    ),
    "cards.unseen.architecture": (
        "torch {version} has no code for {needs}, the architecture of {card}, and runs on it fail.",
        "Архитектура {card} — {needs}; в torch {version} кода для неё нет, и запуск на этой карте закончится ошибкой.",
    ),
    "cards.unseen.driver": (
        "The driver of {card} is too old for torch {version}: it supports CUDA {needs} at most, so everything would run "
        "on the CPU.",
        "Драйвер {card} слишком стар для torch {version}: он поддерживает CUDA не новее {needs}, и считать всё будет "
        "процессор.",
    ),
    "cards.missed": (
        "training on the CPU: torch did not see {card} (the check on the Start tab says why)",
        "обучается на процессоре: torch не увидел {card} (причину покажет проверка на вкладке «Начало»)",
    ),
    "cards.left_out": (
        "{card} is not used unless you choose it: torch {version} does not support it.",
        "{card} не используется, пока вы сами её не выберете: torch {version} её не поддерживает.",
    ),
    "cards.other_make": (
        "{card} is not used: torch {version} is built for another make of card.",
        "{card} не используется: torch {version} собран для карт другого производителя.",
    ),
    "cards.install": (
        "Stop Soulsmith, run this in its environment, and start it again: {command}",
        "Закройте Soulsmith и, прежде чем запустить его снова, выполните в его окружении: {command}",
    ),
    "cards.update_driver": (
        "Update the driver of the card ({drivers}), then start Soulsmith again.",
        "Обновите драйвер видеокарты ({drivers}) и запустите Soulsmith снова.",
    ),
    "cards.update_or_install": (
        "Update the driver of the card to one for CUDA 13 ({drivers}), then start Soulsmith again. If you keep this driver, "
        "stop Soulsmith, run this command in its environment, which brings the older torch 2.11, and start it again: "
        "{command}",
        "Обновите драйвер видеокарты до версии с CUDA 13 ({drivers}) и запустите Soulsmith снова. Если драйвер остаётся "
        "прежним, закройте Soulsmith и, прежде чем запустить его снова, выполните в его окружении команду, которая поставит "
        "torch постарше, 2.11: {command}",
    ),
    "cards.no_build": (
        "No published torch supports it. Choose another card, or start Soulsmith with CUDA_VISIBLE_DEVICES=-1 in the "
        "environment to train on the processor.",
        "Опубликованных сборок torch для неё нет. Выберите другую видеокарту или запустите Soulsmith "
        "с переменной окружения CUDA_VISIBLE_DEVICES=-1: тогда обучать будет процессор.",
    ),
    "cards.untried": (
        "{card}: LoRA and full training should work on it (untested).",
        "{card}: LoRA и полное дообучение должны работать, но это не проверено.",
    ),
}

CANNOT = "torch {torch} не умеет считать на {card}. "

TROUBLES = {
    "TorchNeedsBuild": CANNOT + WORDS["cards.install"][1],
    "TorchNeedsDriver": CANNOT + WORDS["cards.update_driver"][1],
    "TorchNeedsDriverOrBuild": CANNOT + WORDS["cards.update_or_install"][1],
    "NoTorchForCard": CANNOT + WORDS["cards.no_build"][1],
    "DriverSilent": (
        "Драйвер видеокарты NVIDIA не отвечает: {reason}. Перезагрузите компьютер; если не поможет, переустановите "
        "драйвер."
    ),
    "DriverNotAsked": (
        "Опросить драйвер видеокарты NVIDIA не удалось: пакет nvidia-ml-py не установлен, или его подменяет старый pynvml. "
        "Закройте Soulsmith и, прежде чем запустить его снова, выполните в его окружении: {command}"
    ),
    "CardTakenOut": (
        "Запуск был назначен на {card}, но эта видеокарта больше недоступна. Верните её или нажмите «Продолжить»: тогда "
        "считать будет {instead}."
    ),
    "CardNotHere": "Выбранная видеокарта больше недоступна. Обновите страницу и попробуйте ещё раз.",
    "NoFourBitKernels": (
        "bitsandbytes не умеет считать в 4 битах на {card}, поэтому QLoRA на ней невозможна. Выберите LoRA."
    ),
    "BitsandbytesTooOld": (
        "Установленный bitsandbytes не умеет считать в 4 битах на {card}, новый умеет: {command}. Или выберите LoRA."
    ),
    "NoEightBitOptimizer": "В bitsandbytes пока нет {optim} для {card}. Выберите adamw_torch.",
}
