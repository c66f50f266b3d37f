"""Errors that are a sentence for the person at the screen, and how they travel between processes.

Each has a name, by which the page translates it (assets/locales), and `values` that fill the sentence in. What is shown
is raised as named("CardGone"), and its English stands in assets/locales/en.json; one handler may ask for its name. What is
caught by class is a subclass with an English `template`. Everything else keeps its traceback. UserError itself is defined in core/training, which imports
nothing of ours.
"""

import json
import os
import re
import sys
import traceback
from functools import cache
from pathlib import Path
from typing import Any

from core.training.errors import UserError as UserError
from core.training.errors import first_line as first_line

KEYS = (
    "SOULSMITH_API_KEY",
    "OPENAI_API_KEY",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "SOULSMITH_HUB_TOKEN",
)  # variables with a secret


def without_keys(text: str) -> str:
    """A text without the keys of this process, and without what looks like a key of the hub or of OpenAI."""
    for name in KEYS:
        if len(key := os.environ.get(name, "").strip()) >= 8:  # a shorter one would be found in honest words
            text = text.replace(key, "[key]")
    return re.sub(r"\b(hf_[A-Za-z0-9]{30,}|sk-[A-Za-z0-9_-]{30,})\b", "[key]", text)


def log() -> None:
    """Print the traceback of the error that is handled, without keys."""
    print(without_keys(traceback.format_exc()), file=sys.stderr, flush=True)


class NamedError(UserError):
    """An error by a name instead of a class of its own; its English stands under "errors" in assets/locales."""

    def __init__(self, name: str, /, **values: Any):
        super().__init__(message=_english()[name].format(**values))
        self.name, self.values = name, values


class ErrorElsewhere(UserError):
    """An error of another process, by the name that it had there."""

    def __init__(self, name: str, values: dict | None, message: str):
        super().__init__(message=message)
        self.name, self.values = name, values


@cache
def _english() -> dict[str, str]:
    """The English of errors without a class, by their names."""
    file = Path(__file__).parent.parent / "assets" / "locales" / "en.json"
    return json.loads(file.read_text(encoding="utf-8"))["errors"]


def named(name: str, /, **values: Any) -> NamedError:
    """An error that is shown, and caught by its name where one handler needs that."""
    return NamedError(name, **values)


def name_of(error: Exception) -> str:
    """The name that the page translates an error by."""
    return error.name if isinstance(error, UserError) else type(error).__name__


def to_dict(error: Exception) -> dict:
    """An error for an event, a pipe or the end of a command line: {"trouble": its name, "values", "message"}.

    `values` is None for an error that nobody foresaw: the page then shows the message as it is.
    """
    name = name_of(error)
    values = getattr(error, "values", None) if isinstance(error, UserError) else None
    values = None if values is None else {key: _told(value) for key, value in values.items()}
    return {"trouble": name, "values": values, "message": without_keys(str(error)) or name}


def _told(value: Any) -> str | dict:
    """A value of an error as text; one that is an error itself keeps its name, so that it can be translated too."""
    return (
        to_dict(value)
        if isinstance(value, UserError)
        else value
        if isinstance(value, dict)
        else without_keys(str(value))
    )


def tell(error: Exception, as_json: bool) -> int:
    """Print the error that ends a command line, as one line of JSON or as a sentence on stderr; the exit status."""
    if as_json:
        print(json.dumps(to_dict(error), ensure_ascii=False), flush=True)
    else:
        print(error, file=sys.stderr)
    return 1


def from_dict(told: dict) -> ErrorElsewhere:
    """The error that to_dict() described."""
    return ErrorElsewhere(told["trouble"], told["values"], told["message"])
