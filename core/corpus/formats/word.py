"""Word documents: headings, lists, tables, footnotes, text boxes and formulas, as of a page."""

import io
import re
import zipfile
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import BinaryIO
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from core.corpus import documents
from core.corpus.formats import markup, office, word_lists
from core.corpus.sources import Bad, Format, Record, Source

WORD = "word/document.xml"
CODE, PLAIN = ("Source Code", "Code"), ("HTML Preformatted", "Preformatted Text", "Plain Text")  # styles of paragraphs
STYLES = "\n".join([  # https://github.com/mwilliamson/mammoth.js#writing-style-maps
    "p[style-name^='toc '] => !", "p[style-name='Title'] => h1:fresh", "p[style-name='Subtitle'] => p:fresh",
    *(f"p[style-name='{name}'] => pre{'.code' * (name in CODE)}:separator('\\n')" for name in (*CODE, *PLAIN)),
])  # fmt: skip
FORMULA = re.compile(r"<m:oMath(?:\s[^>]*)?>.*?</m:oMath>", re.DOTALL)
PREFIX = re.compile(r"(</?|\s)\w+:(?=\w)")


def read(source: Source) -> Iterator[Record | Bad]:
    """Headings, lists, tables, footnotes and text boxes of a Word document, as of a page."""
    import mammoth  # noqa: PLC0415 - a library for one format

    with source.on_disk() as path, zipfile.ZipFile(path) as archive:
        office.check(archive)
        try:
            with _prepared(archive, path) as file:
                no_image = mammoth.images.img_element(lambda image: {})
                page = mammoth.convert_to_html(file, convert_image=no_image, style_map=STYLES).value
                page = word_lists.begun(page)
        except Exception:  # a damaged one gives what its paragraphs have
            page = _paragraphs(office.part(archive, WORD).decode("utf-8", errors="replace"))
    # A footnote's number in the text, and the arrow that leads back to it.
    page = re.sub(r"<sup><a [^>]*note-ref[^>]*>\[(\d+)\]</a></sup>", r" [\1]", page)
    page = re.sub(r' ?<a href="#[^"]*note-ref-[^"]*">↑</a>', "", page)
    number = count(1)
    page = re.sub(r'<li id="(?:foot|end)note-[^"]*">\s*(?:<p>)?\s*', lambda _: f"<p>[{next(number)}] ", page)
    text, _ = markup.text_of(page)
    yield from documents.records(text)


def _paragraphs(xml: str) -> str:
    """A page of the paragraphs of document.xml, whether or not it is whole."""
    paragraphs = []
    for piece in re.split(r"</w:p\s*>", xml):
        piece = re.sub(r"<w:(?:tab|br|cr)\b[^>]*/>", "<w:t> </w:t>", piece)
        paragraphs.append("".join(re.findall(r"<w:t(?:\s[^>]*)?>(.*?)</w:t>", piece, re.DOTALL)))
    return "".join(f"<p>{paragraph}</p>" for paragraph in paragraphs if paragraph.strip())


def _prepared(archive: zipfile.ZipFile, path: Path) -> BinaryIO:
    """The document, its formulas as words and the items of its lists numbered: the library would leave both out."""
    before = office.part(archive, WORD).decode("utf-8", errors="replace")
    xml = word_lists.numbered(before, archive)
    if FORMULA.search(xml):
        xml = re.sub(r"</?m:oMathPara(?:\s[^>]*)?>", "", xml)
        xml = FORMULA.sub(lambda found: f'<w:r><w:t xml:space="preserve">{escape(_formula(found[0]))}</w:t></w:r>', xml)
    if xml == before:
        return path.open("rb")
    copy = io.BytesIO()
    with zipfile.ZipFile(copy, "w") as changed:
        for member in archive.namelist():
            changed.writestr(member, xml if member == WORD else office.part(archive, member))
    return copy


def _formula(xml: str) -> str:
    return _line(ElementTree.fromstring(PREFIX.sub(r"\1", xml)))


def _line(element: ElementTree.Element) -> str:
    """A formula of Word in one line, as people type it: x^2, a_i, (a+b)/c, √(x)."""
    if element.tag == "t":
        return element.text or ""
    said = {child.tag: _line(child) for child in element if not child.tag.endswith("Pr")}
    if element.tag == "f":
        return f"{_closed(said.get('num', ''))}/{_closed(said.get('den', ''))}"
    if element.tag in ("sSup", "sSub", "sSubSup", "nary"):
        sign = _setting(element, "chr", "∫") if element.tag == "nary" else said.get("e", "")
        below, above = (_closed(said.get(name, "")) for name in ("sub", "sup"))
        line = sign + (f"_{below}" if below else "") + (f"^{above}" if above else "")
        return f"{line} {said.get('e', '')}" if element.tag == "nary" else line
    if element.tag == "rad":
        return f"{said.get('deg', '')}√({said.get('e', '')})"
    parts = [_line(child) for child in element if not child.tag.endswith("Pr")]
    if element.tag == "d":
        return _setting(element, "begChr", "(") + ", ".join(parts) + _setting(element, "endChr", ")")
    return (" " if element.tag == "func" else "; " if element.tag == "m" else "").join(parts)


def _setting(element: ElementTree.Element, name: str, usual: str) -> str:
    found = next((inner for inner in element.iterfind(f"./*/{name}")), None)
    return usual if found is None else found.get("val", "")


def _closed(words: str) -> str:
    return words if len(words) < 2 or words.isalnum() else f"({words})"


DOCX = Format("docx", partial(office.holds, WORD), read)
