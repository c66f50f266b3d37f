"""What others have made (files, tokenizers, chat templates), opened in processes with little memory and little time.

The page's own process opens none of it: a few hundred bytes can ask for gigabytes, or never end. A process is kept for
the next question, so that a tokenizer is read once; it ends with whoever asked, and when nobody asks for a while.
`python -m core.foreign` is that process: it takes a question a line and answers each with a line.
"""

import contextlib
import importlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from core import errors, process
from core.errors import UserError

TASKS = {  # what is asked for: (module, function)
    "look": ("core.corpus.sniff", "look_at"),
    "preview": ("core.corpus.preview", "of_model"),
    "count": ("core.corpus.token_counter", "count"),
    "gguf": ("core.estimate.config_sources", "read_gguf"),
    "model": ("core.models.model_check", "check"),
    "adapter": ("core.models.adapter_check", "check"),
}
SECONDS = 60.0  # for an answer
IDLE_SECONDS = 120.0  # that a process is kept for the next question
_idle: list[process.Child] = []
_lock = threading.Lock()


def ask(task: str, *values, file: str | Path, seconds: float = SECONDS, look: Callable[[], None] = lambda: None):
    """What a task of TASKS answers to these values: plain ones as JSON has them, and paths, which it gets as absolute ones.

    `file` is named where it goes wrong; what `look()` raises, which is called every LOOK_SECONDS, ends it.

    Raises:
        TookTooLong, TookTooMuch, ReaderBroke.
        ErrorElsewhere: the UserError that the task met, by the name of its class.
    """
    child = _take()
    try:
        child.process.stdin.write(json.dumps([task, values], default=_path) + "\n")
        child.process.stdin.flush()
        answer = next(child.objects(seconds, look=look), None)
    except OSError:  # it ended while it was idle
        answer = None
    except BaseException:
        _end(child)
        raise
    if answer is None:
        _end(child)
        raise named(child, file, seconds)
    _keep(child)
    if "trouble" in answer:
        raise errors.from_dict(answer)
    return answer["answer"]


def _path(path: Path) -> str:
    return str(path.absolute())  # the process has a working directory of its own


def named(child: process.Child, file: str | Path, seconds: float) -> UserError:
    """What ended the reading of a file, in words; `file` where the process did not say which one it was at."""
    failed = child.failure()
    file = failed.at or file
    if failed.cause == "time":
        return errors.named("TookTooLong", file=file, seconds=round(seconds))
    if failed.cause:
        return errors.named("TookTooMuch", file=file, memory=f"{child.memory / 2**30:.3g}")
    return errors.named("ReaderBroke", file=file, reason=str(failed))


def close() -> None:
    """End the processes that are kept."""
    with _lock:
        kept, _idle[:] = list(_idle), []
    for child in kept:
        _end(child)


def _take() -> process.Child:
    with _lock:
        while _idle:
            child = _idle.pop()
            child.timer.cancel()
            if child.process.poll() is None:
                return child
            _end(child)
    return process.Child(["-m", "core.foreign"], subprocess.PIPE, memory=process.MEMORY)


def _keep(child: process.Child) -> None:
    child.at = ""
    child.timer = threading.Timer(IDLE_SECONDS, _lapse, [child])
    child.timer.daemon = True
    with _lock:
        is_kept = not _idle
        if is_kept:
            _idle.append(child)
            child.timer.start()
    if not is_kept:
        _end(child)


def _lapse(child: process.Child) -> None:
    with _lock:
        if child not in _idle:
            return
        _idle.remove(child)
    _end(child)


def _end(child: process.Child) -> None:
    child.end(at_once=True)
    with contextlib.suppress(OSError):
        child.process.stdin.close()


def main() -> None:
    process.end_with_parent()
    for line in sys.stdin:
        task, values = json.loads(line)
        module, function = TASKS[task]
        try:
            answer = {"answer": getattr(importlib.import_module(module), function)(*values)}
        except UserError as error:
            answer = errors.to_dict(error)
        except Exception:  # the caller hears the last line
            errors.log()
            sys.exit(1)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
