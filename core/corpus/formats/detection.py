"""Which format a source has, by its content.

A new format is a Format(name, claims, read) in a module of this package, and its entry in one of the two lists.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from core.corpus import documents, encodings
from core.corpus.formats.arrow import ARROW, PARQUET
from core.corpus.formats.json_files import JSON, JSONL
from core.corpus.formats.markup import FB2, HTML
from core.corpus.formats.notes import MARKDOWN, NEXUS
from core.corpus.formats.pdf import PDF
from core.corpus.formats.plain import TEXT
from core.corpus.formats.table import CSV
from core.corpus.formats.zip_files import DOCX, EPUB, ZIP
from core.corpus.sources import Bad, Format, PackedTooMuch, Record, Source

BINARY_FORMATS = (PARQUET, ARROW, PDF, EPUB, DOCX, ZIP)  # known by their first bytes; EPUB and DOCX before ZIP
TEXT_FORMATS = (FB2, HTML, JSONL, JSON, NEXUS, MARKDOWN, CSV, TEXT)  # known by their first lines; TEXT takes all


@dataclass(frozen=True)
class Opened:
    """A source with its format found: what is in it comes from `records`."""

    source: Source
    format: str
    encoding: str
    records: Iterator[Record | Bad]


def open_source(source: Source, encoding: str = "") -> Opened:
    """Tell the format and encoding of a source; reading starts when `records` is iterated."""
    head = source.head()
    if not head:
        return Opened(source, "empty", "", iter([Bad("", "empty_file")]))
    for form in BINARY_FORMATS:
        if form.claims(source, head):
            return Opened(source, form.name, "", _guarded(form, source))
    if encodings.is_binary(head):
        return Opened(source, "unknown", "", iter([Bad("", "unknown_format", repr(head[:60]))]))
    encoding = encoding or encodings.detect(source)
    source = replace(source, encoding=encoding)
    text = head.decode(encoding.replace("utf-16-sig", "utf-16"), errors="ignore").removeprefix("\ufeff")
    if not text.strip() and source.size <= len(head):
        return Opened(source, "empty", "", iter([Bad("", "empty_file")]))
    if documents.separator_of(text.split("\n")):  # texts between separators may look like anything
        form = TEXT
    else:
        form = next(form for form in TEXT_FORMATS if form.claims(source, text))
    return Opened(source, form.name, encoding, _guarded(form, source))


def _guarded(form: Format, source: Source) -> Iterator[Record | Bad]:
    """The records of a file; whatever a library throws at damaged bytes ends the file with one Bad."""
    if (damage := source.damage()) not in ("", "file_cut"):
        yield Bad("", damage)
        return
    try:
        yield from form.read(source)
    except PackedTooMuch:
        yield Bad("", "packed_too_much")
    except RecursionError:
        yield Bad("", "nested_too_deep")
    except MemoryError:
        yield Bad("", "too_large")
    except Exception as error:  # a dozen libraries' own classes: none of them may end the import
        yield Bad("", "file_damaged", f"{type(error).__name__}: {error}"[:200])
    if damage:
        yield Bad("", damage)
