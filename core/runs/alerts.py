"""Warnings from the events and curves of a run: stalled, no gradient, diverging, worse than the base, overfitting, plateau, forgetting."""

import json
import time

from core.runs import runs, terminate
from core.runs.forgetting import RED_LINE

FEWEST = 20  # points of the curve before it is judged
SILENCE_SECONDS = 180.0  # or the time of ten steps: evaluations and saving take time too
LOADING_SECONDS = 1800.0
RISE = 1.3  # of the smoothed loss over its lowest
FLAT = 0.005  # less gain than this from one quarter of the run to the next
UNLIKELIER = 0.3  # of a log-probability: by so much a reply has to become unlikelier
STILL = 2  # steps in a row without a gradient; a single one happens
OVER = 1.02  # of the evaluation loss over its best


def found(row: dict, curves: dict, forgetting: list[dict], now: float | None = None) -> list[tuple[str, dict]]:
    """[(name of the alert, its values)] of a run, the most urgent first.

    `row` is its row of core.runs.store, `curves` what store.curves() returns, `forgetting` rows of step and score.
    What was measured after the step of the weights that a run has kept does not concern them.
    """
    at_work, now = row["state"] in runs.AT_WORK, time.time() if now is None else now
    still = _nothing_moved(curves["steps"])
    if row["adapter_step"] is not None:
        curves, forgetting = _until(curves, row["adapter_step"]), _until(forgetting, row["adapter_step"])
    checks = (
        at_work and _stalled(row, now),
        at_work and _unanswered(row, now),
        still,
        _skipped(row),
        _diverging(curves["means"]),
        _worse(curves["evals"]) or _overfitting(curves["evals"], curves["means"]),
        at_work and _plateau(curves["means"]),
        _chosen_falls(curves),
        _forgot(forgetting),
    )
    return [alert for alert in checks if alert]


def _until(series: dict | list, step: int) -> dict | list:
    """The rows of series that are not after a step; `series` may be a dict of them."""
    if isinstance(series, dict):
        return {name: _until(part, step) for name, part in series.items()}
    return [row for row in series if row["step"] <= step]


def _stalled(row: dict, now: float) -> tuple[str, dict] | None:
    if row["disk_shortage"] or not row["last_event_at"]:
        return None
    patience = LOADING_SECONDS
    if row["stage"] == "training" and row["started_at"] and row["step"]:
        patience = max(SILENCE_SECONDS, 10 * (row["last_event_at"] - row["started_at"]) / row["step"])
    silent = now - row["last_event_at"]
    return ("stalled", {"seconds": silent}) if silent > patience else None


def _unanswered(row: dict, now: float) -> tuple[str, dict] | None:
    seconds = terminate.unanswered(row, now)
    return ("unanswered", {"seconds": seconds}) if seconds > terminate.PATIENCE_SECONDS else None


def _nothing_moved(steps: list[dict]) -> tuple[str, dict] | None:
    latest = steps[-STILL:]
    if len(latest) == STILL and all(step["grad_norm"] == 0 and (step["loss"] or 0) > 0 for step in latest):
        return "nothing_moved", {"step": latest[-1]["step"], "loss": latest[-1]["loss"]}
    return None


def _skipped(row: dict) -> tuple[str, dict] | None:
    """Evaluation samples or the forgetting meter that had too little memory at their latest turn."""
    if not row["skipped"]:
        return None
    what, step = next(iter(json.loads(row["skipped"]).items()))
    return f"skipped.{what}", {"step": step}


def _smoothed(means: list[dict]) -> list[tuple[int, float]]:
    """(step, mean of the point and the four before it)."""
    known = [(mean["step"], mean["loss"]) for mean in means if mean["loss"] is not None]
    losses = [loss for _, loss in known]
    return [(known[at][0], sum(losses[at - 4 : at + 1]) / 5) for at in range(4, len(known))]


def _diverging(means: list[dict]) -> tuple[str, dict] | None:
    smooth = _smoothed(means)
    if len(smooth) < FEWEST:
        return None
    step, lowest = min(smooth, key=lambda point: point[1])
    last = smooth[-1][1]
    if last > RISE * lowest and last > lowest + 0.2 and smooth[-5][0] > step:
        return "diverging", {"lowest": lowest, "step": step, "last": last}
    return None


def _plateau(means: list[dict]) -> tuple[str, dict] | None:
    losses = [mean["loss"] for mean in means if mean["loss"] is not None]
    if len(losses) < 4 * FEWEST:
        return None
    quarter = len(losses) // 4
    before, last = (sum(part) / quarter for part in (losses[-2 * quarter : -quarter], losses[-quarter:]))
    if abs(before - last) < FLAT * abs(before):
        return "plateau", {"steps": means[-1]["step"] - means[-2 * quarter]["step"], "loss": last}
    return None


def _worse(evals: list[dict]) -> tuple[str, dict] | None:
    known = [row for row in evals if row["eval_loss"] is not None]
    if len(known) < 2 or known[0]["step"] or known[0]["eval_loss"] > min(row["eval_loss"] for row in known):
        return None
    base, last = known[0]["eval_loss"], known[-1]
    return (
        ("worse", {"base": base, "step": last["step"], "last": last["eval_loss"]})
        if last["eval_loss"] > OVER * base
        else None
    )


def _overfitting(evals: list[dict], means: list[dict]) -> tuple[str, dict] | None:
    """Held-out loss that rises while the loss of the rows that are trained on falls; together they only diverge."""
    known = [(row["eval_loss"], row["step"]) for row in evals if row["eval_loss"] is not None]
    if len(known) < 3:
        return None
    best, step = min(known)
    since = [loss for loss, later in known if later > step]
    trained = [mean["loss"] for mean in means if mean["loss"] is not None and mean["step"] >= step]
    if len(trained) > 1 and trained[-1] > trained[0]:
        return None
    if len(since) >= 2 and all(loss > best for loss in since) and since[-1] > OVER * best:
        return "overfitting", {"best": best, "step": step, "last": since[-1]}
    return None


def _chosen_falls(curves: dict) -> tuple[str, dict] | None:
    """The chosen replies become much unlikelier while the margin grows: both sides fall, the rejected one faster."""
    parts = curves.get("preferences", {})
    seen = max(parts.values(), key=len, default=[]) if len(parts.get("eval", ())) < 2 else parts["eval"]
    # Of replies without pairs a measure lacks where none of a side was there.
    seen = [row for row in seen if None not in (row["chosen_logp"], row["margin"])]
    if len(seen) < 2:
        return None
    first, last = seen[0], seen[-1]
    before, now = first["chosen_logp"], last["chosen_logp"]
    if now < before - UNLIKELIER * abs(before) and last["margin"] > first["margin"]:
        return "chosen_falls", {"step": last["step"], "before": before, "now": now}
    return None


def _forgot(forgetting: list[dict]) -> tuple[str, dict] | None:
    if len(forgetting) < 2:
        return None
    base, last = forgetting[0]["score"], forgetting[-1]
    if last["score"] < base - RED_LINE:
        return "forgot", {"step": last["step"], "base": base, "last": last["score"]}
    return None
