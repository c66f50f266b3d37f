"""Which format a source has, by its content.

A new format is a Format(name, claims, read) in a module of this package, and its entry in one of the two lists.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from core.corpus import documents, encodings
from core.corpus.formats import office, turn_rows
from core.corpus.formats.arrow import ARROW, PARQUET
from core.corpus.formats.discord import DISCORD
from core.corpus.formats.fb2 import FB2
from core.corpus.formats.json_files import JSON, JSONL
from core.corpus.formats.mail import MAIL
from core.corpus.formats.man_pages import MAN_PAGE
from core.corpus.formats.markup import HTML
from core.corpus.formats.messenger_pages import MESSENGER_PAGE
from core.corpus.formats.notebook import NOTEBOOK
from core.corpus.formats.notes import MARKDOWN, NEXUS
from core.corpus.formats.pdf import PDF
from core.corpus.formats.plain import TEXT
from core.corpus.formats.rtf import RTF
from core.corpus.formats.sillytavern import SILLYTAVERN
from core.corpus.formats.slides import PPTX
from core.corpus.formats.subtitles import SUBTITLES
from core.corpus.formats.table import CSV
from core.corpus.formats.takeout_page import TAKEOUT_PAGE
from core.corpus.formats.whatsapp import WHATSAPP
from core.corpus.formats.word import DOCX
from core.corpus.formats.zip_files import EPUB, TAR, ZIP
from core.corpus.sources import Bad, Format, PackedTooMuch, Record, Source

BINARY_FORMATS = (
    PARQUET,
    ARROW,
    PDF,
    DOCX,
    PPTX,
    *office.FORMATS,
    RTF,
    EPUB,
    ZIP,
    TAR,
)  # known by their first bytes; ZIP after its kinds
TEXT_FORMATS = (
    *(
        FB2,
        MESSENGER_PAGE,
        TAKEOUT_PAGE,
        HTML,
        SILLYTAVERN,
        NOTEBOOK,
        JSONL,
        JSON,
        NEXUS,
        MAIL,
        WHATSAPP,
        DISCORD,
        SUBTITLES,
        MAN_PAGE,
        MARKDOWN,
        CSV,
        TEXT,
    ),
)  # known by their first lines; TEXT takes all
TAG = re.compile(r"\s*<[?!]?[A-Za-z]")
WORDS_OF_MARKUP = 0.05  # least share of the letters between the elements of XML that is a text
LOOKS = {  # what a file that is no text begins with: https://en.wikipedia.org/wiki/List_of_file_signatures
    "old_office": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",),
    "other_archive": (b"Rar!\x1a\x07", b"7z\xbc\xaf\x27\x1c", b"BZh", b"\xfd7zXZ\x00"),
    "media_file": (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"ID3", b"OggS", b"fLaC", b"\x1aE\xdf\xa3", b"BM"),
    "database": (b"SQLite format 3\x00",),
    "weights": (b"GGUF",),
}


@dataclass(frozen=True)
class Opened:
    """A source with its format found: what is in it comes from `records`."""

    source: Source
    format: str
    encoding: str
    records: Iterator[Record | Bad]
    about: dict = field(default_factory=dict)  # what the card says of it besides


def open_source(source: Source, encoding: str = "") -> Opened:
    """Tell the format and encoding of a source; reading starts when `records` is iterated."""
    head = source.head()
    if not head:
        return Opened(source, "empty", "", iter([Bad("", source.damage() or "empty_file")]))
    for form in BINARY_FORMATS:
        if form.claims(source, head):
            return Opened(source, form.name, "", _guarded(form, source))
    if (looks := _looks_like(head)) or encodings.is_binary(head):
        return Opened(source, "unknown", "", iter([Bad("", looks or "unknown_format", _printable(head))]))
    encoding = encoding or encodings.detect(source)
    source = replace(source, encoding=encoding)
    text = head.decode(encoding.replace("utf-16-sig", "utf-16"), errors="ignore").removeprefix("\ufeff")
    if not text.strip() and source.size <= len(head):
        return Opened(source, "empty", "", iter([Bad("", "empty_file")]))
    if documents.separator_of(text.split("\n")):  # texts between separators may look like anything
        form = TEXT
    else:
        form = next(form for form in TEXT_FORMATS if form.claims(source, text))
    if form is TEXT and _is_only_markup(text):
        return Opened(source, "unknown", "", iter([Bad("", "only_markup", text[:200])]))
    return Opened(source, form.name, encoding, _guarded(form, source))


def _is_only_markup(text: str) -> bool:
    """Whether a text is elements of XML with hardly a word between them: a drawing, a font, an index."""
    if not TAG.match(text):
        return False
    words = sum(map(len, re.findall(r"[^\W\d_]+", re.sub(r"<[?!/]?[A-Za-z][^>]*(?:>|$)", " ", text))))
    return words < WORDS_OF_MARKUP * len(text)


def _printable(head: bytes) -> str:
    """The first bytes of a file as they can be read: a dot for each that is no letter or sign of ASCII."""
    return re.sub(r"[^ -~]", "·", head[:60].decode("latin-1"))


def _looks_like(head: bytes) -> str:
    """The reason why a binary file is not read, by its first bytes; "" for texts and what is not known."""
    if b"\x00" not in head[:256]:
        return ""
    found = next((reason for reason, starts in LOOKS.items() if head.startswith(starts)), "")
    return "media_file" if head[4:8] == b"ftyp" else found


def _without_torn(records: Iterator[Record | Bad]) -> Iterator[Record | Bad]:
    """The rows of a truncated table without the last one, which may be incomplete."""
    last = None
    for record in records:
        if last is not None:
            yield last
        last = record
    if last is not None:
        yield Bad(last.place, "file_cut", str(last.value)[:200]) if isinstance(last, Record) else last


def _guarded(form: Format, source: Source) -> Iterator[Record | Bad]:
    """The records of a file; whatever a library throws at damaged bytes ends the file with one Bad."""
    if (damage := source.damage()) not in ("", "file_cut"):
        yield Bad("", damage)
        return
    try:
        records = form.read(source)
        if damage and form.name == "csv":
            records = _without_torn(records)
        yield from turn_rows.joined(records) if form.name in turn_rows.FORMATS else records
    except PackedTooMuch:
        yield Bad("", "packed_too_much")
    except RecursionError:
        yield Bad("", "nested_too_deep")
    except MemoryError:
        yield Bad("", "too_large")
    except Exception:  # a dozen libraries' own classes, in English: none of them may end the import
        yield Bad("", "file_damaged")
    if damage:
        yield Bad("", damage)
