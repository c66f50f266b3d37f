"""Processes: start a detached one, read the JSON lines of a child, check liveness by a file lock."""

import errno
import json
import math
import os
import queue
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

try:
    import fcntl
    import resource
except ImportError:  # Windows
    fcntl = resource = None

ROOT = Path(__file__).parent.parent  # where `python -m core...` finds this package
LOOK_SECONDS = 0.3  # between two calls of look()
TERMINATE_SECONDS = 10  # that a process gets to clean up
MEMORY = 2 * 2**30  # bytes for a process that opens foreign files; honest ones of any size are read piece by piece
MOST_LETTERS = 16 * 2**20  # of a line that a process prints, and of its errors
MOST_LINES = 64  # that wait to be read; the process then waits too
HERE = re.compile(r"(127\.[\d.]+|::1|localhost|0\.0\.0\.0|::|)$")  # names of this machine
WATCHED = "SOULSMITH_WATCHED"  # a variable of a process whose memory is limited
# Threads that sleep at a barrier instead of spinning: beside another busy program, training on two cores was 1.4 times
# as fast; alone on them, no slower.
DEFAULTS = {"OMP_WAIT_POLICY": "PASSIVE"}


class CommandFailed(Exception):
    """A command ended with an error, by a signal (code below 0), or because it took too much.

    `cause` is what it took too much of: time, memory, output, or "" for none; `at` is the foreign file it was opening.
    """

    def __init__(self, code: int, cause: str, stderr: str):
        self.code, self.cause, self.at = code, cause, ""
        self.lines = [line for line in stderr.splitlines() if line.strip()]
        super().__init__(self.lines[-1].strip() if self.lines else f"exit status {code}")


def is_lock_held(path: Path) -> bool:
    """Whether some process holds a lock file; the system releases it however the process dies.

    Processes that only look share the lock, so that they never see each other.
    """
    try:
        file = os.open(path, os.O_RDWR)
    except (FileNotFoundError, IsADirectoryError):
        return False
    if not fcntl:
        os.close(file)
        return _is_held_exclusively(path)
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def _is_held_exclusively(path: Path) -> bool:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0.05, poll_interval=0.01)
    except Timeout:
        return True
    lock.release()
    return False


def environment(more: dict[str, str] | None = None) -> dict[str, str]:
    """The environment of a process of ours, with `more` variables."""
    return DEFAULTS | os.environ | (more or {}) | {"PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}


def _in_utf8(command: list[str]) -> list[str] | list[bytes]:
    """A command as a process of ours reads it: in UTF-8, whatever the encoding of this process is."""
    return command if sys.platform == "win32" else [part.encode("utf-8", "surrogateescape") for part in command]


def spawn_detached(command: list[str], log, more: dict[str, str] | None = None) -> subprocess.Popen:
    """A process that outlives this one, with its output in a file; `more` are variables of its own."""
    detached = {"start_new_session": True}
    if sys.platform == "win32":
        detached = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS}
    variables = environment(more) | {"TOKENIZERS_PARALLELISM": "false"}
    variables.pop(WATCHED, None)
    return subprocess.Popen(
        _in_utf8(command), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=variables, **detached
    )


def json_lines(
    arguments: list[str],
    *,
    stdin: str = "",
    more: dict[str, str] | None = None,
    seconds: float = math.inf,
    look: Callable[[], None] = lambda: None,
    group: bool = False,
    memory: int = 0,
    silent: float = math.inf,
) -> Iterator[dict]:
    """The JSON objects that `python *arguments` prints, one a line, as they come; other lines are passed over.

    Closing the iterator ends the process, and so does what `look()` raises, which is called every LOOK_SECONDS. With
    `group` it is killed at once together with all that it has started, else it may clean up first. `more` are variables
    of its environment. What opens foreign files is given at most so many bytes of `memory`, and `silent` seconds
    between two lines.

    Raises:
        CommandFailed: when it failed, printed no object, or took more than it was given.
    """
    with tempfile.TemporaryFile() as given:
        given.write(stdin.encode())
        given.seek(0)
        child, answered = Child(arguments, given, more=more, group=group, memory=memory), False
        try:
            for values in child.objects(seconds, silent, look):
                answered = True
                yield values
        finally:
            child.end()
        if child.process.returncode or child.cause or not answered:
            raise child.failure()


class Child:
    """A `python *arguments` that prints JSON objects, one a line; see json_lines().

    With `memory` it is a process that opens what others have made: more bytes than that it does not get, it ends when
    this process does, its temporary files go with it, and `at` is the file that it named last by opening().
    """

    def __init__(self, arguments: list[str], stdin, *, more=None, group: bool = False, memory: int = 0):
        self.group, self.memory, self.peak, self.cause, self.at = group, memory, 0, "", ""
        # stderr is a file: a pipe that nobody empties while the other one is read stops the process.
        self._stderr, self._lines = tempfile.TemporaryFile(), queue.Queue(MOST_LINES)  # noqa: SIM115 - end() closes it
        self._scratch = tempfile.TemporaryDirectory(prefix="soulsmith-", ignore_cleanup_errors=True) if memory else None
        self._ended = threading.Event()
        variables = {WATCHED: "1", **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), self._scratch.name)} if memory else {}
        self.process = subprocess.Popen(
            _in_utf8([sys.executable, *arguments]),
            cwd=ROOT,
            env=environment((more or {}) | variables),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            encoding="utf-8",
            errors="replace",
            start_new_session=group,
        )
        if memory and hasattr(resource, "prlimit"):  # Linux; elsewhere a look every LOOK_SECONDS has to do
            with suppress(OSError, ValueError):  # it has ended, or its own limit is below
                resource.prlimit(self.process.pid, resource.RLIMIT_DATA, (memory, memory))
        threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True).start()

    def objects(self, seconds: float = math.inf, silent: float = math.inf, look=lambda: None) -> Iterator[dict]:
        """What it prints until its end, or until `cause` says that it took too much: time, memory or output."""
        end, looked, heard = time.monotonic() + seconds, 0.0, time.monotonic()
        while (now := time.monotonic()) < min(end, heard + silent):
            if now - looked >= LOOK_SECONDS:
                look()
                looked = now
                if self._takes_too_much():
                    return
            try:
                line = self._lines.get(timeout=min(end - now, LOOK_SECONDS))
            except queue.Empty:
                continue
            if line is None:  # the process is about to end
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(TERMINATE_SECONDS)
                return
            heard = time.monotonic()
            if len(line) >= MOST_LETTERS:
                self.cause = "output"
                return
            try:
                values = json.loads(line)
            except ValueError:
                continue
            if isinstance(values, dict) and (self.memory and set(values) == {"at"}):
                self.at = values["at"]
            elif isinstance(values, dict):
                yield values
        self.cause = "time"

    def _read(self, stream) -> None:
        with stream:  # by this thread alone: to close what another thread reads would wait for it
            while line := stream.readline(MOST_LETTERS):
                self._put(line)
        self._put(None)

    def _put(self, line: str | None) -> None:
        while not self._ended.is_set():
            with suppress(queue.Full):
                self._lines.put(line, timeout=LOOK_SECONDS)
                return

    def _takes_too_much(self) -> bool:
        if self.memory:
            with suppress(psutil.Error):
                self.peak = max(self.peak, psutil.Process(self.process.pid).memory_info().rss)
            self.cause = "memory" if self.peak > self.memory else self.cause
            self.cause = "output" if os.fstat(self._stderr.fileno()).st_size > MOST_LETTERS else self.cause
        return bool(self.cause)

    def end(self, at_once: bool = False) -> None:
        """End the process, if it has not ended yet."""
        if at_once or self.cause:  # what takes too much cleans nothing up
            self.process.kill()
        _end(self.process, self.group)
        self._ended.set()
        if self._scratch:
            self._scratch.cleanup()

    def failure(self) -> CommandFailed:
        """What became of the process that has ended."""
        self._stderr.seek(max(0, self._stderr.seek(0, os.SEEK_END) - MOST_LETTERS))
        failed = CommandFailed(self.process.returncode, self.cause, self._stderr.read().decode("utf-8", "replace"))
        # A library that gets no more memory ends its process by a signal.
        starved = failed.code < 0 and self.peak > self.memory / 4
        if self.memory and not self.cause and (starved or "MemoryError" in str(failed)):
            failed.cause = "memory"
        failed.at = self.at
        return failed


def in_thread(work: Callable, *values, **named) -> Future:
    """Run a function in a daemon thread and return its Future; a request that never returns does not block the exit."""
    future: Future = Future()

    def run() -> None:
        try:
            future.set_result(work(*values, **named))
        except BaseException as error:  # it is raised where the result is wanted
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def polled(work: Callable[[Callable], object], seconds: float = 0.5) -> Iterator[Future]:
    """Do `work(look)` in a thread: its result to be, every so many seconds and once more when it is there.

    Closing the iterator lets `look()` raise, so that what json_lines() or foreign.ask() started for it ends.
    """
    closed = threading.Event()

    def look() -> None:
        if closed.is_set():
            raise Closed

    working = in_thread(work, look)
    try:
        while not working.done():
            yield working
            wait([working], timeout=seconds)
        yield working
    finally:
        closed.set()


class Closed(Exception):
    """The caller no longer waits for the result."""


def bound(host: str, port: int) -> socket.socket:
    """A socket that is bound to a port, 0 for any; raises OSError when another program has it."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    if sys.platform != "win32":  # the connections of a process before this one may still be closing
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # on Windows two programs would share the port
    try:
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock


def opening(name: str) -> None:
    """Tell a watching parent process which foreign file is being opened, so that a failure names it."""
    if WATCHED in os.environ:
        print(json.dumps({"at": name}), flush=True)


def end_with_parent() -> None:
    """Exit when the watching parent process has exited."""
    parent = os.getppid()

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_SECONDS)
        os._exit(1)

    if WATCHED in os.environ:
        threading.Thread(target=look, daemon=True).start()


def _end(process: subprocess.Popen, group: bool) -> None:
    if process.poll() is None and group:
        with suppress(psutil.Error):
            kill(psutil.Process(process.pid))
    elif process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(TERMINATE_SECONDS)
    process.kill()
    process.wait()


def kill(process: psutil.Process) -> None:
    """Kill a process with all that it has started."""
    processes = [process]
    with suppress(psutil.Error):
        processes = [*process.children(recursive=True), process]
    for one in processes:
        with suppress(psutil.Error):
            one.kill()


@cache
def stay_offline() -> None:
    """Let this process reach nothing but this machine from now on; what tries to is refused and named on stderr."""

    def refuse(event: str, values: tuple) -> None:
        if event not in ("socket.connect", "socket.sendto", "socket.getaddrinfo"):
            return
        address = values[0] if event == "socket.getaddrinfo" else values[1]
        host = address[0] if isinstance(address, tuple) else address
        host = host.decode("ascii", "replace") if isinstance(host, bytes) else host
        is_name_of_file = event != "socket.getaddrinfo" and not isinstance(address, tuple)
        asks_for_route = event == "socket.connect" and values[0].type == socket.SOCK_DGRAM  # which sends nothing
        if not (host is None or is_name_of_file or asks_for_route or HERE.match(host)):
            print(f"offline: {host} was refused", file=sys.stderr, flush=True)
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"--offline was given, so {host} is not asked")

    sys.addaudithook(refuse)


@cache
def boot_id() -> str:
    """A name of this start of the machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:  # not Linux
        return str(round(psutil.boot_time() / 100))  # clocks are set right by seconds
