"""Every sentence of the page, read from assets/locales: one JSON file a language.

A file holds "language" (its name in itself), "words" (key: sentence), "glossary" (term: its forms and its explanation,
see assets/glossary.js), "errors" (name of a UserError: sentence; the English of one with a class stands there) and
"formula_units" (what is translated inside formulas), "browser" (gradio's own sentences by their keys) and "framework" (tooltips
and names that gradio has in English only). What a file lacks is said in English. `Say(lang)` is handed to
every build() and turns keys into sentences.
"""

import json
import math
import re
from typing import Any

from core import errors, paths

LOCALES: dict[str, dict] = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((paths.assets() / "locales").glob("*.json"))
}
LANGUAGES = tuple(sorted(LOCALES, key=lambda lang: (lang != "en", lang)))
ENGLISH = LOCALES["en"]["words"]


class Say:
    """Sentences in one language: say("run.start") or say("run.step", step=3); `key in say` asks whether there is one."""

    def __init__(self, lang: str):
        self.lang = lang if lang in LANGUAGES else "en"
        self._locale = LOCALES[self.lang]

    def __call__(self, key: str, **values: Any) -> str:
        sentence = self._locale["words"].get(key) or ENGLISH[key]
        return sentence.format(**values) if values else sentence

    def __contains__(self, key: str) -> bool:
        return key in ENGLISH

    def field(self, key: str) -> dict[str, str]:
        """Label and help of a component of a form."""
        return {"label": self(key), "info": self(f"{key}.info")}

    def pick(self, translations: dict[str, str]) -> str:
        """The text of {language: text} in this language; in English where there is none."""
        return translations.get(self.lang) or translations["en"]

    def trouble(self, error: Exception) -> str:
        """The sentence of a known error, or the last line of any other."""
        name = errors.name_of(error)
        return self.worded(name, getattr(error, "values", None), str(error) or name)

    def worded(self, name: str, values: dict | None, english: str) -> str:
        """The sentence of an error read back from an event: its class name, its values and its English."""
        sentence = self._locale["errors"].get(name)
        if sentence is None or values is None:
            return english
        try:
            return sentence.format(**{key: self._value(key, value) for key, value in values.items()})
        except KeyError:  # of an earlier version, whose sentence had other values
            return english

    def _value(self, key: str, value: Any) -> Any:
        """The few values of an error that are words, or errors of their own."""
        if isinstance(value, Exception):
            return self.trouble(value)
        if isinstance(value, dict):
            return self.worded(value["trouble"], value["values"], value["message"])
        if key == "state":
            return self(f"state.{value}")
        if key in ("instead", "reason") and f"check.word.{value}" in self:
            return self(f"check.word.{value}")
        if key == "suggestion" and isinstance(value, str):
            return value.replace(" or ", f" {self('word.or')} ")
        return value

    def number(self, value: float | None, digits: int = 3) -> str:
        """A number with at most so many significant digits: 1,234 and 0.012 in English, 1 234 and 0,012 in Russian."""
        if value is None or value != value:
            return "NaN"
        decimals = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0
        plain = f"{value:,.{decimals}f}"
        if "." in plain:
            plain = plain.rstrip("0").rstrip(".")
        return plain.translate({ord(","): self("number.thousands"), ord("."): self("number.decimal")})

    def size(self, size: float, unit: str = "gib") -> str:
        """A number of bytes in gib, mib, gb or mb."""
        divisor = {"gib": 2**30, "mib": 2**20, "gb": 1e9, "mb": 1e6}[unit]
        return f"{self.number(size / divisor)}\u00a0{self(f'unit.{unit}')}"

    def percent(self, share: float) -> str:
        """A share as a percentage: 12.5%, in Russian 12,5 %."""
        return self("number.percent", value=self.number(100 * share))

    def formula(self, formula: str) -> str:
        """A formula of the calculator with its units and its numbers as this language writes them."""
        for english, translated in self._locale["formula_units"].items():
            formula = formula.replace(english, translated)
        marks = {",": self("number.thousands"), ".": self("number.decimal")}
        return re.sub(r"(?<=\d)(?:,(?=\d{3})|\.(?=\d))", lambda mark: marks[mark[0]], formula)

    def duration(self, seconds: float) -> str:
        """A length of time in its largest unit and the next one: 2 h 5 min; 31 days and 39 minutes are 31 d."""
        minutes, rest = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        days, hours = divmod(hours, 24)
        units = self("duration.units").split()
        amounts = [days, hours, minutes, rest]
        first = next((at for at, amount in enumerate(amounts) if amount), len(amounts) - 1)
        shown = [f"{n}\u00a0{unit}" for n, unit in zip(amounts, units, strict=True)][first : first + 2]
        return " ".join(shown[:1] + [part for part in shown[1:] if not part.startswith("0")])


def glossary(lang: str) -> dict[str, list[str]]:
    """The terms that the page explains: [forms with a bar between them, explanation] by name."""
    return LOCALES["en"]["glossary"] | LOCALES[lang].get("glossary", {})


def in_markdown(text: str) -> str:
    """A text so that Markdown shows it as it is written: no markup, and no image, which would ask another host."""
    return re.sub(r"[\\`*_{}\[\]<>&!#|~$]", r"\\\g<0>", text)
