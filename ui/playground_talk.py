"""The chat's handlers: ask, stream, stop, edit, branch.

A history is what core.chat.chats keeps, and besides {"id": that it is kept under, from its first message on, "kept":
whether it is: not for a visitor}.
"""

import sqlite3
import time
from contextlib import suppress
from dataclasses import asdict, fields

import gradio as gr

from core import errors
from core.chat import chat, chat_models, chats, reply_gpu
from core.chat.types import Question, Sampling
from core.errors import UserError
from core.runs import gpu_access, runs
from ui import cards
from ui import playground_show as show
from ui.errors import Refused, show_errors, warn
from ui.text import Say, in_markdown

COLUMNS = ("0", "1", "2", "3")
SETTINGS = tuple(field.name for field in fields(Sampling))
REMEMBERED = (*SETTINGS, "system", "busy", "marks")
EMPTY = {"branches": [[]], "current": 0}
NEW = "new"  # what the address says instead of the id of a conversation that has not begun


class StopFlag:
    """Stop in one window. A stream in progress looks here: cancelled by Gradio it may still draw once more."""

    pressed_at = 0.0

    def press(self) -> None:
        self.pressed_at = time.monotonic()


def on_load(say: Say, remembered: dict | None, *chosen: str | None) -> list:
    """What can reply, the choices that are still there, and the settings that this browser remembers."""
    listed = chat_models.listed()
    named, ids = choices(say, listed)
    tuned = [model for model in listed if model.kind != "base"]
    first = next((model for model in tuned if model.kind in ("run", "profile")), None)
    bases = [id for id in ids if id.startswith("base:")]
    base = next((id for id in bases if first and id == f"base:{first.base_model}"), (bases or [None])[0])
    others = [model.id for model in tuned if model is not first and model.kind != "checkpoint"]
    usual = [base, first and first.id, *others, None, None][: len(COLUMNS)]
    new = [{} if id in ids else {"value": usual[index]} for index, id in enumerate(chosen)]
    # The notice that nothing can reply goes with the first model; what stands there of a reply stays.
    notice = (gr.skip() if any(chosen) else "") if ids else say("playground.empty")
    remembered = _known(remembered)
    settings = [remembered.get(name, gr.skip()) for name in REMEMBERED]
    card = cards.choice(reply_gpu.chosen())
    return [*[gr.Dropdown(choices=named, **value) for value in new], notice, *settings, card]


def choices(say: Say, listed: list | None = None) -> tuple[list[tuple[str, str]], list[str]]:
    """Who can reply, as a list to choose from, and their ids."""
    listed = chat_models.listed() if listed is None else listed
    named = [(f"{say(f'chat_model.{model.kind}')}: {model.title}", model.id) for model in listed]
    return runs.disambiguate(named), [model.id for model in listed]


@show_errors
def on_card(say: Say, uuid: str) -> gr.Dropdown:
    """Let replies come from another card; the model is loaded there with the next question."""
    chat.move(uuid)
    return cards.choice(uuid)


def on_remember(name: str, remembered: dict | None, value) -> dict:
    """One more setting of this browser's own; those that an opened conversation brought are not among them."""
    return _known(remembered) | {name: value}


def settings_of(remembered: dict | None) -> dict:
    """What a new conversation begins with: the settings that this browser remembers, else the usual ones."""
    usual, remembered = {"system": ""} | asdict(Sampling()), _known(remembered)
    return usual | {name: remembered[name] for name in usual if name in remembered}


def _known(remembered: dict | None) -> dict:
    return remembered if isinstance(remembered, dict) else {}


# The history ----------------------------------------------------------------------------------------------------------


def turns_of(history: dict) -> list[dict]:
    """The turns of the current branch."""
    return history["branches"][history["current"]]


def with_branch(history: dict, turns: list[dict]) -> dict:
    """The history with one more branch, which becomes the current one."""
    return {**history, "branches": [*history["branches"], turns], "current": len(history["branches"])}


def empty(history: dict) -> dict:
    """A new conversation of whoever has this one."""
    return EMPTY | {name: value for name, value in history.items() if name == "kept"}


def with_prompt(history: dict, turns: list[dict], prompt: str) -> dict:
    """The history with a prompt after these turns: in a branch of its own unless it continues the current one."""
    current, turns = turns_of(history), [*turns, {"prompt": prompt, "replies": {}}]
    add = chats.with_turns if turns[: len(current)] == current else with_branch
    return {"id": chats.new_id(), **add(history, turns)}


def with_replies(history: dict, replies: dict[str, dict], who: dict[str, str] | None = None) -> dict:
    """The history with these replies to its last prompt."""
    *before, last = turns_of(history)
    return chats.with_turns(history, [*before, {**last, "replies": replies} | ({"who": who} if who else {})])


def keep(say: Say, history: dict, *, begins: bool = False, **about) -> None:
    """Store the conversation; `begins`: also a new one. If the disk refuses, show a warning and continue."""
    if not (history.get("kept") and "id" in history):
        return
    try:
        chats.keep(history["id"], history, begins=begins, **about)
    except (UserError, sqlite3.Error) as error:
        warn(say("chats.not_kept", reason=say.trouble(error)))


def drawing(say: Say, history: dict) -> list:
    """The history and all that shows it."""
    turns = turns_of(history)
    boxes = [show.messages(say, turns, column) for column in COLUMNS]
    lines = [show.facts(say, turns, column) for column in COLUMNS]
    branches = [(_branch_name(say, index, branch), index) for index, branch in enumerate(history["branches"])]
    ends = [(f"{index + 1}. {turn['prompt'][:40]}", index) for index, turn in enumerate(turns)]
    branch = gr.Dropdown(choices=branches, value=history["current"])
    return [history, *boxes, *lines, branch, gr.Dropdown(choices=ends, value=None), history.get("id", NEW)]


def _branch_name(say: Say, index: int, turns: list[dict]) -> str:
    last = turns[-1]["prompt"][:40] if turns else say("playground.branch.empty")
    return f"{index + 1} · {len(turns)} · {last}"


# Asking ---------------------------------------------------------------------------------------------------------------


@show_errors
def on_ask(say: Say, prompt: str, history: dict, count: int, *who: str | None) -> tuple:
    """Show the message at once in all columns."""
    if not all(who[:count]):
        raise errors.named("NobodyChosen")
    if not prompt.strip():
        raise Refused(say("playground.say_something"), duration=3)
    history = with_prompt(history, turns_of(history), prompt)
    keep(say, history, begins=True, columns=who[:count])
    return gr.Textbox("", interactive=False), gr.Button(interactive=False), *drawing(say, history)


def on_retry(say: Say, column: str, history: dict, event: gr.EventData, new_prompt: str | None = None) -> tuple:
    """Ask again what was asked there, or `new_prompt` instead, in a branch of its own."""
    turns = turns_of(history)
    at = show.turn_at(say, turns, column, _index(event))
    history = with_prompt(history, turns[:at], turns[at]["prompt"] if new_prompt is None else new_prompt)
    keep(say, history, begins=True)
    return gr.Textbox(interactive=False), gr.Button(interactive=False), *drawing(say, history)


def on_edit(say: Say, column: str, history: dict, event: gr.EventData) -> tuple:
    """Ask something else there, in a branch of its own."""
    value = event.value if isinstance(event.value, str) else event.value.get("text", "")
    return on_retry(say, column, history, event, show.written(value))


def on_undo(say: Say, column: str, history: dict, event: gr.EventData) -> tuple:
    """Take the last question back into the field; the branch that it was in stays."""
    turns = turns_of(history)
    at = show.turn_at(say, turns, column, _index(event))
    return turns[at]["prompt"], *_turned(say, with_branch(history, turns[:at]))


def on_branch(say: Say, index: int, history: dict) -> list:
    """Another branch, with those above the columns who replied in it."""
    history = {**history, "current": index}
    who = who_of(history)
    chosen = [gr.update(value=who[column]) if column in who else gr.skip() for column in COLUMNS]
    return [*chosen, *_turned(say, history)]


def who_of(history: dict) -> dict[str, str]:
    """Who replied last in the current branch, by column."""
    return next((turn["who"] for turn in reversed(turns_of(history)) if "who" in turn), {})


def on_back(say: Say, turn: int, history: dict) -> list:
    """Go on from an earlier turn, in a branch of its own."""
    return _turned(say, with_branch(history, turns_of(history)[: turn + 1]))


def _turned(say: Say, history: dict) -> list:
    """Keep the history in which another branch is the current one, and draw it."""
    keep(say, history)
    return drawing(say, history)


def on_who(say: Say, prompt: str, history: dict) -> tuple:
    """Another model replies from now on, in an empty branch: no reply stands under another's name. The question is
    ready to be put to it."""
    if not (turns := turns_of(history)):
        return _freed(say, history)
    asked = {"prompt": turns[-1]["prompt"], "replies": {}}
    history, _ = chats.without_unanswered(chats.stopped(history))
    return _freed(say, with_branch(history, [asked]), typed=prompt)


def _index(event) -> int:
    return event.index[0] if isinstance(event.index, list | tuple) else event.index


def on_answer(say: Say, history: dict, count: int, stop: StopFlag, system: str, busy: str, **values):
    """Stream the replies to the last message; closed early, it leaves what came so far.

    After an error a message without any reply goes back into the field.
    """
    turns = turns_of(history)
    if not turns or turns[-1]["replies"]:
        yield gr.skip(), gr.skip(), *drawing(say, history)
        return
    who = {column: values[f"who_{column}"] for column in COLUMNS[:count]}
    first = [{"role": "system", "content": system}] if system.strip() else []
    questions = {column: Question(id, [*first, *chats.conversation(turns, column)]) for column, id in who.items()}
    on_cpu, shown, began = False, history, time.monotonic()
    settings = {"system": system} | {name: values[name] for name in SETTINGS}
    keep(say, history, columns=list(who.values()), titles=titles(who), settings=settings)
    try:
        for notice, on_cpu in waiting(say, busy):  # noqa: B007 (the last one counts)
            if stop.pressed_at > began:
                return
            yield gr.skip(), notice, *[gr.skip()] * len(drawing(say, history))
        sampling = Sampling(**{name: values[name] for name in SETTINGS if values[name] is not None})
        for replies in chat.talk(questions, sampling, on_cpu=on_cpu):
            if stop.pressed_at > began:
                return  # hangs up, which frees the card
            shown = with_replies(history, {column: asdict(reply) for column, reply in replies.items()}, who)
            yield gr.skip(), say("playground.on_cpu") if on_cpu else "", *drawing(say, shown)
    except UserError as error:
        answered, unanswered = chats.without_unanswered(chats.stopped(shown))
        yield unanswered or gr.skip(), in_markdown(say.trouble(error)), *drawing(say, answered)
        warn(say.trouble(error))
    finally:  # also when the window is closed
        keep(say, chats.stopped(shown))


def titles(who: dict[str, str]) -> dict[str, str]:
    """What those who reply are called, by id: a conversation outlives its models."""
    found = {}
    for id in who.values():
        with suppress(UserError, OSError):
            found[id] = chat_models.find(id).title
    return found


def waiting(say: Say, busy: str):
    """What the reply waits for: (notice, whether it will come from the processor), until it may begin."""
    training = gpu_access.busy(sees_card=True)  # on a machine without a card it slows the reply down
    if not training:
        seen = chat.look()
        sentence = "playground.turn" if seen["busy"] else "" if seen["open"] else "playground.loading"
        yield sentence and say(sentence), False
        return
    name = in_markdown(runs.label(training)["name"])
    if busy == "cpu":
        yield say("playground.training", name=name), bool(gpu_access.busy())
        return
    while gpu_access.busy():
        yield say("playground.waiting", name=name), False
        time.sleep(1)
    yield say("playground.loading"), False


# Stopping -------------------------------------------------------------------------------------------------------------


def on_free() -> tuple:
    return gr.Textbox(interactive=True), gr.Button(interactive=True)


def on_stop(say: Say, history: dict) -> tuple:
    """A question without any reply goes back into the field."""
    return _freed(say, chats.stopped(history))


def on_new(say: Say, history: dict) -> tuple:
    return _freed(say, empty(history))


def _freed(say: Say, history: dict, typed: str = "") -> tuple:
    """The prompt and Send are free again, and the notice is empty.

    A question without any reply is kept and goes back into the field, unless something is typed there.
    """
    keep(say, history)
    history, unanswered = chats.without_unanswered(history)
    field = {"value": unanswered} if unanswered and not typed else {}
    return gr.Textbox(interactive=True, **field), gr.Button(interactive=True), "", *drawing(say, history)
