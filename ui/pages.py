"""A page in each language behind one address: every request goes to the page in its sender's language."""

import contextlib
import os
from collections.abc import Callable

import gradio as gr
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount

from ui import theme
from ui.text import LANGUAGES, LOCALES, Say

# gradio keeps figures of the last 10,000 events and works through all of them at every event, for a dashboard that is off
# here: 40 kB and ever more time a message, on a page that ticks for days.
os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "10")
os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", "1000000000")

COOKIE = "soulsmith_lang"
# gradio says its own words ("Drop File Here") in the browser's language, which need not be the page's.
SPEAKING = """
document.documentElement.lang = '%(lang)s';
Object.defineProperty(navigator, 'language', {value: '%(lang)s'});
"""
# gradio names the empty place of a plot without giving it a role, and screen readers then skip the name.
EMPTY = """
let asked = 0;
new MutationObserver(() => {
  asked ||= requestAnimationFrame(() => {
    asked = 0;
    for (const place of document.querySelectorAll('.empty[aria-label]:not([role])')) place.setAttribute('role', 'img');
  });
}).observe(document, {childList: true, subtree: true});
"""


def serve(build: Callable[[Say], gr.Blocks], lang: str | None, max_file_size: str = "2gb") -> Starlette:
    """The application that shows what `build` makes, in every language."""
    apps = {}
    for code in LANGUAGES:
        apps[code] = gr.mount_gradio_app(
            FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
            build(Say(code)),
            path="/",
            theme=theme.THEME,
            css_paths=[theme.STYLE],
            head=f"<script>{SPEAKING % {'lang': code}}{EMPTY}</script>",
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            show_error=False,
            max_file_size=max_file_size,
        )

    async def in_language(scope, receive, send):
        await apps[language(Request(scope), lang)](scope, receive, send)

    @contextlib.asynccontextmanager
    async def lifespan(_):
        async with contextlib.AsyncExitStack() as stack:
            for app in apps.values():
                await stack.enter_async_context(app.router.lifespan_context(app))
            yield

    return Starlette(routes=[Mount("/", app=in_language)], lifespan=lifespan)


def language(request: Request, flag: str | None) -> str:
    """The language that was clicked, or given as --lang, or that the browser asks for first; else English."""
    if request.cookies.get(COOKIE) in LANGUAGES:
        return request.cookies[COOKIE]
    if flag:
        return flag
    for part in request.headers.get("accept-language", "").split(","):
        if (code := part.strip()[:2].lower()) in LANGUAGES:
            return code
    return LANGUAGES[0]


def head(say: Say, tagline: str) -> str:
    """Name, promise, and the links to the other languages."""
    links = "".join(_link(lang) for lang in LANGUAGES if lang != say.lang)
    return f'<div class="page-head"><h1>Soulsmith</h1><p>{tagline}</p>{links}</div>'


def _link(lang: str) -> str:
    switch = f"document.cookie='{COOKIE}={lang};path=/;SameSite=Lax';location.reload();return false"
    return f'<a href="#" lang="{lang}" onclick="{switch}">{LOCALES[lang]["language"]}</a>'
