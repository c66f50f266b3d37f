"""Exports from the command line, and the process of one in the background: `python -m core.export`."""

import argparse
import json
import sys
from pathlib import Path

from core import errors, events, jobs
from core.errors import UserError
from core.export import export, quantizer


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m core.export", description=export.__doc__.split("\n")[0])
    parser.add_argument("run", nargs="?", help="id of a run, as printed by python -m core.runs list")
    parser.add_argument("out", nargs="?", type=Path, help="the zip file of a capsule, or the directory to make")
    parser.add_argument("--as", dest="kind", choices=export.KINDS, default="capsule")
    parser.add_argument("--files", default="", help=f"kinds of GGUF files, with commas: {', '.join(quantizer.KINDS)}")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_intermixed_args()  # OUT comes after --as
    if args.job:
        jobs.main(parser, args.job, work)
    if not (args.run and args.out):
        parser.error("the id of a run and OUT are needed")

    try:
        kinds = tuple(filter(None, args.files.lower().split(",")))
        made = export.make(args.run, args.kind, args.out, events.echo, kinds)
    except (UserError, OSError) as error:
        sys.exit(errors.tell(error, args.json))
    print(json.dumps({"kind": args.kind, **made}, ensure_ascii=False) if args.json else made["path"])


def work(directory: Path, request: dict, report) -> dict:
    """The work of an export's own process."""
    name = "capsule.zip" if request["kind"] == "capsule" else request["kind"]
    kinds = tuple(request.get("gguf_kinds", ()))
    return export.make(request["run"], request["kind"], directory / name, report, kinds)


if __name__ == "__main__":
    main()
