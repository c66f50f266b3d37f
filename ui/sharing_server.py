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

import httpx
import segno
import uvicorn
from gradio import networking
from gradio.tunneling import Tunnel
from markupsafe import Markup

from core import paths
from core.chat import chat, chat_models, types
from core.errors import UserError
from core.models import models
from core.runs import runs
from core.sharing.connections import Connection
from core.sharing.gate import Gate
from core.sharing.sharing import Limits, Share
from ui import pages, sharing_page

REACHES = ("link", "network", "own")  # a public link, this network, a tunnel of one's own
TUNNEL_SECONDS = 60
START_SECONDS = 30
_open: "Opened | None" = None
_lock = threading.RLock()  # of _open: held for moments
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
    port: int
    reach: str
    server: uvicorn.Server | None = None  # None: the page itself is shared, and ends with it
    url: str = ""
    tunnel: object = None

    def find_address(self) -> None:
        """Find the address under which the served port is to be called; opens the tunnel of a public link."""
        if self.reach == "link":
            self.tunnel, self.url = open_tunnel(self.port)
        else:
            host = network_address() if self.reach == "network" else "127.0.0.1"
            self.url = f"http://{host}:{self.port}"

    def end(self) -> None:
        self.share.end()
        if self.tunnel:
            _kill(self.tunnel)
        if self.server:
            self.server.should_exit = True


def current() -> Opened | None:
    """The link that is open now; one that has expired is ended."""
    with _lock:
        if _open and _open.share.ended:
            end()
        return _open


def keep(opened: Opened) -> None:
    """Count a link as the one that is open."""
    global _open
    with _lock:
        _open = opened


def end() -> None:
    """End the link, if one is open."""
    global _open
    with _lock:
        if _open:
            _open.end()
        _open = None


def open_chat(run_id: str, reach: str, limits: Limits, lang: str | None = None) -> Opened:
    """Let visitors chat with the base and the adapter of a run; ends what was open before.

    Raises:
        TunnelBlocked: with the two other ways; nothing stays open.
        NoAdapter: of a run that cannot reply.
    """
    chat_models.find(f"run:{run_id}")  # raises NoAdapter of a run that has nothing to say yet
    title = f"{runs.label(run_id)['name']} · {models.title(runs.config(run_id).base_model)}"
    with _opening:
        end()
        share = Share(partial(answer, run_id), limits)
        server, port = serve(share, title, "0.0.0.0" if reach == "network" else "127.0.0.1", lang)
        opened = Opened(share, port, reach, server)
        try:
            opened.find_address()
        except BaseException:
            opened.end()
            raise
        keep(opened)
        timer = threading.Timer(limits.hours * 3600 + 1, current)
        timer.daemon = True
        timer.start()
        return opened


def can_talk(run_id: str) -> bool:
    """Whether a run has something to reply with: one that was stopped at step 0 has not."""
    with contextlib.suppress(UserError, OSError, ValueError):
        return chat_models.find(f"run:{run_id}") is not None
    return False


def answer(run_id: str, conversations: dict, most_tokens: int):
    """The replies of core.chat as they grow, never longer than the link allows.

    A conversation longer than what the model reads loses its oldest messages: a visitor has no settings to shorten it.
    """
    ids, sampling = chat_models.ids_of_run(run_id), types.Sampling(max_new_tokens=most_tokens)
    while True:
        questions = {name: types.Question(ids[name], messages) for name, messages in conversations.items()}
        try:
            yield from chat.talk(questions, sampling)
            return
        except UserError as error:
            too_long = getattr(error, "name", type(error).__name__) == "PromptTooLong"
            if not too_long or min(map(len, conversations.values())) < 3:
                raise
            conversations = {name: messages[2:] for name, messages in conversations.items()}


def serve(share: Share, title: str, host: str, lang: str | None) -> tuple[uvicorn.Server, int]:
    """Start the visitors' page on a free port, in a thread: nothing of the whole page is mounted there."""
    listening = socket.socket()
    listening.bind((host, 0))
    port = listening.getsockname()[1]
    # In an empty context: inside a handler gradio takes new components for changes of those that are there.
    empty = contextvars.Context()
    inner = empty.run(pages.serve, partial(sharing_page.build, share, title), lang, max_file_size="1kb")
    gate = Gate(inner, share, partial(sharing_page.asking, lang), tunnelled=host == "127.0.0.1")
    config = uvicorn.Config(
        gate,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
        http=Connection,
        ws="none",
    )
    server = uvicorn.Server(config)
    threading.Thread(target=server.run, args=([listening],), name="visitors", daemon=True).start()
    deadline = time.monotonic() + START_SECONDS
    while not server.started:
        if time.monotonic() > deadline:
            server.should_exit = True
            raise ShareDidNotStart(port=port)
        time.sleep(0.05)
    return server, port


def open_tunnel(port: int) -> tuple:
    """Put gradio's tunnel before a port of this machine: (tunnel, address).

    As gradio.networking.setup_tunnel does, which writes its certificate into the working directory, and may wait forever.
    """
    result: dict = {}

    def work():
        try:
            server = httpx.get(networking.GRADIO_API_SERVER, timeout=20).raise_for_status().json()[0]
            certificate = paths.home() / "tunnel.pem"
            certificate.write_text(server["root_ca"], encoding="utf-8")
            token, address = os.urandom(24).hex(), (server["host"], int(server["port"]))
            result["tunnel"] = Tunnel(*address, "127.0.0.1", port, token, str(certificate))
            result["url"] = result["tunnel"].start_tunnel()
        except Exception as error:  # no network, no program for this machine, a firewall: all end in the same words
            result["reason"] = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:200]

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(TUNNEL_SECONDS)
    if "url" in result:
        return result["tunnel"], result["url"]
    if "tunnel" in result:
        _kill(result["tunnel"])
    raise TunnelBlocked(reason=result.get("reason", f"no answer within {TUNNEL_SECONDS} s"))


def _kill(tunnel: Tunnel) -> None:
    with contextlib.redirect_stdout(io.StringIO()):  # gradio prints that it does
        tunnel.kill()


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


def qr_code(opened: Opened) -> Markup:
    """The address with the password behind the #, as an SVG picture drawn here."""
    code = segno.make(f"{opened.url}/#{opened.share.password}", error="m")
    return Markup(code.svg_inline(scale=5, border=2, dark="#000", light="#fff", omitsize=True))


def terminal_qr(opened: Opened) -> str:
    """The same for a terminal."""
    picture = io.StringIO()
    segno.make(f"{opened.url}/#{opened.share.password}", error="l").terminal(picture, compact=True, border=2)
    return picture.getvalue()
