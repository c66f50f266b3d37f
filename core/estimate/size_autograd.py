"""Automatic differentiation of sizes: which bytes a training step holds, and what its kernels read, write and compute.

Nothing is calculated with numbers here. A `Tensor` knows how many elements it has and how wide they are; its storage is
counted from birth to the moment when the last reference goes, exactly as a real tensor's is, because functions written
over these tensors keep references as the real ones do. `Tape.backward` walks the graph as PyTorch's engine does.
"""

import heapq
import sys
from collections.abc import Callable
from contextlib import contextmanager

MIB = 2**20
GRAIN = 512  # bytes; the CUDA caching allocator rounds every block up to it
LARGE, SEGMENT, UNSPLIT = 10 * MIB, 2 * MIB, MIB  # of a segment of its own, up to a mebibyte is not split off
_OWN_REFERENCES = 3  # a gradient that only its buffer holds: the tuple, the local name, getrefcount's argument


def counted(size: int) -> int:
    """The bytes that the CUDA caching allocator counts for a request: its block, with what is not split off it."""
    size = -(-size // GRAIN) * GRAIN
    segment = -(-size // SEGMENT) * SEGMENT
    return segment if size >= LARGE and segment - size <= UNSPLIT else size


class Meter:
    """Bytes alive, and the highest they stood since the last mark."""

    def __init__(self):
        self.alive = self.peak = 0
        self.peaks: dict[str, int] = {}

    def take(self, size: int) -> int:
        return self.count(counted(size))

    def count(self, size: int) -> int:
        self.alive += size
        if self.alive > self.peak:
            self.peak = self.alive
        return size

    def give(self, size: int) -> None:
        self.alive -= size

    def mark(self, phase: str) -> None:
        """Close a phase: keep its peak, and start the next one from what is alive."""
        self.peaks[phase] = max(self.peak, self.peaks.get(phase, 0))
        self.peak = self.alive


class Storage:
    """Bytes that live as long as something refers to them."""

    __slots__ = ("block", "meter")

    def __init__(self, meter, size: int):
        self.meter = meter
        self.block = meter.take(size)

    def __del__(self):
        self.meter.give(self.block)


class Sized:
    """Elements of one width in bytes."""

    __slots__ = ("numel", "width")

    def __init__(self, numel: int, width: int):
        self.numel, self.width = numel, width

    @property
    def size(self) -> int:
        return self.numel * self.width


class Tensor(Sized):
    """An activation or a gradient. `node` made it, when a gradient is wanted."""

    __slots__ = ("node", "storage")

    def __init__(self, numel: int, width: int, storage: Storage):
        super().__init__(numel, width)
        self.storage, self.node = storage, None


class Weight(Sized):
    """A parameter: its gradient, once there is one, stays until the optimizer's step."""

    __slots__ = ("gradient", "trains")

    def __init__(self, numel: int, width: int, trains: bool):
        super().__init__(numel, width)
        self.trains, self.gradient = trains, None


class Node:
    __slots__ = ("frame", "index", "inputs", "order", "rule", "saved")

    def __init__(self, order, rule, inputs, saved, frame):
        self.order, self.rule, self.inputs, self.saved, self.frame = order, rule, inputs, saved, frame
        self.index = None


class _Enough(Exception):
    """All that a checkpointed layer must give back has been recomputed."""


class Frame:
    """One checkpointed call: keeps its inputs, forgets what was saved inside, and runs again when it is asked for."""

    def __init__(self, function: Callable, inputs: tuple):
        self.function, self.inputs, self.count, self.again = function, inputs, 0, None

    def recompute(self, tape: "Tape") -> None:
        self.again = {}
        outer, tape.frame, tape.replays = tape.frame, None, self
        try:
            self.function(*self.inputs)
        except _Enough:
            pass
        finally:
            tape.frame, tape.replays = outer, None
            tape.casts.clear()
        self.inputs = None


class Tape:
    """Runs functions over sizes, forwards and backwards, on a meter, and writes down their kernels."""

    def __init__(self, meter: Meter):
        self.meter, self.order = meter, 0
        # (stage, products, width, bytes, kind of attention, launches, unpacks 4-bit weights) of each kernel.
        self.kernels: list[tuple] = []
        self.stage, self.times = "", 1.0  # of the kernels that are run now, and how often they really run
        self.frame: Frame | None = None
        self.replays: Frame | None = None
        self.mask: Tensor | None = None  # held through the layers
        self.held: Tensor | None = None  # held between two moments of the backward pass
        self.casts: dict[int, Tensor] = {}  # autocast keeps its copies of trained weights until it ends

    def new(self, numel: int, width: int) -> Tensor:
        return Tensor(numel, width, Storage(self.meter, numel * width))

    def scratch(self, size: int) -> Storage:
        return Storage(self.meter, size)

    def work(self, flops=0, width=2, moved=0, *, attends="", launches=1, unpacks=False) -> None:
        """Enter a kernel: its products, the width they are made in, and the bytes read and written."""
        times = self.times
        self.kernels.append((self.stage, flops * times, width, moved * times, attends, launches * times, unpacks))

    @contextmanager
    def repeated(self, times: float):
        """Enter the kernels of what follows as often as it really runs; its sizes are those of one turn."""
        self.times *= times
        yield
        self.times /= times

    def wants(self, *tensors) -> bool:
        """Whether any of these has a gradient coming."""
        return any(t.trains if type(t) is Weight else t.node is not None for t in tensors)

    def track(self, output: Tensor, inputs: tuple, saved: tuple, rule: Callable) -> Tensor:
        """Let `output` be differentiable: rule(gradient, saved) gives one gradient for each input.

        `saved` holds what the backward pass needs. Inside a checkpointed call nothing is kept the first time.
        """
        self.order += 1
        if self.replays is not None:
            output.node = _REPLAYED
            if saved:
                self._give_back(saved)
            return output
        frame = self.frame
        node = Node(self.order, rule, tuple(t if type(t) is Weight else t.node for t in inputs), saved, frame)
        if frame is not None and saved:
            node.index, node.saved = frame.count, None
            frame.count += 1
        output.node = node
        return output

    def _give_back(self, saved: tuple) -> None:
        frame = self.replays
        frame.again[len(frame.again)] = saved
        if len(frame.again) == frame.count:
            raise _Enough

    def checkpoint(self, function: Callable, *inputs):
        """Call the function, and forget its inner tensors until the backward pass."""
        self.frame = Frame(function, inputs)
        try:
            return function(*inputs)
        finally:
            self.frame = None

    def backward(self, output: Tensor, on_node: Callable[[int], None] | None = None) -> None:
        """Walk from the output to the weights; gradients of the same tensor are added up on the way."""
        waits = _consumers(output.node)
        gradients = {output.node: self.new(output.numel, output.width)}
        ready, output = [(-output.node.order, output.node)], None
        while ready:
            _, node = heapq.heappop(ready)
            if on_node is not None:
                on_node(node.order)
            gradient, frame = gradients.pop(node), node.frame
            if node.index is None:
                saved = node.saved
            else:
                if frame.again is None:
                    frame.recompute(self)
                saved = frame.again.pop(node.index)
            results = node.rule(gradient, saved)
            node.saved = saved = gradient = None
            for target, result in zip(node.inputs, results, strict=True):
                if type(target) is Weight:
                    if target.trains:
                        self._keep(target, result)
                elif target is not None:
                    gradients[target] = self._add(gradients.pop(target, None), result)
                    waits[target] -= 1
                    if not waits[target]:
                        heapq.heappush(ready, (-target.order, target))
                result = None
            results = None

    def _keep(self, weight: Weight, gradient: Tensor) -> None:
        # A gradient that nothing else holds is taken over; a later one is added in place.
        if weight.gradient is None:
            weight.gradient = gradient
        else:
            self.work(moved=3 * gradient.size)

    def _add(self, old: Tensor | None, new: Tensor) -> Tensor:
        if old is None:
            return new
        self.work(moved=3 * new.size)
        if sys.getrefcount(old) <= _OWN_REFERENCES and sys.getrefcount(old.storage) <= 2:
            return old
        return self.new(old.numel, old.width)


_REPLAYED = Node(0, None, (), (), None)


def _consumers(root: Node) -> dict[Node, int]:
    """How many gradients each node waits for."""
    waits, stack, seen = {root: 0}, [root], {root}
    while stack:
        for target in stack.pop().inputs:
            if target is None or type(target) is Weight:
                continue
            waits[target] = waits.get(target, 0) + 1
            if target not in seen:
                seen.add(target)
                stack.append(target)
    return waits
