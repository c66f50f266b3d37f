"""Every command line with --json prints its answer on one line, the last of its output."""

import json
import runpy
import signal
import sys

import pytest

from core.runs import runs
from core.training.config import TrainConfig

OBJECT, LIST = dict, list  # lists are what they were before; scripts of others read them

# (command line, type of the answer, keys that it has at least)
ANSWERS = [
    ("hardware", OBJECT, {"gpus", "cores"}),
    ("estimate --model Qwen/Qwen2.5-0.5B-Instruct", OBJECT, {"model", "verdict", "advice", "largest"}),
    ("estimate --model Qwen/Qwen2.5-0.5B-Instruct --table methods", OBJECT, {"gpu", "methods"}),
    ("estimate --model Qwen/Qwen2.5-0.5B-Instruct --table volumes", OBJECT, {"gpu", "volumes"}),
    ("estimate --method none", OBJECT, {"error", "message"}),
    ("corpus import {rows} --name lamps", OBJECT, {"id", "rows"}),
    ("corpus import {rows} --name lamps --progress", OBJECT, {"card"}),
    ("corpus import {rows} --name lamps --options no", OBJECT, {"trouble", "message"}),
    ("corpus list", LIST, set()),
    ("corpus report {corpus}", OBJECT, {"rows", "xray"}),
    ("corpus report {corpus} --progress", OBJECT, {"report"}),
    ("corpus export {corpus} {out} --as jsonl", OBJECT, {"rows", "bytes", "path"}),
    ("corpus clean {corpus} --name clean", OBJECT, {"id", "rows"}),
    ("corpus preview {corpus} --model {model}", OBJECT, {"tokens", "learned"}),
    ("corpus delete {corpus}", OBJECT, {"deleted"}),
    ("corpus delete nobody", OBJECT, {"trouble", "message"}),
    ("synth --list", LIST, {"name"}),
    ("synth fractals-en --row 3", OBJECT, {"text"}),
    ("synth fractals-en --preview", OBJECT, {"rows", "xray", "costs"}),
    ("synth fractals-en --tokens 3000 --out {out}", OBJECT, {"state", "rows", "tokens"}),
    ("synth.who_speaks archetypes-en", OBJECT, {"judge", "tasks", "taken_for"}),
    ("synth.who_speaks style-en", OBJECT, {"trouble", "message"}),
    ("synth nothing", OBJECT, {"trouble", "message"}),
    ("models list", LIST, set()),
    ("models prepare {model}", OBJECT, {"path"}),
    ("models prepare nowhere/at-all", OBJECT, {"trouble", "message"}),
    ("models delete starter", OBJECT, {"deleted"}),
    ("runs list", LIST, {"run", "state", "name"}),
    ("runs show {run}", OBJECT, {"run", "state", "config", "disk"}),
    ("runs start --config {config}", OBJECT, {"run", "state"}),
    ("runs queue", LIST, {"run", "state", "name"}),
    ("runs move {run}", LIST, {"run", "state", "name"}),
    ("runs compare {run} {other}", OBJECT, {"runs", "differ", "same"}),
    ("runs metrics {run} --csv {out}", OBJECT, {"run", "rows", "csv"}),
    ("runs delete {run}", OBJECT, {"run", "state"}),
    ("runs stop {run}", OBJECT, {"run", "state"}),
    ("runs pause {run}", OBJECT, {"run", "state"}),
    ("runs hold {run}", OBJECT, {"run", "state"}),
    ("runs let-go {held}", OBJECT, {"run", "state"}),
    ("runs resume {held}", OBJECT, {"run", "state"}),
    ("chat --list", LIST, set()),
    ("chat --chats --find море", LIST, set()),
    ("chat --run nobody --prompt Hello", OBJECT, {"trouble", "message"}),
    ("chat.profiles show nobody", OBJECT, {"trouble", "message"}),
    ("export nobody {out}", OBJECT, {"trouble", "message"}),
    ("runs show nobody", OBJECT, {"trouble", "message"}),
    ("prompt_search list", LIST, set()),
    ("prompt_search show nobody", OBJECT, {"trouble", "message"}),
    ("arena list", LIST, set()),
    ("arena show nobody", OBJECT, {"trouble", "message"}),
    ("arena pairs", LIST, set()),
]


SLOW = {  # these start processes, or make a corpus of many rows
    "corpus import {rows} --name lamps --progress", "corpus report {corpus}", "corpus report {corpus} --progress",
    "corpus clean {corpus} --name clean", "corpus preview {corpus} --model {model}", "corpus delete {corpus}",
    "synth fractals-en --preview", "synth.who_speaks archetypes-en", "synth.who_speaks style-en",
}  # fmt: skip


@pytest.fixture
def places(tiny_corpus, tiny_model, no_worker, tmp_path) -> dict:
    """What the command lines name."""
    config = TrainConfig(base_model=tiny_model, corpus=tiny_corpus)
    config.save(tmp_path / "config.json")
    run, other, held = (runs.create(TrainConfig(**{**vars(config), "seed": seed})) for seed in (1, 2, 3))
    runs.pause(held)
    return {
        "rows": tiny_corpus,
        "model": tiny_model,
        "config": tmp_path / "config.json",
        "out": tmp_path / "out",
        "run": run,
        "other": other,
        "held": held,
    }


@pytest.fixture
def answer(monkeypatch, capsys):
    """A function that runs `python -m core.LINE --json` in this process and returns the lines of its output."""
    handler = signal.getsignal(signal.SIGTERM)

    def run(line: str, places: dict) -> list[str]:
        name, *arguments = line.split(" ")
        monkeypatch.setattr(sys, "argv", [name, *(part.format_map(places) for part in arguments), "--json"])
        monkeypatch.delitem(sys.modules, f"core.{name}.__main__", raising=False)
        try:
            runpy.run_module(f"core.{name}", run_name="__main__", alter_sys=False)
        except SystemExit as ended:
            if isinstance(ended.code, str):
                pytest.fail(ended.code)
        return capsys.readouterr().out.splitlines()

    yield run
    signal.signal(signal.SIGTERM, handler)


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize(
    ("line", "kind", "keys"),
    [pytest.param(*row, id=row[0], marks=[pytest.mark.slow] if row[0] in SLOW else []) for row in ANSWERS],
)
def test_the_answer_is_one_line_the_last_one(line, kind, keys, answer, places):
    if "{corpus}" in line:
        places["corpus"] = json.loads(answer("corpus import {rows} --name lamps", places)[-1])["id"]
    *before, last = answer(line, places)
    shows_progress = "--progress" in line or line.startswith("models prepare")
    assert all(isinstance(json.loads(progress), dict) for progress in before) if shows_progress else not before
    found = json.loads(last)
    assert isinstance(found, kind)
    for row in [found] if kind is OBJECT else found:
        assert keys <= row.keys()
    assert kind is OBJECT or not keys or found
