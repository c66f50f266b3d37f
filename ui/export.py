"""The Export tab: exports of runs as background jobs, a row each; for the machine's owner only."""

import json
import time
from functools import partial
from pathlib import Path

import gradio as gr

from core import events, jobs, paths
from core.errors import UserError
from core.export import export
from core.runs import runs
from ui import templates
from ui.errors import show_errors
from ui.text import Say

TICK_SECONDS = 2
OFFERED_BYTES = 500_000_000  # larger files are not copied for the browser: they stay where the row says


class NoRunToExport(UserError):
    template = "No run is chosen. Choose one from the list."


def build(say: Say) -> dict:
    """The part; returns its load handler, inputs and outputs."""
    gr.Markdown(say("export.intro"))
    with gr.Row():
        run = gr.Dropdown([], label=say("export.run"), interactive=True, scale=2)
        choices = [(say(f"export.{kind}"), kind) for kind in export.KINDS]
        kind = gr.Radio(choices, value="capsule", label=say("export.kind"), scale=3)
        start = gr.Button(say("export.start"), variant="primary", min_width=120)
    about = gr.Markdown(say("export.capsule.about"), elem_classes="subdued")
    table, probe, timer = gr.HTML(elem_id=f"exports-{say.lang}"), gr.State(""), gr.Timer(TICK_SECONDS)
    with gr.Row():
        chosen = gr.Dropdown([], label=say("export.chosen"), interactive=True, scale=3)
        stop = gr.Button(say("export.stop"), size="sm", min_width=100)
        delete = gr.Button(say("export.delete"), size="sm", min_width=100)
    details = gr.Markdown()
    file = gr.File(label=say("export.file"), visible=False, interactive=False)
    quiet = {"show_progress": "hidden"}
    drawn = [table, chosen, probe]
    kind.change(lambda kind: say(f"export.{kind}.about"), kind, about, queue=False, **quiet)
    opened = {"fn": partial(on_open, say), "inputs": chosen, "outputs": [details, file], **quiet}
    start.click(partial(on_start, say), [run, kind], chosen, show_progress="hidden").success(
        partial(draw, say), chosen, drawn, **quiet
    )
    timer.tick(partial(on_tick, say), [chosen, probe], drawn, **quiet)
    probe.change(**opened)
    chosen.change(**opened)
    for button, action in ((stop, partial(jobs.ask, request="stop")), (delete, jobs.delete)):
        button.click(partial(on_action, say, action), chosen, None, **quiet).success(
            partial(draw, say), chosen, drawn, **quiet
        )
    return {"load": partial(on_load, say), "inputs": [run, chosen], "outputs": [run, *drawn]}


def on_load(say: Say, run: str | None, chosen: str | None) -> list:
    """The runs that left something behind, newest first, and the exports."""
    ids = runs.by_use()
    new = {} if run in ids else {"value": (ids or [None])[0]}
    choices = runs.disambiguate([(runs.label(id)["name"], id) for id in ids])
    return [gr.Dropdown(choices=choices, **new), *draw(say, chosen)]


@show_errors
def on_start(say: Say, run: str | None, kind: str):
    if not run:
        raise NoRunToExport()
    directory = export.start(run, kind)
    return gr.Dropdown(choices=_choices(say), value=directory.name)


def draw(say: Say, chosen: str | None) -> list:
    """The table, newest export first; the list to choose from; what the page looks at to see a change."""
    listed = jobs.listed(paths.exports())
    names = [path.name for path in listed]
    value = chosen if chosen in names else (names or [None])[0]
    shown = templates.render(say, "export", rows=[_row(path) for path in listed])
    return [shown, gr.Dropdown(choices=_choices(say), value=value), _look(listed)]


def on_tick(say: Say, chosen: str | None, probe: str) -> list:
    """Redraw only when an export went on."""
    if _look(jobs.listed(paths.exports())) == probe:
        return [gr.skip()] * 3
    return draw(say, chosen)


def on_open(say: Say, chosen: str | None) -> tuple:
    """What came of an export: how it compares, the lines that load it, and a file where it is small enough."""
    hidden = gr.File(visible=False)
    try:
        directory = jobs.find(paths.exports(), chosen or "")
    except UserError:
        return "", hidden
    made = jobs.progress(directory).get("finished")
    if not made or jobs.state(directory) != "finished":
        return "", hidden
    lines = [say("export.place", path=made["path"])]
    if made.get("difference") is not None and "precision" in made:
        lines.append(say("export.difference", precision=made["precision"], difference=say.percent(made["difference"])))
    for file in made.get("files", []):
        values = {"file": file["file"], "difference": say.percent(file["difference"])}
        lines.append(say("export.compared", **values, equal=file["replies_equal"], count=file["replies"]))
    if "lines" in made:
        lines.append(f"{say('export.lines')}\n\n```python\n{made['lines']}```")
    if "files" in made:
        lines.append(say("export.ollama", path=made["path"]))
    single = Path(made.get("zip") or made["path"])
    if single.is_file() and single.stat().st_size <= OFFERED_BYTES:
        return "\n\n".join(lines), gr.File(value=str(single), visible=True)
    return "\n\n".join(lines), hidden


@show_errors
def on_action(say: Say, action, chosen: str | None) -> None:
    action(jobs.find(paths.exports(), chosen or ""))
    time.sleep(0.2)


def _row(directory: Path) -> dict:
    """What the table shows of one export."""
    seen, state = jobs.progress(directory), jobs.state(directory)
    made = seen.get("finished", {})
    return {
        "request": jobs.request(directory),
        "state": state,
        "stage": seen.get("progress") if state in ("running", "stopping") else None,
        "failed": seen["failed"] if state == "failed" else None,
        "bytes": made.get("bytes"),
        "path": made.get("path", ""),
    }


def _choices(say: Say) -> list[tuple[str, str]]:
    listed = [(jobs.request(path), path.name) for path in jobs.listed(paths.exports())]
    return [(f"{job['name']} · {say('export.' + job['kind'])} · {runs.created_at(id)}", id) for job, id in listed]


def _look(listed: list[Path]) -> str:
    """What is cheap to ask of the exports, as text."""
    return json.dumps([(path.name, jobs.state(path), events.size(path)) for path in listed])
