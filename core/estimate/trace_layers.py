"""A deep model by four of its layers, and a long scan by five of its chunks: of each kind of layer the first and the
last are traced, and what those between add is worked out from them.

What a layer adds is the same wherever it stands: its weights and states all the time, what it keeps from its forward
pass until its backward pass, and its gradients from then on. Hybrids and mixtures of experts, whose steps have thousands
of operations in a layer, are traced so; their full trace takes minutes and says the same. Linear attention goes over a
sequence chunk by chunk, and every chunk keeps as much as the one before it.
"""

import contextlib
import sys
import weakref
from collections import Counter
from collections.abc import Iterable

from torch import nn

from core.estimate.setup import Setup
from core.estimate.size_autograd import counted

EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
SCAN = "torch_chunk_gated_delta_rule"  # what transformers calls the scan in the modules of its hybrids
UNEVEN = ("mlp_only_layers", "first_k_dense_replace")  # fields that make layers of one type differ


def shorten(known) -> Counter:
    """Leave of each kind of layer the first and the last in a config of transformers; how many of each were left out."""
    count = known.num_hidden_layers
    kinds = list(getattr(known, "layer_types", None) or ["layer"] * count)
    slow = any(getattr(known, name, None) for name in EXPERTS) or "linear_attention" in kinds
    uneven = any(getattr(known, name, None) for name in UNEVEN) or getattr(known, "decoder_sparse_step", 1) not in (
        None,
        1,
    )
    first = {kind: kinds.index(kind) for kind in kinds}
    last = {kind: at for at, kind in enumerate(kinds)}
    if not slow or uneven or max(first.values()) >= min(last.values()):
        return Counter()
    kept = sorted([*first.values(), *last.values()])
    for name, value in known.to_dict().items():
        if isinstance(value, list) and len(value) == count:
            setattr(known, name, [value[at] for at in kept])
    known.num_hidden_layers = len(kept)
    return Counter(kinds) - Counter(kinds[at] for at in kept)


class Between:
    """The layers that were left out of a model: what they add at each moment of a step."""

    def __init__(self, layers: Iterable[nn.Module], kinds: list[str], left_out: Counter, setup: Setup):
        self.layers, self.kinds, self.left_out, self.setup = list(layers), kinds, left_out, setup
        self.kept_gradients = setup.gradient_accumulation_steps > 1
        self.alive: dict[int, int] = {}
        self.casts = 0

    def watch(self, allocator) -> None:
        """Note what is alive after each layer, and let each begin a phase of the backward pass."""

        def on_forward(at: int):
            def hook(_module, _inputs, output):
                if at not in self.alive:  # recomputed layers come here again
                    self.alive[at] = allocator.alive
                    hidden = output[0] if isinstance(output, tuple) else output
                    hidden.register_hook(lambda _: allocator.mark("loss" if at + 1 == len(self.layers) else at + 1))

            return hook

        for at, layer in enumerate(self.layers):
            layer.register_forward_hook(on_forward(at))

    def weights(self, trained: bool) -> int:
        """Bytes of their weights: of what is trained, or of the rest."""
        return self._sum(lambda layer: sum(counted(w.nbytes) for w in _weights(layer) if w.requires_grad == trained))

    def gradients(self) -> int:
        return self._sum(lambda layer: sum(counted(w.nbytes) for w in layer.parameters() if w.requires_grad))

    def states(self, states_of) -> int:
        """Bytes of the optimizer's, which `states_of` makes of a weight."""
        trained = ((layer, [w for w in layer.parameters() if w.requires_grad]) for layer in self.layers)
        sizes = {id(layer): sum(counted(s.nbytes) for w in ws for s in states_of(w)) for layer, ws in trained}
        return self._sum(lambda layer: sizes[id(layer)])

    def saved(self) -> tuple[int, float]:
        """Bytes that they keep through the forward pass, and through the backward pass, without autocast's copies."""
        kept = {kind: self.alive[at] - self.alive[at - 1] for at, kind in enumerate(self.kinds) if at}
        saved = sum(number * kept[kind] for kind, number in self.left_out.items())
        here = sum(w.nbytes for layer in self.layers for w in layer.parameters() if w.requires_grad)
        return saved, saved - (self.casts * self.gradients() / here if here else 0)

    def add(self, peaks: dict, states: int) -> dict[str, float]:
        """The peaks of forward, backward and optimizer with these layers."""
        resident = self.weights(trained=True) + self.weights(trained=False) + states
        gradients, (saved, kept) = self.gradients(), self.saved()
        waiting = gradients if self.kept_gradients else 0
        top = len(self.layers) // 2  # the first of the last ones: above it all are alive, below it none
        backward = {"loss": kept + waiting, "backward": gradients}
        backward |= {at: (kept + waiting if at >= top else gradients) for at in range(1, len(self.layers))}
        return {
            "forward": peaks["forward"] + resident + saved + waiting,
            "backward": max(peaks[name] + resident + more for name, more in backward.items()),
            "optimizer": peaks["optimizer"] + resident + gradients * (2 if self.setup.foreach else 1),
        }

    def _sum(self, size_of) -> int:
        by_kind = dict(zip(self.kinds, self.layers, strict=True))
        return sum(number * size_of(by_kind[kind]) for kind, number in self.left_out.items())


def _weights(layer: nn.Module) -> list:
    """Its weights and the scales of those in 4 bit."""
    scales = [scale for module in layer.modules() for scale in getattr(module, "scales", [])]
    return [*layer.parameters(), *scales]


@contextlib.contextmanager
def few_chunks(model: nn.Module, watch):
    """Let scans over chunks go over the first three and the last two alone, and count the others as the second one."""
    modules = {sys.modules[type(part).__module__] for part in model.modules()}
    known = {module: getattr(module, SCAN) for module in modules if hasattr(module, SCAN)}

    def shortened(module):
        def scan(*args, **more):
            module.range = lambda *bounds: _chunks(watch, *bounds)
            try:
                return known[module](*args, **more)
            finally:
                del module.range

        return scan

    for module in known:
        setattr(module, SCAN, shortened(module))
    try:
        yield
    finally:
        for module, scan in known.items():
            setattr(module, SCAN, scan)


def _chunks(watch, *bounds: int):
    count = bounds[0] if len(bounds) == 1 else 0
    if count <= 6:
        yield from range(*bounds)
        return
    yield 0
    before = dict(watch.live)
    yield 1
    made = {key: entry for key, entry in watch.live.items() if before.get(key) is not entry}
    yield 2
    for key, entry in made.items():
        if watch.live.get(key) is entry:  # for its gradient: what only the loop holds is gone by now
            _repeat(watch, entry, count - 5)
    yield count - 2
    yield count - 1


def _repeat(watch, entry: tuple, times: int) -> None:
    """As many blocks more as those of a storage, for as long as it lives."""
    reference, kind, size = entry
    blocks = [watch.allocator.take(size) for _ in range(times)]
    key = object()

    def on_end(_):
        watch.live.pop(key, None)
        for block in blocks:
            watch.allocator.give(block)

    watch.live[key] = (weakref.ref(reference(), on_end), kind, size * times)
