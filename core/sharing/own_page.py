"""The wall before the whole page on this machine: only the browser that was given its address with the token.

Other programs and users of this machine, and pages of other sites that are open in the same browser, reach the port too.
A token in the address that is opened becomes a cookie; requests that another page makes are refused even with it.
"""

import hmac
import re
import secrets
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from core import files, paths

LOCAL = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")
TOKEN = re.compile(r"[A-Za-z0-9_-]{32}")
OPEN_TO_ALL = ("/manifest.json", "/favicon.ico")  # a browser asks for them without cookies; they say nothing of anybody
MOST_BYTES = 1024  # of a pasted token
# gradio's page has scripts in its HTML, makes functions of the js= of its listeners, and draws from data: and blob:.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "frame-src 'none'",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
# Not no-referrer: a form would then be sent with the origin null.
HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "x-dns-prefetch-control": "off",  # of the links in a model's text
    "cross-origin-resource-policy": "same-origin",
}
OWN_HEADERS = HEADERS | {"cache-control": "no-store"}
# A redirect would still count as coming from where the link stood, and the strict cookie would stay at home.
GO_ON = '<!doctype html><meta charset="utf-8"><title>Soulsmith</title><meta http-equiv="refresh" content="0;url=/">'

Page = Callable[[], str]  # -> the page that asks for the token


def token() -> str:
    """The token of this data directory: made once, so that an open window goes on when the server is started again."""
    file = paths.home() / "page.token"
    kept = files.read_secret(file)
    return kept if TOKEN.fullmatch(kept) else files.write_secret(file, secrets.token_urlsafe(24))


class OwnPage:
    """An application that lets this machine's own browser through to another one.

    `token`: what the browser must have been given; None: whoever reaches the port, as behind a proxy that asks itself.
    """

    def __init__(self, inner, token: str | None = None, page: Page = str):
        self.inner, self.token, self.page = inner, token, page

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "lifespan":
            await self.inner(scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
        elif answer := await self._answer(Request(scope, receive)):
            await answer(scope, receive, send)
        else:
            await self.inner(scope, receive, _adding_headers(send))

    async def _answer(self, request: Request) -> Response | None:
        """The wall's own answer, or None where the request may go on."""
        if not LOCAL.fullmatch(request.headers.get("host", "")):
            words = "<p>This page answers at 127.0.0.1 only. To share it: --share or --share-all.</p>"
            return HTMLResponse(words, 421, OWN_HEADERS)
        opens = request.method in ("GET", "HEAD") and request.scope["path"] == "/"
        if not is_own(request, opens):
            return Response(status_code=403, headers=OWN_HEADERS)
        if self.token is None:
            return None
        asks = (request.method, request.scope["path"]) == ("POST", "/token")
        given = await _pasted(request) if asks else request.query_params.get("token") if opens else None
        if given is not None and _same(given, self.token):
            return self._let_in(request)
        if asks or not (self._is_known(request) or request.scope["path"] in OPEN_TO_ALL):
            return HTMLResponse(self.page() if opens or asks else "", 401, OWN_HEADERS)
        return None

    def _let_in(self, request: Request) -> Response:
        answer = HTMLResponse(GO_ON, headers=OWN_HEADERS)
        answer.set_cookie(cookie(request), self.token, httponly=True, samesite="strict")
        return answer

    def _is_known(self, request: Request) -> bool:
        return _same(request.cookies.get(cookie(request), ""), self.token)


def is_own(request: Request, opens: bool) -> bool:
    """Whether a request comes from this page, or from no page at all, or opens this page in a window.

    Browsers say so in Sec-Fetch-Site and Origin, which no page can set.
    """
    headers = request.headers
    site, origin = headers.get("sec-fetch-site", "none"), headers.get("origin")
    if opens and headers.get("sec-fetch-mode", "navigate") == "navigate":
        return headers.get("sec-fetch-dest", "document") == "document"
    return site in ("same-origin", "none") and (origin is None or urlsplit(origin).netloc == headers.get("host"))


def cookie(request: Request) -> str:
    """The cookie's name: cookies do not know of ports, and two pages may be open on two."""
    return f"soulsmith_page_{(request.scope.get('server') or ('', 0))[1]}"


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())


async def _pasted(request: Request) -> str:
    """The token in a form's body, of an address too: the whole of it is pasted easily."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            return ""
    words = parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0].strip()
    return parse_qs(urlsplit(words).query).get("token", [words])[0]


def _adding_headers(send):
    async def sending(message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(HEADERS)
        await send(message)

    return sending
