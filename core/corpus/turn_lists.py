"""Lists of turns in the shapes that people use, as turns with a role of ours and a text."""

import ast
import json
import re

import orjson

from core import paths
from core.corpus import content
from core.corpus.content import Unfit

NAMES = json.loads((paths.assets() / "field-names.json").read_text(encoding="utf-8"))  # of fields and of roles
CALLS = ("function_call", "tool_call")  # roles of turns that call a tool
# Strings whole; brackets that close, the space before the next item, and numpy's name of what it prints.
_NUMPY = re.compile(
    r"""('(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+"|[}\])])(\s+(?=['"{\[(]|array\())?|\barray\(|,\s*dtype=[\w<>]+\s*\)""",
    re.DOTALL,
)
_SETS = {kind: frozenset(kinds) for kind, kinds in NAMES.items()}
ROLE_OF = {name: role for role, names in NAMES["roles"].items() for name in names}


def plain(key: object) -> str:
    """A name as it is looked up."""
    return str(key).strip().strip("\ufeff").lower()


def first(names: dict, kind: str) -> str | None:
    """The first field of a kind, by NAMES, that a record has."""
    if _SETS[kind].isdisjoint(names):
        return None
    return next(names[name] for name in NAMES[kind] if name in names)


def parsed(text: str) -> list | dict | None:
    """A list or an object that stands in a cell as JSON or as Python writes it."""
    try:
        value = orjson.loads(text)
    except ValueError:
        try:  # what pandas and `datasets` write into CSV cells
            value = ast.literal_eval(_NUMPY.sub(_with_comma, text)) if len(text) < 100_000 else None
            orjson.dumps(value)  # half a surrogate pair cannot be written
        except (TypeError, ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    return value if isinstance(value, (list, dict)) else None


def _with_comma(part: re.Match) -> str:
    """A string or a bracket of a printed array with the comma behind it that numpy leaves out."""
    if part[1] is None:
        return "(" if part[0].startswith("array") else ")"
    return part[0] if part[2] is None else f"{part[1]},{part[2]}"


def is_turns(value: object) -> bool:
    """Whether a field may hold turns."""
    if isinstance(value, str):
        return value.lstrip()[:1] in "[{" and value.strip() != "" and parsed(value) is not None
    return isinstance(value, list) or (isinstance(value, dict) and _columns(value) is not None)


def _columns(value: dict) -> tuple[list, list] | None:
    """The roles and the contents of turns that are kept as columns, as Parquet keeps lists of structs."""
    names = {plain(key): key for key, cells in value.items() if isinstance(cells, list)}
    role, said = first(names, "role"), first(names, "content")
    return None if role is None or said is None else (value[role], value[said])


def is_list_of_turns(value: object) -> bool:
    """Whether a field certainly does."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def is_sure(value: list) -> bool:
    """Whether each item of a list is a turn with a role that is known."""
    names = [{plain(key): key for key in turn} if isinstance(turn, dict) else {} for turn in value]
    keys = [(first(of, "role"), first(of, "content")) for of in names]
    return bool(value) and all(
        role is not None and said is not None and plain(turn[role]) in ROLE_OF
        for (role, said), turn in zip(keys, value, strict=True)
    )


def read(turns: object, roles: dict, notes: list[str]) -> list[dict]:
    """The turns of a field; one that is not to be learned has "weight": 0, as in OpenAI's files."""
    turns = parsed(turns) if isinstance(turns, str) else turns
    if isinstance(turns, list) and None in turns:
        notes += ["empty_turn_dropped"] * turns.count(None)
        turns = [turn for turn in turns if turn is not None]
        if not turns:
            raise Unfit("turns_unreadable")
    return [_turn(_role(role, roles), said, more, notes) for role, said, more in each(turns)]


def each(turns: object) -> list[tuple[object, object, dict]]:
    """(role, content, the turn's other fields by their plain names) of each turn."""
    if isinstance(turns, str):
        turns = parsed(turns)
    if isinstance(turns, dict):
        roles, contents = _columns(turns) or ([], [None])
        if len(roles) != len(contents):
            raise Unfit("turns_unreadable")
        return [(role, said, {}) for role, said in zip(roles, contents, strict=True)]
    if not isinstance(turns, list):
        raise Unfit("turns_unreadable")
    if not turns:
        raise Unfit("empty_chat")
    if all(isinstance(pair, list) and len(pair) == 2 for pair in turns):  # pairs of a question and an answer
        turns = [said for pair in turns for said in pair]
    if (pairs := [_pair(turn) for turn in turns]) and all(pairs):
        turns = [turn for pair in pairs for turn in pair]
    if not any(isinstance(turn, dict) for turn in turns):  # a bare list: question, answer, question, answer
        if not all(isinstance(turn, str) for turn in turns) or len(turns) < 2:
            raise Unfit("turns_unreadable")
        return [(("user", "assistant")[index % 2], said, {}) for index, said in enumerate(turns)]
    return [_fields(turn) for turn in turns]


def _pair(turn: object) -> list[dict]:
    """The turns of an object with a question and its answer, as those of XTuner and MOSS; none of another."""
    names = {plain(key): key for key in turn} if isinstance(turn, dict) else {}
    asked, answer = first(names, "ask") or first(names, "input"), first(names, "answer")
    if first(names, "role") is not None or asked is None or answer is None:
        return []
    system = first(names, "system")
    said = (("system", turn.get(system)), ("user", turn[asked]), ("assistant", turn[answer]))
    return [{"role": role, "content": words} for role, words in said if words or role != "system"]


def _fields(turn: object) -> tuple[object, object, dict]:
    if turn is None:  # goes with the empty turns
        return "user", "", {}
    if not isinstance(turn, dict):
        return None, turn, {}
    if turn.get("tool_calls") or turn.get("function_call"):
        raise Unfit("tool_calls")
    names = {plain(key): key for key in turn}
    role, said = first(names, "role"), first(names, "content")
    if role is None or said is None:
        raise Unfit("turns_unreadable")
    return turn[role], turn[said], {name: turn[key] for name, key in names.items() if key not in (role, said)}


def _turn(role: str, said: object, more: dict, notes: list[str]) -> dict:
    if said is None and isinstance(more.get("audio"), dict):  # a reply of OpenAI's voice models
        said = more["audio"].get("transcript")
    text = content.text_of(said, notes)
    for name in content.MEDIA:
        if more.get(name) and name != "audio":  # of which a transcript may be there
            raise Unfit("part_without_text", name)
    if not more or role != "assistant":
        return {"role": role, "content": text}
    for name in NAMES["reasoning"]:
        text = content.with_thoughts(text, more.get(name), notes)
    unlearned = any(more.get(name) in (0, "0", "0.0", "false", "False") for name in ("weight", "train"))
    unlearned = unlearned and not any(more.get(name) is None for name in ("weight", "train") if name in more)
    return {"role": role, "content": text} | ({"weight": 0} if unlearned else {})


def _role(name: object, roles: dict) -> str:
    if isinstance(name, dict):
        name = name.get("role") or name.get("name")
    known = roles.get(str(name)) or roles.get(plain(name)) or ROLE_OF.get(plain(name))
    if known is None and plain(name) in CALLS:
        raise Unfit("tool_calls", str(name))
    if known is None:
        raise Unfit("unknown_role", str(name)[:60])
    return known
