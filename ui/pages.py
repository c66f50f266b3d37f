"""A page in each language behind one address: every request goes to the page in its sender's language."""

import contextlib
import json
import os
from collections.abc import Callable

import gradio as gr
from fastapi import FastAPI
from gradio.blocks import Block
from gradio.state_holder import SessionState
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.routing import Mount, Route

from core import damage, paths
from ui import templates
from ui.text import LANGUAGES, LOCALES, Say, glossary

# gradio keeps figures of the last 10,000 events and works through all of them at every event, for a dashboard that is off
# here: 40 kB and ever more time a message, on a page that ticks for days.
os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "10")
os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", "1000000000")

# Weights 400 and 700 only: at 600 the bundled fonts lack Cyrillic and the browser would mix families.
# Every pair of text and ground has a contrast of 4.5 or more (WCAG AA): hence 700 and 600 where the base has 500 and 400.
THEME = gr.themes.Base(
    primary_hue="teal",
    neutral_hue="slate",
    radius_size="sm",
    font=[gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700)), "system-ui", "sans-serif"],
    font_mono=[gr.themes.LocalFont("IBM Plex Mono", weights=(400, 700)), "monospace"],
).set(**json.loads((paths.assets() / "theme.json").read_text(encoding="utf-8")))

# Seconds between two looks of gradio's queue for work; its own of a millisecond takes 6 % of a core from an idle page.
QUEUE_WAITS = {"sleep_when_free": 0.05, "progress_update_sleep_when_free": 0.2}
DOWNLOADS = "/gradio_api/file"

COOKIE = "soulsmith_lang"
VISITOR = "soulsmith.visitor"  # in the scope of a request
SCRIPT = "".join((paths.assets() / name).read_text(encoding="utf-8") for name in ("page.js", "form.js", "glossary.js"))


def serve(
    build: Callable[[Say], gr.Blocks], lang: str | None, max_file_size: str = "2gb", routes: tuple[Route, ...] = ()
) -> Starlette:
    """The application that shows what `build` makes, in every language; `routes` are served beside it."""
    apps = {}
    for code in LANGUAGES:
        apps[code] = gr.mount_gradio_app(
            FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
            light(answer_every_choice(build(Say(code)))),
            path="/",
            theme=THEME,
            css_paths=[paths.assets() / "style.css"],
            head=script(code),
            footer_links=[],
            favicon_path=paths.assets() / "logo.svg",
            i18n=gr.I18n(**{code: LOCALES[code].get("browser", {})}),
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

    return Starlette(routes=[*routes, Mount("/", app=compressed(in_language))], lifespan=lifespan)


def script(code: str) -> str:
    """The page's JavaScript with what it needs in this language: the explanations of terms and gradio's words."""
    terms = json.dumps(glossary(code), ensure_ascii=False).replace("<", "\\u003c")
    words = json.dumps(LOCALES[code].get("framework", {}), ensure_ascii=False)
    known = f"window.glossary = {terms}; window.framework = {words};"
    return f"<script>document.documentElement.lang = '{code}';{known}{SCRIPT}</script>"


def _set_in_session(session: SessionState, id: int, value, put=SessionState.__setitem__) -> None:
    """Give a component that an update made anew the number of the one before it.

    With one of its own gradio takes it for another component and keeps it, 3 kB an update as long as the window is open.
    """
    if isinstance(value, Block):
        value._id = id
    put(session, id, value)


SessionState.__setitem__ = _set_in_session


def end_first(event, streams, handler, inputs, outputs, before=(lambda: None, None, None), **more):
    """Let an event end streams, and only then run its handler: a last piece of a stream would overwrite its work.

    `before`: a function, its inputs and its outputs, that run as the streams end. Returns what `.then` returns.
    """
    quick = {"queue": False} | more
    return event(*before, cancels=streams, **quick).then(handler, inputs, outputs, **quick)


def for_visitors(app):
    """The application as others than this machine's owner reach it: their requests are marked."""

    async def answer(scope, receive, send):
        await app({**scope, VISITOR: True}, receive, send)

    return answer


def is_visitor(request: gr.Request | None) -> bool:
    """Whether a request came over a link, and not from this machine's owner."""
    return request is not None and VISITOR in request.request.scope


def light(page: gr.Blocks) -> gr.Blocks:
    """The page without the description of an API that nobody calls, 0.7 of its HTML, and without a busy wait.

    At every word about an event a browser looks through the page for each component that ever belonged to the progress of
    one: where no progress is shown, only a chatbot that is being filled belongs to it, whose dots say so.
    """
    for listener in page.fns.values():
        listener.api_visibility = "private"
        if listener.show_progress == "hidden":
            streams = listener.outputs if listener.types_generator else ()
            listener.show_progress_on = [one for one in streams if isinstance(one, gr.Chatbot)]
    for name, seconds in QUEUE_WAITS.items():
        if hasattr(page._queue, name):
            setattr(page._queue, name, seconds)
    return page


def answer_every_choice(page: gr.Blocks) -> gr.Blocks:
    """Answer what is chosen while the choice before is being answered; gradio drops it unless it is told otherwise.

    The last of them counts, but where the event says what was chosen, which gradio keeps for one call only, each does.
    """
    for listener in page.fns.values():
        if listener.trigger_mode == "once" and {event for _, event in listener.targets} & {"input", "select"}:
            listener.trigger_mode = "multiple" if listener.collects_event_data else "always_last"
    return page


def compressed(app):
    """The application, gzipped for browsers that take it; files that are downloaded stay as they are."""
    zipped = GZipMiddleware(app, minimum_size=10_000)

    async def answer(scope, receive, send):
        await (app if DOWNLOADS in scope["path"] else zipped)(scope, receive, send)

    return answer


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


def asks_for_token() -> str:
    """The page of a browser that did not open the address with the token."""
    return templates.render(Say(LANGUAGES[0]), "page_token", says=[Say(lang) for lang in LANGUAGES])


def damage_notice(say: Say) -> gr.HTML:
    """What is damaged in the data directory and what that takes away; hidden where nothing is."""
    damaged, aside = damage.found(), damage.set_aside()
    shown = templates.render(say, "damage", home=paths.home(), damaged=damaged, aside=aside)
    return gr.HTML(shown, visible=bool(damaged or aside))


def head(say: Say, tagline: str) -> str:
    """Name, promise, and the links to the other languages."""
    others = [(lang, LOCALES[lang]["language"]) for lang in LANGUAGES if lang != say.lang]
    return templates.macro("page_head", tagline, others, COOKIE)
