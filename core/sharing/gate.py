"""The gate before a shared page: no password, no answer; and behind it only what chatting takes.

An ASGI application around another. What is not on the list of allowed routes does not exist: it is 404 for those who
gave the password and 401 for those who did not, whatever the page behind would have answered.
"""

import json
import re
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from core.errors import UserError
from core.sharing.sharing import Share, ShareEnded, TooManyTries, Visitor
from core.sharing.walls import HEADERS as OF_ANY_PAGE
from core.sharing.walls import Refused, adding, is_own, read_body

COOKIE = "soulsmith_visitor"
SESSION = r"[A-Za-z0-9]{6,40}"
# What the page of a visitor asks of its server, and nothing else of the routes that its framework has.
ALLOWED = (
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
ENDLESS = re.compile(r"/gradio_api/(heartbeat/.*|queue/data)")  # answers that go on as long as somebody listens
# Of one visitor at once: a page has two endless ones while it replies, and some browsers ask for all files together.
MOST_ENDLESS, MOST_OPEN = 12, 100
HEADERS = OF_ANY_PAGE | {"x-robots-tag": "noindex"}
OWN_HEADERS = HEADERS | {  # of the gate's own answers
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
}

Page = Callable[[Request, Exception | None], str]  # a request and what went wrong -> the page that asks


class Gate:
    """An application that lets visitors through to another one.

    `allowed` is what they may ask for; None: everything, which is full control. `elsewhere` is (port, application): only
    what comes in by this port of the machine is guarded here; what comes in by the others is the application's.
    `tunnelled`: visitors come through a tunnel that ends on this machine; only such a one says from where they came.
    """

    def __init__(
        self, inner, share: Share, page: Page, *, allowed: tuple | None = ALLOWED, elsewhere=None, tunnelled=False
    ):
        self.inner, self.share, self.page, self.allowed, self.tunnelled = inner, share, page, allowed, tunnelled
        self.port, self.elsewhere = elsewhere or (None, inner)
        self._open: Counter[tuple[str, bool]] = Counter()  # requests by visitor and whether they are endless

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "lifespan" or (self.port and (scope.get("server") or (None, None))[1] != self.port):
            await self.elsewhere(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        request = Request(scope, receive)
        try:
            answer = await self._answer(request)
            if isinstance(answer, Visitor):
                with self._counted(answer, request.scope["path"]):
                    receive = receive if self.allowed is None else await self._checked(request, answer)
                    await self.inner(scope, receive, adding(HEADERS, send))
                return
        except Refused as refusal:
            answer = _html(refusal.args[0], "")
        await answer(scope, receive, send)

    async def _answer(self, request: Request) -> Response | Visitor:
        """The gate's own answer, or the visitor whose request may go on."""
        method, path = request.method, request.scope["path"]
        if self.share.ended:
            return _html(410, self.page(request, ShareEnded()))
        if not is_own(request):
            raise Refused(403)
        if (method, path) == ("POST", "/login"):
            return await self._log_in(request)
        if (visitor := self.share.visitor(token_of(request))) is None:
            return _html(401, self.page(request, None) if method in ("GET", "HEAD") and path == "/" else "")
        return visitor

    async def _log_in(self, request: Request) -> Response:
        fields = parse_qs((await read_body(request, 1024)).decode("utf-8", "replace"))
        try:
            password, address = fields.get("password", [""])[0], address_of(request, self.tunnelled)
            token = self.share.log_in(password, address, token_of(request))
        except UserError as error:
            return _html(429 if isinstance(error, TooManyTries) else 401, self.page(request, error))
        answer = RedirectResponse("/", 303, OWN_HEADERS)
        age = max(1, round(self.share.figures()["seconds_left"]))
        secure = self.tunnelled and request.headers.get("x-forwarded-proto") == "https"
        answer.set_cookie(COOKIE, token, max_age=age, httponly=True, samesite="lax", secure=secure)
        return answer

    @contextmanager
    def _counted(self, visitor: Visitor, path: str):
        """Count a visitor's open requests, so that the streams of one cannot take all connections."""
        key = (visitor.token, is_endless := bool(ENDLESS.fullmatch(path)))
        if self._open[key] >= (MOST_ENDLESS if is_endless else MOST_OPEN):
            raise Refused(429)
        self._open[key] += 1
        try:
            yield
        finally:
            self._open[key] -= 1
            self._open += Counter()  # without those that are at 0

    async def _checked(self, request: Request, visitor: Visitor):
        """What is left to receive of an allowed request whose body is harmless."""
        path, raw_path = request.scope["path"], (request.scope.get("raw_path") or b"").partition(b"?")[0]
        routes = (route.fullmatch(path) for method, route in self.allowed if method == request.method)
        route = next(filter(None, routes), None)
        if route is None or raw_path != path.encode():
            raise Refused(404)  # also whatever was written with % signs: no name on the list needs one
        for session in [*request.query_params.getlist("session_hash"), *route.groupdict().values()]:
            self._own(visitor, session)
        if request.method != "POST":
            return request.receive
        body = await read_body(request, MOST_BYTES)
        self._check_body(body, visitor)
        return _again(body, request.receive)

    def _check_body(self, body: bytes, visitor: Visitor) -> None:
        """Let a message through that is made of plain values only: nothing that could name a file."""
        try:
            message = json.loads(body)
        except (ValueError, RecursionError):
            raise Refused(400) from None
        if not isinstance(message, dict) or message.get("event_data") is not None:
            raise Refused(400)
        data = message.get("data", [])
        if not isinstance(data, list) or not all(value is None or isinstance(value, str) for value in data):
            raise Refused(400)
        if "session_hash" in message:
            self._own(visitor, message["session_hash"])

    def _own(self, visitor: Visitor, session: object) -> None:
        """Bind a session to the visitor who opened it: no other can read or stop its replies."""
        if not isinstance(session, str) or not re.fullmatch(SESSION, session):
            raise Refused(400)
        if any(session in other.sessions for other in self.share.visitors.values() if other is not visitor):
            raise Refused(403)
        if session not in visitor.sessions:
            visitor.sessions.append(session)


def token_of(request: Request) -> str | None:
    """The visitor's token of a request, or None."""
    return request.cookies.get(COOKIE)


def address_of(request: Request, tunnelled: bool) -> str:
    """Who tries passwords: the machine that called, or the one behind it where that is a tunnel on this machine."""
    caller = request.client.host if request.client else "?"
    if tunnelled and caller in ("127.0.0.1", "::1"):
        return request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()[:64] or caller
    return caller


def _html(status: int, html: str) -> Response:
    return HTMLResponse(html, status, OWN_HEADERS)


def _again(body: bytes, receive):
    """The request's messages once more, after its body has been read."""
    pending = [{"type": "http.request", "body": body, "more_body": False}]

    async def receiving():
        return pending.pop() if pending else await receive()

    return receiving
