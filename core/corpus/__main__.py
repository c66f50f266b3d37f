"""Corpora without the page: `python -m core.corpus import FILE… --name NAME`, and six more commands; see --help."""

import argparse
import json
import signal
import sys
import time
from pathlib import Path

from core import corpus
from core.corpus import disk
from core.trouble import Trouble


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an ended import cleans up behind itself
    sys.stdout.reconfigure(encoding="utf-8", errors="replace", line_buffering=True)
    try:
        return arguments.does(arguments) or 0
    except Trouble as error:
        if arguments.json:
            values = {key: str(value) for key, value in error.values.items()}
            print(
                json.dumps(
                    {"trouble": type(error).__name__, "values": values, "message": str(error)}, ensure_ascii=False
                )
            )
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
    one = command("preview", _preview, "Show a row as the tokens that the trainer will see.")
    one.add_argument("--model", required=True, help="a model directory, or the id of a model that is ready")
    one.add_argument("--row", type=int, default=0, help="number of the row, from 0")
    one.add_argument("--max-length", type=int, default=1024)
    one.add_argument("--learn", default="assistant", choices=("assistant", "all"))
    return parser


def where(name: str) -> Path:
    """The directory of a corpus given by its directory or its id."""
    path = Path(name)
    return path if (path / "card.json").is_file() else corpus.directory(name)


def _import(arguments) -> None:
    options = corpus.Options(**json.loads(arguments.options))
    told = [0.0]

    def progress(done: int, total: int, rows: int) -> None:
        if time.monotonic() - told[0] > 0.5:
            told[0] = time.monotonic()
            print(json.dumps({"done": done, "total": total, "rows": rows}))

    name = arguments.name or arguments.files[0].stem
    tell = progress if arguments.progress else None
    card = corpus.create(arguments.files, name, options=options, progress=tell, out=arguments.out)
    if arguments.progress:
        print(json.dumps({"card": card}, ensure_ascii=False))
    elif arguments.json:
        print(json.dumps(card, ensure_ascii=False, indent=2))
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
    from core import models

    return Path(models.local(name) or name)


def _preview(arguments) -> int:
    from core import tokenizer
    from core.corpus import preview

    rows = disk.rows(where(arguments.corpus), arguments.row, 1)
    if not rows:
        print(f"There is no row {arguments.row}.", file=sys.stderr)
        return 1
    light = tokenizer.load(model_directory(arguments.model))
    shown = preview.tokens(rows[0], light, max_length=arguments.max_length, learn=arguments.learn)
    if arguments.json:
        print(json.dumps(shown, ensure_ascii=False))
    else:
        print(preview.in_terminal(shown))
        print(f"{shown['tokens']} tokens, {shown['learned']} learned, {shown['cut']} cut off", *shown["warnings"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
