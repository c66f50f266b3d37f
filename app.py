"""Soulsmith: retrain a language model on your own machine. Run it: `python app.py`; it prints the address."""

import argparse
import asyncio
import json
import locale
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import webbrowser
from contextlib import suppress
from functools import partial
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before the import: nothing here asks another host

import gradio as gr
import uvicorn
from starlette.applications import Starlette

from core import VERSION, damage, demo, errors, files, jobs, paths, process
from core.chat import chat
from core.errors import UserError
from core.runs import queue, runs, store
from core.sharing import own_page
from core.sharing.connections import Connection
from core.sharing.gate import Gate
from core.sharing.sharing import Limits, Share
from ui import calculator, corpora, export, history, opening, pages, playground, sharing, sharing_page, synth, training
from ui import sharing_server as links
from ui.text import LANGUAGES, Say

UPLOADS_KEPT_SECONDS = 2 * 86400
LONGEST_TEMPORARY = 50  # bytes of the path: sockets are among the temporary files, and theirs has 104 at most
TEMPORARY_KEPT_SECONDS = 30 * 86400  # a run may use its own for weeks
PORTS = 20  # how many ports are tried when the next free one is wanted
# Plots that were replaced while their tab was hidden come back too narrow until the window is "resized".
RESIZE = "() => { setTimeout(() => window.dispatchEvent(new Event('resize')), 30) }"


class PortInUse(UserError):
    template = "Port {port} is in use by another program. Close it, or run: python app.py --port {next}"


# The tabs in the order of the work: the id of each, which names it in the locales too, and what builds it.
TABS = {
    "opening": opening.build,
    "calculator": calculator.build,
    "corpus": corpora.build,
    "synth": synth.build,
    "training": training.build,
    "playground": partial(playground.build, at_home=True),
    "runs": history.build,
    "export": export.build,
    "share": sharing.build,
}
REFILLED = {"synth": ("corpus", "training"), "corpus": ("playground",), "runs": ("training", "playground")}


def build_page(say: Say) -> gr.Blocks:
    """The whole page in one language."""
    with gr.Blocks(title="Soulsmith", fill_width=True, analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        gr.HTML(pages.head(say, say("page.tagline")))
        notice = gr.HTML(visible=False)
        labels, parts = {}, {}
        with gr.Tabs() as tabs:
            for name, build in TABS.items():
                with gr.Tab(say(f"page.{name}"), id=name) as labels[name]:
                    parts[name] = build(say)
        ask_address(parts)
        connect(labels, parts)
        connect_buttons(tabs, parts)
        connect_address(page, tabs, labels, parts)
        tabs.select(None, None, None, js=RESIZE)
        page.load(partial(pages.damage_notice, say), None, notice, show_progress="hidden")
    return page


def connect(labels: dict, parts: dict) -> None:
    """Fill a tab whenever it is opened, and after a change on another tab that it shows."""
    for name, part in parts.items():
        if "load" in part:
            filled = fill(labels[name].select, part)  # comes by itself for the tab that is shown first
            if "filled" in part:
                filled.then(None, **part["filled"])
    rest = {"outputs": parts["opening"]["left"], "js": "() => ['', {__type__: 'update', active: false}]"}
    for name in TABS.keys() - {"opening"}:
        labels[name].select(None, None, **rest)
    # A model may have become ready since the page opened.
    labels["corpus"].select(
        corpora.on_models, parts["corpus"]["model"], parts["corpus"]["model"], show_progress="hidden"
    )
    for name, others in REFILLED.items():
        for other in others:
            fill(parts[name]["changed"].change, parts[other])
    filled = fill(parts["corpus"]["changed"].change, parts["training"])
    train_on(filled.then, parts)


def train_on(event, parts: dict) -> None:
    """Choose the corpus of the Corpus tab on the Training tab; a draft that waits there has another one."""
    chosen, field = parts["corpus"]["corpora"], parts["training"]["form"]["corpus"]
    event(training.on_corpus, chosen, field, js="(id) => [draft.without(id)]", show_progress="hidden")


def fill(event, part: dict):
    """Fill a tab after an event by its "load", with "inputs" (a list, or by parameter) and "outputs".

    With "turns" (a text, tabs) the tab that the load has written into the text is opened, unless the person has opened
    another one meanwhile.
    """
    inputs = {"inputs_kwargs" if isinstance(part["inputs"], dict) else "inputs": part["inputs"]}
    filled = event(part["load"], **inputs, outputs=part["outputs"], js=part.get("js"), show_progress="hidden")
    if "turns" not in part:
        return filled
    wanted, tabs = part["turns"]
    return filled.then(None, wanted, tabs, js="(wanted) => place.turn(wanted)")


def connect_buttons(tabs: gr.Tabs, parts: dict) -> None:
    """Let the buttons that lead to another tab open it, in the browser at once."""

    def lead(event, name: str):
        event(None, None, tabs, js=f"() => ({{__type__: 'update', selected: '{name}'}})")

    talk, chat = parts["opening"]["talk"], parts["playground"]
    lead(talk.click, "playground")
    # The models chosen there before make way for the newest run, which is the demo's.
    talk.click(**chat["newest"], show_progress="hidden")
    train = parts["corpus"]["train"]
    lead(train.click, "training")
    train_on(train.click, parts)
    on_plan, inputs, fields = parts["training"]["fill"]
    planned = parts["calculator"]["button"].click(
        on_plan, [parts["calculator"]["plan"], *inputs], fields, js="(...given) => draft.taken(given)"
    )
    lead(planned.then(**parts["training"]["seen"]).then, "training")
    on_go_on, fields = parts["training"]["go_on"]
    # The lists first: gradio refuses a chosen value, and all that is asked with it, which its list does not have yet.
    listed = fill(parts["runs"]["go_on"].click, parts["training"] | {"load": parts["training"]["lists"]})
    taken = {"js": "(run) => draft.taken([run])", "show_progress": "hidden"}
    filled = listed.success(on_go_on, parts["runs"]["pick"], fields, **taken)
    lead(filled.success(**parts["training"]["seen"]).then, "training")


def connect_address(page: gr.Blocks, tabs: gr.Tabs, labels: dict, parts: dict) -> None:
    """Keep the tab and what is chosen on it in the address, in the browser alone; see assets/page.js."""
    go = {"fn": None, "inputs": None, "outputs": tabs, "js": f"() => place.go({json.dumps(list(TABS))})"}
    page.load(**go)
    gr.Button(elem_id="place-moved", visible="hidden").click(**go)
    for name, label in labels.items():
        pick = parts[name].get("pick")
        label.select(None, pick, None, js=f"(pick) => {{ place.opened('{name}', pick) }}")
        if pick:
            pick.change(None, pick, None, js=f"(pick) => {{ place.picked('{name}', pick) }}")
            moved = gr.Button(elem_id=f"place-{name}", visible="hidden").click
            fill(parts[name]["ended"](moved) if "ended" in parts[name] else moved, parts[name])


def ask_address(parts: dict) -> None:
    """Give the load handlers of tabs with a "pick" or "asks" what the address asks for, as their last input; "" for nothing."""
    for name, part in parts.items():
        if "pick" in part or "asks" in part:
            part["inputs"] = [*part["inputs"], gr.Textbox(visible="hidden")]
            part["js"] = f"(...values) => [...values.slice(0, -1), place.asked('{name}')]"


def build_server(lang: str | None) -> Starlette:
    """One address, the page in each language behind it, and the files of exports."""
    return pages.serve(build_page, lang, routes=(export.DOWNLOADS,))


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
        "--no-token", action="store_true", help="open to every program of this machine: for a proxy that asks itself"
    )
    parser.add_argument(
        "--demo", action="store_true", help="a data directory of its own with a recorded run, to look at every tab"
    )
    parser.add_argument("--offline", action="store_true", help="let nothing of this reach another machine")
    reach = {"nargs": "?", "const": "link", "choices": links.REACHES}
    parser.add_argument(
        "--share",
        help="let others chat with the newest trained model, with a password: by a public link, over this network, or "
        "behind a tunnel of your own",
        **reach,
    )
    parser.add_argument(
        "--share-all",
        help="the same for the whole page: whoever has the password controls this machine's training and files",
        **reach,
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


def listening(port: int, host: str = "127.0.0.1") -> socket.socket:
    """A socket that is bound to a port, 0 for any; raises PortInUse when another program has it."""
    try:
        return process.bound(host, port)
    except OSError:
        raise PortInUse(port=port, next=port + 1) from None


def next_free() -> socket.socket:
    """A socket that is bound to the first port from 7860 on that no program has."""
    for number in range(7860, 7860 + PORTS):
        with suppress(PortInUse):
            return listening(number)
    raise PortInUse(port=f"7860-{7860 + PORTS - 1}", next=7860 + PORTS)


def share_all(page: Starlette, own: own_page.OwnPage, args: argparse.Namespace) -> tuple[Gate, socket.socket]:
    """The whole page behind a gate on a second port; what comes in by the first one is this machine's own."""
    sock = listening(0, "0.0.0.0" if args.share_all == "network" else "127.0.0.1")
    share = Share(None, Limits(hours=args.share_hours))
    number = sock.getsockname()[1]
    gate = Gate(
        pages.for_visitors(page),
        share,
        partial(sharing_page.asking, args.lang),
        allowed=None,
        elsewhere=(number, own),
        tunnelled=args.share_all != "network",
    )
    opened = links.Opened(share, number, args.share_all)
    opened.find_address()
    links.keep(opened)
    return gate, sock


def share_chat(args: argparse.Namespace) -> None:
    """Open the link to the chat with the newest trained model."""
    rows = [row["id"] for row in store.sync_all() if row["state"] == "finished" and links.can_talk(row["id"])]
    if not rows:
        raise errors.named("NothingToShare")
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


def set_environment(args: argparse.Namespace) -> None:
    """What holds for this process and for all that it starts."""
    if args.home:
        os.environ["SOULSMITH_HOME"] = args.home
    if args.demo:
        os.environ["SOULSMITH_HOME"] = f"{paths.home()}-demo"
    if args.offline:
        os.environ.update(SOULSMITH_OFFLINE="1", HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")  # for all that is started
        process.stay_offline()
    os.umask(0o077)  # what is written from here on is this user's alone, wherever the data directory is


def prepare_home() -> None:
    """Make the data directory this user's alone, uploads and temporary files in it, and move away what would keep the
    page from starting."""
    home = paths.home()
    # Never a directory that somebody merely named and that holds other things.
    if not home.exists() or paths.database().exists() or not any(home.iterdir()):
        paths.make_private(home)
    damage.rename_obstacles()
    uploads, temporary = paths.make_private(paths.uploads()), paths.make_private(home / "tmp")
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    if len(os.fsencode(temporary)) <= LONGEST_TEMPORARY:
        os.environ.update(dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary)))  # for all that is started, too
        tempfile.tempdir = None  # where it was before is remembered there
    for directory, seconds in ((uploads, UPLOADS_KEPT_SECONDS), (temporary, TEMPORARY_KEPT_SECONDS)):
        for left in directory.iterdir():  # by a process that was killed
            with suppress(OSError):
                if time.time() - left.lstat().st_mtime > seconds:
                    shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()


def end_online(say: Say) -> None:
    """End the chat's process of before --offline, which may reach other machines, and say what work goes on with that."""
    chat.leave()
    places = (place for pattern in ("runs/*", *damage.JOBS) for place in paths.home().glob(pattern))
    if living := sorted(place.relative_to(paths.home()).as_posix() for place in places if jobs.is_alive(place)):
        print(say("page.offline.living", names=", ".join(living)), flush=True)


def open_browser(home: Path, address: str) -> None:
    """Open the page in the browser by a file that only this user can read: every user reads a command's arguments."""
    if "?token=" in address:
        page = home / "open.html"
        files.write_secret(page, own_page.GO_ON.format(address=address))
        address = page.as_uri()
    webbrowser.open(address)


def main() -> None:
    args = parse()
    set_environment(args)
    say = Say(args.lang or (os.environ.get("LANG") or locale.getlocale()[0] or "")[:2].lower())
    try:
        sockets = [listening(args.port) if args.port else next_free()]
        prepare_home()
        if args.demo:
            demo.add_recorded_runs()
        if args.offline:
            end_online(say)
        page = build_server(args.lang)
        token = None if args.no_token else own_page.token()
        own = own_page.OwnPage(page, token, pages.asks_for_token)
        if "link" in (args.share, args.share_all):
            print(say("sharing.opening"), flush=True)
        if args.share_all:
            own, shared = share_all(page, own, args)
            sockets.append(shared)
        elif args.share:
            share_chat(args)
    except (UserError, OSError) as error:
        sys.exit(say.trouble(error if isinstance(error, UserError) else files.worded(error, paths.home())))
    if queue.needs_worker():  # runs that were queued when the machine went down
        runs.start_worker()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended by the system as by Ctrl+C
    address = f"http://127.0.0.1:{sockets[0].getsockname()[1]}/" + (f"?token={token}" if token else "")
    # A page that is still open must not hold up the end: its streams are cut after two seconds.
    config = uvicorn.Config(own, log_level="warning", timeout_graceful_shutdown=2, proxy_headers=False, http=Connection)
    logging.getLogger("uvicorn.error").addFilter(is_news)
    try:
        print(say("page.started", address=address), flush=True)
        announce(say, args)
        if not args.no_browser:
            threading.Timer(1, open_browser, [paths.home(), address]).start()
        uvicorn.Server(config).run(sockets=sockets)
    except KeyboardInterrupt:
        pass
    finally:
        links.end()
    training_goes_on = any(row["state"] in runs.ACTIVE for row in store.sync_all())
    print(say("page.ended.training" if training_goes_on else "page.ended"), flush=True)


def is_news(record: logging.LogRecord) -> bool:
    """Whether to show a line of the server's log: not that open windows are cut off at the end."""
    cut = record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError)
    return not cut and "graceful shutdown exceeded" not in str(record.msg)


if __name__ == "__main__":
    main()
