"""Replies to the person's own prompts at every evaluation, so that a checkpoint can be chosen by reading them."""

import json
from contextlib import contextmanager, suppress

from core import files, paths
from core.training.encoding import prompt_ids, stop_ids

MOST_PROMPTS = 8
REPLY_TOKENS = 60
FIRST = ("Who are you?", "Tell me about your day in two sentences.", "Кто ты?")  # until a person writes others


def prompts() -> list[str]:
    """The person's prompts."""
    with suppress(FileNotFoundError, ValueError):
        return json.loads(_file().read_text(encoding="utf-8"))
    return list(FIRST)


def keep(lines: list[str]) -> list[str]:
    """Save the person's prompts without duplicates and empty lines, the first MOST_PROMPTS, and return them."""
    unique = list(dict.fromkeys(line.strip() for line in lines if line.strip()))[:MOST_PROMPTS]
    _file().parent.mkdir(parents=True, exist_ok=True)
    files.write_json(_file(), unique)
    return unique


def sample(model, tokenizer) -> list[dict]:
    """[{"prompt", "reply"}] of the person's prompts, decoded greedily."""
    lines = prompts()
    replies = reply(model, tokenizer, lines, REPLY_TOKENS)
    return [{"prompt": prompt, "reply": text} for prompt, text in zip(lines, replies, strict=True)]


def reply(model, tokenizer, prompts: list[str], max_new_tokens: int) -> list[str]:
    """Greedy replies to prompts, all in one batch padded on the left; the model is left in its mode."""
    import torch  # noqa: PLC0415 - the page opens without torch

    from core.training.model_loading import autocast  # noqa: PLC0415 - the page opens without torch

    if not prompts:
        return []
    rows = [prompt_ids([{"role": "user", "content": prompt}], tokenizer) for prompt in prompts]
    longest = max(map(len, rows))
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows], device=model.device)  # (B, T)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=model.device)
    stops = stop_ids(model, tokenizer)
    with evaluating(model), torch.inference_mode(), autocast(model):
        generated = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            use_cache=True,
            eos_token_id=stops or None,
            pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(stops, default=0),
        )
    return tokenizer.batch_decode(generated[:, longest:], skip_special_tokens=True)


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


def _file():
    return paths.home() / "prompts.json"
