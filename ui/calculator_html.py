"""Pieces of the Calculator tab as HTML: what the templates calculator_*.html are filled with."""

import time
from functools import partial

from core.errors import UserError
from core.estimate import advice, catalogue, explain, reply, tables, worth
from core.estimate import answer as answers
from core.estimate.answer import Answer
from core.estimate.cards import Card
from core.estimate.memory import GIB
from core.estimate.setup import Setup
from ui import templates
from ui.text import Say

MOSAIC_TOKENS = 10**8  # where the question has none: a system prompt trains nothing
BIG_CARD = 80 * GIB  # of these people say that a 14B is on the edge


def verdict(say: Say, answer: Answer, price: float = 0, prompt: dict | None = None) -> str:
    """The answer in one line, whether the plan pays, and the other figures below it; `price` of a kWh.

    `prompt` is what a prompt and a run have reached on this base and corpus.
    """
    lines = {line.key: _cells(say, line) for line in [*explain.memory(answer), *explain.other(answer)]}
    method, disk = _short(say, answer.setup.kind), _size(say, sum(answer.disk.values()))
    return templates.render(
        say, "calculator_verdict", answer=answer, method=method, lines=lines, disk=disk, **_more(answer, price, prompt)
    )


def _more(answer: Answer, price: float, prompt: dict | None) -> dict:
    """Whether it pays, what a system prompt costs, what packed experts would need, and the runs behind a correction."""
    told = None
    if answer.setup.method == "prompt":
        told = reply.cost(answer.shape, answer.setup, answer.card)
    dated = [dict(source, day=_day(source["time"])) for source in answer.correction.sources]
    others = {"packed": answers.in_4_bit(answer), "pure": answers.in_pure_bf16(answer)}
    return {"worth": worth.of(answer, price, prompt), "reply": told, "sources": dated, **others}


def _day(seconds: float | None) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(seconds)) if seconds else ""


def mosaic(say: Say, answer: Answer, chosen: dict) -> str:
    """Models by kinds of training for the card, and volumes by epochs for the model, as tables of buttons."""
    amounts = {"tokens": answer.tokens or MOSAIC_TOKENS, "epochs": answer.epochs or 1}
    return templates.render(
        say,
        "calculator_mosaic",
        models=tables.mosaic(answer.setup, answer.card, answer.budget, model=chosen["model"], **amounts),
        plans=tables.plans(answer),
        chosen=chosen,
        card=answer.card.name.removeprefix("NVIDIA "),
        model=answer.shape.name.rpartition("/")[2],
        method=answer.setup.kind,
        **amounts,
    )


def trouble(say: Say, error: UserError) -> str:
    """The error in words, with the field under the name that the page gives it."""
    values = dict(error.values)
    if f"calculator.{values.get('field')}" in say:
        values["field"] = say(f"calculator.{values['field']}")
    text = say.worded(error.name, values, error.template.format(**values | {"message": error}))
    return templates.macro("trouble", text)


def formulas(say: Say, answer: Answer) -> str:
    """Every number with its formula, the values put in, and its source."""
    rows = [
        _cells(say, line)
        for line in [*explain.memory(answer), *explain.other(answer)]
        if line.value  # a processor has no CUDA context
    ]
    columns = ("number", "value", "formula", "source")
    return templates.macro("table", [say(f"calculator.column.{name}") for name in columns], rows)


def _cells(say: Say, line: explain.Line) -> list[str]:
    """What a line is called, its number with a unit, its formula and its source."""
    name, source = say(f"calculator.part.{line.key}"), say(f"calculator.source.{line.source}")
    return [name, _value(say, line), say.formula(line.formula), source]


def _value(say: Say, line: explain.Line) -> str:
    if line.key in ("epoch", "range"):
        return say.duration(line.value)
    units = {"device": "s", "launch": "s", "energy": "kwh", "reading": "s", "reply": "s"}
    if line.key in units:
        return f"{say.number(line.value)} {say(f'unit.{units[line.key]}')}"
    return say.number(line.value) if line.key == "rate" else _size(say, line.value)


def _size(say: Say, size: float) -> str:
    return say.size(size, "mib" if 0 < size < 0.1 * GIB else "gib")


def _short(say: Say, kind: str) -> str:
    """The name of a kind of training without what follows its colon."""
    return say(f"calculator.method.{kind}").partition(":")[0]


def changes(say: Say, answer: Answer) -> str:
    """What to change, and the largest that fits."""
    question = (answer.shape, answer.setup, answer.card, answer.budget)
    options = advice.changes(*question) if answer.verdict == "fits" else advice.helpful(*question)
    smaller = None
    if answer.verdict == "no" and not options:
        least = answer.setup.changed(method="qlora", batch_size=1)
        smaller = advice.largest_model(least, answer.card, answer.budget, below=answer.shape.parameters)
    largest = {**advice.largest(*question), "model": advice.largest_model(*question[1:])}
    values = {"verdict": answer.verdict, "changes": options, "smaller": smaller, "largest": largest}
    return templates.render(say, "calculator_changes", **values)


def all_tables(say: Say, name: str, setup: Setup, card: Card, budget: float, tokens: int) -> str:
    """Kinds of training, models by kinds, volumes of text, all computed for the card."""
    edge = None
    if budget > BIG_CARD:
        known = catalogue.shape("Qwen/Qwen3-14B")
        length = min(setup.max_length, known.longest)
        edge = answers.peak(known, tables.of_kind(setup, "qlora").changed(max_length=length), card).process
    kinds = tables.methods(name, setup, card, budget)
    return templates.render(
        say,
        "calculator_tables",
        card=card,
        setup=setup,
        tokens=tokens,
        edge=edge,
        kinds=kinds,
        models=tables.models(setup, card, budget),
        volumes=tables.volumes(name, setup, card),
        too_large=[cell.kind for cell in kinds if cell.verdict == "no"],
        size=partial(_size, say),
    )


def plan(say: Say, config: dict, card: Card, precision: str) -> str:
    """The plan in a sentence: what is trained how, at which length and batch, with which kernels, how often checked."""
    chosen = answers.best_precision(card) if precision == "auto" else precision
    flash = card.has_flash_attention and chosen != "fp32"
    return say(
        "calculator.plan.text",
        epochs=say.number(config["epochs"]),
        model=config["base_model"].rpartition("/")[2],
        method=_short(say, config["method"]),
        length=say.number(config["max_length"], 7),
        batch=say.number(config["batch_size"], 7),
        steps=say.number(config["gradient_accumulation_steps"], 7),
        precision=chosen,
        attention=say("calculator.plan.flash" if flash else "calculator.plan.sdpa"),
        optimizer=config["optim"],
        every=say.number(config["eval_steps"], 6),
        log=say.number(config["logging_steps"], 6),
    )


def exact(say: Say, traced: dict, answer: Answer | None) -> str:
    """The result of the exact check, beside the instant answer of a model that has one."""
    sizes = [] if answer else [(name, traced[name]) for name in ("allocated", "reserved")]
    sizes = [[name, _size(say, size)] for name, size in [*sizes, *traced["alive"].items()]]
    return templates.render(say, "calculator_exact", traced=traced, instant=answer and answer.memory, sizes=sizes)


def errors(say: Say, check: dict) -> str:
    """The figures of the check in words, with the worst rows named."""
    rival, rule = check["rivals"].values()
    return templates.render(say, "calculator_errors", check=check, rival=rival, rule=rule)
