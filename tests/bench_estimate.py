"""How long the calculator takes: `python -m tests.bench_estimate` prints one JSON object of processor seconds.

Each figure is [the quickest, the slowest] of five, each for a length that was not asked before. Goals: an answer and its
worth under 0.05 s, the mosaic of models by methods under 1 s.
"""

import json
import time

from core.estimate import answer, cards, catalogue, tables, worth
from core.estimate.setup import Setup

ROUNDS = 5


def seconds(once) -> list[float]:
    """Of the processor: quickest and slowest."""
    once(999)
    times = []
    for length in range(1000, 1000 + ROUNDS):
        began = time.process_time()
        once(length)
        times.append(time.process_time() - began)
    return [round(min(times), 4), round(max(times), 4)]


def main() -> None:
    found = {}
    for name in (cards.DEFAULT_CARD, "NVIDIA GeForce RTX 3060 12GB"):
        card, shape = cards.card(name), catalogue.shape("Qwen/Qwen2.5-7B-Instruct")
        long = {"tokens": 10**10, "epochs": 3}

        def ask(length: int, card=card, shape=shape, long=long) -> answer.Answer:
            return answer.ask(shape, Setup(max_length=length, lora_rank=length % 7 + 8), card, **long)

        def mosaic(length: int, card=card, long=long):
            return tables.mosaic(Setup(max_length=length), card, card.memory_bytes, **long)

        found[name] = {
            "mosaic": seconds(mosaic),
            "answer": seconds(ask),
            "worth": seconds(lambda length, ask=ask: worth.of(ask(length + ROUNDS))),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
