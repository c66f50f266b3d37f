"""Progress of the user from a corpus to an exported model: four steps, the active run, the latest runs."""

from dataclasses import dataclass

from core import jobs, paths
from core.corpus import corpus
from core.hardware import hardware
from core.models import models
from core.runs import diagnosis, queue, runs, starts, store
from ui import run_html, run_learned
from ui.templates import render
from ui.text import Say

LATEST = 4  # runs


@dataclass
class Step:
    """A step of the road: the tab that it is done on, "done", "now", "next" or "later", and what is there."""

    tab: str
    state: str
    there: str
    pick: str = ""


def draw(say: Say) -> str:
    """The road as it is now, in HTML: every link is an address of this page (#training/RUN)."""
    rows, corpora = store.sync_all(), corpus.listed()
    sparks = store.sparks()
    shown = _active(rows) or (rows[0] if rows else None)
    gpu = hardware.card()
    return render(
        say,
        "road",
        steps=steps(say, rows, corpora),
        card=gpu.name if gpu else say("opening.no_card"),
        run=shown,
        going=bool(shown) and shown["state"] in runs.ACTIVE,
        now=_card(say, shown) if shown else "",
        reply=_latest_reply(shown) if shown and shown["state"] in runs.ACTIVE else None,
        actions=_actions(shown) if shown else [],
        latest=[_line(row, sparks.get(row["id"], [])) for row in rows[:LATEST]],
    )


def steps(say: Say, rows: list[dict], corpora: list[dict]) -> list[Step]:
    """The four steps; while nothing goes on, the first that is not done is the next one."""
    active, trained = _active(rows), [row for row in rows if is_trained(row)]
    talks = [row for row in trained if starts.has_weights(row["id"])]
    taken = [path for path in jobs.listed(paths.exports()) if jobs.state(path) == "finished"]
    there = say("opening.step.none")
    if corpora:
        rows_there = say("opening.step.corpus", name=corpora[0]["name"], rows=say.number(corpora[0]["rows"], 9))
    training = say("opening.step.trained", count=len(trained)) if trained else there
    if active and active["seconds_left"]:
        share = round(100 * (active["step"] or 0) / (active["max_steps"] or 1))
        training = say("opening.step.training", percent=share, left=say.duration(active["seconds_left"]))
    elif active:  # before its second step there is no rate to tell the time by
        training = say(f"state.{active['state']}")
    road = [
        Step("corpus", "done" if corpora else "later", rows_there if corpora else there),
        Step("training", "now" if active else "done" if trained else "later", training, active["id"] if active else ""),
        Step("playground", "done" if talks else "later", talks[0]["name"] if talks else there),
        Step("export", "done" if taken else "later", say("opening.step.taken", count=len(taken)) if taken else there),
    ]
    following = next((step for step in road if step.state == "later"), None)
    if following and not active:
        following.state = "next"
    return road


def _active(rows: list[dict]) -> dict | None:
    """The run that goes on: one at work, else the first of the queue."""
    order = queue.next_ones()
    active = [row for row in rows if row["state"] in runs.ACTIVE]
    place = {row["id"]: order.index(row["id"]) if row["id"] in order else len(order) for row in active}
    return min(active, key=lambda row: (row["state"] not in runs.AT_WORK, place[row["id"]]), default=None)


def is_trained(row: dict) -> bool:
    """Whether a run left a model to talk to."""
    return row["state"] == "finished" or (row["state"] == "stopped" and bool(row["step"]))


def _card(say: Say, row: dict) -> str:
    """What a run that has ended learned, or why it failed."""
    if row["state"] == "failed" and row["error_message"]:
        return run_html.error_of(say, row)
    return run_learned.card(say, row, leads=False)


def _latest_reply(row: dict) -> dict | None:
    samples = store.samples(row["id"])
    return max(samples, key=lambda sample: sample["step"]) if samples else None


def _actions(row: dict) -> list[tuple[str, str]]:
    """(key of its words, address) of what can be done next, the most likely first."""
    if row["state"] in runs.ACTIVE:
        return [("opening.watch", f"training/{row['id']}")]
    if is_trained(row):
        return [*run_learned.next_steps(row), ("opening.look", f"runs/{row['id']}")]
    found = diagnosis.diagnose(row["id"])
    return [("opening.remedy" if found and found["changes"] else "opening.look", f"training/{row['id']}")]


def _line(row: dict, losses: list[float]) -> dict:
    """What the list of the latest runs shows of one."""
    return {"row": row, "curve": run_html.spark(losses), "model": models.title(row["base_model"])}
