"""What can be wrong with a config, a corpus or a model; the sentences for the person at the screen are in errors.json."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, ClassVar


class UserError(Exception):
    """What is wrong, with the value, and what to do next."""

    template: ClassVar[str] = "{message}"

    def __init__(self, **values: Any):
        super().__init__(self.template.format(**values))
        self.name, self.values = type(self).__name__, values


def first_line(error: object) -> str:
    """The first line of an error's message without its full stop; of one without a message the name of its class."""
    return str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__


@cache
def sentences() -> dict[str, str]:
    """The sentences of TrainingError by their names."""
    return json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))


class TrainingError(UserError, ValueError):
    """Something in a config, a corpus or a model that it cannot be trained with, by the name of its sentence."""

    def __init__(self, name: str, /, **values: Any):
        super().__init__(message=sentences()[name].format(**values))
        self.name, self.values = name, values


class TemplateRefused(TrainingError):
    """The chat template does not take these roles, which another way of writing the chat may mend."""

    def __init__(self, **values: Any):
        super().__init__("TemplateRefused", **values)
