"""The film strip: a person's own prompts, replied to at every evaluation, so that a checkpoint can be chosen by reading."""

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
    """Save the person's prompts, without doubles and empty lines, and return what is kept."""
    kept = list(dict.fromkeys(line.strip() for line in lines if line.strip()))[:MOST_PROMPTS]
    _file().parent.mkdir(parents=True, exist_ok=True)
    files.write_json(_file(), kept)
    return kept


def shoot(model, tokenizer) -> list[dict]:
    """[{"prompt", "reply"}]: each prompt replied to without chance."""
    asked = prompts()
    said = reply(model, tokenizer, asked, REPLY_TOKENS)
    return [{"prompt": prompt, "reply": text} for prompt, text in zip(asked, said, strict=True)]


def reply(model, tokenizer, asked: list[str], most_tokens: int) -> list[str]:
    """Greedy replies to prompts, all in one batch; the model is left as it was found."""
    import torch  # noqa: PLC0415 - the page opens without torch

    from core.training.model_loading import autocast  # noqa: PLC0415 - the page opens without torch

    if not asked:
        return []
    rows = [prompt_ids([{"role": "user", "content": prompt}], tokenizer) for prompt in asked]
    longest = max(map(len, rows))
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows], device=model.device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=model.device)
    stops = stop_ids(model, tokenizer)
    with as_it_was(model), torch.inference_mode(), autocast(model):
        made = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=most_tokens,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            use_cache=True,
            eos_token_id=stops or None,
            pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(stops, default=0),
        )
    return tokenizer.batch_decode(made[:, longest:], skip_special_tokens=True)


@contextmanager
def as_it_was(model):
    """Evaluation mode and the stock forward pass for a while: generation reads what a forward pass accepts."""
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
