"""Did it learn: the verdict of a run's measurements, the best checkpoint, the card, and the loss of the weights there."""

import html
import re
from dataclasses import asdict, replace

import pytest

from core import events, files, paths
from core.arena import numbers
from core.runs import learned, promote_checkpoint, runs, starts, store
from core.training import checkpoints
from core.training.config import TrainConfig
from ui import export, opening_road, run_learned
from ui.text import Say


@pytest.fixture
def ended(tiny_corpus, no_worker):
    """A function that makes a run which has ended, by its evaluations."""

    def make(
        losses: dict[int, float], *, rows=20, recalled=None, scores=(), replies=(), ending="finished", start="", **more
    ) -> str:
        config = TrainConfig(base_model="starter", corpus=tiny_corpus, eval_steps=10)
        run_id = runs.create(config)
        run_dir = paths.run(run_id)
        if start:
            files.write_json(run_dir / "config.json", asdict(replace(config, start=start)))
            entries = [starts._entry(start), *starts._ancestry_of(start)]
            files.write_json(run_dir / starts.CARD, {"ancestry": entries})
        events.append(run_dir, "started", resumed_from=None)
        events.append(
            run_dir,
            "data",
            rows_train=100,
            rows_eval=rows,
            tokens_train=1,
            tokens_learned=1,
            longest=9,
            rows_left_out={},
        )
        for step, loss in losses.items():
            if step:
                events.append(run_dir, "step", step=step, max_steps=max(losses), loss=loss, tokens=step)
            recall = {"recall_loss": recalled[step]} if recalled else {}
            events.append(run_dir, "eval", step=step, eval_loss=loss, **recall)
        for step, score, foreign in scores:
            events.append(run_dir, "forgetting", step=step, score=score, foreign=foreign, parts={})
        for step, reply in replies:
            events.append(run_dir, "samples", step=step, samples=[{"prompt": "Who are you?", "reply": reply}])
        events.append(run_dir, ending, **more)
        return run_id

    return make


def checkpoint(run_id: str, step: int) -> None:
    """A complete checkpoint of a run, with weights of a few bytes."""
    directory = paths.run(run_id) / f"checkpoint-{step}"
    directory.mkdir()
    (directory / "adapter_model.safetensors").write_bytes(str(step).encode())
    checkpoints.seal(directory, step, [])


@pytest.mark.parametrize(
    ("losses", "more", "verdict"),
    [
        ({0: 4.0, 10: 2.0, 20: 1.99}, {}, "learned"),
        ({0: 4.0, 10: 3.0, 20: 2.0}, {}, "falling"),
        ({0: 4.0, 10: 3.97, 20: 3.96}, {}, "nothing"),
        ({0: 4.0, 10: 3.97, 20: 3.96}, {"recalled": {0: 4.0, 10: 2.0, 20: 0.3}}, "heart"),
        ({0: 4.0, 10: 3.97, 20: 3.96}, {"recalled": {0: 4.0, 10: 3.9, 20: 3.9}}, "nothing"),
        ({0: 4.6, 10: 9.0, 20: 14.8}, {}, "worse"),
        ({0: 4.0, 10: 2.0, 20: 1.99}, {"rows": 3}, "too_small"),
        ({0: 4.0, 10: 2.0, 20: 1.99}, {"scores": [(0, -1.0, 0.0), (20, -1.8, 0.0)]}, "forgot"),
        ({0: 4.0, 10: 2.0, 20: 1.99}, {"scores": [(0, -1.0, 0.0), (20, -1.0, 0.4)]}, "forgot"),
        ({0: 4.0}, {}, "unmeasured"),
        ({}, {}, "unmeasured"),
    ],
)
def test_the_verdict_follows_from_what_was_measured(ended, losses, more, verdict):
    assert learned.of(ended(losses, **more))["verdict"] == verdict


def test_a_run_that_then_learned_by_heart_names_the_checkpoint_to_take(ended):
    run_id = ended({0: 4.0, 10: 2.0, 20: 2.5})
    assert learned.of(run_id)["verdict"] == "learned"  # nothing better is there to take
    checkpoint(run_id, 10)
    found = learned.of(run_id)
    assert (found["verdict"], found["best"]) == ("overfit", 10)
    assert "10" in run_learned.card(Say("en"), store.sync(run_id))


def test_what_is_forgotten_adds_up_over_the_runs_that_go_on_from_one_another(ended):
    """Half a nat of each of three runs: none alone has crossed the red line."""
    losses, runs_made = {0: 4.0, 10: 2.0, 20: 1.99}, []
    for begun in (0.0, 0.5, 1.0):
        start = f"run:{runs_made[-1]}" if runs_made else ""
        scores = [(0, -1.0 - begun, 0.01 + begun / 10), (20, -1.5 - begun, 0.06 + begun / 10)]
        runs_made.append(ended(losses, scores=scores, start=start))
    found = [learned.of(run_id) for run_id in runs_made]
    assert [one["forgot"] for one in found] == pytest.approx([-0.5, -1.0, -1.5])
    assert found[-1]["foreign"] == pytest.approx((0.01, 0.16))
    assert [one["since"] for one in found] == ["base"] * 3
    assert [one["verdict"] for one in found] == ["learned", "forgot", "forgot"]
    assert numbers.forgetting(f"run:{runs_made[1]}")["change"] == pytest.approx(-1.0)


@pytest.mark.parametrize("lang", ["en", "ru"])
def test_a_run_that_goes_on_from_what_was_not_measured_does_not_speak_of_the_base(ended, lang):
    say, parent = Say(lang), ended({0: 4.0, 10: 2.0})
    run_id = ended({0: 2.0, 10: 3.0}, scores=[(0, -1.0, 0.0), (10, -1.1, 0.0)], start=f"run:{parent}")
    assert (learned.of(run_id)["forgot"], learned.of(run_id)["since"]) == (pytest.approx(-0.1), "start")
    card = run_learned.card(say, store.sync(run_id))
    assert say("learned.forgot_by.start") in card
    assert say("learned.worse.start", before=say.number(2.0), after=say.number(3.0)) in card
    assert say("learned.worse", before=say.number(2.0), after=say.number(3.0)) not in card


def test_the_arena_s_prior_knowledge_is_that_of_the_weights_that_reply(ended):
    run_id = ended({0: 4.0, 10: 2.0, 20: 1.9}, scores=[(0, -1.0, 0.0), (10, -1.2, 0.1), (20, -2.0, 0.3)])
    assert numbers.forgetting(f"run:{run_id}") == {"change": -1.0, "since": "base", "foreign": 0.3}
    assert numbers.forgetting(f"run:{run_id}/checkpoint-14") == {
        **{"change": pytest.approx(-0.2), "since": "base", "foreign": 0.1},
    }
    assert numbers.forgetting(f"run:{run_id}/checkpoint-5") is None
    checkpoint(run_id, 10)
    promote_checkpoint.take(run_id, 10)
    assert numbers.forgetting(f"run:{run_id}")["foreign"] == 0.1
    assert numbers.forgetting("run:gone") is None
    assert numbers.forgetting("base:starter") is None


@pytest.mark.parametrize("lang", ["en", "ru"])
def test_foreign_letters_are_shown_before_and_after_and_not_as_a_change(ended, lang):
    say = Say(lang)
    run_id = ended({0: 4.0, 10: 2.0}, scores=[(0, -1.0, 0.25), (10, -1.0, 0.05)])
    assert f"{say.percent(0.25)} → {say.percent(0.05)}" in run_learned.card(say, store.sync(run_id))


def test_the_best_checkpoint_has_not_forgotten():
    losses, scores = (
        {10: 2.0, 20: 1.5},
        [
            {"step": 0, "score": -1.0, "foreign_share": 0.0},
            {"step": 10, "score": -1.1, "foreign_share": 0.0},
            {"step": 20, "score": -2.0, "foreign_share": 0.0},
        ],
    )
    assert learned.best_checkpoint(losses, [], [10, 20]) == 20
    assert learned.best_checkpoint(losses, scores, [10, 20]) == 10
    assert learned.best_checkpoint(losses, scores, [20]) == 20  # better than none
    assert learned.best_checkpoint({}, scores, [10]) is None


def test_the_loss_is_that_of_the_weights_that_are_there(ended):
    kept = ended({0: 4.0, 10: 2.0, 20: 2.5}, kept_step=10, eval_loss=2.0)
    assert (store.sync(kept)["adapter_step"], store.sync(kept)["eval_loss"]) == (10, 2.0)

    taken = ended({0: 4.0, 10: 2.0, 20: 2.5})
    assert store.sync(taken)["eval_loss"] == 2.5
    checkpoint(taken, 10)
    promote_checkpoint.take(taken, 10)
    assert (store.sync(taken)["adapter_step"], store.sync(taken)["eval_loss"]) == (10, 2.0)
    assert learned.of(taken)["after"] == 2.0
    events.append(paths.run(taken), "started", resumed_from="checkpoint-20")  # it goes on: other weights come of it
    events.append(paths.run(taken), "step", step=30, max_steps=30, loss=1.8, tokens=30)
    events.append(paths.run(taken), "eval", step=30, eval_loss=1.9)
    events.append(paths.run(taken), "finished", kept_step=None)
    row = store.sync(taken)
    assert (row["adapter_step"], row["eval_loss"]) == (None, 1.9)


@pytest.mark.parametrize("lang", ["en", "ru"])
def test_the_card_shows_both_replies_and_is_a_picture(ended, lang):
    say = Say(lang)
    run_id = ended({0: 4.0, 10: 2.0, 20: 1.99}, replies=[(0, "A model."), (20, "<b>a smith</b> " * 60)])
    shown = run_learned.card(say, store.sync(run_id))
    assert say("learned.learned", before=say.number(4.0), after=say.number(1.99)) in shown
    assert "A model." in shown
    assert "<b>a smith" not in shown
    drawn = re.search(r"<svg.*</svg>", shown, re.DOTALL)[0]
    assert "foreignObject" not in drawn
    assert drawn.count("smith") < 30  # five lines of it
    assert "…" in drawn


@pytest.mark.parametrize("lang", ["en", "ru"])
def test_the_picture_has_every_figure_and_shortens_what_is_long_in_sight(ended, monkeypatch, lang):
    run_id = ended({0: 4.0, 10: 2.0})
    shown = learned.of(run_id) | {"recall": (4.0, 1.0), "forgot": -0.25, "foreign": (0.125, 0.25), "pairs": 0.75}
    votes = {"name": "a base with a name that is far too long", "votes": 10, "share": 0.7, "low": 0.27, "high": 0.96}
    shown |= {"verdict": "forgot", "best": 5, "prompt": {"loss": 3.0, "gain": 1.0, "gains": True}, "arena": votes}
    monkeypatch.setattr(learned, "of", lambda _: shown)
    say = Say(lang)
    drawn = re.search(r"<svg.*</svg>", run_learned.card(say, store.sync(run_id)), re.DOTALL)[0]
    told = [html.unescape(text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", drawn)]
    for value in (say.number(-0.25), say.percent(0.75), f"{say.percent(0.125)} → {say.percent(0.25)}"):
        assert value in told
    assert say("learned.votes", **run_learned.shares(votes)) in told
    assert [text for text in told if text.endswith("…")]  # the label with the name
    monkeypatch.setattr(run_learned, "SENTENCE", run_learned.SENTENCE | {"max_lines": 2})
    drawn = re.search(r"<svg.*</svg>", run_learned.card(say, store.sync(run_id)), re.DOTALL)[0]
    assert len(re.findall(r'y="(?:146|172)" font-size="20">[^<]*</text>', drawn)) == 2
    assert re.search(r'y="172" font-size="20">[^<]*…</text>', drawn)


def test_the_card_leads_to_what_can_be_done_with_the_weights(ended):
    run_id = ended({0: 4.0, 10: 2.0})
    assert "next-steps" not in run_learned.card(Say("en"), store.sync(run_id))
    (paths.run(run_id) / "adapter").mkdir()
    led = re.findall(r'href="#([^"]*)"', run_learned.card(Say("en"), store.sync(run_id)))
    assert led == [f"playground/run:{run_id}", f"playground/arena:{run_id}", f"export/{run_id}"]
    assert f'href="#playground/run:{run_id}"' in opening_road.draw(Say("ru"))
    assert "next-steps" not in run_learned.card(Say("en"), store.sync(run_id), leads=False)  # they are below it there
    assert export.on_load(Say("en"), None, None, run_id)[0].value == run_id


def test_no_card_while_a_run_goes_on(ended):
    assert run_learned.card(Say("en"), store.sync(ended({0: 4.0, 10: 2.0}, ending="failed"))) == ""


@pytest.mark.parametrize("lang", ["en", "ru"])
def test_a_run_on_preferences_says_how_many_held_out_pairs_it_tells_apart(ended, lang):
    run_id = ended({0: 0.69, 10: 0.4})
    for step, accuracy in ((0, 0.0), (10, 0.75)):
        measured = {"margin": 1.0, "accuracy": accuracy, "chosen_logp": -9.0, "rejected_logp": -11.0}
        events.append(paths.run(run_id), "preference", step=step, part="eval", **measured)
    events.append(paths.run(run_id), "finished")
    assert learned.of(run_id)["pairs"] == 0.75
    card = run_learned.card(Say(lang), store.sync(run_id))
    assert Say(lang)("learned.pairs") in card
    assert Say(lang).percent(0.75) in card
    assert learned.of(ended({0: 4.0, 10: 2.0}))["pairs"] is None
