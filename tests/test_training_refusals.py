"""A run that cannot fit is refused before its model loads; over two processes it is what it is in one."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from core import events, paths
from core.estimate import forecast
from core.runs import compare, runs, trainer
from core.training import training_loop
from core.training.config import TrainConfig
from tests.conftest import put_program, raises, wait_for

ROOT = Path(__file__).parents[1]


@pytest.fixture
def config(tiny_model, tiny_corpus) -> TrainConfig:
    return TrainConfig(
        base_model=tiny_model,
        corpus=tiny_corpus,
        method="lora",
        max_steps=4,
        eval_steps=4,
        lora_dropout=0.0,
        learning_rate=0.01,
        precision="fp32",
        batch_size=8,
    )


def test_what_surely_does_not_fit_is_refused_with_what_to_lower(config):
    there = 8 * 2**30
    trainer.need_memory(there, config, 100, there)
    with raises("DoesNotFit", match=r"Lower max_length \(100\) or batch_size \(8\)"):
        trainer.need_memory(there * 1.2, config, 100, there)


def test_all_weights_need_room_for_fp32_masters_and_the_states_of_adamw(config, tmp_path):
    for dtype, size in (("bfloat16", 2_000_000), ("float32", 4_000_000)):  # a million weights
        (tmp_path / "config.json").write_text(json.dumps({"dtype": dtype}))
        (tmp_path / "model.safetensors").write_bytes(bytes(size))
        full = replace(config, base_model=str(tmp_path), method="full", save_total_limit=2)
        assert trainer.disk_bytes(full) - trainer.disk_bytes(config) == 4 * 12_000_000 + 4_000_000


def test_a_run_too_large_for_the_memory_fails_before_its_model_loads(config, monkeypatch):
    monkeypatch.setattr(forecast, "of_config", lambda *_: {"predicted_least_bytes": 2**60})
    run_id = runs.create(config)
    assert trainer.run(paths.run(run_id)) == "failed"
    said = [event["event"] for event in events.read(paths.run(run_id))[0]]
    assert said[-3:] == ["data", "forecast", "failed"]
    assert events.last(paths.run(run_id))["trouble"] == "DoesNotFit"


@pytest.mark.parametrize(
    ("more", "length", "tokens"),
    [
        ({}, 30, 8 * 30),
        ({"packing": True}, 64, 8 * 64),
        ({"task": "preference"}, 30, 2 * 8 * 30),
        ({"task": "preference", "packing": True}, 30, 2 * 8 * 30),  # pairs have no blocks
    ],
    ids=str,
)
def test_what_a_step_took_is_counted_up_to_the_tokens_of_the_forecast(config, monkeypatch, more, length, tokens):
    config, learned = replace(config, max_length=64, gradient_accumulation_steps=2, **more), {}
    reported = {"data": {"longest": 30}, "model": {"device": "cpu"}, "forecast": {}}
    assert trainer._length(config, reported) == length
    monkeypatch.setattr(forecast, "ran_on", lambda *_: True)
    monkeypatch.setattr(forecast, "learn", lambda _, **values: learned.update(values))
    trainer._learn(config, reported, {"peak_memory_gib": 0, "step_seconds": 3.0, "step_tokens": 100})
    assert learned["measured_seconds"] == 3.0 * 2 * tokens / 100
    row = {"predicted_memory_bytes": 0, "predicted_seconds_per_step": 1.0, "seconds_per_step": 3.0}
    row |= {"tokens_per_step": 100, "longest_row_tokens": 30, "config": json.dumps(asdict(config))}
    assert compare.measured(row)["measured_seconds"] == learned["measured_seconds"]


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one_with_the_double_batch(config, tmp_path):
    """The batch of the config is each process's own: PyTorch's DDP under accelerate's launcher, on the processor."""
    one = []
    training_loop.train(config, tmp_path / "one", report=lambda event, **values: one.append({"event": event, **values}))
    out = tmp_path / "two"
    out.mkdir()
    replace(config, batch_size=config.batch_size // 2).save(out / "config.json")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_machines", "1", "--mixed_precision", "no"]
    command += ["--dynamo_backend", "no", "--num_processes", "2", "--multi_gpu", "--main_process_port", "0"]
    put_program(out)
    command += ["train.py", "config.json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, cwd=out, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    two = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    losses = [[event["loss"] for event in said if event["event"] == "step"] for said in (one, two)]
    assert len(losses[0]) == 4
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    assert [event["event"] for event in two].count("finished") == 1
    assert (out / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.slow
def test_a_run_starts_from_a_file_on_the_command_line(config, tmp_path):
    (tmp_path / "mine.json").write_text(json.dumps(asdict(config)), encoding="utf-8")
    command = [sys.executable, "-m", "core.runs", "start", "--config", str(tmp_path / "mine.json"), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    run_id = json.loads(done.stdout)["run"]
    wait_for(run_id, "finished")
    assert events.last(paths.run(run_id))["steps"] == 4
