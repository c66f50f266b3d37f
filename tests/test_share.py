"""A share: the password, the limits, the line, and the gate before the page, without a model."""

import asyncio
import contextvars
import json
import re
import socket
import threading
import time
import zipfile
from dataclasses import dataclass
from functools import partial

import httpx
import pytest
from gradio.context import LocalContext
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from core import errors
from core.export import export
from core.runs import gpu_access
from core.sharing import connections, own_page, sharing, walls
from core.sharing import gate as sharing_gate
from core.sharing.sharing import Limits, Share
from tests import an_hour, share_probe
from tests.conftest import raises
from ui import sharing_page, sharing_process
from ui import sharing_server as links
from ui.text import Say


@dataclass
class Said:
    text: str
    tokens: int


def echo(conversations, most_tokens):
    """Replies that say back what they were asked, word by word."""
    words = {name: said[-1]["content"].split()[:most_tokens] for name, said in conversations.items()}
    for count in range(1, max(map(len, words.values())) + 1):
        yield {name: Said(" ".join(said[:count]), min(count, len(said))) for name, said in words.items()}


def asks(words: str) -> dict:
    return {name: [{"role": "user", "content": words}] for name in ("base", "tuned")}


def waited(turn: sharing.Turn) -> sharing.Turn:
    end = time.monotonic() + 20
    while not turn.done and time.monotonic() < end:
        time.sleep(0.005)
    return turn


@pytest.fixture
def share():
    share = Share(echo)
    yield share
    share.end()


def guest(share: Share) -> sharing.Visitor:
    return share.visitor(share.log_in(share.password, "here"))


@pytest.fixture(scope="module")
def served():
    """The visitors' page of an echoing share, opened as a button's handler opens it: (share, port)."""
    share = Share(echo, Limits(visitors=200))
    pressed = contextvars.copy_context()
    pressed.run(LocalContext.in_event_listener.set, True)
    server, port = pressed.run(sharing_process.serve, share, "echo", "127.0.0.1", None)
    yield share, port
    share.end()
    server.should_exit = True


def test_a_password_is_new_each_time_and_read_with_capitals_and_blanks(share):
    assert Share(None).password != share.password
    assert len(share.password.replace("-", "")) == sharing.GROUPS * sharing.GROUP
    assert share.visitor(share.log_in(f" {share.password.upper()} ".replace("-", " "), "here"))


def test_nobody_comes_in_without_the_password_and_five_tries_are_a_minute_s(share, monkeypatch):
    now = time.monotonic()
    monkeypatch.setattr(sharing.time, "monotonic", lambda: now)
    for _ in range(sharing.TRIES_OF_ONE):
        with raises("WrongPassword"):
            share.log_in("wrong", "there")
    with pytest.raises(sharing.TooManyTries, match="Try again in 60 s"):
        share.log_in("wrong", "there")
    assert share.log_in(share.password, "there")  # nobody can shut the others out by guessing
    now += sharing.MINUTE + 1
    with raises("WrongPassword"):
        share.log_in("wrong", "there")


def test_no_more_visitors_come_in_than_the_link_is_for():
    share = Share(echo, Limits(visitors=2))
    guests = [guest(share) for _ in range(2)]
    with raises("TooManyVisitors", match="2 visitors"):
        share.log_in(share.password, "here")
    assert waited(share.ask(guests[1], asks("still here"))).columns["base"] == Said("still here", 2)
    share.end()


def test_a_visitor_is_nobody_once_the_link_has_ended(share):
    token = share.log_in(share.password, "here")
    assert share.visitor(token).token == token
    assert share.visitor(None) is None
    share.end()
    assert share.visitor(token) is None


def test_a_reply_that_is_stopped_ends_where_it_is():
    going_on = threading.Event()

    def slowly(conversations, most_tokens):
        yield {"base": Said("one", 1)}
        going_on.wait(20)
        yield {"base": Said("one two", 2)}
        yield {"base": Said("one two three", 3)}

    share = Share(slowly)
    turn = share.ask(guest(share), asks("count"))
    while not turn.columns:
        time.sleep(0.005)
    turn.stopped.set()
    going_on.set()
    assert waited(turn).columns["base"] == Said("one two", 2)
    share.end()


def test_sixty_wrong_passwords_a_minute_are_the_limit_of_all(share):
    assert (sharing.TRIES_OF_ONE, sharing.TRIES_OF_ALL) == (5, 60)


def test_many_addresses_together_are_slowed_down_too(share):
    for number in range(sharing.TRIES_OF_ALL):
        with raises("WrongPassword"):
            share.log_in("", f"address {number}")
    with pytest.raises(sharing.TooManyTries):
        share.log_in("", "yet another")


def test_a_link_ends_at_its_time_and_nobody_is_answered_any_more():
    share = Share(echo, Limits(hours=1e-6))
    visitor = sharing.Visitor("token", time.time())
    time.sleep(0.01)
    assert share.ended
    with pytest.raises(sharing.ShareEnded):
        share.log_in(share.password, "here")
    with pytest.raises(sharing.ShareEnded):
        share.ask(visitor, asks("a"))


def test_limits_hold_for_one_visitor_and_for_all():
    share = Share(echo, Limits(messages=2, messages_in_all=3))
    first, second = guest(share), guest(share)
    for visitor in (first, first, second):
        assert waited(share.ask(visitor, asks("one two"))).columns["base"] == Said("one two", 2)
    with raises("VisitorLimit"):
        share.ask(first, asks("a"))
    with raises("ShareLimit", match="3 messages"):
        share.ask(second, asks("a"))
    assert share.figures() | {"seconds_left": 0} == {
        "visitors": 2, "present": 2, "waiting": 0, "messages": 3, "tokens": 12, "seconds_left": 0,
    }  # fmt: skip
    share.end()


def test_tokens_are_counted_and_the_last_reply_is_cut_to_what_is_left():
    share = Share(echo, Limits(tokens=6))
    visitor = guest(share)
    assert waited(share.ask(visitor, asks("a b c d e"))).columns["tuned"] == Said("a b c", 3)
    with raises("VisitorLimit", match="6 tokens"):
        share.ask(visitor, asks("a"))
    share.end()


def test_a_message_too_long_is_not_taken(share):
    with raises("MessageTooLong", match="4001 characters"):
        share.ask(guest(share), asks("a" * 4001))


def test_the_line_is_served_in_order_one_message_a_visitor_and_each_knows_the_place():
    held = threading.Event()

    def waiting(conversations, most_tokens):
        held.wait(20)
        yield from echo(conversations, most_tokens)

    share = Share(waiting)
    guests = [guest(share) for _ in range(4)]
    turns = [share.ask(visitor, asks(f"guest {number}")) for number, visitor in enumerate(guests)]
    with raises("OneAtATime"):
        share.ask(guests[2], asks("again"))
    assert [share.position(turn) for turn in turns] == [0, 1, 2, 3]
    turns[1].stopped.set()
    held.set()
    assert [waited(turn).columns.get("base") for turn in turns] == [
        Said(f"guest {n}", 2) if n != 1 else None for n in range(4)
    ]
    share.end()


def test_a_reply_that_fails_does_not_stop_the_line():
    def failing(conversations, most_tokens):
        if conversations["base"][-1]["content"] == "fall":
            raise ValueError("down")
        yield from echo(conversations, most_tokens)

    share = Share(failing)
    visitor = guest(share)
    assert str(waited(share.ask(visitor, asks("fall"))).error) == "down"
    assert waited(share.ask(visitor, asks("stand"))).columns["base"] == Said("stand", 1)
    share.end()


def test_a_long_conversation_keeps_its_end_and_begins_with_the_visitor():
    said = [{"role": role, "content": str(n)} for n, role in enumerate(["user", "assistant"] * 15)] + [
        {"role": "user", "content": "30"}
    ]
    kept = sharing.recent(said)
    assert sharing.recent(said[1:21])[0]["content"] == "2"  # the first one kept would be the model's
    assert (kept[0]["content"], kept[0]["role"], kept[-1]["content"], len(kept)) == ("12", "user", "30", 19)


def test_nothing_answers_without_the_password_and_behind_it_only_the_chat(served, home, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_planted")
    share, port = served
    found = share_probe.sweep(port, share.password, home)
    tried = found.pop("endpoints_tried")
    assert tried > 300
    assert found == {"endpoints_open_without_password": 0, "endpoints_beyond_chat": 0, "files_read": 0, "found": []}


def test_the_gate_asks_for_the_password_in_the_visitor_s_language(served):
    _, port = served
    asked = {
        lang: httpx.get(f"http://127.0.0.1:{port}/", headers={"accept-language": lang}).text for lang in ("en", "ru")
    }
    for lang, page in asked.items():
        assert Say(lang)("sharing.come_in") in page
        assert "gradio" not in page


def test_a_visitor_s_cookie_is_out_of_reach_of_scripts_and_the_page_of_frames(served):
    share, port = served
    answer = httpx.post(f"http://127.0.0.1:{port}/login", data={"password": share.password})
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"].split("; ")
    assert {"Path=/", "HttpOnly", "SameSite=lax"} <= set(cookie)
    for page in (answer, httpx.get(f"http://127.0.0.1:{port}/", cookies=dict([cookie[0].split("=", 1)]))):
        own = {name: page.headers[name] for name in sharing_gate.HEADERS}
        rules = own.pop("content-security-policy")
        assert re.match("default-src '(none|self)'; ", rules)
        assert "frame-ancestors 'none'" in rules
        assert own == {
            "x-frame-options": "DENY",
            "referrer-policy": "same-origin",  # with no-referrer the form would be sent with the origin null
            "x-content-type-options": "nosniff",
            "x-dns-prefetch-control": "off",
            "cross-origin-resource-policy": "same-origin",
            "x-robots-tag": "noindex",
        }


def test_a_visitor_chats_and_another_cannot_listen(served):
    share, port = served
    guests = [share_probe.Guest(port, share.password) for _ in range(2)]
    note, boxes = guests[0].ask("sea lamp")
    assert (note, boxes) == ("Messages left: 99", [["sea lamp", "sea lamp"]] * 2)
    listening = guests[1].client.get("/gradio_api/queue/data", params={"session_hash": guests[0].session})
    assert listening.status_code == 403
    stopping = guests[1].client.post(
        "/gradio_api/cancel", json={"session_hash": guests[0].session, "fn_index": 0, "event_id": "x"}
    )
    assert stopping.status_code == 403


def test_the_page_of_visitors_keeps_no_more_conversations_than_they_may_have():
    page = sharing_page.build(Share(None, Limits(visitors=2)), "a", Say("en"))
    assert page.state_session_capacity == 2 * sharing.MOST_SESSIONS


def test_a_visitor_hears_that_the_machine_is_busy_and_no_name_or_path_of_it():
    say = Say("en")
    assert sharing_page.worded(say, gpu_access.CardBusy(name="secret")) == say("sharing.busy")
    assert sharing_page.worded(say, errors.named("PromptTooLong", tokens=9, limit=8)).startswith("The conversation")
    assert sharing_page.worded(say, OSError("/home/me")) == say("sharing.trouble")


def test_a_reply_that_a_starting_run_ends_is_begun_again(monkeypatch, home):
    asked = []

    def talk(questions, sampling):
        asked.append({name: question.messages for name, question in questions.items()})
        yield dict.fromkeys(questions, Said("a", 1))
        if len(asked) <= closes:
            raise errors.from_dict(errors.to_dict(errors.named("ChatClosed")))  # as the chat's process tells it
        yield dict.fromkeys(questions, Said("a b", 2))

    monkeypatch.setattr(sharing_process.chat, "talk", talk)
    monkeypatch.setattr(sharing_process.chat_models, "ids_of_run", lambda run_id: {"base": "base:a", "tuned": "run:a"})
    share = Share(partial(sharing_process.answer, "a"))
    closes = 1
    turn = waited(share.ask(visitor := guest(share), asks("one")))
    assert (turn.error, turn.columns["base"], visitor.tokens) == (None, Said("a b", 2), 4)
    assert asked == [asks("one")] * 2
    closes = 100  # it ends all the same, in words
    assert waited(share.ask(visitor, asks("two"))).error.name == "ChatClosed"
    share.end()


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/gradio_api/queue/%6Aoin", {"data": ["a", None]}, 404),  # the name of a road, written otherwise
        ("/gradio_api/queue/join", {"data": ["a", None], "event_data": {"path": "/etc/passwd"}}, 400),
        ("/gradio_api/queue/join", {"data": [{"path": "/etc/passwd"}, None]}, 400),
        ("/gradio_api/queue/join", ["a"], 400),
    ],
)
def test_a_request_that_is_not_the_page_s_own_is_refused(served, path, body, status):
    share, port = served
    guest = share_probe.Guest(port, share.password)
    body = body | {"fn_index": 0, "session_hash": guest.session} if isinstance(body, dict) else body
    assert guest.client.post(path, json=body).status_code == status


def test_a_large_request_is_refused(served):
    share, port = served
    guest = share_probe.Guest(port, share.password)
    big = {"data": ["a" * 70_000, None], "fn_index": 0, "session_hash": guest.session}
    assert guest.client.post("/gradio_api/queue/join", json=big).status_code == 413


def test_a_link_that_ended_says_so_to_everybody():
    share = Share(echo)
    server, port = sharing_process.serve(share, "echo", "127.0.0.1", "ru")
    guest = share_probe.Guest(port, share.password)
    share.end()
    for client in (guest.client, httpx.Client(base_url=f"http://127.0.0.1:{port}")):
        page = client.get("/")
        assert (page.status_code, "Эта ссылка больше не действует" in page.text) == (410, True)
    server.should_exit = True


def test_full_control_takes_the_password_on_its_own_port_only():
    inner = PlainTextResponse("inside")

    async def asked(port: int, cookie: str = "", host: bytes = b"127.0.0.1:1") -> int:
        statuses = []

        async def send(message):
            statuses.append(message.get("status"))

        headers = [(b"cookie", cookie.encode()), (b"host", host)]
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/any",
            "query_string": b"",
            "headers": headers,
            "server": ("127.0.0.1", port),
        }
        await gate(scope, None, send)
        return statuses[0]

    share = Share(None)
    gate = sharing_gate.Gate(
        inner, share, lambda scope, error: "", allowed=None, elsewhere=(2, own_page.OwnPage(inner))
    )
    cookie = f"{sharing_gate.COOKIE}={share.log_in(share.password, 'here')}"
    assert [asyncio.run(asked(1)), asyncio.run(asked(2)), asyncio.run(asked(2, cookie))] == [200, 401, 200]
    assert asyncio.run(asked(1, host=b"evil.example")) == 421  # a name of another site that leads here
    assert asyncio.run(asked(2, cookie, b"abc.gradio.live")) == 200


def behind(share: Share, inner, allowed=sharing_gate.ALLOWED) -> TestClient:
    """A browser of a visitor of the application behind the gate."""
    gate = sharing_gate.Gate(inner, share, lambda *_: "", allowed=allowed)
    client = TestClient(gate, base_url="http://192.168.1.5:8000")
    client.cookies.set(sharing_gate.COOKIE, share.log_in(share.password, "here"))
    return client


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://192.168.1.5:9999", "sec-fetch-site": "same-site"}, 403),
        ({"origin": "http://192.168.1.5:9999"}, 403),  # a browser says no Sec-Fetch-Site to an address without https
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"origin": "http://192.168.1.5:8000", "sec-fetch-site": "same-origin"}, 200),
        ({"origin": "https://a.example", "sec-fetch-site": "same-origin"}, 200),  # a proxy calls by another name
        ({"origin": "https://a.example", "x-forwarded-host": "a.example"}, 200),
        ({"origin": "https://a.example", "sec-fetch-site": "none"}, 403),
        ({}, 200),
    ],
)
def test_a_page_of_another_origin_does_nothing_in_a_visitor_s_name(share, headers, status):
    client = behind(share, PlainTextResponse("inside"), allowed=None)
    answer = client.post("/gradio_api/queue/join", json={}, headers=headers)
    assert (answer.status_code, answer.headers["x-frame-options"]) == (status, "DENY")
    assert client.post("/login", headers=headers).status_code == (403 if status == 403 else 401)
    if status == 200:
        assert answer.headers["content-security-policy"] == walls.CONTENT_SECURITY_POLICY


def test_a_visitor_has_so_many_endless_answers_and_no_more(share):
    tokens = [share.log_in(share.password, "here") for _ in range(2)]
    statuses = []

    async def asked(token: str, path: str) -> None:
        async def send(message):
            statuses.append(message["status"]) if "status" in message else None

        async def inner(scope, receive, send):
            await released.wait()
            await PlainTextResponse("inside")(scope, receive, send)

        gate.inner = inner
        headers = [(b"cookie", f"{sharing_gate.COOKIE}={token}".encode())]
        scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
        await gate(scope | {"headers": headers}, None, send)

    async def all_at_once() -> None:
        nonlocal released
        for _ in range(2):  # what has ended is not counted
            released, stream = asyncio.Event(), "/gradio_api/heartbeat/a1b2c3"
            paths = [(tokens[0], stream)] * (sharing_gate.MOST_ENDLESS + 3)
            paths += [(tokens[0], "/theme.css"), (tokens[1], "/gradio_api/queue/data")]
            waiting = [asyncio.create_task(asked(*path)) for path in paths]
            await asyncio.sleep(0.05)
            assert (statuses, len(gate._open)) == ([429] * 3, 3)
            released.set()
            await asyncio.gather(*waiting)
            assert (statuses[3:], len(gate._open)) == ([200] * (sharing_gate.MOST_ENDLESS + 2), 0)
            statuses.clear()

    released, gate = None, sharing_gate.Gate(None, share, lambda *_: "")
    asyncio.run(all_at_once())


def test_the_streams_of_one_visitor_keep_nobody_out(served):
    share, port = served
    assert share_probe.open_streams(port, share.password, 450) == 450


def test_logins_without_a_cookie_keep_nobody_of_another_address_out(served, monkeypatch):
    share, port = served
    monkeypatch.setattr(share, "limits", Limits(visitors=4))
    monkeypatch.setattr(share, "visitors", {})
    assert share_probe.kept_out(port, share.password, 6, other="198.51.100.1") == 3
    monkeypatch.setattr(share, "visitors", {})
    assert share_probe.kept_out(port, share.password, 6) == 1  # half of the places are the others' too


def test_one_address_keeps_half_of_the_places_at_most_against_others(monkeypatch):
    share, now = Share(echo, Limits(visitors=4)), time.time()
    monkeypatch.setattr(sharing.time, "time", lambda: now)
    crowd = [share.visitor(share.log_in(share.password, "crowd")) for _ in range(4)]
    crowd[0].messages = 1
    for _ in range(2):
        share.log_in(share.password, "other")
    assert [one.token in share.visitors for one in crowd] == [True, False, False, True]  # who has spoken stays longer
    with raises("TooManyVisitors"):
        share.log_in(share.password, "third")
    now += sharing.LAPSE_SECONDS_OF_SILENT + 1
    share.log_in(share.password, "third")
    assert [one.token in share.visitors for one in crowd] == [True, False, False, False]
    assert share.messages == 1
    share.end()


def test_a_blocked_tunnel_says_why_and_names_the_other_ways(monkeypatch, home):
    home.mkdir()
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setattr("gradio.networking.GRADIO_API_SERVER", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        with raises("TunnelBlocked", match=r"Two other ways, both with the password: over this network.*--share own"):
            links.open_tunnel(9999)


def test_the_code_holds_the_address_and_the_password():
    opened = links.Opened(Share(None), 7, "own", url="http://127.0.0.1:7")
    assert links.qr_code(opened).startswith("<svg")
    assert "█" in links.terminal_qr(opened) or "▀" in links.terminal_qr(opened)


@pytest.mark.parametrize(
    ("boxes", "outcome"),
    [
        ([["one", "a", "two", "b"]] * 2, "replies"),
        ([["one", "a", "two", "c"]] * 2, "replies_mixed_up"),  # there was another reply to the same words
        ([["one", "a", "two", "b"], ["one", "a", "other", "b"]], "replies_mixed_up"),
        ([["one", "d", "two", "b"]] * 2, "replies_mixed_up"),
        ([["one", "a"]] * 2, "replies_lost"),  # as it was before: the page says why
        ([], "replies_lost"),
        ([["one", "a", "two"]] * 2, "replies_lost"),
    ],
)
def test_an_hour_s_visitors_tell_a_lost_reply_from_a_foreign_one(boxes, outcome):
    known = {(column, "one", "a", "two"): "b" for column in (0, 1)}
    assert an_hour.judge("two", [["one", "a"]] * 2, boxes, known) == outcome


def test_memory_is_told_at_the_start_in_the_middle_and_at_the_end():
    memory = [{"page": size * 10**6} for size in range(100)]
    assert an_hour.course(memory)["page"] == {"start": 14.5, "middle": 54.5, "end": 94.5, "most": 99.0}


@pytest.mark.slow
def test_twenty_visitors_at_once_each_get_their_own_reply(tmp_path, monkeypatch):
    monkeypatch.setenv("SOULSMITH_HOME", str(tmp_path / "дом гостей"))
    monkeypatch.setenv("HF_TOKEN", "hf_planted_in_the_environment")
    run_id = share_probe.make_run(tmp_path / "дом гостей")
    opened = links.open_chat(run_id, "own", Limits(visitors=50, reply_tokens=6), "en")
    result = share_probe.crowd(opened.port, opened.share.password, visitors=20, messages=60)
    links.end()
    assert result.pop("visitors_told_their_place") >= 10
    assert result == {
        "visitors_served": 20,
        "messages": 60,
        "replies_mixed_up": 0,
        "memory_growth_mb": result["memory_growth_mb"],
    }
    export.make(run_id, "capsule", tmp_path / "capsule.zip", lambda *_, **__: None)
    with zipfile.ZipFile(tmp_path / "capsule.zip") as archive:
        archive.extractall(tmp_path / "дом гостей" / "capsule")
    assert share_probe.planted(tmp_path / "дом гостей") == 0


def test_silent_connections_keep_nobody_out(served):
    share, port = served
    assert share_probe.idle_connections(port, share.password, 600) == 600


def test_half_sent_bodies_keep_nobody_out(served):
    share, port = served
    assert share_probe.idle_connections(port, share.password, 450, share_probe.HALF_SENT) == 450


@pytest.mark.slow
def test_a_connection_that_asks_nothing_is_closed(monkeypatch):
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.2)
    share = Share(echo)
    server, port = sharing_process.serve(share, "echo", "127.0.0.1", None)
    for sent in (b"", b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: "):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as silent:
            silent.sendall(sent)
            assert silent.recv(100) == b""
    assert httpx.get(f"http://127.0.0.1:{port}/").status_code == 401
    share.end()
    server.should_exit = True


@pytest.mark.slow
def test_a_password_that_comes_too_slowly_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(walls, "BODY_SECONDS", 0.2)
    share = Share(echo)
    server, port = sharing_process.serve(share, "echo", "127.0.0.1", None)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as slow:
        slow.sendall(b"POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\npassword=")
        assert slow.recv(100).startswith(b"HTTP/1.1 408 ")
    share.end()
    server.should_exit = True


@pytest.mark.slow
def test_the_right_password_opens_in_the_middle_of_guessing_and_one_visitor_stays_one(served):
    share, port = served
    assert share_probe.lockouts(port, share.password, 70) == 0
    assert share_probe.minted_by_one(port, share) == 1


def test_the_probe_counts_no_visitor_of_before_though_a_share_tells_its_figures_late(served):
    share, port = served
    told, late = [share.state()], share_probe.Guest(port, share.password)

    class Late:
        """Tells at each question how it stood at the question before."""

        password = share.password

        def state(self):
            told.append(share.state())
            return told[-2]

    assert share_probe.minted_by_one(port, Late()) == 1
    assert late.client.get("/").status_code == 200


def test_a_visitor_who_is_gone_makes_way_and_what_they_used_stays_counted(monkeypatch):
    share = Share(echo, Limits(visitors=1, messages_in_all=2))
    first = guest(share)
    assert waited(share.ask(first, asks("one two"))).done
    with raises("TooManyVisitors"):
        share.log_in(share.password, "here")
    first.seen -= sharing.LAPSE_SECONDS + 1
    second = guest(share)
    assert (list(share.visitors), share.messages, share.tokens) == ([second.token], 1, 4)
    assert waited(share.ask(second, asks("one"))).done
    with raises("ShareLimit"):
        share.ask(second, asks("one"))
    share.end()


@pytest.mark.parametrize(
    ("tunnelled", "caller", "expected"),
    [
        (True, "127.0.0.1", "203.0.113.9"),  # the last one, which the tunnel itself has put there
        (True, "192.0.2.7", "192.0.2.7"),
        (False, "127.0.0.1", "127.0.0.1"),
        (False, "192.0.2.7", "192.0.2.7"),
    ],
)
def test_only_a_tunnel_on_this_machine_says_where_a_visitor_comes_from(tunnelled, caller, expected):
    headers = [(b"x-forwarded-for", b"198.51.100.1, 203.0.113.9")]
    request = Request({"type": "http", "headers": headers, "client": (caller, 5)})
    assert sharing_gate.address_of(request, tunnelled) == expected


def test_a_share_goes_on_where_the_process_before_it_stopped():
    before = Share(echo, Limits(messages=2, messages_in_all=3, visitors=1))
    first = guest(before)
    assert waited(before.ask(first, asks("one two"))).done
    state = json.loads(json.dumps(before.state()))
    before.end()
    share = Share(echo, before.limits, state)
    assert (share.password, share.ends, share.state()) == (before.password, before.ends, state)
    again = share.visitor(first.token)
    assert waited(share.ask(again, asks("one"))).done
    with raises("VisitorLimit"):
        share.ask(again, asks("one"))
    share.end()


@pytest.mark.slow
def test_a_share_is_served_by_a_process_that_is_started_again_and_ends_with_the_page(home):
    home.mkdir()
    share = links.DistantShare({"run_id": "none", "title": "a", "host": "127.0.0.1", "lang": "en"}, Limits())
    opened = links.Opened(share, share.port(), "own")
    try:
        assert share_probe.minted_by_one(opened.port, share) == 1
        assert share_probe.restarted(opened) == 1
        assert (share.restarts, share.figures()["visitors"]) == (1, 4)  # two that are counted with
    finally:
        share.end()
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://127.0.0.1:{opened.port}/")
    assert share.ended


def test_without_a_model_to_talk_to_no_link_can_be_opened(home):
    from ui import sharing as tab

    *_, start, stop = tab.on_load(Say("en"), None)
    assert (start.interactive, stop.interactive) == (False, False)


@pytest.mark.slow
def test_a_share_that_does_not_start_says_so(home):
    home.mkdir()
    share = links.DistantShare({"run_id": "none", "title": "a", "host": "no such host", "lang": "en"}, Limits())
    with raises("ShareDidNotStart", match="did not start"):
        share.port()
    assert share.ended


def test_one_address_does_not_take_all_connections(monkeypatch):
    monkeypatch.setattr(connections, "MOST_OF_ONE", 3)
    monkeypatch.setattr(connections, "OWN", ())
    share = Share(echo)
    server, port = sharing_process.serve(share, "echo", "127.0.0.1", None)
    silent = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(6)]
    assert [one.recv(10) for one in silent[:3]] == [b""] * 3
    for one in silent:
        one.close()
    share.end()
    server.should_exit = True
