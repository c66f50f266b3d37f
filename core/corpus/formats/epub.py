"""EPUB books: the pages of the spine in their order."""

import posixpath
import re
import zipfile
from collections.abc import Iterator
from urllib.parse import unquote

from core.corpus import sources
from core.corpus.formats import html
from core.corpus.sources import Bad, Record, Source

NAME = "epub"
LARGEST_PAGE = 64 * 2**20  # bytes


def claims(source: Source, head: bytes) -> bool:
    if not head.startswith(b"PK\x03\x04"):
        return False
    try:
        with source.on_disk() as path, zipfile.ZipFile(path) as book:
            return "META-INF/container.xml" in book.namelist()
    except Exception:  # zipfile lets struct and Unicode errors through
        return False


def read(source: Source) -> Iterator[Record | Bad]:
    with source.on_disk() as path, zipfile.ZipFile(path) as book:
        for number, page in enumerate(_spine(book), 1):
            try:
                with sources.limited(book.open(page), book.getinfo(page).compress_size) as stream:
                    text = stream.read(LARGEST_PAGE).decode("utf-8", errors="replace")
            except (KeyError, OSError, zipfile.BadZipFile, ValueError, RuntimeError, EOFError, NotImplementedError):
                yield Bad(f"#{number}", "file_damaged", page)
                continue
            if re.search(r"<(?:p|div|h\d|li|td|pre|section)\b", text):
                yield from html.of_markup(text, f"#{number}")


def _spine(book: zipfile.ZipFile) -> list[str]:
    """The names of the pages in reading order; all pages by name when the package file is damaged."""
    names = set(book.namelist())
    pages = sorted(name for name in names if name.endswith((".xhtml", ".html", ".htm")))
    try:
        container = book.read("META-INF/container.xml").decode("utf-8", errors="replace")
        package = re.search(r'full-path="([^"]+)"', container).group(1)
        text = book.read(package).decode("utf-8", errors="replace")
    except (KeyError, AttributeError, OSError, zipfile.BadZipFile, ValueError, RuntimeError):
        return pages
    items = {}
    for item in re.findall(r"<(?:\w+:)?item\b[^>]*>", text):
        found = {key: value for key, value in re.findall(r'([\w:-]+)\s*=\s*"([^"]*)"', item)}
        if "id" in found and "href" in found:
            items[found["id"]] = posixpath.normpath(posixpath.join(posixpath.dirname(package), unquote(found["href"])))
    order = [items.get(name) for name in re.findall(r'<(?:\w+:)?itemref\b[^>]*idref="([^"]*)"', text)]
    return [name for name in order if name in names] or pages
