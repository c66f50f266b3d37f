"""What a visitor sees over a shared link: the page that asks for the password, and the chat behind it."""

import asyncio
import contextlib
import html

import gradio as gr
from starlette.requests import Request

from core.errors import UserError
from core.sharing.gate import token_of
from core.sharing.sharing import Share, ShareEnded, Turn
from ui import pages
from ui.text import Say

COLUMNS = ("base", "tuned")
LOOK_SECONDS = 0.25  # how often a growing reply is looked at
CSS = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { margin: 15vh auto 0; max-width: 22rem; padding: 0 1rem; }
input, button { font: inherit; width: 100%; box-sizing: border-box; padding: .6rem; margin-top: .5rem; }
button { background: #0f766e; color: #fff; border: 0; border-radius: 4px; font-weight: 700; cursor: pointer; }
p[role=alert] { border-left: 3px solid #d55e00; padding-left: .6rem; }
"""
# The QR code carries the password behind the #, which a browser sends to nobody: the page reads it and forgets it.
SCRIPT = """
const field = document.querySelector('input');
function comeIn() {
  if (!field || location.hash.length < 2) return;
  field.value = decodeURIComponent(location.hash.slice(1));
  history.replaceState(null, '', '/');
  field.form.submit();
}
addEventListener('hashchange', comeIn);
comeIn();
"""


def asking(flag: str | None, scope: dict, error: Exception | None) -> str:
    """The page that asks for the password, or says why it will not let anybody in."""
    say = Say(pages.language(Request(scope), flag))
    notice = f'<p role="alert">{html.escape(say.trouble(error))}</p>' if error else ""
    form = (
        f'<p>{say("sharing.invited")}</p><form method="post" action="/login"><label>{say("sharing.password")}'
        '<input name="password" type="password" autocomplete="off" autofocus required maxlength="60"></label>'
        f"<button>{say('sharing.come_in')}</button></form>"
    )
    ended = type(error).__name__ == "ShareEnded"
    return (
        f'<!doctype html><html lang="{say.lang}"><head><meta charset="utf-8"><title>Soulsmith</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{CSS}</style></head>'
        f"<body><main><h1>Soulsmith</h1>{notice}{'' if ended else form}</main>"
        f"{'' if error else f'<script>{SCRIPT}</script>'}</body></html>"
    )


def build(share: Share, title: str, say: Say) -> gr.Blocks:
    """The chat of the visitors: a message, two replies, and nothing that could name a file."""
    with gr.Blocks(title="Soulsmith", fill_width=True, analytics_enabled=False) as page:
        gr.HTML(pages.head(say, say("sharing.tagline", name=title)))
        with gr.Row():
            boxes = [build_column(say, name) for name in COLUMNS]
        note = gr.Markdown(say("sharing.hello"), elem_classes=["share-note"])
        prompt = gr.Textbox(
            label=say("sharing.message"),
            placeholder=say("sharing.message.placeholder"),
            max_length=share.limits.letters,
            max_lines=6,
            autofocus=True,
        )
        with gr.Row():
            send = gr.Button(say("sharing.send"), variant="primary", min_width=90)
            stop = gr.Button(say("sharing.stop"), min_width=90)
            clear = gr.Button(say("sharing.clear"), min_width=90)
        history = gr.State({name: [] for name in COLUMNS}, time_to_live=3600)
        gr.Markdown(say("sharing.warning"), elem_classes=["subdued"])

        async def on_message(words: str, said: dict, request: gr.Request):
            # A function of its own: gradio looks for its Request in the signature, which a partial hides.
            async with contextlib.aclosing(on_ask(say, share, words, said, request)) as states:
                async for state in states:
                    yield state

        asked = gr.on(
            [send.click, prompt.submit],
            on_message,
            [prompt, history],
            [prompt, note, history, *boxes],
            concurrency_limit=None,
            show_progress="hidden",
            api_visibility="private",
        )
        stop.click(None, None, None, cancels=[asked])
        gr.on(
            [clear.click, *[box.clear for box in boxes]],
            lambda: ("", {name: [] for name in COLUMNS}, [], []),
            None,
            [note, history, *boxes],
            cancels=[asked],
            api_visibility="private",
        )
    # Waiting takes no thread and writing has one of its own: the queue of the framework has nothing to hold back.
    page.queue(max_size=4 * share.limits.visitors, default_concurrency_limit=None)
    return page


def build_column(say: Say, name: str) -> gr.Chatbot:
    # Without Markdown, and with what is shown escaped: nothing that a model writes becomes markup or asks another host.
    return gr.Chatbot(
        label=say(f"sharing.{name}"), height=420, buttons=["copy"], render_markdown=False, allow_tags=False
    )


async def on_ask(say: Say, share: Share, prompt: str, history: dict, request: gr.Request):
    """Wait in line and stream both replies; closed early, it leaves the line."""
    words = (prompt or "").strip()
    visitor = share.visitor(token_of(request.request.scope))
    before = {name: said for name, said in history.items() if name in COLUMNS}
    if not words or visitor is None:
        yield prompt, say("sharing.hello") if visitor else say.trouble(ShareEnded()), history, *shown(before)
        return
    now = {name: [*said, {"role": "user", "content": words}] for name, said in before.items()}
    try:
        turn = share.ask(visitor, now)
    except UserError as error:
        yield prompt, say.trouble(error), history, *shown(before)
        return
    try:
        async for note, grown in growing(say, share, turn, now):
            yield "", note, grown, *shown(grown)
    finally:
        turn.stop()
    if turn.trouble:
        yield prompt, worded(say, turn.trouble), before, *shown(before)
    elif not turn.columns:
        yield prompt, say("sharing.nothing"), before, *shown(before)
    else:
        ended = with_replies(now, turn)
        left = share.limits.messages - visitor.messages
        yield "", say("sharing.left", messages=left), ended, *shown(ended)


async def growing(say: Say, share: Share, turn: Turn, now: dict):
    """The place in line while it changes, then the replies while they grow: (note, conversations)."""
    last = None
    while not turn.done:
        place = share.place(turn)
        written = sum(reply.tokens for reply in turn.columns.values())
        if (place, written) != last:
            last = place, written
            note = say("sharing.place", place=place) if place else say("sharing.writing")
            yield note, with_replies(now, turn)
        if turn.stopped.is_set():  # the link ended
            return
        await asyncio.sleep(LOOK_SECONDS)


def with_replies(now: dict, turn: Turn) -> dict:
    return {
        name: [*said, {"role": "assistant", "content": turn.columns[name].text}] if name in turn.columns else said
        for name, said in now.items()
    }


def shown(conversations: dict) -> list:
    """The conversations for the chatbots, which take even a plain text for markup: an image would ask another host."""
    return [
        [{**one, "content": html.escape(one["content"], quote=False)} for one in said]
        for said in conversations.values()
    ]


def worded(say: Say, error: Exception) -> str:
    """A trouble in words; of anything else only that it happened: its text may hold a path of this machine."""
    name = getattr(error, "name", type(error).__name__)
    if name in ("CardBusy", "ChatClosed"):  # their own words name the run, and ways out that are the owner's
        return say("sharing.busy")
    return say.worded(name, error.values, str(error)) if name == "PromptTooLong" else say("sharing.trouble")
