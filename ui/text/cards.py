"""Words of graphics cards: the choice of one, and what keeps torch from computing on one."""

WORDS = {
    "cards.card": ("Graphics card", "Видеокарта"),
    "cards.training.info": (
        "This run is judged, predicted and trained on it.",
        "По ней оценивается запуск, на ней он и обучается.",
    ),
    "cards.queue.info": ("Where the waiting run trains.", "На которой обучится ожидающий запуск."),
    "cards.playground.info": (
        "Where replies are computed. Another one than a run trains on keeps both going.",
        "На которой считаются ответы. Если это не та, что занята обучением, они не мешают друг другу.",
    ),
    "cards.queue.done": ("“{name}” will train on {card}.", "«{name}» обучится на {card}."),
    "cards.unseen.build": (
        "{card} is here, but torch {version} was built without support for it: the processor would do all the work.",
        "Здесь есть {card}, но torch {version} собран без её поддержки: всё считал бы процессор.",
    ),
    "cards.unseen.new": (
        "{card} is newer than torch {version}: it lacks code for compute capability {needs}, and runs on it fail.",
        "{card} новее, чем torch {version}: в нём нет кода для вычислительной способности {needs}, и запуск на ней "
        "закончится ошибкой.",
    ),
    "cards.unseen.old": (
        "{card} is older than torch {version} allows: it lacks code for compute capability {needs}, and runs on it "
        "fail.",
        "{card} старше, чем допускает torch {version}: в нём нет кода для вычислительной способности {needs}, и "
        "запуск на ней закончится ошибкой.",
    ),
    "cards.unseen.architecture": (
        "torch {version} has no code for {needs}, the architecture of {card}, and runs on it fail.",
        "В torch {version} нет кода для {needs}, архитектуры {card}, и запуск на ней закончится ошибкой.",
    ),
    "cards.unseen.driver": (
        "The driver of {card} is too old for torch {version}: it runs CUDA {needs} at most, so the processor would do all "
        "the work.",
        "Драйвер {card} слишком стар для torch {version}: он поддерживает CUDA не новее {needs}, и всё считал бы "
        "процессор.",
    ),
    "cards.missed": (
        "trains on the processor: torch did not see {card} (the Start tab says what helps)",
        "обучается на процессоре: torch не увидел {card} (на вкладке «Начало» написано, что поможет)",
    ),
    "cards.left_out": (
        "{card} is left out unless you choose it: torch {version} cannot compute on it.",
        "{card} не используется, пока вы сами её не выберете: torch {version} не умеет на ней считать.",
    ),
    "cards.install": (
        "Stop Soulsmith, run this in its environment, and start it again: {command}",
        "Закройте Soulsmith, выполните в его окружении эту команду и запустите снова: {command}",
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
        "прежним, закройте Soulsmith, выполните в его окружении эту команду (она установит torch постарше, 2.11) и "
        "запустите снова: {command}",
    ),
    "cards.no_build": (
        "No published torch can compute on it. Choose another card or the processor.",
        "Ни одна из опубликованных сборок torch не умеет на ней считать. Выберите другую видеокарту или процессор.",
    ),
    "cards.driver": (
        "The driver of the NVIDIA card does not answer: {reason}. Restart the machine; if it comes back, install the "
        "driver anew.",
        "Драйвер видеокарты NVIDIA не отвечает: {reason}. Перезагрузите компьютер; если не поможет, переустановите "
        "драйвер.",
    ),
    "cards.untried": (
        "{card}: LoRA and full training should work on it, but Soulsmith was not run on such hardware yet.",
        "{card}: LoRA и полное дообучение должны на ней работать, но на таком оборудовании Soulsmith ещё не запускали.",
    ),
}

TROUBLES = {
    "CardTakenOut": (
        "Этот запуск должен был обучаться на {card}, но её больше нет. Нажмите «Продолжить», и он обучится на {instead}; "
        "или сначала верните видеокарту."
    ),
    "CardNotHere": "Выбранной видеокарты больше нет. Выберите другую из списка.",
    "NoFourBitKernels": (
        "В bitsandbytes нет 4-битных вычислений для {card}, поэтому QLoRA на ней невозможна. Выберите LoRA."
    ),
    "BitsandbytesTooOld": (
        "В установленном bitsandbytes нет 4-битных вычислений для {card}, в новом они есть: {command}. Или выберите LoRA."
    ),
    "NoEightBitOptimizer": "В bitsandbytes пока нет {optim} для {card}. Выберите adamw_torch.",
}
