"""Word documents: the paragraphs of document.xml."""

import zipfile
from collections.abc import Iterator

from core.corpus import documents, markup, sources
from core.corpus.sources import Bad, Record, Source

NAME = "docx"
BODY = "word/document.xml"
LARGEST = 256 * 2**20  # bytes


def claims(source: Source, head: bytes) -> bool:
    if not head.startswith(b"PK\x03\x04"):
        return False
    try:
        with source.on_disk() as path, zipfile.ZipFile(path) as archive:
            return BODY in archive.namelist()
    except Exception:  # zipfile lets struct and Unicode errors through
        return False


def read(source: Source) -> Iterator[Record | Bad]:
    with (
        source.on_disk() as path,
        zipfile.ZipFile(path) as archive,
        sources.limited(archive.open(BODY), archive.getinfo(BODY).compress_size) as stream,
    ):
        xml = stream.read(LARGEST).decode("utf-8", errors="replace")
    text = markup.text_of_xml(xml, "w:p", "w:t")
    if not text.strip():
        yield Bad("#1", "empty_text")
        return
    for number, (_, part) in enumerate(documents.split(enumerate(text.split("\n"))), 1):
        yield Record(f"#{number}", {"text": part})
