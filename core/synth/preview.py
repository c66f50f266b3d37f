"""Ten rows of a recipe, their x-ray, and what a wanted volume costs: rows, hours, GB, an epoch; what it is good for."""

import shutil
import time

from core import paths
from core.corpus import diversity_metrics, turns
from core.corpus.token_counter import Scale
from core.errors import UserError
from core.estimate import answer, cards, catalogue
from core.estimate.setup import Setup
from core.synth import counting, job_files, prompts
from core.synth.chain_source import FromChain
from core.synth.copies import Copies
from core.synth.endpoint import Endpoint
from core.synth.recipes import Recipe
from core.synth.sources import FromMix
from core.synth.writers import FromModel

VOLUMES = (20_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000, 10_000_000_000)
FIRST = 5  # rows shown before anything is asked for
FOR_CHECKS = {"must", "forbid", "lemma", "ban", "keeps", "far"}  # fields of a plan
SHOWN, XRAY = 10, 2000  # rows shown, rows of a grammar measured: fewer look more varied than they are
CHAINS = 4  # rows or groups of a chain that are shown: each takes several calls
ALONE = 3  # rows that a local model writes one by one, for comparison
GRAMMAR_BYTES, MODEL_BYTES = 260, 900  # of the provenance of a row; that of a model has the prompt


def preview(recipe: Recipe, seed: int, request: dict) -> dict:
    """The first rows and what was measured: "rows", "xray", "tokens_a_row", "bytes_a_row", "tokens_per_second", …"""
    make = {"grammar": _of_grammar, "mix": _of_mix}.get(recipe.kind, _of_model)
    return {"lang": recipe.lang} | make(recipe, seed, request, Scale(request.get("model"), recipe.lang))


def first(recipe: Recipe) -> dict:
    """What a recipe is before any model is asked: {"kind": "rows" | "plans" | "prompts", "rows", "example"}.

    `rows` are FIRST texts or chats: rows of a grammar or mix, plans of a chain, prompts of other recipes; `example` is a
    row of a chain that a person has written.
    """
    if recipe.kind == "grammar":
        return {"kind": "rows", "rows": [recipe.make(0, number) for number in range(FIRST)]}
    if recipe.kind == "mix":
        return {"kind": "rows", "rows": [one["row"] for one in FromMix(recipe, 0, None).batch(0)[:FIRST]]}
    if recipe.kind == "chain":
        written = recipe.values.get("cards") or {}
        examples = [some[0] for name, some in written.items() if name.startswith("example_") and isinstance(some, list)]
        if recipe.values.get("material"):
            step = next(step for step in recipe.chain.steps if step.verb == "write")
            return {"kind": "prompts", "rows": [{"text": str(step.value).strip()}]}
        plans = [{"text": "\n".join(_told(recipe.plans(0, number)))} for number in range(FIRST)]
        return {"kind": "plans", "rows": plans, "example": "\n\n".join(map(str, examples))}
    if recipe.kind == "grid":
        asked = [prompts.of_grid(recipe, 0, number) for number in range(FIRST)]
    else:
        seeds = [{"text": str(text)} for text in recipe.values.get("seeds") or []] or [{"text": "…"}] * 3
        asked = [prompts.of_method(recipe, seeds, 0, number) for number in range(FIRST)]
    texts = dict.fromkeys(one["messages"][-1]["content"] for one in asked)
    return {"kind": "prompts", "rows": [{"text": text} for text in texts]}


def _told(plan, name: str = "") -> list[str]:
    """The fields of a plan as lines; those for its checks alone are left out."""
    if isinstance(plan, dict):
        return [line for key, one in plan.items() if key not in FOR_CHECKS for line in _told(one, str(key))]
    if isinstance(plan, list):
        if all(isinstance(one, str) for one in plan):
            return [f"{name}: {'; '.join(plan)}"]
        return [line for one in plan for line in _told(one, name)]
    return [f"{name}: {plan}"] if plan not in ("", None) else []


def _of_grammar(recipe: Recipe, seed: int, request: dict, scale: Scale) -> dict:
    """With what the grammar can say, and the share of rows that are new."""
    rows = [recipe.make(seed, number) for number in range(SHOWN)]
    scale.ids(rows)  # loads and warms what the speed would not show again
    began = time.perf_counter()
    sample = [recipe.make(seed, number) for number in range(XRAY)]
    verdicts = Copies().judge(list(range(XRAY)), ["\n".join(turns.texts(row)) for row in sample])
    new = [row for row, copy in zip(sample, verdicts, strict=True) if copy is None]
    measured = _measured(new, scale, began, GRAMMAR_BYTES)
    measured |= {"distinct": counting.distinct(recipe), "lint": counting.lint(recipe)}
    at = next((at for at in range(job_files.NOVELTY_ROWS, XRAY) if _is_worn(verdicts[:at])), None)
    kept = sum(copy is None for copy in verdicts[:at])
    measured["repeats_at"] = round(kept * measured["tokens_a_row"]) if at else None
    return {"rows": rows, "new_share": round(len(new) / len(sample), 3)} | measured


def _is_worn(verdicts: list) -> bool:
    """Whether a job would pause here: too few of its last rows are new."""
    last = verdicts[-job_files.NOVELTY_ROWS :]
    return sum(copy is None for copy in last) < job_files.NOVELTY_LEAST * len(last)


def _of_mix(recipe: Recipe, seed: int, request: dict, scale: Scale) -> dict:
    """Of the first rows, in the shares that the whole has."""
    began = time.perf_counter()
    rows = [one["row"] for one in FromMix(recipe, seed, request.get("model")).batch(0)]
    shown = [{key: row[key] for key in ("text", "messages") if key in row} for row in rows]
    return {"rows": shown[:SHOWN], "new_share": 1.0, "distinct": None} | _measured(shown, scale, began, GRAMMAR_BYTES)


def _of_model(recipe: Recipe, seed: int, request: dict, scale: Scale) -> dict:
    """With the replies that were set aside, and of a local model the speed in batches and one by one."""
    make = FromChain if recipe.kind == "chain" else FromModel
    source, made, alone = make(recipe, seed, request), [], None
    shown = SHOWN if recipe.kind != "chain" else CHAINS * recipe.parts
    try:
        _warm(source)
        began = time.perf_counter()
        while not made or made[-1]["number"] + 1 < shown:
            made += source.batch(made[-1]["number"] + 1 if made else 0)
        seconds = time.perf_counter() - began
        if source.local and recipe.kind != "chain":
            alone = _speed_one_by_one(source)
    finally:
        source.close()
    rows = [one["row"] for one in made if "row" in one]
    calls = sum(one.get("calls", 1) for one in made)
    measured = _measured(rows, scale, time.perf_counter() - seconds, MODEL_BYTES)
    return {
        "rows": rows,
        "new_share": 1.0,
        "distinct": None,
        "aside": [{key: one[key][:120] for key in ("reason", "excerpt")} for one in made if "reason" in one],
        "calls_a_row": round(calls / len(made), 1),
        "unmeasured": list(source.unmeasured),
        "one_by_one_tokens_per_second": alone,
        "batch_tokens_per_second": alone and round(sum(one["out"] for one in made) / seconds, 1),
    } | measured


def _warm(source: FromModel) -> None:
    """Load a local model, or let a server load its own: that is no part of the speed."""
    for writer in {id(one): one for one in (source.writer, getattr(source, "judge", source.writer))}.values():
        if isinstance(writer, Endpoint):
            writer.ask([{"role": "user", "content": "."}], seed=0, temperature=0.0, max_tokens=1)
        else:
            writer.open()


def _measured(rows: list[dict], scale: Scale, began: float, provenance_bytes: int) -> dict:
    """What rows that were made since `began` weigh, and how fast that was."""
    tokens, count = sum(map(len, scale.ids(rows))), max(1, len(rows))
    seconds = time.perf_counter() - began
    size = sum(len(text.encode()) for row in rows for text in turns.texts(row))
    return {
        "xray": diversity_metrics.measure([turns.learned(row) for row in rows]),
        "tokens_a_row": max(1, round(tokens / count, 1)),
        "bytes_a_row": round(size / count + provenance_bytes),
        "tokens_per_second": round(tokens / seconds, 1),
        "exact": scale.exact,
    }


def _speed_one_by_one(source: FromModel) -> float:
    """Tokens a second that a local model writes for the same prompts, one after the other."""
    began = time.perf_counter()
    replies = [source.local.ask(source.prompt(number)["messages"], **source.sampling) for number in range(ALONE)]
    return round(sum(reply.tokens_out for reply in replies) / (time.perf_counter() - began), 1)


def cost(measured: dict, tokens: int) -> dict:
    """Rows, seconds and GB of a volume, and whether the recipe has that many texts and the disk that much room."""
    rows = tokens / measured["tokens_a_row"]
    distinct = measured.get("distinct")
    gigabytes = rows * measured["bytes_a_row"] / 1e9
    home = paths.home()
    return {
        "tokens": tokens,
        "rows": round(rows),
        "seconds": round(tokens / max(1, measured["tokens_per_second"])),
        "gigabytes": round(gigabytes, 5),
        "fits": shutil.disk_usage(home if home.exists() else home.parent).free > 2.2 * gigabytes * 1e9,
        "enough_texts": (distinct is None or 10 ** min(300, distinct["log10"]) > rows)
        and tokens <= (measured.get("repeats_at") or tokens),
        "good_for": purpose(tokens),
    }


def purpose(tokens: int) -> str:
    """What a volume is good for: touch, style, behaviour, patterns, language."""
    for most, name in ((3e6, "touch"), (3e7, "style"), (3e8, "behaviour"), (3e9, "patterns")):
        if tokens < most:
            return name
    return "language"


def epochs(model: str, volumes: list[int]) -> dict | None:
    """{"seconds": [...], "card"} of one QLoRA epoch over each volume; None where the estimate does not know the model."""
    try:
        card, free = cards.chosen()
        setup = Setup(precision=answer.best_precision(card))
        shape = catalogue.shape(model)
        answers = [answer.ask(shape, setup, card, tokens=tokens, epochs=1, free=free) for tokens in volumes]
    except (UserError, OSError, ValueError, KeyError):
        return None
    return {"seconds": [round(one.epoch_seconds) for one in answers], "card": card.name}
