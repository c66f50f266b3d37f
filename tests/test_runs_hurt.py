"""Runs that are hurt: a trainer that hangs, a full disk, memory that runs out, files that a power cut left in pieces."""

import subprocess
import sys
import time

import pytest

from core import control, ending, events, paths, runs
from core.recipe import TrainConfig
from ui import run_view
from ui.text import Say

SAY = Say("en")
HANGS = """
import os, sys, time
from pathlib import Path
from filelock import FileLock
from core import control, events, runs
run_dir = Path(sys.argv[2])
lock = FileLock(run_dir / "run.lock")
lock.acquire()
control.write(run_dir / "life.json", {"boot": runs.boot(), "pid": os.getpid(), "starts": 1})
events.append(run_dir, "started", pid=os.getpid(), resumed_from=None)
time.sleep(600)
"""


@pytest.fixture
def config(tiny_corpus) -> TrainConfig:
    return TrainConfig(base_model="starter", corpus=tiny_corpus, max_steps=300)


@pytest.fixture
def no_worker(monkeypatch):
    monkeypatch.setattr(runs, "start_worker", lambda: None)


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
    monkeypatch.setattr(ending, "PATIENCE_SECONDS", -1.0)
    shown = drawn(hanging)
    assert shown["end"].visible
    assert "The trainer has not taken up the request for" in shown["status"]
    ending.end(hanging)
    last = events.last(paths.run(hanging))
    assert (runs.state(hanging), last["trouble"]) == ("failed", "EndedByForce")
    assert "не отвечал и был завершён" in drawn(hanging, Say("ru"))["status"]
    runs.resume(hanging)
    assert runs.state(hanging) == "queued"


def test_only_the_process_of_the_run_is_ended(hanging, config):
    life = runs.last_life(hanging)
    control.write(paths.run(hanging) / "life.json", life | {"pid": 1})
    with pytest.raises(runs.NotRunning):
        ending.end(hanging)
    control.write(paths.run(hanging) / "life.json", life | {"boot": "another"})
    with pytest.raises(runs.NotRunning):
        ending.end(hanging)
    assert runs.state(hanging) == "running"
    with pytest.raises(runs.NotRunning):
        ending.end(runs.create(config, "waits"))
