"""The formats, told by content: one module each with NAME, claims(source, head) and read(source).

`read` yields a Record for each record of the file and a Bad for whatever could not become one; it does not raise for
damaged input. A new format is a new module in one of the two lists.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from core.corpus import documents, encodings
from core.corpus.formats import (
    archive,
    arrow,
    docx,
    epub,
    fb2,
    html,
    json_lines,
    json_whole,
    nexus,
    parquet,
    pdf,
    plain,
    table,
    vault,
)
from core.corpus.sources import Bad, PackedTooMuch, Record, Source

BINARY = (parquet, arrow, pdf, epub, docx, archive)  # told by their first bytes; ZIP last, it is a box of others
TEXT = (fb2, html, json_lines, json_whole, nexus, vault, table, plain)  # told by their first lines; plain takes all


@dataclass(frozen=True)
class Opened:
    """A source with its format found: what is in it comes from `records`."""

    source: Source
    format: str
    encoding: str
    records: Iterator[Record | Bad]


def open_source(source: Source, encoding: str = "") -> Opened:
    """Tell the format and encoding of a source; reading starts when `records` is asked."""
    head = source.head()
    if not head:
        return Opened(source, "empty", "", iter([Bad("", "empty_file")]))
    for module in BINARY:
        if module.claims(source, head):
            return Opened(source, module.NAME, "", _guarded(module, source))
    if encodings.is_binary(head):
        return Opened(source, "unknown", "", iter([Bad("", "unknown_format", repr(head[:60]))]))
    encoding = encoding or encodings.detect(source)
    source = replace(source, encoding=encoding)
    text = head.decode(encoding.replace("utf-16-sig", "utf-16"), errors="ignore").removeprefix("\ufeff")
    if not text.strip() and source.size <= len(head):
        return Opened(source, "empty", "", iter([Bad("", "empty_file")]))
    if documents.separator_of(text.split("\n")):  # texts between separators may look like anything
        return Opened(source, plain.NAME, encoding, _guarded(plain, source))
    module = next(module for module in TEXT if module.claims(source, text))
    return Opened(source, module.NAME, encoding, _guarded(module, source))


def _guarded(module, source: Source) -> Iterator[Record | Bad]:
    """The records of a file; whatever a library throws at damaged bytes ends the file with one Bad."""
    try:
        yield from module.read(source)
    except PackedTooMuch:
        yield Bad("", "packed_too_much")
    except RecursionError:
        yield Bad("", "nested_too_deep")
    except MemoryError:
        yield Bad("", "too_large")
    except Exception as error:  # a dozen libraries' own classes: none of them may end the import
        yield Bad("", "file_damaged", f"{type(error).__name__}: {error}"[:200])
