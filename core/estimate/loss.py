"""The head and the loss in sizes: the term that most calculators leave out.

Five kernels: `logits` is the stock Trainer's (ForCausalLMLoss), `held` the same in a hand-written loop that keeps the
outputs through the backward pass, `half` the same without the cast to fp32 (DeepSpeed's fp16, litgpt), `fused` TRL's
and Liger's (logits never whole), `tiled` that of core/training/cross_entropy.py (tiles of labelled positions: their
gradient at once where the head is not trained, else checkpointed). Three more that only measurements of others use, and
`setup.CHOICES` does not offer: `shifted`, transformers' before 4.49, which copies the shifted fp32 logits; `floated`,
that before 4.45, by then without those in 16 bit; `in_place`, with a kernel that turns the copy into its own gradient.
"""

from core.estimate.operations import SINGLE, cast, matmul, rms_norm, scale, tanh, unary
from core.estimate.setup import Setup
from core.estimate.shape import ModelShape
from core.estimate.size_autograd import Tape, Tensor, Weight
from core.training.config import LOSS_TILE, tile_rows

FUSED_ROWS, FUSED_COLUMNS = 4096, 32768  # trl/kernels, the chunk of its log-probabilities


class Head:
    """Final norm, output matrix and loss."""

    def __init__(self, shape: ModelShape, setup: Setup):
        self.shape, self.setup = shape, setup
        trains = setup.method == "full"
        width = SINGLE if setup.kbit_prepare else setup.weight_width
        self.norm = Weight(shape.hidden, width, trains)
        self.weight = Weight(shape.embedding, setup.saved_width if setup.saves else width, trains or setup.saves)
        self.weights = [w for w in (self.norm, self.weight) if w.trains]

    def __call__(self, tape: Tape, hidden: Tensor) -> tuple[Tensor, list]:
        """The loss, and what the caller keeps until the backward pass is over."""
        shape, setup = self.shape, self.setup
        fused = setup.use_liger_kernel
        hidden = rms_norm(tape, hidden, self.norm, setup.tokens, gemma=shape.gemma, fused=fused)
        kind = "logits" if setup.loss == "tiled" and shape.softcap else setup.loss
        if kind == "tiled":
            return self._tiled(tape, hidden), []
        if kind == "fused":
            return self._fused(tape, hidden), []
        return self._whole(tape, hidden, kind)

    def _logits(self, tape: Tape, hidden: Tensor) -> Tensor:
        shape = self.shape
        logits = matmul(tape, hidden, self.weight, shape.hidden, shape.vocabulary, self.setup.autocast_width)
        if shape.softcap:
            logits = scale(tape, logits)
            logits = scale(tape, tanh(tape, logits))
        return logits

    def _whole(self, tape: Tape, hidden: Tensor, kind: str) -> tuple[Tensor, list]:
        logits = self._logits(tape, hidden)
        if kind == "shifted":
            return self._shifted(tape, cast(tape, logits, SINGLE), kind), []
        if kind in ("floated", "in_place"):
            logits = cast(tape, logits, SINGLE)  # and those in 16 bit are gone
            return self._shifted(tape, logits, kind), []
        loss = cross_entropy(tape, logits if kind == "half" else cast(tape, logits, SINGLE))
        return loss, [logits] if kind == "held" else []

    def _shifted(self, tape: Tape, logits: Tensor, kind: str) -> Tensor:
        moved = unary(
            tape, logits, tape.new(logits.numel, SINGLE)
        )  # whose gradient is put into zeros of the full length
        return self._in_place(tape, moved) if kind == "in_place" else cross_entropy(tape, moved)

    def _tiled(self, tape: Tape, hidden: Tensor) -> Tensor:
        shape, setup = self.shape, self.setup
        learned = setup.learned
        chosen = tape.new(learned * shape.hidden, hidden.width)
        tape.work(moved=2 * chosen.size)
        chosen = unary(tape, hidden, chosen, enters=False)
        if not self.weight.trains:
            return self._at_once(tape, chosen, learned)
        rows = min(LOSS_TILE, learned)
        # Every tile does the same, so one stands for all; its gradient goes into the gradient of all rows.
        tile = unary(tape, chosen, Tensor(rows * shape.hidden, hidden.width, chosen.storage), enters=False)
        several = learned > rows
        if several:
            tile = tape.track(tile, (tile,), (), lambda g, _: (setattr(tape, "held", None), g)[1:])

        def tile_loss(rows: Tensor) -> Tensor:
            return self._in_place(tape, self._logits(tape, rows))

        with tape.repeated(learned / rows):
            loss = tape.checkpoint(tile_loss, tile)
        if not several:
            return loss
        head = self.weight

        def rule(g, _):
            # The head's gradient of the tiles before this one; under autocast that of its copy in 16 bit.
            tape.held = tape.new(head.numel, min(head.width, setup.half) if setup.autocast else head.width)
            return (g,)

        return tape.track(Tensor(1, SINGLE, loss.storage), (loss,), (), rule)

    def _in_place(self, tape: Tape, logits: Tensor) -> Tensor:
        """A tile's loss, whose logits become their own gradient."""
        wide = tape.scratch(logits.numel * SINGLE) if logits.width != SINGLE else None
        tape.work(moved=10 * logits.numel * SINGLE, launches=10)
        del wide
        return unary(tape, logits, tape.new(1, SINGLE), (logits,), enters=False)

    def _at_once(self, tape: Tape, chosen: Tensor, learned: int) -> Tensor:
        """The gradient of the chosen hidden states along with the loss; a tile's logits become their own gradient."""
        shape, gradient = self.shape, tape.new(chosen.numel, chosen.width)
        rows = min(tile_rows(shape.vocabulary), learned)
        with tape.repeated(learned / rows):
            logits = self._logits(tape, Tensor(rows * shape.hidden, chosen.width, chosen.storage))
            wide = tape.scratch(logits.numel * SINGLE) if logits.width != SINGLE else None
            back = tape.scratch(rows * shape.hidden * chosen.width)
            tape.work(2 * rows * shape.embedding, logits.width, 10 * logits.numel * SINGLE, launches=10)
            del logits, wide, back
        return unary(tape, chosen, tape.new(1, SINGLE), (gradient,), enters=False)

    def _fused(self, tape: Tape, hidden: Tensor) -> Tensor:
        shape, setup = self.shape, self.setup
        learned, width = setup.learned, hidden.width
        chosen = unary(tape, hidden, tape.new(learned * shape.hidden, width), enters=False)
        half = setup.autocast_width or width
        rows, columns = min(learned, FUSED_ROWS), min(shape.vocabulary, FUSED_COLUMNS)

        def tile():
            parts = [tape.scratch(rows * columns * half)]
            if half != width:
                parts.append(tape.scratch(rows * shape.hidden * half))
            if half != self.weight.width:
                parts.append(tape.scratch(columns * shape.hidden * half))
            flops = 2 * learned * shape.embedding
            tape.work(flops, half, 4 * learned * shape.vocabulary, launches=12)
            return parts

        working = tile()
        out = tape.new(learned, SINGLE)
        sums = tape.new(learned, SINGLE)
        del working
        head = self.weight

        def rule(g, kept):
            back = tape.new(kept[0].numel, SINGLE)
            ahead = tape.new(head.numel, SINGLE) if head.trains else None
            working = tile()
            tile()
            del working
            return cast(tape, back, width), cast(tape, ahead, head.width) if ahead else None

        return tape.track(out, (chosen, head), (chosen, sums), rule)


def cross_entropy(tape: Tape, logits: Tensor) -> Tensor:
    """log_softmax, which keeps its result, and nll_loss, whose gradient is as large as its input."""
    logs = tape.new(logits.numel, logits.width)
    tape.work(moved=2 * logits.size, launches=2)

    def softmax_gradient(g, kept):
        back = tape.new(kept[0].numel, kept[0].width)
        tape.work(moved=4 * back.size, launches=2)
        return (back,)

    logs = tape.track(logs, (logits,), (logs,), softmax_gradient)
    return unary(tape, logs, tape.new(1, SINGLE), (logs,), enters=False)
