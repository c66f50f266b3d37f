"""Batches of rows of like length, and the mean loss of held-out rows."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable

import torch

from . import cross_entropy, encoding, model_loading, packing, token_cache

SORTED_BATCHES = 50  # of rows at random are sorted by length together
LENGTH_NOISE = 0.1  # of a length, for the sake of sorting
NAMED_ROWS = 8  # of a batch in a sentence


def named_rows(batches: list[list[str]]) -> str:
    """The numbers of the rows of some batches, the first ones of many: 3, 17, 40."""
    numbers = list(dict.fromkeys(number for batch in batches for ids in batch for number in ids.split()))
    return ", ".join(numbers[:NAMED_ROWS]) + (", …" if len(numbers) > NAMED_ROWS else "")


def named_batch(rows: list[dict], layout: dict, tiled: bool) -> dict:
    """A batch with the numbers of its rows and its tokens, padding not counted; training_step() takes them out again.

    With `tiled`, the loss of without_logits() gets the positions that are learned.
    """
    tokens, batch = sum(len(row["input_ids"]) for row in rows), packing.collate(rows, **layout)
    more = {"learned": cross_entropy.learned_positions(batch["labels"])} if tiled else {}
    return batch | more | {"rows": [row["id"] for row in rows], "tokens": tokens}


class ByLength(torch.utils.data.Sampler):
    """A sampler that puts rows of like length together; its order follows from the seed and the epoch alone.

    The stock one draws from the global generator as an epoch begins. A run resumed in its second epoch cannot repeat
    that draw: it would see some rows twice and others not at all. And of a small corpus it sorts a fourth at a time:
    24 rows in batches of 4 are not sorted at all, and padding costs them 1.6 times their tokens instead of 1.1.
    """

    def __init__(self, lengths: list[int], batch_size: int, seed: int):
        self.lengths, self.batch_size, self.seed, self.epoch = lengths, batch_size, seed, 0

    def set_epoch(self, epoch: int):
        self.epoch = epoch

    def __len__(self):
        return len(self.lengths)

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        return itertools.chain.from_iterable(batches_by_length(self.lengths, self.batch_size, generator))


def batches_by_length(lengths: list[int], batch_size: int, generator) -> list[list[int]]:
    """Rows in batches of like length, each epoch others, the longest rows first; a batch that is not full comes last."""
    # A little noise: else the rows of a small corpus would meet the same others in every epoch.
    noisy = torch.tensor(lengths) * (1 + LENGTH_NOISE * torch.rand(len(lengths), generator=generator))
    full, rest = [], []
    for some in torch.randperm(len(lengths), generator=generator).split(SORTED_BATCHES * batch_size):
        order = some[noisy[some].argsort(descending=True)].tolist()
        cut = len(order) // batch_size * batch_size
        full += [order[start : start + batch_size] for start in range(0, cut, batch_size)]
        rest += order[cut:]
    batches = [full[at] for at in torch.randperm(len(full), generator=generator).tolist()]
    longest = max(lengths)
    batches.sort(key=lambda batch: max(lengths[at] for at in batch) < longest)  # memory peaks at once
    return [*batches, *([rest] if rest else [])]


def held_out_loss(model, rows, batch_size: int, should_stop: Callable[[], bool] = lambda: False) -> float | None:
    """Mean cross-entropy over the learned tokens of encoded rows, in nats a token; None if it was stopped."""
    was_training, losses, counts, stopped = model.training, [], [], False
    model.eval()
    lengths = token_cache.lengths_of(rows)
    by_length = sorted(range(len(rows)), key=lengths.__getitem__)
    with torch.inference_mode(), model_loading.autocast(model):
        for start in range(0, len(by_length), batch_size):
            chosen = [rows[at] for at in by_length[start : start + batch_size]]
            batch = packing.collate(chosen)
            if getattr(model, "loss_is_tiled", False):
                batch["learned"] = cross_entropy.learned_positions(batch["labels"])
            counts.append(int((batch["labels"][:, 1:] != encoding.IGNORED).sum()))
            try:
                losses.append(model(**{key: value.to(model.device) for key, value in batch.items()}).loss)
            except Exception as error:
                error.batch_shape = tuple(batch["input_ids"].shape)
                error.batch_rows = named_rows([[row.get("id", "?") for row in chosen]])
                raise
            if stopped := should_stop():
                break
    model.train(was_training)
    if stopped:
        return None
    means = torch.stack([torch.as_tensor(loss).float() for loss in losses]).tolist()  # the one wait for the device
    return sum(map(operator.mul, means, counts)) / sum(counts)
