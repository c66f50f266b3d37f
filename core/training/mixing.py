"""Several corpora in one run: each has its share of the tokens that are read, so that what is learned anew and what
should not be forgotten are read side by side.

Rows are drawn one by one from the corpus that is furthest behind its share: after any number of steps each has had its
share to within a batch. An epoch is one pass over the first corpus; the others begin again whenever they end. The
order follows from the seed, the lengths of the rows and the shares alone.
"""

from __future__ import annotations

import bisect
import itertools
import math
import random
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy

from . import corpus_rows
from .config import TrainConfig
from .errors import TrainingError

POOL_STEPS = 50  # as many rows as these steps take are at hand at a time
POOL_SEEDS = 1_000_003  # between the seeds of two corpora: their orders have nothing to do with each other


def corpora(config: TrainConfig) -> list[str]:
    """All corpora of a run, the first one first."""
    return [config.corpus, *(corpus for corpus, _ in config.mix)]


def shares(config: TrainConfig) -> list[float]:
    """The share of each of corpora() in the tokens that are read; they add up to 1."""
    further = [share for _, share in config.mix]
    return [1 - sum(further), *further]


def held_out_rows(places: Iterable[str | Path], share: float) -> list[dict]:
    """The rows that a run holds out, given the places of its corpora() and its validation_share: those of each corpus.

    Raises:
        CorpusGone.
    """
    rows = (corpus_rows.split(list(corpus_rows.read_rows(place)), share)[1] for place in places)
    return list(itertools.chain.from_iterable(rows))


def amounts(tokens: list[float], further: list[float], epochs: float) -> list[dict]:
    """What a run reads of each corpus, given their tokens and the shares of all but the first.

    {"share", "tokens": read in all epochs, "passes": how often each row is read}.
    """
    shares = [1 - sum(further), *further]
    whole = epochs * tokens[0] / shares[0]
    return [
        {"share": share, "tokens": whole * share, "passes": whole * share / own}
        for share, own in zip(shares, tokens, strict=True)
    ]


def check_alone(config: TrainConfig, name: str, pairs: int, judged: int = 0) -> None:
    """Refuse preferences beside other corpora: their loss is another one."""
    if config.mix and (pairs or (judged and config.task == "preference")):
        raise TrainingError("PreferencesAlone", name=name, pairs=pairs or judged)


class Mixture:
    """Encoded rows (or blocks) of several corpora end to end; the id of a row of the second begins with "2:"."""

    def __init__(self, parts: list, shares: list[float]):
        self.parts, self.shares = parts, shares
        self.lengths = [length for part in parts for length in part.lengths]
        self.starts = list(itertools.accumulate((len(part) for part in parts), initial=0))

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, at: int) -> dict:
        number = int(numpy.searchsorted(self.starts, at, side="right")) - 1
        row = self.parts[number][at - self.starts[number]]
        prefix = f"{number + 1}:" if number else ""
        return row | {"id": " ".join(prefix + id for id in row["id"].split())}


class ByShare:
    """A sampler over a Mixture; `rows_a_step` rows make an optimizer step.

    Its epochs are of equal length, and after so many of them the first corpus was read as often.
    """

    def __init__(self, mixture: Mixture, rows_a_step: int, seed: int, epochs: float):
        self.mixture, self.rows_a_step, self.epoch = mixture, rows_a_step, 0
        self.drawn, self._order = array("q"), self._draw(seed)
        first, passed = len(mixture.parts[0]), 0
        while passed < max(1, epochs) * first:
            passed += self._next() < first
        steps = math.ceil(len(self.drawn) / max(1, epochs) / rows_a_step)
        self.rows_in_epoch = steps * rows_a_step

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.rows_in_epoch

    def __iter__(self) -> Iterator[int]:
        start, end = self.epoch * self.rows_in_epoch, (self.epoch + 1) * self.rows_in_epoch
        while len(self.drawn) < end:
            self._next()
        lengths = self.mixture.lengths
        for step in range(start, end, self.rows_a_step):  # the batches of a step hold rows of like length
            yield from sorted(self.drawn[step : step + self.rows_a_step], key=lambda at: -lengths[at])

    def _next(self) -> int:
        self.drawn.append(next(self._order))
        return self.drawn[-1]

    def _draw(self, seed: int) -> Iterator[int]:
        """Rows without end: those of a step are of like length, those of the first one the longest, where memory peaks."""
        mixture, numbers = self.mixture, range(len(self.mixture.parts))
        pools = [self._pool(number, seed) for number in numbers]
        read, total, choice = [0] * len(pools), 0, random.Random(seed)
        for step in itertools.count():
            wanted = None if step else math.inf
            for _ in range(self.rows_a_step):
                number = max(numbers, key=lambda at: mixture.shares[at] * total - read[at])
                length, at = pools[number].take(wanted, choice)
                wanted = length if wanted is None else wanted
                read[number] += length
                total += length
                yield at

    def _pool(self, number: int, seed: int) -> _Pool:
        mixture = self.mixture
        size = POOL_STEPS * max(1, round(mixture.shares[number] * self.rows_a_step))
        lengths, start = mixture.parts[number].lengths, mixture.starts[number]
        return _Pool(lengths, start, size, seed + POOL_SEEDS * number)


class _Pool:
    """The rows of one corpus, pass after pass in an order of its own each; some of them at a time, by length."""

    def __init__(self, lengths: list[int], start: int, size: int, seed: int):
        self.lengths, self.start, self.size, self.seed = lengths, start, size, seed
        self.passes, self.left, self.rows = 0, [], []

    def take(self, length: float | None, choice: random.Random) -> tuple[int, int]:
        """(length, number) of the row whose length is nearest; of any one for None."""
        if not self.rows:
            self._fill()
        if length is None:
            return self.rows.pop(choice.randrange(len(self.rows)))
        at = min(bisect.bisect_left(self.rows, (length,)), len(self.rows) - 1)
        shorter = at > 0 and length - self.rows[at - 1][0] < abs(self.rows[at][0] - length)
        return self.rows.pop(at - shorter)

    def _fill(self) -> None:
        if not self.left:
            self.left = list(range(len(self.lengths)))
            random.Random(self.seed + self.passes).shuffle(self.left)
            if not self.passes:
                longest = max(self.left, key=self.lengths.__getitem__)
                self.left.remove(longest)
                self.left.append(longest)
            self.passes += 1
        self.rows = sorted((self.lengths[at], self.start + at) for at in self.left[-self.size :])
        del self.left[-self.size :]


def held_out_losses(rows, measure: Callable) -> tuple[float | None, list[float | None] | None]:
    """The held-out loss, and that of each corpus of a Mixture: `measure(rows)` of each, together as by the shares.

    A corpus without held-out rows has none and does not count. None for all where an evaluation was stopped.
    """
    if not isinstance(rows, Mixture):
        return measure(rows), None
    losses = []
    for part in rows.parts:
        losses.append(measure(part) if len(part) else None)
        if len(part) and losses[-1] is None:
            return None, None
    known = [(share, loss) for share, loss in zip(rows.shares, losses, strict=True) if loss is not None]
    return sum(share * loss for share, loss in known) / sum(share for share, _ in known), losses
