"""A process that checks: `python -m core.check_card.child REQUEST`, one JSON line for each thing that it has to say.

It dies with whatever kills it; core/check_card/children.py, which started it, makes a result of that.
"""

import faulthandler
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from importlib import import_module

from core.check_card import results
from core.check_card.results import say
from core.errors import UserError
from core.training.devices import grow_segments

AGAIN = 3  # exit code: one check raised, the others go on in a fresh process, as a failed kernel spoils its own


def check(group: str, names: list[str]) -> int:
    """Run checks of one group in this process; the exit code."""
    module = import_module(f"core.check_card.{group}")
    for name in names:
        say(begins=name)
        try:
            found = getattr(module, name)()
        except Exception as error:  # whatever a broken kernel raises is the result
            traceback.print_exc()
            say(check=results.result(name, "broken", {"reason": reason(error)}, advice=module.advice(name, error)))
            return AGAIN
        say(check=found) if found else say(skipped=name)
    return 0


def reason(error: Exception) -> str:
    """The first line of an error, short enough for a table."""
    text = str(error).strip().split("\n")[0][:300] or "no message"
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"


def first_card_only() -> None:
    """Look at the card that a run takes by itself: training_loop.train() does the same."""
    if "LOCAL_RANK" not in os.environ:
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")


def main() -> None:
    request = json.loads(sys.argv[1])
    faulthandler.enable()
    faulthandler.dump_traceback_later(request["seconds"] + 5, exit=True)  # should nobody be left who ends it
    tempfile.tempdir = request.get("scratch")  # what a crash leaves there goes with the check
    first_card_only()
    grow_segments()  # as a run does, before torch reads it
    import_module("torch")  # first: the other libraries look at what it has found
    tasks: dict[str, Callable[[dict], int]] = {
        "check": lambda r: check(r["group"], r["names"]),
        "train": lambda r: import_module("core.check_card.training").train(r, say),
        "stand_in": lambda r: import_module("core.check_card.stand_in").make(r["folder"]),
    }
    code = tasks[request["do"]](request)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # all is said: libraries with threads and kernels take seconds to go, and may crash in it


if __name__ == "__main__":
    main()
