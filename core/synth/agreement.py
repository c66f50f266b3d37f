"""Words in the form that a sentence asks for: Russian cases, genders, numbers and tenses by pymorphy3; a little English."""

import json
import re
from dataclasses import dataclass
from functools import cache, lru_cache

import pymorphy3

from core import errors, paths

CASES = frozenset(("nomn", "gent", "datv", "accs", "ablt", "loct", "loc2"))
GENDERS = frozenset(("masc", "femn", "neut"))
VERBAL = frozenset(("past", "pres", "futr", "impr", "GRND"))
CACHED = 100_000  # inflected phrases that are remembered
VOWEL = re.compile(r"^(?:[aeiou](?!ni|ne\b|se|ur)|hour|heir|honest|un[^i])", re.IGNORECASE)
PREPOSITION = re.compile(r" (?:in|on|of|at|by|over|under|through|to|between|from|with|after|beneath|overhead|above) ?")
INTO = re.compile(r"(?:^|[\s«(—])(?:в|во|на) $", re.IGNORECASE)  # before a place: "в лесу", but "о лесе"
AFTER = re.compile(
    r"(?:^|[\s«(—])(?:у|к|ко|от|до|из|с|со|без|для|за|над|под|перед|о|об|про|через|на|в|во|по|при|около|после|между|мимо"
    r"|против|вокруг|возле|из-за|из-под) $",
    re.IGNORECASE,
)
# Where something is, by its preposition and case, and where it goes: "на столе" -> "на стол", "у окна" -> "к окну".
GOALS = {
    "в": ("loct", "в", "accs"), "во": ("loct", "во", "accs"), "на": ("loct", "на", "accs"), "под": ("ablt", "под", "accs"),
    "за": ("ablt", "за", "accs"), "у": ("gent", "к", "datv"), "возле": ("gent", "к", "datv"),
}  # fmt: skip
WORDS = json.loads((paths.assets() / "recipes" / "agreement.json").read_text(encoding="utf-8"))


@dataclass(frozen=True, eq=False)
class How:
    """What a slot asks of a word: forms in their order, and the variable that it agrees with or is counted by."""

    forms: tuple[str, ...]
    like: str
    counts: bool  # `like` is a number
    after: bool = False  # a preposition stands before it


class Inflector:
    """Puts words into forms; the languages differ in which forms there are."""

    FORMS: frozenset[str]
    LINKS: tuple[str, ...]  # as=$name, num=$name

    def how(self, text: str, rule: str, before: str = "") -> How:
        """What stands after the bar of a slot: "gent plur", "past as=$hero"; `before` is the text before the slot.

        Raises:
            FormUnknown: for a form that the language does not have.
        """
        forms, links = [], {}
        for part in text.split():
            link, dollar, name = part.partition("=$")
            if dollar and link in self.LINKS:
                links[link] = name
            elif part in self.FORMS:
                forms.append(part)
            else:
                known = ", ".join([*sorted(self.FORMS), *(f"{link}=$name" for link in self.LINKS)])
                raise errors.named("FormUnknown", rule=rule, form=part, known=known)
        forms = tuple("loc2" if form == "loct" and INTO.search(before) else form for form in forms)
        link = links.get("as") or links.get("num", "")
        return How(forms, link, bool(links.get("num")), bool(AFTER.search(before)))


def of(lang: str, words: dict) -> Inflector:
    """The inflector of a language. `words` gives forms that the dictionary lacks: {word: {"gent": form, "gender": "femn"}}."""
    return Russian(words) if lang == "ru" else English()


class English(Inflector):
    FORMS, LINKS = frozenset(("a", "s", "cap")), ("as",)

    def inflect(self, text: str, how: How, like: str) -> str:
        """The text in these forms; a verb agrees with the words `like`."""
        if like and is_plural(like):
            verb, _, rest = text.partition(" ")
            text = f"{base(verb)} {rest}".strip()
        for form in how.forms:
            if form == "s":
                text = plural(text)
            elif form == "cap":
                text = capital(text)
            elif text.split()[-1] not in WORDS["uncountable"]:
                text = f"{'an' if VOWEL.match(text) else 'a'} {text}"
        return text


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def is_plural(text: str) -> bool:
    """Whether a phrase takes a plural verb: "leaf veins", "geese in a wedge", not "a delta"."""
    head = PREPOSITION.split(text)[0].split()
    if head[0] in ("a", "an", "one"):
        return False
    return head[-1] in WORDS["plurals"] or bool(re.search(r"[^sui]s$", head[-1]))


def base(verb: str) -> str:
    """The plain form of a verb in the third person: "dies" -> "die", "catches" -> "catch"."""
    if verb in WORDS["verbs"]:
        return WORDS["verbs"][verb]
    if re.search(r"[^aeiou]ies$", verb) and len(verb) > 4:
        return verb[:-3] + "y"
    return verb[:-2] if re.search(r"(?:ss|x|zz|ch|sh)es$", verb) else verb.removesuffix("s")


def plural(text: str) -> str:
    """The plural of the first noun of a phrase: "ring of keys" -> "rings of keys"."""
    head, of_, rest = text.partition(" of ")
    before, _, last = head.rpartition(" ")
    if last in WORDS["irregular"]:
        last = WORDS["irregular"][last]
    elif re.search(r"(?:s|x|z|ch|sh)$", last):
        last += "es"
    elif re.search(r"[^aeiou]y$", last):
        last = last[:-1] + "ies"
    else:
        last += "s"
    return f"{before} {last}".strip() + of_ + rest


class Russian(Inflector):
    FORMS, LINKS = frozenset((*WORDS["grammemes"], "cap", "goal")), ("as", "num")

    def __init__(self, words: dict):
        self.words = words
        self._agreement = lru_cache(CACHED)(self._agreement)
        self._inflected = lru_cache(CACHED)(self._inflected)

    def inflect(self, text: str, how: How, like: str) -> str:
        """The text in these forms; it agrees with the words `like`, or is counted by the number in them."""
        kind = None
        if like:
            kind = count(like) if how.counts else self._agreement(like)
        inflected = goal(text) if "goal" in how.forms else self._inflected(text, how, kind)
        if how.after and text in WORDS["pronouns"] and inflected[:1] != "н":
            inflected = f"н{inflected}"
        return capital(inflected) if "cap" in how.forms else inflected

    def _agreement(self, like: str) -> tuple[str, str, str, str]:
        """Gender, number, animacy and person of the words that another word agrees with."""
        gender, number = gender_and_number(like)
        person = WORDS["persons"].get(like.lower(), "3per")
        return self.words.get(like, {}).get("gender", gender), number, animacy(like), person

    def _inflected(self, text: str, how: How, kind: int | tuple[str, str, str, str] | None) -> str:
        if how.counts:
            word = noun(text)
            return word.make_agree_with_number(kind).word if word else text
        own_forms = [form for form in how.forms if form != "cap"]
        forms = set(own_forms)
        if kind:
            gender, number, life, person = kind
            forms |= {number} if number == "plur" or forms & {"pres", "futr"} else {"sing", gender}
            if forms & {"pres", "futr"}:
                forms = forms - {"1per", "2per", "3per"} | {person}
        own = self.words.get(text, {}).get(" ".join(own_forms))
        if own is None and kind and not forms & VERBAL and _adjectival(text.split()[0]):
            own = " ".join(_adjective(word, forms, "masc", life) for word in text.split())
        return own or (phrase(text, frozenset(forms)) if forms else text)


def count(text: str) -> int:
    """The number in a text, written in digits or in a word up to eight; five for any other."""
    digits = re.sub(r"\D", "", text)
    return int(digits) if digits else WORDS["russian_numbers"].get(text.lower(), 5)


@cache
def _morphology() -> pymorphy3.MorphAnalyzer:
    return pymorphy3.MorphAnalyzer(lang="ru")


@lru_cache(20_000)
def parses(word: str) -> list:
    """The ways to read a word, the likeliest first."""
    return _morphology().parse(word)


def noun(word: str):
    """The reading of a word as a noun in the nominative, if it has one; "флюгер" is a thing, though it may be alive."""
    readings = [one for one in parses(word) if one.tag.POS in ("NOUN", "NPRO") and "nomn" in one.tag]
    if given := _given_name(word, readings):
        return given
    best = next((one for one in readings if "sing" in one.tag), readings[0] if readings else None)
    things = (
        one
        for one in readings
        if "inan" in one.tag and (one.normal_form, one.tag.number) == (best.normal_form, best.tag.number)
    )
    return next(things, best)


def _given_name(word: str, readings: list):
    """The reading of a word as somebody's given name: "Лука", "Лев" and "Роман" are people, "лука" is none."""
    if not word[:1].isupper():
        return None
    return next((one for one in readings if "Name" in one.tag and "sing" in one.tag), None)


def gender_and_number(text: str) -> tuple[str, str]:
    """Gender and number of a phrase's head noun; of "дежурная по станции" those of its adjective."""
    if text.lower() in WORDS["genders"]:
        return WORDS["genders"][text.lower()], "sing"
    adjective = None
    words = text.split()
    for word in (one for at, one in enumerate(words) if not _modifies(words, at)) if len(words) > 1 else words:
        if head := _given_name(word, [one for one in parses(word) if "nomn" in one.tag]):
            return _as_text(head.tag)
    for word in (word.strip("«»,.()") for word in text.split()):
        best = parses(word)[0].tag
        if best.POS == "PREP":
            break
        if _is_adjective(word):
            adjective = adjective or best
        elif (head := noun(word)) is not None:
            return _as_text(head.tag)
    return _as_text(adjective) if adjective else ("masc", "sing")


def _as_text(tag) -> tuple[str, str]:
    """Gender and number as plain strings: pymorphy3's own refuse to be compared with grammemes of another kind."""
    return str(tag.gender or "masc"), str(tag.number or "sing")


def animacy(text: str) -> str:
    """Whether the head noun of a phrase is alive: it shows in the accusative."""
    words = text.split()
    head = next((noun(one) for at, one in enumerate(words) if not (_is_adjective(one) or _modifies(words, at))), None)
    return "anim" if head is not None and "anim" in head.tag else "inan"


def _is_adjective(word: str) -> bool:
    return parses(word)[0].tag.POS in ("ADJF", "PRTF")


def phrase(text: str, forms: frozenset[str]) -> str:
    """A phrase in a form: adjectives before the head noun follow it, what stands after it stays as it is."""
    words = re.split(r"(\s+)", text)
    places = range(0, len(words), 2)
    verb = next((at for at in places if _verb(words[at])), None)
    if forms & VERBAL and verb is not None:
        words[verb] = _formed(_verb(words[verb]), forms, words[verb])
        return "".join(words)
    plain = words[::2]
    nouns = (at for at in places if noun(words[at]) and not _is_adjective(words[at]) and not _modifies(plain, at // 2))
    head = next(nouns, None)
    if head is None:
        head = next((at for at in places if not _is_adjective(words[at])), len(words))
        adjective = _adjectival(words[0])
        gender, life = (adjective and str(adjective.tag.gender or "")) or "masc", "inan"
    else:
        reading = noun(words[head])
        number = "plur" if "plur" in forms else "sing" if "sing" in forms else str(reading.tag.number)
        forms = (forms & CASES) | {number}
        gender, life = str(reading.tag.gender or "masc"), "anim" if "anim" in reading.tag else "inan"
        _follow(words, head, forms, (gender, life))
        words[head] = _formed(reading, forms, words[head])
    for at in range(0, head, 2):
        words[at] = _adjective(words[at], forms, gender, life)
    return "".join(words)


def _follow(words: list[str], head: int, forms: frozenset[str], kind: tuple[str, str]) -> None:
    """Inflect what agrees behind a noun: surnames ("Анна Каренина"), names of streets ("улица Тверская")."""
    person = "Name" in noun(words[head]).tag
    for at in range(head + 2, len(words), 2):
        word = words[at]
        if not word[:1].isupper():
            return
        own = next((one for one in parses(word) if _is_surname(one, kind[0])), None) if person else None
        adjective = _adjectival(word)
        if own is not None:
            words[at] = _formed(own, forms & CASES | {"sing"}, word)
        elif adjective is not None and str(adjective.tag.gender) == kind[0]:
            words[at] = _adjective(word, forms, *kind)
        else:
            return


def _is_surname(reading, gender: str) -> bool:
    tag = reading.tag
    return ("Surn" in tag or "Patr" in tag) and "nomn" in tag and "sing" in tag and str(tag.gender) == gender


def _modifies(words: list[str], at: int) -> bool:
    """Whether a word that may be a noun is an adjective of the next noun: "Невский проспект", "рабочий стол"."""
    own = _adjectival(words[at])
    if own is None or at + 1 >= len(words):
        return False
    following = words[at + 1]
    if _adjectival(following) is not None and _modifies(words, at + 1):
        return True
    head = noun(following)
    return head is not None and (own.tag.gender, own.tag.number) == (head.tag.gender, head.tag.number)


def goal(text: str) -> str:
    """Where something goes that ends up at a place: "во дворе" -> "во двор"; what is no such place stays."""
    preposition, _, place = text.partition(" ")
    if preposition.lower() not in GOALS or not place:
        return text
    case, to, wanted = GOALS[preposition.lower()]
    words = place.split(" ")
    heads = [at for at, word in enumerate(words) if _in_case(word, case, ("NOUN",))]
    head = next((at for at in heads if not _cased(words[at], case)), heads[0] if heads else len(words) - 1)
    readings = _in_case(words[head], case, ("NOUN",) if heads else ("NOUN", "ADJF"))
    if not readings:
        return text
    reading = next((one for one in readings if _agrees(words[:head], case, one)), None)
    if reading is None and words[head].endswith("е"):  # "в Старой Руссе": a name that the dictionary lacks
        reading = parses("страна")[0]
        words[head] = f"{words[head][:-1]}у" if wanted == "accs" else words[head]
    else:
        reading = reading or readings[0]
        words[head] = _formed(reading, {wanted, str(reading.tag.number)}, words[head])
    gender, number = str(reading.tag.gender), str(reading.tag.number)
    life = "anim" if "anim" in reading.tag else "inan"
    for at in range(head):
        if found := _in_case(words[at], case, ("ADJF", "PRTF")):
            forms = {wanted, number} | ({gender} if number == "sing" else set())
            forms |= {life} if wanted == "accs" and (number == "plur" or gender == "masc") else set()
            words[at] = _formed(found[0], forms, words[at])
    return " ".join([capital(to) if preposition[:1].isupper() else to, *words])


def _agrees(words: list[str], case: str, head) -> bool:
    """Whether the adjectives before a noun may belong to this reading of it."""
    wanted = (head.tag.gender, head.tag.number) if str(head.tag.number) == "sing" else (None, head.tag.number)
    found = [_in_case(word, case, ("ADJF", "PRTF")) for word in words]
    return all(any((one.tag.gender, one.tag.number) == wanted for one in readings) for readings in found if readings)


def _cased(word: str, case: str) -> bool:
    return parses(word)[0].tag.POS in ("ADJF", "PRTF") and bool(_in_case(word, case, ("ADJF", "PRTF")))


def _in_case(word: str, case: str, kinds: tuple[str, ...]) -> list:
    """The readings of a word in a case; "саду" is one of the locatives, too."""
    cases = {case, "loc2"} if case == "loct" else {case}
    return [one for one in parses(word) if one.tag.POS in kinds and str(one.tag.case) in cases]


def _verb(word: str):
    return next((one for one in parses(word) if one.tag.POS == "INFN"), None)


def _adjectival(word: str):
    """The reading of a word as an adjective in the nominative, if it has one: "кривой" is a noun first."""
    return next((one for one in parses(word) if one.tag.POS in ("ADJF", "PRTF") and "nomn" in one.tag), None)


def _adjective(word: str, forms, gender: str, life: str) -> str:
    reading = _adjectival(word)
    if reading is None:
        return word
    wanted = {"loct" if form == "loc2" else form for form in forms} - GENDERS
    if "plur" not in wanted:
        gender = next(iter(forms & GENDERS), gender)
        wanted |= {"sing", gender}
    if "accs" in wanted and ("plur" in wanted or gender == "masc"):
        wanted.add(life)
    return _formed(reading, wanted, word)


def _formed(reading, forms, word: str) -> str:
    """The reading in these forms, capital like the word; the word itself where there is no such form."""
    if "loc2" in forms and reading.normal_form not in WORDS["second_locative"]:  # the dictionary has "столу", too
        forms = {"loct" if form == "loc2" else form for form in forms}
    inflected = reading.inflect(set(forms))
    if inflected is None and forms & {
        "pres",
        "futr",
    }:  # a perfective verb has no present, an imperfective no simple future
        other = {"pres": "futr", "futr": "pres"}
        inflected = reading.inflect({other.get(form, form) for form in forms})
    if inflected is None:
        return word
    return capital(inflected.word) if word[:1].isupper() else inflected.word
