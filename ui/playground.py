"""The Playground: one prompt, up to four streamed replies side by side, kept conversations, and the blind arena.

Nothing here takes a path or a model's name from text: who can reply is chosen by id from a list (core.chat.chat_models).
"""

from collections.abc import Callable
from functools import partial

import gradio as gr

from core import paths
from core.chat.types import Sampling
from ui import cards, pages, templates
from ui import playground_arena as arena
from ui import playground_chats as kept
from ui import playground_talk as talk
from ui.playground_show import LATEX
from ui.playground_talk import COLUMNS, EMPTY, REMEMBERED
from ui.text import Say

SLIDERS = (  # rows of (field of Sampling, lowest, highest, step)
    (("temperature", 0, 2, 0.05), ("top_p", 0.05, 1, 0.05), ("top_k", 0, 200, 1)),
    (("repetition_penalty", 1, 2, 0.05), ("max_new_tokens", 16, 2048, 8)),
)
QUICK = {"queue": False, "show_progress": "hidden"}
SCRIPT = (paths.assets() / "playground.js").read_text(encoding="utf-8")
EXPORTS = ("markdown", "json", "corpus", "all")
# A phone has no room for the list beside the chat: this button shows it above.
SHOW_SIDE = "() => { document.querySelector('.chat-side').toggleAttribute('data-open') }"
SHOW_MARKS = "(on) => { document.documentElement.toggleAttribute('data-no-marks', on === false) }"


def build(say: Say, at_home: bool = False) -> dict:
    """The tab; returns its load handler, inputs and outputs. `at_home` adds what only the machine's owner may do.

    "newest" begins a new conversation with the newest run, with its inputs; "pick" is the current conversation's id;
    "ended" lets an event first end a reply that is being written, and returns how to go on.
    """
    turn = gr.Textbox(visible="hidden")
    with gr.Tabs() as tabs:
        with gr.Tab(say("playground.chat"), id="chat"):
            chat = build_chat(say)
        with gr.Tab(say("playground.arena"), id="arena") as label:
            arena_part = arena.build(say, at_home)
    label.select(None, None, None, js=arena.KEYS)
    names = list(chat["parts"])
    split = len(chat["inputs"])

    def load(request: gr.Request, *values) -> list:
        *values, asked = values
        asked = asked or ""
        kind, _, run_id = asked.partition(":")  # run:RUN is to talk to, arena:RUN to be voted on
        blind = f"run:{run_id}" if kind == "arena" else ""
        found = kept.on_load(say, not pages.is_visitor(request), "" if blind else asked, *values[:split])
        shown = {"run": "chat", "arena": "arena"}.get(kind, "")
        return [*by_name(found, names), *arena_part["load"](*values[split:], blind), shown]

    def newest(request: gr.Request, remembered, stop) -> list:
        return by_name(kept.on_newest(say, not pages.is_visitor(request), remembered, stop), names)

    inputs, outputs = [*chat["inputs"], *arena_part["inputs"]], [*chat["parts"].values(), *arena_part["outputs"], turn]
    return {
        "load": load,
        "inputs": inputs,
        "outputs": outputs,
        "turns": (turn, tabs),
        "filled": chat["filled"],
        "newest": {"fn": newest, "inputs": chat["inputs"][:2], "outputs": list(chat["parts"].values())},
        "pick": chat["parts"]["pick"],
        "ended": chat["ended"],
    }


def by_name(found: dict, names) -> list:
    """Values in the order of the parts that they are for; nothing changes where there is none."""
    return [found.get(name, gr.skip()) for name in names]


def build_chat(say: Say) -> dict:
    """Kept conversations, columns, composer, settings: {"parts": by name, "inputs" of kept.on_load, "ended", "filled"}."""
    with gr.Row(elem_classes="chat"):
        parts = build_side(say)
        with gr.Column(elem_classes="chat-main", min_width=280):
            parts |= build_head(say)
            with gr.Row(elem_classes="chat-columns"):
                for column in COLUMNS:
                    names = (f"{name}_{column}" for name in ("frame", "who", "box", "line"))
                    parts |= zip(names, build_column(say, int(column)), strict=True)
            chips = gr.HTML(js_on_load=SCRIPT, elem_classes="chat-chips", apply_default_css=False)
            parts |= build_composer(say)
            parts |= build_settings(say)
    parts |= {"history": gr.State(EMPTY), "pick": gr.Textbox(visible="hidden")}
    stored = gr.BrowserState({}, storage_key="soulsmith-chat", secret="soulsmith")
    stop, who = gr.State(talk.StopFlag()), [parts[name] for name in kept.WHO]
    ended = connect_chat(say, parts, stop, stored)
    frames = [parts[name] for name in kept.FRAMES]
    parts["count"].input(
        lambda n: [gr.Column(visible=at < n) for at in range(len(COLUMNS))], parts["count"], frames, **QUICK
    )
    changes = [one.change for one in who]
    gr.on(changes, partial(kept.on_chips, say), who, chips, show_progress="hidden", trigger_mode="always_last")
    for name in REMEMBERED:  # by hand alone: a conversation that is opened brings settings of its own
        part, remember = parts[name], partial(talk.on_remember, name)
        by_hand = [part.input, part.release] if isinstance(part, gr.Slider) else [part.input]  # its reset is a release
        gr.on(by_hand, remember, [stored, part], stored, **QUICK)
    parts["card"].input(partial(talk.on_card, say), parts["card"], parts["card"], **QUICK)
    parts["marks"].change(None, parts["marks"], None, js=SHOW_MARKS)
    prompt, inputs = parts["prompt"], [stored, stop, parts["history"], parts["search"], *who]
    prompt.change(None, prompt, None, js="(text) => { message.typed(text) }")
    filled = {"inputs": prompt, "outputs": prompt, "js": "(text) => message.restored(text)"}
    return {"parts": parts, "inputs": inputs, "ended": ended, "filled": filled}


def build_side(say: Say) -> dict:
    """The kept conversations: a new one, a search, the list, and what is done with the current one."""
    with gr.Column(elem_classes="chat-side", scale=0, min_width=240) as side:
        clear = gr.Button(say("playground.clear"), size="sm")
        words = {"label": say("chats.search"), "placeholder": say("chats.search"), "show_label": False}
        search = gr.Textbox(container=False, elem_id=f"chats-search-{say.lang}", **words)
        listing = gr.HTML(js_on_load=SCRIPT, elem_id=f"chats-{say.lang}", apply_default_css=False)
        restore = gr.Button(visible=False, size="sm")
        with gr.Accordion(say("chats.export"), open=False):
            with gr.Row(elem_classes="actions"):
                exports = {
                    f"export_{kind}": gr.Button(say(f"chats.export.{kind}"), size="sm", interactive=False)
                    for kind in EXPORTS
                }
            file = gr.File(label=say("chats.export.file"), visible=False)
        delete = gr.Button(say("chats.delete"), size="sm", interactive=False)
    parts = {"side": side, "clear": clear, "search": search, "listing": listing, "restore": restore, "delete": delete}
    return parts | {"file": file, "deleted": gr.State()} | exports


def build_head(say: Say) -> dict:
    """The name of the conversation, and how many columns it has."""
    with gr.Row(elem_classes="chat-head"):
        show_side = gr.Button(say("chats.show"), size="sm", elem_classes="chat-show", min_width=80, scale=0)
        words = {"label": say("chats.name"), "placeholder": say("chats.name.new"), "show_label": False}
        name = gr.Textbox(
            container=False, interactive=False, max_lines=1, max_length=200, elem_classes="chat-name", **words
        )
        count = gr.Radio(
            [1, 2, 3, 4],
            value=2,
            label=say("playground.columns"),
            show_label=False,
            container=False,
            elem_id=f"columns-{say.lang}",
            elem_classes="chat-count",
            min_width=150,
            scale=1,
        )
    show_side.click(None, None, None, js=SHOW_SIDE)
    return {"name": name, "count": count}


def build_column(say: Say, index: int) -> tuple:
    """One column: its frame, the list of who replies, the conversation, and the line of figures."""
    with gr.Column(min_width=260, visible=index < 2, elem_classes="chat-column") as frame:
        with gr.Row(elem_classes="chat-who"):
            words = {"label": say("playground.who", number=index + 1), "show_label": False}
            who = gr.Dropdown([], container=False, interactive=True, min_width=120, scale=1, **words)
            gr.HTML(
                templates.render(say, "playground_fold", number=index + 1), js_on_load=SCRIPT, apply_default_css=False
            )
        box = gr.Chatbot(
            show_label=False,
            height=420,
            buttons=["copy"],
            editable="user",
            latex_delimiters=LATEX,
            placeholder=say("playground.intro") if index == 0 else None,
            elem_id=f"column-{index}-{say.lang}",
        )
        line = gr.Markdown(elem_classes="subdued")
    return frame, who, box, line


def build_composer(say: Say) -> dict:
    """A notice, the message, Send, and Stop in its place while a reply is being written; all of it stays in sight."""
    with gr.Column(elem_classes="composer"):
        notice = gr.Markdown(elem_id=f"notice-{say.lang}", elem_classes="chat-notice")
        with gr.Row(elem_classes="actions"):
            prompt = gr.Textbox(
                label=say("playground.prompt"),
                show_label=False,
                container=False,
                placeholder=say("playground.prompt.placeholder"),
                max_lines=8,
                scale=1,
                min_width=160,
            )
            send = gr.Button(say("playground.send"), variant="primary", elem_classes="chat-send", scale=0)
            stop = gr.Button(say("playground.stop"), elem_classes="chat-stop", scale=0)
        gr.Markdown(say("playground.keys"), elem_classes=["subdued", "chat-keys"])
    return {"notice": notice, "prompt": prompt, "send": send, "stop": stop}


def build_settings(say: Say) -> dict:
    """Components by field name of core.chat.Sampling, whose defaults they show, and "system", "busy" and so on."""

    def words(name: str) -> dict:
        return {"label": say(f"playground.{name}"), "info": say(f"playground.{name}.info")}

    default, settings = Sampling(), {}
    with gr.Accordion(say("playground.more"), open=False):
        with gr.Row():
            settings["branch"] = gr.Dropdown([], interactive=True, **words("branch"))
            settings["back"] = gr.Dropdown([], interactive=True, **words("back"))
        settings["system"] = gr.Textbox("", lines=2, **words("system"))
        for row in SLIDERS:
            with gr.Row():
                for name, lowest, highest, step in row:
                    settings[name] = gr.Slider(lowest, highest, getattr(default, name), step=step, **words(name))
                if row is SLIDERS[-1]:
                    settings["seed"] = gr.Number(default.seed, precision=0, **words("seed"))
        choices = [(say(f"playground.busy.{name}"), name) for name in ("cpu", "wait")]
        settings["busy"] = gr.Radio(choices, value="cpu", **words("busy"))
        settings["marks"] = gr.Checkbox(True, **words("marks"))
        settings["card"] = cards.build(say, "playground")
    return settings


def connect_chat(say: Say, parts: dict, stop: gr.State, stored: gr.BrowserState) -> Callable:
    """Send, Stop, the messages' own buttons, branches; and the kept conversations. Returns what connect_ends() does."""
    drawn, who = [parts[name] for name in kept.DRAWN], [parts[name] for name in kept.WHO]
    history, prompt, send = parts["history"], parts["prompt"], parts["send"]
    sent = [prompt, send, *drawn]
    events = [
        gr.on(
            [send.click, prompt.submit],
            partial(talk.on_ask, say),
            [prompt, history, parts["count"], *who],
            sent,
            **QUICK,
        )
    ]
    for column, name in zip(COLUMNS, kept.BOXES, strict=True):
        box = parts[name]
        events.append(box.retry(at_message(talk.on_retry, say, column), history, sent, **QUICK))
        events.append(box.edit(at_message(talk.on_edit, say, column), history, sent, **QUICK))
        box.undo(at_message(talk.on_undo, say, column), history, [prompt, *drawn], **QUICK)
    asked = {name: parts[name] for name in ("history", "count", "system", "busy", *talk.SETTINGS, *kept.WHO)}
    answers = [
        event.success(
            partial(talk.on_answer, say),
            inputs_kwargs={"stop": stop, **asked},
            outputs=[prompt, parts["notice"], *drawn],
            concurrency_id="card",
            concurrency_limit=4,  # the chat's process generates one reply at a time
            show_progress="hidden",
        )
        for event in events
    ]
    for answered in answers:
        # During a reply nothing can be sent: a second message would be overwritten by the first reply's stream.
        freed = answered.then(talk.on_free, None, [prompt, send], **QUICK)
        freed.then(partial(kept.on_list, say), [history, parts["search"]], parts["listing"], **QUICK)
    parts["branch"].input(partial(talk.on_branch, say), [parts["branch"], history], [*who, *drawn], **QUICK)
    parts["back"].input(partial(talk.on_back, say), [parts["back"], history], drawn, **QUICK)
    connect_kept(say, parts)
    return connect_ends(say, parts, stop, stored, answers)


def connect_ends(say: Say, parts: dict, stop: gr.State, stored: gr.BrowserState, answers: list) -> Callable:
    """What ends a reply that is being written: Stop, another model, another conversation; and the event given later."""
    history, freed = parts["history"], [parts[name] for name in kept.FREED]
    on_stop = partial(talk.on_stop, say)
    ends = [(parts["stop"].click, on_stop, history, freed)]
    ends += [(parts[name].input, partial(talk.on_who, say), [parts["prompt"], history], freed) for name in kept.WHO]
    names, whole, chosen = list(parts), list(parts.values()), gr.State()
    opens = named(partial(kept.on_open, say), names)
    ends.append((parts["listing"].select, opens, [history, stored, chosen], whole))
    others = {"clear": (kept.new, history), "delete": (kept.on_delete, history)}
    for name, (handler, what) in (others | {"restore": (kept.on_restore, parts["deleted"])}).items():
        ends.append((parts[name].click, named(partial(handler, say), names), [what, stored], whole))

    def end(event, handler, inputs, outputs):
        before = (on_cancel, stop, chosen)
        return pages.end_first(event, answers, handler, inputs, outputs, before, show_progress="hidden")

    for one in ends:
        end(*one)
    return lambda event: end(event, on_stop, history, freed).then


def on_cancel(stop: talk.StopFlag, event: gr.EventData) -> str | None:
    """End the stream; what was clicked in the list of conversations is told to this first handler alone."""
    stop.press()
    return event.id if event._data and "id" in event._data else None


def connect_kept(say: Say, parts: dict) -> None:
    """Find, name and export conversations; the list and the name follow the current one."""
    history, search, listing, name = parts["history"], parts["search"], parts["listing"], parts["name"]
    search.change(partial(kept.on_list, say), [history, search], listing, trigger_mode="always_last", **QUICK)
    shown = {name: parts[name] for name in ("name", "listing", "delete", *(f"export_{kind}" for kind in EXPORTS))}
    parts["pick"].change(named(partial(kept.on_pick, say), shown), [history, search], list(shown.values()), **QUICK)
    for event in (name.submit, name.blur):
        rename = named(partial(kept.on_rename, say), shown)
        event(rename, [history, name, search], list(shown.values()), **QUICK)
    for kind in EXPORTS:
        export = partial(kept.on_export, say, kind)
        parts[f"export_{kind}"].click(export, [history, search], parts["file"], show_progress="hidden")


def named(handler, names):
    """A handler whose values come in the order of these parts."""
    return lambda *values: by_name(handler(*values), names)


def at_message(handler, say: Say, column: str):
    """A handler that is told which message of a column was pressed; Gradio looks for the type of its last argument."""

    def on_message(history, event: gr.EventData):
        return handler(say, column, history, event)

    return on_message
