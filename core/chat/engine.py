"""The weights in memory: one set a base model, with every adapter around it, and the one lock of the card."""

import gc
import json
import threading
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch

from core import model_files
from core.chat import chat_models
from core.chat.chat_models import Contestant
from core.chat.types import AdapterForeign, MemoryRanOut, NoRoom, VocabularyResized
from core.errors import UserError
from core.runs import gpu_access
from core.training import devices, encoding, environment, model_loading, packages, tokenizer_loading
from core.training.config import TrainConfig

LOCK = threading.Lock()  # one reply at a time on the card, whatever the number of windows
CLOSING = threading.Event()  # set while the card's memory is wanted back: replies from there end where they are
ON_CPU = "cpu-instead"  # the processor of a machine that has a card: nothing there is in the way of a run
LOOK_SECONDS = 0.05
MOST_ADAPTERS = 8  # kept around one base
QUANTISED_BYTES = 0.7  # of a weight in NF4, with what quantisation leaves in 16 bit
BASE_ADAPTER = "__base__"  # PEFT's own name, in a mixed batch, for a row without an adapter
_opened: dict[tuple, "Weights"] = {}
_speaking = ""  # the device of whoever holds LOCK


@dataclass
class Weights:
    """A model in memory, with the adapters that were loaded around it."""

    model: object  # the plain model until the first adapter comes, then PEFT's
    tokenizer: object
    device: str
    quantised: bool
    stop_ids: frozenset[int]
    adapters: dict[tuple, str] = field(default_factory=dict)  # (directory, when written): PEFT's name
    switches: tuple = ()  # the modules that hold adapters
    count: int = 0

    @property
    def inner(self):
        """The causal language model itself; the adapters sit in its layers."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model


@dataclass(frozen=True)
class Voice:
    """One that speaks: weights, and an adapter among them or none."""

    contestant: Contestant
    weights: Weights
    adapter: str | None

    @property
    def mixes(self) -> bool:
        """Whether it may share a batch with other adapters: PEFT mixes plain LoRA only."""
        return self.adapter is None or _is_plain(self.weights.model.peft_config[self.adapter])


def is_closing() -> bool:
    """Whether the memory of the card is wanted back by somebody, and the reply that grows is computed there."""
    return CLOSING.is_set() and _speaking != ON_CPU


def ran_out(error: Exception, contestant: str) -> None:
    """Raise MemoryRanOut if that is what an error says, with all memory given back before anybody hears of it.

    The frames of a traceback hold the tensors of the forward pass that failed, the weights and the cache: they are
    emptied. Call it where no local variable holds any of these.
    """
    if not environment.is_out_of_memory(error):
        return
    empty_frames(error)
    title = contestant
    with suppress(UserError, OSError, ValueError):
        title = chat_models.find(contestant).title
    _forget(set())
    raise MemoryRanOut(model=title) from error


def empty_frames(error: BaseException | None) -> None:
    """Let go of what the local variables of an error's frames hold, and of those of the errors behind it."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
    gc.collect()
    devices.empty_cache()


def voiced(ids: dict[str, str], on_cpu: bool = False, loaded_as: str | None = None) -> dict[str, Voice]:
    """The voices of columns, loaded as far as they are not yet; weights that none of them needs are let go.

    A base is held in 4-bit only if every adapter asked for was trained on it in 4-bit: one set for all of them. It is
    held in fp32 if one of them was trained so on purpose, else in what this machine computes fast. But adapters around
    different parameters (of experts) need a base each: PEFT nests them in one order a model.
    https://github.com/huggingface/peft/issues/3340

    Raises:
        CardBusy: when a run has the card that the voices would come from.
    """
    global _speaking
    model = [chat_models.find(loaded_as)] if loaded_as else []
    chosen = {name: chat_models.find(id) for name, id in ids.items()}
    adapters = [one for one in [*chosen.values(), *model] if one.config]
    places, device = {}, _device(on_cpu)
    _speaking = device
    if device not in ("cpu", ON_CPU):
        gpu_access.need(sees_card=True)
    for name, one in chosen.items():
        kin = [other.config for other in adapters if other.base_model == one.base_model and other.whole == one.whole]
        quantised = bool(kin) and {config.method for config in kin} == {"qlora"} and device != ON_CPU and not one.whole
        exact = any(config.precision == "fp32" for config in kin)
        directory = one.weights if one.whole else Path(chat_models.base_of(one))
        place = (str(directory), _written(directory), device, quantised, "fp32" if exact else "auto", _parameters(one))
        # A base that nobody's training says how to hold is spoken to as it is held already.
        places[name] = next((held for held in _opened if not kin and held[:3] == place[:3]), place)
    for name, place in places.items():  # what is around no such parameter goes with any set of the same base
        if not place[-1]:
            alike = [other for other in (*places.values(), *_opened) if other[:-1] == place[:-1]]
            places[name] = next((other for other in alike if other[-1]), place)
    _forget(set(places.values()))
    if any(one.weights and not one.whole for one in chosen.values()):
        # Before there are weights: an error that an import swallows, and somebody keeps, keeps the frames above it too.
        packages.before_peft()
        import peft  # noqa: F401
    return {name: _voice(one, places[name]) for name, one in chosen.items()}


def _parameters(one: Contestant) -> tuple[str, ...]:
    """The bare parameters that an adapter is around, by its adapter_config.json; none of a base or a whole model."""
    if one.weights is None or one.whole:
        return ()
    values = json.loads((Path(one.weights) / "adapter_config.json").read_text(encoding="utf-8"))
    return tuple(sorted(values.get("target_parameters") or ()))


def close(*, at_once: bool = True) -> bool:
    """Give the memory back, ending a reply that grows, or else after it; whether anything was open.

    What was opened on the processor of a machine with a card stays, and a reply from there goes on.
    """
    if at_once:
        CLOSING.set()
    try:
        while not LOCK.acquire(timeout=LOOK_SECONDS):
            if _speaking == ON_CPU and all(place[2] == ON_CPU for place in list(_opened)):
                return False
        try:
            kept = {place for place in _opened if place[2] == ON_CPU}
            was_open = len(_opened) > len(kept)
            _forget(kept)
            return was_open
        finally:
            LOCK.release()
    finally:
        CLOSING.clear()


def is_open() -> bool:
    return bool(_opened)


def silence(weights: Weights) -> None:
    """Leave the model as its base."""
    _switch(weights, None)


def speak_as(voice: Voice) -> None:
    """Switch the layers, one by one, to a voice's adapter or to none.

    PEFT's own `disable_adapter()` and `set_adapter()` walk all modules each time and took as long as half a token of a
    135M model; these are two attributes of the layers that hold adapters.
    """
    _switch(voice.weights, voice.adapter)


def _switch(weights: Weights, adapter: str | None) -> None:
    for module in weights.switches:
        if hasattr(module, "modules_to_save") or not hasattr(module, "lora_A"):  # a copy of a whole layer: few of them
            module.enable_adapters(adapter is not None)
            if adapter is not None:
                module.set_adapter([adapter])
            continue
        module._disable_adapters = adapter is None
        if adapter is not None:
            module._active_adapter = [adapter]


def _device(on_cpu: bool) -> str:
    kind = devices.device_type()
    return ON_CPU if on_cpu and kind != "cpu" else kind


def _voice(one: Contestant, place: tuple) -> Voice:
    weights = _opened.get(place)
    if weights is None:
        weights = _opened[place] = _load(one, place)
    if one.weights is None or one.whole:
        return Voice(one, weights, None)
    key = (str(one.weights), _written(one.weights))
    if key not in weights.adapters:
        try:
            hang(weights, one, key)
        except Exception:
            del _opened[place]  # half an adapter may hang in it
            raise
    weights.adapters[key] = weights.adapters.pop(key)  # the latest one last
    return Voice(one, weights, weights.adapters[key])


def _load(one: Contestant, place: tuple) -> Weights:
    directory, _, device, quantised, precision, _ = place
    method = "qlora" if quantised else "lora"
    config = TrainConfig(base_model=directory, corpus="", method=method, precision=precision)
    need_room(one, Path(directory), device, bytes_each(config, device))
    base = _on_cpu(directory) if device == ON_CPU else for_replies(model_loading.load_base(config))
    tokenizer = tokenizer_loading.load_tokenizer(config)
    return Weights(base.eval(), tokenizer, device, quantised, stop_ids(base, tokenizer))


def bytes_each(config: TrainConfig, device: str) -> float:
    """Bytes that a weight takes in memory, of a base that this config loads on this device."""
    if config.method == "qlora":
        return QUANTISED_BYTES
    return 4 if device == ON_CPU or devices.precision(config) == "fp32" else 2


def for_replies(base):
    """A base that attends without flash-attn: with rows of different lengths its kernels ask the card for the lengths
    in every layer of every token."""
    if str(base.config._attn_implementation).startswith("flash") and getattr(base, "_supports_sdpa", False):
        base.set_attn_implementation("sdpa")
    return base


def _on_cpu(directory: str):
    """A model on the processor, while a run has the card."""
    return model_loading.without_towers(model_loading.open_model(directory, dtype=torch.float32))


def need_room(one: Contestant, directory: Path, device: str, bytes_each: float) -> None:
    """Raise NoRoom when a model of so many bytes a weight is surely larger than the memory that is free."""
    need, free = model_files.count(directory) * bytes_each, free_bytes(device)
    if need > free:
        raise NoRoom(model=one.title, need=f"{need / 2**30:.1f}", free=f"{free / 2**30:.1f}")


def free_bytes(device: str) -> int:
    """Memory that is free where a device computes; a card that shares the machine's memory has what is free there."""
    import psutil

    return psutil.virtual_memory().available if device.startswith("cpu") else devices.free_bytes()


def hang(weights: Weights, one: Contestant, key: tuple = ()) -> None:
    """Hang an adapter around the base; every saved tensor must have found its place."""
    packages.before_peft()
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    _check_fit(weights, one)
    weights.count += 1
    name, directory = f"adapter{weights.count}", one.weights
    for old in list(weights.adapters)[: max(0, len(weights.adapters) + 1 - MOST_ADAPTERS)]:
        weights.model.delete_adapter(weights.adapters.pop(old))
    read_on = {"torch_device": str(weights.inner.device)}  # else PEFT reads onto the card, whoever else has it
    try:
        if hasattr(weights.model, "peft_config"):
            weights.model.load_adapter(str(directory), adapter_name=name, **read_on)
        else:
            weights.model = PeftModel.from_pretrained(weights.model, directory, adapter_name=name, **read_on)
    except RuntimeError as error:  # PEFT's way to say that a tensor has another shape than its place
        raise AdapterForeign(
            adapter=directory, model=one.base_model, matched=0, tensors=len(_saved(directory))
        ) from error
    weights.model.eval()
    kinds = (BaseTunerLayer, AuxiliaryTrainingWrapper)
    weights.switches = tuple(module for module in weights.model.modules() if isinstance(module, kinds))
    saved = {tensor for tensor in _saved(directory) if "lora_" in tensor}
    names = (parameter for parameter, _ in weights.model.named_parameters() if f".{name}." in parameter)
    wanted = {parameter.replace(f".{name}.", ".") for parameter in names if "lora_" in parameter}
    wanted |= {tensor for tensor in saved if "lora_embedding" in tensor and tensor + f".{name}" in _names(weights)}
    if not saved or saved - wanted or {tensor for tensor in wanted if "lora_embedding" not in tensor} - saved:
        found = len(saved & wanted)
        raise AdapterForeign(adapter=directory, model=one.base_model, matched=found, tensors=len(saved))
    weights.adapters[key] = name


def _names(weights: Weights) -> set[str]:
    return {name for name, _ in weights.model.named_parameters()}


def _check_fit(weights: Weights, one: Contestant) -> None:
    """Look at the shapes of an adapter's tensors before the base is touched."""
    saved, matched = _saved(one.weights), 0
    table = weights.inner.get_input_embeddings().weight
    for tensor, shape in saved.items():
        if tensor.endswith(("embed_tokens.weight", "lm_head.weight")) and shape[0] != table.shape[0]:
            raise VocabularyResized(adapter=one.weights, rows=shape[0], model=one.base_model, vocabulary=table.shape[0])
        matched += _has_place(weights.inner, tensor, shape)
    lora = [tensor for tensor in saved if ".lora_A." in tensor]
    if not saved or matched < len(lora):
        raise AdapterForeign(adapter=one.weights, model=one.base_model, matched=matched, tensors=len(lora))


def _has_place(base, tensor: str, shape: list[int]) -> bool:
    """Whether a LoRA tensor's layer exists and takes that many numbers.

    Of experts, whose matrices are one parameter (E, X, Y), one that takes them: PEFT wraps each parameter of a module
    around the one before, and a saved name counts the wrappers.
    """
    if ".lora_A." not in tensor:
        return False
    path = tensor.removeprefix("base_model.model.").split(".lora_A.")[0]
    while path.endswith(".base_layer"):
        path = path.removesuffix(".base_layer")
    try:
        layer = base.get_submodule(path)
    except AttributeError:
        return False
    while hasattr(layer, "base_layer"):
        layer = layer.base_layer
    weight = getattr(layer, "weight", None)
    if weight is None:
        return any(shape[1] in weight.shape[1:] for weight in layer.parameters(recurse=False) if weight.ndim == 3)
    return (getattr(layer, "in_features", None) or weight.shape[0]) == shape[1]


def _saved(adapter: Path) -> dict[str, list[int]]:
    """The tensors of an adapter's file with their shapes, read from its header."""
    from safetensors import safe_open

    with safe_open(adapter / "adapter_model.safetensors", "pt") as file:
        return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 (not a dict)


def _is_plain(config) -> bool:
    odd = ("use_dora", "modules_to_save", "target_parameters", "trainable_token_indices", "alora_invocation_tokens")
    return not any(getattr(config, name, None) for name in odd) and getattr(config, "bias", "none") == "none"


def _written(directory: Path) -> int:
    """When weights were written: a run that went on has others at the same place."""
    return max((file.stat().st_mtime_ns for file in Path(directory).glob("*.safetensors")), default=0)


def stop_ids(model, tokenizer) -> frozenset[int]:
    """The tokens that end a reply: the model's own, and the one that its chat template writes after a reply."""
    configured = model.generation_config.eos_token_id
    ids = set(configured if isinstance(configured, list) else [configured])
    ids.add(tokenizer.eos_token_id)
    if tokenizer.chat_template:
        turn = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        labels = encoding.encode({"messages": turn}, tokenizer)["labels"]
        ids.add([label for label in labels if label != encoding.IGNORED][-1])
    return frozenset(ids - {None})


def _forget(needed: set[tuple]) -> None:
    """Let go of all weights but those."""
    gone = [place for place in _opened if place not in needed]
    for place in gone:
        del _opened[place]
    if gone:
        gc.collect()
        devices.empty_cache()
