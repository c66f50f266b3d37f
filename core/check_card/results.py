"""A check's result as a dict, the result of all of them, and both as lines for the terminal.

A result is {"name", "state", "value", "expected", "advice"}: value and expected are dicts of figures by their unit
("tokens_per_second": 812.0) or of plain facts ("attention": "sdpa"); advice is an error as {"trouble", "values",
"message"}, so that the page can say it in its own language, or None.
"""

import json
import math
from collections.abc import Iterable

from core import errors

# Each check by its name, and the module that has the function check_NAME.
GROUPS = {
    "kernels": ("torch", "architecture", "matmul_fp32", "matmul_bf16", "matmul_fp16"),
    "quantisation": ("bnb_4bit", "bnb_8bit"),
    "attention": ("attention", "packing"),
}
STATES = ("ok", "slow", "broken")  # from good to bad
STAND_IN = "random weights"  # the model that takes the starter's place
MISSED = ("time", "memory", "losses")  # why a check is left out that might have found something


def result(name: str, state: str, value: dict, expected: dict | None = None, advice: Exception | None = None) -> dict:
    """The result of one check."""
    worded = None if advice is None else errors.to_dict(advice)
    return {"name": name, "state": state, "value": _json(value), "expected": _json(expected or {}), "advice": worded}


def _json(values: dict) -> dict:
    """The same with four digits: more would not be the same in the next run. What JSON has not (NaN) becomes a word."""
    numbers = {key: value for key, value in values.items() if isinstance(value, float)}
    return values | {key: float(f"{x:.4g}") if math.isfinite(x) else str(x) for key, x in numbers.items()}


def say(**values) -> None:
    """Tell the process that started this one, in a line of JSON."""
    print("\n" + json.dumps(values, ensure_ascii=False), flush=True)  # on a line of its own, whatever libraries print


def worst(states: Iterable[str]) -> str:
    return max(states, key=STATES.index, default="ok")


def is_whole(checks: list[dict]) -> bool:
    """Whether all was checked that this device can do, with the model that was meant."""
    values = [check["value"] for check in checks]
    return not any(value.get("left_out") in MISSED or value.get("model") == STAND_IN for value in values)


def final(device: str, torch: str, checks: list[dict]) -> dict:
    """The object that is printed last and pasted into a report: advice in plain English."""
    plain = [check | {"advice": (check["advice"] or {}).get("message", "")} for check in checks]
    return {"device": device, "torch": torch, "checks": plain, "state": worst(check["state"] for check in checks)}


def line(check: dict) -> str:
    """A check in one line for the terminal."""
    parts = [f"{check['state']:7}{check['name']}"]
    parts += [figures(check["value"])] if check["value"] else []
    parts += [f"(expected: {figures(check['expected'])})"] if check["expected"] else []
    parts += [f"-> {check['advice']['message']}"] if check["advice"] else []
    return " ".join(parts)


def figures(values: dict) -> str:
    return ", ".join(f"{key} {f'{x:.4g}' if isinstance(x, float) else x}" for key, x in values.items())
