"""The approaches of the Training tab, a line about each, and the form of the last: a prompt profile."""

from functools import partial

import gradio as gr

from core.chat import profiles
from core.models import models
from core.runs import defaults
from core.training.config import CHOICES
from ui import buttons, model_choices
from ui.errors import inform, show_errors
from ui.text import Say

APPROACHES = ("qlora", "lora", "full", "text", "preference", "prompt")
ALLOWED = {  # by kind of corpus
    "text": ("text",),
    "chat": ("qlora", "lora", "full"),
    "preference": ("preference",),
    "judged": ("preference", "qlora", "lora", "full"),
}
WITH_METHOD = ("text", "preference")  # approaches that are tasks: their method is chosen besides
OF_PREFERENCES = ("preference_loss", "beta", "label_smoothing", "desirable_weight", "undesirable_weight")
EMPTY_ROWS = 3


def build_choice(say: Say) -> tuple[gr.Radio, gr.Markdown]:
    """The choice of an approach, and what the chosen one changes, costs and risks."""
    approach = gr.Radio(choices(say, ""), value=APPROACHES[0], label=say("approach"), elem_id="approach")
    return approach, gr.Markdown(about(say, APPROACHES[0]), elem_classes="subdued")


def choices(say: Say, kind: str) -> list[tuple[str, str]]:
    """The approaches to choose from with a corpus of this kind: preferences only where it holds some."""
    shown = [name for name in APPROACHES if name != "preference" or kind in ("preference", "judged")]
    return [(say(f"approach.{name}"), name) for name in shown]


def build_profile(say: Say) -> dict:
    """The form of a profile; hidden until that approach is chosen."""
    with gr.Column(visible=False) as part:
        saved = gr.Dropdown(label=say("profile.saved"), info=say("profile.saved.info"))
        name = gr.Textbox(label=say("profile.name"))
        base_model = gr.Dropdown(
            label=say("training.base_model"), info=say("training.base_model.info"), allow_custom_value=True
        )
        system_prompt = gr.Textbox(
            label=say("profile.system_prompt"), info=say("profile.system_prompt.info"), lines=4, max_lines=16
        )
        examples = gr.Dataframe(
            [["", ""]] * EMPTY_ROWS,
            headers=[say("profile.said"), say("profile.reply")],
            datatype="str",
            type="array",
            row_count=EMPTY_ROWS,
            column_count=2,
            label=say("profile.examples"),
            interactive=True,
            wrap=True,
        )
        with gr.Row():
            save = gr.Button(say("profile.save"), variant="primary")
            delete = gr.Button(say("profile.delete"), size="sm")
    buttons.needs(save, name, base_model)
    buttons.needs(delete, saved)
    fields = [name, base_model, system_prompt, examples]
    save.click(partial(on_save, say), fields, saved, show_progress="hidden")
    saved.input(partial(on_open, say), saved, fields)
    delete.click(partial(on_delete, say), saved, saved)
    return {"part": part, "saved": saved, "base_model": base_model, "fields": fields}


def connect(say: Say, approach: gr.Radio, note: gr.Markdown, form: dict, run_part: gr.Column, profile: dict):
    """Let the approach set method and task, and follow them when the Calculator sets them; the event of a choice."""
    outputs = [note, run_part, profile["part"], profile["saved"], profile["base_model"]]
    of_preferences = [form[name] for name in OF_PREFERENCES]
    outputs += [form["method"], form["task"], form["packing"], *of_preferences]
    begun, quiet = [form["method"], form["start"]], {"show_progress": "hidden"}
    inputs = [approach, form["base_model"], *begun]
    form["corpus"].change(partial(on_corpus, say), [form["corpus"], *inputs], [approach, *outputs], **quiet)
    form["corpus"].input(partial(on_chosen, say), [form["corpus"], approach, *begun], None, **quiet)
    values = [approach, form["method"], form["task"]]
    changes = [form["method"].change, form["task"].change]
    made = [approach, note, form["method"], *of_preferences]
    gr.on(changes, partial(on_fields, say), [form["corpus"], *values], made, **quiet)
    return approach.input(partial(on_approach, say), [*inputs, form["corpus"]], outputs, **quiet)


def about(say: Say, approach: str) -> str:
    return say(f"approach.{approach}.about")


def on_approach(
    say: Say,
    approach: str,
    base_model: str | None,
    method: str = "",
    start: str | None = "",
    corpus_id: str | None = "",
) -> tuple:
    """Show what belongs to an approach, and set the fields that make it; what a run goes on from keeps its method."""
    if approach == "prompt":
        saved = gr.Dropdown(choices=_saved(), value=None)
        models_there = gr.Dropdown(choices=model_choices.choices(say), value=base_model or models.STARTER)
        fields = (gr.skip(),) * 3
    else:
        saved, models_there, task = gr.skip(), gr.skip(), approach if approach in WITH_METHOD else "chat"
        made_by = ((start and method) or "lora") if approach in WITH_METHOD else approach
        fields = (gr.Radio(value=made_by, visible=approach in WITH_METHOD), task, approach == "text")
    run_part, profile_part = gr.Column(visible=approach != "prompt"), gr.Column(visible=approach == "prompt")
    made = _of_preferences(approach, corpus_id)
    return about(say, approach), run_part, profile_part, saved, models_there, *fields, *made


def _of_preferences(approach: str, corpus_id: str | None) -> list:
    """The fields of OF_PREFERENCES, shown where they mean something; replies without pairs are for KTO alone."""
    shown = approach == "preference"
    losses = list(CHOICES["preference_loss"])
    fixed = {"value": "kto", "choices": losses} if shown and defaults.kind(corpus_id) == "judged" else {}
    return [gr.Dropdown(visible=shown, **fixed), *(gr.Number(visible=shown) for _ in OF_PREFERENCES[1:])]


def on_corpus(
    say: Say, corpus_id: str | None, approach: str, base_model: str | None, method: str = "", start: str | None = ""
) -> tuple:
    """Choose the approach that a corpus allows: texts are for continued pretraining, pairs for preferences."""
    suited, offered = better(corpus_id, approach, method, start), choices(say, defaults.kind(corpus_id))
    if suited:
        return gr.Radio(choices=offered, value=suited), *on_approach(say, suited, base_model, method, start, corpus_id)
    if defaults.kind(corpus_id) == "judged":
        return gr.Radio(choices=offered), *(gr.skip(),) * 8, *_of_preferences(approach, corpus_id)
    return gr.Radio(choices=offered), *(gr.skip(),) * (8 + len(OF_PREFERENCES))


def on_chosen(say: Say, corpus_id: str | None, approach: str, method: str = "", start: str | None = "") -> None:
    """Show a notice if choosing a corpus changes the approach; none when the page is opened."""
    if suited := better(corpus_id, approach, method, start):
        sentence = {"text": "for_text", "preference": "for_preferences"}.get(suited, "for_chats")
        inform(say(f"approach.{sentence}", approach=say(f"approach.{suited}")))


def better(corpus_id: str | None, approach: str, method: str = "", start: str | None = "") -> str | None:
    """The approach that suits a corpus, where it does not allow the chosen one; with a start that of its method."""
    allowed = ALLOWED.get(defaults.kind(corpus_id), ("qlora", "lora", "full", "text"))
    if approach == "prompt" or approach in allowed:
        return None
    return method if start and method in allowed else allowed[0]


def on_fields(say: Say, corpus_id: str | None, approach: str, method: str, task: str) -> tuple:
    """The approach that a method and a task make."""
    if approach == "prompt":
        return (gr.skip(),) * (3 + len(OF_PREFERENCES))
    config = {"corpus": corpus_id, "method": method, "task": task}
    made, note, *_ = of_run(say, config)
    return made, note, gr.Radio(visible=task in WITH_METHOD), *_of_preferences(approach_of(config), corpus_id)


def of_run(say: Say, config: dict) -> list:
    """The approach that a run was trained by, the line about it, and its part of the tab: what on_corpus() then keeps."""
    made = approach_of(config)
    offered = choices(say, "preference" if made == "preference" else defaults.kind(config["corpus"]))
    return [gr.Radio(choices=offered, value=made), about(say, made), gr.Column(visible=True), gr.Column(visible=False)]


def approach_of(config: dict) -> str:
    """The approach that a config is of."""
    task = config.get("task")
    return task if task in WITH_METHOD else config.get("method", APPROACHES[0])


def fields_of_run(config: dict) -> dict:
    """The fields of a run's config that only some approaches show, with their values."""
    task, names = config.get("task"), ("method", *OF_PREFERENCES)
    shown = dict.fromkeys(names, task == "preference") | {"method": task in WITH_METHOD}
    return {name: gr.update(value=config[name], visible=shown[name]) for name in names if name in config}


@show_errors
def on_save(say: Say, name: str, base_model: str, system_prompt: str, examples: list[list[str]]) -> gr.Dropdown:
    """Save a profile; lines of the table that are empty do not count."""
    models.check(base_model or "")
    profile_id = profiles.save(profiles.Profile(name.strip(), base_model.strip(), system_prompt, pairs(examples)))
    inform(say("profile.kept", name=name.strip()))
    return gr.Dropdown(choices=_saved(), value=profile_id)


def pairs(examples: list[list[str]]) -> tuple[tuple[str, str], ...]:
    """The lines of the table of examples that are not empty."""
    lines = [(question or "", reply or "") for question, reply in examples]
    return tuple(line for line in lines if any(text.strip() for text in line))


@show_errors
def on_open(say: Say, profile_id: str | None) -> tuple:
    """A saved profile in the form."""
    if not profile_id:
        return (gr.skip(),) * 4
    profile = profiles.load(profile_id)
    rows = [list(pair) for pair in profile.examples] or [["", ""]] * EMPTY_ROWS
    return profile.name, profile.base_model, profile.system_prompt, rows


def on_delete(say: Say, profile_id: str | None) -> gr.Dropdown:
    """Delete the chosen profile."""
    if profile_id:
        profiles.delete(profile_id)
        inform(say("profile.deleted"))
    return gr.Dropdown(choices=_saved(), value=None)


def _saved() -> list[tuple[str, str]]:
    return [(profile.name, profile.id) for profile in profiles.listed()]
