"""The exact check: the real transformers and peft step under fake tensors, every storage given to the allocator.

No weights, no card: `python -m core.estimate.trace` reads {"config", "setup", "capability"} as JSON from standard input
and writes peaks and the tensors alive at the highest one. It is a process of its own, because it imports torch.
"""

import contextlib
import difflib
import json
import sys
import time
import weakref
from collections import Counter

import torch
from peft.tuners import tuners_utils
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as KNOWN

from core.estimate import fake_kernels, skeleton, trace_layers
from core.estimate.allocator import Allocator
from core.estimate.memory import CUBLAS, CUBLAS_HOPPER
from core.estimate.setup import Setup, for_method
from core.training import cross_entropy

SHOWN = 12  # kinds of tensors that the answer names


class Watch(TorchDispatchMode):
    """Gives every new storage a block of the allocator, until it ends."""

    def __init__(self, allocator: Allocator):
        super().__init__()
        self.allocator, self.live, self.phase = allocator, {}, "load"
        self.highest, self.picture = 0, Counter()
        self.trained: set[torch.Size] = set()

    def see(self, tensor, label: str = "") -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self.live or not size:
            return
        block = self.allocator.take(size)

        def on_end(_, key=key, block=block):
            self.live.pop(key, None)
            self.allocator.give(block)

        kind = label or f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
        self.live[key] = (weakref.ref(storage, on_end), kind, size)
        if self.phase != "load" and self.allocator.alive > self.highest * 1.01:
            self.highest = self.allocator.alive
            self.picture = Counter()
            for _, name, bytes_ in list(self.live.values()):
                self.picture[name] += bytes_

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        # Gradients of a weight that is used twice are summed by the engine: in place, but of fake tensors into a third.
        if function is torch.ops.aten.add.Tensor and not torch.is_grad_enabled() and args[0].shape in self.trained:
            return args[0]
        out = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self.see(leaf)
        return out


@contextlib.contextmanager
def as_on_a_card(autocast: bool):
    """Let the modules take the paths that they take on a card."""
    softmax, dropout, enabled = nn.functional.softmax, nn.functional.dropout, torch.is_autocast_enabled
    mover = tuners_utils.BaseTunerLayer._move_adapter_to_device_of_base_layer

    def card_softmax(x, dim=-1, dtype=None, **more):
        if dtype == torch.float32 and x.requires_grad:
            return fake_kernels.Softmax.apply(x)
        return softmax(x, dim=dim, dtype=dtype, **more)

    def card_dropout(x, p=0.5, training=True, inplace=False):
        return fake_kernels.Dropout.apply(x) if p and training else x

    nn.functional.softmax, nn.functional.dropout = card_softmax, card_dropout
    tuners_utils.BaseTunerLayer._move_adapter_to_device_of_base_layer = lambda *_, **__: None
    if autocast:
        torch.is_autocast_enabled = lambda *_: enabled("cpu")
    try:
        yield
    finally:
        nn.functional.softmax, nn.functional.dropout, torch.is_autocast_enabled = softmax, dropout, enabled
        tuners_utils.BaseTunerLayer._move_adapter_to_device_of_base_layer = mover


def trace(config: dict, setup: Setup, capability: float = 8.0) -> dict:
    """Peaks of two optimizer steps, in bytes, and what was alive at the highest."""
    began, setup = time.monotonic(), for_method(setup)
    allocator = Allocator()
    watch = Watch(allocator)
    known = skeleton.text_config(config)
    left_out = trace_layers.shorten(known)
    with as_on_a_card(setup.autocast), FakeTensorMode(allow_non_fake_inputs=True):
        model = skeleton.build(known, setup)
        between = _between(model, known, left_out, setup)
        with watch, trace_layers.few_chunks(model, watch):
            load(model, watch, setup)
            phases = run(model, watch, setup, between)
        unused = allocator.reserved_peak - max(phases.values())
        if between:
            unused *= 1 if setup.gradient_checkpointing else 1 + left_out.total() / known.num_hidden_layers
            phases = between.add(phases, between.states(lambda weight: _states(weight, setup.optim)))
            watch.picture["weights"] += between.weights(trained=False)
            watch.picture["adapter"] += between.weights(trained=True)
    blas = CUBLAS_HOPPER if capability == 9.0 else CUBLAS
    peaks = {name: phases[name] + blas for name in ("forward", "backward", "optimizer")}
    return {
        "allocated": max(peaks.values()),
        "reserved": max(phases.values()) + unused + int(-(-blas // 2**21)) * 2**21,
        "phases": peaks,
        "alive": dict(watch.picture.most_common(SHOWN)),
        "seconds": round(time.monotonic() - began, 2),
    }


def _between(model: nn.Module, known, left_out: Counter, setup: Setup) -> trace_layers.Between | None:
    if not left_out:
        return None
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    kinds = list(getattr(known, "layer_types", None) or ["layer"] * known.num_hidden_layers)
    return trace_layers.Between(base.get_decoder().layers, kinds, left_out, setup)


def load(model: nn.Module, watch: Watch, setup: Setup) -> None:
    """from_pretrained: room for the whole model at once, then tensor by tensor, packing and casting on the way."""
    allocator, half, halves = watch.allocator, setup.weight_width, []
    base = _base_weights(model, setup)
    allocator.give(allocator.take(sum(weight.numel() * (1 if scales else half) for weight, scales in base)))
    for weight, scales in base:
        if scales:
            wide = allocator.take(weight.numel() * 4)
            for part in (weight, *scales):
                watch.see(part, "weights")
            allocator.give(wide)
        elif setup.kbit_prepare and weight.element_size() == 4:
            halves.append((weight, allocator.take(weight.numel() * half)))
        else:
            watch.see(weight, "weights")
    for weight, block in halves:
        watch.see(weight, "weights")
        allocator.give(block)
    if setup.kbit_prepare:
        allocator.empty_cache()
    allocator.reserved_peak = allocator.reserved
    for weight in model.parameters():
        watch.see(weight, "adapter")
    for buffer in model.buffers():
        watch.see(buffer, "weights")


def _base_weights(model: nn.Module, setup: Setup) -> list[tuple[nn.Parameter, list]]:
    """The weights that a base is loaded with, shared ones once; of those in 4 bit also their scales."""
    weights = {}
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is not None and not (setup.adapts and weight.requires_grad):
                weights.setdefault(id(weight), (weight, getattr(module, "scales", []) if name == "weight" else []))
    return list(weights.values())


def run(model: nn.Module, watch: Watch, setup: Setup, between: trace_layers.Between | None = None) -> dict:
    """Two optimizer steps; peaks of the second one's phases. Where layers were left out, that one alone, by layer."""
    allocator = watch.allocator
    if between:
        between.watch(allocator)
    if setup.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if setup.adapts:
            model.enable_input_require_grads()
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    watch.trained = {p.shape for p in trained if p.dim() == 2}
    states = _of_a_first_step(trained, setup) if between else []
    half = skeleton.DTYPES[setup.precision]
    for step in range(1 if between else 0, 2):
        if step:
            watch.phase = "step"
            allocator.peaks.clear()
            allocator.peak = allocator.alive
        with torch.autocast("cpu", dtype=half) if setup.autocast else contextlib.nullcontext():
            loss, kept = loss_of(model, setup)
            copied = allocator.alive
        if between:
            between.casts = copied - allocator.alive
        allocator.mark("forward")
        loss.backward()
        del loss, kept
        allocator.mark("backward")
        states += _optimize(trained, setup, first=not states)
        allocator.mark("optimizer")
        # With accumulation, gradients of earlier micro-steps are there while the next one runs.
        if setup.gradient_accumulation_steps == 1:
            for weight in trained:
                weight.grad = None
    return dict(allocator.peaks)


def _of_a_first_step(trained: list, setup: Setup) -> list:
    """What a first step leaves: states, and with accumulation the gradients."""
    for weight in trained if setup.gradient_accumulation_steps > 1 else ():
        weight.grad = torch.empty_like(weight)
    return [state for weight in trained for state in _states(weight, setup.optim)]


def loss_of(model: nn.Module, setup: Setup) -> tuple[torch.Tensor, list]:
    """The loss by the kernel of the setup, and what the caller keeps meanwhile."""
    ids = torch.zeros((setup.sequences, setup.max_length), dtype=torch.long)
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    caps = getattr(base.config, "final_logit_softcapping", None)
    kind = "logits" if setup.loss == "tiled" and caps else setup.loss
    if kind in ("logits", "held"):
        out = model(input_ids=ids, labels=ids)
        return out.loss, [out] if kind == "held" else []
    if kind == "half":
        logits = model(input_ids=ids).logits
        return nn.functional.cross_entropy(logits.view(-1, logits.shape[-1]), ids.view(-1)), []
    hidden = base.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
    head = base.get_output_embeddings()
    hidden = hidden.reshape(-1, hidden.shape[-1]).index_select(0, torch.arange(setup.learned))
    if kind == "fused":
        return fake_kernels.FusedLoss.apply(hidden, head.weight).sum(), []
    return cross_entropy.each_loss(head, hidden, ids.view(-1)[: setup.learned]).sum(), []


def _optimize(trained: list, setup: Setup, *, first: bool) -> list:
    """The optimizer's states, made at the first step; then what its kernels need, which ends with the step."""
    made = [state for p in trained for state in _states(p, setup.optim)] if first else []
    if setup.foreach:
        copies = [torch.empty_like(p.grad) for p in trained if p.grad is not None]
        del copies
    return made


def _states(weight: torch.Tensor, optim: str) -> list:
    if optim in ("adamw_torch", "adamw_torch_fused"):
        return [torch.empty_like(weight) for _ in range(2)]
    if optim != "adamw_8bit":
        return []
    if weight.numel() < 4096:
        return [torch.empty(weight.shape) for _ in range(2)]
    packed = [torch.empty(weight.shape, dtype=torch.uint8) for _ in range(2)]
    return packed + [torch.empty(-(-weight.numel() // 256)) for _ in range(2)]


def _unknown(config: dict) -> dict:
    """What to say of an architecture that the installed transformers does not have; nothing, if it has it."""
    kind = str(config.get("model_type") or "")
    if kind in KNOWN or f"{kind}_text" in KNOWN:
        return {}
    near = difflib.get_close_matches(kind, [str(name) for name in KNOWN], n=3, cutoff=0.5)
    return {"architecture": kind or "(none)", "nearest": near or ["llama", "qwen3", "mistral"]}


def main() -> int:
    request = json.load(sys.stdin)
    setup = Setup(**request["setup"])
    try:
        answer = _unknown(request["config"]) or trace(request["config"], setup, request.get("capability", 8.0))
    except Exception as error:  # the caller words it; this process has nothing else to say
        answer = {"error": f"{type(error).__name__}: {error}".split("\n")[0][:300]}
    print(json.dumps(answer))
    return 0 if "allocated" in answer else 1


if __name__ == "__main__":
    sys.exit(main())
