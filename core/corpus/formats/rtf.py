"""RTF: headings, lists, tables, footnotes and raised digits, as its settings and styles say; what was deleted is left out."""

import re
from collections.abc import Iterator

from core.corpus import documents
from core.corpus.formats import markup, office
from core.corpus.sources import Bad, Format, Record, Source

LISTED = rf"{markup.INDENT}*(?:- |\d{{1,3}}[.)] )"
RAISED = re.compile(r"\\(super|sub|up|dn)(?:[1-9]\d*)?(?!\w)((?:\\[a-z]+-?\d*|\s)*)(?<!\w)([\d+()-]{1,6})(?=[}\\])")
DELETED = re.compile(r"\{\\deleted\b[^{}]*\}")
# A style of headings: its number, and its level as a setting or in its name.
HEADING = re.compile(
    r"\{\\s(\d+)(?:[^{}]*?\\outlinelevel([0-8])[^{}]*|[^{}]*?(?:[Hh]eading|\bЗаголовок) ([1-9])\s*);\}"
)
LEVEL = re.compile(r"\{\\listtext([^{}]*)\}[^{}]*?\\ilvl([1-8])")
LINE = "\ue0f6"  # stands for a line end in a paragraph
LONGEST_NOTE = 1 << 16  # characters of the RTF of a footnote


def read(source: Source) -> Iterator[Record | Bad]:
    """The words of an RTF document in its own code page."""
    from striprtf.striprtf import rtf_to_text  # noqa: PLC0415 - a library for one format

    with source.open() as stream:
        raw = stream.read(office.LARGEST).decode("latin-1")
    raw, notes = _without_footnotes(_with_headings(DELETED.sub("", raw)))
    raw = re.sub(
        r"\\outlinelevel([0-5])(?!\d) ?", lambda level: f"{level[0].rstrip()} {'#' * (1 + int(level[1]))} ", raw
    )
    raw = RAISED.sub(
        lambda of: of[2].lstrip() + _escaped(markup.raised("sup" if of[1] in ("super", "up") else "sub", of[3])), raw
    )
    raw = LEVEL.sub(lambda item: _escaped(markup.INDENT * int(item[2])) + item[0], raw)
    for word, mark in (("line", LINE), ("cell", markup.CELL), ("row", markup.ROW), ("trowd", markup.ROW)):
        raw = re.sub(rf"\\{word}\b ?", rf"\\u{ord(mark) - 0x10000}?", raw)
    text = rtf_to_text(raw, errors="replace")
    text = "\n\n".join(
        [text, *(f"[{at}] {rtf_to_text(note, errors='replace').strip()}" for at, note in enumerate(notes, 1))]
    )
    text = re.sub(r"\n{3,}", "\n\n", re.sub(r"(?<!\n)\n(?!\n)", "\n\n", text))
    text = re.sub(rf"\s*{markup.CELL}\s*", markup.CELL, text)
    text = re.sub(rf"(?:\s*{markup.ROW})+\s*", f"{markup.ROW}\n\n{markup.ROW}", text)
    between = rf"(?<={markup.CELL}{markup.ROW}\n)\n(?={markup.ROW}[^\n]*{markup.CELL})"
    text = re.sub(between, "", text)
    text = re.sub(r"^#+[ \t]*$", "", text, flags=re.MULTILINE)  # headings without words
    for mark, plain in (
        (r" *(\d{1,3}[.)])\t", r"\2 "),
        (rf" *[•·▪◦{markup.BULLETS}][ \t]+", "- "),
        (r"[–o]\t", f"{markup.INDENT}- "),
    ):
        text = re.sub(f"^({markup.INDENT}*){mark}", rf"\1{plain}", text, flags=re.MULTILINE)
    text = re.sub(rf"^({LISTED}.*)\n\n(?={LISTED})", r"\1\n", text, flags=re.MULTILINE)
    text = markup.marked(text.replace(LINE, "\n")).strip()
    yield from documents.records(text)


def _with_headings(raw: str) -> str:
    """RTF in which a paragraph in a style of headings has the level of that style, where it does not say so itself."""
    levels = {style: int(level or int(named) - 1) for style, level, named in HEADING.findall(raw)}
    if not levels:
        return raw
    start = raw.find("\\pard", raw.find("{\\stylesheet"))
    body = re.sub(
        r"(\\s(\d+))(?=[\\ ])(?![^{}]*\\outlinelevel)",
        lambda of: f"{of[1]}\\outlinelevel{levels[of[2]]}" if of[2] in levels else of[1],
        raw[start:],
    )
    return raw[:start] + body


def _escaped(words: str) -> str:
    """Words as RTF has those that are not of its code page."""
    return "".join(f"\\u{ord(char) - 0x10000 * (ord(char) > 0x7FFF)}?" for char in words)


def _without_footnotes(raw: str) -> tuple[str, list[str]]:
    """RTF with a number in the place of each footnote, which its reader drops, and the footnotes as RTF."""
    head = raw[: raw.find("\\pard")] if "\\pard" in raw else "{\\rtf1"
    parts, notes, at = [], [], 0
    for found in re.finditer(r"\{(?:\\\*\s*)?\\footnote\b", raw):
        depth, end = 0, found.start()
        for brace in re.finditer(r"\\[{}\\]|[{}]", raw[found.start() : found.start() + LONGEST_NOTE]):
            depth += {"{": 1, "}": -1}.get(brace[0], 0)
            if not depth and brace[0] == "}":
                end = found.start() + brace.end()
                break
        if end == found.start() or found.start() < at:
            continue
        notes.append(head + raw[found.end() : end])
        parts += [raw[at : found.start()], f" [{len(notes)}]"]
        at = end
    return "".join([*parts, raw[at:]]), notes


RTF = Format("rtf", lambda source, head: head.startswith(b"{\\rtf"), read)
