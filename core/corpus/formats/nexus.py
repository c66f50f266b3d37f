"""Notes that the Obsidian plugin Nexus AI Chat Importer writes: callouts of a user and an assistant in turn."""

import re
from collections.abc import Iterator

from core.corpus import encodings, mojibake
from core.corpus.formats import vault
from core.corpus.sources import Bad, Record, Source

NAME = "nexus"
TURN = re.compile(r"\s*>\s?\[!nexus_(user|agent|assistant)\][+-]?", re.IGNORECASE)
OLD_TURN = re.compile(r"(#{3,4}) (User|Assistant), on ")
NESTED = re.compile(r"\s*>\s?>\s?\[!nexus_(attachment|artifact|prompt)\]", re.IGNORECASE)
UID = re.compile(r"\s*<!--\s*UID:\s*(.*?)\s*-->")
FENCE = re.compile(r"\s*(```|~~~)")
END = re.compile(r"## Related Queries")


def claims(source: Source, head: str) -> bool:
    if ">[!nexus_" in head or "> [!nexus_" in head:
        return True
    return bool(re.search(r"^#{3,4} (?:User|Assistant), on ", head, re.MULTILINE))


def read(source: Source) -> Iterator[Record | Bad]:
    raw = encodings.read_text(source, source.encoding)
    text, repaired = mojibake.Repairer().text(raw)
    meta, body = vault.front_matter(text)
    messages = chat(body)
    if not messages:
        yield Bad("1", "empty_chat", text[:200])
        return
    repairs = ("mojibake",) * repaired
    value = {"messages": messages} | {key: meta[key] for key in ("provider", "conversation_id") if key in meta}
    yield Record("1", value, repairs, *((raw, text) if repaired else ()))


def chat(text: str) -> list[dict]:
    """The turns of a note, without attachments, links to images and the plugin's own marks."""
    turns: list[dict] = []
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        if END.match(lines[at]):
            break
        new, old = TURN.match(lines[at]), OLD_TURN.match(lines[at])
        if not new and not old:
            at += 1
            continue
        role = "user" if (new or old).group(1 if new else 2).lower() == "user" else "assistant"
        body, at = _body(lines, at + 1, depth=2 if old and old.group(1) == "####" else 1)
        content = vault.without_marks("\n".join(body)).strip("\n ")
        if content and content != "[No content found]":
            turns.append({"role": role, "content": content})
    return turns


def _body(lines: list[str], at: int, *, depth: int) -> tuple[list[str], int]:
    """The unquoted lines of a turn and where it ends: its UID comment, or the first line without a quote mark."""
    body: list[str] = []
    fenced = skipping = False
    while at < len(lines):
        line = lines[at]
        if UID.match(line):
            return body, at + 1
        if not line.lstrip().startswith(">"):
            return body, at
        if not fenced and TURN.match(line):
            return body, at
        if not fenced and NESTED.match(line):
            skipping = True
        if skipping and line.strip() == ">":
            skipping = False
        said = _unquoted(line, depth)
        if not skipping:
            if FENCE.match(said):
                fenced = not fenced
            body.append(said)
        at += 1
    return body, at


def _unquoted(line: str, depth: int) -> str:
    """`> words` is words; `>` an empty line; `>>words` the quoted line >words."""
    line = line.lstrip()
    for _ in range(depth):
        line = line[1:] if line.startswith(">") else line
    return line.removeprefix(" ")
