"""The check as a background job (core/jobs.py): it outlives the page that began it, and its results are its events."""

from collections.abc import Callable
from pathlib import Path

from core import events, jobs, paths, runs
from core.check_card import plan
from core.check_card.results import final
from core.trouble import Trouble

MODULE = "core.check_card"
KEPT = 5  # newest results


class CheckFirst(Trouble):
    template = 'The run "{name}" is training now, and both would be slow. Check this machine when it has ended.'


def home() -> Path:
    """The directory of all checks."""
    path = paths.home() / "checks"
    path.mkdir(parents=True, exist_ok=True)
    return path


def latest() -> Path | None:
    """The newest check, whether it goes on or has ended."""
    return next(iter(jobs.listed(home())), None)


def start() -> Path:
    """Begin a check in the background, or find the one that goes on.

    Raises:
        CheckFirst: while a run is training.
    """
    now = latest()
    if now and jobs.state(now) in ("queued", "running", "stopping"):
        return now
    need_quiet()
    for old in jobs.listed(home())[KEPT - 1 :]:
        jobs.delete(old)
    directory = jobs.create(home(), {"name": "check"})
    jobs.start(directory, MODULE)
    return directory


def need_quiet() -> None:
    """Raise CheckFirst while a run is training."""
    for run_id in runs.listed():
        if runs.is_alive(paths.run(run_id)):
            raise CheckFirst(name=runs.label(run_id)["name"])


def work(directory: Path, request: dict, report: Callable) -> dict:
    """What core.jobs.run() runs: each result is an event, and the last one holds the object for a report."""

    def tell(event: str, **values) -> None:
        report(event, **values)

    return {"result": plan.run(tell, log=directory / "log.txt")}


def results(directory: Path) -> tuple[list[dict], str]:
    """The results so far, and the name of the check that goes on now."""
    seen, found, now = events.read(directory)[0], {}, ""
    for event in seen:
        if event["event"] == "begins":
            now = event["name"]
        elif event["event"] == "check":
            found[event["name"]], now = {key: value for key, value in event.items() if key not in ("event", "time")}, ""
    return list(found.values()), now


__all__ = ["CheckFirst", "final", "home", "latest", "results", "start", "work"]
