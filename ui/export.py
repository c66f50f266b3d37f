"""The Export tab: exports of runs as background jobs, a row each; a server and the hub; for the machine's owner only."""

import json
import time
from functools import partial
from pathlib import Path
from urllib.parse import quote

import gradio as gr
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from core import errors, events, jobs, paths
from core.errors import UserError
from core.export import export, quantizer
from core.runs import runs
from core.serve import serve
from ui import buttons, export_hub, export_serve, templates
from ui.errors import show_errors
from ui.text import Say

TICK_SECONDS = 2


def build(say: Say) -> dict:
    """The part; returns its load handler, inputs and outputs."""
    gr.Markdown(say("export.intro"))
    with gr.Row():
        run = gr.Dropdown([], label=say("export.run"), interactive=True, scale=2, min_width=260)
        choices = [(say(f"export.{kind}"), kind) for kind in export.KINDS]
        kind = gr.Radio(choices, value="capsule", label=say("export.kind"), scale=3, min_width=260)
        start = gr.Button(say("export.start"), variant="primary", min_width=120)
        buttons.needs(start, run)
    about = gr.Markdown(say("export.capsule.about"), elem_classes="subdued")
    named = [(say(f"export.file.{name}"), name) for name in quantizer.KINDS]
    info = say("export.files.info") if quantizer.is_here() else say("export.files.lacks", command=quantizer.command())
    kinds = gr.CheckboxGroup(
        named, value=list(quantizer.usual()), label=say("export.files"), info=info, visible=False, interactive=True
    )
    need = gr.Markdown(elem_classes="subdued")
    table, probe, timer = gr.HTML(elem_id=f"exports-{say.lang}"), gr.State(""), gr.Timer(TICK_SECONDS, active=False)
    with gr.Row():
        chosen = gr.Dropdown([], label=say("export.chosen"), interactive=True, scale=3, visible="hidden")
        stop = gr.Button(say("export.stop"), size="sm", min_width=100, visible=False)
        delete = gr.Button(say("export.delete"), size="sm", min_width=100, visible=False)
    details = gr.HTML()
    quiet = {"show_progress": "hidden"}
    drawn = [
        table,
        chosen,
        stop,
        delete,
        probe,
        timer,
        *export_serve.build(say, timer),
        *export_hub.build(say, chosen, timer),
    ]
    kind.change(partial(on_kind, say), kind, [about, kinds], queue=False, **quiet)
    gr.on([run.change, kind.change, kinds.change], partial(on_need, say), [run, kind, kinds], need, **quiet)
    opened = {"fn": partial(on_open, say), "inputs": chosen, "outputs": details, **quiet}
    start.click(partial(on_start, say), [run, kind, kinds], chosen, show_progress="hidden").success(
        partial(draw, say), chosen, drawn, **quiet
    )
    timer.tick(partial(on_tick, say), [chosen, probe], drawn, **quiet)
    probe.change(**opened)
    chosen.change(**opened)
    for button, action in ((stop, partial(jobs.ask, request="stop")), (delete, jobs.delete)):
        button.click(partial(on_action, say, action), chosen, None, **quiet).success(
            partial(draw, say), chosen, drawn, **quiet
        )
    return {"load": partial(on_load, say), "inputs": [run, chosen], "outputs": [run, *drawn], "asks": run}


def on_load(say: Say, run: str | None, chosen: str | None, asked: str | None = "") -> list:
    """The runs that left something behind, newest first, the exports, the server and the hub.

    `asked`: the run that the address names; it is chosen.
    """
    ids = runs.by_use()
    run = asked if asked in ids else run
    new = {} if run in ids and run != asked else {"value": run if run in ids else (ids or [None])[0]}
    choices = runs.disambiguate([(runs.label(id)["name"], id) for id in ids])
    info = "" if ids else say("runs.empty")
    return [gr.Dropdown(choices=choices, info=info, **new), *draw(say, chosen)]


def on_kind(say: Say, kind: str) -> tuple:
    return say(f"export.{kind}.about"), gr.CheckboxGroup(visible=kind == "gguf")


def on_need(say: Say, run: str | None, kind: str, kinds: list[str]) -> str:
    """What the export will take, and whether there is room for it; nothing where it is refused anyway."""
    try:
        needs = export.needs(run or "", kind, _wanted(kind, kinds))
    except UserError:
        return ""
    free, need = _size(say, needs["free"]), _size(say, needs["bytes"] or 0)
    if needs["bytes"] is None:
        return say("export.needs.unknown", free=free)
    lacks = ".full" if needs["bytes"] > needs["free"] else ""
    lines = [say(f"export.needs{lacks}", need=need, free=free)]
    if needs["files"]:
        listed = ", ".join(f"{say(f'export.file.{name}')} {_size(say, size)}" for name, size in needs["files"].items())
        lines.append(say("export.needs.files", files=listed))
        lines += [say("export.needs.merged", merged=_size(say, needs["merged"]))] * bool(needs["merged"])
    if needs["seconds"]:
        lines.append(say("export.needs.time", time=say.duration(needs["seconds"])))
    return " ".join(lines)


def _size(say: Say, size: float) -> str:
    return say.size(size, "gb" if size >= 1e9 else "mb")


def _wanted(kind: str, kinds: list[str]) -> tuple[str, ...]:
    """The kinds of GGUF files that are chosen, largest first."""
    return tuple(name for name in quantizer.KINDS if name in kinds) if kind == "gguf" else ()


@show_errors
def on_start(say: Say, run: str | None, kind: str, kinds: list[str]):
    if not run:
        raise errors.named("NoRunToExport")
    directory = export.start(run, kind, _wanted(kind, kinds))
    return gr.Dropdown(choices=_choices(say), value=directory.name)


def draw(say: Say, chosen: str | None) -> list:
    """The table, newest export first; the list to choose from; what is looked at to see a change; server and hub."""
    listed = jobs.listed(paths.exports())
    names = [path.name for path in listed]
    value = chosen if chosen in names else (names or [None])[0]
    shown = templates.render(say, "export", rows=[_row(path) for path in listed])
    probe = _look()
    timer = gr.Timer(active=any(state in jobs.ACTIVE for _, state, _ in json.loads(probe)))
    return [
        shown,
        gr.Dropdown(choices=_choices(say), value=value, visible=True if names else "hidden"),
        gr.Button(visible=any(jobs.state(path) in jobs.ACTIVE for path in listed)),
        gr.Button(visible=bool(names)),
        probe,
        timer,
        *export_serve.shown(say),
        *export_hub.shown(say),
    ]


def on_tick(say: Say, chosen: str | None, probe: str) -> list:
    """Redraw only when an export, the server or something of the hub went on."""
    if _look() == probe:
        return [gr.skip()] * 12
    return draw(say, chosen)


def on_open(say: Say, chosen: str | None) -> str:
    """What came of an export: how it compares, what loads it, and its files to download."""
    try:
        directory = jobs.find(paths.exports(), chosen or "")
    except UserError:
        return ""
    files = export.files_of(directory)
    if not files:
        return ""
    made = jobs.progress(directory)["finished"]
    listed = [
        {"name": name, "bytes": path.stat().st_size, "url": f"/exports/{quote(directory.name)}/{quote(name)}"}
        for name, path in files.items()
    ]
    return templates.render(say, "export_details", made=made, files=listed, measured=_measured(made))


def _measured(made: dict) -> list[dict]:
    """The GGUF files that were measured; those of older versions were not."""
    return [file for file in made.get("files", ()) if "kl" in file]


async def download(request: Request) -> Response:
    """A file of an export; what is none of its files does not exist."""

    def find() -> Path | None:
        try:
            directory = jobs.find(paths.exports(), request.path_params["job"])
        except UserError:
            return None
        return export.files_of(directory).get(request.path_params["name"])

    path = await run_in_threadpool(find)
    return FileResponse(path, filename=path.name) if path else Response(status_code=404)


DOWNLOADS = Route("/exports/{job}/{name:path}", download)


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


def _look() -> str:
    """What is cheap to ask of the exports, the server and the hub, as text."""
    listed = [*jobs.listed(paths.exports()), *filter(None, [serve.current()]), *jobs.listed(paths.hub())]
    return json.dumps([(path.name, jobs.state(path), events.size(path)) for path in listed])
