"""Processes: start one that outlives this one, and tell by its lock whether one is alive.

The system drops a lock however a process dies, and whoever looks does not disturb.
"""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

ROOT = Path(__file__).parent.parent  # where `python -m core...` finds this package


def is_lock_held(path: Path) -> bool:
    """Whether some process holds a lock file. Those who only look share it, so that they never see each other."""
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        import fcntl
    except ImportError:  # Windows
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


def spawn_detached(command: list[str], log, environment: dict[str, str] | None = None) -> subprocess.Popen:
    """A process that outlives this one, with its output in a file; `environment` are variables of its own."""
    detached = {"start_new_session": True}
    if sys.platform == "win32":
        detached = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS}
    environment = {**os.environ, **(environment or {}), "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1"}
    environment["TOKENIZERS_PARALLELISM"] = "false"
    # Threads that sleep at a barrier instead of spinning: beside another busy program, training on two cores was
    # 1.4 times as fast; alone on them, no slower.
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, **detached
    )


@cache
def boot_id() -> str:
    """A name of this start of the machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:  # not Linux
        return str(round(psutil.boot_time() / 100))  # clocks are set right by seconds
