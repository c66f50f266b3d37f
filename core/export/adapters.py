"""An adapter in PEFT's own format, with a card; plain transformers and peft load it in three lines."""

import shutil
import zipfile
from pathlib import Path

from core.chat import chat_models
from core.chat.chat_models import ChatModel
from core.export import cards
from core.models import base_identity

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
# Of a base that is not on the hub: its directory on the other machine has to be filled in.
PLACED_LINES = """from peft import PeftModel; from transformers import {auto_class}, AutoTokenizer
model = PeftModel.from_pretrained({auto_class}.from_pretrained("DIRECTORY OF {base}"), "{place}")
tokenizer = AutoTokenizer.from_pretrained("{place}")
"""


def write(model: ChatModel, directory: Path, out: Path) -> dict:
    """Copy a run's adapter with its tokenizer and card into a directory that becomes `out`, and zip them beside it."""
    for file in sorted(model.weights.iterdir()):
        if file.name.startswith(FILES):
            shutil.copyfile(file, directory / file.name)
    identity = base_identity.of(model.base_model)
    base_identity.clean(directory, identity)
    identity.write(directory)
    text = cards.card(model, "adapter", lines=lines(model, out.name))
    (directory / "README.md").write_text(text, encoding="utf-8")
    packed = out.with_name(out.name + ".zip")
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(directory.iterdir()):
            archive.write(file, f"{out.name}/{file.name}")
    return {"zip": str(packed), "bytes": packed.stat().st_size, "lines": lines(model, str(out))}


def lines(model: ChatModel, place: str) -> str:
    """The three lines that load an adapter from a place in plain transformers and peft; nothing is downloaded.

    Of a base that is not here its class is not known: it is called one that writes text alone.
    """
    from core.training import model_loading  # noqa: PLC0415 - the page opens without torch

    base = base_identity.of(model.base_model)
    here, auto_class = chat_models.ready_base_directory(model), "AutoModelForCausalLM"
    if here:
        auto_class = model_loading.auto_class(model_loading.model_config(here)).__name__
    if not base.on_hub:
        return PLACED_LINES.format(place=place, base=base.name, auto_class=auto_class)
    template = LINES if auto_class == "AutoModelForCausalLM" else MULTIMODAL_LINES
    return template.format(place=place, base=base.name)
