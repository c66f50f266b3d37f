"""Whether a run has learned: what its measurements say together, as one verdict, and which checkpoint is the best.

Losses are in nats a token over the held-out rows, before the first step and of the weights that the run left.
"""

from contextlib import suppress

from core.errors import UserError
from core.prompt_search import searches
from core.runs import forgetting as meter
from core.runs import promote_checkpoint, runs, starts, store
from core.runs.alerts import OVER
from core.runs.forgetting import DRIFT, RED_LINE, change, is_sound, pair

FEWEST_ROWS = 8  # held-out rows: the mean of fewer says little
GAIN = 0.02  # of the loss before: less is within what another choice of held-out rows would change
FALLING = 0.01  # of the loss, from the last evaluation but one to the last
# Of their loss before: training rows that fell below it while held-out ones stand were learned by heart.
MEMORISED = 0.5


def of(run_id: str) -> dict:
    """{"verdict", "before", "after", "step", "best", "recall", "forgot", "drift", "foreign", "since", "pairs", "arena",
    "rows", "sample", "prompt"} of a run.

    `verdict` is one of unmeasured, too_small, worse, overfit, forgot, heart, falling, nothing, learned; `recall` the loss
    of ten training rows before and after, or None; `foreign` the share of foreign letters before and after; `since`
    "base", or "start" where only what the run goes on from was measured, not its base: that of forgot, drift, foreign; `best` the step of the
    checkpoint to take instead, or None; `sample` the first prompt with the first and the last reply to it, or None;
    `prompt` what over_prompt() gives.
    """
    row, curves = store.sync(run_id), store.curves(run_id)
    known = {eval["step"]: eval["eval_loss"] for eval in curves["evals"] if eval["eval_loss"] is not None}
    step, scores = _step(row), since_base(run_id, store.forgetting(run_id))
    found = {
        "before": known.get(0),
        "after": known.get(step, row["eval_loss"] if len(known) > 1 else None),
        "step": step,
        "recall": _recall(curves["evals"], step),
        "rows": row["rows_eval"] or 0,
        **_forgetting(row, scores, step),
        "pairs": _pairs(curves["preferences"]["eval"], step),
        "arena": store.arena(run_id),
        "sample": _sample(store.samples(run_id), step),
    }
    best = best_checkpoint(known, scores, promote_checkpoint.kept(run_id)) if row["state"] not in runs.ACTIVE else None
    found["best"] = best if best != step else None
    found["prompt"] = _over_prompt(run_id, found)
    return found | {"verdict": _verdict(found, known)}


def forgetting(run_id: str, step: int | None = None) -> dict:
    """{"forgot", "drift", "foreign", "since"} as of() has them, of the weights of a step; by default of those kept."""
    row = store.sync(run_id)
    return _forgetting(row, since_base(run_id, store.forgetting(run_id)), _step(row) if step is None else step)


def _forgetting(row: dict, scores: list[dict], step: int) -> dict:
    return {
        "forgot": change(scores, step, "score"),
        "drift": change(scores, step, "foreign_share"),
        "foreign": pair(scores, step, "foreign_share"),
        "since": "start" if row["start"] and not starts.base_forgetting(row["id"]) else "base",
    }


def since_base(run_id: str, scores: list[dict]) -> list[dict]:
    """Readings of the forgetting meter of a run, as core.runs.forgetting.since_base() gives them."""
    return meter.since_base(starts.base_forgetting(run_id), scores)


def _step(row: dict) -> int:
    """The step of the weights that a run has."""
    return row["adapter_step"] if row["adapter_step"] is not None else row["step"] or 0


def over_prompt(run_id: str) -> dict | None:
    """What a run has gained over the best prompt that a search found for its base and corpus; None where none was.

    {"loss": behind the prompt, on the held-out rows of the run, "gain": nats a token that the run's is lower by,
    "gains": whether that is more than other rows would change, "profile": id of the prompt, None where the base alone
    did better}.
    """
    return of(run_id)["prompt"]


def prompt_of(base_model: str, corpus: str) -> dict:
    """What the newest search reached on a base and a corpus without training, and what the newest run gained over it.

    {"before", "loss", and of the run "gain", "gains", "name"}; {} without a search.
    """
    found = searches.newest(base_model, corpus)
    for run_id in reversed(runs.listed()) if found else ():
        with suppress(UserError, OSError, ValueError):
            config = runs.config(run_id)
            same = (config.base_model, config.corpus) == (base_model, corpus)
            if same and (compared := searches.best(config)) and (gained := over_prompt(run_id)):
                return {"before": compared["before"], "name": runs.label(run_id)["name"], **gained}
    return {"before": found["before"], "loss": searches.loss(found)} if found else {}


def _over_prompt(run_id: str, found: dict) -> dict | None:
    search = searches.best(runs.config(run_id))
    if search is None or found["after"] is None or search["rows"] != found["rows"]:
        return None
    loss = searches.loss(search)
    gain = loss - found["after"]
    return {"loss": loss, "gain": gain, "gains": gain > GAIN * loss, "profile": search["profile"]}


def best_checkpoint(losses: dict[int, float], scores: list[dict], steps: list[int]) -> int | None:
    """The step with the lowest held-out loss among those that forgot and drifted little; None where none was measured.

    Args:
        losses: nats a token by step. scores: rows of the forgetting meter: step, score, foreign_share. steps: to choose from.
    """
    measured = [step for step in steps if step in losses]
    sound = [step for step in measured if is_sound(scores, step)]
    return min(sound or measured, key=losses.get, default=None)


def _pairs(evals: list[dict], step: int) -> float | None:
    """The share of held-out preference pairs whose chosen reply is ahead, at the last evaluation up to a step."""
    shares = [row["accuracy"] for row in evals if 0 < row["step"] <= step]
    return shares[-1] if shares else None


def _verdict(found: dict, losses: dict[int, float]) -> str:
    before, after, best = found["before"], found["after"], found["best"]
    if before is None or after is None or not found["step"]:
        return "unmeasured"
    if after > OVER * before:
        return "worse"
    if found["rows"] < FEWEST_ROWS:
        return "too_small"
    if (found["forgot"] or 0) < -RED_LINE or (found["drift"] or 0) > DRIFT:
        return "forgot"
    if best is not None and after > OVER * losses[best]:
        return "overfit"
    if after > (1 - GAIN) * before:
        return "heart" if found["recall"] and found["recall"][1] < MEMORISED * found["recall"][0] else "nothing"
    return "falling" if _falls(losses, found["step"]) else "learned"


def _recall(evals: list[dict], step: int) -> tuple[float, float] | None:
    known = [eval["recall_loss"] for eval in evals if eval["recall_loss"] is not None and eval["step"] <= step]
    return (known[0], known[-1]) if len(known) > 1 and evals[0]["step"] == 0 else None


def _falls(losses: dict[int, float], step: int) -> bool:
    """Whether the held-out loss was still falling when the run ended."""
    *_, last_but_one, last = sorted(losses)
    return step == last and len(losses) > 2 and losses[last] < (1 - FALLING) * losses[last_but_one]


def _sample(samples: list[dict], step: int) -> dict | None:
    """The first prompt whose reply changed, or else the first, with the base's reply and the one nearest to a step."""
    by_prompt: dict[str, list[dict]] = {}
    for sample in samples:
        if sample["step"] <= step:
            by_prompt.setdefault(sample["prompt"], []).append(sample)
    pairs = [(prompt, rows[0], rows[-1]) for prompt, rows in by_prompt.items() if rows[0]["step"] == 0 and rows[1:]]
    pairs.sort(key=lambda pair: pair[1]["reply"] == pair[2]["reply"])
    return {"prompt": pairs[0][0], "before": pairs[0][1]["reply"], "after": pairs[0][2]["reply"]} if pairs else None
