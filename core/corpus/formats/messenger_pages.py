"""Pages of messengers: the archive that VK sends to a person, and exports of Telegram and Discord as HTML."""

import re
from collections.abc import Iterator
from datetime import datetime
from html.parser import HTMLParser

from core.corpus import encodings
from core.corpus.formats import discord, people
from core.corpus.formats.people import Said
from core.corpus.sources import Bad, Format, Record, Source

VOID = ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr")
MONTHS = "янвфевмарапрмаяиюниюлавгсеноктноядек", "janfebmaraprmayjunjulaugsepoctnovdec"  # three letters each
VK_DATE = re.compile(r"(\d{1,2})\s+([а-яa-z]{3})[^\W\d_]*\.?\s+(\d{4})\D+(\d{1,2}):(\d{2})(?::(\d{2}))?", re.I)
OTHERS = ("attachment", "forwarded", "reply_to", "reactions")  # classes of what is not the speaker's own text
OWN = ("Вы", "You")  # who exported, in VK's pages


class _Page(HTMLParser):
    """The messages of a page; `open` has the name and the class of each element around what is read now."""

    def __init__(self, page: str):
        super().__init__(convert_charrefs=True)
        self.messages: list[dict] = []
        self.open: list[tuple] = []
        self.feed(page)
        self.close()

    def handle_endtag(self, tag):
        while self.open and any(tag == name for name, _ in self.open):
            if self.open.pop()[0] == tag:
                return


class _Messages(_Page):
    """The messages of a page: for each the words under each class of elements inside it."""

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        classes = tuple((values.get("class") or "").split())
        if tag == "br":
            self.handle_data("\n")
        if tag in VOID:
            return
        if "message" in classes and not any("message" in names for _, names in self.open):
            self.messages.append({"classes": classes, "id": values.get("data-id") or values.get("id") or ""})
        self.open.append((tag, classes))
        if self.messages and values.get("title") and "date" in classes:
            self.messages[-1]["date"] = values["title"]
        if self.messages and tag == "a" and "message__header" in {name for _, names in self.open for name in names}:
            self.messages[-1]["link"] = values.get("href") or ""

    def handle_data(self, data):
        at = next((at for at, (_, names) in enumerate(self.open) if "message" in names), None)
        if at is None:
            return
        inside = [name for _, names in self.open[at + 1 :] for name in names]
        if any(name.startswith(OTHERS) for name in inside):
            return
        kind = next((name for name in ("from_name", "text", "message__header") if name in inside), "rest")
        self.messages[-1][kind] = self.messages[-1].get(kind, "") + data


def _is_page(source: Source, head: str) -> bool:
    head = source.head(1 << 16).decode(source.encoding or "utf-8", errors="replace")
    if re.search(r"class=[\"']?chatlog\b", head):
        return True
    telegram = 'class="history"' in head and 'class="message ' in head
    return telegram or ("message__header" in head and re.search(r"class=[\"']message[\"']", head) is not None)


def read(source: Source) -> Iterator[Record | Bad]:
    page = encodings.read_text(source, source.encoding)
    if "chatlog__message" in page:
        yield from people.chats(list(_of_discord(page)), source.me)
        return
    messages = _Messages(page).messages
    if any("message__header" in message for message in messages):
        said = [_of_vk(message) for message in reversed(messages)]  # the newest stands first
        own = next((one.who for one in said if one.name in OWN), None)
        yield from people.chats(said, source.me, exporter=own)
    else:
        yield from people.chats(list(_of_telegram(messages)), source.me)


def _of_vk(message: dict) -> Said:
    header = " ".join(message.get("message__header", "").split())
    name = re.split(r",\s+(?=\d{1,2}\s)", header)[0].strip()
    text = message.get("rest", "").strip()
    at = None
    if date := VK_DATE.search(header):
        month = next((names.index(date[2].lower()) // 3 + 1 for names in MONTHS if date[2].lower() in names), 0)
        day, year, hour, minute, second = (int(date[part] or 0) for part in (1, 3, 4, 5, 6))
        at = _seconds(year, month, day, hour, minute, second)
    return Said(message.get("link") or name, name, text, at, "" if text else "media_dropped")


def _seconds(*parts: int) -> float | None:
    try:
        return datetime(*parts).timestamp()
    except (ValueError, OverflowError):
        return None


def _of_telegram(messages: list[dict]) -> Iterator[Said]:
    name = ""
    for message in messages:
        if "service" in message["classes"]:
            yield Said("", "", "", dropped="service_dropped")
            continue
        name = " ".join(message.get("from_name", "").split()) or name  # the next ones of a burst have none
        text = message.get("text", "").strip()
        found = re.match(r"(\d\d)\.(\d\d)\.(\d{4}) (\d\d):(\d\d):(\d\d)", message.get("date", ""))
        at = None
        if found:
            day, month, year, hour, minute, second = map(int, found.groups())
            at = _seconds(year, month, day, hour, minute, second)
        yield Said(name, name, text, at, "" if text else "media_dropped")


class _Chatlog(_Page):
    """The messages of a page of DiscordChatExporter; a group of them has its author once."""

    author = who = date = ""

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        classes = (values.get("class") or "").split()
        kind = next((name for name in classes if name.startswith("chatlog__")), "")
        if tag == "img" and kind == "chatlog__emoji":
            self.handle_data(values.get("alt") or "")
        if tag == "br":
            self.handle_data("\n")
        if tag in VOID:
            return
        self.open.append((tag, kind))
        if kind in ("chatlog__message", "chatlog__message-container"):
            if kind == "chatlog__message-container" or not self._inside("chatlog__message-container"):
                self.messages.append({"text": "", "system": False})
        elif kind.startswith("chatlog__author") and not self._inside("chatlog__reply", "chatlog__embed"):
            self.author, self.who = "", values.get("data-user-id") or values.get("title") or ""
        elif kind.startswith("chatlog__system-notification") and self.messages:
            self.messages[-1]["system"] = True
        if kind == "chatlog__timestamp" and values.get("title"):
            self.date = values["title"]

    def _inside(self, *kinds: str) -> bool:
        return any(name.startswith(kinds) for _, name in self.open[:-1])

    def handle_data(self, data):
        kinds = [name for _, name in self.open if name]
        if any(name.startswith(("chatlog__reply", "chatlog__embed", "chatlog__reactions")) for name in kinds):
            return
        if any(name in ("chatlog__author", "chatlog__author-name") for name in kinds):
            self.author += data
        elif self.messages and "chatlog__content" in kinds:
            self.messages[-1] |= {"name": self.author, "who": self.who, "date": self.date}
            self.messages[-1]["text"] += data


def _of_discord(page: str) -> Iterator[Said]:
    for message in _Chatlog(page).messages:
        name = " ".join(message.get("name", "").split())
        if message["system"]:
            yield Said("", "", "", dropped="service_dropped")
        else:
            at = discord.seconds(message.get("date", ""))
            yield discord.said(message.get("who") or name, name, message["text"], at, {})


MESSENGER_PAGE = Format("messenger_page", _is_page, read)
