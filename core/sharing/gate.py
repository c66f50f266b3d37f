"""The gate before a shared page: no password, no answer; and behind it only what chatting takes.

An ASGI application around another. What is not on the list of roads does not exist: it is 404 for those who gave the
password and 401 for those who did not, whatever the page behind would have said.
"""

import json
import re
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from core.errors import UserError
from core.sharing.sharing import Share, ShareEnded, TooManyTries, Visitor

COOKIE = "soulsmith_visitor"
SESSION = r"[A-Za-z0-9]{6,40}"
# What the page of a visitor asks of its server, and nothing else of the routes that its framework has.
ROADS = (
    ("GET", re.compile(r"/")),
    ("HEAD", re.compile(r"/")),
    ("GET", re.compile(r"/(gradio_api/)?theme\.css")),
    ("GET", re.compile(r"/favicon\.ico")),
    ("GET", re.compile(r"/(static|assets)/[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")),
    ("GET", re.compile(r"/gradio_api/startup-events")),
    ("GET", re.compile(rf"/gradio_api/heartbeat/(?P<session>{SESSION})")),
    ("GET", re.compile(r"/gradio_api/queue/data")),
    ("POST", re.compile(r"/gradio_api/queue/join/?")),
    ("POST", re.compile(r"/gradio_api/cancel")),
    ("POST", re.compile(r"/gradio_api/reset/?")),
)
MOST_BYTES = 64 * 1024  # of a request; nothing is uploaded over a link
HEADERS = (
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-robots-tag", b"noindex"),
)

Page = Callable[[dict, Exception | None], str]  # the request's scope and what went wrong -> the page that asks


LOCAL = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")


def local_only(inner):
    """An application that answers only to this machine's own name.

    A page of another site can give its own name this machine's address and then count as the same site; it cannot change
    the name that the browser asks for.
    """

    async def asked(scope, receive, send) -> None:
        if scope["type"] == "http" and not LOCAL.fullmatch(_header(scope, b"host") or ""):
            await respond(send, 421, "<p>This page answers at 127.0.0.1 only. To share it: --share or --share-all.</p>")
            return
        await inner(scope, receive, send)

    return asked


class Refused(Exception):
    """A request that goes no further, with its status."""


class Gate:
    """An application that lets visitors through to another one.

    `roads` is what they may ask for; None: everything, which is full control. `port`: guard only what comes in by this
    port of the machine; what comes in by the others is this machine's own.
    """

    def __init__(self, inner, share: Share, page: Page, *, roads: tuple | None = ROADS, port: int | None = None):
        self.inner, self.share, self.page, self.roads, self.port = inner, share, page, roads, port
        self.elsewhere = local_only(inner)

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "lifespan" or (self.port and (scope.get("server") or (None, None))[1] != self.port):
            await self.elsewhere(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        try:
            await self._guard(scope, receive, send)
        except Refused as refusal:
            await respond(send, refusal.args[0], "")

    async def _guard(self, scope, receive, send) -> None:
        method, path = scope["method"], scope["path"]
        if self.share.ended:
            await respond(send, 410, self.page(scope, ShareEnded()))
        elif (method, path) == ("POST", "/login"):
            await self._log_in(scope, receive, send)
        elif (visitor := self.share.visitor(token_of(scope))) is None:
            asks = method in ("GET", "HEAD") and path == "/"
            await respond(send, 401, self.page(scope, None) if asks else "")
        elif self.roads is None:
            await self.inner(scope, receive, _adding_headers(send))
        else:
            receive = await self._checked(scope, receive, visitor)
            await self.inner(scope, receive, _adding_headers(send))

    async def _log_in(self, scope, receive, send) -> None:
        fields = parse_qs((await _body(receive, 1024)).decode("utf-8", "replace"))
        try:
            token = self.share.come_in(fields.get("password", [""])[0], address_of(scope))
        except UserError as error:
            await respond(send, 429 if isinstance(error, TooManyTries) else 401, self.page(scope, error))
            return
        secure = "; Secure" if _header(scope, b"x-forwarded-proto") == "https" else ""
        age = max(1, round(self.share.figures()["seconds_left"]))
        cookie = f"{COOKIE}={token}; Path=/; HttpOnly; SameSite=Lax; Max-Age={age}{secure}"
        await respond(send, 303, "", (b"location", b"/"), (b"set-cookie", cookie.encode()))

    async def _checked(self, scope, receive, visitor: Visitor):
        """The rest of a request that is on the list, read and found harmless."""
        road = next(
            (m for method, road in self.roads if method == scope["method"] and (m := road.fullmatch(scope["path"]))),
            None,
        )
        if road is None or (scope.get("raw_path") or b"").partition(b"?")[0] != scope["path"].encode():
            raise Refused(404)  # also whatever was written with % signs: no name on the list needs one
        query = parse_qs(scope["query_string"].decode("ascii", "replace"))
        for session in [*query.get("session_hash", ()), *road.groupdict().values()]:
            self._own(visitor, session)
        if scope["method"] != "POST":
            return receive
        body = await _body(receive, MOST_BYTES)
        self._check_body(body, visitor)
        return _again(body, receive)

    def _check_body(self, body: bytes, visitor: Visitor) -> None:
        """Let a message through that is made of plain values only: nothing that could name a file."""
        try:
            asked = json.loads(body)
        except ValueError:
            raise Refused(400) from None
        if not isinstance(asked, dict) or asked.get("event_data") is not None:
            raise Refused(400)
        data = asked.get("data", [])
        if not isinstance(data, list) or not all(value is None or isinstance(value, str) for value in data):
            raise Refused(400)
        if "session_hash" in asked:
            self._own(visitor, asked["session_hash"])

    def _own(self, visitor: Visitor, session: object) -> None:
        """A page belongs to the visitor who opened it: nobody listens to another's replies, or stops them."""
        if not isinstance(session, str) or not re.fullmatch(SESSION, session):
            raise Refused(400)
        if any(session in other.sessions for other in self.share.visitors.values() if other is not visitor):
            raise Refused(403)
        if session not in visitor.sessions:
            visitor.sessions.append(session)


def token_of(scope) -> str | None:
    """The visitor's token of a request, or None."""
    try:
        cookies = SimpleCookie(_header(scope, b"cookie") or "")
    except CookieError:
        return None
    return cookies[COOKIE].value if COOKIE in cookies else None


def address_of(scope) -> str:
    """Who tries passwords: the machine that called and, where a tunnel says so, the one behind it."""
    forwarded = (_header(scope, b"x-forwarded-for") or "").rpartition(",")[2].strip()[:64]
    return f"{(scope.get('client') or ('?', 0))[0]} {forwarded}"


async def respond(send, status: int, html: str, *more: tuple[bytes, bytes]) -> None:
    """A whole answer of the gate's own."""
    policy = b"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; form-action 'self'"
    headers = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"cache-control", b"no-store"),
        (b"content-security-policy", policy),
        *HEADERS,
        *more,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": html.encode()})


def _header(scope, name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)


def _adding_headers(send):
    async def sending(message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *HEADERS]}
        await send(message)

    return sending


async def _body(receive, most: int) -> bytes:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400)
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            raise Refused(413)
        if not message.get("more_body"):
            return b"".join(parts)


def _again(body: bytes, receive):
    """The request's messages once more, after its body has been read."""
    pending = [{"type": "http.request", "body": body, "more_body": False}]

    async def receiving():
        return pending.pop() if pending else await receive()

    return receiving
