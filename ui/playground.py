"""The Playground: one prompt, up to four streamed replies side by side, and the blind arena.

Nothing here takes a path or a model's name from text: who can speak is chosen by id from a list (core.chat.chat_models).
"""

from functools import partial

import gradio as gr

from ui import cards
from ui import playground_arena as arena
from ui import playground_talk as talk
from ui.playground_show import LATEX
from ui.playground_talk import COLUMNS, EMPTY, REMEMBERED
from ui.text import Say


def build(say: Say, at_home: bool = False) -> dict:
    """The tab; returns its load handler, inputs and outputs. `at_home` adds what only the machine's owner may do."""
    with gr.Tabs():
        with gr.Tab(say("playground.chat")):
            chat_part = build_chat(say)
        with gr.Tab(say("playground.arena")) as label:
            arena_part = arena.build(say, at_home)
    label.select(None, None, None, js=arena.KEYS)

    def load(*values):
        parts, start = [], 0
        for part in (chat_part, arena_part):
            end = start + len(part["inputs"])
            parts += part["load"](*values[start:end])
            start = end
        return parts

    names = ("inputs", "outputs")
    return {"load": load} | {name: [*chat_part[name], *arena_part[name]] for name in names}


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
    card.input(partial(talk.on_card, say), card, card, queue=False, show_progress="hidden", api_visibility="private")
    with gr.Row():
        parts = [build_column(say, index) for index in range(len(COLUMNS))]
    boxes, who = [part["chat"] for part in parts], [part["who"] for part in parts]
    lines, frames = [part["facts"] for part in parts], [part["frame"] for part in parts]
    notice = gr.Markdown(elem_id=f"notice-{say.lang}")
    prompt = gr.Textbox(label=say("playground.prompt"), placeholder=say("playground.prompt.placeholder"), max_lines=12)
    with gr.Row():
        send = gr.Button(say("playground.send"), variant="primary")
        stop, clear = gr.Button(say("playground.stop")), gr.Button(say("playground.clear"))
    with gr.Row():
        branch = gr.Dropdown([], label=say("playground.branch"), info=say("playground.branch.info"), interactive=True)
        back = gr.Dropdown([], label=say("playground.back"), info=say("playground.back.info"), interactive=True)
    settings = build_settings(say)
    history, switch = gr.State(EMPTY), gr.State(talk.Switch())
    kept = gr.BrowserState({}, storage_key="soulsmith-chat", secret="soulsmith")
    drawn = [history, *boxes, *lines, branch, back]
    parts = {
        "say": say,
        "drawn": drawn,
        "history": history,
        "switch": switch,
        "boxes": boxes,
        "who": who,
        "count": count,
    }
    parts |= {"prompt": prompt, "send": send, "stop": stop, "clear": clear, "notice": notice, "settings": settings}
    connect_chat(parts)
    count.input(lambda n: [gr.Column(visible=index < n) for index in range(len(COLUMNS))], count, frames, queue=False)
    branch.input(partial(talk.on_branch, say), [branch, history], [*who, *drawn], queue=False, show_progress="hidden")
    back.input(partial(talk.on_back, say), [back, history], drawn, queue=False, show_progress="hidden")
    remembered = [settings[name] for name in REMEMBERED]
    for part in remembered:
        part.change(talk.on_remember, remembered, kept, queue=False, show_progress="hidden", api_visibility="private")
    inputs, outputs = [kept, *who], [*who, notice, *remembered, card]
    return {"load": partial(talk.on_load, say), "inputs": inputs, "outputs": outputs}


def build_column(say: Say, index: int) -> dict:
    """One that replies: who it is, what was said, figures."""
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
    return {"frame": frame, "who": who, "chat": box, "facts": line}


def build_settings(say: Say) -> dict:
    """Components by field name of core.chat.Sampling, whose defaults they show, and "system" and "busy"."""

    def words(field: str) -> dict:
        return {"label": say(f"playground.{field}"), "info": say(f"playground.{field}.info")}

    with gr.Accordion(say("playground.more"), open=False):
        system = gr.Textbox("", label=say("playground.system"), info=say("playground.system.info"), lines=2)
        with gr.Row():
            temperature = gr.Slider(0, 2, 0.7, step=0.05, **words("temperature"))
            top_p = gr.Slider(0.05, 1, 0.9, step=0.05, **words("top_p"))
            top_k = gr.Slider(0, 200, 50, step=1, **words("top_k"))
        with gr.Row():
            penalty = gr.Slider(1, 2, 1.1, step=0.05, **words("repetition_penalty"))
            longest = gr.Slider(16, 2048, 200, step=8, **words("max_new_tokens"))
            seed = gr.Number(7, precision=0, **words("seed"))
        choices = [(say(f"playground.busy.{name}"), name) for name in ("cpu", "wait")]
        busy = gr.Radio(choices, value="cpu", label=say("playground.busy"), info=say("playground.busy.info"))
    return {
        "system": system,
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "repetition_penalty": penalty,
        "max_new_tokens": longest,
        "seed": seed,
        "busy": busy,
    }


def connect_chat(parts: dict) -> None:
    """Send, Stop, New, and the messages' own buttons."""
    say, drawn, history, boxes = parts["say"], parts["drawn"], parts["history"], parts["boxes"]
    prompt, send, who, count = parts["prompt"], parts["send"], parts["who"], parts["count"]
    inputs = {"history": history, "count": count, "switch": parts["switch"], **parts["settings"]}
    inputs |= {f"who_{index}": one for index, one in enumerate(who)}
    held = [prompt, send, *drawn]
    quick = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    asked = [
        gr.on([send.click, prompt.submit], partial(talk.on_ask, say), [prompt, history, count, *who], held, **quick)
    ]
    for index, box in enumerate(boxes):
        for event, handler in ((box.retry, talk.on_retry), (box.edit, talk.on_edit)):
            asked.append(event(at_message(handler, say, COLUMNS[index]), history, held, **quick))
        box.undo(at_message(talk.on_undo, say, COLUMNS[index]), history, [prompt, *drawn], **quick)
    answers = [
        one.success(
            partial(talk.on_answer, say),
            inputs_kwargs=inputs,
            outputs=[prompt, parts["notice"], *drawn],
            concurrency_id="card",
            concurrency_limit=4,  # the chat's process lets one reply grow at a time
            show_progress="hidden",
        )
        for one in asked
    ]
    for answered in answers:
        # While a reply grows nothing can be sent: a second message would be overwritten by the first reply's stream.
        answered.then(talk.on_free, None, [prompt, send], **quick)
    freed = [prompt, send, parts["notice"], *drawn]

    def ended(event, handler, inputs) -> None:
        # First the end of the stream, then the handler: a last piece of the stream would overwrite its work.
        event(talk.on_halt, parts["switch"], None, cancels=answers, **quick).then(handler, inputs, freed, **quick)

    ended(parts["stop"].click, partial(talk.on_stop, say), history)
    for one in who:
        ended(one.input, partial(talk.on_who, say), [prompt, history])
    for event in (parts["clear"].click, *[box.clear for box in boxes]):
        ended(event, partial(talk.on_clear, say), None)


def at_message(handler, say: Say, column: str):
    """A handler that is told which message of a column was pressed; Gradio looks for the type of its last argument."""

    def on_message(history, event: gr.EventData):
        return handler(say, column, history, event)

    return on_message
