"""Rows packed into blocks, and batches made of either."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from contextlib import contextmanager

import torch
from transformers import masking_utils

from . import encoding


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
    return [
        make_block([rows[at] for at in block]) for block in bins([len(row["input_ids"]) for row in rows], max_length)
    ]


def make_block(rows: list[dict]) -> dict:
    """Rows end to end.

    The position_ids begin at 0 with each row: from them the attention knows where one document ends. The first token
    of each row is not learned, since the token before it belongs to another document.
    """
    return {
        "input_ids": [id for row in rows for id in row["input_ids"]],
        "labels": [label for row in rows for label in [encoding.IGNORED, *row["labels"][1:]]],
        "position_ids": [position for row in rows for position in range(len(row["input_ids"]))],
        "id": " ".join(row["id"] for row in rows),
    }


def collate(rows: list[dict], flat: bool = False, lengths: bool = True, alone: bool = False) -> dict:
    """A batch (B, T), padded on the right; what is padding follows from the position, never from the id of the pad token.

    There is no attention_mask: a causal model's tokens do not see what comes after them, so none sees the padding, and
    the fast kernels of attention take no mask. Packed blocks come with position_ids, by which transformers keeps the
    documents of a block apart, but only without attention_mask (seen in 5.24; it takes use_cache=False besides). With
    `flat` the blocks lie end to end in one row (1, B*T), which is what kernels for packed rows take, and `lengths` says
    in their words where each document ends: without that, every layer finds it anew and waits for the card to tell.
    With `alone` a row that is its whole batch says so too, as FlashAttention would ask that in every layer.
    """
    packed = "position_ids" in rows[0]
    if flat and packed:
        row = {key: [x for row in rows for x in row[key]] for key in ("input_ids", "labels", "position_ids")}
        batch = {key: torch.tensor([values]) for key, values in row.items()}
        return batch | (document_ends(row["position_ids"]) if lengths else {})
    sizes = [len(row["input_ids"]) for row in rows]

    def padded(key: str, fill: int):
        return torch.tensor([row[key] + [fill] * (max(sizes) - len(row[key])) for row in rows])

    batch = {"input_ids": padded("input_ids", 0), "labels": padded("labels", encoding.IGNORED)}
    if not packed:
        return batch | (document_ends(range(sizes[0])) if alone and len(rows) == 1 else {})
    tails = [list(range(max(sizes) - size)) for size in sizes]  # padding is one more document in the block
    positions = [row["position_ids"] + tail for row, tail in zip(rows, tails, strict=True)]
    return batch | {"position_ids": torch.tensor(positions)}


def document_ends(positions: Sequence[int]) -> dict:
    """Where the documents of a packed row end, as attention kernels take it: running sums (N + 1,), int32, from 0 on,
    and the length of the longest one, a plain int. `positions` begin at 0 with each document."""
    ends = [at for at, position in enumerate(positions) if position == 0] + [len(positions)]
    longest = max(end - start for start, end in itertools.pairwise(ends))
    ends = torch.tensor(ends, dtype=torch.int32)
    return {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": longest, "max_length_k": longest}


@contextmanager
def documents_known(inputs: dict):
    """Spare the device a question: transformers asks in each forward pass whether position_ids hold several documents,
    waits for the answer and makes a mask of them (5.24). Rows without positions of their own hold one document each,
    and where the lengths of documents come along, attention needs neither the answer nor a mask, which would be the
    square of all rows together."""
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
    breaks = (positions.diff() != 1).nonzero()[:, 0] + 1
    return torch.cat([breaks.new_zeros(1), breaks, breaks.new_tensor([len(positions)])]).diff().tolist()
