"""The rules of a grammar: what they are made of, how they may be written, which of them lead where.

A rule is a list of alternatives, a block with an alternative in each line, or a table of records:

    thing: |
      = word | adj | does | at=on the {floor}
      kettle | dented, blue | whistle, cool | on the stove, by the door
      rope | wet, short | swing

The first line of a table names its fields; a cell holds alternatives separated by commas; a field that a line leaves out
takes what follows `=` in the first line.
"""

from dataclasses import dataclass, field

from core.synth.agreement import How


@dataclass(slots=True, eq=False)
class Rule:
    """A named list of alternatives, compiled."""

    name: str
    number: int
    alternatives: list = field(default_factory=list)  # a tuple of pieces, a text without slots, or a Record
    weights: list[float] = field(default_factory=list)
    tables: list[list[float]] = field(default_factory=list)  # sums of the weights, by the depth of recursion
    labels: list[str] = field(
        default_factory=list
    )  # of the alternatives, for a row's path; none: it does not shape a row
    recursive: bool = False
    own: set[str] = field(default_factory=set)  # names that its alternatives remember for themselves alone
    bag: bool = False  # drawn from a shuffled bag
    shuffled: tuple = (None, [])  # (seed and cycle of the bag, its order)


@dataclass(slots=True, eq=False)
class Record:
    """An alternative with named fields, each a rule of its own."""

    name: str
    fields: dict[str, Rule]
    first: Rule  # the words that the record stands for


@dataclass(slots=True, eq=False)
class Slot:
    """One {…} of an alternative."""

    within: str  # name of its rule
    rule: Rule | None = None
    var: str = ""  # what is recalled, if no rule is expanded
    field: str = ""
    name: str = ""  # under which the value is remembered
    silent: bool = False  # only remembered
    inflect: How | None = None
    plain: bool = False  # hands on what its rule draws


def alternatives(written) -> list:
    """The alternatives of a rule, however they were written."""
    if isinstance(written, str) and "\n" in written.strip():
        lines = [line.strip() for line in written.split("\n") if line.strip()]
        return _records(lines) if lines[0].startswith("= ") else lines
    if isinstance(written, str | dict | int | float):
        return [written]
    return written


def _records(lines: list[str]) -> list[dict]:
    fields = [part.strip().partition("=") for part in lines[0][1:].split("|")]
    records = []
    for line in lines[1:]:
        cells = [cell.strip() for cell in _cells(line)]
        cells += [""] * (len(fields) - len(cells))
        record = {
            name.strip(): _split(cell or default) for (name, _, default), cell in zip(fields, cells, strict=False)
        }
        records.append({name: values for name, values in record.items() if values})
    return records


def _cells(line: str) -> list[str]:
    """The cells of a line: a bar within braces belongs to a slot."""
    cells, depth = [""], 0
    for char in line:
        depth += (char == "{") - (char == "}")
        if char == "|" and not depth:
            cells.append("")
        else:
            cells[-1] += char
    return cells


def _split(cell: str) -> list[str]:
    return [part.strip() for part in cell.split(",") if part.strip()]


def least_heights(links: dict[int, list[set[int]]]) -> dict[int, int]:
    """For each rule that can end: how many rules deep its shortest end lies. `links`: the rules below each alternative.

    Rules are settled from the lowest up, each alternative when the last rule below it is: one look at every link.
    """
    above: dict[int, list[tuple[int, int]]] = {}
    waiting: dict[tuple[int, int], int] = {}
    level = []
    for rule, alternatives in links.items():
        for at, link in enumerate(alternatives):
            waiting[rule, at] = len(link)
            for below in link:
                above.setdefault(below, []).append((rule, at))
            if not link:
                level.append(rule)
    heights: dict[int, int] = {}
    height = 0
    while level:
        settled = [rule for rule in dict.fromkeys(level) if rule not in heights]
        heights |= dict.fromkeys(settled, height)
        level = []
        for rule in settled:
            for one in above.get(rule, ()):
                waiting[one] -= 1
                if not waiting[one]:
                    level.append(one[0])
        height += 1
    return heights


def loops(links: dict[int, list[set[int]]]) -> dict[int, int]:
    """For each rule that leads back to itself the number of its loop (strongly connected component, Tarjan 1972)."""
    below = {rule: sorted(set().union(*alternatives)) for rule, alternatives in links.items()}
    order: dict[int, int] = {}
    low: dict[int, int] = {}
    path, on_path, found = [], set(), {}
    for start in links:
        work = [(start, iter(below[start]))] if start not in order else []
        while work:
            rule, rest = work[-1]
            if rule not in order:
                order[rule] = low[rule] = len(order)
                path.append(rule)
                on_path.add(rule)
            following = next(rest, None)
            if following is not None:
                if following not in order:
                    work.append((following, iter(below.get(following, ()))))
                elif following in on_path:
                    low[rule] = min(low[rule], order[following])
                continue
            work.pop()
            if work:
                low[work[-1][0]] = min(low[work[-1][0]], low[rule])
            if low[rule] == order[rule]:
                loop = path[path.index(rule) :] if path[-1] != rule else [rule]
                del path[-len(loop) :]
                on_path.difference_update(loop)
                if len(loop) > 1 or rule in below[rule]:
                    found |= dict.fromkeys(loop, order[rule])
    return found


def reached(links: dict[int, list[set[int]]], starts: list[int]) -> set[int]:
    """The rules that these lead to, and they themselves."""
    seen, stack = set(starts), list(starts)
    while stack:
        for link in links.get(stack.pop(), ()):
            stack.extend(link - seen)
            seen |= link
    return seen
