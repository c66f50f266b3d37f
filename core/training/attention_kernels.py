"""Which attention a model is given, and kernels that keep packed documents apart."""

from __future__ import annotations

import inspect
import itertools
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace

import torch
from transformers import AttentionInterface, PreTrainedModel, utils
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

from . import devices, environment, packages, packing

FLASH_HEAD = 256  # numbers of a head, at most: FlashAttention 2's own limit


def attention(kind: str, base=None) -> str:
    """flash_attention_2 where nothing stands in its way, else sdpa, which has fast kernels of its own, else eager.

    `base` is the model or its skeleton: a class of model may refuse each but the last.
    """
    if not flash_attention_lacks(kind, base):
        return "flash_attention_2"
    return "sdpa" if base is None or _all_take(base, "_supports_sdpa") else "eager"


def flash_attention_lacks(kind: str, base=None) -> str:
    """What FlashAttention 2 lacks, in a word, or nothing.

    card; apple: not made for that one; capability 8.0; class: the model's refuses it; precision: 16 bit; package;
    broken: the package is installed and does not load.
    """
    if devices.device_type() not in ("cuda", "xpu"):
        return "apple" if devices.device_type() == "mps" else "card"
    if devices.device_type() == "cuda" and torch.cuda.get_device_capability() < (8, 0):
        return "capability"
    if base is not None and not _takes_flash_attention(base):
        return "class"
    if kind == "fp32":
        return "precision"
    if utils.is_flash_attn_2_available():
        return "broken" if packages.fault("flash-attn") else ""
    # Where flash-attn is not compiled, the package kernels brings it from the hub, or from the hub's cache.
    return "" if utils.is_flash_attn_2_available(kernels_fallback_ok=True) else "package"


def _takes_flash_attention(base) -> bool:
    """Whether a class of model takes FlashAttention 2: it says so, and its heads are not larger than the kernel's."""
    text = base.config.get_text_config()
    heads = [getattr(text, name, None) or 0 for name in ("head_dim", "global_head_dim")]
    listed = getattr(base, "_compatible_flash_implementations", None)  # gpt-oss: those that know attention sinks
    allowed = not listed or "flash_attention_2" in listed
    return allowed and max(heads) <= FLASH_HEAD and _all_take(base, "_supports_flash_attn")


def _all_take(base, support: str) -> bool:
    """Whether a class of model, and that of each model inside it, says that it takes an attention."""
    return all(getattr(part, support) for part in base.modules() if isinstance(part, PreTrainedModel))


def uses_flash_attention(base) -> bool:
    """Whether a model attends with FlashAttention, from whichever package."""
    return "flash" in base.config._attn_implementation


def attend_by_document() -> Counter:
    """Let sdpa look at the documents of packed rows by themselves, and never take a kernel that keeps all scores.

    The stock way is one call with a mask (B, 1, T, T), which computes all scores across documents and throws them
    away: measured on a processor, 1.4 to 6.9 times as slow (tests/benchmarks.md). Rows that lie end to end come with
    the lengths of their documents (collate): they go to torch's kernel for such rows, or else one after the other.
    Blocks come with a mask. It still says what a document's tokens may see of it: where that is not simply all that
    came before (a sliding window), the document's part of it goes along.
    It takes the place of "sdpa" in this process, for some models ask for that very name; all else goes the stock way,
    as do models that pass no positions to their attention. What is returned counts the calls that took the short
    way: "varlen", torch's kernel for a whole row, or "one_by_one".
    """
    calls = Counter()
    documents = _Documents(calls)

    def attend(module, query, key, value, attention_mask, position_ids=None, **more):
        ends, longest = (more.pop(name, None) for name in ("cu_seq_lens_q", "max_length_q"))
        for name in ("cu_seq_lens_k", "max_length_k"):
            more.pop(name, None)
        if ends is not None and "position_bias" not in more:
            return documents.attend(module, query, key, value, ends, longest, **more), None
        batch, _, length, _ = query.shape
        packed = position_ids is not None and position_ids.shape == (batch, length) and "position_bias" not in more
        masked = attention_mask is not None and attention_mask.shape == (batch, 1, length, length)
        if packed and masked and query.device.type == "cpu":
            calls["one_by_one"] += 1
            return _attend_masked(module, query, key, value, attention_mask, position_ids, **more), None
        return _sdpa(module, query, key, value, attention_mask, **more)

    AttentionInterface.register("sdpa", attend)
    return calls


def _sdpa(module, query, key, value, mask, **more):
    """The stock call; with grouped heads, keys and values are repeated for kernels that know only as many as queries.

    On a card without a mask transformers leaves the groups to torch, whose only kernel for groups is FlashAttention:
    where that cannot be taken (a card before 8.0, fp32), another one keeps all scores, the square of the length.
    """
    groups = getattr(module, "num_key_value_groups", 1)
    if groups > 1 and query.device.type == "cuda" and mask is None and _kernel_lacks(query, value):
        causal = getattr(module, "is_causal", True)
        module, key, value = SimpleNamespace(is_causal=causal), repeat_kv(key, groups), repeat_kv(value, groups)
    return sdpa_attention_forward(module, query, key, value, mask, **more)


def _kernel_lacks(query, value) -> str:
    """What FlashAttention inside torch lacks for these heads (B, H, T, D): capability 8.0, 16 bit, width; or nothing."""
    if torch.cuda.get_device_capability() < (8, 0):
        return "capability"
    if _computed_in(query) not in (torch.float16, torch.bfloat16):
        return "precision"
    widest = max(query.shape[-1], value.shape[-1])
    return "width" if widest > 256 or widest % 8 else ""


def _computed_in(query):
    """The dtype that attention is computed in: under autocast its own."""
    kind = query.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else query.dtype


class _Documents:
    """Attention over rows that lie end to end, (1, H, T, D) to (1, T, H, D)."""

    def __init__(self, calls: Counter):
        self.calls = calls
        self.kernel, self.tried, self.ends, self.lengths = varlen_attention(), set(), None, []

    def attend(self, module, query, key, value, ends, longest, *, dropout=0.0, sliding_window=None, **more):
        about = sliding_window, more.get("scaling")
        if self.kernel and not dropout and not _kernel_lacks(query, value) and self._works(query, key, value, *about):
            self.calls["varlen"] += 1
            return self._at_once(query, key, value, ends, longest, *about)
        self.calls["one_by_one"] += 1
        return self._one_by_one(module, query, key, value, ends, sliding_window, dropout=dropout, **more)

    def _works(self, query, key, value, *about) -> bool:
        """Whether this build's kernel has both passes for heads of this width: it is tried once, on two tokens."""
        kind = (query.shape[-1], value.shape[-1], query.shape[1], key.shape[1], _computed_in(query), *about)
        if kind not in self.tried:
            ends = torch.tensor([0, 2], dtype=torch.int32, device=query.device)
            with torch.enable_grad():
                tokens = [x[:1, :, :2].detach().clone().requires_grad_() for x in (query, key, value)]
                try:
                    self._at_once(*tokens, ends, 2, *about).sum().backward()
                except RuntimeError as error:
                    if environment.is_out_of_memory(error):
                        raise
                    self.kernel = None  # it is there in name only
            self.tried.add(kind)
        return self.kernel is not None

    def _at_once(self, query, key, value, ends, longest, window, scaling):
        width, kind = value.shape[-1], _computed_in(query)
        if width < query.shape[-1]:  # as DeepSeek's: the kernel takes one width, and what is added is cut off again
            value = torch.nn.functional.pad(value, (0, query.shape[-1] - width))
        flat = (x.transpose(1, 2).flatten(0, 1).to(kind) for x in (query, key, value))  # (T, H, D)
        window = (window - 1, 0) if window else (-1, 0)
        more = {"scale": scaling, "window_size": window, "enable_gqa": query.shape[1] != key.shape[1]}
        return self.kernel(*flat, ends, ends, longest, longest, **more)[None, ..., :width]

    def _one_by_one(self, module, query, key, value, ends, window, **more):
        if self.ends is not ends:  # once a batch, not once a layer: on a card it is waited for
            self.ends, self.lengths = ends, ends.diff().tolist()
        documents = zip(*(x.split(self.lengths, dim=2) for x in (query, key, value)), strict=True)
        attended = [_sdpa(module, *document, _window(document[0], window), **more)[0] for document in documents]
        return torch.cat(attended, dim=1)


def _window(query, window: int | None):
    """The mask (1, 1, T, T) of a document that is longer than the window its tokens see, else none."""
    if not window or query.shape[2] <= window:
        return None
    at = torch.arange(query.shape[2], device=query.device)
    back = at[:, None] - at
    return ((back >= 0) & (back < window))[None, None]


def varlen_attention() -> Callable | None:
    """torch's attention for rows that lie end to end, where there is one: a card, and torch 2.12 for grouped heads."""
    if devices.device_type() != "cuda":
        return None
    try:
        from torch.nn.attention.varlen import varlen_attn  # noqa: PLC0415 - torch 2.12 and newer
    except ImportError:
        return None
    return varlen_attn if "enable_gqa" in inspect.signature(varlen_attn).parameters else None


def _attend_masked(module, query, key, value, mask, position_ids, **more):
    """Attention over blocks (B, H, T, D), a document after the other, each with its part of the mask (B, 1, T, T)."""
    blocks = []
    for at, positions in enumerate(position_ids):
        lengths = packing.document_lengths(positions)
        documents = zip(*(x[at : at + 1].split(lengths, dim=2) for x in (query, key, value)), strict=True)
        ends = list(itertools.accumulate(lengths))
        parts = (slice(end - length, end) for end, length in zip(ends, lengths, strict=True))
        masks = (mask[at : at + 1, :, part, part] for part in parts)
        masks = (None if part.equal(torch.ones_like(part).tril()) else part for part in masks)
        pairs = zip(documents, masks, strict=True)
        attended = [_sdpa(module, *document, part, is_causal=part is None, **more)[0] for document, part in pairs]
        blocks.append(torch.cat(attended, dim=1))
    return torch.cat(blocks)
