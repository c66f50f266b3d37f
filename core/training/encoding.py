"""Token ids and labels of rows: chat templates, which tokens are learned, and where a reply ends."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress

from . import corpus_rows
from .config import TrainConfig
from .errors import TemplateRefused

IGNORED = -100  # a label that the loss passes over
_MARK = "\ue0f0turn\ue0f1"  # stands in for a reply while its place in the template is looked up


def encode(row: dict, tokenizer, learn: str = "assistant") -> dict[str, list]:
    """Token ids and labels of a row, both of length T, with the text and the T character spans they stand for.

    Labels are -100 wherever a token is not learned. In a chat the replies are learned, from the first token that the
    model has to say by itself up to the end token of the turn; with learn="all", and in texts, every token is.
    """
    if "messages" in row:
        text, replies = _render(row["messages"], tokenizer)
    else:
        text, replies = row["text"], [(0, len(row["text"]))]
    tokens = tokenizer(text, add_special_tokens="text" in row, return_offsets_mapping=True)
    ids, spans = list(tokens["input_ids"]), [tuple(span) for span in tokens["offset_mapping"]]
    special = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    learned = [False] * len(ids)
    last = row["messages"][-1] if "messages" in row else {"role": "assistant"}
    ended = last["role"] != "assistant" or last.get("weight") == 0  # the last word is not the model's
    for start, end in replies:
        ended = _mark_learned(learned, ids, spans, start, end, text, special) or ended
    if replies and not ended and ids[-1:] != [tokenizer.eos_token_id] and tokenizer.eos_token_id is not None:
        ids.append(tokenizer.eos_token_id)
        spans.append((len(text), len(text)))
        learned.append(True)
    if learn == "all" or "text" in row:
        learned = [True] * len(ids)
    labels = [id if known else IGNORED for id, known in zip(ids, learned, strict=True)]
    return {"input_ids": ids, "labels": labels, "spans": spans, "text": text}


def _mark_learned(learned, ids, spans, start, end, text, special) -> bool:
    """Mark the tokens of one reply and its end token; whether there was an end token."""
    at = 0
    while at < len(spans) and (spans[at][1] <= start or spans[at][0] == spans[at][1]):
        at += 1
    while at < len(spans) and spans[at][0] < end:
        learned[at] = True
        at += 1
    # Between a reply and its end token there may be white space, which the model has to say as well.
    for stop in range(at, len(spans)):
        if ids[stop] in special:
            learned[at : stop + 1] = [True] * (stop + 1 - at)
            return True
        if text[spans[stop][0] : spans[stop][1]].strip():
            return False
    return False


def _render(messages: list[dict], tokenizer) -> tuple[str, list[tuple[int, int]]]:
    """A chat as the model reads it, and the (start, end) characters of each reply.

    No template is known here and no marker is searched for: a reply's place is where the rendered text changes when
    that reply alone is replaced. It begins right after what the template writes to ask for a reply, so that whatever
    else stands before the words (an empty think block, say) is learned too.
    """
    text = apply_template(tokenizer, messages)
    replies, last_end = [], 0
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        changed = apply_template(tokenizer, [*messages[:index], {**message, "content": _MARK}, *messages[index + 1 :]])
        start = _common(text, changed)
        end = len(text) - _common(text[start:][::-1], changed[start:][::-1])
        prompt = _asked(tokenizer, messages[:index])
        at = text.rfind(prompt, last_end, start) if prompt else -1
        if at >= 0:
            start = at + len(prompt)
        if message.get("weight") != 0:  # a reply that only leads to the next one
            replies.append((start, end))
        last_end = end
    return text, replies


def _asked(tokenizer, messages: list[dict]) -> str:
    """What the template writes after these messages to ask for a reply: `<|im_start|>assistant` in ChatML."""
    try:
        before, after = (
            apply_template(tokenizer, messages),
            apply_template(tokenizer, messages, add_generation_prompt=True),
        )
    except TemplateRefused:
        return ""
    return after[len(before) :] if after.startswith(before) else ""


def apply_template(tokenizer, messages: list[dict], add_generation_prompt: bool = False) -> str:
    """A chat as the model's template writes it.

    Raises:
        TemplateRefused: with the roles and the template's own words.
    """
    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt)
    except MemoryError:
        raise
    except Exception as error:  # a template is a program of its author's: it may raise anything
        roles = " ".join(message["role"] for message in messages)
        raise TemplateRefused(roles=roles, reason=str(error)) from error


def prompt_ids(messages: list[dict], tokenizer) -> list[int]:
    """The tokens that ask for the next reply; of a model without a chat template, which goes on with a text, the words."""
    if tokenizer.chat_template:
        return tokenizer(apply_template(tokenizer, messages, True), add_special_tokens=False)["input_ids"]
    ids = tokenizer("".join(message["content"] for message in messages))["input_ids"]
    return ids[:-1] if ids[-1:] == [tokenizer.eos_token_id] else ids


def stop_ids(model, tokenizer) -> list[int]:
    """The tokens that end a reply: the model's own, the tokenizer's, and the one that the chat template writes.

    A base model of Qwen ends texts with one token, and the replies of its chat template with another.
    """
    configured = model.generation_config.eos_token_id
    ids = {*(configured if isinstance(configured, list) else [configured]), tokenizer.eos_token_id}
    return sorted((ids | {turn_end_id(tokenizer)}) - {None})


def turn_end_id(tokenizer) -> int | None:
    """The token that the chat template writes after a reply; None without a template, or where it refuses these chats."""
    turn = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    # Some templates refuse a chat without a system message, others one with it.
    for messages in (turn, [{"role": "system", "content": "s"}, *turn]) if tokenizer.chat_template else ():
        with suppress(TemplateRefused):
            last = [id for id in encode({"messages": messages}, tokenizer)["labels"] if id != IGNORED][-1:]
            return last[0] if last and last[0] in tokenizer.added_tokens_decoder else None  # else a word of the reply
    return None


def _common(first: str, second: str) -> int:
    """Length of the common beginning of two strings."""
    low, high = 0, min(len(first), len(second))
    while low < high:  # bisect with slices: much faster than a loop over characters
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def encode_pieces(row: dict, tokenizer, config: TrainConfig, counted: Counter) -> list[dict]:
    """The pieces of one row, at most max_length tokens each, that have something to learn in them; what is lost is counted.

    With packing, a row that is longer goes on in further pieces; without it, the rest of the row is cut off.
    """
    if "chosen" in row or ("label" in row and config.task == "preference"):
        return encode_preference(row, tokenizer, config.max_length, counted)
    if not row.get("label", True):  # disliked; its weight of 0 would not keep it from `learn`: all
        counted["unwanted_reply"] += 1
        return []
    try:
        encoded = encode(row, tokenizer, config.learn)
    except TemplateRefused:
        counted["template_refused"] += 1
        return []
    # A piece begins with the token that the one before it ended with: so every token but the first is predicted.
    last = len(encoded["input_ids"]) - 1
    starts = range(0, max(1, last) if config.packing else 1, config.max_length - 1)
    pieces = [_piece(encoded, row["id"], start, config.max_length) for start in starts]
    learnable = [piece for piece in pieces if any(label != IGNORED for label in piece["labels"][1:])]
    counted["nothing_to_learn"] += not learnable
    counted["cut"] += bool(learnable) and not config.packing and last + 1 > config.max_length
    return learnable


def encode_preference(row: dict, tokenizer, max_length: int, counted: Counter) -> list[dict]:
    """The chosen and the rejected side of a preference pair, each the prompt with its reply, which alone is learned; of a
    reply that was judged by itself the one side, with `liked`.

    A reply is never cut, or a long one would be judged without its end. Where a side is longer than max_length, the
    oldest exchanges of the prompt are left out of both and the row is counted as cut; a row whose last question and
    replies are too long even so is counted as too_long and left out.
    """
    if "chosen" in row:
        turns = [turn | {"weight": 0} if turn["role"] == "assistant" else turn for turn in row["messages"]]
        replies, judged = [row["chosen"], row["rejected"]], {}
    else:
        turns, reply = corpus_rows.before_and_reply(row["messages"])
        replies, judged = [reply], {"liked": row["label"]}
    cut = False
    while True:
        try:
            sides = [encode({"messages": turns + reply}, tokenizer) for reply in replies]
        except TemplateRefused:
            counted["template_refused"] += 1
            return []
        if not all(any(label != IGNORED for label in side["labels"][1:]) for side in sides):
            counted["nothing_to_learn"] += 1
            return []
        if max(len(side["input_ids"]) for side in sides) <= max_length:
            counted["cut"] += cut
            return [_piece(side, row["id"], 0, max_length) | judged for side in sides]
        if not (shorter := _without_oldest(turns)):
            counted["too_long"] += 1
            return []
        turns, cut = shorter, True


def _without_oldest(turns: list[dict]) -> list[dict]:
    """The turns without their oldest question and what was replied to it; none where there is one question alone."""
    system = [turn for turn in turns[:1] if turn["role"] == "system"]
    asked = [at for at, turn in enumerate(turns) if turn["role"] == "user" and at > len(system)]
    return system + turns[asked[0] :] if asked else []


def _piece(encoded: dict, id: str, start: int, length: int) -> dict:
    return {key: encoded[key][start : start + length] for key in ("input_ids", "labels")} | {"id": id}
