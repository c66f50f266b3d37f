"""The arena's lines and tables as HTML: progress of the answers, win rate with its interval, topics, numbers."""

from html import escape
from pathlib import Path

from core import events, jobs
from ui.text import Say

NUMBERS = ("held_out_loss", "perplexity", "tokens", "cut", "repetition")
SHARES = ("cut", "repetition")


def status(say: Say, directory: Path, request: dict, answered: int, voted: int) -> str:
    """How far the answers and the votes are; no names: whoever votes must not know."""
    now, count = jobs.state(directory), len(request["prompts"])
    shown = "waiting" if now == "running" and (events.last(directory) or {}).get("event") == "waiting" else now
    values = {"state": say(f"arena.state.{shown}"), "answered": answered, "voted": voted, "count": count}
    line = f'<p class="facts">{say("arena.status", **values)}</p>'
    if answered and voted >= count:
        line += f"<p>{say('arena.all_voted')}</p>"
    if now == "failed":
        told = jobs.progress(directory)["failed"]
        line += f'<p class="trouble">{escape(say.worded(told["trouble"], told["values"], told["message"]))}</p>'
    return line


def verdict(say: Say, request: dict, found: dict, measured: dict, judges: list) -> str:
    """Everything that is known about b against a: of each voter, then the numbers."""
    titles = {side: escape(title) for side, title in request["titles"].items()}
    parts = [f"<h3>A: {titles['a']}<br>B: {titles['b']}</h3>"]
    if not any(one["votes"] for one in found.values()):
        parts.append(f"<p>{say('arena.no_votes')}</p>")
    for voter, one in found.items():
        name = say("arena.person") if voter == "person" else say("arena.judged", name=escape(voter.partition(":")[2]))
        parts.append(f"<h4>{name}</h4>{_votes(say, one)}")
    for asked, state, seen in judges:
        done = seen.get("progress", {"done": 0, "total": 0})
        values = {"name": escape(asked["model"]), "state": say(f"arena.state.{state}")}
        parts.append(f"<p>{say('arena.judge.status', **values, done=done['done'], total=done['total'])}</p>")
        if state == "failed":
            told = seen["failed"]
            parts.append(
                f'<p class="trouble">{escape(say.worded(told["trouble"], told["values"], told["message"]))}</p>'
            )
    return "".join([*parts, _numbers(say, measured)])


def _votes(say: Say, one: dict) -> str:
    rate = "—" if one["rate"] is None else say.percent(round(one["rate"], 2))
    values = {"rate": rate, "low": say.percent(round(one["low"], 2)), "high": say.percent(round(one["high"], 2))}
    lines = [say("arena.rate", **values), say("arena.counts", **{k: one[k] for k in ("wins", "losses", "ties", "bad")})]
    if one["split"]:
        lines.append(say("arena.split", count=one["split"]))
    if one["more"] is None:
        lines.append(say("arena.more.never"))
    elif one["more"]:
        lines.append(say("arena.more", count=say.number(one["more"], 4)))
    else:
        lines.append(say("arena.sure.b" if one["low"] > 0.5 else "arena.sure.a"))
    if one["length"]["warns"]:
        lines.append(f"<b>{say('arena.length', longer=one['length']['longer'], count=one['length']['count'])}</b>")
    body = _bar(say, one) + "".join(f"<p>{line}</p>" for line in lines)
    if len(one["topics"]) > 1:
        head = "".join(
            f"<th>{say(f'arena.{key}')}</th>" for key in ("topic", "b_better", "a_better", "ties", "interval")
        )
        rows = "".join(_topic(say, name, topic) for name, topic in one["topics"].items())
        body += f'<table class="arena"><tr>{head}</tr>{rows}</table>'
    return body


def _bar(say: Say, one: dict) -> str:
    """The interval on a line from 0 to 100 %, with one half marked."""
    left, width = 100 * one["low"], 100 * (one["high"] - one["low"])
    mark = "position:absolute;top:0;bottom:0;width:2px;background:var(--body-text-color{});left:{:.1f}%"
    span = f"position:absolute;top:5px;bottom:5px;left:{left:.1f}%;width:{width:.1f}%;background:var(--color-accent)"
    point = "" if one["rate"] is None else f'<div style="{mark.format("", 100 * one["rate"])}"></div>'
    return (
        f'<div style="position:relative;height:20px;max-width:480px;background:var(--border-color-primary)" '
        f'role="img" aria-label="{say.percent(round(one["low"], 2))} – {say.percent(round(one["high"], 2))}">'
        f'<div style="{span}"></div><div style="{mark.format("-subdued", 50)}"></div>{point}</div>'
    )


def _topic(say: Say, name: str, one: dict) -> str:
    interval = (
        f"{say.percent(round(one['low'], 2))} – {say.percent(round(one['high'], 2))}"
        if one["wins"] + one["losses"]
        else "—"
    )
    cells = (escape(name), one["wins"], one["losses"], one["ties"] + one["bad"], interval)
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _numbers(say: Say, measured: dict) -> str:
    rows = []
    for key in NUMBERS:
        if any(measured[side][key] is not None for side in "ab"):
            cells = [_cell(say, key, measured[side][key]) for side in "ab"]
            rows.append(f"<tr><td>{say(f'arena.{key}')}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    for script in ("cyrillic", "latin", "cjk"):
        shares = [measured[side]["languages"].get(script, 0) for side in "ab"]
        if any(shares):
            cells = "".join(f"<td>{say.percent(round(share, 2))}</td>" for share in shares)
            rows.append(f"<tr><td>{say(f'arena.script.{script}')}</td>{cells}</tr>")
    if any(measured[side]["forgetting"] for side in "ab"):
        cells = [measured[side]["forgetting"] for side in "ab"]
        shown = "".join(f"<td>{say.number(cell['change']) if cell else '—'}</td>" for cell in cells)
        rows.append(f"<tr><td>{say('arena.forgetting')}</td>{shown}</tr>")
    head = f"<tr><th>{say('arena.numbers')}</th><th>A</th><th>B</th></tr>"
    return f'<table class="arena">{head}{"".join(rows)}</table>'


def _cell(say: Say, key: str, value: float | None) -> str:
    if value is None:
        return "—"
    return say.percent(round(value, 2)) if key in SHARES else say.number(value)
