"""Runs: real workers and trainers on a tiny model."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from filelock import FileLock

from core import events, files, jobs, paths, process
from core.runs import __main__ as runs_cli
from core.runs import eval_samples, queue, runs, store
from core.training.config import TrainConfig
from tests.conftest import raises, wait_for


@pytest.fixture
def config(tiny_model, tiny_corpus) -> TrainConfig:
    return TrainConfig(base_model=tiny_model, corpus=tiny_corpus, method="lora", max_steps=4, eval_steps=2)


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
    assert queue.needs_worker()


def test_the_same_settings_are_not_queued_twice(config, no_worker):
    runs.start(config, "first")
    with raises("AlreadyRunning", match='The run "first" with these very settings is queued already'):
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
    assert not queue.needs_worker()


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


def test_a_trainer_that_took_the_lock_after_the_first_look_is_no_loss(config, monkeypatch, no_worker):
    run_id = runs.create(config)
    events.append(paths.run(run_id), "started")
    looks = iter([False, True])
    monkeypatch.setattr(jobs, "is_alive", lambda path: next(looks))
    assert runs.state(run_id) == "running"
    looks = iter([False, False])
    assert runs.state(run_id) == "lost"


def test_a_finished_run_is_not_resumed(trained_run):
    with raises("NothingToResume", match="is finished already"):
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
    from core.runs import trainer

    gone = TrainConfig(**{**vars(config), "corpus": str(tmp_path / "gone")})
    run_id = runs.create(gone)
    assert trainer.run(paths.run(run_id)) == "failed"
    last = events.last(paths.run(run_id))
    assert (last["trouble"], last["values"]) == ("CorpusGone", {"path": str(tmp_path / "gone")})
    assert store.sync(run_id)["state"] == "failed"


def test_a_run_that_is_trained_already_is_not_trained_twice(config, monkeypatch):
    from core.runs import trainer

    monkeypatch.setattr(jobs, "LOCK_SECONDS", 0.1)
    run_id = runs.create(config)
    with (
        FileLock(paths.run(run_id) / "run.lock"),
        pytest.raises(jobs.AlreadyAtWork, match="by another process already"),
    ):
        trainer.run(paths.run(run_id))


def test_a_run_that_another_trainer_was_faster_with_is_left_alone(config, no_worker):
    """A worker was killed between its trainer's start and its lock; the next one chose the same run."""
    from core.runs import trainer

    run_id, seen = runs.create(config), 0
    events.append(paths.run(run_id), "started")
    events.append(paths.run(run_id), "finished")
    assert trainer.run(paths.run(run_id), seen) == "overtaken"
    assert runs.state(run_id) == "finished"


def test_memory_that_runs_out_is_worded_with_the_step(config):
    from core.runs import trainer

    run_id = runs.create(config)
    full = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
    assert trainer._worded(full, paths.run(run_id)).name == "ModelTooLarge"
    events.append(paths.run(run_id), "model")
    events.append(paths.run(run_id), "step", step=40)
    full.batch_shape, full.batch_rows = (2, 8190), "7, 12"
    words = "Memory ran out at step 41, in a batch of 2 rows of 8190 tokens (in the corpus: 7, 12). Halve batch_size"
    assert str(trainer._worded(full, paths.run(run_id))).startswith(words)


@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device"), RuntimeError("SafetensorError: I/O error: os error 28")],
)
def test_a_full_disk_is_worded_whoever_stumbles_over_it(config, error):
    from core.runs import trainer

    worded = trainer._worded(error, paths.run(runs.create(config)))
    assert type(worded) is trainer.DiskRanFull


def test_one_damaged_run_does_not_hide_the_others(config, no_worker, tmp_path):
    good, bad, linked = runs.start(config, "good"), runs.create(config, "bad"), runs.create(config, "linked")
    (paths.run(bad) / "config.json").write_text("{ broken", encoding="utf-8")
    paths.run(linked).rename(tmp_path / "elsewhere")
    (paths.runs() / linked).symlink_to(tmp_path / "elsewhere")
    assert [row["id"] for row in store.sync_all()] == [good]
    assert good in queue.next_ones()


def test_a_line_that_a_full_disk_cut_short_is_passed_over(config, no_worker):
    run_id = runs.create(config)
    events.append(paths.run(run_id), "started")
    with events.file(paths.run(run_id)).open("ab") as file:
        file.write(b'{"event": "step", "t{"event": "failed"}\n\x00\x00\n')
    events.append(paths.run(run_id), "failed", trouble="DiskRanFull", values={"path": "x"}, message="full")
    assert (runs.state(run_id), store.sync(run_id)["error"]) == ("failed", "DiskRanFull")


def test_those_who_look_do_not_see_each_other(trained_run):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as observers:
        seen = set(observers.map(lambda _: runs.state(trained_run), range(400)))
    assert seen == {"finished"}


def test_a_run_that_is_resumed_while_the_worker_works_has_its_turn(config, monkeypatch, no_worker):
    from core.runs import worker

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
    from core.runs import worker

    run_id = runs.create(config)
    (paths.run(run_id) / "config.json").write_text("{ broken", encoding="utf-8")
    monkeypatch.setattr(process, "spawn_detached", lambda command, log: _Died(log))
    worker.run_trainer(run_id)
    last = events.last(paths.run(run_id))
    assert (last["event"], last["trouble"], last["values"]) == (
        "failed",
        "TrainerDidNotStart",
        {"reason": "ImportError: no such thing."},
    )
    config.save(paths.run(run_id) / "config.json")
    assert (store.sync(run_id)["state"], store.sync(run_id)["duration_seconds"]) == ("failed", None)


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


def write_steps(run_id: str, first: int, last: int, of: int = 10_000, loss=lambda step: 1 / step) -> None:
    """Steps as a trainer logs them, in one go."""
    lines = [
        {"event": "step", "time": float(step), "step": step, "max_steps": of, "loss": loss(step), "grad_norm": 1.0}
        for step in range(first, last + 1)
    ]
    with events.file(paths.run(run_id)).open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def test_a_long_run_is_thinned_over_its_whole_length_and_no_peak_is_lost(config, no_worker):
    run_id = runs.start(config)
    write_steps(run_id, 1, 10_000, loss=lambda step: 99.0 if step == 5_003 else 1 / step)
    store.sync(run_id)
    curves = store.curves(run_id)
    steps = [row["step"] for row in curves["steps"]]
    assert (steps[0], steps[-1]) == (1, 10_000)
    assert 400 <= len(steps) <= 4 * 401
    assert max(after - before for before, after in itertools.pairwise(steps)) <= 25
    assert max((row["loss"], row["step"]) for row in curves["steps"]) == (99.0, 5_003)
    assert len(curves["means"]) == 401
    assert curves["means"][200]["loss"] == pytest.approx(
        sum(99.0 if s == 5_003 else 1 / s for s in range(5_000, 5_025)) / 25
    )


def test_a_curve_read_bit_by_bit_is_the_curve_read_at_once(config, no_worker):
    slow, fast = runs.create(config, "slow"), runs.create(config, "fast")
    for first in range(1, 3_000, 97):
        write_steps(slow, first, min(first + 96, 3_000), of=3_000)
        store.sync(slow)
    write_steps(fast, 1, 3_000, of=3_000)
    store.sync(fast)
    one, other = store.curves(slow), store.curves(fast)
    assert one["steps"] == other["steps"]
    assert [mean["loss"] for mean in one["means"]] == pytest.approx([mean["loss"] for mean in other["means"]])


def test_what_a_resumed_run_does_again_takes_the_place_of_what_was_lost(config, no_worker):
    run_id = runs.create(config)
    events.append(paths.run(run_id), "started", resumed_from=None)
    write_steps(run_id, 1, 800, of=800)
    events.append(paths.run(run_id), "eval", step=700, eval_loss=0.1)
    store.sync(run_id)
    events.append(paths.run(run_id), "started", resumed_from="checkpoint-400")
    write_steps(run_id, 401, 500, of=800, loss=lambda step: 2.0)
    row, curves = store.sync(run_id), store.curves(run_id)
    assert [(s["step"], s["loss"]) for s in curves["steps"]][-102:-99] == [(399, 1 / 399), (400, 1 / 400), (401, 2.0)]
    assert [(mean["step"], mean["loss"]) for mean in curves["means"]][-52:-49] == [
        (399, pytest.approx((1 / 398 + 1 / 399) / 2)),
        (401, pytest.approx((1 / 400 + 2) / 2)),
        (403, 2.0),
    ]
    assert (curves["steps"][-1]["step"], curves["evals"], row["best_step"]) == (500, [], None)


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
        runs_cli.main()
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (1, "")
    assert said.err == "There is no run nobody. It was deleted: choose another one from the list.\n"


def test_the_command_line_refuses_a_flag_that_is_another_verb_s(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["runs", "stop", "x", "--step", "3"])
    with pytest.raises(SystemExit):
        runs_cli.main()
    assert "unrecognized arguments: --step 3" in capsys.readouterr().err


def test_the_command_line_lists_runs_as_json(trained_run, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["runs", "list", "--json"])
    runs_cli.main()
    assert json.loads(capsys.readouterr().out) == [{"run": trained_run, "state": "finished", "name": "первый запуск"}]


def test_a_run_on_a_deleted_corpus_is_not_even_queued(config, no_worker):
    with raises("CorpusGone", match=r"There is no corpus in poems\. It was moved or deleted"):
        runs.start(TrainConfig(**{**vars(config), "corpus": "poems"}))
    assert runs.listed() == []


def test_a_finished_run_teaches_the_estimate(trained_run):
    from core.estimate import calibration

    row = store.sync(trained_run)
    known = calibration.rows()
    assert [(found["method"], found["predicted_seconds"]) for found in known] == [
        ("lora", row["predicted_seconds_per_step"])
    ]
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


def test_the_queue_has_an_order_that_a_person_can_change(config, no_worker):
    one, two, three = (runs.start(TrainConfig(**{**vars(config), "seed": seed}), "abc"[seed]) for seed in range(3))
    assert queue.next_ones() == [one, two, three]
    queue.move(three, -1)
    assert queue.next_ones() == [one, three, two]
    queue.move(three, -9)
    queue.hold(one)
    assert (queue.waiting(), queue.next_ones()) == ([three, one, two], [three, two])
    assert runs.state(one) == "held"
    queue.let_go(one)
    assert queue.next_ones() == [three, one, two]
    runs.stop(three)
    assert queue.next_ones() == [one, two]
    with pytest.raises(queue.NotWaiting, match="it is stopped"):
        queue.move(three, 1)


def test_a_run_that_is_held_as_its_turn_comes_stays_in_the_queue(config, no_worker):
    from core.runs import trainer

    run_id = runs.start(config)
    queue.hold(run_id)
    assert trainer.run(paths.run(run_id)) == "held"
    assert (runs.state(run_id), events.last(paths.run(run_id))) == ("held", None)


def test_pausing_a_run_that_waits_holds_it(config, no_worker):
    run_id = runs.start(config)
    runs.pause(run_id)
    assert runs.state(run_id) == "held"
    with pytest.raises(runs.NotRunning, match=r'The run ".*" is held, so this cannot be asked of it'):
        runs.pause(run_id)
    runs.resume(run_id)
    assert runs.state(run_id) == "queued"
    runs.stop(run_id)
    with pytest.raises(runs.NotRunning, match="is stopped, so"):
        runs.stop(run_id)


def test_a_run_that_a_reboot_interrupted_comes_back_by_itself(config, no_worker):
    run_id, killed = runs.create(config, "rebooted"), runs.create(config, "killed")
    for lost, boot in ((run_id, "another"), (killed, process.boot_id())):
        events.append(paths.run(lost), "started")
        files.write_json(paths.run(lost) / "process.json", {"boot_id": boot, "starts": 1})
    assert queue.needs_worker()
    queue.requeue_interrupted()
    assert [runs.state(lost) for lost in (run_id, killed)] == ["queued", "lost"]


def test_a_run_that_takes_the_machine_down_each_time_is_left_alone(config, no_worker):
    run_id = runs.create(config)
    events.append(paths.run(run_id), "started")
    files.write_json(paths.run(run_id) / "process.json", {"boot_id": "another", "starts": 3})
    assert queue.interrupted() == []


@pytest.mark.slow
def test_pause_says_when_it_took_effect_and_a_paused_run_goes_on_to_the_same_losses(config):
    """One trainer in this process: asked to pause before its third step, then resumed."""
    from core.runs import trainer

    straight, paused = runs.create(config, "straight"), runs.create(config, "paused")
    trainer.run(paths.run(straight))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "Observer", _asking({2: lambda: jobs.ask(paths.run(paused), "pause")}))
        assert trainer.run(paths.run(paused)) == "paused"
    row = store.sync(paused)
    assert (row["state"], row["request"], row["request_seen_step"]) == ("paused", "pause", row["step"])
    assert row["step"] in (2, 3)  # where it is seen in the evaluation of the second step, or after the third
    jobs.ask(paths.run(paused), "resume")
    assert runs.state(paused) == "queued"
    assert trainer.run(paths.run(paused)) == "finished"
    assert store.sync(paused)["request_seen_at"] >= row["requested_at"]
    store.sync(straight)
    assert (store.curves(paused)["evals"], _losses(paused)) == (store.curves(straight)["evals"], _losses(straight))


def test_save_now_and_sample_now_are_done_once_each(config):
    from core.runs import trainer

    run_id = runs.create(config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "Observer", _asking({1: lambda: [jobs.ask(paths.run(run_id), w) for w in jobs.ONCE]}))
        trainer.run(paths.run(run_id))
    seen = events.read(paths.run(run_id))[0]
    assert [(e["request"], e["step"]) for e in seen if e["event"] == "request_seen"] == [("save", 2), ("sample", 2)]
    assert [e["step"] for e in seen if e["event"] == "checkpoint"] == [2, 4]
    assert [e["step"] for e in seen if e["event"] == "samples"] == [0, 2, 4]
    assert sorted(sample["prompt"] for sample in store_samples(run_id)) == sorted(3 * eval_samples.FIRST)


def store_samples(run_id: str) -> list[dict]:
    store.sync(run_id)
    return store.samples(run_id)


def _asking(at: dict):
    """An observer that does something itself after a step."""
    from core.runs.observer import Observer

    class Asking(Observer):
        def once_requests(self, step):
            found = super().once_requests(step)
            at.get(step, lambda: None)()
            return found

    return Asking


@pytest.mark.slow
def test_a_run_waits_for_room_and_goes_on(config, monkeypatch):
    from core.runs import disk_space, trainer

    much = 10**9  # looked for at the start, with the model, after steps 1 and 2, and before the checkpoint of step 2
    looks = [10, 20, much, much, much, 30, much, much, much, 40, much]
    run_id, free = runs.create(config), iter(looks)
    monkeypatch.setattr(disk_space, "LOOK_SECONDS", 0)
    monkeypatch.setattr(disk_space, "free_bytes", lambda path: next(free, much))
    assert trainer.run(paths.run(run_id)) == "finished"
    seen = events.read(paths.run(run_id))[0]
    waited = [(e["event"], e["free"]) for e in seen if e["event"] in ("waiting", "disk_free")]
    assert waited == [
        ("waiting", 10),
        ("disk_free", much),
        ("waiting", 30),
        ("disk_free", much),
        ("waiting", 40),
        ("disk_free", much),
    ]
    assert store.sync(run_id)["disk_shortage"] is None


def test_tags_are_kept_with_the_run(config, no_worker):
    run_id = runs.start(config)
    store.rename(run_id, "poems", "", ["Night", "poems", "night "])
    paths.database().unlink()
    assert store.sync(run_id)["tags"] == "night poems"


def test_a_changed_config_says_what_it_was(config, no_worker):
    run_id = runs.start(config)
    runs.stop(run_id)
    runs.change(run_id, batch_size=2, gradient_accumulation_steps=2)
    assert (runs.config(run_id).batch_size, runs.config(run_id).gradient_accumulation_steps) == (2, 2)
    assert runs.label(run_id)["changes"][0]["changed"] == {"batch_size": [4, 2], "gradient_accumulation_steps": [1, 2]}
    assert json.loads(store.sync(run_id)["config"])["batch_size"] == 2


@pytest.mark.slow
def test_nothing_is_lost_whatever_is_killed():
    done = subprocess.run(
        [sys.executable, "-m", "tests.torture", "--kills", "4"], capture_output=True, text=True, timeout=600
    )
    assert done.stdout.splitlines()[-1] == "survived 4/4", done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "full"])
def test_what_is_watched_changes_nothing_in_the_training(config, method):
    from core.runs import trainer

    settings = {**vars(config), "method": method, "gradient_checkpointing": True}
    watched = {**settings, "eval_samples": True, "forgetting_meter": True}
    alone, seen = runs.create(TrainConfig(**settings), "alone"), runs.create(TrainConfig(**watched), "seen")
    for run_id in (alone, seen):
        assert trainer.run(paths.run(run_id)) == "finished"
        store.sync(run_id)
    assert (_losses(seen), store.curves(seen)["evals"]) == (_losses(alone), store.curves(alone)["evals"])
    assert [row["step"] for row in store.forgetting(seen)] == [0, 2, 4]
    assert [row["step"] for row in store.samples(seen)] == [0, 2, 4] * len(eval_samples.FIRST)
