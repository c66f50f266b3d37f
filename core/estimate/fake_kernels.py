"""Stand-ins for kernels of a graphics card when the real modules run under fake tensors: they allocate the same.

Fake tensors live on the "processor", whose kernels keep other things than the card's do. Each class here allocates and
keeps what the CUDA kernel named in its docstring does; nothing is computed.
"""

import torch
from torch import nn
from torch.autograd import Function

from core.estimate.loss import FUSED_COLUMNS, FUSED_ROWS


class Attention(Function):
    """scaled_dot_product_attention with FlashAttention 2, or the memory-efficient kernel: O(T) memory."""

    @staticmethod
    def forward(ctx, q, k, v, efficient):
        batch, heads, length, width = q.shape
        out = q.new_empty((batch, length, heads, width)).transpose(1, 2)
        sums = q.new_empty((batch, heads, -(-length // 32) * 32 if efficient else length), dtype=torch.float32)
        ctx.save_for_backward(q, k, v, out, sums)
        ctx.efficient = efficient
        return out

    @staticmethod
    def backward(ctx, gradient):
        q, k, v, _, sums = ctx.saved_tensors
        _delta = torch.empty_like(sums)
        _gathered = None if ctx.efficient else torch.empty_like(q, dtype=torch.float32)
        dq = torch.empty_like(q)
        _wide = None
        if k.shape[1] != q.shape[1]:
            _wide = (torch.empty_like(q), torch.empty_like(q))
        return dq, torch.empty_like(k), torch.empty_like(v), None


def flash(module, query, key, value, attention_mask, **_):
    """An attention function of transformers: FlashAttention 2."""
    return Attention.apply(*_autocast(query, key, value), False).transpose(1, 2), None


def memory_efficient(module, query, key, value, attention_mask, **_):
    """An attention function of transformers: the kernel of cards before compute capability 8.0."""
    query, key, value = _autocast(query, key, value)
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    return Attention.apply(query, key, value, True).transpose(1, 2).contiguous(), None


def _autocast(*tensors):
    if not torch.is_autocast_enabled():
        return tensors
    return tuple(t.to(torch.get_autocast_dtype("cpu")) for t in tensors)


class Softmax(Function):
    """softmax in fp32: fp16 scores are cast inside the kernel, and the backward pass multiplies first."""

    @staticmethod
    def forward(ctx, scores):
        ctx.dtype = scores.dtype
        if scores.dtype == torch.bfloat16:
            scores = scores.float()
        out = torch.empty_like(scores, dtype=torch.float32)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx, gradient):
        (out,) = ctx.saved_tensors
        _product = torch.empty_like(out)
        inside = torch.float32 if ctx.dtype == torch.bfloat16 else ctx.dtype
        result = torch.empty_like(out, dtype=inside)
        del _product
        return result.to(ctx.dtype)


class Dropout(Function):
    """native_dropout: one kernel, which keeps a mask of one byte for an element."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(torch.empty_like(x, dtype=torch.bool))
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx, gradient):
        return torch.empty_like(gradient)


class MatMul4Bit(Function):
    """bitsandbytes' product: the weight is unpacked for it and again in the backward pass; the input is not kept."""

    @staticmethod
    def forward(ctx, x, layer, bias):
        ctx.layer, ctx.dtype = layer, x.dtype
        weight = x.new_empty((layer.out_features, layer.in_features))
        return nn.functional.linear(x, weight, bias)

    @staticmethod
    def backward(ctx, gradient):
        layer = ctx.layer
        weight = gradient.new_empty((layer.out_features, layer.in_features), dtype=layer.compute_dtype)
        return torch.matmul(gradient, weight.to(gradient.dtype)), None, None


class FusedLoss(Function):
    """TRL's chunked log-probabilities: one tile of logits, gradients of the hidden states in fp32."""

    @staticmethod
    def _tile(hidden, weight, dtype):
        rows, columns = min(len(hidden), FUSED_ROWS), min(len(weight), FUSED_COLUMNS)
        parts = [hidden.new_empty((rows, columns), dtype=dtype), hidden[:rows].to(dtype)]
        if weight.dtype != dtype:
            parts.append(weight.new_empty((columns, weight.shape[1]), dtype=dtype))
        return parts

    @staticmethod
    def forward(ctx, hidden, weight):
        ctx.half = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled() else hidden.dtype
        FusedLoss._tile(hidden, weight, ctx.half)
        sums = hidden.new_empty((2, len(hidden)), dtype=torch.float32)
        ctx.save_for_backward(hidden, weight, sums)
        return hidden.new_empty(len(hidden), dtype=torch.float32)

    @staticmethod
    def backward(ctx, gradient):
        hidden, weight, _ = ctx.saved_tensors
        back = torch.empty_like(hidden, dtype=torch.float32)
        ahead = torch.empty_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        FusedLoss._tile(hidden, weight, ctx.half)
        return back.to(hidden.dtype), None if ahead is None else ahead.to(weight.dtype)


def linear_4bit(linear: nn.Linear, double: bool, dtype: torch.dtype):
    """A bitsandbytes Linear4bit with the storages of a loaded one, in place of a linear layer."""
    import bitsandbytes  # noqa: PLC0415 - only QLoRA needs it

    class Linear4bit(bitsandbytes.nn.Linear4bit):
        def __init__(self):
            nn.Module.__init__(self)
            self.in_features, self.out_features = linear.in_features, linear.out_features
            size = self.in_features * self.out_features
            self.weight = nn.Parameter(torch.empty((size // 2, 1), dtype=torch.uint8), requires_grad=False)
            self.weight.compress_statistics, self.weight.quant_type = double, "nf4"
            blocks = -(-size // 64)
            self.scales = [torch.empty(blocks, dtype=torch.uint8 if double else torch.float32), torch.empty(16)]
            if double:
                self.scales += [torch.empty(-(-blocks // 256)), torch.empty(256), torch.empty(1)]
            self.bias = linear.bias
            if self.bias is not None:
                self.bias.requires_grad = False
            self.compute_dtype, self.compute_type_is_set = dtype, True
            self.quant_state, self.quant_storage = None, torch.uint8

        def forward(self, x):
            bias = None if self.bias is None else self.bias.to(self.compute_dtype)
            return MatMul4Bit.apply(x.to(self.compute_dtype), self, bias).to(x.dtype)

    return Linear4bit()
