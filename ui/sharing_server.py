"""Open and end a link: a process of its own that serves the visitors, a way to it from outside, its QR code."""

import contextlib
import io
import json
import os
import socket
import subprocess
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import asdict, dataclass

import httpx
import segno
from gradio import networking
from gradio.tunneling import Tunnel
from markupsafe import Markup

from core import errors, paths, process
from core.chat import chat_models
from core.errors import UserError
from core.models import models
from core.runs import runs
from core.sharing.sharing import Limits, Share, new_password

REACHES = ("link", "network", "own")  # a public link, this network, a tunnel of one's own
TUNNEL_SECONDS = 60
START_SECONDS = 180  # that the visitors' page gets to answer; gradio takes four of them on a quiet machine
SILENT_SECONDS = 60.0  # after which it hangs; it says its figures every second
MOST_RESTARTS = 5  # of one link
_open: "Opened | None" = None
_lock = threading.RLock()  # of _open: held for moments
_opening = threading.Lock()  # held while a way to this machine is found, which can take a minute


class DistantShare:
    """A share served by a subprocess: the last state that it reported.

    The process ends with this one. One that dies or hangs is started again, with its password, its visitors and what
    they have used.
    """

    def __init__(self, request: dict, limits: Limits):
        self.limits, self.password, self.ends = limits, new_password(), time.time() + limits.hours * 3600
        self.restarts, self._request, self._figures, self._ended = 0, request, {}, threading.Event()
        self._state = {"password": self.password, "ends": self.ends}
        self._port: Future = Future()
        self._child = self._start(0)
        threading.Thread(target=self._watch, name="visitors", daemon=True).start()

    @property
    def ended(self) -> bool:
        return self._ended.is_set() or time.time() >= self.ends

    def port(self) -> int:
        """The port of the visitors' page, once it answers.

        Raises:
            ShareDidNotStart.
        """
        try:
            return self._port.result(START_SECONDS)
        except (process.CommandFailed, FutureTimeout) as error:
            self.end()
            raise errors.named("ShareDidNotStart") from error

    def figures(self) -> dict:
        """What the owner of the link sees of it."""
        return self._figures | {"seconds_left": max(0.0, self.ends - time.time())}

    def end(self) -> None:
        self._ended.set()
        self._child.end(at_once=True)

    def _start(self, port: int) -> process.Child:
        # Without a limit of memory: the chat's process, which may be started by this one, would have it too.
        child = process.Child(["-m", "ui.sharing_process"], subprocess.PIPE, group=True)
        request = self._request | {"port": port, "limits": asdict(self.limits), "state": self._state}
        with contextlib.suppress(OSError):  # it has died already
            child.process.stdin.write(json.dumps(request) + "\n")
            child.process.stdin.flush()
        return child

    def _watch(self) -> None:
        while True:
            for said in self._child.objects(silent=SILENT_SECONDS):
                if "state" not in said:  # printed by something else
                    continue
                self._figures, self._state = said["figures"], said["state"]
                if not self._port.done():
                    self._port.set_result(said["port"])
            self._child.end(at_once=True)
            if not self._port.done():
                self._port.set_exception(self._child.failure())
            if self.ended or self._port.exception() or self.restarts >= MOST_RESTARTS:
                break
            self.restarts += 1
            self._child = self._start(self._port.result())
            if self._ended.is_set():  # meanwhile
                self._child.end(at_once=True)
        self._ended.set()


@dataclass
class Opened:
    """A link that is open."""

    share: Share | DistantShare  # a Share: the page itself is shared, and ends with it
    port: int
    reach: str
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
        ShareDidNotStart.
        NoAdapter: of a run that cannot reply.
    """
    chat_models.find(f"run:{run_id}")  # raises NoAdapter of a run that has nothing to say yet
    title = f"{runs.label(run_id)['name']} · {models.title(runs.config(run_id).base_model)}"
    with _opening:
        end()
        host = "0.0.0.0" if reach == "network" else "127.0.0.1"
        share = DistantShare({"run_id": run_id, "title": title, "host": host, "lang": lang}, limits)
        opened = Opened(share, share.port(), reach)
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
    raise errors.named("TunnelBlocked", reason=result.get("reason", f"no answer within {TUNNEL_SECONDS} s"))


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
