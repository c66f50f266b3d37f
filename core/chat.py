"""Chat with a base model and its adapter in one set of weights: two replies grow side by side.

Run it: `python -m core.chat --run RUN --prompt "Who are you?" --ab --json`.
"""

import argparse
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from core import models, recipe, runs
from core.trouble import Trouble

BASE, TUNED = "base", "tuned"
CLOSING = threading.Event()  # set while the memory is wanted back: replies end where they are
LOCK = threading.Lock()  # one reply at a time on the card, whatever the number of windows
_opened: "Pair | None" = None


class NoAdapter(Trouble):
    template = 'The run "{name}" has no adapter yet. Wait for its first checkpoint, or choose another run.'


class AdapterForeign(Trouble):
    template = (
        "The adapter {adapter} does not fit {model}: {matched} of {tensors} tensors matched. Choose its own base."
    )


class PromptTooLong(Trouble):
    template = (
        "The conversation has {tokens} tokens and the model reads {limit}. Shorten it, or begin a new conversation."
    )


@dataclass(frozen=True)
class Sampling:
    """How a reply is drawn; both columns use the same."""

    temperature: float = 0.7  # 0: always the likeliest token
    top_p: float = 0.9  # of the likeliest tokens that make up this share
    top_k: int = 50
    repetition_penalty: float = 1.1
    max_new_tokens: int = 200
    seed: int = 7


@dataclass
class Reply:
    """One column while it grows."""

    text: str = ""
    tokens: int = 0
    tokens_per_second: float = 0.0
    finish_reason: str = ""  # stop: the model ended it; length: max_new_tokens; empty: still growing


@dataclass(frozen=True)
class Pair:
    """An opened base with the adapter of a run around it, or beside it the model that all-weights training made of it."""

    run_id: str
    weights: Path
    model: object
    tuned: object  # the same object as `model`, unless all weights were trained
    tokenizer: object
    stop_ids: frozenset[int]
    written: int  # when the weights were written: a run that went on has others at the same place
    layers: tuple  # the layers that hold the adapter


def weights_of(run_id: str) -> Path:
    """The adapter or model that a run left behind, or its newest checkpoint while it goes on."""
    run_dir = runs.directory(run_id)
    for made in (run_dir / "adapter", run_dir / "model"):
        if made.is_dir():
            return made
    if checkpoint := recipe.whole_checkpoint(run_dir):
        return Path(checkpoint)
    raise NoAdapter(name=runs.label(run_id)["name"])


def open_run(run_id: str) -> Pair:
    """Load the base as the run trained on it, and the run's adapter; what was open before is let go."""
    global _opened
    weights = weights_of(run_id)
    with LOCK:
        if _opened and (_opened.run_id, _opened.weights, _opened.written) == (run_id, weights, _written(weights)):
            return _opened
        _let_go()
        config = runs.config(run_id)
        config = replace(config, base_model=models.prepare(config.base_model))
        _opened = _load(run_id, weights, config)
        return _opened


def close() -> bool:
    """Give the memory back, ending a reply that still grows; whether anything was open."""
    CLOSING.set()
    try:
        with LOCK:
            return _let_go()
    finally:
        CLOSING.clear()


def is_open() -> bool:
    return _opened is not None


def replies(
    run_id: str,
    conversations: dict[str, list[dict]],
    sampling: Sampling | None = None,
) -> Iterator[dict[str, Reply]]:
    """Grow a reply in each column, a token in turn, and yield the columns as they grow.

    `conversations` maps a column, "base" or "tuned", to its messages. Both columns draw with the same settings from
    generators of the same seed, so an adapter that changes nothing replies word for word like its base. Closing the
    iterator stops at once.
    """
    sampling, pair = sampling or Sampling(), open_run(run_id)
    with LOCK:
        columns = {name: _Column(pair, messages, name, sampling) for name, messages in conversations.items()}
        growing = list(columns.values())
        while growing and not CLOSING.is_set():
            growing = [column for column in growing if column.grow()]
            yield {name: replace(column.reply) for name, column in columns.items()}


class _Column:
    """The cache, the sampler and the words of one reply."""

    def __init__(self, pair: Pair, messages: list[dict], name: str, sampling: Sampling):
        import torch
        from transformers import DynamicCache, LogitsProcessorList

        self.pair, self.name, self.sampling, self.reply = pair, name, sampling, Reply()
        ids = recipe.prompt_ids(messages, pair.tokenizer)
        limit = getattr(pair.model.config, "max_position_embeddings", None) or sys.maxsize
        if len(ids) + sampling.max_new_tokens > limit:
            raise PromptTooLong(tokens=len(ids), limit=limit - sampling.max_new_tokens)
        self.ids, self.prompt_length = torch.tensor([ids], device=pair.model.device), len(ids)
        self.unread = self.ids
        self.cache = DynamicCache()
        self.random = torch.Generator(pair.model.device).manual_seed(sampling.seed)
        self.warp = LogitsProcessorList(_warpers(sampling))
        self.began = None

    def grow(self) -> bool:
        """Say one token more; whether there may be another one."""
        import torch

        # Around one step, not around the whole reply: a page's steps run on whatever thread is free.
        with torch.inference_mode():
            return self._grow(torch)

    def _grow(self, torch) -> bool:
        with _speaking(self.pair, self.name) as model:
            logits = model(input_ids=self.unread, cache=self.cache, use_cache=True, logits_to_keep=1).logits[
                :, -1
            ]  # (1, V)
        scores = self.warp(self.ids, logits.float())
        if self.sampling.temperature > 0:
            self.unread = torch.multinomial(scores.softmax(-1), 1, generator=self.random)
        else:
            self.unread = scores.argmax(-1, keepdim=True)
        self.began = self.began or time.monotonic()  # the clock starts at the first token: the prompt is read by then
        token = int(self.unread)
        if token in self.pair.stop_ids:
            self.reply.finish_reason = "stop"
            return False
        self.ids = torch.cat([self.ids, self.unread], dim=1)
        said = self.ids[0, self.prompt_length :]
        self.reply.text = self.pair.tokenizer.decode(said).removesuffix("\ufffd")  # the rest of a letter comes later
        self.reply.tokens = len(said)
        self.reply.tokens_per_second = round((len(said) - 1) / max(1e-9, time.monotonic() - self.began), 1)
        if len(said) >= self.sampling.max_new_tokens:
            self.reply.finish_reason = "length"
            return False
        return True


@contextmanager
def _speaking(pair: Pair, name: str):
    """The model as the base, or as what was trained, for one pass.

    The layers are switched one by one: `model.disable_adapter()` walks all modules each time, which took 22 ms, as
    long as half a token of a 135M model; this takes 4 ms.
    """
    if name == TUNED:
        yield pair.tuned
        return
    for layer in pair.layers:
        layer.enable_adapters(False)
    try:
        yield pair.model
    finally:
        for layer in pair.layers:
            layer.enable_adapters(True)


def _warpers(sampling: Sampling) -> list:
    from transformers.generation import logits_process as process

    warpers = []
    if sampling.repetition_penalty != 1:
        warpers.append(process.RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if sampling.temperature > 0:
        warpers.append(process.TemperatureLogitsWarper(sampling.temperature))
        if sampling.top_k:
            warpers.append(process.TopKLogitsWarper(sampling.top_k))
        if sampling.top_p < 1:
            warpers.append(process.TopPLogitsWarper(sampling.top_p))
    return warpers


def _load(run_id: str, weights: Path, config: recipe.TrainConfig) -> Pair:
    tokenizer, base = recipe.load_tokenizer(config), recipe.load_base(config).eval()
    stops, written = stop_ids(base, tokenizer), _written(weights)
    if config.method == "full":
        tuned = recipe.load_base(replace(config, base_model=str(weights))).eval()
        return Pair(run_id, weights, base, tuned, tokenizer, stops, written, ())
    model, layers = _with_adapter(base, weights, config)
    return Pair(run_id, weights, model, model, tokenizer, stops, written, layers)


def _written(weights: Path) -> int:
    return max((file.stat().st_mtime_ns for file in weights.glob("*.safetensors")), default=0)


def _with_adapter(base, adapter: Path, config: recipe.TrainConfig) -> tuple:
    """The base with the adapter around it, and the layers that hold it; every saved tensor must have found its place."""
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer
    from safetensors import safe_open

    model = PeftModel.from_pretrained(base, adapter).eval()
    with safe_open(adapter / "adapter_model.safetensors", "pt") as file:
        saved = {name for name in file.keys() if "lora_" in name}  # noqa: SIM118 (not a dict)
    wanted = {name.replace(".default.", ".") for name, _ in model.named_parameters() if "lora_" in name}
    if not saved or saved != wanted:
        raise AdapterForeign(adapter=adapter, model=config.base_model, matched=len(saved & wanted), tensors=len(saved))
    return model, tuple(module for module in model.modules() if isinstance(module, BaseTunerLayer))


def stop_ids(model, tokenizer) -> frozenset[int]:
    """The tokens that end a reply: the model's own, and the one that its chat template writes after a reply."""
    configured = model.generation_config.eos_token_id
    ids = set(configured if isinstance(configured, list) else [configured])
    ids.add(tokenizer.eos_token_id)
    if tokenizer.chat_template:
        turn = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        labels = recipe.encode({"messages": turn}, tokenizer)["labels"]
        ids.add([label for label in labels if label != recipe.IGNORED][-1])
    return frozenset(ids - {None})


def _let_go() -> bool:
    global _opened
    was_open, _opened = _opened is not None, None
    if was_open:
        import gc

        import torch

        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return was_open


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m core.chat", description=__doc__.split("\n")[0])
    parser.add_argument("--run", required=True, help="id of a run, as printed by python -m core.runs list")
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--system", default="", help="system prompt")
    parser.add_argument("--ab", action="store_true", help="the base's reply as well")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    for name, default in vars(Sampling()).items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(default), default=default)
    args = parser.parse_args()
    sampling = Sampling(**{name: getattr(args, name) for name in vars(Sampling())})
    messages = [{"role": "system", "content": args.system}] if args.system else []
    messages.append({"role": "user", "content": args.prompt})
    try:
        asked = dict.fromkeys([BASE, TUNED] if args.ab else [TUNED], messages)
        *_, columns = replies(args.run, asked, sampling)
    except (Trouble, recipe.RecipeTrouble) as error:
        sys.exit(str(error))
    if args.json:
        print(json.dumps({name: vars(reply) for name, reply in columns.items()}, ensure_ascii=False))
    else:
        for name, reply in columns.items():
            print(f"[{name}] {reply.text}\n")


if __name__ == "__main__":
    main()
