"""The bench of the calculator: its arithmetic, a job on a tiny shape; with --gpu, the card itself."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from core.estimate import cards
from core.estimate.memory import GIB
from core.hardware import hardware
from core.training.devices import precision
from tests import bench_gpu, bench_gpu_tables, pretended_card
from tests.bench_gpu import Job

ROOT = Path(__file__).parent.parent
PREDICTED = {
    "instant": {"allocated": 9 * GIB, "reserved": 11 * GIB},
    "traced": {"allocated": 10.5 * GIB, "reserved": 12 * GIB},
    "seconds": {"known": 0.3, "probed": 0.2},
    "context": GIB / 2,
}
MEASURED = {
    "allocated": 10 * GIB,
    "reserved": 12 * GIB,
    "load_allocated": 4 * GIB,
    "context": GIB / 2,
    "seconds": 0.25,
    "tokens_per_second": 8192.0,
}
MACHINE = {
    "card": "A card",
    "total_bytes": 80 * GIB,
    "tflops": 712.3,
    "catalogue_tflops": 790.6,
    "versions": {"torch": "2.13.0", "cuda": "13.0"},
    "date": "2026-01-02",
    "batch_size": 1,
    "steps": 6,
}


def run(*options: str, environment: dict | None = None) -> dict:
    command = [sys.executable, "-m", "tests.bench_gpu", "--json", *options]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_row_holds_both_sides_and_their_relative_errors():
    row = bench_gpu_tables.row({"job": "one"}, PREDICTED, MEASURED)
    assert row.pop("errors") == pytest.approx(
        {
            "instant_allocated": -0.1,
            "instant_reserved": -1 / 12,
            "traced_allocated": 0.05,
            "traced_reserved": 0.0,
            "known_seconds": 0.2,
            "probed_seconds": -0.2,
        }
    )
    assert row == {
        "job": "one",
        "predicted_gib": {
            "instant_allocated": 9.0,
            "instant_reserved": 11.0,
            "traced_allocated": 10.5,
            "traced_reserved": 12.0,
            "context": 0.5,
        },
        "predicted_seconds": {"known_seconds": 0.3, "probed_seconds": 0.2},
        "measured_gib": {"allocated": 10.0, "reserved": 12.0, "load_allocated": 4.0, "context": 0.5},
        "measured": {"seconds": 0.25, "tokens_per_second": 8192.0},
        "trouble": None,
    }


def test_the_page_has_memory_time_and_what_failed():
    rows = [
        bench_gpu_tables.row({"job": "one"}, PREDICTED, MEASURED),
        bench_gpu_tables.row({"job": "two"}, PREDICTED, {"trouble": "OutOfMemoryError: too much."}),
    ]
    assert bench_gpu_tables.page(MACHINE | {"rows": rows}) == "\n".join(
        [
            "### A card",
            "",
            "2026-01-02; 80.0 GiB, 712 TFLOP/s in square products, 791 by the catalogue; torch 2.13.0, cuda 13.0. Random "
            "weights, rows of full length, batch_size 1, 6 steps of which the first is not counted.",
            "Errors are predicted / measured - 1.",
            "",
            "| job | allocated, GiB | instant | error | traced | error "
            "| reserved, GiB | instant | error | traced | error |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
            "| one | 10.00 | 9.00 | -10.0 % | 10.50 | +5.0 % | 12.00 | 11.00 | -8.3 % | 12.00 | +0.0 % |",
            "| two |  | 9.00 |  | 10.50 |  |  | 11.00 |  | 12.00 |  |",
            "",
            "| job | s a step | predicted | error | with the probe | error | tokens/s |",
            "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
            "| one | 0.25 | 0.3 | +20.0 % | 0.2 | -20.0 % | 8,192 |",
            "| two |  | 0.3 |  | 0.2 |  |  |",
            "",
            "- two: OutOfMemoryError: too much.",
            "",
        ]
    )


def test_the_terminal_says_a_job_in_one_line():
    row = bench_gpu_tables.row({"job": "one"}, PREDICTED, MEASURED)
    assert bench_gpu_tables.line(row) == (
        "one: 0.25 s a step (+20.0 % predicted); allocated 10.00 GiB (instant -10.0 %, traced +5.0 %); "
        "reserved 12.00 GiB (instant -8.3 %, traced +0.0 %)"
    )


def test_the_jobs_cover_every_method_at_both_lengths_and_packed():
    ways = [(2048, False, False), (2048, False, True), (4096, True, False)]
    quick = [Job("1.5B", method, *way) for way in ways for method in ("qlora", "lora", "full")]
    assert bench_gpu.jobs("quick") == quick
    chosen = bench_gpu.jobs("all")
    assert len(chosen) == len(set(chosen)) == 25
    assert set(quick) < set(chosen)
    tiny = ["tiny qlora 64", "tiny lora 128 checkpointed", "tiny full 64", "tiny lora 128 packed"]
    assert [job.name for job in bench_gpu.jobs("tiny")] == tiny
    assert {job.method for job in chosen if job.model == "7B"} == {"qlora", "lora"}


def test_what_does_not_fit_into_the_minutes_is_left_out(home, monkeypatch):
    asked = []

    def child(request, *, cpu, seconds):
        asked.append(seconds)
        Path(request["folder"]).mkdir()
        return {"card": "CPU", "tflops": 0.1}

    monkeypatch.setattr(bench_gpu, "child", child)
    monkeypatch.setattr(bench_gpu, "predict", lambda *_: {"instant": {}, "traced": {}, "seconds": {}})
    monkeypatch.setenv("SOULSMITH_HOME", str(home))
    found = bench_gpu.bench(bench_gpu.jobs("tiny"), "tiny", cpu=True, minutes=0.1)
    assert {row["trouble"] for row in found["rows"]} == {"left out: 0.1 minutes were over"}
    assert found["attention"] == {"trouble": "left out: the time was over"}
    assert asked == [bench_gpu.MAKING_SECONDS]


def test_the_ways_of_attention_stand_in_a_table():
    ways = {"1 x 64": {"SDPA, masked": 1.5, "eager": 2.5}, "2 x 64": {"SDPA, masked": 3.0, "eager": "no memory"}}
    assert bench_gpu_tables.attention(ways) == "\n".join(
        [
            "| attention of packed rows, ms | SDPA, masked | eager |",
            "| --- | ---: | ---: |",
            "| 1 x 64 | 1.5 | 2.5 |",
            "| 2 x 64 | 3.0 | no memory |",
        ]
    )


def test_the_probe_replaces_only_the_rate():
    facts = {"card": "NVIDIA L4", "total_bytes": 22 * GIB, "capability": 8.9, "tflops": 55.5}
    known, probed = bench_gpu.cards_of(facts)
    assert (known.name, known.memory_bytes, known.capability) == ("NVIDIA L4", 22 * GIB, 8.9)
    assert known.matmul_tflops == cards.card("L4").matmul_tflops
    assert {key for key in asdict(known) if asdict(known)[key] != asdict(probed)[key]} == {"matmul_tflops"}
    assert probed.matmul_tflops == 55.5


@pytest.mark.slow
def test_a_job_trains_full_rows_of_a_shape_made_on_the_spot(tmp_path):
    bench_gpu.make("tiny", tmp_path, 64)
    config = Job("tiny", "lora", 64, True).config(tmp_path)
    seen = bench_gpu.measure(config, tmp_path / "out")
    predicted = bench_gpu.predict(config, *bench_gpu.cards_of({"card": "CPU", "tflops": 0.1}))
    assert {key: seen[key] for key in ("steps", "fill", "parameters", "precision")} == {
        "steps": 6,
        "fill": 1.0,
        "parameters": 139840,
        "precision": precision(config),
    }
    assert seen["tokens_per_second"] == 64 / seen["seconds"]
    assert {key: seen[key] for key in ("allocated", "reserved", "load_allocated", "context")} == dict.fromkeys(
        ("allocated", "reserved", "load_allocated", "context")
    )
    assert 6 < seen["loss"] < 8  # of 1024 tokens the loss of random weights is 6.93
    assert predicted["instant"] == predicted["traced"] == {}
    assert predicted["seconds"]["known"] > 0


@pytest.mark.slow
def test_a_prediction_for_a_card_is_traced_as_well(tmp_path):
    bench_gpu.make("tiny", tmp_path, 64)
    card = cards.of_machine(hardware.Gpu("NVIDIA L4", 22 * GIB, 22 * GIB, 8.9, 72.0))
    found = bench_gpu.predict(Job("tiny", "qlora", 64, False).config(tmp_path), card, card)
    assert found["traced"]["allocated"] == pytest.approx(found["instant"]["allocated"], rel=0.05)
    assert found["seconds"]["known"] == found["seconds"]["probed"]


@pytest.mark.slow
def test_the_bench_runs_on_a_processor_from_end_to_end(tmp_path):
    found = run("--cpu", "--only", "packed", "--out", str(tmp_path))
    assert [(row["job"], row["trouble"]) for row in found["rows"]] == [("tiny lora 128 packed", None)]
    (ways,) = found["attention"].values()
    assert {type(way) for way in ways.values()} == {float, str}
    assert json.loads((tmp_path / "gpu.json").read_text()) == found
    assert (tmp_path / "gpu.md").read_text() == bench_gpu_tables.page(found)


@pytest.mark.slow
@pytest.mark.skipif(bool(pretended_card.missing()), reason=pretended_card.missing())
def test_the_bench_runs_on_a_pretended_card_from_end_to_end(tmp_path):
    options = ("--tiny", "--quick", "--only", "checkpointed")
    found = run(*options, "--out", str(tmp_path), environment=pretended_card.environment())
    assert found["card"] == pretended_card.A100["name"]
    assert [(row["job"], row["trouble"]) for row in found["rows"]] == [("tiny lora 128 checkpointed", None)]
    assert {row["measured"]["precision"] for row in found["rows"]} == {"bf16"}
    (ways,) = found["attention"].values()
    assert ways["SDPA, masked"] > 0


@pytest.mark.gpu
def test_predicted_memory_is_within_ten_percent_of_the_card(tmp_path):
    found = run("--quick", "--out", str(tmp_path))
    assert [row["job"] for row in found["rows"] if row["trouble"]] == []
    assert {
        (row["job"], way): round(row["errors"][f"{way}_allocated"], 3)
        for row in found["rows"]
        for way in ("instant", "traced")
        if abs(row["errors"][f"{way}_allocated"]) > 0.1
    } == {}
