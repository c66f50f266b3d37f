"""Exports of messengers as JSON: Telegram's result.json, old and new, and Discord's by DiscordChatExporter."""

from collections.abc import Iterator
from datetime import datetime

from core.corpus.formats import people
from core.corpus.formats.people import Said
from core.corpus.sources import Bad, Record


def is_telegram(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    if isinstance(value.get("chats"), dict):
        return isinstance(value["chats"].get("list"), list)
    messages = value.get("messages")
    return isinstance(messages, list) and any(
        isinstance(message, dict) and message.get("type") in ("message", "service") for message in messages[:50]
    )


def telegram(value: dict, learn_as: str = "") -> Iterator[Record | Bad]:
    """Each conversation; in an export of everything the assistant is whoever exported."""
    chats = value["chats"]["list"] if "chats" in value else [value]
    about = value.get("personal_information")
    me = str(about["user_id"]) if isinstance(about, dict) and "user_id" in about else None
    number = 1
    for chat in chats:
        if not isinstance(chat, dict) or not isinstance(chat.get("messages"), list):
            yield Bad(f"#{number}", "unknown_fields", str(chat)[:200])
            number += 1
            continue
        said = (_of_telegram(message) for message in chat["messages"] if isinstance(message, dict))
        namesake = str(chat.get("name") or "")
        for record in people.chats(said, learn_as, exporter=me, first=number, other_than=namesake):
            yield record
            number += 1


def _of_telegram(message: dict) -> Said:
    # Until 2021 from_id was a number, of a channel plus 2**32; since then it is "user" and a number.
    who = str(message.get("from_id") or message.get("actor_id") or message.get("from") or "").removeprefix("user")
    name, text = str(message.get("from") or who), _text(message.get("text"))
    if message.get("type") == "service":
        return Said(who, name, "", dropped="service_dropped")
    return Said(who, name, text, _seconds(message), "" if text.strip() else "media_dropped")


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
        return datetime.fromisoformat(str(message.get("date") or message.get("timestamp"))).timestamp()
    except (ValueError, TypeError, OverflowError, OSError):
        return None


def is_discord(value: object) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("messages"), list):
        return False
    return isinstance(value.get("channel"), dict) and ("guild" in value or "messageCount" in value)


def discord(value: dict, learn_as: str = "") -> Iterator[Record | Bad]:
    """The conversations of a channel; a person is known by the nickname or the user name."""
    said = [_of_discord(message, learn_as) for message in value["messages"] if isinstance(message, dict)]
    yield from people.chats(said, learn_as)


def _of_discord(message: dict, learn_as: str) -> Said:
    author = message.get("author") if isinstance(message.get("author"), dict) else {}
    user = str(author.get("name") or "")
    name = user if learn_as and user == learn_as else str(author.get("nickname") or user)
    who, text = str(author.get("id") or name), str(message.get("content") or "")
    if message.get("type", "Default") not in ("Default", "Reply", 0, 19):
        return Said(who, name, "", dropped="service_dropped")
    dropped = "" if text.strip() else "media_dropped"
    return Said(who, name, text, _seconds(message), dropped, bot=author.get("isBot") is True)
