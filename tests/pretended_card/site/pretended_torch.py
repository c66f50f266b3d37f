"""Makes torch believe in one card: the compiled operators, and the questions about a card that torch answers in Python."""

import contextlib
import ctypes
import importlib.machinery
import importlib.util
import json
import os

varlen = None  # the operators of torch.nn.attention.varlen, kept registered
card = None  # the compiled module: counts() of operators, mixed() operators, clear(), strict(on)
FREE, TOTAL = 30 * 2**30, 40 * 2**30


def install() -> None:
    """Put the card in; called once, when torch has just been imported."""
    global card, varlen
    import pretended_varlen
    import torch

    about = json.loads(os.environ["PRETENDED_CARD"])
    if not _visible(about["cards"]):
        return
    import bitsandbytes  # noqa: F401 - before the card is there: it would look for CUDA's libraries

    loader = importlib.machinery.ExtensionFileLoader("pretended_card", about["library"])
    card = importlib.util.module_from_spec(importlib.util.spec_from_loader("pretended_card", loader))
    loader.exec_module(card)
    _answer(torch, _visible(about["cards"])[0], tuple(about["capability"]))
    _storages(torch)
    varlen = pretended_varlen.install(torch, tuple(about["capability"]))
    torch.inference_mode = lambda mode=True: torch.no_grad() if mode else contextlib.nullcontext()
    _safetensors()
    import pretended_operators

    pretended_operators.install(torch)


def _visible(cards: list[dict]) -> list[dict]:
    """The cards that CUDA_VISIBLE_DEVICES leaves, by number or UUID, as the driver does it: the first unknown one ends it."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return cards
    found = []
    for name in named.split(","):
        one = [x for at, x in enumerate(cards) if str(at) == name or (name and x["uuid"].startswith(name))]
        if not one:
            break
        found += one[:1]
    return found


def _answer(torch, one: dict, capability: tuple[int, int]) -> None:
    class Properties:
        name, total_memory, uuid = one["name"], one.get("total") or TOTAL, one["uuid"].removeprefix("GPU-")
        major, minor = capability
        multi_processor_count, warp_size, gcnArchName = 108, 32, ""

    class Stream:
        device_index = stream_id = cuda_stream = 0

        def synchronize(self): ...
        def wait_stream(self, other): ...

    @contextlib.contextmanager
    def device(*_):
        yield

    cuda = torch.cuda
    native = capability >= (8, 0)
    answers = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda *_: None,
        "_lazy_init": lambda: None,
        "init": lambda: None,
        "is_initialized": lambda: True,
        "get_device_name": lambda *_: Properties.name,
        "get_device_capability": lambda *_: capability,
        "get_device_properties": lambda *_: Properties,
        "get_arch_list": lambda: ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"],
        "is_bf16_supported": lambda including_emulation=True: native or including_emulation,
        "mem_get_info": lambda *_: (one.get("free") or FREE, Properties.total_memory),
        "memory_stats": lambda *_: {},
        "current_stream": lambda *_: Stream(),
        "device": device,
    }
    for name in (
        "synchronize",
        "empty_cache",
        "reset_peak_memory_stats",
        "manual_seed",
        "manual_seed_all",
        "ipc_collect",
    ):
        answers[name] = lambda *_, **__: None
    for name in ("max_memory_reserved", "max_memory_allocated", "memory_reserved", "memory_allocated"):
        answers[name] = lambda *_: 2**30
    for name, answer in answers.items():
        setattr(cuda, name, answer)
    state = lambda: torch.zeros(16, dtype=torch.uint8)  # noqa: E731
    cuda.get_rng_state = cuda.random.get_rng_state = lambda *_: state()
    cuda.get_rng_state_all = cuda.random.get_rng_state_all = lambda: [state()]
    cuda.set_rng_state = cuda.random.set_rng_state = lambda *_, **__: None
    cuda.set_rng_state_all = cuda.random.set_rng_state_all = lambda *_, **__: None


def _storages(torch) -> None:
    """Copies of whole storages between the devices, which go around the operators."""
    to_cpu = torch.UntypedStorage.cpu

    def cpu(self):
        if self.device.type != "cuda":
            return to_cpu(self)
        out = torch.UntypedStorage(self.size())
        if self.size():
            ctypes.memmove(out.data_ptr(), self.data_ptr(), self.size())
        return out

    def cuda(self, *_, **__):
        if self.device.type == "cuda":
            return self
        out = torch.empty(self.size(), dtype=torch.uint8, device="cuda").untyped_storage()
        if self.size():
            ctypes.memmove(out.data_ptr(), self.data_ptr(), self.size())
        return out

    torch.UntypedStorage.cpu, torch.UntypedStorage.cuda = cpu, cuda


def _safetensors() -> None:
    """Files are read on the processor, then moved."""
    import safetensors.torch

    load = safetensors.torch.load_file
    safetensors.torch.load_file = lambda path, device="cpu": {
        name: tensor.to(device) for name, tensor in load(path, device="cpu").items()
    }
