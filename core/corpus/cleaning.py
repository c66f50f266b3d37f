"""A cleaned corpus out of an old one: rules say which rows stay, by their attributes, and what is replaced."""

import difflib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from core.corpus import checks, documents, importer, personal, report, storage, turns


@dataclass(frozen=True)
class Rules:
    """What a cleaned corpus leaves out and changes; the defaults only leave out copies."""

    leave_out: tuple[str, ...] = ("exact", "normalised")  # kinds of copies, and flags of core.corpus.checks
    replace_personal: bool = False
    fix_lookalikes: bool = False
    remove_special: bool = False  # special tokens that stand inside texts
    fold_system: bool = False  # for templates that refuse a system turn: it goes in front of the first question
    split_texts: int = 0  # characters that a text may have; longer ones become several rows; 0: as they are
    shortest: int = 0  # characters that a row must have


def kept(directory: Path, rules: Rules) -> dict[str, int]:
    """How many rows would stay, and how many go for which reason; each row counts for its first one."""
    counts = {"kept": 0}
    for _, reason in _judged(directory, rules):
        counts[reason or "kept"] = counts.get(reason or "kept", 0) + 1
    return counts


def clean(directory: Path, name: str, rules: Rules, *, out: Path | None = None) -> dict:
    """Make the cleaned corpus and return its card; rows that are near copies share a `cluster`."""
    card = storage.read_card(directory)
    if not (directory / report.ATTRIBUTES).is_file():
        report.make(directory)
    left_out = {reason: count for reason, count in kept(directory, rules).items() if reason != "kept"}
    note = {"rules": asdict(rules), "left_out": left_out, "sources": card.get("sources", [])}
    return importer.create_from_rows(_rows(directory, rules), name, parent=card["id"], note=note, out=out)


def _judged(directory: Path, rules: Rules) -> Iterator[tuple[dict, str]]:
    """The attributes of each row and why it goes, "" for one that stays.

    Where the first of some copies goes for a reason of its own, the next of them that has none stays in its place.
    """
    gone: set[int] = set()
    for number, values in enumerate(report.attributes(directory)):
        reason, first = _reason(values, rules), values.get("of", number)
        if values.get("copy") not in rules.leave_out:
            if reason and first == number:
                gone.add(number)
        elif first not in gone:
            reason = values["copy"]
        elif not reason:
            gone.discard(first)
        yield values, reason


def _reason(values: dict, rules: Rules) -> str:
    """Why a row goes whatever it is a copy of."""
    for flag in values["flags"]:
        if flag in rules.leave_out:
            return flag
    return "too_short" if values["chars"] < rules.shortest else ""


def _rows(directory: Path, rules: Rules) -> Iterator[dict]:
    def group(number: int, values: dict) -> int:
        return values.get("group", values.get("of", number))  # reports of older versions have no groups

    judged = enumerate(report.attributes(directory))
    clustered = {group(number, values) for number, values in judged if "group" in values or values.get("copy")}
    rows = zip(storage.all_rows(directory), _judged(directory, rules), strict=True)
    for number, (row, (values, reason)) in enumerate(rows):
        if reason:
            continue
        if (first := group(number, values)) in clustered:
            row["cluster"] = f"c{first}"
        if values["lang"] not in ("none", "mixed", "other"):
            row["lang"] = values["lang"]
        yield from _changed(row, rules)


def _changed(row: dict, rules: Rules) -> Iterator[dict]:
    names: dict = {}

    def fixed(text: str) -> str:
        if rules.replace_personal:
            text, _ = personal.replaced(text, names)
        if rules.fix_lookalikes:
            text = checks.without_lookalikes(text)
        return checks.SPECIAL.sub("", text) if rules.remove_special else text

    if "messages" in row:
        row = turns.mapped(row, fixed)
        yield row | {"messages": turns.folded(row["messages"])} if rules.fold_system else row
        return
    text = fixed(row["text"])
    if not rules.split_texts or len(text) <= rules.split_texts:
        yield row | {"text": text}
        return
    for part in documents.cut(text, rules.split_texts):
        # The parts of one text stay on one side of the split.
        yield row | {"text": part, "cluster": row.get("cluster", f"t{row['id']}")}


def difference(before: str, after: str) -> list[tuple[str, str]]:
    """(sign, words) of the way from one text to another: "=" in both, "-" only in the first, "+" only in the second."""
    first, second = before.split(), after.split()
    parts = []
    for sign, a, b, c, d in difflib.SequenceMatcher(a=first, b=second, autojunk=False).get_opcodes():
        if sign == "equal":
            parts.append(("=", " ".join(first[a:b])))
            continue
        parts += [("-", " ".join(first[a:b]))] if b > a else []
        parts += [("+", " ".join(second[c:d]))] if d > c else []
    return parts
