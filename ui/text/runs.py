"""Words of runs: their queue, their plots, what is watched in them, the table and the comparison."""

WORDS = {
    "training.early_stopping": ("Early stopping (early_stopping)", "Ранняя остановка (early_stopping)"),
    "training.early_stopping.info": (
        "End after so many evaluations in a row without a new lowest held-out loss; 0: never.",
        "Закончить, если столько проверок подряд loss на отложенных строках не обновлял минимум; 0 — никогда.",
    ),
    "training.keep_best": ("Keep the best (keep_best)", "Оставить лучшие веса (keep_best)"),
    "training.keep_best.info": (
        "The adapter is the one with the lowest held-out loss, not the last one.",
        "Итогом станет адаптер с наименьшим loss на отложенных строках, а не последний.",
    ),
    "training.film_strip": ("Film strip (film_strip)", "Кинолента ответов (film_strip)"),
    "training.film_strip.info": (
        "At each evaluation the model replies to your own prompts, so that you can read how it changes.",
        "При каждой проверке модель отвечает на ваши запросы — видно, как меняются ответы.",
    ),
    "training.forgetting_meter": ("Forgetting meter (forgetting_meter)", "Измеритель забывания (forgetting_meter)"),
    "training.forgetting_meter.info": (
        "At each evaluation the model is asked things that it knew before: facts, sums, simple instructions.",
        "При каждой проверке модель отвечает на то, что знала до обучения: факты, счёт, простые поручения.",
    ),
    "state.held": ("held", "отложен"),
    "state.pausing": ("pausing", "приостанавливается"),
    "state.paused": ("paused", "на паузе"),
    "unit.gb": ("GB", "ГБ"),
    "runs.pause": ("Pause", "Пауза"),
    "runs.end": ("End the process", "Завершить процесс"),
    "runs.ended": (
        "The process was ended; its memory is free.",
        "Процесс завершён, его память свободна.",
    ),
    "runs.save_now": ("Save now", "Сохранить"),
    "runs.sample_now": ("Sample now", "Ответить сейчас"),
    "runs.pause_asked": (
        "Pausing: after the current step a checkpoint is saved and the memory is freed.",
        "Пауза запрошена: после текущего шага сохранится контрольная точка, и память освободится.",
    ),
    "runs.save_asked": (
        "Asked for a checkpoint: it is saved after the current step.",
        "Контрольная точка запрошена: сохранится после текущего шага.",
    ),
    "runs.sample_asked": (
        "Asked for replies: the model answers your prompts after the current step.",
        "Ответы запрошены: модель ответит на ваши запросы после текущего шага.",
    ),
    "runs.asked.stop": ("Stop", "Остановка"),
    "runs.asked.pause": ("Pause", "Пауза"),
    "runs.asked.save": ("Checkpoint", "Контрольная точка"),
    "runs.asked.sample": ("Replies", "Ответы"),
    "runs.heard": (
        "{what}: asked at {asked}, took effect at {heard} after step {step}.",
        "{what}: запрос в {asked}, выполнено в {heard} после шага {step}.",
    ),
    "runs.asked.resume": ("Resume", "Продолжение"),
    "runs.done": ("{what}: asked at {asked}, took effect at {done}.", "{what}: запрос в {asked}, выполнено в {done}."),
    "runs.its_turn": (
        "{what}: asked at {asked}; takes effect when its turn comes.",
        "{what}: запрос в {asked}; выполнится, когда подойдёт очередь.",
    ),
    "runs.not_heard": (
        "{what}: asked at {asked}; takes effect after the current step.",
        "{what}: запрос в {asked}; выполнится после текущего шага.",
    ),
    "runs.paused.help": (
        "The memory is free. Resume goes on after step {step}.",
        "Память свободна. «Продолжить» запустит обучение после шага {step}.",
    ),
    "runs.stopped_early": (
        "Ended early at step {step}: the held-out loss was lowest at step {best}.",
        "Остановлен раньше срока на шаге {step}: меньше всего loss на отложенных строках был на шаге {best}.",
    ),
    "runs.kept_step": ("weights of step {step}", "веса шага {step}"),
    "runs.waits": ("waiting for disk space", "ждёт места на диске"),
    "runs.waits.help": (
        "The disk is short of space: {need} are needed and {free} are free. Free some space, and the run goes on by itself.",
        "На диске мало места: нужно {need}, свободно {free}. Освободите место, и обучение продолжится само.",
    ),
    "runs.full": (
        "The disk is full. Free some space, and the run starts by itself.",
        "Диск заполнен. Освободите место, и запуск начнётся сам.",
    ),
    "runs.checkpoint": ("checkpoint", "контрольная точка"),
    "runs.log_scale": ("Log scale", "Логарифмическая шкала"),
    "runs.log_scale.info": ("Shows small changes of a small loss.", "Видны малые изменения малого loss."),
    "runs.more_curves": ("Learning rate, gradient, speed, memory", "Скорость обучения, градиент, темп, память"),
    "runs.rule": (
        "Kept: the {count} newest checkpoints and the one with the lowest held-out loss.",
        "Хранятся последние контрольные точки ({count}) и та, где loss на отложенных строках наименьший.",
    ),
    "plot.best": ("best, step {step}", "лучшее, шаг {step}"),
    "plot.grad_norm": ("gradient norm", "норма градиента"),
    "plot.memory_gib": ("memory, GiB", "память, ГиБ"),
    "plot.forgetting": ("log-probability, nats per token", "логарифм вероятности, нат на токен"),
    "plot.forgetting.score": ("old knowledge", "прежние знания"),
    "plot.forgetting.red": ("half as likely per token", "вдвое менее вероятно на токен"),
    "plot.forgetting.foreign": ("foreign letters in Russian replies", "чужие буквы в русских ответах"),
    "alert.stalled": (
        "Nothing was heard from the trainer for {seconds}. Look into the log; if it hangs, press “End the process”, then Resume.",
        "Процесс обучения молчит уже {seconds}. Загляните в журнал; если он завис, нажмите «Завершить процесс», затем «Продолжить».",
    ),
    "alert.unheard": (
        "The trainer has not taken up the request for {seconds}. A long step or the loading of a model may be the reason; if it hangs, press “End the process”: the run can be resumed from its last checkpoint.",
        "Процесс обучения не отзывается на запрос уже {seconds}. Возможно, идёт долгий шаг или загрузка модели; если он завис, нажмите «Завершить процесс»: запуск можно продолжить с последней контрольной точки.",
    ),
    "alert.nothing_moved": (
        "Nothing changes: by step {step} the gradient is 0, and the loss is {loss}. Stop: nothing is being learned. Set target_modules to all-linear and precision to auto, and start again.",
        "Ничего не меняется: к шагу {step} градиент равен 0, а loss — {loss}. Остановите запуск: модель не учится. Укажите target_modules = all-linear и precision = auto и начните заново.",
    ),
    "alert.skipped.film_strip": (
        "At step {step} there was not enough memory for the film strip: its replies are missing there, and the training goes on. Lower batch_size or max_length if you need them.",
        "На шаге {step} на ответы по ходу обучения не хватило памяти: там они пропущены, обучение продолжается. Если они нужны, уменьшите batch_size или max_length.",
    ),
    "alert.skipped.forgetting_meter": (
        "At step {step} there was not enough memory for the forgetting meter: its score is missing there, and the training goes on. Lower batch_size or max_length if you need it.",
        "На шаге {step} на измеритель забывания не хватило памяти: оценка там пропущена, обучение продолжается. Если она нужна, уменьшите batch_size или max_length.",
    ),
    "alert.diverging": (
        "The loss is rising: {last} now against {lowest} at step {step}. Stop, and lower learning_rate.",
        "Loss растёт: сейчас {last}, на шаге {step} было {lowest}. Остановите запуск и снизьте learning_rate.",
    ),
    "alert.overfitting": (
        "The model learns by heart: held-out loss is {last}, and at step {step} it was {best}. Stop here; the best checkpoint is kept.",
        "Модель зубрит: loss на отложенных строках {last}, а на шаге {step} был {best}. Можно остановить: лучшая контрольная точка сохранена.",
    ),
    "alert.plateau": (
        "The loss has stood at {loss} for {steps} steps: more of the same will change little.",
        "Loss держится на {loss} уже {steps} шагов: продолжение мало что даст.",
    ),
    "alert.forgot": (
        "The model forgets: by step {step} the score of old knowledge fell from {base} to {last}. Take an earlier checkpoint, lower learning_rate, or mix in general rows.",
        "Модель забывает: к шагу {step} оценка прежних знаний упала с {base} до {last}. Возьмите более раннюю контрольную точку, снизьте learning_rate или добавьте общих строк.",
    ),
    "doctor.change": ("What helps: **{changes}**.", "Что поможет: **{changes}**."),
    "doctor.fits": (
        "By the estimate that takes {after} instead of {needs}; {free} are free.",
        "По расчёту это займёт {after} вместо {needs}; свободно {free}.",
    ),
    "doctor.too_little": (
        "By the estimate even that may not fit: choose a smaller model.",
        "По расчёту даже этого может не хватить: выберите модель поменьше.",
    ),
    "doctor.nothing": (
        "No setting makes it fit here: choose a smaller model.",
        "Никакая настройка здесь не поможет: выберите модель поменьше.",
    ),
    "doctor.from_checkpoint": (
        "The run goes on from the checkpoint of step {step}.",
        "Обучение продолжится с контрольной точки шага {step}.",
    ),
    "doctor.from_start": ("The run begins again from step 0.", "Обучение начнётся снова с шага 0."),
    "doctor.treat": ("Apply and resume", "Применить и продолжить"),
    "doctor.treated": ("Changed and queued again.", "Изменено и снова в очереди."),
    "film.title": ("Film strip and forgetting", "Кинолента ответов и забывание"),
    "film.empty": (
        "No replies yet. Switch on film_strip in the settings, or press “Sample now” on a running training.",
        "Ответов пока нет. Включите film_strip в настройках или нажмите «Ответить сейчас» во время обучения.",
    ),
    "film.base": ("before training", "до обучения"),
    "film.step": ("step {step}", "шаг {step}"),
    "film.kept_checkpoint": ("checkpoint", "точка сохранена"),
    "film.checkpoint": ("Checkpoint", "Контрольная точка"),
    "film.checkpoint.info": (
        "Read the replies, then choose. To have more to choose from, raise save_total_limit before the start.",
        "Прочтите ответы и выберите. Чтобы было из чего выбирать, увеличьте save_total_limit перед запуском.",
    ),
    "film.take": ("Take these weights", "Взять эти веса"),
    "film.taken": (
        "The run's result is now the weights of step {step}; chat and exports use them.",
        "Итог запуска теперь — веса шага {step}; их возьмут чат и экспорт.",
    ),
    "film.no_checkpoint": (
        "No checkpoint is chosen. This run keeps none, or choose one from the list.",
        "Контрольная точка не выбрана. Выберите её из списка; если список пуст, этот запуск их не хранит.",
    ),
    "runs.result": ("Result", "Итог"),
    "film.prompts": ("Your prompts", "Ваши запросы"),
    "film.prompts.info": (
        "One a line, eight at most; asked at every evaluation of the runs that start from now on.",
        "По одному в строке, не больше восьми; задаются при каждой проверке в запусках, начатых после сохранения.",
    ),
    "film.keep": ("Save the prompts", "Сохранить запросы"),
    "film.kept": ("Prompts saved: {count}", "Сохранено запросов: {count}"),
    "queue.title": ("Waiting, in this order", "Ждут в таком порядке"),
    "queue.run": ("Waiting run", "Ожидающий запуск"),
    "queue.up": ("Up", "Выше"),
    "queue.down": ("Down", "Ниже"),
    "queue.hold": ("Hold", "Отложить"),
    "queue.let_go": ("Let go", "Вернуть"),
    "queue.cancel": ("Cancel", "Отменить"),
    "queue.up.done": ("“{name}” moved up.", "«{name}» теперь выше."),
    "queue.down.done": ("“{name}” moved down.", "«{name}» теперь ниже."),
    "queue.hold.done": ("“{name}” is held: the others pass it.", "«{name}» отложен: остальные пройдут вперёд."),
    "queue.let_go.done": ("“{name}” waits for its turn again.", "«{name}» снова ждёт своей очереди."),
    "queue.cancel.done": ("“{name}” left the queue.", "«{name}» вышел из очереди."),
    "runs.search": ("Search", "Поиск"),
    "runs.search.info": (
        "Words from the name, note, tags, corpus, model or state.",
        "Слова из имени, заметки, меток, корпуса, модели или состояния.",
    ),
    "runs.tags": ("Tags", "Метки"),
    "runs.tags.info": ("Words with spaces between them.", "Слова через пробел."),
    "runs.one_thing": ("Change one thing", "Изменить одно"),
    "runs.one_thing.info": ("A new run; all else stays as it was.", "Новый запуск; всё остальное как было."),
    "runs.new_value": ("New value", "Новое значение"),
    "runs.vary": ("Run with the change", "Запустить с изменением"),
    "runs.again": ("Run again", "Запустить ещё раз"),
    "runs.csv": ("Metrics as CSV", "Метрики в CSV"),
    "runs.file": ("File", "Файл"),
    "runs.disk": ("Disk", "Диск"),
    "runs.occupies": ("On the disk", "На диске"),
    "runs.predicted_memory": ("Memory of the card", "Видеопамять"),
    "runs.predicted_time": ("Step of the longest rows", "Шаг самых длинных строк"),
    "runs.pair": (
        "{predicted} predicted, {measured} measured ({off})",
        "по расчёту {predicted}, на деле {measured} ({off})",
    ),
    "runs.seconds": ("s", "с"),
    "runs.changed": ("Changed on the way", "Изменено по ходу"),
    "runs.arena": ("Arena", "Арена"),
    "runs.votes": ("{share} % of {count} votes", "{share} % голосов из {count}"),
    "compare.title": ("Compare runs", "Сравнить запуски"),
    "compare.runs": ("Runs to compare", "Какие запуски сравнить"),
    "compare.info": ("Two to seven.", "От двух до семи."),
    "compare.few": ("Choose two runs or more.", "Выберите два запуска или больше."),
    "compare.best": ("lowest held-out loss", "наименьший loss на отложенных строках"),
    "compare.same": ("Settings that are the same in all: {count}.", "Одинаковых настроек: {count}."),
}

TROUBLES = {
    "DatabaseStuck": "База данных {path} недоступна: {reason}. Освободите место на её диске. Обучение тем временем идёт.",
    "CheckpointGone": "У запуска «{name}» нет целой контрольной точки шага {step}. Есть точки: {kept}.",
    "KilledForMemory": "Система завершила запуск: после шага {step} на компьютере кончилась оперативная память. Закройте "
    "другие программы, уменьшите batch_size или max_length либо выберите модель поменьше.",
    "NothingWritten": "Диск, на котором {path}, заполнен: записать ничего не удалось. Освободите место и повторите.",
    "EndedByForce": "Процесс обучения не отвечал и был завершён принудительно. Всё, что было после последней контрольной "
    "точки, будет пройдено заново.",
    "DoesNotDie": "Процесс {pid} запуска «{name}» не удаётся завершить: его держит система или драйвер. Перезагрузите "
    "компьютер; запуск продолжится с последней контрольной точки.",
    "NotWaiting": "Запуск «{name}» не ждёт в очереди, его состояние: {state}.",
    "NotRunning": "Запуск «{name}» сейчас в состоянии «{state}»: это действие для него недоступно.",
    "DriverTrouble": "Видеокарта или её драйвер отказали: {reason} Перезагрузите компьютер; если повторится, обновите "
    "драйвер. Затем продолжите запуск.",
    "PackageLacksKernels": "В torch ядра для {card} ({needed}) есть, их нет в одном из пакетов, которые нужны запуску. "
    "Установлены: {packages}. Переустановите нужный: {command}. Или обойдитесь без него: {without}.",
    "DeviceAssert": "Карта остановилась на проверке внутри ядра: индекс вышел за границы; обычно это id токена вне словаря. "
    "Возьмите токенизатор, который пришёл с моделью. Если он и так её собственный, запустите обучение с "
    "переменной окружения CUDA_LAUNCH_BLOCKING=1: тогда log.txt назовёт строку.",
    "PackageMissing": "Для этого нужен пакет {package}. Установите его: pip install {package}",
    "NoSuchValue": "Поле {field} не может быть равно {value}. Впишите значение так, как оно выглядит в конфигурации.",
}
