"""FictionBook 2, the usual format of Russian e-books: the words of its bodies."""

import re
from collections.abc import Iterator

from core.corpus import encodings
from core.corpus.formats import html
from core.corpus.sources import Bad, Record, Source

NAME = "fb2"


def claims(source: Source, head: str) -> bool:
    return "<FictionBook" in head


def read(source: Source) -> Iterator[Record | Bad]:
    book = encodings.read_text(source, source.encoding)
    title = re.search(r"<book-title>(.*?)</book-title>", book, re.DOTALL)
    body = book[max(0, book.find("<body")) :]
    body = re.sub(r"<(/?)title>", r"<\1subtitle>", body)
    for found in html.of_markup(body, "1"):
        if isinstance(found, Record) and title:
            found.value["title"] = title.group(1).strip()[:200]
        yield found
