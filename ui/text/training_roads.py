"""Words of the five roads and of the form of a prompt profile."""

WORDS = {
    "road": ("Road", "Путь"),
    "road.qlora": ("QLoRA", "QLoRA"),
    "road.lora": ("LoRA", "LoRA"),
    "road.full": ("All weights", "Все веса"),
    "road.text": ("Continued pretraining", "Продолженное предобучение"),
    "road.prompt": ("Prompt injection", "Промпт-инъекция"),
    "road.qlora.about": (
        "Changes a small adapter on a base squeezed to 4 bits. Costs the least memory of all training. "
        "Risks little: the base stays as it is; rounding to 4 bits takes a little quality.",
        "Меняет небольшой адаптер поверх базы, сжатой до 4 бит. Из всех видов обучения берёт меньше всего памяти. "
        "Рискует малым: база остаётся прежней, округление до 4 бит отнимает чуть-чуть качества.",
    ),
    "road.lora.about": (
        "Changes a small adapter on the base as it is. Costs the memory of the whole base, and is as fast as "
        "QLoRA or faster. Risks little: style and skills take well, new facts less so.",
        "Меняет небольшой адаптер поверх обычной базы. Нужна память под всю базу, шаги не медленнее, чем у QLoRA. "
        "Рискует малым: стиль и навыки усваиваются хорошо, новые факты — хуже.",
    ),
    "road.full.about": (
        "Changes every weight. Costs 8 to 16 bytes of memory a parameter; a checkpoint takes 12 on the disk. "
        "Risks the most: what the model knew before is forgotten fastest.",
        "Меняет все веса. Нужно от 8 до 16 байт памяти на параметр; контрольная точка занимает на диске 12. "
        "Рискует сильнее всего: прежние знания забываются быстрее.",
    ),
    "road.text.about": (
        "Goes on reading raw text in full blocks and learns every token of it: for a new language or field. Costs the "
        "most text and time. Risks that the model forgets how to chat: tune it on chats afterwards.",
        "Продолжает читать сырой текст сплошными блоками и учится на каждом токене: для нового языка или области. "
        "Нужно больше всего текста и времени. Модель может разучиться беседовать: потом дообучите её на диалогах.",
    ),
    "road.prompt.about": (
        "Changes no weight: a system prompt and examples are put before every chat. Costs no training, but context at "
        "every reply. Risks that the model strays from it in a long chat.",
        "Не меняет веса: перед каждой беседой ставятся системный промпт и примеры. Обучать не нужно, но каждый ответ "
        "тратит контекст. В длинной беседе модель может отойти от промпта.",
    ),
    "road.for_text": (
        "This corpus holds texts only, so the road is {road}.",
        "В этом корпусе только тексты, поэтому выбран путь «{road}».",
    ),
    "road.for_chats": (
        "This corpus holds chats, so the road is {road}.",
        "В этом корпусе диалоги, поэтому выбран путь «{road}».",
    ),
    "profile.saved": ("Saved profiles", "Сохранённые профили"),
    "profile.saved.info": ("Choose one to change it.", "Выберите профиль, чтобы изменить его."),
    "profile.name": ("Name of the profile", "Имя профиля"),
    "profile.system_prompt": ("System prompt", "Системный промпт"),
    "profile.system_prompt.info": (
        "Who the model is and how it speaks.",
        "Кто эта модель и как она говорит.",
    ),
    "profile.examples": ("Examples", "Примеры"),
    "profile.said": ("The person says", "Собеседник говорит"),
    "profile.reply": ("The model replies", "Модель отвечает"),
    "profile.save": ("Save profile", "Сохранить профиль"),
    "profile.delete": ("Delete", "Удалить"),
    "profile.kept": (
        "Profile “{name}” is saved. It chats in the Playground.",
        "Профиль «{name}» сохранён. С ним можно поговорить в «Песочнице».",
    ),
    "profile.deleted": ("The profile is deleted.", "Профиль удалён."),
}
