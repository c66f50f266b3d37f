"""ZIP archives: every member is a source of its own."""

from collections.abc import Iterator

from core.corpus.sources import Bad, Record, Source

NAME = "zip"


def claims(source: Source, head: bytes) -> bool:
    return head.startswith((b"PK\x03\x04", b"PK\x05\x06"))


def read(source: Source) -> Iterator[Record | Bad]:  # the importer opens archives itself: see reading.py
    yield Bad("", "zip_in_zip")
