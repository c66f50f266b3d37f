"""Which rows of a corpus are shown, which choose and which give the final figure: no row does two of these."""

import random
from dataclasses import dataclass
from pathlib import Path

from core import errors
from core.training import corpus_rows, token_cache
from core.training.errors import TrainingError


@dataclass(frozen=True)
class Parts:
    """The rows of a corpus by what they are for."""

    shown: list[dict]  # become examples, and the model proposes instructions from them
    judging: list[dict]  # their loss chooses
    held_out: list[dict]  # what a run with the same settings holds out: for the final figure alone


def split(corpus: Path, name: str, share: float, most_judging: int, seed: int) -> Parts:
    """The three parts of a corpus, of which a share is held out as every run does it.

    Near-equal rows stay in one part. At most half of the rest judges; its order, like the choice, follows from the seed.

    Raises:
        SearchNeedsChats, CorpusTooSmall.
    """
    rows = list(corpus_rows.read_rows(corpus))
    if others := sum("messages" not in row or "chosen" in row for row in rows):
        raise errors.named("SearchNeedsChats", name=name, others=others)
    if len(rows) < token_cache.FEWEST_ROWS:
        raise TrainingError("CorpusTooSmall", name=name, rows=len(rows), needed=token_cache.FEWEST_ROWS)
    parts = corpus_rows.split(rows, share)
    training, held_out = (
        [row for row in part if row.get("label", True)] for part in parts
    )  # no reply that was disliked
    clusters, draw = corpus_rows.Clusters(training), random.Random(seed)
    names, wanted, chosen = sorted(clusters.sizes), min(most_judging, len(training) // 2), set()
    draw.shuffle(names)
    if len(names) < 2:
        raise TrainingError("CorpusTooSmall", name=name, rows=len(names), needed=token_cache.FEWEST_ROWS)
    for cluster in names:
        if clusters.sizes[cluster] <= wanted:
            chosen.add(cluster)
            wanted -= clusters.sizes[cluster]
    chosen = chosen or {min(names, key=clusters.sizes.get)}
    shown = [row for row in training if clusters.of(row) not in chosen]
    judging = [row for row in training if clusters.of(row) in chosen]
    draw.shuffle(shown)
    draw.shuffle(judging)
    return Parts(shown, judging, held_out)
