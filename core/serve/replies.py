"""Replies as OpenAI's clients read them: one object, or chunks of a stream; errors too."""

import json
import re
import secrets
import time
from collections.abc import AsyncIterator

from core import errors
from core.chat.types import Reply
from core.errors import UserError
from core.serve.requests import Asked, RequestRefused

LEAST_LOGPROB = -9999.0  # in place of minus infinity, which JSON lacks
# (status, code) of known errors, by their class; all others are a fault of this side.
KNOWN = {
    **dict.fromkeys(("ChatModelGone", "RunGone", "ProfileGone", "NotOurs", "NoAdapter"), (404, "model_not_found")),
    "BaseGone": (404, "base_not_found"),
    "PromptTooLong": (400, "context_length_exceeded"),
    "TemplateRefused": (400, "template_refused"),
    "CardBusy": (503, "card_busy"),
    "ChatClosed": (503, "card_busy"),
    "NoRoom": (503, "out_of_memory"),
    "MemoryRanOut": (503, "out_of_memory"),
}


class Answer:
    """The answer to one request, whole or piece by piece."""

    def __init__(self, asked: Asked):
        self.asked, self.id = asked, f"chatcmpl-{secrets.token_hex(12)}"
        self.created, self.sent, self.noted = int(time.time()), "", 0

    def whole(self, reply: Reply) -> dict:
        """The object of a reply that has ended."""
        message = {"role": "assistant", "content": reply.text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": self._logprobs(reply), "finish_reason": reason(reply)}
        return self._head("chat.completion") | {"choices": [choice], "usage": usage(reply)}

    async def events(self, replies: AsyncIterator[Reply]) -> AsyncIterator[str]:
        """Server-sent events of a reply that grows; an error in the middle is one of them, and the last."""
        yield event(self._chunk({"role": "assistant", "content": ""}))
        reply = Reply()
        try:
            async for reply in replies:
                delta = self._fresh(reply)
                logprobs = self._logprobs(reply)
                if delta or (logprobs and logprobs["content"]):
                    yield event(self._chunk({"content": delta}, logprobs))
        except Exception as error:  # the headers are gone: the status cannot say it any more
            yield event(error_object(refusal(error)))
            return
        yield event(self._chunk({}, reason=reason(reply)))
        if self.asked.include_usage:
            yield event(self._head("chat.completion.chunk") | {"choices": [], "usage": usage(reply)})
        yield "data: [DONE]\n\n"

    def _head(self, kind: str) -> dict:
        head = {"id": self.id, "object": kind, "created": self.created, "model": self.asked.question.model_id}
        return head | {"system_fingerprint": None}

    def _chunk(self, delta: dict, logprobs: dict | None = None, reason: str | None = None) -> dict:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        head = self._head("chat.completion.chunk") | {"choices": [choice]}
        return head | ({"usage": None} if self.asked.include_usage else {})

    def _fresh(self, reply: Reply) -> str:
        """What is new of a reply's text; what may be the beginning of a stop word waits."""
        text = reply.text if reply.finish_reason else reply.text[: settled(reply.text, self.asked.question.stop)]
        fresh, self.sent = text[len(self.sent) :], max(text, self.sent, key=len)
        return fresh

    def _logprobs(self, reply: Reply) -> dict | None:
        """The log-probabilities that were not sent yet."""
        if self.asked.question.logprobs is None:
            return None
        fresh = reply.logprobs[self.noted :]
        self.noted += len(fresh)
        content = [_token(token) | {"top_logprobs": [_token(other) for other in token["top"]]} for token in fresh]
        return {"content": content, "refusal": None}


def settled(text: str, stops: tuple[str, ...]) -> int:
    """The length of the prefix of a text that cannot contain the beginning of a stop word."""
    ends = [size for stop in stops for size in range(1, len(stop)) if text.endswith(stop[:size])]
    return len(text) - max(ends, default=0)


def reason(reply: Reply) -> str:
    """stop or length."""
    return "stop" if reply.finish_reason == "stop" else "length"


def usage(reply: Reply) -> dict:
    total = reply.prompt_tokens + reply.tokens
    return {"prompt_tokens": reply.prompt_tokens, "completion_tokens": reply.tokens, "total_tokens": total}


def event(values: dict) -> str:
    return f"data: {json.dumps(values, ensure_ascii=False)}\n\n"


def refusal(error: Exception) -> RequestRefused:
    """Any error as one that a client gets to read; of an unknown one no more than its class."""
    if isinstance(error, RequestRefused):
        return error
    name = errors.to_dict(error)["trouble"]
    if not isinstance(error, UserError):
        return RequestRefused(500, f"{name}: the details are in the server's output.", code="internal_error")
    status, code = KNOWN.get(name, (500, re.sub(r"(?<=.)([A-Z])", r"_\1", name).lower()))
    return RequestRefused(status, str(error), "model" if code == "model_not_found" else None, code)


def error_object(error: RequestRefused) -> dict:
    """An error as OpenAI writes it."""
    kinds = {401: "authentication_error", 429: "rate_limit_error"}
    kind = kinds.get(error.status, "server_error" if error.status >= 500 else "invalid_request_error")
    return {"error": {"message": str(error), "type": kind, "param": error.param, "code": error.code}}


def _token(token: dict) -> dict:
    logprob = max(token["logprob"], LEAST_LOGPROB)
    return {"token": token["token"], "logprob": logprob, "bytes": list(token["token"].encode("utf-8", "replace"))}
