"""The tab that makes corpora: a recipe, ten rows and the price, then a job that is watched, paused and resumed."""

import json
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import gradio as gr

from core import jobs, paths, process
from core.corpus import import_process
from core.errors import ErrorElsewhere, UserError
from core.synth import synth_jobs
from ui import pages, synth_form, synth_html, synth_reading, synth_recipe, templates
from ui.errors import show_errors
from ui.synth_form import request
from ui.text import Say

TICK_SECONDS = 2
BEAT_SECONDS = 0.5  # between two looks whether a preview was cancelled
ASKED = ("pause", "resume", "again", "stop")  # of a job
PREVIEWED = ("parallel", "temperature", "top_p", "max_tokens", "thinking", "timeout", "shard")
PREVIEWED += ("judge_endpoint", "judge_model", "embedder", "replay", "replay_corpus")


def build(say: Say) -> dict:
    """The tab; returns a state that changes when a new corpus exists."""
    gr.Markdown(say("synth.intro"))
    shown = gr.HTML(
        synth_recipe.first(say, synth_form.first_recipe(say)), elem_id=f"synth-preview-{say.lang}", render=False
    )
    with gr.Row():
        with gr.Column(scale=2, min_width=340):
            form, about = synth_form.build(say)
            with gr.Row():
                show = gr.Button(say("synth.show"), variant="secondary")
                cancel = gr.Button(say("synth.cancel"), visible=False)
                start = gr.Button(say("synth.start"), variant="primary")
            synth_recipe.build(say, form, about, shown)
            form |= synth_form.build_more(say)
        with gr.Column(scale=3, min_width=420):
            job = build_job(say, form)
            start.click(partial(on_start, say), inputs_kwargs=form, outputs=[job["listing"], job["probe"]])
            shown.render()
            synth_reading.build(say, form["recipe"], job["listing"])
    shows = [shown, cancel]
    made = show.click(partial(on_show, say), inputs_kwargs=form, outputs=shows, show_progress="hidden")
    pages.end_first(cancel.click, made, partial(on_cancel, say), None, shows, show_progress="hidden")
    return {name: job[name] for name in ("changed", "load", "inputs", "outputs")}


def build_job(say: Say, form: dict) -> dict:
    """The jobs and the one that is watched, with the buttons that it has use for; nothing while there is no job."""
    changed, probe, timer = gr.State(0.0), gr.State(), gr.Timer(TICK_SECONDS, active=False)
    listing = gr.Dropdown(
        job_choices(say), value=None, label=say("synth.jobs"), visible=bool(jobs.listed(paths.synth()))
    )
    status = gr.HTML()
    with gr.Row():
        buttons = [gr.Button(say(f"synth.{name}"), size="sm", min_width=120, visible=False) for name in ASKED]
        delete = gr.Button(say("synth.delete"), size="sm", min_width=120, visible=False)
    timer.tick(partial(on_tick, say), listing, [listing, probe], show_progress="hidden")
    listing.change(look, listing, probe, show_progress="hidden")
    listing.focus(lambda: gr.update(choices=job_choices(say)), None, listing, show_progress="hidden")
    drawn = [status, *buttons, delete, changed, timer]
    probe.change(partial(draw, say), [listing, probe, changed], drawn, show_progress="hidden")
    asked = {"job_id": listing} | {name: form[name] for name in ("recipe", *synth_jobs.CHANGEABLE)}
    for button, name in zip(buttons, ASKED, strict=True):
        button.click(partial(on_ask, say, name), inputs_kwargs=asked, outputs=probe, show_progress="hidden")
    delete.click(partial(on_delete, say), listing, [listing, probe])
    load = {"load": partial(on_tick, say), "inputs": [listing], "outputs": [listing, probe]}
    return {"changed": changed, "listing": listing, "probe": probe} | load


def on_show(say: Say, **values):
    """Ten rows, the x-ray and the price, made in a process of their own."""
    wanted, began = request(say, values), time.monotonic()
    command, on, off = _preview_command(wanted), gr.update(visible=True), gr.update(visible=False)
    try:
        with TemporaryDirectory(prefix="soulsmith-") as folder:
            for name in ("personas", "topics"):
                if wanted[name]:
                    file = Path(folder) / f"{name}.txt"
                    file.write_text("\n".join(wanted[name]), encoding="utf-8")
                    command += [f"--{name}", str(file)]
            # A stranger's template counts tokens there; torch, which reads a local writer, takes more.
            run = partial(import_process.run, command, memory=0 if wanted["writer"] else import_process.MEMORY)
            for working in process.polled(lambda look: list(run(look=look))[-1], BEAT_SECONDS):
                if not working.done():
                    seconds = say.duration(max(1, round(time.monotonic() - began)))
                    yield templates.macro("paragraph", say("synth.showing", seconds=seconds)), on
            shown = working.result()
    except ErrorElsewhere as error:
        yield templates.macro("trouble", say.trouble(error)), off
        return
    except import_process.ImportBroke as error:
        yield templates.macro("trouble", say("synth.failed", reason=error.values["reason"])), off
        return
    yield synth_html.preview(say, shown), off


def _preview_command(wanted: dict) -> list[str]:
    command = ["-m", "core.synth", wanted["recipe"], "--preview", "--json"]
    names = ("tokens", "seed", "model", "endpoint", "endpoint_model", "writer", "corpus", *PREVIEWED)
    for name in names:
        if wanted[name] not in (None, ""):
            command += [f"--{name.replace('_', '-')}", str(wanted[name])]
    return command


def on_cancel(say: Say):
    return templates.macro("paragraph", say("synth.cancelled")), gr.update(visible=False)


@show_errors
def on_start(say: Say, **values):
    """Start the job of the form, detached from this page."""
    wanted = request(say, values)
    titles = {name: title for title, name in synth_recipe.choices(say)}
    directory = synth_jobs.create(wanted | {"name": wanted["name"] or titles.get(wanted["recipe"], "")})
    synth_jobs.start(directory)
    return gr.update(choices=job_choices(say), value=directory.name, visible=True), look(directory.name)


def job_choices(say: Say) -> list[tuple[str, str]]:
    requests = {path.name: jobs.request(path) for path in jobs.listed(paths.synth())}
    return [(f"{one['name']} · {say.number(one['tokens'], 12)}", id) for id, one in requests.items()]


def look(job_id: str | None) -> str:
    """What is cheap to read of a job, as text: the page is drawn anew only when it changes."""
    try:
        return json.dumps(synth_jobs.progress(jobs.find(paths.synth(), job_id)), ensure_ascii=False) if job_id else ""
    except (UserError, OSError, ValueError):
        return ""


def on_tick(say: Say, job_id: str | None):
    """The job that is shown; after a reload, or when it was deleted, the newest."""
    if job_id and (probe := look(job_id)):
        return gr.skip(), probe
    newest = _newest()
    return (gr.update(choices=job_choices(say), value=newest, visible=True) if newest else gr.skip()), look(newest)


def _newest() -> str | None:
    return next((path.name for path in jobs.listed(paths.synth())), None)


def draw(say: Say, job_id: str | None, probe: str | None, changed: float):
    """The job at a glance, the buttons that make sense now, and a new mark once its corpus exists."""
    if not probe:
        return ["", *[gr.update(visible=False)] * 5, gr.skip(), gr.Timer(active=False)]
    job = json.loads(probe)
    state, ending = job["state"], job["ending"]
    at_work, can_resume = state in ("running", "queued"), state in ("paused", "failed", "lost")
    again = can_resume and bool(job["progress"].get("aside"))
    useful = (at_work, can_resume, again, can_resume or state == "running", not at_work)  # ASKED, delete
    mark = ending["time"] if ending.get("corpus") else 0.0
    buttons = [gr.update(visible=one) for one in useful]
    timer = gr.Timer(active=state in jobs.ACTIVE)
    return [synth_html.job(say, job), *buttons, mark if mark > changed else gr.skip(), timer]


@show_errors
def on_ask(say: Say, name: str, job_id: str | None, recipe: str | None = None, **form):
    """Pause, stop or go on; what the form says of how a model is asked counts from then on, if it has that recipe."""
    directory = jobs.find(paths.synth(), job_id or "")
    if name in ("pause", "stop"):
        (partial(jobs.ask, request="pause") if name == "pause" else synth_jobs.stop)(directory)
    else:
        same = Path(recipe or "").stem == jobs.request(directory)["recipe"]
        changes = (
            {key: value for key, value in (form | synth_form.sampling(form)).items() if value != ""} if same else {}
        )
        synth_jobs.resume(directory, changes, again=name == "again")
    time.sleep(0.3)  # a job that is resumed takes its lock
    return look(job_id)


@show_errors
def on_delete(say: Say, job_id: str | None):
    jobs.delete(jobs.find(paths.synth(), job_id or ""))
    newest = _newest()
    return gr.update(choices=job_choices(say), value=newest, visible=bool(newest)), look(newest)
