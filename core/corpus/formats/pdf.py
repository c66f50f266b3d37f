"""PDF with a text layer: lines joined into paragraphs again; a scan is set aside with its reason."""

import re
from collections.abc import Iterator

from core.corpus import documents
from core.corpus.sources import Bad, Format, Record, Source

FEWEST_LETTERS = 50  # a page of a scan has fewer


def claims(source: Source, head: bytes) -> bool:
    return b"%PDF-" in head[:1024]


def read(source: Source) -> Iterator[Record | Bad]:
    import pypdfium2  # noqa: PLC0415 - a library of 8 MB for one format

    with source.on_disk() as path:
        book = pypdfium2.PdfDocument(path)
        try:
            pages = [_page(book, number) for number in range(len(book))]
        finally:
            book.close()
    letters = sum(sum(map(str.isalpha, page)) for page in pages)
    if not pages or letters < FEWEST_LETTERS * min(len(pages), 20) / 2:
        yield Bad("", "no_text_layer")
        return
    yield from documents.records(documents.unwrapped("\n".join(pages)))


def _page(book, number: int) -> str:
    page = book[number]
    try:
        text = page.get_textpage().get_text_bounded()
    finally:
        page.close()
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\ufffe", "\u00ad")
    # A word that was divided at the end of a line.
    return re.sub(r"(\w)(?:\u00ad|(?<=[а-яё])-)\n(?=[а-яё])", r"\1", text).replace("\u00ad\n", "").replace("\u00ad", "")


PDF = Format("pdf", claims, read)
