"""What both walls before a page do: the bodies they read, the requests they take for their page's own, their headers."""

import asyncio
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request

BODY_SECONDS = 10.0  # for a request's body to arrive
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


class Refused(Exception):
    """A request that goes no further, with its status."""


def is_own(request: Request) -> bool:
    """Whether a request comes from the page itself, or from no page at all, or opens the page in a window.

    Browsers say so in Sec-Fetch-Site and Origin, which no page can set; the first one on this machine and over https only.
    """
    headers = request.headers
    site, origin = headers.get("sec-fetch-site", "none"), headers.get("origin")
    if opens(request) and headers.get("sec-fetch-mode", "navigate") == "navigate":
        return headers.get("sec-fetch-dest", "document") == "document"
    if site == "same-origin":  # as the browser knows it, whatever name a proxy calls by
        return True
    return site == "none" and (origin is None or urlsplit(origin).netloc in _names(request))


def opens(request: Request) -> bool:
    """Whether a request is for the page itself."""
    return request.method in ("GET", "HEAD") and request.scope["path"] == "/"


def _names(request: Request) -> tuple[str | None, ...]:
    # Without asking first no page of another site can send the second one.
    return request.headers.get("host"), request.headers.get("x-forwarded-host")


async def read_body(request: Request, most: int) -> bytes:
    """The body of a request, of so many bytes at most, that arrives within BODY_SECONDS; raises Refused."""
    body = b""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > most:
                    raise Refused(413)
    except ClientDisconnect:
        raise Refused(400) from None
    except TimeoutError:
        raise Refused(408) from None
    return body


def adding(headers: dict[str, str], send):
    """A `send` that adds headers to the answer of a page."""

    async def sending(message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(headers)
        await send(message)

    return sending
