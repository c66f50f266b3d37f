"""Manual pages of Unix in roff: headings, paragraphs, terms, code and tables without the requests and the fonts."""

import re
from collections.abc import Iterator

from core.corpus import documents, encodings, mojibake
from core.corpus.sources import Bad, Format, Record, Source

HEAD = re.compile(  # comments, definitions and empty requests may stand before the title
    r"""(?:[.']\\"[^\n]*\n|\.{0,2}[ \t]*\n|\.(?!TH|Dd)(?:[A-Za-z]{2}|\\})[^\n]*\n)*\.(?:TH|Dd)\s"""
)
COMMENT = re.compile(r"^[.'][ \t]*\\\".*\n|\\\".*$", re.MULTILINE)
FONT = re.compile(r"\\f(?:\[[^\]]*\]|\(..|.)|\\s[-+]?\d|\\[&|^%/,:]|\\k.|\\[hv]'[^']*'")
SIGNS = {
    "aq": "'", "dq": '"', "lq": "“", "rq": "”", "oq": "‘", "cq": "’", "em": "—", "en": "–", "hy": "-", "bu": "•", "co": "©",
    "rg": "®", "tm": "™", "ha": "^", "ti": "~", "rs": "\\", "ga": "`", "mu": "×", "->": "→", "<-": "←", "<=": "≤", ">=": "≥",
    "Fo": "«", "Fc": "»", "sq": "□", "de": "°", "+-": "±", "..": "…", "bv": "|", "ba": "|", "sh": "#", "Do": "$", "at": "@",
}  # fmt: skip
SIGN = re.compile(r"\\\((..)|\\\[([^\]]+)\]|\\\*\((..)|\\(.)")
WORD = re.compile(r'"((?:[^"]|"")*)"|(\S+)')
ALTERNATE = ("BR", "BI", "RB", "RI", "IB", "IR")  # fonts of words that stand together
WORDS = ("B", "I", "SM", "SB", "R", "UR", "MT", "UE", "ME")  # what stands behind them is said
PARAGRAPH = ("PP", "P", "LP", "sp", "RS", "RE", "HP", "Pp")
SET, SET_END = ("nf", "EX", "Bd"), ("fi", "EE", "Ed")
TABLE_OPTIONS = re.compile(r"tab ?\((.)\)")


def claims(source: Source, head: str) -> bool:
    return HEAD.match(head) is not None


def read(source: Source) -> Iterator[Record | Bad]:
    text, repaired = mojibake.Repairer().text(encodings.read_text(source, source.encoding))
    yield from documents.records(_words(COMMENT.sub("", text).split("\n")), ("mojibake",) * repaired)


class _Page:
    """The blocks of a page so far, and what the next line is: a part of a paragraph, of code, or a term."""

    def __init__(self):
        self.blocks: list[str] = []
        self.held: list[str] = []
        self.code: list[str] | None = None
        self.next: str | None = None  # what the next line begins with, if it is a heading, a term or an item

    def end(self) -> None:
        if self.held:
            self.blocks.append(" ".join(self.held))
        self.held = []

    def end_code(self) -> None:
        lines = "\n".join(self.code or []).strip("\n")
        if lines:
            self.blocks.append(f"```\n{lines}\n```" if "\n" in lines else lines)
        self.code = None

    def say(self, words: str) -> None:
        if self.code is not None:
            self.code.append(words)
        elif self.next is not None and words.strip():
            self.end()
            self.held, mark = [self.next + words.strip()], self.next
            self.next = None
            if mark != "- ":
                self.end()
        elif words.strip():
            self.held.append(re.sub(" {2,}", " ", words.strip()))
        else:
            self.end()


def _words(lines: list[str]) -> str:
    page, rows = _Page(), iter(lines)
    for line in rows:
        request = re.match(r"[.'][ \t]*([A-Za-z]\w*)[ \t]*(.*)", line)
        if not request:
            if line[:1] not in (".", "'") or line[1:2].isspace():
                page.say(_plain(line))
        elif request[1] == "TS":
            page.end()
            page.blocks.append(_table(rows))
        elif request[1] in ("de", "ig"):  # a macro of its own
            next((row for row in rows if row.startswith("..")), None)
        else:
            _request(page, request[1], request[2])
    page.end()
    page.end_code()
    return "\n\n".join(block for block in page.blocks if block.strip())


def _request(page: _Page, name: str, rest: str) -> None:
    said = [_plain(quoted.replace('""', '"') or bare) for quoted, bare in WORD.findall(rest)]
    if name in ("SH", "SS", "Sh", "Ss"):
        page.end()
        page.end_code()
        page.next = None if said else ("# " if name.lower() == "sh" else "## ")
        page.blocks += [("# " if name.lower() == "sh" else "## ") + " ".join(said)] if said else []
    elif name in SET:
        page.end()
        page.code = [] if page.code is None else page.code
    elif name in SET_END:
        page.end_code()
    elif name in PARAGRAPH and page.code is None:
        page.end()
    elif name in ("TP", "IP", "TQ"):
        page.end()
        page.end_code()
        page.next = "" if name != "IP" else "- " if said and said[0] in "•·*-" else None
        page.blocks += [said[0]] if name == "IP" and said and page.next is None else []
    elif name in ALTERNATE:
        page.say("".join(said))
    elif name in ("UE", "ME") and said and page.held:  # what stands behind an address
        page.held[-1] += " ".join(said)
    elif name in WORDS and said:
        page.say(" ".join(said))


def _table(rows: Iterator[str]) -> str:
    """The rows of a table with its cells apart."""
    mark, lines, format_over = "\t", [], False
    for row in rows:
        if row.startswith(".TE"):
            break
        if found := TABLE_OPTIONS.search(row):
            mark = found[1]
        if format_over:
            cells = [_plain(cell).removeprefix("T{").removeprefix("T}").strip() for cell in row.split(mark)]
            lines += [] if row[:1] in (".", "_", "=") else [" | ".join(filter(None, cells))]
        format_over = format_over or row.rstrip().endswith(".")
    return "\n".join(filter(None, lines))


def _plain(words: str) -> str:
    """Words without their fonts, with the signs that are written as escapes."""

    def sign(found: re.Match) -> str:
        if found[4]:
            return {"e": "\\", "-": "-", "~": "\u00a0", "0": " ", "'": "'", "`": "`", " ": " ", ".": "."}.get(
                found[4], ""
            )
        name = found[1] or found[2] or found[3]
        if re.fullmatch(r"u[0-9A-F]{4,5}", name):
            return chr(int(name[1:], 16))
        return SIGNS.get(name, "")

    return SIGN.sub(sign, FONT.sub("", words)).replace("\\", "")


MAN_PAGE = Format("man_page", claims, read)
