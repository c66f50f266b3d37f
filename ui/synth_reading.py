"""Fifty rows read one by one in the tab that makes corpora: kept ones and rejected ones steer the recipe's judge."""

from functools import partial
from pathlib import Path

import gradio as gr

from core import jobs, paths
from core.errors import UserError
from core.synth import synth_jobs, votes
from ui import synth_html, templates
from ui.errors import inform, show_errors
from ui.text import Say

# The arrows press the buttons while the row is in sight and nobody types or chooses elsewhere.
KEYS = """
if (!window.synthKeys) {
  window.synthKeys = true;
  document.addEventListener('keydown', (event) => {
    const button = {ArrowLeft: 'reject', ArrowRight: 'keep', ArrowUp: 'back'}[event.key];
    const busy = document.activeElement?.closest('input, textarea, select, [contenteditable], [role=tab], [role=listbox]');
    const pressed = button && [...document.querySelectorAll('.synth-' + button)].find((one) => one.offsetParent);
    if (!pressed || busy || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    (pressed.matches('button') ? pressed : pressed.querySelector('button')).click();
  });
}
"""


def build(say: Say, recipe: gr.Dropdown, listing: gr.Dropdown) -> None:
    """The folded part of the page in which rows of the chosen recipe, or of its job, are kept or rejected."""
    reading = gr.State()
    with gr.Accordion(say("synth.reading"), open=False) as part:
        gr.Markdown(say("synth.reading.about"))
        row = gr.HTML(js_on_load=KEYS)
        with gr.Row():
            reject = gr.Button(say("synth.reading.reject"), elem_classes=["synth-reject"], min_width=110)
            back = gr.Button(say("synth.reading.back"), elem_classes=["synth-back"], min_width=90)
            keep = gr.Button(say("synth.reading.keep"), elem_classes=["synth-keep"], min_width=110)
        save = gr.Button(say("synth.reading.save"), size="sm", interactive=False)
    drawn = [reading, row, reject, back, keep, save]
    # One by one: no vote is drawn over by what was asked before it.
    ordered = {"concurrency_id": "reading", "show_progress": "hidden"}
    for opens in (part.expand, recipe.change, listing.change):
        opens(partial(on_open, say), [recipe, listing], drawn, **ordered)
    for button, kept in ((reject, False), (keep, True), (back, None)):
        button.click(partial(on_vote, say, kept), reading, drawn, **ordered)
    save.click(partial(on_save, say), recipe, None)


def on_open(say: Say, recipe: str | None, job: str | None):
    """The rows to read, and the first of them that has no vote."""
    if not recipe:
        return None, "", *useful(None, {})
    try:
        rows = synth_jobs.sample(recipe, job if job and is_of(recipe, job) else None)
    except (UserError, OSError) as error:
        return None, templates.macro("paragraph", say.trouble(error)), *useful(None, {})
    known = votes.known(recipe)
    at = next((at for at, row in enumerate(rows) if votes.identity(row) not in known), 0)
    return _drawn(say, {"recipe": recipe, "rows": rows, "at": at})


def is_of(recipe: str, job: str) -> bool:
    """Whether a job writes this recipe."""
    try:
        return jobs.request(jobs.find(paths.synth(), job))["recipe"] == Path(recipe).stem
    except (UserError, OSError, KeyError):
        return False


def on_vote(say: Say, kept: bool | None, reading: dict | None):
    """The next row, this one being kept or rejected; or with None the row before, whose vote is taken back."""
    if not reading:
        return (gr.skip(),) * 6
    at, rows = reading["at"], reading["rows"]
    if kept is None:
        at = max(0, at - 1)
        votes.vote(reading["recipe"], rows[at], None)
    elif at < len(rows):
        votes.vote(reading["recipe"], rows[at], kept)
        at += 1
    return _drawn(say, reading | {"at": at})


def _drawn(say: Say, reading: dict):
    known = votes.known(reading["recipe"])
    of_these = [known.get(votes.identity(row), {}).get("kept") for row in reading["rows"]]
    counts = {"kept": of_these.count(True), "rejected": of_these.count(False), "of": len(of_these)}
    at = reading["at"]
    row = reading["rows"][at] if at < len(reading["rows"]) else None
    return reading, synth_html.reading(say, row, at + 1, counts), *useful(reading, known)


def useful(reading: dict | None, known: dict) -> list[gr.Button]:
    """Reject, Back, Keep and the making of a corpus, each on while it has something to work on."""
    at, count = (reading["at"], len(reading["rows"])) if reading else (0, 0)
    kept = {one["kept"] for one in known.values()}
    return [gr.Button(interactive=on) for on in (at < count, at > 0, at < count, {True, False} <= kept)]


@show_errors
def on_save(say: Say, recipe: str | None):
    """Make a corpus of preference pairs of what was kept and rejected."""
    name = say("synth.reading.corpus", name=Path(recipe or "").stem)
    card = votes.make_corpus(recipe or "", name)
    inform(say("synth.reading.saved", name=card["name"], rows=card["rows"]))
