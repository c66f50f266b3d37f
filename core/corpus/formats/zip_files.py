"""Formats that are ZIP archives: Word documents, EPUB books, and archives of other files."""

import html
import posixpath
import re
import zipfile
from collections.abc import Iterator
from functools import partial
from urllib.parse import unquote

from core.corpus import documents, sources
from core.corpus.formats import markup
from core.corpus.sources import Bad, Format, Record, Source

DOCUMENT, CONTAINER = "word/document.xml", "META-INF/container.xml"
LARGEST, LARGEST_PAGE = 256 * 2**20, 64 * 2**20  # bytes of a document and of a page of a book


def _holds(member: str, source: Source, head: bytes) -> bool:
    if not head.startswith(b"PK\x03\x04"):
        return False
    try:
        with source.on_disk() as path, zipfile.ZipFile(path) as archive:
            return member in archive.namelist()
    except Exception:  # zipfile lets struct and Unicode errors through
        return False


def _text(archive: zipfile.ZipFile, member: str, most: int) -> str:
    with sources.limited(archive.open(member), archive.getinfo(member).compress_size) as stream:
        return stream.read(most).decode("utf-8", errors="replace")


def read_docx(source: Source) -> Iterator[Record | Bad]:
    """The paragraphs of document.xml."""
    with source.on_disk() as path, zipfile.ZipFile(path) as archive:
        xml = _text(archive, DOCUMENT, LARGEST)
    paragraphs = []
    for part in re.split(r"</w:p\s*>", xml):
        part = re.sub(r"<w:tab\s*/>", "\t", part)
        part = re.sub(r"<w:(?:br|cr)\b[^>]*/>", "<w:t>\n</w:t>", part)
        paragraphs.append("".join(re.findall(r"<w:t(?:\s[^>]*)?>(.*?)</w:t>", part, re.DOTALL)))
    text = html.unescape("\n\n".join(paragraph for paragraph in paragraphs if paragraph.strip()))
    yield from documents.records(text) if text.strip() else [Bad("#1", "empty_text")]


def read_epub(source: Source) -> Iterator[Record | Bad]:
    """The pages of the spine in their order."""
    with source.on_disk() as path, zipfile.ZipFile(path) as book:
        for number, page in enumerate(_spine(book), 1):
            try:
                text = _text(book, page, LARGEST_PAGE)
            except (KeyError, OSError, zipfile.BadZipFile, ValueError, RuntimeError, EOFError, NotImplementedError):
                yield Bad(f"#{number}", "file_damaged", page)
                continue
            if re.search(r"<(?:p|div|h\d|li|td|pre|section)\b", text):
                yield from markup.of_page(text, f"#{number}")


def _spine(book: zipfile.ZipFile) -> list[str]:
    """The names of the pages in reading order; all pages by name when the package file is damaged."""
    names = set(book.namelist())
    pages = sorted(name for name in names if name.endswith((".xhtml", ".html", ".htm")))
    try:
        container = book.read(CONTAINER).decode("utf-8", errors="replace")
        package = re.search(r'full-path="([^"]+)"', container).group(1)
        text = book.read(package).decode("utf-8", errors="replace")
    except (KeyError, AttributeError, OSError, zipfile.BadZipFile, ValueError, RuntimeError):
        return pages
    items = {}
    for item in re.findall(r"<(?:\w+:)?item\b[^>]*>", text):
        attributes = {key: value for key, value in re.findall(r'([\w:-]+)\s*=\s*"([^"]*)"', item)}
        if "id" in attributes and "href" in attributes:
            items[attributes["id"]] = posixpath.normpath(
                posixpath.join(posixpath.dirname(package), unquote(attributes["href"]))
            )
    order = [items.get(name) for name in re.findall(r'<(?:\w+:)?itemref\b[^>]*idref="([^"]*)"', text)]
    return [name for name in order if name in names] or pages


DOCX = Format("docx", partial(_holds, DOCUMENT), read_docx)
EPUB = Format("epub", partial(_holds, CONTAINER), read_epub)
ZIP = Format(  # the members are sources of their own: see reading.py
    "zip",
    lambda source, head: head.startswith((b"PK\x03\x04", b"PK\x05\x06")),
    lambda source: iter([Bad("", "zip_in_zip")]),
)
