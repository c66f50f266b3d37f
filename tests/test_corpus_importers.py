"""What other programs write: preference pairs, exports of assistants and messengers, office files."""

import json

import pytest

from core import paths
from core.corpus import corpus, duplicates, export, importer, preview
from core.corpus.reading import Options
from core.models import tokenizer
from core.runs import runs
from core.training import corpus_rows, encoding
from core.training.config import TrainConfig
from tests import tiny_tokenizers
from tests.conftest import raises
from tests.test_corpus_formats import lines, made, messages, said
from ui import corpora_html
from ui.text import Say

Q, A, B = ({"role": role, "content": words} for role, words in (("user", "q"), ("assistant", "a"), ("assistant", "b")))
SYSTEM = {"role": "system", "content": "s"}
PAIR = {"messages": [Q], "chosen": [A], "rejected": [B]}


def rows_of(card):
    return [
        {key: value for key, value in row.items() if key not in ("id", "source")}
        for row in corpus.rows(card["id"], 0, 10_000)
    ]


@pytest.mark.parametrize(
    ("record", "row"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, PAIR),
        ({"prompt": [Q], "chosen": [A], "rejected": [B]}, PAIR),
        ({"chosen": [Q, A], "rejected": [Q, B]}, PAIR),
        ({"prompt": "q", "chosen": [Q, A], "rejected": [Q, B], "score_chosen": 9}, PAIR | {"fields": {"score_chosen": 9}}),
        ({"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}, PAIR),
        ({"system": "s", "question": "q", "chosen": "a", "rejected": "b"}, PAIR | {"messages": [SYSTEM, Q]}),
        ({"instruction": "q", "input": "", "chosen": "a", "rejected": "b"}, PAIR),
        (
            {
                "conversations": [{"from": "human", "value": "q"}],
                "chosen": {"from": "gpt", "value": "a"},
                "rejected": {"from": "gpt", "value": "b"},
            },
            PAIR,
        ),
        (
            {"input": {"messages": [Q], "tools": []}, "preferred_output": [A], "non_preferred_output": [B]},
            PAIR,
        ),
    ],
)  # fmt: skip
def test_a_preference_pair_keeps_its_question_and_both_replies(tmp_path, record, row):
    card = made(tmp_path, "a.jsonl", lines([record]))
    assert (card["kind"], rows_of(card)) == ("preference", [row])
    assert corpus_rows.row_id(row) == corpus.rows(card["id"])[0]["id"]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "a"}, "equal_pair"),
        ({"prompt": "q", "chosen": "a", "rejected": None}, "empty_reply"),
        ({"chosen": "The sky is blue.", "rejected": "The sky is green."}, "no_prompt"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "label": False}, "unwanted_reply"),
        ({"messages": [Q, A], "images": ["cat.png"]}, "part_without_text"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}, A]}, "part_without_text"),
        ({"messages": [Q, {"role": "assistant", "content": [{"type": "tool_use", "name": "f"}]}]}, "tool_calls"),
        ({"messages": [Q, A | {"weight": 0}]}, "no_reply"),
    ],
)  # fmt: skip
def test_what_would_teach_something_else_is_set_aside_by_name(tmp_path, record, reason):
    card = made(tmp_path, "a.jsonl", lines([{"text": "да"}, record]))
    assert (said(card), card["reasons"]) == (["да"], {reason: 1})


def test_a_good_kto_reply_is_a_chat_and_tools_are_counted(tmp_path):
    records = [{"prompt": "q", "completion": "a", "label": True}, {"messages": [Q, B], "tools": [{"type": "function"}]}]
    card = made(tmp_path, "a.jsonl", lines(records))
    assert rows_of(card) == [{"messages": [Q, A], "label": True}, {"messages": [Q, B]}]
    assert (card["kind"], card["judged"], card["repairs"]) == ("chat", 1, {"tools_dropped": 1})


@pytest.mark.parametrize(
    "records",
    [
        [{"prompt": "q", "completion": "a", "label": True}, {"prompt": "q", "completion": "b", "label": False}],
        [{"prompt": [Q], "completion": [A], "label": True}, {"prompt": [Q], "completion": [B], "label": False}],
        [{"prompt": "q", "completion": said, "label": label} for said, label in (("a", 1), ("b", 0))],
        [{"messages": [Q, A], "label": "true"}, {"messages": [Q, B], "label": "false"}],
        [
            {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": said}], "kto_tag": label}
            for said, label in (("a", True), ("b", False))
        ],
    ],
)
def test_replies_that_were_judged_one_by_one_keep_their_labels(tmp_path, records):
    """One that was disliked is learned by no chat: its weight is 0. Exported and read again it is the same row."""
    card = made(tmp_path, "a.jsonl", lines(records))
    wanted = [{"messages": [Q, A], "label": True}, {"messages": [Q, B | {"weight": 0}], "label": False}]
    assert (card["kind"], card["judged"], rows_of(card)) == ("judged", 2, wanted)
    assert [corpus_rows.row_id(row) for row in wanted] == [row["id"] for row in corpus.rows(card["id"])]
    for form, suffix in (("jsonl", "jsonl"), ("messages", "jsonl"), ("parquet", "parquet")):
        out = tmp_path / f"out-{form}.{suffix}"
        export.export(paths.corpus(card["id"]), form, out)
        again = importer.create([out], f"again-{form}")
        assert (again["kind"], rows_of(again)) == ("judged", wanted), form


def test_two_disliked_replies_to_a_question_are_no_copies():
    rows = [
        {"messages": [Q, {"role": "assistant", "content": said, "weight": 0}], "label": False}
        for said in ("the sea is loud", "nobody knows the way home")
    ]
    assert [duplicates.said(row).reply for row in rows] == ["the sea is loud", "nobody knows the way home"]
    assert not duplicates.find(map(duplicates.said, rows)).kind.any()


def test_a_reply_of_weight_0_is_kept_and_not_learned(tmp_path):
    model = tiny_tokenizers.build(tmp_path / "model", "chatml")
    turns = [Q, A | {"weight": 0}, {"role": "user", "content": "again"}, B | {"weight": 1}]
    card = made(tmp_path, "a.jsonl", lines([{"messages": turns}]))
    row = corpus.rows(card["id"])[0]
    assert row["messages"] == [Q, A | {"weight": 0}, turns[2], B]
    from transformers import AutoTokenizer

    encoded = encoding.encode(row, AutoTokenizer.from_pretrained(model))
    learned = [span for span, label in zip(encoded["spans"], encoded["labels"], strict=True) if label != -100]
    text = "".join(encoded["text"][start:end] for start, end in learned)
    assert text.startswith("b")
    assert "a<" not in text


def test_thoughts_stand_before_the_reply_and_are_counted(tmp_path):
    records = [
        {"messages": [Q, {"role": "assistant", "reasoning_content": "r", "content": "a"}]},
        {"messages": [Q, {"role": "assistant", "content": [{"type": "thinking", "thinking": "r"}, {"type": "text", "text": "a"}]}]},
        {"question": "q", "reasoning": "r", "answer": "a"},
    ]  # fmt: skip
    card = made(tmp_path, "a.jsonl", lines(records))
    assert said(card) == [[("user", "q"), ("assistant", "<think>\nr\n</think>\n\na")]] * 3
    assert card["repairs"] == {"thoughts_kept": 3}


def test_pairs_are_exported_for_trl_and_a_run_on_them_is_refused(tmp_path):
    card = made(tmp_path, "a.jsonl", lines([{"prompt": f"q{at}", "chosen": "a", "rejected": "b"} for at in range(20)]))
    out = tmp_path / "out.jsonl"
    export.export(corpus.directory(card["id"]), "preference", out)
    first = json.loads(out.read_text("utf-8").splitlines()[0])
    assert first == {"prompt": messages([("user", "q0")]), "chosen": [A], "rejected": [B]}
    with raises("RowsDoNotFit", match="it is a preference pair"):
        export.export(corpus.directory(card["id"]), "messages", tmp_path / "b.jsonl")
    with raises("PreferencePairs", match=r"holds preference pairs \(20\)"):
        runs.check_corpus(TrainConfig(base_model="m", corpus=card["id"]))
    chosen = Options(mapping={"schema": "pair", "ask": ["prompt"], "answer": "chosen"})
    assert rows_of(corpus.create([tmp_path / "a.jsonl"], "chats", options=chosen))[0] == {
        "messages": [Q | {"content": "q0"}, A],
        "fields": {"rejected": "b"},
    }


def chat_of(card):
    return [(row["messages"], row.get("fields", {}).get("learn_as")) for row in corpus.rows(card["id"], 0, 1000)]


WHATSAPP = {
    "android_ru.txt": (
        "12.02.25, 14:22 - Сообщения и звонки защищены сквозным шифрованием.\n12.02.25, 14:23 - Мама: Ты где?\n"
        "12.02.25, 14:25 - Петя: Еду домой\nбуду: через час\n12.02.25, 14:26 - Мама: <Без медиафайлов>\n"
        "13.02.25, 14:27 - Мама: Купи хлеба\n13.02.25, 14:30 - Петя: Хорошо <Сообщение изменено>\n"
    ),
    "android_en.txt": (
        "2/12/25, 2:22\u202fPM - Messages and calls are end-to-end encrypted.\n2/12/25, 2:23\u202fPM - Мама: Ты где?\n"
        "2/12/25, 2:25\u202fPM - Петя: Еду домой\nбуду: через час\n2/12/25, 2:26\u202fPM - Мама: <Media omitted>\n"
        "2/13/25, 2:27\u202fPM - Мама: Купи хлеба\n2/13/25, 2:30\u202fPM - Петя: Хорошо\n"
    ),
    "_chat_en.txt": (
        "[12/02/2025, 14:22:01] Мама: \u200eMessages and calls are end-to-end encrypted.\r\n"
        "[12/02/2025, 14:23:01] Мама: Ты где?\r\n[12/02/2025, 14:25:59] ~\u202fПетя: Еду домой\r\nбуду: через час\r\n"
        "\u200e[12/02/2025, 14:26:00] Мама: \u200eimage omitted\r\n[13/02/2025, 14:27:00] Мама: Купи хлеба\r\n"
        "[13/02/2025, 14:30:00] ~\u202fПетя: Хорошо\r\n"
    ),
    "_chat_ru.txt": (
        "[12.02.2025, 14:22:01] Мама: \u200eСообщения и звонки защищены сквозным шифрованием.\n"
        "[12.02.2025, 14:23:01] Мама: Ты где?\n[12.02.2025, 14:25:59] Петя: Еду домой\nбуду: через час\n"
        "\u200e[12.02.2025, 14:26:00] Мама: \u200e<прикреплено: 00000012-PHOTO-2025-02-12-14-26-00.jpg>\n"
        "[13.02.2025, 14:27:00] Мама: Купи хлеба\n[13.02.2025, 14:30:00] Петя: Хорошо\n"
    ),
}


@pytest.mark.parametrize("name", WHATSAPP)
def test_a_whatsapp_chat_learns_to_be_one_of_its_people(tmp_path, name):
    card = made(tmp_path, name, WHATSAPP[name])
    days = [["Ты где?", "Еду домой\nбуду: через час"], ["Купи хлеба", "Хорошо"]]
    assert chat_of(card) == [(messages([("user", asked), ("assistant", said_)]), "Петя") for asked, said_ in days]
    assert (card["repairs"], card["learned_as"]) == ({"service_dropped": 1, "media_dropped": 1}, {"Петя": 2})
    card = made(tmp_path, name, WHATSAPP[name], me="Мама")
    assert [[turn["content"] for turn in turns] for turns, _ in chat_of(card)] == [["Ты где?"], ["Купи хлеба"]]
    card = corpus.look([tmp_path / name])
    assert (card["speakers"], card["files"][0]["format"]) == (["Мама", "Петя"], "whatsapp")
    assert "The model learns to write like: Петя" in corpora_html.look(Say("en"), card)


def test_telegram_discord_and_vk_chats_are_read_in_their_old_and_new_schemas(tmp_path):
    def telegram(who, text, at, **more):
        return {"id": at, "type": "message", "date": f"2020-01-01T10:00:0{at}", "text": text, **more} | who

    anya, borya = {"from": "Аня", "from_id": 4321}, {"from": "Боря", "from_id": 1234}
    old = {"personal_information": {"user_id": 1234}, "chats": {"about": "", "list": [{"name": "Аня", "messages": [
        telegram(anya, ["q ", {"type": "bold", "text": "b"}], 1), telegram(anya, "", 2, media_type="sticker"),
        telegram(borya, "a", 3),
    ]}]}}  # fmt: skip
    expected = [([("user", "q b"), ("assistant", "a")], "Боря")]
    card = made(tmp_path, "result.json", json.dumps(old))
    assert [([(t["role"], t["content"]) for t in turns], name) for turns, name in chat_of(card)] == expected
    assert card["repairs"] == {"media_dropped": 1}
    text = [{"type": "plain", "text": "q "}, {"type": "bold", "text": "b"}]
    new = {"name": "Аня", "type": "personal_chat", "id": 4321, "messages": [
        telegram({"from": "Аня", "from_id": "user4321"}, ["q ", text[1]], 1, date_unixtime="1577862001", text_entities=text),
        telegram({"from": "Боря", "from_id": "user1234"}, "a", 2, date_unixtime="1577862002", text_entities=[]),
    ]}  # fmt: skip
    card = made(tmp_path, "new.json", json.dumps(new))
    assert [([(t["role"], t["content"]) for t in turns], name) for turns, name in chat_of(card)] == expected

    def discord(who, nickname, content, kind="Default", **more):
        author = {"id": str(len(who)), "name": who, "discriminator": "0000", "nickname": nickname, "isBot": False}
        return {"id": "1", "type": kind, "timestamp": "2025-01-01T10:00:00.123+00:00", "content": content} | {
            "author": author, **more}  # fmt: skip

    log = [discord("anya", "Аня", "", "GuildMemberJoin"), discord("anya", "Аня", "q b"),
           discord("anya", "Аня", "", attachments=[{"url": "x"}]), discord("borya", "Боря", "a", "Reply")]  # fmt: skip
    export_ = {
        "guild": {"id": "1"},
        "channel": {"id": "2", "type": "DirectTextChat"},
        "messages": log,
        "messageCount": 4,
    }
    card = made(tmp_path, "discord.json", json.dumps(export_), me="borya")
    assert [([(t["role"], t["content"]) for t in turns], name) for turns, name in chat_of(card)] == [
        ([("user", "q b"), ("assistant", "a")], "borya")
    ]
    assert card["repairs"] == {"service_dropped": 1, "media_dropped": 1}

    def vk(header, text, number):
        return f'<div class="item"><div class="item__main"><div class="message" data-id="{number}"><div class="message__header">{header}</div><div>{text}</div></div></div></div>'  # fmt: skip

    link = '<a href="https://vk.com/id5">Аня Б</a>, '
    photo = (
        '<div class="kludges"><div class="attachment"><div class="attachment__description">Фотография</div></div></div>'
    )
    page = "<html><head><meta charset=windows-1251></head><body>" + "".join([
        vk("Вы, 3 мая 2020 в 10:00:00", "позже", 5), vk("Вы, 1 мая 2020 в 10:00:03", "a", 3),
        vk(link + "1 мая 2020 в 10:00:02", photo, 2), vk(link + "1 мая 2020 в 10:00:01", "q<br>b" + photo, 1),
    ])  # fmt: skip
    card = made(tmp_path, "messages0.html", page.encode("cp1251"))
    assert [([(t["role"], t["content"]) for t in turns], name) for turns, name in chat_of(card)] == [
        ([("user", "q\nb"), ("assistant", "a")], "Вы"), ([("assistant", "позже")], "Вы"),
    ]  # fmt: skip
    assert (card["repairs"], card["encodings"]) == ({"media_dropped": 1}, {"cp1251": 1})


def test_a_page_of_telegram_is_a_chat(tmp_path):
    def message(body, kind="default clearfix"):
        return f'<div class="message {kind}" id="message1"><div class="body">{body}</div></div>'

    def date(minute):
        return f'<div class="pull_right date details" title="01.05.2020 10:0{minute}:00 UTC+03:00">10:0{minute}</div>'

    page = '<!DOCTYPE html><html><body><div class="page_body chat_page"><div class="history">' + "".join([
        message('<div class="body details">1 May 2020</div>', "service"),
        message(date(1) + '<div class="from_name">Аня </div><div class="text">q<br>b</div>'),
        message(date(2) + '<div class="media_wrap clearfix"><div class="title bold">Photo</div></div>', "default joined"),
        message(date(3) + '<div class="from_name">Боря</div><div class="reply_to details">In reply</div><div class="text">a</div>'),
    ])  # fmt: skip
    card = made(tmp_path, "messages.html", page)
    assert [([(t["role"], t["content"]) for t in turns], name) for turns, name in chat_of(card)] == [
        ([("user", "q\nb"), ("assistant", "a")], "Боря")
    ]
    assert card["repairs"] == {"service_dropped": 1, "media_dropped": 1}


THOUGHT = "<think>\nr\n</think>\n\na"
EXPORTS = {
    "open_webui.json": [{
        "id": "1", "title": "t", "chat": {"title": "t", "params": {"system": "s"}, "history": {"currentId": "3", "messages": {
            "1": {"id": "1", "parentId": None, "childrenIds": ["2", "3"], "role": "user", "content": "q"},
            "2": {"id": "2", "parentId": "1", "childrenIds": [], "role": "assistant", "content": "old"},
            "3": {"id": "3", "parentId": "1", "childrenIds": [], "role": "assistant", "content":
                  '<details type="reasoning" done="true" duration="1">\n<summary>Thought for 1 second</summary>\n> r\n</details>\na'},
        }}},
    }],
    "1.conversation.json": {"name": "t", "systemPrompt": "s", "messages": [
        {"versions": [{"type": "singleStep", "role": "user", "content": [{"type": "text", "text": "q"}]}], "currentlySelected": 0},
        {"currentlySelected": 1, "versions": [
            {"type": "multiStep", "role": "assistant", "steps": [{"type": "contentBlock", "content": [{"type": "text", "text": "old"}]}]},
            {"type": "multiStep", "role": "assistant", "steps": [
                {"type": "contentBlock", "style": {"type": "thinking", "ended": True}, "content": [{"type": "text", "text": "r"}]},
                {"type": "contentBlock", "content": [{"type": "text", "text": "a"}]},
                {"type": "debugInfoBlock", "debugInfo": "x"},
            ]},
        ]},
    ]},
    "librechat.json": {"conversationId": "c", "title": "t", "options": {"promptPrefix": "s"}, "recursive": True, "messages": [
        {"messageId": "1", "parentMessageId": "00000000-0000-0000-0000-000000000000", "text": "q", "isCreatedByUser": True, "children": [
            {"messageId": "2", "parentMessageId": "1", "text": "old", "isCreatedByUser": False, "children": []},
            {"messageId": "3", "parentMessageId": "1", "text": "", "isCreatedByUser": False, "children": [],
             "content": [{"type": "think", "think": "r"}, {"type": "text", "text": "a"}]},
        ]},
    ]},
    "librechat_flat.json": {"conversationId": "c", "title": "t", "options": {"promptPrefix": "s"}, "messages": [
        {"messageId": "1", "parentMessageId": "00000000-0000-0000-0000-000000000000", "text": "q", "isCreatedByUser": True},
        {"messageId": "2", "parentMessageId": "1", "text": "old", "isCreatedByUser": False},
        {"messageId": "3", "parentMessageId": "1", "isCreatedByUser": False,
         "content": [{"type": "think", "think": "r"}, {"type": "text", "text": {"value": "a"}}]},
    ]},
}  # fmt: skip


@pytest.mark.parametrize("name", EXPORTS)
def test_a_chat_of_a_program_is_the_branch_that_was_seen_last(tmp_path, name):
    card = made(tmp_path, name, json.dumps(EXPORTS[name]))
    assert rows_of(card) == [
        {"messages": messages([("system", "s"), ("user", "q"), ("assistant", THOUGHT)]), "fields": {"title": "t"}}
    ]
    assert card["repairs"] == {"branches_dropped": 1, "thoughts_kept": 1}


def test_stories_tasks_and_histories_of_programs_are_read(tmp_path):
    tags = {"opmode": 4, "instruct_starttag": "{{[INPUT]}}", "instruct_endtag": "{{[OUTPUT]}}"}
    lite = {
        "gamestarted": True,
        "prompt": "s\n{{[INPUT]}}q",
        "memory": "",
        "actions": ["{{[OUTPUT]}}a", "{{[INPUT]}}q2{{[OUTPUT]}}", "b"],
    }
    talk = {"opmode": 3, "chatname": "Петя", "chatopponent": "Алиса||$||Боб"}
    activity = {
        "header": "Gemini Apps",
        "title": "Prompted q",
        "time": "2026-03-02T09:15:00Z",
        "products": ["Gemini Apps"],
    }
    run = {"v": 1, "model_type": "task_run", "input": "q", "output": {"output": "bad", "rating": {"value": 1}},
           "repaired_output": {"output": "a"}, "intermediate_outputs": {"reasoning": "r"}}  # fmt: skip
    texts = {
        "internal": [["<|BEGIN-VISIBLE-CHAT|>", "hi"], ["q", "a"]],
        "visible": [["", "hi"], ["q", "a"]],
        "metadata": {},
    }
    for name, value, turns in (
        ("lite.json", lite | {"savedsettings": tags}, [("system", "s"), ("user", "q"), ("assistant", "a"), ("user", "q2"), ("assistant", "b")]),
        ("talk.json", {"gamestarted": True, "prompt": "Петя: q", "actions": ["\nАлиса: a\nБоб: b", "\nПетя: q2\n", "Боб: c"], "savedsettings": talk},
         [("user", "q"), ("assistant", "a\n\nb"), ("user", "q2"), ("assistant", "c")]),
        ("gemini.json", [activity | {"safeHtmlItem": [{"html": "<p>a</p><ul><li>b</li></ul>"}]}], [("user", "q"), ("assistant", "a\n\n- b")]),
        ("task_run.kiln", run, [("user", "q"), ("assistant", THOUGHT)]),
        ("textgen.json", texts, [("assistant", "hi"), ("user", "q"), ("assistant", "a")]),
    ):  # fmt: skip
        assert said(made(tmp_path, name, json.dumps(value))) == [turns], name
    story = {
        "gamestarted": True,
        "prompt": "Once",
        "memory": "",
        "authorsnote": "",
        "actions": [" upon", " a time."],
        "worldinfo": [],
    }
    assert said(made(tmp_path, "story.json", json.dumps(story))) == ["Once upon a time."]
    card = made(
        tmp_path,
        "MyActivity.json",
        json.dumps([activity | {"title": "Used Gemini Apps"}, *[activity | {"safeHtmlItem": [{"html": "a"}]}]]),
    )
    assert (said(card), card["reasons"]) == ([[("user", "q"), ("assistant", "a")]], {"empty_chat": 1})
    tavern = [{"user_name": "П", "character_name": "А", "create_date": "x", "chat_metadata": {}},
              {"name": "П", "is_user": True, "is_system": False, "mes": "q", "extra": {}}, {"name": "S", "is_system": True, "mes": "hidden"},
              {"name": "А", "is_user": False, "mes": "a", "swipes": ["old", "a"], "swipe_id": 1, "extra": {"reasoning": "r"}}]  # fmt: skip
    card = made(tmp_path, "А - 2025.jsonl", lines(tavern))
    assert rows_of(card) == [{"messages": messages([("user", "q"), ("assistant", THOUGHT)]), "fields": {"title": "А"}}]
    assert card["repairs"] == {"service_dropped": 1, "branches_dropped": 1, "thoughts_kept": 1}


def chatgpt(*turns):
    """An export of one conversation: each turn a role and its content."""
    mapping = {"0": {"id": "0", "parent": None, "children": ["1"], "message": None}}
    for at, (role, kind, parts) in enumerate(turns, 1):
        content = {"content_type": kind, "parts": parts}
        message = {"author": {"role": role}, "content": content, "recipient": "all", "metadata": {}}
        mapping[str(at)] = {"id": str(at), "parent": str(at - 1), "children": [str(at + 1)], "message": message}
    return json.dumps([{"title": "t", "current_node": str(len(turns)), "mapping": mapping}])


def test_voices_of_chatgpt_are_kept_and_questions_about_pictures_are_not(tmp_path):
    voice = [{"content_type": "audio_asset_pointer", "asset_pointer": "sediment://1"}]
    picture = [{"content_type": "image_asset_pointer", "asset_pointer": "file-service://x"}, "что на фото?"]
    data = chatgpt(
        ("user", "multimodal_text", [{"content_type": "audio_transcription", "text": "q"}, *voice]),
        ("assistant", "thoughts", []),
        ("assistant", "multimodal_text", [{"content_type": "audio_transcription", "text": "a"}, *voice]),
        ("user", "multimodal_text", picture),
        ("assistant", "text", ["кот"]),
        ("user", "text", ["q2"]),
        ("tool", "execution_output", ["x"]),
        ("assistant", "text", ["b"]),
    )
    card = made(tmp_path, "conversations.json", data)
    assert said(card) == [[("user", "q"), ("assistant", "a"), ("user", "q2"), ("assistant", "b")]]
    assert card["repairs"] == {"thoughts_dropped": 1, "media_dropped": 1, "tools_dropped": 1}


def test_a_claude_export_is_the_branch_that_was_seen_last(tmp_path):
    def message(uuid, parent, sender, text, at, **more):
        content = [{"type": "text", "text": text}]
        return {"uuid": uuid, "parent_message_uuid": parent, "sender": sender, "text": text, "content": content,
                "created_at": f"2026-01-01T00:00:0{at}Z", "attachments": [], "files": [], **more}  # fmt: skip

    root = "00000000-0000-4000-8000-000000000000"
    chat = [message("1", root, "human", "old", 1), message("2", "1", "assistant", "x", 2),
            message("3", root, "human", "q", 3, attachments=[{"file_name": "a.txt", "extracted_content": "pasted"}]),
            message("4", "3", "assistant", "first", 4), message("5", "3", "assistant", "a", 5)]  # fmt: skip
    export_ = {"uuid": "c", "name": "t", "chat_messages": chat}
    card = made(tmp_path, "conversations.json", json.dumps([export_]))
    assert said(card) == [[("user", "q\n\npasted"), ("assistant", "a")]]
    assert card["repairs"] == {"branches_dropped": 3}
    card = made(tmp_path, "leaf.json", json.dumps([export_ | {"current_leaf_message_uuid": "4"}]))
    assert said(card) == [[("user", "q\n\npasted"), ("assistant", "first")]]


def test_the_companions_of_an_export_are_no_rows(tmp_path):
    folder = tmp_path / "export"
    folder.mkdir()
    for name, text in (
        ("conversations-000.json", chatgpt(("user", "text", ["q"]), ("assistant", "text", ["a"]))),
        ("user.json", '{"id": "user-1", "email": "ivan@example.org"}'), ("chat.html", "<html><body>q a</body></html>"),
        ("message_feedback.json", '[{"id": "1", "rating": "thumbsUp", "content": "{}"}]'),
    ):  # fmt: skip
        (folder / name).write_text(text, "utf-8")
    card = corpus.create([folder], "x")
    assert (said(card), card["reasons"]) == ([[("user", "q"), ("assistant", "a")]], {"describes_others": 3})


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.csv", "c_id,role,message\n0,user,q\n1,user,q2\n0,assistant,a\n1,assistant,b\n"),
        ("order.csv", "диалог;turn;роль;текст\n0;2;assistant;a\n0;1;user;q\n1;1;user;q2\n1;2;assistant;b\n"),
        ("a.jsonl", lines([{"conversation_id": at // 2, "role": ("user", "bot")[at % 2], "text": text} for at, text in enumerate(("q", "a", "q2", "b"))])),
        ("oasst.jsonl", lines([
            {"message_id": id, "parent_id": parent, "message_tree_id": tree, "role": role, "text": text, "rank": rank}
            for id, parent, tree, role, text, rank in (
                ("1", None, "1", "prompter", "q", None), ("2", "1", "1", "assistant", "worse", 1),
                ("3", "1", "1", "assistant", "a", 0), ("4", None, "4", "prompter", "q2", None), ("5", "4", "4", "assistant", "b", 0),
            )])),
    ],
)  # fmt: skip
def test_rows_of_one_turn_become_conversations(tmp_path, name, data):
    card = made(tmp_path, name, data)
    assert said(card) == [[("user", "q"), ("assistant", "a")], [("user", "q2"), ("assistant", "b")]]
    assert card["repairs"] == ({"branches_dropped": 1} if name == "oasst.jsonl" else {})


def test_a_table_of_authors_and_texts_is_no_chat(tmp_path):
    card = made(tmp_path, "a.csv", "author,text\nПушкин,Мороз и солнце\nФет,Шёпот\n")
    assert said(card) == ["Мороз и солнце", "Шёпот"]


def test_what_is_not_known_comes_with_the_choices_that_would_make_rows(tmp_path):
    records = [
        {"Кто спросил": "Аня", "Реплика": "Как дела у тебя?", "Ответная": f"Хорошо, спасибо {at}", "n": at}
        for at in range(4)
    ]
    file = tmp_path / "a.jsonl"
    file.write_text(lines(records), "utf-8")
    seen = corpus.look([file])
    pair = {"schema": "pair", "ask": ["Реплика"], "answer": "Ответная"}
    assert seen["rows"] == []
    assert seen["suggestions"] == [
        {"mapping": pair, "rows": 4}, {"mapping": {"schema": "text", "text": "Ответная"}, "rows": 4},
    ]  # fmt: skip
    shown = corpora_html.look(Say("ru"), seen)
    assert "«Вопрос и ответ», столбцы Реплика → Ответная: из первых записей вышло бы строк: 4." in shown
    assert made(tmp_path, "a.jsonl", lines(records), mapping=pair)["rows_kept"] == 4
    chats = [
        {
            "id": 1,
            "log": [{"who": "Гость", "role": "Гость", "text": "q"}, {"role": "Мастер", "text": "a"}],
            "a": "b",
            "c": "d",
        }
    ]
    file.write_text(lines(chats), "utf-8")
    assert corpus.look([file])["suggestions"][0] == {"mapping": {"schema": "messages", "messages": "log"}, "rows": 1}


def test_a_file_that_is_no_text_says_what_it_looks_like(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    for name, head in (
        ("a.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
        ("a.rar", b"Rar!\x1a\x07"),
        ("a.png", b"\x89PNG"),
        ("a.db", b"SQLite format 3\x00"),
        ("a.bin", b"\x01\x02"),
    ):
        (folder / name).write_bytes(head + bytes(100))
    (folder / "a.txt").write_text("да", "utf-8")
    card = corpus.create([folder], "x")
    assert said(card) == ["да"]
    assert card["reasons"] == {"unknown_format": 1, "database": 1, "old_office": 1, "media_file": 1, "other_archive": 1}


@pytest.mark.parametrize(
    "record",
    [
        {"systemInstruction": {"role": "system", "parts": [{"text": "s"}]}, "contents": [{"role": "user", "parts": [{"text": "q"}]}, {"role": "model", "parts": [{"text": "a"}]}]},
        {"system": "s", "conversation": [["q", "a"]]},
        {"system": "s", "conversations": {"from": ["human", "gpt"], "value": ["q", "a"]}},
        {"system": "s", "messages": [None, Q, {"role": "assistant", "content": None, "audio": {"id": "x", "transcript": "a"}}]},
        {"system": "s", "history": [], "query": "q", "response": "a"},
    ],
)  # fmt: skip
def test_turns_in_other_shapes_are_the_same_turns(tmp_path, record):
    assert said(made(tmp_path, "a.jsonl", lines([record]))) == [[("system", "s"), ("user", "q"), ("assistant", "a")]]


def test_tokens_of_a_pair_are_those_of_its_chosen_reply(tmp_path):
    model = str(tiny_tokenizers.build(tmp_path / "model", "chatml"))
    loaded = tokenizer.load(model)
    shown = preview.tokens({"id": "x"} | PAIR, loaded, max_length=100)
    assert shown == preview.tokens({"messages": [Q, A]}, loaded, max_length=100)
    assert shown["learned"] > 0


def test_questions_about_files_and_their_replies_are_left_out(tmp_path):
    def version(role, *content):
        return {"versions": [{"type": "singleStep", "role": role, "content": list(content)}], "currentlySelected": 0}

    file, text = {"type": "file", "fileIdentifier": "x.png", "fileType": "image"}, {"type": "text", "text": "q"}
    chat = [
        version("user", text, file),
        version("assistant", {"type": "text", "text": "cat"}),
        version("user", text),
        version("assistant", {"type": "text", "text": "a"}),
    ]
    card = made(tmp_path, "a.conversation.json", json.dumps({"name": "", "messages": chat}))
    assert (said(card), card["repairs"]) == ([[("user", "q"), ("assistant", "a")]], {"media_dropped": 1})
    card = made(tmp_path, "both.json", json.dumps([{"name": "", "messages": chat}, {"name": "", "messages": chat[:2]}]))
    assert card["reasons"] == {"part_without_text": 1}


def test_a_program_is_nobody_whom_a_model_learns_to_be_unasked(tmp_path):
    def message(name, bot):
        return {
            "type": "Default",
            "timestamp": "2025-01-01T10:00:00Z",
            "content": name,
            "author": {"id": name, "name": name, "isBot": bot},
        }

    log = [message("Аня", False), *[message("MEE6", True)] * 3, message("Боря", False)]
    value = {"guild": {}, "channel": {"id": "1"}, "messages": log, "messageCount": 5}
    assert made(tmp_path, "a.json", json.dumps(value))["learned_as"] == {"Боря": 1}
    assert made(tmp_path, "b.json", json.dumps(value), me="MEE6")["learned_as"] == {"MEE6": 1}
