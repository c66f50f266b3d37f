"""The server for other programs, on the Export tab: a switch, the address, and what to enter in their settings."""

from functools import partial

import gradio as gr

from core import jobs
from core.serve import serve
from ui import templates
from ui.errors import show_errors
from ui.text import Say


def build(say: Say, timer: gr.Timer) -> list:
    """The folded part; returns what shown() fills."""
    with gr.Accordion(say("serve.title"), open=False):
        gr.Markdown(say("serve.intro"), elem_classes="subdued")
        with gr.Row():
            switch = gr.Checkbox(label=say("serve.switch"), info=say("serve.switch.info"), elem_id=f"serve-{say.lang}")
            network = gr.Checkbox(label=say("serve.network"), info=say("serve.network.info"))
            port = gr.Number(
                serve.PORT, precision=0, minimum=0, maximum=65535, label=say("serve.port"), info=say("serve.port.info")
            )
            key = gr.Button(say("serve.new_key"), size="sm", min_width=120)
        panel = gr.HTML()
    quiet = {"show_progress": "hidden"}
    fields = [switch, network, port]
    switched = switch.input(partial(on_switch, say), fields, [*fields, panel], **quiet)
    switched.success(lambda: gr.Timer(active=True), None, timer, **quiet)
    key.click(partial(on_key, say), None, panel, **quiet)
    return [*fields, panel]


@show_errors
def on_switch(say: Say, wanted: bool, network: bool, port: float | None) -> list:
    """Start the server, or end it."""
    if wanted:
        serve.start(serve.NETWORK if network else serve.HOST, int(port or 0))
    else:
        serve.stop()
    return shown(say)


def on_key(say: Say) -> str:
    """Make another key, and show it."""
    serve.new_key()
    return _panel(say)


def shown(say: Say) -> list:
    """The switch as the server is, whom it listens to and where, which stay while it runs, and what to say of it."""
    if _state() not in jobs.ACTIVE:
        return [False, gr.Checkbox(interactive=True), gr.Number(interactive=True), _panel(say)]
    request = jobs.request(serve.current())
    network = gr.Checkbox(value=_wide(request), interactive=False)
    port = gr.Number(value=request.get("port", serve.PORT), interactive=False)
    return [_state() != "stopping", network, port, _panel(say)]


def _wide(request: dict) -> bool:
    """Whether other machines can reach the server."""
    return request.get("host") not in (None, *serve.OWN_HOSTS)


def _state() -> str:
    directory = serve.current()
    return jobs.state(directory) if directory else ""


def _panel(say: Say) -> str:
    directory = serve.current()
    seen, state = (jobs.progress(directory), _state()) if directory else ({}, "")
    address = seen.get("listening", {}).get("address") if state == "running" else None
    failed = seen.get("failed") if state == "failed" else None
    request = jobs.request(directory) if directory else {}
    values = {"address": address, "failed": failed, "state": state, "key": serve.key()}
    return templates.render(say, "export_serve", wide=_wide(request), key_file=serve.key_file(), **values)
