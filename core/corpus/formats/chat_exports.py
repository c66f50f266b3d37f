"""Exports of chats: ChatGPT's and Claude's conversations.json, Telegram's result.json.

Of ChatGPT it is the branch that the person saw last, walked from its end to the root. In Telegram bursts of messages
become turns, and a long silence ends a conversation; the assistant is the speaker whom the person names; else whoever
exported, where the export tells that, so that a model learns to write like them; else whoever in a chat is not its
namesake.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime

from core.corpus.sources import Bad, Record

CITATION = re.compile("\ue200[^\ue201]*\ue201")
SILENCE = 6 * 3600  # seconds without a message that end a conversation of Telegram


def of(value: object) -> Callable[[object, str], Iterator[Record | Bad]] | None:
    """The reader of an export, by its parsed JSON and the name of the assistant among the speakers; else None."""
    chats = value if isinstance(value, list) else [value]
    for key, kind, messages, title in (
        ("mapping", dict, _of_chatgpt, "title"),
        ("chat_messages", list, _of_claude, "name"),
    ):
        if any(isinstance(chat, dict) and isinstance(chat.get(key), kind) for chat in chats[:20]):
            return lambda value, me: _assistant_chats(chats, key, kind, messages, title)
    return _telegram_chats if _is_telegram(value) else None


def _assistant_chats(chats: list, key: str, kind: type, messages: Callable, title: str) -> Iterator[Record | Bad]:
    for number, chat in enumerate(chats, 1):
        if not isinstance(chat, dict) or not isinstance(chat.get(key), kind):
            yield Bad(f"#{number}", "unknown_fields", str(chat)[:200])
            continue
        named = {"title": chat[title]} if isinstance(chat.get(title), str) else {}
        yield Record(f"#{number}", {"messages": messages(chat)} | named)


def _of_chatgpt(chat: dict) -> list[dict]:
    nodes, turns, seen = chat["mapping"], [], set()
    at = chat.get("current_node") or _newest_leaf(nodes)
    while isinstance(at, str) and at in nodes and at not in seen:
        seen.add(at)
        node = nodes[at] if isinstance(nodes[at], dict) else {}
        if turn := _chatgpt_turn(node.get("message")):
            turns.append(turn)
        at = node.get("parent")
    return turns[::-1]


def _newest_leaf(nodes: dict) -> str | None:
    parents = {node.get("parent") for node in nodes.values() if isinstance(node, dict)}
    leaves = [key for key in nodes if key not in parents]
    return leaves[-1] if leaves else None


def _chatgpt_turn(message: object) -> dict | None:
    if not isinstance(message, dict):
        return None
    author, content, meta = (message.get(key) or {} for key in ("author", "content", "metadata"))
    role = author.get("role") if isinstance(author, dict) else None
    if role not in ("user", "assistant") or message.get("recipient", "all") != "all":
        return None
    if isinstance(meta, dict) and meta.get("is_visually_hidden_from_conversation"):
        return None
    if not isinstance(content, dict) or content.get("content_type") in ("user_editable_context", "code", "thoughts"):
        return None
    parts = content.get("parts") if isinstance(content.get("parts"), list) else [content.get("text")]
    text = "".join(part for part in parts if isinstance(part, str))
    text = CITATION.sub("", text)
    return {"role": role, "content": text} if text.strip() else None


def _of_claude(chat: dict) -> list[dict]:
    return [turn for message in chat["chat_messages"] if (turn := _claude_turn(message))]


def _claude_turn(message: object) -> dict | None:
    if not isinstance(message, dict) or message.get("sender") not in ("human", "assistant"):
        return None
    blocks = message.get("content")
    text = ""
    if isinstance(blocks, list):
        text = "\n\n".join(
            block["text"]
            for block in blocks
            if isinstance(block, dict) and block.get("type") == "text" and isinstance(block.get("text"), str)
        )
    if not text and isinstance(message.get("text"), str):
        text = message["text"]
    role = "user" if message["sender"] == "human" else "assistant"
    return {"role": role, "content": text} if text.strip() else None


def _is_telegram(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    if isinstance(value.get("chats"), dict):
        return isinstance(value["chats"].get("list"), list)
    messages = value.get("messages")
    return isinstance(messages, list) and any(
        isinstance(message, dict) and message.get("type") in ("message", "service") for message in messages[:50]
    )


def _telegram_chats(value: dict, name: str = "") -> Iterator[Record | Bad]:
    """Each conversation; `name` is the assistant's among the speakers."""
    chats = value["chats"]["list"] if "chats" in value else [value]
    about = value.get("personal_information") or {}
    me = f"user{about['user_id']}" if isinstance(about, dict) and "user_id" in about else None
    number = 0
    for chat in chats:
        if not isinstance(chat, dict) or not isinstance(chat.get("messages"), list):
            number += 1
            yield Bad(f"#{number}", "unknown_fields", str(chat)[:200])
            continue
        for session in _sessions(chat["messages"]):
            number += 1
            yield Record(f"#{number}", {"messages": _turns(session, me or _other(chat), name)})


def _other(chat: dict) -> str | None:
    """Who answers in a chat of which the export does not say whose it is: not its namesake."""
    named = {
        message.get("from_id")
        for message in chat["messages"]
        if isinstance(message, dict) and message.get("from") == chat.get("name")
    }
    count = Counter(
        message.get("from_id") for message in chat["messages"] if isinstance(message, dict) and message.get("from_id")
    )
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
        speaker = str(message.get("from") or "")
        role = "assistant" if (speaker == name if name else message.get("from_id") == me) else "user"
        text = _text(message.get("text"))
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += "\n" + text
        else:
            turns.append({"role": role, "content": text, "name": speaker})
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
