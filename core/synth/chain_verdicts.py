"""What a judge said: JSON with scores, in a fence or among words, read or found unreadable, and what follows from it."""

import json
import re
from dataclasses import dataclass

from core.corpus.text_normalization import one as normal
from core.synth.chain_steps import DROP, LEAST, MEAN

_PAIR = re.compile(r"[\"'*]*([^\W\d_][\w ]*?)[\"'*]*\s*[:=—-]\s*[\"'*]*(\d+(?:[.,]\d+)?)(?!\d)")
_NUMBER = re.compile(r"\s*(\d+(?:[.,]\d+)?)(?:\s*(?:/|из|of)\s*10)?\s*$")
MOST_OBJECTS = 50


@dataclass(frozen=True)
class Verdict:
    """keep, rewrite or drop; why, in the judge's words; the text that it calls the worst."""

    what: str
    scores: dict
    why: str = ""
    worst: str = ""


def read(text: str, judge: dict, expected) -> Verdict | None:
    """The verdict in a reply, or None where it has none: a score is missing, or no answer was given."""
    objects = _objects(text)
    if expected is not None:
        said = next((one["answer"] for one in objects if "answer" in one), None)
        return None if said is None else _recognised(said, expected, float(judge.get("share", 1)))
    names = judge["scores"]
    for one in [*objects, {key.strip().lower(): value for key, value in _PAIR.findall(text)}]:
        scores = _scores(one, names)
        if scores is not None:
            return _weighed(one, scores, judge)
    return None


def _objects(text: str) -> list[dict]:
    """The JSON objects of a text, the last first: what was thought aloud stands before."""
    decoder, found, at = json.JSONDecoder(), [], text.find("{")
    while at >= 0 and len(found) < MOST_OBJECTS:
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            found += [value] if isinstance(value, dict) else []
        at = text.find("{", end)
    return [{str(key).lower(): value for key, value in one.items()} for one in reversed(found)]


def _scores(said: dict, names: list[str]) -> dict | None:
    """The scores by their names, from 0 to 10; None where one is missing."""
    said = said | {str(key).lower(): one for key, one in said.items() if isinstance(said.get(key), dict)}
    if isinstance(said.get("scores"), dict):
        said = said | {str(key).lower(): value for key, value in said["scores"].items()}
    scores = {name: _number(said.get(name.lower())) for name in names}
    return None if None in scores.values() else scores


def _number(value) -> float | None:
    if isinstance(value, dict):
        value = value.get("score", value.get("оценка"))
    if isinstance(value, bool) or value is None:
        return None
    match = _NUMBER.match(str(value))
    number = float(match[1].replace(",", ".")) if match else None
    return number if number is not None and 0 <= number <= 10 else None


def _weighed(said: dict, scores: dict, judge: dict) -> Verdict:
    keep = judge.get("keep") or {}
    mean = sum(scores.values()) / len(scores)
    what = "rewrite"
    if min(scores.values()) >= keep.get("least", LEAST) and mean >= keep.get("mean", MEAN):
        what = "keep"
    elif mean < judge.get("drop", DROP):
        what = "drop"
    return Verdict(what, scores, str(said.get("why", ""))[:500], str(said.get("worst", "")))


def _recognised(said, expected, share: float) -> Verdict:
    """Whether a blind judge named what was hidden: keep or rewrite."""
    if isinstance(expected, list):
        if isinstance(said, dict):
            said = [said[key] for key in sorted(said, key=str)]
        said = re.split(r"[,;\n]", said) if isinstance(said, str) else list(said) if isinstance(said, list) else [said]
    else:
        said, expected = [said], [expected]
    right = sum(normal(str(a)) == normal(str(b)) for a, b in zip(said, expected, strict=False))
    hit = right / len(expected)
    why = ", ".join(map(str, said))
    return Verdict("keep" if len(said) == len(expected) and hit >= share else "rewrite", {"told": round(hit, 2)}, why)
