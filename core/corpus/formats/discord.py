"""Discord's chats as DiscordChatExporter writes them: JSON, CSV and plain text; its pages are in messenger_pages.py."""

import re
from collections.abc import Iterable, Iterator
from datetime import datetime

from core.corpus import encodings
from core.corpus.formats import people
from core.corpus.formats.people import Said
from core.corpus.sources import Bad, Format, Record, Source

COLUMNS = {"AuthorID", "Author", "Date", "Content"}
TALKS = ("Default", "Reply", "ThreadStarterMessage", 0, 19, 21)  # kinds of messages that hold a person's words
EMOJI = re.compile(r"<a?(:\w+:)\d+>")  # of a server
MENTION = re.compile(r"<([@#])[!&]?(\d+)>")  # of a person, a role or a channel
COMMAND = re.compile(r"<(/[^<>:\n]+):\d+>")
HEADER = re.compile(r"\[(\d[^\]\n]{5,40})\] (\S[^\n]{0,60})")
PARTS = re.compile(r"^\{(?:Attachments|Embed|Stickers|Reactions)\}$")
RULE = re.compile(r"={20,}")
DATES = ("%m/%d/%Y %I:%M %p", "%d-%b-%y %I:%M %p", "%d.%m.%Y %H:%M", "%d/%m/%Y %H:%M", "%Y-%m-%d %H:%M")


def is_json(value: object) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("messages"), list):
        return False
    return isinstance(value.get("channel"), dict) and ("guild" in value or "messageCount" in value)


def of_json(value: dict, learn_as: str = "") -> Iterator[Record | Bad]:
    """The conversations of a channel; a person is known by the nickname or the user name."""
    messages = [message for message in value["messages"] if isinstance(message, dict)]
    names = _names([value["channel"], *messages])
    yield from people.chats([_of_message(message, learn_as, names) for message in messages], learn_as)


def _names(value: object) -> dict[str, str]:
    """The name behind each number of a person, a role or a channel that an export describes."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    found = {number: name for one in inside if isinstance(one, (dict, list)) for number, name in _names(one).items()}
    if isinstance(value, dict) and isinstance(value.get("id"), (str, int)) and isinstance(value.get("name"), str):
        found[str(value["id"])] = str(value.get("nickname") or value["name"])
    return found


def _of_message(message: dict, learn_as: str, names: dict[str, str]) -> Said:
    author = message.get("author") if isinstance(message.get("author"), dict) else {}
    user = str(author.get("name") or "")
    name = user if learn_as and user == learn_as else str(author.get("nickname") or user)
    who = str(author.get("id") or name)
    if message.get("type", "Default") not in TALKS:
        return Said(who, name, "", dropped="service_dropped")
    at = seconds(str(message.get("timestamp")))
    return said(who, name, str(message.get("content") or ""), at, names)._replace(bot=author.get("isBot") is True)


def said(who: str, name: str, text: str, at: float | None, names: dict[str, str]) -> Said:
    """A message, with the names of those that it mentions; one without words was a picture, a sticker or the like."""
    text = COMMAND.sub(r"\1", EMOJI.sub(r"\1", text)).strip()
    text = MENTION.sub(lambda found: found[1] + names.get(found[2], found[2]), text)
    return Said(who, name, text, at, "" if text else "media_dropped")


def of_rows(rows: Iterable[Record | Bad], learn_as: str) -> Iterator[Record | Bad]:
    """The conversations in a table with COLUMNS."""
    messages: list[tuple[str, str, str, float | None]] = []
    for row in rows:
        if isinstance(row, Bad):
            yield row
            continue
        cells = {name: row.value.get(name) or "" for name in COLUMNS}
        name = re.sub(r"#\d{4}$", "", cells["Author"])
        messages.append((cells["AuthorID"], name, cells["Content"], seconds(cells["Date"])))
    names = {who: name for who, name, *_ in messages}
    yield from people.chats([said(*message, names) for message in messages], learn_as)


def _is_text(source: Source, head: str) -> bool:
    lines = head.split("\n")
    return RULE.fullmatch(lines[0].strip()) is not None and any(line.startswith("Channel: ") for line in lines[:5])


def read_text(source: Source) -> Iterator[Record | Bad]:
    """The conversations of a plain text; attachments and reactions stand in it under a mark of their own."""
    messages: list[list] = []  # [date, name, lines]
    rules, aside = 0, False
    for line in encodings.lines(source, source.encoding):
        if line.problem:
            yield Bad(str(line.number), line.problem, line.text[:200])
            continue
        text = line.text.rstrip("\r")
        rules += RULE.fullmatch(text) is not None
        if rules != 2 or RULE.fullmatch(text):  # the head stands between the first two, the end after the third
            continue
        if match := HEADER.fullmatch(text):
            messages.append([match[1], match[2].removesuffix(" (pinned)"), []])
            aside = False
        elif messages:
            aside |= PARTS.match(text) is not None
            if not aside:
                messages[-1][2].append(text)
    named = [(date, re.sub(r"#\d{4}$", "", name), "\n".join(words)) for date, name, words in messages]
    yield from people.chats([said(name, name, words, seconds(date), {}) for date, name, words in named], source.me)


def seconds(date: str) -> float | None:
    """The time of a message, None where the date is written in a way that is not known."""
    try:
        return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", date)).timestamp()
    except (ValueError, OverflowError):
        pass
    for form in DATES:
        try:
            return datetime.strptime(date, form).timestamp()
        except (ValueError, OverflowError):
            continue
    return None


DISCORD = Format("discord", _is_text, read_text)
