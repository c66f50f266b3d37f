"""HTML of the Corpus tab, by the templates assets/html/corpora_*.html: every text of a row is escaped there."""

import re
import unicodedata

from markupsafe import Markup, escape

from core.corpus import cleaning, corpus, preview, turns
from ui.templates import macro, render
from ui.text import Say

MOST_SHOWN = 200_000  # characters of one row that are sent to the page
MOST_PIECES = 20_000
NAMES = {
    "\u200b": "ZWSP", "\u200c": "ZWNJ", "\u200d": "ZWJ", "\u00a0": "NBSP", "\u202f": "NNBSP", "\u00ad": "SHY",
    "\ufeff": "BOM", "\u2028": "LS", "\u2029": "PS", "\u200e": "LRM", "\u200f": "RLM", "\u2060": "WJ", "\r": "CR",
    "\ufffd": "U+FFFD",
}  # fmt: skip
LIGHTS = {"green": "#009E73", "amber": "#E69F00", "red": "#D55E00", "none": "#999999"}
_BADGE = '<span class="unseen">{}</span>'
_UNUSUAL = re.compile(r"[^\n\t -~]")


def visible(text: str, line_ends: bool = False) -> Markup:
    """Escaped text in which invisible characters stand as badges, and line ends too where that is wanted."""
    marked = _UNUSUAL.sub(_badge, str(escape(text)))
    return Markup(marked.replace("\n", _BADGE.format("↵") + "\n") if line_ends else marked)


def _badge(match: re.Match) -> str:
    char = match.group()
    name = NAMES.get(char)
    if name is None and unicodedata.category(char) in ("Cc", "Cf", "Co", "Cn", "Zl", "Zp"):
        name = f"U+{ord(char):04X}"
    return char if name is None else _BADGE.format(name)


def row(say: Say, row: dict) -> Markup:
    """One row in full: a text, or the turns of a chat under their roles."""
    source = row.get("source") or {}
    place = f"{source.get('file', '')}: {source.get('line', '')}".strip(": ")
    longest = max(map(len, turns.texts(row)))
    return render(say, "corpora_row", row=row, place=place, most=MOST_SHOWN, longest=longest, visible=visible)


def tokens(say: Say, shown: dict) -> Markup:
    """A row as coloured tokens, as core.corpus.preview gives them."""
    return render(say, "corpora_tokens", shown=shown, kinds=preview.KINDS, most=MOST_PIECES, visible=visible)


def card(say: Say, card: dict) -> Markup:
    """What was read, what was set aside and why, what was repaired."""
    examples = [(visible(line["before"]), visible(line["after"])) for line in (card.get("repaired") or [])[:5]]
    return render(say, "corpora_card", card=card, examples=examples)


def set_aside(say: Say, card: dict, records: list[dict]) -> Markup:
    """The reasons with counts, and some of the things that were set aside."""
    rows = []
    for record in records:
        reason = say(f"corpora.reason.{record['reason']}") + (f": {record['detail']}" if record["detail"] else "")
        rows.append((record["file"], _whole(record["line"]), reason, visible(record["excerpt"])))
    head = [say(f"corpora.column.{name}") for name in ("file", "place", "reason", "excerpt")]
    return render(say, "corpora_aside", card=card, head=head, rows=rows)


def _whole(text: object) -> Markup:
    return Markup('<span class="whole">{}</span>').format(text)


def progress(say: Say, done: int, total: int, rows: int, seconds: float) -> Markup:
    """A bar with the rate and the time left."""
    share = done / total if total else 0
    rate = done / 2**20 / seconds if seconds > 0.2 else 0
    left = say.duration((total - done) / (done / seconds)) if done and seconds > 1 else "…"
    words = say(
        "corpora.progress", rows=say.number(rows, 9), share=round(100 * share), rate=say.number(rate), left=left
    )
    return render(say, "corpora_progress", share=share, words=words)


def stage(say: Say, name: str, done: int, total: int) -> Markup:
    """A bar for one stage of the report."""
    return render(say, "corpora_progress", share=done / total if total else 0, words=say(f"corpora.stage.{name}"))


def trouble(sentence: str) -> Markup:
    """A sentence about what went wrong."""
    return macro("trouble", sentence)


def look(say: Say, seen: dict) -> Markup:
    """What a first look into files found: formats, encodings, and the first rows as they will be."""
    files = [(file["file"], say(f"corpora.format.{file['format']}"), file["encoding"]) for file in seen["files"][:10]]
    names = ("corpora.column.file", "corpora.fact.formats", "corpora.fact.encodings")
    head = [say(key).rstrip(":") for key in names]
    return render(say, "corpora_look", seen=seen, head=head, files=files, visible=visible)


def report(say: Say, report: dict) -> Markup:
    """The gauges with their lights, what the corpus weighs in tokens, and what the checks found."""
    return render(say, "corpora_report", report=report, xray=report["xray"], tokens=report.get("tokens"), lights=LIGHTS)


def pairs(say: Say, pairs: list[dict], total: int) -> Markup:
    """Some of so many pairs of near copies, with what differs in them."""
    tags = {"=": "span", "-": "del", "+": "ins"}
    changes = [[(tags[sign], words) for sign, words in cleaning.difference(*pair["texts"])] for pair in pairs]
    return render(say, "corpora_pairs", pairs=list(zip(pairs, changes, strict=True)), total=total, visible=visible)


def choices(say: Say) -> list[tuple[str, str]]:
    """The corpora as choices: what is shown and the id."""
    cards = corpus.listed()
    return [
        (say("corpora.choice", name=card["name"], rows=say.number(card.get("rows") or 0, 9)), card["id"])
        for card in cards
    ]
