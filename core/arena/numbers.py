"""Numbers next to opinions: held-out loss and perplexity, length, repetition and scripts of the answers, forgetting."""

import math
import re
from contextlib import suppress
from pathlib import Path
from statistics import mean

from core import damage
from core.arena import matches
from core.errors import UserError
from core.runs import learned

SCRIPTS = {"cyrillic": r"[Ѐ-ӿ]", "latin": r"[A-Za-zÀ-ɏ]", "cjk": r"[぀-ヿ㐀-鿿가-힯]"}
GRAM = 4  # words of a phrase that is repeated


def of(directory: Path, request: dict) -> dict:
    """The numbers of each side: {"a": {...}, "b": {...}}."""
    measured = damage.read(directory / "measured.json", "arena/*/measured.json") or {"a": {}, "b": {}}
    rows = matches.answers(directory)
    return {
        side: _of_side([row[side] for row in rows], measured[side].get("held_out_loss"), request[side]) for side in "ab"
    }


def _of_side(replies: list[dict], loss: float | None, contestant: str) -> dict:
    return {
        "held_out_loss": loss,
        "perplexity": math.exp(min(loss, 50)) if loss is not None else None,
        "tokens": mean(reply["tokens"] for reply in replies) if replies else None,
        "cut": mean(reply["finish_reason"] != "stop" for reply in replies) if replies else None,
        "repetition": mean(repetition(reply["text"]) for reply in replies) if replies else None,
        "languages": languages(" ".join(reply["text"] for reply in replies)),
        "forgetting": forgetting(contestant),
        "over_prompt": over_prompt(contestant),
    }


def over_prompt(id: str) -> dict | None:
    """What a run has gained over the best prompt, as core.runs.learned measures it; None for everything else."""
    kind, _, name = id.partition(":")
    if kind != "run" or "/" in name:
        return None
    with suppress(UserError, OSError, ValueError, KeyError, TypeError):  # a run that was deleted or damaged
        return learned.over_prompt(name)
    return None


def repetition(text: str) -> float:
    """The share of a text's four-word phrases that it has had before."""
    words = re.findall(r"\w+", text.lower())
    grams = [tuple(words[at : at + GRAM]) for at in range(len(words) - GRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def languages(text: str) -> dict[str, float]:
    """The share of letters of each script."""
    counts = {name: len(re.findall(pattern, text)) for name, pattern in SCRIPTS.items()}
    letters = sum(counts.values())
    return {name: count / letters for name, count in counts.items() if count} if letters else {}


def forgetting(id: str) -> dict | None:
    """What the forgetting meter read of the weights of a run or a checkpoint: {"change", "since", "foreign"}.

    `since` as core.runs.learned has it; None where no reading was taken up to their step.
    """
    kind, _, name = id.partition(":")
    if kind != "run":
        return None
    run_id, _, checkpoint = name.partition("/checkpoint-")
    with suppress(UserError, OSError, ValueError, KeyError, TypeError):  # a run that was deleted or damaged
        found = learned.forgetting(run_id, int(checkpoint) if checkpoint else None)
        if found["forgot"] is not None:
            foreign = found["foreign"] and found["foreign"][1]
            return {"change": found["forgot"], "since": found["since"], "foreign": foreign}
    return None
