"""A share: its password, visitors and limits, and the queue of their messages.

Nothing here knows of pages or networks: core/sharing/gate.py stands before the page and asks this.
"""

import hmac
import secrets
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field

from core import errors
from core.errors import UserError

ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"  # 31 characters that nobody confuses: no 0 and o, no 1, l and i
GROUPS, GROUP = 3, 4  # 59 bits
TRIES_OF_ONE, TRIES_OF_ALL = 5, 60  # wrong passwords a minute that are told so, from one address and in all
MINUTE = 60.0
PRESENT_SECONDS = 300.0  # a visitor heard of within these counts as present
LAPSE_SECONDS = 600.0  # a visitor not heard of for so long makes way for a new one where there is no room
LAPSE_SECONDS_OF_SILENT = 30.0  # the same of one who has never sent a message
MOST_SESSIONS = 50  # pages of one visitor
OWN = ("", "127.0.0.1", "::1")  # this machine's addresses, from which tunnels call for everybody
KEPT_MESSAGES = 20  # messages of a conversation that a reply still sees

Answer = Callable[[dict[str, list[dict]], int], Iterator[dict]]  # conversations, most tokens -> columns, token by token


class ShareEnded(UserError):
    template = "This link has ended. Ask for a new one."


class TooManyTries(UserError):
    template = "Too many wrong passwords. Try again in {seconds} s."


@dataclass(frozen=True)
class Limits:
    """What a link gives out before it ends by itself."""

    hours: float = 2.0
    visitors: int = 50
    messages: int = 100  # of one visitor
    tokens: int = 40_000  # written for one visitor, both columns together
    messages_in_all: int = 2_000
    tokens_in_all: int = 800_000
    reply_tokens: int = 256  # of one column
    letters: int = 4_000  # of one message


@dataclass
class Visitor:
    """A visitor who has logged in with the password."""

    token: str
    seen: float
    address: str = ""
    messages: int = 0
    tokens: int = 0
    sessions: deque[str] = field(default_factory=lambda: deque(maxlen=MOST_SESSIONS))  # pages of theirs alone


@dataclass(eq=False)
class Turn:
    """One message and its reply."""

    visitor: Visitor
    conversations: dict[str, list[dict]]
    columns: dict = field(default_factory=dict)  # the replies so far
    error: Exception | None = None
    done: bool = False
    stopped: threading.Event = field(default_factory=threading.Event)  # set: it ends where it is, or never begins


def new_password() -> str:
    return "-".join("".join(secrets.choice(ALPHABET) for _ in range(GROUP)) for _ in range(GROUPS))


class Share:
    """An open link: the password, the visitors, the counts, the queue.

    `state` is that of the same link in a process before this one; see state().
    """

    def __init__(self, answer: Answer | None, limits: Limits | None = None, state: dict | None = None):
        self.limits, known = limits or Limits(), state or {}
        self.password = known.get("password") or new_password()
        self.ends = known.get("ends") or time.time() + self.limits.hours * 3600
        self.visitors: dict[str, Visitor] = {
            one["token"]: Visitor(**one | {"sessions": deque(one["sessions"], MOST_SESSIONS)})
            for one in known.get("visitors", ())
        }
        self._messages_of_lapsed, self._tokens_of_lapsed = known.get("lapsed", (0, 0))
        self._answer, self._ended, self._lock = answer, threading.Event(), threading.Lock()
        self._tries: dict[str, deque[float]] = {}
        self._queue: deque[Turn] = deque()
        self._arrived = threading.Condition(self._lock)
        if answer:
            threading.Thread(target=self._serve, name="share", daemon=True).start()

    @property
    def ended(self) -> bool:
        return self._ended.is_set() or time.time() >= self.ends

    def end(self) -> None:
        """Close the link: no more logins and replies."""
        self._ended.set()
        with self._lock:
            for turn in self._queue:
                turn.stopped.set()
            self._arrived.notify_all()

    def log_in(self, password: str, address: str, known: str | None = None) -> str:
        """Check the password and return the token of a visitor: of a new one, or the one that is `known` already.

        The right password opens whatever was tried before: nobody can shut the others out by guessing, and 59 bits are
        not guessed in the hours that a link lives.

        Raises:
            ShareEnded, TooManyTries, WrongPassword, TooManyVisitors.
        """
        if self.ended:
            raise ShareEnded()
        with self._lock:
            if not hmac.compare_digest(_plain(password), _plain(self.password)):
                self._check_tries(address)
                for key in (address, ""):
                    self._tries.setdefault(key, deque()).append(time.monotonic())
                raise errors.named("WrongPassword")
            if known in self.visitors:
                self.visitors[known].seen = time.time()
                return known
            if len(self.visitors) >= self.limits.visitors:
                self._let_lapse(address)
            if len(self.visitors) >= self.limits.visitors:
                raise errors.named("TooManyVisitors", most=self.limits.visitors)
            token = secrets.token_urlsafe(24)
            self.visitors[token] = Visitor(token, time.time(), address)
            return token

    def visitor(self, token: str | None) -> Visitor | None:
        """The visitor of a token, while the link is open."""
        visitor = None if self.ended or not token else self.visitors.get(token)
        if visitor:
            visitor.seen = time.time()
        return visitor

    def ask(self, visitor: Visitor, conversations: dict[str, list[dict]]) -> Turn:
        """Queue a message; the last message of each conversation is the visitor's.

        Raises:
            ShareEnded, OneAtATime, MessageTooLong, VisitorLimit, ShareLimit.
        """
        limits = self.limits
        letters = max(len(messages[-1]["content"]) for messages in conversations.values())
        if letters > limits.letters:
            raise errors.named("MessageTooLong", letters=letters, most=limits.letters)
        with self._lock:
            if self.ended:
                raise ShareEnded()
            if any(turn.visitor is visitor for turn in self._queue):
                raise errors.named("OneAtATime")
            if visitor.messages >= limits.messages or visitor.tokens >= limits.tokens:
                raise errors.named("VisitorLimit", messages=limits.messages, tokens=limits.tokens)
            if self.messages >= limits.messages_in_all or self.tokens >= limits.tokens_in_all:
                raise errors.named("ShareLimit", messages=limits.messages_in_all, tokens=limits.tokens_in_all)
            visitor.messages += 1
            turn = Turn(visitor, {name: recent(messages) for name, messages in conversations.items()})
            self._queue.append(turn)
            self._arrived.notify()
            return turn

    def position(self, turn: Turn) -> int:
        """How many messages are answered before this one; 0: it is being answered."""
        with self._lock:
            return self._queue.index(turn) if turn in self._queue else 0

    @property
    def messages(self) -> int:
        return self._messages_of_lapsed + sum(visitor.messages for visitor in list(self.visitors.values()))

    @property
    def tokens(self) -> int:
        return self._tokens_of_lapsed + sum(visitor.tokens for visitor in list(self.visitors.values()))

    def state(self) -> dict:
        """Password, end, visitors and what was used, as plain values: what a process needs to go on with this link."""
        with self._lock:
            visitors = [vars(visitor) | {"sessions": list(visitor.sessions)} for visitor in self.visitors.values()]
            lapsed = [self._messages_of_lapsed, self._tokens_of_lapsed]
        return {"password": self.password, "ends": self.ends, "visitors": visitors, "lapsed": lapsed}

    def figures(self) -> dict:
        """What the owner of the link sees of it."""
        visitors = list(self.visitors.values())  # another thread lets them in
        present = sum(time.time() - visitor.seen < PRESENT_SECONDS for visitor in visitors)
        return {
            "visitors": len(visitors),
            "present": present,
            "waiting": len(self._queue),
            "messages": self.messages,
            "tokens": self.tokens,
            "seconds_left": max(0.0, self.ends - time.time()),
        }

    def _let_lapse(self, address: str) -> None:
        """Forget a visitor for one from this address; what was used stays counted.

        It is one who was not heard of for long enough, or of an address that has more than half of the places.
        """
        of_address = Counter(one.address for one in self.visitors.values() if one.address not in OWN)
        waiting, most = [turn.visitor for turn in self._queue], max(self.limits.visitors // 2, of_address[address] + 1)

        def may_go(visitor: Visitor) -> bool:
            if of_address[visitor.address] > most:
                return True
            lapse = LAPSE_SECONDS if visitor.messages else LAPSE_SECONDS_OF_SILENT
            return time.time() - visitor.seen > lapse

        idle = [visitor for visitor in self.visitors.values() if visitor not in waiting and may_go(visitor)]
        if idle:
            gone = self.visitors.pop(min(idle, key=lambda visitor: (visitor.messages > 0, visitor.seen)).token)
            self._messages_of_lapsed += gone.messages
            self._tokens_of_lapsed += gone.tokens

    def _check_tries(self, address: str) -> None:
        """Raise TooManyTries while too many wrong passwords of the last minute came from here, or from anywhere."""
        now = time.monotonic()
        for key in list(self._tries):
            tries = self._tries[key]
            while tries and now - tries[0] > MINUTE:
                tries.popleft()
            if not tries:
                del self._tries[key]
        for key, most in ((address, TRIES_OF_ONE), ("", TRIES_OF_ALL)):
            if len(tries := self._tries.get(key, ())) >= most:
                raise TooManyTries(seconds=round(MINUTE - (now - tries[-most])) or 1)

    def _serve(self) -> None:
        """Answer the turns in the order they came; a visitor has one in the queue at most."""
        while True:
            with self._lock:
                while not self._queue and not self.ended:
                    self._arrived.wait(1)
                if self.ended:
                    return
                turn = self._queue[0]
            try:
                self._reply(turn)
            except Exception as error:  # whatever a model raises belongs to this turn, not to the next one
                turn.error = error
            with self._lock:
                turn.done = True
                self._queue.remove(turn)

    def _reply(self, turn: Turn) -> None:
        if turn.stopped.is_set():
            return
        left = min(self.limits.tokens - turn.visitor.tokens, self.limits.tokens_in_all - self.tokens)
        before, most_tokens = turn.visitor.tokens, max(1, min(self.limits.reply_tokens, left // 2))
        with closing(self._answer(turn.conversations, most_tokens)) as replies:
            for turn.columns in replies:
                turn.visitor.tokens = before + sum(reply.tokens for reply in turn.columns.values())
                if turn.stopped.is_set() or self.ended:
                    return


def recent(messages: list[dict]) -> list[dict]:
    """The end of a conversation, beginning with a message of the visitor."""
    end = messages[-KEPT_MESSAGES + 1 :] if len(messages) > KEPT_MESSAGES else messages
    while end and end[0]["role"] != "user":
        end = end[1:]
    return end


def _plain(password: str) -> bytes:
    """A password as it is compared: without case, blanks and hyphens, since it is read off another screen."""
    return "".join(password.lower().split()).replace("-", "").encode()
