"""The exact check in a process of its own: started, cancelled, and kept by config, without torch in the caller."""

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

from core import paths, process
from core.estimate import catalogue
from core.estimate.setup import Setup, named_targets
from core.estimate.troubles import NeedsTrace, NotInTransformers, TraceFailed, UnknownArchitecture

VERSION = 5  # of the trace; a change makes what was kept stale
PATIENCE = 180  # seconds before a trace is given up
MEMORY_FIELDS = (
    "method", "sequence_length", "batch_size", "gradient_accumulation_steps", "lora_rank", "lora_dropout",
    "target_modules", "optimizer", "gradient_checkpointing", "attention", "loss", "precision", "labelled", "autocast",
    "adapter_width", "weight_width", "double_quant", "kbit_prepare", "save_embeddings", "saved_width",
    "memory_efficient",
)  # fmt: skip


class Cancelled(Exception):
    """The person stopped waiting."""


def check(model: str, setup: Setup, capability: float, should_stop: Callable[[], bool] = lambda: False) -> dict:
    """Peaks of the real step in bytes: allocated, reserved, phases, alive; from the cache if it was asked before.

    Raises:
        TraceFailed: with the reason, in words.
        Cancelled: when should_stop() said so.
    """
    with contextlib.suppress(NeedsTrace, UnknownArchitecture):
        setup = named_targets(setup, catalogue.shape(model))
    request = {"config": config(model), "setup": dataclasses.asdict(setup), "capability": capability}
    kept = _place(request)
    if kept.exists():
        return json.loads(kept.read_text(encoding="utf-8")) | {"kept": True}
    answer = _run(request, should_stop)
    if "architecture" in answer:
        raise NotInTransformers(name=answer["architecture"], nearest=", ".join(answer["nearest"]))
    if "error" in answer:
        raise TraceFailed(reason=answer["error"])
    kept.parent.mkdir(parents=True, exist_ok=True)
    partial = kept.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps(answer), encoding="utf-8")
    partial.replace(kept)
    return answer | {"kept": False}


def config(model: str) -> dict:
    """The config of a model of the catalogue, a folder or a GGUF file, in the words of transformers."""
    path = Path(model).expanduser()
    if path.suffix.lower() == ".gguf":
        return catalogue.gguf_config(path)
    if path.exists():
        return json.loads((path / "config.json" if path.is_dir() else path).read_text(encoding="utf-8"))
    entry = catalogue.find(model)
    if entry is None:
        catalogue.shape(model)  # raises the trouble
    if entry.get("hybrid"):
        return catalogue.hybrid_config(entry)
    found = catalogue.config_of(entry)
    if found["model_type"] == "qwen":  # the first Qwen had code of its own; its layers are those of Qwen2
        found["model_type"] = "qwen2"
    return found


def _place(request: dict) -> Path:
    setup = {name: request["setup"][name] for name in MEMORY_FIELDS}
    key = json.dumps([VERSION, request["config"], setup, request["capability"]], sort_keys=True)
    return paths.home() / "estimates" / "traces" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"


def _run(request: dict, should_stop: Callable[[], bool]) -> dict:
    def look() -> None:
        if should_stop():
            raise Cancelled

    more = {"PYTHONPATH": str(process.ROOT), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    command, answers = ["-m", "core.estimate.trace"], []
    try:
        lines = process.json_lines(
            command, stdin=json.dumps(request), more=more, seconds=PATIENCE, look=look, group=True
        )
        answers.extend(lines)
    except process.CommandFailed as failed:
        if failed.timed_out:
            raise TraceFailed(reason=f"it took longer than {PATIENCE} seconds") from None
        reason = str(failed)[:300]
        if failed.code < 0:
            reason = f"its process was ended from outside (signal {-failed.code}); memory may be short here"
        answers = answers or [{"error": reason}]
    return answers[-1]
