"""A stand-in for flash-attn that keeps the kernels' contract and computes by hand: 16 bit only, int32 cu_seqlens, int lengths.

`CALLS` counts what was called, and with what kind of maximum: a tensor there would cost a wait for the card.
"""

import math

import torch

__version__ = "2.8.3"
CALLS = {"plain": 0, "varlen": 0, "varlen_int": 0}


def flash_attn_func(
    q, k, v, dropout_p=0.0, softmax_scale=None, causal=False, window_size=(-1, -1), softcap=0.0, **_
):  # (B, T, H, D)
    _check(q, k, v)
    CALLS["plain"] += 1
    return torch.stack(
        [_attend(*one, softmax_scale, causal, window_size, softcap) for one in zip(q, k, v, strict=True)]
    )


def flash_attn_varlen_func(
    q,
    k,
    v,
    cu_seqlens_q,
    cu_seqlens_k,
    max_seqlen_q,
    max_seqlen_k,
    dropout_p=0.0,
    softmax_scale=None,
    causal=False,
    window_size=(-1, -1),
    softcap=0.0,
    **_,
):  # (T, H, D)
    _check(q, k, v)
    for ends, total, longest in ((cu_seqlens_q, len(q), max_seqlen_q), (cu_seqlens_k, len(k), max_seqlen_k)):
        if ends.dtype != torch.int32:
            raise RuntimeError("cu_seqlens must have dtype int32")
        if int(ends[-1]) > total or int(ends.diff().max()) > int(longest):
            raise RuntimeError("cu_seqlens or max_seqlen do not fit the tensors")
    CALLS["varlen"] += 1
    CALLS["varlen_int"] += isinstance(max_seqlen_q, int)
    out = torch.zeros_like(q)
    queries, keys = (
        list(zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)) for ends in (cu_seqlens_q, cu_seqlens_k)
    )
    parts = [
        _attend(q[a:b], k[c:d], v[c:d], softmax_scale, causal, window_size, softcap)
        for (a, b), (c, d) in zip(queries, keys, strict=True)
    ]
    done = torch.cat(parts)
    return done if len(done) == len(out) else torch.cat([done, out[len(done) :]])


flash_attn_with_kvcache = None


def _check(q, k, v) -> None:
    if q.device.type != "cuda":
        raise RuntimeError("FlashAttention only supports tensors on a card")
    for x in (q, k, v):
        if x.dtype not in (torch.float16, torch.bfloat16):
            raise RuntimeError("FlashAttention only support fp16 and bf16 data type")
        if x.dtype != q.dtype:
            raise RuntimeError("query and key must have the same dtype")
        if x.stride(-1) != 1:
            raise RuntimeError("Input tensor must have contiguous last dimension")
        if x.shape[-1] > 256:
            raise RuntimeError("FlashAttention forward only supports head dimension at most 256")


def _attend(q, k, v, scale, causal, window, softcap):  # (T, H, D), (S, Hk, D)
    heads, kept = q.shape[1], k.shape[1]
    k, v = (x.repeat_interleave(heads // kept, 1) for x in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q.float(), k.float()) * (scale or q.shape[-1] ** -0.5)
    if softcap:
        scores = (scores / softcap).tanh() * softcap
    queries, keys = scores.shape[1:]
    at = torch.arange(queries)[:, None] + (keys - queries)
    seen = torch.arange(keys)[None]
    mask = torch.ones(queries, keys, dtype=torch.bool)
    if causal:
        mask &= seen <= at
    if window[0] >= 0:
        mask &= seen >= at - window[0]
    if window[1] >= 0:
        mask &= seen <= at + window[1]
    scores = scores.masked_fill(~mask.to(scores.device), -math.inf)
    return torch.einsum("hqk,khd->qhd", scores.softmax(-1).nan_to_num(0.0), v.float()).to(q.dtype)
