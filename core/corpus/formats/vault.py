"""Markdown notes: front matter, links and Obsidian's own marks are taken off, headings and code stay."""

import re
from collections.abc import Iterator

from core.corpus import documents, encodings, mojibake
from core.corpus.sources import Bad, Format, Record, Source

FENCED = re.compile(r"^(```|~~~)[^\n]*\n.*?^\1\s*$", re.MULTILINE | re.DOTALL)
QUERY = re.compile(r"^(```|~~~)\s*(?:dataview|dataviewjs|tasks|query)\b[^\n]*\n.*?^\1\s*$", re.MULTILINE | re.DOTALL)
SIGNS = re.compile(
    r"^(?:#{1,6} \S|[-*] \[[ x]\] |```|>\s?\[!)|\[\[[^\]\n]+\]\]|\]\(https?:|\*\*[^*\n]+\*\*", re.MULTILINE
)


def claims(source: Source, head: str) -> bool:
    named = source.name.lower().endswith((".md", ".markdown"))
    return named or re.match(r"---\n(?:[\w-]+:.*\n)+", head) is not None or len(SIGNS.findall(head)) >= 8


def read(source: Source) -> Iterator[Record | Bad]:
    raw = encodings.read_text(source, source.encoding)
    text, repaired = mojibake.Repairer().text(raw)
    meta, body = front_matter(text)
    plain = without_marks(body).strip("\n")
    if not plain.strip():
        yield Bad("1", "empty_text", text[:200])
        return
    skipped = text.count("\n") - body.count("\n")
    title = {"title": meta["title"]} if meta.get("title") else {}
    for count, (number, part) in enumerate(documents.split(enumerate(plain.split("\n"), 1 + skipped))):
        spoilt = (("mojibake",) * repaired, raw, text) if repaired and count == 0 else ()
        yield Record(str(number), {"text": part} | title, *spoilt)


def front_matter(text: str) -> tuple[dict[str, str], str]:
    """The plain `key: value` pairs of a note's front matter, and the note without it."""
    block = re.match(r"---[ \t]*\n(.*?\n)?---[ \t]*(?:\n|$)", text, re.DOTALL)
    if not block or (block.group(1) and not re.search(r"^[\w -]+:", block.group(1), re.MULTILINE)):
        return {}, text
    pairs = re.findall(r"^([\w-]+):[ \t]*(.+)$", block.group(1) or "", re.MULTILINE)
    return {key: value.strip().strip("\"'") for key, value in pairs}, text[block.end() :]


def without_marks(text: str) -> str:
    """Links become their words, embedded files and comments go; fenced code is not touched."""
    text = QUERY.sub("", text)
    parts, at = [], 0
    for fence in FENCED.finditer(text):
        parts += [_unmarked(text[at : fence.start()]), fence.group()]
        at = fence.end()
    return re.sub(r"\n{4,}", "\n\n\n", "".join([*parts, _unmarked(text[at:])]))


def _unmarked(text: str) -> str:
    text = re.sub(r"%%.*?%%", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"!\[\[[^\]\n]*\]\]", "", text)
    text = re.sub(r"\[\[(?:[^\]|\n]*\|)?([^\]\n]*)\]\]", r"\1", text)
    text = re.sub(r"[ \t]\^[\w-]+[ \t]*$", "", text, flags=re.MULTILINE)
    return re.sub(r"^(>\s?)\[!\w+\][+-]?[ \t]*", r"\1", text, flags=re.MULTILINE)


MARKDOWN = Format("markdown", claims, read)
