"""The process of one job: rows from a source, copies dropped, tokens counted, a corpus at the end.

`python -m core.synth --job DIR`. It holds the job's lock; rows.jsonl and aside.jsonl are append-only and each row has
a number, so a killed job goes on with the number after the last one that is on the disk: nothing lost, nothing twice.
"""

import os
import time
import traceback
from collections import Counter, deque
from pathlib import Path

import orjson
from filelock import FileLock, Timeout

from core import events
from core.synth import jobs, publishing, recipes
from core.synth.endpoint import EndpointDown
from core.trouble import Trouble

NOVELTY_ROWS, NOVELTY_LEAST = 200, 0.3
TELL_SECONDS = 1.0
SYNC_SECONDS = 5.0
BAD_IN_A_ROW = 25
XRAY_AT, XRAY_SHARE = 1000, 0.1  # rows; a job that is further than that is soon told by its end
XRAY_TEXTS = 2000


class AlreadyAtWork(Trouble):
    template = "The job {job} is at work in another process already."


class Job:
    """What the process of a job holds open and counts."""

    def __init__(self, directory: Path):
        self.directory, self.request = directory, jobs.request(directory)
        self.recipe = recipes.read(self.request["text"], self.request["file"])
        self.seed, self.target = int(self.request.get("seed", 0)), int(self.request["tokens"])
        self.rows = self.tokens = self.next = self.bytes = 0
        self.aside, self.dropped = Counter(), 0
        self.novel: deque = deque(maxlen=NOVELTY_ROWS)
        self.sample: list[str] = []
        self.bad_in_a_row, self.xrayed = 0, False
        self.began, self.began_tokens, self.began_made = time.monotonic(), 0, 0
        self.told = self.synced = 0.0

    @property
    def made(self) -> int:
        return self.next


def run(directory: Path) -> str:
    """Work on the job in this directory until it ends, and return how."""
    lock = FileLock(directory / "run.lock", timeout=10)
    try:
        lock.acquire()
    except Timeout:
        raise AlreadyAtWork(job=directory.name) from None
    with lock:
        events.mend(directory)
        last = events.last(directory)
        if last and last["event"] in ("finished", "stopped"):
            return last["event"]
        events.append(directory, "started", pid=os.getpid())
        try:
            return _work(directory)
        except EndpointDown as error:
            values = {key: str(value) for key, value in error.values.items()}
            events.append(directory, "paused", reason="EndpointDown", values=values, message=str(error))
            return "paused"
        except Exception as error:  # every ending is put on record
            traceback.print_exc()
            known = isinstance(error, Trouble)
            values = {key: str(value) for key, value in error.values.items()} if known else {}
            message = str(error) if known else f"{type(error).__name__}: {str(error).splitlines()[:1]}"
            events.append(directory, "failed", trouble=type(error).__name__, values=values, message=message)
            return "failed"


def _work(directory: Path) -> str:
    from core.synth.seen import Seen
    from core.synth.weighing import Scale

    job = Job(directory)
    seen, scale = Seen(), Scale(job.request.get("model"), job.recipe.lang)
    _resume(job, seen)
    source = open_source(job)
    ending = "finished" if job.tokens >= job.target else ""
    with (
        (directory / "rows.jsonl").open("ab", buffering=1 << 20) as rows,
        (directory / "aside.jsonl").open("ab") as aside,
    ):
        try:
            while not ending:
                batch = source.batch(job.next)
                ending = "exhausted" if not batch else _take(job, batch, seen, scale, rows, aside)
                _sync(job, rows, aside, bool(ending))
                _tell(job, bool(ending))
                ending = ending or _asked(job)
        finally:
            source.close()
    return _end(job, ending)


def open_source(job: Job):
    """The source of rows that the recipe names."""
    if job.recipe.kind == "grammar":
        from core.synth.sources import FromGrammar

        return FromGrammar(job.recipe, job.seed)
    if job.recipe.kind == "mix":
        from core.synth.mixing import FromMix

        return FromMix(job.recipe, job.seed, job.target, job.request.get("model"))
    from core.synth.writers import FromModel

    return FromModel(job.recipe, job.seed, job.request)


def _resume(job: Job, seen) -> None:
    """Read what a former process left: the last half-written line goes, everything else counts."""
    from core.synth.weighing import said

    for name in ("rows.jsonl", "aside.jsonl"):
        _mend(job.directory / name)
    for row in read(job.directory / "rows.jsonl"):
        job.rows += 1
        job.tokens += row["recipe"]["tokens"]
        job.next = max(job.next, row["recipe"]["row"] + 1)
        if len(job.sample) < XRAY_TEXTS:
            job.sample.append("\n".join(said(row)))
        seen.add("\n".join(said(row)))
    for row in read(job.directory / "aside.jsonl"):
        job.aside[row["reason"]] += 1
        job.next = max(job.next, row["row"] + 1)
    job.dropped = job.next - job.rows - sum(job.aside.values())
    job.xrayed = any(event["event"] == "xray" for event in events.read(job.directory)[0])
    job.began_tokens, job.began_made = job.tokens, job.next
    path = job.directory / "rows.jsonl"
    job.bytes = path.stat().st_size if path.exists() else 0


def _take(job: Job, batch: list[dict], seen, scale, rows, aside) -> str:
    """Keep what is new of a batch of {"number", "row" | "reason"} until the volume is reached; how the job ends, if so."""
    from core.synth.weighing import said

    fresh = []
    for one in batch:
        new = "row" in one and seen.add("\n".join(said(one["row"])))
        fresh.append(new)
    ids = iter(scale.ids([one["row"] for one, new in zip(batch, fresh, strict=True) if new]))
    for one, new in zip(batch, fresh, strict=True):
        job.next = one["number"] + 1
        if "reason" in one:
            job.aside[one["reason"]] += 1
            entry = {"row": one["number"], "reason": one["reason"], "detail": one.get("detail", "")}
            aside.write(orjson.dumps(entry | {"excerpt": one.get("excerpt", "")[:200]}) + b"\n")
            job.bad_in_a_row += 1
            if job.bad_in_a_row >= BAD_IN_A_ROW:
                return "bad_replies"
            continue
        job.bad_in_a_row = 0
        job.novel.append(new)
        if not new:
            job.dropped += 1
        else:
            _keep(job, one, next(ids), rows)
            if job.tokens >= job.target:
                return "finished"
        if len(job.novel) == NOVELTY_ROWS and sum(job.novel) < NOVELTY_LEAST * NOVELTY_ROWS:
            return "novelty"
    return ""


def _keep(job: Job, one: dict, ids: list[int], rows) -> None:
    from core.synth.weighing import said

    provenance = {"name": job.recipe.name, "hash": job.recipe.hash, "seed": job.seed, "row": one["number"]}
    provenance |= one.get("provenance", {}) | {"tokens": len(ids)}
    row = {key: one["row"][key] for key in ("text", "messages") if key in one["row"]}
    if path := one["row"].get("path"):
        provenance["path"] = path
    line = orjson.dumps(row | {"lang": one.get("lang", job.recipe.lang), "recipe": provenance}) + b"\n"
    rows.write(line)
    job.rows += 1
    job.bytes += len(line)
    job.tokens += len(ids)
    if len(job.sample) < XRAY_TEXTS:
        job.sample.append("\n".join(said(row)))


def _sync(job: Job, rows, aside, last: bool) -> None:
    if last or job.recipe.kind != "grammar" or time.monotonic() - job.synced > SYNC_SECONDS:
        job.synced = time.monotonic()
        aside.flush()
        rows.flush()
        os.fsync(rows.fileno())


def _tell(job: Job, last: bool) -> None:
    """Progress once a second, and the x-ray when enough rows are there to see a template."""
    if not job.xrayed and job.rows >= XRAY_AT and job.tokens < XRAY_SHARE * job.target:
        job.xrayed = True
        began = time.monotonic()
        events.append(job.directory, "xray", rows=job.rows, xray=_xray(job))
        job.began += time.monotonic() - began  # the rate is that of the rows
    if not last and time.monotonic() - job.told < TELL_SECONDS:
        return
    job.told = time.monotonic()
    events.append(job.directory, "progress", **_progress(job))


def _progress(job: Job) -> dict:
    seconds = max(time.monotonic() - job.began, 1e-6)
    rate = (job.tokens - job.began_tokens) / seconds
    return {
        "rows": job.rows,
        "tokens": job.tokens,
        "target": job.target,
        "made": job.made,
        "dropped": job.dropped,
        "aside": dict(job.aside),
        "bytes": job.bytes,
        "seconds": round(seconds, 3),
        "tokens_per_second": round(rate, 1),
        "seconds_left": round((job.target - job.tokens) / rate) if rate > 0 else None,
        "novelty": round(sum(job.novel) / len(job.novel), 3) if job.novel else None,
        "memory_mb": peak_mb(),
    }


def _xray(job: Job) -> dict:
    from core.corpus import gauges

    return gauges.measure(job.sample)


def _asked(job: Job) -> str:
    return {"pause": "paused", "stop": "stopped"}.get(jobs.asked(job.directory), "")


def _end(job: Job, ending: str) -> str:
    """Put the ending on record; finished and stopped jobs become a corpus."""
    if ending in ("novelty", "bad_replies"):
        counts = {"novelty": round(sum(job.novel) / max(1, len(job.novel)), 3), "aside": dict(job.aside)}
        events.append(job.directory, "paused", reason=ending, **_progress(job) | counts)
        return "paused"
    if ending == "paused":
        events.append(job.directory, "paused", reason="asked", **_progress(job))
        return "paused"
    ending = "stopped" if ending == "stopped" else "finished"
    if not job.rows:
        events.append(job.directory, ending, corpus=None, **_progress(job))
        return ending
    counts = _progress(job)
    card, xray = publishing.publish(job)
    events.append(job.directory, "xray", rows=job.rows, xray=xray)
    events.append(job.directory, ending, corpus=card["id"], gauges=xray, **counts | {"memory_mb": peak_mb()})
    (job.directory / "rows.jsonl").unlink(missing_ok=True)
    return ending


def read(path: Path):
    """The rows of a file of lines, if it is there."""
    if path.exists():
        with path.open("rb", buffering=1 << 20) as lines:
            for line in lines:
                yield orjson.loads(line)


def _mend(path: Path) -> None:
    """Cut off a line that a dead process left half-written."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        end = file.seek(0, 2)
        while end:
            start = max(0, end - 65_536)
            file.seek(start)
            at = file.read(end - start).rfind(b"\n")
            if at >= 0:
                file.truncate(start + at + 1)
                return
            end = start
        file.truncate(0)


def peak_mb() -> int:
    """The most memory that this process has had, in MB."""
    try:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    except ImportError:  # Windows
        import psutil

        return psutil.Process().memory_info().peak_wset // 2**20
