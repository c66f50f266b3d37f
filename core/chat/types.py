"""Questions to chat models, their replies, and what can go wrong."""

from dataclasses import dataclass, field

from core.errors import UserError

BASE, TUNED = "base", "tuned"


class NoAdapter(UserError):
    template = 'The run "{name}" has no adapter yet. Wait for its first checkpoint, or choose another run.'


@dataclass(frozen=True)
class Sampling:
    """How a reply is sampled; all columns use the same."""

    temperature: float = 0.7  # 0: always the likeliest token
    top_p: float = 0.9  # of the likeliest tokens that make up this share
    top_k: int = 50
    repetition_penalty: float = 1.1
    max_new_tokens: int = 200
    seed: int = 7


@dataclass
class Reply:
    """One column, complete or in progress."""

    text: str = ""  # as the model wrote it, thinking included
    tokens: int = 0
    tokens_per_second: float = 0.0
    finish_reason: str = ""  # stop: the model ended it; length: max_new_tokens; context: no room; empty: in progress
    prompt_tokens: int = 0
    context: int = 0  # tokens that the model reads at most; 0: it sets no limit
    seconds_to_first: float = 0.0
    logprobs: list[dict] = field(default_factory=list)  # of each token, where they are asked for


@dataclass(frozen=True)
class Question:
    """What one column is asked: the model and the conversation so far."""

    model_id: str  # of core.chat.chat_models
    messages: list[dict]
    stop: tuple[str, ...] = ()  # the reply ends before the first of these
    logprobs: int | None = None  # how many of the likeliest tokens stand beside each token; None: nothing is noted
