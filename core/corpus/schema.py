"""From a record with any field names to the one normal row: `messages` with role and content, or `text`."""

from core.corpus import content, preferences, questions, turn_lists
from core.corpus.content import Unfit as Unfit
from core.corpus.turn_lists import NAMES, ROLE_OF
from core.corpus.turn_lists import first as _first
from core.corpus.turn_lists import plain as _plain
from core.corpus.turns import ROLES

OURS = ("id", "source", "cluster", "lang")
LABELS = ("label", "kto_tag")  # of KTO: https://huggingface.co/docs/trl/dataset_formats
BESIDE = frozenset((*content.MEDIA, "tools"))
LISTS = ("messages", "answer", "text", "system", "history", "chosen", "rejected", "reasoning")


def guess(value: object) -> dict:
    """The mapping by which convert() would read this record; {"schema": ""} when none is known."""
    if isinstance(value, str):
        return {"schema": "text", "text": ""}
    if isinstance(value, list):
        return {"schema": "messages", "messages": ""}
    if not isinstance(value, dict):
        return {"schema": ""}
    names = {_plain(key): key for key in value if value[key] is not None or _plain(key) != "chosen"}
    return (
        preferences.guess(names, value) or _guess_chat(names, value) or _guess_turns(value) or _guess_text(names, value)
    )


def _guess_chat(names: dict, value: dict) -> dict | None:
    system = {"system": key} if (key := _first(names, "system")) is not None else {}
    for name in NAMES["messages"] if _first(names, "messages") is not None else ():
        if name in names and turn_lists.is_turns(value[names[name]]):
            return {"schema": "messages", "messages": names[name]} | system
    if "chosen" in names and turn_lists.is_turns(value[names["chosen"]]):
        return {"schema": "messages", "messages": names["chosen"]}
    if pair := _guess_pair(names):
        thoughts = {"reasoning": key} if (key := _first(names, "reasoning")) is not None else {}
        return pair | system | thoughts | ({"history": names["history"]} if "history" in names else {})
    return {"schema": "human_assistant", "text": names["chosen"]} if "chosen" in names else None


def _guess_turns(value: dict) -> dict | None:
    """The only list of turns of a record, whatever its name is: each of them has a role that is known."""
    lists = [key for key, field in value.items() if isinstance(field, list) and turn_lists.is_sure(field)]
    return {"schema": "messages", "messages": lists[0]} if len(lists) == 1 else None


def _guess_text(names: dict, value: dict) -> dict:
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


def convert(
    value: object, mapping: dict | None = None, roles: dict | None = None, notes: list[str] | None = None
) -> dict:
    """The normal row of a record: {"text"}, {"messages"}, or a pair of preferences.py; other fields are "fields".

    A chat whose last reply was judged has its "label", true or false; where that is false no reply of it is learned.
    A record that is such a row comes back as it is, the same object. `notes` gets the codes of what was changed.

    Raises:
        Unfit: with a reason code when the record has no known fields, no text, or a role that nobody has named.
    """
    if type(value) is dict and mapping is None and len(value) == 1 and _is_row(value):
        return value  # the commonest case by far, without a search
    if not mapping or not mapping.get("schema"):
        mapping = guess(value)
    kind, notes = mapping["schema"], [] if notes is None else notes
    if kind == "text":
        row = {"text": content.text_of(_field(value, mapping["text"]), notes)}
        if not row["text"].strip():
            raise Unfit("empty_text")
    elif kind == "":
        raise Unfit("unknown_fields", ", ".join(map(str, value))[:200] if isinstance(value, dict) else "")
    else:
        row = _chat(value, mapping, roles or {}, notes)
    if isinstance(value, dict) and (rest := _rest(value, mapping, LABELS if "label" in row else ())):
        row["fields"] = rest
    return row


def _chat(value: object, mapping: dict, roles: dict, notes: list[str]) -> dict:
    label = None
    if isinstance(value, dict):
        _check_beside(value, notes)
        label = _label(value)
    if mapping["schema"] == "preference":
        if label is False:
            raise Unfit("unwanted_reply", "label")
        return preferences.of(value, mapping, roles, notes)
    messages = _CHATS[mapping["schema"]](value, mapping, roles, notes)
    if label is False:
        messages = [turn | {"weight": 0} if turn["role"] == "assistant" else turn for turn in messages]
    return {"messages": messages} if label is None else {"messages": messages, "label": label}


def _label(value: dict) -> bool | None:
    """Whether a record of KTO calls its reply good; None where it does not say."""
    for name in LABELS:
        said = value.get(name)
        if type(said) is bool or said in ("True", "true", "False", "false"):
            return said in (True, "True", "true")
    if {"prompt", "completion", "label"} <= value.keys() and value["label"] in (0, 1, "0", "1"):
        return value["label"] in (1, "1")
    return None


def _check_beside(value: dict, notes: list[str]) -> None:
    """What a chat's other columns say of it: pictures that belong to it, and tools."""
    if BESIDE.isdisjoint(value):
        return
    for name in content.MEDIA:
        if value.get(name):
            raise Unfit("part_without_text", name)
    if value.get("tools"):
        notes.append("tools_dropped")


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
        return list(dict.fromkeys(str(role) for role, *_ in turn_lists.each(_field(value, mapping["messages"]))))
    except Unfit:
        return []


def knows(role: str, roles: dict) -> bool:
    """Whether a role's name is known, or was given its meaning."""
    return role in roles or _plain(role) in ROLE_OF or _plain(role) in turn_lists.CALLS


def _field(value: object, key: str) -> object:
    if not isinstance(value, dict) or key == "":
        return value
    if key not in value:
        raise Unfit("field_missing", str(key))
    return value[key]


def _system(value: dict, mapping: dict, notes: list[str]) -> list[dict]:
    said = content.text_of(value.get(mapping["system"]), notes).strip() if mapping.get("system") else ""
    return [{"role": "system", "content": said}] if said else []


def _is_packed(value: object) -> bool:
    """Whether a field holds JSON, as the columns of a program's tables do."""
    return isinstance(value, str) and value[:1] in ("{", "[") and turn_lists.parsed(value) is not None


def _messages(value: object, mapping: dict, roles: dict, notes: list[str]) -> list[dict]:
    turns = turn_lists.read(_field(value, mapping["messages"]), roles, notes)
    if turns[0]["role"] == "system" or not mapping.get("system"):
        return turns
    return _system(value, mapping, notes) + turns


def _pair(value: object, mapping: dict, roles: dict, notes: list[str]) -> list[dict]:
    asks, answer = mapping["ask"], _field(value, mapping["answer"])
    asked = _field(value, asks[0])
    if turn_lists.is_list_of_turns(asked):  # the prompt is a chat
        answer = answer if turn_lists.is_list_of_turns(answer) else [{"role": "assistant", "content": answer}]
        return turn_lists.read(asked, roles, notes) + turn_lists.read(answer, roles, notes)
    ask = questions.asked(value, asks, notes)
    reply = content.text_of(questions.answered(answer, value, notes), notes)
    if not ask.strip():
        raise Unfit("empty_question")
    if not reply.strip():
        raise Unfit("empty_reply")
    reply = content.with_thoughts(reply, value.get(mapping.get("reasoning", "")), notes)
    contents = [*_history(value.get(mapping.get("history", "")), notes), ask, reply]
    turns = [{"role": ("user", "assistant")[at % 2], "content": said} for at, said in enumerate(contents)]
    return _system(value, mapping, notes) + turns


def _history(before: object, notes: list[str]) -> list[str]:
    """What was said before the question: pairs, as in Alpaca's history."""
    if not before:
        return []
    before = turn_lists.parsed(before) if isinstance(before, str) and before.strip() else before
    pairs = [pair for pair in before if isinstance(pair, list) and len(pair) == 2] if isinstance(before, list) else []
    if before and (not isinstance(before, list) or len(pairs) < len(before)):
        raise Unfit("turns_unreadable", "history")
    return [content.text_of(said, notes) for pair in pairs for said in pair]


def _human_assistant(value: object, mapping: dict, roles: dict, notes: list[str]) -> list[dict]:
    turns = preferences.human_assistant(content.text_of(_field(value, mapping["text"]), notes))
    if not turns:
        raise Unfit("unknown_fields", "chosen")
    return turns


_CHATS = {"messages": _messages, "pair": _pair, "human_assistant": _human_assistant}


def _rest(value: dict, mapping: dict, read: tuple[str, ...]) -> dict:
    """The record's other plain fields; long ones and nested ones are not carried along."""
    used = {*read, *OURS, *map(mapping.get, LISTS), *mapping.get("ask", ())}
    fields = {}
    for key, field in value.items():
        if key == "fields" and isinstance(ours := turn_lists.parsed(field) if isinstance(field, str) else field, dict):
            fields |= ours  # our own row come back
        elif key not in used and _is_short(field):
            fields[str(key)] = field
    return fields


def _is_short(field: object) -> bool:
    return 0 < len(field) <= 500 if isinstance(field, str) else isinstance(field, (int, float, bool))
