"""Linear attention in sizes: the gated delta rule as transformers writes it in PyTorch, where no kernel of its own is there.

After Qwen3_5GatedDeltaNet and torch_chunk_gated_delta_rule: nearly all of it in fp32, and the scan keeps a state for every
chunk of CHUNK tokens. Of a scan the first two chunks and the last two are walked through, and the others counted.
"""

from core.estimate.operations import SINGLE, activate, add, cast, multiply, rms_norm, scale, unary
from core.estimate.setup import Setup
from core.estimate.shape import ModelShape
from core.estimate.size_autograd import Tape, Tensor, Weight

CHUNK = 64  # tokens
GATES = 8  # numbers in fp32 for a token and head: decay and learning rate with what their gradients need
FORWARD, BACKWARD = 16, 45  # kernels of one chunk of the scan


def attention(tape: Tape, shape: ModelShape, setup: Setup, linear: dict, norm: Weight, x: Tensor) -> Tensor:
    """What stands in a layer of linear attention where others have softmax attention."""
    tokens = x.numel // shape.hidden
    mixed, z = linear["in_proj_qkv"](tape, x), linear["in_proj_z"](tape, x)
    both = add(tape, linear["in_proj_b"](tape, x), linear["in_proj_a"](tape, x))
    gates = _like(tape, both, GATES * tokens * shape.linear_value_heads, SINGLE)
    keys, values = shape.linear_keys, shape.linear_values
    mixed = _convolve(tape, mixed, shape, setup)
    q, k, v = (_part(tape, mixed, tokens * width) for width in (keys, keys, values))
    del mixed
    out = _delta_rule(tape, q, k, v, gates, shape, setup)
    del q, k, v, gates
    out = rms_norm(tape, out, norm, tokens * shape.linear_value_heads)
    gated = multiply(tape, out, activate(tape, cast(tape, z, SINGLE)))
    return linear["out_proj"](tape, cast(tape, gated, z.width))


def _convolve(tape: Tape, x: Tensor, shape: ModelShape, setup: Setup) -> Tensor:
    """A causal convolution of each channel over a few tokens, then SiLU."""
    if setup.autocast:
        x = cast(tape, cast(tape, x, setup.weight_width), setup.half)
    channels = 2 * shape.linear_keys + shape.linear_values
    padded = x.numel + setup.sequences * (shape.linear_kernel - 1) * channels
    out = tape.new(padded, x.width)
    tape.work(moved=x.size + out.size, launches=2)
    out = unary(tape, x, out, (x,))
    return activate(tape, unary(tape, out, Tensor(x.numel, x.width, out.storage), enters=False))


def _delta_rule(tape: Tape, q: Tensor, k: Tensor, v: Tensor, gates: Tensor, shape: ModelShape, setup: Setup) -> Tensor:
    heads, before = shape.linear_value_heads, q.width
    padded = setup.sequences * -(-setup.max_length // CHUNK) * CHUNK
    tokens, keys, values = setup.tokens * heads, padded * heads * shape.linear_key_dim, padded * shape.linear_values
    if shape.linear_key_heads != heads:
        q, k = (_like(tape, part, tokens * shape.linear_key_dim, before) for part in (q, k))
    q, k, v = (_like(tape, part, part.numel, SINGLE) for part in (q, k, v))
    q, k = scale(tape, _unit_length(tape, q, tokens)), _unit_length(tape, k, tokens)
    q, k = (_like(tape, part, keys, SINGLE) for part in (q, k))
    v = _like(tape, v, values, SINGLE)
    v_beta, k_beta = _by_gate(tape, v), _by_gate(tape, k)
    squares = padded * heads * CHUNK
    decay = _pairwise(tape, gates, squares)
    system = multiply(tape, _product(tape, k_beta, k, squares, setup, squares // CHUNK**2), decay)
    within = multiply(tape, _product(tape, q, k, squares, setup, squares // CHUNK**2), decay)
    decayed = _by_gate(tape, k_beta)
    new_values, reads = _solve(tape, system, v_beta), _solve(tape, system, decayed)
    q, k = _by_gate(tape, q), _by_gate(tape, k)
    out = _scan(tape, (new_values, reads, q, k, within), shape, setup)
    return _like(tape, out, setup.tokens * shape.linear_values, before)


def _scan(tape: Tape, parts: tuple, shape: ModelShape, setup: Setup) -> Tensor:
    """Chunk after chunk reads the state that those before it have left, and adds to it."""
    new_values, reads, q, k, within = parts
    length = -(-setup.max_length // CHUNK)
    rows = setup.sequences * shape.linear_value_heads
    chunk, state = rows * CHUNK * shape.linear_value_dim, rows * shape.linear_key_dim * shape.linear_value_dim
    out, held = tape.new(new_values.numel, SINGLE), tape.new(state, SINGLE)
    alive = tape.meter.alive
    for at in range(min(length, 4)):
        if at == 2:
            held = _left_out(tape, held, (tape.meter.alive - alive) * (length - 4), length - 4)
        alive = tape.meter.alive
        seen = _product(tape, _part(tape, reads, reads.numel // length), held, chunk, setup, rows)
        fresh = add(tape, _part(tape, new_values, chunk), seen)
        before = _product(tape, _part(tape, q, q.numel // length), held, chunk, setup, rows)
        here = add(tape, before, _product(tape, _part(tape, within, within.numel // length), fresh, chunk, setup, rows))
        out = _write(tape, out, here)
        kept = unary(tape, held, tape.new(state, SINGLE), (held,))
        held = add(tape, kept, _product(tape, _part(tape, k, k.numel // length), fresh, state, setup, rows))
        del seen, before, here, kept
    return out


def _left_out(tape: Tape, held: Tensor, size: int, chunks: int) -> Tensor:
    """The state after chunks that are not walked through, with the bytes that they keep and the time that they take."""
    tape.work(launches=FORWARD * chunks)
    if not tape.wants(held) or chunks <= 0:
        return held

    def rule(g, _):
        tape.work(launches=BACKWARD * chunks)
        return (g,)

    return tape.track(Tensor(held.numel, SINGLE, held.storage), (held,), (tape.scratch(max(0, size)),), rule)


def _like(tape: Tape, x: Tensor, numel: int, width: int) -> Tensor:
    """A copy in another form: repeated, padded, turned round or cast."""
    out = tape.new(numel, width)
    tape.work(moved=x.size + out.size)
    return unary(tape, x, out)


def _part(tape: Tape, x: Tensor, numel: int) -> Tensor:
    """A view of a part, whose gradient is as large as the whole."""
    return unary(tape, x, Tensor(numel, x.width, x.storage))


def _unit_length(tape: Tape, x: Tensor, rows: int) -> Tensor:
    squares, inverse = tape.new(x.numel, x.width), tape.new(rows, x.width)
    del squares
    out = tape.new(x.numel, x.width)
    tape.work(moved=5 * x.size, launches=4)

    def rule(g, kept):
        through = tape.new(g.numel, g.width), tape.new(g.numel, g.width)
        tape.work(moved=12 * g.size, launches=8)
        return through[:1]

    return tape.track(out, (x,), (x, inverse), rule) if tape.wants(x) else out


def _by_gate(tape: Tape, x: Tensor) -> Tensor:
    """Times a number for each token and head, which has a gradient too."""
    out = tape.new(x.numel, x.width)
    tape.work(moved=2 * x.size)

    def rule(g, kept):
        back, product = tape.new(g.numel, g.width), tape.new(g.numel, g.width)
        tape.work(moved=6 * g.size, launches=3)
        del product
        return (back,)

    return tape.track(out, (x,), (x,), rule) if tape.wants(x) else out


def _pairwise(tape: Tape, gates: Tensor, squares: int) -> Tensor:
    """The decay from each token of a chunk to each: a difference, a mask, an exponential, which keeps its result."""
    difference = tape.new(squares, SINGLE)
    masked = tape.new(squares, SINGLE)
    del difference
    out = tape.new(squares, SINGLE)
    tape.work(moved=6 * out.size, launches=4)
    del masked

    def rule(g, kept):
        back = tape.new(g.numel, SINGLE), tape.new(g.numel, SINGLE)
        tape.work(moved=9 * g.size, launches=5)
        del back
        return (tape.new(gates_numel, SINGLE),)

    gates_numel = gates.numel
    return tape.track(out, (gates,), (out,), rule) if tape.wants(gates) else out


def _product(tape: Tape, a: Tensor, b: Tensor, numel: int, setup: Setup, rows: int) -> Tensor:
    """A batch of small matrix products, which keeps both; under autocast copies of both."""
    width = setup.half if setup.autocast else max(a.width, b.width)
    a, b = cast(tape, a, width), cast(tape, b, width)
    out = tape.new(numel, width)
    flops = 2 * (a.numel * b.numel * numel / rows) ** 0.5  # of a batch of (m, k) by (k, n)
    tape.work(flops, width, a.size + b.size + out.size, attends="scores")
    wanted, sizes = (tape.wants(a), tape.wants(b)), (a.numel, b.numel)
    if not any(wanted):
        return out

    def rule(g, kept):
        tape.work(2 * flops, width, 2 * g.size, attends="scores", launches=2)
        return tuple(tape.new(size, width) if want else None for size, want in zip(sizes, wanted, strict=True))

    return tape.track(out, (a, b), (b if wanted[0] else None, a if wanted[1] else None), rule)


def _solve(tape: Tape, system: Tensor, x: Tensor) -> Tensor:
    """A triangular system, solved: keeps itself and the solution."""
    out = tape.new(x.numel, SINGLE)
    tape.work(x.numel * CHUNK, SINGLE, system.size + 2 * out.size)
    if not tape.wants(system, x):
        return out
    sizes = system.numel, x.numel

    def rule(g, kept):
        back = tape.new(sizes[1], SINGLE)
        whole = tape.new(sizes[0], SINGLE)
        ahead = tape.new(sizes[0], SINGLE)
        del whole
        tape.work(3 * sizes[1] * CHUNK, SINGLE, 3 * back.size, launches=4)
        return ahead, back

    return tape.track(out, (system, x), (system, out), rule)


def _write(tape: Tape, out: Tensor, part: Tensor) -> Tensor:
    """Put a part into the whole, in place; backwards the whole gradient is copied for each part."""
    tape.work(moved=2 * part.size)
    after = Tensor(out.numel, SINGLE, out.storage)
    if not tape.wants(out, part):
        return after
    numel, width = part.numel, part.width

    def rule(g, kept):
        whole, mine = tape.new(g.numel, SINGLE), tape.new(numel, SINGLE)
        tape.work(moved=2 * whole.size, launches=3)
        return whole, cast(tape, mine, width)

    return tape.track(after, (out, part), (), rule)
