"""How fast the server is beside our own chat: `python -m tests.bench_serve [--model DIR] [--rounds N] [--json]`.

Tokens a second of a whole reply, the prompt included: by core.chat.chat, as the page asks, and through `core.serve` with
OpenAI's own client, streamed. Both from the same process that holds the weights; rounds alternate, each ratio is of one
round, and the median is given.
"""

import argparse
import json
import os
import signal
import statistics
import threading
import time
from contextlib import suppress

import openai

from core.chat import chat
from core.chat.types import Question, Sampling
from core.models import models
from core.serve import serve
from tests.bench_chat import PROMPT, ROUNDS, TOKENS


class Over(Exception):
    """The bench is over."""


def ours(model_id: str, tokens: int) -> float:
    """Tokens a second of the chat of the page."""
    sampling = Sampling(temperature=0, repetition_penalty=1.0, max_new_tokens=tokens)
    began = time.perf_counter()
    *_, columns = chat.talk({"a": Question(model_id, PROMPT)}, sampling)
    return columns["a"].tokens / (time.perf_counter() - began)


def served(client: openai.OpenAI, model_id: str, tokens: int) -> float:
    """Tokens a second through the server."""
    asked = {"model": model_id, "messages": PROMPT, "temperature": 0, "max_tokens": tokens, "stream": True}
    began = time.perf_counter()
    *_, last = client.chat.completions.create(**asked, stream_options={"include_usage": True})
    return last.usage.completion_tokens / (time.perf_counter() - began)


def measured(model_id: str, rounds: int, tokens: int) -> dict:
    """{"ours", "served": tokens a second, "ratio": the median of the rounds' ratios, "rounds"}."""
    address, heard, over = [], threading.Event(), threading.Event()

    def report(_, **values) -> None:
        address.append(values["address"])
        heard.set()

    def look() -> None:
        if over.is_set():
            raise Over

    def listen() -> None:
        with suppress(Over):
            serve.listen(serve.HOST, 0, report, look)

    thread = threading.Thread(target=listen)
    thread.start()
    heard.wait()
    client = openai.OpenAI(base_url=address[0], api_key=serve.key() or serve.new_key())
    found: dict = {"ours": [], "served": []}
    try:
        for turn in range(rounds + 1):  # the first round warms up
            pairs = {"ours": lambda: ours(model_id, tokens), "served": lambda: served(client, model_id, tokens)}
            for name in sorted(pairs, reverse=turn % 2 == 1):  # each comes first as often
                speed = pairs[name]()
                if turn:
                    found[name].append(speed)
    finally:
        over.set()
        thread.join()
    ratios = [there / here for there, here in zip(found["served"], found["ours"], strict=True)]
    medians = {name: round(statistics.median(speeds), 2) for name, speeds in found.items()}
    return medians | {"ratio": round(statistics.median(ratios), 3), "rounds": rounds}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench_serve", description=__doc__.split("\n")[0])
    parser.add_argument("--model", default=models.STARTER, help="a model that is ready, default the starter")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--tokens", type=int, default=TOKENS)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    models.prepare(args.model)
    found = measured(f"base:{args.model}", args.rounds, args.tokens)
    with suppress(OSError, ValueError):
        os.kill(json.loads(chat.address_file().read_text())["pid"], signal.SIGTERM)
    if args.json:
        print(json.dumps(found))
        return
    print(f"| | tokens/s |\n| --- | --- |\n| chat | {found['ours']} |\n| server | {found['served']} |")
    print(f"\nRatio, median of {found['rounds']} rounds: {found['ratio']}")


if __name__ == "__main__":
    main()
