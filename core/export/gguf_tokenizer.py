"""A tokenizer as GGUF writes it: tokens, their kinds, merges or scores, special ids, the chat template."""

import json
from pathlib import Path

from gguf import GGUFWriter, TokenType

from core import errors
from core.training import encoding
from core.training.tokenizer_loading import LLAMA3_SPLIT, TEKKEN_SPLIT

# How each family splits a text before its merges, as tokenizer.json says it: llama.cpp knows them by name.
PATTERNS = {LLAMA3_SPLIT: "llama-bpe", LLAMA3_SPLIT.replace("{1,3}", ""): "qwen2", TEKKEN_SPLIT: "tekken"}
SENTENCE_PIECE = "spm"


def kind(directory: Path) -> str:
    """The name of the tokenizer's way to split: llama-bpe, qwen2, tekken, smollm, gpt-2, or spm for byte fallback."""
    try:
        values = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise errors.named("GgufTokenizer", model=directory.name) from error
    if values["model"].get("type") != "BPE":
        raise errors.named("GgufTokenizer", model=directory.name)
    if values["model"].get("byte_fallback"):
        return SENTENCE_PIECE
    before = values.get("pre_tokenizer") or {}
    steps = before.get("pretokenizers", [before])
    names = [step.get("type") for step in steps]
    pattern = steps[0].get("pattern", {}).get("Regex")
    if names == ["Split", "ByteLevel"] and pattern in PATTERNS and not steps[1].get("use_regex", True):
        return PATTERNS[pattern]
    if names == ["ByteLevel"] and steps[0].get("use_regex", True):
        return "gpt-2"
    if names == ["Digits", "ByteLevel"] and steps[0].get("individual_digits") and steps[1].get("use_regex", True):
        return "smollm"
    raise errors.named("GgufTokenizer", model=directory.name)


def add(writer: GGUFWriter, directory: Path, tokenizer, size: int) -> None:
    """Write a tokenizer's settings; rows of the embedding that no token has are filled with names of their own."""
    split = kind(directory)
    writer.add_tokenizer_model("llama" if split == SENTENCE_PIECE else "gpt2")
    writer.add_tokenizer_pre("default" if split == SENTENCE_PIECE else split)
    names = {id: token for token, id in tokenizer.get_vocab().items()}
    added = tokenizer.added_tokens_decoder
    tokens, kinds, scores = [], [], []
    for id in range(max(size, max(names) + 1)):
        name = names.get(id)
        tokens.append(f"[PAD{id}]" if name is None else name)
        kinds.append(_type(id, name, added, tokenizer, split))
        scores.append(0.0 if kinds[-1] != TokenType.NORMAL else -float(id))  # SentencePiece's BPE: merged in this order
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    if split == SENTENCE_PIECE:
        writer.add_token_scores(scores)
        writer.add_add_space_prefix(True)
    else:
        merges = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))["model"]["merges"]
        writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in merges])
    _add_special(writer, tokenizer)


def _type(id: int, name: str | None, added: dict, tokenizer, split: str) -> TokenType:
    if name is None:
        return TokenType.UNUSED
    if split == SENTENCE_PIECE and id == tokenizer.unk_token_id:
        return TokenType.UNKNOWN
    if id in added:
        return TokenType.CONTROL if added[id].special else TokenType.USER_DEFINED
    if split == SENTENCE_PIECE and len(name) == 6 and name.startswith("<0x"):
        return TokenType.BYTE
    return TokenType.NORMAL


def _add_special(writer: GGUFWriter, tokenizer) -> None:
    """The ids that begin, end and pad, and the chat template; a reply ends at its turn's end, whatever ends a text."""
    for name in ("bos", "unk", "pad"):
        if (id := getattr(tokenizer, f"{name}_token_id")) is not None:
            getattr(writer, f"add_{name}_token_id")(id)
    ends = tokenizer.eos_token_id
    if tokenizer.chat_template:
        turn_end = encoding.turn_end_id(tokenizer)
        if turn_end is not None and turn_end != ends:
            writer.add_eot_token_id(turn_end)
        writer.add_chat_template(tokenizer.chat_template)
    if ends is not None:
        writer.add_eos_token_id(ends)
    begins = tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
    writer.add_add_bos_token(begins and tokenizer.bos_token_id is not None)
