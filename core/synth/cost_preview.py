"""What a wanted volume costs, from a measured preview: rows, tokens, hours, GB; and what each volume is good for."""

import shutil
import time

from core import paths
from core.corpus import diversity_metrics, turns
from core.corpus.token_counter import Scale
from core.synth import counting
from core.synth.dedup import Copies
from core.synth.recipes import Recipe

VOLUMES = (10_000_000, 100_000_000, 1_000_000_000)
PREVIEW, XRAY = 10, 2000  # rows shown, rows measured: fewer look more varied than they are


def preview(recipe: Recipe, seed: int, model: str | None) -> dict:
    """Ten rows, the x-ray of two thousand, what the grammar can say, and how fast it is here."""
    scale, copies = Scale(model, recipe.lang), Copies()
    rows = [recipe.make(seed, number) for number in range(PREVIEW)]
    scale.ids(rows)  # loads and warms what the speed would not show again
    began = time.perf_counter()
    sample = [recipe.make(seed, number) for number in range(XRAY)]
    judged = copies.judge(list(range(XRAY)), ["\n".join(turns.texts(row)) for row in sample])
    new = [row for row, copy in zip(sample, judged, strict=True) if copy is None]
    lengths = [len(ids) for ids in scale.ids(new)]
    seconds = time.perf_counter() - began
    size = sum(len(text.encode()) for row in new for text in turns.texts(row)) / len(new)
    return {
        "rows": rows,
        "lang": recipe.lang,
        "xray": diversity_metrics.measure([turns.learned(row) for row in new]),
        "distinct": counting.distinct(recipe),
        "lint": counting.lint(recipe),
        "new_share": round(len(new) / len(sample), 3),
        "tokens_a_row": round(sum(lengths) / len(new), 1),
        "bytes_a_row": round(size + 260),  # with the provenance that every row carries
        "tokens_per_second": round(sum(lengths) / seconds),
        "exact": scale.exact,
    }


def cost(measured: dict, tokens: int) -> dict:
    """Rows, hours and GB of a volume, and whether the recipe has that many texts and the disk that much room."""
    rows = tokens / measured["tokens_a_row"]
    distinct = measured.get("distinct")
    gigabytes = rows * measured["bytes_a_row"] / 1e9
    return {
        "tokens": tokens,
        "rows": round(rows),
        "seconds": round(tokens / max(1, measured["tokens_per_second"])),
        "gigabytes": round(gigabytes, 5),
        "fits": shutil.disk_usage(paths.home().parent if not paths.home().exists() else paths.home()).free
        > 2.2 * gigabytes * 1e9,
        "enough_texts": distinct is None or 10 ** min(300, distinct["log10"]) > rows,
        "good_for": purpose(tokens),
    }


def purpose(tokens: int) -> str:
    """What a volume is good for: touch, style, behaviour, patterns, language."""
    for most, name in ((3e6, "touch"), (3e7, "style"), (3e8, "behaviour"), (3e9, "patterns")):
        if tokens < most:
            return name
    return "language"
