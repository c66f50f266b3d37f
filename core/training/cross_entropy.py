"""Cross entropy in tiles: the logits of all positions never exist at one time.

Not by torch's linear_cross_entropy, which is new in 2.13 and was slower (tests/benchmarks.md).
"""

from __future__ import annotations

import os
from functools import wraps

import torch
from torch.utils.checkpoint import checkpoint
from transformers.modeling_outputs import CausalLMOutput

from . import config, devices, encoding, model_loading, packing


def without_logits(base) -> None:
    """Let a causal language model compute its loss on the labelled positions only, a tile at a time.

    The stock loss holds 12 bytes x vocabulary x tokens at its peak; here the full matrix of logits never exists, and
    the head is not computed for tokens that are not learned. The value is the same: the sum of the cross-entropies
    over `num_items_in_batch` (their count here, when not given). A model that does something else between its hidden
    states and its logits (caps them, scales them) keeps its own loss: that is tried on a few tokens, not looked up.

    With `token_losses=True` the loss is that of each labelled position instead, (N,), for losses that weigh them.
    """
    stock = base.forward
    base.loss_is_tiled = _head_is_plain(base)
    if not base.loss_is_tiled:

        @wraps(stock)  # the Trainer reads from its signature what it takes
        def whole(*args, token_losses=False, **inputs):
            labels = inputs.pop("labels") if token_losses else None
            with packing.documents_known(inputs):
                output = stock(*args, **inputs)
            if token_losses:
                learned = learned_positions(labels)
                logits, target = output.logits.flatten(0, 1)[learned].float(), labels.flatten()[learned + 1]
                output = CausalLMOutput(loss=torch.nn.functional.cross_entropy(logits, target, reduction="none"))
            return output

        base.forward = whole
        return

    def forward(labels=None, num_items_in_batch=None, learned=None, token_losses=False, **inputs):
        if labels is None:
            return stock(**inputs)
        with packing.documents_known(inputs):
            hidden = base.get_decoder()(**{**inputs, "use_cache": False}).last_hidden_state  # (B, T, H)
        learned = learned_positions(labels) if learned is None else learned
        hidden = hidden.flatten(0, 1).index_select(0, learned)  # (N, H)
        target = labels.flatten().index_select(0, learned + 1)  # (N,)
        losses = each_loss(base.get_output_embeddings(), hidden, target)  # looked up: an adapter may have wrapped it
        if token_losses:
            return CausalLMOutput(loss=losses)
        return CausalLMOutput(loss=losses.sum() / (len(target) if num_items_in_batch is None else num_items_in_batch))

    base.forward = forward


def learned_positions(labels):
    """Where, in a batch of labels (B, T) laid end to end, the next token is learned: (N,), int64.

    The collator computes it on the processor: on a card, the step would wait for their number.
    """
    return torch.nn.functional.pad(labels[:, 1:] != encoding.IGNORED, (0, 1)).flatten().nonzero()[:, 0]


def each_loss(head, hidden, target):
    """The cross-entropies (N,) of hidden states (N, H) with their targets (N,); logits exist for a tile at a time."""
    trained = torch.is_grad_enabled() and any(weight.requires_grad for weight in head.parameters())
    # FSDP's hooks bear no backward pass inside a forward pass: torch 2.13 crashed where norm and head were one group.
    if not trained and os.environ.get("ACCELERATE_USE_FSDP") != "true":
        return _LossOfFrozenHead.apply(hidden, target, head)

    def tile(hidden, target):
        return _LossInPlace.apply(head(hidden), target)

    tiles = zip(hidden.split(config.LOSS_TILE), target.split(config.LOSS_TILE), strict=True)
    return torch.cat([checkpoint(tile, *pair, use_reentrant=False) for pair in tiles])


def _scaled(gradient, slopes):
    """The gradient (n, X) of each loss times its slope (n,), in its own type: one more copy of it, none in fp32."""
    return torch.mul(gradient, slopes[:, None], out=torch.empty_like(gradient))


class _LossInPlace(torch.autograd.Function):
    """The losses (n,) of logits (n, V), whose memory takes their gradient."""

    @staticmethod
    def forward(context, logits, target):
        gradient = logits.detach()
        losses = cross_entropy_(gradient, target)
        context.save_for_backward(gradient)
        return losses

    @staticmethod
    def backward(context, slopes):
        return _scaled(context.saved_tensors[0], slopes), None


class _LossOfFrozenHead(torch.autograd.Function):
    """The losses (N,) of hidden states (N, H) with a head that is not trained.

    The gradient of the hidden states is worked out along with the loss, while a tile's logits are there: the head is
    computed once instead of once more for the backward pass.
    """

    @staticmethod
    def forward(context, hidden, target, head):
        wanted, rows = context.needs_input_grad[0], config.tile_rows(getattr(head, "out_features", 0))
        losses = torch.zeros(len(target), device=hidden.device)
        gradient = torch.empty_like(hidden) if wanted else None
        for start in range(0, len(target), rows):
            part = slice(start, start + rows)
            with torch.set_grad_enabled(wanted):
                piece = hidden[part].detach().requires_grad_(wanted)
                logits = head(piece)
            losses[part] = cross_entropy_(logits.detach(), target[part])
            if wanted:
                gradient[part] = torch.autograd.grad(logits, piece, logits.detach())[0]
            del logits
        context.save_for_backward(gradient)
        return losses

    @staticmethod
    def backward(context, slopes):
        return _scaled(context.saved_tensors[0], slopes), None, None


def cross_entropy_(logits, target):
    """The cross-entropies (n,) of logits (n, V), which become their gradient: in place, so that memory holds no
    more than they and one copy in fp32, of logits in fp32 not even that."""
    wide, target = logits.float(), target[:, None]
    best, right = wide.max(-1, keepdim=True).values, wide.gather(-1, target)
    mass = wide.sub_(best).exp_().sum(-1, keepdim=True)
    wide.div_(mass).scatter_add_(-1, target, -right.new_ones(right.shape))
    if wide is not logits:
        logits.copy_(wide)
    return (best + mass.log() - right)[:, 0]


def _head_is_plain(base) -> bool:
    """Whether the logits of a model are its output embeddings applied to its last hidden states, and nothing more."""
    ids = torch.arange(8, device=base.device)[None] % base.get_input_embeddings().num_embeddings
    with torch.no_grad(), model_loading.autocast(base):
        hidden = base.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
        plain, real = base.get_output_embeddings()(hidden).float(), base(input_ids=ids, use_cache=False).logits.float()
    return plain.shape == real.shape and devices.distance(plain, real) < 0.01
