"""What a former process of a job left on the disk: read back, so that the next row is the one that it would have made."""

from pathlib import Path

import orjson

from core import events
from core.corpus import turns
from core.synth import packing

BATCH = 500
NOVELTY_ROWS = 200
XRAY_TEXTS = 2000


def resume(job, copies) -> None:
    """Bring a job and what it knows of copies to where the files end; a half-written last line goes."""
    for name in ("rows.jsonl", "aside.jsonl", "dropped.jsonl"):
        mend(job.directory / name)
    last: list[tuple[int, bool]] = []  # (number, kept) of the last rows, for the novelty
    numbers, texts = [], []
    for row in read(job.directory / "rows.jsonl"):
        job.rows += 1
        job.tokens += row["recipe"]["tokens"]
        numbers.append(row["recipe"]["row"])
        texts.append("\n".join(turns.texts(row)))
        if len(job.sample) < XRAY_TEXTS:
            job.sample.append(turns.learned(row))
        if len(numbers) == BATCH:
            last = _kept(job, copies, numbers, texts, last)
    if numbers:
        last = _kept(job, copies, numbers, texts, last)
    for row in read(job.directory / "aside.jsonl"):
        job.aside[row["reason"]] += 1
        job.next = max(job.next, row["row"] + 1)
    for row in read(job.directory / "dropped.jsonl"):
        job.copies[row["why"]] += 1
        job.next = max(job.next, row["row"] + 1)
        copies.seen.add_digest(row["mark"])
        last = [*last[-2 * NOVELTY_ROWS :], (row["row"], False)]
    packing.cut(job.directory, job.tokens)
    job.novel.extend(kept for _, kept in sorted(last))
    job.xrayed = any(event["event"] == "xray" for event in events.read(job.directory)[0])
    job.began_tokens, job.began_made = job.tokens, job.next
    path = job.directory / "rows.jsonl"
    job.bytes = path.stat().st_size if path.exists() else 0


def _kept(job, copies, numbers: list[int], texts: list[str], last: list) -> list:
    copies.kept(numbers, texts)
    job.next = max(job.next, numbers[-1] + 1)
    last = [*last[-BATCH:], *((number, True) for number in numbers)]
    numbers.clear()
    texts.clear()
    return last


def read(path: Path):
    """The rows of a file of lines, if it is there."""
    if path.exists():
        with path.open("rb", buffering=1 << 20) as lines:
            for line in lines:
                yield orjson.loads(line)


def mend(path: Path) -> None:
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
