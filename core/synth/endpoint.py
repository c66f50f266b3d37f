"""An OpenAI-compatible server that writes: Ollama, llama.cpp, vLLM, LM Studio, or one on the network.

The key comes from SOULSMITH_API_KEY or OPENAI_API_KEY and is never kept. What can get better by waiting (no answer,
429, 5xx) is tried again with growing pauses; 401, 403 and 404 stop at once with the address. By the standard library:
httpx would be as long, trusts another list of certificates than the system, and ends at a SOCKS proxy in ALL_PROXY.
"""

import http.client
import json
import os
import random
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from core.errors import UserError
from core.synth.replies import Reply

KEYS = ("SOULSMITH_API_KEY", "OPENAI_API_KEY")
ATTEMPTS, FIRST_PAUSE, LONGEST_PAUSE = 7, 0.5, 60.0
SECONDS = 300.0  # without a byte of a reply
MOST_BYTES = 20 * 2**20  # of a reply


class EndpointNotAnAddress(UserError):
    template = "{url} is not the address of a server. It looks like http://127.0.0.1:11434/v1"


class EndpointRefused(UserError):
    template = "{url} refused with {status}: {reason}. Check the key in {key}."


class EndpointMissing(UserError):
    template = "There is nothing at {url} ({status}): {reason}. Check the address and the name of the model."


class EndpointDown(UserError):
    template = "{url} did not answer in {attempts} attempts. The last: {reason}. Start the server, then go on."


class Endpoint:
    """A server and the model on it; several threads may ask at once."""

    def __init__(self, url: str, model: str):
        parts = urlsplit(url.strip())
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise EndpointNotAnAddress(url=url)
        base = url.strip().rstrip("/").removesuffix("/chat/completions")
        self.url = f"{base}/chat/completions" if parts.path.strip("/") else f"{base}/v1/chat/completions"
        self.model, key = model, next((os.environ[name] for name in KEYS if os.environ.get(name)), "")
        self.headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})

    def ask(self, messages: list[dict], **sampling) -> Reply:
        """One reply; bad ones come back with what is wrong.

        Raises:
            EndpointRefused, EndpointMissing: at once. EndpointDown: after all attempts.
        """
        body = json.dumps({"model": self.model, "messages": messages, "stream": False} | sampling).encode()
        reason, pause = "", 0.0
        for attempt in range(ATTEMPTS):
            time.sleep(pause)
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt) * random.uniform(0.8, 1.2)
            try:
                request = urllib.request.Request(self.url, body, self.headers)
                with urllib.request.urlopen(request, timeout=SECONDS) as response:
                    return parsed(response.read(MOST_BYTES))
            except urllib.error.HTTPError as error:
                reason = f"{error.code} {self._reason(error)}"
                if error.code < 500 and error.code not in (408, 425, 429):
                    return Reply("", wrong="bad_request", detail=reason)
                pause = max(pause, _retry_after(error))
            except (OSError, http.client.HTTPException) as error:  # refused, reset, timed out, cut in the middle
                reason = str(getattr(error, "reason", error)) or type(error).__name__
        raise EndpointDown(url=self.url, attempts=ATTEMPTS, reason=reason.rstrip("."))

    def _reason(self, error: urllib.error.HTTPError) -> str:
        """What a server says about an HTTP error; raises where another attempt cannot help."""
        text = error.read(4000).decode("utf-8", "replace")
        try:
            body = json.loads(text)["error"]
            reason = body["message"] if isinstance(body, dict) else body
        except (ValueError, KeyError, TypeError):
            reason = " ".join(text.split()) or error.reason
        values = {"url": self.url, "status": error.code, "reason": str(reason)[:200].rstrip(".")}
        if error.code in (401, 403):
            raise EndpointRefused(**values, key=" / ".join(KEYS)) from error
        if error.code == 404:
            raise EndpointMissing(**values) from error
        return values["reason"]


def _retry_after(error: urllib.error.HTTPError) -> float:
    """The seconds that a server asks to wait; none where it names a date."""
    try:
        return min(LONGEST_PAUSE, float(error.headers.get("Retry-After") or 0))
    except ValueError:
        return 0.0


def parsed(raw: bytes) -> Reply:
    """The reply in a response body, whatever it is."""
    start = raw[:200].decode("utf-8", "replace").strip()
    try:
        body = json.loads(raw)
    except ValueError:
        return Reply("", wrong="html" if start[:1] == "<" else "half_json", detail=start)
    choices = body.get("choices") if isinstance(body, dict) else None
    if not choices or not isinstance(choices, list):
        return Reply("", wrong="no_choices", detail=start)
    choice = choices[0] if isinstance(choices[0], dict) else {}
    text = (choice.get("message") or {}).get("content") or choice.get("text") or ""
    if isinstance(text, list):
        text = "".join(part.get("text", "") for part in text if isinstance(part, dict))
    usage = body.get("usage") or {}
    return Reply(
        str(text),
        finish=choice.get("finish_reason") or "stop",
        tokens_in=usage.get("prompt_tokens") or 0,
        tokens_out=usage.get("completion_tokens") or 0,
    )
