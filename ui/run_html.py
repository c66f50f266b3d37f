"""A run in HTML and sentences: figures, requests, warnings, what it read at its start, replies over the steps."""

import difflib
import json
import re
import time

from core import events, jobs, paths
from core.runs import assigned_gpu, disk_space, runs, starts
from ui.templates import macro, render
from ui.text import Say

SPARK = (120, 28)  # width and height of a small curve
START_BYTES = 262_144  # of the events: the model and the rows come before the first step


def status(say: Say, row: dict, warnings: list[tuple[str, dict]]) -> str:
    """State, bar, figures, requests and remarks."""
    at_work = row["state"] in runs.AT_WORK
    done, total = row["step"], row["max_steps"]
    if at_work and row["stage"] in ("download", "convert", "tokens"):
        done, total = row["stage_done"], row["stage_total"]
    return render(
        say,
        "run",
        row=row,
        at_work=at_work,
        active=row["state"] in runs.ACTIVE,
        ends=ends(say, row["seconds_left"]) if row["seconds_left"] and at_work else "",
        share=(done or 0) / total if total else 0,
        requests=list(requests(say, row)),
        remarks=list(_remarks(say, row, warnings)),
        start_line=start_line(say, row["id"]),
        start_warning=start_warning(say, row["id"]),
    )


def requests(say: Say, row: dict):
    """What was asked of the run last, and when it took effect."""
    path = paths.run(row["id"])
    control = jobs.latest_request(path)
    times = {control["request"]: control["asked"]} if control.get("request") in (*jobs.ENDS, "resume") else {}
    times |= jobs.once_requests(path)
    if not times or row["state"] not in (*runs.AT_WORK, "queued", "paused", "stopped"):
        return
    request = max(times, key=times.get)
    when = times[request]
    what, at = say(f"runs.asked.{request}"), clock(when)
    # Before the first step an end is all that shows that a request was taken up.
    began = row["started_at"] if request == "resume" else row["ended_at"]
    if row["request"] == request and row["requested_at"] == when:
        yield say("runs.heard", what=what, asked=at, heard=clock(row["request_seen_at"]), step=row["request_seen_step"])
    elif row["state"] == "queued":
        yield say("runs.its_turn", what=what, asked=at)
    elif request not in jobs.ONCE and (began or 0) >= when:
        yield say("runs.done", what=what, asked=at, done=clock(began))
    elif row["state"] in runs.AT_WORK:
        yield say("runs.not_heard", what=what, asked=at)


def clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))


def ends(say: Say, seconds_left: float, now: float | None = None) -> str:
    """When a run will have ended: the time today, else day and time."""
    now = now or time.time()
    end, today = time.localtime(now + seconds_left), time.localtime(now)
    return time.strftime("%H:%M" if end[:3] == today[:3] else say("date.format"), end)


def spark(losses: list[float]) -> str:
    """A small curve as SVG; nothing of fewer than two points."""
    if len(losses) < 2:
        return ""
    low, high = min(losses), max(losses)
    across, down = SPARK[0] / (len(losses) - 1), (SPARK[1] - 2) / ((high - low) or 1)
    points = " ".join(f"{at * across:.1f},{1 + (high - loss) * down:.1f}" for at, loss in enumerate(losses))
    return macro("spark", points, *SPARK)


def _remarks(say: Say, row: dict, warnings: list[tuple[str, dict]]):
    if row["disk_shortage"] and row["state"] in runs.AT_WORK:
        short = json.loads(row["disk_shortage"])
        yield say("runs.waits.help", need=say.size(short["needed"], "gb"), free=say.size(short["free"], "gb"))
    if row["state"] == "queued" and disk_space.is_full():
        yield say("runs.full")
    if row["error_message"] and row["state"] == "failed":
        yield error_of(say, row)
    if row["state"] == "lost":
        yield say("state.lost.help")
    if row["state"] == "paused":
        yield say("runs.paused.help", step=row["step"] or 0)
    if row["stopped_early"]:
        yield say("runs.stopped_early", step=row["step"], best=row["best_step"])
    for name, values in warnings:
        yield alert(say, name, values, row["state"] not in runs.ACTIVE)
    left_out = json.loads(row["rows_left_out"] or "{}")
    if left_out:
        reasons = ", ".join(f"{say('reason.' + reason)}: {count}" for reason, count in left_out.items())
        yield say("live.left_out", count=sum(left_out.values()), reasons=reasons)


def alert(say: Say, name: str, values: dict, ended: bool = False) -> str:
    """An alert in words; a run that has ended is not told to stop."""
    shown = {key: say.duration(v) if key == "seconds" else say.number(v) for key, v in values.items() if key != "step"}
    key = f"alert.{name}.ended" if ended and f"alert.{name}.ended" in say else f"alert.{name}"
    return say(key, **shown, **({"step": values["step"]} if "step" in values else {}))


def error_of(say: Say, row: dict) -> str:
    """The sentence of a failed run's error; one that an older version wrote without some values stays in English."""
    try:
        return say.worded(row["error"], json.loads(row["error_values"] or "null"), row["error_message"])
    except KeyError:
        return row["error_message"]


def start_line(say: Say, run_id: str) -> str:
    """Rows, tokens, blocks, the kernel of attention and why, and whether the card was missed, as far as known."""
    start = {event["event"]: event for event in events.read(paths.run(run_id), 0, START_BYTES)[0]}
    model = start.get("model", {})
    parts = [*_rows(say, start.get("data")), *_attention(say, model)]
    if parent := next(iter(starts.ancestry(run_id)), None):
        parts.append(say("data.goes_on", name=parent["name"]))
    card = assigned_gpu.read(paths.run(run_id)).get("name")
    if card and model.get("device") == "cpu":
        parts.append(say("cards.missed", card=card))
    return " · ".join(parts)


def _rows(say: Say, data: dict | None):
    if not data:
        return

    def numbers(**counts: int) -> dict[str, str]:
        return {name: say.number(count, 9) for name, count in counts.items()}

    yield say("data.rows", **numbers(rows=data["rows_train"], held=data["rows_eval"]))
    yield say("data.tokens", **numbers(tokens=data["tokens_train"], learned=data["tokens_learned"]))
    for name in ("rows_cut", "pairs_cut", "rows_text", "rows_alike"):
        if (count := data.get(name)) and not (name == "rows_cut" and _most_cut(data)):
            yield say(f"data.{name.removeprefix('rows_')}", **numbers(rows=count))
    for one in data.get("corpora", ()):
        counts = numbers(tokens=one["tokens_train"], held=one["rows_eval"])
        yield say("data.corpus", name=runs.corpus_name(one["corpus"]), share=say.number(100 * one["share"]), **counts)
    if data.get("blocks"):
        yield say("data.blocks", **numbers(blocks=data["blocks"]), fill=say.number(100 * data["fill"]))


def _most_cut(data: dict) -> bool:
    return 2 * data.get("rows_cut", 0) >= data["rows_train"] > 0


def start_warning(say: Say, run_id: str) -> str:
    """What the trainer read at its start that spoils the run, "" where nothing does."""
    start = {event["event"]: event for event in events.read(paths.run(run_id), 0, START_BYTES)[0]}
    data = start.get("data")
    if not data or not _most_cut(data):
        return ""
    return say("data.cut.most", rows=say.number(data["rows_cut"], 9), all=say.number(data["rows_train"], 9))


def _attention(say: Say, model: dict):
    """The kernel and how packed rows were attended to; runs of an older version knew only by_document."""
    if not model:
        return
    varlen, by_document = model.get("varlen"), model.get("by_document")
    way = ".both" if varlen and by_document else ".varlen" if varlen else ".by_document" if by_document else ""
    kernel = say(f"data.attention{way}", kernel=model["attention"])
    reason = model.get("flash_attention_lacks")
    yield say("data.attention.because", kernel=kernel, why=say(f"data.lacks.{reason}")) if reason else kernel
    if model.get("experts"):
        yield say("data.experts")


def remedy(say: Say, diagnosis: dict | None) -> str:
    """The smallest change that helps a failed run, in Markdown, and from where the run would go on."""
    if not diagnosis:
        return ""
    lines = []
    if diagnosis["changes"]:
        changes = ", ".join(f"{name} → {value}" for name, value in diagnosis["changes"].items())
        lines.append(say("diagnosis.change", changes=changes))
        if diagnosis["fits"] and "needs" in diagnosis:
            lines.append(
                say("diagnosis.fits", **{name: say.size(diagnosis[name]) for name in ("needs", "after", "free")})
            )
        elif diagnosis["fits"] is False:
            lines.append(say("diagnosis.too_little"))
    elif diagnosis["fits"] is False:
        lines.append(say("diagnosis.nothing"))
    step = diagnosis["step"]
    lines.append(say("diagnosis.from_checkpoint", step=step) if step else say("diagnosis.from_start"))
    return " ".join(lines)


def eval_samples(say: Say, samples: list[dict], checkpoints: list[int]) -> str:
    """The replies to each prompt, side by side over the steps; `checkpoints` are the steps whose weights are kept."""
    strips: dict[str, list[dict]] = {}
    for sample in samples:
        frames = strips.setdefault(sample["prompt"], [])
        before = frames[-1]["reply"] if frames else sample["reply"]
        frames.append(sample | {"words": new_words(before, sample["reply"])})
    return render(say, "eval_samples", strips=strips, checkpoints=checkpoints)


def latest_replies(say: Say, samples: list[dict]) -> str:
    """The newest reply to each prompt; nothing before the first."""
    step = max((sample["step"] for sample in samples), default=0)
    return render(say, "latest_replies", step=step, samples=[one for one in samples if one["step"] == step])


def new_words(before: str, after: str) -> list[tuple[str, bool]]:
    """A reply in parts: (words, whether the reply before did not have them there)."""
    old, new = (re.findall(r"\s+|[^\s]+", text) for text in (before, after))
    parts = []
    for kind, _, _, start, end in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        words = "".join(new[start:end])
        parts.append((words, kind != "equal" and bool(words.strip())))
    return parts


def disk(say: Say, run_id: str) -> str:
    """What a run occupies, checkpoint by checkpoint, and the rule by which they are kept."""
    taken, config = disk_space.taken(run_id), runs.config(run_id)
    sizes = {f"{say('runs.checkpoint')} {step}": size for step, size in taken["checkpoints"].items()}
    sizes |= {name: taken[name] for name in ("adapter", "model") if name in taken}
    parts = ", ".join(f"{name}: {say.size(size, 'mb')}" for name, size in sizes.items())
    whole = say.size(taken["bytes"], "mb") + (f" ({parts})" if parts else "")
    return f"{whole}. {say('runs.rule', count=config.save_total_limit)}"
