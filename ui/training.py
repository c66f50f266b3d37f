"""The Training tab: a form that becomes a TrainConfig, and the run that is shown, live."""

import json
from dataclasses import Field, asdict, fields
from functools import partial

import gradio as gr

from core.corpus import corpus
from core.errors import UserError
from core.models import models
from core.runs import defaults, runs, starts, store
from core.training.config import CHOICES, TrainConfig
from ui import cards, model_choices, run_view, training_approach, training_prompts, training_start
from ui.errors import inform, show_errors
from ui.text import Say

OPTIMIZERS = ("adamw_torch", "adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit", "adafactor")
DEFAULTS = asdict(TrainConfig(base_model=models.STARTER, corpus="")) | models.suggested(models.STARTER)


class NoCorpusChosen(UserError):
    template = "No corpus is chosen. Make one on the Corpus tab, or choose one from the list."


class NoModelChosen(UserError):
    template = "No model is chosen. Choose one from the list, or type a directory, a GGUF file or a hub id."


class NumberMissing(UserError):
    template = "The field {field} needs a number. Fill it in."


def build(say: Say) -> dict:
    """The tab; returns what app.py connects: the form by field name, the load handler, and how a plan fills the form."""
    gr.Markdown(say("training.intro"))
    with gr.Row():
        with gr.Column(scale=2, min_width=340):
            approach, note = training_approach.build_choice(say)
            with gr.Column() as run_part:
                form, mixed = build_form(say)
                fields = {name: component for name, component in form.items() if name != "name"}
                card = cards.build(say, "training")
                with gr.Accordion(say("training.exact"), open=False):
                    config = on_change(say, **{name: component.value for name, component in fields.items()})
                    exact = gr.Code(config, language="json", show_label=False, interactive=False)
                train = gr.Button(say("training.train"), variant="primary")
                attempt = gr.Button(say("training.try"), size="sm")
                gr.Markdown(say("training.try.info"), elem_classes="subdued")
            profile = training_approach.build_profile(say)
        with gr.Column(scale=3, min_width=420):
            live = run_view.build(say)
    for component in fields.values():
        component.change(partial(on_change, say), inputs_kwargs=fields, outputs=exact, show_progress="hidden")
    suited = [form[name] for name in defaults.FIELDS]
    choice = [form["base_model"], form["method"], form["corpus"], card]
    for component in choice:
        component.input(on_model, choice, suited, show_progress="hidden")
    run = [live["run"], live["probe"], live["timer"]]
    # Hidden, or what is refused would leave the word "Error" lying over the list of runs.
    start = {"inputs_kwargs": form | {"card": card}, "outputs": run, "show_progress": "hidden"}
    train.click(partial(on_train, say), **start)
    attempt.click(partial(on_try, say), **start)
    chosen = training_approach.connect(say, approach, note, form, run_part, profile)
    chosen.then(on_model, choice, suited, show_progress="hidden")
    training_start.connect(say, form, mixed)
    search = training_prompts.build(say, form, profile)
    chosen.then(partial(training_prompts.on_open, say), *search, show_progress="hidden")
    shown = [approach, note, run_part, profile["part"]]
    go_on = (partial(on_go_on, say, list(form)), [*form.values(), *shown])
    live["go_on"].click(go_on[0], live["run"], go_on[1], show_progress="hidden")
    return {
        "form": form,
        "pick": live["run"],
        "load": partial(on_load, say),
        "inputs": [form["corpus"], live["run"], card],
        "outputs": [form["base_model"], form["corpus"], *run, card, form["start"], mixed["others"]],
        "go_on": go_on,
        "fill": (partial(on_plan, list(fields)), list(fields.values())),
    }


def build_form(say: Say) -> tuple[dict, dict]:
    """Components by field name of TrainConfig, and the name of the run, whose keys are checked by a test; and the parts
    of the mix."""

    def words(field: str) -> dict:
        return {"label": say(f"training.{field}"), "info": say(f"training.{field}.info")}

    form = {
        "base_model": gr.Dropdown(
            [(say("training.starter"), models.STARTER)],
            value=models.STARTER,
            allow_custom_value=True,
            **words("base_model"),
        ),
        "corpus": gr.Dropdown(**words("corpus")),
        "start": training_start.build_start(say),
        "method": gr.Radio(
            [("QLoRA", "qlora"), ("LoRA", "lora"), (say("training.full"), "full")],
            value=DEFAULTS["method"],
            visible=False,  # the approach sets it; continued pretraining asks
            **words("method"),
        ),
        "epochs": gr.Number(DEFAULTS["epochs"], minimum=0, **words("epochs")),
        "name": gr.Textbox(**words("name")),
    }
    mixed = training_start.build_mix(say)
    form["mix"] = mixed["mix"]
    with gr.Row():
        for name in ("eval_samples", "forgetting_meter"):
            form[name] = gr.Checkbox(DEFAULTS[name], min_width=150, **words(name))
    settings = {field.name: field for field in fields(TrainConfig) if field.name not in form}
    with gr.Row():
        for name in training_approach.OF_PREFERENCES:
            form[name] = component(settings.pop(name), visible=False, min_width=150, **words(name))
    with gr.Accordion(say("training.more"), open=False):
        form |= {name: component(field, **words(name)) for name, field in settings.items()}
    return form, mixed


def component(field: Field, **more) -> gr.components.Component:
    """What a field of TrainConfig is filled in with, by its type."""
    value, choices = DEFAULTS[field.name], CHOICES | {"optim": OPTIMIZERS}
    if field.name in choices:
        return gr.Dropdown(list(choices[field.name]), value=value, **more)
    if field.type == "bool":
        return gr.Checkbox(value, **more)
    if field.type == "str":
        return gr.Textbox(value, **more)
    return gr.Number(value, precision=0 if field.type == "int" else None, **more)


# ---------------------------------------------------------------------------------------------------------------------
# Handlers


def on_load(say: Say, corpus_id: str | None, run_id: str | None, card: str | None = None, asked: str = "") -> tuple:
    """Fill the lists, and show the run that the address asks for, else the active one or the newest.

    What is chosen stays, even what is chosen or typed meanwhile: a value is sent only where it is new.
    """
    rows = store.sync_all()
    asked = run_view.known(say, rows, asked)
    active = [row for row in rows if row["state"] in runs.ACTIVE]
    same = [row for row in rows if row["id"] == (asked or run_id)]
    shown = (same or [row for row in active if row["state"] != "queued"] or active or rows or [None])[0]
    corpora = [(card["name"], card["id"]) for card in corpus.listed()]
    starter = say("training.starter_ready" if models.local(models.STARTER) else "training.starter")
    others = [(label, name) for label, name in model_choices.choices(say) if name != models.STARTER]
    new_corpus = {} if corpus_id in [id for _, id in corpora] else {"value": corpora[0][1] if corpora else None}
    new_run = {} if same and not asked else {"value": shown and shown["id"]}
    info = say("training.corpus.info" if corpora else "training.no_corpus")
    return (
        gr.Dropdown(choices=[(starter, models.STARTER), *others]),
        gr.Dropdown(choices=corpora, info=info, **new_corpus),
        gr.Dropdown(choices=store.choices(rows), **new_run),
        run_view.probe(shown),
        gr.Timer(active=bool(active)),
        cards.choice(card),
        gr.Dropdown(choices=training_start.choices(say, store.choices(rows))),
        gr.Dropdown(choices=corpora),
    )


def on_corpus(corpus_id: str | None):
    """A corpus that was just made is the one to train on."""
    return gr.Dropdown(value=corpus_id) if corpus_id else gr.skip()


def on_model(base_model: str, method: str, corpus_id: str | None, card: str | None = None) -> list:
    """Defaults that suit the chosen model, method, corpus and card."""
    return list(defaults.suited(base_model or "", method, corpus_id, card).values())


def on_plan(names: list[str], plan: dict) -> list:
    """The form's values from a plan of the Calculator; what the plan does not say stays as it is."""
    return [plan.get(name, gr.skip()) for name in names]


@show_errors
def on_go_on(say: Say, names: list[str], run_id: str | None) -> list:
    """The form as a run had it, going on from there, and its approach; corpus and task are what a person changes."""
    shown = [gr.skip()] * 4
    known = starts.fields(f"{starts.RUN}{run_id}") | {"name": ""} if run_id else {}
    if known:
        offered = training_start.choices(say, store.choices(store.sync_all()))
        known["start"] = gr.Dropdown(choices=offered, value=known["start"])
        shown = training_approach.of_run(say, known)
        known |= training_approach.fields_of_run(known)
        inform(say("training.goes_on", name=runs.label(run_id)["name"]))
    return [*(known.get(name, gr.skip()) for name in names), *shown]


def on_change(say: Say, **values) -> str:
    """The exact config as JSON, or what is wrong with it."""
    try:
        return json.dumps(asdict(to_config(values)), indent=2, ensure_ascii=False)
    except UserError as error:
        return say.trouble(error)


@show_errors
def on_train(say: Say, name: str, card: str | None = None, *, trial: bool = False, **values) -> tuple:
    """Queue a run with the form's values and show it; a trial is named so."""
    config = to_config(values)
    models.check(config.base_model)
    if trial:
        name = say("training.try.name", name=name or runs.default_name(config))
    run_id = runs.start(config, name or "", trial, card=card)
    cards.warn(say, card)
    run_view.close_chat(say, run_id)
    inform(say("training.queued", name=runs.label(run_id)["name"]))
    choices = store.choices(store.sync_all())
    return gr.Dropdown(choices=choices, value=run_id), run_view.probe(store.sync(run_id)), gr.Timer(active=True)


def on_try(say: Say, name: str, card: str | None = None, **values) -> tuple:
    """Three steps with the form's values: rows are grouped by length, the longest come first, so memory peaks at once."""
    short = {"max_steps": 3, "validation_share": 0.0, "logging_steps": 1, "save_total_limit": 2}
    return on_train(say, name, card, trial=True, **values | short)


def to_config(values: dict) -> TrainConfig:
    """The config of the form's values; a number that was left empty is named."""
    if not values["base_model"]:
        raise NoModelChosen
    if not values["corpus"]:
        raise NoCorpusChosen
    for field in fields(TrainConfig):
        if values[field.name] is None:
            raise NumberMissing(field=field.name)
    return TrainConfig(**values)
