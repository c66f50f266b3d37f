"""Votes, in the database; they carry the texts they were cast on, and become preference pairs: a corpus, or JSONL."""

import json
import time
from pathlib import Path

from core import errors, jobs, paths
from core.arena import matches
from core.corpus import importer
from core.corpus.reading import SetAside
from core.errors import UserError
from core.runs import database

VERDICTS = ("left", "right", "tie", "bad")
PERSON = "person"
CUT = ("length", "context")  # why a reply ended that the model would have gone on with
EXCERPT = 200  # characters of a question that became no pair


def cast(match_id: str, prompt: int, verdict: str, voter: str = PERSON, note: str = "") -> None:
    """Keep a vote; a second one of the same voter on the same prompt replaces the first.

    `verdict` is left, right, tie or bad as the page shows it, and for a judge also "split": it changed its mind when
    the sides changed places.
    """
    if verdict not in (*VERDICTS, "split"):
        raise errors.named("VoteUnknown", allowed=", ".join(VERDICTS), verdict=verdict)
    directory = jobs.find(paths.arena(), match_id)
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
        "finish_a": row["a"].get("finish_reason"),
        "finish_b": row["b"].get("finish_reason"),
        "note": note,
        "created_at": time.time(),
    }
    with database.opened() as db, db.conn:
        db["votes"].upsert(vote, pk=database.VOTE)


def take_back(match_id: str) -> None:
    """Delete the latest vote of a person on a match, if there is one."""
    latest = "select rowid from votes where match_id = ? and voter = ? order by created_at desc, rowid desc limit 1"
    with database.opened() as db, db.conn:
        db.conn.execute(f"delete from votes where rowid in ({latest})", [match_id, PERSON])


def of_match(match_id: str, voter: str = PERSON) -> list[dict]:
    """The votes of a voter on a match, by prompt."""
    with database.opened() as db:
        return list(db["votes"].rows_where("match_id = ? and voter = ?", [match_id, voter], order_by="prompt_index"))


def voters(match_id: str) -> list[str]:
    with database.opened() as db:
        query = "select distinct voter from votes where match_id = ? order by voter != 'person', voter"
        return [row["voter"] for row in db.query(query, [match_id])]


def pairs(match_id: str | None = None) -> list[dict]:
    """Preference pairs of a person's votes that have a winner: {"prompt", "chosen", "rejected"} as lists of messages."""
    return [_pair(row) for row in _of_person(match_id) if not _no_pair(row)]


def write_pairs(path: Path, match_id: str | None = None) -> int:
    """Write the pairs as JSONL, and say how many."""
    written = pairs(match_id)
    if not written:
        raise _none(_of_person(match_id))
    lines = (json.dumps(pair, ensure_ascii=False) + "\n" for pair in written)
    path.write_text("".join(lines), encoding="utf-8")
    return len(written)


def make_corpus(name: str, match_id: str | None = None) -> dict:
    """Make a corpus of preference pairs of a person's votes, of one match or of all, and return its card.

    A vote that prefers neither reply, or one that was cut off, is no pair: it is set aside with its reason.

    Raises:
        NoPairs: before there is a vote for one side.
        VotedForCutReplies: where each of them is for a reply that did not come to its end.
    """
    voted = _of_person(match_id)
    rows = [_row(vote) for vote in voted if not _no_pair(vote)]
    if not rows:
        raise _none(voted)
    aside = (
        SetAside(vote["match_id"], str(vote["prompt_index"] + 1), reason, "", vote["question"][:EXCERPT])
        for vote in voted
        if (reason := _no_pair(vote))
    )
    return importer.create_from_rows(rows, name, parent=None, note={}, set_aside=aside)


def _of_person(match_id: str | None) -> list[dict]:
    with database.opened() as db:
        rows = db["votes"].rows_where("voter = ?", [PERSON], order_by="created_at")
        return [row for row in rows if match_id in (None, row["match_id"])]


def _none(voted: list[dict]) -> UserError:
    """Why there are no pairs."""
    return errors.named("VotedForCutReplies") if "cut_reply" in map(_no_pair, voted) else errors.named("NoPairs")


def _no_pair(vote: dict) -> str:
    """Why a vote makes no pair, by the code of a reason; empty where it does."""
    if vote["verdict"] not in ("a", "b"):
        return f"vote_{vote['verdict']}"
    if vote[f"finish_{vote['verdict']}"] in CUT:  # of a vote of before it is not known
        return "cut_reply"
    return "equal_pair" if vote["text_a"] == vote["text_b"] else ""


def _row(vote: dict) -> dict:
    """The row of a vote: the pair, whose replies they were, and where it was cast."""
    pair, (better, worse) = _pair(vote), "ab" if vote["verdict"] == "a" else "ba"
    fields = {"topic": vote["topic"], "chosen_model": vote[f"model_{better}"], "rejected_model": vote[f"model_{worse}"]}
    return {
        "messages": pair["prompt"],
        "chosen": pair["chosen"],
        "rejected": pair["rejected"],
        "fields": {key: value for key, value in fields.items() if value},
        "source": {"file": vote["match_id"], "line": str(vote["prompt_index"] + 1)},
    }


def _pair(row: dict) -> dict:
    better, worse = (row["text_a"], row["text_b"]) if row["verdict"] == "a" else (row["text_b"], row["text_a"])
    system = [{"role": "system", "content": row["system"]}] if row["system"] else []
    return {
        "prompt": [*system, {"role": "user", "content": row["question"]}],
        "chosen": [{"role": "assistant", "content": better}],
        "rejected": [{"role": "assistant", "content": worse}],
    }
