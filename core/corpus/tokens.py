"""What a corpus weighs in the tokens of a base model, and what its template makes of the rows."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict

import numpy as np

from core.corpus import preview, turns
from core.corpus.duplicates import text_of
from core.estimate import forecast
from core.training import encoding, errors
from core.training.config import TrainConfig

HISTOGRAM_BINS = 40
SAMPLE = 2000  # rows that are encoded; larger corpora are estimated from them


def measure(rows: Iterable[dict], count: int, tokenizer, *, max_length: int, learn: str = "assistant") -> dict:
    """Tokens in all and by row, how many are learned and cut off, and rows by what is wrong with them.

    `rows` is a sample of the `count` rows of the corpus; totals are scaled up when it is smaller.
    """
    lengths, learned, cut, characters, wrong = [], 0, 0, 0, Counter()
    seen = 0
    for row in rows:
        seen += 1
        row = turns.as_chat(row)
        if (shorter := preview.shortened(row)) is not row:
            row = shorter
            wrong["measured_in_part"] += 1
        try:
            encoded = encoding.encode(row, tokenizer, learn)
        except errors.TemplateRefused:
            wrong["template_refused"] += 1
            continue
        ids, labels = encoded["input_ids"], encoded["labels"]
        special = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
        wrong.update(preview.warnings(row, encoded, special, tokenizer, max_length))
        lengths.append(len(ids))
        learned += sum(label != encoding.IGNORED for label in labels[:max_length])
        cut += max(0, len(ids) - max_length)
        characters += len(text_of(row))
    lengths.sort()
    scale = count / seen if seen else 1
    total = sum(lengths)
    return {
        "rows": count,
        "max_length": max_length,
        "measured": seen,
        "estimated": seen < count,
        "tokens": round(total * scale),
        "learned": round(learned * scale),
        "cut": round(cut * scale),
        "mean": round(total / len(lengths), 1) if lengths else 0,
        "median": _percentile(lengths, 0.5),
        "p95": _percentile(lengths, 0.95),
        "longest": lengths[-1] if lengths else 0,
        "over_max_length": round(sum(length > max_length for length in lengths) / len(lengths), 4) if lengths else 0,
        "characters_per_token": round(characters / total, 2) if total else 0,
        "wrong": {code: round(times * scale) for code, times in wrong.most_common()},
        "histogram": histogram(lengths),
    }


def epoch_seconds(measured: dict, model: str) -> float | None:
    """How long one epoch over these tokens takes on this machine with the default settings; None when unknown."""
    config = asdict(TrainConfig(base_model=model, corpus="", max_length=measured["max_length"]))
    try:
        step = forecast.of_config(config)["predicted_seconds"]
    except Exception:  # the calculator knows no such model, or this machine's card: the report goes without the hours
        return None
    step_tokens = config["batch_size"] * config["gradient_accumulation_steps"] * config["max_length"]
    return round((measured["tokens"] - measured["cut"]) / step_tokens * step, 1)


def _percentile(ordered: list[int], share: float) -> int:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0


def histogram(lengths: list[int]) -> list[list[int]]:
    """[[from, to, count]] over lengths, by factors that grow so that short and long rows both show."""
    if not lengths:
        return []
    edges = np.unique(np.geomspace(max(1, min(lengths)), max(lengths) + 1, HISTOGRAM_BINS + 1).round().astype(int))
    counts, _ = np.histogram(lengths, edges)
    return np.stack([edges[:-1], edges[1:], counts], axis=1).tolist()
