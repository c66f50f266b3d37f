"""HTML pages: their words without scripts, styles and navigation."""

import re
from collections.abc import Iterator

from core.corpus import documents, encodings, markup, mojibake
from core.corpus.sources import Bad, Record, Source

NAME = "html"
STARTS = re.compile(r"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b", re.I | re.S)


def claims(source: Source, head: str) -> bool:
    return STARTS.match(head) is not None


def read(source: Source) -> Iterator[Record | Bad]:
    yield from of_markup(encodings.read_text(source, source.encoding), "1")


def of_markup(page: str, place: str) -> Iterator[Record | Bad]:
    """The documents of one page of markup."""
    text, title = markup.text_of(page)
    text, repaired = mojibake.Repairer().text(text)
    if not text:
        yield Bad(place, "empty_text", page[:200])
        return
    named = {"title": title[:200]} if title else {}
    for count, (_, part) in enumerate(documents.split(enumerate(text.split("\n")))):
        where = place if count == 0 else f"{place}.{count + 1}"
        yield Record(where, {"text": part} | named, ("mojibake",) * (repaired if count == 0 else 0))
