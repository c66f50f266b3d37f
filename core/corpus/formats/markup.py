"""HTML pages, paragraph by paragraph; damaged markup is read as far as it makes sense."""

import re
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser

from core.corpus import documents, encodings, mojibake, wrapped_lines
from core.corpus.sources import Bad, Format, Record, Source

HTML_STARTS = re.compile(r"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b", re.I | re.S)
FRAGMENT = re.compile(
    r"\s*(?:<!--.*?-->\s*)*<(div|p|article|section|main|table|ul|ol|h[1-6]|blockquote|span|dl|pre)\b[^<>]*>",
    re.I | re.S,
)
_BLOCKS = (
    "p div section article body li ul ol dl dt dd table tr blockquote pre h1 h2 h3 h4 h5 h6 title header "
    "footer figure figcaption main aside form fieldset hr br v stanza poem subtitle epigraph text-author cite "
    "summary details caption address center legend"
)
STARTS = {f"h{level}": "\n\n" + "#" * level + " " for level in range(1, 7)}
# They stand for the mark of a list item, before cells, for a step of indent and after the number of an item until the
# white space is known.
ITEM, CELL, INDENT, NUMBERED = "\ue0f2", "\ue0f3", "\ue0f4", "\ue0f5"
ROW = "\ue0fe"  # where a row of a table begins or ends
STARTS |= {"br": "\n", "tr": f"\n{ROW}", "v": "\n"}
ENDS = {"tr": ROW, "table": f"{ROW}\n\n", "br": "", "v": ""}
LINKED = 1 / 3  # least share of links among the letters of what belongs to the site
PERMALINKS = ("¶", "🔗", "§", "#")  # beside the headings of manuals
BULLETS = "\uf0b7\uf0a7\uf0fc\uf0d8\uf076\uf0e0\uf02d\uf06e\uf0a8\uf06c"  # of the fonts Symbol and Wingdings, as Word has them
BACK = re.compile("[↩↑⤴^][\ufe0e\ufe0f]?")  # a link from a note to its place
TOP = re.compile(  # a link behind each part of a long page
    r"[(\[↑\s]*(?:наверх|вверх|(?:к|в) начал[оу](?: страницы)?|к (?:содержанию|оглавлению)|"
    r"(?:back )?to (?:the )?(?:top|contents|table of contents)(?: of (?:the )?page)?)[)\]↑\s.]*",
    re.IGNORECASE,
)
NOTE = re.compile(
    r"doc-(?:endnote|footnote)|\b(?:end|foot|rear)note\b|#(?:user-content-)?fn[:-]?\w+$"
)  # an item of the notes behind a page
# Around what is set line by line, and within it where its elements or its class say that it is code.
PRE, PRE_END, CODED = "\ue0f6", "\ue0f7", "\ue0f8"
CODES = ("code", "span", "kbd", "samp", "tt", "var")
_SET = re.compile(f"{PRE}([^{PRE_END}]*){PRE_END}?")
DEEPEST = 12  # steps of indent
RAISED_MOST = 12  # characters
CELL_LINES = 300  # characters of a cell that becomes one line
MAIN = 100  # characters, at least, of a main part that stands for the page
ASIDE, ROLES = ("header", "footer", "aside"), ("navigation", "banner", "contentinfo", "search")
# Names of elements that belong to the site, and of those that do where a good part of their words are links.
NAVIGATION = re.compile(
    r"(?:doc|book|page|chapter|section|site|top|main|sub|side|bottom)[-_]?nav(?:igation|bar)?|pagination|pager|"
    r"nav|nav[-_]?(?:header|footer|bar|menu)|navigation|breadcrumbs?|cookies?[-_]?(?:banner|bar|notice|consent|popup)"
)
SITE = re.compile(
    r"(?:(?:site|page|main|top|left|right)[-_]?)?(?:header|footer|menu|sidebar|toc|banner)|(?:social[-_]?)?(?:share|sharing)[-_]?(?:buttons|links|bar)?|toctree-wrapper|(?:table-of-)?contents"
)
# Raised and lowered digits and signs have characters of their own: 10<sup>6</sup> is not 106.
RAISED = {
    "sup": str.maketrans("0123456789+-−=()n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿ"),
    "sub": str.maketrans("0123456789+-−=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎"),
}
_SKIPPED = "script style head nav noscript template svg binary iframe button select textarea description rt rp"
BLOCKS, SKIPPED = frozenset(_BLOCKS.split()), frozenset(_SKIPPED.split())


class _Words(HTMLParser):
    def __init__(self, whole: bool):
        super().__init__(convert_charrefs=True)
        self.kept_aside = ("header",) if whole else ()  # of a page that does not mark its main part
        self.within = 0  # main and article
        self.parts: list[str] = []
        self.main: list[list[int]] = []  # from which part to which each main and article goes
        self.links = 0  # characters of links
        self.linked = 0
        self.lists: list[list] = []  # [tag, items so far] of each list that is open
        self.reference = -1  # where the link to a footnote begins that is open
        self.site: list[list] = []  # [tag, how deep in elements of it, its first part, self.links before it, share]
        self.skipped: list[str] = []
        self.pre = self.cells = self.cell = 0
        self.raised: list[int] = []  # where each sup and sub begins that is open
        self.formula, self.tex = -1, ""  # where the formula begins that is open, and what it is in TeX
        self.title = ""
        self.in_title = False

    def handle_starttag(self, tag, attrs):
        tag = tag.rpartition(":")[2]
        self._open_site(tag, dict(attrs))
        self.linked += tag == "a"
        if tag == "title" and not self.title and (not self.skipped or self.skipped == ["head"]):
            self.in_title = True
        if tag in ("main", "article"):
            self.main += [] if self.within else [[len(self.parts), 0]]
            self.within += 1
        if tag in SKIPPED or self._is_aside(tag, dict(attrs)) or (self.skipped and tag == self.skipped[-1]):
            self.skipped.append(tag)
        if self.skipped:
            return
        if tag in ("td", "th"):
            self.parts.append(CELL if self.cells else "")
            self.cells += 1
            self.cell = len(self.parts)
        self.cells = 0 if tag == "tr" else self.cells
        if tag in ("ol", "ul"):
            start = str(dict(attrs).get("start") or "")
            self.lists.append([tag, int(start) - 1 if start.isdecimal() and len(start) < 6 else 0])
        self.parts.append(self._item(dict(attrs)) if tag == "li" else STARTS.get(tag, "\n\n" if tag in BLOCKS else ""))
        self._open_inside(tag, dict(attrs))

    def _open_inside(self, tag: str, attrs: dict) -> None:
        """What begins in a line, or what is set line by line."""
        if tag == "a" and _is_reference(attrs):
            self.reference = len(self.parts)
        if tag == "input" and self.lists and attrs.get("type") == "checkbox":
            self.parts.append("[x] " if "checked" in attrs else "[ ] ")
        if tag == "pre" and not self.pre:
            self.parts.append(PRE + CODED * bool(attrs.get("class")))
        elif tag in CODES and self.pre:
            self.parts.append(CODED)
        self.pre += tag == "pre"
        if tag in RAISED:
            self.raised.append(len(self.parts))
        if tag == "math":
            self.formula, self.tex = len(self.parts), attrs.get("alttext") or ""
        if tag == "annotation" and self.formula >= 0:
            self.skipped.append(tag)
            self.tex = self.tex or ("" if "tex" in (attrs.get("encoding") or "") else " ")

    def _item(self, attrs: dict) -> str:
        """The mark of the next item of the innermost list; a note has the number by which the text refers to it."""
        if not self.lists:
            return "\n" + ITEM
        value = str(attrs.get("value") or "")
        self.lists[-1][1] = int(value) if value.isdecimal() and len(value) < 6 else self.lists[-1][1] + 1
        if NOTE.search(f"{attrs.get('role') or ''} {attrs.get('epub:type') or ''} #{attrs.get('id') or ''}"):
            return f"\n\n[{self.lists[-1][1]}{NUMBERED}"
        number = f"{self.lists[-1][1]}{NUMBERED}" if self.lists[-1][0] == "ol" else ""
        return "\n" + INDENT * min(len(self.lists) - 1, DEEPEST) + ITEM + number

    def _open_site(self, tag: str, attrs: dict) -> None:
        if self.site and self.site[-1][0] == tag:
            self.site[-1][1] += 1
        elif tag in ("div", "ul", "table", "td", "section", "header") and not self.within:
            names = f"{tag} {attrs.get('id') or ''} {attrs.get('class') or ''}".lower().split()
            share = 0 if any(map(NAVIGATION.fullmatch, names)) else LINKED
            if not share or any(map(SITE.fullmatch, names)):
                self.site.append([tag, 1, len(self.parts), self.links, share])

    def _close_site(self, tag: str) -> None:
        """Drop an element of the site, or one of which links are a good part, or that has the mark of an owner."""
        if not self.site or self.site[-1][0] != tag:
            return
        self.site[-1][1] -= 1
        if not self.site[-1][1]:
            _, _, start, before, share = self.site.pop()
            words = "".join(self.parts[start:])
            linked = self.links - before >= share * len("".join(words.split()))
            if (linked and not (tag == "header" and "# " in words)) or "©" in words:
                del self.parts[start:]

    def _is_aside(self, tag: str, attrs: dict) -> bool:
        """Whether an element belongs to the site and not to the page; a footnote of a book may be an aside."""
        if attrs.get("role") in ROLES and tag in BLOCKS:
            return True
        note = "note" in (attrs.get("epub:type") or "") + (attrs.get("role") or "")
        return tag in ASIDE and not self.within and tag not in self.kept_aside and not note

    def handle_endtag(self, tag):
        tag = tag.rpartition(":")[2]
        if tag in ("main", "article") and self.within:
            self.within -= 1
            self.main[-1][1] = len(self.parts)
        self.linked -= tag == "a" and self.linked > 0
        self.in_title &= tag != "title"
        if tag == "body":
            self.skipped.clear()
        while tag == "ruby" and self.skipped and self.skipped[-1] in ("rt", "rp"):  # which need no end of their own
            self.skipped.pop()
        if tag in self.skipped:
            while self.skipped.pop() != tag:
                pass
            return
        if not self.skipped:
            self._close(tag)
        self.pre -= tag == "pre" and self.pre > 0
        self._close_site(tag)

    def _close(self, tag: str) -> None:
        """What stands at the end of an element that is read."""
        if tag in ("td", "th") and 0 < self.cell < len(self.parts):
            words = "".join(self.parts[self.cell :])
            if len(words) <= CELL_LINES and "#" not in words:  # else the table is there for the look of the page
                self.parts[self.cell :] = [re.sub(r"\s*\n\s*", " ", words.strip())]
        if tag == "a" and self.reference >= 0:
            number = "".join(self.parts[self.reference :]).strip().strip("[]")
            apart = not next((part for part in reversed(self.parts[: self.reference]) if part), "").endswith(" ")
            self.parts[self.reference :] = [" " * apart + f"[{number}]"]
            self.reference = -1
        if tag in RAISED and self.raised:
            start = self.raised.pop()
            if self.reference < 0:
                self._raise(tag, start)
        if tag == "math" and self.formula >= 0:
            tex = re.sub(r"^\{\\(?:display|text)style (.*)\}$", r"\1", self.tex.strip(), flags=re.DOTALL)
            self.parts[self.formula :] = [f"${tex}$"] if tex else self.parts[self.formula :]
            self.formula = -1
        if tag == "pre" and self.pre == 1:
            self.parts.append(PRE_END)
        if tag in ("ol", "ul") and self.lists:
            self.lists.pop()
        if tag in BLOCKS:
            inner = tag == "li" or (tag in ("ol", "ul") and self.lists)
            self.parts.append(ENDS.get(tag, "\n" if inner else "\n\n"))

    def _raise(self, tag: str, start: int) -> None:
        """What stands above or below its line, in characters that say so, or behind the sign that says so in TeX."""
        words, before = "".join(self.parts[start:]).strip(), "".join(self.parts[:start][-3:])[-1:]
        if (signs := raised(tag, words)) != words:
            self.parts[start:] = [signs]
        elif before.isalpha() or before == ")":
            sign = "^" if tag == "sup" else "_"
            if re.fullmatch("[a-z]", words):
                self.parts[start:] = [sign + words]
            elif re.fullmatch(r"[\w.]+(?:[-+−*/][\w.]+)+", words):
                self.parts[start:] = [f"{sign}({words})"]

    def text(self) -> str:
        """The text of what the page marks as its main part, where that is a good part of all; else all text."""
        main = "".join("".join(self.parts[start : end or None]) for start, end in self.main)
        whole = "".join(self.parts)
        return main if len(main.strip()) >= max(MAIN, len(whole.strip()) / 2) else whole

    def handle_data(self, data):
        if self.skipped and self.skipped[-1] == "annotation" and self.tex != " ":
            self.tex += data
        if self.in_title:
            self.title += data
        if self.linked and (data.strip() in PERMALINKS or BACK.fullmatch(data.strip()) or TOP.fullmatch(data)):
            return
        if not self.skipped:
            self.links += len("".join(data.split())) if self.linked else 0
            words = data if self.pre else re.sub(r"[ \t\r\n\f]+", " ", data)
            begins = not self.pre and next((part for part in reversed(self.parts) if part), "\n").endswith(
                ("\n", "# ", "] ")
            )
            self.parts.append(words.lstrip(" ") if begins else words)


def raised(tag: str, words: str) -> str:
    """Digits and signs above or below the line; other words as they are."""
    fits = set(map(ord, words)) <= RAISED[tag].keys() and len(words) <= RAISED_MOST
    return words.translate(RAISED[tag]) if fits else words


def _is_reference(attrs: dict) -> bool:
    """Whether a link leads to a footnote of a book."""
    return (
        re.search(r"noteref|footnote-ref", " ".join(attrs.get(key) or "" for key in ("epub:type", "role", "class")))
        is not None
    )


def text_of(markup: str) -> tuple[str, str]:
    """(text, title): paragraphs apart by a blank line, headings marked as in Markdown, list items by a hyphen."""
    words = _Words(whole=re.search(r"<(?:main|article)\b", markup, re.I) is None)
    words.feed(markup)
    words.close()
    text = _SET.sub(_set, words.text().replace("\u00ad", ""))
    text = re.sub(r"[ \t]+\n", "\n", text)
    return marked(text).strip(), " ".join(words.title.split())


def _set(block: re.Match) -> str:
    """Lines that stand as they are set: code in a fence, the paragraphs of a book whole again, others as they are."""
    words = re.sub(r"\A(?:[ \t]*\n)+|\s+\Z", "", block[1].replace(CODED, ""))
    lines = words.split("\n")
    if len(lines) == 1:
        return f"\n\n{words}\n\n"
    if width := wrapped_lines.width(lines):
        words = "\n".join(text for _, text in wrapped_lines.joined(enumerate(lines, 1), width))
    elif CODED in block[1] or wrapped_lines.is_code(lines):
        words = f"```\n{words}\n```"
    return f"\n\n{words}\n\n"


def marked(text: str) -> str:
    """A text with the marks of its lists and tables in place of ITEM and the others; at most one blank line in a row."""
    text = "".join(map(_row, re.sub(rf"({ITEM}|{NUMBERED})\s+", r"\1", text).split(ROW)))
    text = re.sub(r"\n{3,}", "\n\n", text)
    text = re.sub(rf"({ITEM}.*)\n\n(?={INDENT}*{ITEM})", r"\1\n", text).replace(INDENT, "  ")
    text = re.sub(rf"{ITEM}(\d+){NUMBERED}", r"\1. ", text).replace(ITEM, "- ")
    return text.replace(NUMBERED, "] ")


def _row(text: str) -> str:
    """A row of a table as a line of its own; other words as they are."""
    if CELL not in text:
        return text
    before, after = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    return "\n\n" * ("\n" in before) + row_of(text.split(CELL)) + "\n" * ("\n" in after)


def row_of(cells: Iterable[str]) -> str:
    """The cells of a row in one line; of a row with a single one that is filled, that one."""
    cells = [cell.strip() for cell in cells]
    while cells and not cells[-1]:
        cells.pop()
    return " | ".join(cells).lstrip() if sum(map(bool, cells)) > 1 else "".join(cells)


def of_page(page: str, place: str) -> Iterator[Record | Bad]:
    """The documents of one page of markup."""
    text, title = text_of(page)
    text, repaired = mojibake.Repairer().text(text)
    if not text:
        yield Bad(place, "empty_text", page[:200])
        return
    named = {"title": title[:200]} if title and not re.fullmatch(r"\S+\.x?html?", title) else {}
    for count, (_, part) in enumerate(documents.split(enumerate(text.split("\n")))):
        where = place if count == 0 else f"{place}.{count + 1}"
        yield Record(where, {"text": part} | named, ("mojibake",) * (repaired if count == 0 else 0))


def read_html(source: Source) -> Iterator[Record | Bad]:
    """The words of a page without its scripts, styles and navigation."""
    for record in of_page(encodings.read_text(source, source.encoding), "1"):
        words = record.value["text"] if isinstance(record, Record) else ""
        alone = all(not line or documents.HEADING.match(line) for line in words.split("\n"))
        yield Bad(record.place, "empty_text", words[:200]) if words and alone else record  # it leads to other pages


def _is_html(source: Source, head: str) -> bool:
    if HTML_STARTS.match(head):
        return True
    start = FRAGMENT.match(head)
    named = source.name.lower().endswith((".html", ".htm", ".xhtml"))
    return start is not None and (named or f"</{start[1].lower()}>" in head.lower())


HTML = Format("html", _is_html, read_html)
