"""Tables of which each row is one turn: the rows of one conversation become one record."""

from collections.abc import Iterator
from itertools import chain

from core.corpus import turn_lists
from core.corpus.sources import Bad, Record

FORMATS = ("csv", "xlsx", "ods", "parquet", "arrow", "jsonl", "json")


def joined(records: Iterator[Record | Bad]) -> Iterator[Record | Bad]:
    """The records as they are, or as conversations when the first one is a turn."""
    before = []
    records = map(_of_tree, records)
    for record in records:
        before.append(record)
        if isinstance(record, Record):
            break
    if not before or not isinstance(before[-1], Record) or not _is_turn(before[-1].value):
        yield from chain(before, records)
        return
    talks: dict[str, list[Record]] = {}
    for record in chain(before, records):
        if isinstance(record, Bad) or not isinstance(record.value, dict):
            yield record
        else:
            talks.setdefault(str(_field(record.value, "conversation")), []).append(record)
    for rows in talks.values():
        yield _conversation(rows)


def _of_tree(record: Record | Bad) -> Record | Bad:
    """A tree of OpenAssistant, of which each line is one, as the conversation that people ranked first."""
    tree = record.value if isinstance(record, Record) and isinstance(record.value, dict) else {}
    if "message_tree_id" not in tree or not isinstance(tree.get("prompt"), dict):
        return record
    branch, waiting, notes = [], [tree["prompt"]], list(record.repairs)
    while waiting:
        ranked = sorted((one for one in waiting if isinstance(one, dict)), key=_rank)
        notes += ["branches_dropped"] * (len(ranked) - 1)
        branch += ranked[:1]
        waiting = ranked[0].get("replies") or [] if ranked else []
    return Record(record.place, {"messages": branch, "lang": tree["prompt"].get("lang")}, tuple(notes))


def _is_turn(value: object) -> bool:
    """Whether a row has a role that is known, or a name and the number of its conversation; and what was said."""
    if not isinstance(value, dict) or "messages" in value:
        return False
    role, said = _field(value, "role"), _field(value, "content")
    if not isinstance(role, str) or not isinstance(said, (str, list)):
        return False
    known = turn_lists.plain(role) in turn_lists.ROLE_OF
    return known or (_field(value, "conversation") is not None and len(role) <= 60)


def _role(value: dict) -> object:
    """The role of a row; LibreChat's tables have the model's name there, and beside it whether a person wrote it."""
    by_user = value.get("isCreatedByUser")
    return _field(value, "role") if by_user is None else "user" if str(by_user).lower() == "true" else "assistant"


def _field(value: dict, kind: str) -> object:
    names = {turn_lists.plain(key): key for key in value}
    key = turn_lists.first(names, kind)
    return None if key is None else value[key]


def _conversation(rows: list[Record]) -> Record:
    values = [row.value for row in rows]
    notes = [note for row in rows for note in row.repairs]
    if any(value.get("parent_id") for value in values) and all(value.get("message_id") for value in values):
        values = _branch(values, notes)
    else:
        orders = [_number(_field(value, "order")) for value in values]
        if None not in orders:
            values = [value for _, value in sorted(zip(orders, values, strict=True), key=lambda pair: pair[0])]
    turns = [{"role": _role(value), "content": _field(value, "content")} for value in values]
    return Record(rows[0].place, {"messages": turns}, tuple(notes))


def _branch(values: list[dict], notes: list[str]) -> list[dict]:
    """The replies that people ranked first, down a tree of OpenAssistant: huggingface.co/datasets/OpenAssistant/oasst1."""
    children: dict[str | None, list[dict]] = {}
    known = {str(value["message_id"]) for value in values}
    for value in values:
        parent = str(value.get("parent_id"))
        children.setdefault(parent if parent in known else None, []).append(value)
    branch: list[dict] = []
    at = None
    while children.get(at) and len(branch) < len(values):
        ranked = sorted(children[at], key=_rank)
        branch.append(ranked[0])
        at = str(ranked[0]["message_id"])
    notes += ["branches_dropped"] * (len(values) - len(branch))
    return branch


def _rank(value: dict) -> float:
    rank = _number(value.get("rank"))
    return float("inf") if rank is None else rank


def _number(value: object) -> float | None:
    try:
        return float(value) if value is not None and value != "" else None
    except (TypeError, ValueError):
        return None
