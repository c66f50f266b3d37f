"""The starter and the models of this disk: `python -m core.models prepare starter`, `python -m core.models list --json`."""

import argparse
import json
import sys

from core import errors
from core.errors import UserError
from core.models import models


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m core.models", description=__doc__.split("\n")[0])
    parser.add_argument("command", choices=["prepare", "list", "delete"])
    parser.add_argument("name", nargs="?", default=models.STARTER, help="starter, a directory, a GGUF file or a hub id")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    args = parser.parse_args()

    def report(stage: str, done: float, total: float) -> None:
        if args.json:
            print(json.dumps({"stage": stage, "done": done, "total": total}), flush=True)
        else:
            share = f" {100 * done / total:.0f} %" if total else ""
            print(f"\r{stage}{share}      ", end="", file=sys.stderr, flush=True)

    if args.command == "list":
        print(json.dumps(models.ready(), ensure_ascii=False, indent=None if args.json else 2))
    elif args.command == "delete":
        models.delete(args.name)
        if args.json:
            print(json.dumps({"deleted": args.name}, ensure_ascii=False))
    else:
        try:
            path = models.prepare(args.name, report)
        except UserError as error:
            print(file=sys.stderr)  # after the progress
            sys.exit(errors.tell(error, args.json))
        print(json.dumps({"path": path}, ensure_ascii=False) if args.json else f"\n{path}")


if __name__ == "__main__":
    main()
