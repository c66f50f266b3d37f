"""Words by their lemmas: all normal forms that a token may have, phrases found near each other, nouns and names.

Russian by pymorphy3: the normal forms of all its parses, with ё as е. English by endings and a table of irregular words.
A phrase is written as "пуговица|пуговичный" (either) or "встать на учёт" (all of its words within a few tokens).
"""

import json
import re
from collections.abc import Iterable
from functools import lru_cache

from core import paths
from core.synth import agreement

TOKEN = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+(?:[-'’][^\W\d_]+)*")
NEAR = 4  # tokens that may stand between the words of a phrase
LEAST_CONTENT = 4  # letters of an English noun that is counted
_SENTENCE = re.compile(r"(?<=[.!?…])[»”\"')\]]*\s+|\n+")
_WORDS = json.loads((paths.assets() / "recipes" / "lemmas.json").read_text(encoding="utf-8"))
_IRREGULAR = {form: lemma for lemma, forms in _WORDS["irregular"].items() for form in forms.split()}
_COMMON = {lang: frozenset(text.replace("ё", "е").split()) for lang, text in _WORDS["common"].items()}
_DETERMINERS = frozenset(_WORDS["determiners"].split())
_ENDINGS = (
    ("'s", ("",)),
    ("ies", ("y", "ie")),
    ("ied", ("y", "ie")),
    ("ves", ("f", "fe", "ve")),
    ("es", ("", "e")),
    ("s", ("",)),
    ("ing", ("", "e")),
    ("ed", ("", "e")),
)


def tokens(text: str) -> list[str]:
    """The words of a text in lower case, ё as е."""
    return [token.lower().replace("ё", "е").replace("’", "'") for token in TOKEN.findall(text)]


def sentences(text: str) -> list[str]:
    return [one.strip() for one in _SENTENCE.split(text) if one and one.strip()]


@lru_cache(maxsize=1 << 16)
def of(token: str, lang: str) -> tuple[str, ...]:
    """The lemmas that a token of lower case may have, the likeliest first."""
    if lang == "ru":
        forms = [parse.normal_form.replace("ё", "е") for parse in agreement.parses(token)]
        return tuple(dict.fromkeys(forms))
    found = [_IRREGULAR[token]] if token in _IRREGULAR else []
    for ending, instead in _ENDINGS:
        if not token.endswith(ending) or len(token) - len(ending) < 2 or token.endswith(("ss", "us", "is")):
            continue
        stem = token.removesuffix(ending)
        found += [stem + end for end in instead]
        if ending in ("ing", "ed") and len(stem) > 2 and stem[-1] == stem[-2]:
            found.append(stem[:-1])
    return tuple(dict.fromkeys([*found, token]))


def counted(text: str, phrases: Iterable[str], lang: str) -> dict[str, int]:
    """How often each phrase stands in a text."""
    lemmas = [set(of(token, lang)) for token in tokens(text)]
    return {phrase: sum(_times(lemmas, one, lang) for one in phrase.split("|")) for phrase in phrases}


def masked(text: str, phrases: Iterable[str], lang: str) -> str:
    """A text with "…" for every word of these phrases."""
    found = list(TOKEN.finditer(text))
    lemmas = [set(of(tokens(match[0])[0], lang)) for match in found]
    hidden = set()
    for phrase in phrases:
        for one in phrase.split("|"):
            wanted = [_target(token, lang) for token in tokens(one)]
            for at in _places(lemmas, wanted):
                span = range(at, min(len(found), at + len(wanted) + NEAR))
                hidden |= {next(place for place in span if not target.isdisjoint(lemmas[place])) for target in wanted}
    for place in sorted(hidden, reverse=True):
        text = f"{text[: found[place].start()]}…{text[found[place].end() :]}"
    return text


def _times(lemmas: list[set[str]], phrase: str, lang: str) -> int:
    """How often the words of a phrase stand together, in any order."""
    return len(_places(lemmas, [_target(token, lang) for token in tokens(phrase)]))


def _places(lemmas: list[set[str]], wanted: list[set[str]]) -> list[int]:
    """Where the words of a phrase begin to stand together, in any order, each within NEAR words more than they are."""
    if not wanted:
        return []
    if len(wanted) == 1:
        return [at for at, one in enumerate(lemmas) if not wanted[0].isdisjoint(one)]
    places, at, span = [], 0, len(wanted) + NEAR
    while at < len(lemmas):
        window = lemmas[at : at + span]
        starts = any(not target.isdisjoint(lemmas[at]) for target in wanted)
        if starts and all(any(not target.isdisjoint(one) for one in window) for target in wanted):
            places.append(at)
            at += span
        else:
            at += 1
    return places


def _target(token: str, lang: str) -> set[str]:
    """The lemmas that a wanted word stands for: itself where it is a lemma."""
    lemmas = of(token, lang)
    return {token} if token in lemmas else set(lemmas)


def runs(text: str, lang: str, length: int) -> dict[tuple[str, ...], str]:
    """All runs of so many lemmas within a sentence, and the words that stand there."""
    found = {}
    for sentence in sentences(text):
        words = tokens(sentence)
        lemmas = [of(token, lang)[0] for token in words]
        for at in range(len(lemmas) - length + 1):
            found[tuple(lemmas[at : at + length])] = " ".join(words[at : at + length])
    return found


def nouns(text: str, lang: str) -> set[str]:
    """The nouns of a text without the commonest; in English, where no tagger is, long words next to a determiner."""
    words, found = tokens(text), set()
    for at, token in enumerate(words):
        if lang == "ru":
            named = "NOUN" in str(agreement.parses(token)[0].tag)
        else:
            named = len(token) >= LEAST_CONTENT and not _DETERMINERS.isdisjoint(words[max(0, at - 2) : at])
        lemma = of(token, lang)[0]
        if named and not {lemma, token} & _COMMON["ru" if lang == "ru" else "en"]:
            found.add(lemma)
    return found


def names(text: str, lang: str) -> set[str]:
    """Words with a capital letter inside sentences, as lemmas: names of people and places."""
    found = set()
    for sentence in sentences(text):
        for match in list(TOKEN.finditer(sentence))[1:]:
            before = sentence[: match.start()].rstrip()
            opens = not before or before[-1] in '«“"—–-:…'
            if match[0][0].isupper() and len(match[0]) > 1 and not opens:
                found.add(of(tokens(match[0])[0], lang)[0])
    return found - _COMMON["ru" if lang == "ru" else "en"]  # days and months
