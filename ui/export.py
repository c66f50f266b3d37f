"""Take a run along: exports as background jobs, a row each, whoever looks and whenever; for the machine's owner only."""

import json
import time
from functools import partial
from html import escape
from pathlib import Path

import gradio as gr

from core import events, jobs, paths
from core.errors import UserError
from core.export import export
from core.runs import runs
from ui.errors import Refused
from ui.text import Say

TICK_SECONDS = 2
OFFERED_BYTES = 500_000_000  # larger files are not copied for the browser: they lie where the row says


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
    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    drawn = [table, chosen, probe]
    kind.change(lambda kind: say(f"export.{kind}.about"), kind, about, queue=False, **quiet)
    opened = {"fn": partial(on_open, say), "inputs": chosen, "outputs": [details, file], **quiet}
    start.click(partial(on_start, say), [run, kind], chosen, show_progress="hidden").success(
        partial(draw, say), chosen, drawn, **quiet
    )
    timer.tick(partial(on_tick, say), [chosen, probe], drawn, **quiet)
    probe.change(**opened)
    chosen.change(**opened)
    stop.click(partial(on_ask, say, partial(jobs.ask, request="stop")), chosen, None, **quiet).then(
        partial(draw, say), chosen, drawn, **quiet
    )
    delete.click(partial(on_ask, say, jobs.delete), chosen, None, **quiet).success(
        partial(draw, say), chosen, drawn, **quiet
    )
    return {"load": partial(on_load, say), "inputs": [run, chosen], "outputs": [run, *drawn]}


def on_load(say: Say, run: str | None, chosen: str | None) -> list:
    """The runs that left something behind, newest first, and the exports."""
    found = runs.disambiguate([(runs.label(id)["name"], id) for id in runs.by_use()])
    ids = [id for _, id in found]
    new = {} if run in ids else {"value": (ids or [None])[0]}
    return [gr.Dropdown(choices=found, **new), *draw(say, chosen)]


def on_start(say: Say, run: str | None, kind: str):
    if not run:
        raise Refused(say.trouble(NoRunToExport()))
    directory = _command(say, export.start, run, kind)
    return gr.Dropdown(choices=_choices(say), value=directory.name)


def draw(say: Say, chosen: str | None) -> list:
    """The table, newest export first; the list to choose from; what the page looks at to see a change."""
    listed = jobs.listed(paths.exports())
    names = [path.name for path in listed]
    value = chosen if chosen in names else (names or [None])[0]
    rows = "".join(_row(say, path) for path in listed)
    head = "".join(f"<th>{say(f'export.head.{name}')}</th>" for name in ("name", "kind", "state", "size", "place"))
    shown = f"<table><tr>{head}</tr>{rows}</table>" if listed else f"<p>{say('export.none')}</p>"
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
    ending = jobs.progress(directory).get("finished")
    if not ending or jobs.state(directory) != "finished":
        return "", hidden
    lines = [say("export.place", path=ending["path"])]
    if ending.get("difference") is not None and "precision" in ending:
        values = {"precision": ending["precision"], "difference": say.percent(ending["difference"])}
        lines.append(say("export.difference", **values))
    for one in ending.get("files", []):
        values = {"file": one["file"], "difference": say.percent(one["difference"])}
        lines.append(say("export.compared", **values, equal=one["replies_equal"], count=one["replies"]))
    if "lines" in ending:
        lines.append(f"{say('export.lines')}\n\n```python\n{ending['lines']}```")
    if "files" in ending:
        lines.append(say("export.ollama", path=ending["path"]))
    single = Path(ending.get("zip") or ending["path"])
    if single.is_file() and single.stat().st_size <= OFFERED_BYTES:
        return "\n\n".join(lines), gr.File(value=str(single), visible=True)
    return "\n\n".join(lines), hidden


def on_ask(say: Say, ask, chosen: str | None) -> None:
    _command(say, ask, _command(say, jobs.find, paths.exports(), chosen or ""))
    time.sleep(0.2)


def _row(say: Say, directory: Path) -> str:
    """One export: whose, what, how far, how large, where."""
    asked, seen, now = jobs.request(directory), jobs.progress(directory), jobs.state(directory)
    state, ending = say(f"export.state.{now}"), seen.get("finished", {})
    if now in ("running", "stopping") and (at := seen.get("progress")):
        state += f": {say('export.stage.' + at['stage'])}"
        if at["total"]:
            state += f" {at['done']}\u00a0/\u00a0{at['total']}"
    if now == "failed":
        told = seen["failed"]
        state += f": {escape(say.worded(told['trouble'], told['values'], told['message']))}"
    size = f"{say.number(ending['bytes'] / 1e6)}\u00a0{say('unit.mb')}" if "bytes" in ending else ""
    place = f"<code>{escape(ending.get('path', ''))}</code>"
    cells = (escape(asked["name"]), say(f"export.{asked['kind']}"), state, size, place)
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _choices(say: Say) -> list[tuple[str, str]]:
    listed = [(jobs.request(path), path) for path in jobs.listed(paths.exports())]
    return [
        (f"{asked['name']} · {say('export.' + asked['kind'])} · {runs.created_at(path.name)}", path.name)
        for asked, path in listed
    ]


def _look(listed: list[Path]) -> str:
    """What is cheap to ask of the exports, as text."""
    return json.dumps([(path.name, jobs.state(path), events.size(path)) for path in listed])


def _command(say: Say, command, *args):
    try:
        return command(*args)
    except UserError as error:
        raise Refused(say.trouble(error)) from error
