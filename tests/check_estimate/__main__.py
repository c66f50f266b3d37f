"""Compare the calculator with measurements: `python -m tests.check_estimate [--check CSV] [--no-trace] [--json]`."""

import argparse
import json
import sys

from core import paths
from core.errors import UserError
from tests.check_estimate import check


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.check_estimate", description=__doc__.split(":")[0] + ".")
    usual = str(paths.assets() / "vram_measured.csv")
    parser.add_argument("--check", metavar="CSV", default=usual, help="a table of measurements; default: %(default)s")
    parser.add_argument("--no-trace", action="store_true", help="leave the trace out")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()

    def on_trace(done: int, total: int) -> None:
        print(f"\rtrace {done}/{total}", end="" if done < total else "\n", file=sys.stderr, flush=True)

    try:
        found = check.check(options.check, trace=not options.no_trace, on_trace=on_trace)
    except UserError as error:
        sys.exit(str(error))
    print(json.dumps(found.as_dict(), ensure_ascii=False) if options.json else check.as_text(found))


if __name__ == "__main__":
    main()
