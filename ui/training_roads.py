"""The five roads of the Training tab, one line about each, and the form of the fifth: a prompt profile."""

from functools import partial

import gradio as gr

from core import defaults, models
from core.chat import profiles
from core.errors import UserError
from ui import model_choices
from ui.errors import Refused
from ui.text import Say

ROADS = ("qlora", "lora", "full", "text", "prompt")
EMPTY_ROWS = 3


def build_choice(say: Say) -> tuple[gr.Radio, gr.Markdown]:
    """The choice of a road, and what the chosen one changes, costs and risks."""
    choices = [(say(f"road.{road}"), road) for road in ROADS]
    road = gr.Radio(choices, value=ROADS[0], label=say("road"), elem_id="road")
    return road, gr.Markdown(about(say, ROADS[0]), elem_classes="subdued")


def build_profile(say: Say) -> dict:
    """The form of a profile; hidden until its road is chosen."""
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
    fields = [name, base_model, system_prompt, examples]
    save.click(partial(on_save, say), fields, saved, show_progress="hidden")
    saved.input(partial(on_open, say), saved, fields)
    delete.click(partial(on_delete, say), saved, saved)
    return {"part": part, "saved": saved, "base_model": base_model}


def connect(say: Say, road: gr.Radio, note: gr.Markdown, form: dict, run_part: gr.Column, profile: dict):
    """Let the road set method and task, and follow them when the Calculator sets them; the event of a choice."""
    set_by_road = [note, run_part, profile["part"], profile["saved"], profile["base_model"]]
    set_by_road += [form["method"], form["task"], form["packing"]]
    chosen = road.input(partial(on_road, say), [road, form["base_model"]], set_by_road, show_progress="hidden")
    form["corpus"].change(
        partial(on_corpus, say),
        [form["corpus"], road, form["base_model"]],
        [road, *set_by_road],
        show_progress="hidden",
    )
    form["corpus"].input(partial(on_chosen, say), [form["corpus"], road], None, show_progress="hidden")
    gr.on(
        [form["method"].change, form["task"].change],
        partial(on_fields, say),
        [road, form["method"], form["task"]],
        [road, note, form["method"]],
        show_progress="hidden",
    )
    return chosen


def about(say: Say, road: str) -> str:
    return say(f"road.{road}.about")


def on_road(say: Say, road: str, base_model: str | None) -> tuple:
    """Show what belongs to a road, and set the fields that make it."""
    trains = road != "prompt"
    shown = (about(say, road), gr.Column(visible=trains), gr.Column(visible=not trains))
    saved = gr.skip() if trains else gr.Dropdown(choices=_saved(), value=None)
    choices = (
        gr.skip() if trains else gr.Dropdown(choices=model_choices.choices(say), value=base_model or models.STARTER)
    )
    if road == "text":
        return (*shown, saved, choices, gr.Radio(value="lora", visible=True), "text", True)
    method = gr.Radio(value=road, visible=False) if trains else gr.skip()
    return (*shown, saved, choices, method, "chat" if trains else gr.skip(), False if trains else gr.skip())


def on_corpus(say: Say, corpus_id: str | None, road: str, base_model: str | None) -> tuple:
    """Take the road that a corpus allows: texts are for continued pretraining, chats are not."""
    better = _better(corpus_id, road)
    return (better, *on_road(say, better, base_model)) if better else (gr.skip(),) * 9


def on_chosen(say: Say, corpus_id: str | None, road: str) -> None:
    """Say that the road changes to whoever chose a corpus; a page that only opens tells nothing."""
    if better := _better(corpus_id, road):
        gr.Info(say("road.for_text" if better == "text" else "road.for_chats", road=say(f"road.{better}")))


def _better(corpus_id: str | None, road: str) -> str | None:
    """The road that a corpus asks for, where it does not allow the chosen one."""
    fits = {"text": ("text",), "chat": ("qlora", "lora", "full")}.get(defaults.kind(corpus_id))
    return fits[0] if fits and road != "prompt" and road not in fits else None


def on_fields(say: Say, road: str, method: str, task: str) -> tuple:
    """The road that a method and a task make."""
    made = "text" if task == "text" else method
    if road == "prompt":
        return (gr.skip(),) * 3
    return made, about(say, made), gr.Radio(visible=task == "text")


def on_save(say: Say, name: str, base_model: str, system_prompt: str, examples: list[list[str]]) -> gr.Dropdown:
    """Keep a profile; lines of the table that are empty do not count."""
    pairs = tuple(
        (said or "", reply or "") for said, reply in examples if (said or "").strip() or (reply or "").strip()
    )
    try:
        models.check(base_model or "")
        profile_id = profiles.save(profiles.Profile(name.strip(), base_model.strip(), system_prompt, pairs))
    except UserError as error:
        raise Refused(say.trouble(error)) from error
    gr.Info(say("profile.kept", name=name.strip()))
    return gr.Dropdown(choices=_saved(), value=profile_id)


def on_open(say: Say, profile_id: str | None) -> tuple:
    """A saved profile in the form."""
    if not profile_id:
        return (gr.skip(),) * 4
    try:
        profile = profiles.load(profile_id)
    except UserError as error:
        raise Refused(say.trouble(error)) from error
    rows = [list(pair) for pair in profile.examples] or [["", ""]] * EMPTY_ROWS
    return profile.name, profile.base_model, profile.system_prompt, rows


def on_delete(say: Say, profile_id: str | None) -> gr.Dropdown:
    """Forget the chosen profile."""
    if profile_id:
        profiles.delete(profile_id)
        gr.Info(say("profile.deleted"))
    return gr.Dropdown(choices=_saved(), value=None)


def _saved() -> list[tuple[str, str]]:
    return [(profile.name, profile.id) for profile in profiles.listed()]
