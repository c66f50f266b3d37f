"""Telegram's result.json, one chat or all: bursts of messages become turns, long silences end a conversation.

The assistant is the speaker whom the person names; else whoever exported, where the export tells that, so that a model
learns to write like them; else whoever in a chat is not its namesake.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime

from core.corpus.sources import Bad, Record

SILENCE = 6 * 3600  # seconds without a message that end a conversation


def is_export(value: object) -> bool:
    return isinstance(value, dict) and (
        (isinstance(value.get("chats"), dict) and isinstance(value["chats"].get("list"), list))
        or (
            isinstance(value.get("messages"), list)
            and any(
                isinstance(one, dict) and one.get("type") in ("message", "service") for one in value["messages"][:50]
            )
        )
    )


def chats(value: dict, name: str = "") -> Iterator[Record | Bad]:
    """Each conversation; `name` is the assistant's among the speakers."""
    rooms = value["chats"]["list"] if "chats" in value else [value]
    about = value.get("personal_information") or {}
    me = f"user{about['user_id']}" if isinstance(about, dict) and "user_id" in about else None
    number = 0
    for room in rooms:
        if not isinstance(room, dict) or not isinstance(room.get("messages"), list):
            number += 1
            yield Bad(f"#{number}", "unknown_fields", str(room)[:200])
            continue
        for session in _sessions(room["messages"]):
            number += 1
            yield Record(f"#{number}", {"messages": _turns(session, me or _other(room), name)})


def _other(room: dict) -> str | None:
    """Who answers in a chat of which the export does not say whose it is: not its namesake."""
    named = {
        one.get("from_id") for one in room["messages"] if isinstance(one, dict) and one.get("from") == room.get("name")
    }
    count = Counter(one.get("from_id") for one in room["messages"] if isinstance(one, dict) and one.get("from_id"))
    return next((who for who, _ in count.most_common() if who not in named), None)


def _sessions(messages: list) -> Iterator[list[dict]]:
    session: list[dict] = []
    before = None
    for message in messages:
        if not isinstance(message, dict) or message.get("type") == "service" or not _text(message.get("text")).strip():
            continue
        now = _seconds(message)
        if session and now is not None and before is not None and now - before > SILENCE:
            yield session
            session = []
        session.append(message)
        before = now if now is not None else before
    if session:
        yield session


def _turns(session: list[dict], me: str | None, name: str) -> list[dict]:
    turns: list[dict] = []
    for message in session:
        said_by = str(message.get("from") or "")
        role = "assistant" if (said_by == name if name else message.get("from_id") == me) else "user"
        text = _text(message.get("text"))
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += "\n" + text
        else:
            turns.append({"role": role, "content": text, "name": said_by})
    return turns


def _text(text: object) -> str:
    if isinstance(text, str):
        return text
    if not isinstance(text, list):
        return ""
    return "".join(
        part if isinstance(part, str) else str(part.get("text", "")) if isinstance(part, dict) else "" for part in text
    )


def _seconds(message: dict) -> float | None:
    try:
        if "date_unixtime" in message:
            return float(message["date_unixtime"])
        return datetime.fromisoformat(str(message.get("date"))).timestamp()
    except (ValueError, TypeError, OverflowError, OSError):
        return None
