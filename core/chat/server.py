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
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, Listener

from filelock import FileLock, Timeout

from core import errors, files
from core.chat.chat import END_SECONDS, LOOK_SECONDS, address_file, lock_file, receive, send
from core.chat.types import Question, Sampling
from core.errors import UserError

IDLE_SECONDS = 30 * 60  # without a question: the memory goes back
SEND_SECONDS = 0.04  # between two messages with replies in progress: no page draws faster


class Server:
    """Listens, and answers each caller on a thread of its own."""

    def __init__(self):
        self.last_request, self.busy = time.monotonic(), 0
        self.line: deque[object] = deque()  # of those who wait for a reply, in the order in which they came

    def serve(self) -> None:
        """Listen until nobody has asked for a while; a second process ends by itself."""
        try:
            lock = FileLock(lock_file()).acquire(timeout=1)
        except Timeout:
            return
        with lock:
            key = secrets.token_bytes(32)
            listener = Listener(authkey=key)
            values = {"address": listener.address, "key": key.hex(), "pid": os.getpid()}
            with files.replaced(address_file(), mode=0o600) as file:
                file.write(json.dumps(values).encode())
            threading.Thread(target=self._watch, args=[listener], daemon=True).start()
            while True:
                try:
                    connection = listener.accept()
                except Exception:  # a caller with a wrong key, or one that hung up in the middle of its greeting
                    continue
                threading.Thread(target=self._answer, args=[connection], daemon=True).start()

    def _watch(self, listener: Listener) -> None:
        """End when idle for long, or when the data directory went away."""
        while address_file().exists() and (self.busy or time.monotonic() - self.last_request < IDLE_SECONDS):
            time.sleep(1)
        with suppress(OSError):
            listener.close()
        self._end()

    def _end(self) -> None:
        address_file().unlink(missing_ok=True)
        os._exit(0)

    def _answer(self, connection: Connection) -> None:
        """Read one request and send the answers of the method that its "do" names."""
        self.last_request, self.busy = time.monotonic(), self.busy + 1
        try:
            request = receive(connection)
            for answer in getattr(self, f"_{request.pop('do')}")(connection, **request):
                send(connection, answer)
            send(connection, {"done": True})
        except (OSError, EOFError):
            pass  # the caller hung up
        except Exception as error:
            known = isinstance(error, UserError)
            if not known:
                errors.log()
            with suppress(OSError):
                send(connection, errors.to_dict(error))
            if not known and is_card_lost(error):
                self._end()
        finally:
            self.last_request, self.busy = time.monotonic(), self.busy - 1
            connection.close()

    def _look(self, _) -> Iterator[dict]:
        engine = sys.modules.get("core.chat.engine")
        yield {"open": bool(engine and engine.is_open()), "busy": bool(engine and engine.LOCK.locked())}

    def _close(self, _, at_once: bool = True, **of_later_versions) -> Iterator[dict]:
        engine = sys.modules.get("core.chat.engine")
        yield {"closed": bool(engine and engine.close(at_once=at_once))}

    def _leave(self, _) -> Iterator[dict]:
        yield from self._close(_, at_once=True)
        end = time.monotonic() + END_SECONDS
        while self.busy > 1 and time.monotonic() < end:  # those whose replies were ended are told so
            time.sleep(LOOK_SECONDS)
        self._end()

    def _reply(self, connection: Connection, questions: dict, sampling: dict, on_cpu: bool) -> Iterator[dict]:
        from core.chat import engine  # noqa: PLC0415 - torch is imported with the first question

        complete, ticket = False, object()
        self.line.append(ticket)
        try:
            # Whoever hung up meanwhile is not served; and what began while the memory goes back would end at once.
            while engine.LOCK.locked() or engine.CLOSING.is_set() or self.line[0] is not ticket:
                if connection.poll(LOOK_SECONDS):
                    return
            asked = {name: Question(values.pop("contestant"), **values) for name, values in questions.items()}
            for replies in _growing(connection, asked, Sampling(**sampling), on_cpu):
                complete = all(reply["finish_reason"] for reply in replies.values())
                yield {"replies": replies}
        finally:
            self.line.remove(ticket)
        if not complete and not connection.poll():
            raise errors.named("ChatClosed")

    def _measure(self, connection: Connection, contestant: str, rows: list[dict]) -> Iterator[dict]:
        from core.chat import generation  # noqa: PLC0415 - torch is imported with the first question

        yield {"measured": generation.held_out_loss(contestant, rows, connection.poll)}


def _growing(connection: Connection, asked: dict[str, Question], sampling: Sampling, on_cpu: bool) -> Iterator[dict]:
    """Replies as they are sent: not more often than a page draws, each log-probability once; none after the client disconnected."""
    from core.chat import generation  # noqa: PLC0415 - torch is imported with the first question

    sent_at, noted = 0.0, dict.fromkeys(asked, 0)
    stream = generation.replies(asked, sampling, on_cpu=on_cpu)
    try:
        for replies in stream:
            if connection.poll():  # nothing is sent to this process any more: the caller hung up
                return
            if time.monotonic() - sent_at > SEND_SECONDS or all(reply.finish_reason for reply in replies.values()):
                sent_at = time.monotonic()
                fresh = {name: reply.logprobs[noted[name] :] for name, reply in replies.items()}
                noted = {name: len(reply.logprobs) for name, reply in replies.items()}
                yield {name: vars(reply) | {"logprobs": fresh[name]} for name, reply in replies.items()}
    finally:
        stream.close()


def is_card_lost(error: Exception) -> bool:
    """Whether the card computes no more in this process after an error; only a new process does."""
    return type(error).__name__ == "AcceleratorError" or "CUDA error" in str(error)
