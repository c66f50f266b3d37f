"""Preference pairs: a prompt with a chosen and a rejected reply, in the forms of TRL, OpenAI and LLaMA-Factory.

A pair is a row {"messages": the prompt, "chosen", "rejected"}, each a list of turns.
"""

import re

from core.corpus import content, turn_lists
from core.corpus.content import Unfit

HUMAN_ASSISTANT = re.compile(r"(?:^|\n\n)(Human|Assistant): ?")


def guess(names: dict, value: dict) -> dict | None:
    """How a record with these plain names is read as a pair; None when it is none."""
    rejected = turn_lists.first(names, "rejected")
    chosen = turn_lists.first(names, "chosen") if rejected is not None else None
    if chosen is None:
        return None
    mapping = {"schema": "preference", "chosen": chosen, "rejected": rejected}
    if (system := turn_lists.first(names, "system")) is not None:
        mapping["system"] = system
    prompt = turn_lists.first(names, "ask") or turn_lists.first(names, "input")
    if prompt is not None:
        more = [names[name] for name in turn_lists.NAMES["input"] if name in names and names[name] != prompt]
        return mapping | {"ask": [prompt, *more[:1]]}
    for name in turn_lists.NAMES["messages"]:
        if name in names and turn_lists.is_turns(value[names[name]]):
            return mapping | {"messages": names[name]}
    return mapping


def of(value: dict, mapping: dict, roles: dict, notes: list[str]) -> dict:
    """The row of a pair.

    Raises:
        Unfit: no_prompt, when nothing comes before the replies; empty_reply; equal_pair, when both are the same.
    """
    prompt = _prompt(value, mapping, roles, notes)
    chosen, rejected = (_side(value[mapping[name]], prompt, roles, notes) for name in ("chosen", "rejected"))
    if not prompt and not (chosen and rejected):
        raise Unfit("no_prompt")
    common = 0
    while common < min(len(chosen), len(rejected)) and chosen[common] == rejected[common]:
        common += 1
    if common == len(chosen) == len(rejected):
        raise Unfit("equal_pair")
    if common and chosen[0]["role"] != "assistant":  # both sides repeat the prompt
        prompt, chosen, rejected = chosen[:common], chosen[common:], rejected[common:]
    for side in (chosen, rejected):
        if not side or not any(turn["content"].strip() for turn in side):
            raise Unfit("empty_reply")
    if not any(turn["role"] == "user" and turn["content"].strip() for turn in prompt):
        raise Unfit("no_prompt")
    if prompt[-1]["role"] == "assistant" or any(side[0]["role"] != "assistant" for side in (chosen, rejected)):
        raise Unfit("no_prompt")
    system = content.text_of(value.get(mapping.get("system", "")), notes).strip()
    if system and prompt[0]["role"] != "system":
        prompt = [{"role": "system", "content": system}, *prompt]
    return {"messages": prompt, "chosen": chosen, "rejected": rejected}


def _prompt(value: dict, mapping: dict, roles: dict, notes: list[str]) -> list[dict]:
    if "messages" in mapping:
        return turn_lists.read(value[mapping["messages"]], roles, notes)
    if "ask" not in mapping:
        return []
    asked = value[mapping["ask"][0]]
    if isinstance(asked, dict) and "messages" in asked:  # OpenAI's
        asked = asked["messages"]
    if turn_lists.is_list_of_turns(asked):
        return turn_lists.read(asked, roles, notes)
    if isinstance(asked, str) and (cell := turn_lists.parsed(asked)) and turn_lists.is_list_of_turns(cell):
        return turn_lists.read(cell, roles, notes)
    if isinstance(asked, str) and (said := _human_assistant(asked)):
        return [turn for turn in said if turn["content"]]
    parts = [content.text_of(value.get(key), notes).strip("\n") for key in mapping["ask"]]
    said = "\n\n".join(part for part in parts if part.strip())
    return [{"role": "user", "content": said}] if said else []


def _side(side: object, prompt: list[dict], roles: dict, notes: list[str]) -> list[dict]:
    """The turns of one side, which may repeat the prompt."""
    if isinstance(side, str) and (cell := turn_lists.parsed(side)) and isinstance(cell, (list, dict)):
        side = cell if turn_lists.is_list_of_turns(cell) else side
    if isinstance(side, dict):
        side = [side]
    if turn_lists.is_list_of_turns(side):
        return turn_lists.read(side, roles, notes)
    if isinstance(side, str) and not prompt:
        return _human_assistant(side)
    return [{"role": "assistant", "content": content.text_of(side, notes)}]


def _human_assistant(text: str) -> list[dict]:
    return human_assistant(text) if HUMAN_ASSISTANT.match(text) else []


def human_assistant(text: str) -> list[dict]:
    """The turns of a text with "Human:" and "Assistant:" before each, as Anthropic's HH-RLHF has them."""
    parts = HUMAN_ASSISTANT.split(text)
    return [
        {"role": "user" if name == "Human" else "assistant", "content": said.strip()}
        for name, said in zip(parts[1::2], parts[2::2], strict=True)
    ]
