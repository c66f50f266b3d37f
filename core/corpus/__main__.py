"""Corpora without the page: `python -m core.corpus import FILE… --name NAME`, and six more commands; see --help."""

import argparse
import json
import signal
import sys
import time
from pathlib import Path

from core import errors, models, tokenizer
from core.corpus import cleaning, cli_options, corpus, export, preview, report, sources, storage
from core.errors import UserError


class NoSuchRow(UserError):
    template = "There is no row {row}: the corpus has {rows}, counted from 0."


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an ended import cleans up behind itself
    sys.stdout.reconfigure(encoding="utf-8", errors="replace", line_buffering=True)
    try:
        return arguments.does(arguments) or 0
    except UserError as error:
        if arguments.json:
            print(json.dumps(errors.to_dict(error), ensure_ascii=False))
        else:
            print(error, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m core.corpus", description="Read, look through and write corpora.")
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(name: str, does, about: str, *, where: bool = True) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=about, description=about)
        one.set_defaults(does=does)
        one.add_argument("--json", action="store_true", help="print one JSON object")
        if where:
            one.add_argument("corpus", help="the id of a corpus, or its directory")
        return one

    one = command("import", _import, "Read files and folders into a new corpus.", where=False)
    one.add_argument("files", nargs="+", type=Path)
    one.add_argument("--name", help="default: the name of the first file")
    one.add_argument("--out", type=Path, help="become this directory instead of one among your corpora")
    one.add_argument("--options", default="{}", help="JSON: mapping, roles, encoding, repair_turns, repair_text")
    one.add_argument("--progress", action="store_true", help="print a JSON line of progress twice a second")
    command("list", _list, "List your corpora.", where=False)
    command("delete", _delete, "Delete a corpus.")
    one = command("report", _report, "Copies, checks, gauges, and tokens of a base model.")
    one.add_argument("--model", help="a model directory, or the id of a model that is ready")
    one.add_argument("--max-length", type=positive, default=1024)
    one.add_argument("--learn", default="assistant", choices=("assistant", "all"))
    one.add_argument("--progress", action="store_true", help="print a JSON line of progress twice a second")
    one = command("export", _export, "Write a corpus in a format of others.")
    one.add_argument("out", type=Path)
    one.add_argument("--as", dest="form", default="jsonl", help=", ".join(export.FORMATS))
    one = command("clean", _clean, "Make a cleaned corpus out of an old one.")
    one.add_argument("--name", required=True)
    one.add_argument("--out", type=Path, help="become this directory instead of one among your corpora")
    one.add_argument("--rules", default="{}", help="JSON: leave_out, replace_personal, split_texts, …")
    one = command("preview", _preview, "Show a row as the tokens that the trainer will see.")
    one.add_argument("--model", required=True, help="a model directory, or the id of a model that is ready")
    one.add_argument("--row", type=int, default=0, help="number of the row, from 0")
    one.add_argument("--max-length", type=positive, default=1024)
    one.add_argument("--learn", default="assistant", choices=("assistant", "all"))
    return parser


def positive(said: str) -> int:
    if not said.isdecimal() or int(said) < 1:
        raise argparse.ArgumentTypeError(f"{said} is not a number from 1")
    return int(said)


def where(name: str) -> Path:
    """The directory of a corpus given by its directory or its id."""
    path = Path(name)
    if (path / "card.json").is_file():
        return path
    if path.name != name:
        raise corpus.NoSuchCorpus(name=name)
    return corpus.directory(name)


def _teller(shaped):
    """A function that prints its arguments as a JSON line, at most twice a second."""
    told = [0.0]

    def tell(*values) -> None:
        if time.monotonic() - told[0] > 0.5:
            told[0] = time.monotonic()
            print(json.dumps(shaped(*values)))

    return tell


def _import(arguments) -> None:
    options = cli_options.read(corpus.Options, arguments.options, "--options")
    progress = _teller(lambda done, total, rows: {"done": done, "total": total, "rows": rows})
    name = sources.readable(arguments.name or arguments.files[0].stem)
    tell = progress if arguments.progress else None
    card = corpus.create(arguments.files, name, options=options, progress=tell, out=arguments.out)
    if arguments.progress:
        print(json.dumps({"card": card}, ensure_ascii=False))
    elif arguments.json:
        print(json.dumps(card, ensure_ascii=False))
    else:
        print(f"{card['id']}: {card['rows_in']} in, {card['rows_kept']} kept, {card['rows_set_aside']} set aside")
        for reason, count in card["reasons"].items():
            print(f"  {reason}: {count}")


def _list(arguments) -> None:
    cards = corpus.listed()
    if arguments.json:
        print(json.dumps(cards, ensure_ascii=False))
    for card in cards if not arguments.json else []:
        print(f"{card['id']}  {card['rows']} rows  {card['name']}")


def _delete(arguments) -> None:
    corpus.delete(arguments.corpus)
    if arguments.json:
        print(json.dumps({"deleted": arguments.corpus}, ensure_ascii=False))


def model_directory(name: str) -> Path:
    """The directory of a model given by its directory or its id."""
    if Path(name).is_dir():
        return Path(name)
    return Path(models.local(name) or name)


def _report(arguments) -> None:
    light, model = None, ""
    if arguments.model:
        model = str(model_directory(arguments.model))
        light = tokenizer.load(model)
    tell = (
        _teller(lambda stage, done, total: {"stage": stage, "done": done, "total": total})
        if arguments.progress
        else None
    )
    found = report.make(
        where(arguments.corpus),
        tokenizer=light,
        model=model,
        max_length=arguments.max_length,
        learn=arguments.learn,
        tell=tell,
    )
    if arguments.progress:
        print(json.dumps({"report": found}, ensure_ascii=False))
        return
    if arguments.json:
        print(json.dumps(found, ensure_ascii=False))
        return
    print(f"{found['rows']} rows; copies: {found['copies']}; flags: {found['flags']}; languages: {found['languages']}")
    for name, gauge in found["xray"]["gauges"].items():
        print(f"  {gauge['light']:6} {name:18} {gauge['value']:10.4f}   natural {found['natural'][name]:10.4f}")
    if light is not None:
        print({key: value for key, value in found["tokens"].items() if key != "histogram"})


def _export(arguments) -> None:
    done = export.export(where(arguments.corpus), arguments.form, arguments.out)
    print(
        json.dumps(done, ensure_ascii=False)
        if arguments.json
        else f"{done['rows']} rows, {done['bytes']} bytes: {done['path']}"
    )


def _clean(arguments) -> None:
    rules = cli_options.read(cleaning.Rules, arguments.rules, "--rules")
    card = cleaning.clean(where(arguments.corpus), arguments.name, rules, out=arguments.out)
    print(json.dumps(card, ensure_ascii=False) if arguments.json else f"{card['id']}: {card['rows']} rows")


def _preview(arguments) -> int:
    rows = storage.rows(where(arguments.corpus), arguments.row, 1) if arguments.row >= 0 else []
    if not rows:
        raise NoSuchRow(row=arguments.row, rows=storage.read_card(where(arguments.corpus))["rows"])
    light = tokenizer.load(model_directory(arguments.model))
    shown = preview.tokens(preview.shortened(rows[0]), light, max_length=arguments.max_length, learn=arguments.learn)
    if arguments.json:
        print(json.dumps(shown, ensure_ascii=False))
    else:
        print(preview.in_terminal(shown))
        print(f"{shown['tokens']} tokens, {shown['learned']} learned, {shown['cut']} cut off", *shown["warnings"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
