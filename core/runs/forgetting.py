"""The forgetting meter: log-probabilities of answers that the base model knows, from assets/forgetting.json.

The score is the mean log-probability of the right answers, in nats a token, over facts, sums and simple instructions
in English and Russian. A score that falls by ln 2, the red line, means that each token of a right answer has become half
as likely. Beside it is the share of letters in Russian replies that are not Cyrillic.
"""

import json
import math
from functools import cache

from core import paths
from core.runs.eval_samples import reply
from core.training.encoding import prompt_ids

RED_LINE = math.log(2)  # nats a token below the base
BATCH = 4  # rows: with a large vocabulary the logits of more would not fit on a full card
REPLY_TOKENS = 40
DRIFT = 0.1  # more letters of a foreign script in Russian replies than the base writes


@cache
def questions() -> dict:
    """{"items": [{"prompt", "answer", "lang", "kind"}], "russian": prompts that are replied to freely}."""
    return json.loads((paths.assets() / "forgetting.json").read_text(encoding="utf-8"))


def measure(model, tokenizer) -> dict:
    """{"score", "parts": the score by language and by kind, "foreign": share of letters that are not Cyrillic}."""
    items = questions()["items"]
    scores = _scores(model, tokenizer, items)
    parts = {}
    for name in ("lang", "kind"):
        for value in dict.fromkeys(item[name] for item in items):
            chosen = [score for item, score in zip(items, scores, strict=True) if item[name] == value]
            parts[value] = round(sum(chosen) / len(chosen), 4)
    replies = reply(model, tokenizer, questions()["russian"], REPLY_TOKENS)
    return {"score": round(sum(scores) / len(scores), 4), "parts": parts, "foreign": foreign_share(replies)}


def since_base(base: dict | None, scores: list[dict]) -> list[dict]:
    """Readings, {"step", "score", "foreign_share"}; of a run that goes on with that of the base before them, where it is known.

    `base` is {"score", "foreign"}. What is forgotten adds up over the runs that go on from one another.
    """
    first = [{"step": 0, "score": base["score"], "foreign_share": base["foreign"]}] if base and scores else []
    return [*first, *scores]


def pair(scores: list[dict], step: int, name: str) -> tuple[float, float] | None:
    """The first reading, which is one before training, and the last one that is not after a step."""
    values = [row[name] for row in scores if row["step"] <= step and row[name] is not None]
    return (values[0], values[-1]) if len(values) > 1 and scores[0]["step"] == 0 else None


def change(scores: list[dict], step: int, name: str) -> float | None:
    """How much a reading changed up to the last one that is not after a step."""
    found = pair(scores, step, name)
    return found and found[1] - found[0]


def is_sound(scores: list[dict], step: int) -> bool:
    """Whether the weights of a step lie above the red line and have drifted little, as far as was measured."""
    forgot, drift = change(scores, step, "score"), change(scores, step, "foreign_share")
    return (forgot is None or forgot > -RED_LINE) and (drift is None or drift < DRIFT)


def foreign_share(replies: list[str]) -> float | None:
    """The share of letters that are not Cyrillic, or None where there are no letters at all."""
    letters = [letter for text in replies for letter in text if letter.isalpha()]
    if not letters:
        return None
    return round(sum(not "\u0400" <= letter <= "\u04ff" for letter in letters) / len(letters), 4)


def _scores(model, tokenizer, items: list[dict]) -> list[float]:
    """The mean log-probability of each item's answer, in nats a token."""
    import torch  # noqa: PLC0415 - the page opens without torch

    from core.training.generate import evaluating  # noqa: PLC0415 - the page opens without torch
    from core.training.model_loading import autocast  # noqa: PLC0415 - the page opens without torch

    rows = []
    for item in items:
        prompt = prompt_ids([{"role": "user", "content": item["prompt"]}], tokenizer)
        rows.append((prompt, tokenizer(item["answer"], add_special_tokens=False)["input_ids"]))
    scores = []
    with evaluating(model), torch.inference_mode(), autocast(model):
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            lengths = [len(prompt) + len(answer) for prompt, answer in batch]
            padding = [max(lengths) - length for length in lengths]
            ids = [prompt + answer + [0] * pad for (prompt, answer), pad in zip(batch, padding, strict=True)]
            mask = [[1] * length + [0] * pad for length, pad in zip(lengths, padding, strict=True)]
            ids, mask = torch.tensor(ids, device=model.device), torch.tensor(mask, device=model.device)  # (B, T)
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits  # (B, T, V)
            for row, (prompt, answer) in enumerate(batch):
                at = slice(len(prompt) - 1, len(prompt) + len(answer) - 1)
                log_probabilities = torch.log_softmax(logits[row, at].float(), -1)  # (T of the answer, V)
                targets = torch.tensor(answer, device=model.device)[:, None]
                scores.append(float(log_probabilities.gather(1, targets).mean()))
    return scores
