"""`python -m core.check_card --json`: the checks one by one on stderr, the result last on stdout."""

import argparse
import json
import sys
import time

from core import errors
from core import jobs as background
from core.check_card import jobs, plan, results
from core.errors import UserError


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m core.check_card",
        description="Check whether this machine trains, and as fast as it should: the first thing to run.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object last, to paste into a report")
    parser.add_argument("--minutes", type=float, default=plan.MINUTES, help="for everything; default 3")
    parser.add_argument("--only", default="", help="names of checks, with commas: bnb_4bit,train_qlora; default: all")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        background.main(parser, args.job, jobs.work)
        return
    only = [name.strip() for name in args.only.split(",") if name.strip()]
    if strange := [name for name in only if name not in plan.NAMES]:
        parser.error(f"there is no check {strange[0]}; there are {', '.join(plan.NAMES)}")
    began = time.monotonic()

    def tell(event: str, **values) -> None:
        if event == "check":
            print(f"{time.monotonic() - began:5.0f} s  {results.line(values)}", file=sys.stderr, flush=True)

    try:
        report = plan.run(tell, minutes=args.minutes, only=only)
    except UserError as error:
        sys.exit(errors.tell(error, args.json))
    except KeyboardInterrupt:
        sys.exit(130)
    if args.json:
        print(json.dumps(report, ensure_ascii=False))
    else:
        missed = "" if results.is_whole(report["checks"]) else ", but not everything was checked"
        print(f"{report['device']}, torch {report['torch']}: {report['state']}{missed}")
    sys.exit(report["state"] == "broken")


if __name__ == "__main__":
    main()
