"""Merge an adapter into the base's own 16-bit or 32-bit weights, never into rounded 4-bit ones, and measure the difference.

What lies on the disk afterwards is opened again and asked: an export whose logits differ from the adapter's is refused.
"""

import gc
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import torch

from core import model_files
from core.chat import chat_models, engine
from core.errors import UserError
from core.training import encoding, model_loading, tokenizer_loading

PROMPTS = ("Who are you, and what do you do all day?", "Кто ты и чем занят весь день?", "2 + 2 =")
LIMIT = {torch.float32: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.06}  # of the logits' length; rounding of weights


class MergeDiffers(UserError):
    template = (
        "The merged model does not speak like the adapter: its logits differ by {difference} and at most {limit} is "
        "rounding. Nothing was written. Take the adapter instead."
    )


def write(run_id: str, out: Path, report) -> dict:
    """Write the merged model into a directory and return its path, size, precision and the difference measured."""
    one = chat_models.find(f"run:{run_id}")
    unfinished = out.with_name(out.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        found = into(one, unfinished, report)
        card = {"id": run_id, "title": one.title, "base_model": one.base_model, "created": time.time(), **found}
        (unfinished / "soulsmith.json").write_text(json.dumps(card, ensure_ascii=False), encoding="utf-8")
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    if out.exists():
        out.rmdir()  # an empty directory
    unfinished.rename(out)
    size = sum(file.stat().st_size for file in out.iterdir())
    return {"path": str(out), "bytes": size, **found}


def into(one: chat_models.ChatModel, out: Path, report) -> dict:
    """Merge into a directory that exists: {"precision", "difference"}."""
    directory = Path(chat_models.base_directory(one))
    engine.need_room(one, directory, "cpu", 1.2 * model_files.width(directory))
    report("progress", stage="loading", done=0, total=0)
    config = replace(one.config, base_model=str(directory))
    base, tokenizer = load(directory), tokenizer_loading.load_tokenizer(config)
    weights = engine.Weights(base, tokenizer, "cpu", False, frozenset())
    engine.attach_adapter(weights, one)
    report("progress", stage="merging", done=0, total=0)
    wanted = logits(weights.inner, tokenizer)
    merged = weights.model.merge_and_unload(safe_merge=True)
    dtype = merged.dtype
    report("progress", stage="saving", done=0, total=0)
    merged.save_pretrained(out)
    tokenizer.save_pretrained(out)
    del base, merged, weights
    gc.collect()
    report("progress", stage="comparing", done=0, total=0)
    difference = distance(logits(load(out), tokenizer), wanted)
    check(difference, LIMIT.get(dtype, 0.06))
    return {"precision": str(dtype).removeprefix("torch."), "difference": round(difference, 6)}


def check(difference: float, limit: float) -> None:
    """Raise MergeDiffers when a difference is more than rounding; NaN is."""
    if not difference <= limit:
        raise MergeDiffers(difference=f"{difference:.2%}", limit=f"{limit:.2%}")


def load(directory: Path):
    """A model on the processor in the precision that it is stored in."""
    return model_loading.open_model(directory, dtype="auto").eval()


def prompts(tokenizer) -> list[list[int]]:
    """The tokens of the prompts that a copy is compared on."""
    return [encoding.prompt_ids([{"role": "user", "content": text}], tokenizer) for text in PROMPTS]


def logits(model, tokenizer) -> list:
    """The logits of a model after each token of the prompts."""
    with torch.inference_mode():
        return [model(input_ids=torch.tensor([ids])).logits[0].float() for ids in prompts(tokenizer)]


def distance(found: list, wanted: list) -> float:
    """The length of the difference of logits as a share of their own length, after taking away their means."""
    one, other = torch.cat([part.flatten() for part in found]), torch.cat([part.flatten() for part in wanted])
    return float((one - other).norm() / (other - other.mean()).norm().clamp_min(1e-12))
