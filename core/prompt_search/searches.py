"""Searches for a better prompt: background jobs (core.jobs) that end with a saved profile and its loss on held-out rows.

Run it: `python -m core.prompt_search new --base-model starter --corpus ID`, then `show SEARCH`.
"""

from functools import partial
from pathlib import Path

from core import errors, events, jobs, paths
from core.chat import profiles, reply_gpu
from core.models import models
from core.runs import runs
from core.training.config import TrainConfig
from core.training.errors import TrainingError

# Of TrainConfig: what a loss on held-out rows depends on.
FIELDS = ("base_model", "corpus", "validation_share", "max_length", "packing", "precision", "seed", "method")
CANDIDATES, ROWS = (
    24,
    64,
)  # that are compared, half of them instructions and half examples; rows that compare the last two
FEWEST_CANDIDATES, FEWEST_ROWS = 4, 4


def create(
    config: TrainConfig,
    *,
    system_prompt: str = "",
    examples: tuple[tuple[str, str], ...] = (),
    candidates: int = CANDIDATES,
    rows: int = ROWS,
) -> Path:
    """Make the directory of a search on the base and the corpus of a config; the prompt given is one of the candidates.

    Raises:
        TooSmall, CorpusGone, and what a profile and models.check() have against prompt and base.
    """
    for name, value, least, usual in (
        ("candidates", candidates, FEWEST_CANDIDATES, CANDIDATES),
        ("rows", rows, FEWEST_ROWS, ROWS),
    ):
        if value < least:
            raise TrainingError("TooSmall", field=name, least=least, value=value, suggestion=usual)
    if system_prompt.strip() or examples:
        profiles.Profile("-", config.base_model, system_prompt, examples)  # raises what it has against them
    models.check(config.base_model)
    runs.corpus_path(config.corpus)
    request = {name: getattr(config, name) for name in FIELDS}
    request["name"] = f"{runs.corpus_name(config.corpus)} · prompt"  # as runs are called after corpus and method
    request |= {"system_prompt": system_prompt.strip(), "examples": [list(pair) for pair in examples]}
    return jobs.create(paths.prompt_searches(), request | {"candidates": candidates, "rows": rows})


def start(directory: Path) -> None:
    """Start the process of a search, detached from this one, on the card that replies come from."""
    jobs.start(directory, "core.prompt_search", reply_gpu.environment())


def resume(directory: Path) -> None:
    """Go on with a search where it ended; what was measured is not measured again.

    Raises:
        JobStillAtWork, SearchEnded.
    """
    name = jobs.request(directory)["name"]
    if jobs.is_alive(directory):
        raise errors.named("JobStillAtWork", name=name)
    if jobs.state(directory) == "finished":
        raise errors.named("SearchEnded", name=name)
    start(directory)


ASKED = {  # what can be asked of a search
    "pause": partial(jobs.ask, request="pause"),
    "stop": partial(jobs.ask, request="stop"),
    "resume": resume,
    "delete": jobs.delete,
}


def progress(directory: Path) -> dict:
    """How far a search is: its request, state, candidates with their losses so far, and how it ended.

    {"id", "request", "state", "waits_for", "done", "total": rows measured and to measure, "candidates": [{"kind",
    "system_prompt", "examples", "unfit", "judging", "held_out": {"loss", "rows"} or None}], "ending"}.
    """
    seen, last, found = events.read(directory)[0], {}, []
    for event in seen:
        last[event["event"]] = event
        if event["event"] == "candidates":
            found += [one | {"unfit": "", "sums": {}} for one in event["candidates"]]
        elif event["event"] == "unfit":
            found[event["candidate"]]["unfit"] = event["reason"]
        elif event["event"] == "measured":
            sums = found[event["candidate"]]["sums"].setdefault(event["part"], [0.0, 0, 0])
            for at, name in enumerate(("nats", "tokens", "rows")):
                sums[at] += event[name]
        elif event["event"] in ("resumed", "started"):
            last.pop("waiting", None)
    for one in found:
        sums = one.pop("sums")
        one |= {part: _mean(sums.get(part)) for part in ("judging", "held_out")}
    state, ending = jobs.state(directory), events.last(directory) or {}
    return {
        "id": directory.name,
        "request": jobs.request(directory),
        "state": state,
        "waits_for": last["waiting"]["run"] if "waiting" in last and state == "running" else None,
        **{name: last.get("measured", {}).get(name, 0) for name in ("done", "total")},
        "candidates": found,
        "ending": ending if state in events.FINAL and ending.get("event") in events.FINAL else {},
    }


def _mean(sums: list | None) -> dict | None:
    return {"loss": sums[0] / sums[1], "rows": sums[2]} if sums and sums[1] else None


def best(config: TrainConfig) -> dict | None:
    """What the best search found whose loss compares with the held-out loss of a run of this config; None without one.

    The last event of the search: {"loss", "before": of the base without a prompt, "rows", "tokens", "profile", ...}.
    """
    if config.task != "chat" or config.learn != "assistant" or config.mix:
        return None
    found = filter(None, (_ending(directory, config) for directory in jobs.listed(paths.prompt_searches())))
    return min(found, key=loss, default=None)


def loss(ending: dict) -> float:
    """The held-out loss that a search reached: of the base alone, where no prompt did better."""
    return ending["loss"] if ending["profile"] else ending["before"]


def newest(base_model: str, corpus: str) -> dict | None:
    """The last event of the best search on a base and a corpus among those that compare with the newest one."""
    for directory in jobs.listed(paths.prompt_searches()):
        request, ending = jobs.request(directory), events.last(directory) or {}
        if (request.get("base_model"), request.get("corpus")) != (base_model, corpus):
            continue
        loaded = ending.get("method") or request.get("method", "lora")
        measured = config(request | {"method": loaded})
        if _ending(directory, measured):
            return best(measured)
    return None


def _ending(directory: Path, config: TrainConfig) -> dict | None:
    """The last event of a finished search, if it measured what a run of this config does."""
    ending, request = events.last(directory) or {}, jobs.request(directory)
    if ending.get("event") != "finished" or ending.get("used_to_choose"):
        return None
    same = ["base_model", "corpus", "validation_share"]
    if ending["longest"] > min(request["max_length"], config.max_length):  # a row was cut
        same += ["max_length", "packing"]
    # The loss of a base in 4 bits is another one; what a search of before had loaded is not known.
    if ending.get("method") and (ending["method"] == "qlora") != (config.method == "qlora"):
        return None
    return ending if all(request.get(name) == getattr(config, name) for name in same) else None


def config(request: dict) -> TrainConfig:
    """The config whose held-out loss a search measures; those of before were loaded as fast as memory allowed."""
    return TrainConfig(**{"method": "lora"} | {name: request[name] for name in FIELDS if name in request})


def found(directory: Path) -> list[dict]:
    """The events of a search that say what was made and measured, to go on from."""
    return [event for event in events.read(directory)[0] if event["event"] in ("candidates", "unfit", "measured")]
