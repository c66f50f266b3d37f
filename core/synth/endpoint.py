"""An OpenAI-compatible server that writes: Ollama, llama.cpp, vLLM, LM Studio, or one on the network.

A key goes to the host that it was given for and is never kept (KEYS): what a server says is cleaned of it. What can
get better by waiting (no answer, 429, 5xx) is tried again with growing pauses; 401, 403 and 404 stop at once with the
address. A field that a server refuses (top_p, thinking) is left out from then on. By the standard library: httpx would
be as long, trusts another list of certificates than the system, and ends at a SOCKS proxy in ALL_PROXY.
"""

import http.client
import json
import os
import random
import threading
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from core import errors
from core.errors import UserError
from core.synth.replies import Reply

# The variable of a key: (the variable with the address that it is for, the address where that is not set).
KEYS = {"SOULSMITH_API_KEY": ("SOULSMITH_API_URL", ""), "OPENAI_API_KEY": ("OPENAI_BASE_URL", "https://api.openai.com")}
ATTEMPTS, FIRST_PAUSE, LONGEST_PAUSE = 7, 0.5, 60.0
SECONDS = 300.0  # of one request, unless the request of a job says otherwise
TIMEOUTS = 2  # requests without an answer in time, after which the server counts as down
MOST_BYTES = 20 * 2**20  # of a reply
# Servers know different names for it: vLLM, SGLang and llama.cpp the first, Ollama and OpenAI the second.
THINKING = {
    "off": {"chat_template_kwargs": {"enable_thinking": False}, "reasoning_effort": "none"},
    "on": {"chat_template_kwargs": {"enable_thinking": True}, "reasoning_effort": "medium"},
}
OPTIONAL = ("reasoning_effort", "chat_template_kwargs", "top_p", "seed", "temperature")  # the first to go is first


class EndpointDown(UserError):
    template = "{url} did not answer in {attempts} attempts. The last: {reason}. Start the server, then go on."


class Closed(Exception):
    """The job ended while this thread was asking."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to another address."""

    def redirect_request(self, *_):
        return None


def address(url: str) -> str:
    """The address of chat completions at a server.

    Raises:
        EndpointNotAnAddress. EndpointHoldsKey: for one with a password or a key.
    """
    try:
        parts = urlsplit(url.strip())
        is_server = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and url.isascii()
    except ValueError:  # a bracket that is not closed, a port that is no number
        is_server = False
    if not is_server:
        raise errors.named("EndpointNotAnAddress", url=url)
    if parts.username or parts.password or parts.query:
        raise errors.named(
            "EndpointHoldsKey", host=parts.hostname, key="SOULSMITH_API_KEY", variable="SOULSMITH_API_URL"
        )
    base = url.strip().rstrip("/").removesuffix("/chat/completions")
    return f"{base}/chat/completions" if parts.path.strip("/") else f"{base}/v1/chat/completions"


def key_for(url: str) -> str:
    """The key that was given for the host of an address, or "".

    Raises:
        KeyUnreadable.
    """
    for name, (variable, otherwise) in KEYS.items():
        key, given = os.environ.get(name, "").strip(), os.environ.get(variable, "").strip() or otherwise
        if key and given and _host(given) == _host(url):
            if not (key.isascii() and key.isprintable()):
                raise errors.named("KeyUnreadable", key=name)
            return key
    return ""


def _host(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port: a key is not sent over http where it was given for https."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    return parts.scheme, parts.hostname, port or {"https": 443, "http": 80}.get(parts.scheme)


class Endpoint:
    """A server and the model on it; several threads may ask at once."""

    def __init__(self, url: str, model: str, seconds: float | None = None):
        self.url, self.model, self.seconds = address(url), model, seconds or SECONDS
        self.key = key_for(self.url)
        self.headers = {"Content-Type": "application/json"}
        if self.key:
            self.headers["Authorization"] = f"Bearer {self.key}"
        self.refused: set[str] = set()  # fields that this server does not take
        self.closed = threading.Event()
        self.opener = urllib.request.build_opener(_NoRedirect)

    def ask(self, messages: list[dict], *, thinking: str = "", **sampling) -> Reply:
        """One reply; an unusable one is returned with the reason. `thinking`: on, off, or the server's default.

        Raises:
            EndpointRefused, EndpointMissing: at once. EndpointDown: after all attempts. Closed: after close().
        """
        fields = {key: value for key, value in sampling.items() if value is not None} | THINKING.get(thinking, {})
        fields = {key: value for key, value in fields.items() if key not in self.refused}
        if "max_completion_tokens" in self.refused and "max_tokens" in fields:  # refused under its older name
            fields["max_completion_tokens"] = fields.pop("max_tokens")
        reply, left_out = self._answered(messages, fields), set()
        while reply.wrong == "bad_request" and (name := _to_leave_out(reply.detail, fields)):
            value = fields.pop(name)
            left_out.add(name)
            if name == "max_tokens":
                fields["max_completion_tokens"] = value
                left_out = left_out - {name} | {"max_completion_tokens"}
            reply = self._answered(messages, fields)
        if not reply.wrong:
            self.refused |= left_out
        return reply

    def close(self) -> None:
        """Ask no more: threads that wait for a better moment give up."""
        self.closed.set()

    def _answered(self, messages: list[dict], fields: dict) -> Reply:
        """The reply to one body, in as many attempts as that takes."""
        body = json.dumps({"model": self.model, "messages": messages, "stream": False} | fields).encode()
        reason, pause, timeouts, attempt = "", 0.0, 0, 0
        while attempt < ATTEMPTS and timeouts < TIMEOUTS:
            if self.closed.wait(pause):
                raise Closed
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt) * random.uniform(0.8, 1.2)
            attempt += 1
            try:
                return parsed(self._read(body))
            except urllib.error.HTTPError as error:
                reason = f"{error.code} {self._reason(error)}"
                if error.code < 500 and error.code not in (408, 425, 429):
                    return Reply("", wrong="bad_request", detail=reason)
                pause = max(pause, _retry_after(error))
            except (OSError, UnicodeError, http.client.HTTPException) as error:
                # Refused, reset, timed out, cut in the middle, or no name that a host can have.
                timeouts += isinstance(getattr(error, "reason", error), TimeoutError)
                reason = errors.without_keys(str(getattr(error, "reason", error)) or type(error).__name__)
        raise EndpointDown(url=self.url, attempts=attempt, reason=reason.rstrip("."))

    def _read(self, body: bytes) -> bytes:
        """The body of a response, with the timeout applied to all of it: a server may send it byte by byte."""
        end, raw = time.monotonic() + self.seconds, b""
        request = urllib.request.Request(self.url, body, self.headers)
        with self.opener.open(request, timeout=self.seconds) as response:
            while (piece := response.read1(65_536)) and len(raw) < MOST_BYTES:
                raw += piece
                if time.monotonic() > end:
                    raise TimeoutError(f"no whole answer in {self.seconds:g} s")
        if response.length:  # of what was announced
            raise http.client.IncompleteRead(raw, response.length)
        return raw

    def _reason(self, error: urllib.error.HTTPError) -> str:
        """What a server says about an HTTP error; raises where another attempt cannot help."""
        try:
            text = error.read(4000).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            text = ""
        try:
            body = json.loads(text)["error"]
            reason = body["message"] if isinstance(body, dict) else body
        except (ValueError, KeyError, TypeError):
            reason = " ".join(text.split()) or error.reason
        reason = errors.without_keys(str(reason))[:200].rstrip(".")
        if error.code in (401, 403):
            raise errors.named("EndpointRefused", url=self.url, status=error.code, reason=reason) from None
        if error.code == 404:
            raise errors.named("EndpointMissing", url=self.url, status=error.code, reason=reason) from None
        return reason


def _to_leave_out(detail: str, fields: dict) -> str:
    """The field that a server complains of; if it names none, the least usual of them."""
    if not detail.startswith(("400", "422", "501")):
        return ""
    named = {"enable_thinking": "chat_template_kwargs", "thinking": "chat_template_kwargs"}
    for word in ("max_tokens", *OPTIONAL, *named):
        name = named.get(word, word)
        if word in detail and name in fields:
            return name
    return next((name for name in OPTIONAL[:2] if name in fields), "")


def _retry_after(error: urllib.error.HTTPError) -> float:
    """The seconds that a server asks to wait; none where it names a date."""
    try:
        return min(LONGEST_PAUSE, float(error.headers.get("Retry-After") or 0))
    except ValueError:
        return 0.0


def parsed(raw: bytes) -> Reply:
    """The reply in a response body, whatever it is, without the keys that a server may repeat."""
    start = errors.without_keys(raw[:2000].decode("utf-8", "replace"))[:200].strip()
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return Reply("", wrong="html" if start[:1] == "<" else "half_json", detail=start)
    choices = body.get("choices") if isinstance(body, dict) else None
    if not choices or not isinstance(choices, list):
        return Reply("", wrong="no_choices", detail=start)
    choice = choices[0] if isinstance(choices[0], dict) else {}
    message = choice.get("message") if isinstance(choice.get("message"), dict) else {}
    usage = body.get("usage") if isinstance(body.get("usage"), dict) else {}
    thought = message.get("reasoning_content") or message.get("reasoning") or message.get("thinking") or ""
    return Reply(
        errors.without_keys(_text(message.get("content") or choice.get("text") or message.get("refusal") or "")),
        finish=str(choice.get("finish_reason") or "stop"),
        tokens_in=_count(usage.get("prompt_tokens")),
        tokens_out=_count(usage.get("completion_tokens")),
        reasoning=errors.without_keys(_text(thought)),
    )


def _text(content) -> str:
    """A text that may come in parts; those that are thinking are not part of it."""
    if not isinstance(content, list):
        return str(content)
    parts = (part for part in content if isinstance(part, dict) and part.get("type", "text") in ("text", "output_text"))
    return "".join(str(part.get("text") or "") for part in parts)


def _count(number) -> int:
    """A number of tokens as a server tells it; 0 where it can be none, such as 1e999."""
    return int(number) if isinstance(number, int | float) and 0 <= number < 2**53 else 0
