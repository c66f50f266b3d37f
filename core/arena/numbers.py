"""Numbers next to opinions: held-out loss and perplexity, length, repetition and scripts of the answers, forgetting."""

import math
import re
from contextlib import suppress
from pathlib import Path
from statistics import mean

from core import damage, events, paths
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
    """What the forgetting meter of a run measured: {"change", "foreign"}; None where its trainer took no reading."""
    kind, _, name = id.partition(":")
    if kind != "run":
        return None
    try:
        seen = [event for event in events.read(paths.run(name.partition("/")[0]))[0] if event["event"] == "forgetting"]
        return {"change": seen[-1]["score"] - seen[0]["score"], "foreign": seen[-1]["foreign_share"]} if seen else None
    except (UserError, OSError, KeyError, TypeError):
        return None
