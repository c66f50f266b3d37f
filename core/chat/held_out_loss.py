"""The held-out loss of one that can speak, over the rows that its run held out, adapters switched as in a chat."""

import torch

from core.chat import engine, profiles
from core.chat.chat_models import Contestant
from core.chat.types import ChatClosed
from core.training import batching, encoding

BATCH = 4


def held_out(contestant: str, rows: list[dict]) -> dict:
    """{"loss", "rows"}: mean cross-entropy in nats a learned token over chats or texts.

    Raises:
        ChatClosed: when a run that starts wants the memory.
    """
    with engine.LOCK:
        try:
            return _held_out(contestant, rows)
        except Exception as error:
            engine.ran_out(error, contestant)
            raise


def _held_out(contestant: str, rows: list[dict]) -> dict:
    voice = engine.voiced({"measured": contestant})["measured"]
    weights = voice.weights
    limit = getattr(weights.inner.config.get_text_config(), "max_position_embeddings", None) or 4096
    encoded = [_cut(encoding.encode(_said(voice.contestant, row), weights.tokenizer), min(limit, 2048)) for row in rows]
    encoded = [row for row in encoded if any(label != encoding.IGNORED for label in row["labels"][1:])]
    if not encoded:
        return {"loss": None, "rows": 0}
    engine.speak_as(voice)
    try:
        with torch.inference_mode():
            loss = batching.held_out_loss(weights.inner, encoded, BATCH, engine.CLOSING.is_set)
    finally:
        engine.silence(weights)
    if loss is None:
        raise ChatClosed
    return {"loss": loss, "rows": len(encoded)}


def _said(one: Contestant, row: dict) -> dict:
    """A row as the contestant reads it: a profile's words come before it, and only the row's own replies are learned."""
    if not one.profile or "messages" not in row:
        return row
    system = profiles.messages(profiles.Profile("x", system_prompt=one.profile.system_prompt or "-"), [])
    own = row["messages"][1:] if row["messages"][0]["role"] == "system" else row["messages"]
    return {**row, "messages": [*(system if one.profile.system_prompt else []), *own]}


def _cut(encoded: dict, length: int) -> dict:
    return {key: encoded[key][:length] for key in ("input_ids", "labels")}
