"""Start the page that a shared link shows, try everything on it, and let many visitors chat: `python -m tests.share_probe --json`.

Every route of gradio and every trick with paths is tried over HTTP without and with the password. The model is a tiny
one that is made and trained here, unless --home and --run name a run. The replies are the same at every call, so that a
reply that reached the wrong visitor is found out.
"""

import argparse
import contextlib
import http.client
import json
import os
import re
import secrets
import socket
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import psutil

try:
    import resource
except ImportError:  # Windows, where a process may open as many
    resource = None

from core.sharing.gate import ALLOWED, COOKIE
from core.sharing.sharing import Limits, Share
from ui.sharing_server import DistantShare

LOGIN = re.compile(r"/login")
TRICKS = (
    "/etc/passwd", "../../../../etc/passwd", "..%2f..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd",
    "....//....//etc/passwd", "..\\..\\..\\etc\\passwd", "%5c%5chost%5cshare%5cx", "\\\\host\\share\\x",
    "//host/share/x", "C:\\Windows\\win.ini", "a%00.txt", "%00", "soulsmith.db", "app.py", "{home}/secret.txt",
    "{home}/link.txt", "{home}/soulsmith.db", "file:///etc/passwd", "http://127.0.0.1:7860/config",
)  # fmt: skip


def routes() -> list[tuple[str, str]]:
    """(method, path) of all that gradio can answer, read from its source, so that none is forgotten."""
    import gradio.routes

    source = Path(gradio.routes.__file__).read_text(encoding="utf-8")
    found = re.findall(r"@(router|app)\.(get|post|head|put|delete)\(\s*f?\"([^\"]+)\"", source)
    return sorted(
        {(method.upper(), ("/gradio_api" if kind == "router" else "") + path) for kind, method, path in found}
    )


def attempts(home: Path) -> list[tuple[str, str]]:
    """(method, path) of every request that is tried: each route with plain values and with every trick for a value."""
    tried = [
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("GET", "/redoc"),
        ("GET", "/gradio_api/mcp/sse"),
        ("GET", "/runs"),
    ]
    tried += [
        ("POST", f"/gradio_api/{road}/{name}") for road in ("run", "call", "api") for name in ("predict", "on_train")
    ]
    tried += [("GET", trick.format(home=home)) for trick in TRICKS]
    for method, path in routes():
        plain = re.sub(r"{[^}]*}", "x1234567", path)
        tried.append((method, plain))
        if "{" in path:
            last = re.sub(r"{[^}]*}", "x1234567", path[: path.rindex("{")])
            tried += [(method, last + trick.format(home=home)) for trick in TRICKS]
    for folder in ("/static/", "/assets/", "/gradio_api/file=", "/gradio_api/file/", "/file=", "/gradio_api/proxy="):
        tried += [("GET", folder + trick.format(home=home)) for trick in TRICKS]
    return list(dict.fromkeys((method, path if path.startswith("/") else "/" + path) for method, path in tried))


def send(port: int, method: str, path: str, cookie: str = "", body: bytes = b"{}") -> tuple[int, bytes]:
    """One request with its path as it is written: a client that tidies `..` away would try nothing."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
    head += f"Cookie: {cookie}\r\n" if cookie else ""
    sent = body if method == "POST" else b""
    head += f"Content-Type: application/json\r\nContent-Length: {len(sent)}\r\n\r\n"
    connection.connect()
    connection.sock.sendall(head.encode("utf-8", "surrogateescape") + sent)
    answer = http.client.HTTPResponse(connection.sock)
    try:
        answer.begin()
        return answer.status, answer.read1(200_000)  # a stream is looked into, not waited for
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def sweep(port: int, password: str, home: Path) -> dict:
    """Try everything without and with the password."""
    canary = secrets.token_hex(16)
    home.mkdir(parents=True, exist_ok=True)
    (home / "secret.txt").write_text(canary, encoding="utf-8")
    if not (home / "link.txt").is_symlink():
        (home / "link.txt").symlink_to("/etc/passwd")
    cookie = f"{COOKIE}={Guest(port, password).client.cookies[COOKIE]}"
    tried, opened, beyond, read = attempts(home), [], [], []
    for method, path in tried:
        status, body = send(port, method, path)
        if 0 < status < 400:
            opened.append(f"{method} {path}")
        read += [path] * tells(body, canary)
        if any(road.fullmatch(path) for kind, road in ALLOWED if kind == method and "heartbeat" in road.pattern):
            continue  # an endless stream, on the list
        status, body = send(port, method, path, cookie)
        read += [path] * tells(body, canary)
        listed = any(kind == method and road.fullmatch(path.partition("?")[0]) for kind, road in ALLOWED)
        if status not in (0, 400, 401, 404) and not listed:
            beyond.append(f"{method} {path} {status}")
    read += smuggle(port, cookie, home, canary)
    for planted_file in ("secret.txt", "link.txt"):
        (home / planted_file).unlink()
    return {
        "endpoints_tried": len(tried),
        "endpoints_open_without_password": len(opened),
        "endpoints_beyond_chat": len(beyond),
        "files_read": len(read),
        "found": [*opened, *beyond, *read],
    }


def smuggle(port: int, cookie: str, home: Path, canary: str) -> list[str]:
    """Put files into the messages themselves, where a framework may open what it is told to; what came back of them."""
    read = []
    for path in ("/etc/passwd", str(home / "secret.txt"), str(home / "link.txt")):
        file = {"path": path, "meta": {"_type": "gradio.FileData"}, "url": f"file://{path}"}
        for data in ([file, None], [[file], None], [{"text": "a", "files": [file]}, None], [path, file]):
            session = "s" + secrets.token_hex(5)
            asked = {"data": data, "fn_index": 0, "session_hash": session, "trigger_id": 1}
            status, body = send(port, "POST", "/gradio_api/queue/join", cookie, json.dumps(asked).encode())
            read += [path] * (tells(body, canary) or status < 400)
    return read


def tells(body: bytes, canary: str) -> bool:
    """Whether an answer holds what only a file could tell it."""
    planted = os.environ.get("HF_TOKEN", "")
    return canary.encode() in body or b"root:x:" in body or bool(planted and planted.encode() in body)


class Guest:
    """A visitor with a browser's manners: comes in, asks, listens."""

    def __init__(self, port: int, password: str):
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=300)
        self.session, self.places = "g" + secrets.token_hex(6), []
        assert self.client.post("/login", data={"password": password}).status_code == 303
        config = self.client.get("/").text.split("window.gradio_config = ", 1)[1]
        listeners = json.JSONDecoder().raw_decode(config)[0]["dependencies"]
        self.to_ask = next(one for one in listeners if len(one["outputs"]) == 5)  # of ui/sharing_page.py
        self.to_clear = next(one for one in listeners if one["outputs"] == self.to_ask["outputs"][1:])

    def ask(self, words: str) -> tuple[str, list]:
        """(note, both conversations) at the end of a reply."""
        values = self.call(self.to_ask["id"], [words, None])
        if not values:
            return "", []
        _, note, _, *boxes = values
        return note, [[part["content"][0]["text"] for part in box] for box in boxes]

    def clear(self) -> bool:
        """Begin a new conversation; whether both boxes are empty."""
        return self.call(self.to_clear["id"], [])[-2:] == [[], []]

    def call(self, listener: int, data: list) -> list:
        """What a listener of the page puts into its outputs in the end."""
        asked = {"data": data, "fn_index": listener, "session_hash": self.session, "trigger_id": 1}
        self.client.post("/gradio_api/queue/join", json=asked).raise_for_status()
        query = {"session_hash": self.session}
        with self.client.stream("GET", "/gradio_api/queue/data", params=query) as stream:
            for line in stream.iter_lines():
                message = json.loads(line[6:]) if line.startswith("data: ") else {}
                if message.get("msg") == "process_generating":
                    note = re.search(r"Before you in line: (\d+)", json.dumps(message["output"]["data"]))
                    self.places += [int(note[1])] if note else []
                elif message.get("msg") == "process_completed":
                    return message["output"].get("data", [])
        return []


def crowd(port: int, password: str, visitors: int, messages: int, tell=lambda line: None) -> dict:
    """Many visitors at once, each with questions of their own: what each got, against what one alone gets."""
    questions = [f"sea lamp {number} fog {number * 7 % 13}?" for number in range(visitors)]
    alone = Guest(port, password)
    expected = []
    for words in questions:
        alone.session = "g" + secrets.token_hex(6)  # a new conversation
        expected.append(alone.ask(words)[1])
    guests = [Guest(port, password) for _ in range(visitors)]
    with ThreadPoolExecutor(visitors) as pool:
        first = list(pool.map(lambda pair: pair[0].ask(pair[1])[1], zip(guests, questions, strict=True)))
    mixed = sum(got != wanted for got, wanted in zip(first, expected, strict=True))
    done, own, before = 2 * visitors, sum(bool(got) for got in first), 0
    while done < messages:
        with ThreadPoolExecutor(visitors) as pool:
            later = list(pool.map(lambda pair: pair[0].ask(pair[1])[1], zip(guests, questions, strict=True)))
        mixed += sum(
            not box or box[-2] != words for got, words in zip(later, questions, strict=True) for box in got or [[]]
        )
        done += visitors
        if not before and done >= min(300, messages // 2):
            before = memory()
            tell(f"{done} messages, {before / 1e6:.0f} MB")
    after = memory()
    return {
        "visitors_served": own,
        "messages": done,
        "replies_mixed_up": mixed,
        "visitors_told_their_place": sum(bool(guest.places) for guest in guests),
        "memory_growth_mb": round((after - before) / 1e6, 1) if before else None,
    }


HALF_SENT = b"POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n"  # its body never comes


def idle_connections(port: int, password: str, count: int, sent: bytes = b"") -> int:
    """How many connections that send no more than this a visitor comes in beside and reads the page; 0 if none does."""
    if resource:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))  # both ends are open here
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20)).sendall(sent)
        try:
            return count if Guest(port, password).client.get("/").status_code == 200 else 0
        except (AssertionError, httpx.HTTPError):
            return 0


def open_streams(port: int, password: str, count: int) -> int:
    """How many endless answers one visitor asks for beside whom another comes in; 0 if they keep the other out."""
    cookie = f"{COOKIE}={Guest(port, password).client.cookies[COOKIE]}"
    ask = f"GET /gradio_api/heartbeat/streams1 HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n"
    return idle_connections(port, password, count, ask.encode())


def kept_out(port: int, password: str, count: int, crowd: str = "198.51.100.1", other: str = "203.0.113.9") -> int:
    """How many of three of another address are kept out by so many logins without a cookie from one address."""
    statuses, client = [], httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
    for address in [crowd] * count + [other] * 3:
        client.cookies.clear()
        answer = client.post("/login", data={"password": password}, headers={"X-Forwarded-For": address})
        statuses.append(answer.status_code)
    return sum(status != 303 for status in statuses[-3:])


def lockouts(port: int, password: str, guesses: int) -> int:
    """How often the right password does not open while wrong ones are tried from the same address."""
    client, refused = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60), 0
    for number in range(guesses):
        client.post("/login", data={"password": f"wrong {number}"})
        if number % 10 == 9:
            refused += httpx.post(client.base_url.join("/login"), data={"password": password}).status_code != 303
    return refused


def minted_by_one(port: int, share: Share | DistantShare) -> int:
    """How many visitors one browser becomes that gives the password ten times."""
    before, guest = visitors(share, Guest(port, share.password)), Guest(port, share.password)
    for _ in range(9):
        guest.client.post("/login", data={"password": share.password})
    return visitors(share, Guest(port, share.password)) - before - 1  # but for the one that is counted with


def visitors(share: Share | DistantShare, latest: Guest) -> int:
    """How many visitors there are with the latest one: the process of a share says so every second, or later."""
    token, end = latest.client.cookies[COOKIE], time.monotonic() + 60
    while time.monotonic() < end:
        known = (share._state if isinstance(share, DistantShare) else share.state()).get("visitors", ())
        if any(visitor["token"] == token for visitor in known):
            return len(known)
        time.sleep(0.1)
    sys.exit("the share did not tell of a visitor within 60 s")


def restarted(opened) -> int:
    """How many of the visitors of a share come in without the password after its process was killed."""
    share, guest = opened.share, Guest(opened.port, opened.share.password)
    visitors(share, guest)  # until the page knows of this one
    share._child.process.kill()
    end = time.monotonic() + 90
    while time.monotonic() < end:
        with contextlib.suppress(httpx.HTTPError):
            return int(guest.client.get("/").status_code == 200)
        time.sleep(0.5)
    return 0


def memory() -> int:
    """Bytes that this process and its children hold."""
    own = psutil.Process()
    return sum(process.memory_info().rss for process in (own, *own.children(recursive=True)))


def make_run(home: Path) -> str:
    """Train a tiny model here and return the id of its run."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from core.runs import runs
    from core.training.config import TrainConfig
    from tests.conftest import CHATML, chat_rows

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    signs = special + sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={sign: index for index, sign in enumerate(signs)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    whole = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|im_end|>", chat_template=CHATML
    )
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(
        vocab_size=len(whole),
        max_position_embeddings=512,
        eos_token_id=2,
        pad_token_id=2,
        initializer_range=0.15,
        **shape,
    )
    model, corpus = home / "tiny model", home / "rows.jsonl"
    LlamaForCausalLM(config).save_pretrained(model)
    whole.save_pretrained(model)
    rows = [json.dumps(row, ensure_ascii=False) for row in chat_rows(40)]
    corpus.write_text("\n".join(rows) + "\n", encoding="utf-8")
    run_id = runs.start(
        TrainConfig(base_model=str(model), corpus=str(corpus), method="lora", max_length=256, max_steps=2), "probe"
    )
    for _ in range(600):
        if runs.state(run_id) == "finished":
            return run_id
        time.sleep(0.2)
    sys.exit(f"the tiny model was not trained: {runs.state(run_id)}")


def planted(home: Path) -> int:
    """How many files of the data directory hold the token that was planted in the environment."""
    token = os.environ["HF_TOKEN"].encode()
    return sum(token in file.read_bytes() for file in home.rglob("*") if file.is_file() and not file.is_symlink())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.share_probe", description=__doc__.split("\n")[0])
    parser.add_argument("--home", help="a data directory with a finished run; default: a new one with a tiny model")
    parser.add_argument("--run", help="id of the run, with --home")
    parser.add_argument("--visitors", type=int, default=20)
    parser.add_argument("--messages", type=int, default=1000)
    parser.add_argument("--idle", type=int, default=600, help="silent connections that are held open at once")
    parser.add_argument("--reply-tokens", type=int, default=8)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    os.environ.setdefault("HF_TOKEN", "hf_" + secrets.token_hex(16))
    scratch = tempfile.TemporaryDirectory()
    home = Path(args.home or Path(scratch.name) / "дом гостей")
    home.mkdir(parents=True, exist_ok=True)
    os.environ["SOULSMITH_HOME"] = str(home)
    run_id = args.run or make_run(home)
    from ui import sharing_server as links

    limits = Limits(visitors=10 * args.visitors, messages=10**6, tokens=10**9, messages_in_all=10**6, tokens_in_all=10**9,
                    reply_tokens=args.reply_tokens)  # fmt: skip
    links.START_SECONDS = 3600  # on a machine that others keep busy
    opened = links.open_chat(run_id, "own", limits, "en")
    result = sweep(opened.port, opened.share.password, home)
    tell = partial(print, file=sys.stderr, flush=True)
    tell(f"{result['endpoints_tried']} endpoints tried; {result.pop('found') or 'nothing found'}")
    result |= crowd(opened.port, opened.share.password, args.visitors, args.messages, tell)
    port, password = opened.port, opened.share.password
    for name, found in {
        "idle_connections_survived": lambda: idle_connections(port, password, args.idle),
        "half_sent_bodies_survived": lambda: idle_connections(port, password, args.idle, HALF_SENT),
        "lockouts_of_the_right_password": lambda: lockouts(port, password, 100),
        "visitors_minted_by_one": lambda: minted_by_one(port, opened.share),
        "open_streams_survived": lambda: open_streams(port, password, args.idle),
        "kept_out_by_logins_without_a_cookie": lambda: kept_out(port, password, limits.visitors),
        "visitors_after_a_restart": lambda: restarted(opened),
    }.items():
        result[name] = found()
        tell(f"{name}: {result[name]}")
    links.end()
    result["secrets_on_disk"] = planted(home)
    print(json.dumps(result, indent=None if args.json else 2), flush=True)
    scratch.cleanup()


if __name__ == "__main__":
    main()
