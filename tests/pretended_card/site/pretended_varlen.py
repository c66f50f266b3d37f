"""A stand-in for the kernel behind torch.nn.attention.varlen: it keeps the kernel's contract and computes by hand.

16 bit only, int32 running sums, lengths that are plain ints, a head width that 8 divides, capability 8.0. `CALLS`
counts what was called.
"""

import itertools
import math

CALLS = {"forward": 0, "backward": 0}


def install(torch, capability: tuple[int, int]):
    """Register both operators for the card; what is returned has to be kept."""

    def forward(query, key, value, ends, ends_k, longest, longest_k, dropout, causal, debug, **more):
        _check(torch, capability, (query, key, value), ends, longest, dropout)
        CALLS["forward"] += 1
        window = (more.get("window_size_left"), more.get("window_size_right"))
        parts = [
            _attend(torch, query[at], key[at], value[at], more.get("scale"), causal, window)[0]
            for at in _documents(ends)
        ]
        lse = query.new_zeros(query.shape[1], len(query), dtype=torch.float32)
        seed = query.new_zeros(2, dtype=torch.uint64)
        return torch.cat(parts).to(query.dtype), lse, seed, seed.clone(), query.new_zeros(0)

    def backward(slope, query, key, value, out, lse, ends, ends_k, longest, longest_k, dropout, causal, *_, **more):
        _check(torch, capability, (query, key, value, slope), ends, longest, dropout)
        CALLS["backward"] += 1
        window = (more.get("window_size_left"), more.get("window_size_right"))
        found = [
            _backward(torch, slope[at], query[at], key[at], value[at], more.get("scale"), causal, window)
            for at in _documents(ends)
        ]
        return tuple(torch.cat(parts).to(query.dtype) for parts in zip(*found, strict=True))

    library = torch.library.Library("aten", "IMPL")
    library.impl("_flash_attention_forward", forward, "CUDA")
    library.impl("_flash_attention_backward", backward, "CUDA")
    return library


def _documents(ends) -> list[slice]:
    at = ends.cpu().tolist()
    return [slice(start, end) for start, end in itertools.pairwise(at)]


def _check(torch, capability, tensors, ends, longest, dropout) -> None:
    query = tensors[0]
    if capability < (8, 0):
        raise RuntimeError("FlashAttention only supports Ampere GPUs or newer.")
    for x in tensors:
        if x.dtype not in (torch.float16, torch.bfloat16) or x.dtype != query.dtype:
            raise RuntimeError("FlashAttention only support fp16 and bf16 data type")
        if x.stride(-1) != 1 or x.shape[-1] % 8 or x.shape[-1] > 256:
            raise RuntimeError("FlashAttention wants a contiguous head of a width up to 256 that 8 divides")
    if ends.dtype != torch.int32 or not isinstance(longest, int):
        raise RuntimeError("cu_seqlens must have dtype int32, and the longest of them must be an int")
    if int(ends[-1]) != len(query) or int(ends.diff().max()) > longest or dropout:
        raise RuntimeError("cu_seqlens or max_seqlen do not fit the tensors")


def _attend(torch, query, key, value, scale, causal, window):
    """Output (T, H, D) and the probabilities (H, T, T) of one document, in fp32."""
    groups = query.shape[1] // key.shape[1]
    key, value = (x.float().repeat_interleave(groups, 1) for x in (key, value))
    scores = torch.einsum("qhd,khd->hqk", query.float(), key) * (scale or query.shape[-1] ** -0.5)
    at = torch.arange(len(query), device=query.device)
    back = at[:, None] - at
    left, right = (-1 if side is None else side for side in window)
    seen = back >= 0 if causal else torch.ones_like(back, dtype=torch.bool)
    seen = seen & (back <= left) if left >= 0 else seen
    seen = seen & (back >= -right) if right >= 0 else seen
    likely = scores.masked_fill(~seen, -math.inf).softmax(-1)
    return torch.einsum("hqk,khd->qhd", likely, value), likely


def _backward(torch, slope, query, key, value, scale, causal, window):
    """The gradients of one document's query, key and value."""
    scale, heads, groups = scale or query.shape[-1] ** -0.5, key.shape[1], query.shape[1] // key.shape[1]
    out, likely = _attend(torch, query, key, value, scale, causal, window)
    wide_key, wide_value = (x.float().repeat_interleave(groups, 1) for x in (key, value))
    slope = slope.float()
    change = torch.einsum("qhd,khd->hqk", slope, wide_value) - (slope * out).sum(-1).T[..., None]
    change = likely * change * scale
    of_query = torch.einsum("hqk,khd->qhd", change, wide_key)
    of_key, of_value = (
        torch.einsum("hqk,qhd->khd", *pair).unflatten(1, (heads, groups)).sum(2)
        for pair in ((change, query.float()), (likely, slope))
    )
    return of_query, of_key, of_value
