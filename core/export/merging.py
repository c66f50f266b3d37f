"""Merge an adapter into the base's own 16-bit or 32-bit weights, never into rounded 4-bit ones, and measure the difference.

What is on the disk afterwards is opened again: an export whose logits differ from the adapter's is refused.
"""

import gc
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from core import errors
from core.chat import chat_models, engine
from core.chat.chat_models import ChatModel
from core.export import cards
from core.models import base_identity, model_files
from core.training import encoding, model_loading, tokenizer_loading

PROMPTS = ("Who are you, and what do you do all day?", "Кто ты и чем занят весь день?", "2 + 2 =")
LIMIT = {torch.float32: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.06}  # of the logits' length; rounding of weights


def write(model: ChatModel, directory: Path, report: Callable) -> dict:
    """Write the merged model and its card into a directory that exists; what merge() returns."""
    made = merge(model, directory, report)
    identity = base_identity.of(model.base_model)
    base_identity.clean(directory, identity)
    identity.write(directory)
    card = {"id": model.id.removeprefix("run:"), "title": model.title, "base_model": model.base_model}
    card |= {"created": time.time(), **made}
    (directory / "soulsmith.json").write_text(json.dumps(card, ensure_ascii=False), encoding="utf-8")
    (directory / "README.md").write_text(cards.card(model, "merged", made=made), encoding="utf-8")
    return made


def merge(model: ChatModel, out: Path, report: Callable) -> dict:
    """Merge into a directory that exists: {"precision", "difference"}.

    Raises:
        MergeDiffers, and NoRoom when the base does not fit into memory.
    """
    directory = Path(chat_models.base_directory(model))
    engine.need_room(model.title, 1.2 * model_files.size(directory), "cpu")
    report("progress", stage="loading", done=0, total=0)
    tokenizer = tokenizer_loading.load_tokenizer(replace(model.config, base_model=str(directory)))
    weights = engine.Weights(load(directory), tokenizer, frozenset())
    engine.attach_adapter(weights, model)
    report("progress", stage="merging", done=0, total=0)
    adapter_logits = logits(weights.inner, tokenizer)
    merged = weights.model.merge_and_unload(safe_merge=True)
    dtype = merged.dtype
    report("progress", stage="saving", done=0, total=0)
    merged.save_pretrained(out)
    tokenizer.save_pretrained(out)
    del merged, weights
    gc.collect()
    report("progress", stage="comparing", done=0, total=0)
    difference = distance(logits(load(out), tokenizer), adapter_logits)
    check(difference, LIMIT.get(dtype, 0.06))
    return {"precision": str(dtype).removeprefix("torch."), "difference": round(difference, 6)}


def check(difference: float, limit: float) -> None:
    """Raise MergeDiffers when a difference is more than rounding; NaN is."""
    if not difference <= limit:
        raise errors.named("MergeDiffers", difference=f"{difference:.2%}", limit=f"{limit:.2%}")


def load(directory: Path):
    """A model on the processor in the precision that it is stored in."""
    return model_loading.open_model(directory, dtype="auto").eval()


def prompts(tokenizer) -> list[list[int]]:
    """The tokens of the prompts that a copy is compared on."""
    return [encoding.prompt_ids([{"role": "user", "content": text}], tokenizer) for text in PROMPTS]


def logits(model, tokenizer) -> list:
    """The logits (T, V) of a model at each prompt, in fp32."""
    with torch.inference_mode():
        return [model(input_ids=torch.tensor([ids])).logits[0].float() for ids in prompts(tokenizer)]


def distance(logits: list, reference: list) -> float:
    """The norm of the difference of logits as a share of the norm of the reference without its mean."""
    ours, theirs = (torch.cat([part.flatten() for part in parts]) for parts in (logits, reference))
    return float((ours - theirs).norm() / (theirs - theirs.mean()).norm().clamp_min(1e-12))
