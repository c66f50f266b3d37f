"""The resource calculator on the command line: `python -m core.estimate --model Qwen/Qwen2.5-7B --method qlora`."""

import argparse
import contextlib
import json
import sys
from pathlib import Path

from core import errors
from core.errors import UserError
from core.estimate import advice, answer, cards, catalogue, page, tables, trace_runner, worth
from core.estimate import setup as setups
from core.estimate.errors import NeedsTrace, UnknownArchitecture
from core.estimate.memory import GIB
from core.estimate.setup import Setup


def parser() -> argparse.ArgumentParser:
    """The options: one for every setting."""
    made = argparse.ArgumentParser(prog="python -m core.estimate", description=__doc__.split(":")[0] + ".")
    made.add_argument(
        "--model",
        default="Qwen/Qwen2.5-7B-Instruct",
        help="catalogue, hub id, folder, GGUF file, or the text of a config.json",
    )
    made.add_argument(
        "--gpu", help="a card of the catalogue, or its memory: 12 GB; default: this machine's, else RTX PRO 6000"
    )
    made.add_argument("--memory-gb", help="of the card, whatever its name says: 12; without --gpu of any card")
    made.add_argument("--method", default="qlora", help=", ".join(setups.KINDS))
    made.add_argument("--tokens", default="10M", help="of the corpus: 100M, 2.5B")
    made.add_argument("--epochs", default="3")
    made.add_argument("--mix", default="0", metavar="PERCENT", help="of what is read is of other corpora: 20")
    made.add_argument("--max-length", "--sequence-length", help="default: 2048, or what the model reads at most")
    made.add_argument("--batch-size", default="1")
    made.add_argument("--gradient-accumulation-steps", default="8")
    made.add_argument("--lora-rank", default="16")
    made.add_argument("--lora-dropout", default="0.05")
    made.add_argument("--prompt-tokens", default="500", help="of a system prompt with its examples (method prompt)")
    made.add_argument("--price", default="0", help="of a kWh, for the cost of the energy")
    made.add_argument("--target-modules", default="all-linear", help="or names with commas")
    for name, aliases in (("optim", ["--optimizer"]), ("attention", []), ("loss", []), ("precision", [])):
        best = {"precision": "; default: bf16 where the card has it"}.get(name, "")
        default = None if best else getattr(Setup, name)
        made.add_argument(f"--{name}", *aliases, default=default, help=", ".join(setups.CHOICES[name]) + best)
    made.add_argument("--no-gradient-checkpointing", dest="gradient_checkpointing", action="store_false")
    made.add_argument("--train-embeddings", action="store_true")
    made.add_argument("--load-in-4bit", action="store_true", help="what qlora means; refused with full")
    made.add_argument("--labelled", default="1", help="share of the tokens that count in the loss")
    made.add_argument("--trace", action="store_true", help="check exactly: run the real step without weights")
    made.add_argument("--table", choices=("models", "volumes", "methods"))
    made.add_argument("--page", metavar="OUT.html", help="write one static page: models by cards by methods")
    made.add_argument("--json", action="store_true", help="print one JSON object")
    return made


def question(options: argparse.Namespace) -> tuple[Setup, cards.Card, float]:
    """The setup, the card and the memory that is free on it."""
    card, free = cards.chosen(options.gpu, cards.gigabytes(options.memory_gb))
    fields = setups.of_kind(options.method.lower())
    if options.load_in_4bit:
        if fields["method"] == "prompt":
            raise errors.named("NoFourBitPrompt")
        if fields["method"] == "full":
            raise errors.named("NoFourBitFull")
        fields["method"] = "qlora"
    fields |= {name: setups.count(getattr(options, name), name) for name in setups.SUGGESTED}
    fields |= {name: setups.number(getattr(options, name), name) for name in ("lora_dropout", "labelled")}
    plain = ("target_modules", "optim", "attention", "loss", "gradient_checkpointing", "train_embeddings")
    fields |= {name: getattr(options, name) for name in plain}
    return Setup(precision=options.precision or answer.best_precision(card), **fields), card, free


def run(options: argparse.Namespace) -> dict:
    """What to print."""
    if options.page:
        return page.write(Path(options.page), setups.count(options.max_length or Setup.max_length, "max_length"))
    catalogue.fetch(options.model)
    options.max_length = options.max_length or _usual_length(options.model)
    setup, card, free = question(options)
    if options.table:
        return table(options.table, options.model, setup, card, free)
    own, epochs = setups.count(options.tokens, "tokens"), setups.epochs(options.epochs)
    tokens = setups.with_mix(own, options.mix)
    try:
        shape = catalogue.shape(options.model)
    except (NeedsTrace, UnknownArchitecture):
        if not options.trace:
            raise
        return {"model": options.model, "gpu": card.name, **about(card), "trace": traced(options.model, setup, card)}
    instant = answer.ask(shape, setup, card, tokens=tokens, epochs=epochs, free=free)
    result = answer.as_dict(instant) | {
        "model": catalogue.hub_name(options.model) or shape.name,
        "taken_as": shape.name,
        **about(card),
    }
    if tokens != own:
        result["read"] = {"corpus": own * epochs, "others": (tokens - own) * epochs}
    result["worth"] = worth.of(instant, setups.price(options.price)).as_dict()
    result["advice"] = [as_line(c) for c in advice.changes(shape, instant.setup, card, free)]
    if instant.verdict != "fits":
        result["way_to_fit"] = [as_line(c) for c in advice.helpful(shape, instant.setup, card, free)]
    largest = advice.largest(shape, instant.setup, card, free)
    result["largest"] = {"sequence_length": largest["max_length"], **largest}
    result["largest"]["model"] = advice.largest_model(instant.setup, card, free)
    if options.trace:
        result["trace"] = traced(options.model, instant.setup, card)
    return result


def _usual_length(model: str) -> int:
    with contextlib.suppress(UserError):  # which is said when the question is answered
        return min(Setup.max_length, catalogue.shape(model).longest or Setup.max_length)
    return Setup.max_length


def about(card: cards.Card) -> dict:
    """What a person must know of the card that was not quite the one in question."""
    told = {"rates": "a guess: those of a typical card with as much memory"} if card.is_guess else {}
    return told | ({"gpus_asked": card.asked, "gpus_answered": 1} if card.asked > 1 else {})


def as_line(change: advice.Change) -> dict:
    """A change as plain values."""
    return {
        "change": change.name,
        "from": change.before,
        "to": change.after,
        "saves_gib": round(change.saves / GIB, 3),
        "slower": round(change.slower, 3),
        "then": change.verdict,
    }


def traced(model: str, setup: Setup, card: cards.Card) -> dict:
    """The exact check in GiB."""
    result = trace_runner.check(model, answer.suited(setup, card), card.capability)
    sizes = {name: round(result[name] / GIB, 4) for name in ("allocated", "reserved")}
    alive = {name: round(size / GIB, 4) for name, size in result["alive"].items()}
    return sizes | {"seconds": result["seconds"], "kept": result["kept"], "alive": alive}


def table(kind: str, model: str, setup: Setup, card: cards.Card, free: float) -> dict:
    """One of the three tables.

    Raises:
        an error of core.estimate.errors for a question that has none.
    """
    tables.check(kind, model, setup, card)
    if kind == "volumes":
        return {"gpu": card.name, "model": model, "volumes": tables.volumes(model, setup, card)}
    cells = tables.methods(model, setup, card, free) if kind == "methods" else tables.models(setup, card, free)
    rows = [cells] if kind == "methods" else cells
    return {
        "gpu": card.name,
        "card_gib": round(free / GIB, 2),
        "sequence_length": setup.max_length,
        "batch_size": setup.batch_size,
        kind: [as_cell(cell) for row in rows for cell in row],
    }


def as_cell(cell: tables.Cell) -> dict:
    """A cell of a table as plain values: the verdict, and what takes the most."""
    values = {
        "model": cell.model,
        "method": cell.kind,
        "optimizer": cell.optim,
        "process_gib": round(cell.memory.process / GIB, 2),
        "verdict": cell.verdict,
        "most": cell.most,
        "most_gib": round(cell.memory.components[cell.most] / GIB, 2),
    }
    if cell.pace and cell.memory.trainable:
        values |= {
            "trained_parameters": cell.memory.trainable,
            "tokens_per_second": round(cell.pace.tokens_per_second, 1),
            "checkpoint_gib": round(cell.checkpoint / GIB, 3),
        }
    return values


def as_text(result: dict, indent: str = "") -> str:
    """Lines of names and values; a list of dicts is a table."""
    lines = []
    for name, value in result.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}:", as_text(value, indent + "  ")]
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            lines += [f"{indent}{name}:", *(f"{indent}  {line}" for line in as_table(value))]
        else:
            lines.append(f"{indent}{name}: {value}")
    return "\n".join(lines)


def as_table(rows: list[dict]) -> list[str]:
    """A line of names and one of each row in columns, numbers to the right; a dict in a row gives a column a name."""
    flat = []
    for row in rows:
        within = {
            f"{key} {inner}": x for key, value in row.items() if isinstance(value, dict) for inner, x in value.items()
        }
        flat.append({key: value for key, value in row.items() if not isinstance(value, dict)} | within)
    names = list(dict.fromkeys(name for row in flat for name in row))
    lines = [names, *([_cell(row.get(name, "")) for name in names] for row in flat)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(names))]
    right = [any(isinstance(row.get(name), (int, float)) for row in flat) for name in names]
    return [
        "  ".join(
            f"{cell:{'>' if number else '<'}{width}}" for cell, width, number in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    ]


def _cell(value) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.3f}".rstrip("0").rstrip(".")
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def main() -> int:
    options = parser().parse_args()
    try:
        result = run(options)
    except UserError as error:
        if options.json:
            print(json.dumps({"error": error.name, "message": str(error)}))
        else:
            print(error, file=sys.stderr)
        return 2
    print(json.dumps(result, ensure_ascii=False) if options.json else as_text(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
