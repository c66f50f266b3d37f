"""What models say around an answer: thinking, marks of turns, consent before it and offers after it, refusals.

The words are in assets/recipes/replies.json, in English and in Russian. What only looks like them stays: a story that
begins "Here is a letter that ...", a dialogue about refusing, code between fences.
"""

import json
import re

from core import paths

WORDS = json.loads((paths.assets() / "recipes" / "replies.json").read_text(encoding="utf-8"))
AROUND = 240  # characters of a line before or after an answer
REFUSAL_WITHIN = 600  # characters in which a refusal shows that it is one
LEAST_SPEC = 2  # fields such as "Topic: the sea" that make a specification


def _either(name: str) -> str:
    """One of the patterns of both languages."""
    lists = ([words] if isinstance(words, str) else words for words in WORDS[name].values())
    return "(?:" + "|".join(f"(?:{one})" for words in lists for one in words) + ")"


def _compiled(pattern: str, flags: int = 0) -> re.Pattern:
    return re.compile(pattern, re.IGNORECASE | flags)


_MARK = r"[*_#>\s]*"  # of Markdown
_THOUGHTS = [(_compiled(start), _compiled(end)) for start, end in WORDS["thought_pairs"]]
_TURN_END, _OPENING, _MARKS = (re.compile(WORDS[name]) for name in ("turn_ends", "openings", "marks"))
_CODE = re.compile(r"^(`{3,}|~{3,}).*?^\1[ \t]*$|`[^`\n]+`", re.DOTALL | re.MULTILINE)
_FENCED = re.compile(r"^(`{3,}|~{3,})(\w*)[ \t]*\n(.*)\n\1$", re.DOTALL)
_PROSE = frozenset(("", "text", "txt", "markdown", "md", "plaintext"))
_CONSENT = rf"(?:{_either('consents')}[.!,;:—– -]+\s*)"
_HERE = rf"{_either('here_is')}\s(?:[^.!?:,\n]{{0,60}}?\b)?{_either('products')}\b[^.!?:\n]{{0,100}}"
_ANEW = r"(?=[ \t]*\n|\s*$|[ \t]+[«\"“„—–-]?\s*(?-i:[A-ZА-ЯЁ0-9]))"  # where the answer itself begins
_BEFORE = [
    _compiled(rf"^{_MARK}{_CONSENT}{{0,2}}{_HERE}:{_MARK}?{_ANEW}"),
    _compiled(rf"^{_MARK}{_CONSENT}{{1,2}}(?:{_HERE}[.!:]?)?{_MARK}?(?=\n\s*\n)"),
    _compiled(rf"^{_MARK}(?:{WORDS['labels']})[*_]*:[*_]*[ \t]*(?=\n)"),
    _compiled(rf"^[*_]*(?:{WORDS['assistant_speaks']})[*_]*\s*:[*_]*(?=\s)"),
]
_AFTER = _compiled(rf"(?:^|\n){_MARK}(?:{_either('postambles')}[*_)\s]*)+$")
_AFTER_INLINE = _compiled(rf"(?<=[.!?…»])[ \t]+(?:{WORDS['postambles']['en'][0]}|{WORDS['postambles']['ru'][0]})$")
_RULES = re.compile(r"^(?:\s*(?:-{3,}|\*{3,}|_{3,})\s*\n)+|(?:\n\s*(?:-{3,}|\*{3,}|_{3,}))+\s*$")
_REFUSAL = _compiled(rf"^[*_\s]*{_either('refusal_starts')}")
_SIGNAL, _ALWAYS = _compiled(WORDS["refusal_signals"]), _compiled(rf"^[*_\s]*(?:{WORDS['refusal_always']})")


def without_thinking(text: str) -> tuple[str, bool]:
    """A text after the model's thinking, and whether it is thinking to its end.

    A closing tag without its opening one ends thinking that began with the prompt; tags in code are quoted.
    """
    text = text.strip()
    for start, end in _THOUGHTS:
        while opened := start.match(text):
            closed = end.search(text, opened.end())
            if not closed:
                return "", True
            text = text[closed.end() :].lstrip()
        while closed := _outside_code(end, text):
            text = text[closed.end() :].lstrip()
        if opened := _outside_code(start, text):
            return text[: opened.start()].rstrip(), True
    return text, False


def turn_alone(text: str) -> tuple[str, bool]:
    """The model's own turn without the marks around it, and whether other marks are left in it."""
    while opening := _outside_code(_OPENING, text):
        text = text[opening.end() :]
    if ended := _outside_code(_TURN_END, text):
        text = text[: ended.start()]
    return text.strip(), _outside_code(_MARKS, text) is not None


def answer_alone(text: str) -> str:
    """The answer without consent before it, offers after it, and a fence around all of it."""
    for _ in range(4):
        before = text
        for pattern in _BEFORE:
            if (said := pattern.match(text)) and said.end() <= AROUND:
                text = text[said.end() :].strip()
        for pattern in (_AFTER, _AFTER_INLINE):
            if (said := pattern.search(text, max(0, len(text) - AROUND))) and said.start():
                text = text[: said.start()].rstrip()
        text = _RULES.sub("", text).strip()
        fenced = _FENCED.match(text)
        if fenced and fenced[2].lower() in _PROSE and fenced[1] not in fenced[3]:
            text = fenced[3].strip()
        if text == before:
            break
    return text


def is_refusal(text: str) -> bool:
    """Whether the one who answers refuses; a person of the text who does so begins with a quote, a dash or a name."""
    start = text[:REFUSAL_WITHIN]
    if _ALWAYS.match(start):
        return True
    begins = _REFUSAL.match(start)
    if not begins:
        return False
    ends = re.match(r"[^.!\n]{0,12}[.!]?\s*$", text[begins.end() :])
    return bool(ends or _SIGNAL.search(start, begins.start()))


def specification(names: list[str] | tuple = ()) -> re.Pattern:
    """What begins a field of a specification: a known word, or one of these names, and a colon."""
    words = "|".join([WORDS["spec_words"], *map(re.escape, names)])
    return _compiled(rf"(?:^|(?<=[.;,|])[ \t]|(?<=\n)){_MARK}(?:[-•]\s*)?[*_]*(?:{words})[*_]*\s*[:：=][*_]*\s*(?=\S)")


_SPECIFICATION = specification()


def is_specification(text: str) -> bool:
    """Whether a text is a list of fields (topic, style, form) and not what a person would say."""
    return len(_SPECIFICATION.findall(text)) >= LEAST_SPEC


def without_specification(text: str, names: list[str] | tuple = ()) -> str:
    """A text without the fields of its order, if it begins by repeating them."""
    lines, fields = text.split("\n"), specification(names)
    found = skipped = 0
    for line in lines:
        count = len(fields.findall(line)) if fields.match(line) else 0
        if line.strip(" *_-#") and not count:
            break
        found, skipped = found + count, skipped + 1
    return "\n".join(lines[skipped:]).strip() if found >= LEAST_SPEC else text


def in_code(text: str, at: int) -> bool:
    """Whether a place of a text stands between fences or backticks."""
    return ("`" in text or "~~~" in text) and any(one.start() <= at < one.end() for one in _CODE.finditer(text))


def _outside_code(pattern: re.Pattern, text: str) -> re.Match | None:
    """The first match that does not stand in code."""
    return next((one for one in pattern.finditer(text) if not in_code(text, one.start())), None)
