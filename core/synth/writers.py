"""Rows that a language model writes: prompts of a recipe, an endpoint or a local model, checked replies."""

import re
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson

from core import files
from core.corpus import corpus, storage, turns
from core.errors import UserError
from core.synth import job_files, prompts, replies
from core.synth.endpoint import Endpoint
from core.synth.replies import Reply
from core.synth.sources import Source

LEAST_SCORE = 7  # of 10, by the judge


class NoWriter(UserError):
    template = (
        'The recipe "{recipe}" needs a model. Give the address of a server and its model, or a model of this machine.'
    )


class FromModel(Source):
    """Rows in the order of their numbers, with so many requests in flight at the endpoint, or batches of a local model.

    A row is {"number", "row", "provenance"}, or {"number", "reason", "detail", "excerpt"} where the reply is set aside;
    "out" are the tokens of the reply.
    """

    def __init__(self, recipe, seed: int, request: dict, directory: Path | None = None, first: int = 0):
        self.recipe, self.seed, self.request = recipe, seed, request
        self.received = Received(directory, first)
        self.seeds = seeds_of(recipe, request)
        prompts.check(recipe, self.seeds)
        self.personas = request.get("personas") or []
        prompts.check_personas(recipe, self.personas)
        self.parallel = max(1, int(request.get("parallel") or 4))
        self.writer = open_writer(recipe, request)
        self.local = None if isinstance(self.writer, Endpoint) else self.writer
        self.pool = ThreadPoolExecutor(self.parallel)
        self.flying: deque = deque()  # (number, future) of the requests in flight
        self.sampling = {
            "temperature": request.get("temperature") or 0.9,
            "max_tokens": request.get("max_tokens") or 600,
        }

    def batch(self, first: int) -> list[dict]:
        """The next rows: as many as are ready in order, at least one."""
        if self.local:
            numbers = range(first, first + self.parallel)
            asked = [self.prompt(number) for number in numbers]
            written = self.local.batch([one["messages"] for one in asked], **self.sampling)
            return [self._row(*row) for row in zip(numbers, asked, written, strict=True)]
        start = self.flying[-1][0] + 1 if self.flying else first
        for number in range(start, first + self.parallel):
            self.flying.append((number, self.pool.submit(self._received_or_asked, number)))
        rows = [self.flying.popleft()[1].result()]
        while self.flying and self.flying[0][1].done() and not self.flying[0][1].exception():
            rows.append(self.flying.popleft()[1].result())
        return rows

    def drain(self) -> list[dict]:
        """The rows in flight, waited for: what was asked for is paid for."""
        rows = []
        while self.flying and not self.flying[0][1].exception():
            rows.append(self.flying.popleft()[1].result())
        return rows

    def prompt(self, number: int) -> dict:
        """What is asked for the row of this number."""
        if self.recipe.kind == "grid":
            prompt = prompts.of_grid(self.recipe, self.seed, number, self.personas)
        else:
            prompt = prompts.of_method(self.recipe, self.seeds, self.seed, number)
        return prompts.introduced(prompt, self.recipe, self.personas, self.seed, number)

    def _received_or_asked(self, number: int) -> dict:
        if row := self.received.take(number):
            return row
        prompt = self.prompt(number)
        reply = self.writer.ask(prompt["messages"], seed=self.seed * 1_000_003 + number, **self.sampling)
        row = self._row(number, prompt, reply)
        self.received.add(row)
        return row

    def _row(self, number: int, prompt: dict, reply: Reply) -> dict:
        text, reason = replies.checked(reply, prompt["messages"][-1]["content"], self.recipe.lang)
        row = None if reason else replies.to_row(text, prompt)
        base = {"number": number, "out": reply.tokens_out}
        if row is None:
            excerpt = reply.text or reply.detail
            return base | {"excerpt": excerpt, "reason": reason or "wrong_shape", "detail": reply.detail[:200]}
        score = self._score(row) if self.recipe.values.get("judge") else None
        if score is not None and score < LEAST_SCORE:
            return base | {"excerpt": text, "reason": "low_score", "detail": str(score)}
        provenance = {"prompt": prompt["messages"], "tokens_in": reply.tokens_in, "tokens_out": reply.tokens_out}
        provenance |= {"model": self.request.get("endpoint_model") or self.request.get("writer"), **self.sampling}
        extra = {key: prompt.get(key) for key in ("parent", "cell", "persona")} | {"score": score}
        provenance |= {key: value for key, value in extra.items() if value is not None}
        return base | {"row": row, "provenance": provenance}

    def _score(self, row: dict) -> float | None:
        """The judge's number; a reply without one is no verdict, and the row stays."""
        question = prompts.in_language(prompts.WORDS["judge"], self.recipe.lang).format(
            seed="\n".join(turns.texts(row))
        )
        reply = self.writer.ask([{"role": "user", "content": question}], temperature=0.0, max_tokens=8)
        score = re.search(r"\b(10|[1-9])(?:[.,]\d)?\b", reply.text)
        return float(score[1]) if score else None

    def close(self) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)
        self.received.close()
        if self.local:
            self.local.close()


class Received:
    """Rows as their replies come in, before their turn: a job that ends or dies does not ask for them again.

    They are in received.jsonl of the job; without a directory nothing is kept.
    """

    def __init__(self, directory: Path | None, first: int = 0):
        self.lock, self.file, self.rows = threading.Lock(), None, {}
        if directory is None:
            return
        path = directory / "received.jsonl"
        files.cut_partial_line(path)
        rows = [row for row in job_files.read(path) if row["number"] >= first]
        self.rows = {row["number"]: row for row in rows}
        self.file = path.open("wb")
        for row in rows:
            self.add(row)

    def take(self, number: int) -> dict | None:
        """The row of this number, if a former process received it."""
        return self.rows.pop(number, None)

    def add(self, row: dict) -> None:
        if self.file is not None:
            with self.lock:
                self.file.write(orjson.dumps(row) + b"\n")
                self.file.flush()

    def close(self) -> None:
        if self.file is not None:
            self.file.close()


def open_writer(recipe, request: dict):
    """The endpoint or local model of a request.

    Raises:
        NoWriter: if it names none. EndpointNotAnAddress.
    """
    if request.get("endpoint"):
        return Endpoint(request["endpoint"], request.get("endpoint_model") or "")
    if request.get("writer"):
        from core.synth.local import Local  # noqa: PLC0415 - loads torch, which no other job needs

        return Local(request["writer"], int(request.get("seed") or 0))
    raise NoWriter(recipe=recipe.name)


def seeds_of(recipe, request: dict) -> list[dict]:
    """The texts that a model starts from, {"text", "id"?}: the recipe's own, then the rows of a corpus."""
    seeds = [{"text": str(text)} for text in recipe.values.get("seeds") or []]
    if request.get("corpus"):
        rows = storage.all_rows(corpus.locate(request["corpus"]))
        seeds += [{"text": "\n".join(turns.texts(row)), "id": row["id"]} for row in rows]
    return seeds
