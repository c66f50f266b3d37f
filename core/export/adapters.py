"""An adapter in PEFT's own format, with a card; plain transformers and peft load it in three lines."""

import json
import shutil
import zipfile
from pathlib import Path

from core import events, paths
from core.chat import chat_models
from core.chat.chat_models import ChatModel
from core.models import models
from core.runs import runs, starts

FILES = (
    "adapter_",
    "tokenizer",
    "chat_template",
    "special_tokens",
    "added_tokens",
    "vocab",
    "merges",
)  # how they begin
LINES = """from peft import AutoPeftModelForCausalLM; from transformers import AutoTokenizer
model = AutoPeftModelForCausalLM.from_pretrained("{place}")
tokenizer = AutoTokenizer.from_pretrained("{place}")
"""
# Of a model that AutoModelForCausalLM does not open: one that sees as well.
MULTIMODAL_LINES = """from peft import PeftModel; from transformers import AutoModelForImageTextToText, AutoTokenizer
model = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained("{base}"), "{place}")
tokenizer = AutoTokenizer.from_pretrained("{place}")
"""


def write(model: ChatModel, directory: Path, out: Path) -> dict:
    """Copy a run's adapter with its tokenizer and card into a directory that becomes `out`, and zip them beside it."""
    for file in sorted(model.weights.iterdir()):
        if file.name.startswith(FILES):
            shutil.copyfile(file, directory / file.name)
    # The base is named so that it is found again: a hub id stays one, whatever cache it was trained from.
    path = directory / "adapter_config.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    values["base_model_name_or_path"] = models.local(model.base_model) or model.base_model
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (directory / "README.md").write_text(card(model, out.name), encoding="utf-8")
    packed = out.with_name(out.name + ".zip")
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(directory.iterdir()):
            archive.write(file, f"{out.name}/{file.name}")
    return {"zip": str(packed), "bytes": packed.stat().st_size, "lines": lines(model, str(out))}


def lines(model: ChatModel, place: str) -> str:
    """The three lines that load an adapter from a place in plain transformers and peft."""
    from core.training import model_loading  # noqa: PLC0415 - the page opens without torch

    config = model_loading.model_config(chat_models.base_directory(model))
    if model_loading.auto_class(config).__name__ == "AutoModelForCausalLM":
        return LINES.format(place=place)
    return MULTIMODAL_LINES.format(place=place, base=models.local(model.base_model) or model.base_model)


def card(model: ChatModel, place: str) -> str:
    """The adapter's model card, in Markdown; `place` is the directory that its lines load from."""
    seen = events.read(runs.directory(model.id.removeprefix("run:")))[0]
    latest = {event["event"]: event for event in seen}
    losses = [event["eval_loss"] for event in seen if event["event"] == "eval"]
    before, after = (f"{loss:.4g}" if loss is not None else "?" for loss in ([*losses, None][0], [None, *losses][-1]))
    return (
        (paths.assets() / "export" / "adapter.md")
        .read_text(encoding="utf-8")
        .format(
            name=model.title,
            base=model.base_model,
            method=model.config.method,
            rank=model.config.lora_rank,
            alpha=model.config.lora_alpha,
            steps=(latest.get("finished") or latest.get("stopped") or {}).get("steps", "?"),
            rows=latest.get("data", {}).get("rows_train", "?"),
            before=before,
            after=after,
            lines=lines(model, place),
            ancestry=_ancestry(model),
        )
    )


def _ancestry(model: ChatModel) -> str:
    """What the adapter went on from, a sentence; nothing for one that began anew."""
    entries = starts.ancestry(model.id.removeprefix("run:").partition("/")[0])
    named = [entry["name"] + (f" (step {entry['step']})" if entry["step"] else "") for entry in entries]
    return f" It went on from {', before that '.join(named)}." if named else ""
