"""What a job writes: rows, what was set aside and what was dropped, tokens in blocks; read back, and made a corpus.

rows.jsonl, aside.jsonl and dropped.jsonl are append-only and each row has a number, so that a killed job goes on with the
row that it would have made next. The rows come to the disk last: after a kill, what was set aside or dropped behind the
last row may have lost a row before it, and is cut off there and made again. What was set aside and is to be asked for
again waits in again.jsonl. With --pack the tokens lie in the order of the corpus in blocks of one length, as trainers of
whole blocks read them (uint32): each row with its end of text, cut where a block ends; what does not fill the last block
is left off.
"""

import os
from array import array
from collections.abc import Iterator
from pathlib import Path

import orjson

from core import events, files, jobs, paths
from core.corpus import diversity_metrics, importer, storage, turns

BATCH = 500  # rows that are read back at once
MOST_WAITING_BYTES = 1 << 20
NOVELTY_ROWS, NOVELTY_LEAST = 200, 0.3  # the last rows, and the share of them that has to be new
XRAY_TEXTS = 2000
TOKENS, TOKEN_BYTES = "tokens.bin", 4
AGAIN = "again.jsonl"
# The shapes of lines.
ROW = {"recipe": {"row": int, "tokens": int}}
ASIDE = {"row": int, "reason": str, "detail": str, "excerpt": str}
DROPPED = {"row": int, "why": str, "mark": str | int}
NUMBERED = {"row": int}


class Files:
    """The files that a job appends to."""

    def __init__(self, directory: Path):
        self.rows, self.waiting = (directory / "rows.jsonl").open("ab", buffering=0), bytearray()
        self.aside = (directory / "aside.jsonl").open("ab")
        self.dropped = (directory / "dropped.jsonl").open("ab", buffering=1 << 16)
        self.tokens = (directory / TOKENS).open("ab", buffering=1 << 20) if _block_length(directory) else None

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        try:
            self.sync()
        finally:
            for file in self._beside():
                file.close()
            self.rows.close()

    def add_row(self, line: bytes) -> None:
        self.waiting += line
        if len(self.waiting) > MOST_WAITING_BYTES:
            self.flush()

    def add_tokens(self, ids: list[int]) -> None:
        if self.tokens:
            array("I", ids).tofile(self.tokens)

    def flush(self) -> None:
        """The rows last: what is beside them may be ahead of them in the files, never behind."""
        for file in self._beside():
            file.flush()
        while self.waiting:
            del self.waiting[: self.rows.write(self.waiting)]

    def sync(self) -> None:
        self.flush()
        os.fsync(self.rows.fileno())

    def _beside(self) -> list:
        return [file for file in (self.tokens, self.aside, self.dropped) if file]


def _block_length(directory: Path) -> int:
    return jobs.request(directory).get("pack") or 0


def resume(job, copies) -> None:
    """Bring a job and the rows that it compares with to where the files end; a half-written last line is cut off."""
    for name in ("rows.jsonl", "aside.jsonl", "dropped.jsonl", AGAIN):
        files.cut_partial_line(job.directory / name)
    kept, last = _read_kept(job, copies)
    job.next = _cut_what_is_ahead(job, job.local(last) + 1 if last >= 0 else 0)
    for row in files.lines(job.directory / "aside.jsonl", ASIDE):
        job.aside[row["reason"]] += 1
    dropped = []
    for row in files.lines(job.directory / "dropped.jsonl", DROPPED):
        job.copies[row["why"]] += 1
        copies.add_digest(row["mark"])
        dropped = [*dropped[-NOVELTY_ROWS:], row["row"]]
        if job.recipe.kind == "mix":
            job.dropped_rows.add(job.local(row["row"]))
    job.novel.extend(new for _, new in sorted((kept | dict.fromkeys(dropped, False)).items()))
    tokens = job.directory / TOKENS
    if tokens.exists():  # those of a killed job may be ahead of its rows
        os.truncate(tokens, job.tokens * TOKEN_BYTES)
    known = events.read(job.directory)[0]
    job.xrayed = any(event["event"] == "xray" for event in known)
    job.charted = max((event["point"]["tokens"] for event in known if event["event"] == "novelty"), default=0)
    job.began_tokens = job.tokens
    rows = job.directory / "rows.jsonl"
    job.bytes = rows.stat().st_size if rows.exists() else 0


def _cut_what_is_ahead(job, following: int) -> int:
    """The first number from `following`, which is behind the last row, that no file knows; what is behind it is cut off."""
    beside = [job.directory / name for name in ("aside.jsonl", "dropped.jsonl", AGAIN)]
    ahead = {n for path in beside for row in files.lines(path, NUMBERED) if (n := job.local(row["row"])) >= following}
    last = max(ahead, default=following)
    while following in ahead:
        following += 1
    for path in beside if following < last else ():
        if path.exists():
            whole = [row for row in files.lines(path, NUMBERED) if job.local(row["row"]) < following]
            with files.replaced(path) as file:
                file.writelines(orjson.dumps(row) + b"\n" for row in whole)
    return following


def _read_kept(job, copies) -> tuple[dict[int, bool], int]:
    """Count the kept rows; {number: True} of the last of them, and the highest number."""
    new: dict[int, bool] = {}
    last, batch = -1, []

    def take() -> None:
        numbers, tokens = [row["recipe"]["row"] for row in batch], [row["recipe"]["tokens"] for row in batch]
        copies.keep(numbers, [job.compared(row) for row in batch])
        job.curve.add(batch, tokens)
        job.rows += len(batch)
        job.tokens += sum(tokens)
        new.update(dict.fromkeys(numbers, True))

    for row in files.lines(job.directory / "rows.jsonl", ROW):
        last = max(last, row["recipe"]["row"])
        batch.append(row)
        if len(job.sample) < XRAY_TEXTS:
            job.sample.append(turns.learned(row))
        if len(batch) == BATCH:
            new.clear()
            take()
            batch.clear()
    take()
    return new, last


def ask_again(directory: Path) -> int:
    """Put what a job that is not at work has set aside where it will be asked for again; how many rows wait there."""
    aside, waiting = directory / "aside.jsonl", directory / AGAIN
    files.cut_partial_line(aside)
    rows = {row["row"]: row for name in (AGAIN, "aside.jsonl") for row in files.lines(directory / name, NUMBERED)}
    with files.replaced(waiting) as file:
        file.writelines(orjson.dumps(row) + b"\n" for row in rows.values())
    aside.unlink(missing_ok=True)
    return len(rows)


def to_ask_again(directory: Path) -> list[int]:
    """The numbers of the rows that wait to be asked for again and have not had their answer."""
    wanted = dict.fromkeys(row["row"] for row in files.lines(directory / AGAIN, NUMBERED))
    if not wanted:
        return []
    for name in ("aside.jsonl", "dropped.jsonl"):
        for row in files.lines(directory / name, NUMBERED):
            wanted.pop(row["row"], None)
    for row in files.lines(directory / "rows.jsonl", ROW):
        wanted.pop(row["recipe"]["row"], None)
    return list(wanted)


def publish(job) -> tuple[dict, dict]:
    """The card of the corpus and the x-ray of its rows, evenly sampled; done once however often it is begun."""
    out = Path(job.request["out"]).absolute() if job.request.get("out") else None
    every, sample = max(1, job.rows // diversity_metrics.SAMPLE), []
    for existing in [out] if out else [path for path in paths.corpora().iterdir() if path.name[0] != "."]:
        if (existing / "card.json").is_file() and storage.read_card(existing).get("job") == job.directory.name:
            rows = list(storage.all_rows(existing))[::every]
            return storage.read_card(existing), diversity_metrics.measure([turns.learned(row) for row in rows])

    def rows():
        for number, row in enumerate(_in_order(job)):
            if number % every == 0 and len(sample) < diversity_metrics.SAMPLE:
                sample.append(turns.learned(row))
            yield row | {"source": {"file": job.request["file"], "line": row["recipe"]["row"]}}

    out = out or paths.corpora() / storage.free_name(paths.corpora(), job.request["name"])
    card = importer.create_from_rows(rows(), job.request["name"], parent=None, note=_note(job), out=out)
    with (out / "set_aside.jsonl").open("ab") as file:
        for row in files.lines(job.directory / "aside.jsonl", ASIDE):
            values = {key: row[key] for key in ("reason", "detail", "excerpt")}
            file.write(orjson.dumps({"file": job.request["file"], "line": row["row"]} | values) + b"\n")
    return card, diversity_metrics.measure(sample)


def _in_order(job) -> Iterator[dict]:
    """The rows of a job as they were made; for a curriculum the short ones first, those of one length as they were made."""
    path = job.directory / "rows.jsonl"
    if not job.request.get("curriculum"):
        yield from files.lines(path, ROW)
        return
    with path.open("rb") as file:
        places, at = [], 0
        for line in file:
            places.append((orjson.loads(line)["recipe"]["tokens"], at))
            at += len(line)
        for _, place in sorted(places):
            file.seek(place)
            yield orjson.loads(file.readline())


def _note(job) -> dict:
    """What the card says beyond the usual: the recipe whole, so that the corpus can be made again."""
    request = job.request
    options = (
        "seed",
        "shard",
        "model",
        "writer",
        "judge_endpoint",
        "judge_model",
        "judge_writer",
        "embedder",
        "endpoint",
        "endpoint_model",
        "temperature",
        "max_tokens",
        "corpus",
    )
    options += ("top_p", "thinking", "topics", "replay", "replay_corpus", "curriculum")
    synth = {
        "recipe": job.recipe.name,
        "hash": job.recipe.hash,
        "kind": job.recipe.kind,
        "text": job.recipe.text,
        "tokens": job.tokens,
        "tokens_exact": bool(request.get("model")),
        "duplicates_dropped": job.dropped,
        "copies": dict(job.copies),
        "set_aside": dict(job.aside),
        "unmeasured": job.unmeasured,
        "novelty": job.curve.summary() | {"points": job.curve.spaced()},
    }
    return {
        "job": job.directory.name,
        "synth": synth | {key: request[key] for key in options if request.get(key) is not None},
        "rows_set_aside": sum(job.aside.values()),
        "reasons": dict(job.aside),
        "rows_in": job.next,
    }


def move_blocks(directory: Path, corpus: Path) -> None:
    """Leave the whole blocks of tokens beside the rows of the corpus."""
    path, length = directory / TOKENS, _block_length(directory)
    if length and path.exists():
        block = TOKEN_BYTES * length
        os.truncate(path, path.stat().st_size // block * block)
        path.replace(corpus / f"blocks-{length}.bin")
