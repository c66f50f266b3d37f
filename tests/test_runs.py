"""Runs: real workers and trainers on a tiny model."""

import itertools
import json
import os
import signal
import time

import pytest
from filelock import FileLock

from core import events, paths, runs, store
from core.recipe import CorpusGone, TrainConfig
from tests.conftest import wait_for


@pytest.fixture
def config(tiny_model, tiny_corpus) -> TrainConfig:
    return TrainConfig(base_model=tiny_model, corpus=tiny_corpus, method="lora", max_steps=4, eval_steps=2)


@pytest.fixture
def no_worker(monkeypatch):
    """Nobody takes what is queued: states can be looked at in peace."""
    monkeypatch.setattr(runs, "start_worker", lambda: None)


def wait_for_step(run_id: str, step: int) -> None:
    end = time.monotonic() + 120
    while not any(event.get("step") == step for event in events.read(paths.run(run_id))[0]):
        assert time.monotonic() < end, events.last(paths.run(run_id))
        time.sleep(0.02)


def test_a_finished_run_logged_every_step_and_kept_its_adapter(trained_run):
    seen = events.read(paths.run(trained_run))[0]
    assert [event["step"] for event in seen if event["event"] == "step"] == [1, 2, 3, 4, 5, 6]
    assert [event["step"] for event in seen if event["event"] == "eval"] == [0, 3, 6]
    assert (seen[0]["event"], seen[-1]["event"]) == ("started", "finished")
    assert (paths.run(trained_run) / "adapter" / "adapter_model.safetensors").is_file()
    assert runs.state(trained_run) == "finished"


def test_a_new_run_is_queued(config, no_worker):
    run_id = runs.start(config, "Мой запуск")
    assert runs.state(run_id) == "queued"
    assert runs.config(run_id) == config
    assert runs.label(run_id)["name"] == "Мой запуск"
    assert runs.needs_worker()


def test_the_same_settings_are_not_queued_twice(config, no_worker):
    runs.start(config, "first")
    with pytest.raises(runs.AlreadyRunning, match='The run "first" with these very settings is queued already'):
        runs.start(config, "second")
    assert len(runs.listed()) == 1


def test_two_runs_of_one_name_and_second_have_two_directories(config, no_worker):
    first, second = runs.create(config, "x"), runs.create(config, "x")
    assert first != second
    assert runs.listed() == sorted([first, second])


def test_a_queued_run_that_is_stopped_leaves_the_queue(config, no_worker):
    run_id = runs.start(config)
    runs.stop(run_id)
    assert runs.state(run_id) == "stopped"
    assert not runs.needs_worker()


def test_the_lock_is_life(config, no_worker):
    run_id = runs.start(config)
    with FileLock(paths.run(run_id) / "run.lock"):
        assert runs.state(run_id) == "running"
        runs.stop(run_id)
        assert runs.state(run_id) == "stopping"
        with pytest.raises(runs.StillRunning, match="Stop it first"):
            runs.delete(run_id)
    events.append(paths.run(run_id), "started")
    assert runs.state(run_id) == "lost"


def test_resume_queues_a_lost_run_until_its_trainer_speaks(config, no_worker):
    run_id = runs.start(config)
    events.append(paths.run(run_id), "started")
    runs.resume(run_id)
    assert runs.state(run_id) == "queued"
    events.append(paths.run(run_id), "started")
    assert runs.state(run_id) == "lost"


def test_a_finished_run_is_not_resumed(trained_run):
    with pytest.raises(runs.NothingToResume, match="is finished already"):
        runs.resume(trained_run)


def test_a_running_run_is_not_resumed(config, no_worker):
    run_id = runs.start(config)
    with pytest.raises(runs.StillRunning, match="Stop it first"):
        runs.resume(run_id)


def test_deleting_a_run_leaves_what_it_did_not_make(config, no_worker):
    run_id = runs.start(config)
    path = paths.run(run_id)
    (path / "checkpoint-2").mkdir()
    (path / "checkpoint-2" / "weights").write_text("x")
    (path / "мои заметки.txt").write_text("keep me")
    runs.delete(run_id)
    assert [file.name for file in path.iterdir()] == ["мои заметки.txt"]
    assert runs.listed() == []


@pytest.mark.parametrize("name", ["../x", "/etc", "a/b", "..", "", ".hidden", "a\\b", "a\x00b"])
def test_a_run_is_never_outside_its_directory(name):
    with pytest.raises(paths.NotOurs):
        paths.run(name)


def test_a_link_among_the_runs_is_refused(tmp_path):
    (paths.runs() / "link").symlink_to(tmp_path)
    with pytest.raises(paths.NotOurs):
        paths.run("link")


def test_a_deleted_run_is_named(trained_run):
    with pytest.raises(runs.RunGone, match="There is no run nobody"):
        runs.state("nobody")


def test_a_run_whose_corpus_is_gone_fails_in_words(config, tmp_path):
    from core import trainer

    gone = TrainConfig(**{**vars(config), "corpus": str(tmp_path / "gone")})
    run_id = runs.create(gone)
    assert trainer.run(paths.run(run_id)) == "failed"
    last = events.last(paths.run(run_id))
    assert (last["trouble"], last["values"]) == ("CorpusGone", {"path": str(tmp_path / "gone")})
    assert store.sync(run_id)["state"] == "failed"


def test_a_run_that_is_trained_already_is_not_trained_twice(config, monkeypatch):
    from core import trainer

    monkeypatch.setattr(trainer, "LOCK_SECONDS", 0.1)
    run_id = runs.create(config)
    with (
        FileLock(paths.run(run_id) / "run.lock"),
        pytest.raises(trainer.AlreadyTraining, match="by another process already"),
    ):
        trainer.run(paths.run(run_id))


def test_memory_that_runs_out_is_worded_with_the_step(config):
    from core import trainer

    run_id = runs.create(config)
    full = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
    assert type(trainer._worded(full, paths.run(run_id))) is trainer.ModelTooLarge
    events.append(paths.run(run_id), "model")
    events.append(paths.run(run_id), "step", step=41)
    worded = trainer._worded(full, paths.run(run_id))
    assert str(worded).startswith("Memory ran out at step 42. Halve batch_size")


@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device"), RuntimeError("SafetensorError: I/O error: os error 28")],
)
def test_a_full_disk_is_worded_whoever_stumbles_over_it(config, error):
    from core import trainer

    worded = trainer._worded(error, paths.run(runs.create(config)))
    assert type(worded) is trainer.DiskRanFull


def test_one_damaged_run_does_not_hide_the_others(config, no_worker, tmp_path):
    good, bad, linked = runs.start(config, "good"), runs.create(config, "bad"), runs.create(config, "linked")
    (paths.run(bad) / "config.json").write_text("{ broken", encoding="utf-8")
    paths.run(linked).rename(tmp_path / "elsewhere")
    (paths.runs() / linked).symlink_to(tmp_path / "elsewhere")
    assert [row["id"] for row in store.sync_all()] == [good]
    assert good in runs.queued()


def test_a_line_that_a_full_disk_cut_short_is_passed_over(config, no_worker):
    run_id = runs.create(config)
    events.append(paths.run(run_id), "started")
    with events.file(paths.run(run_id)).open("ab") as file:
        file.write(b'{"event": "step", "t{"event": "failed"}\n\x00\x00\n')
    events.append(paths.run(run_id), "failed", trouble="DiskRanFull", values={"path": "x"}, message="full")
    assert (runs.state(run_id), store.sync(run_id)["trouble"]) == ("failed", "DiskRanFull")


def test_those_who_look_do_not_see_each_other(trained_run):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as observers:
        seen = set(observers.map(lambda _: runs.state(trained_run), range(400)))
    assert seen == {"finished"}


def test_a_run_that_is_resumed_while_the_worker_works_has_its_turn(config, monkeypatch, no_worker):
    from core import worker

    first, second, order = runs.start(config, "a"), runs.start(TrainConfig(**{**vars(config), "seed": 8}), "b"), []

    def trained(run_id):
        order.append(run_id)
        events.append(paths.run(run_id), "started")
        events.append(paths.run(run_id), "stopped" if order == [first] else "finished")
        if run_id == second:
            runs.resume(first)

    monkeypatch.setattr(worker, "run_trainer", trained)
    worker.work()
    assert order == [first, second, first]


def test_a_deletion_that_was_cut_short_can_be_repeated(config, no_worker, monkeypatch):
    run_id = runs.create(config)
    (paths.run(run_id) / "checkpoint-2").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(runs.shutil, "rmtree", lambda path: (_ for _ in ()).throw(PermissionError(str(path))))
        with pytest.raises(PermissionError):
            runs.delete(run_id)
    assert (runs.listed(), runs.state(run_id)) == ([run_id], "stopped")
    runs.delete(run_id)
    assert not paths.run(run_id).exists()


def test_a_trainer_that_dies_before_its_first_word_is_put_on_record(config, monkeypatch, no_worker):
    from core import worker

    run_id = runs.create(config)
    (paths.run(run_id) / "config.json").write_text("{ broken", encoding="utf-8")
    monkeypatch.setattr(runs, "spawn_detached", lambda command, cwd, log: _Died(log))
    worker.run_trainer(run_id)
    last = events.last(paths.run(run_id))
    assert (last["event"], last["trouble"], last["values"]) == (
        "failed",
        "TrainerDidNotStart",
        {"reason": "ImportError: no such thing."},
    )
    config.save(paths.run(run_id) / "config.json")
    assert (store.sync(run_id)["state"], store.sync(run_id)["seconds"]) == ("failed", None)


class _Died:
    def __init__(self, log):
        log.write(b"ImportError: no such thing.\n")

    def wait(self) -> int:
        return 1


def test_the_database_can_be_rebuilt_from_the_runs(trained_run):
    before, curves = store.sync(trained_run), store.curves(trained_run)
    paths.database().unlink()
    assert store.sync(trained_run) == before
    assert store.curves(trained_run) == curves
    assert before["state"] == "finished"
    assert (before["step"], before["max_steps"]) == (6, 6)
    assert before["eval_loss"] < before["base_eval_loss"]
    assert [row["step"] for row in curves["steps"]] == [1, 2, 3, 4, 5, 6]


def test_a_new_name_survives_the_loss_of_the_database(config, no_worker):
    run_id = runs.start(config)
    store.rename(run_id, "Лучший", "оставить")
    paths.database().unlink()
    row = store.sync(run_id)
    assert (row["name"], row["note"]) == ("Лучший", "оставить")


def test_a_long_run_is_thinned_evenly_with_both_ends(config, no_worker):
    run_id = runs.start(config)
    for step in range(1, 10_001):
        events.append(paths.run(run_id), "step", step=step, loss=1 / step)
    store.sync(run_id)
    steps = [row["step"] for row in store.curves(run_id)["steps"]]
    assert (steps[0], steps[-1]) == (1, 10_000)
    assert 400 < len(steps) < 600
    assert {after - before for before, after in itertools.pairwise(steps)} <= {20, 19}


def test_a_run_deleted_from_the_disk_leaves_the_list(config, no_worker):
    run_id = runs.start(config)
    assert [row["id"] for row in store.sync_all()] == [run_id]
    runs.delete(run_id)
    assert store.sync_all() == []


@pytest.mark.slow
def test_a_killed_run_is_lost_and_resumes_to_the_same_losses(config):
    straight = TrainConfig(**{**vars(config), "max_steps": 12, "eval_steps": 4})
    whole = runs.start(straight, "whole")
    wait_for(whole, "finished")
    killed = runs.start(TrainConfig(**{**vars(straight), "save_total_limit": 3}), "killed")
    wait_for_step(killed, 6)
    started = events.read(paths.run(killed))[0][0]
    os.kill(started["pid"], signal.SIGKILL)
    wait_for(killed, "lost")
    runs.resume(killed)
    wait_for(killed, "finished")
    starts = [event for event in events.read(paths.run(killed))[0] if event["event"] == "started"]
    assert starts[1]["resumed_from"] == "checkpoint-4"
    losses = {run_id: _losses(run_id) for run_id in (whole, killed)}
    assert losses[killed] == losses[whole]


@pytest.mark.slow
def test_stop_keeps_the_adapter_and_the_queue_goes_on(config):
    long = TrainConfig(**{**vars(config), "max_steps": 5000, "eval_steps": 5000})
    first, second = runs.start(long, "long"), runs.start(config, "short")
    wait_for_step(first, 3)
    assert runs.state(second) == "queued"
    runs.stop(first)
    wait_for(first, "stopped")
    assert (paths.run(first) / "adapter" / "adapter_config.json").is_file()
    wait_for(second, "finished")


def _losses(run_id: str) -> dict[int, float]:
    seen = events.read(paths.run(run_id))[0]
    return {event["step"]: event["loss"] for event in seen if event["event"] == "step"}


def test_the_command_line_says_what_is_wrong_in_one_line(config, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["runs", "stop", "nobody"])
    with pytest.raises(SystemExit) as ended:
        runs.main()
    assert str(ended.value) == "There is no run nobody. It was deleted: choose another one from the list."


def test_the_command_line_lists_runs_as_json(trained_run, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["runs", "list", "--json"])
    runs.main()
    assert json.loads(capsys.readouterr().out) == [{"run": trained_run, "state": "finished", "name": "первый запуск"}]


def test_a_run_on_a_deleted_corpus_is_not_even_queued(config, no_worker):
    with pytest.raises(CorpusGone, match=r"There is no corpus in poems\. It was moved or deleted"):
        runs.start(TrainConfig(**{**vars(config), "corpus": "poems"}))
    assert runs.listed() == []


def test_a_finished_run_teaches_the_estimate(trained_run):
    from core.estimate import learned

    row = store.sync(trained_run)
    known = learned.rows()
    assert [(found["method"], found["predicted_seconds"]) for found in known] == [("lora", row["predicted_seconds"])]
    assert known[0]["measured_seconds"] > 0
    assert known[0]["measured_bytes"] == 0  # resident memory of a process is not memory of a card


def test_many_threads_may_open_a_database_that_is_not_there_yet(config, no_worker):
    """A page that opens for the first time fills three tabs at once."""
    from concurrent.futures import ThreadPoolExecutor

    run_id = runs.create(config)
    with ThreadPoolExecutor(8) as tabs:
        rows = list(tabs.map(lambda _: store.sync_all(), range(24)))
    assert all([row["id"] for row in found] == [run_id] for found in rows)
    with store.opened() as db:
        assert db.journal_mode == "wal"
