"""A grammar that writes rows: weighted recursive rules, records of meaning, agreement, no model.

A rule is a list of alternatives. An alternative is a text with slots, `3 * text` with a weight, or a record of fields:

    {rule}  {name=rule}  {name:=rule}     expand; expand and remember; only remember
    {$name}  {$name.field}                recall what was remembered, or a field of a remembered record
    {rule|gent}  {rule|past as=$hero}     inflect (Russian), agree with what was remembered; English: a, s, cap

A block of lines (`rule: |`) is a list with an alternative in each line, or a table of records: see core.synth.rules.
An alternative that is one slot and nothing else hands on the record that it draws. What a name with _ in front
remembers ({_owner:=person}) is the alternative's own: rules that it uses see it, and when it ends the old value is back.
Every row draws from a generator of its own seed and number, so any row can be made again alone. Repetition is held
back in two ways that keep this true: the first use of a rule in a row takes the row's place in a shuffled bag (a
permutation of seed, rule and cycle: no alternative twice before all were used), later uses avoid what the row has had
(in the plans of a chain they have bags too).
"""

import math
import re
from bisect import bisect
from collections.abc import Callable, Iterator
from itertools import accumulate
from random import Random

from core import errors
from core.synth import agreement, rules
from core.synth.rules import Record, Rule, Slot

DEPTH, DECAY = 6, 0.6  # nested uses of recursive rules; how their weight shrinks with each
MOST_DEPTH, LEAST_DECAY, MOST_WEIGHT = 64, 0.01, 1e6
MOST_RULES = 100_000  # with those of the fields of records
MOST_STEPS = 100_000  # uses of rules in one row
REDRAWS = 6
BAG = 20  # alternatives from which a rule is a shuffled bag; of fewer, some repetition is what chance gives anyway
MOST = 200_000  # characters of a row
_SLOT = re.compile(r"\{([^{}]*)\}")
_INSIDE = re.compile(r"^(?:(\w+)(:?=))?(\$)?(\w+)(?:\.(\w+))?(?:\|(.+))?$")
_WEIGHT = re.compile(r"^\s*(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?) \* ")


class Row:
    """What one row remembers while it is made. `ask` chooses in place of chance: (alternatives, rule, depth) -> index.
    With `spread`, each further use of a rule in a row takes the row's place in a shuffled bag of its own.
    """

    __slots__ = ("ask", "length", "number", "path", "random", "seed", "spread", "steps", "used", "vars")

    def __init__(self, seed: int, number: int, ask: Callable | None = None, *, spread: bool = False):
        self.seed, self.number, self.ask, self.spread = seed, number, ask, spread
        self.random = Random((seed << 64) + number).random
        self.vars: dict = {}
        self.used: dict[int, int] = {}  # number of a rule -> bits of the alternatives that the row has had
        self.path: list[str] = []
        self.length = self.steps = 0


class Grammar:
    """Compiled rules; `text(row, rule)` expands one of them."""

    def __init__(
        self, written: dict, *, lang: str, depth: int = DEPTH, decay: float = DECAY, words: dict | None = None
    ):
        self.lang, self.depth = lang, int(_number("depth", depth, 1, MOST_DEPTH, whole=True))
        self.decay = _number("decay", decay, LEAST_DECAY, 1)
        self.inflector = agreement.of(lang, words or {})
        self.all: list[Rule] = []
        self.links: dict[int, list[set[int]]] = {}  # rule -> for each alternative the rules that it expands
        self.rules = {name: self._rule(name) for name in written}
        for name, alternatives in written.items():
            self._fill(self.rules[name], alternatives)
        self._check_names()
        self._measure()

    def _rule(self, name: str) -> Rule:
        if len(self.all) >= MOST_RULES:
            raise errors.named("TooManyRules", most=MOST_RULES)
        self.all.append(Rule(name, len(self.all)))
        return self.all[-1]

    def _fill(self, rule: Rule, written) -> None:
        if not (alternatives := rules.alternatives(written)):
            raise errors.named("RuleEmpty", rule=rule.name)
        links = self.links[rule.number] = []
        for at, alternative in enumerate(alternatives):
            if isinstance(alternative, dict):
                fields = {str(key): self._rule(f"{rule.name[:200]}[{at + 1}].{key}") for key in alternative}
                for key, values in alternative.items():
                    self._fill(fields[str(key)], values)
                if not fields:
                    raise errors.named("RuleEmpty", rule=f"{rule.name}[{at + 1}]")
                rule.alternatives.append(Record(f"{rule.name}[{at + 1}]", fields, next(iter(fields.values()))))
                rule.weights.append(1.0)
                links.append({field.number for field in fields.values()})
                continue
            text = str(alternative)
            weight = _WEIGHT.match(text)
            number = _weight(rule.name, weight[1]) if weight else 1.0
            pieces = self._pieces(rule.name, text[weight.end() :] if weight else text)
            if number == 0:
                continue
            rule.weights.append(number)
            plain = len(pieces) == 1 and type(pieces[0]) is str
            rule.alternatives.append(pieces[0] if plain else pieces)
            slots = [piece for piece in pieces if type(piece) is Slot]
            links.append({slot.rule.number for slot in slots if slot.rule})
            rule.own |= {slot.name for slot in slots if slot.name.startswith("_")}
        if not rule.alternatives:
            raise errors.named("WeightsZero", rule=rule.name)

    def _pieces(self, rule: str, text: str) -> tuple:
        pieces, end = [], 0
        for slot in _SLOT.finditer(text):
            if slot.start() > end:
                pieces.append(text[end : slot.start()])
            before = pieces[-1] if pieces and type(pieces[-1]) is str and slot.start() > 0 else ""
            pieces.append(self._slot(rule, slot, before if text[: slot.start()].endswith(before) else ""))
            end = slot.end()
        if "{" in (rest := text[end:]) or "}" in rest:
            raise errors.named("SlotUnreadable", rule=rule, slot=rest[:40], example="{rule}")
        return (*pieces, rest) if rest else tuple(pieces)

    def _slot(self, rule: str, written: re.Match, before: str) -> Slot:
        inside = _INSIDE.match(written[1].strip())
        if not inside:
            raise errors.named(
                "SlotUnreadable", rule=rule, slot=written[0][:40], example="{rule|gent}, {name=rule}, {$name.field}"
            )
        name, equals, recall, target, field, how = inside.groups()
        slot = Slot(rule, name=name or "", silent=equals == ":=", field=field or "")
        if recall:
            slot.var = target
        elif target in self.rules:
            slot.rule = self.rules[target]
        else:
            raise errors.named("RuleMissing", rule=rule, missing=target)
        slot.inflect = self.inflector.how(how.replace("|", " "), rule, before) if how else None
        slot.plain = bool(slot.rule) and not (slot.name or slot.inflect)
        return slot

    def _slots(self) -> Iterator[Slot]:
        for rule in self.all:
            for alternative in rule.alternatives:
                if type(alternative) is tuple:
                    yield from (piece for piece in alternative if type(piece) is Slot)

    def _check_names(self) -> None:
        remembered = {slot.name for slot in self._slots() if slot.name}
        for slot in self._slots():
            if slot.var and slot.var not in remembered:
                raise errors.named("NothingRemembered", rule=slot.within, name=slot.var)
            if slot.inflect and slot.inflect.like and slot.inflect.like not in remembered:
                raise errors.named("NothingRemembered", rule=slot.within, name=slot.inflect.like)

    def _measure(self) -> None:
        """Which rules lead back to themselves, the tables to draw from, and the labels of the rules that shape a row."""
        least = rules.least_heights(self.links)
        self.loops = loops = rules.loops(self.links)
        for rule in self.all:
            links = self.links[rule.number]
            heights = [max((least.get(at, math.inf) for at in link), default=-1) for link in links]
            if min(heights) == math.inf:
                raise errors.named("RuleEndless", rule=rule.name)
            back = [any(loops.get(at) == loops.get(rule.number, -1) for at in link) for link in links]
            rule.recursive = any(back)
            for depth in range(self.depth + 1 if rule.recursive else 1):
                weights = [w * (self.decay**depth if b else 1) for w, b in zip(rule.weights, back, strict=True)]
                if rule.recursive and depth == self.depth:
                    weights = [w if h == min(heights) else 0.0 for w, h in zip(rule.weights, heights, strict=True)]
                rule.tables.append(list(accumulate(weights)))
            expands = any(link for one, link in zip(rule.alternatives, links, strict=True) if type(one) is not Record)
            if expands and len(links) > 1:
                rule.labels = [f"{rule.name}{at + 1}" for at in range(len(links))]
            rule.bag = len(links) >= BAG and not rule.recursive and len(set(rule.weights)) == 1
        self._check_steps(least)

    def _check_steps(self, least: dict[int, int]) -> None:
        """Refuse rules that use too many others even in their shortest text: forty that double each other."""
        steps: dict[int, int] = {}
        for rule in sorted(self.all, key=lambda one: least[one.number]):
            counts = [
                sum(steps.get(piece.rule.number, 0) for piece in one if type(piece) is Slot and piece.rule)
                for one in rule.alternatives
                if type(one) is tuple
            ]
            steps[rule.number] = 1 + (min(counts) if len(counts) == len(rule.alternatives) else 0)
            if steps[rule.number] > MOST_STEPS:
                raise errors.named("RowTooManySteps", rule=rule.name, most=MOST_STEPS)

    def text(self, row: Row, rule: Rule) -> str:
        """Expand a rule for a row."""
        try:
            text = sentence_case(self._words(self._expand(rule, row, 0), row, 0))
        except RecursionError:
            raise errors.named("RowTooDeep", rule=rule.name) from None
        return russian_punctuation(text) if self.lang == "ru" else text

    def phrase(self, row: Row, rule: Rule) -> str:
        """The words of a rule as they stand, with no capital or point of a sentence: for the fields of a plan."""
        return self._words(self._expand(rule, row, 0), row, 0).strip()

    def _expand(self, rule: Rule, row: Row, depth: int) -> str | Record:
        row.steps += 1
        if row.steps > MOST_STEPS:
            raise errors.named("RowTooManySteps", rule=rule.name, most=MOST_STEPS)
        at = self._pick(rule, row, depth) if len(rule.alternatives) > 1 else 0
        if rule.labels:
            row.path.append(rule.labels[at])
        chosen = rule.alternatives[at]
        if type(chosen) is not tuple:  # a text without slots, or a record
            return chosen
        if rule.recursive:
            depth += 1
        if len(chosen) == 1 and chosen[0].plain:
            return self._expand(chosen[0].rule, row, depth)
        outer = {name: row.vars.get(name) for name in rule.own}
        pieces = [piece if type(piece) is str else self._fill_slot(piece, row, depth) for piece in chosen]
        row.vars |= outer
        text = "".join(pieces)
        row.length += len(text) if rule.recursive else 0
        if row.length > MOST or len(text) > MOST:
            raise errors.named("RowTooLong", rule=rule.name, most=MOST)
        return text

    def _fill_slot(self, slot: Slot, row: Row, depth: int) -> str:
        value = _recalled(row, slot, slot.var) if slot.var else self._expand(slot.rule, row, depth)
        if slot.field:
            field = value.fields.get(slot.field) if type(value) is Record else None
            if field is None:
                raise errors.named("RuleMissing", rule=slot.within, missing=f"${slot.var}.{slot.field}")
            value = self._expand(field, row, depth)
        if slot.name:
            row.vars[slot.name] = value
            if slot.silent:
                return ""
        value = self._words(value, row, depth)
        if (how := slot.inflect) is None:
            return value
        like = self._words(_recalled(row, slot, how.like), row, depth) if how.like else ""
        return self.inflector.inflect(value, how, like)

    def _words(self, value: str | Record, row: Row, depth: int) -> str:
        """The words of a value: a record stands for its first field."""
        while type(value) is Record:
            value = self._expand(value.first, row, depth)
        return value

    def _pick(self, rule: Rule, row: Row, depth: int) -> int:
        count = len(rule.alternatives)
        if row.ask is not None:
            return row.ask(count, rule, depth)
        number, tried = rule.number, row.used
        used = tried.get(number, 0)
        if rule.bag and (row.spread or not used):
            at = self._drawn(rule, row, count, used)
        else:
            table = rule.tables[min(depth, len(rule.tables) - 1)]
            total, random = table[-1], row.random
            at = bisect(table, random() * total)
            if used >> at & 1:
                for _ in range(REDRAWS):
                    at = bisect(table, random() * total)
                    if not used >> at & 1:
                        break
        used |= 1 << at
        tried[number] = used if used != (1 << count) - 1 else 1 << at
        return at

    def _drawn(self, rule: Rule, row: Row, count: int, used: int) -> int:
        """The place of a row in the shuffled bag of a rule; the next place there of what the row has not used."""
        cycle, place = divmod(row.number, count)
        bag = (row.seed, used.bit_count(), cycle)
        if rule.shuffled[0] != bag:
            order = list(range(count))
            Random((row.seed << 96) + (rule.number << 64) + (1 << 60) + (bag[1] << 40) + cycle).shuffle(order)
            rule.shuffled = (bag, order)
        order = rule.shuffled[1]
        return next((at for at in order[place:] + order[:place] if not used >> at & 1), order[place])


def _number(name: str, value, least: float, most: float, *, whole: bool = False) -> float:
    """A setting of a recipe."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most
    if not good or (whole and value != int(value)):
        raise errors.named("SettingWrong", name=name, value=str(value)[:40], least=least, most=most)
    return value


def _weight(rule: str, text: str) -> float:
    weight = float(text)
    if not 0 <= weight <= MOST_WEIGHT or 0 < weight < 1 / MOST_WEIGHT:
        shown = text if len(text) <= 20 else f"{text[:12]}… ({len(text)})"
        raise errors.named("WeightWrong", rule=rule, weight=shown, most=f"{MOST_WEIGHT:g}")
    return weight


def _recalled(row: Row, slot: Slot, name: str):
    try:
        return row.vars[name]
    except KeyError:
        raise errors.named("NothingRemembered", rule=slot.within, name=name) from None


_START = re.compile(r"(^|[.!?]\s+|\n\s*)([«“\"(]?)([a-zа-яё])")
_WITH = re.compile(r"\b([Сс]) (?=[сзшжщ][бвгджзклмнпрстфхцчшщ]|мно)|\b([Вв]) (?=[вф][бвгджзклмнпрстфхцчшщ])")
_DOUBLE_COMMA = re.compile(r",(?=\s*[.,:;!?)])")


def sentence_case(text: str) -> str:
    """Capital letters where sentences and lines begin."""
    return _START.sub(lambda match: match[1] + match[2] + match[3].upper(), text)


def russian_punctuation(text: str) -> str:
    """No doubled points, a comma before the words of who spoke, and "со снегом", "во втором"."""
    text = _DOUBLE_COMMA.sub("", text)
    text = _WITH.sub(lambda match: f"{match[1] or match[2]}о ", text)
    text = re.sub(r"\.»\.?", "».", text)
    return re.sub(r"\. — (?=[а-яё])", ", — ", text)
