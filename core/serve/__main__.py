"""The server from the command line, and as the process of a job: `python -m core.serve`."""

import argparse
import json
import sys
from pathlib import Path

from core import errors, jobs
from core.errors import UserError
from core.serve import serve


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m core.serve", description=serve.__doc__.split("\n")[0])
    parser.add_argument(
        "--host", default=serve.HOST, help="address to listen at, default 127.0.0.1: this machine alone"
    )
    parser.add_argument("--port", type=int, default=serve.PORT, help=f"default {serve.PORT}; 0: any that is free")
    parser.add_argument("--new-key", action="store_true", help="make another API key; the one before opens nothing")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print one JSON object when it listens")
    args = parser.parse_args()
    if args.job:
        jobs.main(parser, args.job, work)
    made = None
    if args.new_key or not serve.key():
        made = serve.new_key()

    def tell(_: str, address: str) -> None:
        told = {"address": address, "key_file": str(serve.key_file())} | ({"key": made} if made else {})
        shown = f"API key, shown this once: {made}" if made else f"The API key is in {serve.key_file()}."
        print(json.dumps(told) if args.json else f"{address}\n{shown}", flush=True)
        if args.host not in serve.OWN_HOSTS:
            print("Over the network everything is sent unencrypted: the key, questions and replies.", file=sys.stderr)

    try:
        serve.listen(args.host, args.port, tell)
    except UserError as error:
        sys.exit(errors.tell(error, args.json))
    except KeyboardInterrupt:
        pass


def work(directory: Path, request: dict, report) -> dict:
    """The work of a server's own process: to listen until it is asked to stop."""
    serve.listen(request["host"], request["port"], report, lambda: jobs.end_if_requested(directory))
    return {}


if __name__ == "__main__":
    main()
