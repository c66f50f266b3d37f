"""The tab that makes corpora: a recipe, ten rows and the price, then a job that is watched, paused and gone on with."""

import json
import shutil
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import gradio as gr

from core import jobs, models, paths
from core.corpus import corpus, import_process
from core.errors import ErrorElsewhere, UserError
from core.synth import preview, prompts, recipes, synth_jobs
from ui import synth_html as markup
from ui.errors import Refused
from ui.text import Say

TICK_SECONDS = 2
OTHER = 0  # of the volumes: the number is typed


def build(say: Say) -> dict:
    """The tab; returns a state that changes when a new corpus exists."""
    gr.Markdown(say("synth.intro"))
    changed, probe, timer = gr.State(0.0), gr.State(), gr.Timer(TICK_SECONDS)
    with gr.Row():
        with gr.Column(scale=2, min_width=340):
            form = build_form(say)
            with gr.Row():
                show = gr.Button(say("synth.show"), variant="secondary")
                start = gr.Button(say("synth.start"), variant="primary")
        with gr.Column(scale=3, min_width=420):
            with gr.Row():
                listing = gr.Dropdown(job_choices(say), value=None, label=say("synth.jobs"), scale=4)
                delete = gr.Button(say("synth.delete"), size="sm", min_width=120, scale=1)
            status = gr.HTML(f"<p>{say('synth.jobs.none')}</p>")
            with gr.Row():
                buttons = [gr.Button(say(f"synth.{name}"), size="sm") for name in ("pause", "resume", "stop")]
            shown = gr.HTML(f"<p>{say('synth.empty')}</p>", elem_id=f"synth-preview-{say.lang}")
    form["volume"].change(on_volume, form["volume"], form["tokens"], show_progress="hidden")
    form["file"].upload(partial(on_own, say), form["file"], form["recipe"])
    show.click(partial(on_show, say), inputs_kwargs=form, outputs=shown, show_progress="hidden")
    start.click(partial(on_start, say), inputs_kwargs=form, outputs=[listing, probe])
    timer.tick(partial(on_tick, say), listing, [listing, probe], show_progress="hidden", api_visibility="private")
    listing.change(look, listing, probe, show_progress="hidden")
    listing.focus(lambda: gr.update(choices=job_choices(say)), None, listing, show_progress="hidden")
    drawn = [status, *buttons, delete, changed]
    probe.change(partial(draw, say), [listing, probe, changed], drawn, show_progress="hidden")
    for button, ask in zip(buttons, (jobs.pause, synth_jobs.resume, synth_jobs.stop), strict=True):
        button.click(partial(on_ask, say, ask), listing, probe, show_progress="hidden")
    delete.click(partial(on_delete, say), listing, [listing, status])
    return {"changed": changed}


def build_form(say: Say) -> dict:
    """Components by the names that core.synth.jobs.create knows, and "volume" and "file"."""
    named = [(say("synth.volume.other"), OTHER)]
    volumes = [(say.number(tokens, 12), tokens) for tokens in preview.VOLUMES]
    form = {
        "recipe": gr.Dropdown(recipe_choices(say), label=say("synth.recipe"), info=say("synth.recipe.info")),
        "volume": gr.Radio(
            volumes + named, value=preview.VOLUMES[0], label=say("synth.volume"), info=say("synth.volume.info")
        ),
        "tokens": gr.Number(200_000, label=say("synth.tokens"), precision=0, visible=False),
        "model": gr.Dropdown(
            model_choices(say, "synth.model.none"), value="", label=say("synth.model"), info=say("synth.model.info")
        ),
    }
    with gr.Row():
        form["name"] = gr.Textbox(label=say("synth.name"), scale=3)
        form["seed"] = gr.Number(
            0, label=say("synth.seed"), info=say("synth.seed.info"), precision=0, minimum=0, scale=1, min_width=100
        )
    form["file"] = gr.File(label=say("synth.own"), file_types=[".yaml", ".yml"], height=110)
    with gr.Accordion(say("synth.writer"), open=False):
        gr.Markdown(say("synth.writer.about"))
        form["endpoint"] = gr.Textbox(label=say("synth.endpoint"), placeholder="http://127.0.0.1:11434/v1")
        form["endpoint_model"] = gr.Textbox(label=say("synth.endpoint_model"), placeholder="qwen3:8b")
        form["writer"] = gr.Dropdown(
            model_choices(say), value="", label=say("synth.local"), info=say("synth.local.info")
        )
        form["corpus"] = gr.Dropdown(
            corpus_choices(), value="", label=say("synth.corpus"), info=say("synth.corpus.info")
        )
        form["personas"] = gr.Textbox(label=say("synth.personas"), info=say("synth.personas.info"), lines=3)
        dropped = gr.File(
            label=say("synth.personas.file"),
            file_types=[".txt", ".md", ".csv"],
            height=110,
            elem_id=f"synth-personas-{say.lang}",
        )
        dropped.upload(partial(on_personas, say), dropped, form["personas"])
        form["parallel"] = gr.Slider(1, 32, 4, step=1, label=say("synth.parallel"), info=say("synth.parallel.info"))
        form["corpus"].focus(lambda: gr.update(choices=corpus_choices()), None, form["corpus"], show_progress="hidden")
    form["model"].focus(
        lambda: gr.update(choices=model_choices(say, "synth.model.none")), None, form["model"], show_progress="hidden"
    )
    return form


def recipe_choices(say: Say) -> list[tuple[str, str]]:
    """Recipes of the program, the page's language first, then the person's own."""
    found = sorted(recipes.listed(), key=lambda one: one["lang"] != say.lang)
    own = sorted((paths.home() / "recipes").glob("*.yaml"))
    return [(say.pick(one["title"]), one["name"]) for one in found] + [(path.name, str(path)) for path in own]


def model_choices(say: Say, none: str | None = None) -> list[tuple[str, str]]:
    return [(say(none) if none else "—", ""), *((model["title"], model["path"]) for model in models.ready())]


def corpus_choices() -> list[tuple[str, str]]:
    return [("—", ""), *((card["name"], card["id"]) for card in corpus.listed())]


def job_choices(say: Say) -> list[tuple[str, str]]:
    return [
        (f"{jobs.request(path)['name']} · {say.number(jobs.request(path)['tokens'], 12)}", path.name)
        for path in synth_jobs.listed()
    ]


def newest() -> str | None:
    return next((path.name for path in synth_jobs.listed()), None)


def on_volume(volume: int):
    return gr.update(visible=volume == OTHER)


def on_own(say: Say, file: str | None):
    """Keep a person's recipe among their own, after it was read without complaint."""
    if not file:
        return gr.skip()
    try:
        recipe = recipes.load(file)
    except UserError as error:
        raise Refused(say.trouble(error)) from error
    folder = paths.home() / "recipes"
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"{paths.slug(recipe.name)}.yaml"
    shutil.copyfile(file, kept)
    return gr.update(choices=recipe_choices(say), value=str(kept))


def on_personas(say: Say, file: str | None):
    """The lines of a dropped file, in the box where they can be read and changed."""
    if not file:
        return gr.skip()
    try:
        return Path(file).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refused(say("synth.personas.unreadable")) from error


def request(say: Say, values: dict) -> dict:
    """The form as core.synth.jobs.create takes it."""
    try:
        named = prompts.read_personas(values.pop("personas"))
    except UserError as error:
        raise Refused(say.trouble(error)) from error
    values = {key: value or None if isinstance(value, str) else value for key, value in values.items()}
    tokens = values.pop("volume") or values["tokens"]
    values.pop("file")
    values["personas"] = named
    return values | {"tokens": int(tokens or 0), "seed": int(values["seed"] or 0), "name": values["name"] or ""}


def on_show(say: Say, **values):
    """Ten rows, the x-ray and the price, made in a process of their own."""
    wanted = request(say, values)
    if not wanted["recipe"]:
        raise Refused(say("synth.recipe.missing"))
    yield f"<p>{say('synth.showing')}</p>"
    command = [sys.executable, "-m", "core.synth", wanted["recipe"], "--preview", "--json"]
    for name in ("tokens", "seed", "model", "endpoint", "endpoint_model", "writer", "corpus", "parallel"):
        if wanted[name] is not None:
            command += [f"--{name.replace('_', '-')}", str(wanted[name])]
    try:
        with listed(wanted["personas"]) as file:
            found = list(import_process.run([*command, *(["--personas", file] if file else [])]))[-1]
    except ErrorElsewhere as error:
        yield markup.trouble(say.trouble(error))
        return
    except UserError as error:
        yield markup.trouble(say("synth.failed", reason=error.values.get("reason", str(error))))
        return
    yield markup.preview(say, found)


@contextmanager
def listed(names: list[str]):
    """A file of personas for the command, or nothing where there are none."""
    if not names:
        yield None
        return
    with TemporaryDirectory(prefix="soulsmith-") as folder:
        path = Path(folder) / "personas.txt"
        path.write_text("\n".join(names), encoding="utf-8")
        yield str(path)


def on_start(say: Say, **values):
    """Start the job of the form, detached from this page."""
    wanted = request(say, values)
    if not wanted["recipe"]:
        raise Refused(say("synth.recipe.missing"))
    titles = {name: title for title, name in recipe_choices(say)}
    try:
        directory = synth_jobs.create(wanted | {"name": wanted["name"] or titles.get(wanted["recipe"], "")})
        synth_jobs.start(directory)
    except UserError as error:
        raise Refused(say.trouble(error)) from error
    return gr.update(choices=job_choices(say), value=directory.name), look(directory.name)


def look(job_id: str | None) -> str:
    """What is cheap to ask of a job, as text: the page is drawn anew only when it changes."""
    try:
        return json.dumps(synth_jobs.progress(synth_jobs.find(job_id)), ensure_ascii=False) if job_id else ""
    except (UserError, OSError, ValueError):
        return ""


def on_tick(say: Say, job_id: str | None):
    """The job that is shown; after a reload, or when it was deleted, the newest."""
    if job_id and (probe := look(job_id)):
        return gr.skip(), probe
    job_id = newest()
    return (gr.update(choices=job_choices(say), value=job_id) if job_id else gr.skip()), look(job_id)


def draw(say: Say, job_id: str | None, probe: str | None, changed: float):
    """The job at a glance, the buttons that make sense now, and a new mark once its corpus exists."""
    if not probe:
        off = [gr.update(interactive=False)] * 4
        return [f"<p>{say('synth.jobs.none')}</p>", *off, gr.skip()]
    found = json.loads(probe)
    now = found["state"]
    at_work = now in ("running", "queued")
    can = (at_work, now in ("paused", "failed", "lost"), now in ("running", "paused", "failed", "lost"))
    ending = found["ending"]
    mark = ending["time"] if ending.get("corpus") else 0.0
    buttons = [gr.update(interactive=one) for one in (*can, not at_work)]
    return [markup.job(say, found), *buttons, mark if mark > changed else gr.skip()]


def on_ask(say: Say, ask, job_id: str | None):
    try:
        ask(synth_jobs.find(job_id or ""))
    except UserError as error:
        raise Refused(say.trouble(error)) from error
    time.sleep(0.3)  # a job that is woken takes its lock
    return look(job_id)


def on_delete(say: Say, job_id: str | None):
    try:
        jobs.delete(synth_jobs.find(job_id or ""))
    except UserError as error:
        raise Refused(say.trouble(error)) from error
    return gr.update(choices=job_choices(say), value=newest()), f"<p>{say('synth.jobs.none')}</p>"
