"""What votes say: a win rate with its 95 % interval, how many more votes would settle it, topics, and length bias.

The interval is a confidence sequence: it holds for somebody who looks after every vote and stops when it pleases, which
an interval for a count that was fixed before does not. It is the mixture of binomial likelihoods over a uniform share
(Robbins 1970, doi:10.1214/aoms/1177696786), over the votes that have a winner; ties and "both bad" say nothing about
which side is better and are counted beside it.
"""

import math
from collections import Counter

EVIDENCE = math.log(
    1 / 0.05
)  # at which a share is ruled out; less than 5 % of all sequences ever rule out the true one
LONGER = 1.1  # times as long: a difference in length that somebody may have voted on
MOST_VOTES = 2000  # beyond that it does not matter which side is better


def interval(wins: int, count: int) -> tuple[float, float]:
    """The 95 % confidence sequence of a share, after this many votes."""
    losses = count - wins
    mixture = math.lgamma(wins + 1) + math.lgamma(losses + 1) - math.lgamma(count + 2)

    def bound(inside: float, outside: float) -> float:
        for _ in range(50):
            middle = (inside + outside) / 2
            likelihood = wins * math.log(middle) + losses * math.log1p(-middle)
            inside, outside = (middle, outside) if mixture - likelihood < EVIDENCE else (inside, middle)
        return inside

    share = wins / count if count else 0.5
    return bound(share, 0.0) if wins else 0.0, bound(share, 1.0) if losses else 1.0


def more_votes(wins: int, losses: int, others: int = 0) -> int | None:
    """About how many more votes until the interval leaves one half, if they go on as they went; None: no end in sight.

    0 when it is settled already. Ties are expected to go on too: they lengthen the way.
    """
    count = wins + losses
    low, high = interval(wins, count)
    if count and (low > 0.5 or high < 0.5):
        return 0
    share = max(wins, losses) / count if count else 0.5
    if share <= 0.5:
        return None
    for needed in range(count + 1, MOST_VOTES):
        if interval(round(share * needed), needed)[0] > 0.5:
            return math.ceil((needed - count) * (count + others) / count)
    return None


def of(votes: list[dict]) -> dict:
    """The verdict on b against a: wins, losses, ties, bad, split, rate, low, high, more, topics, length."""
    topics = sorted({vote["topic"] for vote in votes if vote["topic"]})
    by_topic = {topic: _counted([vote for vote in votes if vote["topic"] == topic]) for topic in topics}
    return _counted(votes) | {"topics": by_topic, "length": length_bias(votes)}


def _counted(votes: list[dict]) -> dict:
    counts = Counter(vote["verdict"] for vote in votes)
    wins, losses = counts["b"], counts["a"]
    low, high = interval(wins, wins + losses)
    return {
        "votes": len(votes),
        "wins": wins,
        "losses": losses,
        "ties": counts["tie"],
        "bad": counts["bad"],
        "split": counts["split"],
        "rate": wins / (wins + losses) if wins + losses else None,
        "low": low,
        "high": high,
        "more": more_votes(wins, losses, len(votes) - wins - losses),
    }


def length_bias(votes: list[dict]) -> dict:
    """How often the clearly longer answer won, and whether that is more than chance: {"longer", "count", "warns"}."""
    longer = count = 0
    for vote in votes:
        a, b = len(vote["text_a"]), len(vote["text_b"])
        if vote["verdict"] in ("a", "b") and max(a, b) > LONGER * min(a, b):
            count += 1
            longer += vote["verdict"] == ("a" if a > b else "b")
    low, _ = interval(longer, count)
    return {"longer": longer, "count": count, "warns": low > 0.5}
