"""One short training by training_loop.train() in this process: its losses, pace and peak memory."""

import statistics
import time
from pathlib import Path

from core import errors
from core.training import checkpoints, training_loop
from core.training.config import TrainConfig

WAIT_SECONDS = 120  # for the one who kills it


class _Enough(Exception):
    """All steps that were wanted are done: nothing needs to be saved."""


def train(request: dict, say) -> int:
    """Train as the request says and tell each event; an exit code.

    `config` holds the fields of TrainConfig and `out` the directory; with `resume` it goes on from the newest
    checkpoint; with `hold` it waits at its first checkpoint for being killed; after step `stop_after` it ends unsaved.
    """
    out = Path(request["out"])
    out.mkdir(parents=True, exist_ok=True)

    def report(event: str, **values) -> None:
        say(event=event, **values)
        if event == "step" and values["step"] == request.get("stop_after"):
            raise _Enough
        if event == "checkpoint" and request.get("hold"):
            time.sleep(WAIT_SECONDS)

    try:
        training_loop.train(
            TrainConfig.from_dict(request["config"]),
            out,
            report=report,
            resume_from=checkpoints.whole_checkpoint(out) if request.get("resume") else None,
            cache=Path(request["cache"]),
        )
    except _Enough:
        pass
    except errors.UserError as error:
        say(**errors.to_dict(error))
        return 1
    say(event="done")
    return 0


def pace(steps: list[dict]) -> float:
    """Tokens a second: the median of the steps but the first, which compiles and allocates."""
    return statistics.median(step["tokens_per_second"] for step in steps[1:] or steps)


def losses(steps: list[dict]) -> dict[int, float]:
    return {step["step"]: step["loss"] for step in steps}
