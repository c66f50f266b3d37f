"""What to change so that it fits, cheapest first, and the largest that still fits."""

import contextlib
import functools
import math
from collections.abc import Collection
from dataclasses import dataclass, replace

from core.errors import UserError
from core.estimate.answer import judge, pace, peak, verdict
from core.estimate.cards import Card
from core.estimate.catalogue import shape
from core.estimate.memory import residents
from core.estimate.model_names import models
from core.estimate.setup import Setup, for_method
from core.estimate.shape import ModelShape

NOTABLE = 64 * 2**20  # bytes; smaller savings are not worth a line


@dataclass(frozen=True)
class Change:
    """One change: what it is called, what it sets, what it saves and what it costs in time."""

    name: str
    before: object
    after: object
    fields: dict
    saves: float  # bytes
    slower: float  # 1.4: forty percent more time for the same tokens
    verdict: str

    @property
    def harm(self) -> int:
        """To the result, 0: the same; 1: nearly the same; 2: another training."""
        if self.after == "qlora" and self.before == "lora":
            return 1
        return {"loss": 0, "attention": 0, "checkpointing": 0, "batch": 0, "optimizer": 1}.get(self.name, 2)


def changes(shape: ModelShape, setup: Setup, card: Card, budget: float) -> list[Change]:
    """Every single change that saves memory: those that make it fit first, then by time, then by bytes."""
    base, rate = peak(shape, setup, card).process, pace(shape, setup, card).tokens_per_second
    options = []
    for name, before, after, fields in _candidates(setup):
        other = replace(setup, **fields)
        saves = base - peak(shape, other, card).process
        if saves < NOTABLE:
            continue
        slower = rate / pace(shape, other, card).tokens_per_second
        options.append(Change(name, before, after, fields, saves, slower, judge(shape, other, card, budget)[1]))
    return sorted(options, key=lambda c: (c.verdict == "no", c.harm, c.slower, -c.saves))


def way_to_fit(
    shape: ModelShape, setup: Setup, card: Card, budget: float, allowed: Collection[str] | None = None
) -> list[Change]:
    """Changes one after another until it fits, the least harmful first; each is counted from the one before it.

    `allowed` are the names of changes to choose from, by default all. Where all of them are not enough, the last one's
    verdict says so.
    """
    taken, first = [], setup
    while judge(shape, setup, card, budget)[1] != "fits" and len(taken) < 12:
        open_ = changes(shape, setup, card, budget)
        open_ = [change for change in open_ if allowed is None or change.name in allowed]
        if not open_:
            break
        enough = [c for c in open_ if c.verdict == "fits" and c.harm <= min(o.harm for o in open_)]
        chosen = enough[0] if enough else min(open_, key=lambda c: (c.harm, -c.saves))
        taken.append(chosen)
        setup = replace(setup, **chosen.fields)
    return _only_needed(shape, first, card, budget, taken)


def helpful(shape: ModelShape, setup: Setup, card: Card, budget: float) -> list[Change]:
    """The way to fit, or nothing where it would not lead there: steps that are not enough are no help."""
    way = way_to_fit(shape, setup, card, budget)
    return way if way and way[-1].verdict != "no" else []


def _only_needed(shape: ModelShape, setup: Setup, card: Card, budget: float, taken: list[Change]) -> list[Change]:
    """The same way with one step a kind, without the steps that later ones have made superfluous."""
    kinds = {change.name: change for change in taken}  # the last of each
    for name in sorted(kinds, key=lambda name: -kinds[name].harm):
        rest = {field: value for other in kinds if other != name for field, value in kinds[other].fields.items()}
        if judge(shape, replace(setup, **rest), card, budget)[1] == "fits":
            del kinds[name]
    way = []
    for change in kinds.values():
        after = replace(setup, **change.fields)
        before = next(other.before for other in taken if other.name == change.name)
        saves = peak(shape, setup, card).process - peak(shape, after, card).process
        rates = [pace(shape, each, card).tokens_per_second for each in (setup, after)]
        then = judge(shape, after, card, budget)[1]
        way.append(replace(change, before=before, saves=saves, slower=rates[0] / rates[1], verdict=then))
        setup = after
    return way


def _candidates(setup: Setup):
    """(name, value before, value after, fields that change) of everything that may save memory."""
    half = setup.max_length // 2
    if half >= (setup.prompt_tokens if setup.method == "prompt" else 256):
        yield "sequence", setup.max_length, half, {"max_length": half}
    if setup.method != "prompt":
        yield from _of_step(setup)
        yield from _of_weights(setup)


def _of_step(setup: Setup):
    if setup.loss in ("logits", "held", "half"):
        yield "loss", setup.loss, "tiled", {"loss": "tiled"}
    if setup.attention == "eager":
        yield "attention", "eager", "sdpa", {"attention": "sdpa"}
    if not setup.gradient_checkpointing:
        yield "checkpointing", False, True, {"gradient_checkpointing": True}
    if setup.batch_size > 1:
        half = setup.batch_size // 2
        more = setup.gradient_accumulation_steps * setup.batch_size // half
        yield "batch", setup.batch_size, half, {"batch_size": half, "gradient_accumulation_steps": more}


def _of_weights(setup: Setup):
    for optim in ("adamw_8bit", "paged_adamw_8bit"):
        if setup.optim.startswith("adamw_torch") or (setup.optim == "adamw_8bit" and "paged" in optim):
            yield "optimizer", setup.optim, optim, {"optim": optim}
    if setup.adapts and setup.lora_rank >= 16:
        half = setup.lora_rank // 2
        yield "rank", setup.lora_rank, half, {"lora_rank": half}
    for method in {"full": ("lora", "qlora"), "lora": ("qlora",)}.get(setup.method, ()):
        fields = {"method": method, "adapter_width": 4, "weight_width": 2, "autocast": True}
        yield "method", setup.kind, method, fields


def largest(shape: ModelShape, setup: Setup, card: Card, budget: float) -> dict[str, int]:
    """The largest sequence, batch and rank that fit, each with the rest as it is; 0: not even the smallest."""
    longest = shape.longest or 2**20
    if setup.method == "prompt":
        return {"max_length": _most(shape, setup, card, budget, "max_length", setup.prompt_tokens, longest)}
    sizes = {"max_length": _most(shape, setup, card, budget, "max_length", 64, longest)}
    sizes["batch_size"] = _most(shape, setup, card, budget, "batch_size", 1, 4096)
    if setup.adapts:
        sizes["lora_rank"] = _most(shape, setup, card, budget, "lora_rank", 1, min(4096, shape.hidden))
    return sizes


def _most(shape: ModelShape, setup: Setup, card: Card, budget: float, name: str, low: int, high: int) -> int:
    """The largest value that judge() lets fit, found with the closed form and the overhead of the setup as it is."""

    def other(value: int) -> Setup:
        return replace(setup, **{name: value})

    def ok(value: int) -> bool:
        memory = peak(shape, other(value), card)
        return verdict(replace(memory, reserved=overhead * memory.allocated), budget) == "fits"

    def fits(value: int) -> bool:
        return judge(shape, other(value), card, budget)[1] == "fits"

    now = judge(shape, setup, card, budget)[0]
    overhead, least, step = now.reserved / now.allocated, low, 64 if name == "max_length" else 1
    if not ok(low) or ok(high):
        return high if ok(low) and fits(high) else low if fits(low) else 0
    while high - low > max(1, low // 64):
        middle = (low + high) // 2
        low, high = (middle, high) if ok(middle) else (low, middle)
    low = max(least, low // step * step)
    while low > least and not fits(low):
        low = max(least, min(low - step, low * 31 // 32 // step * step))
    return low if low > least or fits(low) else 0


def largest_model(setup: Setup, card: Card, budget: float, below: float = math.inf) -> str:
    """The largest model of the catalogue that fits with this setup, of fewer than `below` parameters."""
    chosen = replace(setup, target_modules="all-linear")
    for name, known in _largest_first():
        if known.parameters >= below or setup.max_length > (known.longest or math.inf):
            continue
        # Of most the weights alone tell that they are too large; only the rest is walked through.
        weights = residents(known, for_method(chosen))["weights"]
        if weights < budget and judge(known, chosen, card, budget)[1] == "fits":
            return name
    return ""


@functools.cache
def _largest_first() -> list[tuple[str, ModelShape]]:
    """The catalogue's models of which the shape is written there, but no adapters, by their parameters."""
    entries = [entry for entry in models().values() if "config" in entry and not entry.get("adapter")]
    shapes = []
    for entry in entries:
        with contextlib.suppress(UserError):  # hybrids, which only the trace knows
            shapes.append((entry["hub_id"], shape(entry["hub_id"])))
    return sorted(shapes, key=lambda named: -named[1].parameters)
