"""What is watched in a run: alerts, the diagnosis of failures, replies and scores, comparisons, metrics for other programs."""

import csv
import json
import math
import re
import time

import pytest

from core import events, jobs, paths
from core.errors import UserError
from core.runs import __main__ as runs_cli
from core.runs import (
    alerts,
    compare,
    diagnosis,
    disk_space,
    eval_samples,
    forgetting,
    metrics,
    promote_checkpoint,
    runs,
    store,
)
from core.training.config import TrainConfig
from tests.conftest import raises
from tests.test_runs import write_steps
from ui import run_html
from ui.text import Say

GIB = 2**30


@pytest.fixture
def config(tiny_corpus) -> TrainConfig:
    return TrainConfig(
        base_model="Qwen/Qwen2.5-7B-Instruct", corpus=tiny_corpus, max_length=2048, batch_size=4, max_steps=100
    )


def means(losses) -> list[dict]:
    return [{"step": step, "loss": loss} for step, loss in enumerate(losses, 1)]


def evals(*losses) -> list[dict]:
    return [{"step": 10 * number, "eval_loss": loss} for number, loss in enumerate(losses)]


ROW = {
    "state": "running",
    "stage": "training",
    "disk_shortage": None,
    "skipped": None,
    "last_event_at": 1000.0,
    "started_at": 1.0,
    "step": 100,
    "adapter_step": None,
}


def names(row=ROW, losses=(), evaluations=(), scores=(), now=1001.0) -> list[str]:
    curves = {"means": means(losses), "evals": list(evaluations), "steps": []}
    return [name for name, _ in alerts.found(row, curves, list(scores), now)]


@pytest.mark.parametrize(
    ("chosen", "margin", "alert"),
    [(-70.0, 2.0, True), (-60.0, 2.0, False), (-40.0, 2.0, False), (-70.0, -0.5, False)],
)
def test_chosen_replies_that_become_unlikelier_while_the_margin_grows_raise_an_alert(chosen, margin, alert):
    first = {"step": 0, "margin": 0.0, "chosen_logp": -50.0}
    one_sided = {"step": 10, "margin": None, "chosen_logp": chosen}
    measured = [first, {"step": 9, "margin": margin, "chosen_logp": chosen}, one_sided]
    curves = {"preferences": {"train": [], "eval": measured}}
    found = alerts._chosen_falls(curves)
    assert found == (("chosen_falls", {"step": 9, "before": -50.0, "now": chosen}) if alert else None)


def test_a_run_that_goes_well_raises_no_alert():
    falling = [3 * 0.97**step + 0.3 for step in range(100)]
    assert names(losses=falling, evaluations=evals(3.0, 2.0, 1.5)) == []


def test_a_loss_that_rises_again_is_called_diverging():
    assert names(losses=[2.0] * 10 + [1.0] * 10 + [1.0 + 0.2 * step for step in range(20)]) == ["diverging"]


def test_a_loss_that_stands_still_is_called_a_plateau_while_the_run_goes_on():
    flat = [3.0 - step / 50 for step in range(50)] + [2.0] * 50
    assert names(losses=flat) == ["plateau"]
    assert names({**ROW, "state": "finished"}, losses=flat) == []


def test_an_evaluation_loss_that_rises_twice_is_called_over_fitting():
    assert names(evaluations=evals(3.0, 2.0, 2.1, 2.2)) == ["overfitting"]
    assert names(evaluations=evals(3.0, 2.0, 2.2)) == []


def test_a_run_that_only_gets_worse_is_called_worse_and_not_over_fitting():
    assert names(evaluations=evals(4.6, 9.0, 14.8), losses=[4.6, 40.0]) == ["worse"]
    assert names(evaluations=evals(4.6, 14.8)) == ["worse"]


def test_alerts_speak_of_the_weights_that_a_run_has_kept():
    """With keep_best or a checkpoint taken by hand, what came after that step says nothing about them."""
    ended, forgot = (
        {**ROW, "state": "finished"},
        [{"step": step, "score": -1.0 - step**2 / 400} for step in (0, 10, 20)],
    )
    assert names(ended, evaluations=evals(3.0, 2.0, 2.3, 2.4), scores=forgot) == ["overfitting", "forgot"]
    assert names({**ended, "adapter_step": 10}, evaluations=evals(3.0, 2.0, 2.3, 2.4), scores=forgot) == []
    assert names({**ended, "adapter_step": 0}, evaluations=evals(3.0, 9.0, 9.0), scores=forgot) == []
    rising = [2.0] * 10 + [1.0] * 10 + [1.0 + 0.2 * step for step in range(20)]
    assert names({**ended, "adapter_step": 15}, losses=rising) == []


@pytest.mark.parametrize("lang", ["en", "ru"])
@pytest.mark.parametrize("name", ["overfitting", "worse", "diverging", "nothing_moved"])
def test_a_run_that_has_ended_is_not_told_to_stop(lang, name):
    values = dict.fromkeys(("best", "last", "base", "lowest", "loss"), 2.0) | {"step": 10}
    told = {"en": r"\b[Ss]top\b", "ru": r"[Оо]станов"}[lang]
    assert re.search(told, run_html.alert(Say(lang), name, values))
    assert not re.search(told, run_html.alert(Say(lang), name, values, ended=True))


def test_held_out_loss_that_rises_with_the_training_loss_is_not_over_fitting():
    rising = [2.0] * 10 + [2.0 + step / 20 for step in range(30)]
    assert names(evaluations=evals(3.0, 2.0, 2.1, 2.2), losses=rising) == ["diverging"]


def test_a_trainer_that_says_nothing_is_called_stalled():
    assert names(now=1000.0 + 181) == ["stalled"]  # a step takes ten seconds
    assert names({**ROW, "disk_shortage": "{}"}, now=5000.0) == []
    assert names({**ROW, "state": "lost"}, now=5000.0) == []


def test_a_score_below_the_red_line_is_called_forgetting():
    scores = [{"step": 0, "score": -1.0}, {"step": 10, "score": -1.0 - math.log(2) - 0.01}]
    assert names(scores=scores) == ["forgot"]


def failed(config: TrainConfig, trouble: str, **values) -> str:
    run_id = runs.create(config)
    events.append(paths.run(run_id), "started")
    events.append(paths.run(run_id), "failed", trouble=trouble, values=values, message="words")
    return run_id


def card(monkeypatch, gib: float) -> None:
    """This machine has a card of so much memory, all of it free."""
    from core.hardware import hardware

    gpu = hardware.Gpu("NVIDIA RTX 4090", int(gib * GIB), int(gib * GIB), 8.9, 450)
    monkeypatch.setattr(hardware, "gpus", lambda: (gpu,))


def test_the_diagnosis_finds_the_smallest_change_that_fits(config, monkeypatch, no_worker):
    card(monkeypatch, 12)
    run_id = failed(config, "OutOfMemory", step="41", rows="4", tokens="2048")
    found = diagnosis.diagnose(run_id)
    assert (found["cause"], found["values"]["step"], found["step"], found["fits"]) == ("OutOfMemory", "41", 0, True)
    assert found["changes"] == {"gradient_checkpointing": True}
    assert found["after"] < found["free"] < found["needs"] or found["after"] < found["needs"] <= found["free"]
    diagnosis.treat(run_id)
    assert (runs.state(run_id), runs.config(run_id).gradient_checkpointing) == ("queued", True)


def test_after_a_checkpoint_the_diagnosis_changes_only_what_it_outlives(config, monkeypatch, no_worker):
    card(monkeypatch, 3)
    run_id = failed(config, "OutOfMemory", step="41", rows="4", tokens="2048")
    checkpoint = paths.run(run_id) / "checkpoint-40"
    checkpoint.mkdir()
    (checkpoint / "whole.json").write_text(json.dumps({"step": 40, "evals": []}))
    found = diagnosis.diagnose(run_id)
    assert (found["step"], found["fits"]) == (40, False)
    assert set(found["changes"]) <= {
        "batch_size",
        "gradient_accumulation_steps",
        "gradient_checkpointing",
        "max_length",
    }


def test_a_model_that_the_calculator_does_not_know_gets_half_the_rows_at_once(config, no_worker):
    unknown = TrainConfig(**{**vars(config), "base_model": "nobody/nothing", "batch_size": 3})
    found = diagnosis.diagnose(failed(unknown, "OutOfMemory", step="1", rows="3", tokens="100"))
    assert (found["changes"], found["fits"]) == ({"batch_size": 1, "gradient_accumulation_steps": 3}, None)


def test_a_loss_that_is_not_a_number_is_treated_with_a_tenth_of_the_learning_rate(config, no_worker):
    found = diagnosis.diagnose(failed(config, "LossNotFinite", value="nan", step="7", suggestion="2e-05"))
    assert found["changes"] == {"learning_rate": config.learning_rate / 10}


def test_the_diagnosis_leaves_the_healthy_alone(config, no_worker):
    run_id = runs.start(config)
    assert diagnosis.diagnose(run_id) is None


def test_the_meter_asks_each_answer_with_its_probability(tiny_model, tiny_tokenizer):
    import torch
    from transformers import AutoModelForCausalLM

    from core.training.encoding import prompt_ids

    model = AutoModelForCausalLM.from_pretrained(tiny_model).train()
    found = forgetting.measure(model, tiny_tokenizer)
    assert model.training
    item = forgetting.questions()["items"][0]
    asked = prompt_ids([{"role": "user", "content": item["prompt"]}], tiny_tokenizer)
    answer = tiny_tokenizer(item["answer"], add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        likely = model.eval()(torch.tensor([asked + answer])).logits[0].log_softmax(-1)
    expected = sum(float(likely[len(asked) - 1 + at, id]) for at, id in enumerate(answer)) / len(answer)
    assert forgetting._scores(model, tiny_tokenizer, [item]) == pytest.approx([expected], abs=1e-4)
    assert set(found["parts"]) == {"en", "ru", "facts", "arithmetic", "instructions"}
    assert -20 < found["score"] < 0


def test_the_set_of_the_meter_is_balanced():
    items = forgetting.questions()["items"]
    assert len({item["prompt"] for item in items}) == len(items) == 44
    assert sum(item["lang"] == "ru" for item in items) == 22


def test_letters_that_are_not_cyrillic_are_counted():
    assert forgetting.foreign_share(["Привет, мир!", "да 123"]) == 0.0
    assert forgetting.foreign_share(["да no"]) == 0.5
    assert forgetting.foreign_share(["123 ..."]) is None


def test_replies_in_one_batch_are_the_replies_one_by_one(tiny_model, tiny_tokenizer):
    from transformers import AutoModelForCausalLM

    model, asked = AutoModelForCausalLM.from_pretrained(tiny_model), ["sea", "brass fog light storm keeper", "лампа"]
    together = eval_samples.reply(model, tiny_tokenizer, asked, 12)
    assert together == [eval_samples.reply(model, tiny_tokenizer, [prompt], 12)[0] for prompt in asked]


def test_a_person_s_prompts_are_kept():
    assert eval_samples.keep([" one ", "", "two", "one"]) == ["one", "two"]
    assert eval_samples.prompts() == ["one", "two"]


def test_compared_runs_show_what_differs(config, no_worker):
    other = TrainConfig(**{**vars(config), "learning_rate": 1e-5, "seed": 8})
    pair = [runs.create(config, "one"), runs.create(other, "two")]
    write_steps(pair[1], 1, 3, of=3)
    found = compare.compare(pair)
    assert found["differ"] == {"learning_rate": [2e-4, 1e-5], "seed": [7, 8]}
    assert [(row["name"], row["step"], row["loss"], row["arena"]) for row in found["runs"]] == [
        ("one", None, None, None),
        ("two", 3, 1 / 3, None),
    ]


def vote(*cast: tuple[str, str, str]) -> None:
    """Votes of a person: (one side, the other, verdict)."""
    with store.opened() as db, db.conn:
        for number, (a, b, verdict) in enumerate(cast):
            vote = {"match_id": "m", "prompt_index": number, "voter": "person", "model_a": a, "model_b": b}
            db["votes"].insert(vote | {"verdict": verdict})


def test_votes_for_a_run_and_for_its_checkpoints_are_counted(config, no_worker):
    run_id = runs.create(config)
    store.sync(run_id)
    me, stranger = f"run:{run_id}", f"run:{run_id}-2"
    vote((me, stranger, "a"), (f"{stranger}/checkpoint-8", f"{me}/checkpoint-2", "b"), (me, stranger, "b"))
    assert store.arena(run_id) == {
        **{"opponent": stranger, "name": f"{run_id}-2", "wins": 2, "votes": 3, "share": 0.6667},
        **{"low": 0.0668, "high": 0.9958},
    }


def test_votes_without_a_winner_or_between_a_run_and_its_checkpoints_say_nothing(config, no_worker):
    run_id = runs.create(config)
    me = f"run:{run_id}"
    vote(*[(me, f"{me}/checkpoint-2", "a"), (me, "base:starter", "bad"), ("base:starter", me, "tie")] * 10)
    assert store.arena(run_id) is None


def test_the_base_is_the_opponent_that_a_run_is_judged_by(config, no_worker):
    run_id = runs.create(config, "smith")
    me, other = f"run:{run_id}", runs.create(config, "rival")
    vote(*[(me, f"run:{other}", "b")] * 9)
    assert {name: store.arena(run_id)[name] for name in ("name", "share")} == {"name": "rival", "share": 0.0}
    with store.opened() as db, db.conn:
        db["votes"].update(("m", 0, "person"), {"model_b": "base:owner/small", "verdict": "a"})
    found = store.arena(run_id)
    assert (found["opponent"], found["name"], found["share"], found["votes"]) == ("base:owner/small", "small", 1.0, 1)


def test_metrics_leave_as_a_table_of_every_step(config, no_worker, tmp_path):
    run_id = runs.create(config)
    write_steps(run_id, 1, 1_000, of=1_000)
    events.append(paths.run(run_id), "eval", step=1_000, eval_loss=0.5)
    done = metrics.write(run_id, str(tmp_path / "m.csv"))
    with (tmp_path / "m.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert done == {"rows": 1_000, "csv": str(tmp_path / "m.csv")}
    assert (rows[499]["step"], float(rows[499]["loss"]), rows[-1]["eval_loss"]) == ("500", 1 / 500, "0.5")


def test_what_preferences_measure_leaves_in_columns_of_its_own(config, no_worker, tmp_path):
    run_id = runs.create(config)
    write_steps(run_id, 1, 2, of=2)
    measured = {"margin": 0.5, "accuracy": 1.0, "chosen_logp": -9.0, "rejected_logp": -11.0}
    for part in ("train", "eval"):
        events.append(paths.run(run_id), "preference", step=2, part=part, **measured)
    metrics.write(run_id, str(tmp_path / "m.csv"))
    with (tmp_path / "m.csv").open(encoding="utf-8", newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["margin"], second["margin"], second["eval_rejected_logp"]) == ("", "0.5", "-11.0")


def test_metrics_leave_as_tensorboard_reads_them(config, no_worker, tmp_path):
    pytest.importorskip("tensorboardX")
    run_id = runs.create(config)
    write_steps(run_id, 1, 3, of=3)
    place = metrics.write(run_id, tensorboard=str(tmp_path))["tensorboard"]
    assert place == str(tmp_path / run_id)
    assert [path.name.split(".")[0] for path in (tmp_path / run_id).iterdir()] == ["events"]


def test_a_package_that_is_not_there_is_named(config, no_worker, monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "tensorboardX", None)
    with pytest.raises(UserError, match="pip install tensorboardX"):
        metrics.write(runs.create(config), tensorboard=str(tmp_path))


def test_the_command_line_shows_and_compares(config, no_worker, capsys, monkeypatch):
    one, two = (runs.create(TrainConfig(**{**vars(config), "seed": seed}), "x") for seed in (1, 2))
    for words, check in (
        (["show", one], lambda out: out["state"] == "queued" and out["config"]["seed"] == 1),
        (["queue"], lambda out: [row["run"] for row in out] == [one, two]),
        (["move", two], lambda out: [row["run"] for row in out] == [two, one]),
        (["pause", two], lambda out: out == {"run": two, "state": "held"}),
        (["compare", one, two], lambda out: out["differ"] == {"seed": [1, 2]}),
    ):
        monkeypatch.setattr("sys.argv", ["runs", *words, "--json"])
        runs_cli.main()
        assert check(json.loads(capsys.readouterr().out)), words


def test_what_a_run_occupies_is_told_by_checkpoint(config, no_worker):
    run_id = runs.create(config)
    for step in (4, 12):
        (paths.run(run_id) / f"checkpoint-{step}").mkdir()
        (paths.run(run_id) / f"checkpoint-{step}" / "weights").write_bytes(b"x" * step)
    taken = disk_space.taken(run_id)
    assert taken["checkpoints"] == {4: 4, 12: 12}
    assert taken["bytes"] > 16
    assert disk_space.checkpoint_bytes(paths.run(run_id)) == disk_space.SPARE_BYTES + 13


def test_a_long_log_is_read_in_bits_that_do_not_keep_the_page_waiting(config, no_worker):
    run_id = runs.create(config)
    write_steps(run_id, 1, 20_000, of=20_000)
    assert [(row["state"], row["step"]) for row in store.sync_all(seconds=-1)] == [("lost", None)]
    first = store.sync(run_id, seconds=0.001)
    assert 0 < first["step"] < 20_000
    assert store.sync_all(seconds=60)[0]["step"] == 20_000  # however busy the machine is


def test_a_request_is_bound_to_its_moment(config, no_worker):
    run_id, before = runs.create(config), time.time()
    runs.pause(run_id)
    asked = jobs.latest_request(paths.run(run_id))
    assert (asked["request"], asked["after"]) == ("hold", 0)
    assert before - 1 < asked["asked"] < before + 60


def checkpoint(run_id: str, step: int, **files: bytes) -> None:
    from core.training.checkpoints import seal

    path = paths.run(run_id) / f"checkpoint-{step}"
    path.mkdir()
    for name, content in files.items():
        (path / name.replace("__", ".")).write_bytes(content)
    seal(path, step, [])


def test_a_checkpoint_that_was_chosen_by_reading_becomes_the_result(config, no_worker):
    run_id = runs.create(config)
    events.append(paths.run(run_id), "started")
    for step in (2, 4):
        weights = {"adapter_model__safetensors": b"w%d" % step, "adapter_config__json": b"{}"}
        checkpoint(run_id, step, **weights, optimizer__pt=b"Adam")
    assert promote_checkpoint.kept(run_id) == [2, 4]
    adapter = promote_checkpoint.take(run_id, 4)
    assert sorted(path.name for path in adapter.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    (adapter / "generation_config.json").write_text("{}")
    promote_checkpoint.take(run_id, 2)
    assert (adapter / "adapter_model.safetensors").read_bytes() == b"w2"
    assert (adapter / "generation_config.json").is_file()
    assert not list(paths.run(run_id).glob("*.unfinished"))
    assert runs.label(run_id)["taken"][0] == 2
    with raises("CheckpointGone", match=r"no whole checkpoint of step 3\. It keeps: 2, 4\."):
        promote_checkpoint.take(run_id, 3)
    runs.resume(run_id)
    with pytest.raises(runs.StillRunning):
        promote_checkpoint.take(run_id, 4)
