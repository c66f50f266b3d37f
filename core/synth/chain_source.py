"""Rows of a chain: several rows on their way at once at an endpoint, or step by step together by a local model.

Every reply is kept in received.jsonl as it comes, so a job that is paused or killed within a row goes on with the next
call. A chain of k rows numbers them k·n to k·n + k − 1, so that a job knows where within a group it was.
"""

import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from functools import cached_property

import orjson

from core.runs import gpu_access
from core.synth import material, prompts
from core.synth.chain_templates import TemplateWrong
from core.synth.chain_walk import Aside, Ask, Walk
from core.synth.endpoint import Closed, Endpoint
from core.synth.nearness import Nearness
from core.synth.replies import Reply
from core.synth.writers import FromModel, Received, open_writer

JUDGES = {"judge_endpoint": "endpoint", "judge_model": "endpoint_model", "judge_writer": "writer"}


class FromChain(FromModel):
    """Rows of a recipe of kind chain."""

    def __init__(self, recipe, seed: int, request: dict, directory=None, first: int = 0, asked=str):
        super().__init__(recipe, seed, request, asked=asked)
        self.parts, self.closed = recipe.parts, False
        self.received = Replies(directory, first // self.parts)
        own = {name: request[key] for key, name in JUDGES.items() if request.get(key)}
        self.judge = (
            open_writer(recipe, own | {"seed": seed, "timeout": request.get("timeout")}) if own else self.writer
        )
        self.writers = {False: self.writer, True: self.judge}
        self.local = next((one for one in self.writers.values() if not isinstance(one, Endpoint)), None)
        self.embedder = self._embedder()
        self.unmeasured = ("near",) if self._compares() and not self.embedder else ()
        self.nearness = Nearness(self.embedder.hidden_means, recipe.lang) if self.embedder else None

    def _embedder(self):
        """The model of this machine whose hidden states say how near texts are: the one that was chosen, the recipe's,
        the writer, the judge.
        """
        if not self._compares():
            return None
        if name := self.request.get("embedder") or self.recipe.values.get("embedder"):
            return open_writer(self.recipe, {"writer": name})
        return self.local

    def _compares(self) -> bool:
        return self.recipe.chain.checks("near") or "near" in (self.recipe.values.get("checks") or {})

    def batch(self, first: int) -> list[dict]:
        """The rows of the next chains: as many as are ready in order, at least those of one."""
        start = first // self.parts
        if self.local:
            made = self._written(range(start, start + self.parallel))
        else:
            self.flying = deque((number, self._sent(number) if _waits(sent) else sent) for number, sent in self.flying)
            begin = self.flying[-1][0] + 1 if self.flying else start
            self.flying.extend((number, self._sent(number)) for number in range(begin, start + self.parallel))
            made = self._ready()
        return [row for row in self._flat(made) if row["number"] >= first]

    def again(self, numbers: list[int], attempt: int) -> Iterator[list[dict]]:
        """The rows of the chains that these were set aside from."""
        chains = dict.fromkeys(number // self.parts for number in numbers)
        for made in super().again(list(chains), attempt):
            yield self._flat(made)

    def drain(self) -> list[dict]:
        """The rows that end with the replies in flight."""
        self.closed = True
        return self._flat(super().drain())

    def close(self) -> None:
        self.closed = True
        super().close()
        for one in {self.judge, self.embedder} - {self.writer, None}:
            one.close()

    def _ready(self) -> list[list[dict]]:
        """The next chains that are done; none where the job is asked to end meanwhile."""
        with suppress(Closed):
            return super()._ready()
        return []

    def _flat(self, made: list[list[dict]]) -> list[dict]:
        """The rows of some chains; their replies need not be remembered any more."""
        for rows in made:
            self.received.forget(rows[-1]["number"] // self.parts)
        return [row for rows in made for row in rows]

    def _walk(self, number: int) -> Walk:
        plans = self.recipe.plans(self.seed, number * self.of + self.which)
        given = {"examples": self.request.get("examples"), "names": self.names, "nearness": self.nearness}
        if self.recipe.values.get("material"):
            given["passage"] = self._passage(number)
        return Walk(self.recipe.chain, self.recipe.values, self.recipe.lang, plans, given)

    def _passage(self, number: int) -> dict:
        """The passage of a chain: each of the person's once before any comes again."""
        return self.seeds[prompts.shuffled(len(self.seeds), self.seed, number * self.of + self.which)]

    @cached_property
    def names(self) -> list[str]:
        """The names that the person's texts mention most."""
        return material.names(self.seeds, self.recipe.lang)

    def _received_or_asked(self, number: int) -> list[dict]:
        """The rows of one chain, each reply asked for when the one before it is there."""
        walk = self._walk(number)
        asks, reply = walk.asks(), None
        try:
            while True:
                ask = asks.send(reply)
                reply = self._kept_or_asked(number, ask)
        except StopIteration:
            return self._rows(number, walk)
        except Aside as aside:
            return self._aside(number, walk, aside)
        except TemplateWrong as error:
            return self._aside(number, walk, Aside("template", str(error)))

    def _kept_or_asked(self, number: int, ask: Ask) -> Reply:
        if reply := self.received.reply(number, self.attempt, ask):
            return reply
        if self.closed or self.asked():
            raise Closed
        reply = self.writers[ask.judge].ask(ask.messages, seed=self._seed(number, ask), **self._options(ask))
        self.received.keep(number, self.attempt, ask, reply)
        return reply

    def _seed(self, number: int, ask: Ask) -> int:
        place = number * self.of + self.which
        return (self.seed * 1_000_003 + place + 500_009 * self.attempt + (ask.call << 20)) % 2**31

    def _options(self, ask: Ask) -> dict:
        """The job's settings with those of a step; a person's larger budget of tokens stays."""
        most = max(self.sampling["max_tokens"], ask.options.get("max_tokens", 0))
        options = self.sampling | ask.options | {"max_tokens": most}
        if self.sampling["thinking"] and ask.judge:  # it would eat the tokens of a verdict
            options["thinking"] = "off"
        return options

    def _written(self, numbers) -> list[list[dict]]:
        """The rows of several chains, whose next prompts are written as one batch; none when the job is to end."""
        walks = {number: self._walk(number) for number in numbers}
        asks = {number: walk.asks() for number, walk in walks.items()}
        done: dict[int, list[dict]] = {}
        given: dict[int, Reply | None] = dict.fromkeys(numbers)
        while given:
            if self.asked():
                break
            waiting = {}
            for number, reply in given.items():
                try:
                    waiting[number] = asks[number].send(reply)
                except StopIteration:
                    done[number] = self._rows(number, walks[number])
                except Aside as aside:
                    done[number] = self._aside(number, walks[number], aside)
                except TemplateWrong as error:
                    done[number] = self._aside(number, walks[number], Aside("template", str(error)))
            given = self._answers(waiting)
        ready = []
        for number in numbers:
            if number not in done:
                break
            ready.append(done[number])
        return ready

    def _answers(self, waiting: dict[int, Ask]) -> dict[int, Reply]:
        """A reply to each prompt: those kept, then batches of one writer and one set of options."""
        known = {number: self.received.reply(number, self.attempt, ask) for number, ask in waiting.items()}
        batches: dict[tuple, list[int]] = {}
        for number, ask in waiting.items():
            if known[number] is None:
                batches.setdefault((ask.judge, tuple(self._options(ask).items())), []).append(number)
        for (judge, options), numbers in batches.items():
            for number, reply in zip(numbers, self._batch(judge, dict(options), waiting, numbers), strict=True):
                self.received.keep(number, self.attempt, waiting[number], reply)
                known[number] = reply
        return known

    def _batch(self, judge: bool, options: dict, waiting: dict[int, Ask], numbers: list[int]) -> list[Reply]:
        writer = self.writers[judge]
        if not isinstance(writer, Endpoint):
            known = {key: options[key] for key in ("temperature", "max_tokens", "top_p")}
            return writer.batch([waiting[number].messages for number in numbers], **known)
        with ThreadPoolExecutor(self.parallel) as pool:
            asks = [(waiting[number], self._seed(number, waiting[number])) for number in numbers]
            return list(pool.map(lambda one: writer.ask(one[0].messages, seed=one[1], **options), asks))

    def _rows(self, number: int, walk: Walk) -> list[dict]:
        try:
            rows, names = walk.rows(), walk.names()
        except TemplateWrong as error:
            return self._aside(number, walk, Aside("template", str(error)))
        model = self.request.get("endpoint_model") or self.request.get("writer")
        provenance = {"model": model, "plan": walk.plans, "calls": walk.calls, "scores": walk.scores, **self.sampling}
        provenance |= {"tokens_in": walk.tokens_in, "tokens_out": walk.tokens_out, "rewritten": walk.rewritten}
        if self.parts > 1:
            provenance["group"] = f"{self.recipe.hash}-{self.seed}-{number * self.of + self.which}"
        provenance = {key: value for key, value in provenance.items() if value not in (None, "", [], {})}
        if self.recipe.values.get("material"):
            provenance["parent"] = self._passage(number).get("id")
        items = []
        for part, (row, name) in enumerate(zip(rows, names, strict=True)):
            more = provenance | ({"part": name} if name else {})
            spent = {"out": walk.tokens_out, "calls": walk.calls} if not part else {"out": 0, "calls": 0}
            items.append({"number": number * self.parts + part, "row": row, "provenance": more} | spent)
        return items

    def _aside(self, number: int, walk: Walk, aside: Aside) -> list[dict]:
        last = number * self.parts + self.parts - 1
        values = {"reason": aside.reason, "detail": aside.detail[:200], "excerpt": aside.excerpt}
        return [{"number": last, "out": walk.tokens_out, "calls": walk.calls} | values]


class Replies(Received):
    """The replies of rows on their way, by the row and the call."""

    def reply(self, number: int, attempt: int, ask: Ask) -> Reply | None:
        """The reply that a former process, or a former try, received to this very prompt."""
        row = self.rows.get((number, ask.call))
        return Reply(**row["reply"]) if row and row["prompt"] == _digest(ask, attempt) else None

    def keep(self, number: int, attempt: int, ask: Ask, reply: Reply) -> None:
        row = {"number": number, "call": ask.call, "prompt": _digest(ask, attempt), "reply": asdict(reply)}
        with self.lock:
            self.rows[self.key(row)] = row
        self.add(row)

    def forget(self, number: int) -> None:
        """Drop those of a row that was made; they stay in the file."""
        with self.lock:
            for key in [key for key in self.rows if key[0] <= number]:
                del self.rows[key]

    @staticmethod
    def key(row: dict) -> tuple[int, int]:
        return row["number"], row["call"]


def _digest(ask: Ask, attempt: int) -> str:
    return hashlib.blake2b(orjson.dumps([ask.messages, ask.judge, attempt]), digest_size=8).hexdigest()


def _waits(sent: Future) -> bool:
    """Whether a chain was left because a run has the card of the model that compares: its replies are kept."""
    return sent.done() and isinstance(sent.exception(), gpu_access.CardBusy)
