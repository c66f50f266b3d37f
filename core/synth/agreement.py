"""Words in the form that a sentence asks for: Russian cases, genders, numbers and tenses by pymorphy3; a little English."""

import re
from functools import cache

from core.errors import UserError

CASES = ("nomn", "gent", "datv", "accs", "ablt", "loct")
KNOWN = frozenset((*CASES, "sing", "plur", "masc", "femn", "neut", "past", "pres", "futr", "1per", "2per", "3per", "impr", "excl", "Supr", "COMP", "PRTF", "PRTS", "GRND", "ADJS", "actv", "pssv"))  # fmt: skip
MOST_KNOWN = 100_000
VERBAL = frozenset(("past", "pres", "futr", "impr", "GRND"))
ENGLISH = ("a", "s", "cap")
VOWEL = re.compile(r"^(?:[aeiou](?!ni|ne\b|se|ur)|hour|heir|honest|un[^i])", re.IGNORECASE)
IRREGULAR = {"man": "men", "woman": "women", "child": "children", "foot": "feet", "tooth": "teeth", "knife": "knives", "leaf": "leaves", "loaf": "loaves", "life": "lives", "wolf": "wolves", "half": "halves", "sheep": "sheep", "mouse": "mice"}  # fmt: skip

PLURALS = frozenset((*IRREGULAR.values(), "geese", "people", "vertebrae", "breathing")) - {"sheep"}
MASS = frozenset(
    [
        "smoke",
        "sand",
        "rain",
        "snow",
        "salt",
        "ice",
        "clay",
        "grass",
        "moss",
        "honey",
        "ash",
        "fog",
        "soap",
        "ink",
        "wallpaper",
        "thread",
    ]
)
VERBS = {"is": "are", "has": "have", "does": "do", "goes": "go"}
PREPOSITION = re.compile(r" (?:in|on|of|at|by|over|under|through|to|between|from|with|after|beneath|overhead|above) ?")


class FormUnknown(UserError):
    template = 'The rule "{rule}" asks for the form "{form}", which is not known. Known are: {known}.'


class NoRussianForms(UserError):
    template = "Russian words are inflected by pymorphy3, which is not installed. Run: pip install -r requirements.txt"


class How:
    """What is asked of a word: grammemes, a variable to agree with, a capital letter."""

    __slots__ = ("cap", "forms", "known", "like", "number")

    def __init__(self, forms: tuple[str, ...], like: str, number: str, cap: bool):
        self.forms, self.like, self.cap, self.number = forms, like or number, cap, bool(number)
        self.known: dict = {}  # what was inflected so


def of(lang: str, words: dict):
    """The inflector of a language. `words` gives forms that the dictionary lacks: {word: {"gent": form, "gender": "femn"}}."""
    return Russian(words) if lang == "ru" else English()


class English:
    def how(self, text: str, rule: str) -> How:
        forms = tuple(text.split())
        like = next((form[4:] for form in forms if form.startswith("as=$")), "")
        forms = tuple(form for form in forms if not form.startswith("as=$"))
        for form in forms:
            if form not in ENGLISH:
                raise FormUnknown(rule=rule, form=form, known=", ".join(ENGLISH) + ", as=$name")
        return How(forms, like, "", False)

    def inflect(self, text: str, how: How, like: str) -> str:
        if like and is_plural(like):
            verb, _, rest = text.partition(" ")
            text = f"{base(verb)} {rest}".strip()
        for form in how.forms:
            if form == "a":
                text = text if text.split()[-1] in MASS else f"{'an' if VOWEL.match(text) else 'a'} {text}"
            elif form == "s":
                text = plural(text)
            else:
                text = text[:1].upper() + text[1:]
        return text


def is_plural(text: str) -> bool:
    """Whether a phrase takes a plural verb: "leaf veins", "geese in a wedge", not "a delta"."""
    head = PREPOSITION.split(text)[0].split()
    if head[0] in ("a", "an", "one"):
        return False
    return head[-1] in PLURALS or bool(re.search(r"[^sui]s$", head[-1]))


def base(verb: str) -> str:
    """The plain form of a verb in the third person: "dies" -> "die", "catches" -> "catch"."""
    if verb in VERBS:
        return VERBS[verb]
    if re.search(r"[^aeiou]ies$", verb) and len(verb) > 4:
        return verb[:-3] + "y"
    return verb[:-2] if re.search(r"(?:ss|x|zz|ch|sh)es$", verb) else verb.removesuffix("s")


def plural(text: str) -> str:
    """The plural of the first noun of a phrase: "ring of keys" -> "rings of keys"."""
    head, of_, rest = text.partition(" of ")
    before, _, last = head.rpartition(" ")
    if last in IRREGULAR:
        last = IRREGULAR[last]
    elif re.search(r"(?:s|x|z|ch|sh)$", last):
        last += "es"
    elif re.search(r"[^aeiou]y$", last):
        last = last[:-1] + "ies"
    else:
        last += "s"
    return f"{before} {last}".strip() + of_ + rest


class Russian:
    def __init__(self, words: dict):
        self.words, self.kinds = words, {}

    def how(self, text: str, rule: str) -> How:
        forms, like, number, cap = [], "", "", False
        for part in text.split():
            if part.startswith("as=$"):
                like = part[4:]
            elif part.startswith("num=$"):
                number = part[5:]
            elif part == "cap":
                cap = True
            elif part in KNOWN:
                forms.append(part)
            else:
                raise FormUnknown(rule=rule, form=part, known=", ".join(sorted(KNOWN)) + ", as=$name, num=$name, cap")
        return How(tuple(forms), like, number, cap)

    def inflect(self, text: str, how: How, like: str) -> str:
        kind = self._kind(like, how.number) if like else None
        found = how.known.get((text, kind))
        if found is None:
            if len(how.known) > MOST_KNOWN:
                how.known.clear()
            found = how.known[text, kind] = self._inflected(text, how, kind)
        return found

    def _kind(self, like: str, number: bool):
        """What is asked of a word that agrees with these words: (gender, number, life), or a count."""
        found = self.kinds.get((like, number))
        if found is None:
            if len(self.kinds) > MOST_KNOWN:
                self.kinds.clear()
            if number:
                digits = re.sub(r"\D", "", like)
                found = int(digits) if digits else NUMBERS.get(like.lower(), 5)
            else:
                gender, many = nature(like)
                found = (self.words.get(like, {}).get("gender", gender), many, life(like))
            self.kinds[like, number] = found
        return found

    def _inflected(self, text: str, how: How, kind) -> str:
        if how.number:
            word = noun(text)
            said = word.make_agree_with_number(kind).word if word else text
            return said[:1].upper() + said[1:] if how.cap else said
        forms = set(how.forms)
        if kind:
            gender, number, alive = kind
            forms |= {number} if number == "plur" or forms & {"pres", "futr"} else {"sing", gender}
        own = self.words.get(text, {}).get(" ".join(how.forms))
        if own is None and kind and not forms & VERBAL and _adjectival(text.split()[0]):
            own = " ".join(_adjective(word, forms, "masc", alive) for word in text.split())
        said = own or (phrase(text, frozenset(forms)) if forms else text)
        return said[:1].upper() + said[1:] if how.cap else said


NUMBERS = {"ноль": 0, "один": 1, "два": 2, "три": 3, "четыре": 4, "пять": 5, "шесть": 6, "семь": 7, "восемь": 8}
NUMBERS |= {"одна": 1, "одно": 1, "две": 2}


@cache
def morphology():
    try:
        import pymorphy3
    except ImportError as error:
        raise NoRussianForms() from error
    return pymorphy3.MorphAnalyzer(lang="ru")


def noun(word: str):
    """The reading of a word as a noun in the nominative, if it has one; "флюгер" is a thing, though it may be alive."""
    found = [one for one in morphology().parse(word) if one.tag.POS in ("NOUN", "NPRO") and "nomn" in one.tag]
    best = next((one for one in found if "sing" in one.tag), found[0] if found else None)
    things = (
        one
        for one in found
        if "inan" in one.tag and (one.normal_form, one.tag.number) == (best.normal_form, best.tag.number)
    )
    return next(things, best)


def nature(text: str) -> tuple[str, str]:
    """Gender and number of a phrase's head noun; of "дежурная по станции" those of its adjective."""
    adjective = None
    for word in (word.strip("«»,.()") for word in text.split()):
        best = morphology().parse(word)[0].tag
        if best.POS == "PREP":
            break
        if _is_adjective(word):
            adjective = adjective or best
        elif (one := noun(word)) is not None:
            return _kind(one.tag)
    if adjective is not None:
        return _kind(adjective)
    return "masc", "sing"


def life(text: str) -> str:
    """Whether the head noun of a phrase is alive: it shows in the accusative."""
    heads = [noun(word) for word in text.split() if not _is_adjective(word)]
    return "anim" if heads and heads[0] is not None and "anim" in heads[0].tag else "inan"


def _kind(tag) -> tuple[str, str]:
    """Gender and number as plain strings: pymorphy3's own refuse to be compared with grammemes of another kind."""
    return str(tag.gender or "masc"), str(tag.number or "sing")


def _is_adjective(word: str) -> bool:
    return morphology().parse(word)[0].tag.POS in ("ADJF", "PRTF")


def phrase(text: str, forms: frozenset[str]) -> str:
    """A phrase in a form: adjectives before the head noun follow it, what stands after it stays as it is."""
    words = re.split(r"(\s+)", text)
    heads = [at for at in range(0, len(words), 2) if noun(words[at]) and not _is_adjective(words[at])]
    verb = next((at for at in range(0, len(words), 2) if _verb(words[at])), None)
    if forms & VERBAL and verb is not None:
        words[verb] = _formed(_verb(words[verb]), forms, words[verb])
        return "".join(words)
    if not heads:
        last = next((at for at in range(0, len(words), 2) if not _is_adjective(words[at])), len(words))
        for at in range(0, last, 2):
            words[at] = _adjective(words[at], forms, "masc", "inan")
        return "".join(words)
    head = heads[0]
    one = noun(words[head])
    number = "plur" if "plur" in forms else "sing" if "sing" in forms else str(one.tag.number)
    words[head] = _formed(one, frozenset((forms & set(CASES)) | {number}), words[head])
    for at in range(0, head, 2):
        life = "anim" if "anim" in one.tag else "inan"
        words[at] = _adjective(words[at], (forms & set(CASES)) | {number}, one.tag.gender or "masc", life)
    return "".join(words)


def _verb(word: str):
    return next((one for one in morphology().parse(word) if one.tag.POS == "INFN"), None)


def _adjectival(word: str):
    """The reading of a word as an adjective in the nominative, if it has one: "кривой" is a noun first."""
    found = (one for one in morphology().parse(word) if one.tag.POS in ("ADJF", "PRTF") and "nomn" in one.tag)
    return next(found, None)


def _adjective(word: str, forms, gender: str, life: str) -> str:
    one = _adjectival(word)
    if one is None:
        return word
    wanted = set(forms) - {"masc", "femn", "neut"}
    if "plur" not in wanted:
        gender = next(iter(set(forms) & {"masc", "femn", "neut"}), gender)
        wanted |= {"sing", gender}
    if "accs" in wanted and ("plur" in wanted or gender == "masc"):
        wanted.add(life)
    return _formed(one, frozenset(wanted), word)


def _formed(one, forms: frozenset[str], word: str) -> str:
    made = one.inflect(set(forms))
    if made is None and forms & {"pres", "futr"}:  # a perfective verb has no present, an imperfective no simple future
        made = one.inflect({"futr" if form == "pres" else "pres" if form == "futr" else form for form in forms})
    if made is None:
        return word
    return made.word[:1].upper() + made.word[1:] if word[:1].isupper() else made.word
