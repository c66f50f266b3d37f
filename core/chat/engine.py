"""The weights in memory: one set a base model, with every adapter around it, and the one lock of the card."""

import gc
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from core import recipe, stored
from core.chat import AdapterForeign, MemoryRanOut, NoRoom, Question, Reply, Sampling, VocabularyResized
from core.chat import contestants as known
from core.chat.contestants import Contestant

LOCK = threading.Lock()  # one reply at a time on the card, whatever the number of windows
CLOSING = threading.Event()  # set while the memory is wanted back: replies end where they are
MOST_ADAPTERS = 8  # kept around one base
BASE_ADAPTER = "__base__"  # PEFT's own name, in a mixed batch, for a row without an adapter
_opened: dict[tuple, "Weights"] = {}


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


def replies(
    questions: dict[str, Question], sampling: Sampling, *, on_cpu: bool = False, loaded_as: str | None = None
) -> Iterator[dict[str, Reply]]:
    """Grow a reply in each column and yield the columns as they grow.

    All columns draw with the same settings from generators of the same seed, so an adapter that changes nothing replies
    word for word like its base. Closing the iterator stops at once and frees the card. `loaded_as` names the run that
    decides how the base is held, 4-bit or not, when it isn't asked itself.
    """
    from core.chat.growing import Group

    with LOCK:
        voices = voiced({name: question.contestant for name, question in questions.items()}, on_cpu, loaded_as)
        try:
            groups = []
            for names in _batches(voices):
                asked = {name: (voices[name], questions[name].messages) for name in names}
                groups.append(Group(asked, sampling))
            growing = groups
            while growing and not CLOSING.is_set():
                growing = [group for group in growing if group.grow()]
                yield {name: replace(group.replies[name]) for name in questions for group in groups if name in group}
        except (torch.OutOfMemoryError, MemoryError) as error:
            _forget(set())
            raise MemoryRanOut(model=voices[next(iter(voices))].contestant.title) from error
        finally:
            for weights in {id(voice.weights): voice.weights for voice in voices.values()}.values():
                silence(weights)


def voiced(ids: dict[str, str], on_cpu: bool = False, loaded_as: str | None = None) -> dict[str, Voice]:
    """The voices of columns, loaded as far as they are not yet; weights that none of them needs are let go.

    A base is held in 4-bit only if every adapter asked for was trained on it in 4-bit: one set for all of them. But
    adapters around different parameters (of experts) need a base each: PEFT nests them in one order a model.
    https://github.com/huggingface/peft/issues/3340
    """
    model = [known.find(loaded_as)] if loaded_as else []
    chosen = {name: known.find(id) for name, id in ids.items()}
    adapters = [one for one in [*chosen.values(), *model] if one.config]
    places, device = {}, _device(on_cpu)
    for name, one in chosen.items():
        kin = [other.config.method for other in adapters if not other.whole and other.base_model == one.base_model]
        quantised = bool(kin) and set(kin) == {"qlora"} and device != "cpu-instead"
        directory = one.weights if one.whole else Path(known.base_of(one))
        place = (str(directory), _written(directory), quantised and not one.whole, device, _parameters(one))
        open_otherwise = (*place[:2], not place[2], *place[3:])
        # A base that nobody's training says how to hold is spoken to as it is held already.
        places[name] = open_otherwise if not kin and open_otherwise in _opened else place
    for name, place in places.items():  # what is around no such parameter goes with any set of the same base
        if not place[-1]:
            alike = [other for other in (*places.values(), *_opened) if other[:-1] == place[:-1]]
            places[name] = next((other for other in alike if other[-1]), place)
    _forget(set(places.values()))
    return {name: _voice(one, places[name]) for name, one in chosen.items()}


def _parameters(one: Contestant) -> tuple[str, ...]:
    """The bare parameters that an adapter is around, by its adapter_config.json; none of a base or a whole model."""
    if one.weights is None or one.whole:
        return ()
    values = json.loads((Path(one.weights) / "adapter_config.json").read_text(encoding="utf-8"))
    return tuple(sorted(values.get("target_parameters") or ()))


def close() -> bool:
    """Give the memory back, ending a reply that grows; whether anything was open."""
    CLOSING.set()
    try:
        with LOCK:
            was_open = bool(_opened)
            _forget(set())
            return was_open
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


def _batches(voices: dict[str, Voice]) -> list[list[str]]:
    """Columns that grow in one forward pass: of the same weights, with adapters that mix."""
    batches: dict = {}
    for name, voice in voices.items():
        alone = () if voice.mixes else (name,)
        batches.setdefault((id(voice.weights), *alone), []).append(name)
    return list(batches.values())


def _device(on_cpu: bool) -> str:
    kind = recipe.device_type()
    return "cpu-instead" if on_cpu and kind != "cpu" else kind


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
    directory, _, quantised, device, _ = place
    need_room(one, Path(directory), device, 0.7 if quantised else 4 if device.startswith("cpu") else 2)
    config = one.config or recipe.TrainConfig(base_model=directory, corpus="", method="lora")
    config = replace(config, base_model=directory, method="qlora" if quantised else "lora")
    try:
        base = _on_cpu(directory) if device == "cpu-instead" else recipe.load_base(config)
        base = base.eval()
    except (torch.OutOfMemoryError, MemoryError) as error:
        _forget(set())
        raise MemoryRanOut(model=one.title) from error
    tokenizer = recipe.load_tokenizer(config)
    return Weights(base, tokenizer, device, quantised, stop_ids(base, tokenizer))


def _on_cpu(directory: str):
    """A model on the processor, while a run has the card."""
    return recipe.without_towers(recipe.open_model(directory, dtype=torch.float32))


def need_room(one: Contestant, directory: Path, device: str, bytes_each: float) -> None:
    """Raise NoRoom when a model of so many bytes a weight is surely larger than the memory that is free."""
    import psutil

    need = stored.count(directory) * bytes_each
    free = psutil.virtual_memory().available if device == "cpu-instead" else recipe.free_bytes()
    if need > free:
        raise NoRoom(model=one.title, need=f"{need / 2**30:.1f}", free=f"{free / 2**30:.1f}")


def hang(weights: Weights, one: Contestant, key: tuple = ()) -> None:
    """Hang an adapter around the base; every saved tensor must have found its place."""
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    _check_fit(weights, one)
    weights.count += 1
    name, directory = f"adapter{weights.count}", one.weights
    for old in list(weights.adapters)[: max(0, len(weights.adapters) + 1 - MOST_ADAPTERS)]:
        weights.model.delete_adapter(weights.adapters.pop(old))
    try:
        if hasattr(weights.model, "peft_config"):
            weights.model.load_adapter(str(directory), adapter_name=name)
        else:
            weights.model = PeftModel.from_pretrained(weights.model, directory, adapter_name=name)
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
        labels = recipe.encode({"messages": turn}, tokenizer)["labels"]
        ids.add([label for label in labels if label != recipe.IGNORED][-1])
    return frozenset(ids - {None})


def _forget(needed: set[tuple]) -> None:
    """Let go of all weights but those."""
    gone = [place for place in _opened if place not in needed]
    for place in gone:
        del _opened[place]
    if gone:
        gc.collect()
        recipe.empty_cache()
