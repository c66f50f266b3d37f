"""How fast a chat is beside plain `model.generate`: `python -m tests.bench_chat [--model DIR] [--rounds N] [--json]`.

First token and tokens a second of the base and of an adapter, greedy, same prompt; the switch between them; and two
columns one after the other against two columns as one batch. Rounds alternate, so that a machine that slows down slows
all down; each figure is the median of the rounds.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import torch

from core import paths
from core.chat import engine, generation
from core.chat.types import Question, Sampling
from core.models import models
from core.runs import runs
from core.training.config import TrainConfig

PROMPT = [{"role": "user", "content": "Explain to a child why the sea is salty, and what a lighthouse is for."}]
TOKENS, ROUNDS = 64, 5


def made_run(directory: str, method: str) -> str:
    """A run whose adapter changes nothing yet: speed does not depend on what it says."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    corpus = Path(tempfile.mkdtemp()) / "rows.jsonl"
    corpus.write_text("")
    run_id = runs.create(TrainConfig(base_model=directory, corpus=str(corpus), method=method), f"bench {method}")
    lora = LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(directory), lora)
    model.save_pretrained(paths.run(run_id) / "adapter")
    return run_id


def ours(ids: list[str], tokens: int) -> tuple[float, float, int]:
    """Seconds to the first token, tokens a second after it, and tokens, of all columns together, until the cut."""
    asked = {str(index): Question(id, PROMPT) for index, id in enumerate(ids)}
    began, first, said = time.perf_counter(), 0.0, 0
    for replies in generation.replies(asked, Sampling(temperature=0, repetition_penalty=1.0, max_new_tokens=tokens)):
        first = first or time.perf_counter() - began
        said = sum(reply.tokens for reply in replies.values())
    return first, (said - len(ids)) / (time.perf_counter() - began - first), said


def plain(loaded: engine.LoadedModel, tokens: int) -> tuple[float, float]:
    """The same of `model.generate`, which tells only when all is said: the first token is timed by asking for one."""
    weights = loaded.weights
    engine.set_adapter(weights, loaded.adapter)
    model = weights.model
    ids = torch.tensor([generation.prompt_ids(PROMPT, weights.tokenizer)], device=weights.inner.device)
    asked = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "do_sample": False}
    asked |= {"eos_token_id": sorted(weights.stop_ids), "repetition_penalty": 1.0}
    with torch.inference_mode():
        began = time.perf_counter()
        model.generate(**asked, max_new_tokens=1)
        first = time.perf_counter() - began
        began = time.perf_counter()
        said = model.generate(**asked, max_new_tokens=tokens).shape[1] - ids.shape[1]
        return first, (said - 1) / (time.perf_counter() - began - first)


def measured(directory: str, method: str, rounds: int, tokens: int) -> dict:
    run_id = made_run(directory, method)
    base, tuned = f"base:{directory}", f"run:{run_id}"
    try:
        loaded = engine.load_models({"base": base, "tuned": tuned})
        found: dict = {}

        def note(name: str, figures: tuple[float, float]) -> None:
            found.setdefault(f"{name} first", []).append(figures[0])
            found.setdefault(f"{name} speed", []).append(figures[1])

        for turn in range(rounds + 1):
            if turn == 1:
                found.clear()  # the first round warms up
            note("base ours", ours([base], tokens)[:2])
            note("base plain", plain(loaded["base"], tokens))
            note("adapter ours", ours([tuned], tokens)[:2])
            note("adapter plain", plain(loaded["tuned"], tokens))
            for name, columns in (("two as a batch", [[base, tuned]]), ("two in turn", [[base], [tuned]])):
                began = time.perf_counter()
                parts = [ours(column, tokens) for column in columns]
                seconds = time.perf_counter() - began  # the prompts included
                note(name, (sum(part[0] for part in parts), sum(part[2] for part in parts) / seconds))
            began = time.perf_counter()
            for _ in range(10):
                engine.set_adapter(loaded["tuned"].weights, loaded["tuned"].adapter)
                engine.set_adapter(loaded["base"].weights, None)
            note("switch", ((time.perf_counter() - began) / 20, 1))
        found.pop("switch speed")
        return {name: round(statistics.median(values), 5) for name, values in found.items()} | ratios(found)
    finally:
        engine.close()
        shutil.rmtree(paths.run(run_id))


def ratios(found: dict) -> dict:
    """The median of each round's own ratio: a machine that is slower in one round is slower for both."""

    def ratio(one: str, other: str) -> float:
        return round(statistics.median(a / b for a, b in zip(found[one], found[other], strict=True)), 3)

    pairs = [
        (f"{who} ours {what}", f"{who} plain {what}") for who in ("base", "adapter") for what in ("first", "speed")
    ]
    pairs.append(("two as a batch speed", "two in turn speed"))
    return {f"{one} / {other}": ratio(one, other) for one, other in pairs}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench_chat", description=__doc__.split("\n")[0])
    parser.add_argument("--model", default=models.STARTER, help="a model that is ready, default the starter")
    parser.add_argument("--method", choices=["lora", "qlora"], default="lora")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"after one that warms up, default {ROUNDS}")
    parser.add_argument("--tokens", type=int, default=TOKENS, help=f"of a reply, default {TOKENS}")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    found = measured(models.prepare(args.model), args.method, args.rounds, args.tokens)
    if args.json:
        print(json.dumps(found))
        return
    print("| | first token, s | tokens/s |\n| --- | --- | --- |")
    for name in ("base ours", "base plain", "adapter ours", "adapter plain", "two as a batch", "two in turn"):
        print(f"| {name} | {found[name + ' first']:.3f} | {found[name + ' speed']:.1f} |")
    print("\n| ratio | |\n| --- | --- |")
    for name in (name for name in found if "/" in name):
        print(f"| {name} | {found[name]:.2f} |")
    print(f"\nSwitching between base and adapter: {1000 * found['switch first']:.2f} ms, nothing is loaded.")


if __name__ == "__main__":
    main()
