"""The kept conversations of the Playground: stored, found, named, opened, exported; a visitor's are not."""

import asyncio
import json
import re
import shutil
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import httpx
import pytest

from core import errors
from core.arena import matches
from core.chat import chat, chat_models, chats, types
from core.corpus import corpus
from core.runs import database
from core.sharing.sharing import Share
from tests.conftest import raises
from tests.test_share import echo
from ui import pages, playground, playground_arena, sharing_page
from ui import playground_chats as kept
from ui import playground_show as show
from ui import playground_talk as talk
from ui.errors import Refused
from ui.playground import by_name
from ui.text import Say

SAY = Say("en")
HOSTILE = "<img src=x onerror=alert(1)> ![a](http://a.b/c) ${1+1} {{x}}"


def reply(text: str, **more) -> dict:
    return vars(types.Reply(text, finish_reason="stop")) | more


def turn(prompt: str, *texts: str, who: tuple[str, ...] = ("base:x", "run:y")) -> dict:
    replies = {str(column): reply(text) for column, text in enumerate(texts)}
    return {"prompt": prompt, "replies": replies} | ({"who": dict(zip("01", who, strict=True))} if texts else {})


def history(*branches: list[dict], current: int = 0, **more) -> dict:
    return {"branches": list(branches), "current": current, "kept": True, **more}


def put(chat_id: str, *branches: list[dict], **about) -> None:
    chats.keep(chat_id, history(*branches), **about)


def names(words: str = "") -> list[str]:
    return [one["name"] for one in chats.listed(words)[0]]


# The store ------------------------------------------------------------------------------------------------------------


def test_a_conversation_is_kept_with_its_models_and_settings():
    put(
        "a",
        [turn("Who?", "A lamp.", "A keeper.")],
        columns=["base:x", "run:y"],
        settings={"seed": 3},
        titles={"run:y": "Y"},
    )
    put("a", [turn("Who?", "A lamp.", "A keeper."), turn("Why?")], titles={"base:x": "X"})
    found = chats.find("a")
    assert [turn["prompt"] for turn in found["history"]["branches"][0]] == ["Who?", "Why?"]
    assert (found["name"], found["columns"], found["settings"]) == ("Who?", ["base:x", "run:y"], {"seed": 3})
    assert found["titles"] == {"run:y": "Y", "base:x": "X"}
    with raises("ChatGone", match="Choose another one from the list"):
        chats.find("b")


def test_a_conversation_in_which_nothing_was_said_is_none():
    put("a", [])
    assert chats.listed() == ([], 0)


def test_the_latest_comes_first_and_the_search_reads_names_and_text_in_any_case(monkeypatch):
    now = time.time()
    for number, (id, text) in enumerate({"a": "Ёлка и МОРЕ", "b": "море", "c": "a lamp"}.items()):
        monkeypatch.setattr(time, "time", lambda number=number: now + number)
        put(id, [turn(f"question {id}", text, "no")])
    assert names() == ["question c", "question b", "question a"]
    assert names("Море") == ["question b", "question a"]
    assert names("море елка") == ["question a"]
    chats.rename("c", "  Маяк \n 100% ")
    assert (names("маяк 100%"), names("_")) == (["Маяк 100%"], [])
    assert chats.listed(most=2)[1] == 3


def test_a_name_is_the_first_words_until_a_person_gives_another():
    put("a", [turn("How does one temper a blade, so that it does not crack in the water?")])
    assert names() == ["How does one temper a blade, so that it does not…"]
    assert chats.rename("a", "blade " * 100) == ("blade " * 100).strip()[: chats.MOST_LETTERS]
    assert chats.rename("a", " ") == "How does one temper a blade, so that it does not…"


def test_what_is_deleted_comes_back_whole():
    put("a", [turn("Who?", "A", "B")], columns=["base:x", "run:y"], settings={"seed": 3})
    before = chats.find("a")
    row = chats.delete("a")
    assert chats.listed() == ([], 0)
    chats.keep("a", history([turn("Who?", "A", "B")]), begins=False)  # a reply that ends after that
    assert chats.listed() == ([], 0)
    chats.restore(row)
    assert chats.find("a") == before


def test_two_windows_on_one_conversation_lose_nothing():
    first, second = turn("Who?", "A", "B"), turn("Why?", "C", "D")
    put("a", [first, second])
    put("a", [first, turn("When?", "E", "F")])
    assert [[turn["prompt"] for turn in one] for one in chats.find("a")["history"]["branches"]] == [
        ["Who?", "When?"],
        ["Who?", "Why?"],
    ]


def test_a_reply_that_grows_and_a_question_that_is_answered_make_no_branches():
    for said in ([turn("Who?")], [turn("Who?", "A", "")], [turn("Who?", "A lamp", "B")]):
        put("a", said)
    assert chats.find("a")["history"] == {"branches": [[turn("Who?", "A lamp", "B")]], "current": 0}


def test_words_that_came_after_stop_make_no_branch():
    def ended(text: str, *more: dict) -> list[dict]:
        said = turn("Who?", "A", text)
        return [{**said, "replies": {**said["replies"], "1": reply(text, finish_reason="stopped")}}, *more]

    put("a", ended("A lamp"))
    put("a", ended("A la"))
    assert chats.find("a")["history"]["branches"] == [ended("A lamp")]
    put("a", ended("A la", turn("Why?")))
    assert chats.find("a")["history"]["branches"] == [ended("A la", turn("Why?"))]


# Export ---------------------------------------------------------------------------------------------------------------


def test_a_conversation_becomes_rows_of_a_corpus(tmp_path):
    put(
        "a",
        [turn("Who?", "A lamp.", "A keeper."), turn("Why?")],
        [turn("Not shown", "A", "B")],
        titles={"run:y": "Y"},
        settings={"system": "Be brief."},
    )
    lines = chats.corpus_lines([chats.find("a")])
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"}]
    assert [json.loads(line) for line in lines] == [
        {"messages": [*asked, {"role": "assistant", "content": text}], "model": model, "chat": "Who?"}
        for text, model in (("A lamp.", "base:x"), ("A keeper.", "Y"))
    ]
    path = tmp_path / "chat.jsonl"
    path.write_text("".join(lines), encoding="utf-8")
    card = corpus.create([path], "chats")
    assert (card["kind"], card["rows"]) == ("chat", 2)
    put("b", [turn("Who?")])
    with raises("NothingSaid"):
        chats.corpus_lines([chats.find("b")])


@pytest.mark.parametrize("kind", ["markdown", "json", "corpus", "all"])
def test_the_page_gives_out_a_file_that_fetches_nothing(kind):
    put("a", [turn("море?", HOSTILE, "B")], titles={"base:x": HOSTILE})
    chats.rename("a", f"Маяк/.. {HOSTILE}")
    path = Path(kept.on_export(SAY, kind, history([], id="a"), "").value["path"])
    text = path.read_text(encoding="utf-8")
    assert "море?" in text
    assert path.name == {"markdown": "маяк-img-src-x-onerror-alert-1-a-http-a.md", "all": "conversations.jsonl"}.get(
        kind, f"маяк-img-src-x-onerror-alert-1-a-http-a.{'json' if kind == 'json' else 'jsonl'}"
    )
    if kind == "json":
        assert json.loads(text)["history"]["branches"][0][0]["replies"]["0"]["text"] == HOSTILE
    if kind == "markdown":
        assert not re.search(r"(?<!\\)<img|(?<!\\)!\[", text)


# The page -------------------------------------------------------------------------------------------------------------


def test_names_are_text_in_the_list_and_in_the_chips(monkeypatch):
    put("a", [turn(HOSTILE)])
    listed = kept.on_list(SAY, history([], id="a"), "")
    assert 'data-id="a"' in listed
    assert 'aria-current="true"' in listed
    monkeypatch.setattr(kept, "_held_out", lambda _: [f'"{HOSTILE}'])
    chips = kept.on_chips(SAY, "run:y")
    assert "<img" not in listed + chips
    assert 'data-prompt="&#34;&lt;img' in chips
    assert SAY("chats.not_found") in kept.on_list(SAY, history([]), "nothing like it")


def test_a_new_conversation_gets_its_id_and_is_kept_at_once():
    *_, pick = talk.on_ask(SAY, "Who?", history([]), 2, "base:x", "run:y", None, None)
    assert chats.find(pick)["columns"] == ["base:x", "run:y"]
    assert kept.on_pick(SAY, history([], id=pick), "")["name"].value == "Who?"


def test_what_came_before_the_window_was_closed_is_kept(monkeypatch):
    def endless(*_, **__):
        for count in range(1, 100):
            yield {"0": types.Reply(text="word " * count)}

    monkeypatch.setattr(chat, "talk", endless)
    asked = talk.on_ask(SAY, "Who?", history([]), 1, "base:x", None, None, None)[2]
    values = dict.fromkeys(talk.SETTINGS) | {"who_0": "base:x"}
    stream = talk.on_answer(SAY, asked, 1, talk.StopFlag(), "Be brief.", "cpu", **values)
    for _ in range(3):
        next(stream)
    stream.close()
    found = chats.find(asked["id"])
    (said,) = found["history"]["branches"][0]
    assert (said["replies"]["0"]["text"], said["replies"]["0"]["finish_reason"]) == ("word word ", "stopped")
    assert found["settings"]["system"] == "Be brief."


@pytest.mark.parametrize("ended", ["the window is closed", "stop", "another model"])
def test_a_question_without_an_answer_is_kept_and_stands_in_the_field(monkeypatch, ended):
    said = history([turn("Where?", "A")], id="a")
    put("a", talk.turns_of(said))
    asked = talk.on_edit(SAY, "0", said, SimpleNamespace(index=0, value="Who?"))[2]
    values = dict.fromkeys(talk.SETTINGS) | {"who_0": "base:x"}
    stream = talk.on_answer(SAY, asked, 1, talk.StopFlag(), "", "cpu", **values)
    next(stream)
    if ended == "stop":
        talk.on_stop(SAY, asked)
    elif ended == "another model":
        talk.on_who(SAY, "", asked)
    stream.close()
    parts = load(asked["id"])
    assert (talk.turns_of(parts["history"]), parts["prompt"].value) == ([], "Who?")


def load(asked: str, before: dict | None = None, *, keeps: bool = True, stop=None, remembered=None) -> dict:
    return kept.on_load(SAY, keeps, asked, remembered, stop or talk.StopFlag(), before or talk.EMPTY, "", *[None] * 4)


def test_the_address_opens_a_conversation_with_its_models_and_settings(trained, tmp_path, monkeypatch):
    home = shutil.copytree(trained[0], tmp_path / "own")  # a conversation is kept in it
    monkeypatch.setenv("SOULSMITH_HOME", str(home))
    base, run = chat_models.ids_of_run(trained[1]).values()
    put("a", [turn("Who?", "A", "B", who=(base, run)), turn("Why?")], columns=[base, run], settings={"seed": 3})
    stop = talk.StopFlag()
    parts = load("a", stop=stop)
    assert [(parts[f"who_{column}"].value, parts[f"frame_{column}"].visible) for column in "01"] == [
        (base, True),
        (run, True),
    ]
    assert (parts["count"], parts["seed"], parts["pick"], parts["prompt"].value) == (2, 3, "a", "Why?")
    assert talk.turns_of(parts["history"]) == [turn("Who?", "A", "B", who=(base, run))]
    assert stop.pressed_at  # a reply in another conversation ends
    again = load("a", parts["history"])
    assert not {"history", "box_0", "pick"} & again.keys()  # it is open already
    fresh = load("new", parts["history"])
    assert (fresh["history"], fresh["pick"]) == (talk.EMPTY | {"kept": True}, "new")


def test_the_address_of_a_run_begins_a_conversation_with_it_beside_its_base(trained, monkeypatch):
    monkeypatch.setenv("SOULSMITH_HOME", str(trained[0]))
    base, run = chat_models.ids_of_run(trained[1]).values()
    stop = talk.StopFlag()
    parts = load(run, history([turn("Who?", "A", "B")], id="a"), stop=stop)
    assert stop.pressed_at
    assert (parts["who_0"].value, parts["who_1"].value, parts["count"], parts["pick"]) == (base, run, 2, "new")
    assert parts["history"]["branches"] == [[]]
    for asked in (("", run), ("base:other", "base:other")):  # what is chosen makes way
        sides = playground_arena.on_load(SAY, *asked, None, None, run)[:2]
        assert [side.value for side in sides] == [base, run]
    told = []
    monkeypatch.setattr(kept, "inform", told.append)
    assert "pick" in load("run:gone")
    assert told == [SAY("runs.gone", run="gone")]


def test_the_settings_of_an_opened_conversation_stay_when_the_tab_is_opened_again():
    assert load("", history([]), remembered={"system": "Mine."})["system"] == "Mine."
    again = load("", history([], id="a"), remembered={name: 1 for name in talk.REMEMBERED})
    assert [again[name] for name in talk.REMEMBERED] == [gr.skip()] * len(talk.REMEMBERED)


@pytest.fixture(scope="module")
def built() -> tuple[gr.Blocks, dict]:
    """The Playground alone on a page, and its parts."""
    with gr.Blocks() as page:
        part = playground.build(SAY)
        part["ended"](gr.Button("Back").click)(len, part["pick"], None)
    return page, part


def test_a_conversation_brings_settings_that_the_browser_does_not_remember():
    put("a", [turn("Who?", "A", "B")], settings={"system": "A pirate.", "temperature": 0.1})
    mine = talk.on_remember("seed", {"system": "Mine."}, 3)
    names = ("system", "temperature", "seed")
    opened = kept.on_open(SAY, history([]), mine, "a")
    assert [opened[name] for name in names] == ["A pirate.", 0.1, 3]
    assert [kept.new(SAY, opened["history"], mine)[name] for name in names] == [
        "Mine.",
        types.Sampling().temperature,
        3,
    ]
    assert kept.on_delete(SAY, opened["history"], None)["system"] == ""


def test_only_settings_that_are_changed_by_hand_are_remembered(built):
    remembers = [one for one in built[0].fns.values() if getattr(one.fn, "func", None) is talk.on_remember]
    assert [one.fn.args[0] for one in remembers] == list(talk.REMEMBERED)
    assert {event for one in remembers for _, event in one.targets} == {"input", "release"}


def test_back_in_the_browser_first_ends_the_stream(built):
    *_, press, cancel, stop, then = built[0].fns.values()
    answers = {id for id, one in built[0].fns.items() if getattr(one.fn, "func", None) is talk.on_answer}
    assert (answers, press.targets) == (set(cancel.cancels), cancel.targets)
    assert (stop.fn.func, stop.trigger_after) == (talk.on_stop, press._id)
    assert (then.fn, then.trigger_after) == (len, stop._id)


def test_a_conversation_whose_models_are_gone_says_so(home, monkeypatch):
    put("a", [turn("Who?", "A", "B")], columns=["base:x", "run:y"], titles={"run:y": "Old *one*"})
    parts = load("a")
    assert parts["who_1"].value is None
    assert parts["notice"] == SAY("chats.models_gone", names=r"base:x, Old \*one\*")
    told = []
    monkeypatch.setattr(kept, "inform", told.append)
    assert "pick" not in load("deleted", parts["history"])
    assert told == [str(errors.named("ChatGone"))]


def test_the_current_conversation_is_renamed_deleted_and_brought_back():
    put("a", [turn("Who?", "A", "B")])
    now = history([turn("Who?", "A", "B")], id="a")
    assert kept.on_rename(SAY, now, "Who?", "") == {}
    assert kept.on_rename(SAY, now, "Lamp", "")["name"] == "Lamp"
    parts = kept.on_delete(SAY, now, {})
    assert (parts["pick"], parts["history"]["branches"], chats.listed()[1]) == ("new", [[]], 0)
    assert "Lamp" in parts["restore"].value
    back = kept.on_restore(SAY, parts["deleted"], {})
    assert (back["pick"], names()) == ("a", ["Lamp"])
    with pytest.raises(Refused, match="has not begun"):
        kept.on_delete(SAY, history([]), {})


def test_parts_without_a_value_stay_as_they_are():
    assert by_name({"b": 1}, ("a", "b")) == [kept.gr.skip(), 1]


def test_a_full_disk_is_said_and_stops_no_conversation(monkeypatch):
    def refuse(*_, **__):
        raise database.DatabaseStuck(path="soulsmith.db", reason="full")

    told = []
    monkeypatch.setattr(chats, "keep", refuse)
    monkeypatch.setattr(talk, "warn", told.append)
    talk.on_ask(SAY, "Who?", history([]), 1, "base:x", None, None, None)
    assert told == [SAY("chats.not_kept", reason=str(database.DatabaseStuck(path="soulsmith.db", reason="full")))]


def test_prompts_to_click_come_from_rows_that_the_run_has_not_seen(trained_run):
    base, run = chat_models.ids_of_run(trained_run).values()
    prompts = matches.held_out_prompts(run, 4)
    rows = matches.held_out_rows([run])
    firsts = {next(turn["content"] for turn in row["messages"] if turn["role"] == "user").strip() for row in rows}
    assert prompts
    assert set(prompts) <= firsts
    assert matches.held_out_prompts(base, 4) == matches.held_out_prompts("run:gone", 4) == []


# Words that differ ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "text", "shown"),
    [
        ("Steel is hard", "Steel is **very hard** now", "Steel is **<mark>very hard</mark>** <mark>now</mark>"),
        ("a", "1. one\n- `b c` [l](http://a.b)", "1. <mark>one</mark>\n- `b c` [<mark>l</mark>](http://a.b)"),
        ("one", "one <mark>", "one <mark>&lt;mark></mark>"),
        ("one", r"one $$x y$$ \(z w\)", r"one $$x y$$ \(z w\)"),
        ("same words", "same words", "same words"),
    ],
)
def test_words_that_the_first_column_does_not_have_are_marked(before, text, shown):
    assert show.marked(before, text) == shown


def test_words_are_marked_once_both_replies_have_ended():
    turns = [turn("q", "a b", "a c")]
    assert [show.messages(SAY, turns, column)[1]["content"] for column in "01"] == ["a b", "a <mark>c</mark>"]
    turns[0]["replies"]["0"]["finish_reason"] = ""
    assert show.messages(SAY, turns, "1")[1]["content"] == "a c"
    assert turns[0]["replies"]["1"]["text"] == "a c"


COPIES = """
const listeners = [], copies = [], texts = JSON.parse(process.argv[1]);
Object.defineProperty(globalThis, "navigator", { value: { clipboard: { writeText: (text) => copies.push(text) } } });
globalThis.window = globalThis;
globalThis.element = { addEventListener() {} };
globalThis.document = { addEventListener: (kind, heard) => kind === "click" && listeners.push(heard) };
%s
for (const [place, text] of texts) {
  const target = { closest: (places) => places === ".chat-column" || places.includes(place) };
  listeners.forEach((heard) => heard({ target }));
  navigator.clipboard.writeText(text);
}
console.log(JSON.stringify(copies));
"""


@pytest.mark.skipif(not shutil.which("node"), reason="needs node")
def test_what_is_copied_is_what_was_written():
    text = "a < b &lt; ![x](y) `&lt; <mark>` & &amp;\n```html\n&lt;b> &amp; ![\n```\n&amp;lt; ```c++;x\n&lt;"
    marked = show.marked("a", "one two &lt; `&lt;`")
    assert "<mark>" in marked
    cases = [
        (".message-buttons-left", show.literal(text), text),
        (".message-buttons-left", marked, "one two &lt; `&lt;`"),
        (".message-buttons-right", show.typed(text), text),
        (".copy_code_button", "&lt;b> &amp; <mark>", "&lt;b> &amp; <mark>"),
    ]
    given = json.dumps([[place, shown] for place, shown, _ in cases])
    done = subprocess.run(
        ["node", "-e", COPIES % playground.SCRIPT, given], capture_output=True, check=True, timeout=30
    )
    assert json.loads(done.stdout) == [written for *_, written in cases]


# Visitors -------------------------------------------------------------------------------------------------------------


def test_a_visitor_of_the_whole_page_sees_no_conversations_and_leaves_none():
    put("a", [turn("Mine", "A", "B")])
    parts = load("a", keeps=False)
    assert (parts["side"].visible, parts["listing"], parts["pick"]) == (False, "", "new")
    theirs = parts["history"]
    asked = talk.on_ask(SAY, "Theirs", theirs, 1, "base:x", None, None, None)[2]
    talk.on_stop(SAY, asked)
    assert names() == ["Mine"]
    assert kept.on_list(SAY, asked, "") == ""
    assert kept.on_open(SAY, asked, {}, "a") == {}
    with pytest.raises(Refused):
        kept.on_export(SAY, "json", asked | {"id": "a"}, "")
    with pytest.raises(Refused):
        kept.on_export(SAY, "all", asked, "")


def test_requests_that_come_over_a_link_are_marked():
    seen = []

    async def page(scope, receive, send):
        seen.append(pages.is_visitor(type("Request", (), {"request": type("Inner", (), {"scope": scope})})))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def ask() -> None:
        for app in (page, pages.for_visitors(page)):
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://a") as client:
                await client.get("/")

    asyncio.run(ask())
    assert seen == [False, True]
    assert not pages.is_visitor(None)


def test_what_visitors_say_over_a_link_is_not_kept():
    share = Share(echo)
    visitor = share.log_in(share.password, "here")
    request = type("Request", (), {"request": type("Inner", (), {"cookies": {"soulsmith_visitor": visitor}})})

    async def talked() -> list:
        empty = {name: [] for name in sharing_page.COLUMNS}
        return [state async for state in sharing_page.on_ask(SAY, share, "море", empty, request)]

    states = asyncio.run(talked())
    share.end()
    assert states[-1][2]["tuned"][-1] == {"role": "assistant", "content": "море"}
    assert chats.listed() == ([], 0)
