"""Notebooks of Jupyter: their words, and their code in fences; what the code printed is left out."""

import json
import re
from collections.abc import Iterator

import orjson

from core.corpus import documents, encodings, mojibake
from core.corpus.sources import Bad, Format, Record, Source

PICTURE = re.compile(r"!\[[^\]\n]*\]\((?:attachment:|data:)[^)]*\)|<img\b[^>]*\bsrc=[\"']data:[^>]*>")
_DECODER = json.JSONDecoder(strict=False)
_CELLS, _BETWEEN = re.compile(r'"cells"\s*:\s*\[\s*'), re.compile(r"[\s,]*")
SURROGATE = re.compile("[\ud800-\udfff]")  # half of a character, which JSON may name
FENCE = re.compile(r"^\s*(`{3,})", re.MULTILINE)


def claims(source: Source, head: str) -> bool:
    inside = '"cell_type"' in head and ('"cells"' in head or '"worksheets"' in head)
    return head.lstrip().startswith("{") and (inside or source.name.lower().endswith(".ipynb"))


def read(source: Source) -> Iterator[Record | Bad]:
    """The documents of a notebook, in the old form (worksheets) as in the new one."""
    text, torn = encodings.read_text(source, source.encoding), ""
    try:
        book = orjson.loads(text)
    except ValueError:
        book, torn = _before_the_cut(text)
    try:
        cells = [cell for part in [book, *book.get("worksheets", [])] for cell in part.get("cells", [])]
    except (TypeError, AttributeError):
        book, cells, torn = {}, [], text
    if torn:
        yield Bad(f"#{len(cells) + 1}", "bad_json", torn[:200])
    if torn and not cells:
        return
    repairs: list[str] = []
    language = _language(book)
    said, halves = SURROGATE.subn(
        "\ufffd", "\n\n".join(filter(None, (_cell(cell, language, repairs) for cell in cells)))
    )
    repairs += ["lone_surrogate"] * bool(halves)
    whole, repaired = mojibake.Repairer().text(said)
    if not whole.strip():
        yield Bad("#1", "empty_text", text[:200])
        return
    yield from documents.records(whole, (*repairs, *("mojibake",) * repaired))


def _before_the_cut(text: str) -> tuple[dict, str]:
    """The whole cells of a notebook whose JSON is damaged, and the beginning of what cannot be read."""
    cells, at = [], _CELLS.search(text)
    place = at.end() if at else 0
    while at and place < len(text) and text[place] == "{":
        try:
            cell, end = _DECODER.raw_decode(text, place)
        except (ValueError, RecursionError):
            break
        cells.append(cell)
        place = _BETWEEN.match(text, end).end()
    return {"cells": cells}, text[place:] or text


def _language(book: dict) -> str:
    about = book.get("metadata") if isinstance(book.get("metadata"), dict) else {}
    places = [(about.get("language_info"), "name"), (about.get("kernelspec"), "language")]
    return next((str(of[key]) for of, key in places if isinstance(of, dict) and of.get(key)), "")


def _cell(cell: object, language: str, repairs: list[str]) -> str:
    """The words of a cell; code stands in a fence that is longer than those within it."""
    if not isinstance(cell, dict):
        return ""
    lines = cell.get("source", cell.get("input", ""))
    said = ("".join(map(str, lines)) if isinstance(lines, list) else str(lines or "")).strip("\n")
    repairs += ["outputs_dropped"] * len(cell.get("outputs") or [])
    if cell.get("cell_type") != "code":
        repairs += ["media_dropped"] * len(PICTURE.findall(said))
        level = cell.get("level") if cell.get("cell_type") == "heading" else 0  # of the old form
        return "#" * level + " " * bool(level) + PICTURE.sub("", said).strip("\n") if said.strip() else ""
    fence = "`" * max(3, *(len(inside) + 1 for inside in FENCE.findall(said)), 3)
    return f"{fence}{cell.get('language') or language}\n{said}\n{fence}" if said.strip() else ""


NOTEBOOK = Format("notebook", claims, read)
