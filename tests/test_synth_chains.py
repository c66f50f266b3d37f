"""Chains: a plan is drawn, a model writes, checks and a judge read, what falls between is rewritten once."""

import itertools
import json
import random
import threading
import time
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from core import events, jobs
from core.corpus import corpus, storage
from core.errors import UserError
from core.synth import chain_checks, chain_templates, chain_verdicts, lemmas, preview, recipes, synth_jobs, worker
from core.synth.chain_source import FromChain
from core.synth.chain_walk import Walk
from core.synth.endpoint import Endpoint
from core.synth.replies import Reply
from tests.conftest import slow_but
from tests.endpoint_server import answer, serving

ROWS = json.loads((Path(__file__).parent / "meaning_rows.json").read_text(encoding="utf-8"))
CHAINS = [one["name"] for one in recipes.listed() if one["kind"] == "chain"]
BANDS = {"sentence": [9, 28], "paragraph": [40, 110], "story": [80, 420]}
FACTS = ["пособие; учёт; служба занятость", "вырост; ступня; тормоз"]
FORBID = "долг; благодарность; добро"

RECIPE = """
kind: chain
lang: en
system: You write.
cards: {worn: [tapestry], spec: [motif]}
checks: {worn: cards.worn, spec: cards.spec}
steps:
  - name: plan
    plan: {thing: "{thing}", words: [8, 20], hidden: [pride]}
  - name: line
    write: "Write a line with {{ plan.thing }}."
    check: {words: plan.words, must: "[plan.thing]", forbid: plan.hidden}
    rewrite: "Mend this: {{ text }} Only: {{ faults }}"
  - name: more
    write: "Go on after: {{ line }}"
    check: {words: [8, 30], apart: [line]}
  - name: read
    judge:
      of: [line, more]
      rubric: "Judge: {{ line }} / {{ more }}"
      scores: [exact, alive]
      keep: {least: 6, mean: 7}
      drop: 5
  - name: again
    rewrite: {of: [more], prompt: "Mend that: {{ text }} Only: {{ faults }}"}
rows:
  - name: whole
    text: "{{ line }}"
  - name: asked
    messages: [{user: "Go on: {{ line }}"}, {assistant: "{{ more }}"}]
rules:
  thing: [kettle, rope, lamp, anvil, ferry, saddle, basin, lantern]
"""
WORDS = (
    "harbour pepper meadow letter orchard violin copper winter gull tide storm coffee stair brass garden market canvas "
    "hammer pebble thistle wagon barrel cellar pigeon marble thunder button ladder needle feather cabin island"
)
POOL = WORDS.split()


@pytest.fixture
def serve(monkeypatch):
    yield from serving(monkeypatch)


def told(salt: int, *words: str) -> str:
    """A sentence of English words of its own, with these in it."""
    own = random.Random(salt).sample(POOL, 9)
    return f"The {', '.join([*words, *own])} and all of it."


def number_of(body: dict) -> int:
    """The row that a prompt is for: with the seed 0 it is in the seed of the call, and so is the attempt."""
    return body["seed"] % 2**20 % 500_009


def author(bad: dict):
    """A server's script: good replies, and for a row of `bad` what {step: text or texts} says instead."""
    asked = Counter()

    def script(_, body):
        prompt, number = body["messages"][-1]["content"], number_of(body)
        step = next(
            (name for name, start in STARTS.items() if prompt.startswith(start)),
            "line",
        )
        told_so = bad.get(number, {}).get(step)
        if isinstance(told_so, list):
            told_so = told_so[min(asked[number, step], len(told_so) - 1)]
            asked[number, step] += 1
        return 200, {}, answer(told_so or good(step, number, prompt), "length" if told_so == CUT else "stop")

    return script


STARTS = {"line": "Write a line", "more": "Go on", "judge": "Judge", "mend": "Mend this", "mend_more": "Mend that"}
REFUSAL = "I'm sorry, I cannot help with that request."
CUT = "It was cut in the middle of"


def good(step: str, number: int, prompt: str) -> str:
    if step == "judge":
        return '{"exact": 8, "alive": 8, "why": ""}'
    thing = recipes.read(RECIPE, "x.yaml").plans(0, number)["plan"]["thing"]
    return told(number * 4 + list(STARTS).index(step), *([thing] if step in ("line", "mend") else []))


def job(tmp_path, server, **more):
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    request = {"recipe": str(path), "tokens": 1000, "seed": 0, "endpoint": server.url, "endpoint_model": "m"}
    return synth_jobs.create(request | more)


def written(directory) -> list[dict]:
    return list(storage.all_rows(corpus.directory(events.last(directory)["corpus"])))


BAD = {
    0: ({"line": told(90), "mend": told(91)}, ("missing_word", "line: "), None),
    1: ({"line": told(92)}, None, ["line"]),
    2: ({"line": [REFUSAL, None]}, None, ["line"]),
    3: ({"more": REFUSAL}, ("refusal", "more"), None),
    4: ({"line": "В гавани стоит лодка, и на ней никого нет уже третий день."}, None, ["line"]),
    5: ({"more": "# Plan\n" + told(93)}, None, ["more"]),
    6: ({"more": "thing: a lamp, hidden as it was asked\n" + told(94)}, None, ["more"]),
    7: ({"more": told(95, *POOL)}, None, ["more"]),
    8: ({"judge": '{"exact": 3, "alive": 4, "why": "dead"}'}, ("low_score", "exact 3, alive 4"), None),
    9: ({"judge": ['{"exact": 6, "alive": 6, "why": "thin", "worst": "more"}', None]}, None, ["more"]),
    10: ({"judge": '{"exact": 6, "alive": 6, "why": "thin"}'}, ("low_score", "more: thin"), None),
    11: ({"judge": 'Let me see {"exact"}.\n```json\n{"exact": "9/10", "alive": {"score": 8}}\n```'}, None, None),
    12: ({"judge": "It is lovely."}, ("no_verdict", "read"), None),
    13: ({"judge": ["It is lovely.", None]}, None, None),
    14: ({"more": [CUT, None]}, None, ["more"]),
    15: ({"more": "A tapestry. " + told(96), "mend_more": "A motif. " + told(97)}, ("spec", "more: motif"), None),
    16: ({"line": told(98, "pride"), "mend": "Нет."}, ("short", "line"), None),
}


@pytest.mark.slow
def test_each_bad_author_is_mended_or_set_aside_with_its_reason(serve, tmp_path):
    directory = job(tmp_path, serve(author({number: one[0] for number, one in BAD.items()})), tokens=2500, parallel=6)
    assert worker.run(directory) == "finished"
    rows = written(directory)
    kept = {row["recipe"]["row"] // 2: row["recipe"].get("rewritten") for row in rows}
    aside = {
        row["line"] // 2: (row["reason"], row["detail"]) for row in corpus.set_aside(events.last(directory)["corpus"])
    }
    for number, (_, reason, rewritten) in BAD.items():
        if reason is None:
            assert (number, kept.get(number, "not there"), aside.get(number)) == (number, rewritten, None)
        else:
            assert number not in kept
            assert (number, aside[number][0], aside[number][1][: len(reason[1])]) == (number, *reason)
    last = events.last(directory)
    assert last["aside"] == {"refusal": 1, "missing_word": 1, "low_score": 2, "no_verdict": 1, "spec": 1, "short": 1}
    assert all(number in kept for number in range(17, max(kept)))


@pytest.mark.slow
def test_the_images_of_a_plan_return_in_every_kept_row(serve, tmp_path):
    forgets = {at: {"line": told(200 + at)} | ({"mend": told(300 + at)} if at % 2 else {}) for at in range(0, 60, 3)}
    directory = job(tmp_path, serve(author(forgets)), tokens=2500, parallel=4)
    assert worker.run(directory) == "finished"
    rows = [row for row in written(directory) if row["recipe"]["part"] == "whole"]
    assert len(rows) > 20
    assert [row["recipe"]["row"] for row in rows if row["recipe"]["plan"]["plan"]["thing"] not in row["text"]] == []
    assert events.last(directory)["aside"].keys() == {"missing_word"}


def test_rows_of_a_chain_share_a_group_and_keep_their_plan(serve, tmp_path):
    directory = job(tmp_path, serve(author({})))
    assert worker.run(directory) == "finished"
    rows = written(directory)
    assert [row["recipe"]["part"] for row in rows] == ["whole", "asked"] * (len(rows) // 2)
    groups = [row["recipe"]["group"] for row in rows]
    assert groups[::2] == groups[1::2]
    assert len(set(groups)) == len(rows) // 2
    assert rows[0]["recipe"]["plan"] == recipes.read(RECIPE, "x.yaml").plans(0, 0)
    assert rows[0]["recipe"]["scores"] == {"read": {"exact": 8.0, "alive": 8.0}}
    assert rows[1]["messages"][0]["content"] == f"Go on: {rows[0]['text']}"


def kept_bytes(directory) -> bytes:
    """The rows of a job that has ended, as they lie in its corpus."""
    return b"".join(json.dumps(row, sort_keys=True).encode() for row in written(directory)).replace(
        events.last(directory)["corpus"].encode(), b""
    )


class Killed(BaseException):
    """What ends a process here."""


@pytest.mark.parametrize("calls", slow_but([7], [1, 7, 20, 41]))
def test_a_killed_chain_goes_on_with_the_next_call(serve, tmp_path, monkeypatch, calls):
    bad = {number: one[0] for number, one in BAD.items() if not any(isinstance(text, list) for text in one[0].values())}
    whole = job(tmp_path, serve(author(bad)), out=str(tmp_path / "whole"), parallel=3)
    assert worker.run(whole) == "finished"
    server, left = serve(author(bad)), itertools.count(1)
    cut = job(tmp_path, server, out=str(tmp_path / "cut"), parallel=1)
    ask = Endpoint.ask

    def ask_or_die(self, messages, **options):
        if next(left) > calls:
            raise Killed
        return ask(self, messages, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Endpoint, "ask", ask_or_die)
        with pytest.raises(Killed):
            worker.run(cut)
    assert len(server.asked) == calls
    assert worker.run(cut) == "finished"
    prompts = Counter((body["seed"], body["messages"][-1]["content"]) for body in server.asked)
    assert max(prompts.values()) == 1
    names = ("text", "messages", "lang")
    one, two = (
        [{key: row.get(key) for key in names} for row in storage.all_rows(tmp_path / name)] for name in ("whole", "cut")
    )
    assert one == two
    assert events.last(whole)["aside"] == events.last(cut)["aside"]


def test_a_pause_ends_within_a_row_and_no_reply_is_asked_for_twice(serve, tmp_path):
    gate, script = threading.Event(), author({})

    def slow(number, body):
        if number >= 9:  # of the third call of each of three rows
            gate.wait(10)
        return script(number, body)

    server = serve(slow)
    directory = job(tmp_path, server, parallel=3)
    running = threading.Thread(target=worker.run, args=(directory,))
    running.start()
    while len(server.asked) < 12:
        time.sleep(0.005)
    jobs.ask(directory, "pause")
    gate.set()
    running.join()
    before = len(server.asked)
    assert (events.last(directory)["event"], before) == ("paused", 12)
    (directory / "control.json").unlink()
    assert worker.run(directory) == "finished"
    asked = Counter((body["seed"], body["messages"][-1]["content"]) for body in server.asked)
    assert max(asked.values()) == 1


@pytest.mark.slow
def test_shards_share_the_groups_of_a_chain(serve, tmp_path):
    server = serve(author({}))
    whole = job(tmp_path, server, out=str(tmp_path / "whole"), tokens=2000)
    assert worker.run(whole) == "finished"
    plans = {row["recipe"]["row"]: row["recipe"]["plan"] for row in storage.all_rows(tmp_path / "whole")}
    for which in (0, 1):
        out = tmp_path / f"shard-{which}"
        assert worker.run(job(tmp_path, server, out=str(out), tokens=2000, shard=f"{which + 1}/2")) == "finished"
        rows = [row["recipe"] for row in storage.all_rows(out)]
        assert {row["row"] // 2 % 2 for row in rows} == {which}
        assert all(plans.get(row["row"], row["plan"]) == row["plan"] for row in rows)


def test_chains_that_were_set_aside_are_asked_for_again(serve, tmp_path):
    bad, limit = {2: {"judge": "It is lovely."}}, {"row": 8, "request": "pause"}

    def script(count, body):
        if number_of(body) >= limit["row"]:
            jobs.ask(directory, limit["request"])
        return author_of_all(count, body)

    author_of_all = author(bad)
    directory = job(tmp_path, serve(script), tokens=1_000_000, parallel=1)
    assert worker.run(directory) == "paused"
    assert events.last(directory)["aside"] == {"no_verdict": 1}
    bad.clear()
    assert synth_jobs.change(directory, {}, again=True) == {"attempt": 1}
    jobs.forget_requests(directory)
    limit |= {"row": 12, "request": "stop"}
    assert worker.run(directory) == "stopped"
    assert [row["recipe"]["part"] for row in written(directory) if row["recipe"]["row"] // 2 == 2] == ["whole", "asked"]
    assert events.last(directory)["aside"] == {}


def test_another_server_may_judge(serve, tmp_path):
    writer, judge = serve(author({})), serve(author({}))
    directory = job(tmp_path, writer, judge_endpoint=judge.url, judge_model="j")
    assert worker.run(directory) == "finished"
    assert {body["messages"][-1]["content"][:5] for body in judge.asked} == {"Judge"}
    assert {body["model"] for body in judge.asked} == {"j"}
    assert not any(body["messages"][-1]["content"].startswith("Judge") for body in writer.asked)


class Batches:
    """A writer of this machine: batches, no seeds."""

    def __init__(self):
        self.sizes = []

    def batch(self, chats, **options):
        self.sizes.append(len(chats))
        judge = chats[0][-1]["content"].startswith("Judge")
        at = sum(self.sizes) * 10
        replies = ['{"exact": 8, "alive": 8}' if judge else self.line(chat, at + n) for n, chat in enumerate(chats)]
        return [Reply(text, tokens_out=5) for text in replies]

    def line(self, chat, salt) -> str:
        asked = chat[-1]["content"]
        return told(salt, *([asked.split()[-1].strip(".")] if asked.startswith("Write") else []))

    def open(self):
        pass

    def close(self):
        pass


def test_a_local_model_writes_one_step_of_all_rows_at_once(monkeypatch):
    local = Batches()
    monkeypatch.setattr("core.synth.writers.open_writer", lambda *_: local)
    source = FromChain(recipes.read(RECIPE, "x.yaml"), 0, {"writer": "m", "parallel": 4})
    made = source.batch(0)
    source.close()
    assert ([one["number"] for one in made], local.sizes) == (list(range(8)), [4, 4, 4])


def test_the_preview_makes_four_rows_and_their_price(serve):
    server = serve(author({}))
    wanted = {"endpoint": server.url, "endpoint_model": "m"}
    shown = preview.preview(recipes.read(RECIPE, "x.yaml"), 0, wanted)
    assert (len(shown["rows"]), shown["aside"], shown["calls_a_row"]) == (8, [], 1.5)
    assert preview.cost(shown, 100_000)["rows"] == round(100_000 / shown["tokens_a_row"])


ROWS_OF = {
    "ru": "Маяк погасили в 1931 году, и лодки впервые не нашли берега.",
    "en": "The lighthouse was put out in 1931, and no boat found the shore.",
}


def test_plans_of_neighbouring_rows_have_other_cases_and_people():
    recipe = recipes.load("fractal-story-ru")
    plans = [recipe.plans(3, number)["plan"] for number in range(60)]
    cases = [[plan["first"], *plan["scenes"], plan["talk"]] for plan in plans]
    assert all(len(set(row)) == 5 for row in cases)
    for slot in zip(*cases, strict=True):  # sixty cases for sixty rows; by chance 38 of them would come
        assert len(set(slot)) >= 50
    people = [plan["heroes"] for plan in plans[:30]]
    assert all(len({row[at] for row in people}) >= 24 for at in range(3))


@pytest.mark.parametrize("name", CHAINS)
def test_a_row_of_each_recipe_can_be_made_in_its_own_language(name):
    recipe = recipes.load(name)
    for number in range(3):
        passage = {"text": ROWS_OF[recipe.lang], "topic": "lamps"}
        walk = Walk(recipe.chain, recipe.values, recipe.lang, recipe.plans(5, number), {"passage": passage})
        asks, reply = walk.asks(), None
        try:
            while True:
                reply = obliging(walk, asks.send(reply))
        except StopIteration:
            rows = walk.rows()
        assert (len(rows), walk.rewritten) == (recipe.parts, [])
        assert all(row.get("text") or row["messages"] for row in rows)
        assert "{" not in "".join(walk.names())
        for turns in (row["messages"] for row in rows if "messages" in row):
            asked = [turn["content"] for turn in turns if turn["role"] == "user"]
            said = [turn["content"] for turn in turns if turn["role"] == "assistant"]
            assert [one for one in said if any(one in other for other in asked)] == []


@pytest.mark.parametrize(
    "name", [name for name in CHAINS if not name.startswith("voices-answers")]
)  # set aside at once
def test_what_the_judge_of_each_recipe_finds_fault_with_is_written_once_more(name):
    recipe = recipes.load(name)
    passage = {"text": ROWS_OF[recipe.lang], "topic": "lamps"}
    walk = Walk(recipe.chain, recipe.values, recipe.lang, recipe.plans(5, 0), {"passage": passage})
    judges = [step for step in recipe.chain.steps if step.verb == "judge"]
    strict = next((step for step in judges if step.value.get("scores")), judges[0])
    worst = strict.of[-1]
    asks, reply, told = walk.asks(), None, False
    try:
        while True:
            ask = asks.send(reply)
            reply = obliging(walk, ask, worst)
            if walk.chain.steps[walk.at] is strict and not told:
                between = strict.value.get("keep", {}).get("mean", 7) - 1  # neither kept nor dropped
                scores, told = dict.fromkeys(strict.value.get("scores", []), between), True
                reply = Reply(json.dumps(scores | {"answer": "nobody", "worst": worst, "why": "?"}))
    except StopIteration:
        rows = walk.rows()
    assert (len(rows), walk.rewritten, told) == (recipe.parts, [worst], True)


@cache
def vocabulary(lang: str) -> list[str]:
    """Nouns of the words that come with the program."""
    text = (recipes.folder() / "words" / f"words-{lang}.yaml").read_text(encoding="utf-8")
    words = lemmas.nouns(text, lang) if lang == "ru" else {lemmas.of(token, lang)[0] for token in lemmas.tokens(text)}
    return sorted(word for word in words if word.isalpha() and 4 <= len(word) <= 9)


def obliging(walk, ask, mended: str | None = None) -> Reply:
    """A reply that meets the checks of the step that asks, or of the text that it mends: its words, its length, nothing
    from before.
    """
    step = walk.chain.steps[walk.at]
    name = mended if step.verb == "rewrite" else step.name
    if ask.judge:
        judges = [one for one in walk.chain.steps if one.verb == "judge"]
        asked = ask.messages[-1]["content"]
        step = next(one for one in judges if chain_templates.text(one.value["rubric"], walk.values) == asked)
        said = dict.fromkeys(step.value.get("scores", []), 9)
        if step.value.get("expect"):
            said = {"answer": chain_templates.value(step.value["expect"], walk.values)}
        return Reply(json.dumps(said, ensure_ascii=False))
    checks = next(one for one in walk.chain.steps if one.verb == "check" and name in one.of).value
    values = {key: walk._resolved(key, value) for key, value in checks.items()}
    taken = set(lemmas.tokens(str(walk.values) + str(values)))
    words = [word for word in vocabulary(walk.lang) if word not in taken]
    random.Random(walk.calls).shuffle(words)
    must = [phrase.split("|")[0] for phrase in chain_checks.phrases(values.get("must"))]
    start, end = ("Вот", "вот и всё") if walk.lang == "ru" else ("It was the", "all of it")
    if "turns" in values:
        labels = ("—", "—") if name != "talk" else ("Первый:", "Второй:") if walk.lang == "ru" else ("One:", "Other:")
        said = [[*must, words[0]], *([word] for word in words[1 : values["turns"][0]])]
        return Reply("\n".join(f"{labels[at % 2]} {start} {', '.join(one)}." for at, one in enumerate(said)))
    least, most = values["words"]
    own = words[: (least + most) // 2 - sum(len(one.split()) for one in must) - 8]
    own = [f"the {word}" if walk.lang == "en" and at % 5 == 4 else word for at, word in enumerate(own)]
    apart = [word for pair in zip(must, own, strict=False) for word in pair] + own[len(must) :]
    return Reply(f"{start} {', '.join(apart)}, {end}.")


def checked(text: str, lang: str, **values) -> list[str]:
    """The reasons that the recipes' own common checks, and these, give."""
    cards = recipes.load(f"voices-{lang}").values["cards"]
    common = {"worn": cards["worn"], "spec": cards["spec"], "ending": cards["morals"]}
    return [
        reason for reason, _ in chain_checks.found(text, chain_checks.Given(lang, {"turn", "motifs"}, common | values))
    ]


def level(row: dict, name: str) -> list[str]:
    texts, order = row["levels"], list(row["levels"])
    earlier = [texts[one] for one in order[: order.index(name)]]
    values = {"must": row["motifs"], "forbid": row["forbid"], "apart": earlier, "density": 6}
    values |= {"words": BANDS[name]} if name in BANDS else {"turns": [6, 14], "turn_words": 25}
    if name in ("paragraph", "story"):
        values |= {"longer": {"than": earlier[-1:], "times": 1.5}, "new": {"than": earlier, "share": 0.5}}
    return checked(texts[name], row["lang"], **values)


@pytest.mark.parametrize("key", ROWS["fractals"])
def test_the_fractals_of_the_notes_pass(key):
    row = ROWS["fractals"][key]
    assert [(name, level(row, name)) for name in row["levels"]] == [(name, []) for name in row["levels"]]


def scrambled(key: str, **levels) -> dict:
    row = ROWS["fractals"][key]
    return row | {"levels": row["levels"] | levels}


A, D = ROWS["fractals"]["a"]["levels"], ROWS["fractals"]["d"]["levels"]


@pytest.mark.parametrize(
    ("row", "name", "reasons"),
    [
        (scrambled("a", sentence=A["sentence"].replace("лампочку", "люстру")), "sentence", ["missing_word"]),
        (scrambled("a", story=A["paragraph"] + " " + A["paragraph"]), "story", ["repeats", "not_new"]),
        (scrambled("a", story=A["paragraph"]), "story", ["repeats", "not_longer", "not_new", "length"]),
        (scrambled("a", dialogue=A["dialogue"] + "\n— Всё держится на поддержке."), "dialogue", ["forbidden_word"]),
        (scrambled("a", paragraph=A["paragraph"] + " И я понял отца."), "paragraph", ["ending"]),
        (scrambled("a", paragraph="motifs: стремянка, лампочка\n" + A["paragraph"]), "paragraph", ["spec"]),
        (scrambled("a", paragraph="Абзац. " + A["paragraph"]), "paragraph", ["spec"]),
        (scrambled("a", sentence="## " + A["sentence"]), "sentence", ["spec"]),
        (scrambled("a", sentence=A["sentence"].replace("свете", "танце тишины")), "sentence", ["worn"]),
        (scrambled("a", sentence=D["sentence"]), "sentence", ["other_language", "missing_word"]),
        (scrambled("a", dialogue="\n".join(A["dialogue"].split("\n")[:3])), "dialogue", ["turns", "missing_word"]),
        (scrambled("a", dialogue=A["dialogue"] + "\n— " + "стою " * 30), "dialogue", ["turn_length"]),
        (scrambled("a", sentence=A["sentence"] + " Стремянка." * 4), "sentence", ["too_often"]),
        (scrambled("d", sentence=D["sentence"].replace("gate", "hole")), "sentence", ["missing_word"]),
        (scrambled("d", story=D["story"] + " They had their freedom."), "story", ["forbidden_word"]),
    ],
)
def test_a_spoiled_fractal_fails_for_its_reason(row, name, reasons):
    assert sorted(level(row, name)) == sorted(reasons)


@pytest.mark.parametrize(
    ("text", "order", "reason"),
    [
        ("Дежурный открыл сейф, и понятой узнал свои часы.", "понятой узнаёт свою вещь", "ending"),
        ("На причале диспетчер парома считал машины и сбивался.", "диспетчер парома", "shared_noun"),
        ("Скрипач потерял абзац, и дирижёр искал его под стулом.", "в рукописи пропал абзац", "spec"),
    ],
)
def test_a_word_of_the_order_is_no_fault(text, order, reason):
    apart = {"nouns_apart": ["Паром стоял, и все ждали."]}
    assert checked(text, "ru", **apart) == [reason]
    assert checked(text, "ru", **apart, given=[order]) == []


@pytest.mark.parametrize(
    ("text", "other", "lang", "order", "faults"),
    [
        (
            "He kept hay in the boot of a car.",
            "There is hay in the boot of a car.",
            "en",
            "hay in the boot of a car",
            [],
        ),
        ("He kept hay in the boot of a car.", "There is hay in the boot of a car.", "en", "a rope", ["repeats"]),
        ("He went down to the lock. And he left.", "She ran down to the lock. And he slept.", "en", "the lock", []),
        ("They laid it down, though the kettle sang.", "She laid her coat there, though it rained.", "en", "", []),
        ("They laid it by the kettle.", "The kettle had boiled.", "en", "", ["shared_noun"]),
        ("It was Thursday in Kent.", "Then on Thursday came Voss.", "en", "", []),
    ],
)
def test_only_what_was_taken_over_is_taken_for_it(text, other, lang, order, faults):
    checks = {"apart": [other], "nouns_apart": [other], "names_apart": [other], "given": [order]}
    if "hay" in text:
        checks.pop("nouns_apart")
    assert [reason for reason, _ in chain_checks.found(text, chain_checks.Given(lang, set(), checks))] == faults


def test_the_facts_that_an_answer_must_hold_are_no_repeat_and_a_repeat_is_shown_in_its_own_words():
    first, second = "Возьмите 1000 рублей под 10 % в год.", "У банка лежало 1000 рублей под 10 % в год, и старик ждал."
    given = chain_checks.Given("ru", values={"apart": [first], "given": ["1000 рублей под 10 % в год"]})
    assert chain_checks.found(second, given) == []
    given = chain_checks.Given("ru", values={"apart": [first]})
    assert chain_checks.found(second, given) == [("repeats", "1000 рублей под 10 в")]
    for name in ("fractal-answers", "voices-answers"):
        for lang in ("ru", "en"):
            assert "plan.facts" in recipes.load(f"{name}-{lang}").values["checks"]["given"]


def test_a_line_keeps_its_end_behind_a_tag_and_a_tag_alone_takes_its_line():
    source = "Who: {{ who }}.{% if far % 2 %} Then: noon.{% endif %}\n{% if far %}\nA cup.\n{% endif %}\nEnd."
    assert chain_templates.text(source, {"who": "a baker", "far": 1}) == "Who: a baker. Then: noon.\nA cup.\nEnd."
    assert chain_templates.text(source, {"who": "a baker", "far": 0}) == "Who: a baker.\nEnd."
    tags = "A\n{% for x in xs %}{% if x %}\n{{ x }}\n{% endif %}{% endfor %}\n{% if\n xs %}\nB\n{% endif %}\nC"
    assert chain_templates.text(tags, {"xs": [1, 2]}) == "A\n1\n2\nB\nC"
    assert chain_templates.text("{% raw %}\nif x %}\n{% endraw %}", {}) == "if x %}"


def test_a_phrase_is_masked_where_it_stands_whole():
    said = "At your place they say the rain walks. They walk; the place is wet, I say."
    assert lemmas.masked(said, ["you say at your place", "walk it off", "wet"], "en") == said.replace("wet", "…")
    assert lemmas.masked("У вас говорят так, а у меня иначе.", ["у вас говорят"], "ru") == "… … … так, а у меня иначе."


def case(number: str, text: str | None = None) -> list[str]:
    base = ROWS["resonance"]["0"]
    values = {"words": [30, 130], "forbid": FORBID, "apart": [] if number == "0" else [base]}
    values |= {"must": ["термос"]} if number in "04" else {"ban": ["термос"], "names_apart": [base]}
    if number in "13":
        values["nouns_apart"] = [base]
    return checked(text or ROWS["resonance"][number], "ru", **values)


def test_the_resonances_of_the_notes_pass():
    assert [case(number) for number in "01234"] == [[]] * 5


@pytest.mark.parametrize(
    ("number", "old", "new", "reasons"),
    [
        ("0", "термос", "чайник", ["missing_word"]),
        ("1", "карандашом", "на термосе", ["banned_word", "shared_noun"]),
        ("2", "Борис Ильич", "И Рашид", ["shared_name"]),
        ("3", "гвозде", "шиповнике", ["shared_noun"]),
        ("4", "тёплый.", "тёплый, в долг и с благодарностью.", ["forbidden_word"]),
    ],
)
def test_a_spoiled_resonance_fails_for_its_reason(number, old, new, reasons):
    text = ROWS["resonance"][number].replace("термоса", old and "термоса")
    for form in (old, old + "а", old.capitalize()):
        text = text.replace(form, new)
    assert sorted(case(number, text)) == sorted(reasons)


def reply(voice: str, at: int, text: str | None = None) -> list[str]:
    card = recipes.load("voices-ru").values["cards"]["voices"][voice]
    return checked(
        text or ROWS["voices"][voice][at],
        "ru",
        must=FACTS[at],
        ban=card["minus"],
        forbid=[card["title"]],
        few={"of": card["plus"], "most": 1},
        words=[14, 90],
    )


@pytest.mark.parametrize("voice", slow_but(["watchman", "ferryman"], ROWS["voices"]))
def test_the_replies_of_the_notes_pass_and_their_taboos_do_not(voice):
    card = recipes.load("voices-ru").values["cards"]["voices"][voice]
    text = ROWS["voices"][voice][1]
    assert [reply(voice, 0), reply(voice, 1)] == [[], []]
    assert reply(voice, 1, f"{text} {card['minus'][0].capitalize()}.") == ["banned_word"]
    assert reply(voice, 1, f"{text} Так говорит {card['title']}.") == ["forbidden_word"]
    assert reply(voice, 1, f"{text} {' '.join(card['plus'])}, {card['plus'][0]}.") == ["too_often"]
    assert reply(voice, 0, ROWS["voices"][voice][1]) == ["missing_word"]


@pytest.mark.parametrize(
    ("text", "what", "scores"),
    [
        ('{"a": 8, "b": 7}', "keep", {"a": 8, "b": 7}),
        ('```json\n{"A": 9.5, "b": "6/10",}\n```', "keep", {"a": 9.5, "b": 6}),
        ('I think {"a": 1} but {"a": 6, "b": 6}', "rewrite", {"a": 6, "b": 6}),
        ("{'scores': 1}\na: 4\nb - 3", "drop", {"a": 4, "b": 3}),
        ('{"scores": {"a": {"score": 8}, "b": 5}}', "rewrite", {"a": 8, "b": 5}),
        ('{"a": 8, "b": 70}', None, None),
        ('{"a": 8, "b": true}', None, None),
        ("a great text, b too", None, None),
        ("{" * 5000, None, None),
    ],
)
def test_scores_are_read_however_they_are_given(text, what, scores):
    verdict = chain_verdicts.read(text, {"scores": ["a", "b"]}, None)
    assert (verdict and verdict.what, verdict and verdict.scores) == (what, scores)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"answer": ["fitter", "Watchman"]}', 1.0),
        ('{"answer": {"1": "fitter", "2": "midwife"}}', 0.5),
        ('{"answer": "fitter, watchman"}', 1.0),
        ('{"answer": ["watchman", "fitter"]}', 0.0),
    ],
)
def test_a_blind_judge_has_to_name_every_speaker(text, told):
    verdict = chain_verdicts.read(text, {}, ["fitter", "watchman"])
    assert (verdict.what, verdict.scores) == ("keep" if told == 1 else "rewrite", {"told": told})


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            '{{ line }}"\n    check: {words: [8',
            '{{ lime }}"\n    check: {words: [8',
            'step more: it uses "lime", which no step',
        ),
        ("apart: [line]", "apart: [later]", 'step more: it uses "later"'),
        ("apart: [line]", "sparkle: 3", 'step more: check cannot be read: "sparkle" is no check'),
        ("name: more", "name: line", 'the name "line" of step 3 is taken'),
        ("of: [line, more]", "of: [plan]", 'step read: it uses "plan"'),
        ('text: "{{ line }}"', 'text: "{{ line }"', "row 1 cannot be read: line 1"),
        ("{{ plan.thing }}.", "{% include 'x' %}", "include is not for recipes"),
        ("scores: [exact, alive]", "marks: [exact]", '"marks" is not known; a judge has'),
        ('thing: "{thing}"', 'thing: "{think}"', 'uses "think", which is not defined'),
    ],
)
def test_a_fault_in_a_chain_is_named_with_its_step(old, new, words):
    assert old in RECIPE
    with pytest.raises(UserError) as error:
        recipes.read(RECIPE.replace(old, new, 1), "x.yaml")
    assert words in str(error.value)


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'x' * 99999999 }}",
        "{{ '%99999999s' % plan }}",
        "{{ '{:99999999}'.format(1) }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ 9 ** 99999999 }}",
        "{% for a in range(99999999) %}x{% endfor %}",
        "{% for a in range(1000) %}{% for b in range(1000) %}x{% endfor %}{% endfor %}",
        "{{ plan.nothing }}",
        "{{ range(1000)|join('x' * 1000) }}",
    ],
)
def test_a_template_cannot_leave_its_limits(source):
    began = time.monotonic()
    with pytest.raises(chain_templates.TemplateWrong):
        chain_templates.text(source, {"plan": {}})
    assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    ("text", "phrase", "lang", "count"),
    [
        ("Пуговичный склад, пуговицы, пуговка", "пуговица|пуговичный", "ru", 2),
        ("В службу занятости, на учёт", "учёт служба занятость", "ru", 1),
        ("Долго стоял долгий состав", "долг", "ru", 0),
        ("Берёзы и береза", "берёза", "ru", 2),
        ("The latches were pushed; he was running, ran", "run", "en", 2),
        ("The latches were pushed", "latch", "en", 1),
        ("Not just a fence but a wall", "not just but", "en", 1),
    ],
)
def test_phrases_are_found_by_their_lemmas(text, phrase, lang, count):
    assert lemmas.counted(text, [phrase], lang) == {phrase: count}


def test_the_written_recipes_come_first_and_those_without_a_model_keep_their_names():
    listed = recipes.listed()
    names = (
        "fractal-story",
        "fractal-answers",
        "voices",
        "voices-answers",
        "resonance-set",
        "resonance-answers",
        "own-answers",
    )
    assert {one["name"] for one in listed[:14]} == {f"{name}-{lang}" for name in names for lang in ("ru", "en")}
    old = {one["name"] for one in listed if one["kind"] == "grammar"}
    assert {f"{name}-{lang}" for name in ("fractals", "archetypes", "resonance") for lang in ("ru", "en")} <= old
    assert all({"ru", "en"} == one["title"].keys() for one in listed[:14])
