"""The hub, on the Export tab: push the chosen export with its card, import an adapter."""

from functools import partial

import gradio as gr

from core import jobs, paths
from core.chat import imported
from core.export import hub
from core.runs import runs
from ui import buttons, templates
from ui.errors import show_errors
from ui.text import Say

SHOWN = 5  # jobs, newest first


def build(say: Say, chosen: gr.Dropdown, timer: gr.Timer) -> list:
    """The folded part; returns what shown() fills."""
    with gr.Accordion(say("hub.title"), open=False):
        gr.Markdown(say("hub.intro"), elem_classes="subdued")
        with gr.Row():
            repo = gr.Textbox(
                label=say("hub.repo"), info=say("hub.repo.info"), placeholder=say("hub.owner_name"), max_lines=1
            )
            token = gr.Textbox(label=say("hub.token"), info=say("hub.token.info"), type="password", max_lines=1)
        with gr.Row():
            private = gr.Checkbox(True, label=say("hub.private"), info=say("hub.private.info"))
            push = gr.Button(say("hub.push"), size="sm")
            base = gr.Textbox(label=say("hub.base"), info=say("hub.base.info"), max_lines=1)
            fetch = gr.Button(say("hub.import"), size="sm")
        with gr.Row():
            adapters = gr.Dropdown([], label=say("hub.adapters"), interactive=True, scale=3)
            delete = gr.Button(say("hub.delete"), size="sm", min_width=100)
        panel = gr.HTML(elem_id=f"hub-{say.lang}")
    buttons.needs(push, chosen, repo)
    buttons.needs(fetch, repo)
    buttons.needs(delete, adapters)
    quiet = {"show_progress": "hidden"}
    drawn = [panel, adapters]
    outputs = [token, *drawn]  # the token leaves the page as soon as it was used
    pushed = push.click(partial(on_push, say), [chosen, repo, token, private], outputs, **quiet)
    fetched = fetch.click(partial(on_import, say), [repo, token, base], outputs, **quiet)
    for begun in (pushed, fetched):
        begun.success(lambda: gr.Timer(active=True), None, timer, **quiet)
    delete.click(partial(on_delete, say), adapters, drawn, **quiet)
    return drawn


@show_errors
def on_push(say: Say, chosen: str | None, repo: str, token: str, private: bool) -> tuple:
    hub.push(chosen or "", repo, token, private=private)
    return "", *shown(say)


@show_errors
def on_import(say: Say, repo: str, token: str, base: str) -> tuple:
    hub.fetch(repo, token, base.strip())
    return "", *shown(say)


@show_errors
def on_delete(say: Say, adapter: str | None) -> list:
    """Delete an imported adapter; runs that went on from it keep its weights."""
    imported.delete(adapter or "")
    return shown(say)


def shown(say: Say) -> list:
    """What was pushed and imported last, and how far it is; the adapters that are here."""
    rows = []
    for directory in jobs.listed(paths.hub())[:SHOWN]:
        seen, state = jobs.progress(directory), jobs.state(directory)
        rows.append({"request": jobs.request(directory), "state": state, "made": seen.get("finished") or {}})
        rows[-1]["failed"] = seen.get("failed") if state == "failed" else None
    known = [row for row in rows if {"do", "repo"} <= row["request"].keys()]
    names = [(card["id"], folder.name) for folder, card in imported.listed()]
    adapters = gr.Dropdown(choices=runs.disambiguate(names), value=None)  # one chosen for a person could be deleted
    return [templates.render(say, "export_hub", rows=known), adapters]
