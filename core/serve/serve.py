"""Serve bases, runs and exports to programs that know OpenAI's interface, from this machine.

Run it: `python -m core.serve`. The switch on the Export tab starts the same as a job in the background.
"""

import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import uvicorn

from core import errors, files, jobs, paths, process
from core.errors import UserError
from core.serve.api import Api
from core.sharing.connections import Connection

HOST, PORT = "127.0.0.1", 7880
OWN_HOSTS = ("127.0.0.1", "localhost", "::1")
NETWORK = "0.0.0.0"
OF_WILDCARD = {
    "": "127.0.0.1",
    NETWORK: "127.0.0.1",
    "::": "::1",
}  # where this machine reaches one that listens everywhere
LOOK_SECONDS = 0.2
END_SECONDS = 10  # that replies in progress get when the server is switched off


def listen(host: str, port: int, report: Callable, look: Callable[[], None] = lambda: None) -> None:
    """Listen until what `look()` raises, or Ctrl+C, ends it; `report("listening", address=...)` says where.

    Raises:
        ServePortTaken.
    """
    sock = _bound(host, port)
    shown = OF_WILDCARD.get(host, host)
    shown = f"[{shown}]" if ":" in shown else shown
    config = uvicorn.Config(
        Api(key).application(),
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=1,
        http=Connection,
        ws="none",
        lifespan="off",
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([sock],), name="serve", daemon=True)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.02)
        report("listening", address=f"http://{shown}:{sock.getsockname()[1]}/v1")
        while thread.is_alive():
            look()
            thread.join(LOOK_SECONDS)
    finally:
        server.should_exit = True
        thread.join(END_SECONDS)


def _bound(host: str, port: int) -> socket.socket:
    try:
        return process.bound(host, port)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise errors.named("ServePortTaken", port=port, host=host, reason=reason) from None


def key() -> str:
    """The API key, or nothing before there is one."""
    return files.read_secret(key_file())


def new_key() -> str:
    """Make an API key; the one before opens nothing any more, in a running server too."""
    return files.write_secret(key_file(), f"sk-soulsmith-{secrets.token_urlsafe(24)}")


def key_file() -> Path:
    """Where the key is, which only this user can read."""
    return paths.home() / "serve.key"


def start(host: str = HOST, port: int = PORT) -> Path:
    """Serve in the background and return the job's directory; a server that is there already goes on."""
    if (directory := current()) and jobs.state(directory) in jobs.ACTIVE:
        return directory
    if not key():
        new_key()
    for old in jobs.listed(paths.serve()):
        with suppress(UserError, OSError):
            jobs.delete(old)
    directory = jobs.create(paths.serve(), {"name": "serve", "host": host, "port": port})
    jobs.start(directory, "core.serve", {})
    return directory


def stop() -> None:
    """End the server that the page started."""
    if (directory := current()) and jobs.state(directory) in jobs.ACTIVE:
        jobs.ask(directory, "stop")


def current() -> Path | None:
    """The job of the server that was started last."""
    return next(iter(jobs.listed(paths.serve())), None)
