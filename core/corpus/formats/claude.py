"""Claude's conversations.json: flat lists of messages whose text stands in blocks."""

from collections.abc import Iterator

from core.corpus.sources import Bad, Record


def is_export(value: object) -> bool:
    rows = value if isinstance(value, list) else [value]
    return any(isinstance(row, dict) and isinstance(row.get("chat_messages"), list) for row in rows[:20])


def chats(value: object) -> Iterator[Record | Bad]:
    for number, chat in enumerate(value if isinstance(value, list) else [value], 1):
        if not isinstance(chat, dict) or not isinstance(chat.get("chat_messages"), list):
            yield Bad(f"#{number}", "unknown_fields", str(chat)[:200])
            continue
        turns = [turn for message in chat["chat_messages"] if (turn := _turn(message))]
        title = {"title": chat["name"]} if isinstance(chat.get("name"), str) else {}
        yield Record(f"#{number}", {"messages": turns} | title)


def _turn(message: object) -> dict | None:
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
