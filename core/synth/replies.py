"""Which replies of a model become rows, of what shape, and why the others do not."""

import itertools
import re
from dataclasses import dataclass

from core.corpus import turns
from core.corpus.languages import CJK
from core.corpus.text_normalization import one as normal
from core.synth import cleaning

SHORTEST = 20  # characters
RUN, COPIED = 5, 0.6  # words that stand in the prompt too, and the share of such runs that makes a reply a copy
_WORDS = cleaning.WORDS


def _label(names: str) -> str:
    """Who speaks, at the start of a line and in any Markdown: "**User:**", "- Вопрос 1:"."""
    return rf"(?:^|\n)[^\w\n]*(?:{names})(?:\s*\d+)?[*_»\"]*\s*[:：][*_»\"]*[ \t]*\n?"


_FLAGS = re.IGNORECASE | re.DOTALL
_QUESTION, _USER = (re.compile(_label(_WORDS[name]), _FLAGS) for name in ("question_names", "user_names"))
_ASSISTANT = re.compile(_label(_WORDS["assistant_names"]), _FLAGS)
_PAIR = re.compile(_label(_WORDS["question_names"]) + r"(.+?)\s*" + _label(_WORDS["answer_names"]) + "(.+)", _FLAGS)
_LETTERS = re.compile(_label("[ABАБ]"))
_ROLES = re.compile(_label(f"{_WORDS['user_names']}|{_WORDS['assistant_names']}"), _FLAGS)
_NAMES = re.compile(r"(?:^|\n)[ \t]*[*_]*([^\W\d_][\w .-]{0,30}?)[*_]*:[*_]*[ \t]+")
_CHANCE = re.compile(r"^\W*([01]?[.,]\d+|\d{1,3}\s*%|1)\W*[|:—-]\s*(.+)$")


@dataclass(frozen=True)
class Reply:
    """What a model wrote; `wrong` names why a server's answer cannot be used: html, half_json, no_choices, bad_request."""

    text: str
    finish: str = "stop"
    tokens_in: int = 0
    tokens_out: int = 0
    wrong: str = ""
    detail: str = ""
    reasoning: str = ""  # what a server hands over apart from the text


def judged(reply: Reply, prompt: dict, lang: str) -> tuple[dict | None, str, str]:
    """(row, text, "") of a good reply to a prompt of core.synth.prompts, else (None, text, why it is set aside)."""
    text, reason = checked(reply, prompt["messages"][-1]["content"], lang)
    if reason:
        return None, reply.text, reason
    text = cleaning.without_specification(text, tuple(prompt.get("cell") or ()))
    row = to_row(text, prompt)
    if row is None or len(turns.learned(row).strip()) < (SHORTEST if prompt["shape"] in ("text", "answer") else 1):
        return None, text, "wrong_shape" if row is None else "short"
    if prompt["shape"] in ("pair", "rare") and cleaning.is_refusal(turns.learned(row)):
        return None, text, "refusal"
    if prompt["shape"] == "pair" and cleaning.is_specification(row["messages"][0]["content"]):
        return None, text, "specification"
    return row, text, ""


def checked(reply: Reply, prompt: str, lang: str) -> tuple[str, str]:
    """(the answer alone, "") of a good reply, or ("", reason): that of a wrong answer, cut, thinking, refusal, copy, …"""
    if reply.wrong:
        return "", reply.wrong
    text, endless = cleaning.without_thinking(cleaning.seen(reply.text))
    cut = reply.finish == "length"
    if endless or (reply.reasoning and not text):
        return "", "thinking_budget" if cut else "thinking"
    if cut:
        return "", "cut"
    text, marked = cleaning.turn_alone(text)
    if text.startswith("```") and text.count("```") % 2:
        return "", "cut"
    if cleaning.is_trouble(text):
        return "", "bad_request"
    if reply.finish == "content_filter" or cleaning.is_refusal(text):
        return "", "refusal"
    text = cleaning.answer_alone(cleaning.without_prompt(text, prompt))
    reasons = {
        "marks": lambda: marked,
        "empty": lambda: not text,
        "thinking": lambda: cleaning.thinks_aloud(text),
        "refusal": lambda: cleaning.is_refusal(text),
        "copy": lambda: is_copy(text, prompt),
        "placeholder": lambda: cleaning.has_placeholder(text),
        "loop": lambda: cleaning.is_loop(text),
        "short": lambda: len(text) < SHORTEST,
        "other_language": lambda: lang in ("ru", "en") and len(CJK.findall(text)) > 2,
    }
    reason = next((name for name, holds in reasons.items() if holds()), "")
    return "" if reason else text, reason


def is_copy(text: str, prompt: str) -> bool:
    """Whether a reply mostly repeats what it was asked: most of its five-word runs stand in the prompt."""
    words, prompt = normal(text).split(), normal(prompt)
    if len(words) < RUN:
        return normal(text) in prompt and len(words) > 1
    runs = [" ".join(words[at : at + RUN]) for at in range(len(words) - RUN + 1)]
    return sum(run in prompt for run in runs) > COPIED * len(runs)


def to_row(text: str, prompt: dict) -> dict | None:
    """The row that a checked reply makes, or None where it does not have the shape that was asked for.

    Shapes: text; answer (to the prompt, or to "said", what a person would have asked); pair (a question and its answer);
    rare (the rarest of several answers); turns. A prompt that is a list of fields is nobody's question: its row is a text.
    """
    shape = prompt["shape"]
    if shape == "text":
        return {"text": text}
    if shape == "answer":
        asked = prompt["messages"]
        said = prompt.get("said") or asked[-1]["content"]
        answer = _own_turn(text)
        if cleaning.is_specification(said):
            return answer and {"text": answer}
        before = [turn for turn in asked[:-1] if turn["role"] != "user"] if prompt.get("said") else asked[:-1]
        return answer and {"messages": [*before, *_chat(said, answer)["messages"]]}
    if shape == "pair":
        pair = _PAIR.search(text)
        return pair and _chat(_bare(pair[1]), _bare(_QUESTION.split(pair[2])[0]))
    if shape == "rare":
        return _chat(prompt["ask"], rarest(text))
    return _dialogue(text)


def _own_turn(text: str) -> str | None:
    """The first answer of a reply that goes on as a conversation with itself; None where it begins with the question."""
    user = next((one for one in _USER.finditer(text) if not cleaning.in_code(text, one.start())), None)
    if not user:
        return text
    last = "\n\n" in text[: user.start() + 2] and "\n\n" not in text[user.end() :]
    if not last and not _ASSISTANT.search(text, user.end() - 1):
        return text
    return text[: user.start()].strip() or None


def _dialogue(text: str) -> dict | None:
    """Turns of two who take turns: A and B, a user and an assistant, or two names."""
    for label in (_LETTERS, _ROLES, _names(text)):
        found = list(label.finditer(text)) if label else []
        names = [_bare(one[0]).rstrip(':：*_ »"').lower().replace("а", "a") for one in found]
        if len(found) < 2 or len(set(names)) != 2 or text[: found[0].start()].strip():
            continue
        if any(one == following for one, following in itertools.pairwise(names)):
            return None
        ends = [one.start() for one in found[1:]] + [len(text)]
        said = [_bare(text[one.end() : end]) for one, end in zip(found, ends, strict=True)]
        if not all(said):
            return None
        user = names[0]
        return {
            "messages": [
                {"role": "user" if name == user else "assistant", "content": words}
                for name, words in zip(names, said, strict=True)
            ]
        }
    return None


def _names(text: str) -> re.Pattern | None:
    """The labels of the first two names that begin a line of the text."""
    names = list(dict.fromkeys(one[1].strip() for one in _NAMES.finditer(text)))[:2]
    return re.compile(_label("|".join(map(re.escape, names)))) if len(names) == 2 else None


def _bare(text: str) -> str:
    """Words without what is left of Markdown at their ends: a lone "**", a rule."""
    text = re.sub(r"(?:\n\s*-{3,}\s*)+$", "", text.strip()).strip()
    for mark in ("**", "__"):
        if text.count(mark) % 2:
            text = text.removeprefix(mark).removesuffix(mark).strip()
    return text


def rarest(text: str) -> str | None:
    """Of "probability | answer" lines the answer that was called least likely (verbalised sampling, arXiv:2510.01171)."""
    answers = []
    for match in filter(None, map(_CHANCE.match, text.split("\n"))):
        number = match[1].replace(",", ".")
        answers.append((float(number.rstrip("% ")) / (100 if "%" in number else 1), match[2].strip()))
    return min(answers)[1] if len(answers) > 1 else None


def _chat(question: str, answer: str | None) -> dict | None:
    if not question or not answer:
        return None
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
