"""Telegram's export as JSON, result.json, old and new."""

import re
from collections.abc import Iterator
from datetime import datetime

from core.corpus.formats import people
from core.corpus.formats.people import Said
from core.corpus.sources import Bad, Record

CHANNELS = ("public_channel", "private_channel")


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
    """Each conversation; in an export of everything the assistant is whoever exported. Posts of a channel are texts."""
    lists = [value[name]["list"] for name in ("chats", "left_chats") if name in value and "list" in value[name]]
    chats = [chat for chats in lists for chat in chats] if "chats" in value else [value]
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
        if chat.get("type") in CHANNELS:
            records = _posts(said, number)
        else:
            records = people.chats(said, learn_as, exporter=me, first=number, other_than=namesake)
        for record in records:
            yield record
            number += 1


def _posts(said: Iterator[Said], first: int) -> Iterator[Record | Bad]:
    everything = list(said)
    dropped = tuple(post.dropped for post in everything if post.dropped)
    posts = [post.text for post in everything if not post.dropped]
    if not posts:
        yield Bad(f"#{first}", "empty_chat")
    for number, text in enumerate(posts, first):
        yield Record(f"#{number}", {"text": text}, dropped if number == first else ())


def _of_telegram(message: dict) -> Said:
    # Until 2021 from_id was a number, of a channel plus 2**32; since then it is "user" and a number.
    who = str(message.get("from_id") or message.get("actor_id") or message.get("from") or "").removeprefix("user")
    name, text = str(message.get("from") or who), re.sub(r"\n{2,}(?=```)", "\n", _text(message.get("text"))).strip("\n")
    if message.get("type") == "service":
        return Said(who, name, "", dropped="service_dropped")
    if "forwarded_from" in message:  # somebody else's words
        return Said(who, name, "", dropped="forwards_dropped")
    return Said(who, name, text, _seconds(message), "" if text.strip() else "media_dropped")


def _text(text: object) -> str:
    if isinstance(text, str):
        return text
    if not isinstance(text, list):
        return ""
    return "".join(map(_part, text))


def _part(part: object) -> str:
    if not isinstance(part, dict):
        return part if isinstance(part, str) else ""
    said = str(part.get("text", ""))
    if part.get("type") == "pre" and "\n" in said.strip():  # a block of code
        language, words = part.get("language") or "", said.strip("\n")
        return f"\n```{language}\n{words}\n```\n"
    return f"`{said}`" if part.get("type") == "code" and "`" not in said else said


def _seconds(message: dict) -> float | None:
    try:
        if "date_unixtime" in message:
            return float(message["date_unixtime"])
        return datetime.fromisoformat(str(message.get("date") or message.get("timestamp"))).timestamp()
    except (ValueError, TypeError, OverflowError, OSError):
        return None
