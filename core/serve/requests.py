"""What a client asks of /v1/chat/completions, as the chat understands it; what is not done here is refused by name."""

import math
import secrets
from dataclasses import dataclass

from core.chat.types import Question, Sampling

UNLIMITED = 2**31  # tokens: a reply ends with its model or with its context
MOST_STOPS, MOST_TOP_LOGPROBS = 16, 20
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
# Fields of OpenAI's that change the reply and are not done here, with the values that change nothing.
NEUTRAL = {
    "n": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "functions": ([],),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
}


class RequestRefused(Exception):
    """A request that is answered with an error: its HTTP status, and what OpenAI's error objects say."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None):
        super().__init__(message)
        self.status, self.param, self.code = status, param, code


@dataclass(frozen=True)
class Asked:
    """A request: whom it asks what, and how the reply is to come."""

    question: Question
    sampling: Sampling
    stream: bool
    include_usage: bool


def read(body: object) -> Asked:
    """The request of a body that was JSON.

    Raises:
        RequestRefused: 400, with the field that is wrong.
    """
    if not isinstance(body, dict):
        raise RequestRefused(400, "The body must be a JSON object.")
    given = {name: value for name, value in body.items() if value is not None}
    for name, neutral in NEUTRAL.items():
        if name in given and given[name] not in neutral:
            raise RequestRefused(400, f"{name} is not supported here; leave it out.", name, "unsupported_parameter")
    options = _typed(given, "stream_options", dict, {})
    return Asked(
        Question(_model(given), _messages(given), _stops(given), _logprobs(given)),
        _sampling(given),
        _typed(given, "stream", bool, False),
        bool(options.get("include_usage")),
    )


def _model(given: dict) -> str:
    model = _typed(given, "model", str, "")
    if not model:
        raise RequestRefused(400, "model is missing. GET /v1/models lists them.", "model", "missing_required_parameter")
    return model


def _messages(given: dict) -> list[dict]:
    """The chat, system messages at its beginning as one: templates know one."""
    listed = _typed(given, "messages", list, [])
    if not listed:
        raise RequestRefused(400, "messages must hold a message.", "messages", "missing_required_parameter")
    messages = [_message(message, f"messages[{index}]") for index, message in enumerate(listed)]
    first = next((index for index, one in enumerate(messages) if one["role"] != "system"), len(messages))
    system = "\n\n".join(one["content"] for one in messages[:first])
    return ([{"role": "system", "content": system}] if first else []) + messages[first:]


def _message(message: object, param: str) -> dict:
    if not isinstance(message, dict) or message.get("role") not in ROLES:
        raise RequestRefused(400, f"{param} must have a role of {', '.join(ROLES)}.", f"{param}.role", "invalid_value")
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content or ""}]
    for part in parts:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise RequestRefused(400, f"{param}.content may hold text only.", f"{param}.content", "invalid_value")
    return {"role": ROLES[message["role"]], "content": "".join(part["text"] for part in parts)}


def _stops(given: dict) -> tuple[str, ...]:
    stops = given.get("stop", [])
    stops = [stops] if isinstance(stops, str) else stops
    if not isinstance(stops, list) or len(stops) > MOST_STOPS or not all(isinstance(s, str) and s for s in stops):
        raise RequestRefused(
            400, f"stop must be a text or at most {MOST_STOPS} of them, none empty.", "stop", "invalid_value"
        )
    return tuple(stops)


def _logprobs(given: dict) -> int | None:
    top = _number(given, "top_logprobs", 0, 0, MOST_TOP_LOGPROBS, whole=True)
    wanted = _typed(given, "logprobs", bool, False)
    if top and not wanted:
        raise RequestRefused(400, "top_logprobs needs logprobs to be true.", "top_logprobs", "invalid_value")
    return top if wanted else None


def _sampling(given: dict) -> Sampling:
    """OpenAI's defaults, and no penalty: whoever asks through this interface expects them."""
    limits = [name for name in ("max_completion_tokens", "max_tokens") if name in given]
    most = _number(given, limits[0], 1, 1, UNLIMITED, whole=True) if limits else UNLIMITED
    top_p = _number(given, "top_p", 1.0, 0, 1)
    return Sampling(
        temperature=_number(given, "temperature", 1.0, 0, 2) if top_p else 0.0,
        top_p=top_p or 1.0,
        top_k=_number(given, "top_k", 0, 0, UNLIMITED, whole=True),
        repetition_penalty=_number(given, "repetition_penalty", 1.0, 0.1, 10),
        max_new_tokens=most,
        seed=_number(given, "seed", secrets.randbits(31), -(2**63), 2**63 - 1, whole=True) % 2**63,
    )


def _typed(given: dict, name: str, kind: type, default):
    value = given.get(name, default)
    if not isinstance(value, kind):
        raise RequestRefused(400, f"{name} must be of type {kind.__name__}.", name, "invalid_type")
    return value


def _number(given: dict, name: str, default: float, least: float, most: float, *, whole: bool = False):
    value = given.get(name, default)
    kind = int if whole else (int, float)
    finite = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))  # an int may be no float's
    if isinstance(value, bool) or not isinstance(value, kind) or not finite:
        raise RequestRefused(400, f"{name} must be a {'whole ' if whole else ''}number.", name, "invalid_type")
    if not least <= value <= most:
        raise RequestRefused(400, f"{name} must be between {least} and {most}, got {value}.", name, "invalid_value")
    return value
