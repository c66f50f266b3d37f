"""A chat of SillyTavern: JSON Lines of a header and of messages, of which the reply that was chosen is taken."""

from collections.abc import Iterator

import orjson

from core.corpus import content, encodings
from core.corpus.sources import Bad, Format, Record, Source


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
    turns, notes, named = [], [], {}
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
            turns += _turn(message, notes)
        elif isinstance(message.get("character_name"), str):
            named = {"title": message["character_name"]}
    yield Record("1", {"messages": turns} | named, tuple(notes)) if turns else Bad("1", "empty_chat")


def _turn(message: dict, notes: list[str]) -> list[dict]:
    """A message; a hidden one, which the model never saw, is left out."""
    extra = message.get("extra") if isinstance(message.get("extra"), dict) else {}
    swipes = message.get("swipes") if isinstance(message.get("swipes"), list) else []
    notes += ["branches_dropped"] * max(0, len(swipes) - 1)
    if message.get("is_system"):
        notes.append("service_dropped")
        return []
    if extra.get("image") or extra.get("file"):
        notes.append("media_dropped")
    role, said = "user" if message.get("is_user") else "assistant", str(message.get("mes") or "")
    said = said if role == "user" else content.with_thoughts(said, extra.get("reasoning"), notes)
    return [{"role": role, "content": said}] if said.strip() else []


SILLYTAVERN = Format("sillytavern", claims, read)
