"""The conversations of the Playground that are kept in the database; what visitors say over a link never comes here.

A history is {"branches": [turns], "current": index}; a turn is {"prompt", "replies": {column: Reply as a dict}, "who":
{column: id of a chat model}}, the last once there are replies. List them: `python -m core.chat --chats --json`.
"""

import json
import secrets
import time
from collections.abc import Iterable

from core import errors
from core.runs import database

NAME_LETTERS = 48  # of a name that is made of the first message
MOST_LETTERS = 200  # of a name that a person gives
JSON_COLUMNS = ("history", "columns", "titles", "settings")


def new_id() -> str:
    """An id for a conversation that begins now."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def keep(chat_id: str, history: dict, *, begins: bool = True, **about) -> None:
    """Store a conversation as it is now, unless it has no messages.

    `begins`: even if it is not there, as a new one or one that was deleted meanwhile.
    `about`: columns, titles and settings (see m012_chats.sql), each of which stays as it was where it is not given.
    Branches that another window has added meanwhile stay too.
    """
    now = time.time()
    with database.opened() as db, db.conn:
        db.conn.execute("begin immediate")  # nobody writes between the look at the branches and the new ones
        before = next(db["chats"].rows_where("id = ?", [chat_id]), None)
        others = json.loads(before["history"])["branches"] if before else []
        branches = _joined(history["branches"], others)
        if not any(branches) or not (before or begins):
            return
        row = {"name": before["name"] if before else first_words(branches), "created_at": now, "updated_at": now}
        row |= {"history": json.dumps({"branches": branches, "current": history["current"]}, ensure_ascii=False)}
        if before and "titles" in about:  # of models that replied in other branches, too
            about["titles"] = json.loads(before["titles"]) | about["titles"]
        row |= {name: json.dumps(value, ensure_ascii=False) for name, value in about.items()}
        row["words"] = _words(row["name"], branches)
        if before:
            db["chats"].update(chat_id, row | {"created_at": before["created_at"]})
        else:
            db["chats"].insert({"columns": "[]", "titles": "{}", "settings": "{}"} | row | {"id": chat_id})


def listed(words: str = "", most: int = 200) -> tuple[list[dict], int]:
    """[{"id", "name", "updated_at"}] of those whose name or text has every word, the latest first, and how many there are."""
    wanted = _folded(words).split()
    where = " and ".join(["instr(words, ?)"] * len(wanted)) or None
    with database.opened() as db:
        columns = "id, name, updated_at"
        rows = db["chats"].rows_where(where, wanted, select=columns, order_by="updated_at desc, id desc", limit=most)
        return list(rows), db["chats"].count_where(where, wanted)


def find(chat_id: str) -> dict:
    """A conversation: the columns of its row, the JSON read.

    Raises:
        ChatGone.
    """
    with database.opened() as db:
        row = next(db["chats"].rows_where("id = ?", [chat_id]), None)
    if row is None:
        raise errors.named("ChatGone")
    return row | {name: json.loads(row[name]) for name in JSON_COLUMNS}


def rename(chat_id: str, name: str) -> str:
    """Give a conversation a name, and return it; an empty one is made of its first words again."""
    branches = find(chat_id)["history"]["branches"]
    name = " ".join(name.split())[:MOST_LETTERS] or first_words(branches)
    with database.opened() as db, db.conn:
        db["chats"].update(chat_id, {"name": name, "words": _words(name, branches)})
    return name


def delete(chat_id: str) -> dict:
    """Delete a conversation and return its row, with which restore() brings it back."""
    with database.opened() as db, db.conn:
        row = next(db["chats"].rows_where("id = ?", [chat_id]), None)
        if row is None:
            raise errors.named("ChatGone")
        db["chats"].delete(chat_id)
    return row


def restore(row: dict) -> None:
    """Bring a deleted conversation back."""
    with database.opened() as db, db.conn:
        db["chats"].upsert(row, pk="id")


def conversation(turns: list[dict], column: str) -> list[dict]:
    """The messages of one column, as the model gets them."""
    messages = []
    for turn in turns:
        if turn["replies"] and column not in turn["replies"]:
            continue  # a column that came later: templates want questions and answers in turn
        messages.append({"role": "user", "content": turn["prompt"]})
        if column in turn["replies"]:
            messages.append({"role": "assistant", "content": turn["replies"][column]["text"]})
    return messages


def stopped(history: dict) -> dict:
    """The history after generation has stopped: partial replies are kept."""
    turns = history["branches"][history["current"]]
    if not turns:
        return history
    replies = {
        column: {**reply, "finish_reason": reply["finish_reason"] or "stopped"}
        for column, reply in turns[-1]["replies"].items()
    }
    return with_turns(history, [*turns[:-1], {**turns[-1], "replies": replies}])


def without_unanswered(history: dict) -> tuple[dict, str]:
    """The history without a last, unanswered prompt, and that prompt, which is put back into the input field."""
    turns = history["branches"][history["current"]]
    if not turns or turns[-1]["replies"]:
        return history, ""
    return with_turns(history, turns[:-1]), turns[-1]["prompt"]


def with_turns(history: dict, turns: list[dict]) -> dict:
    """The history with other turns in its current branch."""
    branches = list(history["branches"])
    branches[history["current"]] = turns
    return {**history, "branches": branches}


def as_json(chat: dict) -> str:
    """A conversation as it is kept, every branch of it."""
    kept = {name: value for name, value in chat.items() if name != "words"}
    return json.dumps(kept, ensure_ascii=False, indent=2) + "\n"


def corpus_lines(chats: Iterable[dict]) -> list[str]:
    """Conversations as JSONL that the Corpus tab reads: {"messages", "model", "chat"} of each column that replied.

    Of a conversation with several branches, the current one.

    Raises:
        NothingSaid: if no model has replied in any of them.
    """
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for chat in chats for row in _rows(chat)]
    if not lines:
        raise errors.named("NothingSaid")
    return lines


def columns_of(turns: list[dict]) -> dict[str, str]:
    """{column: id of the chat model} of all that replied in these turns."""
    return {column: id for turn in turns for column, id in turn.get("who", {}).items() if column in turn["replies"]}


def first_words(branches: list[list[dict]]) -> str:
    """A name made of the first message."""
    first = " ".join(next(turns for turns in branches if turns)[0]["prompt"].split())
    if len(first) <= NAME_LETTERS:
        return first
    return (first[: NAME_LETTERS + 1].rpartition(" ")[0] or first[:NAME_LETTERS]).rstrip(" ,;:.—-") + "…"


def _rows(chat: dict):
    turns, system = chat["history"]["branches"][chat["history"]["current"]], chat["settings"].get("system", "")
    for column, model in columns_of(turns).items():
        messages = conversation([turn for turn in turns if column in turn["replies"]], column)
        said = [{"role": "system", "content": system}] if system.strip() else []
        title = chat["titles"].get(model, model)
        yield {"messages": [*said, *messages], "model": title, "chat": chat["name"]}


def _joined(ours: list[list[dict]], theirs: list[list[dict]]) -> list[list[dict]]:
    """Our branches, and those of theirs that do not begin one of ours; of a reply that was stopped, the longer text."""
    joined = list(ours)
    for branch in theirs:
        branch = branch if not branch or branch[-1]["replies"] else branch[:-1]
        if any(_begins(branch, one) for one in ours):
            continue
        at = next((at for at, one in enumerate(ours) if _stopped_sooner(one, branch)), None)
        if at is None:
            joined.append(branch)
        elif len(ours[at]) == len(branch):
            joined[at] = branch
    return joined


def _stopped_sooner(ours: list[dict], theirs: list[dict]) -> bool:
    """Whether their last reply is one of ours that was stopped, with words that came too late to be drawn."""
    *before, last = theirs
    if len(theirs) > len(ours) or not _begins(before, ours):
        return False
    drawn = ours[len(before)]
    return (
        drawn["prompt"] == last["prompt"]
        and any(reply["finish_reason"] == "stopped" for reply in drawn["replies"].values())
        and all(_grown(reply, last["replies"].get(column, {"text": ""})) for column, reply in drawn["replies"].items())
    )


def _grown(reply: dict, later: dict) -> bool:
    return later["text"] == reply["text"] or (
        reply["finish_reason"] == "stopped" and later["text"].startswith(reply["text"])
    )


def _begins(branch: list[dict], other: list[dict]) -> bool:
    """Whether another branch says all that this one does; a reply may have grown since."""
    return len(branch) <= len(other) and all(
        turn["prompt"] == later["prompt"]
        and all(
            later["replies"].get(column, {}).get("text", "").startswith(reply["text"])
            for column, reply in turn["replies"].items()
        )
        for turn, later in zip(branch, other, strict=False)
    )


def _words(name: str, branches: list[list[dict]]) -> str:
    said = {name: None}  # in order, each once: branches have their beginnings in common
    for turn in (turn for turns in branches for turn in turns):
        said |= dict.fromkeys([turn["prompt"], *(reply["text"] for reply in turn["replies"].values())])
    return _folded("\n".join(said))


def _folded(text: str) -> str:
    return text.casefold().replace("ё", "е")
