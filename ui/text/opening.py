"""Words of the opening screen and the guided demo."""

WORDS = {
    "page.opening": ("Start", "Начало"),
    "opening.question": ("What do you want to do?", "Что вы хотите сделать?"),
    "opening.calculator": ("See what my card can do", "Узнать, что может моя видеокарта"),
    "opening.calculator.about": (
        "How much memory, time and disk a model takes on your card or any other, before you download anything.",
        "Сколько памяти, времени и места займёт модель на вашей или любой другой карте — ещё до скачивания.",
    ),
    "opening.calculator.go": ("Open the calculator", "Открыть калькулятор"),
    "opening.calculator.now": ("Here: {card}", "Здесь: {card}"),
    "opening.no_card": (
        "no graphics card was found; the starter model trains on the processor",
        "видеокарта не найдена; стартовая модель обучается на процессоре",
    ),
    "opening.corpus": ("Build a corpus", "Собрать корпус"),
    "opening.corpus.about": (
        "Take a bundled sample, or bring your own chats, books and tables: they are read, cleaned and checked.",
        "Возьмите готовый образец или свои переписки, книги, таблицы: они будут прочитаны, очищены и проверены.",
    ),
    "opening.corpus.go": ("Go to the corpora", "Перейти к корпусам"),
    "opening.corpus.now": ("Corpora here: {count}", "Корпусов здесь: {count}"),
    "opening.corpus.none": ("No corpus yet. This is the first step.", "Корпусов ещё нет. Это первый шаг."),
    "opening.training": ("Train a model", "Обучить модель"),
    "opening.training.about": (
        "Choose a model and a corpus and press Train. Close the page if you like: training goes on.",
        "Выберите модель и корпус и нажмите «Обучить». Страницу можно закрыть: обучение продолжится.",
    ),
    "opening.training.go": ("Go to training", "Перейти к обучению"),
    "opening.training.now": ("In progress or in line: {count}", "Идёт или ждёт очереди: {count}"),
    "opening.training.none": ("Nothing is being trained now.", "Сейчас ничего не обучается."),
    "opening.training.first": ("It takes a corpus: build one first.", "Нужен корпус: сначала соберите его."),
    "opening.playground": ("Talk to a model", "Поговорить с моделью"),
    "opening.playground.about": (
        "One message, two replies side by side: the model before and after training.",
        "Одно сообщение — два ответа рядом: модель до и после обучения.",
    ),
    "opening.playground.go": ("Open the playground", "Открыть песочницу"),
    "opening.playground.now": ("Trained models here: {count}", "Обученных моделей здесь: {count}"),
    "opening.playground.none": (
        "Nothing is trained yet: train first, or run the demo below.",
        "Ещё ничего не обучено: сначала обучите модель или запустите демонстрацию ниже.",
    ),
    "opening.tour": ("Show me all of it in five minutes", "Показать всё за пять минут"),
    "opening.tour.about": (
        "The starter model of 135 million parameters (a download of 93 MB) learns the voice of a lighthouse keeper "
        "from a bundled corpus and answers one question before and after. No graphics card is needed.",
        "Стартовая модель (135 миллионов параметров, загрузка 93 МБ) на готовом корпусе научится говорить как смотритель "
        "маяка и ответит на один вопрос до и после обучения. Видеокарта не нужна. Корпус и ответы — на английском: "
        "русского эта маленькая модель почти не знает.",
    ),
    "opening.tour.go": ("Run the demo", "Запустить демонстрацию"),
    "opening.tour.stop": ("Cancel", "Отменить"),
    "opening.tour.talk": ("Talk to it yourself", "Поговорить с ней"),
    "opening.stage.model": ("Get the starter model", "Получить стартовую модель"),
    "opening.stage.corpus": ("Read the sample corpus", "Прочитать готовый корпус"),
    "opening.stage.training": ("Train an adapter (QLoRA)", "Обучить адаптер (QLoRA)"),
    "opening.stage.chat": ("Ask both models the same question", "Задать обеим моделям один вопрос"),
    "opening.working": ("in progress", "выполняется"),
    "opening.mb": ("MB", "МБ"),
    "opening.steps": ("steps", "шагов"),
    "opening.rate": ("{rate} tokens per second", "{rate} токенов в секунду"),
    "opening.left": ("about {left} left", "осталось примерно {left}"),
    "opening.failed": ("The demo broke off: {why}", "Демонстрация прервалась: {why}"),
    "opening.losses": (
        "Held-out loss: {before} before, {after} after, in nats per token; lower is better.",
        "Loss на отложенных строках: {before} до обучения, {after} после, нат на токен; чем меньше, тем лучше.",
    ),
    "opening.asked": ("The question:", "Вопрос:"),
    "opening.reply.base": ("Before", "До"),
    "opening.reply.tuned": ("After", "После"),
}
