"""The process of one job: rows from a source, copies dropped, tokens counted, a corpus at the end.

`python -m core.synth --job DIR`. It holds the job's lock; a killed job goes on with the number after the last row that is
on the disk: nothing lost, nothing twice.
"""

import math
import sys
import time
from collections import Counter, deque
from functools import partial
from pathlib import Path

import orjson

from core import errors, events, jobs, paths
from core.corpus import diversity_metrics, turns
from core.corpus.token_counter import Scale
from core.runs import gpu_access
from core.synth import job_files, recipes, sources
from core.synth.chain_source import FromChain
from core.synth.copies import Copies
from core.synth.endpoint import EndpointDown
from core.synth.job_files import Files
from core.synth.novelty import Novelty
from core.synth.sources import FromGrammar, FromMix, Source
from core.synth.writers import FromModel
from core.training.environment import peak_resident_bytes

REPORT_SECONDS = 1.0
SYNC_SECONDS = 5.0
WAIT_SECONDS = 1.0  # between two looks whether the card is free
BAD_IN_A_ROW = 25  # replies of a model that are no new row
PAUSES = ("paused", "novelty", "bad_replies", "refusals", "repeats", "short")
XRAY_AT, XRAY_SHARE = 1000, 0.1  # rows, share of the volume: later the end is near


class Job:
    """What the process of a job holds open and counts."""

    def __init__(self, directory: Path):
        self.directory, self.request = directory, jobs.request(directory)
        self.recipe = recipes.read(self.request["text"], self.request["file"])
        self.seed, self.target = int(self.request.get("seed", 0)), int(self.request["tokens"])
        self.shard = sources.shard_of(self.request.get("shard"))
        self.target = math.ceil(self.target / self.shard[1])
        self.rows = self.tokens = self.next = self.bytes = 0  # next: the number of a row among those of its shard
        self.aside, self.copies = Counter(), Counter()  # why rows were set aside; what kinds of copies were dropped
        self.novel: deque = deque(maxlen=job_files.NOVELTY_ROWS)  # of the last rows: whether each was new
        self.sample: list[str] = []
        self.useless: deque = deque(maxlen=BAD_IN_A_ROW)  # why the last replies in a row were no new rows
        self.curve, self.charted, self.dropped_rows = Novelty(self.target), 0, set()
        self.xrayed = False
        self.unmeasured: tuple[str, ...] = ()  # checks for which there was no model
        self.began, self.began_tokens = time.monotonic(), 0
        self.reported = self.synced = 0.0

    @property
    def dropped(self) -> int:
        return sum(self.copies.values())

    @property
    def by_model(self) -> bool:
        return self.recipe.kind not in ("grammar", "mix")

    @property
    def is_full(self) -> bool:
        """Whether the volume is reached and no group of rows is half written."""
        return self.tokens >= self.target and self.next % self.recipe.parts == 0

    def place(self, number: int) -> int:
        """The number of a row in the whole job, of which this may be a shard."""
        return sources.place(number, self.shard, self.recipe.parts)

    def local(self, place: int) -> int:
        """The number in this shard of a row of the whole job."""
        return sources.local(place, self.shard, self.recipe.parts)

    def compared(self, row: dict) -> str:
        """What makes a row a copy: of a model's rows the answers, whatever they were asked."""
        return turns.learned(row) if self.by_model else "\n".join(turns.texts(row))


def run(directory: Path) -> str:
    """Work on the job in this directory until it ends, and return how."""
    with jobs.lock(directory):
        last = events.last(directory)
        if last and last["event"] in ("finished", "stopped"):
            return last["event"]
        ending = jobs.record(directory, lambda: _work(directory))
        if ending in ("finished", "stopped"):
            for name in ("rows.jsonl", "received.jsonl"):
                (directory / name).unlink(missing_ok=True)
        return ending


def _work(directory: Path) -> dict:
    job = Job(directory)
    copies, scale = Copies(), Scale(job.request.get("model"), job.recipe.lang)
    job_files.resume(job, copies)
    source = open_source(job)
    job.unmeasured = source.unmeasured
    ending = "finished" if job.is_full else ""
    with Files(directory) as files:
        try:
            ending = ending or _again(job, source, copies, scale, files)
            while not ending:
                try:
                    batch = source.batch(job.next)
                except gpu_access.CardBusy as error:
                    ending = _wait_for_card(job, error)
                    continue
                ending = _take(job, batch, copies, scale, files, source)
                if not ending and (ending := _asked(job)):
                    _take(job, source.drain(), copies, scale, files, source)
                elif not batch:
                    ending = ending or ("short" if source.short else "exhausted")
                _sync(job, files, bool(ending))
                _report(job, bool(ending))
        except EndpointDown as error:
            values = errors.to_dict(error)
            return {"event": "paused", "reason": values.pop("trouble"), **values}
        finally:
            source.close()
    return _end(job, ending, source.short)


def _again(job: Job, source: Source, copies: Copies, scale: Scale, files: Files) -> str:
    """Ask once more for the rows that were set aside and are wanted; how the job ends, if it does so meanwhile."""
    numbers = [job.local(place) for place in job_files.to_ask_again(job.directory)]
    following, ending = job.next, ""
    for batch in source.again(numbers, int(job.request.get("attempt") or 1)) if numbers and job.by_model else ():
        ending = _take(job, batch, copies, scale, files, source) or _asked(job)
        _sync(job, files, last=True)
        _report(job, last=bool(ending))
        if ending:
            break
    job.next = following
    if not (ending := ending or _asked(job)):
        (job.directory / job_files.AGAIN).unlink(missing_ok=True)
    return ending


def _wait_for_card(job: Job, busy: gpu_access.CardBusy) -> str:
    """Wait until the run that has the card has ended; how the job ends, if it is asked to meanwhile."""
    print(busy, file=sys.stderr, flush=True)
    events.append(job.directory, "waiting", run=busy.values["name"])
    began, ending = time.monotonic(), ""
    while gpu_access.busy(sees_card=True) and not (ending := _asked(job)):
        time.sleep(WAIT_SECONDS)
    job.began += time.monotonic() - began  # the rate is that of the rows
    events.append(job.directory, "resumed")
    return ending


def open_source(job: Job) -> Source:
    """The source of rows that the recipe names."""
    if job.recipe.kind == "grammar":
        return FromGrammar(job.recipe, job.seed, job.shard)
    if job.recipe.kind == "mix":
        return FromMix(job.recipe, job.seed, job.request.get("model"), job.shard, job.dropped_rows)
    source = FromChain if job.recipe.kind == "chain" else FromModel
    return source(job.recipe, job.seed, job.request, job.directory, job.next, partial(_asked, job))


def _take(job: Job, batch: list[dict], copies: Copies, scale: Scale, files: Files, source: Source) -> str:
    """Keep what is new of a batch of {"number", "row" | "reason"} until the volume is reached; how the job ends, if so."""
    good = [item for item in batch if "row" in item]
    numbers = [job.place(item["number"]) for item in good]
    verdicts = copies.judge(numbers, [job.compared(item["row"]) for item in good])
    ids = iter(scale.ids([item["row"] for item, copy in zip(good, verdicts, strict=True) if copy is None]))
    verdicts, kept, ending = iter(verdicts), [], ""
    for item in batch:
        job.next = item["number"] + 1
        if "reason" in item:
            _set_aside(job, item, files)
        elif copy := next(verdicts):
            _drop(job, item, copy, files)
            source.drop(item["number"])
        else:
            kept.append((item["row"], _keep(job, item, next(ids), files)))
        if ending := _ended(job):
            break
    for point in job.curve.add([row for row, _ in kept], [tokens for _, tokens in kept]):
        if point["tokens"] > job.charted:
            events.append(job.directory, "novelty", point=point)
    return ending


def _ended(job: Job) -> str:
    """How the job ends: "finished", or the reason to pause, which is refusals, repeats (the same text over and over), bad_replies, novelty."""
    if job.is_full:
        return "finished"
    if job.by_model and len(job.useless) == BAD_IN_A_ROW:
        reason, times = Counter(job.useless).most_common(1)[0]
        named = {"refusal": "refusals", "repeat": "repeats"}
        return named.get(reason, "bad_replies") if 2 * times > BAD_IN_A_ROW else "bad_replies"
    if len(job.novel) == job_files.NOVELTY_ROWS and sum(job.novel) < job_files.NOVELTY_LEAST * job_files.NOVELTY_ROWS:
        return "novelty"
    return ""


def _drop(job: Job, item: dict, copy: dict, files: Files) -> None:
    job.copies[copy["why"]] += 1
    job.novel.append(False)
    job.useless.append("repeat")
    files.dropped.write(orjson.dumps({"row": job.place(item["number"])} | copy) + b"\n")


def _set_aside(job: Job, item: dict, files: Files) -> None:
    job.aside[item["reason"]] += 1
    job.useless.append(item["reason"])
    values = {key: item[key] for key in ("reason", "detail")} | {"excerpt": item["excerpt"][:200]}
    files.aside.write(orjson.dumps({"row": job.place(item["number"])} | values) + b"\n")


def _keep(job: Job, item: dict, ids: list[int], files: Files) -> int:
    """Write a row down; its tokens."""
    place = job.place(item["number"])
    provenance = {"name": job.recipe.name, "hash": job.recipe.hash, "seed": job.seed, "row": place}
    provenance |= item.get("provenance", {}) | {"tokens": len(ids)}
    row = {key: item["row"][key] for key in ("text", "messages") if key in item["row"]}
    if path := item["row"].get("path"):
        provenance["path"] = path
    line = orjson.dumps(row | {"lang": item.get("lang", job.recipe.lang), "recipe": provenance}) + b"\n"
    files.add_row(line)
    files.add_tokens(ids)
    job.rows += 1
    job.bytes += len(line)
    job.tokens += len(ids)
    if len(job.sample) < job_files.XRAY_TEXTS:
        job.sample.append(turns.learned(row))
    job.novel.append(True)
    job.useless.clear()
    return len(ids)


def _sync(job: Job, files: Files, last: bool) -> None:
    if last or job.recipe.kind != "grammar" or time.monotonic() - job.synced > SYNC_SECONDS:
        job.synced = time.monotonic()
        files.sync()


def _report(job: Job, last: bool) -> None:
    """Progress once a second, and the x-ray when enough rows are there to see a template."""
    if not job.xrayed and job.rows >= XRAY_AT and job.tokens < XRAY_SHARE * job.target:
        job.xrayed = True
        began = time.monotonic()
        events.append(job.directory, "xray", rows=job.rows, xray=diversity_metrics.measure(job.sample))
        job.began += time.monotonic() - began  # the rate is that of the rows
    if not last and time.monotonic() - job.reported < REPORT_SECONDS:
        return
    job.reported = time.monotonic()
    events.append(job.directory, "progress", **_progress(job))


def _progress(job: Job) -> dict:
    seconds = max(time.monotonic() - job.began, 1e-6)
    rate = (job.tokens - job.began_tokens) / seconds
    return {
        "rows": job.rows,
        "tokens": job.tokens,
        "target": job.target,
        "made": job.next,
        "dropped": job.dropped,
        "copies": dict(job.copies),
        "aside": dict(job.aside),
        "bytes": job.bytes,
        "seconds": round(seconds, 3),
        "tokens_per_second": round(rate, 1),
        "seconds_left": round((job.target - job.tokens) / rate) if rate > 0 else None,
        "novelty": round(sum(job.novel) / len(job.novel), 3) if job.novel else None,
        "new": job.curve.summary(),
        "memory_mb": peak_resident_bytes() // 2**20,
    }


def _asked(job: Job) -> str:
    return {"pause": "paused", "stop": "stopped"}.get(jobs.end_request(job.directory), "")


def _end(job: Job, ending: str, short: dict) -> dict:
    """The values of the last event; finished and stopped jobs become a corpus."""
    if ending in PAUSES:
        reason = "asked" if ending == "paused" else ending
        return {"event": "paused", "reason": reason, "values": short, **_progress(job)}
    ending = "stopped" if ending == "stopped" else "finished"
    if not job.rows:
        return {"event": ending, "corpus": None, **_progress(job)}
    counts = _progress(job)
    card, xray = job_files.publish(job)
    out = Path(job.request["out"]) if job.request.get("out") else paths.corpora() / card["id"]
    job_files.move_blocks(job.directory, out)
    events.append(job.directory, "xray", rows=job.rows, xray=xray)
    return {
        "event": ending,
        "corpus": card["id"],
        "gauges": xray,
        **counts | {"memory_mb": peak_resident_bytes() // 2**20},
    }
