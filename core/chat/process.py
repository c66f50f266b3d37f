"""The chat's own process, which holds the weights: one for all pages of a data directory, started when somebody chats.

`python -m core.chat --serve` listens on a local socket that only this user can open, and ends when nobody has asked
for a while. Hanging up ends a reply at once. A crash or a lack of memory ends this process, never the page's.
"""

import json
import os
import secrets
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path

from filelock import FileLock, Timeout

from core import errors, paths, process
from core.chat import reply_gpu
from core.chat.types import ChatClosed, ChatDied, Question, Reply, Sampling
from core.errors import UserError
from core.runs import gpu_access

IDLE_SECONDS = 30 * 60  # without a question: the memory goes back
START_SECONDS = 60  # that a process gets until it listens; torch is imported later
TOLD_SECONDS = 0.04  # between two looks at growing replies: no page draws faster
TURN_SECONDS = 0.02  # between two looks whether it is a caller's turn
END_SECONDS = 5  # that a process which is to end gives to those who were waiting for a reply
CLOSE_SECONDS = 120  # that a process gets to end what it does, the loading of a large model included
MEASURED_ROWS = 64  # held-out rows that a loss is taken over


def talk(questions: dict[str, Question], sampling: Sampling, *, on_cpu: bool = False) -> Iterator[dict[str, Reply]]:
    """Grow the replies there and yield them as they grow; closing the iterator hangs up."""
    if not on_cpu:
        gpu_access.need()
    asked = {name: asdict(question) for name, question in questions.items()}
    request = {"do": "reply", "questions": asked, "sampling": asdict(sampling), "on_cpu": on_cpu}
    for answer in ask(request):
        yield {name: Reply(**values) for name, values in answer["replies"].items()}


def measure(contestant: str, rows: list[dict]) -> dict:
    """The held-out loss of a contestant on rows, in nats a learned token: {"loss", "rows"}."""
    gpu_access.need()
    *_, answer = ask({"do": "measure", "contestant": contestant, "rows": rows[:MEASURED_ROWS]})
    return answer["measured"]


def ask(request: dict) -> Iterator[dict]:
    """Send a request to the chat's process, started when there is none, and yield its answers."""
    connection = _connected()
    try:
        _send(connection, request)
        while True:
            answer = _receive(connection)
            if "trouble" in answer:
                raise errors.from_dict(answer)
            if "done" in answer:
                return
            yield answer
    except (EOFError, OSError) as error:
        raise ChatDied(reason=_last_words()) from error
    finally:
        connection.close()


def is_open() -> bool:
    """Whether a chat's process is there and holds a model."""
    return look()["open"]


def look() -> dict:
    """Whether a chat's process holds a model, and whether a reply grows there: {"open", "busy"}."""
    return (_asked_if_there({"do": "look"}) or [{"open": False, "busy": False}])[0]


def close(*, at_once: bool = True) -> bool:
    """Ask the chat's process to give its memory back, now or after the reply that grows; whether it held a model."""
    answers = _asked_if_there({"do": "close", "at_once": at_once})
    if at_once and any(
        "closed" not in answer for answer in answers
    ):  # a process of before an update, which knows no more
        answers = _asked_if_there({"do": "close"})
    return any(answer.get("closed", False) for answer in answers)


def _asked_if_there(request: dict) -> list[dict]:
    try:
        connection = _dial()
    except (OSError, ValueError, EOFError):
        return []
    try:
        _send(connection, request)
        return [_receive(connection)] if connection.poll(CLOSE_SECONDS) else []
    except (OSError, EOFError):
        return []
    finally:
        connection.close()


def _connected() -> Connection:
    with suppress(OSError, ValueError, EOFError):
        return _dial()
    paths.home().mkdir(parents=True, exist_ok=True)
    with _log().open("wb") as log:
        command = [sys.executable, "-m", "core.chat", "--serve"]
        started = process.spawn_detached(command, log, reply_gpu.environment())
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        with suppress(OSError, ValueError, EOFError):
            return _dial()
        if started.poll() and not _is_served():
            break
        time.sleep(0.05)
    raise ChatDied(reason=_last_words())


def _dial() -> Connection:
    told = json.loads(_place().read_text(encoding="utf-8"))
    address = tuple(told["address"]) if isinstance(told["address"], list) else told["address"]
    return Client(address, authkey=bytes.fromhex(told["key"]))


def _send(connection: Connection, message: dict) -> None:
    connection.send_bytes(json.dumps(message, ensure_ascii=False).encode())


def _receive(connection: Connection) -> dict:
    return json.loads(connection.recv_bytes())


def _place() -> Path:
    return paths.home() / "chat.json"


def _log() -> Path:
    return paths.home() / "chat.log"


def _lock() -> FileLock:
    return FileLock(paths.home() / "chat.lock")


def _is_served() -> bool:
    try:
        with _lock().acquire(timeout=0):
            return False
    except Timeout:
        return True


def _is_lost(error: Exception) -> bool:
    """Whether an error leaves a process with which the card does not compute any more; only a new one does."""
    return type(error).__name__ == "AcceleratorError" or "CUDA error" in str(error)


def _last_words() -> str:
    """The last line of the process's log; a process that the system killed leaves none."""
    with suppress(OSError):
        lines = _log().read_text(encoding="utf-8", errors="replace").strip().splitlines()
        if lines and "Error" in lines[-1]:
            return lines[-1].strip().rstrip(".")
    return "the system ended it, most likely because memory ran out"


def move(uuid: str) -> None:
    """Let replies come from another card: the process on the old one ends, and the next question starts a new one."""
    if reply_gpu.choose(uuid):
        _asked_if_there({"do": "leave"})
        end = time.monotonic() + 2 * END_SECONDS
        while _is_served() and time.monotonic() < end:
            time.sleep(TURN_SECONDS)


# The process itself ---------------------------------------------------------------------------------------------------


class Server:
    """Listens, and answers each caller on a thread of its own."""

    def __init__(self):
        self.asked, self.busy, self.closed_for = time.monotonic(), 0, 0.0

    def serve(self) -> None:
        """Listen until nobody has asked for a while; a second process ends by itself."""
        try:
            lock = _lock().acquire(timeout=1)
        except Timeout:
            return
        with lock:
            key = secrets.token_bytes(32)
            listener = Listener(authkey=key)
            told = {"address": listener.address, "key": key.hex(), "pid": os.getpid()}
            scratch = _place().with_suffix(".tmp")
            scratch.touch(mode=0o600)
            scratch.write_text(json.dumps(told), encoding="utf-8")
            scratch.replace(_place())
            threading.Thread(target=self._watch, args=[listener], daemon=True).start()
            while True:
                try:
                    connection = listener.accept()
                except Exception:  # a caller with a wrong key, or one that hung up in the middle of its greeting
                    continue
                threading.Thread(target=self._answer, args=[connection], daemon=True).start()

    def _watch(self, listener: Listener) -> None:
        """End when idle for long, or when the data directory went away."""
        while _place().exists() and (self.busy or time.monotonic() - self.asked < IDLE_SECONDS):
            time.sleep(1)
        with suppress(OSError):
            listener.close()
        self._end()

    def _end(self) -> None:
        _place().unlink(missing_ok=True)
        os._exit(0)

    def _answer(self, connection: Connection) -> None:
        self.asked, self.busy = time.monotonic(), self.busy + 1
        try:
            request = _receive(connection)
            for answer in getattr(self, f"_{request.pop('do')}")(connection, **request):
                _send(connection, answer)
            _send(connection, {"done": True})
        except (OSError, EOFError):
            pass  # the caller hung up
        except Exception as error:
            known = isinstance(error, UserError)
            if not known:
                import traceback

                traceback.print_exc()
            with suppress(OSError):
                _send(connection, errors.to_dict(error))
            if not known and _is_lost(error):
                self._end()
        finally:
            self.asked, self.busy = time.monotonic(), self.busy - 1
            connection.close()

    def _look(self, _) -> Iterator[dict]:
        engine = sys.modules.get("core.chat.engine")
        yield {"open": bool(engine and engine.is_open()), "busy": bool(engine and engine.LOCK.locked())}

    def _close(self, _, at_once: bool = True, **later) -> Iterator[dict]:
        engine = sys.modules.get("core.chat.engine")
        if at_once:
            self.closed_for = time.monotonic()
        yield {"closed": bool(engine and engine.close(at_once=at_once))}

    def _leave(self, _) -> Iterator[dict]:
        yield from self._close(_, at_once=True)
        end = time.monotonic() + END_SECONDS
        while self.busy > 1 and time.monotonic() < end:  # those whose replies were ended are told so
            time.sleep(TURN_SECONDS)
        _place().unlink(missing_ok=True)
        os._exit(0)

    def _reply(self, connection: Connection, questions: dict, sampling: dict, on_cpu: bool) -> Iterator[dict]:
        from core.chat import engine, generation

        asked, began, told = time.monotonic(), 0.0, {}
        while engine.LOCK.locked():  # another reply grows: whoever hung up meanwhile is not served
            if connection.poll(TURN_SECONDS):
                return
        growing = generation.replies(
            {name: Question(**values) for name, values in questions.items()}, Sampling(**sampling), on_cpu=on_cpu
        )
        try:
            for replies in growing:
                if connection.poll():  # nothing is said to us any more: the caller hung up
                    return
                told = {name: asdict(reply) for name, reply in replies.items()}
                if time.monotonic() - began > TOLD_SECONDS or all(reply.finish_reason for reply in replies.values()):
                    began = time.monotonic()
                    yield {"replies": told}
        finally:
            growing.close()
        whole = told and all(reply["finish_reason"] for reply in told.values())
        if self.closed_for > asked and not whole:
            raise ChatClosed

    def _measure(self, connection: Connection, contestant: str, rows: list[dict]) -> Iterator[dict]:
        from core.chat import held_out_loss

        yield {"measured": held_out_loss.held_out(contestant, rows)}
