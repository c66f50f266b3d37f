"""Chats between people: which speaker the model learns, consecutive messages merged into turns, conversations split at long pauses."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from core.corpus.sources import Bad, Record

SILENCE = 6 * 3600  # seconds without a message that end a conversation


class Said(NamedTuple):
    """A message of a messenger: a text of somebody, or a code of why it has none."""

    who: str  # what tells the speaker: a number, or the name
    name: str
    text: str
    at: float | None = None  # seconds
    dropped: str = ""  # media_dropped or service_dropped, instead of a text
    bot: bool = False  # nobody is taken for the assistant unasked who is a program


def chats(
    messages: Iterable[Said], learn_as: str, *, exporter: str | None = None, first: int = 1, other_than: str = ""
) -> Iterator[Record | Bad]:
    """The conversations of one chat; the assistant is who is called `learn_as`.

    Without a name it is whoever exported the chat, where the export tells that; else the most talkative one who is not
    the chat's namesake (`other_than`).
    """
    everything = list(messages)
    said = [message for message in everything if not message.dropped]
    dropped = tuple(message.dropped for message in everything if message.dropped)
    if not said:
        yield Bad(f"#{first}", "empty_chat")
        return
    me = _speaker(said, learn_as, exporter, other_than)
    if len({one.who for one in said if not one.bot}) > 1:  # what programs announce is no part of what people say
        announced = [one for one in said if one.bot and one.who != me]
        said = [one for one in said if not one.bot or one.who == me]
        dropped += ("service_dropped",) * len(announced)
    for number, session in enumerate(_sessions(said), first):
        turns = _turns(session, me)
        yield Record(f"#{number}", {"messages": turns} | _learned(said, me), dropped if number == first else ())


def _speaker(said: list[Said], learn_as: str, exporter: str | None, other_than: str) -> str | None:
    if learn_as:
        wanted = learn_as.strip().lower()
        return next((one.who for one in said if wanted in (one.name.lower(), one.who.lower())), None)
    if exporter is not None:
        return exporter
    count = Counter(one.who for one in said if not one.bot and (not other_than or one.name != other_than))
    return max(reversed(count), key=count.get, default=None)  # of equals the one who spoke later: they reply


def _learned(said: list[Said], me: str | None) -> dict:
    name = next((one.name for one in said if one.who == me), "")
    return {"learn_as": name} if name else {}


def _sessions(said: list[Said]) -> Iterator[list[Said]]:
    session: list[Said] = []
    before = None
    for message in said:
        if session and message.at is not None and before is not None and message.at - before > SILENCE:
            yield session
            session = []
        session.append(message)
        before = message.at if message.at is not None else before
    yield session


def _turns(session: list[Said], me: str | None) -> list[dict]:
    turns: list[dict] = []
    for message in session:
        role = "assistant" if message.who == me else "user"
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += "\n" + message.text
        else:
            turns.append({"role": role, "content": message.text, "name": message.name})
    return turns
