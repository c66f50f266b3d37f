"""The texts of a row, and repairs of a chat's turns: what trainers and templates refuse is changed, with a code."""

from collections.abc import Callable

from core.training import corpus_rows

ROLES = ("system", "user", "assistant", "tool")
LISTS = ("messages", "chosen", "rejected")  # of a chat the first alone, of a preference pair all three


def texts(row: dict) -> list[str]:
    """The text of a row, or the contents of a chat's turns; of a pair those of the prompt and of both replies."""
    return [row["text"]] if "text" in row else [turn["content"] for turn in all_turns(row)]


def all_turns(row: dict) -> list[dict]:
    """The turns of a chat; of a pair those of the prompt and of both replies."""
    return [turn for name in LISTS for turn in row[name]] if "chosen" in row else row["messages"]


def mapped(row: dict, change: Callable[[str], str]) -> dict:
    """The row with each of its texts changed."""
    if "text" in row:
        return row | {"text": change(row["text"])}
    lists = {name: row[name] for name in LISTS if name in row}
    return row | {
        name: [turn | {"content": change(turn["content"])} for turn in turns] for name, turns in lists.items()
    }


def learned(row: dict) -> str:
    """What a model learns of a row: its text, the replies of a chat, the chosen reply of a pair, a reply that was judged."""
    if "text" in row:
        return row["text"]
    replies = row.get("chosen") or as_chat(row)["messages"]
    return "\n".join(turn["content"] for turn in replies if is_learned(turn))


def as_chat(row: dict) -> dict:
    """A preference pair as the chat that ends in its chosen reply; another row as in as_chats()."""
    return as_chats(row)[0]


def as_chats(row: dict) -> list[dict]:
    """A preference pair as two chats, which end in the chosen and in the rejected reply; another row as it is.

    Of a chat whose reply was judged that reply is learned, as KTO does, whether it was liked or not.
    """
    if "label" in row:
        before, reply = corpus_rows.before_and_reply(row["messages"])
        return [row | {"messages": before + reply}]
    return [{"messages": row["messages"] + row[name]} for name in LISTS[1:]] if "chosen" in row else [row]


def is_learned(turn: dict) -> bool:
    """Whether a turn is a reply that is to be learned."""
    return turn["role"] == "assistant" and turn.get("weight") != 0


def repair_row(row: dict) -> tuple[dict, list[str]]:
    """A row with its turns repaired: see repair(). Of a pair the prompt is, and its last question stays."""
    if "chosen" not in row:
        messages, done = repair(row["messages"])
        return row | {"messages": messages}, done
    done: list[str] = []
    repaired = {name: _merged(_system_first(_without_empty(row[name], done), done), done) for name in LISTS}
    return row | repaired, done


def repair(messages: list[dict]) -> tuple[list[dict], list[str]]:
    """The turns as chat templates expect them, and the codes of what was changed.

    Empty turns go, a system turn in the middle moves into the next user turn, neighbours of one role become one,
    and what stands after the last reply is cut. Whether anything is left to learn is the caller's question.
    """
    if is_sound(messages):
        return messages, []
    done: list[str] = []
    turns = _without_empty(messages, done)
    turns = _system_first(turns, done)
    turns = _merged(turns, done)
    while turns and turns[-1]["role"] != "assistant":
        turns = turns[:-1]
        done.append("trailing_question_cut")
    return turns, done


def is_sound(messages: list[dict]) -> bool:
    """Whether questions and replies take turns, after a system turn perhaps, with nothing empty."""
    start = 1 if messages and messages[0]["role"] == "system" else 0
    if (len(messages) - start) % 2 or len(messages) == start:
        return False
    wanted, other = "user", "assistant"
    for turn in messages[start:]:
        content = turn["content"]
        if turn["role"] != wanted or not content or content.isspace():
            return False
        wanted, other = other, wanted
    return start == 0 or bool(messages[0]["content"].strip())


def folded(messages: list[dict]) -> list[dict]:
    """The turns without a system turn: what it says stands in front of the first question."""
    if len(messages) < 2 or [turn["role"] for turn in messages[:2]] != ["system", "user"]:
        return messages
    content = messages[0]["content"] + "\n\n" + messages[1]["content"]
    return [{"role": "user", "content": content}, *messages[2:]]


def _without_empty(messages: list[dict], done: list[str]) -> list[dict]:
    repaired: list[dict] = []
    for index, turn in enumerate(messages):
        if turn["content"].strip():
            repaired.append(turn)
            continue
        done.append("empty_turn_dropped")
        # A question without its reply teaches nothing: both go, unless the reply is in the next turn.
        answered = next((later["role"] for later in messages[index + 1 :] if later["content"].strip()), "assistant")
        if turn["role"] == "assistant" and repaired and repaired[-1]["role"] == "user" and answered != "assistant":
            repaired.pop()
    return repaired


def _system_first(turns: list[dict], done: list[str]) -> list[dict]:
    repaired: list[dict] = []
    waiting: list[str] = []
    for turn in turns:
        if turn["role"] == "system" and repaired and repaired[-1]["role"] != "system":
            waiting.append(turn["content"])
            done.append("system_moved_into_user")
        elif waiting and turn["role"] == "user":
            repaired.append({"role": "user", "content": "\n\n".join([*waiting, turn["content"]])})
            waiting = []
        else:
            repaired.append(turn)
    if waiting:
        first = repaired[0]["content"] if repaired[0]["role"] == "system" else None
        content = "\n\n".join(([first] if first else []) + waiting)
        repaired = [{"role": "system", "content": content}, *repaired[1 if first else 0 :]]
    return repaired


def _merged(turns: list[dict], done: list[str]) -> list[dict]:
    repaired: list[dict] = []
    for turn in turns:
        if repaired and repaired[-1]["role"] == turn["role"]:
            weight = {"weight": 0} if 0 in (turn.get("weight"), repaired[-1].get("weight")) else {}
            joined = repaired[-1]["content"] + "\n\n" + turn["content"]
            repaired[-1] = {"role": turn["role"], "content": joined} | weight
            done.append("neighbours_merged")
        else:
            repaired.append(turn)
    return repaired
