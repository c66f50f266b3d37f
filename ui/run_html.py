"""A run in HTML: its state and figures, what was asked of it, what is wrong, its replies over the steps, its disk."""

import difflib
import html
import json
import re
import time

from core import paths
from core.runs import alerts, disk_space, runs
from core.runs import diagnosis as runs_diagnosis
from core.runs import requests as runs_requests
from ui import run_data
from ui.text import Say


def status(say: Say, row: dict, warnings: list[tuple[str, dict]]) -> str:
    """State, bar, figures, requests and remarks."""
    state, share = (
        say(f"state.{row['state']}"),
        row["step"] / row["max_steps"] if row["max_steps"] and row["step"] else 0,
    )
    at_work = row["state"] in runs.AT_WORK
    if at_work and row["stage"]:
        state += f": {say('stage.' + row['stage'])}"
        if row["stage"] in ("download", "convert", "tokens"):
            share = (row["stage_done"] or 0) / row["stage_total"] if row["stage_total"] else 0
    if at_work and row["disk_shortage"]:
        state += f" · {say('runs.waits')}"
    bar = f'<div class="meter"><div style="width:{100 * share:.1f}%"></div></div>'
    facts = "".join(f"<div>{fact}</div>" for fact in _facts(say, row))
    remarks = "".join(f'<p class="trouble">{html.escape(remark)}</p>' for remark in _remarks(say, row, warnings))
    asked = "".join(f'<p class="asked">{html.escape(line)}</p>' for line in requests(say, row))
    found = f'<p class="asked">{html.escape(run_data.line(say, row["id"]))}</p>'
    return f'<div class="state">{state}</div>{bar}<div class="facts">{facts}</div>{asked}{remarks}{found}'


def _facts(say: Say, row: dict):
    if row["state"] in runs.AT_WORK and row["stage"] in ("download", "convert"):
        yield f"{say.number((row['stage_done'] or 0) / 1e6)}\u00a0{say('unit.mb')}"
    if row["max_steps"]:
        yield f"<span>{say('live.step')}</span> {row['step'] or 0} / {row['max_steps']}"
    if row["seconds_left"] and row["state"] in runs.ACTIVE:
        yield f"<span>{say('live.left')}</span> {say.duration(row['seconds_left'])}"
    if row["duration_seconds"]:
        yield f"<span>{say('live.took')}</span> {say.duration(row['duration_seconds'])}"
    if row["loss"] is not None:
        yield f"<span>{say('live.loss')}</span> {say.number(row['loss'])}"
    if row["base_eval_loss"] is not None:
        change = f"{say.number(row['base_eval_loss'])} → {say.number(row['eval_loss'])}"
        if row["adapter_step"]:
            change += f" ({say('runs.kept_step', step=row['adapter_step'])})"
        yield f"<span>{say('live.eval')}</span> {change}"
    if row["tokens_per_second"]:
        yield f"<span>{say('live.speed')}</span> {say.number(row['tokens_per_second'])}"
    if row["memory_gib"]:
        memory = f"{say.number(row['memory_gib'])}\u00a0{say('unit.gib')}"
        if (
            row["predicted_memory_bytes"] and row["device"] != "cpu"
        ):  # a forecast is of a card's memory, not of a process's
            memory += f" ({say('live.predicted')} {say.number(row['predicted_memory_bytes'] / 2**30)})"
        yield f"<span>{say('live.memory')}</span> {memory}"
    if row["checkpoint_step"]:
        yield f"<span>{say('runs.checkpoint')}</span> {row['checkpoint_step']}"


def requests(say: Say, row: dict):
    """What was asked of the run last, and when it took effect."""
    asked = runs_requests.asked(paths.run(row["id"]))
    latest = [(asked["request"], asked["asked"])] if asked.get("request") in (*runs_requests.ENDS, "resume") else []
    latest += list(runs_requests.wishes(paths.run(row["id"])).items())
    if not latest or row["state"] not in (*runs.AT_WORK, "queued", "paused", "stopped"):
        return
    request, when = max(latest, key=lambda one: one[1])
    what, at = say(f"runs.asked.{request}"), clock(when)
    began = (
        row["started_at"] if request == "resume" else row["ended_at"]
    )  # before the first step an end is all that is heard
    if row["request"] == request and row["requested_at"] == when:
        yield say("runs.heard", what=what, asked=at, heard=clock(row["request_seen_at"]), step=row["request_seen_step"])
    elif row["state"] == "queued":
        yield say("runs.its_turn", what=what, asked=at)
    elif request not in runs_requests.WISHES and (began or 0) >= when:
        yield say("runs.done", what=what, asked=at, done=clock(began))
    elif row["state"] in runs.AT_WORK:
        yield say("runs.not_heard", what=what, asked=at)


def clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))


def _remarks(say: Say, row: dict, warnings: list[tuple[str, dict]]):
    if row["disk_shortage"] and row["state"] in runs.AT_WORK:
        short = json.loads(row["disk_shortage"])
        yield say("runs.waits.help", need=_gb(say, short["needed"]), free=_gb(say, short["free"]))
    if row["state"] == "queued" and disk_space.is_full():
        yield say("runs.full")
    if row["error_message"] and row["state"] == "failed":
        yield trouble(say, row)
    if row["state"] == "lost":
        yield say("state.lost.help")
    if row["state"] == "paused":
        yield say("runs.paused.help", step=row["step"] or 0)
    if row["stopped_early"]:
        yield say("runs.stopped_early", step=row["step"], best=row["best_step"])
    for name, values in warnings:
        yield alert(say, name, values)
    left_out = json.loads(row["rows_left_out"] or "{}")
    if left_out:
        reasons = ", ".join(f"{say('reason.' + reason)}: {count}" for reason, count in left_out.items())
        yield say("live.left_out", count=sum(left_out.values()), reasons=reasons)


def alert(say: Say, name: str, values: dict) -> str:
    shown = {key: say.duration(v) if key == "seconds" else say.number(v) for key, v in values.items() if key != "step"}
    return say(f"alert.{name}", **shown, **({"step": values["step"]} if "step" in values else {}))


def trouble(say: Say, row: dict) -> str:
    """The words of a run's trouble; those that an older version wrote without some values stay in English."""
    try:
        return say.worded(row["error"], json.loads(row["error_values"] or "null"), row["error_message"])
    except KeyError:
        return row["error_message"]


def remedy(say: Say, found: dict | None) -> str:
    """What the doctor says: the smallest change, and from where the run would go on."""
    if not found:
        return ""
    lines = []
    if found["changes"]:
        changes = ", ".join(f"{name} → {value}" for name, value in found["changes"].items())
        lines.append(say("doctor.change", changes=changes))
        if found["fits"] and "needs" in found:
            figures = {name: _gib(say, found[name]) for name in ("needs", "after", "free")}
            lines.append(say("doctor.fits", **figures))
        elif found["fits"] is False:
            lines.append(say("doctor.too_little"))
    elif found["fits"] is False:
        lines.append(say("doctor.nothing"))
    lines.append(say("doctor.from_checkpoint", step=found["step"]) if found["step"] else say("doctor.from_start"))
    return " ".join(lines)


def film(say: Say, shots: list[dict], kept: list[int]) -> str:
    """The replies to each prompt, side by side over the steps, with what changed since the one before marked."""
    if not shots:
        return f'<p class="subdued">{say("film.empty")}</p>'
    strips: dict[str, list[dict]] = {}
    for shot in shots:
        strips.setdefault(shot["prompt"], []).append(shot)
    return "".join(
        f'<h4>{html.escape(prompt)}</h4><div class="film">{"".join(_frames(say, frames, kept))}</div>'
        for prompt, frames in strips.items()
    )


def _frames(say: Say, frames: list[dict], kept: list[int]):
    before = None
    for frame in frames:
        title = say("film.base") if frame["step"] == 0 else say("film.step", step=frame["step"])
        if frame["step"] in kept:
            title += f" · {say('film.kept_checkpoint')}"
        text = html.escape(frame["reply"]) if before is None else marked(before, frame["reply"])
        yield f"<section><b>{title}</b><p>{text}</p></section>"
        before = frame["reply"]


def marked(before: str, after: str) -> str:
    """A reply in HTML with the words that the one before did not have there in <mark>."""
    one, two = (re.findall(r"\s+|[^\s]+", text) for text in (before, after))
    parts = []
    for kind, _, _, start, end in difflib.SequenceMatcher(None, one, two, autojunk=False).get_opcodes():
        words = html.escape("".join(two[start:end]))
        parts.append(words if kind == "equal" or not words.strip() else f"<mark>{words}</mark>")
    return "".join(parts)


def disk(say: Say, run_id: str) -> str:
    """What a run occupies, checkpoint by checkpoint, and the rule by which they are kept."""
    taken, config = disk_space.taken(run_id), runs.config(run_id)
    parts = [f"{say('runs.checkpoint')} {step}: {_mb(say, size)}" for step, size in taken["checkpoints"].items()]
    parts += [f"{name}: {_mb(say, taken[name])}" for name in ("adapter", "model") if name in taken]
    rule = say("runs.rule", count=config.save_total_limit)
    return (
        f"{_mb(say, taken['bytes'])} ({', '.join(parts)}). {rule}" if parts else f"{_mb(say, taken['bytes'])}. {rule}"
    )


def warnings_of(row: dict, curves: dict, scores: list[dict]) -> list[tuple[str, dict]]:
    return alerts.found(row, curves, scores)


def diagnosis(run_id: str) -> dict | None:
    return runs_diagnosis.diagnose(run_id)


def _mb(say: Say, size: float) -> str:
    return f"{say.number(size / 1e6)}\u00a0{say('unit.mb')}"


def _gb(say: Say, size: float) -> str:
    return f"{say.number(size / 1e9)}\u00a0{say('unit.gb')}"


def _gib(say: Say, size: float) -> str:
    return f"{say.number(size / 2**30)}\u00a0{say('unit.gib')}"
