"""What happens in the chat: asking, streaming, stopping, editing, branches. A turn is what was said, who was asked and
each reply."""

import time
from dataclasses import asdict, fields

import gradio as gr

from core.chat import chat, chat_models, reply_gpu
from core.chat.types import Question, Sampling
from core.errors import UserError
from core.runs import gpu_access, runs
from ui import cards
from ui.errors import Refused
from ui.playground_show import facts, messages, turn_at, written
from ui.text import Say

COLUMNS = ("0", "1", "2", "3")
SETTINGS = tuple(field.name for field in fields(Sampling))
REMEMBERED = (*SETTINGS, "system", "busy")
EMPTY = {"branches": [[]], "current": 0}


class Switch:
    """Stop in one window. A stream that grows looks here: cancelled by Gradio it may still draw once more."""

    pressed = 0.0


class NobodyChosen(UserError):
    template = "Nobody is chosen to reply. Choose one from the list above the column."


def on_load(say: Say, kept: dict | None, *chosen: str | None) -> list:
    """Who can reply, the choices that still stand, and the settings that this browser remembers."""
    found = chat_models.listed()
    choices = runs.disambiguate([(f"{say(f'chat_model.{one.kind}')}: {one.title}", one.id) for one in found])
    ids = [one.id for one in found]
    tuned = [one for one in found if one.kind != "base"]
    first = next((one for one in tuned if one.kind in ("run", "profile")), None)
    bases = [id for id in ids if id.startswith("base:")]
    base = next((id for id in bases if first and id == f"base:{first.base_model}"), (bases or [None])[0])
    others = [one.id for one in tuned if one is not first and one.kind != "checkpoint"]
    usual = [base, first and first.id, *others, None, None][: len(COLUMNS)]
    new = [{} if one in ids else {"value": usual[index]} for index, one in enumerate(chosen)]
    # What stood there of an empty house goes when somebody moves in; what was told meanwhile stays.
    notice = (gr.skip() if any(chosen) else "") if ids else say("playground.empty")
    kept = {name: kept[name] for name in REMEMBERED if isinstance(kept, dict) and name in kept}
    settings = [kept[name] if name in kept else gr.skip() for name in REMEMBERED]
    card = cards.choice(reply_gpu.chosen())
    return [*[gr.Dropdown(choices=choices, **value) for value in new], notice, *settings, card]


def on_card(say: Say, uuid: str) -> gr.Dropdown:
    """Let replies come from another card; the model is loaded there with the next question."""
    try:
        chat.move(uuid)
    except UserError as error:
        raise Refused(say.trouble(error)) from error
    return cards.choice(uuid)


def on_remember(*values) -> dict:
    return dict(zip(REMEMBERED, values, strict=True))


def drawing(say: Say, history: dict) -> list:
    """The history and all that shows it."""
    turns = history["branches"][history["current"]]
    boxes = [messages(say, turns, column) for column in COLUMNS]
    lines = [facts(say, turns, column) for column in COLUMNS]
    branches = [(_branch_name(say, index, one), index) for index, one in enumerate(history["branches"])]
    ends = [(f"{index + 1}. {turn['said'][:40]}", index) for index, turn in enumerate(turns)]
    branch = gr.Dropdown(choices=branches, value=history["current"])
    return [history, *boxes, *lines, branch, gr.Dropdown(choices=ends, value=None)]


def _branch_name(say: Say, index: int, turns: list[dict]) -> str:
    said = turns[-1]["said"][:40] if turns else say("playground.branch.empty")
    return f"{index + 1} · {len(turns)} · {said}"


def forked(history: dict, turns: list[dict]) -> dict:
    """The history with another branch, which becomes the current one; a branch that only grew longer is no new one."""
    branches = list(history["branches"])
    if not branches[history["current"]] or turns[: len(branches[history["current"]])] == branches[history["current"]]:
        branches[history["current"]] = turns
        return {"branches": branches, "current": history["current"]}
    return {"branches": [*branches, turns], "current": len(branches)}


def turns_of(history: dict) -> list[dict]:
    return history["branches"][history["current"]]


def on_ask(say: Say, prompt: str, history: dict, count: int, *who: str | None) -> tuple:
    """Show the message at once in all columns."""
    if not all(who[:count]):
        raise Refused(say.trouble(NobodyChosen()))
    if not prompt.strip():
        raise Refused(say("playground.say_something"), duration=3)
    history = forked(history, [*turns_of(history), {"said": prompt, "replies": {}}])
    return gr.Textbox("", interactive=False), gr.Button(interactive=False), *drawing(say, history)


def on_retry(say: Say, column: str, history: dict, event: gr.EventData) -> tuple:
    """Ask again what was asked there, in a branch of its own."""
    turns = turns_of(history)
    at = turn_at(say, turns, column, _index(event))
    history = forked(history, [*turns[:at], {"said": turns[at]["said"], "replies": {}}])
    return gr.Textbox(interactive=False), gr.Button(interactive=False), *drawing(say, history)


def on_edit(say: Say, column: str, history: dict, event: gr.EventData) -> tuple:
    """Ask something else there, in a branch of its own."""
    turns = turns_of(history)
    at = turn_at(say, turns, column, _index(event))
    value = event.value if isinstance(event.value, str) else event.value.get("text", "")
    history = forked(history, [*turns[:at], {"said": written(value), "replies": {}}])
    return gr.Textbox(interactive=False), gr.Button(interactive=False), *drawing(say, history)


def on_undo(say: Say, column: str, history: dict, event: gr.EventData) -> tuple:
    """Take the last question back into the field; the branch that it was in stays."""
    turns = turns_of(history)
    at = turn_at(say, turns, column, _index(event))
    history = {"branches": [*history["branches"], turns[:at]], "current": len(history["branches"])}
    return turns[at]["said"], *drawing(say, history)


def on_branch(say: Say, index: int, history: dict) -> list:
    """Another branch, with those above the columns who replied in it."""
    history = {**history, "current": index}
    who = next((turn["who"] for turn in reversed(turns_of(history)) if "who" in turn), {})
    chosen = [gr.update(value=who[column]) if column in who else gr.skip() for column in COLUMNS]
    return [*chosen, *drawing(say, history)]


def on_who(say: Say, prompt: str, history: dict) -> tuple:
    """Somebody else replies from now on, in an empty branch: no reply stands under another's name. The question is
    ready to be put to them."""
    history = halted(history)
    turns, field = turns_of(history), {}
    if turns:
        history = {"branches": [*history["branches"], []], "current": len(history["branches"])}
        field = {} if prompt else {"value": turns[-1]["said"]}
    return gr.Textbox(interactive=True, **field), gr.Button(interactive=True), "", *drawing(say, history)


def on_back(say: Say, turn: int, history: dict) -> list:
    """Go on from an earlier turn, in a branch of its own."""
    history = {"branches": [*history["branches"], turns_of(history)[: turn + 1]], "current": len(history["branches"])}
    return drawing(say, history)


def _index(event) -> int:
    return event.index[0] if isinstance(event.index, list | tuple) else event.index


def on_answer(say: Say, history: dict, count: int, switch: Switch, system: str, busy: str, **values):
    """Stream the replies to the last message; closed early, it leaves what was said so far.

    After a trouble a message that nobody answered goes back into the field.
    """
    turns = turns_of(history)
    if not turns or turns[-1]["replies"]:
        yield gr.skip(), gr.skip(), *drawing(say, history)
        return
    who = {column: values[f"who_{column}"] for column in COLUMNS[:count]}
    first = [{"role": "system", "content": system}] if system.strip() else []
    questions = {column: Question(id, [*first, *said(turns, column)]) for column, id in who.items()}
    on_cpu, grown, began = False, history, time.monotonic()
    try:
        for notice, on_cpu in before(say, busy):  # noqa: B007 (the last one counts)
            if switch.pressed > began:
                return
            yield gr.skip(), notice, *[gr.skip()] * len(drawing(say, history))
        sampling = Sampling(**{name: values[name] for name in SETTINGS if values[name] is not None})
        for replies in chat.talk(questions, sampling, on_cpu=on_cpu):
            if switch.pressed > began:
                return  # hangs up, which frees the card
            answered = {column: asdict(reply) for column, reply in replies.items()}
            grown = with_replies(history, answered, who)
            yield gr.skip(), say("playground.on_cpu") if on_cpu else "", *drawing(say, grown)
    except UserError as error:
        field = gr.skip() if turns_of(grown)[-1]["replies"] else turns[-1]["said"]
        yield field, say.trouble(error), *drawing(say, halted(grown))
        gr.Warning(say.trouble(error))


def before(say: Say, busy: str):
    """Say what the reply waits for: (notice, whether it will come from the processor)."""
    training = gpu_access.busy(sees_card=True)  # on a machine without a card it slows the reply down
    if not training:
        seen = chat.look()
        sentence = "playground.turn" if seen["busy"] else "" if seen["open"] else "playground.loading"
        yield sentence and say(sentence), False
        return
    name = runs.label(training)["name"]
    if busy == "cpu":
        yield say("playground.training", name=name), bool(gpu_access.busy())
        return
    while gpu_access.busy():
        yield say("playground.waiting", name=name), False
        time.sleep(1)
    yield say("playground.loading"), False


def said(turns: list[dict], column: str) -> list[dict]:
    """The conversation of one column, as it was said."""
    heard = []
    for turn in turns:
        if turn["replies"] and column not in turn["replies"]:
            continue  # a column that came later: templates want questions and answers in turn
        heard.append({"role": "user", "content": turn["said"]})
        if column in turn["replies"]:
            heard.append({"role": "assistant", "content": turn["replies"][column]["text"]})
    return heard


def with_replies(history: dict, replies: dict[str, dict], who: dict[str, str] | None = None) -> dict:
    branches, current = list(history["branches"]), history["current"]
    turn = {**branches[current][-1], "replies": replies}
    branches[current] = [*branches[current][:-1], turn | {"who": who} if who else turn]
    return {"branches": branches, "current": current}


def without_unanswered(history: dict) -> dict:
    """The history without a last message that got no reply."""
    branches, current = list(history["branches"]), history["current"]
    if branches[current] and not branches[current][-1]["replies"]:
        branches[current] = branches[current][:-1]
    return {"branches": branches, "current": current}


def on_free() -> tuple:
    return gr.Textbox(interactive=True), gr.Button(interactive=True)


def on_halt(switch: Switch) -> None:
    switch.pressed = time.monotonic()


def halted(history: dict) -> dict:
    """The history after Stop: what was said so far stays, marked as stopped, and an unanswered question goes."""
    history = without_unanswered(history)
    turns = turns_of(history)
    if not turns:
        return history
    replies = {
        column: {**reply, "finish_reason": reply["finish_reason"] or "stopped"}
        for column, reply in turns[-1]["replies"].items()
    }
    return with_replies(history, replies)


def on_stop(say: Say, history: dict) -> tuple:
    """A question without any reply goes back into the field."""
    turns = turns_of(history)
    unanswered = turns and not turns[-1]["replies"]
    field = {"value": turns[-1]["said"]} if unanswered else {}  # else what is typed there meanwhile stays
    return gr.Textbox(interactive=True, **field), gr.Button(interactive=True), "", *drawing(say, halted(history))


def on_clear(say: Say) -> tuple:
    return *on_free(), "", *drawing(say, EMPTY)
