"""HTML of the Corpus tab: a card, a row in full, a row as coloured tokens. Every text of a row is escaped here."""

import html
import unicodedata

from core.corpus import cleaning, corpus
from ui.text import Say

STYLE = """<style>
.row-text { white-space: pre-wrap; overflow-wrap: anywhere; font-family: var(--font-mono); font-size: 13px;
  line-height: 1.65; max-height: 520px; overflow-y: auto; border: 1px solid var(--border-color-primary);
  border-radius: var(--radius-sm); padding: 10px; }
.row-role { color: var(--body-text-color-subdued); font-family: var(--font); margin-top: 6px; }
.token { border-radius: 2px; box-decoration-break: clone; -webkit-box-decoration-break: clone; }
.token.learned { background: rgba(0, 158, 115, 0.22); }
.token.learned.odd { background: rgba(0, 158, 115, 0.36); }
.token.given { background: transparent; color: var(--body-text-color-subdued); }
.token.special { background: rgba(0, 114, 178, 0.18); outline: 1px solid rgba(0, 114, 178, 0.5); }
.token.special_learned { background: rgba(0, 158, 115, 0.36); outline: 1px solid rgba(0, 114, 178, 0.8); }
.token.cut { background: rgba(213, 94, 0, 0.2); text-decoration: line-through; }
.unseen { border: 1px solid rgba(204, 121, 167, 0.8); border-radius: 3px; padding: 0 3px; font-size: 10px;
  color: rgb(204, 121, 167); user-select: none; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; margin: 4px 0; }
.legend .token { padding: 0 6px; }
.plain-table { border-collapse: collapse; margin: 6px 0; font-size: 13px; }
.plain-table td { min-width: 110px; }
.plain-table td.whole { min-width: 0; }
.plain-table td:last-child:not(.whole) { min-width: min(240px, 60vw); }
.plain-frame { overflow-x: auto; margin-bottom: 8px; }
.plain-table td, .plain-table th { border: 1px solid var(--border-color-primary); padding: 3px 8px; text-align: left;
  vertical-align: top; overflow-wrap: anywhere; }
.plain-table th, .plain-table td.whole { overflow-wrap: normal; white-space: nowrap; }
</style>"""
MOST_SHOWN = 200_000  # characters of one row that are sent to the page
MOST_PIECES = 20_000
NAMES = {
    "\u200b": "ZWSP", "\u200c": "ZWNJ", "\u200d": "ZWJ", "\u00a0": "NBSP", "\u202f": "NNBSP", "\u00ad": "SHY",
    "\ufeff": "BOM", "\u2028": "LS", "\u2029": "PS", "\u200e": "LRM", "\u200f": "RLM", "\u2060": "WJ", "\r": "CR",
    "\ufffd": "U+FFFD",
}  # fmt: skip


def visible(text: str) -> str:
    """Escaped text in which invisible characters stand as badges."""
    if text.isascii() and text.isprintable():
        return html.escape(text)
    return "".join(_char(char) for char in text)


def _char(char: str) -> str:
    name = NAMES.get(char)
    if name is None and char not in "\n\t" and unicodedata.category(char) in ("Cc", "Cf", "Co", "Cn", "Zl", "Zp"):
        name = f"U+{ord(char):04X}"
    if name is not None:
        return f'<span class="unseen">{name}</span>'
    return html.escape(char)


def row(say: Say, row: dict) -> str:
    """One row in full: a text, or the turns of a chat under their roles."""
    if "text" in row:
        body = visible(row["text"][:MOST_SHOWN])
    else:
        body = "".join(
            f'<div class="row-role">{role_name(say, turn["role"])}</div>{visible(turn["content"][:MOST_SHOWN])}\n'
            for turn in row["messages"]
        )
    source = row.get("source") or {}
    place = f"{source.get('file', '')}: {source.get('line', '')}".strip(": ")
    return f'{STYLE}<div class="row-text" dir="auto">{body}</div><small>{html.escape(place)}</small>'


def role_name(say: Say, role: str) -> str:
    known = ("system", "user", "assistant", "tool")
    return say(f"corpora.role.{role}") if role in known else html.escape(role)


def tokens(say: Say, shown: dict) -> str:
    """A row as coloured tokens, with a legend, counts and what is wrong with it."""
    legend = "".join(
        f'<span><span class="token {kind}">{say(f"corpora.token.{kind}.sample")}</span> {say(f"corpora.token.{kind}")}</span>'
        for kind in ("learned", "given", "special", "special_learned", "cut")
    )
    counts = say(
        "corpora.token.counts",
        tokens=say.number(shown["tokens"]),
        learned=say.number(shown["learned"]),
        cut=say.number(shown["cut"]),
    )
    wrong = "".join(f'<div class="trouble">{say(f"corpora.warning.{code}")}</div>' for code in shown["warnings"])
    parts, odd = [], False
    for text, kind, count in shown["pieces"][:MOST_PIECES]:
        odd = not odd
        title = f' title="{say("corpora.token.several", count=count)}"' if count > 1 else ""
        said = visible(text).replace("\n", '<span class="unseen">↵</span>\n') if count else visible(text)
        parts.append(f'<span class="token {kind}{" odd" if odd else ""}"{title}>{said}</span>')
    more = "…" if len(shown["pieces"]) > MOST_PIECES else ""
    return (
        f'{STYLE}<div class="legend">{legend}</div><div>{counts}</div>{wrong}'
        f'<div class="row-text" dir="auto">{"".join(parts)}{more}</div>'
    )


def card(say: Say, card: dict) -> str:
    """What was read, what was set aside and why, what was repaired."""
    facts = [
        ("corpora.fact.rows", say.number(card["rows"], 9)),
        ("corpora.fact.kind", say(f"corpora.kind.{card.get('kind') or 'mixed'}")),
        ("corpora.fact.characters", say.number(card.get("characters", 0))),
        ("corpora.fact.duplicates", say.number(card.get("duplicates", 0), 9)),
        ("corpora.fact.formats", _counts(card.get("formats", {}), say, "corpora.format")),
        ("corpora.fact.encodings", _counts(card.get("encodings", {}))),
    ]
    line = "".join(f"<div><span>{say(key)}</span> {value}</div>" for key, value in facts if value)
    summed = say(
        "corpora.summed",
        rows_in=say.number(card.get("rows_in", 0), 9),
        kept=say.number(card.get("rows_kept", 0), 9),
        aside=say.number(card.get("rows_set_aside", 0), 9),
    )
    return f'{STYLE}<div class="facts">{line}</div><div>{summed}</div>{_repairs(say, card)}'


def _counts(counts: dict, say: Say | None = None, prefix: str = "") -> str:
    named = {say(f"{prefix}.{key}") if say and prefix else html.escape(key): count for key, count in counts.items()}
    return ", ".join(f"{name} ({count})" if count > 1 else name for name, count in list(named.items())[:8])


def _repairs(say: Say, card: dict) -> str:
    repairs = card.get("repairs") or {}
    if not repairs:
        return ""
    words = []
    for code, count in repairs.items():
        key = "line_encoding" if code.startswith("line in ") else code
        words.append(f"{say(f'corpora.repair.{key}')} — {say.number(count, 9)}")
    rows = "".join(
        f"<tr><td>{visible(one['before'])}</td><td>{visible(one['after'])}</td></tr>"
        for one in (card.get("repaired") or [])[:5]
    )
    head = f"<tr><th>{say('corpora.before')}</th><th>{say('corpora.after')}</th></tr>"
    table = f'<table class="plain-table">{head}{rows}</table>' if rows else ""
    return f"<div>{say('corpora.repaired')} {'; '.join(words)}.</div>{table}"


def set_aside(say: Say, card: dict, found: list[dict]) -> str:
    """The reasons with counts, and the first things that were set aside."""
    if not card.get("rows_set_aside"):
        return f"<div>{say('corpora.nothing_aside')}</div>"
    reasons = "; ".join(
        f"{say(f'corpora.reason.{code}')} — {say.number(count, 9)}" for code, count in card["reasons"].items()
    )
    rows = "".join(
        f"<tr><td>{html.escape(one['file'])}</td><td class='whole'>{html.escape(str(one['line']))}</td>"
        f"<td>{say('corpora.reason.' + one['reason'])}{': ' + html.escape(one['detail']) if one['detail'] else ''}</td>"
        f"<td>{visible(one['excerpt'])}</td></tr>"
        for one in found
    )
    names = ("corpora.column.file", "corpora.column.place", "corpora.column.reason", "corpora.column.excerpt")
    head = "".join(f"<th>{say(key)}</th>" for key in names)
    return f"{STYLE}<div>{reasons}.</div>{_framed(f'<tr>{head}</tr>{rows}')}"


def _framed(rows: str) -> str:
    """A table that scrolls within itself where the page is narrow."""
    return f'<div class="plain-frame"><table class="plain-table">{rows}</table></div>'


def progress(say: Say, done: int, total: int, rows: int, seconds: float) -> str:
    """A bar with the rate and the time left."""
    share = done / total if total else 0
    rate = done / 2**20 / seconds if seconds > 0.2 else 0
    left = say.duration((total - done) / (done / seconds)) if done and seconds > 1 else "…"
    words = say(
        "corpora.progress", rows=say.number(rows, 9), share=round(100 * share), rate=say.number(rate), left=left
    )
    return f'<div class="meter"><div style="width:{100 * share:.1f}%"></div></div><div>{words}</div>'


def trouble(say: Say, sentence: str) -> str:
    """A sentence about what went wrong."""
    return f'<div class="trouble">{html.escape(sentence)}</div>'


def look(say: Say, seen: dict) -> str:
    """What a first look into files found: formats, encodings, and the first rows as they will be."""
    files = "".join(
        f"<tr><td>{html.escape(one['file'])}</td><td>{say('corpora.format.' + one['format'])}</td>"
        f"<td>{html.escape(one['encoding'])}</td></tr>"
        for one in seen["files"][:10]
    )
    names = ("corpora.column.file", "corpora.fact.formats", "corpora.fact.encodings")
    head = "".join(f"<th>{say(key).rstrip(':')}</th>" for key in names)
    rows = "".join(f"<tr><td>{_short(say, one['row'])}</td></tr>" for one in seen["rows"])
    body = f"<div>{say('corpora.look.rows')}</div><table class='plain-table'>{rows}</table>" if rows else ""
    if not rows:
        body = trouble(say, say("corpora.look.none"))
    return f'{STYLE}<table class="plain-table"><tr>{head}</tr>{files}</table>{body}'


def _short(say: Say, row: dict) -> str:
    if "text" in row:
        return visible(row["text"][:300])
    return "<br>".join(
        f"<b>{role_name(say, turn['role'])}:</b> {visible(turn['content'][:200])}" for turn in row["messages"][:4]
    )


def stage(say: Say, name: str, done: int, total: int) -> str:
    """A bar for one stage of the report."""
    share = done / total if total else 0
    words = say(f"corpora.stage.{name}")
    return f'<div class="meter"><div style="width:{100 * share:.1f}%"></div></div><div>{words}</div>'


LIGHTS = {"green": "#009E73", "amber": "#E69F00", "red": "#D55E00", "none": "#999999"}


def report(say: Say, report: dict) -> str:
    """The gauges with their lights, what the corpus weighs in tokens, and what the checks found."""
    xray = report["xray"]
    rows = "".join(
        f'<tr><td class="whole"><span style="color:{LIGHTS[one["light"]]}">●</span> '
        f"{say('corpora.light.' + one['light'])}</td>"
        f"<td>{say(f'corpora.gauge.{name}')}</td><td class='whole'>{say.number(one['value'])}</td>"
        f"<td class='whole'>{say.number(report['natural'].get(name, 0))}</td>"
        f"<td>{say(f'corpora.gauge.{name}.means')}{_quoted(say, one)}</td></tr>"
        for name, one in xray["gauges"].items()
    )
    names = (
        "corpora.xray.light",
        "corpora.xray.gauge",
        "corpora.xray.here",
        f"corpora.xray.natural.{xray.get('lang', 'ru')}",
        "corpora.xray.means",
    )
    head = "".join(f"<th>{say(key)}</th>" for key in names)
    verdict = say(f"corpora.verdict.{xray['verdict']}", texts=say.number(xray["texts"], 9))
    languages = ", ".join(f"{say(f'corpora.lang.{code}')} ({count})" for code, count in report["languages"].items())
    found = [f"{say('corpora.languages')} {languages}"]
    found += [
        f"{say(f'corpora.personal.{kind}')} — {say.number(count, 9)}"
        for kind, count in report.get("personal", {}).items()
    ]
    return (
        f"{STYLE}<b>{verdict}</b>{_framed(f'<tr>{head}</tr>{rows}')}"
        f"{_weight(say, report.get('tokens'))}<div>{'; '.join(found)}.</div>"
    )


def _quoted(say: Say, gauge: dict) -> str:
    if not gauge["example"] or gauge["value"] <= 0:
        return ""
    return " " + say("text.quoted", text=html.escape(gauge["example"]))


def _weight(say: Say, tokens: dict | None) -> str:
    if not tokens:
        return f"<div>{say('corpora.no_model')}</div>"
    facts = [(key, say.number(tokens[key])) for key in ("tokens", "learned", "cut", "mean", "median", "p95", "longest")]
    facts.append(("over_max_length", f"{say.number(100 * tokens['over_max_length'])} %"))
    facts.append(("characters_per_token", say.number(tokens["characters_per_token"])))
    if tokens.get("epoch_seconds"):
        facts.append(("epoch", say.duration(tokens["epoch_seconds"])))
    line = "".join(f"<div><span>{say(f'corpora.tokens.{key}')}</span> {value}</div>" for key, value in facts)
    wrong = "".join(
        f'<div class="trouble">{say(f"corpora.wrong.{code}", rows=say.number(count, 9))}</div>'
        for code, count in tokens["wrong"].items()
    )
    note = say("corpora.tokens.estimated", rows=say.number(tokens["measured"], 9)) if tokens["estimated"] else ""
    return f'<div class="facts">{line}</div><div>{note}</div>{wrong}'


def pairs(say: Say, found: list[dict]) -> str:
    """Pairs of near copies with what differs in them."""
    if not found:
        return f"<div>{say('corpora.no_copies')}</div>"
    rows = ""
    for pair in found:
        said = "".join(_change(sign, words) for sign, words in cleaning.difference(*pair["texts"]))
        kind = say(f"corpora.flag.{pair['kind']}")
        alike = say("corpora.alike", share=round(100 * pair["similarity"]))
        places = f"<td class='whole'>{pair['first'] + 1} ↔ {pair['copy'] + 1}</td>"
        rows += f"<tr>{places}<td>{kind}, {alike}</td><td>{said}</td></tr>"
    return f"{STYLE}<div>{say('corpora.pairs')}</div>{_framed(rows)}"


def _change(sign: str, words: str) -> str:
    tag = {"=": "span", "-": "del", "+": "ins"}[sign]
    return f"<{tag}>{visible(words)}</{tag}> "


def choices(say: Say) -> list[tuple[str, str]]:
    """The corpora as choices: what is shown and the id."""
    cards = corpus.listed()
    return [(say("corpora.choice", name=card["name"], rows=say.number(card["rows"], 9)), card["id"]) for card in cards]
