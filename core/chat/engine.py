"""The weights in memory: one set a base model with every adapter around it; one reply at a time computes."""

import gc
import itertools
import threading
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

from core import errors, files
from core.chat import chat_models
from core.chat.chat_models import ChatModel
from core.errors import UserError
from core.estimate import catalogue, memory
from core.estimate.setup import Setup
from core.models import adapter_check, model_files
from core.runs import gpu_access
from core.training import devices, encoding, environment, model_loading, packages, tokenizer_loading
from core.training.config import TrainConfig

LOCK = threading.Lock()  # one reply at a time on the card, whatever the number of windows
CLOSING = threading.Event()  # set while the card's memory is wanted back: replies from there end where they are
ON_CPU = "cpu-instead"  # the processor of a machine that has a card: nothing there is in the way of a run
LOOK_SECONDS = 0.05
MOST_ADAPTERS = 8  # kept around one base
BASE_ADAPTER = "__base__"  # PEFT's own name, in a mixed batch, for a row without an adapter


class Key(NamedTuple):
    """What tells one set of weights from another."""

    directory: str
    written: int  # nanoseconds: a run that went on has other weights at the same place
    device: str
    quantised: bool
    precision: str  # of TrainConfig
    parameters: tuple[str, ...]  # bare parameters that an adapter is around; none around a plain base


@dataclass
class Weights:
    """A model in memory, with the adapters that were loaded around it."""

    model: object  # the plain model until the first adapter comes, then PEFT's
    tokenizer: object
    stop_ids: frozenset[int]
    adapters: dict[tuple, str] = field(default_factory=dict)  # (directory, when written): PEFT's name; latest last
    adapter_layers: tuple = ()  # the modules that hold adapters

    @property
    def inner(self):
        """The causal language model itself; the adapters sit in its layers."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model


@dataclass(frozen=True)
class LoadedModel:
    """A chat model that can reply: weights, and an adapter among them or none."""

    chat_model: ChatModel
    weights: Weights
    adapter: str | None

    @property
    def mixes(self) -> bool:
        """Whether it may share a batch with other adapters: PEFT mixes plain LoRA only."""
        if self.adapter is None:
            return True
        config = self.weights.model.peft_config[self.adapter]
        odd = ("use_dora", "modules_to_save", "target_parameters", "trainable_token_indices", "alora_invocation_tokens")
        return not any(getattr(config, name, None) for name in odd) and getattr(config, "bias", "none") == "none"


_opened: dict[Key, Weights] = {}
_device_in_use = ""  # of the reply that holds LOCK
_adapter_numbers = itertools.count(1)


def is_closing() -> bool:
    """Whether the GPU memory was requested back while a reply is generated on it."""
    return CLOSING.is_set() and _device_in_use != ON_CPU


def raise_if_out_of_memory(error: Exception, model_id: str) -> None:
    """Raise MemoryRanOut if that is what an error says, after all memory has been given back.

    The frames of a traceback hold the tensors of the forward pass that failed, the weights and the cache: they are
    emptied. Call it where no local variable holds any of these.
    """
    if not environment.is_out_of_memory(error):
        return
    clear_frames(error)
    title = model_id
    with suppress(UserError, OSError, ValueError):
        title = chat_models.find(model_id).title
    unload()
    raise errors.named("MemoryRanOut", model=title) from error


def clear_frames(error: BaseException | None) -> None:
    """Clear the local variables in the frames of an error and of its causes, so that their tensors are freed."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
    gc.collect()
    devices.empty_cache()


def load_models(ids: dict[str, str], on_cpu: bool = False) -> dict[str, LoadedModel]:
    """Load the models and adapters that the columns need, as far as they are not loaded yet; unload the rest.

    `ids` maps columns to ids of chat models. A base is held in 4-bit only if every adapter asked for was trained on it
    in 4-bit: one set for all of them. It is held in fp32 if one of them was trained so on purpose, else in what this
    machine computes fast. But adapters around different parameters (of experts) need a base each: PEFT nests them in
    one order a model. https://github.com/huggingface/peft/issues/3340

    Raises:
        CardBusy: when a run has the card that the replies would come from.
    """
    global _device_in_use
    chosen = {name: chat_models.find(id) for name, id in ids.items()}
    device = _device_in_use = _device(on_cpu)
    if device not in ("cpu", ON_CPU):
        gpu_access.need(sees_card=True)
    keys = {name: _key(one, device, chosen) for name, one in chosen.items()}
    for name, key in keys.items():  # what is around no parameter goes with any set of the same base
        if not key.parameters:
            alike = [other for other in (*keys.values(), *_opened) if other[:-1] == key[:-1]]
            keys[name] = next((other for other in alike if other.parameters), key)
    unload(keep=set(keys.values()))
    if any(one.is_adapter for one in chosen.values()):
        # Before there are weights: an error that an import swallows, and somebody keeps, keeps the frames above it too.
        packages.before_peft()
        import peft  # noqa: F401, PLC0415 - takes seconds, and a base alone does without
    return {name: _load_model(one, keys[name]) for name, one in chosen.items()}


def _device(on_cpu: bool) -> str:
    kind = devices.device_type()
    return ON_CPU if on_cpu and kind != "cpu" else kind


def _key(one: ChatModel, device: str, chosen: dict[str, ChatModel]) -> Key:
    """The weights that a model needs when all of these are to reply."""
    trained = [other for other in chosen.values() if other.config]
    kin = [other.config for other in trained if (other.base_model, other.whole) == (one.base_model, one.whole)]
    quantised = bool(kin) and {config.method for config in kin} == {"qlora"} and device != ON_CPU and not one.whole
    precision = "fp32" if any(config.precision == "fp32" for config in kin) else "auto"
    directory = one.weights if one.whole else Path(chat_models.base_directory(one))
    parameters = ()
    if one.is_adapter:
        values = files.read_json(one.weights / "adapter_config.json", {"target_parameters": ([str], None)})
        parameters = tuple(sorted(values.get("target_parameters") or ()))
    key = Key(str(directory), _written(directory), device, quantised, precision, parameters)
    # A base that no training says how to hold replies as it is held already.
    return next((opened for opened in _opened if not kin and opened[:3] == key[:3]), key)


def _load_model(one: ChatModel, key: Key) -> LoadedModel:
    weights = _opened.get(key)
    if weights is None:
        weights = _opened[key] = _load_weights(one, key)
    if not one.is_adapter:
        return LoadedModel(one, weights, None)
    place = (str(one.weights), _written(one.weights))
    try:
        name = weights.adapters.pop(place, None) or attach_adapter(weights, one)
    except Exception:
        del _opened[key]  # part of an adapter may be in its layers
        raise
    weights.adapters[place] = name
    return LoadedModel(one, weights, name)


def _load_weights(one: ChatModel, key: Key) -> Weights:
    method = "qlora" if key.quantised else "lora"
    config = TrainConfig(base_model=key.directory, corpus="", method=method, precision=key.precision)
    need_room(one.title, weight_bytes(config, key.device), key.device)
    if key.device == ON_CPU:
        base = model_loading.without_towers(model_loading.open_model(key.directory, dtype=torch.float32))
    else:
        base = for_replies(model_loading.load_base(config))
    tokenizer = tokenizer_loading.load_tokenizer(config)
    return Weights(base.eval(), tokenizer, frozenset(encoding.stop_ids(base, tokenizer)))


def attach_adapter(weights: Weights, one: ChatModel) -> str:
    """Load an adapter around the base and return PEFT's name for it.

    Raises:
        AdapterUnsound: it cannot be read, or asks for more than it holds.
        VocabularyResized, AdapterForeign: not every saved tensor has a place of its shape, or a place is left empty.
    """
    directory, name = one.weights, f"adapter{next(_adapter_numbers)}"
    if one.config is None:  # it was not made here
        adapter_check.ask(directory)
    saved = adapter_check.shapes(directory / adapter_check.WEIGHTS)
    packages.before_peft()
    from peft import PeftConfig, PeftModel  # noqa: PLC0415 - takes seconds, and a base alone does without
    from peft.tuners.tuners_utils import BaseTunerLayer  # noqa: PLC0415
    from peft.utils.other import AuxiliaryTrainingWrapper  # noqa: PLC0415

    rows = weights.inner.get_input_embeddings().weight.shape[0]
    for tensor, shape in saved.items():
        if tensor.endswith(("embed_tokens.weight", "lm_head.weight")) and shape[0] != rows:
            raise errors.named(
                "VocabularyResized", adapter=directory, rows=shape[0], model=one.base_model, vocabulary=rows
            )
    for old in list(weights.adapters)[: max(0, len(weights.adapters) + 1 - MOST_ADAPTERS)]:
        weights.model.delete_adapter(weights.adapters.pop(old))
    model, tensors = one.base_model, len(saved)
    try:
        if not hasattr(weights.model, "peft_config"):
            config = PeftConfig.from_pretrained(directory, inference_mode=True)
            weights.model = PeftModel(weights.model, config, adapter_name=name)
        # On this device, else PEFT reads onto the card, whoever else has it.
        loaded = weights.model.load_adapter(directory, adapter_name=name, torch_device=str(weights.inner.device))
    except (RuntimeError, ValueError) as error:  # PEFT's words for another shape, and for a layer that isn't there
        if environment.is_out_of_memory(error):
            raise
        raise errors.named("AdapterForeign", adapter=directory, model=model, tensors=tensors, matched=0) from error
    unexpected = [tensor for tensor in loaded.unexpected_keys if "lora_" in tensor]
    if unexpected or loaded.missing_keys or not any("lora_" in tensor for tensor in saved):
        matched = tensors - len(unexpected)
        raise errors.named("AdapterForeign", adapter=directory, model=model, tensors=tensors, matched=matched)
    weights.model.eval()
    kinds = (BaseTunerLayer, AuxiliaryTrainingWrapper)
    weights.adapter_layers = tuple(module for module in weights.model.modules() if isinstance(module, kinds))
    return name


def set_adapter(weights: Weights, adapter: str | None) -> None:
    """Switch the layers, one by one, to an adapter, or to the base alone for None.

    PEFT's own `disable_adapter()` and `set_adapter()` walk all modules each time and took as long as half a token of a
    135M model; these are two attributes of the layers that hold adapters.
    """
    for module in weights.adapter_layers:
        if hasattr(module, "modules_to_save") or not hasattr(module, "lora_A"):  # a copy of a whole layer: few of them
            module.enable_adapters(adapter is not None)
            if adapter is not None:
                module.set_adapter([adapter])
            continue
        module._disable_adapters = adapter is None
        if adapter is not None:
            module._active_adapter = [adapter]


def close(*, at_once: bool = True) -> bool:
    """Give the memory back, ending a reply in progress, or else after it; whether anything was open.

    What was opened on the processor of a machine with a card stays, and a reply from there goes on.
    """
    if at_once:
        CLOSING.set()
    try:
        while not LOCK.acquire(timeout=LOOK_SECONDS):
            if _device_in_use == ON_CPU and all(key.device == ON_CPU for key in list(_opened)):
                return False
        try:
            on_cpu = {key for key in _opened if key.device == ON_CPU}
            was_open = len(_opened) > len(on_cpu)
            unload(keep=on_cpu)
            return was_open
        finally:
            LOCK.release()
    finally:
        CLOSING.clear()


def unload(keep: set[Key] = frozenset()) -> None:
    """Unload all weights but those."""
    gone = [key for key in _opened if key not in keep]
    for key in gone:
        del _opened[key]
    if gone:
        gc.collect()
        devices.empty_cache()


def is_open() -> bool:
    return bool(_opened)


def weight_bytes(config: TrainConfig, device: str) -> float:
    """Bytes that the weights of a base take in memory as this config loads it on this device."""
    count = model_files.count(Path(config.base_model))
    if config.method == "qlora":
        with suppress(UserError):
            return memory.residents(catalogue.shape(config.base_model), Setup())["weights"]
        return memory.NF4[True] * count  # at least, of an architecture without formulas
    return count * (4 if device == ON_CPU or devices.precision(config) == "fp32" else 2)


def for_replies(base):
    """A base that attends without flash-attn: with rows of different lengths its kernels ask the card for the lengths
    in every layer of every token."""
    if str(base.config._attn_implementation).startswith("flash") and getattr(base, "_supports_sdpa", False):
        base.set_attn_implementation("sdpa")
    return base


def need_room(title: str, need: float, device: str) -> None:
    """Raise NoRoom when a model needs more bytes than are free."""
    free = free_bytes(device)
    if need > free:
        raise errors.named("NoRoom", model=title, need=f"{need / 2**30:.1f}", free=f"{free / 2**30:.1f}")


def free_bytes(device: str) -> int:
    """Memory that is free where a device computes; a card that shares the machine's memory has what is free there."""
    return psutil.virtual_memory().available if device.startswith("cpu") else devices.free_bytes()


def _written(directory: Path) -> int:
    """When weights were written, in nanoseconds."""
    return max((file.stat().st_mtime_ns for file in Path(directory).glob("*.safetensors")), default=0)
