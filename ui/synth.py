"""The tab that makes corpora: a recipe, ten rows and the price, then a job that is watched, paused and resumed."""

import json
import shutil
import threading
import time
from concurrent.futures import wait
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import gradio as gr

from core import jobs, paths
from core.corpus import corpus, import_process
from core.errors import ErrorElsewhere, UserError
from core.models import models
from core.synth import preview, prompts, recipes, synth_jobs
from core.synth.writers import in_thread
from ui import synth_html, templates
from ui.errors import Refused, show_errors
from ui.text import Say

TICK_SECONDS = 2
BEAT_SECONDS = 0.5  # between two looks whether a preview was cancelled
ASKED = ("pause", "resume", "again", "stop")  # of a job
PREVIEWED = (
    *(
        "parallel",
        "temperature",
        "top_p",
        "max_tokens",
        "thinking",
        "timeout",
        "shard",
        "judge_endpoint",
        "judge_model",
    ),
)
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
                cancel = gr.Button(say("synth.cancel"), visible=False)
                start = gr.Button(say("synth.start"), variant="primary")
        with gr.Column(scale=3, min_width=420):
            with gr.Row():
                listing = gr.Dropdown(job_choices(say), value=None, label=say("synth.jobs"), scale=4)
                delete = gr.Button(say("synth.delete"), size="sm", min_width=120, scale=1)
            status = gr.HTML(_no_job(say))
            with gr.Row():
                buttons = [gr.Button(say(f"synth.{name}"), size="sm") for name in ASKED]
            shown = gr.HTML(templates.macro("paragraph", say("synth.empty")), elem_id=f"synth-preview-{say.lang}")
    form["volume"].change(on_volume, form["volume"], form["tokens"], show_progress="hidden")
    form["file"].upload(partial(on_own, say), form["file"], form["recipe"])
    shows = [shown, cancel]
    made = show.click(partial(on_show, say), inputs_kwargs=form, outputs=shows, show_progress="hidden")
    cancel.click(partial(on_cancel, say), None, shows, cancels=made, show_progress="hidden")
    start.click(partial(on_start, say), inputs_kwargs=form, outputs=[listing, probe])
    timer.tick(partial(on_tick, say), listing, [listing, probe], show_progress="hidden")
    listing.change(look, listing, probe, show_progress="hidden")
    listing.focus(lambda: gr.update(choices=job_choices(say)), None, listing, show_progress="hidden")
    drawn = [status, *buttons, delete, changed]
    probe.change(partial(draw, say), [listing, probe, changed], drawn, show_progress="hidden")
    asked = {"job_id": listing} | {name: form[name] for name in ("recipe", *synth_jobs.CHANGEABLE)}
    for button, name in zip(buttons, ASKED, strict=True):
        button.click(partial(on_ask, say, name), inputs_kwargs=asked, outputs=probe, show_progress="hidden")
    delete.click(partial(on_delete, say), listing, [listing, status])
    return {"changed": changed}


def build_form(say: Say) -> dict:
    """Components by the names that core.synth.synth_jobs.create knows, and "volume" and "file"."""

    def words(name: str) -> dict:
        return {"label": say(f"synth.{name}"), "info": say(f"synth.{name}.info")}

    def counted_models():
        return model_choices(say("synth.model.none"))

    volumes = [(say.number(tokens, 12), tokens) for tokens in preview.VOLUMES] + [(say("synth.volume.other"), OTHER)]
    form = {"recipe": gr.Dropdown(recipe_choices(say), value=first_recipe(say), **words("recipe"))}
    about = gr.Markdown(on_recipe(say, first_recipe(say)))
    form["recipe"].change(partial(on_recipe, say), form["recipe"], about, show_progress="hidden")
    form |= {
        "volume": gr.Radio(volumes, value=preview.VOLUMES[0], **words("volume")),
        "tokens": gr.Number(200_000, label=say("synth.tokens"), precision=0, visible=False),
        "model": gr.Dropdown(counted_models(), value="", **words("model")),
    }
    with gr.Row():
        form["name"] = gr.Textbox(label=say("synth.name"), scale=3)
        form["seed"] = gr.Number(0, precision=0, minimum=0, scale=1, min_width=100, **words("seed"))
        form["shard"] = gr.Textbox(placeholder="2/4", scale=1, min_width=100, **words("shard"))
    form["file"] = gr.File(label=say("synth.own"), file_types=[".yaml", ".yml"], height=110)
    with gr.Accordion(say("synth.writer"), open=False):
        gr.Markdown(say("synth.writer.about"))
        form["endpoint"] = gr.Textbox(label=say("synth.endpoint"), placeholder="http://127.0.0.1:11434/v1")
        form["endpoint_model"] = gr.Textbox(label=say("synth.endpoint_model"), placeholder="qwen3:8b")
        with gr.Row():
            form["judge_endpoint"] = gr.Textbox(min_width=260, **words("judge"))
            form["judge_model"] = gr.Textbox(min_width=160, **words("judge_model"))
        form["writer"] = gr.Dropdown(model_choices(), value="", **words("local"))
        form["corpus"] = gr.Dropdown(corpus_choices(), value="", **words("corpus"))
        form["personas"] = gr.Textbox(lines=3, **words("personas"))
        types, id = [".txt", ".md", ".csv"], f"synth-personas-{say.lang}"
        dropped = gr.File(label=say("synth.personas.file"), file_types=types, height=110, elem_id=id)
        dropped.upload(partial(on_personas, say), dropped, form["personas"])
        with gr.Row():
            form["temperature"] = gr.Slider(0, 2, 0.9, step=0.05, min_width=160, **words("temperature"))
            form["top_p"] = gr.Slider(0.05, 1, 1, step=0.05, min_width=160, **words("top_p"))
            form["max_tokens"] = gr.Number(600, precision=0, minimum=16, min_width=160, **words("max_tokens"))
        with gr.Row():
            thinking = [(say(f"synth.thinking.{value or 'auto'}"), value) for value in ("", "off", "on")]
            form["thinking"] = gr.Radio(thinking, value="", min_width=260, **words("thinking"))
            form["parallel"] = gr.Slider(1, 32, 4, step=1, min_width=160, **words("parallel"))
            form["timeout"] = gr.Number(300, precision=0, minimum=5, min_width=160, **words("timeout"))
    for name, choices in (("model", counted_models), ("corpus", corpus_choices)):
        refresh = partial(lambda choices: gr.update(choices=choices()), choices)
        form[name].focus(refresh, None, form[name], show_progress="hidden")
    return form


def recipe_choices(say: Say) -> list[tuple[str, str]]:
    """Recipes of the program, the page's language first, then the person's own."""
    ours = sorted(recipes.listed(), key=lambda one: one["lang"] != say.lang)
    own = sorted((paths.home() / "recipes").glob("*.yaml"))
    return [(_title(say, one), one["name"]) for one in ours] + [(path.name, str(path)) for path in own]


def first_recipe(say: Say) -> str:
    """The recipe that is chosen at first: one that writes at once, where there is no model to write."""
    listed = sorted(recipes.listed(), key=lambda recipe: recipe["lang"] != say.lang)
    able = listed if models.ready() else [recipe for recipe in listed if recipe["kind"] == "grammar"]
    return able[0]["name"]


def _title(say: Say, recipe: dict) -> str:
    """The title of a recipe of the program; written recipes and grammars of one name are told from each other."""
    title = say.pick(recipe["title"])
    return say("synth.recipe.no_model", title=title) if recipe["kind"] == "grammar" else title


def on_recipe(say: Say, name: str | None) -> str:
    """What a recipe is in a sentence, and the steps of a chain in their order."""
    try:
        recipe = recipes.load(name) if name else None
    except UserError as error:
        return say.trouble(error)
    about = recipe.values.get("about") if recipe else None
    text = say.pick(about) if isinstance(about, dict) else str(about or "")
    if not recipe or not recipe.chain:
        return text
    verbs: dict[str, list[str]] = {}
    for step in recipe.chain.steps:
        verbs.setdefault(step.name, []).append(say(f"synth.recipe.verb.{step.verb}"))
    steps = "; ".join(f"`{name}` {', '.join(some)}" for name, some in verbs.items())
    return f"{text}\n\n{say('synth.recipe.steps', steps=steps)}"


def model_choices(none: str = "—") -> list[tuple[str, str]]:
    return [(none, ""), *((model["title"], model["path"]) for model in models.ready())]


def corpus_choices() -> list[tuple[str, str]]:
    return [("—", ""), *((card["name"], card["id"]) for card in corpus.listed())]


def job_choices(say: Say) -> list[tuple[str, str]]:
    requests = {path.name: jobs.request(path) for path in synth_jobs.listed()}
    return [(f"{one['name']} · {say.number(one['tokens'], 12)}", id) for id, one in requests.items()]


def on_volume(volume: int):
    return gr.update(visible=volume == OTHER)


@show_errors
def on_own(say: Say, file: str | None):
    """Keep a person's recipe among their own, after it was read without complaint."""
    if not file:
        return gr.skip()
    own = paths.home() / "recipes" / f"{paths.slug(recipes.load(file).name)}.yaml"
    own.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, own)
    return gr.update(choices=recipe_choices(say), value=str(own))


def on_personas(say: Say, file: str | None):
    """The lines of a dropped file, in the box where they can be read and changed."""
    if not file:
        return gr.skip()
    try:
        return Path(file).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refused(say("synth.personas.unreadable")) from error


@show_errors
def request(say: Say, values: dict) -> dict:
    """The form as core.synth.synth_jobs.create takes it."""
    if not values["recipe"]:
        raise Refused(say("synth.recipe.missing"))
    values = {key: value or None if isinstance(value, str) else value for key, value in values.items() if key != "file"}
    tokens = values.pop("volume") or values["tokens"]
    values |= {"tokens": int(tokens or 0), "seed": int(values["seed"] or 0), "name": values["name"] or ""}
    values |= _sampling(values)
    return values | {"personas": prompts.read_personas(values["personas"])}


def _sampling(values: dict) -> dict:
    """How a model is asked, as a request has it; all words are drawn from where top_p is 1."""
    top_p = values["top_p"] if values["top_p"] and values["top_p"] < 1 else None
    return {"thinking": values["thinking"] or "", "top_p": top_p, "max_tokens": int(values["max_tokens"] or 600)}


def on_show(say: Say, **values):
    """Ten rows, the x-ray and the price, made in a process of their own."""
    wanted, began = request(say, values), time.monotonic()
    command, on, off = _preview_command(wanted), gr.update(visible=True), gr.update(visible=False)
    closed = threading.Event()
    try:
        with TemporaryDirectory(prefix="soulsmith-") as folder:
            if wanted["personas"]:
                file = Path(folder) / "personas.txt"
                file.write_text("\n".join(wanted["personas"]), encoding="utf-8")
                command += ["--personas", str(file)]
            working = in_thread(lambda: list(import_process.run(command, look=partial(_end_if, closed)))[-1])
            while not working.done():
                seconds = say.duration(max(1, round(time.monotonic() - began)))
                yield templates.macro("paragraph", say("synth.showing", seconds=seconds)), on
                wait([working], timeout=BEAT_SECONDS)
            shown = working.result()
    except ErrorElsewhere as error:
        yield templates.macro("trouble", say.trouble(error)), off
        return
    except import_process.ImportBroke as error:
        yield templates.macro("trouble", say("synth.failed", reason=error.values["reason"])), off
        return
    finally:
        closed.set()  # a cancelled preview leaves no process behind
    yield synth_html.preview(say, shown), off


class _Closed(Exception):
    """Nobody waits for the preview any more."""


def _end_if(closed: threading.Event) -> None:
    if closed.is_set():
        raise _Closed


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
    titles = {name: title for title, name in recipe_choices(say)}
    directory = synth_jobs.create(wanted | {"name": wanted["name"] or titles.get(wanted["recipe"], "")})
    synth_jobs.start(directory)
    return gr.update(choices=job_choices(say), value=directory.name), look(directory.name)


def look(job_id: str | None) -> str:
    """What is cheap to read of a job, as text: the page is drawn anew only when it changes."""
    try:
        return json.dumps(synth_jobs.progress(synth_jobs.find(job_id)), ensure_ascii=False) if job_id else ""
    except (UserError, OSError, ValueError):
        return ""


def on_tick(say: Say, job_id: str | None):
    """The job that is shown; after a reload, or when it was deleted, the newest."""
    if job_id and (probe := look(job_id)):
        return gr.skip(), probe
    newest = _newest()
    return (gr.update(choices=job_choices(say), value=newest) if newest else gr.skip()), look(newest)


def _newest() -> str | None:
    return next((path.name for path in synth_jobs.listed()), None)


def draw(say: Say, job_id: str | None, probe: str | None, changed: float):
    """The job at a glance, the buttons that make sense now, and a new mark once its corpus exists."""
    if not probe:
        return [_no_job(say), *[gr.update(interactive=False)] * 5, gr.skip()]
    job = json.loads(probe)
    state, ending = job["state"], job["ending"]
    at_work, can_resume = state in ("running", "queued"), state in ("paused", "failed", "lost")
    again = can_resume and bool(job["progress"].get("aside"))
    enabled = (at_work, can_resume, again, can_resume or state == "running", not at_work)  # ASKED, delete
    mark = ending["time"] if ending.get("corpus") else 0.0
    buttons = [gr.update(interactive=one) for one in enabled]
    return [synth_html.job(say, job), *buttons, mark if mark > changed else gr.skip()]


def _no_job(say: Say) -> str:
    return templates.macro("paragraph", say("synth.jobs.none"))


@show_errors
def on_ask(say: Say, name: str, job_id: str | None, recipe: str | None = None, **form):
    """Pause, stop or go on; what the form says of how a model is asked counts from then on, if it has that recipe."""
    directory = synth_jobs.find(job_id or "")
    if name in ("pause", "stop"):
        (partial(jobs.ask, request="pause") if name == "pause" else synth_jobs.stop)(directory)
    else:
        same = Path(recipe or "").stem == jobs.request(directory)["recipe"]
        changes = {key: value for key, value in (form | _sampling(form)).items() if value != ""} if same else {}
        synth_jobs.resume(directory, changes, again=name == "again")
    time.sleep(0.3)  # a job that is resumed takes its lock
    return look(job_id)


@show_errors
def on_delete(say: Say, job_id: str | None):
    jobs.delete(synth_jobs.find(job_id or ""))
    return gr.update(choices=job_choices(say), value=_newest()), _no_job(say)
