"""Replies to the person's own prompts at every evaluation, so that a checkpoint can be chosen by reading them."""

from core import files, paths
from core.training.encoding import prompt_ids

MOST_PROMPTS = 8
REPLY_TOKENS = 60
FIRST = ("Who are you?", "Tell me about your day in two sentences.", "Кто ты?")  # until a person writes others


def prompts() -> list[str]:
    """The person's prompts."""
    own = [line for line in files.read_json(_file(), list) if isinstance(line, str)]
    return own if _file().exists() and not files.is_damaged(_file()) else list(FIRST)


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
    """Greedy replies to prompts, all in one batch; the model is left in its mode."""
    from core.training.generate import generate  # noqa: PLC0415 - the page opens without torch
    from core.training.model_loading import autocast  # noqa: PLC0415 - the page opens without torch

    rows = [prompt_ids([{"role": "user", "content": prompt}], tokenizer) for prompt in prompts]
    with autocast(model):
        replies = generate(model, tokenizer, rows, max_new_tokens) if rows else []
    return tokenizer.batch_decode([ids for ids, _ in replies], skip_special_tokens=True)


def _file():
    return paths.home() / "prompts.json"
