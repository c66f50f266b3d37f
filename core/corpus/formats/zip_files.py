"""EPUB books, and archives of other files."""

import posixpath
import re
import zipfile
from collections.abc import Iterator
from functools import partial
from urllib.parse import unquote

from core.corpus.formats import markup, office
from core.corpus.sources import Bad, Format, Record, Source

CONTAINER = "META-INF/container.xml"
HEADING = re.compile(r"(?:#{1,6} .+\n*)+")
LARGEST_PAGE = 64 * 2**20  # bytes of a page of a book


def read_epub(source: Source) -> Iterator[Record | Bad]:
    """The pages of the spine in their order."""
    title: Record | None = None  # a page that is a heading alone belongs to the next one
    with source.on_disk() as path, zipfile.ZipFile(path) as book:
        for number, page in enumerate(_spine(book), 1):
            try:
                text = office.part(book, page, LARGEST_PAGE).decode("utf-8", errors="replace")
            except (KeyError, OSError, zipfile.BadZipFile, ValueError, RuntimeError, EOFError, NotImplementedError):
                yield Bad(f"#{number}", "file_damaged", page)
                continue
            if re.search(r"<(?:p|div|h\d|li|td|pre|section)\b", text):
                for record in markup.of_page(text, f"#{number}"):
                    if title and isinstance(record, Record):
                        record.value["text"] = f"{title.value['text']}\n\n{record.value['text']}"
                        title = None
                    if isinstance(record, Record) and HEADING.fullmatch(record.value["text"]):
                        title = record
                    else:
                        yield record
        if title:
            yield title


def _spine(book: zipfile.ZipFile) -> list[str]:
    """The names of the pages in reading order; all pages by name when the package file is damaged."""
    names = set(book.namelist())
    pages = sorted(name for name in names if name.endswith((".xhtml", ".html", ".htm")))
    try:
        container = book.read(CONTAINER).decode("utf-8", errors="replace")
        package = re.search(r"""full-path\s*=\s*["']([^"']+)""", container).group(1)
        text = book.read(package).decode("utf-8", errors="replace")
    except (KeyError, AttributeError, OSError, zipfile.BadZipFile, ValueError, RuntimeError):
        return pages
    items = {}
    for item in re.findall(r"<(?:\w+:)?item\b[^>]*>", text):
        attributes = {key: value for key, _, value in re.findall(r"""([\w:-]+)\s*=\s*(["'])(.*?)\2""", item)}
        if "id" in attributes and "href" in attributes:
            items[attributes["id"]] = posixpath.normpath(
                posixpath.join(posixpath.dirname(package), unquote(attributes["href"]))
            )
    order = re.findall(r"""<(?:\w+:)?itemref\b[^>]*idref\s*=\s*(["'])(.*?)\1""", text)
    return [items[name] for _, name in order if items.get(name) in names] or pages


EPUB = Format("epub", partial(office.holds, CONTAINER), read_epub)
ZIP = Format(  # the members are sources of their own: see reading.py
    "zip",
    lambda source, head: head.startswith((b"PK\x03\x04", b"PK\x05\x06")),
    lambda source: iter([Bad("", "zip_in_zip")]),
)
TAR = Format("tar", lambda source, head: head[257:262] == b"ustar", lambda source: iter([Bad("", "zip_in_zip")]))
