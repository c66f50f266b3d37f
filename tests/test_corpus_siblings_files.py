"""Notes, exports, archives, subtitles and pages as people have them: what was lost or falsely flagged in fresh ones."""

import json
import zipfile

import pytest

from core.corpus import checks, corpus, personal
from tests.test_corpus_formats import made, said
from tests.test_corpus_office import W, archive


@pytest.mark.parametrize(
    "text",
    [
        "# Cells\n\n```python\n# %% [markdown]\nx = 5 %% 2\n```",
        "# Cells\n\n~~~r\n# %% one\ny <- 7 %% 3\n# %% two\n~~~",
        "# R\n\nHere 5 %% 2 is 1, and 7 %% 3 is 1.",
        "# Сетка\n\nОсталось 50 %% от плана, было 70 %% от него.",
    ],
)
def test_percent_signs_of_code_and_of_divisions_are_no_comments(tmp_path, text):
    assert said(made(tmp_path, "a.md", text)) == [text]


def test_a_comment_behind_a_number_goes(tmp_path):
    assert said(made(tmp_path, "a.md", "# Сад\n\nПосадить 5 %%или шесть%% яблонь.")) == ["# Сад\n\nПосадить 5  яблонь."]


def chatgpt(*nodes, **more):
    """A conversation of (id, parent, role, parts, time) nodes."""
    mapping = {
        name: {"id": name, "parent": parent, "message": {"author": {"role": role}, "content": {"content_type": "multimodal_text", "parts": parts}, "create_time": time}}
        for name, parent, role, parts, time in nodes
    }  # fmt: skip
    return json.dumps([{"title": "t", "mapping": {"r": {"id": "r", "parent": None, "message": None}} | mapping} | more])


def test_a_reply_to_a_voice_without_words_is_no_part_of_the_reply_before(tmp_path):
    sound = {"content_type": "real_time_user_audio_video_asset_pointer", "audio_start_timestamp": 1.2}
    words = {"content_type": "audio_transcription", "text": "How long does rice take?", "direction": "in"}
    export = chatgpt(
        ("u", "r", "user", [words, sound], 1), ("a", "u", "assistant", ["Twenty minutes."], 2),
        ("v", "a", "user", [sound], 3), ("b", "v", "assistant", ["With the lid on, yes."], 4),
        current_node="b",
    )  # fmt: skip
    card = made(tmp_path, "a.json", export)
    assert said(card) == [[("user", "How long does rice take?"), ("assistant", "Twenty minutes.")]]


def test_of_a_chat_that_names_no_last_node_the_newest_branch_stays(tmp_path):
    export = chatgpt(
        ("v", "r", "user", ["new question"], 20.0), ("w", "v", "assistant", ["new reply"], 21.0),
        ("u", "r", "user", ["old question"], 10.0), ("a", "u", "assistant", ["old reply"], 11.0),
    )  # fmt: skip
    assert said(made(tmp_path, "a.json", export)) == [[("user", "new question"), ("assistant", "new reply")]]


def test_a_budget_of_tokens_is_no_lost_picture_of_claude(tmp_path):
    turns = [("human", "Вопрос", []), ("assistant", "Ответ", [{"type": "token_budget"}])]
    chat = {"chat_messages": [{"sender": who, "text": words, "content": [{"type": "text", "text": words}, *more]} for who, words, more in turns]}  # fmt: skip
    card = made(tmp_path, "a.json", json.dumps([chat]))
    assert (said(card), card["repairs"]) == ([[("user", "Вопрос"), ("assistant", "Ответ")]], {})


@pytest.mark.parametrize(
    ("name", "encoding"),
    [("café.txt", "cp437"), ("Größe.txt", "cp850"), ("Ёлка №1.txt", "cp866"), ("Щи да каша.txt", "cp1251")],
)
def test_names_in_an_archive_are_read_in_their_language(tmp_path, name, encoding):
    raw = name.encode(encoding)
    place = "x" * len(raw)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(place, "Снег лёг на поля.")
    data = (tmp_path / "a.zip").read_bytes().replace(place.encode(), raw)
    card = made(tmp_path, "b.zip", data)
    assert [row["source"]["file"] for row in corpus.rows(card["id"])] == [f"b.zip/{name}"]


@pytest.mark.parametrize("first", ["", "{1}{1}23.976\n"])
def test_cues_with_times_in_frames_are_words(tmp_path, first):
    data = first + "{25}{50}Ты где?\n{55}{75}{y:i}Дома,|в саду.\n{500}{560}Хорошо.\n"
    assert said(made(tmp_path, "a.sub", data)) == ["Ты где? Дома, в саду.\n\nХорошо."]


def test_the_contents_of_a_word_document_go(tmp_path):
    def paragraph(words, style):
        return f'<w:p><w:pPr><w:pStyle w:val="{style}"/></w:pPr><w:r><w:t>{words}</w:t></w:r></w:p>'

    rels = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    names = {"11": "toc 1", "1": "heading 1", "a": "Normal"}
    styles = "".join(f'<w:style w:type="paragraph" w:styleId="{key}"><w:name w:val="{name}"/></w:style>' for key, name in names.items())  # fmt: skip
    body = paragraph("Введение 3", "11") + paragraph("Введение", "1") + paragraph("Вода ушла.", "a")
    data = archive([
        ("[Content_Types].xml", '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>'),
        ("word/document.xml", f"<w:document {W}><w:body>{body}</w:body></w:document>"),
        ("word/_rels/document.xml.rels", f'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r1" Type="{rels}/styles" Target="styles.xml"/></Relationships>'),
        ("word/styles.xml", f"<w:styles {W}>{styles}</w:styles>"),
    ])  # fmt: skip
    assert said(made(tmp_path, "a.docx", data)) == ["# Введение\n\nВода ушла."]


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ('<ol start="7"><li value="9">девятый<li>десятый</ol>', "9. девятый\n10. десятый"),
        ('<div class="cookie-banner">Мы используем cookie.</div><p>Хлеб.</p>', "Хлеб."),
        ('<p>Хлеб.</p><div class="share">Поделиться: <a href=v>ВК</a> <a href=t>Telegram</a></div>', "Хлеб."),
        ('<div class="share"><p>The share of rye in the dough is a third.</p></div>', "The share of rye in the dough is a third."),
    ],
)  # fmt: skip
def test_a_page_keeps_its_numbers_and_loses_what_belongs_to_the_site(tmp_path, page, text):
    assert said(made(tmp_path, "a.html", f"<html><body>{page}</body></html>")) == [text]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("postgres://admin:S3cretPass@10.0.0.5/db", ["key"]),
        ("https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX", ["key"]),
        ("https://discord.com/api/webhooks/123456789012345678/" + "aB3_-" * 13, ["key"]),
        ("MTk4NjIyNDgzNDcxOTI1MjQ4.Cl2FMQ.ZnCjm1XVW7vRze4b7Cq4se7kKWs", ["key"]),
        ("ya29.a0AfH6SMBx1234567890abcdefghijklmnopqrstuv", ["key"]),
        ("xai-" + "AbC1" * 20, ["key"]),
        ("AccountName=x;AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr==;", ["key"]),
        ("пароль от почты: Qwerty12345", ["key"]),
        ("ivan.petrov [at] mail [dot] ru", ["email"]),
        ("телефон: 79161234567", ["phone"]),
        ("+49 (0)30 901820", ["phone"]),
        ("вид на жительство 82 1234567", ["passport"]),
        ("документ, удостоверяющий личность: 4510 654321", ["passport"]),
        ("postgres://user:password@localhost/db", []),
        ("http://localhost:8080/@vite/client", []),
        ("заказ 79161234567", []),
        ("Пароль на входе: спросить у сторожа", []),
        ("MainActivityFragmentBuilder.create.anotherVeryLongMethodNameHere_of_the_class_of_it", []),
    ],
)  # fmt: skip
def test_keys_and_documents_are_found_where_people_write_them(text, found):
    assert [kind for _, _, kind in personal.find(text)] == found


@pytest.mark.parametrize(
    "text", ["M" * 100_000, "M-" * 50_000, "://" * 30_000, "://a:1" * 20_000, "a@b [dot] " * 10_000]
)
def test_what_looks_like_the_begin_of_a_key_is_looked_through_at_once(text):
    assert personal.find(text) == []


@pytest.mark.parametrize(
    ("text", "refuses"),
    [
        ("К сожалению, я не могу ответить на ваш звонок, оставьте сообщение.", False),
        ("Прошу прощения, я не могу выполнить заказ к пятнице: нет ткани.", False),
        ("Извините, но я не могу написать письмо без очков, — сказал дед.", False),
        ("К сожалению, я не могу давать деньги в долг.", False),
        ("Простите, я не могу участвовать в разговоре: голос сел.", False),
        ("I'm sorry, but I cannot answer the phone right now.", False),
        ("I'm sorry but I can't write with my left hand, she said.", False),
        ("I must decline the invitation, with regret.", False),
        ("I cannot discuss this matter with the press, the mayor said.", False),
        ("Я не могу помочь с созданием вредоносного ПО.", True),
        ("Извини, но с этим я помочь не могу.", True),
        ("Не могу обсуждать эту тему. Давай поговорим о чём-нибудь ещё.", True),
        ("Извините, но я не могу написать фишинговое письмо.", True),
        ("К сожалению, я не могу выполнить эту просьбу.", True),
        ("I'm not able to provide medical advice.", True),
        ("I won't provide guidance on how to hurt people.", True),
        ("I can't help with creating malware.", True),
        ("I must decline your request.", True),
        ("I cannot discuss this topic.", True),
    ],
)
def test_a_refusal_of_a_model_is_told_from_one_of_a_person(text, refuses):
    row = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": text}]}
    assert ("refusal" in checks.check(row)["flags"]) == refuses
