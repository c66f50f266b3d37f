"""Exports of assistants on the web: ChatGPT and Claude with their branches and voices, Gemini out of Google Takeout.

A conversation with branches is the one that the person saw last, walked from its end to the root.
"""

import re

from core.corpus.formats import markup

CITATION = re.compile("(?: (?=\ue200[^\ue201]*\ue201[.,;:!?]))?\ue200[^\ue201]*\ue201")
HIDDEN = ("user_editable_context", "model_editable_context")  # what the person told of themselves once for all chats
THOUGHTS = ("thoughts", "reasoning_recap")
GEMINI = ("Gemini Apps", "Gemini", "Bard", "Приложения Gemini", "Приложения с Gemini")  # in Google Takeout
PROMPTED = re.compile(
    r"(?:Prompted|Asked|Said|Запрос|Вы (?:спросили|ввели запрос|отправили запрос)|Отправлен запрос)[:\s]\s*",
)


def walked(nodes: dict, leaf: object, parent: str, notes: list[str]) -> list:
    """The nodes from the root to a leaf; of those that stand aside the number is noted."""
    branch, seen, at = [], set(), str(leaf)
    while at in nodes and at not in seen:
        seen.add(at)
        branch.append(nodes[at])
        at = str(nodes[at].get(parent))
    notes += ["branches_dropped"] * (len(nodes) - len(seen))
    return branch[::-1]


def newest_leaf(nodes: dict, parent: str) -> object:
    """The last node that is no other's parent."""
    parents = {str(node.get(parent)) for node in nodes.values() if isinstance(node, dict)}
    leaves = [key for key in nodes if key not in parents]
    return leaves[-1] if leaves else None


def titled(chat: dict, turns: list[dict], key: str = "title") -> dict:
    """A conversation with its title, if it has one."""
    return {"messages": turns} | ({"title": chat[key]} if isinstance(chat.get(key), str) and chat[key] else {})


def _is_chatgpt(chat: dict) -> bool:
    return isinstance(chat.get("mapping"), dict)


def _chatgpt(chat: dict, notes: list[str]) -> dict:
    nodes = {key: node for key, node in chat["mapping"].items() if isinstance(node, dict)}
    leaf = chat.get("current_node")
    said: list[str] = []
    branch = walked(nodes, leaf if str(leaf) in nodes else newest_leaf(nodes, "parent"), "parent", said)
    aside = [node for node in nodes.values() if not any(node is other for other in branch)]
    notes += ["branches_dropped"] * sum(_chatgpt_turn(node.get("message"), []) is not None for node in aside)
    return titled(chat, [turn for node in branch if (turn := _chatgpt_turn(node.get("message"), notes))])


def _chatgpt_turn(message: object, notes: list[str]) -> dict | None:
    if not isinstance(message, dict):
        return None
    author, content, meta = (
        message.get(key) if isinstance(message.get(key), dict) else {} for key in ("author", "content", "metadata")
    )
    role, kind = author.get("role"), content.get("content_type")
    if meta.get("is_visually_hidden_from_conversation") or kind in HIDDEN or role not in ("user", "assistant", "tool"):
        return None
    if kind in THOUGHTS:
        notes.append("thoughts_dropped")
        return None
    if role == "tool" or kind == "code" or message.get("recipient", "all") != "all":
        notes.append("tools_dropped")
        return None
    parts = content.get("parts") if isinstance(content.get("parts"), list) else [content.get("text")]
    parts = [{"text": part} if isinstance(part, str) else part for part in parts]
    parts = [part for part in parts if isinstance(part, dict)]
    text = CITATION.sub("", "".join(part["text"] for part in parts if isinstance(part.get("text"), str)))
    kinds = [str(part.get("content_type")) for part in parts if not isinstance(part.get("text"), str)]
    seen = any("image" in kind for kind in kinds) or (role == "user" and bool(meta.get("attachments")))
    if seen or (kinds and not text.strip()):  # a voice has a transcription beside its sound
        notes.append("media_dropped")
    return _turn(role, text, seen)


def _turn(role: str, text: str, seen: bool) -> dict | None:
    """A turn; a question about pictures is marked, for its reply cannot be learned without them."""
    if role == "user" and seen:
        return {"role": role, "content": text, "seen": True}
    return {"role": role, "content": text} if text.strip() else None


def _is_claude(chat: dict) -> bool:
    return isinstance(chat.get("chat_messages"), list)


def _claude(chat: dict, notes: list[str]) -> dict:
    messages = [message for message in chat["chat_messages"] if isinstance(message, dict)]
    nodes = {message["uuid"]: message for message in messages if isinstance(message.get("uuid"), str)}
    if len(nodes) == len(messages) and any(str(message.get("parent_message_uuid")) in nodes for message in messages):
        leaf = chat.get("current_leaf_message_uuid")
        by_time = dict(sorted(nodes.items(), key=lambda item: str(item[1].get("created_at") or "")))
        leaf = leaf if str(leaf) in nodes else newest_leaf(by_time, "parent_message_uuid")
        messages = walked(nodes, leaf, "parent_message_uuid", notes)
    return titled(chat, [turn for message in messages if (turn := _claude_turn(message, notes))], "name")


def _claude_turn(message: dict, notes: list[str]) -> dict | None:
    if message.get("sender") not in ("human", "assistant"):
        return None
    text = "\n\n".join(filter(None, (_claude_block(block, notes) for block in message.get("content") or [])))
    if not text and isinstance(message.get("text"), str):
        text = message["text"]
    for attached in message.get("attachments") or []:  # a text that was pasted is a part of the question
        if isinstance(attached, dict) and isinstance(attached.get("extracted_content"), str):
            text = "\n\n".join(filter(None, (text, attached["extracted_content"])))
        else:
            notes.append("media_dropped")
    notes += ["media_dropped"] * len(message.get("files") or [])
    role = "user" if message["sender"] == "human" else "assistant"
    return _turn(role, text, bool(message.get("files")))


def _claude_block(block: object, notes: list[str]) -> str:
    kind = block.get("type") if isinstance(block, dict) else None
    if kind in ("text", "voice_note") and isinstance(block.get("text"), str):
        return block["text"]
    if kind == "thinking":
        notes.append("thoughts_dropped")
    elif kind in ("tool_use", "tool_result"):
        notes.append("tools_dropped")
    elif kind not in (None, "text", "flag"):
        notes.append("media_dropped")
    return ""


def _is_gemini(chat: dict) -> bool:
    return chat.get("header") in GEMINI and "time" in chat


def _gemini(chat: dict, notes: list[str]) -> dict | None:
    """A question and its answer; Takeout does not tell which questions belong together."""
    items = chat.get("safeHtmlItem") if isinstance(chat.get("safeHtmlItem"), list) else []
    pages = [item["html"] for item in items if isinstance(item, dict) and isinstance(item.get("html"), str)]
    asked = PROMPTED.sub("", str(chat.get("title") or ""), count=1).strip()
    if not pages or not asked:
        return None
    notes += ["media_dropped"] * len(chat.get("attachedFiles") or [])
    reply = "\n\n".join(markup.text_of(page)[0] for page in pages)
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": reply}]}


EXPORTS = ((_is_chatgpt, _chatgpt), (_is_claude, _claude), (_is_gemini, _gemini))
