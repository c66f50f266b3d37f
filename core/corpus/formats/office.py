"""Office files: tables of XLSX and ODS, texts of ODT and RTF. Those of Word and slides have modules of their own."""

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
LISTED = rf"{markup.INDENT}*(?:- |\d{{1,3}}[.)] )"
RAISED = re.compile(r"\\(super|sub|up|dn)(?:[1-9]\d*)?(?!\w)((?:\\[a-z]+-?\d*|\s)*)(?<!\w)([\d+()-]{1,6})(?=[}\\])")
DELETED = re.compile(r"\{\\deleted\b[^{}]*\}")
# A style of headings: its number, and its level as a setting or in its name.
HEADING = re.compile(
    r"\{\\s(\d+)(?:[^{}]*?\\outlinelevel([0-8])[^{}]*|[^{}]*?(?:[Hh]eading|\bЗаголовок) ([1-9])\s*);\}"
)
LEVEL = re.compile(r"\{\\listtext([^{}]*)\}[^{}]*?\\ilvl([1-8])")
LINE = "\ue0f6"  # stands for a line end in a paragraph of RTF
LONGEST_NOTE = 1 << 16  # characters of the RTF of a footnote
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
    yield from documents.records(text) if text.strip() else [Bad("#1", "empty_text")]


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


def read_ods(source: Source) -> Iterator[Record | Bad]:
    """The rows of each sheet of LibreOffice under its header."""
    for table in _content(source).iter():
        if name_of(table) == "table" and attribute(table, "name"):
            yield from _of_sheet(attribute(table, "name"), iter(map(tuple, _table(table, []))))


def read_rtf(source: Source) -> Iterator[Record | Bad]:
    """The words of an RTF document in its own code page."""
    from striprtf.striprtf import rtf_to_text  # noqa: PLC0415 - a library for one format

    with source.open() as stream:
        raw = stream.read(LARGEST).decode("latin-1")
    raw, notes = _without_footnotes(_with_headings(DELETED.sub("", raw)))
    raw = re.sub(
        r"\\outlinelevel([0-5])(?!\d) ?", lambda level: f"{level[0].rstrip()} {'#' * (1 + int(level[1]))} ", raw
    )
    raw = RAISED.sub(
        lambda of: of[2].lstrip() + _escaped(markup.raised("sup" if of[1] in ("super", "up") else "sub", of[3])), raw
    )
    raw = LEVEL.sub(lambda item: _escaped(markup.INDENT * int(item[2])) + item[0], raw)
    for word, mark in (("line", LINE), ("cell", markup.CELL), ("row", markup.ROW), ("trowd", markup.ROW)):
        raw = re.sub(rf"\\{word}\b ?", rf"\\u{ord(mark) - 0x10000}?", raw)
    text = rtf_to_text(raw, errors="replace")
    text = "\n\n".join(
        [text, *(f"[{at}] {rtf_to_text(note, errors='replace').strip()}" for at, note in enumerate(notes, 1))]
    )
    text = re.sub(r"\n{3,}", "\n\n", re.sub(r"(?<!\n)\n(?!\n)", "\n\n", text))
    text = re.sub(rf"\s*{markup.CELL}\s*", markup.CELL, text)
    text = re.sub(rf"(?:\s*{markup.ROW})+\s*", f"{markup.ROW}\n\n{markup.ROW}", text)
    between = rf"(?<={markup.CELL}{markup.ROW}\n)\n(?={markup.ROW}[^\n]*{markup.CELL})"
    text = re.sub(between, "", text)
    text = re.sub(r"^#+[ \t]*$", "", text, flags=re.MULTILINE)  # headings without words
    for mark, plain in (
        (r" *(\d{1,3}[.)])\t", r"\2 "),
        (rf" *[•·▪◦{markup.BULLETS}][ \t]+", "- "),
        (r"[–o]\t", f"{markup.INDENT}- "),
    ):
        text = re.sub(f"^({markup.INDENT}*){mark}", rf"\1{plain}", text, flags=re.MULTILINE)
    text = re.sub(rf"^({LISTED}.*)\n\n(?={LISTED})", r"\1\n", text, flags=re.MULTILINE)
    text = markup.marked(text.replace(LINE, "\n")).strip()
    yield from documents.records(text) if text else [Bad("#1", "empty_text")]


def _with_headings(raw: str) -> str:
    """RTF in which a paragraph in a style of headings has the level of that style, where it does not say so itself."""
    levels = {style: int(level or int(named) - 1) for style, level, named in HEADING.findall(raw)}
    if not levels:
        return raw
    start = raw.find("\\pard", raw.find("{\\stylesheet"))
    body = re.sub(
        r"(\\s(\d+))(?=[\\ ])(?![^{}]*\\outlinelevel)",
        lambda of: f"{of[1]}\\outlinelevel{levels[of[2]]}" if of[2] in levels else of[1],
        raw[start:],
    )
    return raw[:start] + body


def _escaped(words: str) -> str:
    """Words as RTF has those that are not of its code page."""
    return "".join(f"\\u{ord(char) - 0x10000 * (ord(char) > 0x7FFF)}?" for char in words)


def _without_footnotes(raw: str) -> tuple[str, list[str]]:
    """RTF with a number in the place of each footnote, which its reader drops, and the footnotes as RTF."""
    head = raw[: raw.find("\\pard")] if "\\pard" in raw else "{\\rtf1"
    parts, notes, at = [], [], 0
    for found in re.finditer(r"\{(?:\\\*\s*)?\\footnote\b", raw):
        depth, end = 0, found.start()
        for brace in re.finditer(r"\\[{}\\]|[{}]", raw[found.start() : found.start() + LONGEST_NOTE]):
            depth += {"{": 1, "}": -1}.get(brace[0], 0)
            if not depth and brace[0] == "}":
                end = found.start() + brace.end()
                break
        if end == found.start() or found.start() < at:
            continue
        notes.append(head + raw[found.end() : end])
        parts += [raw[at : found.start()], f" [{len(notes)}]"]
        at = end
    return "".join([*parts, raw[at:]]), notes


XLSX_TABLE = Format("xlsx", partial(holds, XLSX), read_xlsx)
ODT = Format("odt", partial(_is_odf, b"text"), read_odt)
ODS = Format("ods", partial(_is_odf, b"spreadsheet"), read_ods)
RTF = Format("rtf", lambda source, head: head.startswith(b"{\\rtf"), read_rtf)
FORMATS = (XLSX_TABLE, ODT, ODS, RTF)
