"""The kept conversations beside the chat: listed, found, opened, named, exported, deleted; and prompts to begin with.

A handler that fills more than one part returns {name of the part: value}; ui/playground.py knows the parts by these names.
"""

import time
from contextlib import suppress
from functools import lru_cache

import gradio as gr

from core import paths
from core.arena import matches
from core.chat import chat_models, chats
from core.errors import UserError
from ui import playground_show as show
from ui import playground_talk as talk
from ui import temp_files, templates
from ui.errors import Refused, inform, show_errors
from ui.playground_talk import COLUMNS, NEW, REMEMBERED, SETTINGS
from ui.text import Say, in_markdown

WHO = tuple(f"who_{column}" for column in COLUMNS)
FRAMES = tuple(f"frame_{column}" for column in COLUMNS)
# What talk.drawing() returns.
BOXES, LINES = tuple(f"box_{column}" for column in COLUMNS), tuple(f"line_{column}" for column in COLUMNS)
DRAWN = ("history", *BOXES, *LINES, "branch", "back", "pick")
FREED = ("prompt", "send", "notice", *DRAWN)  # what talk.on_new() returns
CHIPS = 4


def on_load(
    say: Say, kept: bool, asked: str, remembered, stop: talk.StopFlag, history: dict, search: str, *who
) -> dict:
    """Who can reply, the conversations, and of these the one that the address asks for.

    `kept`: whether conversations are stored and shown: not to visitors.
    """
    own = None if "id" in history else remembered  # a conversation that has begun has its settings already
    parts = dict(zip((*WHO, "notice", *REMEMBERED, "card"), talk.on_load(say, own, *who), strict=True))
    parts["side"] = gr.Column(visible=kept)
    current = history.get("id", NEW)
    if "kept" not in history:
        parts["history"] = history = {**history, "kept": kept}
        parts["pick"] = current  # later only with what is opened: a message may begin a conversation meanwhile
    if kept and asked.startswith("run:"):
        stop.press()
        parts |= new(say, history, remembered) | beside_base(say, asked)
    elif kept and asked and asked != current:
        stop.press()
        try:
            parts |= new(say, history, remembered) if asked == NEW else opened(say, chats.find(asked), remembered)
        except UserError as error:  # an address of a conversation that was deleted
            inform(say.trouble(error))
    parts["export_all"] = gr.Button(interactive=kept and chats.listed("")[1] > 0)
    return parts | {"listing": listing(say, search, parts.get("pick", current)) if kept else ""}


def on_newest(say: Say, kept: bool, remembered, stop: talk.StopFlag) -> dict:
    """A new conversation with the base and the newest run."""
    stop.press()
    empty = {**talk.EMPTY, "kept": kept}
    loaded = on_load(say, kept, "", remembered, stop, empty, "", *[None] * len(COLUMNS))
    return loaded | new(say, empty, remembered)


def beside_base(say: Say, asked: str) -> dict:
    """A run in the second column, its base in the first; a warning if the run that the address names does not exist."""
    choices, ids = talk.choices(say)
    if asked not in ids:
        inform(say("runs.gone", run=asked.removeprefix("run:")))
        return {}
    who = (f"base:{chat_models.find(asked).base_model}", asked)
    chosen = {
        name: gr.Dropdown(choices=choices, value=id if id in ids else None) for name, id in zip(WHO, who, strict=False)
    }
    return chosen | {"count": 2} | {name: gr.Column(visible=index < 2) for index, name in enumerate(FRAMES)}


def new(say: Say, history: dict, remembered) -> dict:
    """A new conversation, with the settings that this browser remembers."""
    return dict(zip(FREED, talk.on_new(say, history), strict=True)) | talk.settings_of(remembered)


def opened(say: Say, chat: dict, remembered) -> dict:
    """A kept conversation with its models and settings; a message that nobody has answered stands in the field."""
    history = chat["history"] | {"id": chat["id"], "kept": True}
    who = dict(zip(COLUMNS, chat["columns"], strict=False)) | talk.who_of(history)
    answered, unanswered = chats.without_unanswered(chats.stopped(history))
    parts = new(say, history, remembered) | dict(zip(DRAWN, talk.drawing(say, answered), strict=True))
    parts["prompt"] = gr.Textbox(unanswered, interactive=True)
    choices, ids = talk.choices(say)
    for column, id in who.items():
        parts[f"who_{column}"] = gr.Dropdown(choices=choices, value=id if id in ids else None)
    if gone := [chat["titles"].get(id, id) for id in who.values() if id not in ids]:
        parts["notice"] = say("chats.models_gone", names=in_markdown(", ".join(gone)))
    count = max(1, len(who))
    parts |= {"count": count} | {name: gr.Column(visible=index < count) for index, name in enumerate(FRAMES)}
    return parts | {name: chat["settings"][name] for name in ("system", *SETTINGS) if name in chat["settings"]}


def listing(say: Say, search: str, current: str) -> str:
    """The list, newest first; the current conversation is marked."""
    search = search or ""
    found, total = chats.listed(search)
    found = [chat | {"when": _when(say, chat)} for chat in found]
    return templates.render(say, "playground_chats", chats=found, total=total, current=current, search=search.strip())


def _when(say: Say, chat: dict) -> str:
    return time.strftime(say("date.format"), time.localtime(chat["updated_at"]))


def on_list(say: Say, history: dict, search: str) -> str:
    return listing(say, search, history.get("id", NEW)) if history.get("kept") else ""


def on_pick(say: Say, history: dict, search: str) -> dict:
    """The name of a conversation that has become the current one, its mark in the list, and what can be done with it."""
    name = None
    if history.get("kept") and "id" in history:
        with suppress(UserError):
            name = chats.find(history["id"])["name"]
    buttons = ("delete", "export_markdown", "export_json", "export_corpus")
    parts = {button: gr.Button(interactive=name is not None) for button in buttons}
    parts["export_all"] = gr.Button(interactive=bool(history.get("kept") and chats.listed("")[1]))
    parts["name"] = gr.Textbox(name or "", interactive=name is not None)
    return parts | {"listing": on_list(say, history, search)}


def on_open(say: Say, history: dict, remembered, chosen: str) -> dict:
    """Open the conversation that was clicked in the list."""
    try:
        return opened(say, chats.find(chosen), remembered) if history.get("kept") else {}
    except UserError as error:
        inform(say.trouble(error))
        return {"prompt": gr.Textbox(interactive=True), "send": gr.Button(interactive=True)}


@show_errors
def on_rename(say: Say, history: dict, name: str, search: str) -> dict:
    """Keep the name; one that was emptied is made of the first words again."""
    chat = chats.find(_id(say, history))
    if name == chat["name"]:
        return {}
    return {"name": chats.rename(chat["id"], name), "listing": on_list(say, history, search)}


@show_errors
def on_delete(say: Say, history: dict, remembered) -> dict:
    """Delete the current conversation, and offer to bring it back."""
    row = chats.delete(_id(say, history))
    restore = gr.Button(say("chats.restore", name=row["name"]), visible=True)
    return new(say, history, remembered) | {"deleted": row, "restore": restore}


@show_errors
def on_restore(say: Say, deleted: dict, remembered) -> dict:
    """Bring the conversation back that was deleted last, and open it."""
    chats.restore(deleted)
    return opened(say, chats.find(deleted["id"]), remembered) | {"restore": gr.Button(visible=False)}


@show_errors
def on_export(say: Say, kind: str, history: dict, search: str) -> gr.File:
    """Offer the current conversation as a file, or as a corpus all that the list shows."""
    if kind == "all":
        found = (
            [chats.find(chat["id"]) for chat in chats.listed(search or "", most=-1)[0]] if history.get("kept") else []
        )
        name, text = say("chats.export.name"), "".join(chats.corpus_lines(found))
    else:
        chat = chats.find(_id(say, history))
        name, text = chat["name"], _text(say, kind, chat)
    ending = {"markdown": "md", "json": "json"}.get(kind, "jsonl")
    path = temp_files.folder() / f"{paths.slug(name)}.{ending}"
    path.write_text(text, encoding="utf-8")
    return gr.File(value=str(path), visible=True)


def _text(say: Say, kind: str, chat: dict) -> str:
    if kind == "json":
        return chats.as_json(chat)
    return as_markdown(say, chat) if kind == "markdown" else "".join(chats.corpus_lines([chat]))


def as_markdown(say: Say, chat: dict) -> str:
    """The current branch as Markdown, in which nothing that was said draws an image or becomes HTML."""
    turns = chat["history"]["branches"][chat["history"]["current"]]
    lines = [f"# {in_markdown(chat['name'])}", _when(say, chat)]
    if system := chat["settings"].get("system", "").strip():
        lines += [f"**{say('playground.system')}**", show.literal(system)]
    for turn in turns:
        lines += [f"## {say('chats.you')}", show.literal(turn["prompt"])]
        for column, reply in sorted(turn["replies"].items()):
            model = turn.get("who", {}).get(column, "")
            lines += [f"## {in_markdown(chat['titles'].get(model, model))}", show.literal(reply["text"])]
    return "\n\n".join(lines) + "\n"


def on_chips(say: Say, *who: str | None) -> str:
    """Prompts to click: the first messages of rows that the first run above the columns has not seen."""
    prompts = _held_out(next((id for id in who if id and id.startswith("run:")), ""))
    return templates.render(say, "playground_chips", prompts=prompts) if prompts else ""


@lru_cache(maxsize=64)  # a run's corpora never change
def _held_out(model_id: str) -> list[str]:
    return matches.held_out_prompts(model_id, CHIPS) if model_id else []


def _id(say: Say, history: dict) -> str:
    if not history.get("kept") or "id" not in history:
        raise Refused(say("chats.none_begun"))
    return history["id"]
