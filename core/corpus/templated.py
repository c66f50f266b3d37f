"""Chats that are one text with the marks of a chat template or of a prompt, as turns again."""

import re
from itertools import pairwise
from typing import NamedTuple

from core.corpus import turn_lists


class Marks(NamedTuple):
    """How a template marks its turns."""

    sign: str  # what stands in every text of it
    start: re.Pattern  # before each turn, with the role in its first group
    end: re.Pattern  # behind a turn, where there is a mark


_END = r"\s*(?:</s>|<\|endoftext\|>|<\|end_of_text\|>|<eos>)*\s*"
TEMPLATES = (
    Marks("<|im_start|>", re.compile(r"<\|im_start\|>(\w+)\n?"), re.compile(rf"<\|im_end\|>{_END}$")),
    Marks(
        "<|start_header_id|>",
        re.compile(r"(?:<\|begin_of_text\|>)?<\|start_header_id\|>(\w+)<\|end_header_id\|>\s*"),
        re.compile(rf"<\|eot_id\|>{_END}$"),
    ),
    Marks("<start_of_turn>", re.compile(r"(?:<bos>)?<start_of_turn>(\w+)\n?"), re.compile(rf"<end_of_turn>{_END}$")),
    Marks("<|user|>", re.compile(r"<\|(user|assistant|system)\|>\n?"), re.compile(rf"(?:<\|end\|>)?{_END}$")),
    Marks(
        "[INST]",
        re.compile(r"(?:<s>)?\s*(\[INST\])\s*(?:<<SYS>>\s*(.*?)\s*<</SYS>>)?\s*|\s*(\[/INST\])\s*", re.DOTALL),
        re.compile(f"{_END}$"),
    ),
    Marks("### Human:", re.compile(r"\s*### (Human|Assistant): ?"), re.compile(f"{_END}$")),
    Marks(
        "### Instruction:",
        re.compile(r"\s*### (System|Instruction|Input|Response|Output):[ \n]?"),
        re.compile(f"{_END}$"),
    ),
    Marks("USER: ", re.compile(r"(?:^|(?<=\s)|(?<=</s>))(USER|ASSISTANT): "), re.compile(f"{_END}$")),
)
ROLES = {"[inst]": "user", "[/inst]": "assistant", "instruction": "user", "input": "user", "response": "assistant"}
ROLES |= {"output": "assistant"}


def read(row: dict, notes: list[str]) -> dict:
    """A row that is one text with such marks as a chat; what stands before the first mark is its system turn."""
    text = row.get("text", "")
    marks = next((marks for marks in TEMPLATES if marks.sign in text), None)
    messages = _turns(text, marks) if marks else []
    roles = [turn["role"] for turn in messages]
    if roles[:1] == ["system"]:
        roles = roles[1:]
    takes_turns = all(one != other for one, other in pairwise(roles)) and "system" not in roles
    whole = takes_turns and all(turn["content"] for turn in messages)
    if roles[:1] != ["user"] or "assistant" not in roles or not whole:
        return row
    notes.append("template_read")
    return {"messages": messages} | {key: value for key, value in row.items() if key != "text"}


def _turns(text: str, marks: Marks) -> list[dict]:
    """The turns between the marks of a text; neighbours of one role, as an instruction and its input, are one turn."""
    starts = list(marks.start.finditer(text))
    before = text[: starts[0].start()].strip() if starts else ""
    turns = [{"role": "system", "content": before}] if before else []
    for at, start in enumerate(starts):
        end = starts[at + 1].start() if at + 1 < len(starts) else len(text)
        name = next(group for group in (start[1], start[start.re.groups]) if group)
        role = ROLES.get(name.lower()) or turn_lists.ROLE_OF.get(name.lower())
        if role is None:
            return []
        if name == "[INST]" and start[2]:
            turns.append({"role": "system", "content": start[2]})
        said = marks.end.sub("", text[start.end() : end]).strip()
        if turns and turns[-1]["role"] == role:
            turns[-1] = {"role": role, "content": f"{turns[-1]['content']}\n\n{said}"}
        else:
            turns.append({"role": role, "content": said})
    return turns
