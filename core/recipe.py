"""The recipe: a config and a corpus in, an adapter out.

This one file is also the train.py of every exported run: `python train.py config.json` trains again, with nothing of
Soulsmith around it. Hence it imports nothing of ours, and torch only when it trains.
"""

from __future__ import annotations

import bisect
import hashlib
import inspect
import itertools
import json
import math
import operator
import os
import re
import shutil
import sys
import tempfile
import time
import warnings
from array import array
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from functools import partial, wraps
from pathlib import Path
from typing import Any, ClassVar

IGNORED = -100  # a label that the loss passes over
LOSS_TILE = 1024  # positions whose logits exist at one time, at most
SORTED_BATCHES = 50  # of rows at random are sorted by length together
LENGTH_NOISE = 0.1  # of a length, for the sake of sorting
LEAST_TILE = 128  # and at least: below that the products of matrices become slow
TILE_BYTES = 2**26  # of logits in 16 bit and in fp32
DIGEST_BYTES = 2**28  # of a checkpoint's file are read to see whether it is still what was written
LISTEN_SECONDS = 1.0  # between two looks, during an evaluation, whether somebody asked to stop
FEWEST_ROWS = 10  # below that nothing can be held out
MOST_HELD_OUT = 1000  # rows; more would take longer to evaluate than to train, and say no more
TOKENS_KEPT = 8  # encoded corpora on the disk; the one that was not used longest goes
TELL_SECONDS = 1.0  # between two words about how far the encoding is
NAMED_ROWS = 8  # of a batch in a sentence
FLASH_HEAD = 256  # numbers of a head, at most: FlashAttention 2's own limit
ROUTERS = ("gate", "router", "shared_expert_gate")  # linear layers that choose experts, by the last part of the name
MAMBAS = ("falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h")  # for which PEFT refuses out_proj
PEFT_TAKES = ("gptq", "awq", "hqq", "aqlm", "eetq", "torchao")  # quantised weights that PEFT puts LoRA around
MISTRALS = ("mistral", "mistral3", "voxtral", "ministral", "ministral3", "pixtral")  # model types of Mistral's makers
# How a text is split before its merges: by Llama 3's tokenizer, and by Mistral's Tekken.
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
TEKKEN_SPLIT = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
OUT_OF_MEMORY = (  # torch, CUDA, cuBLAS, cuDNN, NCCL; HIP and its libraries; Level Zero and SYCL; MPS; a processor; Windows
    *("out of memory", "outofmemory", "out_of_memory", "alloc_failed", "allocfailed", "out_of_device_memory"),
    *("out_of_host_memory", "bad_alloc", "can't allocate memory", "cannot allocate memory", "not enough memory"),
    *("insufficient memory", "status_memory_error", "failed to allocate memory", "os error 1455", "paging file is too"),
)
_MARK = "\ue0f0turn\ue0f1"  # stands in for a reply while its place in the template is looked up


class RecipeTrouble(ValueError):
    """Known trouble in a config or a corpus, worded for the person at the screen."""

    template: ClassVar[str] = "{message}"

    def __init__(self, **values: Any):
        super().__init__(self.template.format(**values))
        self.values = values


class UnknownField(RecipeTrouble):
    template = "The config has no field {field}. Take it out, or write the name as {known} do."


class NotOneOf(RecipeTrouble):
    template = "{field} must be one of {allowed}, got {value}."


class NotANumber(RecipeTrouble):
    template = "{field} must be a number ({kind}), got {value}."


class TooSmall(RecipeTrouble):
    template = "{field} must be at least {least}, got {value}. Try {suggestion}."


class NotPositive(RecipeTrouble):
    template = "{field} must be above 0, got {value}. Try {suggestion}."


class TooLarge(RecipeTrouble):
    template = "{field} must be at most {most}, got {value}. Try {suggestion}."


class CorpusGone(RecipeTrouble):
    template = "There is no corpus in {path}. It was moved or deleted: choose another one."


class CorpusTooSmall(RecipeTrouble):
    template = (
        "The corpus {name} has {rows} different rows; at least {needed} are needed to hold some out for evaluation."
    )


class NothingToLearn(RecipeTrouble):
    template = (
        "No row of {name} leaves the model a word to learn within max_length {max_length}. "
        "Raise max_length, or choose a corpus with assistant replies."
    )


class NoChatTemplate(RecipeTrouble):
    template = "{model} has no chat template, and {name} holds chats. Choose an instruct model, or a corpus of texts."


class TemplateRefused(RecipeTrouble):
    template = "The chat template refuses the roles {roles}: {reason}"


class ModelUnreadable(RecipeTrouble):
    template = "{model} could not be opened as a language model: {reason}"


class LayersUnknown(RecipeTrouble):
    template = "{model} has no layers named {names} that an adapter fits. Set target_modules to all-linear."


class AdapterRefused(RecipeTrouble):
    template = (
        "{model} takes no adapter with these settings: {reason} "
        "Set target_modules to all-linear, use_dora to off and init_lora_weights to default."
    )


class ExpertsTakePlainLora(RecipeTrouble):
    template = (
        "{model} keeps its experts in one tensor a layer, which take plain LoRA only, and {field} is {value}. "
        "Set {field} to {suggestion}, or target_modules to {names}: adapters on the attention alone."
    )


class StoredQuantized(RecipeTrouble):
    template = (
        "The weights of {model} are stored in {kind}, and method {method} cannot begin with those (methods that can: "
        "{methods}). Choose the same model in 16 bit."
    )


class ChatsForPretraining(RecipeTrouble):
    template = (
        'The corpus "{name}" holds {chats} chats, and continued pretraining reads plain texts. '
        "Choose a corpus of texts, or tune on chats: set task to chat."
    )


class TextsForChat(RecipeTrouble):
    template = (
        'The corpus "{name}" holds plain texts only, and chat tuning learns replies. '
        "Choose continued pretraining (set task to text), or a corpus of chats."
    )


class ArchitectureUnknown(RecipeTrouble):
    template = (
        "{model} is of the kind {kind}, which transformers {version} cannot train as a language model. "
        "Choose another model, or update transformers."
    )


class LongerThanTheModel(RecipeTrouble):
    template = "max_length is {value}, and {model} reads {limit} tokens at most. Set max_length to {limit} or less."


class VocabularyTooLarge(RecipeTrouble):
    template = (
        "The tokenizer of {model} knows {tokens} tokens and its weights only {rows}. "
        "Take the tokenizer that belongs to the model, or enlarge the model's embeddings first."
    )


class NoBf16(RecipeTrouble):
    template = "{card} does not compute bf16. Set precision to auto: it takes fp16 there, with adapters in fp32."


class Fp16NeedsCard(RecipeTrouble):
    template = "precision fp16 needs a graphics card, and this machine has none. Set precision to auto."


class LigerMissing(RecipeTrouble):
    template = (
        "use_liger_kernel needs a graphics card and the package liger-kernel; {missing} is missing here. "
        "Switch it off, or install it with: pip install liger-kernel"
    )


class PissaNeedsWholeBase(RecipeTrouble):
    template = (
        "init_lora_weights {value} takes the base apart, which it cannot do with 4-bit weights. "
        "Set method to lora, or init_lora_weights to default."
    )


class PackingUnsupported(RecipeTrouble):
    template = (
        "Rows in one block would leak into each other in {model}: its layers do not keep documents apart. "
        "Switch packing off."
    )


class NotFinite(RecipeTrouble):
    template = (
        "{model} computes NaN or infinity in {precision}. Set precision to fp32, or to bf16 where the card has it."
    )


class SeesAhead(RecipeTrouble):
    template = (
        "{model} sees the words that it should predict, as encoders of BERT's kind do: it would learn nothing. "
        "Choose a model that writes text."
    )


class LossIsZero(RecipeTrouble):
    template = (
        "The loss is exactly 0 by step {step}: nothing is being learned. "
        "Look at the corpus's colours on the Corpus tab, and set learn to all if no reply is coloured."
    )


class LossNotFinite(RecipeTrouble):
    template = (
        "The loss became {value} at step {step}, in a batch of these rows of the corpus: {rows}. The newest good "
        "checkpoint is that of step {good} (0: there is none). Lower learning_rate to {suggestion} and start again."
    )


# ---------------------------------------------------------------------------------------------------------------------
# Config


CHOICES = {
    "method": ("qlora", "lora", "full"),
    "task": ("chat", "text"),
    "init_lora_weights": ("default", "gaussian", "pissa", "pissa_niter_16"),
    "lr_scheduler_type": (
        *("cosine", "linear", "constant", "constant_with_warmup", "cosine_with_min_lr"),
        *("warmup_stable_decay", "inverse_sqrt", "polynomial"),
    ),
    "learn": ("assistant", "all"),
    "precision": ("auto", "fp32", "bf16", "fp16"),
}
BEFORE = ([3, 1, 4, 1, 5, 9, 2, 6], [5, 2, 9, 4, 3, 6, 1, 7])  # token ids of documents that a probe puts in front
LEAST = {  # field: (least value, what to try)
    "max_length": (8, 1024),
    "batch_size": (1, 4),
    "gradient_accumulation_steps": (1, 1),
    "max_steps": (0, 0),
    "lora_rank": (1, "8 or 16"),
    "lora_alpha": (1, 32),
    "lora_dropout": (0, 0.05),
    "loraplus_lr_ratio": (0, 16),
    "embedding_learning_rate": (0, 0.00002),
    "neftune_noise_alpha": (0, 5),
    "warmup_ratio": (0, 0.03),
    "weight_decay": (0, 0),
    "max_grad_norm": (0, 1),
    "validation_share": (0, 0.1),
    "eval_steps": (0, 0),
    "logging_steps": (1, 1),
    "save_total_limit": (2, 2),
    "early_stopping": (0, 3),
    "seed": (0, 7),
}
MOST = {
    "learning_rate": (1, 0.0002),
    "embedding_learning_rate": (1, 0.00002),
    "lora_dropout": (0.9, 0.05),
    "warmup_ratio": (0.9, 0.03),
    "validation_share": (0.5, 0.1),
}


@dataclass(frozen=True)
class TrainConfig:
    """All that decides a run; JSON on disk, and the form's keys are these names."""

    base_model: str  # a directory with safetensors, or a hub id
    corpus: str  # a directory with rows-*.jsonl, or one JSONL file of `messages` or `text`
    method: str = (
        "qlora"  # qlora: LoRA on a base in 4-bit NF4, double quantisation; lora: on the base; full: all weights
    )
    task: str = "chat"  # chat: conversations; text: continued pretraining on raw text, every token of which is learned
    learn: str = "assistant"  # assistant: only replies and their end token count in the loss; all: every token
    max_length: int = 1024  # tokens of a row, or of a block; the rest is cut off
    packing: bool = False  # rows share blocks of max_length without seeing each other; long texts go on in more blocks
    batch_size: int = 4  # rows per device and step
    gradient_accumulation_steps: int = 1
    epochs: float = 3.0
    max_steps: int = 0  # optimizer steps; 0: as many as epochs need
    learning_rate: float = 2e-4  # AdamW on LoRA weights; Dettmers et al. 2023, arXiv:2305.14314, table 9
    lr_scheduler_type: str = "cosine"
    warmup_ratio: float = 0.03  # share of the steps, arXiv:2305.14314
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    lora_rank: int = 16
    lora_alpha: int = 32  # the update is scaled by lora_alpha / lora_rank
    lora_dropout: float = 0.05
    target_modules: str = "all-linear"  # or names with commas: q_proj,v_proj
    use_rslora: bool = False  # scale by lora_alpha / sqrt(lora_rank); Kalajdzievski 2023, arXiv:2312.03732
    use_dora: bool = False  # learn length and direction apart; Liu et al. 2024, arXiv:2402.09353
    init_lora_weights: str = "default"  # pissa: from the base's largest singular values, arXiv:2404.02948
    loraplus_lr_ratio: float = 0.0  # B learns so many times faster than A, arXiv:2402.12354; 0: equally fast
    train_embeddings: bool = False  # embeddings and head are trained whole beside the adapter
    embedding_learning_rate: float = 0.0  # theirs; 0: a tenth of learning_rate (learning_rate itself for method full)
    neftune_noise_alpha: float = 0.0  # noise on the embeddings while training, arXiv:2310.05914; 0: none
    precision: str = "auto"  # auto: bf16 where it is computed in hardware, fp16 on other cards, fp32 on other CPUs
    gradient_checkpointing: bool = False  # a third more time for much less memory
    use_liger_kernel: bool = False  # fused norms, rotary positions and MLPs; needs a card and liger-kernel
    optim: str = "adamw_torch"  # any name that transformers knows
    validation_share: float = 0.1  # of the rows, held out by content hash
    eval_steps: int = 0  # steps between evaluations and checkpoints; 0: ten times a run
    logging_steps: int = 1
    save_total_limit: int = 2  # newest checkpoints kept; the one with the lowest evaluation loss is kept besides
    early_stopping: int = 0  # end after so many evaluations in a row without a new lowest loss; 0: never
    keep_best: bool = False  # save the weights of the checkpoint with the lowest evaluation loss, not the last ones
    film_strip: bool = False  # reply to the person's own prompts at each evaluation; train.py alone passes it over
    forgetting_meter: bool = False  # ask about old knowledge at each evaluation; train.py alone passes it over
    seed: int = 7

    def __post_init__(self):
        for field in fields(self):
            value, wanted = getattr(self, field.name), {"int": int, "float": (int, float)}.get(field.type)
            if wanted and (isinstance(value, bool) or not isinstance(value, wanted)):
                raise NotANumber(field=field.name, value=repr(value), kind=field.type)
        for field, allowed in CHOICES.items():
            if getattr(self, field) not in allowed:
                raise NotOneOf(field=field, allowed=", ".join(allowed), value=getattr(self, field))
        for field, (least, suggestion) in LEAST.items():
            if not getattr(self, field) >= least:
                raise TooSmall(field=field, least=least, value=getattr(self, field), suggestion=suggestion)
        for field, (most, suggestion) in MOST.items():
            if not getattr(self, field) <= most:
                raise TooLarge(field=field, most=most, value=getattr(self, field), suggestion=suggestion)
        if self.method == "qlora" and self.init_lora_weights.startswith("pissa"):
            raise PissaNeedsWholeBase(value=self.init_lora_weights)
        if not self.learning_rate > 0:
            raise NotPositive(field="learning_rate", value=self.learning_rate, suggestion=0.0002)
        if not self.max_steps and not self.epochs > 0:
            raise NotPositive(field="epochs", value=self.epochs, suggestion=3)

    @classmethod
    def from_dict(cls, values: dict) -> TrainConfig:
        known = {field.name for field in fields(cls)}
        for key in values:
            if key not in known:
                raise UnknownField(field=key, known=", ".join(sorted(known)[:3]) + "…")
        return cls(**values)

    @classmethod
    def load(cls, path: Path) -> TrainConfig:
        return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))

    def save(self, path: Path) -> None:
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False)
        Path(path).write_text(text + "\n", encoding="utf-8")


# ---------------------------------------------------------------------------------------------------------------------
# Rows


def row_id(row: dict) -> str:
    """16 hex digits of the row's content: equal texts or chats have equal ids, wherever they come from."""
    content = row["messages"] if "messages" in row else row["text"]
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
        raise CorpusGone(path=corpus)
    return files


def split(rows: list[dict], share: float) -> tuple[list[dict], list[dict]]:
    """Training and validation rows: clusters of near-equal rows stay together, chosen by the hash of their name.

    The same rows are held out whatever their order, the seed or the machine; at most MOST_HELD_OUT.
    """
    held_out = held_out_clusters(Counter(row.get("cluster", row["id"]) for row in rows), share)
    parts: tuple[list[dict], list[dict]] = ([], [])
    for row in rows:
        parts[row.get("cluster", row["id"]) in held_out].append(row)
    return parts


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


# ---------------------------------------------------------------------------------------------------------------------
# Encoding


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
    ended = "messages" in row and row["messages"][-1]["role"] != "assistant"  # the last word is not the model's
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
        asked = _asked(tokenizer, messages[:index])
        found = text.rfind(asked, last_end, start) if asked else -1
        if found >= 0:
            start = found + len(asked)
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
    except Exception as error:  # a template is a program of its author's: it may raise anything
        roles = " ".join(message["role"] for message in messages)
        raise TemplateRefused(roles=roles, reason=str(error)) from error


def prompt_ids(messages: list[dict], tokenizer) -> list[int]:
    """The tokens that ask for the next reply; of a model without a chat template, which goes on with a text, the words."""
    if tokenizer.chat_template:
        return tokenizer(apply_template(tokenizer, messages, True), add_special_tokens=False)["input_ids"]
    ids = tokenizer("".join(message["content"] for message in messages))["input_ids"]
    return ids[:-1] if ids[-1:] == [tokenizer.eos_token_id] else ids


def stop_ids(base, tokenizer) -> list[int]:
    """The tokens that end a reply: the model's own, and the one that the chat template writes after a reply.

    A base model of Qwen ends texts with one token, and the replies of its chat template with another.
    """
    configured = base.generation_config.eos_token_id
    ids = {*(configured if isinstance(configured, list) else [configured]), tokenizer.eos_token_id}
    if tokenizer.chat_template:
        turn = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        with suppress(TemplateRefused):
            ids |= set([id for id in encode({"messages": turn}, tokenizer)["labels"] if id != IGNORED][-1:])
    return sorted(ids - {None})


def _common(one: str, other: str) -> int:
    """Length of the common beginning of two strings."""
    low, high = 0, min(len(one), len(other))
    while low < high:  # bisect with slices: much faster than a loop over characters
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def encode_rows(rows: list[dict], tokenizer, config: TrainConfig) -> tuple[list[dict], Counter]:
    """Rows as the model gets them, at most max_length tokens each, and how many are cut or left out for which reason.

    With packing, a row that is longer goes on in further pieces; without it, the rest of the row is cut off.
    """
    kept, counted = [], Counter()
    for row in rows:
        kept += _pieces(row, tokenizer, config, counted)
    return kept, +counted


def _pieces(row: dict, tokenizer, config: TrainConfig, counted: Counter) -> list[dict]:
    """The pieces of one row that have something to learn in them; a row without any is counted, and one cut short."""
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


def _piece(encoded: dict, id: str, start: int, length: int) -> dict:
    return {key: encoded[key][start : start + length] for key in ("input_ids", "labels")} | {"id": id}


def bins(lengths: list[int], max_length: int) -> list[list[int]]:
    """Which rows share a block of max_length tokens: as few blocks as best-fit decreasing finds."""
    blocks: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens left, block), sorted
    for row in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        need = lengths[row]
        at = bisect.bisect_left(room, (need, -1))  # the fullest block that still takes the row
        if at < len(room):
            left, block = room.pop(at)
        else:
            left, block = max_length, len(blocks)
            blocks.append([])
        blocks[block].append(row)
        bisect.insort(room, (left - need, block))
    return blocks


def pack(rows: list[dict], max_length: int) -> list[dict]:
    """Encoded rows in blocks of max_length tokens, every token kept."""
    return [_block([rows[at] for at in block]) for block in bins([len(row["input_ids"]) for row in rows], max_length)]


def _block(rows: list[dict]) -> dict:
    """Rows end to end.

    The position_ids begin at 0 with each row: from them the attention knows where one document ends. The first token
    of each row is not learned, since the token before it belongs to a stranger.
    """
    return {
        "input_ids": [id for row in rows for id in row["input_ids"]],
        "labels": [label for row in rows for label in [IGNORED, *row["labels"][1:]]],
        "position_ids": [position for row in rows for position in range(len(row["input_ids"]))],
        "id": " ".join(row["id"] for row in rows),
    }


def collate(rows: list[dict], flat: bool = False, lengths: bool = True, alone: bool = False) -> dict:
    """A batch (B, T), padded on the right; what is padding is told by position, never by the id of the pad token.

    There is no attention_mask: a causal model's tokens do not see what comes after them, so none sees the padding, and
    the fast kernels of attention take no mask. Packed blocks come with position_ids, by which transformers keeps the
    documents of a block apart, but only without attention_mask (seen in 5.24; it takes use_cache=False besides). With
    `flat` the blocks lie end to end in one row (1, B*T), which is what kernels for packed rows take, and `lengths` says
    in their words where each document ends: without that, every layer finds it anew and waits for the card to tell.
    With `alone` a row that is its whole batch says so too, as FlashAttention would ask that in every layer.
    """
    import torch

    packed = "position_ids" in rows[0]
    if flat and packed:
        row = {key: [x for row in rows for x in row[key]] for key in ("input_ids", "labels", "position_ids")}
        batch = {key: torch.tensor([values]) for key, values in row.items()}
        return batch | (document_ends(row["position_ids"]) if lengths else {})
    sizes = [len(row["input_ids"]) for row in rows]

    def padded(key: str, fill: int):
        return torch.tensor([row[key] + [fill] * (max(sizes) - len(row[key])) for row in rows])

    batch = {"input_ids": padded("input_ids", 0), "labels": padded("labels", IGNORED)}
    if not packed:
        return batch | (document_ends(range(sizes[0])) if alone and len(rows) == 1 else {})
    tails = [list(range(max(sizes) - size)) for size in sizes]  # padding is one more document in the block
    positions = [row["position_ids"] + tail for row, tail in zip(rows, tails, strict=True)]
    return batch | {"position_ids": torch.tensor(positions)}


def document_ends(positions: Sequence[int]) -> dict:
    """Where the documents of a packed row end, as attention kernels take it: running sums (N + 1,), int32, from 0 on,
    and the length of the longest one, a plain int. `positions` begin at 0 with each document."""
    import torch

    ends = [at for at, position in enumerate(positions) if position == 0] + [len(positions)]
    longest = max(end - start for start, end in itertools.pairwise(ends))
    ends = torch.tensor(ends, dtype=torch.int32)
    return {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": longest, "max_length_k": longest}


# ---------------------------------------------------------------------------------------------------------------------
# Tokens: a corpus is encoded once, and mapped into memory from then on


class Tokens:
    """Encoded rows of a file that is mapped, not read: row[at] is what encode_rows() makes, `id` its number in the corpus.

    A token that is not learned is kept as ~id.
    """

    def __init__(self, path: Path, part: str):
        import numpy

        self.starts, self.numbers = (
            numpy.fromfile(path / f"{part}.{name}", numpy.int64) for name in ("starts", "rows")
        )
        size = int(self.starts[-1])
        self.ids = numpy.memmap(path / f"{part}.ids", numpy.int32, "r", shape=(size,)) if size else ()
        self.lengths: list[int] = numpy.diff(self.starts).tolist()

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, at: int) -> dict:
        import numpy

        kept = numpy.asarray(self.ids[self.starts[at] : self.starts[at + 1]])
        return {
            "input_ids": numpy.where(kept < 0, ~kept, kept).tolist(),
            "labels": numpy.where(kept < 0, IGNORED, kept).tolist(),
            "id": str(self.numbers[at]),
        }

    def learned(self, *, packed: bool) -> int:
        """How many tokens are learned; of packed rows the first one never is."""
        learned = int((self.ids >= 0).sum()) if len(self) else 0
        return learned - int((self.ids[self.starts[:-1]] >= 0).sum()) if packed and len(self) else learned


class Blocks:
    """Encoded rows packed into blocks; a block is put together when it is asked for."""

    def __init__(self, rows: Tokens, max_length: int):
        self.rows, self.blocks = rows, bins(rows.lengths, max_length)
        self.lengths = [sum(rows.lengths[at] for at in block) for block in self.blocks]

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, at: int) -> dict:
        return _block([self.rows[row] for row in self.blocks[at]])


def lengths_of(rows) -> list[int]:
    """Tokens of each encoded row."""
    return rows.lengths if hasattr(rows, "lengths") else [len(row["input_ids"]) for row in rows]


def tokens_key(config: TrainConfig, tokenizer) -> str:
    """A name for the encoded rows of a config: it changes with anything that could change a token of them.

    That is every byte of the corpus, the tokenizer and its template, how rows are cut and held out, and this file.
    """
    import tokenizers
    import transformers

    told = hashlib.sha256(Path(__file__).read_bytes())
    for file in corpus_files(config.corpus):
        with file.open("rb") as content:
            told.update(hashlib.file_digest(content, "sha256").digest())
    backend = tokenizer.backend_tokenizer.to_str()
    about = [tokenizer.chat_template, tokenizer.eos_token_id, tokenizers.__version__, transformers.__version__]
    about += [config.learn, config.max_length, config.packing, config.validation_share]
    told.update(json.dumps([backend, *about], sort_keys=True).encode())
    return told.hexdigest()[:32]


def encoded_corpus(config: TrainConfig, tokenizer, cache: Path, report: Callable[..., None]) -> Path:
    """The directory of a corpus's encoded rows; they are encoded only where that was not done before."""
    from filelock import FileLock

    place = Path(cache) / tokens_key(config, tokenizer)
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(place.with_suffix(".lock")):  # several processes of one run begin at the same time
        if not (place / "about.json").is_file():
            unfinished = place.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            shutil.rmtree(place, ignore_errors=True)
            unfinished.mkdir()
            _encode_corpus(config, tokenizer, unfinished, report)
            unfinished.rename(place)
    os.utime(place)
    _forget_old(place.parent, place)
    return place


def _forget_old(cache: Path, kept: Path) -> None:
    """Delete the encoded corpora that were not used longest."""
    places = sorted((path for path in cache.iterdir() if path.is_dir()), key=lambda path: -path.stat().st_mtime)
    for path in places[TOKENS_KEPT:]:
        if path != kept:
            (path / "about.json").unlink(missing_ok=True)
            shutil.rmtree(path, ignore_errors=True)
            path.with_suffix(".lock").unlink(missing_ok=True)


def _encode_corpus(config: TrainConfig, tokenizer, out: Path, report: Callable[..., None]) -> None:
    """Write the files of Tokens for the training and the held-out rows, and what there is to know of the corpus."""
    clusters, chats = Counter(), 0
    for row in read_rows(config.corpus):
        clusters[row.get("cluster", row["id"])] += 1
        chats += "messages" in row
    held_out, rows, counted = held_out_clusters(clusters, config.validation_share), clusters.total(), Counter()
    about = {"rows": rows, "chats": chats}
    if rows >= FEWEST_ROWS and not (chats and not tokenizer.chat_template):  # else it is refused before long
        parts, told = (_TokenFiles(out, "train"), _TokenFiles(out, "eval")), time.monotonic()
        for done, (number, row) in enumerate(numbered_rows(config.corpus)):
            part = parts[row.get("cluster", row["id"]) in held_out]
            for piece in _pieces(row, tokenizer, config, counted):
                part.add(number, piece)
            if time.monotonic() - told > TELL_SECONDS:
                told = time.monotonic()
                report("preparing", stage="tokens", done=done, total=rows)
        for part in parts:
            part.close()
    about |= {"cut": counted.pop("cut", 0), "left_out": +counted}
    (out / "about.json").write_text(json.dumps(about), encoding="utf-8")


class _TokenFiles:
    """Writes the three files that Tokens reads."""

    def __init__(self, out: Path, part: str):
        self.out, self.part, self.ids = out, part, (out / f"{part}.ids").open("wb")
        self.starts, self.numbers = array("q", [0]), array("q")

    def add(self, number: int, piece: dict) -> None:
        pairs = zip(piece["input_ids"], piece["labels"], strict=True)
        self.ids.write(array("i", [~id if label == IGNORED else id for id, label in pairs]).tobytes())
        self.starts.append(self.starts[-1] + len(piece["input_ids"]))
        self.numbers.append(number)

    def close(self) -> None:
        self.ids.close()
        for name, values in (("starts", self.starts), ("rows", self.numbers)):
            (self.out / f"{self.part}.{name}").write_bytes(values.tobytes())


# ---------------------------------------------------------------------------------------------------------------------
# Device


def device_type() -> str:
    """What this process computes on: cuda (NVIDIA, and AMD through ROCm), xpu (Intel), mps (Apple) or cpu."""
    import torch

    backends = {"cuda": torch.cuda, "xpu": torch.xpu, "mps": torch.backends.mps}
    return next((name for name, backend in backends.items() if backend.is_available()), "cpu")


def device() -> str:
    """The device as torch names it: one card a process; under a distributed launcher each process has its own."""
    import torch

    kind = device_type()
    if kind not in ("cuda", "xpu"):
        return kind
    # Modulo as accelerate does it: a launcher may have shown each process its own card alone.
    return f"{kind}:{int(os.environ.get('LOCAL_RANK', 0)) % getattr(torch, kind).device_count()}"


def use_device() -> None:
    """Make the device of this process the one that torch asks and allocates on when nobody names one."""
    import torch

    if (kind := device_type()) in ("cuda", "xpu"):
        getattr(torch, kind).set_device(device())


def device_name() -> str:
    """The name of the card, as its driver gives it; "Apple GPU" and "cpu" where there is none to ask."""
    import torch

    kind = device_type()
    if kind in ("cuda", "xpu"):
        return getattr(torch, kind).get_device_name()
    return "Apple GPU" if kind == "mps" else kind


def has_bf16() -> bool:
    """Whether the device multiplies bf16 in hardware; emulation is slower than fp32.

    On Apple silicon emulation counts as well (Metal does it before M3): it is no slower than fp32 and takes half the
    memory.
    """
    import torch

    kind = device_type()
    if kind == "cpu":
        return processor_has_bf16()
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if kind == "xpu":
        return torch.xpu.is_bf16_supported(including_emulation=False)
    return torch.backends.mps.is_macos_or_newer(14, 0)


def processor_has_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this processor multiplies bf16 in hardware (AVX512-BF16, AMX).

    Whole steps took half of the time of fp32 where it does (3.30 and 1.56 ms a token), and were 40 times slower where not.
    """
    try:
        flags = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def synchronize() -> None:
    """Wait until the device has computed all that it was given."""
    import torch

    if (kind := device_type()) != "cpu":
        getattr(torch, kind).synchronize()


def empty_cache() -> None:
    """Give the memory that the allocator keeps for later back to the driver."""
    import torch

    if (kind := device_type()) != "cpu":
        getattr(torch, kind).empty_cache()


def free_bytes() -> int:
    """Memory that is free on the device; on a processor, of the machine."""
    import psutil
    import torch

    kind = device_type()
    if kind in ("cuda", "xpu"):
        free = getattr(torch, kind).mem_get_info()[0]
        shared = kind == "cuda" and getattr(torch.cuda.get_device_properties(), "is_integrated", False)
        # A card that shares the machine's memory counts what the system keeps of files as taken; it is given back.
        return max(free, psutil.virtual_memory().available) if shared else free
    if kind == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return psutil.virtual_memory().available


def peak_memory_gib() -> float:
    """The most memory held so far: reserved on the device; on a processor, resident in this process."""
    import torch

    kind = device_type()
    if kind in ("cuda", "xpu"):
        return round(getattr(torch, kind).max_memory_reserved() / 2**30, 3)
    if kind == "mps":  # it keeps no peak, and gives nothing back by itself
        return round(torch.mps.driver_allocated_memory() / 2**30, 3)
    if sys.platform == "win32":
        import psutil

        return round(psutil.Process().memory_info().peak_wset / 2**30, 3)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30, 3)


def grow_segments() -> None:
    """Let the memory that CUDA's allocator holds grow in place, so that batches of many lengths leave no gaps in it.

    It takes effect before torch is imported, on Linux alone, and unless somebody chose the allocator's settings.
    """
    from importlib.metadata import version

    names = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")
    if sys.platform == "linux" and not any(name in os.environ for name in names):
        release = tuple(int(part) for part in version("torch").split(".")[:2])
        os.environ[names[0] if release >= (2, 9) else names[1]] = "expandable_segments:True"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, of the device or of the machine, in whichever library's words."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    said = str(error).lower()
    return any(words in said for words in OUT_OF_MEMORY)


# ---------------------------------------------------------------------------------------------------------------------
# Model


def precision(config: TrainConfig) -> str:
    """fp32, bf16 or fp16: what this machine computes fast."""
    if config.precision != "auto":
        return config.precision
    if has_bf16():
        return "bf16"
    return "fp16" if device_type() == "cuda" else "fp32"


def check_machine(config: TrainConfig) -> None:
    """Refuse what this machine cannot compute, before anything is read."""
    from transformers.utils import is_liger_kernel_available

    kind = device_type()
    if config.precision == "fp16" and kind not in ("cuda", "xpu"):
        raise Fp16NeedsCard
    if config.precision == "bf16" and kind != "cpu" and not has_bf16():
        raise NoBf16(card=device_name())
    if config.use_liger_kernel and not (kind in ("cuda", "xpu") and is_liger_kernel_available()):
        raise LigerMissing(missing="liger-kernel" if kind in ("cuda", "xpu") else "CUDA")


def check_model(config: TrainConfig, tokenizer) -> None:
    """Refuse a model that cannot be trained as asked, before a weight is read: its skeleton has none.

    base_model may be a directory without weights: config.json and the tokenizer's files are enough.
    """
    name, shape = Path(config.base_model).name, model_config(config.base_model)
    limit = getattr(shape.get_text_config(), "max_position_embeddings", None)
    if limit and config.max_length > limit:
        raise LongerThanTheModel(value=config.max_length, model=name, limit=limit)
    base = skeleton(shape)
    quantization(config, base)
    rows = base.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise VocabularyTooLarge(model=name, tokens=len(tokenizer), rows=rows)
    if config.packing and leaks(base, attention(precision(config), base)):
        raise PackingUnsupported(model=name)
    if config.method != "full" and adapter_targets(base, config.target_modules.strip())[1]:
        check_experts(config, name)
    add_adapter(base, replace(config, init_lora_weights="default"))


def model_config(directory: str | Path):
    """The config of a model in a directory.

    Raises:
        ArchitectureUnknown: of a kind that transformers does not know, or that does not write text.
    """
    import transformers
    from transformers import AutoConfig

    unknown = {"model": Path(directory).name, "version": transformers.__version__}
    try:
        shape = AutoConfig.from_pretrained(directory)
    except ValueError as error:  # a kind that this version of transformers does not know
        kind = json.loads((Path(directory) / "config.json").read_text(encoding="utf-8")).get("model_type")
        raise ArchitectureUnknown(kind=kind, **unknown) from error
    if auto_class(shape) is None:
        raise ArchitectureUnknown(kind=shape.model_type, **unknown)
    return shape


def auto_class(shape):
    """The class of transformers' that opens a model to write text, or None where there is none.

    Multimodal models that AutoModelForCausalLM does not know (mistral3) are opened as they are published: so their
    adapters fit the published weights.
    """
    from transformers import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
        AutoModelForCausalLM,
        AutoModelForImageTextToText,
    )

    if type(shape) in MODEL_FOR_CAUSAL_LM_MAPPING:
        return AutoModelForCausalLM
    text = shape.get_text_config()
    if type(shape) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING and text is not shape and not text.is_encoder_decoder:
        return AutoModelForImageTextToText
    return None


def skeleton(shape):
    """A model without weights, as it is trained: its text part alone."""
    import torch

    with torch.device("meta"):
        return without_towers(auto_class(shape).from_config(shape))


def towers(base) -> list[str]:
    """The names of the parts of a multimodal model that text does not pass: those that see and hear."""
    if base.config.get_text_config() is base.config:
        return []
    inner, kept = base.base_model, {id(base.get_decoder()), id(base.get_input_embeddings())}
    prefix = next(name for name, module in base.named_modules() if module is inner)
    apart = [
        name
        for name, part in inner._modules.items()
        if part is None or not kept & {id(module) for module in part.modules()}
    ]
    return [f"{prefix}.{name}".lstrip(".") for name in apart]


def without_towers(base):
    """The same model without the parts that see and hear: they are not trained, and take memory."""
    for name in towers(base):
        parent, _, child = name.rpartition(".")
        setattr(base.get_submodule(parent), child, None)
    return base


def leaks(base, attention: str) -> bool:
    """Whether documents of a block would surely leak into each other; else check_packing() asks the loaded model.

    Layers do that carry something from token to token besides attention (all such families convolve over time) where
    no kernels are that can begin anew; and a model does that makes its masks without the positions (gpt-oss in 5.24).
    """
    from importlib.util import find_spec

    import torch

    if any(isinstance(module, torch.nn.Conv1d) for module in base.modules()):
        return device_type() not in ("cuda", "xpu") or find_spec("fla") is None
    if "flash" in attention or {"flat": True} in _layouts(base):  # they go by the positions, whatever the mask says
        return False
    found = re.search(
        r"(?:mask_kwargs = \{|create_causal_mask\()(.*?)[})]", inspect.getsource(type(base.get_decoder())), re.S
    )
    return found is not None and "position_ids" not in found[1] and "**" not in found[1]


def load_tokenizer(config: TrainConfig):
    """The tokenizer of a model; that of a Mistral with the splitting it was trained with."""
    from transformers import AutoTokenizer

    # Not transformers' own repair: it goes by the version in config.json and by nothing in the tokenizer.
    more = {"fix_mistral_regex": False} if is_mistral(config.base_model) else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(config.base_model, **more)
    except (OSError, ValueError) as error:
        raise ModelUnreadable(model=config.base_model, reason=str(error).strip().split("\n")[0]) from error
    for name in more:  # it would be saved along, and tell others that something is wrong
        tokenizer.init_kwargs.pop(name, None)
    repair_mistral(tokenizer.backend_tokenizer, config.base_model)
    return tokenizer


def is_mistral(directory: str | Path) -> bool:
    """Whether a model directory holds a Mistral, by its config.json."""
    try:
        kind = json.loads((Path(directory) / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError):
        return False
    return kind in MISTRALS


def repair_mistral(backend, directory: str | Path) -> None:
    """Give a Mistral's tokenizer the splitting that its vocabulary was made with, where its file has another.

    Before 4.57 transformers wrote these tokenizers with Llama 3's splitting, which takes three digits at a time and
    knows nothing of case: https://github.com/huggingface/transformers/issues/42591. `backend` is of the package
    tokenizers. A tokenizer that belongs to another family, and one that is right, stay as they are.
    """
    from tokenizers import Regex, pre_tokenizers

    steps = json.loads(backend.to_str())["pre_tokenizer"] or {}
    steps = steps.get("pretokenizers", [steps])
    split = steps[0].get("pattern", {}).get("Regex") if steps[0].get("type") == "Split" else None
    of_llama3 = backend.token_to_id("<|begin_of_text|>") is not None  # some Mistrals were given that vocabulary
    if split != LLAMA3_SPLIT or of_llama3 or not is_mistral(directory):
        return
    right = pre_tokenizers.Split(Regex(TEKKEN_SPLIT), behavior="isolated")
    if len(steps) == 1:
        backend.pre_tokenizer = right
    else:
        backend.pre_tokenizer[0] = right


def quantization(config: TrainConfig, base):
    """How the weights are quantised as they are loaded: NF4 for QLoRA; what is stored in 4 or 8 bit is made 16 bit.

    `base` is the model's skeleton.

    Raises:
        StoredQuantized: for weights that are stored in a way that the method cannot begin with.
    """
    import torch
    from transformers import BitsAndBytesConfig, FineGrainedFP8Config, Mxfp4Config

    stored = getattr(base.config, "quantization_config", None) or {}
    stored = stored if isinstance(stored, dict) else stored.to_dict()
    kind = str(getattr(stored.get("quant_method"), "value", stored.get("quant_method", "")))
    if kind == "bitsandbytes" and config.method != "full":
        return None  # as they are
    if kind in PEFT_TAKES and config.method == "lora":
        return None  # as they are too: transformers names the package that reads them
    if kind == "mxfp4":
        return Mxfp4Config(dequantize=True)  # these are experts, which QLoRA leaves in 16 bit as well
    if kind == "fp8" and config.method != "qlora":
        return FineGrainedFP8Config(dequantize=True)
    if kind:
        methods = {"fp8": "lora, full", "bitsandbytes": "lora, qlora"} | dict.fromkeys(PEFT_TAKES, "lora")
        methods = methods.get(kind, "none")
        raise StoredQuantized(model=Path(config.base_model).name, kind=kind, method=config.method, methods=methods)
    if config.method != "qlora":
        return None
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision(config)]
    head = next((name for name, module in base.named_modules() if module is base.get_output_embeddings()), "lm_head")
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        # FSDP shards what has the type of the other weights, and leaves bytes on every card.
        bnb_4bit_quant_storage=dtype if int(os.environ.get("WORLD_SIZE", 1)) > 1 else None,
        llm_int8_skip_modules=[*sorted(around), head] if (around := bypassed(base)) else None,
    )


def load_base(config: TrainConfig):
    """The base model on the fastest device of this machine: in 4-bit NF4 for QLoRA, else as it is.

    Of a multimodal model its text part; for method full the whole, since the whole is saved.
    """
    import torch

    kind, shape = precision(config), model_config(config.base_model)
    outline = skeleton(shape)
    attends = attention(kind, outline)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[kind]
    if config.method == "full":
        # fp32 weights, 16-bit arithmetic: bf16 has 8 bits for a number's digits, and a step of 2e-5 is lost in the
        # rounding of any weight above 0.008; fp16 has no gradients that could be unscaled.
        dtype = torch.float32
    try:
        base = auto_class(shape).from_pretrained(
            config.base_model,
            dtype=dtype,
            quantization_config=quantization(config, outline),
            device_map={"": device()},
            attn_implementation={"": attends, "text_config": attends} if shape.sub_configs else attends,
            use_safetensors=True,
        )
    except RecipeTrouble:
        raise
    except (ImportError, OSError, ValueError) as error:
        raise ModelUnreadable(model=config.base_model, reason=str(error).strip().split("\n")[0]) from error
    base.computes_in = kind
    for module in base.modules():
        # On CPUs with AVX512-BF16, bitsandbytes repacks a layer at its first forward pass in eval mode for a kernel
        # that has no backward: an evaluation before training would silently cut the gradients of all layers below.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return base if config.method == "full" else without_towers(base)


def open_model(directory: str | Path, **more):
    """A model in 16 bit or more on the processor, to speak or to be merged into; `more` goes to from_pretrained()."""
    shape = model_config(directory)
    stored = quantization(TrainConfig(base_model=str(directory), corpus="", method="lora"), skeleton(shape))
    more = {"quantization_config": stored, "use_safetensors": True} | more
    return auto_class(shape).from_pretrained(directory, **more)


def autocast(model):
    """The arithmetic in which a model is trained, for whatever else calls it: probes, evaluations, watchers.

    Weights in fp32 (of method full, or embeddings that are trained beside a 16-bit base) need it: kernels of attention
    take 16 bit only, and a product of two types is none.
    """
    import torch

    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(getattr(model, "computes_in", "fp32"))
    return torch.autocast(torch.device(model.device).type, dtype=dtype, enabled=dtype is not None)


def attention(kind: str, base=None) -> str:
    """flash_attention_2 where nothing stands in its way, else sdpa, which has fast kernels of its own, else eager.

    `base` is the model or its skeleton: a class of model may refuse each but the last.
    """
    if not flash_attention_lacks(kind, base):
        return "flash_attention_2"
    return "sdpa" if base is None or _all_take(base, "_supports_sdpa") else "eager"


def flash_attention_lacks(kind: str, base=None) -> str:
    """What FlashAttention 2 lacks: card, capability 8.0, class (the model's refuses it), precision, package; or nothing."""
    import torch
    from transformers.utils import is_flash_attn_2_available

    if device_type() not in ("cuda", "xpu"):
        return "card"
    if device_type() == "cuda" and torch.cuda.get_device_capability() < (8, 0):
        return "capability"
    if base is not None and not _takes_flash_attention(base):
        return "class"
    if kind == "fp32":
        return "precision"
    # Where flash-attn is not compiled, the package kernels brings it from the hub, or from the hub's cache.
    return "" if is_flash_attn_2_available() or is_flash_attn_2_available(kernels_fallback_ok=True) else "package"


def _takes_flash_attention(base) -> bool:
    """Whether a class of model takes FlashAttention 2: it says so, and its heads are not larger than the kernel's."""
    text = base.config.get_text_config()
    heads = [getattr(text, name, None) or 0 for name in ("head_dim", "global_head_dim")]
    listed = getattr(base, "_compatible_flash_implementations", None)  # gpt-oss: those that know attention sinks
    known = not listed or "flash_attention_2" in listed
    return known and max(heads) <= FLASH_HEAD and _all_take(base, "_supports_flash_attn")


def _all_take(base, support: str) -> bool:
    """Whether a class of model, and that of each model inside it, says that it takes an attention."""
    from transformers import PreTrainedModel

    return all(getattr(part, support) for part in base.modules() if isinstance(part, PreTrainedModel))


def uses_flash_attention(base) -> bool:
    """Whether a model attends with FlashAttention, from whichever package."""
    return "flash" in base.config._attn_implementation


def attend_by_document() -> Callable[[], int]:
    """Let sdpa look at the documents of packed rows by themselves, and never take a kernel that keeps all scores.

    The stock way is one call with a mask (B, 1, T, T), which computes all scores between strangers and throws them
    away: measured on a processor, 1.4 to 6.9 times as slow (tests/benchmarks.md). Rows that lie end to end come with
    the lengths of their documents (collate): they go to torch's kernel for such rows, or else one after the other.
    Blocks come with a mask. It still says what a document's tokens may see of it: where that is not simply all that
    came before (a sliding window), the document's part of it goes along.
    It takes the place of "sdpa" in this process, for some models ask for that very name; all else goes the stock way,
    as do models that do not tell their attention the positions. The function that is returned tells how many calls took
    the short way.
    """
    from transformers import AttentionInterface

    calls, documents = [0], _Documents()

    def attend(module, query, key, value, attention_mask, position_ids=None, **more):
        ends, longest = (more.pop(name, None) for name in ("cu_seq_lens_q", "max_length_q"))
        for name in ("cu_seq_lens_k", "max_length_k"):
            more.pop(name, None)
        if ends is not None and "position_bias" not in more:
            calls[0] += 1
            return documents.attend(module, query, key, value, ends, longest, **more), None
        batch, _, length, _ = query.shape
        packed = position_ids is not None and position_ids.shape == (batch, length) and "position_bias" not in more
        masked = attention_mask is not None and attention_mask.shape == (batch, 1, length, length)
        if packed and masked and query.device.type == "cpu":
            calls[0] += 1
            return _attend_masked(module, query, key, value, attention_mask, position_ids, **more), None
        return _sdpa(module, query, key, value, attention_mask, **more)

    AttentionInterface.register("sdpa", attend)
    return lambda: calls[0]


def _sdpa(module, query, key, value, mask, **more):
    """The stock call; with grouped heads, keys and values are repeated for kernels that know only as many as queries.

    On a card without a mask transformers leaves the groups to torch, whose only kernel for groups is FlashAttention:
    where that cannot be taken (a card before 8.0, fp32), another one keeps all scores, the square of the length.
    """
    from types import SimpleNamespace

    from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

    groups = getattr(module, "num_key_value_groups", 1)
    if groups > 1 and query.device.type == "cuda" and mask is None and _kernel_lacks(query, value):
        causal = getattr(module, "is_causal", True)
        module, key, value = SimpleNamespace(is_causal=causal), repeat_kv(key, groups), repeat_kv(value, groups)
    return sdpa_attention_forward(module, query, key, value, mask, **more)


def _kernel_lacks(query, value) -> str:
    """What FlashAttention inside torch lacks for these heads (B, H, T, D): capability 8.0, 16 bit, width; or nothing."""
    import torch

    if torch.cuda.get_device_capability() < (8, 0):
        return "capability"
    if _computed_in(query) not in (torch.float16, torch.bfloat16):
        return "precision"
    widest = max(query.shape[-1], value.shape[-1])
    return "width" if widest > 256 or widest % 8 else ""


def _computed_in(query):
    """The dtype that attention is computed in: under autocast its own."""
    import torch

    kind = query.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else query.dtype


class _Documents:
    """Attention over rows that lie end to end, (1, H, T, D) to (1, T, H, D)."""

    def __init__(self):
        self.kernel, self.tried, self.ends, self.lengths = varlen_attention(), set(), None, []

    def attend(self, module, query, key, value, ends, longest, *, dropout=0.0, sliding_window=None, **more):
        about = sliding_window, more.get("scaling")
        if self.kernel and not dropout and not _kernel_lacks(query, value) and self._works(query, key, value, *about):
            return self._at_once(query, key, value, ends, longest, *about)
        return self._one_by_one(module, query, key, value, ends, sliding_window, dropout=dropout, **more)

    def _works(self, query, key, value, *about) -> bool:
        """Whether this build's kernel has both passes for heads of this width: it is tried once, on two tokens."""
        import torch

        kind = (query.shape[-1], value.shape[-1], query.shape[1], key.shape[1], _computed_in(query), *about)
        if kind not in self.tried:
            ends = torch.tensor([0, 2], dtype=torch.int32, device=query.device)
            with torch.enable_grad():
                tokens = [x[:1, :, :2].detach().clone().requires_grad_() for x in (query, key, value)]
                try:
                    self._at_once(*tokens, ends, 2, *about).sum().backward()
                except RuntimeError as error:
                    if is_out_of_memory(error):
                        raise
                    self.kernel = None  # it is there in name only
            self.tried.add(kind)
        return self.kernel is not None

    def _at_once(self, query, key, value, ends, longest, window, scaling):
        import torch

        width, kind = value.shape[-1], _computed_in(query)
        if width < query.shape[-1]:  # as DeepSeek's: the kernel takes one width, and what is added is cut off again
            value = torch.nn.functional.pad(value, (0, query.shape[-1] - width))
        flat = (x.transpose(1, 2).flatten(0, 1).to(kind) for x in (query, key, value))  # (T, H, D)
        window = (window - 1, 0) if window else (-1, 0)
        more = {"scale": scaling, "window_size": window, "enable_gqa": query.shape[1] != key.shape[1]}
        return self.kernel(*flat, ends, ends, longest, longest, **more)[None, ..., :width]

    def _one_by_one(self, module, query, key, value, ends, window, **more):
        import torch

        if self.ends is not ends:  # once a batch, not once a layer: on a card it is waited for
            self.ends, self.lengths = ends, ends.diff().tolist()
        documents = zip(*(x.split(self.lengths, dim=2) for x in (query, key, value)), strict=True)
        seen = [_sdpa(module, *document, _window(document[0], window), **more)[0] for document in documents]
        return torch.cat(seen, dim=1)


def _window(query, window: int | None):
    """The mask (1, 1, T, T) of a document that is longer than the window its tokens see, else none."""
    import torch

    if not window or query.shape[2] <= window:
        return None
    at = torch.arange(query.shape[2], device=query.device)
    back = at[:, None] - at
    return ((back >= 0) & (back < window))[None, None]


def varlen_attention() -> Callable | None:
    """torch's attention for rows that lie end to end, where there is one: a card, and torch 2.12 for grouped heads."""
    if device_type() != "cuda":
        return None
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn if "enable_gqa" in inspect.signature(varlen_attn).parameters else None


def _attend_masked(module, query, key, value, mask, position_ids, **more):
    """Attention over blocks (B, H, T, D), a document after the other, each with its part of the mask (B, 1, T, T)."""
    import torch

    blocks = []
    for at, positions in enumerate(position_ids):
        lengths = document_lengths(positions)
        documents = zip(*(x[at : at + 1].split(lengths, dim=2) for x in (query, key, value)), strict=True)
        ends = list(itertools.accumulate(lengths))
        parts = (slice(end - length, end) for end, length in zip(ends, lengths, strict=True))
        masks = (mask[at : at + 1, :, part, part] for part in parts)
        masks = (None if part.equal(torch.ones_like(part).tril()) else part for part in masks)
        pairs = zip(documents, masks, strict=True)
        seen = [_sdpa(module, *document, part, is_causal=part is None, **more)[0] for document, part in pairs]
        blocks.append(torch.cat(seen, dim=1))
    return torch.cat(blocks)


@contextmanager
def documents_known(inputs: dict):
    """Spare the device a question: transformers asks in each forward pass whether position_ids hold several documents,
    waits for the answer and makes a mask of them (5.24). Rows without positions of their own hold one document each,
    and where the lengths of documents come along, attention needs neither the answer nor a mask, which would be the
    square of all rows together."""
    from transformers import masking_utils

    find, masks = masking_utils.find_packed_sequence_indices, masking_utils.AttentionMaskInterface._global_mapping
    make = masks["sdpa"]
    if "cu_seq_lens_q" in inputs or "position_ids" not in inputs:
        masking_utils.find_packed_sequence_indices = lambda position_ids: None
    if "cu_seq_lens_q" in inputs:
        masks["sdpa"] = lambda *_, **__: None
    try:
        yield
    finally:
        masking_utils.find_packed_sequence_indices, masks["sdpa"] = find, make


def document_lengths(positions) -> list[int]:
    """Lengths of the documents of a block, from its position_ids (T,): where they do not go on by 1, one begins."""
    import torch

    breaks = (positions.diff() != 1).nonzero()[:, 0] + 1
    return torch.cat([breaks.new_zeros(1), breaks, breaks.new_tensor([len(positions)])]).diff().tolist()


def add_adapter(base, config: TrainConfig):
    """The base with a fresh LoRA adapter around it, in fp32 whatever the base is in; for method full, the base itself.

    Raises:
        LayersUnknown, ExpertsTakePlainLora, AdapterRefused.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    if config.method == "full":
        return freeze_towers(base)

    name, names = Path(config.base_model).name, config.target_modules.strip()
    whole = vocabulary_layers(base) if config.train_embeddings else []
    experts, apart = expert_parameters(base), towers(base)
    modules, parameters = adapter_targets(base, names)
    if parameters:
        check_experts(config, name)
    lora = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=0.0 if experts else config.lora_dropout,
        target_modules=modules,
        target_parameters=parameters or None,
        exclude_modules=rf"({'|'.join(map(re.escape, apart))})(\..*)?" if apart else None,
        use_rslora=config.use_rslora,
        use_dora=config.use_dora,
        init_lora_weights=config.init_lora_weights if config.init_lora_weights != "default" else True,
        modules_to_save=whole or None,
        ensure_weight_tying=len(whole) == 1,  # one matrix in two places stays one
        task_type="CAUSAL_LM",
    )
    try:
        with warnings.catch_warnings():  # towers that are excluded may have been left out already
            warnings.filterwarnings("ignore", message="You have passed exclude_modules")
            model = get_peft_model(base, lora)
    except ValueError as error:
        if "not found in the base model" in str(error) or "No modules were targeted" in str(error):
            raise LayersUnknown(names=names or '""', model=name) from error
        raise AdapterRefused(model=name, reason=str(error).strip().split("\n")[0].rstrip(".") + ".") from error
    if experts:
        add_dropout(model, config.lora_dropout)
    for weight_name, weight in model.named_parameters():  # its steps would be lost in the rounding of bf16
        if weight.requires_grad and ".modules_to_save." in weight_name:
            weight.data = weight.data.to(torch.float32)
    return model


def adapter_targets(base, names: str) -> tuple[str | list[str], list[str]]:
    """The modules and the bare parameters that adapters go around; all-linear means all of the text model but its head.

    Besides the linear layers, mixtures of experts keep theirs in one tensor a layer. A router is left as it is: moved
    a little, it sends a token to other experts than those that learned from it. Left out as well are layers that their
    model goes around (in Mamba), and those that PEFT takes for experts by their name (shared experts).
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    if names != "all-linear":
        return [name.strip() for name in names.split(",")], []
    parameters, kind = expert_parameters(base), base.config.model_type
    left_out = bypassed(base) | ({"out_proj"} if kind in MAMBAS else set())
    if parameters:
        left_out |= {*ROUTERS, *_experts_of_peft(kind)}
    if not left_out:
        return names, []
    head = base.get_output_embeddings()
    modules = [
        name
        for name, module in base.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and module is not head
        if name.rsplit(".", 1)[-1] not in left_out and not (parameters and "router" in name.split("."))
    ]
    return modules, parameters


def bypassed(base) -> set[str]:
    """The names of layers whose weights a recurrent block hands to its kernel: neither 4 bits nor an adapter reach that."""

    blocks = {type(module) for module in base.modules() if hasattr(module, "conv1d")}
    return {name for block in blocks for name in re.findall(r"self\.(\w+_proj)\.weight\b", inspect.getsource(block))}


def expert_parameters(base) -> list[str]:
    """The ends of the names of tensors that hold a matrix an expert (E, X, Y); none in a model without such."""
    import torch

    text, found = base.config.get_text_config(), []
    counts = {getattr(text, name, None) for name in ("num_experts", "num_local_experts", "n_routed_experts")} - {None}
    for name, module in base.named_modules():
        for leaf, weight in module.named_parameters(recurse=False):
            if weight.ndim != 3 or isinstance(module, torch.nn.modules.conv._ConvNd):
                continue
            if "experts" in name.split(".") or weight.shape[0] in counts:
                found.append(f"{name.rsplit('.', 1)[-1]}.{leaf}")
    return list(dict.fromkeys(found))


def _experts_of_peft(kind: str) -> set[str]:
    """The names of layers that PEFT, converting adapters made with transformers 4, takes for experts."""
    try:
        from peft.utils import transformers_weight_conversion as conversion

        pattern = conversion._MODEL_TO_CONVERSION_PATTERN.get(kind)
        return set(conversion._MOE_TARGET_MODULE_MAPPING.get(pattern, {}))
    except (ImportError, AttributeError):  # they are PEFT's own affair
        return set()


def check_experts(config: TrainConfig, model: str) -> None:
    """Refuse what adapters around experts cannot do."""
    names = "q_proj,k_proj,v_proj,o_proj"
    if config.use_dora:
        raise ExpertsTakePlainLora(model=model, field="use_dora", value="on", suggestion="off", names=names)
    if config.init_lora_weights.startswith("pissa"):
        value = config.init_lora_weights
        raise ExpertsTakePlainLora(
            model=model, field="init_lora_weights", value=value, suggestion="default", names=names
        )


def add_dropout(model, share: float) -> None:
    """Dropout in front of the adapters that take it: around experts there is none, and PEFT refuses a config with both.

    An adapter is saved with lora_dropout 0 where it is around experts, or it would not open again.
    """
    import torch
    from peft.tuners.lora import LoraLayer

    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    takes = [layer for layer in layers if not hasattr(layer, "parameter_name")]
    for layer in takes if share else ():
        layer.lora_dropout["default"] = torch.nn.Dropout(share)
    if len(takes) == len(layers):
        model.peft_config["default"].lora_dropout = share


def freeze_towers(base):
    """The same model, whose parts that see and hear are not trained."""
    for name in towers(base):
        parent, _, child = name.rpartition(".")
        if part := getattr(base.get_submodule(parent), child):
            part.requires_grad_(False)
    return base


def vocabulary_layers(base) -> list[str]:
    """The names of a model's embeddings and head; of one that ties them, of the embeddings alone."""
    names = {id(module): name.rsplit(".", 1)[-1] for name, module in base.named_modules()}
    embeddings, head = base.get_input_embeddings(), base.get_output_embeddings()
    tied = head.weight is embeddings.weight
    return [names[id(embeddings)]] if tied else [names[id(embeddings)], names[id(head)]]


def without_logits(base) -> None:
    """Let a causal language model compute its loss on the labelled positions only, a tile at a time.

    The stock loss holds 12 bytes x vocabulary x tokens at its peak; here the full matrix of logits never exists, and
    the head is not computed for tokens that are not learned. The value is the same: the sum of the cross-entropies
    over `num_items_in_batch` (their count here, when not given). A model that does something else between its hidden
    states and its logits (caps them, scales them) keeps its own loss: it is asked, on a few tokens, not looked up.
    """
    from transformers.modeling_outputs import CausalLMOutput

    stock = base.forward
    base.loss_is_tiled = _head_is_plain(base)
    if not base.loss_is_tiled:

        @wraps(stock)  # the Trainer reads from its signature what it takes
        def whole(*args, **inputs):
            with documents_known(inputs):
                return stock(*args, **inputs)

        base.forward = whole
        return

    def forward(labels=None, num_items_in_batch=None, learned=None, **inputs):
        if labels is None:
            return stock(**inputs)
        with documents_known(inputs):
            hidden = base.get_decoder()(**{**inputs, "use_cache": False}).last_hidden_state  # (B, T, H)
        learned = learned_positions(labels) if learned is None else learned
        hidden = hidden.flatten(0, 1).index_select(0, learned)  # (N, H)
        target = labels.flatten().index_select(0, learned + 1)  # (N,)
        total = summed_loss(base.get_output_embeddings(), hidden, target)  # looked up: an adapter may have wrapped it
        return CausalLMOutput(loss=total / (len(target) if num_items_in_batch is None else num_items_in_batch))

    base.forward = forward


def learned_positions(labels):
    """Where, in a batch of labels (B, T) laid end to end, the next token is learned: (N,), int64.

    The collator asks on the processor: asked of a card, the number of them would have to be waited for.
    """
    import torch

    return torch.nn.functional.pad(labels[:, 1:] != IGNORED, (0, 1)).flatten().nonzero()[:, 0]


def summed_loss(head, hidden, target):
    """The sum of the cross-entropies of hidden states (N, H) with their targets (N,); logits exist for a tile at a time."""
    import torch
    from torch.utils.checkpoint import checkpoint

    trained = torch.is_grad_enabled() and any(weight.requires_grad for weight in head.parameters())
    # FSDP's hooks bear no backward pass inside a forward pass: torch 2.13 crashed where norm and head were one group.
    if not trained and os.environ.get("ACCELERATE_USE_FSDP") != "true":
        return _with_gradient(head)(hidden, target)

    class InPlace(torch.autograd.Function):
        @staticmethod
        def forward(context, logits, target):
            gradient = logits.detach()
            total = cross_entropy_(gradient, target)
            context.save_for_backward(gradient)
            return total

        @staticmethod
        def backward(context, slope):
            return context.saved_tensors[0] * slope, None

    def tile(hidden, target):
        return InPlace.apply(head(hidden), target)

    tiles = zip(hidden.split(LOSS_TILE), target.split(LOSS_TILE), strict=True)
    return sum(checkpoint(tile, *pair, use_reentrant=False) for pair in tiles)


def _with_gradient(head):
    """A function of hidden states and targets: the summed loss of a head that is not trained.

    The gradient of the hidden states is worked out along with the loss, while a tile's logits are there: the head is
    computed once instead of once more for the backward pass.
    """
    import torch

    rows = tile_rows(getattr(head, "out_features", 0))

    class AtOnce(torch.autograd.Function):
        @staticmethod
        def forward(context, hidden, target):
            wanted = context.needs_input_grad[0]
            total = torch.zeros((), device=hidden.device)
            gradient = torch.empty_like(hidden) if wanted else None
            for start in range(0, len(target), rows):
                part = slice(start, start + rows)
                with torch.set_grad_enabled(wanted):
                    piece = hidden[part].detach().requires_grad_(wanted)
                    logits = head(piece)
                total += cross_entropy_(logits.detach(), target[part])
                if wanted:
                    gradient[part] = torch.autograd.grad(logits, piece, logits.detach())[0]
                del logits
            context.save_for_backward(gradient)
            return total

        @staticmethod
        def backward(context, slope):
            return context.saved_tensors[0] * slope, None

    return AtOnce.apply


def tile_rows(vocabulary: int) -> int:
    """How many positions have logits at one time."""
    return min(LOSS_TILE, max(LEAST_TILE, TILE_BYTES // (6 * max(1, vocabulary))))


def cross_entropy_(logits, target):
    """The sum of the cross-entropies of logits (n, V), which become its gradient: in place, so that memory holds no
    more than they and one copy in fp32, of logits in fp32 not even that."""
    wide, target = logits.float(), target[:, None]
    best, said = wide.max(-1, keepdim=True).values, wide.gather(-1, target)
    mass = wide.sub_(best).exp_().sum(-1, keepdim=True)
    wide.div_(mass).scatter_add_(-1, target, -said.new_ones(said.shape))
    if wide is not logits:
        logits.copy_(wide)
    return (best + mass.log() - said).sum()


def _head_is_plain(base) -> bool:
    """Whether the logits of a model are its output embeddings applied to its last hidden states, and nothing more."""
    import torch

    ids = torch.arange(8, device=base.device)[None] % base.get_input_embeddings().num_embeddings
    with torch.no_grad(), autocast(base):
        hidden = base.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
        plain, real = base.get_output_embeddings()(hidden).float(), base(input_ids=ids, use_cache=False).logits.float()
    return plain.shape == real.shape and _distance(plain, real) < 0.01


def _distance(one, other) -> float:
    """The length of the difference of two tensors as a share of the second one's length."""
    return float((one - other).norm() / other.norm().clamp_min(1e-12))


# ---------------------------------------------------------------------------------------------------------------------
# Training


class Watcher:
    """What somebody outside may do on the way; this one does nothing."""

    def wishes(self, step: int) -> Collection[str]:
        """What was asked of the running training after a step: "save", "sample"."""
        return ()

    def before_save(self, step: int) -> None:
        """Called before a checkpoint is written: it may wait until there is room."""

    def on_evaluation(self, model, tokenizer, step: int) -> None:
        """Called after each evaluation."""

    def on_sample(self, model, tokenizer, step: int) -> None:
        """Called when a sample was wished for."""


def train(
    config: TrainConfig,
    out: str | Path,
    *,
    report: Callable[..., None],
    should_stop: Callable[[], bool | str] = lambda: False,
    watcher: Watcher | None = None,
    resume_from: str | None = None,
    cache: Path | None = None,
) -> dict:
    """Train an adapter into out/adapter, or all weights into out/model, and return how it ended: steps, stopped, losses, seconds, peak memory.

    Encoded corpora are kept in `cache`, or else in out/tokens.

    `report(event, **values)` is called for everything worth knowing on the way; `should_stop()` is asked at each step:
    "pause" ends the run with a checkpoint alone, anything else that is true ends it with what was trained.
    """
    if "LOCAL_RANK" not in os.environ:  # else the Trainer would spread the batch over every card of the machine
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    import transformers
    from transformers.trainer_callback import PrinterCallback

    out, began = Path(out), time.monotonic()
    if _is_first():
        _sweep(out, report)
    else:  # under a launcher with several processes one of them speaks and writes
        report = lambda event, **values: None  # noqa: E731
    use_device()
    transformers.set_seed(config.seed)
    check_machine(config)
    tokenizer = load_tokenizer(config)
    check_model(config, tokenizer)
    training, held_out = prepare_rows(config, tokenizer, report, cache or out / "tokens")
    model, layout = _ready_model(config, tokenizer, report)
    trainer = _trainer(config, out, model, tokenizer, training, held_out, layout)
    progress = trainer.soulsmith = Progress(config, report, should_stop, watcher or Watcher())
    progress.tokenizer, progress.evals = tokenizer, evals_of(resume_from)
    trainer.add_callback(_callback(progress))
    trainer.remove_callback(PrinterCallback)  # the events say it all
    if held_out and not resume_from:
        trainer.evaluate()
    if not progress.stopped:
        with progress.naming_batch():
            trainer.train(resume_from_checkpoint=resume_from)
    if progress.stopped != "pause" and trainer.state.global_step:
        _conclude(trainer, out / ("model" if config.method == "full" else "adapter"), evaluates=bool(held_out))
    return {
        "steps": trainer.state.global_step,
        "max_steps": trainer.state.max_steps,
        **progress.ending(),
        "seconds": round(time.monotonic() - began, 1),
        "peak_memory_gib": peak_memory_gib(),
    }


def _ready_model(config: TrainConfig, tokenizer, report: Callable[..., None]) -> tuple[Any, dict]:
    """The model as it is trained, with the base's own loss and stop tokens set to rights, and how collate() lays its rows."""

    base = load_base(config)
    parameters = base.num_parameters()
    check_causal(config, base)
    by_document = attend_by_document()
    layout = check_packing(config, base)
    base.config.use_cache = False
    base.generation_config.eos_token_id = stop_ids(base, tokenizer) or None
    without_logits(base)
    model = add_adapter(base, config)
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    report(
        "model",
        parameters=parameters,
        trainable_parameters=trained,
        device=device_name(),
        precision=precision(config),
        attention=base.config._attn_implementation,
        flash_attention_lacks=flash_attention_lacks(precision(config), base),
        by_document=by_document() > 0,  # check_packing() has let it look at a block
        experts=sum(hasattr(module, "parameter_name") for module in model.modules()),  # tensors with adapters around
    )
    return model, layout


def _is_first() -> bool:
    return int(os.environ.get("RANK", 0)) == 0


def _processes() -> int:
    """How many processes train together, each with rows of its own."""
    return int(os.environ.get("WORLD_SIZE", 1))


def _wait_for_all_processes() -> None:
    if _processes() > 1:
        import torch

        torch.distributed.barrier()


def _all_finite(tensors) -> bool:
    """Whether all of some losses or weights are numbers, with one question to the device."""
    import torch

    found = [tensor.isfinite().all() for tensor in tensors]
    return all(found) if _processes() > 1 else bool(torch.stack(found).all())  # shared out ones cannot be stacked


def _conclude(trainer, target: Path, *, evaluates: bool) -> None:
    """Save what was trained, and evaluate it if that was not done at this step."""
    progress, step = trainer.soulsmith, trainer.state.global_step
    progress.watcher.before_save(step)
    # Saved before the evaluation: nobody should lose it while that goes on.
    state = trainer.gathered_weights()  # all processes have a part in it
    if _is_first():
        _save_whole(target, partial(trainer.save_weights, state=state), progress.tokenizer)
    if evaluates and step and progress.evaluated_at != step:
        trainer.evaluate()
    if progress.config.keep_best and _is_first():
        progress.keep_best(target)


def _sweep(out: Path, report: Callable[..., None]) -> None:
    """Remove checkpoints that were cut short or damaged, and say so: rotation would count them among those to keep."""
    for path in sorted(out.glob("checkpoint-*")):
        if not is_whole(path):
            shutil.rmtree(path)
            report("damaged", checkpoint=path.name)


def prepare_rows(config: TrainConfig, tokenizer, report: Callable[..., None], cache: Path) -> tuple:
    """The encoded training and held-out rows, mapped into memory; raises when there is nothing that could be learned."""
    name = Path(config.corpus).name
    place = encoded_corpus(config, tokenizer, cache, report)
    about = json.loads((place / "about.json").read_text(encoding="utf-8"))
    if about["rows"] < FEWEST_ROWS:
        raise CorpusTooSmall(name=name, rows=about["rows"], needed=FEWEST_ROWS)
    check_task(config, name, about["rows"], about["chats"])
    if about["chats"] and not tokenizer.chat_template:
        raise NoChatTemplate(model=Path(config.base_model).name, name=name)
    training, held_out = Tokens(place, "train"), Tokens(place, "eval")
    if not training:
        raise NothingToLearn(name=name, max_length=config.max_length)
    blocks = Blocks(training, config.max_length) if config.packing else None
    shown = blocks or training
    report(
        "data",
        rows_train=len(set(training.numbers.tolist())),
        rows_eval=len(set(held_out.numbers.tolist())),
        rows_left_out=about["left_out"],
        rows_cut=about["cut"],
        rows_text=about["rows"] - about["chats"] if config.task == "chat" else 0,
        tokens_train=sum(training.lengths),
        tokens_learned=training.learned(packed=config.packing),
        longest=max(training.lengths),
        blocks=blocks and len(blocks),
        fill=sum(training.lengths) / (len(shown) * config.max_length),
    )
    return shown, held_out


def check_task(config: TrainConfig, name: str, rows: int, chats: int) -> None:
    """Refuse a corpus of chats for continued pretraining, and one of texts only for chat tuning."""
    if config.task == "text" and chats:
        raise ChatsForPretraining(name=name, chats=chats)
    if config.task == "chat" and rows and not chats:
        raise TextsForChat(name=name)


def check_causal(config: TrainConfig, base) -> None:
    """Refuse a model whose tokens see what comes after them; it is asked: a token's logits must not depend on that."""
    import torch

    ids = torch.tensor([[2, 7, 1, 8], [2, 7, 5, 3]], device=base.device)
    with torch.no_grad(), autocast(base):
        one, other = base(input_ids=ids, use_cache=False).logits[:, :2].float()
    if not (one.isfinite().all() and other.isfinite().all()):
        raise NotFinite(model=Path(config.base_model).name, precision=getattr(base, "computes_in", "fp32"))
    if _distance(one, other) > _rounding(base):
        raise SeesAhead(model=Path(config.base_model).name)


def check_packing(config: TrainConfig, base) -> dict:
    """How collate() lays packed rows so that this model keeps their documents apart: its arguments besides the rows.

    Refuses a model whose layers carry something from one document of a block into the next, whichever way it is.
    Recurrent layers do, whatever the positions say. The model is asked, not looked up: a document must have the same
    logits whichever one stands before it. Both blocks are of one shape, so rounding is the same in both.
    """
    if not config.packing:
        return {"alone": uses_flash_attention(base) and _passes_on(base)}
    for layout in _layouts(base):
        if _distance(*(_after(base, before, layout) for before in BEFORE)) <= _rounding(base):
            return layout
    raise PackingUnsupported(model=Path(config.base_model).name)


def _layouts(base) -> list[dict]:
    """The ways of laying packed rows that a model might take, the fastest first."""
    passes_on, kind = _passes_on(base), base.config.get_text_config()._attn_implementation
    if uses_flash_attention(base):
        return [{"flat": True}, {"flat": True, "lengths": False}] if passes_on else [{"flat": True, "lengths": False}]
    # What a model tells FlashAttention (a window) it tells _Documents as well; of others only the mask knows it all.
    flat = kind == "sdpa" and passes_on and base._supports_flash_attn
    return [{"flat": True}, {}] if flat else [{}]


def _passes_on(base) -> bool:
    """Whether a model hands its attention what it does not know itself, such as the lengths of documents."""
    kinds = {parameter.kind for parameter in inspect.signature(base.get_decoder().forward).parameters.values()}
    return inspect.Parameter.VAR_KEYWORD in kinds


def _after(base, before: list[int], layout: dict):
    """The logits of a document that stands behind another one in a block."""
    import torch

    rows = [{"input_ids": ids, "labels": ids, "id": str(ids)} for ids in (before, [2, 7, 1, 8, 2, 8])]
    block = collate(pack(rows, 16), **layout)
    block = {name: value.to(base.device) if hasattr(value, "to") else value for name, value in block.items()}
    block.pop("labels")
    with torch.no_grad(), autocast(base), documents_known(block):
        return base(**block, use_cache=False).logits[0, 8:14].float()


def _rounding(base) -> float:
    """How far logits may differ that are equal but for rounding: experts compute in groups of other sizes each time."""
    return 0.001 if getattr(base, "computes_in", "fp32") == "fp32" else 0.02


class Progress:
    """What a run tells while it goes on: turns the Trainer's logs into events."""

    def __init__(self, config: TrainConfig, report: Callable[..., None], should_stop, watcher: Watcher):
        self.config, self.report, self.should_stop, self.watcher = config, report, should_stop, watcher
        self.stopped, self.eval_loss, self.evaluated_at = "", None, None
        self.stopped_early, self.kept_step, self.listened = False, None, time.monotonic()
        self.tokenizer, self.evals = None, []  # evals: [step, loss] of every evaluation after training began
        self.step_began, self.tokens, self.seconds = 0.0, 0, 0.0
        self.all_seconds, self.all_tokens, self.all_steps = 0.0, 0, 0  # of this process: a resumed run counts anew
        self.warm = False
        self.batches = []  # of the step that goes on: [numbers of rows, loss]
        self.latest = None  # shape and rows of the batch that was computed last
        self.recent = deque(maxlen=50)  # seconds of the latest steps, for the time that is left
        self.eval_seconds = 0.0  # of the latest evaluation

    def ending(self) -> dict:
        """How it ended, in figures; the seconds of a step do not count the first one."""
        return {
            "stopped": bool(self.stopped),
            "paused": self.stopped == "pause",
            "stopped_early": self.stopped_early,
            "kept_step": self.kept_step,
            "eval_loss": self.eval_loss,
            "step_seconds": round(self.all_seconds / max(1, self.all_steps), 4),
            "step_tokens": round(self.all_tokens / max(1, self.all_steps), 1),
        }

    def hears_stop(self) -> bool:
        """Whether an evaluation should end where it is; asked between its batches, answered once a second."""
        if time.monotonic() - self.listened < LISTEN_SECONDS:
            return False
        self.listened = time.monotonic()
        if wanted := self.should_stop():
            self.stopped = "pause" if wanted == "pause" else "stop"
        return bool(wanted)

    @contextmanager
    def naming_batch(self):
        """Give errors from between two batches, as those of an optimizer's step, the batch that was computed last."""
        try:
            yield
        except Exception as error:
            if self.latest and not hasattr(error, "batch_shape"):
                error.batch_shape, error.batch_rows = self.latest
            raise

    def on_step_begin(self, args, state, control, **_):
        self.step_began, self.batches = time.monotonic(), []

    def on_step_end(self, args, state, control, model=None, **_):
        # What is logged is looked at then: asking here as well would wait for the device a second time.
        if not control.should_log and _processes() == 1 and not _all_finite(loss for _, loss in self.batches):
            control.should_log = True  # whatever logging_steps says: the curve shows it, and the run ends
        if wanted := self.should_stop():
            self.stopped = "pause" if wanted == "pause" else "stop"
            control.should_training_stop = control.should_save = control.should_log = True
        wishes = self.watcher.wishes(state.global_step)
        if "save" in wishes:
            control.should_save = True
        if "sample" in wishes:
            synchronize()
            began = time.monotonic()
            self.watcher.on_sample(model, self.tokenizer, state.global_step)
            self.step_began += time.monotonic() - began  # the time of the sample is not the step's
        if control.should_save:
            began = time.monotonic()
            self.watcher.before_save(state.global_step)
            self.step_began += time.monotonic() - began

    def on_step_computed(self):
        """Called once a step when the device is known to be done with it, before the step is logged."""
        if not self.step_began:
            return
        took, self.step_began = time.monotonic() - self.step_began, 0.0
        self.seconds += took
        # The first step of a process compiles, allocates and reads from disk: it says nothing of the pace.
        if self.warm:
            self.all_seconds, self.all_steps = self.all_seconds + took, self.all_steps + 1
        self.recent.append(took)

    def on_log(self, args, state, control, logs, **_):
        if "loss" not in logs:
            return
        loss, tokens = logs["loss"], state.num_input_tokens_seen
        self.all_tokens += (tokens - self.tokens) * self.warm
        self.warm = True
        seconds_a_step = sum(self.recent) / max(1, len(self.recent))
        left = seconds_a_step * (state.max_steps - state.global_step)
        if args.eval_strategy != "no":  # that of this step comes after its log, and one comes at the end
            done, every = state.global_step - 1, args.eval_steps
            left += self.eval_seconds * (math.ceil(state.max_steps / every) - done // every)
        self.report(
            "step",
            step=state.global_step,
            max_steps=state.max_steps,
            epoch=round(state.epoch, 4),
            loss=loss,
            grad_norm=logs.get("grad_norm"),
            learning_rate=logs.get("learning_rate"),
            tokens=tokens,
            tokens_per_second=round((tokens - self.tokens) / max(1e-9, self.seconds), 1),
            seconds_left=round(left, 1),
            memory_gib=peak_memory_gib(),
        )
        self.tokens, self.seconds = tokens, 0.0
        if not math.isfinite(loss):
            self.not_finite(loss, state.global_step, args.output_dir)
        if loss == 0 and not logs.get("grad_norm"):
            raise LossIsZero(step=state.global_step)

    def not_finite(self, loss: float, step: int, out: str):
        """Raise LossNotFinite with the rows whose loss it is; those of the whole step, where the gradient broke it."""
        guilty = [rows for rows, loss in self.batches if not loss.isfinite()] or [rows for rows, _ in self.batches]
        good = Path(whole_checkpoint(out) or "checkpoint-0").name.split("-")[1]
        suggestion = f"{self.config.learning_rate / 10:g}"
        raise LossNotFinite(value=loss, step=step, rows=named_rows(guilty), good=good, suggestion=suggestion)

    def on_train_begin(self, args, state, control, optimizer=None, lr_scheduler=None, **_):
        self.tokens = state.num_input_tokens_seen
        if state.global_step and hasattr(lr_scheduler, "base_lrs"):
            change_learning_rate(optimizer, lr_scheduler, self.config.learning_rate)

    def on_save(self, args, state, control, model=None, **_):
        if not _all_finite(weight.detach() for weight in model.parameters() if weight.requires_grad):
            self.not_finite(math.nan, state.global_step, args.output_dir)
        checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        _wait_for_all_processes()  # each writes its part
        if not _is_first():
            return
        size = seal(checkpoint, state.global_step, self.evals)
        self.report("checkpoint", step=state.global_step, path=checkpoint.name, bytes=size)
        rotate(Path(args.output_dir), self.config.save_total_limit)

    def misses_evaluation(self, args, state) -> bool:
        """Whether training goes on from a checkpoint whose evaluation was due and did not come about."""
        due = args.eval_strategy != "no" and state.global_step and state.global_step % args.eval_steps == 0
        return bool(due) and state.global_step not in dict(self.evals)

    def on_evaluation(self, step: int, loss: float, model, control, out: Path):
        self.eval_loss, self.evaluated_at = loss, step
        if step:
            self.evals = [known for known in self.evals if known[0] != step] + [[step, loss]]
        self.report("eval", step=step, eval_loss=loss)
        if _is_first() and (out / f"checkpoint-{step}" / "whole.json").is_file():
            note_evals(out / f"checkpoint-{step}", self.evals)
            rotate(out, self.config.save_total_limit)
        self.watcher.on_evaluation(model, self.tokenizer, step)
        best = best_of(self.evals)
        since = [known for known, _ in self.evals if best is not None and known > best]
        if self.config.early_stopping and len(since) >= self.config.early_stopping:
            self.stopped_early = control.should_training_stop = True

    def keep_best(self, target: Path):
        """Put the weights of the best checkpoint that is there into the place of the last ones."""
        best = best_of(self.evals)
        checkpoint = target.parent / f"checkpoint-{best}"
        if best is None or best == self.evals[-1][0] or not (checkpoint / "whole.json").is_file():
            return
        for file in checkpoint.glob("*.safetensors"):
            scratch = target / (file.name + ".unfinished")
            shutil.copyfile(file, scratch)
            scratch.replace(target / file.name)
        self.eval_loss, self.kept_step = dict(self.evals)[best], best


def named_rows(batches: list[list[str]]) -> str:
    """The numbers of the rows of some batches, the first ones of many: 3, 17, 40."""
    numbers = list(dict.fromkeys(number for batch in batches for ids in batch for number in ids.split()))
    return ", ".join(numbers[:NAMED_ROWS]) + (", …" if len(numbers) > NAMED_ROWS else "")


def change_learning_rate(optimizer, scheduler, learning_rate: float) -> None:
    """Let a resumed run go on at another learning rate: a checkpoint brings the old one with it."""
    for at, (group, before) in enumerate(zip(optimizer.param_groups, scheduler.base_lrs, strict=True)):
        rate = learning_rate * group["times"]
        if not math.isclose(rate, before):
            group["initial_lr"] = scheduler.base_lrs[at] = rate
            group["lr"] *= rate / before
    scheduler._last_lr = [group["lr"] for group in optimizer.param_groups]


def seal(checkpoint: Path, step: int, evals: list) -> int:
    """Declare a checkpoint whole and return its bytes. What does not say so was cut short and is passed over."""
    size = 0
    for path in filter(Path.is_file, checkpoint.rglob("*")):
        with path.open("rb+") as file:  # before the seal, on the disk itself: the power may fail too
            os.fsync(file.fileno())
        size += path.stat().st_size
    files = {path.relative_to(checkpoint).as_posix(): _digest(path) for path in checkpoint.rglob("*") if path.is_file()}
    for name in ("whole.json", "whole.unfinished"):  # of a checkpoint that is written anew
        files.pop(name, None)
    _write_seal(checkpoint, {"step": step, "evals": evals, "files": files})
    return size


def note_evals(checkpoint: Path, evals: list) -> None:
    """Put the evaluations so far into a checkpoint that was declared whole before the latest of them."""
    known = json.loads((checkpoint / "whole.json").read_text(encoding="utf-8"))
    _write_seal(checkpoint, known | {"evals": evals})


def _write_seal(checkpoint: Path, about: dict) -> None:
    """Write whole.json, or replace it, so that at every moment there is the old one or the new one."""
    scratch = checkpoint / "whole.unfinished"
    with scratch.open("w", encoding="utf-8") as file:
        file.write(json.dumps(about))
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(checkpoint / "whole.json")


def evals_of(checkpoint: str | None) -> list:
    """[step, loss] of the evaluations before a checkpoint."""
    if not checkpoint:
        return []
    return json.loads((Path(checkpoint) / "whole.json").read_text(encoding="utf-8")).get("evals", [])


def best_of(evals: list) -> int | None:
    """The step of the lowest loss, the earliest of several."""
    finite = [(loss, step) for step, loss in evals if math.isfinite(loss)]
    return min(finite)[1] if finite else None


def rotate(out: Path, kept: int) -> None:
    """Delete all checkpoints but the newest ones and the best; a deletion that is cut short leaves none that looks whole."""
    whole = {int(path.parent.name.split("-")[1]): path.parent for path in out.glob("checkpoint-*/whole.json")}
    best = best_of(evals_of(str(whole[max(whole)])))
    for step in sorted(whole)[:-kept]:
        if step != best:
            (whole[step] / "whole.json").unlink()
            shutil.rmtree(whole[step])


def whole_checkpoint(out: str | Path) -> str | None:
    """The newest checkpoint in a directory that was written to its end and has not been damaged since."""
    sealed = [path.parent for path in Path(out).glob("checkpoint-*/whole.json")]
    newest_first = sorted(sealed, key=lambda path: int(path.name.split("-")[1]), reverse=True)
    return next((str(path) for path in newest_first if is_whole(path)), None)


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint was written to its end and its files are as they were then."""
    try:
        files = json.loads((checkpoint / "whole.json").read_text(encoding="utf-8")).get("files", {})
        return all(_digest(checkpoint / name) == known for name, known in files.items())
    except (OSError, ValueError):
        return False


def _digest(path: Path) -> str:
    """Size and SHA-256 of a file; of a large one, of its beginning and its end."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= DIGEST_BYTES:
            return f"{size} {hashlib.file_digest(file, 'sha256').hexdigest()}"
        head = file.read(DIGEST_BYTES // 2)
        file.seek(size - DIGEST_BYTES // 2)
        return f"{size} {hashlib.sha256(head + file.read()).hexdigest()}"


def _callback(progress: Progress):
    from transformers import TrainerCallback

    names = ("on_train_begin", "on_step_begin", "on_step_end", "on_log", "on_save")
    return type("Events", (TrainerCallback,), {name: staticmethod(getattr(progress, name)) for name in names})()


class _Steps:
    """Parts of the Trainer's step: the checkpoint comes before the evaluation, and the device is waited for once."""

    fresh_tokens = 0  # of this process, since the last time that those of all were added up

    def training_step(self, model, inputs, *args, **kwargs):
        rows = inputs.pop("rows")
        self.fresh_tokens += inputs.pop("tokens")
        shape, named = tuple(inputs["input_ids"].shape), named_rows([rows])
        try:
            loss = super().training_step(model, inputs, *args, **kwargs)
        except Exception as error:  # whoever words the error wants to know
            error.batch_shape, error.batch_rows = shape, named
            raise
        self.soulsmith.batches.append((rows, loss))
        self.soulsmith.latest = shape, named
        return loss

    def floating_point_ops(self, inputs) -> int:
        return 0  # nobody reads the sum, and it goes through all modules for every batch

    def _maybe_log_save_evaluate(self, tr_loss, grad_norm, *args, **kwargs):
        """Log, save, evaluate, in this order: an evaluation that fails must not cost the checkpoint of its step."""
        evaluates, self.control.should_evaluate = self.control.should_evaluate, False
        if self.control.should_log or self.control.should_save:
            self._add_up_tokens()
        if self.control.should_log and self.state.global_step > self._globalstep_last_logged:
            tr_loss, grad_norm = self._fetched(tr_loss, grad_norm)
        self.soulsmith.on_step_computed()
        super()._maybe_log_save_evaluate(tr_loss, grad_norm, *args, **kwargs)
        if evaluates:
            self.evaluate()

    def _fetched(self, loss, grad_norm):
        """Loss and norm of the gradient as the processor has them, in one transfer; the sum of losses begins anew."""
        import torch

        if _processes() > 1 or not isinstance(grad_norm, torch.Tensor) or loss.device != grad_norm.device:
            return loss, grad_norm
        total, norm = torch.stack((loss.float(), grad_norm.float())).tolist()
        loss.zero_()
        return torch.tensor(total), norm

    def _add_up_tokens(self) -> None:
        """Count the tokens of all processes."""
        import torch

        fresh, self.fresh_tokens = self.fresh_tokens, 0
        if _processes() > 1:
            fresh = int(self.accelerator.gather(torch.tensor(fresh, device=self.args.device)).sum())
        self.state.num_input_tokens_seen += fresh

    def _run_epoch(self, model, epoch, *args, **kwargs):
        # The batches that a resumed run skips are wrapped once more a process: accelerate's word does not get through.
        self.rows_in_order.set_epoch(epoch)
        if self.soulsmith.misses_evaluation(self.args, self.state):
            self.evaluate()
        if self.state.global_step >= self.state.max_steps:  # resumed at its end: the stock loop would take one more
            self.control.should_training_stop = True
        return None if self.control.should_training_stop else super()._run_epoch(model, epoch, *args, **kwargs)


def _saving(config: TrainConfig, model) -> type:
    """A part of the Trainer: what it saves knows the stop tokens and needs nothing but its base."""
    start = None
    if config.init_lora_weights.startswith("pissa") and config.method == "lora":
        start = tempfile.TemporaryDirectory(prefix="pissa-")
        model.save_pretrained(start.name)

    class Saving:
        def gathered_weights(self) -> dict | None:
            """The weights of all processes where they are shared out, else None: every process has to call this."""
            if not (self.is_fsdp_enabled or self.is_deepspeed_enabled):
                return None
            return self.accelerator.get_state_dict(self.model_wrapped)

        def save_weights(self, path, state: dict | None = None) -> None:
            """Save what is trained with the tokens that end a reply. What began as PiSSA is saved as plain LoRA."""
            more = {"path_initial_model_for_weight_conversion": start.name} if start else {}
            self.model.save_pretrained(path, **({} if state is None else {"state_dict": state}), **more)
            if config.method != "full":
                self.model.get_base_model().generation_config.save_pretrained(path)

        def _save(self, output_dir=None, state_dict=None):
            super()._save(output_dir, state_dict)
            if start and self.args.should_save:  # to go on from, it is needed as it is; to chat with, as plain LoRA
                self.model.save_pretrained(Path(output_dir) / "pissa", state_dict=state_dict)
                self.save_weights(output_dir, state_dict)

        def _load_from_checkpoint(self, checkpoint, model=None):
            inner = Path(checkpoint) / "pissa"
            super()._load_from_checkpoint(str(inner) if inner.is_dir() else checkpoint, model)

    return Saving


def _learning(config: TrainConfig, training, held_out) -> type:
    """A part of the Trainer: the order of the rows, the rates, and held-out loss as the mean over learned tokens."""

    class Learning:
        def _get_train_sampler(self, train_dataset=None):
            rows = config.batch_size * config.gradient_accumulation_steps * _processes()
            self.rows_in_order = by_length(lengths_of(training), rows, config.seed)
            return self.rows_in_order

        def evaluate(self, *_, **__):
            began, progress = time.monotonic(), self.soulsmith
            try:
                loss = held_out_loss(self.model, held_out, config.batch_size, progress.hears_stop)
            except Exception as error:
                error.step = self.state.global_step
                raise
            if loss is None:
                self.control.should_training_stop = True
                return {}
            progress.on_evaluation(self.state.global_step, loss, self.model, self.control, Path(self.args.output_dir))
            progress.eval_seconds = time.monotonic() - began
            metrics = {"eval_loss": loss}
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
            return metrics

        def create_optimizer(self, *args, **kwargs):
            if self.optimizer is None and config.loraplus_lr_ratio and config.method != "full":
                from peft.optimizers import create_loraplus_optimizer

                kind, settings = self.get_optimizer_cls_and_kwargs(self.args, self.model)
                settings |= {
                    "loraplus_lr_ratio": config.loraplus_lr_ratio,
                    "loraplus_weight_decay": config.weight_decay,
                }
                self.optimizer = create_loraplus_optimizer(self.model, kind, **settings)
            optimizer = super().create_optimizer(*args, **kwargs)
            set_learning_rates(optimizer, self.model, config)
            return optimizer

    return Learning


def _trainer(config: TrainConfig, out: Path, model, tokenizer, training, held_out, layout: dict | None = None):
    """The stock Trainer with parts of our own."""
    from transformers import Trainer

    parts = (_Steps, _learning(config, training, held_out), _saving(config, model))
    base = model if config.method == "full" else model.get_base_model()
    return type("SoulTrainer", (*parts, Trainer), {})(
        model=model,
        args=training_arguments(config, out, len(training), evaluates=bool(held_out)),
        train_dataset=training,
        eval_dataset=held_out if len(held_out) else None,
        data_collator=partial(_named_batch, layout=layout or {}, tiled=getattr(base, "loss_is_tiled", False)),
        processing_class=tokenizer,
    )


def _named_batch(rows: list[dict], layout: dict, tiled: bool) -> dict:
    """A batch with the numbers of its rows and its tokens, padding not counted; training_step() takes them out again.

    With `tiled`, the loss of without_logits() gets the positions that are learned.
    """
    tokens, batch = sum(len(row["input_ids"]) for row in rows), collate(rows, **layout)
    more = {"learned": learned_positions(batch["labels"])} if tiled else {}
    return batch | more | {"rows": [row["id"] for row in rows], "tokens": tokens}


def by_length(lengths: list[int], batch_size: int, seed: int):
    """A sampler that puts rows of like length together; its order follows from the seed and the epoch alone.

    The stock one draws from the global generator as an epoch begins. A run resumed in its second epoch cannot repeat
    that draw: it would see some rows twice and others not at all. And of a small corpus it sorts a fourth at a time:
    24 rows in batches of 4 are not sorted at all, and padding costs them 1.6 times their tokens instead of 1.1.
    """
    import torch

    class ByLength(torch.utils.data.Sampler):
        epoch = 0

        def set_epoch(self, epoch: int):
            self.epoch = epoch

        def __len__(self):
            return len(lengths)

        def __iter__(self):
            generator = torch.Generator().manual_seed(seed + self.epoch)
            return itertools.chain.from_iterable(batches_by_length(lengths, batch_size, generator))

    return ByLength()


def batches_by_length(lengths: list[int], batch_size: int, generator) -> list[list[int]]:
    """Rows in batches of like length, each epoch others, the longest rows first; a batch that is not full comes last."""
    import torch

    # A little noise: else the rows of a small corpus would meet the same others in every epoch.
    noisy = torch.tensor(lengths) * (1 + LENGTH_NOISE * torch.rand(len(lengths), generator=generator))
    full, rest = [], []
    for some in torch.randperm(len(lengths), generator=generator).split(SORTED_BATCHES * batch_size):
        order = some[noisy[some].argsort(descending=True)].tolist()
        cut = len(order) // batch_size * batch_size
        full += [order[start : start + batch_size] for start in range(0, cut, batch_size)]
        rest += order[cut:]
    batches = [full[at] for at in torch.randperm(len(full), generator=generator).tolist()]
    longest = max(lengths)
    batches.sort(key=lambda batch: max(lengths[at] for at in batch) < longest)  # memory peaks at once
    return [*batches, *([rest] if rest else [])]


def training_arguments(config: TrainConfig, out: Path, rows: int, *, evaluates: bool):
    """The config in the Trainer's own words."""
    from transformers import TrainingArguments

    a_epoch = math.ceil(math.ceil(rows / (config.batch_size * _processes())) / config.gradient_accumulation_steps)
    steps = config.max_steps or math.ceil(config.epochs * a_epoch)
    every = min(steps, config.eval_steps or max(1, math.ceil(steps / 10)))
    kind = precision(config)
    return TrainingArguments(
        output_dir=str(out),
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=config.batch_size,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        num_train_epochs=config.epochs,
        max_steps=config.max_steps or -1,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.lr_scheduler_type,
        lr_scheduler_kwargs=_schedule(config.lr_scheduler_type, steps),
        neftune_noise_alpha=config.neftune_noise_alpha or None,
        use_liger_kernel=config.use_liger_kernel,
        liger_kernel_config={"cross_entropy": False, "fused_linear_cross_entropy": False},  # the loss is ours
        warmup_steps=int(config.warmup_ratio * steps),  # whole ones: the first of them has a rate of 0
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        optim=config.optim,
        bf16=kind == "bf16",
        fp16=kind == "fp16",
        activation_checkpointing=config.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        eval_strategy="steps" if evaluates else "no",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=None,  # rotate() keeps the best one too
        logging_steps=config.logging_steps,
        logging_nan_inf_filter=False,  # it would show the mean of the steps before instead of a NaN
        remove_unused_columns=False,
        use_cpu=device_type() == "cpu",
        label_names=["labels"],
        report_to="none",
        disable_tqdm=True,
        seed=config.seed,
        dataloader_pin_memory=False,
    )


def _schedule(name: str, steps: int) -> dict:
    """What a schedule has to be told besides its name."""
    if name == "cosine_with_min_lr":
        return {"min_lr_rate": 0.1}
    return {"num_decay_steps": math.ceil(steps / 10)} if name == "warmup_stable_decay" else {}


def set_learning_rates(optimizer, model, config: TrainConfig) -> None:
    """Give embeddings and head groups of their own, and note in every group how many times learning_rate its rate is."""
    rate = config.embedding_learning_rate
    if not rate and config.train_embeddings and config.method != "full":
        rate = config.learning_rate / 10
    layers = (model.get_input_embeddings(), model.get_output_embeddings())
    theirs = {id(weight) for layer in layers for weight in layer.parameters()} if rate else set()
    for group in list(optimizer.param_groups):
        apart = [weight for weight in group["params"] if id(weight) in theirs]
        if apart:
            group["params"] = [weight for weight in group["params"] if id(weight) not in theirs]
            optimizer.add_param_group({**group, "params": apart, "lr": rate})
    optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"]]
    for group in optimizer.param_groups:
        group["times"] = group["lr"] / config.learning_rate


def held_out_loss(model, rows, batch_size: int, should_stop: Callable[[], bool] = lambda: False) -> float | None:
    """Mean cross-entropy over the learned tokens of encoded rows, in nats a token; None if it was told to stop."""
    import torch

    was_training, losses, counts, stopped = model.training, [], [], False
    model.eval()
    lengths = lengths_of(rows)
    by_length = sorted(range(len(rows)), key=lengths.__getitem__)
    with torch.inference_mode(), autocast(model):
        for start in range(0, len(by_length), batch_size):
            chosen = [rows[at] for at in by_length[start : start + batch_size]]
            batch = collate(chosen)
            if getattr(model, "loss_is_tiled", False):
                batch["learned"] = learned_positions(batch["labels"])
            counts.append(int((batch["labels"][:, 1:] != IGNORED).sum()))
            try:
                losses.append(model(**{key: value.to(model.device) for key, value in batch.items()}).loss)
            except Exception as error:
                error.batch_shape = tuple(batch["input_ids"].shape)
                error.batch_rows = named_rows([[row.get("id", "?") for row in chosen]])
                raise
            if stopped := should_stop():
                break
    model.train(was_training)
    if stopped:
        return None
    means = torch.stack([torch.as_tensor(loss).float() for loss in losses]).tolist()  # the one wait for the device
    return sum(map(operator.mul, means, counts)) / sum(counts)


def _save_whole(path: Path, save_weights: Callable[[Path], None], tokenizer) -> None:
    """Save what was trained and the tokenizer so that the directory appears only when it is complete."""
    unfinished = path.with_name(path.name + ".unfinished")
    save_weights(unfinished)
    tokenizer.save_pretrained(unfinished)
    if path.exists():
        shutil.rmtree(path)
    unfinished.rename(path)


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        sys.exit("Usage: python train.py config.json\nTrains into the directory of the config; one JSON line an event.")
    grow_segments()
    path = Path(sys.argv[1])

    def report(event: str, **values):
        print(json.dumps({"event": event, **values}, ensure_ascii=False), flush=True)

    out, config = path.absolute().parent, TrainConfig.load(path)
    config = replace(config, corpus=str(out / config.corpus))  # an absolute path stays what it is
    ending = train(config, out, report=report, resume_from=whole_checkpoint(out))
    if _is_first():
        report("finished", **ending)


if __name__ == "__main__":
    main()
