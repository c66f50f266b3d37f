"""Slides of PPTX in the order of the talk: titles, lists, tables, and what the speaker says."""

import re
import zipfile
from collections.abc import Iterator
from functools import partial
from xml.etree import ElementTree

from core.corpus import documents
from core.corpus.formats import markup, office
from core.corpus.formats.office import attribute, name_of
from core.corpus.sources import Bad, Format, Record, Source

SIGNS = re.compile(r"[{}();=<>\[\]]|:$")  # of code
SLIDES = "ppt/presentation.xml"


def read(source: Source) -> Iterator[Record | Bad]:
    """A document of all slides: the words of each, and below them what its notes say."""
    slides = []
    with source.on_disk() as path, zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        for name in _in_order(archive, names):
            words = _shapes(ElementTree.fromstring(office.part(archive, name)), _marks(archive, names, name))
            links = _xml(archive, names, name.replace("slides/", "slides/_rels/") + ".rels")
            notes = re.search(r"notesSlides/(notesSlide\d+\.xml)", links)
            if notes and (at := f"ppt/notesSlides/{notes[1]}") in names:
                words += _shapes(ElementTree.fromstring(office.part(archive, at)), {}, body_only=True)
            slides.append("\n\n".join(words))
    text = "\n\n".join(slide for slide in slides if slide.strip())
    yield from documents.records(text)


def _marks(archive: zipfile.ZipFile, names: set[str], slide: str) -> dict[str, str]:
    """The mark of the first level in the body of a slide's master, as "", and of each place that its layout changes."""
    links = _xml(archive, names, slide.replace("slides/", "slides/_rels/") + ".rels")
    layout = re.search(r"slideLayouts/(slideLayout\d+\.xml)", links)
    at = f"ppt/slideLayouts/{layout[1] if layout else ''}"
    links = _xml(archive, names, at.replace("slideLayouts/", "slideLayouts/_rels/") + ".rels")
    master = re.search(r"slideMasters/(slideMaster\d+\.xml)", links)
    style = re.search(
        r"<p:bodyStyle>.*?</p:bodyStyle>", _xml(archive, names, f"ppt/slideMasters/{master and master[1]}"), re.DOTALL
    )
    marks = {"": _first_mark(style[0])} if style else {}
    for shape in re.findall(r"<p:sp>.*?</p:sp>", _xml(archive, names, at), re.DOTALL):
        place, mark = re.search(r'<p:ph\b[^>]*\bidx="(\d+)"', shape), _first_mark(shape)
        if place and mark:
            marks[place[1]] = mark
    return marks


def _first_mark(xml: str) -> str:
    first = re.search(r"<a:lvl1pPr\b[^>]*(?:/>|>.*?</a:lvl1pPr>)", xml, re.DOTALL)
    mark = re.search(r"<a:(buNone|buChar|buAutoNum)\b", first[0]) if first else None
    return mark[1] if mark else ""


def _shapes(slide: ElementTree.Element, marks: dict[str, str], body_only: bool = False) -> list[str]:
    """The words of each shape and table; numbers, dates and footers of slides are left out."""
    words = []
    for shape in slide.iter():
        name = name_of(shape)
        if name not in ("sp", "graphicFrame"):
            continue
        place = next((inner for inner in shape.iter() if name_of(inner) == "ph"), None)
        kind = "" if place is None else attribute(place, "type") or "body"
        if kind in ("sldNum", "dt", "ftr", "hdr", "sldImg") or (body_only and kind != "body"):
            continue
        if name == "graphicFrame":
            rows = (
                [_cell(cell) for cell in row if name_of(cell) == "tc"] for row in shape.iter() if name_of(row) == "tr"
            )
            lines = [markup.row_of(cells) for cells in rows if any(cells)]
        else:
            mark = marks.get(attribute(place, "idx")) or marks.get("", "") if kind in ("body", "obj") else ""
            lines = _lines([inner for inner in shape.iter() if name_of(inner) == "p"], mark)
        title = "# " if kind in ("title", "ctrTitle") else ""
        words += [title + "\n".join(lines)] if lines else []
    return words


def _in_order(archive: zipfile.ZipFile, names: set[str]) -> list[str]:
    """The names of the slides as the presentation lists them; else by their numbers, in which they were made."""
    numbered = [(int(found[1]), name) for name in names if (found := re.fullmatch(r"ppt/slides/slide(\d+)\.xml", name))]
    by_number = [name for _, name in sorted(numbered)]
    listed = re.findall(r'<p:sldId\b[^>]*\br:id="([^"]+)"', _xml(archive, names, SLIDES))
    links = {}
    for link in re.findall(r"<Relationship\b[^>]*>", _xml(archive, names, "ppt/_rels/presentation.xml.rels")):
        values = dict(re.findall(r'(\w+)="([^"]*)"', link))
        links[values.get("Id")] = "ppt/" + values.get("Target", "").removeprefix("/ppt/")
    ordered = [links[link] for link in listed if links.get(link) in by_number]
    return [*ordered, *(name for name in by_number if name not in ordered)]


def _xml(archive: zipfile.ZipFile, names: set[str], member: str) -> str:
    return office.part(archive, member).decode("utf-8", errors="replace") if member in names else ""


def _lines(paragraphs: list[ElementTree.Element], inherited: str) -> list[str]:
    """The lines of a shape; where one of them is a step in or has a mark, or all inherit one, they are a list."""
    found = [(_said(paragraph), *_level(paragraph)) for paragraph in paragraphs]
    found = [one for one in found if one[0]]
    if inherited != "buNone" and len(found) > 1:
        found = [(said, level, mark or inherited) for said, level, mark in found]
    if not any(level or mark in ("buChar", "buAutoNum") for _, level, mark in found):
        return _code(paragraphs) or [said for said, _, _ in found]
    lines, numbers = [], {}
    for said, level, mark in found:
        numbers = {at: number for at, number in numbers.items() if at < level + (mark == "buAutoNum")}
        numbers[level] = numbers.get(level, 0) + (mark == "buAutoNum")
        sign = {"buNone": "", "buAutoNum": f"{numbers[level]}. "}.get(mark, "- ")
        lines.append("  " * level + sign + said)
    return lines


def _code(paragraphs: list[ElementTree.Element]) -> list[str]:
    """The lines of a shape in a fence where some have steps of code; none of another."""
    lines = "\n".join("".join(map(_run, paragraph.iter())) for paragraph in paragraphs).strip("\n").split("\n")
    lines = [line.replace("\u00a0", " ").rstrip() for line in lines]
    filled = [line for line in lines if line]
    stepped = any(line.startswith(("  ", "\t")) for line in filled[1:])
    marked = sum(SIGNS.search(line) is not None for line in filled)
    return ["```", *lines, "```"] if stepped and marked > len(filled) / 2 else []


def _level(paragraph: ElementTree.Element) -> tuple[int, str]:
    """How far a paragraph is stepped in, and what kind of mark it has, where it says so."""
    properties = next((inner for inner in paragraph if name_of(inner) == "pPr"), None)
    if properties is None:
        return 0, ""
    level = attribute(properties, "lvl")
    marks = (name_of(inner) for inner in properties if name_of(inner) in ("buNone", "buChar", "buAutoNum"))
    return int(level) if level.isdecimal() else 0, next(marks, "")


def _cell(cell: ElementTree.Element) -> str:
    return " ".join(filter(None, (_said(inner) for inner in cell.iter() if name_of(inner) == "p")))


def _said(paragraph: ElementTree.Element) -> str:
    return "".join(map(_run, paragraph.iter())).strip()


def _run(run: ElementTree.Element) -> str:
    return (run.text or "") if name_of(run) == "t" else "\n" if name_of(run) == "br" else ""


PPTX = Format("pptx", partial(office.holds, SLIDES), read)
