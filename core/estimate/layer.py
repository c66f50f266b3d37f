"""A decoder model's step in sizes, written as transformers and peft write it: the same calls, the same references kept.

The functions keep local names alive exactly where the real ones do (an argument lives until its call returns), because
that decides the peak. One layer of each kind is enough: memory.py adds up the rest.
"""

from core.estimate import delta_net
from core.estimate.operations import (
    SINGLE,
    activate,
    add,
    cast,
    copy,
    dropout,
    fused_multiply,
    fused_rope,
    matmul,
    matmul_4bit,
    multiply,
    rms_norm,
    rope,
    scale,
    tanh,
    unary,
)
from core.estimate.setup import Setup, targets
from core.estimate.shape import FULL, LINEAR, ModelShape
from core.estimate.size_autograd import Tape, Tensor, Weight

PACKED = 0.52  # bytes of a weight in 4 bit with its scales
UNPACKED_FROM = 64  # rows; below, bitsandbytes multiplies the packed weight directly


class Linear:
    """One linear layer with what the setup makes of it: frozen, trained, in 4 bit, with an adapter."""

    def __init__(self, setup: Setup, ends: tuple[int, int], adapted: bool, trained: list[Weight]):
        self.setup, self.ends = setup, ends
        inner, outer = ends
        self.packed = setup.method == "qlora"
        trains = setup.method == "full"
        self.weight = Weight(inner * outer, setup.weight_width, trains)
        self.lora = None
        if adapted:
            rank, width = setup.lora_rank, setup.adapter_width
            self.lora = (Weight(inner * rank, width, True), Weight(rank * outer, width, True))
            trained += self.lora
        if trains:
            trained.append(self.weight)

    def __call__(self, tape: Tape, x: Tensor) -> Tensor:
        result = self._base(tape, x)
        if self.lora is None:
            return result
        setup, before, autocast = self.setup, result.width, self.setup.autocast_width
        if self.packed:
            result = copy(tape, result)
        if not (self.packed and autocast):
            x = cast(tape, x, setup.adapter_width)
        inner, outer = self.ends
        down, up = self.lora
        y = matmul(tape, dropout(tape, x, setup.lora_dropout), down, inner, setup.lora_rank, autocast)
        y = scale(tape, matmul(tape, y, up, setup.lora_rank, outer, autocast))
        if self.packed:
            y = cast(tape, y, before) if not autocast else y
            return add(tape, result, y)
        result = add(tape, result, y)
        return cast(tape, result, before)

    def _base(self, tape: Tape, x: Tensor) -> Tensor:
        setup, (inner, outer) = self.setup, self.ends
        if self.packed:
            unpacks, launches = x.numel // inner >= UNPACKED_FROM, 4 if setup.double_quant else 2
            return matmul_4bit(tape, x, inner, outer, setup.half, unpacks, launches)
        return matmul(tape, x, self.weight, inner, outer, setup.autocast_width)


class Layer:
    """One decoder layer: modules made once, called for each pass."""

    def __init__(self, shape: ModelShape, setup: Setup, kind: str = FULL):
        self.shape, self.setup, self.kind = shape, setup, kind
        self.weights: list[Weight] = []
        adapted = targets(setup, shape) if setup.adapts else ()
        self.linear = {n: Linear(setup, e, n in adapted, self.weights) for n, e in shape.linears(kind).items()}
        trains = setup.method == "full"
        width = SINGLE if setup.kbit_prepare else setup.weight_width
        self.norm = Weight(shape.hidden, width, trains)
        self.head_norm = Weight(shape.head_dim, width, trains)
        if trains:
            bias = shape.small_parameters // shape.layers
            self.weights += [Weight(bias, width, True)]
        if shape.experts:
            self.experts = Weight(shape.expert_parameters // shape.layers, width, trains)
            if trains:
                self.weights.append(self.experts)

    def __call__(self, tape: Tape, x: Tensor) -> Tensor:
        if self.shape.layer_norm:
            return self._parallel_or_plain(tape, x)
        hidden = self._norm(tape, x)
        hidden = self._attention(tape, hidden)
        if self.shape.sandwich:
            hidden = self._norm(tape, hidden)
        hidden = add(tape, x, hidden)
        residual = hidden
        hidden = self._norm(tape, hidden)
        hidden = self._experts(tape, hidden) if self.shape.experts else self._mlp(tape, hidden)
        if self.shape.sandwich:
            hidden = self._norm(tape, hidden)
        return add(tape, residual, hidden)

    def _parallel_or_plain(self, tape: Tape, x: Tensor) -> Tensor:
        hidden = self._layer_norm(tape, x)
        attended = self._attention(tape, hidden)
        if self.shape.one_norm:  # phi: attention and MLP side by side
            return add(tape, add(tape, attended, self._mlp(tape, hidden)), x)
        hidden = add(tape, x, attended)
        residual = hidden
        return add(tape, residual, self._mlp(tape, self._layer_norm(tape, hidden)))

    def _layer_norm(self, tape: Tape, x: Tensor) -> Tensor:
        # One fused kernel: keeps its input and two numbers for a row; under autocast it is made in fp32.
        x = cast(tape, x, SINGLE) if self.setup.autocast else x
        out = tape.new(x.numel, x.width)
        tape.work(moved=2 * x.size)
        return unary(tape, x, out, (x,), enters=False)

    def _norm(self, tape: Tape, x: Tensor) -> Tensor:
        return self._normalise(tape, x, self.norm, x.numel // self.shape.hidden)

    def _normalise(self, tape: Tape, x: Tensor, weight: Weight, rows: int) -> Tensor:
        return rms_norm(tape, x, weight, rows, gemma=self.shape.gemma, fused=self.setup.use_liger_kernel)

    def _attention(self, tape: Tape, hidden: Tensor) -> Tensor:
        shape, setup = self.shape, self.setup
        if self.kind == LINEAR:
            return delta_net.attention(tape, shape, setup, self.linear, self.head_norm, hidden)
        if shape.fused:
            q, k, v = _split(tape, self.linear["qkv_proj"](tape, hidden), (shape.q, shape.kv, shape.kv))
        else:
            q, k, v = (self.linear[name](tape, hidden) for name in ("q_proj", "k_proj", "v_proj"))
        rows, gate = hidden.numel // shape.hidden, None
        if shape.output_gate:
            q, gate = _split(tape, q, (1, 1))
            gate = copy(tape, gate)
        if shape.qk_norm:
            q = self._normalise(tape, q, self.head_norm, rows * shape.heads)
            k = self._normalise(tape, k, self.head_norm, rows * shape.kv_heads)
        if setup.use_liger_kernel:
            q, k = fused_rope(tape, q), fused_rope(tape, k)
        elif shape.kind != "gpt2":
            width = max(q.width, hidden.width)
            q, k = rope(tape, q, width), rope(tape, k, width)
        if setup.attention == "eager" or shape.attention_softcap:
            out = self._eager(tape, q, k, v)
        else:
            out = self._kernel(tape, q, k, v)
        del q, k, v
        if gate is not None:
            out = multiply(tape, out, tanh(tape, gate))  # a sigmoid keeps what tanh does
        return self.linear["o_proj"](tape, out)

    def _kernel(self, tape: Tape, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """FlashAttention and the memory-efficient kernel: keep q, k, v, the result, and one number for a row."""
        shape, setup = self.shape, self.setup
        if setup.autocast:
            q, k, v = (cast(tape, t, setup.half) for t in (q, k, v))
        expands = shape.kv_heads < shape.heads and (setup.memory_efficient or setup.padded_mask)
        if expands:
            k, v = (_repeat(tape, t, q.numel, copied=True) for t in (k, v))
        out = tape.new(q.numel, q.width)
        rows = q.numel // shape.head_dim
        sums = tape.new(rows, SINGLE)
        work = 4 * q.numel * setup.max_length // 2  # two products, half of the square is masked
        kernel = "memory_efficient" if setup.memory_efficient else "flash"
        tape.work(work, q.width, 4 * q.size, attends=kernel)
        if not tape.wants(q, k, v):
            return out
        grouped = shape.kv_heads < shape.heads and not expands
        accumulates = not setup.memory_efficient

        def rule(g, kept):
            q, k, v, _, sums = kept
            row_sums = tape.new(sums.numel, SINGLE)
            gathered = tape.new(q.numel, SINGLE) if accumulates else None
            dq = tape.new(q.numel, q.width)
            wide = (tape.new(q.numel, q.width), tape.new(q.numel, q.width)) if grouped else None
            dk, dv = tape.new(k.numel, k.width), tape.new(v.numel, v.width)
            tape.work(5 * work // 2, q.width, 10 * q.size, attends=kernel)
            del row_sums, gathered, wide
            return dq, dk, dv

        out = tape.track(out, (q, k, v), (q, k, v, out, sums), rule)
        return copy(tape, out) if setup.memory_efficient else out

    def _eager(self, tape: Tape, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The matrix of scores in the open: heads x T x T, three times."""
        shape, setup = self.shape, self.setup
        k, v = (_repeat(tape, t, q.numel, copied=shape.kv_heads < shape.heads) for t in (k, v))
        squares = setup.sequences * shape.heads * setup.max_length**2
        scores = scale(tape, _product(tape, q, k, squares, shape.head_dim, setup))
        if shape.attention_softcap:
            scores = scale(tape, tanh(tape, scale(tape, scores)))
        scores = copy(tape, scores)  # with the mask
        if setup.precision == "bf16":  # only fp16 has the kernel that casts inside
            scores = cast(tape, scores, SINGLE)
        weights = cast(tape, _softmax(tape, scores), q.width)
        del scores
        out = _product(tape, weights, v, q.numel, setup.max_length, setup)
        return copy(tape, out)

    def _mlp(self, tape: Tape, x: Tensor) -> Tensor:
        if self.shape.fused:
            both = self.linear["gate_up_proj"](tape, x)
            gate, up = _split(tape, both, (1, 1))
            fuses = self._fuses_mlp
            product = fused_multiply(tape, gate, up) if fuses else multiply(tape, up, activate(tape, gate))
            return self.linear["down_proj"](tape, product)
        if not self.shape.gated:
            return self.linear["down_proj"](tape, activate(tape, self.linear["up_proj"](tape, x)))
        if self._fuses_mlp:
            gate, up = (self.linear[name](tape, x) for name in ("gate_proj", "up_proj"))
            return self.linear["down_proj"](tape, fused_multiply(tape, gate, up))
        gate = activate(tape, self.linear["gate_proj"](tape, x))
        return self.linear["down_proj"](tape, multiply(tape, gate, self.linear["up_proj"](tape, x)))

    def _unpacked(self, tape: Tape, routed: Tensor) -> Tensor:
        """The time, not the memory, of experts in 4 bit: all are asked in every pass, and unpacked for it."""
        moved = (PACKED + self.setup.half) * self.experts.numel
        tape.work(moved=moved, unpacks=True)
        if not tape.wants(routed):
            return routed
        again = Tensor(routed.numel, routed.width, routed.storage)

        def rule(g, _):
            tape.work(moved=moved, unpacks=True)
            return (g,)

        return tape.track(again, (routed,), (), rule)

    @property
    def _fuses_mlp(self) -> bool:
        return self.setup.use_liger_kernel and self.setup.fused_mlp

    def _experts(self, tape: Tape, x: Tensor) -> Tensor:
        """Routed tokens, as if one expert took them all: sizes add up, however the router shares them out."""
        shape, setup = self.shape, self.setup
        tokens = x.numel // shape.hidden
        routed = tape.new(tokens * shape.experts_used * shape.hidden, x.width)
        tape.work(moved=2 * routed.size, launches=6 * shape.experts)
        routed = unary(tape, x, routed, enters=False)
        autocast, inner = setup.autocast_width, shape.expert_inner
        if setup.packed_experts:
            routed = self._unpacked(tape, routed)
        part = Weight(shape.hidden * 2 * inner, self.experts.width, False)
        both = matmul(tape, routed, part, shape.hidden, 2 * inner, autocast)
        gate, up = _split(tape, both, (1, 1))
        made = multiply(tape, activate(tape, gate), up)
        out = matmul(tape, made, Weight(shape.hidden * inner, part.width, False), inner, shape.hidden, autocast)
        weighted = scale(tape, out)
        joined = unary(tape, weighted, tape.new(x.numel, x.width), enters=False)
        if shape.shared_inner:
            joined = add(tape, joined, self._mlp(tape, x))
        return joined


def _split(tape: Tape, x: Tensor, parts: tuple[int, ...]) -> list[Tensor]:
    """Views of one tensor; the gradient of each is a padded copy of the whole."""
    sizes = [x.numel * part // sum(parts) for part in parts]
    return [unary(tape, x, Tensor(size, x.width, x.storage), enters=False) for size in sizes]


def _repeat(tape: Tape, x: Tensor, numel: int, *, copied: bool) -> Tensor:
    """Grouped heads written out for every head; the gradient is summed back."""
    if not copied:
        return x
    out = tape.new(numel, x.width)
    tape.work(moved=out.size + x.size)
    return unary(tape, x, out, enters=False)


def _product(tape: Tape, a: Tensor, b: Tensor, numel: int, inner: int, setup: Setup) -> Tensor:
    width = max(a.width, b.width)
    if setup.autocast:
        width = setup.half
        a, b = cast(tape, a, width), cast(tape, b, width)
    out = tape.new(numel, width)
    flops = 2 * numel * inner
    tape.work(flops, width, a.size + b.size + out.size, attends="scores")
    if not tape.wants(a, b):
        return out

    def rule(g, kept):
        da, db = tape.new(kept[0].numel, width), tape.new(kept[1].numel, width)
        tape.work(2 * flops, width, 2 * (kept[0].size + kept[1].size + g.size), attends="scores")
        return da, db

    return tape.track(out, (a, b), (a, b), rule)


def _softmax(tape: Tape, scores: Tensor) -> Tensor:
    """In fp32. Scores of fp16 go in as they are: the kernel casts inside, and its gradient comes out in fp16."""
    before = scores.width
    out = tape.new(scores.numel, SINGLE)
    tape.work(moved=scores.size + out.size)
    if not tape.wants(scores):
        return out

    def rule(g, kept):
        product = tape.new(g.numel, SINGLE)  # softmax_backward_cuda_out multiplies gradient and result first
        result = tape.new(g.numel, before)
        tape.work(moved=3 * kept[0].size + result.size, launches=2)
        del product
        return (result,)

    return tape.track(out, (scores,), (out,), rule)
