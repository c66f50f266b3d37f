"""SillyTavern: a chat, JSON Lines of messages of which the reply that was chosen is taken; and cards of characters."""

import re
from collections.abc import Iterator

import orjson

from core.corpus import content, encodings
from core.corpus.sources import Bad, Format, Record, Source

USER, CHARACTER = re.compile(r"\{\{user\}\}|<USER>", re.I), re.compile(r"\{\{char\}\}|<(?:BOT|CHAR)>", re.I)


def claims(source: Source, head: str) -> bool:
    return any(_is_of_chat(line) for line in head.split("\n")[:2])


def _is_of_chat(line: str) -> bool:
    try:
        value = orjson.loads(line)
    except ValueError:
        return False
    names = set(value) if isinstance(value, dict) else set()
    return {"user_name", "character_name"} <= names or {"mes", "is_user"} <= names


def read(source: Source) -> Iterator[Record | Bad]:
    messages, notes = [], []
    for line in encodings.lines(source, source.encoding):
        if not line.text.strip():
            continue
        try:
            message = orjson.loads(line.text) if not line.problem else None
        except ValueError:
            message = None
        if not isinstance(message, dict):
            yield Bad(str(line.number), line.problem or "bad_json", line.text[:200])
        elif "mes" in message:
            messages.append(message)
    people = {is_user: _names(messages, is_user) for is_user in (True, False)}
    turns = [turn for message in messages for turn in _turn(message, people, notes)]
    named = {"title": ", ".join(people[False])} if people[False] else {}
    yield Record("1", {"messages": turns} | named, tuple(notes)) if turns else Bad("1", "empty_chat")


def _names(messages: list[dict], is_user: bool) -> list[str]:
    """The names of the characters, or of the person, in the order in which they speak."""
    spoken = [one for one in messages if bool(one.get("is_user")) is is_user and not one.get("is_system")]
    return list(dict.fromkeys(str(one["name"]) for one in spoken if one.get("name")))


def _turn(message: dict, people: dict[bool, list[str]], notes: list[str]) -> list[dict]:
    """A message; a hidden one, which the model never saw, is left out. Of several characters the name stands before."""
    extra = message.get("extra") if isinstance(message.get("extra"), dict) else {}
    swipes = message.get("swipes") if isinstance(message.get("swipes"), list) else []
    notes += ["branches_dropped"] * max(0, len(swipes) - 1)
    if message.get("is_system"):
        notes.append("service_dropped")
        return []
    if extra.get("image") or extra.get("file"):
        notes.append("media_dropped")
    role, name = "user" if message.get("is_user") else "assistant", str(message.get("name") or "")
    said = str(message.get("mes") or "")
    for macro, names in ((USER, people[True]), (CHARACTER, [name] if role == "assistant" else people[False])):
        said = macro.sub(lambda found, names=names: names[0], said) if names else said
    if not said.strip():
        return []
    if role == "assistant":
        said = f"{name}: {said}" if name and len(people[False]) > 1 else said
        said = content.with_thoughts(said, extra.get("reasoning"), notes)
    return [{"role": role, "content": said}]


def is_card(value: object) -> bool:
    return isinstance(value, dict) and str(value.get("spec")).startswith("chara_card") and "data" in value


def of_card(value: dict, me: str = "") -> Iterator[Record | Bad]:
    """The example dialogues of a character, each after what the card says of the character."""
    card = value["data"] if isinstance(value["data"], dict) else {}
    name = str(card.get("name") or "")

    def named(text: object) -> str:
        return str(text or "").replace("{{char}}", name or "{{char}}").strip()

    about = "\n\n".join(filter(None, (named(card.get(part)) for part in ("description", "personality", "scenario"))))
    system = [{"role": "system", "content": about}] if about else []
    talks = [_talk(named(text), name) for text in re.split(r"<START>", str(card.get("mes_example") or ""), flags=re.I)]
    talks = [talk for talk in talks if any(turn["role"] == "assistant" for turn in talk)]
    if not talks:
        yield Bad("#1", "character_card", str(value)[:200])
    for number, talk in enumerate(talks, 1):
        yield Record(f"#{number}", {"messages": [*system, *talk], "title": name})


def _talk(text: str, name: str) -> list[dict]:
    parts = re.split(rf"^({{{{user}}}}|{re.escape(name) or '{{char}}'}):", text, flags=re.MULTILINE)
    pairs = zip(parts[1::2], parts[2::2], strict=True)
    return [{"role": "user" if who == "{{user}}" else "assistant", "content": said.strip()} for who, said in pairs]


SILLYTAVERN = Format("sillytavern", claims, read)
