"""Chat with anything that can speak here: bases, adapters, checkpoints, profiles, merged models, side by side.

`talk` asks the chat's own process, which holds the weights (core.chat.process); `replies` speaks in this very process.
Run it: `python -m core.chat --run RUN --prompt "Who are you?" --ab --json`.
"""

from collections.abc import Iterator

from core.chat import process
from core.chat.types import BASE, TUNED, Question, Reply, Sampling
from core.runs import runs


def replies(run_id: str, conversations: dict[str, list[dict]], sampling: Sampling | None = None) -> Iterator[dict]:
    """Grow the replies of a run and of its base in this process; `conversations` maps "base" or "tuned" to messages."""
    from core.chat import generation

    who = {BASE: f"base:{runs.config(run_id).base_model}", TUNED: f"run:{run_id}"}
    asked = {name: Question(who[name], messages) for name, messages in conversations.items()}
    yield from generation.replies(asked, sampling or Sampling(), loaded_as=f"run:{run_id}")


def talk(questions: dict[str, Question], sampling: Sampling, *, on_cpu: bool = False) -> Iterator[dict[str, Reply]]:
    """Grow the replies in the chat's own process, which is started when needed."""
    yield from process.talk(questions, sampling, on_cpu=on_cpu)


def is_open() -> bool:
    """Whether the chat's process holds a model."""
    return process.is_open()


def close() -> bool:
    """Ask the chat's process to give its memory back, ending replies that grow; whether there was one."""
    return process.close()
