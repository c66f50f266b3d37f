"""Exports of messengers as JSON: Telegram's result.json, old and new, chats of Facebook and Instagram, days of Slack."""

import html
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
    name, text = (
        str(message.get("from") or who),
        re.sub(r"\n{2,}(?=```)", "\n", _text(message.get("text") or message.get("text_entities"))).strip("\n"),
    )
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


def is_meta(value: object) -> bool:
    messages = value.get("messages") if isinstance(value, dict) and "participants" in value else None
    return isinstance(messages, list) and any(isinstance(one, dict) and "sender_name" in one for one in messages[:50])


def meta(value: dict, learn_as: str = "") -> Iterator[Record | Bad]:
    """The conversations of one chat; each message has its time, and the newest stands first."""
    messages = [one for one in value["messages"] if isinstance(one, dict)]
    messages.sort(key=lambda one: _number(one.get("timestamp_ms")))
    yield from people.chats(map(_of_meta, messages), learn_as)


def _of_meta(message: dict) -> Said:
    name, text = (_from_latin(str(message.get(key) or "")) for key in ("sender_name", "content"))
    service = message.get("is_unsent") or message.get("type") in ("Subscribe", "Unsubscribe", "Call")
    dropped = "service_dropped" if service else "" if text.strip() else "media_dropped"
    return Said(name, name, text.strip(), _number(message.get("timestamp_ms")) / 1000, dropped)


def _from_latin(text: str) -> str:
    """UTF-8 that the export wrote down byte by byte."""
    try:
        return text.encode("latin-1").decode()
    except UnicodeError:
        return text


def is_slack(value: object) -> bool:
    messages = value[:50] if isinstance(value, list) else []
    return any(
        isinstance(one, dict) and one.get("type") == "message" and "ts" in one and "user" in one for one in messages
    )


def slack(value: list, learn_as: str = "") -> Iterator[Record | Bad]:
    """The conversations of a day in a channel."""
    messages = [one for one in value if isinstance(one, dict)]
    names = {str(one.get("user")): _slack_name(one) for one in sorted(messages, key=lambda one: "user_profile" in one)}
    yield from people.chats((_of_slack(one, names) for one in messages), learn_as)


def _slack_name(message: dict) -> str:
    profile = message.get("user_profile") if isinstance(message.get("user_profile"), dict) else {}
    return str(profile.get("display_name") or profile.get("real_name") or message.get("user") or "")


def _of_slack(message: dict, names: dict[str, str]) -> Said:
    who = str(message.get("user") or message.get("bot_id") or "")
    text = re.sub(
        r"<@(\w+)(?:\|[^<>]*)?>", lambda found: "@" + names.get(found[1], found[1]), str(message.get("text") or "")
    )
    text = html.unescape(re.sub(r"<((?:https?|mailto):[^<>|]*)(?:\|([^<>]*))?>", lambda link: link[2] or link[1], text))
    talk = message.get("type") == "message" and message.get("subtype") in (
        None,
        "thread_broadcast",
        "file_share",
        "me_message",
    )
    dropped = "service_dropped" if not talk else "" if text.strip() else "media_dropped"
    return Said(who, names.get(who) or who, text.strip(), _number(message.get("ts")), dropped)


def _number(value: object) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0
