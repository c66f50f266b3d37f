"""Exports of messengers and programs in more of their versions, and archives that are cut off."""

import bz2
import io
import json
import lzma
import random
import tarfile
import zipfile

import pytest

from core.corpus import corpus
from tests.test_corpus_formats import lines, made, packed_parquet, said
from tests.test_corpus_importers import rows_of

TALK = [("user", "привет"), ("assistant", "ты где?"), ("user", "дома\nсижу"), ("assistant", "ок")]
MEANING = [("А", "привет"), ("Б", "ты где?"), ("А", "дома\nсижу"), ("Б", "ок")]


def whatsapp(line, words=MEANING):
    return "".join(line.format(minute=at, name=name, said=text) + "\n" for at, (name, text) in enumerate(words))


def discord_text():
    rule = "=" * 62 + "\n"
    said = "".join(f"[05-Jan-24 12:0{at} PM] {name}#1234\n{text}\n\n" for at, (name, text) in enumerate(MEANING))
    media = "[05-Jan-24 12:05 PM] А\n\n{Attachments}\nhttps://x/y.png\n\n"
    return (
        f"{rule}Guild: Direct Messages\nChannel: Private / Б\n{rule}\n{said}{media}{rule}Exported 5 message(s)\n{rule}"
    )


def discord_table():
    rows = "".join(
        f'"{ord(name)}","{name}#0000","2024-01-05T12:0{at}:00.1230000+03:00","{text}","",""\n'
        for at, (name, text) in enumerate(MEANING)
    )
    return "AuthorID,Author,Date,Content,Attachments,Reactions\n" + rows


def discord_page():
    groups = "".join(
        f"<div class=chatlog__message-group><div id=c{at} class='chatlog__message-container '><div class=chatlog__message>"
        f"<div class=chatlog__reply><div class=chatlog__reply-content>чужое</div></div>"
        f"<div class=chatlog__header><span class=chatlog__author title=x data-user-id={ord(name)}>{name}</span></div>"
        f"<div class='chatlog__content chatlog__markdown'>{text.replace(chr(10), '<br>')}</div></div></div></div>"
        for at, (name, text) in enumerate(MEANING)
    )
    return f"<!DOCTYPE html><html><body><div class=preamble>Сервер</div><div class=chatlog>{groups}</div></body></html>"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("us.txt", whatsapp("12/31/23, 9:0{minute} PM - {name}: {said}")),
        ("nbsp.txt", whatsapp("12/31/23, 9:0{minute}\u202fPM - {name}: {said}")),
        ("pt.txt", whatsapp("05/01/2024 12:0{minute} - {name}: {said}")),
        ("fi.txt", whatsapp("[12.3.2022 klo 14.0{minute}.18] {name}: {said}")),
        ("fr.txt", whatsapp("05/01/2024 à 12:0{minute} - {name}: {said}")),
        ("hu.txt", whatsapp("2024. 01. 05. 12:0{minute} - {name}: {said}".replace(". ", ".", 2))),
        ("chat.txt", discord_text()), ("chat.csv", discord_table()), ("chat.html", discord_page()),
    ],
)  # fmt: skip
def test_a_chat_is_the_same_in_each_version_of_its_export(tmp_path, name, data):
    assert said(made(tmp_path, name, data, me="Б")) == [TALK]


def test_notes_of_a_group_and_marks_of_media_are_no_words(tmp_path):
    noise = [
        ("А", "<Medien ausgeschlossen>"),
        ("А", "location: https://maps.google.com/?q=1,2"),
        ("Б", "POLL:\nЧто?\nOPTION: да"),
    ]
    log = whatsapp("1/5/24, 12:0{minute} - {name}: {said}", [*MEANING, *noise])
    log += '1/5/24, 12:09 - А changed the subject from "Б: раз" to "два"\n'
    card = made(tmp_path, "chat.txt", log, me="Б")
    assert (said(card), card["repairs"]) == ([TALK], {"media_dropped": 3, "service_dropped": 1})


def telegram(kind, words, **more):
    messages = [
        {"type": "message", "from": name, "from_id": f"user{ord(name)}", "date_unixtime": str(at), "text": text} | more
        for at, (name, text) in enumerate(words)
    ]
    return {"name": "К", "type": kind, "messages": messages}


def test_posts_of_a_channel_are_texts_forwards_are_not_the_speakers_words_and_left_chats_are_read(tmp_path):
    card = made(
        tmp_path, "channel.json", json.dumps(telegram("public_channel", [("К", "Раз"), ("К", ""), ("К", "Два")]))
    )
    assert (said(card), card["repairs"]) == (["Раз", "Два"], {"media_dropped": 1})
    chat = telegram("personal_chat", MEANING)
    chat["messages"].insert(1, chat["messages"][0] | {"text": "чужое", "forwarded_from": "К"})
    everything = {"chats": {"list": [chat]}, "left_chats": {"list": [telegram("private_group", MEANING[:2])]}}
    card = made(tmp_path, "result.json", json.dumps(everything), me="Б")
    assert (said(card), card["repairs"]) == ([TALK, TALK[:2]], {"forwards_dropped": 1})


def test_of_archives_of_messengers_only_the_messages_are_read(tmp_path):
    page = '<div class="message"><div class="message__header">{}, 5 янв 2024 в 12:0{}:10</div><div>{}</div></div>'
    vk = tmp_path / "vk" / "messages" / "11"
    vk.mkdir(parents=True)
    (vk / "messages0.html").write_text(page.format("Вы", 2, "да") + page.format("Аня", 1, "ты?"), "utf-8")
    for other in (vk.parent / "index-messages.html", tmp_path / "vk" / "index.html"):
        other.write_text("<html><body><p>Архив</p></body></html>", "utf-8")
    card = corpus.create([tmp_path / "vk"], "vk")
    assert (said(card), card["reasons"]) == ([[("user", "ты?"), ("assistant", "да")]], {"describes_others": 2})


def gemini(title, html, **more):
    return {"header": "Приложения Gemini", "time": "x", "title": title, "safeHtmlItem": [{"html": html}]} | more


def test_questions_to_gemini_with_one_address_are_one_talk(tmp_path):
    at = {"titleUrl": "https://gemini.google.com/app/d83053a82f419e50"}
    log = [gemini("Запрос: раз", "<p>два</p>"), gemini("Prompted q2", "b", **at), gemini("Prompted q", "a", **at)]
    log += [gemini("Prompted see", "a", attachedFiles=["a.pdf"]), gemini("Used Gemini Apps", "", safeHtmlItem=[])]
    card = made(tmp_path, "MyActivity.json", json.dumps(log))
    assert said(card) == [
        [("user", "раз"), ("assistant", "два")], [("user", "q"), ("assistant", "a"), ("user", "q2"), ("assistant", "b")],
    ]  # fmt: skip
    assert card["reasons"] == {"part_without_text": 1, "empty_chat": 1}
    cell = (
        '<div class="outer-cell mdl-cell"><p class="mdl-typography--title">{}<br></p><div class="content-cell mdl-typography--body-1">'
        '{}<br>1 июн. 2024 г., 10:00:00 MSK<br><p>Чай — <b>это</b> напиток.</p></div><div class="content-cell">Продукты</div></div>'
    )
    page = f"<html><body>{cell.format('Gemini Apps', 'Prompted&nbsp;Что такое чай?')}{cell.format('Поиск', 'Вы искали чай')}</body></html>"
    card = made(tmp_path, "MyActivity.html", page)
    assert (said(card), card["reasons"]) == (
        [[("user", "Что такое чай?"), ("assistant", "Чай — это напиток.")]],
        {"empty_chat": 1},
    )


def test_more_of_what_programs_at_home_write_is_read(tmp_path):
    mes = [("А", True, "Привет, {{char}}"), ("Серафина", False, "Привет, {{user}}"), ("Грог", False, "Хм")]
    group = lines({"name": name, "is_user": mine, "mes": text} for name, mine, text in mes)
    assert said(made(tmp_path, "group.jsonl", group)) == [
        [("user", "Привет, Серафина"), ("assistant", "Серафина: Привет, А\n\nГрог: Хм")]
    ]
    data = {
        "name": "Серафина",
        "description": "{{char}} хранит лес",
        "mes_example": "<START>\n{{user}}: q\n{{char}}: a\n<START>\n{{char}}: b",
    }
    card = made(tmp_path, "card.json", json.dumps({"spec": "chara_card_v2", "data": data}))
    about = ("system", "Серафина хранит лес")
    assert said(card) == [[about, ("user", "q"), ("assistant", "a")], [about, ("assistant", "b")]]
    (tmp_path / "нет").mkdir()
    (tmp_path / "нет" / "card.json").write_text(
        json.dumps({"spec": "chara_card_v3", "data": {"name": "Грог"}}), "utf-8"
    )
    (tmp_path / "нет" / "a.txt").write_text("Слова.", "utf-8")
    assert corpus.create([tmp_path / "нет"], "нет")["reasons"] == {"character_card": 1}
    step = {
        "versions": [{"type": "singleStep", "role": "user", "content": [{"type": "text", "text": "q"}]}],
        "currentlySelected": 0,
    }
    reply = {
        "versions": [
            {"role": "assistant", "steps": [{"type": "contentBlock", "content": [{"type": "text", "text": "a"}]}]}
        ]
    }
    settings = {"fields": [{"key": "llm.prediction.systemPrompt", "value": "s"}]}
    chat = {"name": "", "messages": [step, reply], "perChatPredictionConfig": settings}
    assert said(made(tmp_path, "1.conversation.json", json.dumps(chat))) == [
        [("system", "s"), ("user", "q"), ("assistant", "a")]
    ]
    story = {"gamestarted": True, "prompt": "Жил царь.", "actions": {"actions": {"0": {"Selected Text": " Умер."}}}}
    assert said(made(tmp_path, "story.json", json.dumps(story))) == ["Жил царь. Умер."]
    table = "sender,text,isCreatedByUser,messageId\nUser,q,true,1\nGPT-4,a,false,2\n"
    assert said(made(tmp_path, "libre.csv", table)) == [[("user", "q"), ("assistant", "a")]]


def test_a_turn_with_pictures_or_calls_is_named_and_nan_is_nothing(tmp_path):
    q, a = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
    rows = [
        {"messages": [q | {"images": ["x.png"]}, a]}, {"messages": [q, {"role": "function_call", "content": "{}"}, a]},
        {"text": float("nan")}, {"question": "q", "response_j": "a", "response_k": "b"},
    ]  # fmt: skip
    card = made(tmp_path, "a.jsonl", lines(rows))
    assert card["reasons"] == {"part_without_text": 1, "tool_calls": 1, "empty_text": 1}
    assert rows_of(card) == [{"messages": [q], "chosen": [a], "rejected": [{"role": "assistant", "content": "b"}]}]


def members():
    rng = random.Random(1)
    return [(f"{at}.jsonl", lines({"text": f"Строка {at} {n} {rng.random()}"} for n in range(60))) for at in range(4)]


def packed(form):
    out = io.BytesIO()
    if form == "zip" or form == "stored":
        method = zipfile.ZIP_DEFLATED if form == "zip" else zipfile.ZIP_STORED
        with zipfile.ZipFile(out, "w", method) as archive:
            for name, text in members():
                archive.writestr(name, text)
    elif form == "streamed":  # the sizes stand behind each member

        class Pipe(io.BytesIO):
            def seekable(self):
                return False

            def seek(self, *_):
                raise OSError

        out = Pipe()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in members():
                archive.writestr(name, text)
    else:
        with tarfile.open(fileobj=out, mode=form) as archive:
            for name, text in members():
                info = tarfile.TarInfo(name)
                info.size = len(text.encode())
                archive.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


@pytest.mark.parametrize("form", ["zip", "stored", "streamed", "w:", "w:gz", "w:bz2", "w:xz"])
def test_of_an_archive_that_is_cut_off_the_members_before_the_cut_are_kept(tmp_path, form):
    data = packed(form)
    texts = [json.loads(line)["text"] for _, text in members() for line in text.splitlines()]
    assert said(made(tmp_path, "whole.archive", data)) == texts
    if form in ("w:bz2", "w:xz"):  # blocks that are larger than this archive
        return
    card = made(tmp_path, "cut.archive", data[: len(data) * 6 // 10])
    kept = said(card)
    assert (kept == texts[: len(kept)], len(kept) > 100, "file_cut" in card["reasons"]) == (True, True, True)


def test_a_cut_document_is_no_rows_of_its_parts_and_cut_tables_give_their_rows(tmp_path):
    import pyarrow as pa

    office = io.BytesIO()
    with zipfile.ZipFile(office, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("word/document.xml", "<w:document><w:t>слова</w:t></w:document>" * 50)
    table = pa.table({"text": [f"Строка {at}" for at in range(4000)]})
    files = {"b.docx": office.getvalue()[:-90], "c.parquet": packed_parquet([{"text": "да"}] * 500)[:-100]}
    for name, writer in (("d.arrow", pa.ipc.new_stream), ("e.arrow", pa.ipc.new_file)):
        out = io.BytesIO()
        with writer(out, table.schema) as stream:
            stream.write_table(table, max_chunksize=1000)
        files[name] = out.getvalue()[: len(out.getvalue()) * 6 // 10]
    folder = tmp_path / "в"
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    card = corpus.create([folder], "в")
    assert card["reasons"] == {"file_cut": 2, "zip_damaged": 1, "parquet_cut": 1}
    assert said(card) == [f"Строка {at}" for at in range(2000)] * 2


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress])
def test_files_packed_by_bzip2_and_xz_are_read(tmp_path, pack):
    assert said(made(tmp_path, "a.packed", pack(lines([{"text": "да"}]).encode()) * 2)) == ["да"] * 2
