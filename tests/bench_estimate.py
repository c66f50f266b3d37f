"""How long the calculator takes: `python -m tests.bench_estimate` prints one JSON object of seconds, best of five.

Goals on two cores: an instant answer under 0.05 s, the whole table of models and methods under 0.3 s.
"""

import json
import time

from core.estimate import answer, catalogue, tables
from core.estimate.setup import Setup

ROUNDS = 5


def best(once) -> float:
    """Seconds of the quickest of ROUNDS calls, each with a sequence length that was not asked before."""
    once(999)
    times = []
    for length in range(1000, 1000 + ROUNDS):
        began = time.perf_counter()
        once(length)
        times.append(time.perf_counter() - began)
    return round(min(times), 4)


def main() -> None:
    card = catalogue.card(catalogue.DEFAULT_CARD)
    shape = catalogue.shape("Qwen/Qwen2.5-7B-Instruct")
    found = {
        "instant": best(lambda length: answer.ask(shape, Setup(max_length=length), card)),
        "table": best(lambda length: tables.models(Setup(max_length=length), card, card.memory_bytes)),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
