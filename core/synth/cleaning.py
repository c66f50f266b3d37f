"""What models say around an answer: thinking, marks of turns, consent before it and offers after it, refusals.

The words are in assets/recipes/replies.json, in English and in Russian. What only looks like them stays: a story that
begins "Here is a letter that ...", a dialogue about refusing, code between fences.
"""

import json
import re
from contextlib import suppress

from core import paths

WORDS = json.loads((paths.assets() / "recipes" / "replies.json").read_text(encoding="utf-8"))
AROUND = 240  # characters of a line before or after an answer
TALK, MADE_OF = 160, 0.9  # characters of a paragraph about the task; share of its words that are
SHORT_REFUSAL = 240  # characters of a reply that is nothing but a refusal
REFUSAL_WITHIN = 600  # characters in which a refusal shows that it is one
LOOP_FEW = 12  # words that are all the same, or two in turn
LOOP_WORDS, LOOP_RUN, LOOP_NEW = 40, 6, 0.4  # words of a text that may be a loop; of a run; the share of new runs
LEAST_SPEC = 2  # fields such as "Topic: the sea" that make a specification


def _either(name: str) -> str:
    """One of the patterns of both languages."""
    lists = ([words] if isinstance(words, str) else words for words in WORDS[name].values())
    return "(?:" + "|".join(f"(?:{one})" for words in lists for one in words) + ")"


def _compiled(pattern: str, flags: int = 0) -> re.Pattern:
    return re.compile(pattern, re.IGNORECASE | flags)


_SYMBOLS = r"\u2190-\u21ff\u2600-\u27bf\ufe0f\U0001f000-\U0001faff"
_MARK = rf"[*_#>\s{_SYMBOLS}]*"  # of Markdown, and emoji
_THOUGHTS = [(_compiled(start), _compiled(end)) for start, end in WORDS["thought_pairs"]]
_TURN_END, _OPENING, _MARKS = (re.compile(WORDS[name]) for name in ("turn_ends", "openings", "marks"))
_CODE = re.compile(r"^(`{3,}|~{3,}).*?^\1[ \t]*$|`[^`\n]+`", re.DOTALL | re.MULTILINE)
_FENCED = re.compile(r"^(`{3,}|~{3,}|'''|\"\"\")(?:(\w*)[ \t]*\n| )(.*)(?:\n| )\1$", re.DOTALL)
_PROSE = frozenset(("", "text", "txt", "markdown", "md", "plaintext"))
_CONSENT = rf"(?:{_either('consents')}[.!,;:—– -]+[{_SYMBOLS}]*\s*)"
_HERE = rf"{_either('here_is')}\s(?:[^.!?:,\n]{{0,60}}?\b)?{_either('products')}\b[^.!?:\n]{{0,100}}"
_ANEW = r"(?=[ \t]*\n|\s*$|[ \t]+[«\"“„—–-]?\s*(?-i:[A-ZА-ЯЁ0-9]))"  # where the answer itself begins
_BEFORE = [
    _compiled(rf"^{_MARK}{_CONSENT}{{0,2}}{_HERE}:{_MARK}?{_ANEW}"),
    _compiled(rf"^{_MARK}{_CONSENT}{{1,3}}(?:{_HERE}[.!:]?)?{_MARK}?(?=\n\s*\n)"),
    _compiled(rf"^{_MARK}(?:{WORDS['thinks_aloud']})[^\n]*(?=\n\s*\n)"),
    _compiled(rf"^\[(?:{WORDS['labels']})\][ \t]*(?=\n)"),
    _compiled(rf"^{_MARK}(?:{WORDS['labels']})(?: \([^()\n]{{1,40}}\))?[*_]*:[*_]*[ \t]*(?=\n)"),
    _compiled(rf"^#{{1,6}}[ \t]*(?:{WORDS['labels']}|{_either('products')})[*_]*[ \t]*(?=\n)"),
    _compiled(rf"^[*_]*(?:{WORDS['assistant_speaks']})[*_]*\s*:[*_]*(?=\s)"),
    _compiled(rf"^(\*{{2,3}}|__)(?:{WORDS['labels']}):?\1:?[ \t]*(?=\n)"),
    _compiled(rf"^{_MARK}(?:{WORDS['titles']})[*_]*:[^\n]*(?=\n\s*\n)"),
    _compiled(
        r"^[*_]*(?:final )?(?:answer|response|reply|output|ответ|результат)[*_]*:[*_]*[ \t]+(?=[«\"“—]?(?-i:[A-ZА-ЯЁ]))"
    ),
]
_PRODUCT = _either("products")
_LABELLED = _compiled(rf"^{_MARK}{WORDS['labelled']}{_PRODUCT}[*_]*:[*_]*(?=[ \t]*\n\s*\n)")
_ANNOUNCED = _compiled(  # a short line of its own before the answer, about the answer
    rf"^{_MARK}(?:[^.!?\n]{{2,60}}[!.]\s+)?(?=[^\n]{{2,100}}\n\s*\n)[^\n]*?"
    rf"(?:{'|'.join(WORDS['announces'].values()).replace('{p}', _PRODUCT)})[^\n]{{0,80}}(?::|[!.]?\s*[{_SYMBOLS}]+|(?<=you)[.!])[*_]*\n\s*\n(?=\S)"
)
_CLOSED = _compiled(rf"\n(?:[\s*_-]*\n|(?=[\[<]))[*_(]*(?:{_either('closes')})[*_)]*[\s{_SYMBOLS}]*$")
_TAG = _compiled(rf"^<({WORDS['lone_tags']})>|</({WORDS['lone_tags']})>$")
_AFTER = _compiled(rf"(?:^|\n)(?:[^\w\n(«\"“—–-]|_)*(?:{_either('postambles')}[*_)\s]*)+$")
_AFTER_INLINE = _compiled(
    rf"(?<=[.!?…»])[ \t]+(?:{WORDS['postambles']['en'][0]}|{WORDS['postambles']['ru'][0]}|{WORDS['inline_offers']})$"
)
_SPEECH = ("—", "–", "-", "«", "“", "„", '"', "*", "#", ">")
_UNSEEN = re.compile("[\\ufeff\\u200b-\\u200d\\u2060]")
_WRAPPED = _compiled(rf"^<({WORDS['wrappers']})>(.*)</\1>$", re.DOTALL)
_KEY = _compiled(WORDS["wrappers"])
_QUOTED = [re.compile(f"^{start}([^{start}{end}]+){end}$") for start, end in ("«»", "“”", '""', "„“", "„”")]
_BOLD = re.compile(r"^(\*{1,3}|_{1,2})(?![\s*_])((?:(?!\1).)+)\1$", re.DOTALL)
_BOXED = re.compile(r"^\\boxed\{(.*)\}$", re.DOTALL)
_QUOTE = re.compile(r"^>[ \t]?", re.MULTILINE)
_PLACEHOLDER = _compiled(WORDS["placeholders"])
_TROUBLE = _compiled(
    rf"^(?:{WORDS['server_troubles']})[^\n]{{0,240}}$|^(?:traceback \(most recent|<!doctype html|<html)"
)
_RULES = re.compile(r"^(?:\s*(?:-{3,}|\*{3,}|_{3,})\s*\n)+|(?:\n\s*(?:-{3,}|\*{3,}|_{3,}))+\s*$")
_REFUSAL = _compiled(rf"^[*_\s]*{_either('refusal_starts')}")
_PLAIN, _TASK, _UNABLE = (_either(name) for name in ("plain_words", "task_words", "unable_words"))
_ABOUT_TASK, _ABOUT_REFUSING = _compiled(f"{_PLAIN}|{_TASK}"), _compiled(f"{_PLAIN}|{_TASK}|{_UNABLE}")
_TASK_WORD, _UNABLE_WORD, _OPENS, _CANNOT = (
    _compiled(one)
    for one in (rf"\b(?:{_TASK})\b", rf"\b(?:{_UNABLE})\b", rf"\b(?:{WORDS['opens']})\b", WORDS["unable"])
)
_TOKEN = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
_SHORT_REFUSAL = _compiled(rf"^[*_\s]*{_either('refusal_short')}")
_ALOUD = _compiled(rf"^{_MARK}(?:{WORDS['thinks_aloud']})")
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
        while (closed := _outside_code(end, text)) and not _ends_all(closed, text):
            text = text[closed.end() :].lstrip()
        if opened := _outside_code(start, text):
            return text[: opened.start()].rstrip(), True
    return text, False


def _ends_all(mark: re.Match, text: str) -> bool:
    """Whether a mark that may end thinking is the end of the turn: nothing stands behind it."""
    return bool(_TURN_END.fullmatch(mark[0])) and not text[mark.end() :].strip()


def thinks_aloud(text: str) -> bool:
    """Whether a text speaks of the user who asked, as thinking does that no tag marks."""
    return bool(_ALOUD.match(text))


def seen(text: str) -> str:
    """A text without byte order marks and spaces of no width, its lines ended by one character."""
    return _UNSEEN.sub("", text).replace("\r\n", "\n")


def is_trouble(text: str) -> bool:
    """Whether a server says in a reply that it has failed."""
    return bool(_TROUBLE.match(text))


def is_loop(text: str) -> bool:
    """Whether most of a text says again what it has said."""
    words = text.lower().split()
    letters = {char for char in text.lower() if char.isalpha()}
    if len(letters) <= 2 < len(text) / 10 or (len(words) >= LOOP_FEW and len(set(words)) <= 2):
        return True
    runs = [tuple(words[at : at + LOOP_RUN]) for at in range(len(words) - LOOP_RUN + 1)]
    return len(words) >= LOOP_WORDS and len(set(runs)) < LOOP_NEW * len(runs)


def turn_alone(text: str) -> tuple[str, bool]:
    """The model's own turn without the marks around it, and whether other marks are left in it."""
    while (opening := _outside_code(_OPENING, text)) and not _TURN_END.search(text[: opening.start()].lstrip(), 1):
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
        if (said := _ANNOUNCED.match(text) or _LABELLED.match(text)) and said.end() <= AROUND:
            text = text[said.end() :].strip()
        for pattern in (_AFTER, _AFTER_INLINE, _CLOSED):
            if (said := pattern.search(text, max(0, len(text) - AROUND))) and said.start():
                text = text[: said.start()].rstrip()
        text = _unwrapped(_RULES.sub("", _without_talk(text)).strip())
        fenced = _FENCED.match(text)
        if fenced and fenced[1] not in fenced[3]:
            inner = fenced[3].strip()
            text = inner if (fenced[2] or "").lower() in _PROSE or _unwrapped(inner) != inner else text
        if text == before:
            break
    return text


def _without_talk(text: str) -> str:
    """A text without a first or last paragraph all of whose words are about the task and not of the answer."""
    parts = re.split(r"\n\s*\n", text)
    if len(parts) > 1 and _is_talk(parts[0]) and (_announces(parts[0]) or _OPENS.search(parts[0])):
        parts = parts[1:]
    if len(parts) > 1 and _is_talk(parts[-1]) and _TASK_WORD.search(parts[-1]):
        parts = parts[:-1]
    return "\n\n".join(parts)


def _is_talk(part: str) -> bool:
    short = len(part) <= TALK and "\n" not in part and not part.startswith(_SPEECH)
    return short and (_announces(part) or _TASK_WORD.search(part) is not None) and _made_of(part, _ABOUT_TASK)


def _announces(part: str) -> bool:
    return part.rstrip("*_ ").endswith(":")


def _only_refuses(text: str) -> bool:
    """Whether all words of a short reply are those of somebody who cannot or will not."""
    told = text.replace("\n", " ")
    strong = _TASK_WORD.search(told) or _UNABLE_WORD.search(told)
    return strong is not None and _CANNOT.match(told) is not None and _made_of(told, _ABOUT_REFUSING)


def _made_of(text: str, words: re.Pattern) -> bool:
    tokens = _TOKEN.findall(text.lower().replace("’", "'"))
    return len(tokens) > 1 and sum(bool(words.fullmatch(token)) for token in tokens) >= MADE_OF * len(tokens)


def _unwrapped(text: str) -> str:
    """A text without the tags, quotes, bold type or JSON around all of it."""
    if wrapped := _WRAPPED.match(text) or _BOLD.match(text) or _BOXED.match(text):
        return wrapped[wrapped.lastindex].strip()
    if text[:1] == ">" and all(line[:1] == ">" for line in text.split("\n") if line.strip()):
        return _QUOTE.sub("", text).strip()
    if quoted := next(filter(None, (one.match(text) for one in _QUOTED)), None):
        return quoted[1].strip()
    if text[:1] in "{[" and text[-1:] in "}]":
        with suppress(ValueError, RecursionError):
            values = json.loads(text)
            values = values[0] if isinstance(values, list) and len(values) == 1 else values
            texts = (
                [(key, one) for key, one in values.items() if isinstance(one, str)] if isinstance(values, dict) else []
            )
            if len(texts) == 1 and _KEY.fullmatch(texts[0][0]):
                return texts[0][1].strip()
    return text if _WRAPPED.match(text) else _TAG.sub("", text).strip()


def has_placeholder(text: str) -> bool:
    """Whether a place is left to be filled in: [Your Name], {{text}}, lorem ipsum."""
    return _outside_code(_PLACEHOLDER, text) is not None


def without_prompt(text: str, prompt: str) -> str:
    """A text without the prompt that it begins with."""
    prompt = prompt.strip()
    rest = text.removeprefix(prompt).strip() if prompt else ""
    return rest or text


def is_refusal(text: str) -> bool:
    """Whether the one who answers refuses; a person of the text who does so begins with a quote, a dash or a name."""
    start = text[:REFUSAL_WITHIN].replace("’", "'")
    short = len(text) <= SHORT_REFUSAL and not start.startswith(_SPEECH)
    if _ALWAYS.match(start) or (short and (_SHORT_REFUSAL.match(start) or _only_refuses(start))):
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
