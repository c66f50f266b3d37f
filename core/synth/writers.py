"""Rows that a language model writes: prompts of a recipe, an endpoint or a local model, checked replies."""

import re
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from core.corpus import diversity_metrics, storage, turns
from core.corpus.__main__ import where
from core.corpus.token_counter import Scale
from core.errors import UserError
from core.synth import parse_reply, personas, prompts, replies, reply_cache
from core.synth.endpoint import Endpoint, Reply
from core.synth.local import Local

LEAST_SCORE = 7  # of 10, by the judge


class NoWriter(UserError):
    template = (
        'The recipe "{recipe}" needs a model. Give the address of a server and its model, or a model of this machine.'
    )


class FromModel:
    """Rows in the order of their numbers, with so many requests in flight at the endpoint, or batches of a local model."""

    def __init__(self, recipe, seed: int, request: dict, directory: Path | None = None, first: int = 0):
        self.recipe, self.seed, self.request = recipe, seed, request
        self.received = reply_cache.Received(directory, first)
        self.seeds = seeds_of(recipe, request)
        prompts.check(recipe, self.seeds)
        self.personas = request.get("personas") or []
        personas.check(recipe, self.personas)
        self.parallel = max(1, int(request.get("parallel") or 4))
        self.writer = writer_of(recipe, request)
        self.pool = ThreadPoolExecutor(self.parallel)
        self.flying: deque = deque()
        self.sampling = {
            "temperature": request.get("temperature") or 0.9,
            "max_tokens": request.get("max_tokens") or 600,
        }

    def batch(self, first: int) -> list[dict]:
        """The next rows: as many as are ready in order, at least one."""
        if isinstance(self.writer, Local):
            numbers = range(first, first + self.parallel)
            asked = [self._prompt(number) for number in numbers]
            told = self.writer.batch([one["messages"] for one in asked], **self.sampling)
            return [self._row(n, one, reply) for n, one, reply in zip(numbers, asked, told, strict=True)]
        start = self.flying[-1][0] + 1 if self.flying else first
        for number in range(start, first + self.parallel):
            self.flying.append((number, self.pool.submit(self._made, number)))
        found = [self.flying.popleft()[1].result()]
        while self.flying and self.flying[0][1].done() and not self.flying[0][1].exception():
            found.append(self.flying.popleft()[1].result())
        return found

    def drain(self) -> list[dict]:
        """The rows in flight, waited for: what was asked for is paid for."""
        found = []
        while self.flying:
            flight = self.flying.popleft()[1]
            if flight.exception():
                break
            found.append(flight.result())
        return found

    def _prompt(self, number: int) -> dict:
        if self.recipe.kind == "grid":
            axes = personas.axes(self.recipe, self.personas)
            prompt = prompts.of_grid(self.recipe, self.seed, number, axes)
        else:
            prompt = prompts.of_method(self.recipe, self.seeds, self.seed, number)
        return personas.speak(prompt, self.recipe, self.personas, self.seed, number)

    def _made(self, number: int) -> dict:
        if kept := self.received.take(number):
            return kept
        prompt = self._prompt(number)
        reply = self.writer.ask(prompt["messages"], seed=self.seed * 1_000_003 + number, **self.sampling)
        made = self._row(number, prompt, reply)
        self.received.keep(made)
        return made

    def _row(self, number: int, prompt: dict, reply: Reply) -> dict:
        asked = prompt["messages"][-1]["content"]
        text, reason = replies.checked(reply, asked, self.recipe.lang)
        row = None if reason else parse_reply.row(text, prompt)
        if row is None:
            aside = {"reason": reason or "wrong_shape", "detail": reply.detail[:200]}
            return {"number": number, "out": reply.tokens_out, "excerpt": reply.text or reply.detail} | aside
        score = self._score(row) if self.recipe.values.get("judge") else None
        if score is not None and score < LEAST_SCORE:
            return {"number": number, "out": reply.tokens_out, "excerpt": text} | {
                "reason": "low_score",
                "detail": str(score),
            }
        provenance = self._provenance(prompt, reply, score)
        return {"number": number, "out": reply.tokens_out, "row": row, "provenance": provenance}

    def _score(self, row: dict) -> float | None:
        """The judge's number; a reply without one is no verdict, and the row stays."""
        said = "\n".join([row["text"]] if "text" in row else [turn["content"] for turn in row["messages"]])
        words = prompts.WORDS["judge"][self.recipe.lang == "ru"].format(seed=said)
        reply = self.writer.ask([{"role": "user", "content": words}], temperature=0.0, max_tokens=8)
        found = re.search(r"\b(10|[1-9])(?:[.,]\d)?\b", reply.text)
        return float(found[1]) if found else None

    def _provenance(self, prompt: dict, reply: Reply, score: float | None) -> dict:
        found = {"prompt": prompt["messages"], "tokens_in": reply.tokens_in, "tokens_out": reply.tokens_out}
        found |= {"model": self.request.get("endpoint_model") or self.request.get("writer"), **self.sampling}
        extra = {"parent": prompt.get("parent"), "cell": prompt.get("cell"), "persona": prompt.get("persona")}
        extra["score"] = score
        return found | {key: value for key, value in extra.items() if value is not None}

    def close(self) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)
        self.received.close()
        if isinstance(self.writer, Local):
            self.writer.close()


def writer_of(recipe, request: dict):
    """The endpoint or local model of a request."""
    if request.get("endpoint"):
        return Endpoint(request["endpoint"], request.get("endpoint_model") or "")
    if request.get("writer"):
        return Local(request["writer"], int(request.get("seed") or 0))
    raise NoWriter(recipe=recipe.name)


def seeds_of(recipe, request: dict) -> list[dict]:
    """The texts that a model starts from: the recipe's own, or the rows of a corpus."""
    own = [{"text": str(text)} for text in recipe.values.get("seeds") or []]
    if not request.get("corpus"):
        return own
    rows = storage.all_rows(where(request["corpus"]))
    return own + [{"text": "\n".join(turns.texts(row)), "id": row["id"]} for row in rows]


def preview(recipe, seed: int, request: dict) -> dict:
    """Ten rows by the model, and how fast it writes; ones set aside are counted with their reasons."""
    source, scale = FromModel(recipe, seed, request), Scale(request.get("model"), recipe.lang)
    made, alone = [], None
    try:
        if isinstance(source.writer, Local):
            source.writer.open()  # the loading is no part of the speed
        began = time.perf_counter()
        while len(made) < 10:
            made += source.batch(len(made))
        seconds = time.perf_counter() - began
        if isinstance(source.writer, Local):  # the same prompts, one after the other
            alone = _one_by_one(source, 3)
    finally:
        source.close()
    rows = [one["row"] for one in made if "row" in one]
    lengths = [len(ids) for ids in scale.ids(rows)] or [0]
    size = sum(len(text.encode()) for row in rows for text in turns.texts(row)) / max(1, len(rows))
    return {
        "rows": rows,
        "lang": recipe.lang,
        "aside": [{key: one[key][:120] for key in ("reason", "excerpt")} for one in made if "reason" in one],
        "xray": diversity_metrics.measure([turns.learned(row) for row in rows]),
        "distinct": None,
        "new_share": 1.0,
        "tokens_a_row": max(1, round(sum(lengths) / max(1, len(rows)), 1)),
        "bytes_a_row": round(size + 900),  # with the prompt in the provenance
        "tokens_per_second": round(sum(lengths) / seconds, 1),
        "exact": scale.exact,
        "one_by_one_tokens_per_second": alone,
        "batch_tokens_per_second": alone and round(sum(one["out"] for one in made) / seconds, 1),
    }


def _one_by_one(source: FromModel, count: int) -> float:
    """Tokens that a local model writes a second when it is asked for one reply at a time."""
    began = time.perf_counter()
    told = [source.writer.ask(source._prompt(number)["messages"], **source.sampling) for number in range(count)]
    return round(sum(reply.tokens_out for reply in told) / (time.perf_counter() - began), 1)
