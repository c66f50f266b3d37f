"""Rows that a language model writes: prompts of a recipe, an endpoint or a local model, checked replies."""

import re
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, TimeoutError, wait
from contextlib import suppress
from pathlib import Path

import orjson

from core import errors, files, process
from core.corpus import turns
from core.synth import cleaning, material, prompts, replies
from core.synth.endpoint import Endpoint
from core.synth.replies import Reply
from core.synth.sources import Source, shard_of

LEAST_SCORE = 7  # of 10, by the judge
LOOK_SECONDS = 0.2  # between two looks, while a reply is waited for, whether the job is asked to end
DRAIN_SECONDS = 3.0  # that replies on their way get when a job ends
SAMPLING = {"temperature": 0.9, "max_tokens": 600, "top_p": None, "thinking": ""}  # of a request, and its defaults


class FromModel(Source):
    """Rows in the order of their numbers, with so many requests in flight at the endpoint, or batches of a local model.

    A row is {"number", "row", "provenance"}, or {"number", "reason", "detail", "excerpt"} where the reply is set aside;
    "out" are the tokens of the reply.
    """

    def __init__(
        self,
        recipe,
        seed: int,
        request: dict,
        directory: Path | None = None,
        first: int = 0,
        asked: Callable[[], str] = str,
    ):
        self.recipe, self.seed, self.request, self.asked = recipe, seed, request, asked
        self.received = Received(directory, first)
        self.seeds = seeds_of(recipe, request)
        prompts.check(recipe, self.seeds)
        self.personas = request.get("personas") or []
        prompts.check_personas(recipe, self.personas)
        self.parallel = max(1, int(request.get("parallel") or 4))
        self.writer = open_writer(recipe, request)
        self.local = None if isinstance(self.writer, Endpoint) else self.writer
        self.flying: deque = deque()  # (number, future) of the requests in flight
        self.attempt, self.drained = 0, False  # attempt: of the rows that are asked for again
        self.which, self.of = shard_of(request.get("shard"))
        self.sampling = sampling(request)

    def batch(self, first: int) -> list[dict]:
        """The next rows: as many as are ready in order, at least one; none where the job is asked to end meanwhile."""
        if self.local:
            return self._written(range(first, first + self.parallel))
        start = self.flying[-1][0] + 1 if self.flying else first
        for number in range(start, first + self.parallel):
            self.flying.append((number, self._sent(number)))
        return self._ready()

    def again(self, numbers: list[int], attempt: int) -> Iterator[list[dict]]:
        """The rows of these numbers, asked for anew with another seed, until the job is asked to end."""
        self.attempt = attempt
        for at in range(0, len(numbers), self.parallel):
            some = numbers[at : at + self.parallel]
            if self.local:
                yield self._written(some)
                continue
            self.flying.extend((number, self._sent(number)) for number in some)
            while self.flying and (rows := self._ready()):
                yield rows
            if self.flying:
                return
        self.attempt = 0

    def drain(self) -> list[dict]:
        """The rows in flight, waited for a moment: what was asked for is paid for."""
        wait([future for _, future in self.flying], timeout=DRAIN_SECONDS)
        self.drained = True
        return self._done()

    def _ready(self) -> list[dict]:
        """The first row in flight and those behind it that are done."""
        while not self.asked():
            with suppress(TimeoutError):
                self.flying[0][1].result(timeout=LOOK_SECONDS)
                return self._done()
        return []

    def _done(self) -> list[dict]:
        rows = []
        while self.flying and self.flying[0][1].done() and not self.flying[0][1].exception():
            rows.append(self.flying.popleft()[1].result())
        return rows

    def _sent(self, number: int) -> Future:
        return process.in_thread(self._received_or_asked, number)

    def _written(self, numbers) -> list[dict]:
        """Rows of the local model."""
        asked = [self.prompt(number) for number in numbers]
        known = {key: self.sampling[key] for key in ("temperature", "max_tokens", "top_p")}
        written = self.local.batch([one["messages"] for one in asked], **known)
        return [self._row(*row) for row in zip(numbers, asked, written, strict=True)]

    def prompt(self, number: int) -> dict:
        """What is asked for the row of this number."""
        number = number * self.of + self.which
        if self.recipe.kind == "grid":
            prompt = prompts.of_grid(self.recipe, self.seed, number, self.personas)
        else:
            prompt = prompts.of_method(self.recipe, self.seeds, self.seed, number)
        return prompts.introduced(prompt, self.recipe, self.personas, self.seed, number)

    def _received_or_asked(self, number: int) -> dict:
        if not self.attempt and (row := self.received.take(number)):
            return row
        prompt, place = self.prompt(number), number * self.of + self.which
        seed = self.seed * 1_000_003 + place + 500_009 * self.attempt
        reply = self.writer.ask(prompt["messages"], seed=seed, **self.sampling)
        row = self._row(number, prompt, reply)
        self.received.add(row)
        return row

    def _row(self, number: int, prompt: dict, reply: Reply) -> dict:
        row, text, reason = replies.judged(reply, prompt, self.recipe.lang)
        base = {"number": number, "out": reply.tokens_out}
        if row is None:
            return base | {"excerpt": text or reply.detail, "reason": reason, "detail": reply.detail[:200]}
        score = self._score(row) if self.recipe.values.get("judge") else None
        if score is not None and score < LEAST_SCORE:
            return base | {"excerpt": text, "reason": "low_score", "detail": str(score)}
        provenance = {"prompt": prompt["messages"], "tokens_in": reply.tokens_in, "tokens_out": reply.tokens_out}
        provenance |= {"model": self.request.get("endpoint_model") or self.request.get("writer")}
        provenance |= {key: value for key, value in self.sampling.items() if value not in (None, "")}
        extra = {key: prompt.get(key) for key in ("parent", "cell", "persona")} | {"score": score}
        provenance |= {key: value for key, value in extra.items() if value is not None}
        return base | {"row": row, "provenance": provenance}

    def _score(self, row: dict) -> float | None:
        """The judge's number; a reply without one is no verdict, and the row stays."""
        question = prompts.in_language(prompts.WORDS["judge"], self.recipe.lang).format(
            seed="\n".join(turns.texts(row))
        )
        question = prompts.steered(question, self.request.get("examples") or {}, self.recipe.lang)
        thinking = self.sampling["thinking"] and "off"  # it would eat the eight tokens
        asked = [{"role": "user", "content": question}]
        reply = self.writer.ask(asked, temperature=0.0, max_tokens=8, thinking=thinking)
        score = re.search(r"\b(10|[1-9])(?:[.,]\d)?\b", cleaning.without_thinking(reply.text)[0])
        return float(score[1]) if score else None

    def close(self) -> None:
        self.writer.close()
        if not self.drained:  # the replies on their way are kept for the next process
            wait([future for _, future in self.flying], timeout=DRAIN_SECONDS)
        self.received.close()


class Received:
    """Rows as their replies come in, before their turn: a job that is resumed does not request them again.

    They are in received.jsonl of the job; without a directory nothing is kept.
    """

    def __init__(self, directory: Path | None, first: int = 0):
        self.lock, self.file, self.rows = threading.Lock(), None, {}
        if directory is None:
            return
        path = directory / "received.jsonl"
        files.cut_partial_line(path)
        rows = [row for row in files.lines(path, {"number": int}) if row["number"] >= first]
        self.rows = {self.key(row): row for row in rows}
        self.file = path.open("wb")
        for row in rows:
            self.add(row)

    @staticmethod
    def key(row: dict):
        return row["number"]

    def take(self, number: int) -> dict | None:
        """The row of this number, if a former process received it."""
        return self.rows.pop(number, None)

    def add(self, row: dict) -> None:
        with self.lock:
            if self.file is not None:
                self.file.write(orjson.dumps(row) + b"\n")
                self.file.flush()

    def close(self) -> None:
        with self.lock:
            if self.file is not None:
                self.file.close()
                self.file = None


def sampling(request: dict) -> dict:
    """How a model of this request draws its words; a temperature of 0 is one."""
    said = {key: request.get(key) for key in SAMPLING}
    return {key: default if said[key] is None else said[key] for key, default in SAMPLING.items()}


def open_writer(recipe, request: dict):
    """The endpoint or local model of a request.

    Raises:
        NoWriter: if it names none. EndpointNotAnAddress.
    """
    if request.get("endpoint"):
        return Endpoint(request["endpoint"], request.get("endpoint_model") or "", request.get("timeout"))
    if request.get("writer"):
        from core.synth.local import Local  # noqa: PLC0415 - loads torch, which no other job needs

        return Local(request["writer"], int(request.get("seed") or 0))
    raise errors.named("NoWriter", recipe=recipe.name)


def seeds_of(recipe, request: dict) -> list[dict]:
    """The texts that a model starts from, {"text", "id"?}: the recipe's own, then every passage of a corpus."""
    seeds = [{"text": str(text)} for text in recipe.values.get("seeds") or []]
    if request.get("corpus"):
        seeds += material.of_corpus(request["corpus"], request.get("topics"))
    return seeds
