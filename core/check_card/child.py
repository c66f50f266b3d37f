"""A process that checks: `python -m core.check_card.child REQUEST`, one JSON line for each thing that it has to say.

It dies with whatever kills it; core/check_card/children.py, which started it, makes a result of that.
"""

import faulthandler
import json
import os
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

from core import errors
from core.check_card import advice, results, stand_in
from core.check_card.results import say
from core.training import checkpoints, environment
from core.training.config import TrainConfig

AGAIN = 3  # exit code: one check raised, the others go on in a fresh process, as a failed kernel spoils its own
WAIT_SECONDS = 120  # for the one who kills a training that holds


class _Enough(Exception):
    """All steps that were wanted are done: nothing needs to be saved."""


def check(request: dict) -> int:
    """Run the checks `names` of one `group` in this process; the exit code."""
    module = import_module(f"core.check_card.{request['group']}")
    for name in request["names"]:
        say(begins=name)
        try:
            found = getattr(module, f"check_{name}")()
        except Exception as error:  # whatever a broken kernel raises is the result
            errors.log()
            wrong = getattr(module, "advice_for", lambda _: advice.for_group(request["group"]))(error)
            say(check=results.result(name, "broken", {"reason": reason(error)}, advice=wrong))
            return AGAIN
        say(check=found) if found else say(skipped=name)
    return 0


def reason(error: Exception) -> str:
    """The first line of an error, short enough for a table."""
    text = str(error).strip().split("\n")[0][:300] or "no message"
    return text if isinstance(error, errors.UserError) else f"{type(error).__name__}: {text}"


def train(request: dict) -> int:
    """Train by training_loop.train() and print each event; the exit code.

    `config` holds the fields of TrainConfig and `out` the directory; with `resume` it goes on from the newest
    checkpoint; with `hold` it waits at its first checkpoint for being killed; after step `stop_after` it ends unsaved.
    """
    from core.training import training_loop  # noqa: PLC0415 - main() sets what torch reads as it is imported

    out = Path(request["out"])
    out.mkdir(parents=True, exist_ok=True)

    def report(event: str, **values) -> None:
        say(event=event, **values)
        if event == "step" and values["step"] == request.get("stop_after"):
            raise _Enough
        if event == "checkpoint" and request.get("hold"):
            time.sleep(WAIT_SECONDS)

    config = TrainConfig.from_dict(request["config"])
    checkpoint = checkpoints.whole_checkpoint(out) if request.get("resume") else None
    try:
        training_loop.train(config, out, report=report, resume_from=checkpoint, cache=Path(request["cache"]))
    except _Enough:
        pass
    except errors.UserError as error:
        say(**errors.to_dict(error))
        return 1
    say(event="done")
    return 0


def main() -> None:
    request = json.loads(sys.argv[1])
    faulthandler.enable()
    faulthandler.dump_traceback_later(request["seconds"] + 5, exit=True)  # should nobody be left who ends it
    tempfile.tempdir = request.get("scratch")  # what a crash leaves there goes with the check
    environment.first_card_only()  # the one that a run takes by itself
    environment.grow_segments()  # as a run does, before torch reads it
    import_module("torch")  # first: the other libraries look at what it has found
    tasks = {"check": check, "train": train, "stand_in": lambda request: stand_in.make(request["folder"])}
    code = tasks[request["do"]](request)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # all is said: libraries with threads and kernels take seconds to go, and may crash in it


if __name__ == "__main__":
    main()
