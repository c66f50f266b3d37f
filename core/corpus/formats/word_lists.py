"""The numbers of Word's lists: its reader begins each list anew, and Word counts on behind a paragraph or from a number."""

import re
import zipfile
from collections.abc import Callable
from xml.etree import ElementTree

from core.corpus.formats import office

NUMBERING, STYLES = "word/numbering.xml", "word/styles.xml"
UNORDERED = ("bullet", "none", "")
LONGEST = 4000  # characters of the settings of a paragraph
BEGIN, END = "\ue1f0", "\ue1f1"  # around the number of an item until the page is there
_PARAGRAPH = re.compile(rf"<w:p(?:\s[^>]*)?>\s*<w:pPr>(.{{0,{LONGEST}}}?)</w:pPr>", re.DOTALL)
_NUMBER, _LEVEL, _STYLE = (
    re.compile(rf'<w:{name}\s[^>]*?w:val="([^"]*)"') for name in ("numId", "ilvl", "pStyle")
)  # of a paragraph
_FIRST = re.compile(rf"<ol><li>{BEGIN}(\d+){END}")
_ANY = re.compile(rf"{BEGIN}\d+{END}")


def numbered(xml: str, archive: zipfile.ZipFile) -> str:
    """document.xml with its number before the words of each item of an ordered list."""
    if NUMBERING not in archive.namelist() or "<w:pPr>" not in xml:
        return xml
    count = _counter(archive)

    def of(paragraph: re.Match) -> str:
        number = None if "<w:pPrChange" in paragraph[1] else count(paragraph[1])
        mark = f"<w:r><w:t>{BEGIN}{number}{END}</w:t></w:r>"
        return paragraph[0] + (mark if number is not None else "")

    return _PARAGRAPH.sub(of, xml)


def begun(page: str) -> str:
    """The page whose ordered lists begin with the numbers that numbered() has put there."""
    return _ANY.sub("", _FIRST.sub(lambda first: f'<ol start="{first[1]}"><li>', page))


def _counter(archive: zipfile.ZipFile) -> Callable[[str], int | None]:
    """A function that is given the settings of each paragraph in turn and tells its number, or None."""
    lists, kinds, styles = _lists(archive)
    counts: dict[str, dict[str, int]] = {}
    begun: set[tuple[str, str]] = set()

    def count(settings: str) -> int | None:
        style = _STYLE.search(settings)
        of_style, level_of_style = styles.get(style[1], ("", "0")) if style else ("", "0")
        found, level = _NUMBER.search(settings), _LEVEL.search(settings)
        which, depth = found[1] if found else of_style, level[1] if level else level_of_style
        kind, overrides = lists.get(which, ("", {}))
        form, start = kinds.get(kind, {}).get(depth, ("", 1))
        if form in UNORDERED:
            return None
        levels = counts.setdefault(kind, {})
        anew = depth in overrides and (which, depth) not in begun
        begun.add((which, depth))
        levels[depth] = overrides[depth] if anew else levels[depth] + 1 if depth in levels else start
        for deeper in [one for one in levels if one > depth]:
            del levels[deeper]
        return levels[depth]

    return count


def _lists(archive: zipfile.ZipFile) -> tuple[dict, dict, dict]:
    """What numbering.xml and styles.xml say.

    ({numId: (kind, {level: number it begins with})}, {kind: {level: (format, start)}}, {style: (numId, level)}).
    """
    root = ElementTree.fromstring(office.part(archive, NUMBERING))
    kinds = {
        _of(kind, "abstractNumId"): {
            _of(level, "ilvl"): (_value(level, "numFmt", ""), _whole(_value(level, "start", "1")))
            for level in _all(kind, "lvl")
        }
        for kind in _all(root, "abstractNum")
    }
    lists = {
        _of(one, "numId"): (
            _value(one, "abstractNumId", ""),
            {
                _of(level, "ilvl"): _whole(_value(level, "startOverride", "1"))
                for level in _all(one, "lvlOverride")
                if _value(level, "startOverride", "")
            },
        )
        for one in _all(root, "num")
    }
    styles = {}
    if STYLES in archive.namelist():
        for style in _all(ElementTree.fromstring(office.part(archive, STYLES)), "style"):
            if number := _value(style, "numId", ""):
                styles[_of(style, "styleId")] = (number, _value(style, "ilvl", "0"))
    return lists, kinds, styles


def _all(element: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [inner for inner in element.iter() if office.name_of(inner) == name]


def _value(element: ElementTree.Element, name: str, usual: str) -> str:
    return next((_of(inner, "val") for inner in _all(element, name)), usual)


def _of(element: ElementTree.Element, name: str) -> str:
    return office.attribute(element, name)


def _whole(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 6 else 1
