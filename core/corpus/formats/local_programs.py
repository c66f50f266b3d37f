"""Chats of programs that run models at home: Open WebUI, LM Studio, LibreChat, text-generation-webui, KoboldAI, Kiln.

Of branches and regenerated replies it is those that the person saw last.
"""

import re

from core.corpus import content
from core.corpus.formats.assistant_exports import newest_leaf, titled, walked

DETAILS = re.compile(r'<details\s+type="(\w+)"[^>]*>(.*?)</details>\s*', re.DOTALL)
SUMMARY = re.compile(r"<summary>.*?</summary>\s*", re.DOTALL)
VISIBLE = "<|BEGIN-VISIBLE-CHAT|>"  # stands where text-generation-webui has a greeting and no question
ROLES = ("user", "assistant", "system")
KOBOLD_CHAT, KOBOLD_INSTRUCT = 3, 4  # opmode: 1 a story, 2 an adventure, 3 a chat, 4 instructions


def _turn(role: object, said: str, seen: bool = False) -> list[dict]:
    """A turn; a question with files is marked, for its reply cannot be learned without them."""
    if role == "user" and seen:
        return [{"role": "user", "content": said, "seen": True}]
    return [{"role": role, "content": said}] if role in ROLES and said.strip() else []


def _text(value: object, notes: list[str]) -> str:
    """The words of parts; of pictures and tools the number is noted, for the rest of the talk goes on without them."""
    parts = value if isinstance(value, list) else [value]
    said, thoughts = [], []
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else ""
        if kind in content.THOUGHTS:
            thoughts.append(content.text_of({"text": part.get(kind) or part.get("text") or ""}, notes))
            continue
        try:
            said.append(content.text_of(part, notes))
        except content.Unfit as unfit:
            notes.append("tools_dropped" if unfit.reason == "tool_calls" else "media_dropped")
    return content.with_thoughts("".join(said), "\n\n".join(filter(None, thoughts)), notes)


def _with_files(role: object, value: object, files: object, notes: list[str]) -> list[dict]:
    """A turn of parts that may have files among them or beside them."""
    before = notes.count("media_dropped")
    notes += ["media_dropped"] * len(files if isinstance(files, list) else [])
    said = _without_details(_text(value, notes), notes)
    return _turn(role, said, notes.count("media_dropped") > before)


def _is_open_webui(chat: dict) -> bool:
    inner = chat.get("chat") if isinstance(chat.get("chat"), dict) else chat
    history = inner.get("history")
    return isinstance(history, dict) and isinstance(history.get("messages"), dict)


def _open_webui(chat: dict, notes: list[str]) -> dict:
    inner = chat["chat"] if isinstance(chat.get("chat"), dict) else chat
    history = inner["history"]
    nodes = {key: node for key, node in history["messages"].items() if isinstance(node, dict)}
    leaf = history.get("currentId")
    branch = walked(nodes, leaf if str(leaf) in nodes else newest_leaf(nodes, "parentId"), "parentId", notes)
    params = inner.get("params") if isinstance(inner.get("params"), dict) else {}
    turns = _turn("system", str(inner.get("system") or params.get("system") or ""))
    for node in branch:
        turns += _with_files(node.get("role"), node.get("content"), node.get("files"), notes)
    return titled(chat if chat.get("title") else inner, turns)


def _without_details(text: str, notes: list[str]) -> str:
    """Thoughts, calls of tools and runs of code stand in <details> before or between the words."""
    thoughts: list[str] = []

    def taken(match: re.Match) -> str:
        if match[1] == "reasoning":
            words = SUMMARY.sub("", match[2]).strip()
            thoughts.append(re.sub(r"^(?:>|&gt;) ?", "", words, flags=re.MULTILINE))
        else:
            notes.append("tools_dropped")
        return ""

    said = DETAILS.sub(taken, text)
    return content.with_thoughts(said, "\n\n".join(thoughts), notes)


def _is_lm_studio(chat: dict) -> bool:
    messages = chat.get("messages")
    return isinstance(messages, list) and any(
        isinstance(message, dict) and isinstance(message.get("versions"), list) for message in messages[:5]
    )


def _lm_studio(chat: dict, notes: list[str]) -> dict:
    turns = _turn("system", str(chat.get("systemPrompt") or _lm_studio_prompt(chat)))
    for message in chat["messages"]:
        versions = message.get("versions") if isinstance(message, dict) else None
        at = message.get("currentlySelected") if versions else None
        if not versions:
            continue
        at = at if isinstance(at, int) and -len(versions) <= at < len(versions) else -1
        notes += ["branches_dropped"] * (len(versions) - 1)
        chosen = versions[at] if isinstance(versions[at], dict) else {}
        if isinstance(chosen.get("steps"), list):
            turns += _turn(chosen.get("role"), _lm_studio_text(chosen["steps"], notes))
        else:
            turns += _with_files(chosen.get("role"), chosen.get("content"), None, notes)
    return titled(chat, turns, "name")


def _lm_studio_prompt(chat: dict) -> str:
    """The system prompt where newer versions have it: among the settings of the chat."""
    settings = chat.get("perChatPredictionConfig")
    fields = settings.get("fields") if isinstance(settings, dict) else None
    pairs = [field for field in fields or [] if isinstance(field, dict)]
    return next((pair.get("value") or "" for pair in pairs if pair.get("key") == "llm.prediction.systemPrompt"), "")


def _lm_studio_text(steps: list, notes: list[str]) -> str:
    thoughts, said = [], []
    for step in steps:
        blocks = _text(step.get("content"), notes) if isinstance(step, dict) else ""
        style = step.get("style") if isinstance(step, dict) else None
        thinks = isinstance(style, dict) and style.get("type") == "thinking"
        (thoughts if thinks else said).append(blocks)
    return content.with_thoughts("".join(said), "\n\n".join(thoughts), notes)


def _is_librechat(chat: dict) -> bool:
    messages = chat.get("messages")
    known = "conversationId" in chat and isinstance(messages, list)
    return known and any(isinstance(message, dict) and "isCreatedByUser" in message for message in messages[:5])


def _librechat(chat: dict, notes: list[str]) -> dict:
    nodes: dict = {}
    waiting = list(reversed(chat["messages"]))
    while waiting:  # a recursive export keeps the replies of a message as its children
        message = waiting.pop()
        if isinstance(message, dict):
            nodes[str(message.get("messageId") or len(nodes))] = message
            waiting += reversed(message.get("children") or [])
    branch = list(nodes.values())
    if any(str(node.get("parentMessageId")) in nodes for node in branch):
        branch = walked(nodes, newest_leaf(nodes, "parentMessageId"), "parentMessageId", notes)
    options = chat.get("options") if isinstance(chat.get("options"), dict) else {}
    turns = _turn("system", str(options.get("promptPrefix") or options.get("system") or ""))
    for node in branch:
        if node.get("error") is True:  # a sentence of the program, not of the model
            notes.append("service_dropped")
            continue
        role = "user" if node.get("isCreatedByUser") else "assistant"
        turns += _with_files(role, node.get("content") or node.get("text"), node.get("files"), notes)
    return titled(chat, turns)


def _is_textgen(chat: dict) -> bool:
    names = {"internal": "visible", "data": "data_visible"}  # the older ones have data
    return any(isinstance(chat.get(name), list) and isinstance(chat.get(other), list) for name, other in names.items())


def _textgen(chat: dict, notes: list[str]) -> dict | None:
    turns: list[dict] = []
    for pair in chat.get("internal") or chat.get("data") or []:
        if isinstance(pair, list) and len(pair) >= 2 and all(isinstance(said, str) for said in pair[:2]):
            turns += _turn("user", "" if pair[0] == VISIBLE else pair[0]) + _turn("assistant", pair[1])
    return {"messages": turns} if turns else None


def _is_kobold(chat: dict) -> bool:
    return isinstance(chat.get("actions"), (list, dict)) and "prompt" in chat and ("gamestarted" in chat)


def _kobold_action(action: object) -> str:
    """The words of an action; KoboldAI Client keeps the replies that were not chosen beside it."""
    return (
        action
        if isinstance(action, str)
        else str(action.get("Selected Text") or "")
        if isinstance(action, dict)
        else ""
    )


def _kobold(chat: dict, notes: list[str]) -> dict | None:
    """A story as a text; a chat and instructions of KoboldAI Lite as turns."""
    actions = chat["actions"]
    actions = actions["actions"] if isinstance(actions, dict) and isinstance(actions.get("actions"), dict) else actions
    actions = actions.values() if isinstance(actions, dict) else actions
    story = "".join([str(chat.get("prompt") or ""), *map(_kobold_action, actions)])
    settings = chat.get("savedsettings") or {}
    memory = _turn("system", str(chat.get("memory") or "").strip())
    if "{{[OUTPUT]}}" in story:
        return {"messages": memory + _kobold_turns(story, {"{{[INPUT]}}": "user", "{{[OUTPUT]}}": "assistant"})}
    settings = settings if isinstance(settings, dict) else {}
    tags = [str(settings.get(f"instruct_{name}tag") or "").replace("\\n", "\n").strip() for name in ("start", "end")]
    if settings.get("opmode") == KOBOLD_INSTRUCT and all(tags) and all(tag in story for tag in tags):
        return {"messages": memory + _kobold_turns(story, dict(zip(tags, ROLES, strict=False)))}
    if settings.get("opmode") == KOBOLD_CHAT:
        names = {str(settings.get("chatname") or "User"): "user"}
        opponents = str(settings.get("chatopponent") or "KoboldAI").split("||$||")
        names |= {name: "assistant" for name in opponents if name}
        return {"messages": memory + _kobold_turns(story, {f"{name}:": role for name, role in names.items()})}
    return {"text": story.strip()} if story.strip() else None


def _kobold_turns(story: str, marks: dict[str, str]) -> list[dict]:
    start = "" if "{{[INPUT]}}" in marks else "^"
    pattern = re.compile(f"{start}({'|'.join(map(re.escape, marks))})", re.MULTILINE)
    before, *pieces = pattern.split(story)
    turns = _turn("system", before.strip())
    for mark, said in zip(pieces[::2], pieces[1::2], strict=True):
        turns += _turn(marks[mark], said.strip())
    return turns


def _is_kiln(chat: dict) -> bool:
    return chat.get("model_type") == "task_run" and isinstance(chat.get("output"), dict)


def _kiln(chat: dict, notes: list[str]) -> dict | None:
    """A run of a Kiln task: its repaired output where a person repaired it."""
    repaired = chat.get("repaired_output") if isinstance(chat.get("repaired_output"), dict) else chat["output"]
    asked, reply = chat.get("input"), repaired.get("output")
    if not isinstance(asked, str) or not isinstance(reply, str) or not reply.strip():
        return None
    between = chat.get("intermediate_outputs") if isinstance(chat.get("intermediate_outputs"), dict) else {}
    thoughts = between.get("reasoning") or between.get("chain_of_thought")
    return {"messages": [*_turn("user", asked), *_turn("assistant", content.with_thoughts(reply, thoughts, notes))]}


EXPORTS = (
    (_is_open_webui, _open_webui), (_is_lm_studio, _lm_studio), (_is_librechat, _librechat),
    (_is_textgen, _textgen), (_is_kobold, _kobold), (_is_kiln, _kiln),
)  # fmt: skip
