"""The index over runs: what an event changes in a run's row, what a deletion takes along, which steps a long curve keeps."""

import sqlite3

import pytest

from core import events, paths
from core.runs import database, runs, store
from core.training.config import TrainConfig


def created(tiny_corpus) -> str:
    return runs.create(TrainConfig(base_model="base", corpus=tiny_corpus))


def log(run_id: str, *logged: dict) -> None:
    for event in logged:
        events.append(paths.run(run_id), **event)


def step(number: int, loss: float, grad_norm: float = 1.0, last: int = 4000) -> dict:
    others = {"learning_rate": 1e-4, "tokens_per_second": 10.0, "seconds_left": 5.0, "memory_gib": 1.0}
    return {"event": "step", "step": number, "max_steps": last, "loss": loss, "grad_norm": grad_norm} | others


FAILED = {"event": "failed", "trouble": "OutOfMemory", "values": {"step": "2"}, "message": "Memory ran out."}


def test_a_run_that_starts_again_has_lost_its_error_and_one_that_ended_its_time_left(tiny_corpus, no_worker):
    run_id = created(tiny_corpus)
    log(run_id, {"event": "started"}, step(1, 3.0), FAILED)
    row = store.sync(run_id)
    assert (row["error"], row["error_message"], row["seconds_left"]) == ("OutOfMemory", "Memory ran out.", None)
    log(run_id, {"event": "started"})
    row = store.sync(run_id)
    assert (row["error"], row["error_message"], row["ended_at"]) == (None, None, None)


def test_the_row_of_a_run_names_its_newest_checkpoint(tiny_corpus, no_worker):
    run_id = created(tiny_corpus)
    log(run_id, {"event": "started"}, step(1, 3.0))
    for number in (2, 4):
        log(run_id, {"event": "checkpoint", "step": number, "path": f"checkpoint-{number}", "bytes": 10})
    assert store.sync(run_id)["checkpoint_step"] == 4


def test_the_end_of_a_run_stands_in_its_row(tiny_corpus, no_worker):
    run_id = created(tiny_corpus)
    ending = {"step_seconds": 0.5, "step_tokens": 80.0, "kept_step": 2, "stopped_early": True, "peak_memory_gib": 1.5}
    losses = [{"event": "eval", "step": number, "eval_loss": loss} for number, loss in ((0, 4.0), (2, 2.0), (4, 3.0))]
    log(run_id, {"event": "started"}, *losses, {"event": "finished", **ending})
    row = store.sync(run_id)
    assert (row["base_eval_loss"], row["eval_loss"], row["best_eval_loss"], row["best_step"]) == (
        4.0,
        2.0,
        2.0,
        2,
    )  # of the weights kept
    names = ("seconds_per_step", "tokens_per_step", "adapter_step", "stopped_early", "peak_memory_gib")
    assert tuple(row[name] for name in names) == tuple(ending.values())
    assert row["duration_seconds"] == row["ended_at"] - row["started_at"]


def test_rows_of_a_run_that_is_not_in_the_database_are_refused():
    with store.opened() as db, pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        db.conn.execute("insert into evals (run_id, step, eval_loss) values ('nobody', 1, 2.0)")


def test_a_deleted_run_leaves_no_row_in_any_table(tiny_corpus, no_worker):
    run_id = created(tiny_corpus)
    samples = [{"prompt": "who?", "reply": "me"}]
    score = {"event": "forgetting", "step": 2, "score": -1.0, "foreign": 0.0, "parts": {}}
    log(run_id, {"event": "started"}, step(1, 3.0), {"event": "eval", "step": 1, "eval_loss": 2.0})
    log(run_id, {"event": "samples", "step": 2, "samples": samples}, score, pairs(2), FAILED)
    store.sync(run_id)
    tables = ("steps", "curve_buckets", "evals", "samples", "forgetting", "preferences", "runs")
    with store.opened() as db:
        assert [db[table].count for table in tables] == [1] * 7
    store.delete(run_id)
    with store.opened() as db:
        assert [db[table].count for table in tables] == [0] * 7


def test_a_long_curve_keeps_the_lowest_and_the_highest_loss_and_the_steepest_gradient(tiny_corpus, no_worker):
    run_id = created(tiny_corpus)
    losses = {number: 3.0 + number % 7 / 100 for number in range(1, 41)}
    losses |= {5: 1.25, 17: 9.5}
    log(run_id, {"event": "started"}, *(step(n, loss, 50.0 if n == 23 else 1.0) for n, loss in losses.items()))
    store.sync(run_id)
    curves = store.curves(run_id)
    shown = {row["step"]: row for row in curves["steps"]}
    assert len(shown) < len(losses)
    assert (shown[5]["loss"], shown[17]["loss"], shown[23]["grad_norm"]) == (1.25, 9.5, 50.0)
    assert [row["step"] for row in curves["ends"]] == [9, 19, 29, 39, 40]


def test_the_migration_that_added_tables_sets_every_run_back_to_the_beginning_of_its_log():
    db = store.Database(memory=True)
    database.migrations.apply(db, stop_before="m003_watching")
    db["runs"].insert({"id": "old", "offset": 123})
    database.migrations.apply(db)
    assert db["runs"].get("old")["events_offset"] == 0


def test_what_preferences_measure_is_thinned_like_the_loss_and_gone_when_a_run_goes_back(tiny_corpus, no_worker):
    run_id = created(tiny_corpus)
    log(run_id, {"event": "started"}, *(one for number in range(1, 41) for one in (step(number, 3.0), pairs(number))))
    log(run_id, pairs(0, "eval"), pairs(20, "eval"), pairs(40, "eval"))
    store.sync(run_id)
    measured = store.curves(run_id)["preferences"]
    assert [row["step"] for row in measured["train"]] == [9, 19, 29, 39, 40]  # buckets of ten steps of 4,000
    assert measured["train"][1] == {
        "step": 19,
        "margin": 14.5,
        "accuracy": 0.5,
        "chosen_logp": -14.5,
        "rejected_logp": -29,
    }
    assert [row["step"] for row in measured["eval"]] == [0, 20, 40]
    log(run_id, {"event": "started", "resumed_from": "checkpoint-20"})
    store.sync(run_id)
    measured = store.curves(run_id)["preferences"]
    assert [measured[part][-1]["step"] for part in ("train", "eval")] == [20, 20]


def pairs(number: int, part: str = "train") -> dict:
    measured = {"margin": number, "accuracy": 0.5, "chosen_logp": -number, "rejected_logp": -2 * number}
    return {"event": "preference", "part": part, "step": number, **measured}
