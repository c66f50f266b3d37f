"""An OpenAI-compatible server that writes: Ollama, llama.cpp, vLLM, LM Studio, or one on the network. Standard library.

The key comes from SOULSMITH_API_KEY or OPENAI_API_KEY and is never kept. What can get better by waiting (no answer,
429, 5xx) is tried again with growing pauses; 401, 403 and 404 stop at once with the address.
"""

import http.client
import json
import os
import random
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from urllib.parse import urlsplit

from core.errors import UserError

KEYS = ("SOULSMITH_API_KEY", "OPENAI_API_KEY")
ATTEMPTS, FIRST_PAUSE, LONGEST_PAUSE = 7, 0.5, 60.0
SECONDS = 300.0  # for one reply
MOST_BYTES = 20 * 2**20


class EndpointNotAnAddress(UserError):
    template = "{url} is not the address of a server. It looks like http://127.0.0.1:11434/v1"


class EndpointRefused(UserError):
    template = "{url} refused with {status}: {reason}. Check the key in {key}."


class EndpointMissing(UserError):
    template = "There is nothing at {url} ({status}): {reason}. Check the address and the name of the model."


class EndpointDown(UserError):
    template = "{url} did not answer in {attempts} attempts. The last: {reason}. Start the server, then go on."


@dataclass(frozen=True)
class Reply:
    """What a model said, or why it cannot be used: no_json, no_choices, bad_request."""

    text: str
    finish: str = "stop"
    tokens_in: int = 0
    tokens_out: int = 0
    wrong: str = ""
    detail: str = ""


class Endpoint:
    """A server and the model on it."""

    def __init__(self, url: str, model: str, *, seconds: float = SECONDS, pause: float | None = None):
        parts = urlsplit(url.strip())
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise EndpointNotAnAddress(url=url)
        base = url.strip().rstrip("/")
        base = base.removesuffix("/chat/completions")
        self.url = f"{base}/chat/completions" if parts.path.strip("/") else f"{base}/v1/chat/completions"
        self.model, self.seconds, self.pause = model, seconds, FIRST_PAUSE if pause is None else pause
        self.key = next((os.environ[name] for name in KEYS if os.environ.get(name)), "")

    def ask(self, messages: list[dict], **sampling) -> Reply:
        """One reply; bad ones come back with what is wrong.

        Raises:
            EndpointRefused, EndpointMissing: at once. EndpointDown: after all attempts.
        """
        body = json.dumps({"model": self.model, "messages": messages, "stream": False} | sampling).encode()
        reason, asked_pause = "", 0.0
        for attempt in range(ATTEMPTS):
            if attempt:
                wait = min(LONGEST_PAUSE, self.pause * 2 ** (attempt - 1))
                time.sleep(max(wait * random.uniform(0.8, 1.2), asked_pause))
            asked_pause = 0.0
            try:
                return self._post(body)
            except urllib.error.HTTPError as error:
                reason, asked_pause = self._refused(error)
                if error.code < 500 and error.code not in (408, 425, 429):
                    return Reply("", wrong="bad_request", detail=reason)
            except (OSError, http.client.HTTPException) as error:  # refused, reset, timed out, cut in the middle
                reason = str(getattr(error, "reason", error)) or type(error).__name__
        raise EndpointDown(url=self.url, attempts=ATTEMPTS, reason=reason.rstrip("."))

    def _post(self, body: bytes) -> Reply:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        request = urllib.request.Request(self.url, body, headers)
        with urllib.request.urlopen(request, timeout=self.seconds) as response:
            raw = response.read(MOST_BYTES)
        return parsed(raw)

    def _refused(self, error: urllib.error.HTTPError) -> tuple[str, float]:
        """The reason of an HTTP error and the pause that it asks for; raises where another attempt cannot help."""
        said = error.read(4000).decode("utf-8", "replace")
        try:
            found = json.loads(said)["error"]
            reason = found["message"] if isinstance(found, dict) else str(found)
        except (ValueError, KeyError, TypeError):
            reason = " ".join(said.split())[:200] or error.reason
        reason = str(reason)[:200].rstrip(".")
        if error.code in (401, 403):
            raise EndpointRefused(url=self.url, status=error.code, reason=reason, key=" / ".join(KEYS)) from error
        if error.code == 404:
            raise EndpointMissing(url=self.url, status=error.code, reason=reason) from error
        try:
            pause = min(LONGEST_PAUSE, float(error.headers.get("Retry-After") or 0))
        except ValueError:
            pause = 0.0
        return f"{error.code} {reason}", pause


def parsed(raw: bytes) -> Reply:
    """The reply in a response body, whatever it is."""
    start = raw[:200].decode("utf-8", "replace").strip()
    try:
        found = json.loads(raw)
    except ValueError:
        return Reply("", wrong="html" if start[:1] == "<" else "half_json", detail=start)
    choices = found.get("choices") if isinstance(found, dict) else None
    if not choices or not isinstance(choices, list):
        return Reply("", wrong="no_choices", detail=start)
    choice = choices[0] if isinstance(choices[0], dict) else {}
    message = choice.get("message") or {}
    text = message.get("content") or choice.get("text") or ""
    if isinstance(text, list):
        text = "".join(part.get("text", "") for part in text if isinstance(part, dict))
    usage = found.get("usage") or {}
    return Reply(
        str(text),
        finish=choice.get("finish_reason") or "stop",
        tokens_in=usage.get("prompt_tokens") or 0,
        tokens_out=usage.get("completion_tokens") or 0,
    )
