"""The wall before the whole page on this machine: only the browser that was given its address with the token.

Other programs and users of this machine, and pages of other sites that are open in the same browser, reach the port too.
A token in the address that is opened becomes a cookie; requests that another page makes are refused even with it.
"""

import hmac
import re
import secrets
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from core import files, paths
from core.sharing.walls import HEADERS, Refused, adding, is_own, opens, read_body

LOCAL = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")
TOKEN = re.compile(r"[A-Za-z0-9_-]{32}")
OPEN_TO_ALL = ("/manifest.json", "/favicon.ico")  # a browser asks for them without cookies; they say nothing of anybody
MOST_BYTES = 1024  # of a pasted token
OWN_HEADERS = HEADERS | {"cache-control": "no-store"}
# A redirect would still count as coming from where the link stood, and the strict cookie would stay at home.
GO_ON = (
    '<!doctype html><meta charset="utf-8"><title>Soulsmith</title><meta http-equiv="refresh" content="0;url={address}">'
)
# A bookmark names a tab and a run behind the #, which no server sees and a refresh would drop.
LET_IN = (
    '<!doctype html><meta charset="utf-8"><title>Soulsmith</title><script>location.replace("/" + location.hash)</script>'
    '<noscript><meta http-equiv="refresh" content="0;url=/"></noscript>'
)

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
            await self.inner(scope, receive, adding(HEADERS, send))

    async def _answer(self, request: Request) -> Response | None:
        """The wall's own answer, or None where the request may go on."""
        if not LOCAL.fullmatch(request.headers.get("host", "")):
            words = "<p>This page answers at 127.0.0.1 only. To share it: --share or --share-all.</p>"
            return HTMLResponse(words, 421, OWN_HEADERS)
        if not is_own(request):
            return Response(status_code=403, headers=OWN_HEADERS)
        if self.token is None:
            return None
        asks = (request.method, request.scope["path"]) == ("POST", "/token")
        try:
            given = await _pasted(request) if asks else request.query_params.get("token") if opens(request) else None
        except Refused as refusal:
            return HTMLResponse(self.page(), refusal.args[0], OWN_HEADERS)
        if given is not None and _same(given, self.token):
            return self._let_in(request)
        if asks or not (self._is_known(request) or request.scope["path"] in OPEN_TO_ALL):
            return HTMLResponse(self.page() if asks or opens(request) else "", 401, OWN_HEADERS)
        return None

    def _let_in(self, request: Request) -> Response:
        answer = HTMLResponse(LET_IN, headers=OWN_HEADERS)
        answer.set_cookie(cookie(request), self.token, httponly=True, samesite="strict")
        return answer

    def _is_known(self, request: Request) -> bool:
        return _same(request.cookies.get(cookie(request), ""), self.token)


def cookie(request: Request) -> str:
    """The cookie's name: cookies do not know of ports, and two pages may be open on two."""
    return f"soulsmith_page_{(request.scope.get('server') or ('', 0))[1]}"


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(), wanted.encode())


async def _pasted(request: Request) -> str:
    """The token in a form's body, of an address too: the whole of it is pasted easily."""
    body = await read_body(request, MOST_BYTES)
    words = parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0].strip()
    return parse_qs(urlsplit(words).query).get("token", [words])[0]
