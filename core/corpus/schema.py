"""From a record with any field names to the one normal row: `messages` with role and content, or `text`."""

import json
import re

import orjson

ROLES = {
    "user": "user human prompter customer client operator question me пользователь человек клиент юзер вопрос",
    "assistant": "assistant gpt bot char model ai chatgpt bing bard chatbot claude agent answer ассистент бот модель ответ",
    "system": "system sys developer система системный",
    "tool": "tool function observation function_response tool_response ipython",
}
ROLE_OF = {name: role for role, names in ROLES.items() for name in names.split()}
LISTS = ("messages", "conversations", "conversation", "dialog", "dialogue", "chat", "turns", "диалог", "сообщения")
ROLE_KEYS = ("role", "from", "speaker", "author", "sender", "роль")
CONTENT_KEYS = ("content", "value", "text", "message", "parts", "текст")
ASKS = (
    "instruction",
    "prompt",
    "question",
    "query",
    "problem",
    "user",
    "human",
    "инструкция",
    "вопрос",
    "запрос",
    "задание",
    "промпт",
)
INPUTS = ("input", "context", "ввод", "вход", "контекст")
ANSWERS = (
    "output", "completion", "response", "answer", "solution", "assistant", "bot", "chosen",
    "вывод", "ответ", "решение",
)  # fmt: skip
TEXTS = (
    "text",
    "content",
    "body",
    "article",
    "document",
    "raw_content",
    "story",
    "poem",
    "текст",
    "содержание",
    "статья",
)
SYSTEMS = ("system", "system_prompt", "sys", "система")
_OURS = ("system", "user", "assistant", "tool")  # a tuple: a role may be unhashable
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
    for name in LISTS:
        if name in names and _is_turns(value[names[name]]):
            return {"schema": "messages", "messages": names[name]} | _with_system(names)
    if "chosen" in names and _is_turns(value[names["chosen"]]):
        return {"schema": "messages", "messages": names["chosen"]}
    ask, answer = _first(names, ASKS), _first(names, ANSWERS)
    if answer is None and "input" in names and (answer := _first(names, ANSWERS)):
        ask = names["input"]
    if ask is None and answer is not None:
        ask = _first(names, INPUTS)
    if ask is not None and answer is not None and ask != answer:
        more = [names[name] for name in INPUTS if name in names and names[name] != ask]
        history = {"history": names["history"]} if "history" in names else {}
        return {"schema": "pair", "ask": [ask, *more[:1]], "answer": answer} | _with_system(names) | history
    if "chosen" in names:
        return {"schema": "human_assistant", "text": names["chosen"]}
    if (text := _first(names, TEXTS)) is not None:
        return {"schema": "text", "text": text}
    strings = [key for key, field in value.items() if isinstance(field, str) and _plain(key) not in OURS]
    return {"schema": "text", "text": strings[0]} if len(strings) == 1 else {"schema": ""}


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
    if kind == "messages":
        row = {"messages": _turns(_field(value, mapping["messages"]), roles or {})}
        if mapping.get("system") and row["messages"][0]["role"] != "system":
            row["messages"] = _system(value, mapping) + row["messages"]
    elif kind == "pair":
        row = {"messages": _pair(value, mapping, roles or {})}
    elif kind == "human_assistant":
        row = {"messages": _human_assistant(_string(_field(value, mapping["text"])))}
    elif kind == "text":
        row = _text(_string(_field(value, mapping["text"])))
    else:
        raise Unfit("unknown_fields", ", ".join(map(str, value))[:200] if isinstance(value, dict) else "")
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
        if type(turn) is not dict or len(turn) != 2 or turn.get("role") not in _OURS:
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
        return list(dict.fromkeys(str(role) for role, _ in _said(_field(value, mapping["messages"]))))
    except Unfit:
        return []


def knows(role: str, roles: dict) -> bool:
    """Whether a role's name is known, or was given its meaning."""
    return role in roles or _plain(role) in ROLE_OF


def _plain(key: object) -> str:
    return str(key).strip().strip("\ufeff").lower()


def _first(names: dict, wanted: tuple) -> str | None:
    return next((names[name] for name in wanted if name in names), None)


def _with_system(names: dict) -> dict:
    key = _first(names, SYSTEMS)
    return {"system": key} if key is not None else {}


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


def _parsed(text: str) -> list | dict | None:
    try:
        value = orjson.loads(text)
    except ValueError:
        try:  # what pandas and `datasets` write into CSV cells
            import ast

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
        parts = [_part(part) for part in value]
        return "".join(part for part in parts if part)
    if isinstance(value, dict):
        return _part(value)
    if isinstance(value, (bool, int, float)):
        return json.dumps(value)
    return str(value)


def _part(part: object) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict):
        if isinstance(part.get("text"), str):
            return part["text"]
        if isinstance(part.get("parts"), list):
            return _string(part["parts"])
        if part.get("type") in (None, "text") and isinstance(part.get("content"), str):
            return part["content"]
    return ""


def _text(text: str) -> dict:
    if not text.strip():
        raise Unfit("empty_text")
    return {"text": text}


def _said(turns: object) -> list[tuple[object, object]]:
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
    said = []
    for turn in turns:
        if not isinstance(turn, dict):
            said.append((None, turn))
            continue
        if turn.get("tool_calls") or turn.get("function_call"):
            raise Unfit("tool_calls")
        names = {_plain(key): key for key in turn}
        role, content = _first(names, ROLE_KEYS), _first(names, CONTENT_KEYS)
        if role is None or content is None:
            raise Unfit("turns_unreadable")
        said.append((turn[role], turn[content]))
    if all(role is None for role, _ in said):  # a bare list of strings: question, answer, question, answer
        if not all(isinstance(content, str) for _, content in said) or len(said) < 2:
            raise Unfit("turns_unreadable")
        return [(("user", "assistant")[index % 2], content) for index, (_, content) in enumerate(said)]
    return said


def _turns(turns: object, roles: dict) -> list[dict]:
    return [{"role": _role(role, roles), "content": _string(content)} for role, content in _said(turns)]


def _role(name: object, roles: dict) -> str:
    if isinstance(name, dict):
        name = name.get("role") or name.get("name")
    plain = _plain(name)
    known = roles.get(str(name)) or roles.get(plain) or ROLE_OF.get(plain)
    if known is None:
        raise Unfit("unknown_role", str(name)[:60])
    return known


def _system(value: dict, mapping: dict) -> list[dict]:
    said = _string(value.get(mapping["system"])).strip() if mapping.get("system") else ""
    return [{"role": "system", "content": said}] if said else []


def _pair(value: object, mapping: dict, roles: dict) -> list[dict]:
    asks, answer = mapping["ask"], _field(value, mapping["answer"])
    first = _field(value, asks[0])
    if _is_turn_list(first):
        before = _turns(first, roles)
        after = _turns(answer, roles) if _is_turn_list(answer) else [{"role": "assistant", "content": _string(answer)}]
        return before + after
    history, before = [], value.get(mapping.get("history", ""))
    for pair in before if isinstance(before, list) else []:
        if isinstance(pair, list) and len(pair) == 2:
            history += [
                {"role": role, "content": _string(said)} for role, said in zip(("user", "assistant"), pair, strict=True)
            ]
    parts = [_string(value.get(key)).strip("\n") for key in asks]
    ask = "\n\n".join(part for part in parts if part.strip())
    said = _string(answer)
    if not ask.strip():
        raise Unfit("empty_question")
    if not said.strip():
        raise Unfit("empty_reply")
    turns = [{"role": "user", "content": ask}, {"role": "assistant", "content": said}]
    return _system(value, mapping) + history + turns


def _is_turn_list(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _human_assistant(text: str) -> list[dict]:
    parts = HUMAN_ASSISTANT.split(text)
    if len(parts) < 3:
        raise Unfit("unknown_fields", "chosen")
    return [
        {"role": "user" if name == "Human" else "assistant", "content": said.strip()}
        for name, said in zip(parts[1::2], parts[2::2], strict=True)
    ]


def _rest(value: dict, mapping: dict) -> dict:
    """The record's other plain fields; long ones and nested ones are not carried along."""
    used = {mapping.get(name) for name in ("messages", "answer", "text", "system", "history")} | set(
        mapping.get("ask", ())
    )
    fields = {}
    for key, field in value.items():
        if key == "fields" and (ours := _ours(field)) is not None:  # our own row come back
            fields |= ours
        elif key not in used and key not in OURS and _is_short(field):
            fields[str(key)] = field
    return fields


def _ours(field: object) -> dict | None:
    if isinstance(field, str) and field.startswith("{"):
        field = _parsed(field)
    return field if isinstance(field, dict) else None


def _is_short(field: object) -> bool:
    return 0 < len(field) <= 500 if isinstance(field, str) else isinstance(field, (int, float, bool))
