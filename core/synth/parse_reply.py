"""From a checked reply to a row: a text, a question with its answer, a dialogue, the rarest of several answers."""

import itertools
import re

_PAIR = re.compile(
    r"(?:^|\n)\W*(?:question|request|вопрос|просьба)\W*:\s*(.+?)\n\W*(?:answer|ответ)\W*:\s*(.+)",
    re.DOTALL | re.IGNORECASE,
)
_TURN = re.compile(r"(?:^|\n)\W*([ABАБ])\s*:\s*")
_CHANCE = re.compile(r"^\W*([01]?[.,]\d+|\d{1,3}\s*%|1)\W*[|:—-]\s*(.+)$")


def row(text: str, prompt: dict) -> dict | None:
    """The row that a reply makes, or None where it does not have the shape that was asked for."""
    shape = prompt["shape"]
    if shape == "text":
        return {"text": text}
    if shape == "answer":
        said = prompt["messages"]
        return {"messages": [*said, {"role": "assistant", "content": text}]}
    if shape == "pair":
        found = _PAIR.search(text)
        return found and _chat(found[1].strip(), found[2].strip())
    if shape == "rare":
        rare = rarest(text)
        return rare and _chat(prompt["ask"], rare)
    parts = _TURN.split(text)[1:]
    turns = [(mark in "AА", said.strip()) for mark, said in zip(parts[::2], parts[1::2], strict=False) if said.strip()]
    if len(turns) < 2 or any(one[0] == other[0] for one, other in itertools.pairwise(turns)):
        return None
    first = turns[0][0]
    return {"messages": [{"role": "user" if who == first else "assistant", "content": said} for who, said in turns]}


def rarest(text: str) -> str | None:
    """Of "probability | answer" lines the answer that was called least likely (verbalised sampling, arXiv:2510.01171)."""
    found = []
    for line in text.split("\n"):
        if match := _CHANCE.match(line):
            number = match[1].replace(",", ".")
            found.append((float(number.rstrip("% ")) / (100 if "%" in number else 1), match[2].strip()))
    return min(found)[1] if len(found) > 1 else None


def _chat(ask: str, answer: str) -> dict | None:
    if not ask or not answer:
        return None
    return {"messages": [{"role": "user", "content": ask}, {"role": "assistant", "content": answer}]}
