"""What a run has learned: one card with a sentence, figures and a reply before and after, and the same as a picture."""

import textwrap

from core.models import models
from core.runs import learned, runs, starts
from core.training import mixing
from ui.templates import render
from ui.text import Say

# Letters a line and lines in the picture: of a reply, of the sentence, of the label of a figure.
LINE, LINES = 46, 5
SENTENCE = {"width": 92, "max_lines": 4, "placeholder": "…"}
LABEL = {"width": 29, "max_lines": 2, "placeholder": "…"}
MOST_FIGURES = 8  # two rows of four
SAVE = """() => element.addEventListener('click', event => {
  if (event.target.closest('.save-picture')) savePicture(element.querySelector('svg.learned'));
})"""


def card(say: Say, row: dict, leads: bool = True) -> str:
    """The card of a run that has ended, as HTML; nothing while it goes on or before its first step.

    `leads`: with links to what can be done next.
    """
    if row["state"] not in ("finished", "stopped", "paused") or not row["step"]:
        return ""
    found = learned.of(row["id"])
    key = f"learned.{found['verdict']}"
    key = f"{key}.start" if row["start"] and f"{key}.start" in say else key
    sentence = say(key, **_values(say, found))
    if found["best"] is not None:
        sentence += " " + say("learned.best", step=found["best"])
    if prompt := found["prompt"]:
        key = "learned.over_prompt" if prompt["gains"] else "learned.prompt_wins"
        sentence += " " + say(key, prompt=say.number(prompt["loss"]), gain=say.number(prompt["gain"]))
    figures = list(_figures(say, found))
    return render(
        say,
        "learned",
        found=found,
        title=row["name"],
        model=models.title(row["base_model"]),
        corpus=" + ".join(map(runs.corpus_name, mixing.corpora(runs.config(row["id"])))),
        sentence=sentence,
        sentence_lines=textwrap.wrap(sentence, **SENTENCE),
        figures=figures,
        drawn=[(textwrap.wrap(label, **LABEL), value) for label, value in figures[:MOST_FIGURES]],
        next_steps=next_steps(row) if leads else [],
        replies=[_wrapped(found["sample"][side]) for side in ("before", "after")] if found["sample"] else [],
    )


def next_steps(row: dict) -> list[tuple[str, str]]:
    """(key of its words, address) of what can be done with the weights of a run, if it has any."""
    if not starts.has_weights(row["id"]):
        return []
    return [
        ("opening.talk", f"playground/run:{row['id']}"),
        ("opening.compare", f"playground/arena:{row['id']}"),
        ("opening.take", f"export/{row['id']}"),
    ]


def _values(say: Say, found: dict) -> dict:
    return {name: say.number(found[name]) for name in ("before", "after", "rows") if found[name] is not None}


def _figures(say: Say, found: dict):
    """(label, value) of what was measured."""
    if found["before"] is not None and found["after"] is not None:
        yield say("learned.loss"), f"{say.number(found['before'])} → {say.number(found['after'])}"
    if found["prompt"]:
        yield say("learned.prompt"), say.number(found["prompt"]["loss"])
    if found["recall"]:
        yield say("learned.recall"), " → ".join(map(say.number, found["recall"]))
    if found["pairs"] is not None:
        yield say("learned.pairs"), say.percent(found["pairs"])
    if found["forgot"] is not None:
        yield say(f"learned.forgot_by.{found['since']}"), say.number(found["forgot"])
    if found["foreign"]:
        yield say("learned.drift"), " → ".join(say.percent(round(share, 3)) for share in found["foreign"])
    if votes := found["arena"]:
        yield say("learned.arena", name=votes["name"]), say("learned.votes", **shares(votes))


def shares(votes: dict) -> dict:
    """What store.arena() found, as sentences have it: whole percents, and the name of the opponent."""
    percents = {name: round(100 * votes[name]) for name in ("share", "low", "high")}
    return percents | {"count": votes["votes"], "name": votes["name"]}


def _wrapped(reply: str) -> list[str]:
    lines = [line for part in reply.splitlines() for line in textwrap.wrap(part, LINE)]
    return [*lines[: LINES - 1], lines[LINES - 1][: LINE - 1] + "…"] if len(lines) > LINES else lines
