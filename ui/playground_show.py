"""Conversations as the page shows them: markup as it was written, thinking folded, figures under each column."""

import html
import re
from functools import lru_cache

from core.chat.types import Reply
from ui.run_html import new_words
from ui.text import Say

CODE = re.compile(r"(```.*?(?:```|\Z)|(?<![`\\])(?:``[^\n]*?``|`[^`\n]*`)(?!`))", re.DOTALL)
# What a fence says of its code: of more than a plain name of a language, Markdown might make a picture.
FENCE = re.compile(r"(`{3,}|~{3,})(?=[ \t]*(?:mermaid|[\w+#.-]*[^\w+#.\s`~-]))", re.IGNORECASE)
THOUGHT = re.compile(r"\s*<think>(.*?)(</think>|\Z)(.*)", re.DOTALL)
FIRST = "0"  # the column that the others are compared with
MOST_COMPARED = 12_000  # characters of two replies: to compare longer ones would hold up the page
UNSEEN = "\u200b"
# Where a mark would break what Markdown makes of it: code, formulas, addresses, and what begins an item of a list.
WHOLE = re.compile(
    CODE.pattern
    + r"|\$\$.*?\$\$|\\\[.*?\\\]|\\\(.*?\\\)|\]\([^)\n]*\)|https?://\S+|(?m:^[ \t]*(?:\d+[.)]|[-+*>#]+)(?=\s))",
    re.DOTALL,
)
WORD = re.compile(r"[^\s*_~|`\[\]()]*\w[^\s*_~|`\[\]()]*(?=[\s*_~\])]|\Z)")
LATEX = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": r"\[", "right": r"\]", "display": True},
    {"left": r"\(", "right": r"\)", "display": False},
]


def literal(text: str) -> str:
    """Markdown in which markup such as <think> is shown as it was written, not swallowed by the browser.

    Inside code, Markdown shows markup by itself.
    """
    return _outside_code(text, lambda part: html.escape(part, quote=False).replace("&gt;", ">").replace("![", "!\\["))


def typed(text: str) -> str:
    """A person's own message so that it is shown, and edited, as it was typed: an unseen mark keeps markup from working."""
    return _outside_code(text, lambda part: re.sub(r"[<&](?=\S)|!(?=\[)", f"\\g<0>{UNSEEN}", part))


def written(shown: str) -> str:
    """The text that `typed` shows so."""
    return re.sub(f"([<&!]|`{{3}}|~{{3}}){UNSEEN}", r"\1", shown)


def _outside_code(text: str, change) -> str:
    # An image or a diagram is shown as its source: nothing that a model writes makes the browser ask another host. The
    # second wall is the page's Content-Security-Policy (core/sharing/own_page.py).
    plain = "".join(part if index % 2 else change(part) for index, part in enumerate(CODE.split(text)))
    return FENCE.sub(f"\\g<0>{UNSEEN}", plain)


@lru_cache(maxsize=512)  # a stream draws the replies before it again with every word
def marked(before: str, text: str) -> str:
    """A reply as literal() shows it, with the words marked that another reply does not have there."""
    shown, start, places = literal(text), 0, []
    if len(before) + len(text) > MOST_COMPARED:
        return shown
    whole = [place.span() for place in WHOLE.finditer(shown)]
    for words, is_new in new_words(literal(before), shown):
        if is_new:
            places += [word.span() for word in WORD.finditer(shown, start, start + len(words))]
        start += len(words)
    for begin, end in reversed(places):
        if not any(at < end and begin < stop for at, stop in whole):
            shown = f"{shown[:begin]}<mark>{shown[begin:end]}</mark>{shown[end:]}"
    return shown.replace("</mark> <mark>", " ")


def thought(text: str) -> tuple[str, bool, str]:
    """The thinking before a reply, whether it has ended, and the reply itself."""
    match = THOUGHT.match(text)
    if not match:
        return "", True, text
    return match[1].strip("\n"), bool(match[2]), match[3].lstrip("\n")


def messages(say: Say, turns: list[dict], column: str) -> list[dict]:
    """The turns of one column as a Chatbot's messages; thinking is a message of its own that folds.

    Words that the first column's reply does not have are marked once both have ended.
    """
    shown = []
    for turn in turns:
        shown.append({"role": "user", "content": typed(turn["prompt"])})
        if column not in turn["replies"]:
            continue
        thinking, ended, text = thought(turn["replies"][column]["text"])
        if thinking.strip():
            metadata = {"title": say("playground.thinking"), "status": "done" if ended else "pending"}
            shown.append({"role": "assistant", "content": literal(thinking), "metadata": metadata})
        if text or not thinking.strip():
            shown.append({"role": "assistant", "content": _compared(turn["replies"], column, text)})
    return shown


def _compared(replies: dict[str, dict], column: str, text: str) -> str:
    first = replies.get(FIRST, {})
    if column == FIRST or not (first.get("finish_reason") and replies[column].get("finish_reason")):
        return literal(text)
    return marked(thought(first["text"])[2], text)


def turn_at(say: Say, turns: list[dict], column: str, index: int) -> int:
    """The turn that a Chatbot's message belongs to."""
    shown = messages(say, turns, column)[: index + 1]
    return max(0, sum(message["role"] == "user" for message in shown) - 1)


def facts(say: Say, turns: list[dict], column: str) -> str:
    """Tokens, speed, ending and context of a column's latest reply."""
    if not turns or column not in turns[-1]["replies"]:
        return ""
    reply = Reply(**turns[-1]["replies"][column])
    return say(
        "playground.facts",
        tokens=say.number(reply.tokens, 6),
        speed=say.number(reply.tokens_per_second),
        first=say.number(reply.seconds_to_first),
        reason=say(f"finish.{reply.finish_reason}"),
        used=say.number(reply.prompt_tokens + reply.tokens, 9),
        context=say.number(reply.context, 9) if reply.context else "∞",
    )
