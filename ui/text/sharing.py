"""Words of the Share tab and of the page that visitors see."""

WORDS = {
    "page.share": ("Share", "Доступ"),
    "sharing.intro": (
        "Let friends talk to your model for a while. They see the chat and nothing else: no training, no files, no "
        "settings. Each comes in with the password that is made here for this one time.",
        "Дайте друзьям поговорить с вашей моделью. Им виден только чат: ни обучения, ни файлов, ни настроек. "
        "Вход — по паролю, который создаётся здесь на один раз.",
    ),
    "sharing.run": ("Run to talk to", "Запуск для разговора"),
    "sharing.run.info": (
        "Visitors see the base and the adapter of this run side by side and cannot change it.",
        "Гости увидят рядом базу и адаптер этого запуска и не смогут его сменить.",
    ),
    "sharing.no_runs": (
        "Nothing to talk to yet. Train a model first: a finished run appears here.",
        "Пока говорить не с кем. Сначала обучите модель: готовый запуск появится здесь.",
    ),
    "sharing.reach": ("Way to this machine", "Способ доступа"),
    "sharing.reach.info": (
        "A public link goes through Gradio's servers; this network means your Wi-Fi or cable; your own tunnel is one "
        "that you start yourself.",
        "Публичная ссылка идёт через серверы Gradio; «эта сеть» — ваш Wi-Fi или кабель; свой туннель вы запускаете "
        "сами.",
    ),
    "sharing.reach.link": ("Public link", "Публичная ссылка"),
    "sharing.reach.network": ("This network", "Эта сеть"),
    "sharing.reach.own": ("Tunnel of my own", "Свой туннель"),
    "sharing.hours": ("Open for, hours", "Открыть на, ч"),
    "sharing.hours.info": ("After that the link ends by itself.", "Потом ссылка закроется сама."),
    "sharing.limits": ("Limits", "Ограничения"),
    "sharing.messages": ("Messages of one visitor", "Сообщений от одного гостя"),
    "sharing.messages.info": ("Then the chat thanks them and stops.", "Затем чат благодарит и замолкает."),
    "sharing.tokens": ("Tokens for one visitor", "Токенов одному гостю"),
    "sharing.tokens.info": (
        "Written by the model, both columns together.",
        "Написанных моделью, в обоих столбцах вместе.",
    ),
    "sharing.messages_in_all": ("Messages in all", "Сообщений всего"),
    "sharing.messages_in_all.info": ("Of all visitors of this link.", "От всех гостей этой ссылки."),
    "sharing.tokens_in_all": ("Tokens in all", "Токенов всего"),
    "sharing.tokens_in_all.info": ("For all visitors of this link.", "Всем гостям этой ссылки."),
    "sharing.open": ("Open the link", "Открыть доступ"),
    "sharing.opening": (
        "Opening the public link; this can take a minute.",
        "Открываю публичную ссылку; это может занять минуту.",
    ),
    "sharing.end": ("End it now", "Закрыть сейчас"),
    "sharing.closed": ("Nothing is shared.", "Доступ закрыт."),
    "sharing.address": ("Address", "Адрес"),
    "sharing.the_password": ("Password", "Пароль"),
    "sharing.qr": (
        "The code holds the address and the password: show it only to those whom you invite.",
        "В коде — адрес и пароль: показывайте его только тем, кого приглашаете.",
    ),
    "sharing.own_hint": (
        "Point your tunnel at port {port} of this machine, for example: {command}. Then send its address with the "
        "password.",
        "Направьте туннель на порт {port} этой машины, например: {command}. Затем отправьте его адрес вместе с паролем.",
    ),
    "sharing.plain_http": (
        "Inside this network the chat travels unencrypted: use it where you trust the network.",
        "Внутри этой сети чат идёт без шифрования: пользуйтесь этим там, где сети доверяете.",
    ),
    "sharing.figures": (
        "Came in: {visitors}, here now: {present}, waiting in line: {waiting}. Messages: {messages}, tokens: {tokens}. "
        "Ends in {left}.",
        "Вошло: {visitors}, сейчас здесь: {present}, в очереди: {waiting}. Сообщений: {messages}, токенов: {tokens}. "
        "Закроется через {left}.",
    ),
    "sharing.all.terminal": (
        "Full control is shared. Whoever has this password can train, read and delete your corpora and runs, fill the "
        "disk, and read any file that the page can open.",
        "Открыто полное управление. Кто знает этот пароль, может обучать, читать и удалять ваши корпуса и запуски, "
        "занять весь диск и прочитать любой файл, который открывает страница.",
    ),
    "sharing.chat.terminal": (
        "The chat is shared, and nothing else. It ends in {left}, or with Ctrl+C.",
        "Открыт только чат. Он закроется через {left} или по Ctrl+C.",
    ),
    "sharing.terminal": ("{url}  password: {password}", "{url}  пароль: {password}"),
    "sharing.tagline": ("You are talking to: {name}", "Вы говорите с моделью: {name}"),
    "sharing.base": ("Base", "База"),
    "sharing.tuned": ("With the adapter", "С адаптером"),
    "sharing.hello": (
        "One message, two replies: the model as it was, and as it has been retrained.",
        "Одно сообщение — два ответа: модель как была и после дообучения.",
    ),
    "sharing.message": ("Message", "Сообщение"),
    "sharing.message.placeholder": ("Ask something, then press Enter", "Спросите что-нибудь и нажмите Enter"),
    "sharing.send": ("Send", "Отправить"),
    "sharing.stop": ("Stop", "Стоп"),
    "sharing.clear": ("New conversation", "Новая беседа"),
    "sharing.place": ("Before you in line: {place}", "Перед вами в очереди: {place}"),
    "sharing.writing": ("Writing…", "Пишет…"),
    "sharing.nothing": ("Stopped before the reply began.", "Остановлено до начала ответа."),
    "sharing.left": ("Messages left: {messages}", "Осталось сообщений: {messages}"),
    "sharing.busy": (
        "This machine is training a model now and cannot reply. Send the message again later.",
        "На этой машине сейчас обучается модель, и ответить она не может. Отправьте сообщение позже.",
    ),
    "sharing.trouble": (
        "The model could not answer. Tell the owner of this link.",
        "Модель не смогла ответить. Сообщите владельцу ссылки.",
    ),
    "sharing.warning": (
        "What you write is read by the machine of whoever gave you this link. It is not kept there by this page.",
        "То, что вы пишете, обрабатывает машина того, кто дал вам ссылку. Эта страница там ничего не хранит.",
    ),
    "sharing.invited": (
        "You are invited to talk to a language model on somebody's own machine. The password comes with the link.",
        "Вас пригласили поговорить с языковой моделью, которая работает на чужой машине. Пароль дают вместе со ссылкой.",
    ),
    "sharing.password": ("Password", "Пароль"),
    "sharing.come_in": ("Come in", "Войти"),
}

TROUBLES = {
    "ShareEnded": "Эта ссылка больше не действует. Попросите новую.",
    "WrongPassword": "Пароль не подходит. Он указан рядом с QR-кодом.",
    "TooManyTries": "Слишком много неверных паролей. Попробуйте через {seconds} с.",
    "HouseFull": "Уже вошло гостей: {most}. Больше по этой ссылке не пускают.",
    "VisitorLimit": "Ваш лимит исчерпан (сообщений: {messages}, токенов: {tokens}). Спасибо за разговор.",
    "ShareLimit": "Общий лимит этой ссылки исчерпан (сообщений: {messages}, токенов: {tokens}).",
    "OneAtATime": "На ваше прошлое сообщение ещё отвечают. Дождитесь ответа или остановите его.",
    "MessageTooLong": "В сообщении символов: {letters}, а принимается не больше {most}. Сократите его.",
    "TunnelBlocked": (
        "Публичную ссылку открыть не удалось: серверы Gradio не ответили, либо программу туннеля не удалось скачать или "
        "она заблокирована ({reason}). Есть два других пути, оба с паролем: по этой сети (выберите «Эта сеть» или "
        "--share network) или через свой туннель (выберите «Свой туннель» или --share own: команда для него появится)."
    ),
    "NothingToShare": "Запуск не выбран. Выберите его из списка или сначала обучите модель.",
    "ShareDidNotStart": "Страница для гостей не запустилась на порту {port}. Повторите.",
}
