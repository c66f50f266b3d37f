"""How far a GGUF file is from the model that it was made of: on rows that were held out, and tensor by tensor.

The rows are the run's own, those of its corpus that it did not learn from; where the corpus is gone, the questions of the
forgetting meter. The same for the importance of columns, which is taken from the rows that it did learn from.
"""

from collections import Counter
from contextlib import suppress
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

from core import errors
from core.chat.chat_models import ChatModel
from core.errors import UserError
from core.export import gguf_file, quantizer
from core.runs import forgetting, runs
from core.training import corpus_rows, encoding
from core.training.config import TrainConfig
from core.training.errors import TemplateRefused
from core.training.generate import generate

HELD_OUT_ROWS, LEARNED_ROWS = 16, 64
ROW_TOKENS, REPLY_TOKENS = 256, 24
REFERENCE_BYTES = 2**28  # of log-probabilities in fp32 that are kept to compare with


def rows_of(model: ChatModel, tokenizer) -> tuple[list[dict], list[dict], str]:
    """Rows that a run learned from, rows that it did not, and where they are from: held_out or questions.

    Only rows that something can be measured on are among them.

    Raises:
        NothingToMeasure.
    """

    def usable(rows: list[dict], most: int) -> list[dict]:
        return list(islice((row for row in rows if encoded([row], tokenizer)), most))

    asked = _questions(tokenizer)
    with suppress(UserError, OSError, ValueError):
        rows = list(corpus_rows.read_rows(runs.corpus_path(model.config.corpus)))
        learned, held_out = corpus_rows.split(rows, model.config.validation_share)
        if held_out := usable(held_out, HELD_OUT_ROWS):
            return usable(learned, LEARNED_ROWS) or usable(asked, LEARNED_ROWS), held_out, "held_out"
    if not (asked := usable(asked, len(asked))):
        raise errors.named("NothingToMeasure", model=model.title)
    return asked[HELD_OUT_ROWS:] or asked, asked[:HELD_OUT_ROWS], "questions"


def _questions(tokenizer) -> list[dict]:
    """The questions of the forgetting meter; for a model that knows no chats as texts."""
    items = forgetting.questions()["items"]
    if not tokenizer.chat_template:
        return [{"text": f"{item['prompt']}\n{item['answer']}"} for item in items]
    return [
        {
            "messages": [
                {"role": "user", "content": item["prompt"]},
                {"role": "assistant", "content": item["answer"]},
            ],
        }
        for item in items
    ]


def encoded(rows: list[dict], tokenizer) -> list[dict]:
    """Rows with token ids and labels: of each (of both sides of a pair) the ROW_TOKENS in which most is learned.

    A row in which nothing is learned, or that the chat template refuses, is left out.
    """
    config = TrainConfig(base_model="", corpus="", method="lora", max_length=ROW_TOKENS, packing=True)
    found = []
    for row in rows:
        sides = [row]
        if "chosen" in row:
            turns = [turn | {"weight": 0} if turn["role"] == "assistant" else turn for turn in row["messages"]]
            sides = [{"messages": turns + row[name]} for name in ("chosen", "rejected")]
        for side in sides:
            pieces = encoding.encode_pieces({"id": "", **side}, tokenizer, config, Counter())
            found += [max(pieces, key=_learned)] if pieces else []
    return found


def _learned(piece: dict) -> int:
    return sum(label != encoding.IGNORED for label in piece["labels"][1:])


def importance(model, rows: list[dict]) -> dict[str, np.ndarray]:
    """The mean square of each input column (columns,) of each linear layer over encoded rows, by its weight's name."""
    sums, counts, hooks = {}, {}, []

    def hook(name: str):
        def add(_, inputs) -> None:
            flat = inputs[0].detach().float().reshape(-1, inputs[0].shape[-1])
            sums[name] = sums.get(name, 0) + flat.square().sum(0)
            counts[name] = counts.get(name, 0) + len(flat)

        return add

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            hooks.append(module.register_forward_pre_hook(hook(f"{name}.weight")))
    try:
        with torch.inference_mode():
            for row in rows:
                model(input_ids=torch.tensor([row["input_ids"]]), use_cache=False)
    finally:
        for one in hooks:
            one.remove()
    found = {name: (total / counts[name]).numpy() for name, total in sums.items()}
    if model.config.tie_word_embeddings and "lm_head.weight" in found:  # one matrix in two places
        found["model.embed_tokens.weight"] = found["lm_head.weight"]
    return found


class Reference:
    """What a model says of held-out rows, for its copies to be compared with."""

    def __init__(self, model, tokenizer, rows: list[dict]):
        self.tokenizer, self.rows = tokenizer, encoded(rows, tokenizer)
        most = REFERENCE_BYTES // (4 * model.config.get_text_config().vocab_size) // max(1, len(self.rows))
        self.most = max(1, most)  # positions of a row
        self.prompts = []
        for row in rows:
            with suppress(TemplateRefused):
                self.prompts.append(_prompt(row, tokenizer))
        self.log_probabilities = [self._of(model, row) for row in self.rows]
        self.replies = greedy(model, self.tokenizer, self.prompts)

    def compare(self, model) -> dict:
        """{"kl": nats a learned token, "changed": greedy replies that differ, "replies": of so many}."""
        divergence, positions = 0.0, 0
        for row, wanted in zip(self.rows, self.log_probabilities, strict=True):
            found = self._of(model, row)
            divergence += float((wanted.exp() * (wanted - found)).sum())
            positions += len(wanted)
        replies = greedy(model, self.tokenizer, self.prompts)
        changed = sum(one != other for one, other in zip(replies, self.replies, strict=True))
        kl = max(0.0, divergence / max(1, positions))
        return {"kl": float(f"{kl:.3g}"), "changed": changed, "replies": len(replies)}

    def _of(self, model, row: dict) -> torch.Tensor:
        """Log-probabilities (N, V) at the first learned positions of a row, in fp32."""
        at = [index - 1 for index, label in enumerate(row["labels"]) if index and label != encoding.IGNORED]
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([row["input_ids"]]), use_cache=False).logits[0]
            return logits[at[: self.most]].float().log_softmax(-1)


def greedy(model, tokenizer, prompts: list[list[int]]) -> list[list[int]]:
    """The likeliest continuation of each prompt, in tokens."""
    return [ids for ids, _ in generate(model, tokenizer, prompts, REPLY_TOKENS)] if prompts else []


def wrong_tensor(model, merged: Path, kind: str) -> tuple[str, float, float] | None:
    """The first tensor of a file's model that is further from the merged one than its type rounds: (name, error, limit).

    `model` is in fp32. None where all are right.
    """
    weights = dict(model.named_parameters())
    for tensor in gguf_file.tensors_of(merged, kind):
        with safe_open(tensor.file, "pt") as file:
            wanted = file.get_tensor(tensor.name).float()
        limit = quantizer.ERRORS[tensor.type]
        error = float((weights[tensor.name].detach() - wanted).norm() / wanted.norm().clamp_min(1e-12))
        if not error <= limit:
            return tensor.name, error, limit
    return None


def _prompt(row: dict, tokenizer) -> list[int]:
    """What asks for a row's last reply; of a text its beginning."""
    if "chosen" in row:
        return encoding.prompt_ids(row["messages"], tokenizer)[-ROW_TOKENS:]
    if "messages" not in row:
        return tokenizer(row["text"])["input_ids"][: ROW_TOKENS // 4]
    last = max((at for at, turn in enumerate(row["messages"]) if turn["role"] == "assistant"), default=1)
    return encoding.prompt_ids(row["messages"][:last], tokenizer)[-ROW_TOKENS:]
