"""GGUF files (f16 and q8_0) of a run for Ollama, LM Studio and llama.cpp, with a Modelfile.

Each file is read back with transformers: its logits and its greedy replies have to be those of the merged model with the
weights rounded as the file rounds them; how far that is from the merged model itself is measured and shown.
Written with the official gguf package: the format's names come from it, the layout of each family from llama.cpp's
own reader. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import gc
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GgufConfig

from core import paths
from core.chat import chat_models, engine
from core.chat.chat_models import ChatModel
from core.errors import UserError
from core.export import gguf_file, merging
from core.models import model_files
from core.training import encoding
from core.training.generate import generate

KINDS = ("f16", "q8_0")
EXACT = 1e-3  # of the logits' length: between a file and the merged model with its weights rounded the same
REPLY_TOKENS = 24


class GgufDiffers(UserError):
    template = (
        "The {kind} file does not reply like the merged model: its logits differ by {difference} and at most {limit} "
        "is rounding. It was removed. Take the merged model and llama.cpp's convert_hf_to_gguf.py instead."
    )


def write(model: ChatModel, directory: Path, report: Callable) -> dict:
    """Write both files and a Modelfile into a directory that exists: {"difference", "files"}."""
    base = model.weights if model.whole else Path(chat_models.base_directory(model))
    gguf_file.check(base)  # before the long work
    engine.need_room(model.title, 4.5 * model_files.count(base), "cpu")  # the files are compared in fp32
    made, merged = {"difference": 0.0}, model.weights
    if not model.whole:
        merged = directory / "merged"
        merged.mkdir()
        made = merging.merge(model, merged, report)
    made["files"] = write_files(model.title, merged, directory, report)
    (directory / "Modelfile").write_text(modelfile(merged, _name(model.title, "q8_0")), encoding="utf-8")
    shutil.rmtree(directory / "merged", ignore_errors=True)
    return made


def write_files(title: str, merged: Path, out: Path, report: Callable) -> list[dict]:
    """Write a file of each kind and compare it: [{"file", "difference", "replies_equal", "replies"}].

    Raises:
        GgufDiffers: when a file read back differs from the rounded model.
    """
    tokenizer = AutoTokenizer.from_pretrained(merged)
    wanted, replies = _logits_and_replies(merging.load(merged).float(), tokenizer)
    files = []
    for kind in KINDS:
        path = out / _name(title, kind)
        gguf_file.write(merged, tokenizer, path, kind, report)
        report("progress", stage="comparing", done=0, total=0)
        rounded, rounded_replies = _logits_and_replies(gguf_file.rounded(merging.load(merged).float(), kind), tokenizer)
        logits, file_replies = _logits_and_replies(read(path, merged), tokenizer)
        difference = merging.distance(logits, wanted)
        if not merging.distance(logits, rounded) <= EXACT or file_replies != rounded_replies:
            limit = f"{merging.distance(rounded, wanted):.2%}"
            raise GgufDiffers(kind=kind, difference=f"{difference:.2%}", limit=limit)
        equal = sum(one == other for one, other in zip(file_replies, replies, strict=True))
        files.append(
            {"file": path.name, "difference": round(difference, 6), "replies_equal": equal, "replies": len(replies)}
        )
        gc.collect()
    return files


def _logits_and_replies(model, tokenizer) -> tuple[list, list]:
    return merging.logits(model, tokenizer), greedy(model, tokenizer)


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


def greedy(model, tokenizer) -> list[list[int]]:
    """The likeliest continuation of each prompt that copies are compared on."""
    prompts = merging.prompts(tokenizer)
    return [generate(model, tokenizer, [ids], REPLY_TOKENS)[0][0] for ids in prompts]


def modelfile(merged: Path, file: str) -> str:
    """What `ollama create` reads: the file, when a reply ends, and the template where it is ChatML."""
    tokenizer = AutoTokenizer.from_pretrained(merged)
    try:
        generation = GenerationConfig.from_pretrained(merged)
    except OSError:
        generation = GenerationConfig(eos_token_id=AutoConfig.from_pretrained(merged).eos_token_id)
    ids = encoding.stop_ids(SimpleNamespace(generation_config=generation), tokenizer)
    stops = [json.dumps(token, ensure_ascii=False) for token in tokenizer.convert_ids_to_tokens(ids)]
    lines = [f"FROM ./{file}", *[f"PARAMETER stop {stop}" for stop in stops]]
    if tokenizer.chat_template:
        text = encoding.apply_template(tokenizer, [{"role": "user", "content": "\ue0f0"}], True)
        if text.endswith("<|im_start|>user\n\ue0f0<|im_end|>\n<|im_start|>assistant\n"):
            turn = "<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n"
            lines.append(f'TEMPLATE """{{{{- range .Messages }}}}{turn}{{{{ end }}}}<|im_start|>assistant\n"""')
            if text.startswith("<|im_start|>system\n"):  # what the template says when nobody says anything else
                system = text.removeprefix("<|im_start|>system\n").split("<|im_end|>")[0]
                lines.append(f'SYSTEM """{system}"""')
    return "\n".join(lines) + "\n"


def _name(title: str, kind: str) -> str:
    return f"{paths.slug(title)}-{kind}.gguf"
