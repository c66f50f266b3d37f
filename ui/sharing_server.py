"""Open and end a link: a server of its own for the visitors, a way to it from outside, its QR code."""

import contextlib
import contextvars
import io
import os
import socket
import threading
import time
from dataclasses import dataclass
from functools import partial

import segno
import uvicorn

from core import models, paths
from core.chat import chat, types
from core.errors import UserError
from core.runs import runs
from core.sharing.gate import Gate
from core.sharing.sharing import Limits, Share
from ui import pages, sharing_page

REACHES = ("link", "network", "own")  # a public link, this network, a tunnel of one's own
TUNNEL_SECONDS = 60
START_SECONDS = 30
_open: "Opened | None" = None
_lock = threading.Lock()  # of _open: held for moments
_opening = threading.Lock()  # held while a way to this machine is found, which can take a minute


class TunnelBlocked(UserError):
    template = (
        "No public link could be opened: Gradio's servers did not answer, or their tunnel program could not be fetched "
        "or is blocked ({reason}). Two other ways, both with the password: over this network (choose This network, or "
        "--share network), or through a tunnel of your own (choose Tunnel of my own, or --share own; the command for it "
        "is then shown)."
    )


class ShareDidNotStart(UserError):
    template = "The page for visitors did not start on port {port}. Try again."


@dataclass
class Opened:
    """A link that is open."""

    share: Share
    url: str
    port: int
    reach: str
    title: str
    server: uvicorn.Server | None = None  # None: the page itself is shared, and ends with it
    tunnel: object = None

    def end(self) -> None:
        self.share.end()
        if self.tunnel:
            with contextlib.redirect_stdout(io.StringIO()):
                self.tunnel.kill()
        if self.server:
            self.server.should_exit = True


def current() -> Opened | None:
    """The link that is open now; one that has expired is ended."""
    with _lock:
        if _open and _open.share.ended:
            _end()
        return _open


def open_chat(run_id: str, reach: str, limits: Limits, lang: str | None = None) -> Opened:
    """Let visitors talk to the base and the adapter of a run; ends what was open before.

    Raises:
        TunnelBlocked: with the two other ways; nothing stays open.
    """
    global _open
    title = f"{runs.label(run_id)['name']} · {models.title(runs.config(run_id).base_model)}"
    with _opening:
        end()
        share = Share(partial(answer, run_id), limits)
        server, port = serve(share, title, "0.0.0.0" if reach == "network" else "127.0.0.1", lang)
        opened = Opened(share, "", port, reach, title, server)
        try:
            reached(opened)
        except BaseException:
            opened.end()
            raise
        with _lock:
            _open = opened
        timer = threading.Timer(limits.hours * 3600 + 1, current)
        timer.daemon = True
        timer.start()
        return opened


def reached(opened: Opened) -> None:
    """Find the address under which a served port is to be called, and put it into the link."""
    if opened.reach == "link":
        opened.tunnel, opened.url = open_tunnel(opened.port)
    else:
        host = network_address() if opened.reach == "network" else "127.0.0.1"
        opened.url = f"http://{host}:{opened.port}"


def keep(opened: Opened) -> None:
    """Count a link that was opened elsewhere as the one that is open."""
    global _open
    with _lock:
        _open = opened


def end() -> None:
    """End the link, if one is open."""
    with _lock:
        _end()


def _end() -> None:
    global _open
    if _open:
        _open.end()
    _open = None


def answer(run_id: str, conversations: dict, most_tokens: int):
    """The columns of core.chat as they grow, never longer than the link allows.

    A conversation that has outgrown what the model reads loses its oldest messages: a visitor has no settings to mend it.
    """
    base = f"base:{runs.config(run_id).base_model}"
    who, sampling = {"base": base, "tuned": f"run:{run_id}"}, types.Sampling(max_new_tokens=most_tokens)
    while True:
        asked = {name: types.Question(who[name], said) for name, said in conversations.items()}
        try:
            yield from chat.talk(asked, sampling)
            return
        except UserError as error:
            too_long = getattr(error, "name", type(error).__name__) == "PromptTooLong"
            if not too_long or min(map(len, conversations.values())) < 3:
                raise
            conversations = {name: said[2:] for name, said in conversations.items()}


def serve(share: Share, title: str, host: str, lang: str | None) -> tuple[uvicorn.Server, int]:
    """Start the visitors' page on a free port, in a thread: nothing of the whole page is mounted there."""
    listening = socket.socket()
    listening.bind((host, 0))
    port = listening.getsockname()[1]
    # In an empty context: inside a handler gradio takes new components for changes of those that are there.
    empty = contextvars.Context()
    inner = empty.run(pages.serve, partial(sharing_page.build, share, title), lang, max_file_size="1kb")
    gate = Gate(inner, share, partial(sharing_page.asking, lang))
    config = uvicorn.Config(
        gate,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
        limit_concurrency=64
        + 8 * share.limits.visitors,  # requests at once: a crowd at the gate cannot fill the memory
    )
    server = uvicorn.Server(config)
    threading.Thread(target=server.run, args=([listening],), name="visitors", daemon=True).start()
    end_of_patience = time.monotonic() + START_SECONDS
    while not server.started:
        if time.monotonic() > end_of_patience:
            server.should_exit = True
            raise ShareDidNotStart(port=port)
        time.sleep(0.05)
    return server, port


def open_tunnel(port: int) -> tuple:
    """Put gradio's tunnel before a port of this machine: (tunnel, address)."""
    import httpx
    from gradio import networking
    from gradio.tunneling import Tunnel

    made: dict = {}

    def work():
        try:
            server = httpx.get(networking.GRADIO_API_SERVER, timeout=20).raise_for_status().json()[0]
            certificate = paths.home() / "tunnel.pem"
            certificate.write_text(server["root_ca"], encoding="utf-8")
            tunnel = Tunnel(
                server["host"], int(server["port"]), "127.0.0.1", port, os.urandom(24).hex(), str(certificate)
            )
            made["tunnel"] = tunnel
            made["url"] = tunnel.start_tunnel()
        except Exception as error:  # no network, no program for this machine, a firewall: all end in the same words
            made["reason"] = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:200]

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(TUNNEL_SECONDS)
    if "url" in made:
        return made["tunnel"], made["url"]
    if "tunnel" in made:
        with contextlib.redirect_stdout(io.StringIO()):
            made["tunnel"].kill()
    raise TunnelBlocked(reason=made.get("reason", f"no answer within {TUNNEL_SECONDS} s"))


def network_address() -> str:
    """This machine's address on its network; nothing is sent to find it out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return probe.getsockname()[0]
        except OSError:
            return "127.0.0.1"


def tunnel_command(port: int) -> str:
    """A tunnel that a person can start without installing anything."""
    return f"ssh -R 80:127.0.0.1:{port} nokey@localhost.run"


def qr_code(opened: Opened) -> str:
    """The address with the password behind the #, as an SVG picture drawn here."""
    code = segno.make(f"{opened.url}/#{opened.share.password}", error="m")
    return code.svg_inline(scale=5, border=2, dark="#000", light="#fff", omitsize=True)


def terminal_qr(opened: Opened) -> str:
    """The same for a terminal."""
    picture = io.StringIO()
    segno.make(f"{opened.url}/#{opened.share.password}", error="l").terminal(picture, compact=True, border=2)
    return picture.getvalue()
