"""The check as a background job (core/jobs.py): it continues when the page is closed, and its results are its events."""

from collections.abc import Callable
from pathlib import Path

from core import events, jobs, paths
from core.check_card import plan
from core.hardware import hardware

KEPT = 5  # newest results


def latest() -> Path | None:
    """The newest check, whether it goes on or has ended."""
    return next(iter(jobs.listed(paths.checks())), None)


def start() -> Path:
    """Begin a check in the background, or return the one that goes on.

    Raises:
        plan.CheckFirst: while a run is training, or about to.
    """
    now = latest()
    if now and jobs.state(now) in jobs.ACTIVE:
        return now
    plan.need_quiet()
    for old in jobs.listed(paths.checks())[KEPT - 1 :]:
        jobs.delete(old)
    directory = jobs.create(paths.checks(), {"name": "check"})
    # On the card that a run takes, which may not be the one that replies come from.
    jobs.start(directory, "core.check_card", hardware.environment(hardware.card()))
    return directory


def work(directory: Path, request: dict, report: Callable) -> dict:
    """What core.jobs.run() runs: each result is an event, and the last one holds the object for a report."""
    return {"result": plan.run(report, log=directory / "log.txt")}


def results(directory: Path) -> tuple[list[dict], str]:
    """The results so far, and the name of the check that goes on now."""
    by_name, now = {}, ""
    for event in events.read(directory)[0]:
        if event["event"] == "begins":
            now = event["name"]
        elif event["event"] == "check":
            result = {key: value for key, value in event.items() if key not in ("event", "time")}
            by_name[event["name"]], now = result, ""
    return list(by_name.values()), now
