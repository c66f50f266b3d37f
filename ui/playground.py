"""The Playground: one prompt, two streamed replies, the base and the adapter side by side."""

import re
from dataclasses import fields
from functools import partial

import gradio as gr

from core import runs, store
from core.recipe import RecipeTrouble
from core.trouble import Trouble
from ui.text import Say

COLUMNS = ("base", "tuned")


class NoRunChosen(Trouble):
    template = "No run is chosen. Choose one from the list."


def build(say: Say) -> dict:
    """The tab; returns its load handler and outputs."""
    gr.Markdown(say("playground.intro"))
    run = gr.Dropdown(label=say("playground.run"), info=say("playground.empty"), interactive=True)
    with gr.Row():
        chats = {name: gr.Chatbot(label=say(f"playground.{name}"), height=420, buttons=["copy"]) for name in COLUMNS}
    facts = gr.Markdown()
    prompt = gr.Textbox(
        label=say("playground.prompt"),
        placeholder=say("playground.prompt.placeholder"),
        max_lines=8,
    )
    with gr.Row():
        send = gr.Button(say("playground.send"), variant="primary")
        stop = gr.Button(say("playground.stop"))
        clear = gr.Button(say("playground.clear"))
    with gr.Accordion(say("playground.more"), open=False):
        system = gr.Textbox("", label=say("playground.system"), lines=2)
        settings = build_settings(say)
    history = gr.State({name: [] for name in COLUMNS})  # what was said, as it was said; the chatbots show it escaped
    boxes = [chats[name] for name in COLUMNS]
    asked = gr.on(
        [send.click, prompt.submit],
        partial(on_ask, say),
        [run, prompt, history],
        [prompt, send, history, *boxes],
        queue=False,
        api_visibility="private",
    )
    inputs = {"run_id": run, "system": system, "history": history, **settings}
    answered = asked.success(
        partial(on_answer, say),
        inputs_kwargs=inputs,
        outputs=[history, *boxes, facts],
        concurrency_id="card",
        concurrency_limit=1,
        show_progress="minimal",
    )
    # While a reply grows nothing can be sent: a second message would be overwritten by the first reply's stream.
    answered.then(on_free, None, [prompt, send], queue=False, api_visibility="private")
    stop.click(partial(on_stop, say), [facts, history], [prompt, send, facts, history, *boxes], cancels=[answered])
    for event in (clear.click, run.input, *[box.clear for box in boxes]):
        event(on_clear, None, [prompt, send, history, *boxes, facts], cancels=[answered])
    return {"load": partial(on_load, say), "inputs": [run], "outputs": [run]}


def build_settings(say: Say) -> dict:
    """Sliders by field name of core.chat.Sampling, whose defaults they show."""

    def words(field: str) -> dict:
        return {"label": say(f"playground.{field}"), "info": say(f"playground.{field}.info")}

    with gr.Row():
        temperature = gr.Slider(0, 2, 0.7, step=0.05, **words("temperature"))
        top_p = gr.Slider(0.05, 1, 0.9, step=0.05, **words("top_p"))
        top_k = gr.Slider(0, 200, 50, step=1, **words("top_k"))
    with gr.Row():
        penalty = gr.Slider(1, 2, 1.1, step=0.05, **words("repetition_penalty"))
        longest = gr.Slider(16, 2048, 200, step=8, **words("max_new_tokens"))
        seed = gr.Number(7, precision=0, **words("seed"))
    return {
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "repetition_penalty": penalty,
        "max_new_tokens": longest,
        "seed": seed,
    }


def on_load(say: Say, chosen: str | None) -> dict:
    """The runs that have something to chat with, newest first; the one that is chosen stays."""
    rows = [row for row in store.sync_all() if row["best_step"] or row["state"] in ("finished", "stopped")]
    choices = [(f"{row['name']} · {say('state.' + row['state'])}", row["id"]) for row in rows]
    ids = [row["id"] for row in rows]
    value = chosen if chosen in ids else (ids or [None])[0]
    return gr.Dropdown(choices=choices, value=value, info="" if rows else say("playground.empty"))


def on_ask(say: Say, run_id: str | None, prompt: str, history: dict) -> tuple:
    """Show the message at once in both columns."""
    if not run_id:
        raise gr.Error(say.trouble(NoRunChosen()))
    if not prompt.strip():
        return gr.skip()
    history = {name: [*said, {"role": "user", "content": prompt}] for name, said in history.items()}
    held = gr.Textbox("", interactive=False), gr.Button(interactive=False)
    return *held, history, *[shown(history[name]) for name in COLUMNS]


def on_answer(say: Say, run_id: str, system: str | None, history: dict, **settings):
    """Stream both replies; closed early, it leaves what was said so far."""
    if not history["base"] or history["base"][-1]["role"] != "user":
        yield history, *[shown(history[name]) for name in COLUMNS], gr.skip()
        return
    training = any(runs.state(other) in ("running", "stopping") for other in runs.listed())
    notice = say("playground.busy") if training else say("playground.loading")
    yield history, *[shown(history[name]) for name in COLUMNS], notice
    from core import chat  # imports torch: only when somebody chats

    first = [{"role": "system", "content": system}] if system else []
    conversations = {name: first + said for name, said in history.items()}
    try:
        sampling = chat.Sampling(**{field.name: settings[field.name] for field in fields(chat.Sampling)})
        for replies in chat.replies(run_id, conversations, sampling):
            grown = {
                name: [*said, {"role": "assistant", "content": replies[name].text}] for name, said in history.items()
            }
            yield grown, *[shown(grown[name]) for name in COLUMNS], facts_line(say, replies)
    except (Trouble, RecipeTrouble) as error:
        history = answered_only(history)  # an unanswered question would stand before the next one
        yield history, *[shown(history[name]) for name in COLUMNS], say.trouble(error)
        gr.Warning(say.trouble(error))


def answered_only(history: dict) -> dict:
    """The conversations without a last message that got no reply."""
    return {name: said[:-1] if said and said[-1]["role"] == "user" else said for name, said in history.items()}


def on_free() -> tuple:
    return gr.Textbox(interactive=True), gr.Button(interactive=True)


def on_stop(say: Say, facts: str, history: dict) -> tuple:
    history, facts = answered_only(history), (facts or "").replace(say("finish."), say("finish.stopped"))
    return *on_free(), facts, history, *[shown(history[name]) for name in COLUMNS]


def on_clear() -> tuple:
    return *on_free(), {name: [] for name in COLUMNS}, [], [], ""


def shown(messages: list[dict]) -> list[dict]:
    return [{**message, "content": literal(message["content"])} for message in messages]


def literal(text: str) -> str:
    """Markdown in which markup such as <think> is shown as it was written, not swallowed by the browser.

    Inside code, Markdown shows markup by itself.
    """
    parts = re.split(r"(```.*?(?:```|\Z)|(?<!`)(?:``[^\n]*?``|`[^`\n]*`)(?!`))", text, flags=re.DOTALL)
    # An image is shown as its source too: nothing that a model writes makes the browser ask another host.
    plain = [part if index % 2 else part.replace("<", "&lt;").replace("![", "!\\[") for index, part in enumerate(parts)]
    return "".join(plain)


def facts_line(say: Say, replies: dict) -> str:
    """Tokens, speed and ending of each reply."""
    lines = [
        say(
            "playground.facts",
            name=say(f"playground.{name}"),
            tokens=reply.tokens,
            speed=say.number(reply.tokens_per_second),
            reason=say(f"finish.{reply.finish_reason}"),
        )
        for name, reply in replies.items()
    ]
    return "  \n".join(lines)
