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
}

TROUBLES = {
    "NotWaiting": "Запуск «{name}» не ждёт в очереди, его состояние: {state}.",
    "NotRunning": "Запуск «{name}» сейчас не обучается: сохранять и пробовать нечего.",
    "DriverTrouble": "Видеокарта или её драйвер отказали: {reason} Перезагрузите компьютер; если повторится, обновите "
    "драйвер. Затем продолжите запуск.",
}
