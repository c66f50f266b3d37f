"""Which replies of a model become rows, of what shape, and why the others do not."""

import itertools
import re
from dataclasses import dataclass

from core.corpus.languages import CJK
from core.corpus.text_normalization import one as normal

SHORTEST = 20  # characters
RUN, COPIED = 5, 0.6  # words that stand in the prompt too, and the share of such runs that makes a reply a copy
_THINK = re.compile(r"<(think|thinking|reasoning)>.*?</\1>\s*", re.DOTALL | re.IGNORECASE)
_LEFT = re.compile(r"</?(?:think|thinking|reasoning)>|<\|[a-z_]+\|>", re.IGNORECASE)
_REFUSAL = re.compile(
    r"^\W*(?:i'?m sorry|i am sorry|sorry, (?:but )?i|i can(?:no|')t|i am unable|i'm unable|as an ai\b|as a language model"
    r"|извините, (?:но )?я|к сожалению, я не|я не могу (?:помочь|выполнить|ответить|написать)|как (?:ии|языковая модель)"
    r"|как искусственный интеллект|простите, (?:но )?я не)",
    re.IGNORECASE,
)
_PAIR = re.compile(
    r"(?:^|\n)\W*(?:question|request|вопрос|просьба)\W*:\s*(.+?)\n\W*(?:answer|ответ)\W*:\s*(.+)",
    re.DOTALL | re.IGNORECASE,
)
_TURN = re.compile(r"(?:^|\n)\W*([ABАБ])\s*:\s*")
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


def checked(reply: Reply, prompt: str, lang: str) -> tuple[str, str]:
    """(text, "") of a good reply, or ("", reason): that of a wrong answer, cut, thinking, refusal, copy, …"""
    if reply.wrong or reply.finish == "length":
        return "", reply.wrong or "cut"
    text = _THINK.sub("", reply.text).strip()
    reasons = {
        "thinking": lambda: _LEFT.search(text),
        "empty": lambda: not text,
        "refusal": lambda: _REFUSAL.search(text[:200]),
        "copy": lambda: is_copy(text, prompt),
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

    Shapes: text; answer (to the prompt); pair (a question and its answer); rare (the rarest of several answers); turns.
    """
    shape = prompt["shape"]
    if shape == "text":
        return {"text": text}
    if shape == "answer":
        return {"messages": [*prompt["messages"], {"role": "assistant", "content": text}]}
    if shape == "pair":
        pair = _PAIR.search(text)
        return pair and _chat(pair[1].strip(), pair[2].strip())
    if shape == "rare":
        return _chat(prompt["ask"], rarest(text))
    parts = _TURN.split(text)[1:]
    turns = [(who in "AА", words.strip()) for who, words in zip(parts[::2], parts[1::2], strict=False) if words.strip()]
    if len(turns) < 2 or any(turn[0] == next_turn[0] for turn, next_turn in itertools.pairwise(turns)):
        return None
    first = turns[0][0]
    return {"messages": [{"role": "user" if who == first else "assistant", "content": words} for who, words in turns]}


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
