"""Questions of data sets: with a passage, with choices, with answers in lists and objects as SQuAD and ARC have them."""

import re
from collections.abc import Iterator
from functools import lru_cache

from core.corpus import content, turn_lists
from core.corpus.content import Unfit
from core.corpus.sources import Bad, Record

CHOICES = ("choices", "options", "варианты")
COLUMNS = re.compile(r"(?:(?:option|choice|вариант)[ _-]?)?([a-h]|[1-8])")  # of one choice each
FEWEST = 4  # columns of a question with an answer and two choices
LETTER = re.compile(r"\(?([A-Ha-h])[).:]\s*")  # before the words of a choice
NO_INPUT = ("<noinput>", "<no input>", "noinput", "no input", "n/a", "none", "null", "nan")  # in Alpaca's second column


def asked(value: dict, columns: list[str], notes: list[str]) -> str:
    """The words of a question: its columns, and a line for each of its choices."""
    ask = _words(value.get(columns[0]), notes)
    if len(columns) > 1:
        ask = _joined([ask, *(_words(value.get(name), notes) for name in columns[1:])], notes)
    if not (choices := _choices(value)) or not ask.strip():
        return ask
    texts = [text for _, text in choices]
    return ask if all(text in ask for text in texts) else "\n".join([ask + "\n", *texts])


def _joined(parts: list[str], notes: list[str]) -> str:
    if any(part.strip().lower() in NO_INPUT for part in parts[1:]):
        parts = parts[:1]
        notes.append("placeholder_dropped")
    return "\n\n".join(part for part in parts if part.strip())


def answered(answer: object, value: dict, notes: list[str]) -> object:
    """The reply of a record: the first of several, of SQuAD's object its text, of a choice its words."""
    if isinstance(answer, str) and "answer_start" in answer:  # of SQuAD, in a cell of a table
        answer = turn_lists.parsed(answer) or answer
    if not isinstance(answer, str):
        answer = _of_several(answer, notes)
    if answer == "nan":  # what pandas makes of a cell that is missing
        return ""
    choices = _choices(value)
    return _chosen(answer, choices) if choices else answer


def _of_several(answer: object, notes: list[str]) -> object:
    if isinstance(answer, dict) and isinstance(answer.get("text"), list):
        answer = answer["text"] or ""
    if isinstance(answer, list) and answer and all(isinstance(one, dict) and "answer_start" in one for one in answer):
        answer = [one.get("text") for one in answer]
    if isinstance(answer, list) and answer and all(isinstance(one, str) for one in answer):
        different = list(dict.fromkeys(answer))
        notes += ["branches_dropped"] * (len(different) - 1)
        answer = different[0]
    return answer


def _words(value: object, notes: list[str]) -> str:
    several = isinstance(value, list) and len(value) > 1 and all(isinstance(one, str) for one in value)
    return "\n\n".join(value) if several else content.text_of(value, notes).strip("\n")


def _choices(value: dict) -> list[tuple[str, str]]:
    """(label, words) of each choice that a record has; none of a record without."""
    key, columns = _fields_of_choices(tuple(value))
    if key is None and not columns:
        return []
    if key is None:
        found = [(label, value[column]) for label, column in columns]
    else:
        found = _pairs(turn_lists.parsed(value[key]) if isinstance(value[key], str) else value[key])
    found = [(label, text) for label, text in found if text is not None and text != ""]
    proper = len(found) > 1 and all(isinstance(text, (str, int, float)) for _, text in found)
    return [(str(label).lower(), str(text)) for label, text in found] if proper else []


@lru_cache
def _fields_of_choices(fields: tuple) -> tuple[object, list[tuple[str, object]]]:
    """The field of all choices, None where there is none, and (label, field) of each that has a field of its own."""
    names = {turn_lists.plain(field): field for field in fields}
    key = next((names[name] for name in CHOICES if name in names), None)
    few = key is not None or len(names) < FEWEST
    columns = [] if few else [(match[1], names[name]) for name in names if (match := COLUMNS.fullmatch(name))]
    return key, columns


def _pairs(choices: object) -> list[tuple[object, object]]:
    if isinstance(choices, dict):
        texts, labels = choices.get("text"), choices.get("label")
        if isinstance(texts, list) and isinstance(labels, list):
            return list(zip(labels, texts, strict=False))
        return list(choices.items()) if all(isinstance(text, str) for text in choices.values()) else []
    if not isinstance(choices, list):
        return []
    if all(isinstance(one, dict) and {"label", "text"} <= one.keys() for one in choices):
        return [(one["label"], one["text"]) for one in choices]
    letters = [LETTER.match(one) if isinstance(one, str) else None for one in choices]
    return [
        (letter[1] if letter else str(at), one) for at, (one, letter) in enumerate(zip(choices, letters, strict=True))
    ]


def _chosen(answer: object, choices: list[tuple[str, str]]) -> object:
    """The words of the choice that an answer names by its label, its number from 0 or its letter; words stay.

    Raises:
        Unfit: no_such_choice.
    """
    said = str(answer).strip().strip("().").lower()
    named = dict(reversed(choices))
    letters = dict(zip("abcdefgh", (text for _, text in choices), strict=False))
    if isinstance(answer, bool) or answer is None or said in (text.lower() for text in named.values()):
        return answer
    if said in named or said in letters:
        return LETTER.sub("", named.get(said) or letters[said], count=1)
    if isinstance(answer, (int, float)) or re.fullmatch(r"-?\d{1,2}|[a-z]", said):
        raise Unfit("no_such_choice", str(answer))
    return answer


def is_squad(value: object) -> bool:
    """Whether a parsed file holds paragraphs with questions, as those of SQuAD, SberQuAD and XQuAD do."""
    articles = value.get("data") if isinstance(value, dict) else None
    first = articles[0] if isinstance(articles, list) and articles else None
    return isinstance(first, dict) and isinstance(first.get("paragraphs"), list)


def of_squad(value: dict) -> Iterator[Record | Bad]:
    """Each question of a file of SQuAD with its paragraph; one that has no answer there is without one."""
    number = 0
    for article in value["data"]:
        about = article if isinstance(article, dict) else {}
        for paragraph in about.get("paragraphs") or [article]:
            asked = paragraph.get("qas") if isinstance(paragraph, dict) else None
            if not isinstance(asked, list) or not all(isinstance(one, dict) for one in asked):
                number += 1
                yield Bad(f"#{number}", "turns_unreadable", str(paragraph)[:200])
                continue
            for one in asked:
                number += 1
                more = {"context": paragraph.get("context"), "title": about.get("title")}
                answers = {"answers": one.get("answers") or []}
                yield Record(f"#{number}", {"question": one.get("question")} | more | answers)
