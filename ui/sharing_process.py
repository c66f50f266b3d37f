"""The process that serves the visitors of a link: `python -m ui.sharing_process` takes a request as a line, serves, and
says every second how it stands; it ends when its input does.
"""

import contextvars
import json
import sys
import threading
import time
from functools import partial

import uvicorn

from core import process
from core.chat import chat, chat_models, types
from core.errors import UserError
from core.sharing.connections import Connection
from core.sharing.gate import Gate
from core.sharing.sharing import Limits, Share
from ui import pages, sharing_page

SAYS_SECONDS = 1.0
MOST_CLOSED = 3  # times that a reply is begun again


def answer(run_id: str, conversations: dict, most_tokens: int):
    """The replies of core.chat as they grow, never longer than the link allows.

    A conversation longer than what the model reads loses its oldest messages: a visitor has no settings to shorten it.
    A run that starts ends the reply in progress; it is begun again, unless the run has the card (CardBusy).
    """
    ids, sampling = chat_models.ids_of_run(run_id), types.Sampling(max_new_tokens=most_tokens)
    closed = 0
    while True:
        questions = {name: types.Question(ids[name], messages) for name, messages in conversations.items()}
        try:
            yield from chat.talk(questions, sampling)
            return
        except UserError as error:
            if error.name == "PromptTooLong" and min(map(len, conversations.values())) >= 3:
                conversations = {name: messages[2:] for name, messages in conversations.items()}
            elif error.name == "ChatClosed" and closed < MOST_CLOSED:
                closed += 1
            else:
                raise


def serve(share: Share, title: str, host: str, lang: str | None, port: int = 0) -> tuple[uvicorn.Server, int]:
    """Start the visitors' page on a port, 0: a free one, in a thread: nothing of the whole page is mounted there."""
    listening = process.bound(host, port)
    port = listening.getsockname()[1]
    # In an empty context: inside a handler gradio takes new components for changes of those that are there.
    empty = contextvars.Context()
    inner = empty.run(pages.serve, partial(sharing_page.build, share, title), lang, max_file_size="1kb")
    gate = Gate(inner, share, partial(sharing_page.asking, lang), tunnelled=host == "127.0.0.1")
    config = uvicorn.Config(
        gate,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
        http=Connection,
        ws="none",
    )
    server = uvicorn.Server(config)
    threading.Thread(target=server.run, args=([listening],), name="visitors", daemon=True).start()
    while not server.started:
        time.sleep(0.05)
    return server, port


def main() -> None:
    request = json.loads(sys.stdin.readline())
    share = Share(partial(answer, request["run_id"]), Limits(**request["limits"]), request["state"])
    server, port = serve(share, request["title"], request["host"], request["lang"], request["port"])
    threading.Thread(target=_end_with_input, args=(share, server), daemon=True).start()
    while not share.ended:
        print(json.dumps({"port": port, "figures": share.figures(), "state": share.state()}), flush=True)
        time.sleep(SAYS_SECONDS)
    server.should_exit = True


def _end_with_input(share: Share, server: uvicorn.Server) -> None:
    sys.stdin.read()
    share.end()
    server.should_exit = True


if __name__ == "__main__":
    main()
