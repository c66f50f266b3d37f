"""The Training tab: a form that becomes a TrainConfig, and the run that is shown, live."""

import json
from dataclasses import asdict, fields
from functools import partial

import gradio as gr

from core import errors
from core.corpus import corpus
from core.errors import UserError
from core.models import models
from core.runs import runs, starts, store
from core.training.config import TrainConfig
from ui import (
    buttons,
    cards,
    model_choices,
    run_view,
    training_approach,
    training_form,
    training_prompts,
    training_start,
)
from ui.errors import inform, show_errors
from ui.text import Say


def build(say: Say) -> dict:
    """The tab; returns what app.py connects: the form by field name, the load handler, and how a plan fills the form."""
    gr.Markdown(say("training.intro"))
    with gr.Row():
        with gr.Column(scale=5, min_width=340):
            approach, note = training_approach.build_choice(say)
            with gr.Column(elem_id="training-form") as run_part:
                form, parts = training_form.build(say)
                card = cards.build(say, "training")
                read = {name: part for name, part in form.items() if name != "name"} | {"shares": parts["shares"]}
                with gr.Accordion(say("training.exact"), open=False, elem_id="training-exact") as exact:
                    first = on_change(say, **{name: component.value for name, component in read.items()})
                    config = gr.Code(first, language="json", show_label=False, interactive=False)
                with gr.Column(elem_id="training-act"):
                    discard = training_form.build_changes(say)
                    with gr.Row():
                        train = gr.Button(say("training.train"), variant="primary", min_width=120)
                        attempt = gr.Button(say("training.try"), min_width=120)
                        for button in (train, attempt):
                            buttons.needs(button, form["base_model"], form["corpus"])
                gr.Markdown(say("training.try.info"), elem_classes="subdued")
            profile = training_approach.build_profile(say)
        with gr.Column(scale=7, min_width=420):
            live = run_view.build(say)
    training_form.build_hidden(read | {"name": form["name"]}, parts, discard)
    # Asked for when it is opened, and by form.js after each change while it is open.
    asked = [exact.expand, gr.Button(elem_id="exact-again", visible="hidden").click]
    gr.on(asked, partial(on_change, say), inputs_kwargs=read, outputs=config, show_progress="hidden")
    run, quiet = [live["run"], live["probe"], live["timer"]], {"show_progress": "hidden"}
    # Hidden, or what is refused would leave the word "Error" lying over the list of runs.
    start = {"inputs_kwargs": read | {"name": form["name"], "card": card}, "outputs": run, **quiet}
    train.click(partial(on_train, say), **start)
    attempt.click(partial(on_try, say), **start)
    chosen = training_approach.connect(say, approach, note, form, run_part, profile)
    training_form.connect(form, parts, card, chosen)
    training_start.connect(say, form, parts)
    search = training_prompts.build(say, form, profile)
    chosen.then(partial(training_prompts.on_open, say), *search, **quiet)
    shown = [approach, note, run_part, profile["part"], parts["usual"]]
    filled = form | {"shares": parts["shares"]}
    go_on = (partial(on_go_on, say, list(filled)), [*filled.values(), *shown])
    live["go_on"].click(go_on[0], live["run"], go_on[1], **quiet).then(**parts["seen"])
    draft = [parts["draft"], form["corpus"], card]
    kept = {"js": "(_, corpus, card) => [draft.kept(), corpus, card]"} | quiet
    restored = parts["restore"].click(partial(on_draft, say, list(filled)), draft, go_on[1], **kept)
    restored.then(**parts["seen"]).then(None, None, None, js="() => { draft.restored() }")
    return {
        "form": form,
        "pick": live["run"],
        "load": partial(on_load, say),
        "lists": partial(on_lists, say),
        "inputs": [form["corpus"], live["run"], card],
        "outputs": [form["base_model"], form["corpus"], *run, card, form["start"], form["mix"]],
        "filled": {"js": "() => { draft.restore() }"},
        "seen": parts["seen"],
        "go_on": go_on,
        "fill": (partial(on_plan, list(read)), [form["corpus"], card], [*read.values(), parts["usual"]]),
    }


# ---------------------------------------------------------------------------------------------------------------------
# Handlers


def on_lists(say: Say, *shown: str | None) -> tuple:
    """Fill the lists before something is taken over into the form, and choose no corpus.

    The settings follow a corpus that is chosen, and their late answer would stand over those that were taken over.
    """
    return on_load(say, *shown, choose=False)


def on_load(
    say: Say,
    corpus_id: str | None,
    run_id: str | None,
    card: str | None = None,
    asked: str = "",
    *,
    choose: bool = True,
) -> tuple:
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
    stays = corpus_id in [id for _, id in corpora] or not choose
    new_corpus = {} if stays else {"value": corpora[0][1] if corpora else None}
    new_run = {} if same and not asked else {"value": shown and shown["id"]}
    info = say("training.corpus.info" if corpora else "training.no_corpus")
    return (
        gr.Dropdown(choices=[(starter, models.STARTER), *others]),
        gr.Dropdown(choices=corpora, info=info, **new_corpus),
        gr.Dropdown(choices=store.choices(rows), visible=True if rows else "hidden", **new_run),
        run_view.probe(shown),
        gr.Timer(active=bool(active)),
        cards.choice(card),
        gr.Dropdown(choices=training_start.choices(say, store.choices(rows))),
        gr.Dropdown(choices=corpora),
    )


def on_corpus(corpus_id: str | None):
    """A corpus that was just made is the one to train on."""
    return gr.Dropdown(value=corpus_id) if corpus_id else gr.skip()


def on_plan(names: list[str], plan: dict, corpus_id: str | None, card: str | None) -> list:
    """The form's values from a plan of the Calculator, and the defaults beside them; what it does not say stays."""
    if not plan:
        return [gr.skip()] * (len(names) + 1)
    corpus_id, task = plan.get("corpus") or corpus_id, plan.get("task", "chat")
    usual = training_form.usual(plan["base_model"], plan["method"], corpus_id, card, task)
    return [*(plan.get(name, gr.skip()) for name in names), json.dumps(usual)]


def on_draft(say: Say, names: list[str], text: str, corpus_id: str | None, card: str | None = None) -> list:
    """The form as it was left in this browser; a draft that is damaged, and what is gone of it, leave the defaults."""
    known = training_form.read_draft(text, corpus_id)
    if not known:
        return [gr.skip()] * (len(names) + 5)
    usual = training_form.usual(known["base_model"], known["method"], known["corpus"], card, known["task"])
    filled = _filled(say, names, training_form.DEFAULTS | usual | known, usual)
    filled[-3:-1] = [gr.skip()] * 2  # the form is in sight: gradio would show all that is hidden in it as well
    return filled


@show_errors
def on_go_on(say: Say, names: list[str], run_id: str | None) -> list:
    """The form as a run had it, going on from there; corpus and task are what a person changes."""
    known = starts.fields(f"{starts.RUN}{run_id}") | {"name": ""} if run_id else {}
    if not known:
        return [gr.skip()] * (len(names) + 5)
    known = training_start.still_there(say, known)
    known |= training_start.parts_of(known.get("mix", ()))
    inform(say("training.goes_on", name=runs.label(run_id)["name"]))
    given = [known.get(name) for name in ("base_model", "method", "corpus")]
    return _filled(say, names, known, training_form.usual(*given, None, known.get("task", "chat")))


def _filled(say: Say, names: list[str], known: dict, usual: dict) -> list:
    """The form with these values, the approach that they make, and the defaults that they differ from."""
    shown, fields = training_approach.of_run(say, known), known | training_approach.fields_of_run(known)
    offered = training_start.choices(say, store.choices(store.sync_all()))
    fields["start"] = gr.Dropdown(choices=offered, value=known["start"])
    return [*(fields.get(name, gr.skip()) for name in names), *shown, json.dumps(usual)]


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
    return (
        gr.Dropdown(choices=choices, value=run_id, visible=True),
        run_view.probe(store.sync(run_id)),
        gr.Timer(active=True),
    )


def on_try(say: Say, name: str, card: str | None = None, **values) -> tuple:
    """Three steps with the form's values: rows are grouped by length, the longest come first, so memory peaks at once."""
    short = {"max_steps": 3, "validation_share": 0.0, "logging_steps": 1, "save_total_limit": 2}
    return on_train(say, name, card, trial=True, **values | short)


def to_config(values: dict) -> TrainConfig:
    """The config of the form's values; a number that was left empty is named."""
    if not values["base_model"]:
        raise errors.named("NoModelChosen")
    if not values["corpus"]:
        raise errors.named("NoCorpusChosen")
    for field in fields(TrainConfig):
        if values[field.name] is None:
            raise errors.named("NumberMissing", field=field.name)
    mix = training_start.mixed(values["mix"], values.get("shares"))
    return TrainConfig(**{name: value for name, value in values.items() if name != "shares"} | {"mix": mix})
