"""HTML of the tab that makes corpora. Every text of a row is escaped here."""

import html

from core.corpus import diversity_metrics
from ui.text import Say

LIGHTS = {"green": "#009E73", "amber": "#E69F00", "red": "#D55E00", "none": "#999999"}
ENOUGH = 1000  # rows; fewer look more varied than they are
STYLE = """<style>
.synth-row { white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid var(--border-color-primary);
  border-radius: var(--radius-sm); padding: 8px 10px; margin: 6px 0; line-height: 1.5; }
.synth-role { color: var(--body-text-color-subdued); font-size: 12px; }
.synth-costs { border-collapse: collapse; margin: 6px 0; font-size: 13px; }
.synth-costs td, .synth-costs th { border: 1px solid var(--border-color-primary); padding: 3px 8px; text-align: left; }
.synth-truth { color: var(--body-text-color-subdued); margin: 4px 0 8px; }
</style>"""


def trouble(sentence: str) -> str:
    return f'<div class="trouble">{html.escape(sentence)}</div>'


def preview(say: Say, found: dict) -> str:
    """What ten rows, the measurement and the price say."""
    rows = "".join(f'<div class="synth-row" dir="auto">{row(say, one)}</div>' for one in found["rows"])
    lints = "".join(
        f"<div>{html.escape(lint(say, one))}</div>"
        for one in found.get("lint", [])
        if one["code"] in ("unreachable", "dominating")
    )
    aside = "".join(
        f"<div>{say('corpora.reason.' + one['reason'])}: {html.escape(one['excerpt'])}</div>"
        for one in found.get("aside", [])
    )
    return (
        f"{STYLE}{costs(say, found)}{xray(say, found['xray'], found.get('lang', 'ru'))}{distinct(say, found.get('distinct'))}{lints}{aside}"
        f"<h4>{say('synth.rows')}</h4>{rows}"
    )


def row(say: Say, row: dict) -> str:
    if "text" in row:
        return html.escape(row["text"])
    return "\n".join(
        f'<span class="synth-role">{say("corpora.role." + turn["role"])}</span>\n{html.escape(turn["content"])}'
        for turn in row["messages"]
    )


def costs(say: Say, found: dict) -> str:
    """The table of volumes: rows, hours, gigabytes, an epoch, what it is good for."""
    epoch = found.get("epoch")
    names = ["volume", "rows", "time", "size", *(["epoch"] if epoch else []), "good_for"]
    head = "".join(f"<th>{say(f'synth.cost.{name}')}</th>" for name in names)
    lines = ""
    for at, one in enumerate(found["costs"]):
        but = [say("synth.cost.few_texts")] if not one["enough_texts"] else []
        but += [say("synth.cost.no_room")] if not one["fits"] else []
        good = say(f"synth.good.{one['good_for']}") + (f" — <b>{', '.join(but)}</b>" if but else "")
        cells = [say.number(one["tokens"], 12), say.number(one["rows"], 12), say.duration(max(1, one["seconds"]))]
        cells += [size(say, one["gigabytes"])]
        cells += [say.duration(max(1, epoch["seconds"][at]))] if epoch else []
        lines += "<tr>" + "".join(f"<td>{cell}</td>" for cell in (*cells, good)) + "</tr>"
    speed = say("synth.cost.speed", rate=say.number(found["tokens_per_second"]), row=say.number(found["tokens_a_row"]))
    speed += " " + say("synth.cost.card", card=html.escape(epoch["card"])) if epoch else ""
    if found.get("one_by_one_tokens_per_second"):
        both = {"batch": found["batch_tokens_per_second"], "alone": found["one_by_one_tokens_per_second"]}
        speed += " " + say("synth.cost.alone", **{name: say.number(value) for name, value in both.items()})
    speed += "" if found["exact"] else " " + say("synth.cost.estimated")
    truth = f"<div class='synth-truth'>{say('synth.cost.grammar')}</div>" if found.get("distinct") else ""
    return f"<table class='synth-costs'><tr>{head}</tr>{lines}</table><div>{speed}</div>{truth}"


def size(say: Say, gigabytes: float) -> str:
    units = (say("unit.gb"), say("unit.mb"))
    small = gigabytes < 0.1
    return f"{say.number(max(0.1, 1000 * gigabytes) if small else gigabytes)}\u00a0{units[small]}"


def xray(say: Say, found: dict, lang: str = "ru") -> str:
    """The verdict in plain words, with the two gauges that show a template best."""
    values, natural = found["gauges"], diversity_metrics.natural(found.get("lang", "en" if lang == "en" else "ru"))
    verdict = "collapsed" if collapsed(found) else found["verdict"]
    if verdict == "green" and found.get("texts", 0) < ENOUGH:
        verdict = "few"
    light = {"collapsed": "red", "few": "none"}.get(verdict, verdict)
    said = f'<span style="color:{LIGHTS[light]}">●</span> <b>{say(f"synth.verdict.{verdict}")}</b>'
    numbers = [
        say(f"synth.gauge.{name}", value=say.number(values[name]["value"]), natural=say.number(natural[name]))
        for name in ("vendi", "compression")
        if name in values
    ]
    return f"<div>{said}</div><div>{' '.join(numbers)}</div>"


def collapsed(found: dict) -> bool:
    """Whether the rows are one flat template in many disguises: such corpora measured a Vendi of 0.015."""
    vendi = found["gauges"].get("vendi")
    return bool(vendi) and vendi["light"] != "none" and vendi["value"] < 0.03


def distinct(say: Say, found: dict | None) -> str:
    if not found:
        return ""
    if found["exact"]:
        return f"<div>{say('synth.distinct.exact', texts=say.number(found['texts'], 12))}</div>"
    return f"<div>{say('synth.distinct.about', log10=say.number(found['log10']))}</div>"


def lint(say: Say, one: dict) -> str:
    if one["code"] == "unreachable":
        return say("synth.lint.unreachable", rule=one["rule"])
    return say("synth.lint.dominating", rule=one["rule"], text=one["text"], share=say.number(100 * one["share"]))


def job(say: Say, found: dict) -> str:
    """State, meter, counts, rate, and why it paused or failed."""
    now, done = found["state"], found["progress"]
    parts = [f'<div class="state">{html.escape(found["request"]["name"])} — {say(f"synth.state.{now}")}</div>']
    if found.get("waits_for"):
        parts.append(f"<div>{say('synth.waiting', name=html.escape(found['waits_for']))}</div>")
    if done:
        share = min(100.0, 100 * done["tokens"] / max(1, done["target"]))
        parts.append(f'<div class="meter"><div style="width:{share:.1f}%"></div></div>')
        counts = {name: say.number(done[name], 12) for name in ("tokens", "target", "rows", "dropped")}
        near = (done.get("copies") or {}).get("near", 0)
        shown = say("synth.progress", **counts, aside=sum(done["aside"].values()))
        parts.append(f"<div>{shown}{say('synth.near', near=say.number(near, 12)) if near else ''}</div>")
        if now == "running" and not found.get("waits_for") and done.get("seconds_left") is not None:
            left = say.duration(max(1, done["seconds_left"]))
            parts.append(f"<div>{say('synth.rate', rate=say.number(done['tokens_per_second']), left=left)}</div>")
        if done["aside"]:
            parts.append(f"<div>{say('synth.aside', reasons=reasons(say, done['aside']))}</div>")
    ending = found["ending"]
    if ending.get("event") == "paused":
        aside = reasons(say, ending.get("aside", {}))
        if ending["reason"] in ("novelty", "bad_replies", "asked"):
            parts.append(f"<div>{say('synth.reason.' + ending['reason'], **_aside(ending, aside))}</div>")
        else:
            parts.append(trouble(say.worded(ending["reason"], ending.get("values"), ending.get("message", ""))))
    if ending.get("event") == "failed":
        parts.append(trouble(say.worded(ending["trouble"], ending.get("values"), ending["message"])))
    if found.get("xray"):
        parts.append(xray(say, found["xray"], found["request"].get("lang", "ru")))
    return STYLE + "".join(parts)


def reasons(say: Say, counts: dict) -> str:
    return ", ".join(f"{say('corpora.reason.' + code)} — {count}" for code, count in counts.items())


def _aside(ending: dict, aside: str) -> dict:
    return {"aside": aside} if ending["reason"] == "bad_replies" else {}
