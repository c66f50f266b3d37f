"""The Calculator tab: the question above, the answer below it at once, and everything that shows how it is known."""

import hashlib
import json
import time
from functools import partial

import gradio as gr

from core import paths
from core.corpus import corpus as corpora
from core.corpus import token_counter
from core.errors import UserError
from core.estimate import answer as answers
from core.estimate import calibration, catalogue, plan, probe, tables, trace_runner
from core.estimate import cards as known_cards
from core.estimate import setup as setups
from core.estimate.errors import NeedsTrace, UnknownArchitecture
from core.estimate.setup import CHOICES, KINDS, Setup
from core.hardware import hardware
from core.runs import learned
from ui import calculator_html as pieces
from ui import calculator_plots as figures
from ui import model_choices, temp_files
from ui.text import Say

DEFAULT_MODEL = "Qwen/Qwen2.5-7B"
TARGETS = ("all-linear", "q_proj,v_proj", "q_proj,k_proj,v_proj,o_proj")
TYPED = {"allow_custom_value": True, "elem_classes": "typed"}  # Enter takes what was typed: assets/page.js
FILLED = ("model", "method", "corpus", "tokens", "epochs", "optim", "target_modules", "max_length")  # by a tile
LOSSES = ("tiled", "fused", "logits")


def build(say: Say) -> dict:
    """The tab; returns the button and the plan's state, which app.py connects with the Training tab."""
    gr.Markdown(say("calculator.intro"))
    form = build_question(say)
    with gr.Accordion(say("calculator.settings"), open=False):
        form |= build_settings(say)
    shown = build_answer(say)
    state = gr.State({})
    asked = gr.State({})  # the form as it was when the answer came: what takes longer is computed anew when it changes
    outputs = [*shown["now"], state, asked]
    marked = [part for part in (*shown["now"], *shown["details"]) if isinstance(part, gr.HTML)]
    busy = {"show_progress": "minimal", "show_progress_on": marked}  # until the new answer comes, the old one is faded
    for component in form.values():
        component.change(
            partial(on_ask, say),
            inputs_kwargs=form,
            outputs=outputs,
            trigger_mode="always_last",
            **busy,
        )
    form["corpus"].change(  # a corpus has as many as it has
        lambda corpus: gr.Textbox(interactive=not corpus), form["corpus"], form["tokens"], show_progress="hidden"
    )
    asked.change(partial(on_details, say), asked, shown["details"], **busy)
    tiles = [form[name] for name in FILLED]
    shown["details"][-1].select(on_tile, None, tiles, show_progress="hidden")
    shown["forget"].click(partial(on_forget, say), inputs_kwargs=form, outputs=outputs, show_progress="hidden")
    build_tables(say, form, asked)
    build_exact(say, form)
    with gr.Column():
        gr.Markdown(f"### {say('calculator.plan')}")
        about = gr.Markdown()
        with gr.Row():
            button = gr.Button(say("calculator.plan.open"), variant="primary")
            take = gr.DownloadButton(say("calculator.plan.take"))
    inputs = [state, form["method"], form["card"], form["memory_gb"], form["precision"]]
    state.change(partial(on_plan, say), inputs, [about, button, take], show_progress="hidden")
    return {
        "button": button,
        "plan": state,
        "load": partial(on_load, say),
        "inputs": form,
        "outputs": [form["card"], form["corpus"], *outputs],
    }


def build_question(say: Say) -> dict:
    """Model, card, method, corpus."""
    cards = card_choices(say)
    models, methods = model_choices.choices(say, only_shaped=True), [(say(f"calculator.method.{k}"), k) for k in KINDS]
    wide = {"scale": 2, "min_width": 260}
    with gr.Row():
        model = gr.Dropdown(models, value=DEFAULT_MODEL, **TYPED, **say.field("calculator.model"), **wide)
        card = gr.Dropdown(cards, value=cards[0][1], **TYPED, **say.field("calculator.card"), **wide)
        memory = gr.Textbox(**say.field("calculator.memory_gb"), scale=1, min_width=140)
        method = gr.Dropdown(methods, value="qlora", **say.field("calculator.method"), **wide)
    with gr.Row():
        corpus = gr.Dropdown(corpus_choices(say), value="", **say.field("calculator.corpus"), **wide)
        tokens = gr.Textbox("100M", **say.field("calculator.tokens"), **wide)
        epochs = gr.Textbox("3", **say.field("calculator.epochs"), scale=1)
    question = {"model": model, "card": card, "memory_gb": memory, "method": method}
    return question | {"corpus": corpus, "tokens": tokens, "epochs": epochs}


def build_settings(say: Say) -> dict:
    """Everything else, with the defaults of the recipe."""
    base = Setup()
    choices = {"optim": CHOICES["optim"], "attention": CHOICES["attention"]}
    choices["loss"] = [(say(f"calculator.loss.{name}"), name) for name in LOSSES]
    choices["precision"] = [(say("calculator.precision.auto"), "auto"), *CHOICES["precision"]]
    made = {}

    def dropdown(name: str, **more) -> None:
        more = {"value": getattr(base, name)} | more
        made[name] = gr.Dropdown(choices[name], **more, **say.field(f"calculator.{name}"))

    with gr.Row():
        for name in setups.SUGGESTED:
            made[name] = gr.Number(getattr(base, name), precision=0, min_width=140, **say.field(f"calculator.{name}"))
        made["mix"] = gr.Number(0, minimum=0, min_width=140, **say.field("calculator.mix"))
        made["price"] = gr.Number(0, minimum=0, min_width=140, **say.field("calculator.price"))
    with gr.Row():
        choices["target_modules"] = TARGETS
        dropdown("target_modules", **TYPED)
        dropdown("optim")
        dropdown("attention")
    with gr.Row():
        dropdown("loss")
        dropdown("precision", value="auto")
        for name in ("gradient_checkpointing", "train_embeddings"):
            made[name] = gr.Checkbox(getattr(base, name), **say.field(f"calculator.{name}"))
    return made


def build_answer(say: Say) -> dict:
    """Verdict, bar and mosaic beside each other; formulas, changes, plots."""
    with gr.Row():
        with gr.Column(scale=6, min_width=420):
            verdict = gr.HTML()
            forget = gr.Button(say("calculator.forget"), size="sm", visible=False)
            bar = gr.Plot(show_label=False)
        with gr.Column(scale=5, min_width=420):
            script = (paths.assets() / "mosaic.js").read_text(encoding="utf-8")
            mosaic = gr.HTML(js_on_load=script, elem_classes="scroll")
    with gr.Accordion(say("calculator.change"), open=True):
        changes = gr.HTML()
    with gr.Accordion(say("calculator.how"), open=False):
        formulas = gr.HTML()
    with gr.Accordion(say("calculator.plots"), open=False), gr.Row():
        lengths = gr.Plot(show_label=False)
        batches = gr.Plot(show_label=False)
    details = [changes, formulas, lengths, batches, mosaic]
    return {"now": [verdict, forget, bar], "details": details, "forget": forget}


def build_tables(say: Say, form: dict, asked: gr.State) -> None:
    """The three tables: computed when they are opened, and again when the question changes meanwhile."""
    with gr.Accordion(say("calculator.tables"), open=False) as folded:
        table, shown = gr.HTML(), gr.State(False)
    folded.expand(lambda: True, None, shown, show_progress="hidden")
    folded.collapse(lambda: False, None, shown, show_progress="hidden")
    for changed in (shown, asked):
        changed.change(
            partial(on_tables, say), inputs_kwargs=form | {"shown": shown}, outputs=table, show_progress="hidden"
        )


def build_exact(say: Say, form: dict) -> None:
    """The exact check with its stop button, and the errors on published measurements."""
    with gr.Accordion(say("calculator.exact"), open=False) as opened:
        gr.Markdown(say("calculator.exact.text"))
        with gr.Row():
            check = gr.Button(say("calculator.exact.button"))
            stop = gr.Button(say("calculator.exact.stop"), interactive=False)
            measure = gr.Button(say("calculator.probe"))
        result, ticket = gr.HTML(), gr.State("")
        errors, plot = gr.HTML(), gr.Plot(show_label=False)
    buttons = [check, stop]
    begun = check.click(_tickets, None, [ticket, result, *buttons], show_progress="hidden")
    done = begun.then(
        partial(on_exact, say), inputs_kwargs=form | {"ticket": ticket}, outputs=result, concurrency_limit=1
    )
    done.then(
        lambda: (gr.Button(interactive=True), gr.Button(interactive=False)), None, buttons, show_progress="hidden"
    )
    stop.click(on_stop, ticket, None, show_progress="hidden")
    measure.click(partial(on_measure, say), form["card"], result, concurrency_limit=1)
    opened.expand(partial(on_errors, say), None, [errors, plot], show_progress="hidden")


_stopped: set[str] = set()  # tickets of exact checks that were asked to stop


def _tickets():
    return str(time.monotonic_ns()), "", gr.Button(interactive=False), gr.Button(interactive=True)


def on_stop(ticket: str) -> None:
    _stopped.add(ticket)


def card_choices(say: Say) -> list[tuple[str, str]]:
    """This computer's cards, the one that runs take if nobody chooses first, then the default, then the catalogue.

    The default is an example where this computer has no card.
    """
    usual = hardware.card()
    mine = [
        (say("calculator.card.mine", name=gpu.name), known_cards.MINE + gpu.uuid)
        for gpu in sorted(hardware.gpus(), key=lambda gpu: gpu != usual)
    ]
    others = []
    for name, card in known_cards.cards().items():
        name += f" {card.sold_gb:g}GB" if card.sizes_gb else ""
        if name == known_cards.DEFAULT_CARD:
            others.insert(0, (name if mine else say("calculator.card.example", name=name), name))
        else:
            others.append((name if card.is_tried else say("calculator.card.untried", name=name), name))
    return [*mine, *others, (say("calculator.card.cpu"), known_cards.CPU)]


def corpus_choices(say: Say) -> list[tuple[str, str]]:
    named = [(card["name"], card["id"]) for card in corpora.listed() if card.get("rows")]
    return [(say("calculator.corpus.none"), ""), *sorted(named)]


def on_load(say: Say, **fields):
    """Fill the lists again, and answer."""
    cards, corpora = card_choices(say), corpus_choices(say)
    known = [value for _, value in cards]
    gone = (fields["card"] or "").startswith(known_cards.MINE) and fields["card"] not in known
    fields["card"] = known[0] if gone or not fields["card"] else fields["card"]
    return gr.Dropdown(cards, value=fields["card"]), gr.Dropdown(corpora), *on_ask(say, **fields)


def question(
    model: str,
    card: str,
    method: str,
    corpus: str,
    tokens: str,
    epochs: str,
    price: float = 0,
    mix: float = 0,
    **settings,
) -> dict:
    """The form as arguments of answers.ask(); the price of a kWh is not one of them."""
    chosen, free = known_cards.chosen(card, known_cards.gigabytes(settings.pop("memory_gb", None)))
    for name in setups.SUGGESTED:
        settings[name] = setups.count(settings[name] if settings[name] is not None else 0, name)
    settings["target_modules"] = settings["target_modules"] or ""
    if settings["precision"] == "auto":
        settings["precision"] = answers.best_precision(chosen)
    amount = token_counter.of_corpus(paths.corpus(corpus), catalogue.hub_name(model))[0] if corpus else None
    return {
        "setup": Setup(**setups.of_kind(method), **settings),
        "card": chosen,
        "free": free,
        "tokens": setups.with_mix(amount or setups.count(tokens or "", "tokens"), mix),
        "epochs": setups.epochs(epochs or ""),
    }


def on_ask(say: Say, **fields):
    """The verdict with its figures, or the error where it would stand; never both. on_details() follows."""
    try:
        model = fields["model"] or ""
        catalogue.fetch(model)
        answer = answers.ask(catalogue.shape(model), **question(**fields))
        price = setups.price(fields.get("price"))
    except UserError as error:
        return pieces.trouble(say, error), gr.Button(visible=False), gr.Plot(visible=False), {}, {}
    planned = plan.config_fields(answer, catalogue.hub_name(model), fields["corpus"])
    return (
        pieces.verdict(say, answer, price, _prompt(planned)),
        gr.Button(visible=bool(answer.correction.runs)),
        gr.Plot(figures.bar(say, answer), visible=True),
        planned,
        fields,
    )


def _prompt(planned: dict) -> dict:
    """What a prompt and a run have reached on the plan's base and corpus; nothing without a corpus."""
    return learned.prompt_of(planned["base_model"], planned["corpus"]) if planned.get("corpus") else {}


def on_details(say: Say, asked: dict):
    """What takes longer than the verdict, for the question that was answered last: changes, formulas, plots, mosaic."""
    if not asked:
        return "", "", None, None, ""
    answer = answers.ask(catalogue.shape(asked["model"]), **question(**asked))
    return (
        pieces.changes(say, answer),
        pieces.formulas(say, answer),
        figures.lengths(say, answer),
        figures.batches(say, answer),
        pieces.mosaic(say, answer, {"model": asked["model"], "method": asked["method"]}),
    )


def on_tile(event: gr.EventData) -> list:
    """The form with what a tile stands for: model, method and settings, or tokens and epochs, which replace a corpus."""
    fields = json.loads(event.fields)
    if "tokens" in fields:
        fields["corpus"] = ""
    return [fields.get(name, gr.skip()) for name in FILLED]


def on_forget(say: Say, **fields):
    """Forget the runs that correct this answer, and answer without them."""
    chosen = question(**fields)
    setup = answers.suited(chosen["setup"], chosen["card"])
    calibration.forget(chosen["card"].name, setup.attention, setup.method)
    return on_ask(say, **fields)


def on_tables(say: Say, shown: bool, **fields) -> str:
    """The three tables for the chosen card."""
    if not shown:
        return ""
    try:
        chosen = question(**fields)
        name = fields["model"] or ""
        setup = answers.suited(chosen["setup"], chosen["card"])
        tables.check("methods", name, setup, chosen["card"])
        return pieces.all_tables(say, name, setup, chosen["card"], chosen["free"], chosen["tokens"])
    except UserError as error:
        return pieces.trouble(say, error)


def on_exact(say: Say, ticket: str, **fields):
    """Run the real step without weights; a generator, so that the page says what it is waiting for."""
    yield f"<p>{say('calculator.exact.running')}</p>"
    try:
        chosen, model = question(**fields), fields["model"] or ""
        setup = answers.suited(chosen["setup"], chosen["card"])
        traced = trace_runner.check(model, setup, chosen["card"].capability, lambda: ticket in _stopped)
        try:
            instant = answers.ask(catalogue.shape(model), **chosen)
        except (NeedsTrace, UnknownArchitecture):
            instant = None
        yield pieces.exact(say, traced, instant)
    except trace_runner.Cancelled:
        yield f"<p>{say('calculator.exact.stopped')}</p>"
    except UserError as error:
        yield pieces.trouble(say, error)
    finally:
        _stopped.discard(ticket)


def on_measure(say: Say, card: str | None):
    """The rate of matrix products here, which later answers for this machine use: of the chosen card, if it is here."""
    yield f"<p>{say('calculator.probe.running')}</p>"
    card = card or ""
    try:
        gpu = hardware.card(card.removeprefix(known_cards.MINE)) if card.startswith(known_cards.MINE) else None
        measured = probe.run(gpu)
        yield f"<p>{say('calculator.probe.done', name=measured['name'], tflops=say.number(measured['tflops']))}</p>"
    except UserError as error:
        yield pieces.trouble(say, error)


def on_errors(say: Say):
    """Errors on the published measurements, as they were when this version was made."""
    check = json.loads((paths.assets() / "check.json").read_text(encoding="utf-8"))
    return pieces.errors(say, check), figures.errors(say, check)


def on_plan(say: Say, config: dict, method: str, card: str, memory_gb: float | None, precision: str):
    """What the plan says of itself, and train.py with its config as one file behind the button."""
    if not config or not config["base_model"]:
        words = "nameless" if config else "prompt" if method == "prompt" else "broken"
        return (
            say(f"calculator.plan.{words}"),
            gr.Button(interactive=False),
            gr.DownloadButton(interactive=False),
        )
    name = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]
    file = plan.pack(config, temp_files.folder(name) / "train.zip")
    text = pieces.plan(say, config, known_cards.chosen(card, known_cards.gigabytes(memory_gb))[0], precision)
    return text, gr.Button(interactive=True), gr.DownloadButton(value=str(file), interactive=True)
