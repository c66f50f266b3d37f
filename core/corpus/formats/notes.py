"""Notes in Markdown: front matter, links and Obsidian's own marks are taken off, headings and code stay.

Notes that the Obsidian plugin Nexus AI Chat Importer writes are chats: callouts of a user and an assistant in turn.
"""

import re
from collections.abc import Iterator

from core.corpus import documents, encodings, mojibake
from core.corpus.sources import Bad, Format, Record, Source

FENCED = re.compile(r"^(?P<fence>```|~~~)[^\n]*\n.*?^(?P=fence)\s*$", re.MULTILINE | re.DOTALL)
_INDENTED = (
    r"(?:(?<=\n\n)|\A)(?:(?: {4}|\t)(?!\s*(?:[-*+]|\d+[.)])\s)[^\n]*(?:\n|\Z))+"  # but for items of lists in lists
)
CODE = re.compile(
    rf"(?:{FENCED.pattern})|(?:{_INDENTED})|(?<!`)(?P<ticks>`+)(?!`)[^\n]+?(?<!`)(?P=ticks)(?!`)", FENCED.flags
)
# Obsidian's comments begin after a space and end before one: 50%% is a number, and 5 %% 2 the rest of a division. One
# that stands in a line ends with its paragraph, or the sign is no comment.
_COMMENT = r"^%%[ \t]*\n.*?^%%[ \t]*$|(?<![^\s(>])(?:(?<!\d )%%(?!%)|%%(?![%\s]))(?:(?!\n\s*\n).)*?(?<!%)%%(?![\w%])|<!--.*?-->"
COMMENT = re.compile(rf"(?P<comment>{_COMMENT})|{CODE.pattern}", FENCED.flags)
# Of a[[0]], [[1, 2]] and [[ -f x ]] the brackets belong to the text.
WIKI_LINK = re.compile(r"(?<![\w\])])\[\[(?![\d\s.,;+-]+\]\]| )(?:[^\]|\n]*\|)?([^\]\n]*)\]\]")
QUERY = re.compile(r"^(```|~~~)\s*(?:dataview|dataviewjs|tasks|query)\b[^\n]*\n.*?^\1\s*$", re.MULTILINE | re.DOTALL)
SIGNS = re.compile(
    r"^(?:#{1,6} \S|[-*] \[[ x]\] |```|>\s?\[!)|\[\[[^\]\n]+\]\]|\]\(https?:|\*\*[^*\n]+\*\*", re.MULTILINE
)
TURN = re.compile(r"\s*>\s?\[!nexus_(user|agent|assistant)\][+-]?", re.IGNORECASE)
OLD_TURN = re.compile(r"(#{3,4}) (User|Assistant), on ")
NESTED = re.compile(r"\s*>\s?>\s?\[!nexus_(attachment|artifact|prompt)\]", re.IGNORECASE)
UID = re.compile(r"\s*<!--\s*UID:\s*(.*?)\s*-->")
FENCE = re.compile(r"\s*(```|~~~)")
END = re.compile(r"## Related Queries")


def _is_markdown(source: Source, head: str) -> bool:
    named = source.name.lower().endswith((".md", ".markdown"))
    return named or re.match(r"---\n(?:[\w-]+:.*\n)+", head) is not None or len(SIGNS.findall(head)) >= 8


def read_markdown(source: Source) -> Iterator[Record | Bad]:
    raw = encodings.read_text(source, source.encoding)
    text, repaired = mojibake.Repairer().text(raw)
    meta, body = front_matter(text)
    plain = without_marks(body).strip("\n")
    if not plain.strip():
        yield Bad("1", "empty_text", text[:200])
        return
    skipped = text.count("\n") - body.count("\n")
    title = {"title": meta["title"]} if meta.get("title") else {}
    for count, (number, part) in enumerate(documents.split(enumerate(plain.split("\n"), 1 + skipped))):
        spoilt = (("mojibake",) * repaired, raw, text) if repaired and count == 0 else ()
        yield Record(str(number), {"text": part} | title, *spoilt)


def front_matter(text: str) -> tuple[dict[str, str], str]:
    """The plain `key: value` pairs of a note's front matter, and the note without it."""
    block = re.match(r"(---|\+\+\+)[ \t]*\n(.*?\n)?\1[ \t]*(?:\n|$)", text, re.DOTALL)
    sign = ":" if not block or block[1] == "---" else " *="  # the other is TOML, of Hugo
    if not block or (block[2] and not re.search(rf"^[\w -]+{sign}", block[2], re.MULTILINE)):
        return {}, text
    pairs = re.findall(rf"^([\w-]+){sign}[ \t]*(.+)$", block[2] or "", re.MULTILINE)
    return {key: value.strip().strip("\"'") for key, value in pairs}, text[block.end() :]


def without_marks(text: str) -> str:
    """Links become their words, embedded files and comments go; code is not touched."""
    text = COMMENT.sub(lambda found: "" if found["comment"] else found.group(), QUERY.sub("", text))
    parts, at = [], 0
    for code in CODE.finditer(text):
        parts += [_unmarked(text[at : code.start()]), code.group()]
        at = code.end()
    return re.sub(r"\n{4,}", "\n\n\n", "".join([*parts, _unmarked(text[at:])]))


def _unmarked(text: str) -> str:
    text = re.sub(r"!\[\[[^\]\n]*\]\]", "", text)
    text = re.sub(WIKI_LINK, r"\1", text)
    text = re.sub(r"[ \t]\^[\w-]+[ \t]*$", "", text, flags=re.MULTILINE)
    return re.sub(r"^(>\s?)\[!\w+\][+-]?[ \t]*", r"\1", text, flags=re.MULTILINE)


def _is_nexus(source: Source, head: str) -> bool:
    if ">[!nexus_" in head or "> [!nexus_" in head:
        return True
    return bool(re.search(r"^#{3,4} (?:User|Assistant), on ", head, re.MULTILINE))


def read_nexus(source: Source) -> Iterator[Record | Bad]:
    yield _record(*_read(source))


def conversation_of(source: Source) -> str:
    """The id of the conversation that a note holds, or a part of; "" when it tells none."""
    head = (
        source.head().decode(source.encoding or "utf-8", errors="replace").removeprefix("\ufeff").replace("\r\n", "\n")
    )
    return front_matter(head)[0].get("conversation_id", "")


def joined(notes: list[Source]) -> Iterator[Iterator[Record | Bad]]:
    """The records of each of some notes of one conversation: all turns in the first note, each once, by their UID."""
    if len(notes) == 1:
        yield read_nexus(notes[0])
        return
    all_turns: list[tuple[str, dict]] = []
    seen: set[str] = set()
    parts = [_read_safely(note) for note in notes]
    for _, _, turns, _ in parts:
        all_turns += [(uid, turn) for uid, turn in turns if not uid or uid not in seen]
        seen.update(uid for uid, _ in turns if uid)
    whole = (*parts[0][:2], all_turns, sum(part[3] for part in parts))
    yield iter([_record(*whole)])
    for raw, _, turns, _ in parts[1:]:
        yield iter([Bad("1", "note_joined" if turns else "empty_chat", raw[:200])])


def _read(source: Source) -> tuple[str, str, list[tuple[str, dict]], int]:
    """A note as it is and repaired, its turns with their UIDs, and how many of its lines were repaired."""
    raw = encodings.read_text(source, source.encoding)
    text, repaired = mojibake.Repairer().text(raw)
    return raw, text, _turns(front_matter(text)[1]), repaired


def _read_safely(source: Source) -> tuple[str, str, list[tuple[str, dict]], int]:
    try:
        return _read(source)
    except Exception:  # a note that is gone or damaged has no turns to join
        return "", "", [], 0


def _record(raw: str, text: str, turns: list[tuple[str, dict]], repaired: int) -> Record | Bad:
    if not turns:
        return Bad("1", "empty_chat", text[:200])
    meta, _ = front_matter(text)
    facts = {key: meta[key] for key in ("provider", "conversation_id") if key in meta}
    value = {"messages": [turn for _, turn in turns]} | facts
    return Record("1", value, ("mojibake",) * repaired, *((raw, text) if repaired else ()))


def _turns(text: str) -> list[tuple[str, dict]]:
    turns: list[tuple[str, dict]] = []
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
        uid = UID.match(lines[at - 1])
        content = without_marks("\n".join(body)).strip("\n ")
        if content and content != "[No content found]":
            turns.append((uid.group(1) if uid else "", {"role": role, "content": content}))
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
        text_of_line = _unquoted(line, depth)
        if not skipping:
            if FENCE.match(text_of_line):
                fenced = not fenced
            body.append(text_of_line)
        at += 1
    return body, at


def _unquoted(line: str, depth: int) -> str:
    """`> words` is words; `>` an empty line; `>>words` the quoted line >words."""
    line = line.lstrip()
    for _ in range(depth):
        line = line[1:] if line.startswith(">") else line
    return line.removeprefix(" ")


MARKDOWN = Format("markdown", _is_markdown, read_markdown)
NEXUS = Format("nexus", _is_nexus, read_nexus)
