"""Chat with anything that can speak here: bases, adapters, checkpoints, profiles, merged models, side by side.

`talk` asks the chat's own process, which holds the weights (core.chat.process); `replies` speaks in this very process.
Run it: `python -m core.chat --run RUN --prompt "Who are you?" --ab --json`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from core.trouble import Trouble

BASE, TUNED = "base", "tuned"


class NoAdapter(Trouble):
    template = 'The run "{name}" has no adapter yet. Wait for its first checkpoint, or choose another run.'


class ContestantGone(Trouble):
    template = "{contestant} is gone: it was deleted. Choose another one from the list."


class BaseGone(Trouble):
    template = "The base model {model} is gone, and {name} speaks through it: {reason}"


class AdapterForeign(Trouble):
    template = (
        "The adapter {adapter} does not fit {model}: {matched} of {tensors} tensors matched. Choose its own base."
    )


class VocabularyResized(Trouble):
    template = (
        "The adapter {adapter} was trained with a vocabulary of {rows} tokens and {model} has {vocabulary}. "
        "Choose the base that it was trained on."
    )


class PromptTooLong(Trouble):
    template = (
        "The conversation has {tokens} tokens and the model reads {limit}. Shorten it, or begin a new conversation."
    )


class NoRoom(Trouble):
    template = "{model} needs about {need} GiB and {free} GiB are free. Choose fewer models, or close other programs."


class MemoryRanOut(Trouble):
    template = "Memory ran out while {model} replied. Shorten the conversation, or choose fewer columns."


class NotNumbers(Trouble):
    template = (
        "{model} produces NaN or infinity in {precision}. Let the reply come from the CPU, where larger numbers fit; "
        "if that does not help, its training went wrong: choose an earlier checkpoint."
    )


class ChatClosed(Trouble):
    template = "The chat gave the memory back to a run that starts. Send again when it is over, or reply on the CPU."


class ChatDied(Trouble):
    template = "The process that holds the model ended: {reason}. Send again: it will be started anew."


@dataclass(frozen=True)
class Sampling:
    """How a reply is drawn; all columns use the same."""

    temperature: float = 0.7  # 0: always the likeliest token
    top_p: float = 0.9  # of the likeliest tokens that make up this share
    top_k: int = 50
    repetition_penalty: float = 1.1
    max_new_tokens: int = 200
    seed: int = 7


@dataclass
class Reply:
    """One column while it grows."""

    text: str = ""  # as it was said, thinking included
    tokens: int = 0
    tokens_per_second: float = 0.0
    finish_reason: str = ""  # stop: the model ended it; length: max_new_tokens; context: no room; empty: growing
    prompt_tokens: int = 0
    context: int = 0  # tokens that the model reads at most; 0: it sets no limit
    seconds_to_first: float = 0.0


@dataclass(frozen=True)
class Question:
    """What one column is asked: who speaks, and what was said."""

    contestant: str  # an id of core.chat.contestants
    messages: list[dict]


def replies(run_id: str, conversations: dict[str, list[dict]], sampling: Sampling | None = None) -> Iterator[dict]:
    """Grow the replies of a run and of its base in this process; `conversations` maps "base" or "tuned" to messages."""
    from core import runs
    from core.chat import engine

    who = {BASE: f"base:{runs.config(run_id).base_model}", TUNED: f"run:{run_id}"}
    asked = {name: Question(who[name], messages) for name, messages in conversations.items()}
    yield from engine.replies(asked, sampling or Sampling(), loaded_as=f"run:{run_id}")


def talk(questions: dict[str, Question], sampling: Sampling, *, on_cpu: bool = False) -> Iterator[dict[str, Reply]]:
    """Grow the replies in the chat's own process, which is started when needed."""
    from core.chat import process

    yield from process.talk(questions, sampling, on_cpu=on_cpu)


def is_open() -> bool:
    """Whether the chat's process holds a model."""
    from core.chat import process

    return process.is_open()


def close() -> bool:
    """Ask the chat's process to give its memory back, ending replies that grow; whether there was one."""
    from core.chat import process

    return process.close()
