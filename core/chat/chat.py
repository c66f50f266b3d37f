"""Chat with anything that can reply here, through the chat's own process, which holds the weights (core.chat.server).

Run it: `python -m core.chat --run RUN --prompt "Who are you?" --ab --json`.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from multiprocessing.connection import Client, Connection
from pathlib import Path

from core import errors, paths, process
from core.chat import reply_gpu
from core.chat.types import Question, Reply, Sampling
from core.runs import gpu_access

START_SECONDS = 60  # that a process gets until it listens; torch is imported later
END_SECONDS = 5  # that a process which is to end gives to those who were waiting for a reply
CLOSE_SECONDS = 120  # that a process gets to end what it does, the loading of a large model included
MEASURED_ROWS = 64  # held-out rows that a loss is taken over
LOOK_SECONDS = 0.02
NOT_THERE = (OSError, ValueError, EOFError)  # no process, half an address, or one that hangs up


def talk(
    questions: dict[str, Question],
    sampling: Sampling,
    *,
    on_cpu: bool = False,
    look: Callable[[], None] = lambda: None,
) -> Iterator[dict[str, Reply]]:
    """Yield the replies by column as they grow, from the chat's process, started when needed; close it to cancel.

    So does what `look()` raises, which is called every LOOK_SECONDS while nothing comes.
    """
    if not on_cpu:
        gpu_access.need()
    asked = {name: _asked(question) for name, question in questions.items()}
    noted = {name: [] for name in questions}  # log-probabilities: each comes once
    for answer in _ask({"do": "reply", "questions": asked, "sampling": asdict(sampling), "on_cpu": on_cpu}, look):
        for name, values in answer["replies"].items():
            noted[name] += values.pop("logprobs", [])
        yield {name: Reply(**values, logprobs=list(noted[name])) for name, values in answer["replies"].items()}


def _asked(question: Question) -> dict:
    """A question as the chat's process reads it, which may be one of an older version."""
    asked = {"contestant": question.model_id, "messages": question.messages}
    more = {"stop": question.stop, "logprobs": question.logprobs}
    return asked | {name: value for name, value in more.items() if value not in ((), None)}


def measure(model_id: str, rows: list[dict], look: Callable[[], None] = lambda: None) -> dict:
    """The held-out loss of a chat model on rows, in nats a learned token: {"loss", "rows"}; `look` as in talk()."""
    gpu_access.need()
    *_, answer = _ask({"do": "measure", "contestant": model_id, "rows": rows[:MEASURED_ROWS]}, look)
    return answer["measured"]


def is_open() -> bool:
    """Whether a chat's process is there and holds a model."""
    return look()["open"]


def look() -> dict:
    """Whether a chat's process holds a model, and whether it is replying: {"open", "busy"}."""
    return (_ask_if_there({"do": "look"}) or [{"open": False, "busy": False}])[0]


def close(*, at_once: bool = True) -> bool:
    """Ask the chat's process to give its memory back, now or after the reply in progress; whether it held a model."""
    answers = _ask_if_there({"do": "close", "at_once": at_once})
    if at_once and any("closed" not in answer for answer in answers):  # a process of before an update: it knows no more
        answers = _ask_if_there({"do": "close"})
    return any(answer.get("closed", False) for answer in answers)


def move(uuid: str) -> None:
    """Let replies come from another card: the process on the old one ends, and the next question starts a new one."""
    if reply_gpu.choose(uuid):
        leave()


def leave() -> None:
    """Let the chat's process end, if there is one: the next question starts a new one."""
    _ask_if_there({"do": "leave"})
    end = time.monotonic() + 2 * END_SECONDS
    while process.is_lock_held(lock_file()) and time.monotonic() < end:
        time.sleep(LOOK_SECONDS)


def _ask(request: dict, look: Callable[[], None] = lambda: None) -> Iterator[dict]:
    """Send a request to the chat's process, started when there is none, and yield its answers."""
    connection = _connect_or_start()
    try:
        send(connection, request)
        while "done" not in (answer := _next(connection, look)):
            if "trouble" in answer:
                raise errors.from_dict(answer)
            yield answer
    except (EOFError, OSError) as error:
        raise errors.named("ChatDied", reason=_last_error()) from error
    finally:
        connection.close()


def _next(connection: Connection, look: Callable[[], None]) -> dict:
    while not connection.poll(LOOK_SECONDS):
        look()
    return receive(connection)


def _ask_if_there(request: dict) -> list[dict]:
    """The first answer of a chat's process, or nothing where there is none."""
    with suppress(*NOT_THERE), _connect() as connection:
        send(connection, request)
        return [receive(connection)] if connection.poll(CLOSE_SECONDS) else []
    return []


def _connect_or_start() -> Connection:
    with suppress(*NOT_THERE):
        return _connect()
    paths.home().mkdir(parents=True, exist_ok=True)
    with _log().open("wb") as log:
        command = [sys.executable, "-m", "core.chat", "--serve"]
        started = process.spawn_detached(command, log, reply_gpu.environment())
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        with suppress(*NOT_THERE):
            return _connect()
        if started.poll() and not process.is_lock_held(lock_file()):
            break
        time.sleep(0.05)
    raise errors.named("ChatDied", reason=_last_error())


def _connect() -> Connection:
    values = json.loads(address_file().read_text(encoding="utf-8"))
    address = tuple(values["address"]) if isinstance(values["address"], list) else values["address"]
    return Client(address, authkey=bytes.fromhex(values["key"]))


def send(connection: Connection, message: dict) -> None:
    """Send a message to the other end. JSON and no pickle: nothing that is received can run."""
    connection.send_bytes(json.dumps(message, ensure_ascii=False).encode())


def receive(connection: Connection) -> dict:
    """The next message of the other end.

    Raises:
        EOFError: it hung up.
    """
    return json.loads(connection.recv_bytes())


def address_file() -> Path:
    """Where the chat's process writes its address and key, readable by this user only."""
    return paths.home() / "chat.json"


def lock_file() -> Path:
    """The lock that the chat's process holds as long as it lives."""
    return paths.home() / "chat.lock"


def _log() -> Path:
    return paths.home() / "chat.log"


def _last_error() -> str:
    """The last line of the process's log; a process that the system killed leaves none."""
    with suppress(OSError):
        lines = _log().read_text(encoding="utf-8", errors="replace").strip().splitlines()
        if lines and "Error" in lines[-1]:
            return lines[-1].strip().rstrip(".")
    return "the system ended it, most likely because memory ran out"
