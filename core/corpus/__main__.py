"""Corpora without the page: `python -m core.corpus import FILE… --name NAME`, and six more commands; see --help."""

import argparse
import codecs
import json
import os
import signal
import sys
import time
from dataclasses import MISSING, fields, replace
from pathlib import Path

from core import errors, foreign, process
from core.corpus import (
    checks,
    cleaning,
    corpus,
    duplicates,
    export,
    import_process,
    preview,
    report,
    sources,
    storage,
    token_counter,
)
from core.errors import UserError
from core.models import model_check, tokenizer


class OptionsWrong(UserError):
    template = "{option}: {what}. It takes a JSON object with any of: {known}."


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an ended import cleans up behind itself
    sys.stdout.reconfigure(encoding="utf-8", errors="replace", line_buffering=True)
    try:
        arguments.run(arguments)
        return 0
    except UserError as error:
        status = errors.tell(error, arguments.json)
        if not arguments.json:
            _suggest(arguments, error)
        return status


def _suggest(arguments, error: UserError) -> None:
    """Print the mappings that would make rows of files that gave none."""
    if getattr(error, "name", "") == "CorpusEmpty":
        seen = corpus.look(arguments.files)
        if names := list(seen["unknown_roles"])[:4]:
            roles = dict(zip(names, ["user", *["assistant"] * len(names)], strict=False))
            options = json.dumps({"roles": roles}, ensure_ascii=False)
            print(
                f"  --options '{options}' would say who speaks: put user and assistant where they belong",
                file=sys.stderr,
            )
            return
        for one in seen["suggestions"]:
            options = json.dumps({"mapping": one["mapping"]}, ensure_ascii=False)
            print(f"  --options '{options}' would make {one['rows']} rows of the first records", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m core.corpus", description="Read, look through and write corpora.")
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(name: str, run, about: str, *options: str, corpus: bool = True) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=about, description=about)
        added.set_defaults(run=run)
        added.add_argument("--json", action="store_true", help="print one JSON object")
        if corpus:
            added.add_argument("corpus", help="the id of a corpus, or its directory")
        for option in options:
            added.add_argument(option, **_OPTIONS[option])
        return added

    added = command("import", _import, "Read files and folders into a new corpus.", "--out", "--progress", corpus=False)
    added.add_argument(
        "files", nargs="+", type=Path, help="files, folders, or data sets of the hub as owner/name:config@split"
    )
    added.add_argument("--name", help="default: the name of the first file")
    added.add_argument("--options", default="{}", help="JSON: mapping, roles, encoding, repair_turns, most_rows, …")
    added.add_argument("--learn-as", default="", metavar="NAME", help="who of a chat between people is the assistant")
    command("list", _list, "List your corpora.", corpus=False)
    command("delete", _delete, "Delete a corpus.")
    options = ("--max-length", "--learn")
    command("report", _report, "Copies, checks, gauges, and tokens of a base model.", "--model", "--progress", *options)
    added = command("export", _export, "Write a corpus in a format of others.")
    added.add_argument("out", type=Path)
    added.add_argument("--as", dest="form", default="jsonl", help=", ".join(export.FORMATS))
    added = command("clean", _clean, "Make a cleaned corpus out of an old one.", "--out")
    added.add_argument("--name", required=True)
    added.add_argument("--rules", default="{}", help="JSON: leave_out, replace_personal, split_texts, …")
    added = command("preview", _preview, "Show a row as the tokens that the trainer will see.", *options)
    added.add_argument("--model", required=True, help=_OPTIONS["--model"]["help"])
    added.add_argument("--row", type=int, default=0, help="number of the row, from 0")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1")
    return int(text)


_OPTIONS = {
    "--out": {"type": Path, "help": "become this directory instead of one among your corpora"},
    "--progress": {"action": "store_true", "help": "print a JSON line of progress twice a second"},
    "--model": {"help": "a model directory, or the id of a model that is ready"},
    "--max-length": {"type": _positive, "default": 1024},
    "--learn": {"default": "assistant", "choices": ("assistant", "all")},
}


def _progress(arguments, *names: str):
    """A function that prints its arguments under these names as a JSON line, at most twice a second, if asked to."""
    last = 0.0

    def report(*values) -> None:
        nonlocal last
        if arguments.progress and time.monotonic() - last > 0.5:
            last = time.monotonic()
            print(json.dumps(dict(zip(names, values, strict=True))))

    return report


def _print(arguments, name: str, values: dict | list, text: str) -> None:
    """The result of a command: after its progress, as JSON, or as text."""
    if getattr(arguments, "progress", False):
        print(json.dumps({name: values}, ensure_ascii=False))
    else:
        print(json.dumps(values, ensure_ascii=False) if arguments.json else text)


def _import(arguments) -> None:
    options = _object(corpus.Options, arguments.options, "--options")
    options = replace(options, me=arguments.learn_as or options.me)
    name = sources.readable(arguments.name or arguments.files[0].stem)
    if process.WATCHED in os.environ:
        process.end_with_parent()
        tell = _progress(arguments, "done", "total", "rows")
        card = corpus.create(arguments.files, name, options=options, progress=tell, out=arguments.out)
    else:
        for event in import_process.create(arguments.files, name, options, arguments.out):
            if arguments.progress and "card" not in event:
                print(json.dumps(event))
        card = event["card"]
    counts = f"{card['rows_in']} in, {card['rows_kept']} kept, {card['rows_set_aside']} set aside"
    reasons = [f"  {reason}: {count}" for reason, count in card["reasons"].items()]
    reasons += [f"  the model learns to write like {name} (rows: {rows})" for name, rows in card["learned_as"].items()]
    _print(arguments, "card", card, "\n".join([f"{card['id']}: {counts}", *reasons]))


def _list(arguments) -> None:
    cards = corpus.listed()
    lines = [f"{card['id']}  {card['rows']} rows  {card['name']}" for card in cards]
    _print(arguments, "corpora", cards, "\n".join(lines))


def _delete(arguments) -> None:
    corpus.delete(arguments.corpus)
    _print(arguments, "deleted", {"deleted": arguments.corpus}, f"{arguments.corpus}: deleted")


def _report(arguments) -> None:
    model = str(token_counter.directory(arguments.model)) if arguments.model else ""
    if model:
        model_check.ask(Path(model))
    made = report.make(
        corpus.locate(arguments.corpus),
        tokenizer=tokenizer.load(model) if model else None,
        model=model,
        max_length=arguments.max_length,
        learn=arguments.learn,
        tell=_progress(arguments, "stage", "done", "total"),
    )
    lines = [
        f"{made['rows']} rows; copies: {made['copies']}; flags: {made['flags']}; languages: {made['languages']}",
        *(
            f"  {gauge['light']:6} {name:18} {gauge['value']:10.4f}   natural {made['natural'][name]:10.4f}"
            for name, gauge in made["xray"]["gauges"].items()
        ),
    ]
    if model:
        lines.append(str({key: value for key, value in made["tokens"].items() if key != "histogram"}))
    _print(arguments, "report", made, "\n".join(lines))


def _export(arguments) -> None:
    done = export.export(corpus.locate(arguments.corpus), arguments.form, arguments.out)
    _print(arguments, "export", done, f"{done['rows']} rows, {done['bytes']} bytes: {done['path']}")


def _clean(arguments) -> None:
    rules = _object(cleaning.Rules, arguments.rules, "--rules")
    card = cleaning.clean(corpus.locate(arguments.corpus), arguments.name, rules, out=arguments.out)
    _print(arguments, "card", card, f"{card['id']}: {card['rows']} rows")


def _preview(arguments) -> None:
    directory, number = corpus.locate(arguments.corpus), arguments.row
    rows = storage.rows(directory, number, 1) if number >= 0 else []
    if not rows:
        raise errors.named("NoSuchRow", row=number, rows=storage.read_card(directory)["rows"])
    model = token_counter.directory(arguments.model)
    shown = foreign.ask("preview", rows[0], model, arguments.max_length, arguments.learn, file=model)
    counts = f"{shown['tokens']} tokens, {shown['learned']} learned, {shown['cut']} cut off"
    _print(arguments, "preview", shown, "\n".join([preview.in_terminal(shown), " ".join([counts, *shown["warnings"]])]))


def _object(kind: type, text: str, option: str):
    """An object of this dataclass with the values of a JSON object.

    Raises:
        OptionsWrong: for what is not JSON, unknown names, values of another type, encodings and reasons unheard of.
    """
    known = {
        item.name: item.default if item.default is not MISSING else item.default_factory() for item in fields(kind)
    }

    def wrong(what: str) -> OptionsWrong:
        return OptionsWrong(option=option, what=what, known=", ".join(known))

    try:
        values = json.loads(text)
    except ValueError as error:
        raise wrong(f"this is not JSON ({error})") from error
    if not isinstance(values, dict):
        raise wrong("this is not an object")
    for name, value in values.items():
        if name not in known:
            raise wrong(f'"{name}" is not known')
        if (what := _unfit(name, value, known[name])) is not None:
            raise wrong(f"{name} {what}")
    return kind(**{name: tuple(value) if name == "leave_out" else value for name, value in values.items()})


def _unfit(name: str, value, default) -> str | None:
    if name == "leave_out":
        reasons = (*duplicates.KINDS[1:], *checks.FLAGS)
        good = isinstance(value, list) and all(reason in reasons for reason in value)
        return None if good else f"has to be a list of: {', '.join(reasons)}"
    wanted = dict if default is None else type(default)
    if not ((isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool))) or value is default):
        return f"has to be {_NAMES[wanted]}"
    if name == "encoding" and value:
        try:
            codecs.lookup(value)
        except LookupError:
            return f'names the encoding "{value}", which is not known'
    return None


_NAMES = {bool: "true or false", str: "a text", int: "a number", dict: "an object"}


if __name__ == "__main__":
    sys.exit(main())
