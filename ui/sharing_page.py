"""What a visitor sees over a shared link: the page that asks for the password, and the chat behind it."""

import asyncio
import contextlib
import html
from functools import partial

import gradio as gr
from starlette.requests import Request

from core.errors import UserError, name_of
from core.sharing.gate import token_of
from core.sharing.sharing import MOST_SESSIONS, Share, ShareEnded, Turn
from ui import pages, templates
from ui.text import Say

COLUMNS = ("base", "tuned")
LOOK_SECONDS = 0.25  # between two looks at a reply in progress


def asking(flag: str | None, request: Request, error: Exception | None) -> str:
    """The page that asks for the password, or says why it will not let anybody in."""
    say = Say(pages.language(request, flag))
    notice = say.trouble(error) if error else ""
    return templates.render(say, "sharing_gate", notice=notice, ended=isinstance(error, ShareEnded))


def build(share: Share, title: str, say: Say) -> gr.Blocks:
    """The chat of the visitors: a message, two replies, and nothing that could name a file."""
    with gr.Blocks(title="Soulsmith", fill_width=True, analytics_enabled=False) as page:
        gr.HTML(pages.head(say, say("sharing.tagline", name=title)))
        with gr.Row():
            boxes = [build_column(say, name) for name in COLUMNS]
        note = gr.Markdown(say("sharing.hello"), elem_classes=["share-note"])
        with gr.Column(elem_classes="share-composer"):
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

        async def on_message(words: str, conversations: dict, request: gr.Request):
            # A function of its own: gradio looks for its Request in the signature, which a partial hides.
            async with contextlib.aclosing(on_ask(say, share, words, conversations, request)) as states:
                async for state in states:
                    yield state

        answered = gr.on(
            [send.click, prompt.submit],
            on_message,
            [prompt, history],
            [prompt, note, history, *boxes],
            concurrency_limit=None,
            show_progress="hidden",
        )
        stop.click(None, None, None, cancels=[answered])
        clears = partial(gr.on, [clear.click, *[box.clear for box in boxes]])
        outputs = [note, history, *boxes]
        pages.end_first(clears, [answered], lambda: ("", {name: [] for name in COLUMNS}, [], []), None, outputs)
    # Waiting takes no thread and writing has one of its own: the queue of the framework has nothing to hold back.
    page.queue(max_size=4 * share.limits.visitors, default_concurrency_limit=None)
    page.state_session_capacity = MOST_SESSIONS * share.limits.visitors  # 34 kB each, and nobody closes them
    return page


def build_column(say: Say, name: str) -> gr.Chatbot:
    # Without Markdown, and with what is shown escaped: nothing that a model writes becomes markup or asks another host.
    return gr.Chatbot(
        label=say(f"sharing.{name}"), height=420, buttons=["copy"], render_markdown=False, allow_tags=False
    )


async def on_ask(say: Say, share: Share, prompt: str, history: dict, request: gr.Request):
    """Wait in the queue and stream both replies; closed early, it leaves the queue."""
    words = (prompt or "").strip()
    visitor = share.visitor(token_of(request.request))
    before = {name: history[name] for name in COLUMNS if name in history}
    if not words or visitor is None:
        yield prompt, say("sharing.hello") if visitor else say.trouble(ShareEnded()), history, *shown(before)
        return
    now = {name: [*messages, {"role": "user", "content": words}] for name, messages in before.items()}
    try:
        turn = share.ask(visitor, now)
    except UserError as error:
        yield prompt, say.trouble(error), history, *shown(before)
        return
    try:
        async for note, so_far in progress(say, share, turn, now):
            yield "", note, so_far, *shown(so_far)
    finally:
        turn.stopped.set()
    if turn.error:
        yield prompt, worded(say, turn.error), before, *shown(before)
    elif not turn.columns:
        yield prompt, say("sharing.nothing"), before, *shown(before)
    else:
        ended = with_replies(now, turn)
        left = share.limits.messages - visitor.messages
        yield "", say("sharing.left", messages=left), ended, *shown(ended)


async def progress(say: Say, share: Share, turn: Turn, now: dict):
    """The position in the queue while it changes, then the replies while they grow: (note, conversations)."""
    last = None
    while not turn.done:
        position, written = share.position(turn), sum(reply.tokens for reply in turn.columns.values())
        if (position, written) != last:
            last = position, written
            note = say("sharing.place", place=position) if position else say("sharing.writing")
            yield note, with_replies(now, turn)
        if turn.stopped.is_set():  # the link ended
            return
        await asyncio.sleep(LOOK_SECONDS)


def with_replies(now: dict, turn: Turn) -> dict:
    return {
        name: [*messages, {"role": "assistant", "content": turn.columns[name].text}]
        if name in turn.columns
        else messages
        for name, messages in now.items()
    }


def shown(conversations: dict) -> list:
    """The conversations for the chatbots, which take even a plain text for markup: an image would ask another host."""
    return [
        [{**message, "content": html.escape(message["content"], quote=False)} for message in messages]
        for messages in conversations.values()
    ]


def worded(say: Say, error: Exception) -> str:
    """An error in words; of an unknown one only that it happened: its text may hold a path of this machine."""
    name = name_of(error)
    if name in ("CardBusy", "ChatClosed"):  # their own words name the run, and ways out that are the owner's
        return say("sharing.busy")
    return say.worded(name, error.values, str(error)) if name == "PromptTooLong" else say("sharing.trouble")
