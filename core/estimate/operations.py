"""The operations of decoder layers in sizes: what each keeps for its gradient and what it needs meanwhile.

Every rule follows PyTorch's derivatives.yaml and kernels as they are run on a card; the trace (trace.py), which runs
the real modules, agrees with them to a few thousandths.
"""

from core.estimate.size_autograd import Tape, Tensor, Weight

SINGLE = 4  # bytes of an element in fp32


def unary(tape: Tape, x: Tensor, out: Tensor, saved: tuple = (), *, enters: bool = True) -> Tensor:
    """Let `out` be a function of x alone: its gradient is a new tensor of x's size, by a kernel that reads the gradient
    and the tensors that were saved; `enters`: this kernel counts in the time."""
    if not tape.wants(x):
        return out
    numel, width = x.numel, x.width

    def rule(g, kept):
        back = tape.new(numel, width)
        if enters:
            tape.work(moved=back.size + g.size + sum(t.size for t in kept if type(t) is Tensor))
        return (back,)

    return tape.track(out, (x,), saved, rule)


def _new(tape: Tape, numel: int, width: int, *read) -> Tensor:
    """The result of one kernel that reads these tensors."""
    out = tape.new(numel, width)
    tape.work(moved=out.size + sum(t.size for t in read))
    return out


def cast(tape: Tape, x: Tensor, width: int) -> Tensor:
    """The tensor in another width; itself, if it has it already."""
    return x if x.width == width else unary(tape, x, _new(tape, x.numel, width, x))


def scale(tape: Tape, x: Tensor) -> Tensor:
    """Times a number."""
    return unary(tape, x, _new(tape, x.numel, x.width, x))


def tanh(tape: Tape, x: Tensor) -> Tensor:
    """Keeps its result."""
    out = _new(tape, x.numel, x.width, x)
    return unary(tape, x, out, (out,), enters=False)


def copy(tape: Tape, x: Tensor) -> Tensor:
    """A contiguous copy; its gradient passes as it is."""
    out = _new(tape, x.numel, x.width, x)
    return tape.track(out, (x,), (), lambda g, _: (g,)) if tape.wants(x) else out


def add(tape: Tape, x: Tensor, y: Tensor) -> Tensor:
    """The sum; the wider type wins, and each gradient goes back in its own."""
    out = _new(tape, x.numel, max(x.width, y.width), x, y)
    if not tape.wants(x, y):
        return out
    widths = (x.width, y.width)

    def rule(g, _):
        return tuple(g if width == g.width else _new(tape, g.numel, width, g) for width in widths)

    return tape.track(out, (x, y), (), rule)


def multiply(tape: Tape, x: Tensor, y: Tensor) -> Tensor:
    """The elementwise product of two activations of one size."""
    out = _new(tape, x.numel, max(x.width, y.width), x, y)
    wanted = (tape.wants(x), tape.wants(y))
    if not any(wanted):
        return out
    numel, widths = x.numel, (x.width, y.width)
    saved = (y if wanted[0] else None, x if wanted[1] else None)

    def rule(g, kept):
        return tuple(_new(tape, numel, w, g, k) if k is not None else None for k, w in zip(kept, widths, strict=True))

    return tape.track(out, (x, y), saved, rule)


def activate(tape: Tape, x: Tensor) -> Tensor:
    """SiLU or GELU: keeps its input."""
    return unary(tape, x, _new(tape, x.numel, x.width, x), (x,))


def dropout(tape: Tape, x: Tensor, probability: float) -> Tensor:
    """Fused dropout: keeps a mask of one byte for an element."""
    if not probability:
        return x
    out, mask = tape.new(x.numel, x.width), tape.scratch(x.numel)
    tape.work(moved=2 * x.size + x.numel)
    return unary(tape, x, out, (mask,))


def matmul(tape: Tape, x: Tensor, weight: Weight, inner: int, outer: int, autocast: int = 0) -> Tensor:
    """x (T, inner) by a weight (inner, outer). Keeps x only if the weight is trained; under autocast both are cast."""
    width = autocast or x.width
    if autocast:
        x = cast(tape, x, autocast)
    tokens = x.numel // inner
    kernel = autocast_weight(tape, weight, autocast) if autocast and weight.width != autocast else None
    out = tape.new(tokens * outer, width)
    flops = 2 * tokens * inner * outer
    tape.work(flops=flops, width=width, moved=x.size + inner * outer * width + out.size)
    trains = tape.wants(weight)
    if not (trains or tape.wants(x)):
        return out
    x_wanted, numel = tape.wants(x), x.numel

    def rule(g, kept):
        back = ahead = None
        if x_wanted:
            back = tape.new(numel, width)
            tape.work(flops, width, g.size + back.size + inner * outer * width)
        if trains:
            ahead = tape.new(inner * outer, width)
            tape.work(flops, width, g.size + kept[0].size + ahead.size)
        return back, ahead

    saved = (x if trains else None, kernel if x_wanted else None)
    return tape.track(out, (x, kernel if kernel is not None else weight), saved, rule)


def autocast_weight(tape: Tape, weight: Weight, width: int) -> Tensor:
    """Autocast's copy of a weight: one for the whole pass if the weight is trained, else one for every use."""
    known = tape.casts.get(id(weight))
    if known is not None:
        return known
    out = _new(tape, weight.numel, width)
    if weight.trains:
        numel, before = weight.numel, weight.width
        out = tape.track(out, (weight,), (), lambda g, _: (_new(tape, numel, before, g),))
        tape.casts[id(weight)] = out
    return out


def matmul_4bit(
    tape: Tape, x: Tensor, inner: int, outer: int, compute: int, unpacks: bool, launches: int = 2
) -> Tensor:
    """bitsandbytes: the weight is unpacked to 16 bit for the product, again in the backward pass; x is never kept.

    `launches` are what the host needs to unpack it: a kernel and the Python around it, and for packed scales two more.
    """
    before = x.width
    x = cast(tape, x, compute)
    tokens = x.numel // inner
    unpacked = tape.scratch(inner * outer * compute) if unpacks else None
    out = tape.new(tokens * outer, compute)
    flops, packed = 2 * tokens * inner * outer, int(0.52 * inner * outer)
    tape.work(moved=packed + inner * outer * compute, launches=launches, unpacks=True)
    tape.work(flops, compute, x.size + out.size + inner * outer * compute)
    del unpacked
    if tape.wants(x):
        numel = x.numel

        def rule(g, _):
            kernel = tape.scratch(inner * outer * compute)
            if g.width != compute:
                kernel = tape.scratch(inner * outer * g.width)
            tape.work(moved=packed + inner * outer * compute, launches=launches, unpacks=True)
            back = tape.new(numel, g.width)
            tape.work(flops, g.width, g.size + back.size + inner * outer * g.width)
            del kernel
            return (back,)

        out = tape.track(out, (x,), (), rule)
    return cast(tape, out, before)


def rms_norm(tape: Tape, x: Tensor, weight: Weight, rows: int, *, gemma: bool = False, fused: bool = False) -> Tensor:
    """LlamaRMSNorm, or Gemma's: in fp32 whatever comes in; `rows` are the vectors that are normalised."""
    if fused:
        return fused_norm(tape, x, weight, rows)
    before = x.width
    wide = cast(tape, x, SINGLE)
    squares = tape.new(wide.numel, SINGLE)
    inverse = tape.new(rows, SINGLE)
    tape.work(moved=3 * wide.size, launches=4)
    del squares
    out = tape.new(wide.numel, SINGLE)
    tape.work(moved=2 * wide.size)
    if tape.wants(x):
        out = tape.track(out, (wide,), (wide, inverse), lambda g, kept: (_norm_gradient(tape, g, kept[0]),))
    if gemma:
        return cast(tape, weigh(tape, out, weight, SINGLE), before)
    out = cast(tape, out, before)
    del wide, inverse
    return weigh(tape, out, weight, max(before, weight.width))


def fused_norm(tape: Tape, x: Tensor, weight: Weight, rows: int) -> Tensor:
    """Liger's RMSNorm: one kernel, which keeps its input and a number for a row; its gradient overwrites the one that comes."""
    out, inverse = _new(tape, x.numel, x.width, x), tape.new(rows, SINGLE)
    if not tape.wants(x, weight):
        return out
    trains = tape.wants(weight)

    def rule(g, kept):
        tape.work(moved=2 * g.size + kept[0].size)
        return g, tape.new(weight.numel, weight.width) if trains else None

    return tape.track(out, (x, weight), (x, inverse), rule)


def fused_multiply(tape: Tape, gate: Tensor, up: Tensor) -> Tensor:
    """Liger's SwiGLU: SiLU and product in one kernel; their gradients overwrite the two that it kept."""
    out = _new(tape, gate.numel, gate.width, gate, up)
    if not tape.wants(gate, up):
        return out

    def rule(g, kept):
        tape.work(moved=g.size + 2 * sum(t.size for t in kept))
        return kept

    return tape.track(out, (gate, up), (gate, up), rule)


def fused_rope(tape: Tape, x: Tensor) -> Tensor:
    """Liger's rotary positions: in place, forwards and backwards."""
    tape.work(moved=2 * x.size)
    if not tape.wants(x):
        return x
    out = Tensor(x.numel, x.width, x.storage)

    def rule(g, _):
        tape.work(moved=2 * g.size)
        return (g,)

    return tape.track(out, (x,), (), rule)


def _norm_gradient(tape: Tape, g: Tensor, wide: Tensor) -> Tensor:
    # One gradient through the product, one through the mean of squares; pow's own derivative needs two more copies.
    direct = tape.new(wide.numel, SINGLE)
    product = tape.new(wide.numel, SINGLE)
    del product
    spread = tape.new(wide.numel, SINGLE)
    once = tape.new(wide.numel, SINGLE)
    twice = tape.new(wide.numel, SINGLE)
    del once
    through = tape.new(wide.numel, SINGLE)
    del spread, twice, through
    tape.work(moved=17 * wide.size, launches=14)
    return direct


def weigh(tape: Tape, x: Tensor, weight: Weight, width: int) -> Tensor:
    """The product with one weight for a channel."""
    out = tape.new(x.numel, width)
    tape.work(moved=x.size + out.size)
    if not tape.wants(x, weight):
        return out
    x_wanted, trains, before = tape.wants(x), tape.wants(weight), x.width

    def rule(g, kept):
        back = _new(tape, g.numel, before, g) if x_wanted else None
        ahead = None
        if trains:
            product = _new(tape, g.numel, width, g, kept[0])
            ahead = tape.new(weight.numel, weight.width)
            del product
        return back, ahead

    return tape.track(out, (x, weight), (x if trains else None,), rule)


def rope(tape: Tape, x: Tensor, width: int) -> Tensor:
    """Rotary positions in four kernels, x * cos + rotate_half(x) * sin; nothing of x is kept."""
    turned = tape.new(x.numel, width)
    negated = tape.scratch(x.size // 2)
    half = tape.new(x.numel, x.width)
    del negated
    crossed = tape.new(x.numel, width)
    del half
    out = tape.new(x.numel, width)
    tape.work(moved=5 * x.size + 4 * out.size, launches=5)
    del turned, crossed
    if not tape.wants(x):
        return out
    numel, before = x.numel, x.width

    def rule(g, _):
        crossed = tape.new(numel, before)
        low, high = tape.new(numel, before), tape.new(numel, before)
        del crossed, high
        direct = tape.new(numel, before)
        del low
        tape.work(moved=10 * direct.size, launches=9)
        return (direct,)

    return tape.track(out, (x,), (), rule)
