"""Votes, in the database; they carry the texts they were cast on and leave as preference pairs (JSONL as DPO reads it)."""

import json
import time
from pathlib import Path

from core import jobs
from core.arena import matches
from core.errors import UserError
from core.runs import store

VERDICTS = ("left", "right", "tie", "bad")
PERSON = "person"


class VoteUnknown(UserError):
    template = "A vote is one of {allowed}, got {verdict}."


class NoPairs(UserError):
    template = "There is no vote for one side yet, and a pair needs a winner. Vote in the arena first."


def cast(match_id: str, prompt: int, verdict: str, voter: str = PERSON, note: str = "") -> None:
    """Keep a vote; a second one of the same voter on the same prompt replaces the first.

    `verdict` is left, right, tie or bad as the page shows it, and for a judge also "split": it changed its mind when
    the sides changed places.
    """
    if verdict not in (*VERDICTS, "split"):
        raise VoteUnknown(allowed=", ".join(VERDICTS), verdict=verdict)
    directory = matches.find(match_id)
    request = jobs.request(directory)
    row = next(row for row in matches.answers(directory) if row["prompt"] == prompt)
    left, right = matches.sides(match_id, prompt)
    winner = {"left": left, "right": right}.get(verdict, verdict)
    vote = {
        "match_id": match_id,
        "prompt_index": prompt,
        "voter": voter,
        "topic": request["prompts"][prompt]["topic"],
        "question": request["prompts"][prompt]["prompt"],
        "system": request["system"],
        "verdict": winner,  # a, b, tie, bad or split
        "left_side": left,
        "model_a": request["a"],
        "model_b": request["b"],
        "text_a": row["a"]["text"],
        "text_b": row["b"]["text"],
        "note": note,
        "created_at": time.time(),
    }
    with store.opened() as db, db.conn:
        db["votes"].upsert(vote, pk=("match_id", "prompt_index", "voter"))


def of_match(match_id: str, voter: str = PERSON) -> list[dict]:
    """The votes of a voter on a match, by prompt."""
    with store.opened() as db:
        return list(db["votes"].rows_where("match_id = ? and voter = ?", [match_id, voter], order_by="prompt_index"))


def voters(match_id: str) -> list[str]:
    with store.opened() as db:
        query = "select distinct voter from votes where match_id = ? order by voter != 'person', voter"
        return [row["voter"] for row in db.query(query, [match_id])]


def pairs(match_id: str | None = None) -> list[dict]:
    """Preference pairs of a person's votes that have a winner: {"prompt", "chosen", "rejected"} as lists of messages."""
    with store.opened() as db:
        rows = list(db["votes"].rows_where("verdict in ('a', 'b')", order_by="created_at"))
    chosen = [row for row in rows if match_id in (None, row["match_id"]) and row["voter"] == PERSON]
    return [_pair(row) for row in chosen if row["text_a"] != row["text_b"]]


def write_pairs(path: Path, match_id: str | None = None) -> int:
    """Write the pairs as JSONL, and say how many."""
    written = pairs(match_id)
    if not written:
        raise NoPairs
    lines = (json.dumps(pair, ensure_ascii=False) + "\n" for pair in written)
    path.write_text("".join(lines), encoding="utf-8")
    return len(written)


def _pair(row: dict) -> dict:
    better, worse = (row["text_a"], row["text_b"]) if row["verdict"] == "a" else (row["text_b"], row["text_a"])
    system = [{"role": "system", "content": row["system"]}] if row["system"] else []
    return {
        "prompt": [*system, {"role": "user", "content": row["question"]}],
        "chosen": [{"role": "assistant", "content": better}],
        "rejected": [{"role": "assistant", "content": worse}],
    }
