"""Attention of packed rows on this machine: `python -m tests.bench_attention [--steps] [--json]`.

One layer, forward and backward, over the same blocks of documents: the masked call of SDPA, a call for each document
(what core/training does on a processor), eager attention, and, on a card, flex_attention, torch's own kernel for
documents end to end and that of flash-attn. A kernel that this machine has not says why; each that it has is held
against the masked call. With --steps: whole steps of the recipe on a processor, masked and one by one in turn.
"""

import argparse
import json
import statistics
import time
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch.nn.functional import scaled_dot_product_attention as sdpa

REPEATS = 7
MINUTES = 3  # no kernel is begun after that
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}


@dataclass(frozen=True)
class Blocks:
    """B packed blocks of T tokens, with so many documents of one length each, and the heads of one layer."""

    blocks: int
    tokens: int
    documents: int
    heads: int
    key_heads: int
    width: int
    dtype: torch.dtype
    device: str

    @property
    def name(self) -> str:
        kind = str(self.dtype).removeprefix("torch.")
        return f"{self.blocks} x {self.tokens:,}, {self.documents} documents each, {kind}"

    @cached_property
    def given(self) -> list[torch.Tensor]:
        """Queries, keys and values, (B, heads, T, width)."""
        draw = torch.Generator(self.device).manual_seed(0)
        shapes = [(self.blocks, heads, self.tokens, self.width) for heads in (self.heads, *[self.key_heads] * 2)]
        made = [torch.randn(shape, generator=draw, device=self.device, dtype=self.dtype) for shape in shapes]
        return [each.requires_grad_() for each in made]

    @cached_property
    def numbers(self) -> torch.Tensor:
        """The document of each token, (T,)."""
        return torch.arange(self.tokens, device=self.device) * self.documents // self.tokens

    @cached_property
    def mask(self) -> torch.Tensor:
        """(1, 1, T, T)"""
        same = self.numbers[:, None] == self.numbers
        return same.tril()[None, None]

    @cached_property
    def lengths(self) -> list[int]:
        return self.numbers.bincount().tolist()

    @cached_property
    def block_mask(self):
        """The mask of flex_attention."""
        from torch.nn.attention.flex_attention import create_block_mask

        def sees(batch, head, query, key):
            return (self.numbers[query] == self.numbers[key]) & (query >= key)

        return create_block_mask(sees, None, None, self.tokens, self.tokens, device=self.device)

    def repeated(self) -> list[torch.Tensor]:
        """Queries, keys and values with as many heads each."""
        query, key, value = self.given
        times = self.heads // self.key_heads
        return [query, key.repeat_interleave(times, 1), value.repeat_interleave(times, 1)]

    def end_to_end(self) -> tuple[list[torch.Tensor], torch.Tensor, int]:
        """All documents of all blocks in one row, (B*T, heads, width), where each begins, and the longest."""
        flat = [each.transpose(1, 2).flatten(0, 1) for each in self.given]
        lengths = torch.tensor([0, *self.lengths * self.blocks], device=self.device, dtype=torch.int32)
        return flat, lengths.cumsum(0, dtype=torch.int32), max(self.lengths)

    def side_by_side(self, found: torch.Tensor) -> torch.Tensor:
        """end_to_end() undone."""
        return found.view(self.blocks, self.tokens, self.heads, self.width).transpose(1, 2)


def masked(given: Blocks) -> torch.Tensor:
    return sdpa(*given.repeated(), attn_mask=given.mask)


def by_document(given: Blocks) -> torch.Tensor:
    blocks = []
    for at in range(given.blocks):
        documents = zip(*(each[at : at + 1].split(given.lengths, dim=2) for each in given.given), strict=True)
        blocks.append(torch.cat([sdpa(*one, is_causal=True, enable_gqa=True) for one in documents], dim=2))
    return torch.cat(blocks)


def eager(given: Blocks) -> torch.Tensor:
    query, key, value = given.repeated()
    scores = (query @ key.mT) * given.width**-0.5
    scores = scores.masked_fill(~given.mask, torch.finfo(scores.dtype).min)
    return scores.softmax(-1, dtype=torch.float32).to(query.dtype) @ value


def flex(given: Blocks) -> torch.Tensor:
    return compiled_flex()(*given.given, block_mask=given.block_mask, enable_gqa=True)


@cache
def compiled_flex():
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)


def varlen(given: Blocks) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn

    flat, starts, longest = given.end_to_end()
    more = {"window_size": (-1, 0), "enable_gqa": True}
    return given.side_by_side(varlen_attn(*flat, starts, starts, longest, longest, **more))


def flash(given: Blocks) -> torch.Tensor:
    from flash_attn import flash_attn_varlen_func

    flat, starts, longest = given.end_to_end()
    return given.side_by_side(flash_attn_varlen_func(*flat, starts, starts, longest, longest, causal=True))


def flash_from_hub(given: Blocks) -> torch.Tensor:
    """As transformers fetches it where flash-attn is not compiled: by the package kernels."""
    flat, starts, longest = given.end_to_end()
    found = hub_kernel()(*flat, starts, starts, longest, longest, causal=True)
    return given.side_by_side(found[0] if isinstance(found, tuple) else found)


@cache
def hub_kernel():
    from transformers.modeling_flash_attention_utils import lazy_import_flash_attention

    return lazy_import_flash_attention("kernels-community/flash-attn2")[0][1]


def grouped(given: Blocks) -> torch.Tensor:
    return sdpa(*given.given, is_causal=True, enable_gqa=True)


def repeated(given: Blocks) -> torch.Tensor:
    return sdpa(*given.repeated(), is_causal=True)


# Blocks as if each were one document: how transformers calls for rows that are not packed, and what else it could do.
WHOLE = {"whole, enable_gqa": grouped, "whole, repeated keys": repeated}
KERNELS = {
    "SDPA, masked": masked,
    "SDPA, a document each": by_document,
    "eager": eager,
    "flex_attention": flex,
    "torch's varlen_attn": varlen,
    "flash-attn, varlen": flash,
    "flash-attn by kernels": flash_from_hub,
    **WHOLE,
}


def milliseconds(kernel, given: Blocks) -> float:
    """The median time of a forward and a backward pass, after one that is not counted."""
    taken = []
    for _ in range(REPEATS + 1):
        for each in given.given:
            each.grad = None
        began = time.perf_counter()
        kernel(given).sum().backward()
        if given.device == "cuda":
            torch.cuda.synchronize()
        taken.append(1000 * (time.perf_counter() - began))
    return round(statistics.median(taken[1:]), 3)


def measure(given: Blocks, until: float) -> dict[str, float | str]:
    """Milliseconds of each kernel, or in a few words why there are none; none is begun after `until`."""
    with torch.no_grad():
        right, whole = masked(given), repeated(given)
    found = {}
    for name, kernel in KERNELS.items():
        if time.monotonic() > until:
            found[name] = "no time was left"
            continue
        try:
            found[name] = milliseconds(kernel, given)
            with torch.no_grad():
                known = whole if name in WHOLE else right
                torch.testing.assert_close(kernel(given), known, atol=TOLERANCE[given.dtype], rtol=0)
        except Exception as error:
            found[name] = (str(error).strip() or type(error).__name__).split("\n")[0][:90]
    return found


def cases() -> list[Blocks]:
    """On a card a layer of Qwen2.5-7B, on a processor one of the starter model."""
    if torch.cuda.is_available():
        shape = (28, 4, 128, torch.bfloat16, "cuda")
        return [Blocks(2, 4096, n, *shape) for n in (4, 16, 64)] + [Blocks(1, 16384, 16, *shape)]
    shapes = [(9, 3, 64, dtype, "cpu") for dtype in (torch.float32, torch.bfloat16)]
    return [Blocks(*blocks, *shape) for shape in shapes for blocks in ((4, 512, 4), (1, 2048, 8))]


def steps(blocks: int, tokens: int, precision: str) -> dict[str, float]:
    """Milliseconds a token of steps of LoRA on packed chats: every other one masked, and their ratio."""
    import tempfile
    from dataclasses import replace
    from pathlib import Path

    import transformers
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    from core.training import attention_kernels, training_loop
    from tests import bench_train

    taken, train = {"masked": [], "one by one": []}, transformers.Trainer.training_step

    def step(trainer, model, inputs, *args, **kwargs):
        masked = trainer.state.global_step % 2 == 0
        if masked:
            AttentionInterface.register("sdpa", sdpa_attention_forward)
        else:
            attention_kernels.attend_by_document()
        began = time.perf_counter()
        loss = train(trainer, model, inputs, *args, **kwargs)
        each = 1000 * (time.perf_counter() - began) / inputs["input_ids"].numel()
        taken["masked" if masked else "one by one"].append(each)
        return loss

    transformers.Trainer.training_step = step
    try:
        with tempfile.TemporaryDirectory(prefix="bench-attention-") as scratch:
            folder = Path(scratch) / "starter"
            bench_train.make("starter", folder, 96)
            config = bench_train.Job("", "ours", packing=True, max_length=tokens).config(folder)
            many = {"batch_size": blocks, "max_steps": 2 * REPEATS, "precision": precision}
            training_loop.train(replace(config, **many), folder / "out", report=lambda *_, **__: None)
    finally:
        transformers.Trainer.training_step = train
    middle = {name: round(statistics.median(each[1:]), 3) for name, each in taken.items()}  # the first one is slow
    return middle | {"ratio": round(middle["masked"] / middle["one by one"], 2)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench_attention", description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    parser.add_argument("--steps", action="store_true", help="whole steps of the starter model on a processor")
    arguments = parser.parse_args()
    if arguments.steps:
        for blocks, tokens in ((4, 512), (1, 2048)):
            for precision in ("fp32", "bf16"):
                print(
                    json.dumps(
                        {"block": f"{blocks} x {tokens}", "precision": precision} | steps(blocks, tokens, precision)
                    )
                )
        return
    until = time.monotonic() + MINUTES * 60
    found = {given.name: measure(given, until) for given in cases()}
    if arguments.json:
        print(json.dumps(found))
        return
    print(
        torch.cuda.get_device_name() if torch.cuda.is_available() else f"processor, {torch.get_num_threads()} threads"
    )
    print("\n| ms | " + " | ".join(KERNELS) + " |\n|---" + "|---" * len(KERNELS) + "|")
    for name, row in found.items():
        print(f"| {name} | " + " | ".join(str(row[kernel]) for kernel in KERNELS) + " |")


if __name__ == "__main__":
    main()
