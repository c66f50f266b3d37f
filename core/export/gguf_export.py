"""GGUF files of a run for Ollama, LM Studio and llama.cpp, each measured against the model that it was made of.

Each file is read back with transformers: a tensor that is further from the merged model's than its type rounds is
refused, and how far the file's replies are from the model's is measured on held-out rows and shown. Where memory is too
small to hold the model in fp32 for that, the files are written all the same and said to be unmeasured. They lie as
LM Studio wants them, in PUBLISHER/MODEL; a Modelfile beside them is for Ollama.
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import gc
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig

from core import errors, paths
from core.chat import chat_models, engine
from core.chat.chat_models import ChatModel
from core.export import cards, fidelity, gguf_file, merging, ollama, quantizer
from core.export.fidelity import Reference
from core.models import model_files

MEASURING_BYTES = 4.5  # a weight: the model in fp32, beside one of its files
PUBLISHER = "soulsmith"  # LM Studio finds models as PUBLISHER/MODEL/FILE


def write(model: ChatModel, directory: Path, report: Callable, kinds: tuple[str, ...]) -> dict:
    """Write a file of each kind and a Modelfile into a directory that exists.

    {"difference", "files", "chosen"} with "measured_on", or with "unmeasured": {"need", "free"} in bytes.
    """
    quantizer.check(kinds)
    base = model.weights if model.whole else Path(chat_models.base_directory(model))
    gguf_file.check(base)  # before the long work
    need, free = MEASURING_BYTES * model_files.count(base), engine.free_bytes("cpu")
    if need > free:
        quantizer.check_importance(kinds)
    made, merged = {"difference": 0.0}, model.weights
    if not model.whole:
        merged = directory / "merged"
        merged.mkdir()
        made = merging.merge(model, merged, report)
    rows = None
    if need > free:
        made["unmeasured"] = {"need": need, "free": free}
    else:
        rows = fidelity.rows_of(model, AutoTokenizer.from_pretrained(merged))
        made["measured_on"] = {"rows": len(rows[1]), "from": rows[2]}
    name = paths.slug(model.title)
    (folder := directory / PUBLISHER / name).mkdir(parents=True)
    made["files"] = write_files(name, merged, folder, kinds, rows, report)
    for file in made["files"]:
        file["file"] = f"{PUBLISHER}/{name}/{file['file']}"
    chosen = made["chosen"] = best(made["files"])["file"]
    notes = [sentence(file) for file in made["files"]]
    (directory / "Modelfile").write_text(ollama.modelfile(merged, chosen, notes), encoding="utf-8")
    shutil.rmtree(directory / "merged", ignore_errors=True)
    (directory / "README.md").write_text(cards.card(model, "gguf", made=made), encoding="utf-8")
    return made


def write_files(
    name: str, merged: Path, out: Path, kinds: tuple[str, ...], rows: tuple[list, list, str] | None, report: Callable
) -> list[dict]:
    """Write a file of each kind and measure it: [{"file", "kind", "bytes", "kl", "changed", "replies"}].

    `rows` are those that importance is taken from, those that are compared on, and their name; without them nothing is
    measured, and a tensor at a time is in memory.

    Raises:
        GgufDiffers: when a file read back has other weights than those that it was made of.
    """
    tokenizer = AutoTokenizer.from_pretrained(merged)
    if rows is None:
        return [_written(name, merged, out, kind, tokenizer, report) for kind in kinds]
    report("progress", stage="measuring", done=0, total=0)
    model = merging.load(merged).float()
    reference, weights = Reference(model, tokenizer, rows[1]), None
    if not set(kinds) <= set(quantizer.WITHOUT_ENGINE):
        weights = fidelity.importance(model, fidelity.encoded(rows[0], tokenizer))
    del model
    files = []
    for kind in kinds:
        gc.collect()
        file = _written(name, merged, out, kind, tokenizer, report, weights)
        report("progress", stage="comparing", done=0, total=0)
        model = read(out / file["file"], merged)
        if wrong := fidelity.wrong_tensor(model, merged, kind):
            tensor, difference, limit = wrong[0], f"{wrong[1]:.2%}", f"{wrong[2]:.2%}"
            raise errors.named("GgufDiffers", kind=kind, tensor=tensor, difference=difference, limit=limit)
        files.append(file | reference.compare(model))
        del model
    return files


def _written(name: str, merged: Path, out: Path, kind: str, tokenizer, report: Callable, weights=None) -> dict:
    path = out / f"{name}-{kind}.gguf"
    gguf_file.write(merged, tokenizer, path, kind, report, weights)
    return {"file": path.name, "kind": kind, "bytes": path.stat().st_size}


def best(files: list[dict]) -> dict:
    """The smallest of the files that change the fewest replies; of files that were not measured the largest."""
    if any("changed" not in file for file in files):
        return max(files, key=lambda file: file["bytes"])
    return min(files, key=lambda file: (file["changed"], file["bytes"]))


def sentence(file: dict) -> str:
    """What a file changes, in one line."""
    name, size = file["file"].rsplit("/", 1)[-1], f"{file['bytes'] / 1e6:.0f} MB"
    if "kl" not in file:
        return f"{name}: {size}, not measured"
    changes = f"{file['changed']} of {file['replies']} greedy replies changed"
    return f"{name}: {size}, {changes}, KL {file['kl']:.3g} nats a token"


def read(path: Path, merged: Path):
    """The model of a GGUF file, as transformers reads it.

    What its reader doesn't know of (a scaled rotary embedding, the size of a head) comes from the merged model's
    settings; of Mistral as a Llama, which its GGUF files are.
    """
    config = AutoConfig.from_pretrained(merged)
    if config.model_type == "mistral":
        values = {key: value for key, value in config.to_dict().items() if key not in ("model_type", "architectures")}
        config = AutoConfig.for_model("llama", **values)
    return AutoModelForCausalLM.from_pretrained(
        path.parent,
        gguf_file=path.name,
        config=config,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
    ).eval()
