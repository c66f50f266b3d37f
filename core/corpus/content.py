"""The words of a message, whatever shape it has: a text, parts, thoughts before a reply; and what is no text."""

import json
import re

NO_TEXT = re.compile(r"image|audio|video|voice|file|document|pdf", re.IGNORECASE)
TOOLS = re.compile(r"tool|function", re.IGNORECASE)
MEDIA = ("image", "images", "audio", "audios", "video", "videos")  # fields beside a chat or a turn that belong to it
THOUGHTS = ("thinking", "think", "reasoning", "thought")


class Unfit(Exception):
    """A record that cannot become a row; `reason` is a code, `detail` what it is about."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(reason)
        self.reason, self.detail = reason, detail


def text_of(value: object, notes: list[str]) -> str:
    """The text of a content field. Thoughts stand before the reply between <think> marks, as chat templates have them.

    `notes` gets the codes of what was changed on the way.

    Raises:
        Unfit: for pictures, sounds and files, without which the words mean something else, and for calls of tools.
    """
    if isinstance(value, str):
        return value
    if value is None or value != value:  # NaN, as pandas writes what is missing
        return ""
    if isinstance(value, list):
        thoughts = "\n\n".join(filter(None, map(_thought, value)))
        said = "".join(_part(part, notes) for part in value if not _thought(part))
        return with_thoughts(said, thoughts, notes)
    if isinstance(value, dict):
        return _part(value, notes)
    return json.dumps(value) if isinstance(value, (bool, int, float)) else str(value)


def with_thoughts(reply: str, thoughts: object, notes: list[str]) -> str:
    """A reply with what was thought before it."""
    if not isinstance(thoughts, str) or not thoughts.strip() or reply.lstrip().startswith("<think>"):
        return reply
    notes.append("thoughts_kept")
    return f"<think>\n{thoughts.strip()}\n</think>\n\n{reply}"


def _thought(part: object) -> str:
    if not isinstance(part, dict) or part.get("type") not in THOUGHTS:
        return ""
    values = [part.get(name) for name in (*THOUGHTS, "text", "summary")]
    return next((value for value in values if isinstance(value, str)), "")


def _text_of_part(part: dict) -> object:
    text = part.get("text")
    text = text.get("value") if isinstance(text, dict) else text  # of LibreChat, Jan and OpenAI's assistants
    return text if isinstance(text, str) else part.get("transcript")


def _part(part: object, notes: list[str]) -> str:
    if not isinstance(part, dict):
        return part if isinstance(part, str) else json.dumps(part) if isinstance(part, (int, float)) else ""
    kind = str(part.get("type") or "")
    text = _text_of_part(part)
    if isinstance(part.get("audio"), dict):
        text = text or part["audio"].get("transcript")
    if TOOLS.search(kind):
        raise Unfit("tool_calls", kind)
    if isinstance(text, str) and (text or not NO_TEXT.search(kind)):
        return text
    if isinstance(part.get("parts"), list):
        return text_of(part["parts"], notes)
    if kind in ("", "text") and isinstance(part.get("content"), str):
        return part["content"]
    if kind == "refusal" and isinstance(part.get("refusal"), str):
        return part["refusal"]
    _check_lost(part, kind)
    return ""


def _check_lost(part: dict, kind: str) -> None:
    """Refuse a part that says something which is no text."""
    if kind and kind != "text":
        raise Unfit("part_without_text", kind)
    if not kind and any(part.values()):
        raise Unfit("nested_field", ", ".join(map(str, part))[:60])
