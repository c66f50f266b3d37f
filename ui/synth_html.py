"""HTML of the tab that makes corpora: what assets/html/synth_*.html are given."""

from core.corpus import diversity_metrics
from ui import templates
from ui.text import Say

COLOURS = {"green": "#009E73", "amber": "#E69F00", "red": "#D55E00", "collapsed": "#D55E00"}
OTHER_COLOUR = "#999999"
ENOUGH = 1000  # rows; fewer look more varied than they are
WIDE, HIGH = 400, 90  # of a plot
COLLAPSED = 0.03  # Vendi: rows that are one flat template in many disguises measured 0.015


def preview(say: Say, shown: dict) -> str:
    """What ten rows, the measurement and the price say; `shown` is what core.synth.preview returns."""
    return templates.render(say, "synth_preview", shown=shown, xray=_judged(shown["xray"], shown.get("lang", "ru")))


def first(say: Say, shown: dict) -> str:
    """Five rows before anything is pressed; `shown` is what core.synth.preview.first returns."""
    return templates.render(say, "synth_first", shown=shown)


def reading(say: Say, row: dict | None, number: int, counts: dict) -> str:
    """One row to keep or reject, or that all were read; `counts` are kept, rejected, of."""
    return templates.render(say, "synth_reading", row=row, number=number, counts=counts)


def job(say: Say, job: dict) -> str:
    """State, meter, counts, rate, and why it paused or failed; `job` is what synth_jobs.progress returns."""

    def reasons(counts: dict) -> str:
        return ", ".join(f"{say('corpora.reason.' + code)} — {count}" for code, count in counts.items())

    judged = job.get("xray") and _judged(job["xray"], job["request"].get("lang", "ru"))
    return templates.render(say, "synth_job", job=job, reasons=reasons, xray=judged, curve=_curve(job))


def _curve(job: dict) -> dict | None:
    """What the plot of new 3-grams and shapes is drawn from: a line of each, in a box of WIDE by HIGH."""
    points, new = job.get("curve") or [], job["progress"].get("new")
    if not new:
        return None
    end = points[-1]["tokens"] if points else 0
    lines = {}
    for name in ("grams", "shapes") if len(points) > 1 else ():
        top = max(point[name] for point in points) or 1
        places = (f"{WIDE * point['tokens'] / end:.0f},{HIGH * (1 - point[name] / top):.0f}" for point in points)
        lines[name] = {"points": " ".join(places), "top": top, "now": points[-1][name]}
    return {"new": new, "lines": lines, "end": end, "wide": WIDE, "high": HIGH}


def _judged(measured: dict, lang: str) -> dict:
    """{"verdict", "colour", "gauges"} of what diversity_metrics measured."""
    gauges, natural = (
        measured["gauges"],
        diversity_metrics.natural(measured.get("lang", "en" if lang == "en" else "ru")),
    )
    verdict, vendi = measured["verdict"], gauges.get("vendi")
    if vendi and vendi["light"] != "none" and vendi["value"] < COLLAPSED:
        verdict = "collapsed"
    elif verdict == "green" and measured.get("texts", 0) < ENOUGH:
        verdict = "few"
    shown = {
        name: {"value": gauges[name]["value"], "natural": natural[name]}
        for name in ("vendi", "compression")
        if name in gauges
    }
    return {"verdict": verdict, "colour": COLOURS.get(verdict, OTHER_COLOUR), "gauges": shown}
