"""The search for a better prompt: parts, halving, losses like a run's, going on, and what it is quoted for."""

import json
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest

from core import events, jobs, paths
from core.chat import chat_models, generation, profiles
from core.corpus import corpus
from core.estimate import answer, cards, catalogue, worth
from core.estimate.setup import Setup
from core.models import model_check
from core.prompt_search import candidates, judge, searches
from core.prompt_search import rows as parts
from core.prompt_search import search as work
from core.prompt_search.candidates import NONE, Candidate
from core.runs import gpu_access, learned, runs, store
from core.synth.replies import Reply
from core.training import corpus_rows
from core.training.config import TrainConfig
from tests.conftest import chat_rows, raises
from tests.page_session import Session
from ui import calculator_html, run_learned, training, training_prompts
from ui.errors import Refused
from ui.text import Say

KEEPER = Candidate("own", "You keep a lighthouse.", (("Who are you?", "The keeper."), ("Sea?", "Always.")))


@pytest.fixture
def search(tiny_model, tiny_corpus, monkeypatch):
    """A function that makes the directory of a small search."""
    monkeypatch.setattr(judge, "PROPOSAL_TOKENS", 4)
    monkeypatch.setattr(model_check, "ask", lambda _: None)  # in a process of its own, which takes seconds to start

    def make(config=None, **more) -> Path:
        config = config or TrainConfig(tiny_model, tiny_corpus, method="lora", precision="fp32", seed=3)
        return searches.create(config, **{"candidates": 6, "rows": 8, "system_prompt": "Sea and lamp."} | more)

    return make


def work_on(directory: Path) -> dict:
    """Work on a search in this process; its last event."""
    jobs.run(directory, work.work)
    return events.last(directory)


def measured(directory: Path) -> list[tuple]:
    names = ("candidate", "part", "start", "end", "nats", "tokens", "rows")
    return [tuple(event[name] for name in names) for event in searches.found(directory) if event["event"] == "measured"]


def ids(rows: list[dict]) -> set[str]:
    return {row["id"] for row in rows}


def test_no_row_of_a_prompt_search_is_shown_and_judges(tiny_corpus):
    split = parts.split(Path(tiny_corpus), "sea", 0.1, 8, seed=3)
    training, held_out = corpus_rows.split(list(corpus_rows.read_rows(tiny_corpus)), 0.1)
    assert ids(split.held_out) == ids(held_out)
    assert ids(split.shown) | ids(split.judging) == ids(training)
    assert len(split.judging) == 8
    assert len(split.shown) == len(training) - 8


def test_a_reply_that_was_disliked_is_no_row_of_a_prompt_search(tmp_path):
    rows = [row | {"label": number % 3 > 0} for number, row in enumerate(chat_rows(30))]
    (tmp_path / "judged.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    split = parts.split(tmp_path / "judged.jsonl", "judged", 0.1, 8, seed=3)
    whole = [*split.shown, *split.judging, *split.held_out]
    assert [row["label"] for row in whole] == [True] * 20
    assert split.held_out


def test_the_seed_of_a_prompt_search_draws_its_rows(tiny_corpus):
    first, again, other = (parts.split(Path(tiny_corpus), "sea", 0.1, 8, seed) for seed in (3, 3, 4))
    assert first == again
    assert first.judging != other.judging
    assert ids(first.held_out) == ids(other.held_out)


def test_a_prompt_search_keeps_near_equal_rows_in_one_part(tmp_path):
    rows = chat_rows(12)
    shouted = [{"messages": [turn | {"content": turn["content"].upper()} for turn in row["messages"]]} for row in rows]
    corpus = tmp_path / "rows.jsonl"
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows + shouted))
    for seed in range(5):
        split = parts.split(corpus, "sea", 0.1, 8, seed)
        said = [{row["messages"][1]["content"].lower() for row in part} for part in vars(split).values()]
        assert not said[0] & said[1] | said[0] & said[2] | said[1] & said[2]


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        ([*chat_rows(11), {"text": "Fog."}], "SearchNeedsChats", "has 1 rows that are no chats"),
        (chat_rows(9), "CorpusTooSmall", "9 different rows"),
    ],
)
def test_a_prompt_search_refuses_what_it_cannot_judge_by(rows, error, words, tmp_path):
    corpus = tmp_path / "rows.jsonl"
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with raises(error, match=words):
        parts.split(corpus, "sea", 0.1, 8, 3)


@pytest.mark.parametrize(
    ("count", "rows", "sizes"), [(12, 64, [8, 16, 32, 64]), (2, 64, [64]), (1, 5, [5]), (5, 3, [3] * 3)]
)
def test_half_the_prompts_go_on_with_twice_the_rows(count, rows, sizes):
    assert work.sizes(count, rows) == sizes


def test_halving_prompts_costs_a_third_of_comparing_all():
    assert work.cost(12, 64) == 12 * 8 + 6 * 8 + 3 * 16 + 2 * 32
    assert work.cost(12, 64) < 12 * 64 / 2.9


def test_a_row_behind_a_prompt_learns_the_same_tokens(tiny_tokenizer):
    config = TrainConfig("", "", max_length=24)  # the row is cut
    row = {"id": "1", "messages": chat_rows(40)[1]["messages"] * 3}
    alone = profiles.encode_row(NONE, row, tiny_tokenizer, config, 1024)
    behind = profiles.encode_row(KEEPER, row, tiny_tokenizer, config, 1024)
    assert [learned_tokens(piece) for piece in behind] == [learned_tokens(piece) for piece in alone]
    assert len(alone[0]["input_ids"]) == 24
    assert behind[0]["input_ids"][-24:] == alone[0]["input_ids"]


def learned_tokens(piece: dict) -> list[int]:
    return [label for label in piece["labels"] if label >= 0]


def test_the_prompts_that_are_compared(tiny_corpus):
    rows, asked, words = list(corpus_rows.read_rows(tiny_corpus)), [], iter(("tides", "tides", "lamps"))

    def ask(questions):
        asked.extend(questions)
        return [f"Speak of {next(words)}." for _ in questions]

    made = candidates.instructions(KEEPER, rows, 8, ask, seed=1)
    assert made[:2] == [NONE, KEEPER]
    kinds = [one.kind for one in made]
    assert kinds == ["none", "own", *["template"] * 4, *["proposed"] * 2]
    assert [one.system_prompt for one in made[-2:]] == ["Speak of tides.", "Speak of lamps."]
    assert asked[0].count("<reply>") == candidates.SHOWN_PAIRS
    assert len(asked) == 3


def test_templates_speak_the_language_of_the_rows_first():
    russian = [{"messages": [{"role": "assistant", "content": "Море сегодня спокойное, и мы вышли в путь."}]}]
    assert candidates.language(russian) == "ru"
    assert candidates.templates(russian)[0].startswith("Отвечай так")
    assert "примерно 8 слов" in candidates.templates(russian)[0]


def test_what_a_model_says_around_its_prompt_is_left_out(tiny_corpus):
    rows = list(corpus_rows.read_rows(tiny_corpus))
    said = ["<think>They like lamps.</think>Speak of lamps.", "word " * 400, ""]
    found = candidates.proposals(rows, 2, lambda questions: said[: len(questions)], seed=1)
    assert found == ["Speak of lamps."]


def test_a_proposed_prompt_that_was_cut_ends_with_a_sentence(tiny_model, tiny_corpus, monkeypatch):
    own = judge.Judge(TrainConfig(tiny_model, tiny_corpus), "rows")
    said = [Reply("Speak.\nOf lam", "length"), Reply("Speak of lamps", "stop"), Reply("Spea", "length")]
    monkeypatch.setattr(own, "open", lambda: None)
    monkeypatch.setattr(own.local, "batch", lambda *_, **__: said)
    assert own.proposals(["?"] * 3) == ["Speak.", "Speak of lamps", ""]


def test_a_prompt_search_ends_with_a_profile_and_its_held_out_loss(search):
    directory = search()
    ending, seen = work_on(directory), searches.progress(directory)
    split = parts.split(Path(jobs.request(directory)["corpus"]), "", 0.1, 8, 3)
    best = seen["candidates"][ending["best"]]
    assert (ending["event"], seen["state"]) == ("finished", "finished")
    assert ending["rows"] == len(split.held_out) == best["held_out"]["rows"]
    assert ending["loss"] == pytest.approx(best["held_out"]["loss"])
    assert {part for _, part, *_ in measured(directory) if part != "judging"} == {"held_out"}
    shown = {turn["content"] for row in split.shown for turn in row["messages"]}
    assert {text for one in seen["candidates"] for pair in one["examples"] for text in pair} <= shown
    assert 0 < seen["done"] <= seen["total"]
    assert (ending["profile"] is None) == (ending["loss"] >= ending["before"])


@pytest.mark.slow
def test_a_prompt_that_helps_is_saved_beside_the_others(search, tiny_model, monkeypatch):
    mine = profiles.save(profiles.Profile("rows · prompt", system_prompt="mine"))
    nats = {"none": 3.0, "own": 2.0}
    monkeypatch.setattr(judge.Judge, "losses", lambda _, one, rows, stop: (nats.get(one.kind, 1.0), 1, len(rows)))
    ending = work_on(search())
    assert (ending["loss"], ending["own"], ending["before"]) == (1.0, 2.0, 3.0)
    saved = profiles.load(ending["profile"])
    assert (saved.name, saved.base_model) == ("rows · prompt 2", tiny_model)
    assert saved.system_prompt
    assert profiles.load(mine).system_prompt == "mine"
    assert chat_models.find(f"profile:{saved.id}").profile == saved


@pytest.mark.slow
def test_without_held_out_rows_a_prompt_search_says_so(search, tiny_model, tiny_corpus):
    ending = work_on(search(TrainConfig(tiny_model, tiny_corpus, method="lora", precision="fp32", validation_share=0)))
    assert (ending["used_to_choose"], ending["rows"]) == (True, 8)


def test_a_prompt_search_measures_what_a_run_does(trained_run, search):
    config = runs.config(trained_run)
    ending = work_on(search(config))
    first = next(event for event in events.read(paths.run(trained_run))[0] if event["event"] == "eval")
    assert ending["before"] == pytest.approx(first["eval_loss"], abs=1e-5)
    assert ending["rows"] == store.sync(trained_run)["rows_eval"]


def test_the_arena_measures_a_profile_with_its_examples(tiny_model, tiny_corpus):
    rows = chat_rows(6)
    profile = profiles.save(profiles.Profile("Keeper", tiny_model, KEEPER.system_prompt, KEEPER.examples))
    config = TrainConfig(tiny_model, tiny_corpus, method="lora")
    own = judge.Judge(config, "rows")
    nats, tokens, _ = own.losses(KEEPER, [row | {"id": str(at)} for at, row in enumerate(rows)], lambda: False)
    found = generation.held_out_loss(f"profile:{profile}", rows)
    assert found == {"loss": pytest.approx(nats / tokens, abs=1e-5), "rows": 6}


@pytest.mark.slow
def test_a_prompt_search_goes_on_where_it_was_paused(search, monkeypatch):
    whole, paused = search(), search()
    expected, calls, before, losses = work_on(whole), [], [], judge.Judge.losses

    def pausing(self, *values):
        calls.append(values)
        if len(calls) == 5 and not before:
            jobs.ask(paused, "pause")
        return losses(self, *values)

    monkeypatch.setattr(judge.Judge, "losses", pausing)
    assert work_on(paused)["event"] == "paused"
    before += measured(paused)
    jobs.forget_requests(paused)
    calls.clear()
    ending = work_on(paused)
    assert 0 < len(before) < len(measured(whole))
    assert measured(paused) == measured(whole)
    assert len(calls) == len(measured(whole)) - len(before)
    assert {**ending, "time": 0, "profile": 0} == {**expected, "time": 0, "profile": 0}


@pytest.mark.slow
def test_a_prompt_search_waits_while_a_run_has_the_card(search, monkeypatch):
    directory, losses, asked = search(), judge.Judge.losses, iter([True, True, False])
    closed = []
    monkeypatch.setattr(judge.Judge, "close", lambda self: closed.append(self.local.close()))
    monkeypatch.setattr(work, "WAIT_SECONDS", 0)
    monkeypatch.setattr(gpu_access, "busy", lambda **_: next(asked))

    def once_busy(self, *values):
        if not closed:
            raise gpu_access.CardBusy(name="first run")
        return losses(self, *values)

    monkeypatch.setattr(judge.Judge, "losses", once_busy)
    assert work_on(directory)["event"] == "finished"
    told = [event for event in events.read(directory)[0] if event["event"] in ("waiting", "resumed")]
    assert [(event["event"], event.get("run")) for event in told] == [("waiting", "first run"), ("resumed", None)]


def test_a_prompt_that_does_not_fit_is_left_out(search):
    directory = search(system_prompt="fog " * 1100, candidates=4)
    ending, seen = work_on(directory), searches.progress(directory)
    assert seen["candidates"][1]["unfit"] == "too_long"
    assert seen["candidates"][1]["judging"] is None
    assert ending["own"] is None


def test_the_budget_of_a_prompt_search_has_a_least(search):
    with raises("TooSmall", match=r"rows must be at least 4, got 1\. Try 64"):
        search(rows=1)
    with raises("ExampleOneSided"):
        search(examples=(("Who?", ""),))


def ended(config: TrainConfig, **more) -> None:
    """A finished search that reached 2.0 from 3.0."""
    directory = searches.create(config)
    ending = {"loss": 2.0, "before": 3.0, "own": None, "rows": 20, "longest": 30, "used_to_choose": False, "best": 0}
    events.append(directory, "finished", **ending | {"profile": "rows"} | more)


@pytest.fixture
def run(tiny_model, tiny_corpus, no_worker):
    """A finished run whose held-out loss went from 3.0 to 1.5 on 20 rows: (id, config)."""
    config = TrainConfig(tiny_model, tiny_corpus)
    run_id = runs.create(config, "Sea")
    data = {"rows_train": 100, "rows_eval": 20, "tokens_train": 1, "tokens_learned": 1, "longest": 9}
    events.append(paths.run(run_id), "data", rows_left_out={}, **data)
    for step, loss in ((0, 3.0), (10, 1.5)):
        if step:
            events.append(paths.run(run_id), "step", step=step, max_steps=10, loss=loss, tokens=step)
        events.append(paths.run(run_id), "eval", step=step, eval_loss=loss)
    events.append(paths.run(run_id), "finished")
    return run_id, config


def test_a_run_says_what_it_gained_over_the_best_prompt(run):
    run_id, config = run
    assert learned.of(run_id)["prompt"] is None
    ended(config)
    assert learned.over_prompt(run_id) == {"loss": 2.0, "gain": 0.5, "gains": True, "profile": "rows"}
    card = run_learned.card(Say("en"), store.sync(run_id))
    assert "a loss of 2 on the held-out rows without training; training gained 0.5 nats per token more." in card


@pytest.mark.parametrize(
    ("more", "changed"),
    [
        ({"rows": 19}, {}),
        ({"used_to_choose": True}, {}),
        ({}, {"validation_share": 0.2}),
        ({"longest": 2000}, {"max_length": 512}),
        ({"method": "lora"}, {}),  # the run is QLoRA: its base is in 4 bits
    ],
)
def test_a_prompt_is_not_compared_with_a_run_on_other_rows(more, changed, run):
    run_id, config = run
    ended(replace(config, **changed), **more)
    assert learned.over_prompt(run_id) is None


def test_a_run_s_rival_is_the_best_prompt_and_not_the_newest(run):
    run_id, config = run
    ended(config)
    ended(config, loss=2.5, before=2.9, method="qlora")
    assert learned.over_prompt(run_id)["loss"] == 2.0
    prompt = learned.prompt_of(config.base_model, config.corpus)
    assert (prompt["before"], prompt["loss"]) == (3.0, 2.0)
    other = replace(config, method="lora")
    ended(other, loss=1.0, before=1.2, method="lora")
    assert learned.over_prompt(run_id)["loss"] == 2.0
    prompt = learned.prompt_of(config.base_model, config.corpus)
    assert (prompt["before"], prompt["loss"]) == (3.0, 2.0)  # of the search that the run compares with


@pytest.mark.parametrize(("method", "in_4bit"), [("qlora", True), ("lora", False)])
def test_a_prompt_search_has_its_base_as_the_run_has_it(tiny_model, tiny_corpus, method, in_4bit, monkeypatch):
    monkeypatch.setattr(judge, "find_spec", lambda _: True)
    monkeypatch.setattr(judge.packages, "fault", lambda _: "")
    directory = searches.create(TrainConfig(tiny_model, tiny_corpus, method=method))
    local = judge.Judge(searches.config(jobs.request(directory)), "rows").local
    assert (local.in_4bit, local._method()) == (in_4bit, method)
    request = jobs.request(directory)
    of_before = {name: value for name, value in request.items() if name != "method"}
    assert not judge.Judge(searches.config(of_before), "rows").local.in_4bit


def test_a_run_that_is_no_better_than_a_prompt_says_so(run):
    run_id, config = run
    ended(config, loss=1.49)
    assert not learned.over_prompt(run_id)["gains"]
    assert "this run gained next to nothing over it" in run_learned.card(Say("en"), store.sync(run_id))


def test_without_a_prompt_that_helps_the_base_is_the_rival_of_a_run(run):
    run_id, config = run
    ended(config, loss=3.5, profile=None)
    assert learned.over_prompt(run_id)["loss"] == 3.0


def test_does_it_pay_quotes_the_prompt_and_the_run(run):
    _, config = run
    ended(config)
    prompt = learned.prompt_of(config.base_model, config.corpus)
    assert prompt == {"before": 3.0, "loss": 2.0, "gain": 0.5, "gains": True, "profile": "rows", "name": "Sea"}
    assert learned.prompt_of(config.base_model, "another") == {}
    name = "Qwen/Qwen2.5-0.5B"
    asked = answer.ask(catalogue.shape(name), Setup(), cards.cards()[cards.DEFAULT_CARD], tokens=10**7, epochs=1)
    assert worth.of(asked, prompt=prompt).as_dict()["prompt"] == prompt
    shown = calculator_html.verdict(Say("en"), asked, 0, prompt)
    assert "a prompt alone took the loss on held-out rows of this corpus from 3 to 2." in shown
    assert "The run “Sea” gained 0.5 nats per token over it." in shown


def test_the_page_starts_a_prompt_search_and_takes_what_it_found(tiny_model, tiny_corpus, monkeypatch):
    started = []
    monkeypatch.setattr(searches, "start", started.append)
    say, settings = Say("en"), {name: getattr(TrainConfig("", ""), name) for name in training_prompts.SETTINGS}
    with pytest.raises(Refused, match="No corpus is chosen"):
        training_prompts.on_start(say, tiny_model, None, "", [["", ""]], **settings)
    listing, probe = training_prompts.on_start(
        say, tiny_model, tiny_corpus, "Mine.", [["Q", "A"], ["", ""]], **settings
    )
    directory = jobs.find(paths.prompt_searches(), listing.value)
    assert started == [directory]
    assert {name: jobs.request(directory)[name] for name in ("system_prompt", "examples")} == {
        "system_prompt": "Mine.",
        "examples": [["Q", "A"]],
    }
    assert json.loads(probe)["state"] == "queued"
    made = [vars(one) for one in (NONE, Candidate("proposed", "Speak of <b>fog</b>."))]
    events.append(directory, "started")
    events.append(directory, "candidates", stage="instructions", candidates=made)
    for number, nats in ((0, 9.0), (1, 6.0)):
        values = {
            "candidate": number,
            "start": 0,
            "end": 3,
            "nats": nats,
            "tokens": 3,
            "rows": 3,
            "done": 1,
            "total": 2,
        }
        events.append(directory, "measured", part="judging", **values)
    ending = {"loss": 2.0, "before": 3.0, "own": 2.5, "rows": 20, "longest": 30, "used_to_choose": False, "best": 1}
    events.append(directory, "finished", **ending, profile=profiles.save(profiles.Profile("Fog", tiny_model, "Speak.")))
    status, *buttons, timer = training_prompts.draw(say, training_prompts.look(directory.name))
    assert "On 20 held-out rows the loss is 2 with the best prompt and 3 without one." in status
    assert "Speak of &lt;b&gt;fog&lt;/b&gt;." in status
    assert [button.visible for button in buttons] == [False, False, False, True, True]
    assert not timer.active
    mine = ["Mine", "base", "Mine.", [["Q", "A"]]]
    *fields, saved, before, undo = training_prompts.on_take(say, directory.name, None, *mine)
    assert fields == ["Fog", tiny_model, "Speak of <b>fog</b>.", [["", ""]] * 3]
    assert (saved.value, undo.visible) == ("fog", True)
    assert training_prompts.on_undo(before)[:5] == [*mine, None]
    profiles.delete("fog")
    *_, saved, before, _ = training_prompts.on_take(say, directory.name, "fog", *mine)
    assert (saved.value, training_prompts.on_undo(before)[:5]) == (None, [*mine, None])


def test_a_prompt_search_on_the_page_fills_the_fields_and_undoes_it(tiny_corpus, monkeypatch):
    """What a person clicks, through the page's own wiring: approach, search, its end, the fields, Undo."""

    def finish(directory: Path) -> None:
        events.append(directory, "started")
        own, found = Candidate("own", "Mine."), Candidate("examples", "Speak of fog.", (("Fog?", "Thick."),))
        events.append(
            directory, "candidates", stage="instructions", candidates=[vars(one) for one in (NONE, own, found)]
        )
        ending = {"loss": 2.0, "before": 3.0, "own": 2.5, "rows": 20, "longest": 30, "used_to_choose": False}
        events.append(directory, "finished", **ending, best=2, profile=None)

    corpus_id = corpus.create([tiny_corpus], "sea")["id"]
    monkeypatch.setattr(searches, "start", finish)
    monkeypatch.setattr(training_prompts.time, "sleep", lambda _: None)
    say = Say("en")
    with gr.Blocks() as page:
        training.build(say)
    session = Session(page)
    session.put(session.find("radio", elem_id="approach"), "prompt")
    assert session.parts[session.find("dropdown", elem_id="prompt-search-corpus-en")]["value"] == corpus_id
    prompt = session.find("textbox", label=say("profile.system_prompt"))
    examples = session.find("dataframe")
    session.put(prompt, "Mine.")
    session.click(say("prompt_search.start"))
    assert jobs.request(jobs.listed(paths.prompt_searches())[0])["system_prompt"] == "Mine."
    assert (
        "the loss is 3 without one and 2 with the best"
        in session.parts[session.find("html", elem_id="prompt-search-en")]["value"]
    )
    session.click(say("prompt_search.take"))
    assert session.parts[prompt]["value"] == "Speak of fog."
    assert session.parts[examples]["value"]["data"] == [["Fog?", "Thick."]]
    session.click(say("prompt_search.undo"))
    assert session.parts[prompt]["value"] == "Mine."
    assert session.refused == []
