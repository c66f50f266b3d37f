"""Replies of a model to batches of prompts: evaluation samples, rows that a model writes, checks of exported files."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager

import torch

from .encoding import stop_ids


def generate(
    model,
    tokenizer,
    prompts: list[list[int]],
    max_new_tokens: int,
    *,
    temperature: float = 0.0,
    top_p: float | None = None,
    look: Callable[[], None] = lambda: None,
) -> list[tuple[list[int], bool]]:
    """[(token ids of a reply, whether it ended by itself)] of prompts of token ids, padded on the left.

    At temperature 0 the likeliest token is taken, whatever the model's generation_config.json prefers. `look` is called
    at every token; what it raises ends the batch. A model with weights in fp32 beside others needs
    model_loading.autocast() around it.
    """
    longest, stops = max(map(len, prompts)), stop_ids(model, tokenizer)
    pads = [longest - len(ids) for ids in prompts]
    sampling = {"do_sample": True, "temperature": temperature, "top_p": top_p}
    greedy = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None, "repetition_penalty": 1.0}

    def criterion(ids, scores, **_) -> bool:
        look()
        return False

    with evaluating(model), torch.inference_mode():
        output = model.generate(
            input_ids=torch.tensor([[0] * pad + ids for pad, ids in zip(pads, prompts, strict=True)]).to(model.device),
            attention_mask=torch.tensor([[0] * pad + [1] * (longest - pad) for pad in pads]).to(model.device),  # (B, T)
            max_new_tokens=max_new_tokens,
            use_cache=True,
            eos_token_id=stops or None,
            pad_token_id=min(stops, default=0),
            stopping_criteria=[criterion],
            **(sampling if temperature > 0 else greedy),
        )
    replies = []
    for new in output[:, longest:].tolist():
        end = next((at for at, id in enumerate(new) if id in stops), None)
        replies.append((new[:end], end is not None))
    return replies


@contextmanager
def evaluating(model):
    """Evaluation mode and the stock forward pass until the block ends: generation inspects the arguments of forward."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    was_training, patched = model.training, base.__dict__.pop("forward", None)
    model.eval()
    try:
        yield
    finally:
        if patched:
            base.forward = patched
        model.train(was_training)
