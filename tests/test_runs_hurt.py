"""Runs that are hurt: a trainer that hangs, a full disk, memory that runs out, files that a power cut left in pieces."""

import errno
import sqlite3
import subprocess
import sys
import time

import pytest

from core import events, files, jobs, paths
from core import process as core_process
from core.hardware import hardware
from core.runs import database, diagnosis, disk_space, runs, store, terminate, trainer, worker
from core.training.config import TrainConfig
from ui import run_view
from ui.text import Say

SAY = Say("en")
HANGS = """
import os, sys, time
from pathlib import Path
from filelock import FileLock
from core import events
from core import files
from core import process
run_dir = Path(sys.argv[2])
lock = FileLock(run_dir / "run.lock")
lock.acquire()
files.write_json(run_dir / "process.json", {"boot_id": process.boot_id(), "pid": os.getpid(), "starts": 1})
events.append(run_dir, "started", pid=os.getpid(), resumed_from=None)
time.sleep(600)
"""


@pytest.fixture
def config(tiny_corpus) -> TrainConfig:
    return TrainConfig(base_model="starter", corpus=tiny_corpus, max_steps=300)


@pytest.fixture
def hanging(config, no_worker):
    """A run whose trainer holds the lock and hears nothing."""
    run_id = runs.create(config, "hangs")
    process = subprocess.Popen([sys.executable, "-c", HANGS, "core.trainer", str(paths.run(run_id))])
    end = time.monotonic() + 60
    while not events.size(paths.run(run_id)) and time.monotonic() < end:
        time.sleep(0.02)
    yield run_id
    process.kill()
    process.wait()


def drawn(run_id: str, say: Say = SAY) -> dict:
    return dict(zip(run_view.DRAWN, run_view.draw(say, run_id), strict=True))


def test_a_trainer_that_hears_nothing_can_be_ended(hanging, monkeypatch):
    runs.stop(hanging)
    assert not drawn(hanging)["end"].visible
    monkeypatch.setattr(terminate, "PATIENCE_SECONDS", -1.0)
    shown = drawn(hanging)
    assert shown["end"].visible
    assert "The trainer has not responded to the request for" in shown["status"]
    terminate.end(hanging)
    last = events.last(paths.run(hanging))
    assert (runs.state(hanging), last["trouble"]) == ("failed", "EndedByForce")
    assert "не отвечал и был завершён" in drawn(hanging, Say("ru"))["status"]
    runs.resume(hanging)
    assert runs.state(hanging) == "queued"


def test_only_the_process_of_the_run_is_ended(hanging, config):
    last = jobs.last_process(paths.run(hanging))
    files.write_json(paths.run(hanging) / "process.json", last | {"pid": 1})
    with pytest.raises(runs.NotRunning):
        terminate.end(hanging)
    files.write_json(paths.run(hanging) / "process.json", last | {"boot_id": "another"})
    with pytest.raises(runs.NotRunning):
        terminate.end(hanging)
    assert runs.state(hanging) == "running"
    with pytest.raises(runs.NotRunning):
        terminate.end(runs.create(config, "waits"))


def test_a_run_that_filled_the_disk_waits_for_room_by_itself(config, monkeypatch):
    def fills(run_dir, checkpoint):
        (run_dir / "checkpoint-2").mkdir()
        (run_dir / "checkpoint-2" / "optimizer.pt").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(trainer, "_train", fills)
    monkeypatch.setattr(disk_space, "free_bytes", lambda path: 1000)
    run_id = runs.create(config)
    assert trainer.run(paths.run(run_id)) == "failed"
    assert (runs.state(run_id), list(paths.run(run_id).glob("checkpoint-*"))) == ("queued", [])
    monkeypatch.setattr(disk_space, "free_bytes", lambda path: 10**12)
    assert trainer.run(paths.run(run_id)) == "failed"
    assert runs.state(run_id) == "failed"  # there was room: waiting would not help


def test_room_for_the_first_checkpoint_is_known_from_the_trained_weights(tmp_path):
    assert disk_space.checkpoint_bytes(tmp_path, 1000) == disk_space.SPARE_BYTES + 13_200
    (tmp_path / "checkpoint-2").mkdir()
    (tmp_path / "checkpoint-2" / "weights").write_bytes(b"x" * 100)
    assert disk_space.checkpoint_bytes(tmp_path, 1000) == disk_space.SPARE_BYTES + 110


def test_a_full_disk_is_said_and_hides_nothing(config, no_worker, monkeypatch):
    run_id = runs.create(config)
    events.append(paths.run(run_id), "failed", trouble="DiskRanFull", values={"path": "x"}, message="Full.")

    def full(*_):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(store, "_record", full)
    assert store.sync(run_id)["state"] == "failed"
    monkeypatch.setattr(files.os, "fsync", lambda file: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(files.NothingWritten, match="Free some space, then try again"):
        runs.resume(run_id)
    assert runs.state(run_id) == "failed"
    runs.delete(run_id)
    assert runs.listed() == []


def test_one_run_that_cannot_start_does_not_hold_up_the_queue(config, no_worker, monkeypatch):
    first, second = runs.create(config, "a"), runs.create(config, "b")
    seen = []

    def trained(run_id):
        seen.append(run_id)
        if run_id == first:
            raise OSError("cannot allocate memory")
        events.append(paths.run(run_id), "finished")

    monkeypatch.setattr(worker, "run_trainer", trained)
    worker.work()
    assert (seen, runs.state(second)) == ([first, second], "finished")


def test_a_run_that_the_system_killed_for_memory_says_so(config, no_worker, monkeypatch):
    run_id, counts = runs.create(config), iter([3, 4])
    run_dir = paths.run(run_id)

    class Killed:
        def wait(self) -> int:
            events.append(run_dir, "started")
            events.append(run_dir, "step", step=41, max_steps=300, loss=2.0)
            with events.file(run_dir).open("ab") as file:
                file.write(b'{"event": "st')
            return -9

    monkeypatch.setattr(worker, "kills_for_memory", lambda: next(counts))
    monkeypatch.setattr(core_process, "spawn_detached", lambda command, log: Killed())
    worker.run_trainer(run_id)
    last = events.last(run_dir)
    assert (runs.state(run_id), last["trouble"], last["values"]) == ("failed", "KilledForMemory", {"step": "41"})
    monkeypatch.setattr(hardware, "gpus", lambda: ())
    assert diagnosis.diagnose(run_id)["changes"]


def test_what_a_power_cut_left_in_pieces_hides_no_run(config, no_worker):
    run_id = runs.create(config)
    for name in ("control.json", "once.json", "process.json"):
        (paths.run(run_id) / name).write_bytes(b"\0\0\0")
    assert (runs.state(run_id), jobs.last_process(paths.run(run_id))) == ("queued", {})
    (paths.run(run_id) / "label.json").write_bytes(b"")
    assert [(row["id"], row["name"]) for row in store.sync_all()] == [(run_id, run_id)]


def test_a_database_on_a_full_disk_is_tried_again_and_named(config, no_worker, monkeypatch):
    run_id, answers = runs.create(config), iter("xx")
    store.sync(run_id)
    pending = type(database.migrations).pending

    def refused(self, db):
        if next(answers, ""):
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorname = "SQLITE_IOERR_SHMSIZE"
            raise error
        return pending(self, db)

    monkeypatch.setattr(type(database.migrations), "pending", refused)
    assert store.sync(run_id)["state"] == "queued"
    answers = iter("x" * 100)
    with pytest.raises(database.DatabaseStuck, match=r"disk I/O error \(SQLITE_IOERR_SHMSIZE\)"):
        store.sync(run_id)
    assert run_view.on_tick(SAY, run_id) == (run_view.gr.skip(), run_view.gr.skip())
