"""Pieces of the Calculator tab as HTML: the verdict, the formulas, the changes, the tables."""

import html

from core.errors import UserError
from core.estimate import advice, catalogue, explain, tables
from core.estimate import answer as answers
from core.estimate.advice import Change
from core.estimate.answer import Answer
from core.estimate.catalogue import Card
from core.estimate.memory import GIB
from core.estimate.setup import Setup
from ui import templates
from ui.text import Say

BIG_CARD = 80 * GIB  # of these it is said that a 14B is on the edge
MARKS = {"fits": "var(--good)", "tight": "var(--fair)", "no": "var(--bad)"}  # in style.css, readable on both grounds


def verdict(say: Say, answer: Answer) -> str:
    """The answer in one line, and the other figures below it."""
    low, high = answer.range_seconds
    values = {
        "model": answer.shape.name.rpartition("/")[2],
        "method": say(f"calculator.method.{answer.setup.kind}").partition(":")[0],
        "process": say.number(answer.process / GIB),
        "budget": say.number(answer.budget / GIB),
        "card": answer.card.name.removeprefix("NVIDIA "),
    }
    whole = say("calculator.whole", low=say.duration(low), high=say.duration(high))
    facts = (
        (say.duration(answer.epoch_seconds), say("calculator.per_epoch", tokens=say.number(answer.tokens)), ("epoch",)),
        (say.duration(answer.total_seconds), whole, ("range",)),
        (
            say.number(answer.pace.tokens_per_second / answer.correction.seconds),
            say("calculator.rate"),
            ("rate", "device", "launch"),
        ),
        (_energy(say, answer.kilowatt_hours), say("calculator.energy"), ("energy",)),
        (_size(say, sum(answer.host.values())), say("calculator.host"), ("host",)),
        (
            _size(say, sum(answer.disk.values())),
            say("calculator.disk"),
            ("disk_weights", "disk_checkpoints", "disk_corpus", "disk_cache"),
        ),
    )
    lines = {line.key: line for line in explain.other(answer)}
    phase = say("calculator.peak", phase=say(f"calculator.phase.{answer.memory.peak_phase}"))
    head = f'<div class="state" style="color:{MARKS[answer.verdict]};font-size:1.25rem">{say(f"calculator.{answer.verdict}")}</div>'
    rows = "".join(_opens(say, value, name, [lines[key] for key in keys]) for value, name, keys in facts)
    summary = f"<div>{html.escape(say('calculator.summary', **values))} {html.escape(phase)}</div>"
    untried = "" if answer.card.is_tried else f'<p class="subdued">{say("calculator.untried")}</p>'
    return f'{head}{summary}{untried}<div class="facts">{rows}</div>{_corrected(say, answer)}'


def _opens(say: Say, value: str, name: str, lines: list[explain.Line]) -> str:
    """A number that opens to its formula and source."""
    inside = "".join(
        f"<div>{html.escape(say(f'calculator.part.{line.key}'))}: {html.escape(_value(say, line))} = "
        f"{html.escape(say.formula(line.formula))} <span>({html.escape(say(f'calculator.source.{line.source}'))})</span></div>"
        for line in lines
    )
    summary = f"<b>{html.escape(value)}</b> <span>{html.escape(name)}</span>"
    return f'<details><summary style="cursor:pointer">{summary}</summary>{inside}</details>'


def _corrected(say: Say, answer: Answer) -> str:
    correction = answer.correction
    if not correction.runs:
        return ""
    values = {"memory": say.number(correction.memory), "seconds": say.number(correction.seconds)}
    return f"<div>{html.escape(say('calculator.corrected', runs=correction.runs, **values))}</div>"


def trouble(say: Say, error: UserError) -> str:
    """The trouble in words, with the field under the name that the page gives it."""
    values = dict(error.values)
    if f"calculator.{values.get('field')}" in say:
        values["field"] = say(f"calculator.{values['field']}")
    text = say.worded(type(error).__name__, values, type(error).template.format(**values))
    return templates.macro("trouble", text)


def _size(say: Say, size: float) -> str:
    if 0 < size < 0.1 * GIB:
        return f"{say.number(size / 2**20)} {say('unit.mib')}"
    return f"{say.number(size / GIB)} {say('unit.gib')}"


def formulas(say: Say, answer: Answer) -> str:
    """Every number with its formula, the values put in, and its source."""
    rows = [
        [
            say(f"calculator.part.{line.key}"),
            _value(say, line),
            say.formula(line.formula),
            say(f"calculator.source.{line.source}"),
        ]
        for line in [*explain.memory(answer), *explain.other(answer)]
        if line.value  # a processor has no CUDA context
    ]
    columns = ("number", "value", "formula", "source")
    return table([say(f"calculator.column.{name}") for name in columns], rows)


def _value(say: Say, line: explain.Line) -> str:
    """A line's number with its unit."""
    if line.key in ("epoch", "range"):
        return say.duration(line.value)
    if line.key in ("device", "launch"):
        return f"{say.number(line.value)} {say('unit.s')}"
    if line.key == "rate":
        return say.number(line.value)
    return _energy(say, line.value) if line.key == "energy" else _size(say, line.value)


def _energy(say: Say, kilowatt_hours: float) -> str:
    return f"{say.number(kilowatt_hours)} {say('unit.kwh')}"


def table(head: list[str], rows: list[list], colours: dict[tuple[int, int], str] | None = None) -> str:
    """A table; a cell's colour is that of its verdict."""
    return templates.macro("table", head, rows, colours or {})


def changes(say: Say, answer: Answer) -> str:
    """What to change, and the largest that fits."""
    asked = (answer.shape, answer.setup, answer.card, answer.budget)
    if answer.verdict == "fits":
        found, title = advice.changes(*asked), say("calculator.change.fits")
    else:
        found, title = advice.way_to_fit(*asked), say("calculator.change.way")
    parts = [f"<p>{html.escape(title)}</p>"] if found else [f"<p>{html.escape(say('calculator.change.none'))}</p>"]
    if found:
        parts.append(_change_table(say, found))
    if answer.verdict != "fits" and (not found or found[-1].verdict != "fits"):
        model = advice.largest_model(answer.setup.changed(method="qlora", batch_size=1), answer.card, answer.budget)
        parts.append(f"<p>{html.escape(say('calculator.change.stuck', model=model or '—'))}</p>")
    return "".join(parts) + _largest(say, answer)


def _change_table(say: Say, found: list[Change]) -> str:
    rows, colours = [], {}
    for y, change in enumerate(found):
        kind = ("same", "nearly", "other")[advice.harm(change.name)]
        pace = f"× {say.number(change.slower)}" if abs(change.slower - 1) > 0.01 else "="
        values = {"before": _plain(say, change.before), "after": _plain(say, change.after)}
        rows.append(
            [
                say(f"calculator.change.{change.name}", **values),
                f"−{say.number(change.saves / GIB)}",
                pace,
                say(f"calculator.change.{kind}"),
                say(f"calculator.mark.{change.verdict}"),
            ]
        )
        colours[y, 4] = MARKS[change.verdict]
    names = ("change", "saves", "time", "result", "then")
    return table([say(f"calculator.column.{name}") for name in names], rows, colours)


def _plain(say: Say, value) -> str:
    return say.number(value, 7) if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _largest(say: Say, answer: Answer) -> str:
    found = advice.largest(answer.shape, answer.setup, answer.card, answer.budget)
    named = [f"{say(f'calculator.largest.{name}')} {say.number(value, 7)}" for name, value in found.items() if value]
    model = advice.largest_model(answer.setup, answer.card, answer.budget)
    if model:
        named.append(f"{say('calculator.largest.model')} {model}")
    return f"<p>{html.escape(say('calculator.largest'))} {html.escape('; '.join(named) or '—')}.</p>"


def all_tables(say: Say, name: str, setup: Setup, card: Card, budget: float, tokens: int) -> str:
    """Kinds of training, models by methods, volumes of text, all computed for the card."""
    values = {"length": say.number(setup.max_length, 6), "batch": setup.batch_size}
    note = say("calculator.tables.note", card=card.name, **values)
    if budget > BIG_CARD:
        known = catalogue.shape("Qwen/Qwen3-14B")
        length = min(setup.max_length, known.longest)
        qlora = answers.quick(known, tables.of_kind(setup, "qlora").changed(max_length=length), card)
        note += " " + say("calculator.tables.edge", gib=say.number(qlora.process / GIB))
    return (
        f"<p>{html.escape(note)}</p>"
        f"<h4>{say('calculator.tables.methods')}</h4>{_kinds(say, name, setup, card, budget, tokens)}"
        f"<h4>{say('calculator.tables.models')}</h4>{_models(say, setup, card, budget)}"
        f"<h4>{say('calculator.tables.volumes')}</h4>{_volumes(say, name, setup, card, budget)}"
    )


def _kinds(say: Say, name: str, setup: Setup, card: Card, budget: float, tokens: int) -> str:
    rows, colours = [], {}
    for y, cell in enumerate(tables.methods(name, setup, card, budget)):
        size = say.number(cell.memory.process / GIB)
        title, gives = say(f"calculator.method.{cell.kind}"), say(f"calculator.kind.{cell.kind}")
        title += f" · {cell.optim}" if cell.optim != setup.optim else ""
        mark = say(f"calculator.mark.{cell.verdict}")
        time = say.duration(tokens / cell.pace.tokens_per_second) if cell.verdict != "no" else "—"
        trained = say.number(cell.memory.trainable, 3)
        rows.append([title, gives, trained, size, mark, time, _size(say, cell.checkpoint)])
        colours[y, 4] = MARKS[cell.verdict]
    names = ("method", "gives", "trained", "memory", "then", "epoch", "checkpoint")
    return table([say(f"calculator.column.{column}") for column in names], rows, colours)


def _models(say: Say, setup: Setup, card: Card, budget: float) -> str:
    rows, colours = [], {}
    for y, row in enumerate(tables.models(setup, card, budget)):
        cells = [row[0].model]
        for x, cell in enumerate(row, start=1):
            cells.append(f"{say.number(cell.memory.process / GIB)} · {_reason(say, cell)}")
            colours[y, x] = MARKS[cell.verdict]
        rows.append(cells)
    head = [
        say("calculator.column.model"),
        *(say(f"calculator.method.{m}").partition(":")[0] for m in tables.MODEL_KINDS),
    ]
    return table(head, rows, colours)


def _reason(say: Say, cell: tables.Cell) -> str:
    """The verdict, and its reason: what takes the most."""
    most = f"{say(f'calculator.part.{cell.most}').lower()} {say.number(cell.memory.components[cell.most] / GIB)}"
    return f"{say(f'calculator.mark.{cell.verdict}')}: {most}"


def _volumes(say: Say, name: str, setup: Setup, card: Card, budget: float) -> str:
    rows = []
    kinds = ("qlora", "lora", "full")
    able = [cell.kind for cell in tables.methods(name, setup, card, budget) if cell.verdict != "no"]
    for row in tables.volumes(name, setup, card):
        times = [say.duration(row["seconds"][m]) if m in able else say("calculator.mark.no") for m in kinds]
        rows.append([say.number(row["tokens"], 12), say(f"calculator.volume.{row['tokens']}"), *times])
    head = [say("calculator.column.tokens"), say("calculator.column.suits")]
    for method in ("qlora", "lora", "full"):
        head.append(say("calculator.epoch_with", method=say(f"calculator.method.{method}").partition(":")[0]))
    return table(head, rows)


def plan(say: Say, config: dict, card: Card, precision: str) -> str:
    """The plan in a sentence: what is trained how, at which length and batch, with which kernels, how often checked."""
    chosen = answers.best_precision(card) if precision == "auto" else precision
    flash = card.has_flash_attention and chosen != "fp32"
    return say(
        "calculator.plan.text",
        epochs=say.number(config["epochs"]),
        model=config["base_model"].rpartition("/")[2],
        method=say(f"calculator.method.{config['method']}").partition(":")[0],
        length=say.number(config["max_length"], 7),
        batch=say.number(config["batch_size"], 7),
        steps=say.number(config["gradient_accumulation_steps"], 7),
        precision=chosen,
        attention=say("calculator.plan.flash" if flash else "calculator.plan.sdpa"),
        optimizer=config["optim"],
        every=say.number(config["eval_steps"], 6),
        log=say.number(config["logging_steps"], 6),
    )


def exactly(say: Say, answer: Answer, found: dict) -> str:
    """What the exact check found, beside the instant answer."""
    memory = answer.memory
    values = {
        "allocated": say.number(found["allocated"] / GIB, 4),
        "reserved": say.number(found["reserved"] / GIB, 4),
        "instant": say.number(memory.allocated / GIB, 4),
        "instant_reserved": say.number(memory.reserved / GIB, 4),
    }
    rows = [[name, _size(say, size)] for name, size in found["alive"].items()]
    head = [say("calculator.column.number"), say("calculator.column.value")]
    return f"<p>{html.escape(say('calculator.exact.result', **values))}</p>{table(head, rows)}"


def errors(say: Say, found: dict) -> str:
    """The figures of the check in words, with the worst rows named."""

    def percent(value) -> str:
        return "—" if value is None else say.number(100 * value, 2 if abs(value) >= 0.01 else 4)

    rival, rule = found["rivals"].values()
    values = {name: percent(found[name]["median"]) for name in ("instant", "trace", "time")}
    values |= {f"{name}_rows": found[name]["rows"] for name in ("instant", "trace", "time")}
    worst = [
        f"{w['model'].rpartition('/')[2]} {w['method']} {w['sequence_length']} × {w['batch_size']}: {percent(w['error'])} %"
        for name in ("instant", "time")
        for w in found[name]["worst"][:2]
    ]
    text = say("calculator.errors", rival=percent(rival["median"]), rule=percent(rule["median"]), **values)
    return f"<p>{html.escape(text)} {html.escape(say('calculator.errors.worst', rows='; '.join(worst)))}</p>"


def traced_only(say: Say, found: dict) -> str:
    """The exact check of a model that the instant formula does not cover."""
    rows = [[name, _size(say, found[name])] for name in ("allocated", "reserved")]
    rows += [[name, _size(say, size)] for name, size in found["alive"].items()]
    return table([say("calculator.column.number"), say("calculator.column.value")], rows)
