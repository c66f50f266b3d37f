"""An adapter in PEFT's own format, with a card; plain transformers and peft load it in three lines."""

import json
import shutil
import zipfile
from pathlib import Path

from core import events, models
from core.chat import chat_models
from core.runs import runs

LINES = """from peft import AutoPeftModelForCausalLM; from transformers import AutoTokenizer
model = AutoPeftModelForCausalLM.from_pretrained("{place}")
tokenizer = AutoTokenizer.from_pretrained("{place}")
"""
# Of a model that AutoModelForCausalLM does not open: one that sees as well.
MULTIMODAL_LINES = """from peft import PeftModel; from transformers import AutoModelForImageTextToText, AutoTokenizer
model = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained("{base}"), "{place}")
tokenizer = AutoTokenizer.from_pretrained("{place}")
"""
CARD = """---
base_model: {base}
library_name: peft
tags: [lora, soulsmith]
---

# {name}

An adapter ({method}, rank {rank}, alpha {alpha}) for {base}, trained with Soulsmith: {steps} steps on {rows} rows.
Loss on held-out rows: {before} before, {after} after.

```python
{lines}```

The base model is looked for where adapter_config.json says (`base_model_name_or_path`): {base}.
"""


def write(run_id: str, out: Path, report) -> dict:
    """Copy a run's adapter into a directory with its tokenizer and card, and pack the same into a zip beside it."""
    report("progress", stage="packing", done=0, total=0)
    one = chat_models.find(f"run:{run_id}")
    unfinished = out.with_name(out.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for file in sorted(one.weights.iterdir()):
        if file.name.startswith(
            ("adapter_", "tokenizer", "chat_template", "special_tokens", "added_tokens", "vocab", "merges")
        ):
            shutil.copyfile(file, unfinished / file.name)
    _name_base(unfinished, one)
    (unfinished / "README.md").write_text(card(run_id, one, out.name), encoding="utf-8")
    if out.exists():
        out.rmdir()  # an empty directory
    unfinished.rename(out)
    packed = out.with_name(out.name + ".zip")
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(out.iterdir()):
            archive.write(file, f"{out.name}/{file.name}")
    return {
        "path": str(out),
        "zip": str(packed),
        "bytes": packed.stat().st_size,
        "lines": lines(str(out), _multimodal(one)),
    }


def lines(place: str, multimodal: str = "") -> str:
    """The three lines that load an adapter in plain transformers and peft; `multimodal` names a base of that kind."""
    return MULTIMODAL_LINES.format(place=place, base=multimodal) if multimodal else LINES.format(place=place)


def _multimodal(one: chat_models.Contestant) -> str:
    """The name of a base that AutoModelForCausalLM does not open, or nothing."""
    from core.training import model_loading  # noqa: PLC0415 - the page opens without torch

    kind = model_loading.auto_class(model_loading.model_config(chat_models.base_of(one))).__name__
    return "" if kind == "AutoModelForCausalLM" else models.local(one.base_model) or one.base_model


def card(run_id: str, one: chat_models.Contestant, place: str) -> str:
    """The adapter's model card."""
    seen = {event["event"]: event for event in events.read(runs.directory(run_id))[0]}
    evals = [event["eval_loss"] for event in events.read(runs.directory(run_id))[0] if event["event"] == "eval"]
    data, ending = seen.get("data", {}), seen.get("finished") or seen.get("stopped") or {}
    return CARD.format(
        name=one.title,
        base=one.base_model,
        method=one.config.method,
        rank=one.config.lora_rank,
        alpha=one.config.lora_alpha,
        steps=ending.get("steps", "?"),
        rows=data.get("rows_train", "?"),
        before=f"{evals[0]:.4g}" if evals and evals[0] is not None else "?",
        after=f"{evals[-1]:.4g}" if evals and evals[-1] is not None else "?",
        lines=lines(place, _multimodal(one)),
    )


def _name_base(directory: Path, one: chat_models.Contestant) -> None:
    """Name the base so that it is found again: a hub id stays one, whatever cache it was trained from."""
    path = directory / "adapter_config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    local = models.local(one.base_model)
    values["base_model_name_or_path"] = local or one.base_model
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
