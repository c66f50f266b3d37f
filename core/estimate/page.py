"""The calculator as one static HTML file for any web space: `python -m core.estimate --page OUT.html`."""

import json
from pathlib import Path

from core import paths
from core.errors import UserError
from core.estimate import answer, cards, catalogue, tables, worth
from core.estimate.memory import GIB
from core.estimate.setup import Setup, check
from core.estimate.shape import read_models

WORDS = ("calculator.page.", "calculator.method.", "calculator.mark.", "calculator.worth.", "duration.units")
MARKS = ("fits", "tight", "no")


def write(out: Path, length: int = 2048) -> dict:
    """Write the page, for rows of `length` tokens, one at a time; what is in it as plain values."""
    data = figures(length)
    template = (paths.assets() / "calculator-page.html").read_text(encoding="utf-8")
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(template.replace("/*figures*/{}", text), encoding="utf-8")
    amounts = {name: len(data[name]) for name in ("models", "cards", "methods")}
    return {"page": str(out), "bytes": out.stat().st_size} | amounts


def figures(length: int) -> dict:
    """What the page computes from: for each model, method and card [index in MARKS, GiB, tokens a second].

    An impossible setup (a model with a shorter context, fp16 on a processor) is null.
    """
    names, listed = read_models()["table"], list(cards.cards().values())
    shapes = {name: catalogue.shape(name) for name in names}
    return {
        "length": length,
        "models": names,
        "cards": [
            {"name": card.name, "gib": round(card.memory_bytes / GIB, 1), "tried": card.is_tried} for card in listed
        ],
        "methods": tables.MOSAIC_KINDS,
        "cells": [
            [[cell(shapes[name], kind, card, length) for card in listed] for kind in tables.MOSAIC_KINDS]
            for name in names
        ],
        "marks": MARKS,
        "days": worth.DAYS,
        "words": _words(),
    }


def cell(shape, kind: str, card: cards.Card, length: int) -> list | None:
    """The verdict, GiB of the process and tokens a second of one model, method and card."""
    setup = tables.of_kind(Setup(max_length=length, precision=answer.best_precision(card)), kind)
    setup = answer.suited(setup, card)
    try:
        check(setup, shape, card)
    except UserError:
        return None
    memory, verdict = answer.judge(shape, setup, card, card.memory_bytes)
    rate = answer.pace(shape, setup, card).tokens_per_second
    return [MARKS.index(verdict), round(memory.process / GIB, 1), round(rate, 1 if rate < 100 else None)]


def _words() -> dict:
    """The page's words in every language that has them."""
    words = {}
    for file in sorted((paths.assets() / "locales").glob("*.json")):
        known = json.loads(file.read_text(encoding="utf-8"))
        words[file.stem] = {key: word for key, word in known["words"].items() if key.startswith(WORDS)}
        words[file.stem]["language"] = known["language"]
    return words
