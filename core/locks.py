"""Locks as signs of life: the system drops them however a process dies, and whoever looks does not disturb."""

import os
from pathlib import Path

from filelock import FileLock, Timeout


def is_held(path: Path) -> bool:
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
