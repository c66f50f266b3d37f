"""Exports of assistants on the web: ChatGPT, DeepSeek and Claude with their branches and voices, Grok, Gemini out of Takeout.

A conversation with branches is the one that the person saw last, walked from its end to the root.
"""

import re
from collections.abc import Iterator

import orjson

from core.corpus.formats import markup
from core.corpus.sources import Bad, Record

CITATION = re.compile(
    "(?: (?=\ue200[^\ue201]*\ue201[.,;:!?]))?\ue200[^\ue201]*\ue201|"
    r" ?【\d+(?::\d+)?†[^】\n]{0,200}】| ?:contentReference\[oaicite:\d+\](?:\{[^{}\n]*\})?"
)
ARTIFACT = re.compile(r"<antArtifact\b([^>]*)>\n?(.*?)\n?</antArtifact>", re.DOTALL)
THINKING = re.compile(r"<antThinking>.*?</antThinking>\s*", re.DOTALL)
HIDDEN = ("user_editable_context", "model_editable_context")  # what the person told of themselves once for all chats
CANVAS = "canmore."
FRAGMENTS = ("REQUEST", "THINK", "RESPONSE")
THOUGHTS = ("thoughts", "reasoning_recap")
GEMINI_CHAT = re.compile(r"gemini\.google\.com/(?:u/\d/)?app/[0-9a-f]{8,}")
LANGUAGES = {
    "text/html": "html",
    "image/svg+xml": "svg",
    "application/vnd.ant.react": "jsx",
    "application/vnd.ant.mermaid": "mermaid",
}
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
    leaf = leaf if str(leaf) in nodes else newest_leaf(dict(sorted(nodes.items(), key=_created)), "parent")
    branch = walked(nodes, leaf, "parent", said)
    aside = [node for node in nodes.values() if not any(node is other for other in branch)]
    notes += ["branches_dropped"] * sum(_chatgpt_turn(node.get("message"), []) is not None for node in aside)
    return titled(chat, [turn for node in branch if (turn := _chatgpt_turn(node.get("message"), notes))])


def _created(named: tuple[str, dict]) -> float:
    message = named[1].get("message")
    time = message.get("create_time") if isinstance(message, dict) else None
    return time if isinstance(time, (int, float)) else 0


def _chatgpt_turn(message: object, notes: list[str]) -> dict | None:
    if not isinstance(message, dict):
        return None
    if isinstance(message.get("fragments"), list):
        return _deepseek_turn(message, notes)
    author, content, meta = (
        message.get(key) if isinstance(message.get(key), dict) else {} for key in ("author", "content", "metadata")
    )
    role, kind = author.get("role"), content.get("content_type")
    if meta.get("is_visually_hidden_from_conversation") or kind in HIDDEN or role not in ("user", "assistant", "tool"):
        return None
    if kind in THOUGHTS:
        notes.append("thoughts_dropped")
        return None
    if role == "assistant" and (said := _canvas(str(message.get("recipient")), content)):
        return {"role": role, "content": said}
    if role == "tool" and str(author.get("name")).startswith(CANVAS):  # "done"
        return None
    if role == "tool" or kind == "code" or message.get("recipient", "all") != "all":
        notes.append("tools_dropped")
        return None
    parts = content.get("parts") if isinstance(content.get("parts"), list) else [content.get("text")]
    parts = [{"text": part} if isinstance(part, str) else part for part in parts]
    parts = [part for part in parts if isinstance(part, dict)]
    text = CITATION.sub("", "".join(part["text"] for part in parts if isinstance(part.get("text"), str)))
    kinds = [str(part.get("content_type")) for part in parts if not isinstance(part.get("text"), str)]
    unheard = bool(kinds) and not text.strip()  # a voice has a transcription beside its sound
    seen = any("image" in kind for kind in kinds) or (role == "user" and (bool(meta.get("attachments")) or unheard))
    if seen or unheard:
        notes.append("media_dropped")
    return _turn(role, text, seen)


def _canvas(recipient: str, content: dict) -> str:
    """A text that was written on the canvas, or written there anew as a whole; "" for changes of some of its words."""
    if not recipient.startswith(CANVAS):
        return ""
    parts = content.get("parts") if isinstance(content.get("parts"), list) else [content.get("text")]
    try:
        given = orjson.loads("".join(part for part in parts if isinstance(part, str)))
    except ValueError:
        return ""
    updates = given.get("updates") if isinstance(given, dict) else None
    if isinstance(updates, list) and len(updates) == 1 and isinstance(updates[0], dict):
        text, whole = updates[0].get("replacement"), updates[0].get("pattern") == ".*"
    else:
        text, whole = (given.get("content"), True) if isinstance(given, dict) else ("", False)
    if not whole or not isinstance(text, str) or not text.strip():
        return ""
    kind, _, language = str(given.get("type") or "document").partition("/")
    return _block("" if kind == "code" else "text/plain", language, text)


def _deepseek_turn(message: dict, notes: list[str]) -> dict | None:
    """A message of DeepSeek, whose export has the form of ChatGPT's with fragments for the words."""
    fragments = [one for one in message["fragments"] if isinstance(one, dict)]
    said = {kind: [str(one.get("content") or "") for one in fragments if one.get("type") == kind] for kind in FRAGMENTS}
    notes += ["thoughts_dropped"] * len(said["THINK"])
    role = "user" if said["REQUEST"] else "assistant"
    files = message.get("files") or []
    notes += ["media_dropped"] * len(files)
    return _turn(role, "\n\n".join(filter(None, said["REQUEST"] or said["RESPONSE"])), bool(files))


def _is_grok(chat: dict) -> bool:
    return isinstance(chat.get("conversation"), dict) and isinstance(chat.get("responses"), list)


def _grok(chat: dict, notes: list[str]) -> dict:
    said = [one.get("response") for one in chat["responses"] if isinstance(one, dict)]
    said = [one for one in said if isinstance(one, dict) and isinstance(one.get("message"), str)]
    roles = {"human": "user", "assistant": "assistant"}
    turns = [_turn(roles.get(str(one.get("sender")).lower(), "user"), one["message"], False) for one in said]
    return titled(chat["conversation"], [turn for turn in turns if turn])


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
    read = set()
    for attached in message.get("attachments") or []:  # a text that was pasted is a part of the question
        if isinstance(attached, dict) and isinstance(attached.get("extracted_content"), str):
            text = "\n\n".join(filter(None, (text, attached["extracted_content"])))
            read.add(attached.get("file_name"))
        else:
            notes.append("media_dropped")
    files = [
        file for file in message.get("files") or [] if not isinstance(file, dict) or file.get("file_name") not in read
    ]
    notes += ["media_dropped"] * len(files)
    role = "user" if message["sender"] == "human" else "assistant"
    return _turn(role, _without_tags(text, notes) if role == "assistant" else text, bool(files))


def _without_tags(text: str, notes: list[str]) -> str:
    """A reply with its artifacts as blocks of code or as texts, as older exports have them between tags."""
    if "<ant" not in text:
        return text

    def block(found: re.Match) -> str:
        kind, language = (re.search(rf'\b{name}="([^"]*)"', found[1]) for name in ("type", "language"))
        return _block(kind[1] if kind else "", language[1] if language else "", found[2])

    text, count = THINKING.subn("", text)
    notes += ["thoughts_dropped"] * count
    return ARTIFACT.sub(block, text)


def _claude_block(block: object, notes: list[str]) -> str:
    kind = block.get("type") if isinstance(block, dict) else None
    if kind in ("text", "voice_note") and isinstance(block.get("text"), str):
        return block["text"]
    given = block.get("input") if kind == "tool_use" and block.get("name") == "artifacts" else None
    if isinstance(given, dict) and isinstance(given.get("content"), str):  # a new artifact, or all of it once more
        return _block(str(given.get("type") or ""), str(given.get("language") or ""), given["content"])
    if kind == "thinking":
        notes.append("thoughts_dropped")
    elif kind in ("tool_use", "tool_result"):
        notes.append("tools_dropped")
    elif kind not in (None, "text", "flag", "token_budget"):
        notes.append("media_dropped")
    return ""


def _block(kind: str, language: str, said: str) -> str:
    """An artifact: a text as it is, code in a fence."""
    if kind in ("text/markdown", "text/plain"):
        return said
    return f"```{language or LANGUAGES.get(kind, '')}\n{said}\n```"


def is_gemini(value: object) -> bool:
    """Whether this is My Activity of Google Takeout with questions to Gemini among it."""
    items = value if isinstance(value, list) else []
    return any(isinstance(item, dict) and _of_gemini(item) and "time" in item for item in items[:200])


def _of_gemini(item: dict) -> bool:
    return re.search(r"\b(?:Gemini|Bard)\b", str(item.get("header"))) is not None


def gemini(value: list, me: str = "") -> Iterator[Record | Bad]:
    """The conversations, where items say by their address which one they belong to; else each question by itself."""
    talks: dict[str, list[dict]] = {}
    notes: dict[str, list[str]] = {}
    for number, item in enumerate(value, 1):
        said: list[str] = []
        turns = _gemini_turns(item, said) if isinstance(item, dict) and _of_gemini(item) else []
        if not turns:
            yield Bad(f"#{number}", "part_without_text" if said else "empty_chat", str(item)[:200])
            continue
        address = next((found[0] for found in map(GEMINI_CHAT.search, _addresses(item)) if found), f"#{number}")
        talks[address] = turns + talks.get(address, [])  # the newest stands first
        notes.setdefault(address, []).extend(said)
    for number, (address, turns) in enumerate(talks.items(), 1):
        yield Record(address if address[0] == "#" else f"#{number}", {"messages": turns}, tuple(notes[address]))


def _addresses(item: dict) -> Iterator[str]:
    yield str(item.get("titleUrl") or "")
    for detail in item.get("details") or []:
        yield str(detail.get("url") or "") if isinstance(detail, dict) else ""


def _gemini_turns(item: dict, notes: list[str]) -> list[dict]:
    """A question and its answer; none for what was done there besides, and for questions about files."""
    items = item.get("safeHtmlItem") if isinstance(item.get("safeHtmlItem"), list) else []
    pages = [part["html"] for part in items if isinstance(part, dict) and isinstance(part.get("html"), str)]
    subtitles = [one for one in item.get("subtitles") or [] if isinstance(one, dict)]
    asked = next((one.get("value") for one in subtitles if one.get("name") == "User"), None) or item.get("title")
    asked = PROMPTED.sub("", str(asked or ""), count=1).strip()
    if not pages or not asked:
        return []
    if item.get("attachedFiles") or item.get("imageFile"):
        notes.append("media_dropped")
        return []
    reply = "\n\n".join(markup.text_of(page)[0] for page in pages)
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": reply}] if reply else []


EXPORTS = ((_is_chatgpt, _chatgpt), (_is_claude, _claude), (_is_grok, _grok))
