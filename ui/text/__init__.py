"""Every visible sentence, in English and Russian: one module of this package a room.

A room's module holds `WORDS = {key: (English, Russian)}` and `TROUBLES = {class name: Russian}`; the English of a
trouble stands in its class. `Say(lang)` is handed to every build() and turns keys into sentences.
"""

import importlib
import math
import pkgutil
from typing import Any

from core import errors

LANGUAGES = ("en", "ru")

WORDS: dict[str, tuple[str, str]] = {}
TROUBLES: dict[str, str] = {}
for _module in pkgutil.iter_modules(__path__):
    _room = importlib.import_module(f"{__name__}.{_module.name}")
    WORDS |= _room.WORDS
    TROUBLES |= getattr(_room, "TROUBLES", {})


class Say:
    """Sentences in one language: say("run.start") or say("run.step", step=3)."""

    def __init__(self, lang: str):
        self.lang = lang if lang in LANGUAGES else "en"

    def __call__(self, key: str, **values: Any) -> str:
        sentence = WORDS[key][LANGUAGES.index(self.lang)]
        return sentence.format(**values) if values else sentence

    def trouble(self, error: Exception) -> str:
        """The sentence of a known trouble, or the last line of any other error."""
        if isinstance(error, errors.ErrorElsewhere):
            return self.worded(error.name, error.values, str(error))
        return self.worded(type(error).__name__, getattr(error, "values", None), str(error) or type(error).__name__)

    def worded(self, name: str, values: dict | None, english: str) -> str:
        """The sentence of a trouble read back from an event: its class name, its values and its English."""
        if self.lang == "en" or name not in TROUBLES or values is None:
            return english
        return TROUBLES[name].format(**{key: self._value(key, value) for key, value in values.items()})

    def _value(self, key: str, value: Any) -> Any:
        """The few values of a trouble that are words."""
        if key == "state":
            return self(f"state.{value}")
        return value.replace(" or ", " или ") if key == "suggestion" and isinstance(value, str) else value

    def number(self, value: float | None, digits: int = 3) -> str:
        """A number with at most so many significant digits: 1,234 and 0.012 in English, 1 234 and 0,012 in Russian."""
        if value is None or value != value:
            return "NaN"
        decimals = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0
        plain = f"{value:,.{decimals}f}"
        if "." in plain:
            plain = plain.rstrip("0").rstrip(".")
        if self.lang == "ru":
            plain = plain.replace(",", "\u00a0").replace(".", ",")
        return plain

    def duration(self, seconds: float) -> str:
        """A length of time in its two largest units: 2 h 5 min."""
        minutes, rest = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        days, hours = divmod(hours, 24)
        units = ("d", "h", "min", "s") if self.lang == "en" else ("д", "ч", "мин", "с")
        parts = [f"{n}\u00a0{unit}" for n, unit in zip((days, hours, minutes, rest), units, strict=True) if n]
        return " ".join(parts[:2]) or f"0\u00a0{units[-1]}"
