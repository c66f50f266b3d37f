"""Processes: start one that outlives this one, read the JSON lines of one that does not, see by a lock who is alive."""

import json
import math
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

ROOT = Path(__file__).parent.parent  # where `python -m core...` finds this package
LOOK_SECONDS = 0.3  # between two calls of look()
TERMINATE_SECONDS = 10  # that a process gets to clean up
# Threads that sleep at a barrier instead of spinning: beside another busy program, training on two cores was 1.4 times
# as fast; alone on them, no slower.
DEFAULTS = {"OMP_WAIT_POLICY": "PASSIVE"}


class CommandFailed(Exception):
    """A command ended with an error, by a signal (code below 0) or because its time was over."""

    def __init__(self, code: int, timed_out: bool, stderr: str):
        self.code, self.timed_out = code, timed_out
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


def spawn_detached(command: list[str], log, more: dict[str, str] | None = None) -> subprocess.Popen:
    """A process that outlives this one, with its output in a file; `more` are variables of its own."""
    detached = {"start_new_session": True}
    if sys.platform == "win32":
        detached = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS}
    variables = environment(more) | {"TOKENIZERS_PARALLELISM": "false"}
    return subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=variables, **detached
    )


def json_lines(
    arguments: list[str],
    *,
    stdin: str = "",
    more: dict[str, str] | None = None,
    seconds: float = math.inf,
    look: Callable[[], None] = lambda: None,
    group: bool = False,
) -> Iterator[dict]:
    """The JSON objects that `python *arguments` prints, one a line, as they come; other lines are passed over.

    Closing the iterator ends the process, and so does what `look()` raises, which is called every LOOK_SECONDS. With
    `group` it is killed at once together with all that it has started, else it may clean up first. `more` are variables
    of its environment.

    Raises:
        CommandFailed: when it failed, printed no object, or took more than so many seconds.
    """
    # stderr is a file: a pipe that nobody empties while the other one is read stops the process.
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as stderr:
        given.write(stdin.encode())
        given.seek(0)
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=environment(more),
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=stderr,
            encoding="utf-8",
            errors="replace",
            start_new_session=group,
        )
        timed_out, answered = False, False
        try:
            for values in _objects(process, seconds, look):
                answered = True
                yield values
        except TimeoutError:
            timed_out = True
        finally:
            _end(process, group)
        stderr.seek(0)
        if process.returncode or timed_out or not answered:
            raise CommandFailed(process.returncode, timed_out, stderr.read().decode("utf-8", "replace"))


def _objects(process: subprocess.Popen, seconds: float, look: Callable[[], None]) -> Iterator[dict]:
    lines, end, looked = queue.SimpleQueue(), time.monotonic() + seconds, time.monotonic()
    threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
    while (now := time.monotonic()) < end:
        if now - looked >= LOOK_SECONDS:
            look()
            looked = now
        try:
            line = lines.get(timeout=min(end - now, LOOK_SECONDS))
        except queue.Empty:
            continue
        if line is None:  # the process is about to end
            with suppress(subprocess.TimeoutExpired):
                process.wait(TERMINATE_SECONDS)
            return
        try:
            values = json.loads(line)
        except ValueError:
            continue
        if isinstance(values, dict):
            yield values
    raise TimeoutError


def _read(stream, lines: queue.SimpleQueue) -> None:
    with stream:  # by this thread alone: to close what another thread reads would wait for it
        for line in stream:
            lines.put(line)
    lines.put(None)


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
def boot_id() -> str:
    """A name of this start of the machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:  # not Linux
        return str(round(psutil.boot_time() / 100))  # clocks are set right by seconds
