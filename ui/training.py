"""The Training tab: a form that becomes a TrainConfig, and the run that is shown, live."""

import html
import json
import sys
from dataclasses import asdict, fields
from functools import partial

import gradio as gr

from core import corpus, models, paths, runs, store
from core.recipe import CHOICES, RecipeTrouble, TrainConfig
from core.trouble import Trouble
from ui import plots
from ui.text import Say

TICK_SECONDS = 2
LOG_BYTES = 8_000
FULL_SLOWER = 10  # LoRA takes about ten times the learning rate of all-weights training
SCHEDULES = ("cosine", "linear", "constant", "constant_with_warmup")
OPTIMIZERS = ("adamw_torch", "adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit", "adafactor")
DEFAULTS = asdict(TrainConfig(base_model=models.STARTER, corpus="")) | models.suggested(models.STARTER)


class NoCorpusChosen(Trouble):
    template = "No corpus is chosen. Make one on the Corpus tab, or choose one from the list."


class NoModelChosen(Trouble):
    template = "No model is chosen. Choose one from the list, or type a directory, a GGUF file or a hub id."


class NumberMissing(Trouble):
    template = "The field {field} needs a number. Fill it in."


def build(say: Say) -> dict:
    """The tab; returns what app.py connects: the form by field name, the tab's load handler and its outputs."""
    gr.Markdown(say("training.intro"))
    with gr.Row():
        with gr.Column(scale=2, min_width=340):
            form = build_form(say)
            with gr.Accordion(say("training.exact"), open=False):
                exact = gr.Code(language="json", show_label=False, interactive=False)
            train = gr.Button(say("training.train"), variant="primary")
            attempt = gr.Button(say("training.try"), size="sm")
            gr.Markdown(say("training.try.info"), elem_classes="subdued")
        with gr.Column(scale=3, min_width=420):
            live = build_live(say)
    config_inputs = {name: component for name, component in form.items() if name != "name"}
    for component in config_inputs.values():
        component.change(partial(on_change, say), inputs_kwargs=config_inputs, outputs=exact, show_progress="hidden")
    suits = [form[name] for name in models.suggested(models.STARTER)]
    for chosen in (form["base_model"], form["method"]):
        chosen.input(on_model, [form["base_model"], form["method"]], suits)
    shown = [live["run"], live["probe"], live["timer"]]
    train.click(partial(on_train, say), inputs_kwargs=form, outputs=shown)
    attempt.click(partial(on_try, say), inputs_kwargs=form, outputs=shown)
    connect_live(say, live, shown)
    return {
        "form": form,
        "load": partial(on_load, say),
        "inputs": [form["base_model"], form["corpus"], live["run"]],
        "outputs": [form["base_model"], form["corpus"], *shown],
        "exact": (partial(on_change, say), config_inputs, exact),
        "fill": (partial(on_plan, list(config_inputs)), list(config_inputs.values())),
    }


def build_form(say: Say) -> dict:
    """Components by field name of TrainConfig, and the name of the run; the keys are checked by a test."""

    def words(field: str) -> dict:
        return {"label": say(f"training.{field}"), "info": say(f"training.{field}.info")}

    form = {
        "base_model": gr.Dropdown(allow_custom_value=True, **words("base_model")),
        "corpus": gr.Dropdown(**words("corpus")),
        "method": gr.Radio(
            [("QLoRA", "qlora"), ("LoRA", "lora"), (say("training.full"), "full")],
            value=DEFAULTS["method"],
            **words("method"),
        ),
        "epochs": gr.Number(DEFAULTS["epochs"], minimum=0, **words("epochs")),
        "name": gr.Textbox(**words("name")),
    }
    choices = CHOICES | {"lr_scheduler_type": SCHEDULES, "optim": OPTIMIZERS}
    with gr.Accordion(say("training.more"), open=False):
        for field in fields(TrainConfig):
            value = DEFAULTS[field.name]
            if field.name in form:
                continue
            if field.name in choices:
                form[field.name] = gr.Dropdown(list(choices[field.name]), value=value, **words(field.name))
            elif field.type == "bool":
                form[field.name] = gr.Checkbox(value, **words(field.name))
            elif field.type == "str":
                form[field.name] = gr.Textbox(value, **words(field.name))
            else:
                form[field.name] = gr.Number(value, precision=0 if field.type == "int" else None, **words(field.name))
    return form


def build_live(say: Say) -> dict:
    """The right-hand side: which run is shown, how it is, its buttons and its plots."""
    live = {"run": gr.Dropdown(label=say("training.shown"), interactive=True)}
    live["status"] = gr.HTML(f"<p>{say('training.no_runs')}</p>")
    with gr.Row():
        live["stop"] = gr.Button(say("training.stop"), size="sm", interactive=False)
        live["resume"] = gr.Button(say("training.resume"), size="sm", interactive=False)
        live["live"] = gr.Checkbox(True, label=say("training.live"), info=say("training.live.info"))
    live["loss"] = gr.Plot(show_label=False)
    with gr.Row():
        live["learning_rate"] = gr.Plot(show_label=False, min_width=260)
        live["tokens_per_second"] = gr.Plot(show_label=False, min_width=260)
    with gr.Accordion(say("training.log"), open=False):
        live["log"] = gr.Code(language=None, show_label=False, interactive=False, max_lines=20)
    live["probe"] = gr.State()  # what is cheap to ask; the plots are drawn anew only when it changes
    live["timer"] = gr.Timer(TICK_SECONDS, active=False)
    return live


def connect_live(say: Say, live: dict, shown: list) -> None:
    live["timer"].tick(
        partial(on_tick, say), [live["run"], live["live"]], [live["probe"], live["timer"]], api_visibility="private"
    )
    live["run"].input(on_choose, live["run"], [live["probe"], live["timer"]], show_progress="hidden")
    names = ["status", "stop", "resume", "loss", "learning_rate", "tokens_per_second", "log"]
    live["probe"].change(partial(draw, say), live["run"], [live[name] for name in names], show_progress="hidden")
    live["stop"].click(partial(on_stop, say), live["run"], [live["probe"], live["timer"]])
    live["resume"].click(partial(on_resume, say), live["run"], [live["probe"], live["timer"]])


# ---------------------------------------------------------------------------------------------------------------------
# Handlers


def on_load(say: Say, base_model: str | None, corpus_id: str | None, run_id: str | None) -> tuple:
    """Fill the lists; what is chosen stays. Else show the active run, or the newest: after any reload or restart."""
    rows = store.sync_all()
    active = [row for row in rows if row["state"] in runs.ACTIVE]
    kept = [row for row in rows if row["id"] == run_id]
    chosen = (kept or [row for row in active if row["state"] != "queued"] or active or rows or [None])[0]
    corpora = [(card["name"], card["id"]) for card in corpus.listed()]
    ready = models.ready()
    starter = say("training.starter_ready" if models.local(models.STARTER) else "training.starter")
    names = [(starter, models.STARTER)] + [(m["title"], m["id"]) for m in ready if m["id"] != models.STARTER]
    return (
        gr.Dropdown(choices=names, value=base_model or models.STARTER),
        gr.Dropdown(
            choices=corpora,
            value=corpus_id if corpus_id in [id for _, id in corpora] else corpora[0][1] if corpora else None,
            info=say("training.corpus.info") if corpora else say("training.no_corpus"),
        ),
        gr.Dropdown(choices=[(row["name"], row["id"]) for row in rows], value=chosen and chosen["id"]),
        probe(chosen),
        gr.Timer(active=bool(active)),
    )


def on_model(base_model: str, method: str) -> list:
    """Defaults that suit the chosen model and method."""
    defaults = asdict(TrainConfig(base_model="", corpus=""))
    try:
        suggested = models.suggested(base_model or "")
    except Trouble:  # a directory that is no model is refused when Train is pressed
        suggested = {}
    values = {name: suggested.get(name, defaults[name]) for name in models.suggested(models.STARTER)}
    if method == "full":
        values["learning_rate"] /= FULL_SLOWER
    return list(values.values())


def on_plan(names: list[str], plan: dict) -> list:
    """The form's values from a plan of the Calculator; what the plan does not say stays as it is."""
    return [plan.get(name, gr.skip()) for name in names]


def on_change(say: Say, **values) -> str:
    """The exact config as JSON, or what is wrong with it."""
    try:
        return json.dumps(asdict(to_config(values)), indent=2, ensure_ascii=False)
    except (Trouble, RecipeTrouble) as error:
        return say.trouble(error)


def on_train(say: Say, name: str, **values) -> tuple:
    """Queue a run with the form's values and show it."""
    try:
        config = to_config(values)
        models.check(config.base_model)
        run_id = runs.start(config, name or "")
    except (Trouble, RecipeTrouble) as error:
        raise gr.Error(say.trouble(error)) from error
    let_chat_go(say)
    rows = store.sync_all()
    gr.Info(say("training.queued", name=runs.label(run_id)["name"]))
    choices = [(row["name"], row["id"]) for row in rows]
    return gr.Dropdown(choices=choices, value=run_id), probe(store.sync(run_id)), gr.Timer(active=True)


def on_try(say: Say, name: str, **values) -> tuple:
    """Three steps with the form's values: rows are grouped by length, the longest come first, so memory peaks at once."""
    short = {"max_steps": 3, "validation_share": 0.0, "logging_steps": 1, "save_total_limit": 2}
    return on_train(say, say("training.try.name", name=name or values["corpus"] or ""), **values | short)


def on_tick(say: Say, run_id: str | None, live: bool) -> tuple:
    """Look at the shown run: a few bytes of its events, no drawing."""
    if not run_id or not live:
        return gr.skip(), gr.skip()
    try:
        row = store.sync(run_id)
    except Trouble:  # deleted in another window
        return None, gr.Timer(active=False)
    if row["state"] == "queued" and runs.needs_worker():
        runs.start_worker()
    if row["state"] == "running" and row["stage"] == "starting":  # its turn came: the card is its own
        let_chat_go(say)
    if row["state"] in runs.ACTIVE or any(runs.state(other) in runs.ACTIVE for other in runs.listed()):
        return probe(row), gr.skip()
    return probe(row), gr.Timer(active=False)


def on_choose(run_id: str | None) -> tuple:
    row = store.sync(run_id) if run_id else None
    return probe(row), gr.Timer(active=bool(row and row["state"] in runs.ACTIVE))


def on_stop(say: Say, run_id: str) -> tuple:
    _command(say, runs.stop, run_id)
    gr.Info(say("training.stop_asked"))
    return probe(store.sync(run_id)), gr.Timer(active=True)


def on_resume(say: Say, run_id: str) -> tuple:
    _command(say, runs.resume, run_id)
    let_chat_go(say)
    gr.Info(say("training.resumed"))
    return probe(store.sync(run_id)), gr.Timer(active=True)


def draw(say: Say, run_id: str | None) -> tuple:
    """Everything that is shown of a run."""
    if not run_id or run_id not in runs.listed():
        empty = (gr.Button(interactive=False),) * 2
        return (f"<p>{say('training.no_runs')}</p>", *empty, None, None, None, "")
    row, curves = store.sync(run_id), store.curves(run_id)
    steps = curves["steps"]
    return (
        status_html(say, row),
        gr.Button(interactive=row["state"] in ("queued", "running")),
        gr.Button(interactive=row["state"] in ("lost", "stopped", "failed")),
        plots.loss(say, steps, curves["evals"]),
        plots.series(say, steps, "learning_rate", plots.PALETTE[2]),
        plots.series(say, steps, "tokens_per_second", plots.PALETTE[3]),
        log_tail(run_id),
    )


# ---------------------------------------------------------------------------------------------------------------------
# What the handlers are made of


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


def probe(row: dict | None) -> list | None:
    """The values whose change is worth a new drawing."""
    keys = ("id", "state", "step", "stage", "stage_done", "eval_loss", "seconds_left", "name")
    return row and [row[key] for key in keys]


def let_chat_go(say: Say) -> None:
    """Ask an open chat for its memory; core.chat is not even imported where nobody chatted."""
    if (chat := sys.modules.get("core.chat")) and chat.is_open():
        chat.close()
        gr.Info(say("training.chat_closed"))


def status_html(say: Say, row: dict) -> str:
    """State, bar and figures of a run, or why it ended."""
    state, parts = say(f"state.{row['state']}"), []
    share = row["step"] / row["max_steps"] if row["max_steps"] else 0
    if row["state"] == "running" and row["stage"] in ("download", "convert"):
        share = (row["stage_done"] or 0) / row["stage_total"] if row["stage_total"] else 0
        parts.append(f"{say.number((row['stage_done'] or 0) / 1e6)}\u00a0{say('unit.mb')}")
    if row["state"] == "running" and row["stage"]:
        state += f": {say('stage.' + row['stage'])}"
    if row["max_steps"]:
        parts.append(f"<span>{say('live.step')}</span> {row['step'] or 0} / {row['max_steps']}")
    if row["seconds_left"] and row["state"] in runs.ACTIVE:
        parts.append(f"<span>{say('live.left')}</span> {say.duration(row['seconds_left'])}")
    if row["seconds"]:
        parts.append(f"<span>{say('live.took')}</span> {say.duration(row['seconds'])}")
    if row["loss"] is not None:
        parts.append(f"<span>{say('live.loss')}</span> {say.number(row['loss'])}")
    if row["base_eval_loss"] is not None:
        change = f"{say.number(row['base_eval_loss'])} → {say.number(row['eval_loss'])}"
        parts.append(f"<span>{say('live.eval')}</span> {change}")
    if row["tokens_per_second"]:
        parts.append(f"<span>{say('live.speed')}</span> {say.number(row['tokens_per_second'])}")
    if row["memory_gib"]:
        memory = f"{say.number(row['memory_gib'])}\u00a0{say('unit.gib')}"
        if row["predicted_bytes"] and row["device"] != "cpu":  # a forecast is of a card's memory, not of a process's
            memory += f" ({say('live.predicted')} {say.number(row['predicted_bytes'] / 2**30)})"
        parts.append(f"<span>{say('live.memory')}</span> {memory}")
    facts = "".join(f"<div>{part}</div>" for part in parts)
    bar = f'<div class="meter"><div style="width:{100 * share:.1f}%"></div></div>'
    return f'<div class="state">{state}</div>{bar}<div class="facts">{facts}</div>{_remarks(say, row)}'


def _remarks(say: Say, row: dict) -> str:
    remarks = []
    if row["message"] and row["state"] == "failed":
        remarks.append(say.worded(row["trouble"], json.loads(row["trouble_values"] or "null"), row["message"]))
    if row["state"] == "lost":
        remarks.append(say("state.lost.help"))
    left_out = json.loads(row["rows_left_out"] or "{}")
    if left_out:
        reasons = ", ".join(f"{say('reason.' + reason)}: {count}" for reason, count in left_out.items())
        remarks.append(say("live.left_out", count=sum(left_out.values()), reasons=reasons))
    return "".join(f'<p class="trouble">{html.escape(remark)}</p>' for remark in remarks)


def log_tail(run_id: str) -> str:
    """The end of the trainer's output."""
    log = paths.run(run_id) / "log.txt"
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - LOG_BYTES))
        return file.read().decode(errors="replace").replace("\r", "\n")


def _command(say: Say, command, run_id: str) -> None:
    try:
        command(run_id)
    except Trouble as error:
        raise gr.Error(say.trouble(error)) from error
