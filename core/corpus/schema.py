"""From a record with any field names to the one normal row: `messages` with role and content, or `text`."""

import ast
import json
import re

import orjson

from core import paths
from core.corpus.turns import ROLES

NAMES = json.loads((paths.assets() / "field-names.json").read_text(encoding="utf-8"))  # of fields and of roles
ROLE_OF = {name: role for role, names in NAMES["roles"].items() for name in names}
OURS = ("id", "source", "cluster", "lang")
HUMAN_ASSISTANT = re.compile(r"(?:^|\n\n)(Human|Assistant): ?")


class Unfit(Exception):
    """A record that cannot become a row; `reason` is a code, `detail` what it is about."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(reason)
        self.reason, self.detail = reason, detail


def guess(value: object) -> dict:
    """The mapping by which convert() would read this record; {"schema": ""} when none is known."""
    if isinstance(value, str):
        return {"schema": "text", "text": ""}
    if isinstance(value, list):
        return {"schema": "messages", "messages": ""}
    if not isinstance(value, dict):
        return {"schema": ""}
    names = {_plain(key): key for key in value}
    system = {"system": key} if (key := _first(names, "system")) is not None else {}
    for name in NAMES["messages"]:
        if name in names and _is_turns(value[names[name]]):
            return {"schema": "messages", "messages": names[name]} | system
    if "chosen" in names and _is_turns(value[names["chosen"]]):
        return {"schema": "messages", "messages": names["chosen"]}
    if pair := _guess_pair(names):
        return pair | system | ({"history": names["history"]} if "history" in names else {})
    if "chosen" in names:
        return {"schema": "human_assistant", "text": names["chosen"]}
    if (text := _first(names, "text")) is not None and (_plain(text) == "text" or not _is_packed(value[text])):
        return {"schema": "text", "text": text}
    return {"schema": ""}


def _guess_pair(names: dict) -> dict | None:
    ask, answer = _first(names, "ask"), _first(names, "answer")
    if ask is None:
        ask = _first(names, "input")
    if ask is None or answer is None or ask == answer:
        return None
    more = [names[name] for name in NAMES["input"] if name in names and names[name] != ask]
    return {"schema": "pair", "ask": [ask, *more[:1]], "answer": answer}


def convert(value: object, mapping: dict | None = None, roles: dict | None = None) -> dict:
    """The normal row of a record: {"messages": [...]} or {"text": ...}, and its other plain fields under "fields".

    A record that is such a row comes back as it is, the same object.

    Raises:
        Unfit: with a reason code when the record has no known fields, no text, or a role that nobody has named.
    """
    if type(value) is dict and mapping is None and len(value) == 1 and _is_row(value):
        return value  # the commonest case by far, without a search
    if not mapping or not mapping.get("schema"):
        mapping = guess(value)
    kind = mapping["schema"]
    if kind == "text":
        row = {"text": _string(_field(value, mapping["text"]))}
        if not row["text"].strip():
            raise Unfit("empty_text")
    elif kind == "":
        raise Unfit("unknown_fields", ", ".join(map(str, value))[:200] if isinstance(value, dict) else "")
    else:
        row = {"messages": _CHATS[kind](value, mapping, roles or {})}
    if isinstance(value, dict) and (rest := _rest(value, mapping)):
        row["fields"] = rest
    return row


def _is_row(value: dict) -> bool:
    """Whether a record of one field is a row already: a text, or turns with a role that is ours and a string."""
    if type(text := value.get("text")) is str:
        return bool(text.strip())
    turns = value.get("messages")
    if type(turns) is not list or not turns:
        return False
    for turn in turns:
        if type(turn) is not dict or len(turn) != 2 or turn.get("role") not in ROLES:
            return False
        if type(turn.get("content")) is not str:
            return False
    return True


def roles_in(value: object) -> list[str]:
    """The role names that a record uses, as they are written, in their order."""
    mapping = guess(value)
    if mapping["schema"] != "messages":
        return []
    try:
        return list(dict.fromkeys(str(role) for role, _ in _role_and_content(_field(value, mapping["messages"]))))
    except Unfit:
        return []


def knows(role: str, roles: dict) -> bool:
    """Whether a role's name is known, or was given its meaning."""
    return role in roles or _plain(role) in ROLE_OF


def _plain(key: object) -> str:
    return str(key).strip().strip("\ufeff").lower()


def _first(names: dict, kind: str) -> str | None:
    """The first field of a kind, by NAMES, that a record has."""
    return next((names[name] for name in NAMES[kind] if name in names), None)


def _field(value: object, key: str) -> object:
    if not isinstance(value, dict) or key == "":
        return value
    if key not in value:
        raise Unfit("field_missing", str(key))
    return value[key]


def _is_turns(value: object) -> bool:
    if isinstance(value, str):
        return value.lstrip()[:1] in "[{" and value.strip() != "" and _parsed(value) is not None
    if isinstance(value, dict):
        return isinstance(value.get("role"), list) and isinstance(value.get("content"), list)
    return isinstance(value, list)


def _is_packed(value: object) -> bool:
    """Whether a field holds JSON, as the columns of a program's tables do."""
    return isinstance(value, str) and value[:1] in ("{", "[") and _parsed(value) is not None


def _parsed(text: str) -> list | dict | None:
    try:
        value = orjson.loads(text)
    except ValueError:
        try:  # what pandas and `datasets` write into CSV cells
            value = ast.literal_eval(text) if len(text) < 100_000 else None
            orjson.dumps(value)  # half a surrogate pair cannot be written
        except (TypeError, ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    return value if isinstance(value, (list, dict)) else None


def _string(value: object) -> str:
    """The text of a content field, whatever shape it has."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, list):
        return "".join(_part(part) for part in value)
    if isinstance(value, dict):
        return _part(value)
    return json.dumps(value) if isinstance(value, (bool, int, float)) else str(value)


def _part(part: object) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        return ""
    if isinstance(part.get("text"), str):
        return part["text"]
    if isinstance(part.get("parts"), list):
        return _string(part["parts"])
    is_text = part.get("type") in (None, "text") and isinstance(part.get("content"), str)
    return part["content"] if is_text else ""


def _role_and_content(turns: object) -> list[tuple[object, object]]:
    """(role, content) of each turn in any of the shapes that people use."""
    if isinstance(turns, str):
        turns = _parsed(turns)
    if isinstance(turns, dict):  # columns instead of rows, as Parquet keeps lists of structs
        roles, contents = turns.get("role"), turns.get("content")
        if not isinstance(roles, list) or not isinstance(contents, list) or len(roles) != len(contents):
            raise Unfit("turns_unreadable")
        return list(zip(roles, contents, strict=True))
    if not isinstance(turns, list):
        raise Unfit("turns_unreadable")
    if not turns:
        raise Unfit("empty_chat")
    if not any(isinstance(turn, dict) for turn in turns):  # a bare list: question, answer, question, answer
        if not all(isinstance(turn, str) for turn in turns) or len(turns) < 2:
            raise Unfit("turns_unreadable")
        return [(("user", "assistant")[index % 2], content) for index, content in enumerate(turns)]
    return [_of_turn(turn) for turn in turns]


def _of_turn(turn: object) -> tuple[object, object]:
    if turn is None:  # goes with the empty turns
        return "user", ""
    if not isinstance(turn, dict):
        return None, turn
    if turn.get("tool_calls") or turn.get("function_call"):
        raise Unfit("tool_calls")
    names = {_plain(key): key for key in turn}
    role, content = _first(names, "role"), _first(names, "content")
    if role is None or content is None:
        raise Unfit("turns_unreadable")
    return turn[role], turn[content]


def _turns(turns: object, roles: dict) -> list[dict]:
    return [{"role": _role(role, roles), "content": _string(content)} for role, content in _role_and_content(turns)]


def _role(name: object, roles: dict) -> str:
    if isinstance(name, dict):
        name = name.get("role") or name.get("name")
    plain = _plain(name)
    known = roles.get(str(name)) or roles.get(plain) or ROLE_OF.get(plain)
    if known is None:
        raise Unfit("unknown_role", str(name)[:60])
    return known


def _system(value: dict, mapping: dict) -> list[dict]:
    content = _string(value.get(mapping["system"])).strip() if mapping.get("system") else ""
    return [{"role": "system", "content": content}] if content else []


def _messages(value: object, mapping: dict, roles: dict) -> list[dict]:
    turns = _turns(_field(value, mapping["messages"]), roles)
    return turns if turns[0]["role"] == "system" or not mapping.get("system") else _system(value, mapping) + turns


def _pair(value: object, mapping: dict, roles: dict) -> list[dict]:
    asks, answer = mapping["ask"], _field(value, mapping["answer"])
    first = _field(value, asks[0])
    if _is_turn_list(first):  # the prompt is a chat
        answer = answer if _is_turn_list(answer) else [{"role": "assistant", "content": answer}]
        return _turns(first, roles) + _turns(answer, roles)
    history, before = [], value.get(mapping.get("history", ""))
    for pair in before if isinstance(before, list) else []:
        if isinstance(pair, list) and len(pair) == 2:
            history += pair
    parts = [_string(value.get(key)).strip("\n") for key in asks]
    ask = "\n\n".join(part for part in parts if part.strip())
    reply = _string(answer)
    if not ask.strip():
        raise Unfit("empty_question")
    if not reply.strip():
        raise Unfit("empty_reply")
    contents = [*map(_string, history), ask, reply]
    turns = [{"role": ("user", "assistant")[at % 2], "content": content} for at, content in enumerate(contents)]
    return _system(value, mapping) + turns


def _is_turn_list(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _human_assistant(value: object, mapping: dict, roles: dict) -> list[dict]:
    parts = HUMAN_ASSISTANT.split(_string(_field(value, mapping["text"])))
    if len(parts) < 3:
        raise Unfit("unknown_fields", "chosen")
    return [
        {"role": "user" if name == "Human" else "assistant", "content": content.strip()}
        for name, content in zip(parts[1::2], parts[2::2], strict=True)
    ]


_CHATS = {"messages": _messages, "pair": _pair, "human_assistant": _human_assistant}


def _rest(value: dict, mapping: dict) -> dict:
    """The record's other plain fields; long ones and nested ones are not carried along."""
    used = {mapping.get(name) for name in ("messages", "answer", "text", "system", "history")}
    used.update(mapping.get("ask", ()))
    fields = {}
    for key, field in value.items():
        if key == "fields" and isinstance(ours := _parsed(field) if isinstance(field, str) else field, dict):
            fields |= ours  # our own row come back
        elif key not in used and key not in OURS and _is_short(field):
            fields[str(key)] = field
    return fields


def _is_short(field: object) -> bool:
    return 0 < len(field) <= 500 if isinstance(field, str) else isinstance(field, (int, float, bool))
