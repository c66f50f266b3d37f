"""The forgetting meter: how likely the model still finds answers that it knew before, from assets/forgetting.json.

The score is the mean log-probability of the right answers, in nats a token, over facts, sums and simple instructions
in English and Russian. A score that falls by ln 2 means that each token of a right answer has become half as likely:
there runs the red line. Beside it stands the share of letters in Russian replies that are not Cyrillic.
"""

import json
import math
from functools import cache

from core import paths
from core.runs.eval_samples import as_it_was, reply
from core.training.encoding import prompt_ids

RED_LINE = math.log(2)  # nats a token below the base
BATCH = 4  # of a large vocabulary the logits of more would be felt on a full card
REPLY_TOKENS = 40


@cache
def questions() -> dict:
    """{"items": prompts with their answers, "russian": prompts that are answered freely}."""
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


def foreign_share(replies: list[str]) -> float | None:
    """The share of letters that are not Cyrillic, or None where there are no letters at all."""
    letters = [letter for text in replies for letter in text if letter.isalpha()]
    if not letters:
        return None
    return round(sum(not "\u0400" <= letter <= "\u04ff" for letter in letters) / len(letters), 4)


def _scores(model, tokenizer, items: list[dict]) -> list[float]:
    """The mean log-probability of each item's answer, in nats a token."""
    import torch  # noqa: PLC0415 - the page opens without torch

    from core.training.model_loading import autocast  # noqa: PLC0415 - the page opens without torch

    rows = []
    for item in items:
        asked = prompt_ids([{"role": "user", "content": item["prompt"]}], tokenizer)
        rows.append((asked, tokenizer(item["answer"], add_special_tokens=False)["input_ids"]))
    scores = []
    with as_it_was(model), torch.inference_mode(), autocast(model):
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            longest = max(len(asked) + len(answer) for asked, answer in batch)
            ids = [asked + answer + [0] * (longest - len(asked) - len(answer)) for asked, answer in batch]
            mask = [[1] * (len(asked) + len(answer)) for asked, answer in batch]
            mask = [row + [0] * (longest - len(row)) for row in mask]
            given = {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}
            logits = model(**{name: value.to(model.device) for name, value in given.items()}, use_cache=False).logits
            for row, (asked, answer) in enumerate(batch):
                at = slice(len(asked) - 1, len(asked) + len(answer) - 1)
                likely = torch.log_softmax(logits[row, at].float(), -1)  # (T, V)
                wanted = torch.tensor(answer, device=likely.device)[:, None]
                scores.append(float(likely.gather(1, wanted).mean()))
    return scores
