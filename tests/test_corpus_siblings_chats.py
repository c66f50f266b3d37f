"""Chats of other messengers and assistants, in the forms in which they are exported."""

import json

import pytest

from tests.test_corpus_formats import lines, made, said

TURNS = [("user", "привет"), ("assistant", "и тебе ❤")]


def latin(text):
    return text.encode().decode("latin-1")


META = {
    "participants": [{"name": latin("Аня")}, {"name": latin("Боря")}],
    "messages": [  # the newest first
        {"sender_name": latin("Боря"), "timestamp_ms": 1700000060000, "content": latin("и тебе ❤")},
        {"sender_name": latin("Аня"), "timestamp_ms": 1700000030000, "photos": [{"uri": "x"}]},
        {"sender_name": latin("Аня"), "timestamp_ms": 1700000000000, "content": latin("привет")},
    ],
}
SLACK = [
    {"type": "message", "user": "U1", "text": "привет", "ts": "1700000000.1"},
    {"type": "message", "subtype": "channel_join", "user": "U2", "text": "<@U2> has joined", "ts": "1700000001.1"},
    {"type": "message", "user": "U2", "text": "и тебе ❤", "ts": "1700000002.1"},
]
DEEPSEEK = [
    {
        "mapping": {
            "root": {"id": "root", "parent": None, "message": None},
            "1": {"parent": "root", "message": {"fragments": [{"type": "REQUEST", "content": "привет"}]}},
            "2": {"parent": "1", "message": {"fragments": [{"type": "THINK", "content": "h"}, {"type": "RESPONSE", "content": "и тебе ❤"}]}},
        }
    }
]  # fmt: skip
GROK = {
    "conversations": [
        {
            "conversation": {"title": ""},
            "responses": [
                {"response": {"message": "привет", "sender": "human"}},
                {"response": {"message": "и тебе ❤", "sender": "ASSISTANT"}},
            ],
        }
    ]
}


@pytest.mark.parametrize("export", [META, SLACK, DEEPSEEK, GROK], ids=["meta", "slack", "deepseek", "grok"])
def test_a_chat_is_read_as_its_program_wrote_it(tmp_path, export):
    assert said(made(tmp_path, "a.json", json.dumps(export))) == [TURNS]


def test_links_and_names_in_slack_are_words(tmp_path):
    said_of = "<@U2> смотри <https://a.b|сюда> и <https://c.d>, R&amp;D"
    profile = {"user_profile": {"real_name": "Боря"}}
    export = [SLACK[0] | {"text": said_of}, SLACK[2] | profile, SLACK[2] | {"text": "да", "ts": "1700000003.1"}]
    turns = [("user", "@Боря смотри сюда и https://c.d, R&D"), ("assistant", "и тебе ❤\nда")]
    assert said(made(tmp_path, "a.json", json.dumps(export))) == [turns]


def test_messages_of_threads_have_their_words_in_values(tmp_path):
    rows = [
        {"thread_id": "t", "role": role, "content": [{"type": "text", "text": {"value": words, "annotations": []}}]}
        for role, words in TURNS
    ]
    assert said(made(tmp_path, "a.jsonl", lines(rows))) == [TURNS]


OWN_LINES = {  # what WhatsApp writes itself, by language
    "de": "<Medien ausgeschlossen>|Diese Nachricht wurde gelöscht.|Du hast diese Nachricht gelöscht.|Verpasster Sprachanruf|"
    "IMG-20240312-WA0001.jpg (Datei angehängt)|Standort: https://maps.google.com/?q=52.5,13.4|Bild weggelassen|"
    "vertrag.pdf • 2 Seiten Dokument weggelassen|Warte auf diese Nachricht. Dies kann einen Moment dauern.",
    "fr": "<Médias omis>|Ce message a été supprimé|Vous avez supprimé ce message|Appel vocal manqué|IMG-1.jpg (fichier joint)|"
    "image absente|vidéo omise|En attente de ce message. Cela peut prendre du temps.",
    "es": "<Multimedia omitido>|Se eliminó este mensaje.|Eliminaste este mensaje|Videollamada perdida|Llamada de voz perdida|"
    "a.pdf (archivo adjunto)|imagen omitida|Ubicación: https://maps.google.com/?q=1.5,-2|Esperando este mensaje. Esto puede tomar tiempo.",
    "ru": "<Без медиафайлов>|Вы удалили это сообщение|Сообщение удалено|Пропущенный вызов|Аудиозвонок, 3 мин|фото.jpg (файл добавлен)",
    "en": "<Media omitted>|You deleted this message|Voice call, 3 min|Missed group video call|a.pdf • 3 pages document omitted",
}  # fmt: skip
EDITED = ("Diese Nachricht wurde bearbeitet.", "Ce message a été modifié", "Se editó este mensaje.")
DATES = {
    "de": "12.03.24, 14:{minute:02} - {said}",
    "de on iOS": "[12.03.24, 14:{minute:02}:11] {said}",
    "fr": "12/03/2024 à 14:{minute:02} - {said}",
    "fr on iOS": "[12/03/2024 14:{minute:02}:11] {said}",
    "es": "12/3/24, 14:{minute:02} - {said}",
    "es on iOS": "[12/3/24, 2:{minute:02}:11\u202fp.\u00a0m.] {said}",
}


@pytest.mark.parametrize("language", OWN_LINES)
def test_what_whatsapp_writes_itself_is_nobodys_reply(tmp_path, language):
    own = OWN_LINES[language].split("|")
    words = [("Anna", "привет"), *(("Bernd", line) for line in own), ("Bernd", f"и тебе ❤ <{EDITED[0]}>")]
    said_at = [DATES["de"].format(minute=at, said=f"{who}: {line}") for at, (who, line) in enumerate(words)]
    card = made(tmp_path, "chat.txt", "\n".join(said_at))
    assert (said(card), sum(card["repairs"].values())) == ([TURNS], len(own))


@pytest.mark.parametrize("edited", EDITED)
@pytest.mark.parametrize("form", DATES.values(), ids=DATES)
def test_whatsapp_chats_of_other_languages_are_chats(tmp_path, form, edited):
    said_at = [f"Anna : привет <{edited}>", "Bernd : и тебе ❤", 'Anna hat „Foo: bar“ zu "x: y" geändert']
    text = "\n".join(form.format(minute=at, said=words) for at, words in enumerate(said_at))
    assert said(made(tmp_path, "chat.txt", text)) == [TURNS]


def test_people_speak_of_what_was_deleted(tmp_path):
    words = ["Anna: diese Nachricht wurde gelöscht, warum?", "Bernd: image absente de la page", "Anna: <3", "Bernd: ok"]
    text = "\n".join(DATES["de"].format(minute=at, said=line) for at, line in enumerate(words))
    assert [words for _, words in said(made(tmp_path, "chat.txt", text))[0]] == [
        line.split(": ", 1)[1] for line in words
    ]


def discord_message(number, who, words, mentions=()):
    names = {"1": ("anya", "Аня"), "2": ("borya", "Боря"), "3": ("vasya", None)}
    people = {key: {"id": key, "name": name, "nickname": nick} for key, (name, nick) in names.items()}
    author = people[who] | {"isBot": False, "roles": [{"id": "7", "name": "смотрители"}]}
    at = f"2024-03-12T14:0{number}:00+03:00"
    return {
        **{"id": f"9{number}", "type": "Default", "timestamp": at, "content": words, "author": author},
        "mentions": [people[key] for key in mentions],
    }


def test_mentions_in_discord_are_names(tmp_path):
    said_by_anya = "Привет <@2> и <@!3>, <@&7>! Глянь <#5> и <#6>, <:kek:12> <a:wow:13>, </ban:14> <@99>"
    messages = [discord_message(1, "1", said_by_anya, mentions=("3",)), discord_message(2, "2", "<@1> да")]
    export = {"guild": {"id": "4"}, "channel": {"id": "5", "name": "маяк"}, "messages": messages, "messageCount": 2}
    turns = [
        ("user", "Привет @Боря и @vasya, @смотрители! Глянь #маяк и #6, :kek: :wow:, /ban @99"),
        ("assistant", "@Аня да"),
    ]
    assert said(made(tmp_path, "a.json", json.dumps(export))) == [turns]
    table = (
        "AuthorID,Author,Date,Content,Attachments,Reactions\n"
        '1,Аня,2024-03-12T14:05:00.0000000+03:00,"Привет <@2>",,\n2,Боря#1234,2024-03-12T14:06:00+03:00,<@1> да,,\n'
    )
    assert said(made(tmp_path, "a.csv", table)) == [[("user", "Привет @Боря"), ("assistant", "@Аня да")]]


def test_what_chatgpt_writes_on_its_canvas_is_a_part_of_its_reply(tmp_path):
    def written(recipient, given):
        text = json.dumps(given, ensure_ascii=False) if isinstance(given, dict) else given
        content = {"content_type": "code", "text": text}
        return {"author": {"role": "assistant"}, "recipient": recipient, "content": content}

    def said_by(role, text, name=None):
        return {"author": {"role": role, "name": name}, "content": {"content_type": "text", "parts": [text]}}

    story = {"name": "lamp", "type": "document", "content": "Сказка о лампе."}
    code = {"name": "lamp.py", "type": "code/python", "content": "print(1)"}
    whole = {"updates": [{"pattern": ".*", "multiple": False, "replacement": "Новая сказка."}]}
    part = {"updates": [{"pattern": "лампе", "multiple": False, "replacement": "свече"}]}
    turns = [
        said_by("user", "Сказку!"), written("canmore.create_textdoc", story),
        said_by("tool", "Successfully created", "canmore.create_textdoc"), said_by("assistant", "Вот она."),
        said_by("user", "Код!"), written("canmore.create_textdoc", code), said_by("user", "Иначе!"),
        written("canmore.update_textdoc", whole), said_by("user", "Спасибо"), written("canmore.update_textdoc", part),
        written("canmore.create_textdoc", '{"name": "torn'), written("python", {"content": "x"}), said_by("assistant", "Да."),
    ]  # fmt: skip
    mapping = {str(at): {"id": str(at), "parent": str(at - 1), "message": turn} for at, turn in enumerate(turns)}
    export = [{"title": "t", "current_node": str(len(turns) - 1), "mapping": mapping}]
    card = made(tmp_path, "conversations.json", json.dumps(export, ensure_ascii=False))
    replies = ["Сказка о лампе.\n\nВот она.", "```python\nprint(1)\n```", "Новая сказка.", "Да."]
    assert [text for role, text in said(card)[0] if role == "assistant"] == replies
    assert card["repairs"] == {"tools_dropped": 3, "neighbours_merged": 1}
