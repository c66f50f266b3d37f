"""The form of the tab that makes corpora: the recipe, how much, who writes; and the request that it makes."""

from functools import partial
from pathlib import Path

import gradio as gr

from core import files
from core.corpus import corpus
from core.errors import UserError
from core.models import models
from core.synth import material, preview, prompts, recipes
from ui import synth_recipe
from ui.errors import Refused, show_errors
from ui.text import Say

OTHER = 0  # of the volumes: the number is typed


def build(say: Say) -> tuple[dict, gr.Markdown]:
    """The recipe and how much of it; and the text that says what the recipe is."""
    volumes = [(say.number(tokens, 12), tokens) for tokens in preview.VOLUMES] + [(say("synth.volume.other"), OTHER)]
    chosen = first_recipe(say)
    form = {"recipe": gr.Dropdown(synth_recipe.choices(say), value=chosen, **say.field("synth.recipe"))}
    about = gr.Markdown(synth_recipe.told(say, chosen))
    form |= {
        "volume": gr.Radio(volumes, value=preview.VOLUMES[0], **say.field("synth.volume")),
        "tokens": gr.Number(200_000, label=say("synth.tokens"), precision=0, visible=False),
    }
    form["volume"].change(on_volume, form["volume"], form["tokens"], show_progress="hidden")
    return form, about


def build_more(say: Say) -> dict:
    """Who writes, and what may stay as it is, both folded."""
    form = {}
    with gr.Accordion(say("synth.writer"), open=False):
        gr.Markdown(say("synth.writer.about"))
        form["endpoint"] = gr.Textbox(label=say("synth.endpoint"), placeholder="http://127.0.0.1:11434/v1")
        form["endpoint_model"] = gr.Textbox(label=say("synth.endpoint_model"), placeholder="qwen3:8b")
        with gr.Row():
            form["judge_endpoint"] = gr.Textbox(min_width=260, **say.field("synth.judge"))
            form["judge_model"] = gr.Textbox(min_width=160, **say.field("synth.judge_model"))
        with gr.Row():
            form["writer"] = gr.Dropdown(model_choices(), value="", min_width=260, **say.field("synth.local"))
            form["embedder"] = gr.Dropdown(model_choices(), value="", min_width=260, **say.field("synth.embedder"))
        form["corpus"] = gr.Dropdown(corpus_choices(), value="", **say.field("synth.corpus"))
        form["topics"] = gr.CheckboxGroup([], visible=False, **say.field("synth.topics"))
        form["corpus"].input(partial(on_corpus, say), form["corpus"], form["topics"], show_progress="hidden")
        form["personas"] = gr.Textbox(lines=3, **say.field("synth.personas"))
        types, id = [".txt", ".md", ".csv"], f"synth-personas-{say.lang}"
        dropped = gr.File(label=say("synth.personas.file"), file_types=types, height=110, elem_id=id)
        dropped.upload(partial(on_personas, say), dropped, form["personas"])
        with gr.Row():
            form["temperature"] = gr.Slider(0, 2, 0.9, step=0.05, min_width=160, **say.field("synth.temperature"))
            form["top_p"] = gr.Slider(0.05, 1, 1, step=0.05, min_width=160, **say.field("synth.top_p"))
            form["max_tokens"] = gr.Number(600, precision=0, minimum=16, min_width=160, **say.field("synth.max_tokens"))
        with gr.Row():
            thinking = [(say(f"synth.thinking.{value or 'auto'}"), value) for value in ("", "off", "on")]
            form["thinking"] = gr.Radio(thinking, value="", min_width=260, **say.field("synth.thinking"))
            form["parallel"] = gr.Slider(1, 32, 4, step=1, min_width=160, **say.field("synth.parallel"))
            form["timeout"] = gr.Number(300, precision=0, minimum=5, min_width=160, **say.field("synth.timeout"))
    with gr.Accordion(say("synth.more"), open=False):
        form["name"] = gr.Textbox(label=say("synth.name"))
        counted = partial(model_choices, say("synth.model.none"))
        form["model"] = gr.Dropdown(counted(), value="", **say.field("synth.model"))
        with gr.Row():
            form["seed"] = gr.Number(0, precision=0, minimum=0, min_width=140, **say.field("synth.seed"))
            form["shard"] = gr.Textbox(placeholder="2/4", min_width=140, **say.field("synth.shard"))
        with gr.Row():
            form["replay"] = gr.Slider(0, 60, 0, step=5, min_width=160, **say.field("synth.replay"))
            form["replay_corpus"] = gr.Dropdown(
                corpus_choices(), value="", min_width=160, **say.field("synth.replay_corpus")
            )
        form["curriculum"] = gr.Checkbox(False, **say.field("synth.curriculum"))
    for name, choices in (("model", counted), ("corpus", corpus_choices), ("replay_corpus", corpus_choices)):
        refresh = partial(lambda choices: gr.update(choices=choices()), choices)
        form[name].focus(refresh, None, form[name], show_progress="hidden")
    return form


def first_recipe(say: Say) -> str:
    """The recipe that is chosen at first: one that writes at once, where there is no model to write."""
    listed = sorted(recipes.listed(), key=lambda recipe: recipe["lang"] != say.lang)
    able = listed if models.ready() else [recipe for recipe in listed if recipe["kind"] == "grammar"]
    return able[0]["name"]


def model_choices(none: str = "—") -> list[tuple[str, str]]:
    return [(none, ""), *((model["title"], model["path"]) for model in models.ready())]


def corpus_choices() -> list[tuple[str, str]]:
    return [("—", ""), *((card["name"], card["id"]) for card in corpus.listed())]


def on_volume(volume: int):
    return gr.update(visible=volume == OTHER)


def on_corpus(say: Say, name: str | None):
    """The topics of the chosen corpus, all of them ticked; hidden where there is only one."""
    try:
        topics = material.topics(name) if name else {}
    except (UserError, OSError):
        topics = {}
    choices = [(f"{topic or '—'} ({say.number(count, 12)})", topic) for topic, count in topics.items()]
    return gr.update(choices=choices, value=list(topics), visible=len(topics) > 1)


@show_errors
def on_personas(say: Say, file: str | None):
    """The lines of a dropped file, in the box where they can be read and changed."""
    if not file:
        return gr.skip()
    try:
        return files.read_text(Path(file))
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
    values |= sampling(values) | {"topics": chosen_topics(say, values["corpus"], values["topics"])}
    return values | {"personas": prompts.read_personas(values["personas"])}


def chosen_topics(say: Say, name: str | None, ticked: list[str] | None) -> list[str] | None:
    """The topics that are ticked; None, for every passage, where all are: of many topics the rarest are not offered."""
    offered = material.topics(name) if name else {}
    if len(offered) > 1 and not ticked:
        raise Refused(say("synth.topics.missing"))
    return ticked if ticked and not offered.keys() <= set(ticked) else None


def sampling(values: dict) -> dict:
    """How a model is asked, as a request has it; all words are drawn from where top_p is 1."""
    top_p = values["top_p"] if values["top_p"] and values["top_p"] < 1 else None
    return {"thinking": values["thinking"] or "", "top_p": top_p, "max_tokens": int(values["max_tokens"] or 600)}
