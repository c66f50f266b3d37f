"""The hub, on the Export tab: push the chosen export with its card, import an adapter."""

from functools import partial

import gradio as gr

from core import jobs
from core.export import hub
from ui import templates
from ui.errors import show_errors
from ui.text import Say

SHOWN = 5  # jobs, newest first


def build(say: Say, chosen: gr.Dropdown, timer: gr.Timer) -> list:
    """The folded part; returns what shown() fills."""
    with gr.Accordion(say("hub.title"), open=False):
        gr.Markdown(say("hub.intro"), elem_classes="subdued")
        with gr.Row():
            repo = gr.Textbox(label=say("hub.repo"), info=say("hub.repo.info"), placeholder="owner/name", max_lines=1)
            token = gr.Textbox(label=say("hub.token"), info=say("hub.token.info"), type="password", max_lines=1)
        with gr.Row():
            private = gr.Checkbox(True, label=say("hub.private"), info=say("hub.private.info"))
            push = gr.Button(say("hub.push"), size="sm")
            fetch = gr.Button(say("hub.import"), size="sm")
        panel = gr.HTML(elem_id=f"hub-{say.lang}")
    quiet = {"show_progress": "hidden"}
    outputs = [token, panel]  # the token leaves the page as soon as it was used
    pushed = push.click(partial(on_push, say), [chosen, repo, token, private], outputs, **quiet)
    fetched = fetch.click(partial(on_import, say), [repo, token], outputs, **quiet)
    for begun in (pushed, fetched):
        begun.success(lambda: gr.Timer(active=True), None, timer, **quiet)
    return [panel]


@show_errors
def on_push(say: Say, chosen: str | None, repo: str, token: str, private: bool) -> tuple:
    hub.push(chosen or "", repo, token, private=private)
    return "", *shown(say)


@show_errors
def on_import(say: Say, repo: str, token: str) -> tuple:
    hub.fetch(repo, token)
    return "", *shown(say)


def shown(say: Say) -> list:
    """What was pushed and imported last, and how far it is."""
    rows = []
    for directory in jobs.listed(hub.home())[:SHOWN]:
        seen, state = jobs.progress(directory), jobs.state(directory)
        rows.append({"request": jobs.request(directory), "state": state, "made": seen.get("finished") or {}})
        rows[-1]["failed"] = seen.get("failed") if state == "failed" else None
    known = [row for row in rows if {"do", "repo"} <= row["request"].keys()]
    return [templates.render(say, "export_hub", rows=known)]
