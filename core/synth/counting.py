"""What a grammar can write: how many texts, which rules are never used, which lines dominate."""

import math
from collections import Counter

from core import errors
from core.corpus import turns
from core.synth import rules
from core.synth.grammar import Grammar
from core.synth.rules import Record, Rule, Slot

EXACT = 5000  # texts up to which all are made and counted
HOPELESS = 8  # log10 of the derivations from which the texts are not made to be counted
DOMINATES, WORDS = 0.3, 4  # share of rows, and words of a line, from which it dominates
LINTED = 300  # rows that are made to see what dominates


def distinct(recipe) -> dict:
    """{"log10", "exact"}: the number of different texts, counted by making all of them while they are few.

    Otherwise it is the number of derivations, an upper bound: two of them may say the same.
    """
    grammar: Grammar = recipe.grammar
    known: dict[tuple[int, int], float] = {}
    try:
        total = sum(_log(grammar, rule, 0, known) for rule in recipe.tops)
    except RecursionError:
        raise errors.named("RowTooDeep", rule=recipe.tops[0].name) from None
    seen, path = set(), []
    for _ in range(EXACT if total < HOPELESS else 0):
        seen.add(str(recipe.make(0, 0, ask=_Script(path))))
        if not _next(path):
            return {"log10": round(math.log10(len(seen)), 1), "exact": True, "texts": len(seen)}
    return {"log10": round(total, 1), "exact": False, "texts": None}


class _Script:
    """Answers every choice of a row from a list of [choice, how many there were], and lengthens it."""

    def __init__(self, path: list[list[int]]):
        self.path, self.at = path, 0

    def __call__(self, count: int, rule: Rule, depth: int) -> int:
        allowed = [at for at in range(count) if _weight(rule, depth, at)]
        if self.at == len(self.path):
            self.path.append([0, len(allowed)])
        self.at += 1
        return allowed[self.path[self.at - 1][0]]


def _next(path: list[list[int]]) -> bool:
    while path and path[-1][0] + 1 >= path[-1][1]:
        path.pop()
    if path:
        path[-1][0] += 1
    return bool(path)


def _weight(rule: Rule, depth: int, at: int) -> float:
    table = rule.tables[min(depth, len(rule.tables) - 1)]
    return table[at] - (table[at - 1] if at else 0)


def _log(grammar: Grammar, rule: Rule, depth: int, known: dict) -> float:
    """log10 of the number of derivations of a rule with so many recursive rules above it."""
    if (rule.number, depth) in known:
        return known[rule.number, depth]
    below = depth + 1 if rule.recursive else depth
    if rule.recursive and depth > grammar.depth:
        return 0.0
    known[rule.number, depth] = 0.0  # a field of another record with the same name may lead back here
    logs = []
    for at, alternative in enumerate(rule.alternatives):
        if not _weight(rule, depth, at):
            continue
        if type(alternative) is Record:
            logs.append(_log(grammar, alternative.first, below, known))
        else:
            logs.append(sum(_of_slot(grammar, piece, below, known) for piece in alternative if type(piece) is Slot))
    top = max(logs)
    known[rule.number, depth] = top + math.log10(sum(10 ** (log - top) for log in logs))
    return known[rule.number, depth]


def _of_slot(grammar: Grammar, slot: Slot, depth: int, known: dict) -> float:
    if slot.rule:
        return _log(grammar, slot.rule, depth, known)
    if not slot.field:
        return 0.0
    fields = [rule for rule in grammar.all if rule.name.endswith(f"].{slot.field}")]
    counts = [_log(grammar, rule, depth, known) for rule in fields]
    return sum(counts) / len(counts) if counts else 0.0


def lint(recipe) -> list[dict]:
    """What is doubtful: {"code": unreachable | dominating, "rule", "text", "share"}."""
    grammar: Grammar = recipe.grammar
    reached = rules.reached(grammar.links, [rule.number for rule in recipe.tops])
    doubts = [
        {"code": "unreachable", "rule": name, "text": "", "share": 0.0}
        for name, rule in grammar.rules.items()
        if rule.number not in reached
    ]
    lines = dict.fromkeys(
        (rule.name, piece.strip(" .,;:!?—"))
        for rule in grammar.all
        if rule.number in reached
        for alternative in rule.alternatives
        if type(alternative) is not Record
        for piece in ((alternative,) if type(alternative) is str else alternative)
        if type(piece) is str and len(piece.split()) >= WORDS
    )
    counts = Counter()
    for number in range(LINTED):
        text = " ".join(turns.texts(recipe.make(1, number))).lower()
        counts.update({line for _, line in lines if line.lower() in text})
    for name, line in lines:
        if counts[line] > DOMINATES * LINTED:
            share = round(counts[line] / LINTED, 2)
            doubts.append({"code": "dominating", "rule": name, "text": line[:80], "share": share})
    return doubts
