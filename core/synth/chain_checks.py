"""What can be checked of a text that a model wrote for a chain: its length, language, words, and what it repeats.

A check is {name: value}; `found` gives every fault as (reason, detail). Lists of phrases are lists, or a text with ";"
between them; a phrase is counted by lemmas (core.synth.lemmas).
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from core.corpus import languages
from core.synth import lemmas

SLACK = 0.1  # of the bounds of a length
RUN = 5  # lemmas in a row that two texts may not share
FOREIGN = 0.1  # share of Latin letters that a Russian text may have
LEAST_OFTEN = 2  # times that a phrase may stand in however short a text
_FORM = re.compile(r"```|^\s*#{1,6}\s|\*\*|^\s*[{\[]\s*[\"'{\[]|</?[a-z]+>", re.MULTILINE)
_KEY = re.compile(r"^\W*([\w ]{2,30}?)\W*:", re.MULTILINE)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_TURN = re.compile(r"^\s*(?:[—–-]\s*|(?P<who>[^\W\d_][\w .-]{0,24}):\s*)(?=\S)", re.MULTILINE)


@dataclass
class Given:
    """What a check knows besides the text: the language, the names of the plan's fields, the values of the checks."""

    lang: str
    fields: set[str] = field(default_factory=set)
    values: dict = field(default_factory=dict)
    nearness: Callable | None = None  # core.synth.nearness.Nearness, where a model of this machine reads

    def counted(self, text: str, wanted) -> dict[str, int]:
        return lemmas.counted(text, phrases(wanted), self.lang)


def found(text: str, given: Given) -> list[tuple[str, str]]:
    """(reason, detail) of every fault, the language and the form first."""
    faults = [_language(text, given), _form(text, given)]
    for name, value in given.values.items():
        faults.append(CHECKS[name](text, value, given))
    return [fault for fault in faults if fault]


def phrases(value) -> list[str]:
    """Phrases of a list, or of a text with ";" between them; empty ones go."""
    items = value.split(";") if isinstance(value, str) else list(value or [])
    return [str(one).strip() for one in items if str(one).strip()]


def turns(text: str) -> list[str]:
    """The turns of a dialogue, a line each, without the dash or name that opens them."""
    return [_TURN.sub("", line).strip() for line in text.split("\n") if line.strip()]


def _language(text: str, given: Given):
    code = languages.of(text)
    letters = [char for char in text if char.isalpha()]
    foreign = sum(char.isascii() for char in letters) if given.lang == "ru" else 0
    same = code == given.lang or (given.lang != "ru" and code == "latin") or len(letters) < languages.LEAST
    if not same or foreign > FOREIGN * len(letters):
        return "other_language", code
    return None


def _form(text: str, given: Given):
    """Marks of a document, or lines that open with a field of the plan."""
    if mark := _FORM.search(text):
        return "spec", mark[0].strip()
    key = next((one[1] for one in _KEY.finditer(text) if one[1].strip().lower() in given.fields), None)
    return ("spec", key.strip()) if key else None


def _words(text: str, bounds, given: Given):
    return _within("length", len(lemmas.tokens(text)), bounds)


def _turns(text: str, bounds, given: Given):
    return _within("turns", len(turns(text)), bounds)


def _within(reason: str, count: int, bounds):
    least, most = bounds
    if math.floor(least * (1 - SLACK)) <= count <= math.ceil(most * (1 + SLACK)):
        return None
    return reason, f"{count}: {least}-{most}"


def _turn_words(text: str, most, given: Given):
    longest = max((len(lemmas.tokens(turn)) for turn in turns(text)), default=0)
    return ("turn_length", f"{longest}: {most}") if longest > most * (1 + SLACK) else None


def _must(text: str, wanted, given: Given):
    missing = [phrase for phrase, count in given.counted(text, wanted).items() if not count]
    return ("missing_word", ", ".join(missing)) if missing else None


def _none_of(reason: str) -> Callable:
    def check(text: str, wanted, given: Given):
        there = [phrase for phrase, count in given.counted(text, wanted).items() if count]
        return (reason, ", ".join(there)) if there else None

    return check


def _none_but_given(reason: str) -> Callable:
    """None of these phrases, but for those that the order itself holds."""

    def check(text: str, wanted, given: Given):
        ordered = given.counted(" ".join(given.values.get("given") or []), wanted)
        return _none_of(reason)(text, [phrase for phrase, count in ordered.items() if not count], given)

    return check


def _worn(text: str, wanted, given: Given):
    """Worn phrases, but for those that the text has to have."""
    there = set(phrases(wanted)) - {part for phrase in phrases(given.values.get("must")) for part in phrase.split("|")}
    return _none_but_given("worn")(text, sorted(there), given)


def _few(text: str, wanted: dict, given: Given):
    total = {phrase: count for phrase, count in given.counted(text, wanted["of"]).items() if count}
    return ("too_often", ", ".join(total)) if sum(total.values()) > wanted["most"] else None


def _density(text: str, most, given: Given):
    """No phrase of `must` more often than so many times in 100 words."""
    allowed = max(LEAST_OFTEN, math.ceil(most * len(lemmas.tokens(text)) / 100))
    often = [phrase for phrase, count in given.counted(text, given.values.get("must")).items() if count > allowed]
    return ("too_often", ", ".join(often)) if often else None


def _ending(text: str, wanted, given: Given):
    return _none_but_given("ending")((lemmas.sentences(text) or [""])[-1], wanted, given)


def _apart(text: str, others, given: Given):
    """No run of words of the other texts, but for one that is mostly words of the order, such as a thing's name."""
    orders = [_lemmas(one, given) for one in given.values.get("given") or []]
    runs = lemmas.runs(text, given.lang, RUN)
    own = {run for run in runs if all(2 * len(order.intersection(run)) < RUN for order in orders)}
    shared = next((run for other in others for run in sorted(own & lemmas.runs(other, given.lang, RUN).keys())), None)
    return ("repeats", runs[shared]) if shared else None


def _lemmas(text: str, given: Given) -> set[str]:
    return {lemmas.of(token, given.lang)[0] for token in lemmas.tokens(text)}


def _longer(text: str, wanted: dict, given: Given):
    count = len(lemmas.tokens(text))
    shorter = [one for one in wanted["than"] if count < wanted["times"] * len(lemmas.tokens(one))]
    return ("not_longer", f"{count}: {wanted['times']}") if shorter else None


def _new(text: str, wanted: dict, given: Given):
    """At least this share of the nouns is in none of the other texts."""
    own = lemmas.nouns(text, given.lang)
    before = set().union(*(lemmas.nouns(other, given.lang) for other in wanted["than"]))
    share = len(own - before) / max(1, len(own))
    return ("not_new", f"{share:.2f}") if share < wanted["share"] else None


def _near(text: str, wanted: dict, given: Given):
    """Not nearer than `most` to any of the other texts, and to the nearest of them not farther than `least`."""
    if not given.nearness or not wanted["to"]:
        return None
    nearest = max(given.nearness(text, wanted["to"]))
    reason = "too_near" if nearest > wanted["most"] else "too_far" if nearest < wanted["least"] else None
    return (reason, f"{nearest:.2f}: {wanted['least']}-{wanted['most']}") if reason else None


def _shares_none(reason: str, of: Callable) -> Callable:
    def check(text: str, others, given: Given):
        own = of(text, given.lang) - set().union(*(of(one, given.lang) for one in given.values.get("given") or []))
        shared = sorted(set().union(*(own & of(other, given.lang) for other in others)))
        return (reason, ", ".join(shared)) if shared else None

    return check


def _numbers(text: str, others, given: Given):
    """No number that is in none of the other texts."""
    known = {number for other in others for number in _NUMBER.findall(other)}
    added = [number for number in _NUMBER.findall(text) if number not in known]
    return ("new_number", ", ".join(added)) if added else None


CHECKS: dict[str, Callable] = {
    "words": _words,
    "turns": _turns,
    "turn_words": _turn_words,
    "must": _must,
    "ban": _none_of("banned_word"),
    "forbid": _none_of("forbidden_word"),
    "given": lambda *_: None,  # texts of the order, whose words are no fault
    "spec": _none_but_given("spec"),
    "worn": _worn,
    "few": _few,
    "density": _density,
    "ending": _ending,
    "apart": _apart,
    "longer": _longer,
    "new": _new,
    "nouns_apart": _shares_none("shared_noun", lemmas.nouns),
    "names_apart": _shares_none("shared_name", lemmas.names),
    "numbers": _numbers,
    "near": _near,
}
