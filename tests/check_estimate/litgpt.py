"""A step of litgpt in sizes: its own model code, weights and adapters of 16 bit, no gradient checkpoints.

Written as lit_gpt/model.py and lit_gpt/lora.py are. Fabric turns the logits into fp32; the loss is taken in chunks of 128
tokens, so that its gradients are never whole. bitsandbytes before 0.43 kept the input of every product in 4 bit.
"""

from dataclasses import replace

from core.estimate.layer import Linear
from core.estimate.loss import cross_entropy
from core.estimate.memory import CUBLAS, NF4, residents
from core.estimate.operations import SINGLE, activate, add, cast, dropout, matmul, multiply, scale, unary
from core.estimate.setup import Setup, for_method, targets
from core.estimate.shape import ModelShape
from core.estimate.size_autograd import Meter, Tape, Tensor, Weight
from tests.check_estimate.cells import LeftOut, Unanswerable

# Of models that are in no catalogue: config.json of transformers, or what it amounts to.
NEOX = {"layer_norm": True, "gated": False, "qkv_bias": True, "o_bias": True, "mlp_bias": True}
STABLELM = ModelShape("StableLM Alpha 3B", "neox", 4096, 16, 32, 32, 128, 16384, 50688, False, **NEOX)
SHAPES = {
    "stablelm alpha 3b": STABLELM,
    "stablelm-base-alpha-3b": STABLELM,
    "phi-1.5 1.3b": ModelShape("phi-1.5", "phi", 2048, 24, 32, 32, 64, 8192, 51200, False, one_norm=True, **NEOX),
    "phi-2": ModelShape("phi-2", "phi", 2560, 32, 32, 32, 80, 10240, 51200, False, one_norm=True, **NEOX),
    "falcon-7b": ModelShape(
        "falcon-7b", "falcon", 4544, 32, 71, 1, 64, 18176, 65024, True, layer_norm=True, gated=False, one_norm=True
    ),
    "gemma-2b": ModelShape("gemma-2b", "gemma", 2048, 18, 8, 1, 256, 16384, 256000, True, gemma=True),
}
CHUNK = 128  # tokens of the head and the loss at a time
DROPOUT = 0.05
ATTENTION = ("q_proj", "k_proj", "v_proj")


class Product(Linear):
    """A linear layer as LoRALinear runs it; frozen, or in 4 bit."""

    def __init__(self, setup: Setup, ends: tuple[int, int], adapted: bool):
        super().__init__(setup, ends, adapted, [])

    def base(self, tape: Tape, x: Tensor) -> Tensor:
        if not self.packed:
            return self._base(tape, x)
        self._unpack(tape)

        def rule(g, _):
            self._unpack(tape)
            return (g,)

        out = self._base(tape, x)
        return tape.track(out, (out,), (x,), rule) if tape.wants(x) else out

    def _unpack(self, tape: Tape) -> None:
        """Lightning packs what it turned into fp16: unpacked it is that again, and a copy of it is bf16."""
        inner, outer = self.ends
        both = tape.scratch(2 * inner * outer), tape.scratch(2 * inner * outer)
        del both

    def __call__(self, tape: Tape, x: Tensor) -> Tensor:
        out = self.base(tape, x)
        if self.lora is None:
            return out
        (inner, outer), (down, up) = self.ends, self.lora
        y = matmul(tape, dropout(tape, x, DROPOUT), down, inner, self.setup.lora_rank)
        return add(tape, out, scale(tape, matmul(tape, y, up, self.setup.lora_rank, outer)))


class Layer:
    """One block."""

    def __init__(self, shape: ModelShape, setup: Setup):
        self.shape, self.setup = shape, setup
        adapted = targets(setup, shape)
        self.enabled = [name for name in ATTENTION if name in adapted]
        wide = shape.q + 2 * shape.kv
        self.qkv = Product(setup, (shape.hidden, wide), False)
        self.linear = {
            name: Product(setup, ends, name in adapted)
            for name, ends in shape.linears().items()
            if name not in ATTENTION
        }

    def __call__(self, tape: Tape, x: Tensor) -> Tensor:
        shape = self.shape
        normed = norm(tape, x, shape)
        attended = self._attention(tape, normed)
        if shape.layer_norm:  # attention and MLP side by side
            inner = normed if shape.one_norm else norm(tape, x, shape)
            del normed
            return add(tape, add(tape, self._mlp(tape, inner), attended), x)
        del normed
        if shape.sandwich:
            attended = norm(tape, attended, shape)
        x = add(tape, attended, x)
        out = self._mlp(tape, norm(tape, x, shape))
        return add(tape, norm(tape, out, shape) if shape.sandwich else out, x)

    def _merged(self, tape: Tape, x: Tensor) -> Tensor:
        """q, k and v by one product; the adapters' part is put into zeros at their places, and is kept for it."""
        out, shape, rank = self.qkv.base(tape, x), self.shape, self.setup.lora_rank
        if not self.enabled:
            return out
        sizes = {"q_proj": shape.q, "k_proj": shape.kv, "v_proj": shape.kv}
        wide, tokens = sum(sizes[name] for name in self.enabled), x.numel // shape.hidden
        down = Weight(shape.hidden * rank * len(self.enabled), x.width, True)
        y = matmul(tape, dropout(tape, x, DROPOUT), down, shape.hidden, rank * len(self.enabled))
        made = tape.new(tokens * wide, x.width)
        up = Weight(wide * rank, x.width, True)
        numel, weight = y.numel, (up.numel, up.width)
        made = tape.track(
            made, (y, up), (y,), lambda g, _: (tape.new(numel, g.width), tape.new(*weight))
        )  # a grouped convolution
        if len(self.enabled) < len(ATTENTION):
            made = unary(tape, made, tape.new(out.numel, out.width), (made,), enters=False)
        return add(tape, out, scale(tape, made))

    def _attention(self, tape: Tape, x: Tensor) -> Tensor:
        shape = self.shape
        qkv = self._merged(tape, x)
        del x
        tokens = qkv.numel // (shape.q + 2 * shape.kv)
        full = tokens * shape.q
        q, k = (unary(tape, qkv, tape.new(full, qkv.width), enters=False) for _ in range(2))
        grouped = shape.kv_heads < shape.heads
        # v of heads of their own is a view: it keeps q and k as they were before their positions.
        storage = tape.new(full, qkv.width).storage if grouped else qkv.storage
        v = unary(tape, qkv, Tensor(full, qkv.width, storage), enters=False)
        width = qkv.width
        del qkv, storage
        out, sums = tape.new(full, width), tape.new(tokens * shape.heads, SINGLE)

        def rule(g, _):
            gathered = tape.new(full, SINGLE)
            made = tuple(tape.new(full, g.width) for _ in range(3))
            del gathered
            return made

        out = tape.track(out, (q, k, v), (q, k, v, out, sums), rule)
        return self.linear["o_proj"](tape, out)

    def _mlp(self, tape: Tape, x: Tensor) -> Tensor:
        if not self.shape.gated:
            return self.linear["down_proj"](tape, activate(tape, self.linear["up_proj"](tape, x)))
        gate, up = (self.linear[name](tape, x) for name in ("gate_proj", "up_proj"))
        del x
        gate = activate(tape, gate)
        product = multiply(tape, gate, up)
        del gate, up
        return self.linear["down_proj"](tape, product)


def norm(tape: Tape, x: Tensor, shape: ModelShape) -> Tensor:
    """A LayerNorm keeps its input; the RMSNorm is made in fp32 and keeps that."""
    if shape.layer_norm:
        return unary(tape, x, tape.new(x.numel, x.width), (x,), enters=False)
    before = x.width
    wide = cast(tape, x, SINGLE)
    squares = tape.new(wide.numel, SINGLE)
    del squares
    return cast(tape, unary(tape, wide, tape.new(wide.numel, SINGLE), (wide,), enters=False), before)


def check(shape: ModelShape, setup: Setup, measured: float, *, longest_first: bool) -> None:
    """Leave out what this does not follow.

    Raises:
        LeftOut, Unanswerable: with the reason.
    """
    if setup.method == "full" and measured < sum(residents(shape, for_method(setup)).values()):
        raise Unanswerable("less memory than the weights, gradients and optimizer states that it names")
    if setup.method == "full":
        raise LeftOut("litgpt's full training is not modelled")
    if setup.method == "qlora" and not longest_first:
        # Its loop holds the logits before until there are new ones, and by them all inputs of products in 4 bit.
        raise Unanswerable("the length of the batch before the longest one is not published")
    if setup.autocast or setup.gradient_checkpointing or shape.softcap:
        raise LeftOut("litgpt's autocast, checkpoints and capped logits are not modelled")


def allocated(shape: ModelShape, setup: Setup) -> float:
    """Peak of a step of LoRA or QLoRA; the head is a matrix of its own, in 4 bit too."""
    shape = replace(shape, tied=False, fused=False)
    tape = Tape(Meter())
    hidden = tape.new(setup.tokens * shape.hidden, 2)
    for _ in range(shape.layers):
        hidden = Layer(shape, setup)(tape, hidden)
    hidden = norm(tape, hidden, shape)
    loss, logits = _loss(tape, hidden, shape, setup)
    del hidden
    tape.backward(loss)
    del logits
    trained = shape.lora_parameters(setup.lora_rank, targets(setup, shape))
    linear = shape.linear_parameters + shape.embedding
    packed = NF4[setup.double_quant] if setup.method == "qlora" else 2
    resident = linear * packed + (shape.parameters - linear) * 2
    return resident + trained * (2 + 2 + 4) + tape.meter.peak + CUBLAS


def _loss(tape: Tape, hidden: Tensor, shape: ModelShape, setup: Setup) -> tuple[Tensor, list[Tensor]]:
    """The loss, and the logits, which the loop's own name holds until the backward pass is over."""
    head, all_logits, losses = Product(setup, (shape.hidden, shape.vocabulary), False), [], []
    left = setup.tokens
    while left > 0:
        rows = min(CHUNK * setup.sequences, left)
        part = unary(tape, hidden, Tensor(rows * shape.hidden, hidden.width, hidden.storage), enters=False)
        logits = cast(tape, head.base(tape, part), SINGLE)
        losses.append(cross_entropy(tape, logits))
        all_logits.append(logits)
        del part, logits
        left -= rows
    loss = tape.new(1, SINGLE)
    loss = tape.track(loss, tuple(losses), (), lambda g, _: tuple(tape.new(1, SINGLE) for _ in losses))
    return loss, all_logits
