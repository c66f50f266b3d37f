"""What votes say: a win rate with its 95 % interval, how many more votes would settle it, topics, and length bias.

The interval is Wilson's score interval (Wilson 1927, doi:10.1080/01621459.1927.10502953) over the votes that have a
winner; ties and "both bad" say nothing about which side is better and are counted beside it.
"""

import math
from collections import Counter

Z = 1.959964  # of 95 % of the normal distribution
LONGER = 1.1  # times as long: a difference in length that somebody may have voted on
MOST_VOTES = 2000  # beyond that it does not matter which side is better


def wilson(wins: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share."""
    if not count:
        return 0.0, 1.0
    share, square = wins / count, Z * Z
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = Z * math.sqrt(share * (1 - share) / count + square / (4 * count * count)) / (1 + square / count)
    return max(0.0, middle - half), min(1.0, middle + half)


def more_votes(wins: int, losses: int, others: int = 0) -> int | None:
    """About how many more votes until the interval leaves one half, if they go on as they went; None: no end in sight.

    0 when it is settled already. Ties are expected to go on too: they lengthen the way.
    """
    count = wins + losses
    low, high = wilson(wins, count)
    if count and (low > 0.5 or high < 0.5):
        return 0
    share = max(wins, losses) / count if count else 0.5
    if share <= 0.5:
        return None
    for needed in range(count + 1, MOST_VOTES):
        if wilson(round(share * needed), needed)[0] > 0.5:
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
    low, high = wilson(wins, wins + losses)
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
    low, _ = wilson(longer, count)
    return {"longer": longer, "count": count, "warns": count >= 5 and low > 0.5}
