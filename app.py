"""Soulsmith: retrain a language model on your own machine. Run it: `python app.py`, then open http://127.0.0.1:7860."""

import argparse
import contextlib
import os
import socket
import sys
import threading
import webbrowser

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before the import: nothing here asks another host

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount

from core import runs
from core.trouble import Trouble
from ui import calculator, corpora, history, playground, synth, theme, training
from ui.text import LANGUAGES, Say

COOKIE = "soulsmith_lang"
# Plots that were replaced while their tab was hidden come back too narrow until the window is "resized".
RESIZE = "() => { setTimeout(() => window.dispatchEvent(new Event('resize')), 30) }"


class PortInUse(Trouble):
    template = "Port {port} is in use by another program. Close it, or run: python app.py --port {next}"


def build_page(say: Say) -> gr.Blocks:
    """The whole page in one language."""
    with gr.Blocks(title="Soulsmith", fill_width=True, analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        gr.HTML(head(say))
        with gr.Tabs() as tabs:
            with gr.Tab(say("page.calculator"), id="calculator") as calculator_label:
                calculator_tab = calculator.build(say)
            with gr.Tab(say("page.corpus"), id="corpus"):
                corpus_tab = corpora.build(say)
            with gr.Tab(say("page.synth"), id="synth"):
                synth_tab = synth.build(say)
            with gr.Tab(say("page.training"), id="training") as training_label:
                training_tab = training.build(say)
            with gr.Tab(say("page.playground"), id="playground") as playground_label:
                playground_tab = playground.build(say)
            with gr.Tab(say("page.runs"), id="runs") as runs_label:
                runs_tab = history.build(say)
        connect(page, training_tab, playground_tab, runs_tab, corpus_tab)
        made = synth_tab["changed"]
        made.change(corpus_tab["load"], None, corpus_tab["outputs"], show_progress="hidden")
        made.change(training_tab["load"], training_tab["inputs"], training_tab["outputs"], show_progress="hidden")
        connect_calculator(page, calculator_tab, calculator_label, training_tab, tabs)
        training_label.select(
            training_tab["load"], training_tab["inputs"], training_tab["outputs"], show_progress="hidden"
        )
        playground_label.select(
            playground_tab["load"], playground_tab["inputs"], playground_tab["outputs"], show_progress="hidden"
        )
        runs_label.select(runs_tab["load"], runs_tab["inputs"], runs_tab["outputs"], show_progress="hidden")
        tabs.select(None, None, None, js=RESIZE)
    return page


def connect(page: gr.Blocks, training_tab: dict, playground_tab: dict, runs_tab: dict, corpus_tab: dict) -> None:
    """Fill every tab when the page opens, and tell the tabs of each other's changes."""
    on_config, config_inputs, exact = training_tab["exact"]
    filled = page.load(training_tab["load"], training_tab["inputs"], training_tab["outputs"])
    filled.then(on_config, inputs_kwargs=config_inputs, outputs=exact, show_progress="hidden")
    page.load(playground_tab["load"], playground_tab["inputs"], playground_tab["outputs"])
    page.load(corpus_tab["load"], None, corpus_tab["outputs"])
    page.load(runs_tab["load"], runs_tab["inputs"], runs_tab["outputs"])
    for changed in (corpus_tab["changed"], runs_tab["changed"]):
        changed.change(training_tab["load"], training_tab["inputs"], training_tab["outputs"], show_progress="hidden")
        changed.change(
            playground_tab["load"], playground_tab["inputs"], playground_tab["outputs"], show_progress="hidden"
        )


def connect_calculator(page: gr.Blocks, calculator_tab: dict, label: gr.Tab, training_tab: dict, tabs: gr.Tabs) -> None:
    """Answer the first question when the page opens, and carry a plan over to the Training tab."""
    answer = {"fn": calculator_tab["load"], "outputs": calculator_tab["outputs"], "show_progress": "hidden"}
    page.load(inputs_kwargs=calculator_tab["inputs"], **answer)
    label.select(inputs_kwargs=calculator_tab["inputs"], **answer)
    on_plan, fields = training_tab["fill"]
    filled = calculator_tab["button"].click(on_plan, calculator_tab["plan"], fields)
    filled.then(lambda: gr.Tabs(selected="training"), None, tabs)


def head(say: Say) -> str:
    """Name, promise, and the link to the other language."""
    other = LANGUAGES[1 - LANGUAGES.index(say.lang)]
    switch = f"document.cookie='{COOKIE}={other};path=/;SameSite=Lax';location.reload();return false"
    link = f'<a href="#" lang="{other}" onclick="{switch}">{say("page.other_language")}</a>'
    return f'<div class="page-head"><h1>Soulsmith</h1><p>{say("page.tagline")}</p>{link}</div>'


def build_server(lang: str | None) -> Starlette:
    """One address, the page in each language behind it: every request goes to the page in its sender's language."""
    apps = {}
    for code in LANGUAGES:
        apps[code] = gr.mount_gradio_app(
            FastAPI(),
            build_page(Say(code)),
            path="/",
            theme=theme.THEME,
            css_paths=[theme.STYLE],
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            show_error=False,
            max_file_size="2gb",
        )

    async def in_language(scope, receive, send):
        await apps[language(Request(scope), lang)](scope, receive, send)

    @contextlib.asynccontextmanager
    async def lifespan(_):
        async with contextlib.AsyncExitStack() as stack:
            for app in apps.values():
                await stack.enter_async_context(app.router.lifespan_context(app))
            yield

    return Starlette(routes=[Mount("/", app=in_language)], lifespan=lifespan)


def language(request: Request, flag: str | None) -> str:
    """The language that was clicked, or given as --lang, or that the browser asks for first; else English."""
    if request.cookies.get(COOKIE) in LANGUAGES:
        return request.cookies[COOKIE]
    if flag:
        return flag
    for part in request.headers.get("accept-language", "").split(","):
        if (code := part.strip()[:2].lower()) in LANGUAGES:
            return code
    return LANGUAGES[0]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Retrain a language model on your own machine.")
    parser.add_argument("--lang", choices=LANGUAGES, help="language of the page; default: the browser's")
    parser.add_argument("--port", type=int, default=7860, help="port on 127.0.0.1, default 7860")
    parser.add_argument("--home", help="data directory; default: SOULSMITH_HOME, or soulsmith/ in your home")
    parser.add_argument("--no-browser", action="store_true", help="do not open the browser")
    return parser.parse_args(arguments)


def check_port(port: int) -> None:
    with socket.socket() as probe:
        if sys.platform != "win32":  # there it would let two programs share the port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise PortInUse(port=port, next=port + 1) from None


def main() -> None:
    args = parse()
    if not 0 < args.port < 65536:
        sys.exit(f"--port must be between 1 and 65535, got {args.port}. Try 7860.")
    if args.home:
        os.environ["SOULSMITH_HOME"] = args.home
    try:
        check_port(args.port)
    except Trouble as error:
        sys.exit(Say(args.lang or os.environ.get("LANG", "")[:2]).trouble(error))
    if runs.needs_worker():  # runs that were queued when the machine went down
        runs.start_worker()
    address = f"http://127.0.0.1:{args.port}"
    server = uvicorn.Server(
        uvicorn.Config(build_server(args.lang), host="127.0.0.1", port=args.port, log_level="warning")
    )
    print(f"Soulsmith: {address}  (Ctrl+C ends the page; training goes on)", flush=True)
    if not args.no_browser:
        threading.Timer(1, webbrowser.open, [address]).start()
    server.run()


if __name__ == "__main__":
    main()
