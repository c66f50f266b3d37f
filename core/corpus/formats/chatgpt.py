"""ChatGPT's conversations.json: the branch that the person saw last, walked from its end to the root."""

import re
from collections.abc import Iterator

from core.corpus.sources import Bad, Record

CITATION = re.compile("\ue200[^\ue201]*\ue201")


def is_export(value: object) -> bool:
    rows = value if isinstance(value, list) else [value]
    return any(isinstance(row, dict) and isinstance(row.get("mapping"), dict) for row in rows[:20])


def chats(value: object) -> Iterator[Record | Bad]:
    for number, chat in enumerate(value if isinstance(value, list) else [value], 1):
        if not isinstance(chat, dict) or not isinstance(chat.get("mapping"), dict):
            yield Bad(f"#{number}", "unknown_fields", str(chat)[:200])
            continue
        messages = _messages(chat)
        title = {"title": chat["title"]} if isinstance(chat.get("title"), str) else {}
        yield Record(f"#{number}", {"messages": messages} | title)


def _messages(chat: dict) -> list[dict]:
    nodes, turns, seen = chat["mapping"], [], set()
    at = chat.get("current_node") or _newest_leaf(nodes)
    while isinstance(at, str) and at in nodes and at not in seen:
        seen.add(at)
        node = nodes[at] if isinstance(nodes[at], dict) else {}
        if turn := _turn(node.get("message")):
            turns.append(turn)
        at = node.get("parent")
    return turns[::-1]


def _newest_leaf(nodes: dict) -> str | None:
    parents = {node.get("parent") for node in nodes.values() if isinstance(node, dict)}
    leaves = [key for key in nodes if key not in parents]
    return leaves[-1] if leaves else None


def _turn(message: object) -> dict | None:
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
