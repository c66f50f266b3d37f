"""What a command line asks in JSON, as the dataclass that takes it; whatever cannot be meant is refused with its name."""

import codecs
import json
from dataclasses import MISSING, fields

from core.corpus import checks, duplicates
from core.errors import UserError


class OptionsWrong(UserError):
    template = "{option}: {what}. It takes a JSON object with any of: {known}."


def read(kind: type, text: str, option: str):
    """An object of this dataclass with the values of a JSON object.

    Raises:
        OptionsWrong: for what is not JSON, unknown names, values of another type, encodings and reasons unheard of.
    """
    known = {
        item.name: item.default if item.default is not MISSING else item.default_factory() for item in fields(kind)
    }

    def wrong(what: str) -> OptionsWrong:
        return OptionsWrong(option=option, what=what, known=", ".join(known))

    try:
        values = json.loads(text)
    except ValueError as error:
        raise wrong(f"this is not JSON ({error})") from error
    if not isinstance(values, dict):
        raise wrong("this is not an object")
    for name, value in values.items():
        if name not in known:
            raise wrong(f'"{name}" is not known')
        if (what := _unfit(name, value, known[name])) is not None:
            raise wrong(f"{name} {what}")
    return kind(**{name: tuple(value) if name == "leave_out" else value for name, value in values.items()})


def _unfit(name: str, value, default) -> str | None:
    if name == "leave_out":
        reasons = (*duplicates.KINDS[1:], *checks.FLAGS)
        good = isinstance(value, list) and all(reason in reasons for reason in value)
        return None if good else f"has to be a list of: {', '.join(reasons)}"
    wanted = dict if default is None else type(default)
    if not ((isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool))) or value is default):
        return f"has to be {_NAMES[wanted]}"
    if name == "encoding" and value:
        try:
            codecs.lookup(value)
        except LookupError:
            return f'names the encoding "{value}", which is not known'
    return None


_NAMES = {bool: "true or false", str: "a text", int: "a number", dict: "an object"}
