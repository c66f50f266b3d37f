"""Rows of a corpus on the disk, and which of them are held out for evaluation."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from .config import TrainConfig
from .errors import TrainingError

MOST_HELD_OUT = 1000  # rows; more would take longer to evaluate than to train, and say no more
_APART = re.compile(r"[\W_]+")


def row_id(row: dict) -> str:
    """16 hex digits of the row's content: equal texts or chats have equal ids, wherever they come from."""
    content = row["messages"] if "messages" in row else row["text"]
    if "chosen" in row:
        content = {name: row[name] for name in ("messages", "chosen", "rejected")}
    return hashlib.sha256(json.dumps(content, ensure_ascii=False, sort_keys=True).encode()).hexdigest()[:16]


def read_rows(corpus: str | Path) -> Iterator[dict]:
    """The rows of a corpus in their order, each content once."""
    return (row for _, row in numbered_rows(corpus))


def numbered_rows(corpus: str | Path) -> Iterator[tuple[int, dict]]:
    """The same with the number of each in the corpus, counted from 1 and over copies too, as the Corpus tab does."""
    number, seen = 0, set()
    for file in corpus_files(corpus):
        with file.open(encoding="utf-8", newline="\n") as lines:
            for line in filter(str.strip, lines):
                row, number = json.loads(line), number + 1
                row["id"] = row_id(row)  # whatever the file calls it: equal rows are one row, others are not
                if row["id"] not in seen:
                    seen.add(row["id"])
                    yield number, row


def corpus_files(corpus: str | Path) -> list[Path]:
    """The JSONL files of a corpus."""
    path = Path(corpus)
    files = sorted(path.glob("rows-*.jsonl")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise TrainingError("CorpusGone", path=corpus)
    return files


class Clusters:
    """The clusters of rows: those that the corpus names; rows that differ only in case and punctuation share one too."""

    def __init__(self, rows: Iterable[dict]):
        self.sizes: Counter = Counter()
        self._names: dict[str, str] = {}  # of the rows that are equal to others, by id
        first: dict[bytes, tuple[bool, str, str]] = {}
        equal: dict[bytes, list[tuple[bool, str, str]]] = {}
        for row in rows:
            own = ("cluster" not in row, row.get("cluster", row["id"]), row["id"])
            self.sizes[own[1]] += 1
            if (words := mark(row)) and first.setdefault(words, own) is not own:
                equal.setdefault(words, [first[words]]).append(own)
        for group in equal.values():
            name = min(group)[1]
            for _, own_name, row_id in group:
                self.sizes[own_name] -= 1
                self.sizes[name] += 1
                self._names[row_id] = name
        self.sizes = +self.sizes

    def of(self, row: dict) -> str:
        """The name of a row's cluster."""
        return self._names.get(row["id"], row.get("cluster", row["id"]))


def before_and_reply(messages: list[dict]) -> tuple[list[dict], list[dict]]:
    """The turns before the last reply of a chat, none of which is learned, and the turns of that reply, which is."""
    at = max((at for at, turn in enumerate(messages, 1) if turn["role"] != "assistant"), default=0)
    before = [turn | {"weight": 0} if turn["role"] == "assistant" else turn for turn in messages[:at]]
    return before, [{name: turn[name] for name in ("role", "content")} for turn in messages[at:]]


def mark(row: dict) -> bytes:
    """A digest of all that is said in a row; empty where there is nothing."""
    said = row["text"] if "text" in row else "\n".join(turn["content"] for turn in row.get("messages", ()))
    words = plain(said)
    return hashlib.blake2b(words.encode("utf-8", "replace"), digest_size=8).digest() if words else b""


def plain(text: str) -> str:
    """A text in small letters, its words apart by one space."""
    return _APART.sub(" ", unicodedata.normalize("NFKC", text).lower()).replace("ё", "е").strip()


def split(rows: list[dict], share: float) -> tuple[list[dict], list[dict]]:
    """Training and validation rows: clusters of near-equal rows stay together, chosen by the hash of their name.

    The same rows are held out whatever their order, the seed or the machine; at most MOST_HELD_OUT.
    """
    clusters = Clusters(rows)
    held_out = held_out_clusters(clusters.sizes, share)
    parts: tuple[list[dict], list[dict]] = ([], [])
    for row in rows:
        parts[clusters.of(row) in held_out].append(row)
    return parts


def held_out_rows(corpus: str | Path, clusters: Clusters, held_out: set) -> list[dict]:
    """The rows of a corpus that are in held-out clusters, in their order."""
    return [row for row in read_rows(corpus) if clusters.of(row) in held_out]


def held_out_clusters(clusters: Counter, share: float) -> set:
    """Which clusters of near-equal rows, given with their numbers of rows, are held out."""
    wanted = min(MOST_HELD_OUT, max(1, round(clusters.total() * share))) if share else 0
    held_out = set()
    by_hash = sorted(clusters, key=lambda name: hashlib.sha256(str(name).encode()).hexdigest())
    for name in by_hash:  # a cluster larger than what is still wanted stays in training
        if clusters[name] <= wanted:
            held_out.add(name)
            wanted -= clusters[name]
    if share and not held_out and len(clusters) > 1:
        held_out.add(min(by_hash, key=clusters.get))
    return held_out


def check_task(config: TrainConfig, name: str, rows: int, chats: int, pairs: int = 0, judged: int = 0) -> None:
    """Refuse a corpus that holds something else than the task learns from: pairs, replies that were judged one by one
    (for KTO), chats or texts."""
    if config.task == "preference":
        if judged and config.preference_loss != "kto":
            raise TrainingError("RepliesNeedKto", name=name, judged=judged, loss=config.preference_loss)
        if others := rows - pairs - judged or min(pairs, judged):
            raise TrainingError("NotPreferencePairs", name=name, others=others)
    elif pairs:
        raise TrainingError("PreferencePairs", name=name, pairs=pairs)
    elif config.task == "text" and chats:
        raise TrainingError("ChatsForPretraining", name=name, chats=chats)
    elif config.task == "chat" and rows and not chats:
        raise TrainingError("TextsForChat", name=name)
