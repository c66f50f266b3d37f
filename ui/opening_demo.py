"""How far the guided demo is, read from the events of its job (core.demo)."""

from dataclasses import dataclass, field

from core import demo, jobs


@dataclass
class Progress:
    """How far the demo is; `state` is idle, going, done, failed or lost."""

    state: str = "idle"
    stage: int = 0  # of demo.STAGES
    done: float = 0
    total: float = 0
    unit: str = ""  # MB or steps
    tokens_per_second: float | None = None
    seconds_left: float | None = None
    last: dict = field(default_factory=dict)  # the event that ended it: the result, or the error


def stop() -> None:
    """Ask the demo to end together with the run that it started."""
    if directory := demo.latest():
        jobs.ask(directory, "stop")


def progress() -> Progress:
    """How far the newest demo is; idle where none was started or it was stopped."""
    directory = demo.latest()
    state = jobs.state(directory) if directory else "stopped"
    if state == "stopped":
        return Progress()
    events = jobs.progress(directory)
    now = Progress({"finished": "done", "failed": "failed", "lost": "lost"}.get(state, "going"))
    stage = events.get("stage", {})
    now.stage = demo.STAGES.index(stage.get("stage", demo.STAGES[0]))
    if demo.STAGES[now.stage] == "training" and "step" in events:
        step = events["step"]
        now.done, now.total, now.unit = step["step"], step["max_steps"], "steps"
        now.tokens_per_second, now.seconds_left = step["tokens_per_second"], step["seconds_left"]
    elif stage.get("total"):
        now.done, now.total, now.unit = round(stage["done"] / 1e6), round(stage["total"] / 1e6), "MB"
    now.last = events.get(state, {})
    return now
