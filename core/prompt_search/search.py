"""The work of a search: instructions by successive halving, examples behind the best one, the loss on held-out rows.

All that is measured is an event: a search that goes on takes the same way again and measures only what is missing.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from core import jobs
from core.chat import profiles
from core.models import models
from core.prompt_search import candidates as made
from core.prompt_search import rows as corpus_rows
from core.prompt_search import searches
from core.prompt_search.candidates import Candidate
from core.prompt_search.judge import Judge
from core.runs import gpu_access, runs

LEAST_ROWS = 4  # of the first round
ROWS_AT_ONCE = 16  # between two looks whether somebody asked for an end, or a run for the card
WAIT_SECONDS = 1.0  # between two looks whether the card is free


def work(directory: Path, request: dict, report: Callable) -> dict:
    """Search in this directory's own process; the values of the last event."""
    search = Search(directory, request, report)
    try:
        return search.run()
    finally:
        search.judge.close()


def sizes(candidates: int, rows: int) -> list[int]:
    """On how many rows each round of halving compares: twice as many as the one before, on all of them the last two."""
    rounds = max(1, math.ceil(math.log2(candidates)))
    return [max(min(LEAST_ROWS, rows), rows >> (rounds - 1 - number)) for number in range(rounds)]


def cost(candidates: int, rows: int) -> int:
    """How many rows are measured by halving so many candidates."""
    total = before = 0
    for size in sizes(candidates, rows):
        total, before, candidates = total + candidates * (size - before), size, math.ceil(candidates / 2)
    return total


class Search:
    """What the process of a search holds: the rows, the model, the candidates and what is known of them."""

    def __init__(self, directory: Path, request: dict, report: Callable):
        self.directory, self.request, self.report = directory, request, report
        config = searches.config(request)
        name, place = runs.corpus_name(config.corpus), runs.corpus_path(config.corpus)
        self.parts = corpus_rows.split(place, name, config.validation_share, request["rows"], config.seed)
        base = models.prepare(config.base_model, self._preparing)
        self.judge = Judge(replace(config, base_model=base), name)
        self.candidates: list[Candidate] = []
        self.unfit: dict[int, str] = {}
        self.measured: dict[tuple[int, str], list[dict]] = defaultdict(list)  # events, of a candidate on a part
        self.stages: dict[str, list[Candidate]] = {}
        self.done = 0
        for event in searches.found(directory):
            self._read(event)

    def run(self) -> dict:
        parts, count, seed = self.parts, self.request["candidates"], self.request["seed"]
        self._with_card(lambda: self.judge.look([*parts.judging, *parts.held_out]))
        first = self._stage("instructions", lambda: self._instructions(count - count // 2))
        best = self._halve(first)
        more = self._stage(
            "examples", lambda: made.with_examples(self.candidates[best], parts.shown, count // 2 - 1, seed)
        )
        return self._conclude(self._halve([best, *more]))

    def _instructions(self, count: int) -> list[Candidate]:
        own = made.own(self.request["system_prompt"], self.request["examples"])
        ask = lambda questions: self._with_card(lambda: self.judge.proposals(questions))  # noqa: E731
        return made.instructions(own, self.parts.shown, count, ask, self.request["seed"])

    def _stage(self, name: str, make: Callable[[], list[Candidate]]) -> list[int]:
        """The numbers of a stage's candidates that can stand before the rows; they are made once."""
        if name not in self.stages:
            fresh = make()
            self.stages[name] = fresh
            self.report("candidates", stage=name, candidates=[asdict(one) for one in fresh])
        start = len(self.candidates)
        self.candidates += self.stages[name]
        fit = []
        for number in range(start, len(self.candidates)):
            if number not in self.unfit:
                self.unfit[number] = self._with_card(lambda one=self.candidates[number]: self.judge.unfit(one))
                if self.unfit[number]:
                    self.report("unfit", candidate=number, reason=self.unfit[number])
            if not self.unfit[number]:
                fit.append(number)
        return fit

    def _halve(self, left: list[int]) -> int:
        """The best candidate by successive halving: each round keeps the better half and evaluates it on more rows."""
        rows = len(self.parts.judging)
        for size in sizes(len(left), rows):
            losses = {number: self._loss(number, "judging", size) for number in left}
            left = sorted(left, key=losses.get)[: math.ceil(len(left) / 2)]
        return left[0]

    def _loss(self, number: int, part: str, count: int) -> float:
        """The mean loss in nats a learned token behind a candidate, on the first rows of a part."""
        known = self.measured[number, part]
        while (start := known[-1]["end"] if known else 0) < count:
            self._measure(number, part, start, self._end(part, start))
        some = [event for event in known if event["end"] <= count]
        tokens = sum(event["tokens"] for event in some)
        return sum(event["nats"] for event in some) / tokens if tokens else math.inf

    def _end(self, part: str, start: int) -> int:
        """Where the rows that are measured at once end: also wherever a round of halving may end."""
        rows = len(getattr(self.parts, part))
        ends = {start + ROWS_AT_ONCE, LEAST_ROWS, *(rows >> number for number in range(rows.bit_length()))}
        return min(end for end in ends if start < end <= rows and end >= min(LEAST_ROWS, rows))

    def _measure(self, number: int, part: str, start: int, end: int) -> None:
        rows = getattr(self.parts, part)[start:end]
        asked = lambda: bool(jobs.end_request(self.directory))  # noqa: E731
        found = self._with_card(lambda: self.judge.losses(self.candidates[number], rows, asked))
        if found is None:
            jobs.end_if_requested(self.directory)
        nats, tokens, counted = found
        event = {"candidate": number, "part": part, "end": end, "nats": nats, "tokens": tokens, "rows": counted}
        self._read({"event": "measured", "start": start, **event})
        self.report("measured", start=start, **event, done=self.done, total=self._total())

    def _read(self, event: dict) -> None:
        """Take up what an event says."""
        if event["event"] == "candidates":
            self.stages[event["stage"]] = [made.from_dict(one) for one in event["candidates"]]
        elif event["event"] == "unfit":
            self.unfit[event["candidate"]] = event["reason"]
        else:
            self.measured[event["candidate"], event["part"]].append(event)
            self.done += event["end"] - event["start"]

    def _total(self) -> int:
        """Rows that the whole search measures, as far as that is known."""
        rows, count = len(self.parts.judging), self.request["candidates"]
        first = len(self.stages["instructions"])
        return cost(first, rows) + cost(count // 2, rows) + (2 + self._has_own()) * len(self.parts.held_out)

    def _conclude(self, best: int) -> dict:
        """Save the best one as a profile, and say what it does on rows that had no part in the choice."""
        part = "held_out" if self.parts.held_out else "judging"
        rows = len(getattr(self.parts, part))
        before = self._loss(0, part, rows)
        own = self._loss(1, part, rows) if self._has_own() and not self.unfit[1] else None
        chosen = self.candidates[best]
        loss = self._loss(best, part, rows)
        known = self.measured[0, part]
        return {
            "best": best,
            "loss": loss,
            "before": before,
            "own": own,
            "rows": sum(event["rows"] for event in known),
            "tokens": sum(event["tokens"] for event in known),
            "longest": self.judge.longest,
            "method": self.judge.local.method,
            "used_to_choose": part == "judging",
            "profile": self._save(chosen) if loss < before else None,
        }

    def _has_own(self) -> bool:
        return [one.kind for one in self.stages["instructions"][1:2]] == ["own"]

    def _save(self, chosen: Candidate) -> str:
        """Save a candidate under a name that no other profile has."""
        number, name = 1, self.request["name"]
        taken = {profile.id: profile for profile in profiles.listed()}
        while True:
            title = name if number == 1 else f"{name} {number}"
            profile = profiles.Profile(title, self.request["base_model"], chosen.system_prompt, chosen.examples)
            if taken.get(profile.id) in (None, profile):
                return profiles.save(profile)
            number += 1

    def _with_card(self, ask: Callable):
        """What `ask()` returns, called when no run has the card, and once more if one takes it."""
        while True:
            try:
                return ask()
            except gpu_access.CardBusy as error:
                self.judge.close()
                self.report("waiting", run=error.values["name"])
                while gpu_access.busy(sees_card=True):
                    jobs.end_if_requested(self.directory)
                    time.sleep(WAIT_SECONDS)
                self.report("resumed")

    def _preparing(self, stage: str, done: float, total: float) -> None:
        jobs.end_if_requested(self.directory)
