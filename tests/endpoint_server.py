"""A real local HTTP server that answers as an OpenAI-compatible endpoint does, or misbehaves as a script says."""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from core.synth import endpoint


def answer(text: str, finish: str = "stop", **more) -> bytes:
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return json.dumps({"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 5}} | more).encode()


class Server:
    """Says what `script(number, body)` returns: (status, headers, bytes) or None to hang up."""

    def __init__(self, script):
        self.asked, server = [], self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.asked.append({"path": self.path, "key": self.headers.get("Authorization"), **body})
                said = script(len(server.asked) - 1, body)
                if said is None:
                    self.connection.close()
                    return
                status, headers, raw = said
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_):
                pass

            def handle(self):
                with contextlib.suppress(ConnectionError, ValueError):
                    super().handle()

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


def serving(monkeypatch):
    """The body of a fixture: a function that starts a server with a script; pauses between attempts are short."""
    monkeypatch.setattr(endpoint, "FIRST_PAUSE", 0.01)
    monkeypatch.setenv("SOULSMITH_API_KEY", "k-1")
    started = []

    def start(script) -> Server:
        started.append(Server(script))
        monkeypatch.setenv("SOULSMITH_API_URL", started[-1].url)
        return started[-1]

    yield start
    for one in started:
        one.http.shutdown()
