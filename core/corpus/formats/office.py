"""Office files: tables of XLSX and ODS, texts of ODT, slides of ODP. Those of Microsoft have modules of their own."""

import re
import zipfile
from collections.abc import Iterator
from datetime import datetime, time
from functools import partial
from itertools import zip_longest
from xml.etree import ElementTree

from core.corpus import documents, schema, sources
from core.corpus.formats import markup, table_rows
from core.corpus.sources import Bad, Format, Record, Source

LARGEST = 256 * 2**20  # bytes of a part of a file, unpacked
PRE = "\ue0f8"  # around a paragraph of ODT that is set line by line
SET, TITLES = ("Preformatted_20_Text", "Source_20_Code", "Code"), ("Title",)
PROSE = 5  # words of a cell that names no column
MOST_REPEATED = 1000  # cells or rows that a sheet of ODS says stand there once more
EMPTY_ROWS = 10_000  # in a row, after which nothing more is looked for
XLSX = "xl/workbook.xml"
ODF = b"mimetypeapplication/vnd.oasis.opendocument."


def holds(member: str, source: Source, head: bytes) -> bool:
    """Whether a source is a ZIP archive with this member."""
    if not head.startswith(b"PK\x03\x04"):
        return False
    try:
        with source.on_disk() as path, zipfile.ZipFile(path) as archive:
            return member in archive.namelist()
    except Exception:  # zipfile lets struct and Unicode errors through
        return False


def check(archive: zipfile.ZipFile) -> None:
    """Refuse an archive of which a part unpacks to far more than any document does."""
    for member in archive.infolist():
        if member.file_size > sources.most_unpacked(member.compress_size):
            raise sources.PackedTooMuch(member.filename)


def part(archive: zipfile.ZipFile, member: str, most: int = LARGEST) -> bytes:
    """The bytes of a part, at most so many."""
    with sources.limited(archive.open(member), archive.getinfo(member).compress_size) as stream:
        return stream.read(most)


def read_xlsx(source: Source) -> Iterator[Record | Bad]:
    """The rows of each sheet under its header; formulas are read as what they gave."""
    import openpyxl  # noqa: PLC0415 - a library for one format

    with source.on_disk() as path:
        with zipfile.ZipFile(path) as archive:
            check(archive)
        with path.open("rb") as file:
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            try:
                for sheet in book.worksheets:
                    sheet.reset_dimensions()  # some programs write them wrongly
                    yield from _of_sheet(sheet.title, sheet.iter_rows(values_only=True))
            finally:
                book.close()


def _of_sheet(title: str, rows: Iterator[tuple]) -> Iterator[Record | Bad]:
    """A record for each row below the header, which is the first row with words; a title above the header is none."""
    header: list[str] = []
    names: list[str] = []
    empty = below = 0
    for number, cells in enumerate(rows, 1):
        words = [_cell(cell) for cell in cells]
        if not any(words):
            empty += 1
            if empty > EMPTY_ROWS:
                return
            continue
        empty = 0
        below += 1
        if below == 1 and len(words) == 1 and len(words[0].split()) >= PROSE:  # no header: texts from the first row on
            header = names = ["text"]
        elif below == 1 or (below == 2 and _is_header_below(header, words)):
            over = header if sum(map(bool, header)) > 1 else []  # not a title
            header = [word or above for word, above in zip_longest(words, over, fillvalue="")]
            has_header = len(list(filter(None, words))) < 2 or table_rows.is_header(list(filter(None, words)))
            names = table_rows.named(header if has_header else [""] * len(header), frozenset())
            if has_header:
                continue
        while len(words) > len(header) and not words[-1]:
            words.pop()
        if len(words) > len(header):
            yield Bad(f"{title}!{number}", "too_many_cells", "\t".join(words)[:200])
            continue
        yield Record(f"{title}!{number}", {name: word for name, word in zip(names, words, strict=False) if word})


def _is_header_below(header: list[str], words: list[str]) -> bool:
    """Whether the second row names the columns: below a title, or below names that stand over several columns each."""
    named = list(filter(None, header))
    if len(named) == 1 < len(list(filter(None, words))):
        return True
    over = len(named) < len(header) and len(header) <= len(words)
    known = [schema.guess(dict.fromkeys(filter(None, names), "x"))["schema"] for names in (header, words)]
    return over and known[0] == "" and known[1] != ""


def _cell(cell: object) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, datetime) and cell.time() == time():
        cell = cell.date()
    return str(cell).strip()


def _is_odf(kind: bytes, source: Source, head: bytes) -> bool:
    return head.startswith(b"PK\x03\x04") and head[30:].startswith(ODF + kind)


def _content(source: Source, name: str = "content.xml") -> ElementTree.Element:
    with source.on_disk() as path, zipfile.ZipFile(path) as archive:
        there = name == "content.xml" or name in archive.namelist()
        return ElementTree.fromstring(part(archive, name)) if there else ElementTree.Element("none")


def name_of(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def attribute(element: ElementTree.Element, name: str) -> str:
    return next((value for key, value in element.attrib.items() if key.rpartition("}")[2] == name), "")


def read_odt(source: Source) -> Iterator[Record | Bad]:
    """Headings, paragraphs, lists, tables and notes of a text of LibreOffice; what was deleted stays deleted."""
    blocks, notes, content = [], [], _content(source)
    styles = _Styles(content, _content(source, "styles.xml"))
    for span in content.iter():
        if name_of(span) == "span" and (signs := styles.raised.get(attribute(span, "style-name"))):
            span.text = markup.raised(signs, span.text or "")
    for element in content.iter():
        if name_of(element) == "text" and len(element):
            blocks = list(_blocks(element, notes, styles))
    text = "\n\n".join(block for block in [*blocks, *notes] if block.strip())
    text = markup.marked(text.replace(f"{PRE}\n\n{PRE}", "\n"))
    text = re.sub(rf"{PRE}([^{PRE}]*){PRE}", lambda code: f"```\n{code[1]}\n```" if "\n" in code[1] else code[1], text)
    yield from documents.records(text)


class _Styles:
    """What the styles of a text of LibreOffice say: which lists are numbered, and what paragraphs are named after."""

    def __init__(self, content: ElementTree.Element, named: ElementTree.Element):
        self.numbered: set[tuple[str, int]] = set()  # (list style, level)
        self.parents: dict[str, str] = {}  # of automatic styles
        self.raised: dict[str, str] = {}  # styles of what stands above or below its line -> sup or sub
        for style in (*named.iter(), *content.iter()):
            if name_of(style) == "list-style":
                levels = (level for level in style if name_of(level) == "list-level-style-number")
                formats = {int(attribute(level, "level") or 1) for level in levels if attribute(level, "num-format")}
                self.numbered |= {(attribute(style, "name"), level) for level in formats}
        for style in content.iter():
            if name_of(style) == "style":
                self.parents[attribute(style, "name")] = attribute(style, "parent-style-name")
                position = next((place for inner in style if (place := attribute(inner, "text-position"))), "")
                if position.startswith(("sup", "sub", "-")) or re.match("[1-9]", position):
                    self.raised[attribute(style, "name")] = "sub" if position.startswith(("sub", "-")) else "sup"

    def of(self, paragraph: ElementTree.Element) -> str:
        """The style that a person gave a paragraph."""
        name = attribute(paragraph, "style-name")
        return self.parents.get(name) or name


def _blocks(
    parent: ElementTree.Element, notes: list[str], styles: _Styles, lists: tuple[str, ...] = (), lead: str = ""
) -> Iterator[str]:
    """The blocks of an element; `lists` has the styles of the lists around it, `lead` the mark of its list item."""
    number = int(start) if (start := attribute(parent, "start-value")).isdecimal() else 1
    for element in parent:
        name = name_of(element)
        if name == "h":
            level = attribute(element, "outline-level")
            yield "#" * min(6, int(level) if level.isdecimal() else 1) + " " + _words(element, notes)
        elif name == "p":
            words, style = _words(element, notes), styles.of(element)
            if style in TITLES and words.strip():
                words = f"# {words}"
            yield f"{PRE}{words}{PRE}" if style in SET and not lists else lead + words
            boxes = (box for box in element.iter() if name_of(box) == "text-box")
            yield from (block for box in boxes for block in _blocks(box, notes, styles))
            lead = ""
        elif name == "list":
            style = attribute(element, "style-name") or (lists[-1] if lists else "")
            yield from _blocks(element, notes, styles, (*lists, style))
        elif name in ("list-item", "list-header"):
            ordered = (lists[-1], len(lists)) in styles.numbered if lists else False
            mark = markup.ITEM + (f"{number}{markup.NUMBERED}" if ordered else "")
            number += name == "list-item"
            indent = markup.INDENT * (len(lists) - 1)
            yield from _blocks(element, notes, styles, lists, indent + mark if name == "list-item" else "")
        elif name == "table":
            yield "\n".join(
                markup.row_of(" ".join(cell.split("\n")) for cell in cells) for cells in _table(element, notes)
            )
        elif name not in ("tracked-changes", "forms", "sequence-decls", "table-of-content"):
            yield from _blocks(element, notes, styles, lists, lead)


def _table(table: ElementTree.Element, notes: list[str]) -> Iterator[list[str]]:
    for row in table.iter():
        if name_of(row) != "table-row":
            continue
        cells: list[str] = []
        for cell in row:
            if name_of(cell) in ("table-cell", "covered-table-cell"):
                words = "\n".join(_words(element, notes) for element in _paragraphs_of(cell))
                again = attribute(cell, "number-columns-repeated")
                cells += [words] * min(int(again) if again.isdecimal() else 1, MOST_REPEATED)
        while cells and not cells[-1]:
            cells.pop()
        if cells:
            yield cells


def _paragraphs_of(parent: ElementTree.Element) -> Iterator[ElementTree.Element]:
    """The paragraphs of a cell, those of lists in it too."""
    for element in parent:
        if name_of(element) in ("p", "h"):
            yield element
        elif name_of(element) not in ("annotation", "shapes"):
            yield from _paragraphs_of(element)


def _words(element: ElementTree.Element, notes: list[str]) -> str:
    """The words of a paragraph; a footnote leaves its mark there and goes to the notes, a text box is a block."""
    said = element.text or ""
    for child in element:
        name = name_of(child)
        if name == "s":
            again = attribute(child, "c")
            said += " " * min(int(again) if again.isdecimal() else 1, 80)
        elif name in ("tab", "line-break"):
            said += "\t" if name == "tab" else "\n"
        elif name == "note":
            body = next((inner for inner in child if name_of(inner) == "note-body"), child)
            mark = next((inner.text or "" for inner in child if name_of(inner) == "note-citation"), "")
            said += f" [{mark}]"
            notes.append(f"[{mark}] " + "\n".join(_words(inner, notes) for inner in body))
        elif name not in ("annotation", "frame", "text-box", "bookmark", "ruby-text"):
            said += _words(child, notes)
        said += child.tail or ""
    return re.sub(r"[ \n]*\n[ \n]*", "\n", said)


def read_odp(source: Source) -> Iterator[Record | Bad]:
    """The slides of LibreOffice with their notes."""
    content = _content(source)
    styles = _Styles(content, _content(source, "styles.xml"))
    blocks = [block for page in content.iter() if name_of(page) == "page" for block in _of_slide(page, styles)]
    text = markup.marked("\n\n".join(block for block in blocks if block.strip()))
    yield from documents.records(text)


def _of_slide(page: ElementTree.Element, styles: _Styles) -> Iterator[str]:
    """The blocks of a slide, and those of its notes."""
    for shape in page:
        kind = attribute(shape, "class")
        if name_of(shape) == "notes":
            yield from _of_slide(shape, styles)
        elif kind == "title":
            yield "# " + " ".join(block.strip() for block in _blocks(shape, [], styles) if block.strip())
        elif kind not in ("date-time", "footer", "header", "page-number"):
            yield from _blocks(shape, [], styles)


def read_ods(source: Source) -> Iterator[Record | Bad]:
    """The rows of each sheet of LibreOffice under its header."""
    for table in _content(source).iter():
        if name_of(table) == "table" and attribute(table, "name"):
            yield from _of_sheet(attribute(table, "name"), iter(map(tuple, _table(table, []))))


XLSX_TABLE = Format("xlsx", partial(holds, XLSX), read_xlsx)
ODT = Format("odt", partial(_is_odf, b"text"), read_odt)
ODS = Format("ods", partial(_is_odf, b"spreadsheet"), read_ods)
ODP = Format("odp", partial(_is_odf, b"presentation"), read_odp)
FORMATS = (XLSX_TABLE, ODT, ODS, ODP)
