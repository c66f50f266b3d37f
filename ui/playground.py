"""The Playground: one prompt, up to four streamed replies side by side, and the blind arena.

Nothing here takes a path or a model's name from text: who can reply is chosen by id from a list (core.chat.chat_models).
"""

from functools import partial

import gradio as gr

from core.chat.types import Sampling
from ui import cards
from ui import playground_arena as arena
from ui import playground_talk as talk
from ui.playground_show import LATEX
from ui.playground_talk import COLUMNS, EMPTY, REMEMBERED
from ui.text import Say

SLIDERS = (  # rows of (field of Sampling, lowest, highest, step)
    (("temperature", 0, 2, 0.05), ("top_p", 0.05, 1, 0.05), ("top_k", 0, 200, 1)),
    (("repetition_penalty", 1, 2, 0.05), ("max_new_tokens", 16, 2048, 8)),
)
QUICK = {"queue": False, "show_progress": "hidden"}


def build(say: Say, at_home: bool = False) -> dict:
    """The tab; returns its load handler, inputs and outputs. `at_home` adds what only the machine's owner may do."""
    with gr.Tabs():
        with gr.Tab(say("playground.chat")):
            chat_part = build_chat(say)
        with gr.Tab(say("playground.arena")) as label:
            arena_part = arena.build(say, at_home)
    label.select(None, None, None, js=arena.KEYS)
    split = len(chat_part["inputs"])

    def load(*values):
        return [*chat_part["load"](*values[:split]), *arena_part["load"](*values[split:])]

    return {"load": load} | {name: [*chat_part[name], *arena_part[name]] for name in ("inputs", "outputs")}


def build_chat(say: Say) -> dict:
    """Columns, prompt, settings; returns what fills them."""
    gr.Markdown(say("playground.intro"))
    count = gr.Radio(
        [1, 2, 3, 4],
        value=2,
        label=say("playground.columns"),
        info=say("playground.columns.info"),
        elem_id=f"columns-{say.lang}",
    )
    card = cards.build(say, "playground")
    card.input(partial(talk.on_card, say), card, card, **QUICK)
    with gr.Row():
        frames, who, boxes, lines = zip(*[build_column(say, index) for index in range(len(COLUMNS))], strict=True)
    notice = gr.Markdown(elem_id=f"notice-{say.lang}")
    prompt = gr.Textbox(label=say("playground.prompt"), placeholder=say("playground.prompt.placeholder"), max_lines=12)
    with gr.Row():
        send = gr.Button(say("playground.send"), variant="primary")
        stop, clear = gr.Button(say("playground.stop")), gr.Button(say("playground.clear"))
    with gr.Row():
        branch = gr.Dropdown([], label=say("playground.branch"), info=say("playground.branch.info"), interactive=True)
        back = gr.Dropdown([], label=say("playground.back"), info=say("playground.back.info"), interactive=True)
    settings = build_settings(say)
    history, stored = gr.State(EMPTY), gr.BrowserState({}, storage_key="soulsmith-chat", secret="soulsmith")
    drawn = [history, *boxes, *lines, branch, back]
    parts = {"history": history, "who": who, "count": count, "boxes": boxes, "drawn": drawn, "settings": settings}
    connect_chat(say, **parts, prompt=prompt, send=send, stop=stop, clear=clear, notice=notice)
    count.input(lambda n: [gr.Column(visible=index < n) for index in range(len(COLUMNS))], count, frames, queue=False)
    branch.input(partial(talk.on_branch, say), [branch, history], [*who, *drawn], queue=False, show_progress="hidden")
    back.input(partial(talk.on_back, say), [back, history], drawn, queue=False, show_progress="hidden")
    remembered = [settings[name] for name in REMEMBERED]
    for part in remembered:
        part.change(talk.on_remember, remembered, stored, **QUICK)
    inputs, outputs = [stored, *who], [*who, notice, *remembered, card]
    return {"load": partial(talk.on_load, say), "inputs": inputs, "outputs": outputs}


def build_column(say: Say, index: int) -> tuple:
    """One column: its frame, the list of who replies, the conversation, and the line of figures."""
    with gr.Column(min_width=260, visible=index < 2) as frame:
        who = gr.Dropdown([], label=say("playground.who", number=index + 1), interactive=True)
        box = gr.Chatbot(
            show_label=False,
            height=420,
            buttons=["copy"],
            editable="user",
            latex_delimiters=LATEX,
            elem_id=f"column-{index}-{say.lang}",
        )
        line = gr.Markdown(elem_classes="subdued")
    return frame, who, box, line


def build_settings(say: Say) -> dict:
    """Components by field name of core.chat.Sampling, whose defaults they show, and "system" and "busy"."""

    def words(name: str) -> dict:
        return {"label": say(f"playground.{name}"), "info": say(f"playground.{name}.info")}

    default, settings = Sampling(), {}
    with gr.Accordion(say("playground.more"), open=False):
        settings["system"] = gr.Textbox("", lines=2, **words("system"))
        for row in SLIDERS:
            with gr.Row():
                for name, lowest, highest, step in row:
                    settings[name] = gr.Slider(lowest, highest, getattr(default, name), step=step, **words(name))
                if row is SLIDERS[-1]:
                    settings["seed"] = gr.Number(default.seed, precision=0, **words("seed"))
        choices = [(say(f"playground.busy.{name}"), name) for name in ("cpu", "wait")]
        settings["busy"] = gr.Radio(choices, value="cpu", **words("busy"))
    return settings


def connect_chat(say: Say, *, history, who, count, boxes, drawn, settings, prompt, send, stop, clear, notice) -> None:
    """Send, Stop, New, and the messages' own buttons."""
    flag, sent = gr.State(talk.StopFlag()), [prompt, send, *drawn]
    events = [
        gr.on([send.click, prompt.submit], partial(talk.on_ask, say), [prompt, history, count, *who], sent, **QUICK)
    ]
    for box, column in zip(boxes, COLUMNS, strict=True):
        events.append(box.retry(at_message(talk.on_retry, say, column), history, sent, **QUICK))
        events.append(box.edit(at_message(talk.on_edit, say, column), history, sent, **QUICK))
        box.undo(at_message(talk.on_undo, say, column), history, [prompt, *drawn], **QUICK)
    columns = {f"who_{column}": one for column, one in zip(COLUMNS, who, strict=True)}
    answers = [
        event.success(
            partial(talk.on_answer, say),
            inputs_kwargs={"history": history, "count": count, "stop": flag, **settings, **columns},
            outputs=[prompt, notice, *drawn],
            concurrency_id="card",
            concurrency_limit=4,  # the chat's process generates one reply at a time
            show_progress="hidden",
        )
        for event in events
    ]
    for answered in answers:
        # During a reply nothing can be sent: a second message would be overwritten by the first reply's stream.
        answered.then(talk.on_free, None, [prompt, send], **QUICK)
    freed = [prompt, send, notice, *drawn]
    ends = [(stop.click, talk.on_stop, history)]
    ends += [(one.input, talk.on_who, [prompt, history]) for one in who]
    ends += [(event, talk.on_clear, None) for event in (clear.click, *[box.clear for box in boxes])]
    for event, handler, inputs in ends:
        # First the end of the stream, then the handler: a last piece of the stream would overwrite its work.
        event(talk.on_cancel, flag, None, cancels=answers, **QUICK).then(partial(handler, say), inputs, freed, **QUICK)


def at_message(handler, say: Say, column: str):
    """A handler that is told which message of a column was pressed; Gradio looks for the type of its last argument."""

    def on_message(history, event: gr.EventData):
        return handler(say, column, history, event)

    return on_message
