"""Checkpoints: which is the newest that is whole, which the best, and what is cleared away."""

import json
import math
from pathlib import Path

import pytest

from core.training import checkpoints


def sealed(out: Path, step: int, content: str = "weights", evals=()) -> Path:
    checkpoint = out / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "model.safetensors").write_text(content)
    (checkpoint / "trainer_state.json").write_text("{}")
    checkpoints.seal(checkpoint, step, list(evals))
    return checkpoint


def test_the_best_is_the_lowest_loss_that_is_a_number_and_the_earliest_of_several():
    assert checkpoints.best_of([[2, 3.0], [4, 1.0], [6, 1.0], [8, 2.0]]) == 4
    assert checkpoints.best_of([[2, math.nan], [4, 2.0], [6, -math.inf]]) == 4
    assert checkpoints.best_of([[2, math.inf]]) is None


def test_checkpoint_10_is_newer_than_checkpoint_9(tmp_path):
    for step in (8, 9, 10):
        sealed(tmp_path, step)
    assert checkpoints.whole_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")
    checkpoints.rotate(tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-10"]


def cut(file: Path):
    file.write_text("wei")


def overwrite(file: Path):
    file.write_text("WEIGHTS")


@pytest.mark.parametrize("damage", [cut, overwrite, Path.unlink])
def test_a_damaged_checkpoint_is_passed_over_and_swept_away(tmp_path, damage):
    for step in (2, 4):
        sealed(tmp_path, step)
    (tmp_path / "checkpoint-6").mkdir()  # cut short before it was sealed
    damage(tmp_path / "checkpoint-4" / "model.safetensors")
    assert checkpoints.whole_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")
    said = []
    checkpoints.sweep(tmp_path, lambda event, **values: said.append((event, values)))
    assert said == [("damaged", {"checkpoint": "checkpoint-4"}), ("damaged", {"checkpoint": "checkpoint-6"})]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]


def test_of_a_large_file_damage_at_its_end_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "DIGEST_BYTES", 8)
    checkpoint = sealed(tmp_path, 2, "begins, goes on, ends")
    assert checkpoints.is_whole(checkpoint)
    (checkpoint / "model.safetensors").write_text("begins, goes on, ENDS")
    assert not checkpoints.is_whole(checkpoint)


def test_the_best_checkpoint_is_kept_beside_the_newest_ones(tmp_path):
    evals = [[2, 3.0], [4, 1.0], [6, 2.0], [8, 2.5], [10, 2.5]]
    for step, _ in evals:
        sealed(tmp_path, step, evals=[known for known in evals if known[0] <= step])
    checkpoints.rotate(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-4", "checkpoint-8"]
    about = json.loads((tmp_path / "checkpoint-4" / "whole.json").read_text())
    assert (about["step"], about["evals"]) == (4, [[2, 3.0], [4, 1.0]])
