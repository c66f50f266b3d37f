"""The encoded corpus: written once, keyed by its content, and memory-mapped from then on.

Not by `datasets`: its cache took twice the time and the disk (tests/benchmarks.md).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import numpy
import tokenizers
import transformers
from filelock import FileLock

from . import corpus_rows, encoding, leakage, packing
from .config import TrainConfig

FEWEST_ROWS = 10  # below that nothing can be held out
ENCODERS = (
    "corpus_rows.py",
    "encoding.py",
    "leakage.py",
    "token_cache.py",
    "tokenizer_loading.py",
)  # that decide what rows become
TOKENS_KEPT = 8  # encoded corpora on the disk; the one that was not used longest goes
TELL_SECONDS = 1.0  # between two words about how far the encoding is


class Tokens:
    """Encoded rows of a file that is mapped, not read: row[at] is a piece of encode_pieces(), `id` its number in the corpus.

    A token that is not learned is kept as ~id. `liked` says of replies that were judged one by one what was found.
    """

    def __init__(self, path: Path, part: str):
        self.place = path
        self.starts, self.numbers = (
            numpy.fromfile(path / f"{part}.{name}", numpy.int64) for name in ("starts", "rows")
        )
        size = int(self.starts[-1])
        self.ids = numpy.memmap(path / f"{part}.ids", numpy.int32, "r", shape=(size,)) if size else ()
        self.lengths: list[int] = numpy.diff(self.starts).tolist()
        liked = path / f"{part}.liked"
        self.liked = numpy.fromfile(liked, numpy.bool_) if liked.is_file() else None

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, at: int) -> dict:
        ids = numpy.asarray(self.ids[self.starts[at] : self.starts[at + 1]])
        return {
            "input_ids": numpy.where(ids < 0, ~ids, ids).tolist(),
            "labels": numpy.where(ids < 0, encoding.IGNORED, ids).tolist(),
            "id": str(self.numbers[at]),
        }

    def learned(self, *, packed: bool) -> int:
        """How many tokens are learned; of packed rows the first one never is."""
        learned = int((self.ids >= 0).sum()) if len(self) else 0
        return learned - int((self.ids[self.starts[:-1]] >= 0).sum()) if packed and len(self) else learned


class Blocks:
    """Encoded rows packed into blocks; a block is put together on access."""

    def __init__(self, rows: Tokens, max_length: int):
        self.rows, self.blocks = rows, packing.bins(rows.lengths, max_length)
        self.lengths = [sum(rows.lengths[at] for at in block) for block in self.blocks]

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, at: int) -> dict:
        return packing.make_block([self.rows[row] for row in self.blocks[at]])


def lengths_of(rows) -> list[int]:
    """Tokens of each encoded row."""
    return rows.lengths if hasattr(rows, "lengths") else [len(row["input_ids"]) for row in rows]


def tokens_key(config: TrainConfig, tokenizer, beside: Collection[str] = ()) -> str:
    """A name for the encoded rows of a config: it changes with anything that could change a token of them.

    That is every byte of the corpus and of those beside it, the tokenizer and its template, how rows are cut and held out, and the code that does it.
    """
    digest = hashlib.sha256(b"".join(Path(__file__).with_name(name).read_bytes() for name in ENCODERS))
    for corpus in (config.corpus, *beside):
        corpus_files = corpus_rows.corpus_files(corpus)
        digest.update(f"corpus of {len(corpus_files)} files\n".encode())  # or two corpora could change places
        for file in corpus_files:
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
    backend = tokenizer.backend_tokenizer.to_str()
    about = [tokenizer.chat_template, tokenizer.eos_token_id, tokenizers.__version__, transformers.__version__]
    about += [config.learn, config.max_length, config.packing, config.validation_share, config.task == "preference"]
    digest.update(json.dumps([backend, *about], sort_keys=True).encode())
    return digest.hexdigest()[:32]


def encoded_corpus(
    config: TrainConfig, tokenizer, cache: Path, report: Callable[..., None], beside: Collection[str] = ()
) -> Path:
    """The directory of a corpus's encoded rows; they are encoded only where that was not done before.

    Of what is held out in the corpora `beside`, no copy is among its training rows.
    """
    place = Path(cache) / tokens_key(config, tokenizer, beside)
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(place.with_suffix(".lock")):  # several processes of one run begin at the same time
        if not (place / "about.json").is_file():
            unfinished = place.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            shutil.rmtree(place, ignore_errors=True)
            unfinished.mkdir()
            _encode_corpus(config, tokenizer, unfinished, report, beside)
            unfinished.rename(place)
    os.utime(place)
    _forget_old(place.parent, place)
    return place


def _forget_old(cache: Path, in_use: Path) -> None:
    """Delete the encoded corpora that were not used longest."""
    places = sorted((path for path in cache.iterdir() if path.is_dir()), key=lambda path: -path.stat().st_mtime)
    for path in places[TOKENS_KEPT:]:
        if path != in_use:
            (path / "about.json").unlink(missing_ok=True)
            shutil.rmtree(path, ignore_errors=True)
            path.with_suffix(".lock").unlink(missing_ok=True)


def _encode_corpus(
    config: TrainConfig, tokenizer, out: Path, report: Callable[..., None], beside: Collection[str]
) -> None:
    """Write the files of Tokens for the training and the held-out rows, and what there is to know of the corpus."""
    chats = pairs = judged = 0

    def rows_of_corpus() -> Iterator[dict]:
        nonlocal chats, pairs, judged
        for row in corpus_rows.read_rows(config.corpus):
            chats += "messages" in row
            pairs += "chosen" in row
            judged += "label" in row
            yield row

    clusters, counted = corpus_rows.Clusters(rows_of_corpus()), Counter()
    held_out = corpus_rows.held_out_clusters(clusters.sizes, config.validation_share)
    rows = clusters.sizes.total()
    about = {"rows": rows, "chats": chats, "pairs": pairs, "judged": judged}
    fits = rows in (pairs, judged) if config.task == "preference" else not pairs
    if rows >= FEWEST_ROWS and fits and not (chats and not tokenizer.chat_template):  # else it is refused before long
        copies = _held_out_elsewhere(config, beside)
        parts, reported = (_TokenFiles(out, "train"), _TokenFiles(out, "eval")), time.monotonic()
        for done, (number, row) in enumerate(corpus_rows.numbered_rows(config.corpus)):
            part = parts[clusters.of(row) in held_out]
            if number in copies and part is parts[0]:
                counted["held_out_elsewhere"] += 1
                continue
            for piece in encoding.encode_pieces(row, tokenizer, config, counted):
                part.add(number, piece)
            if time.monotonic() - reported > TELL_SECONDS:
                reported = time.monotonic()
                report("preparing", stage="tokens", done=done, total=rows)
        for part in parts:
            part.close()
        about["alike"] = _alike(config, clusters, held_out)
    about |= {"cut": counted.pop("cut", 0), "left_out": +counted}
    (out / "about.json").write_text(json.dumps(about), encoding="utf-8")


def _alike(config: TrainConfig, clusters: corpus_rows.Clusters, held_out: set) -> int:
    """How many held-out rows have a near copy in training."""
    if not held_out:
        return 0
    kept = corpus_rows.held_out_rows(config.corpus, clusters, held_out)
    return leakage.count(
        kept, (row for row in corpus_rows.read_rows(config.corpus) if clusters.of(row) not in held_out)
    )


def _held_out_elsewhere(config: TrainConfig, beside: Collection[str]) -> set[int]:
    """The numbers of the rows that say what is held out in another corpus."""
    theirs = []
    for corpus in beside if config.validation_share else ():
        clusters = corpus_rows.Clusters(corpus_rows.read_rows(corpus))
        held_out = corpus_rows.held_out_clusters(clusters.sizes, config.validation_share)
        theirs += corpus_rows.held_out_rows(corpus, clusters, held_out)
    return leakage.copies(theirs, corpus_rows.numbered_rows(config.corpus)) if theirs else set()


class _TokenFiles:
    """Writes the files that Tokens reads."""

    def __init__(self, out: Path, part: str):
        self.out, self.part, self.ids = out, part, (out / f"{part}.ids").open("wb")
        self.starts, self.numbers, self.liked = array("q", [0]), array("q"), array("B")

    def add(self, number: int, piece: dict) -> None:
        pairs = zip(piece["input_ids"], piece["labels"], strict=True)
        self.ids.write(array("i", [~id if label == encoding.IGNORED else id for id, label in pairs]).tobytes())
        self.starts.append(self.starts[-1] + len(piece["input_ids"]))
        self.numbers.append(number)
        if "liked" in piece:
            self.liked.append(piece["liked"])

    def close(self) -> None:
        self.ids.close()
        for name, values in (("starts", self.starts), ("rows", self.numbers)):
            (self.out / f"{self.part}.{name}").write_bytes(values.tobytes())
        if self.liked:
            (self.out / f"{self.part}.liked").write_bytes(self.liked.tobytes())
