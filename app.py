"""Soulsmith: retrain a language model on your own machine. Run it: `python app.py`, then open http://127.0.0.1:7860."""

import argparse
import asyncio
import locale
import logging
import os
import signal
import socket
import sys
import threading
import webbrowser
from functools import partial

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before the import: nothing here asks another host

import gradio as gr
import uvicorn
from starlette.applications import Starlette

from core import VERSION
from core.errors import UserError
from core.runs import queue, runs, store
from core.sharing.gate import Gate, local_only
from core.sharing.sharing import Limits, Share
from ui import calculator, corpora, export, history, opening, pages, playground, sharing, sharing_page, synth, training
from ui import sharing_server as links
from ui.text import LANGUAGES, Say

PORTS = 20  # how many ports are tried when the next free one is wanted
# Plots that were replaced while their tab was hidden come back too narrow until the window is "resized".
RESIZE = "() => { setTimeout(() => window.dispatchEvent(new Event('resize')), 30) }"


class PortInUse(UserError):
    template = "Port {port} is in use by another program. Close it, or run: python app.py --port {next}"


def build_page(say: Say) -> gr.Blocks:
    """The whole page in one language."""
    with gr.Blocks(title="Soulsmith", fill_width=True, analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        gr.HTML(pages.head(say, say("page.tagline")))
        with gr.Tabs() as tabs:
            with gr.Tab(say("page.opening"), id="opening") as opening_label:
                opening_tab = opening.build(say)
            with gr.Tab(say("page.calculator"), id="calculator") as calculator_label:
                calculator_tab = calculator.build(say)
            with gr.Tab(say("page.corpus"), id="corpus") as corpus_label:
                corpus_tab = corpora.build(say)
            with gr.Tab(say("page.synth"), id="synth"):
                synth_tab = synth.build(say)
            with gr.Tab(say("page.training"), id="training") as training_label:
                training_tab = training.build(say)
            with gr.Tab(say("page.playground"), id="playground") as playground_label:
                playground_tab = playground.build(say, at_home=True)
            with gr.Tab(say("page.runs"), id="runs") as runs_label:
                runs_tab = history.build(say)
            with gr.Tab(say("page.export"), id="export") as export_label:
                export_tab = export.build(say)
            with gr.Tab(say("page.share"), id="share") as share_label:
                share_tab = sharing.build(say)
        connect_opening(page, opening_tab, opening_label, tabs, playground_tab)
        page.load(export_tab["load"], export_tab["inputs"], export_tab["outputs"], show_progress="hidden")
        export_label.select(export_tab["load"], export_tab["inputs"], export_tab["outputs"], show_progress="hidden")
        page.load(share_tab["load"], share_tab["inputs"], share_tab["outputs"], show_progress="hidden")
        share_label.select(share_tab["load"], share_tab["inputs"], share_tab["outputs"], show_progress="hidden")
        connect(page, training_tab, playground_tab, runs_tab, corpus_tab)
        made = synth_tab["changed"]
        made.change(corpus_tab["load"], corpus_tab["inputs"], corpus_tab["outputs"], show_progress="hidden")
        made.change(training_tab["load"], training_tab["inputs"], training_tab["outputs"], show_progress="hidden")
        connect_calculator(page, calculator_tab, calculator_label, training_tab, tabs)
        # A model may have become ready since the page opened.
        corpus_label.select(corpora.on_models, corpus_tab["model"], corpus_tab["model"], show_progress="hidden")
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
    page.load(corpus_tab["load"], corpus_tab["inputs"], corpus_tab["outputs"])
    page.load(runs_tab["load"], runs_tab["inputs"], runs_tab["outputs"])
    training_load = {"fn": training_tab["load"], "inputs": training_tab["inputs"], "outputs": training_tab["outputs"]}
    runs_tab["changed"].change(**training_load, show_progress="hidden")
    corpus_tab["changed"].change(**training_load, show_progress="hidden").then(
        training.on_corpus, corpus_tab["corpora"], training_tab["inputs"][0], show_progress="hidden"
    )
    for changed in (corpus_tab["changed"], runs_tab["changed"]):
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
    filled.then(None, None, tabs, js=to_tab("training"))


def to_tab(name: str) -> str:
    """What opens a tab in the browser at once, with no answer to wait for."""
    return f"() => ({{__type__: 'update', selected: '{name}'}})"


def connect_opening(page: gr.Blocks, opening_tab: dict, label: gr.Tab, tabs: gr.Tabs, playground_tab: dict) -> None:
    """Say what is there already, and let every way of the opening screen lead to its tab."""
    answer = {"fn": opening_tab["load"], "outputs": opening_tab["outputs"], "show_progress": "hidden"}
    page.load(**answer)
    label.select(**answer)
    for way, button in opening_tab["buttons"].items():
        button.click(None, None, tabs, js=to_tab(way.removesuffix("_after")))
    load, nothing = playground_tab["load"], [None] * len(playground_tab["inputs"])
    # Whoever was chosen there before makes way for the newest run, which is the demo's.
    opening_tab["buttons"]["playground_after"].click(
        lambda: load(*nothing), None, playground_tab["outputs"], show_progress="hidden", api_visibility="private"
    )


def build_server(lang: str | None) -> Starlette:
    """One address, the page in each language behind it."""
    return pages.serve(build_page, lang)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Retrain a language model on your own machine.")
    parser.add_argument("--version", action="version", version=f"Soulsmith {VERSION}")
    parser.add_argument("--lang", choices=LANGUAGES, help="language of the page; default: the browser's")
    parser.add_argument(
        "--port", type=port, default=7860, help="port on 127.0.0.1, default 7860; next: the next free one"
    )
    parser.add_argument("--home", help="data directory; default: SOULSMITH_HOME, or soulsmith/ in your home")
    parser.add_argument("--no-browser", action="store_true", help="do not open the browser")
    parser.add_argument(
        "--share",
        nargs="?",
        const="link",
        choices=links.REACHES,
        help="let others chat with the newest trained model, with a password: by a public link, over this network, or "
        "behind a tunnel of your own",
    )
    parser.add_argument(
        "--share-all",
        nargs="?",
        const="link",
        choices=links.REACHES,
        help="the same for the whole page: whoever has the password controls this machine's training and files",
    )
    parser.add_argument("--share-hours", type=float, default=Limits.hours, help="when a share ends, default 2 hours")
    return parser.parse_args(arguments)


def port(text: str) -> int:
    """A port, or 0 for the next free one."""
    if text == "next":
        return 0
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"--port must be next or between 1 and 65535, got {text}. Try 7860.")
    return int(text)


def check_port(port: int) -> None:
    """Raise PortInUse when another program has it."""
    with socket.socket() as probe:
        if sys.platform != "win32":  # there it would let two programs share the port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise PortInUse(port=port, next=port + 1) from None


def next_port(first: int = 7860) -> int:
    """The first port from 7860 on that nobody has."""
    for number in range(first, first + PORTS):
        try:
            check_port(number)
            return number
        except PortInUse:
            continue
    raise PortInUse(port=f"{first}-{first + PORTS - 1}", next=first + PORTS)


def listening(host: str, number: int) -> socket.socket:
    sock = socket.socket()
    if sys.platform != "win32":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, number))
    return sock


def share_all(page: Starlette, args: argparse.Namespace) -> tuple[Gate, socket.socket]:
    """The whole page behind a gate on a second port; what comes in by the first one passes untouched."""
    door = listening("0.0.0.0" if args.share_all == "network" else "127.0.0.1", 0)
    share = Share(None, Limits(hours=args.share_hours))
    number = door.getsockname()[1]
    gate = Gate(page, share, partial(sharing_page.asking, args.lang), allowed=None, port=number)
    opened = links.Opened(share, number, args.share_all)
    opened.find_address()
    links.keep(opened)
    return gate, door


def share_chat(args: argparse.Namespace) -> None:
    """Open the link to the chat with the newest trained model."""
    rows = [row["id"] for row in store.sync_all() if row["state"] == "finished"]
    if not rows:
        raise sharing.NothingToShare()
    links.open_chat(rows[0], args.share, Limits(hours=args.share_hours), args.lang)


def announce(say: Say, args: argparse.Namespace) -> None:
    """Print where to go, the password, and what whoever has it can do."""
    if not (opened := links.current()):
        return
    left = say.duration(opened.share.figures()["seconds_left"])
    print(say("sharing.all.terminal") if args.share_all else say("sharing.chat.terminal", left=left))
    print(say("sharing.terminal", url=opened.url, password=opened.share.password), flush=True)
    if opened.reach == "own":
        print(say("sharing.own_hint", port=opened.port, command=links.tunnel_command(opened.port)), flush=True)
    elif sys.stdout.isatty():
        print(links.terminal_qr(opened))


def main() -> None:
    args = parse()
    if args.home:
        os.environ["SOULSMITH_HOME"] = args.home
    say = Say(args.lang or (os.environ.get("LANG") or locale.getlocale()[0] or "")[:2].lower())
    try:
        number = args.port or next_port()
        check_port(number)
        page, doors = build_server(args.lang), [listening("127.0.0.1", number)]
        if "link" in (args.share, args.share_all):
            print(say("sharing.opening"), flush=True)
        if args.share_all:
            page, door = share_all(page, args)
            doors.append(door)
        elif args.share:
            share_chat(args)
        if not args.share_all:
            page = local_only(page)
    except UserError as error:
        sys.exit(say.trouble(error))
    if queue.needs_worker():  # runs that were queued when the machine went down
        runs.start_worker()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended by the system as by Ctrl+C
    address = f"http://127.0.0.1:{number}"
    # A page that is still open must not hold up the end: its streams are cut after two seconds.
    config = uvicorn.Config(page, log_level="warning", timeout_graceful_shutdown=2, proxy_headers=False)
    logging.getLogger("uvicorn.error").addFilter(is_news)
    try:
        print(say("page.started", address=address), flush=True)
        announce(say, args)
        if not args.no_browser:
            threading.Timer(1, webbrowser.open, [address]).start()
        uvicorn.Server(config).run(sockets=doors)
    except KeyboardInterrupt:
        pass
    finally:
        links.end()
    print(say("page.ended.training" if training_goes_on() else "page.ended"), flush=True)


def is_news(record: logging.LogRecord) -> bool:
    """Whether a line of the server's log tells anything: that windows which are still open are cut at the end does not."""
    cut = record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError)
    return not cut and "graceful shutdown exceeded" not in str(record.msg)


def training_goes_on() -> bool:
    return any(row["state"] in runs.ACTIVE for row in store.sync_all())


if __name__ == "__main__":
    main()
