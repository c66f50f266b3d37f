"""NVIDIA's cards, asked of the driver through NVML (the package nvidia-ml-py), as a CUDA program would see them.

NVML counts cards by their place on the PCI bus and knows nothing of CUDA_VISIBLE_DEVICES; CUDA counts the fastest one
first. Names are therefore UUIDs here, and only numbers that a person wrote into CUDA_VISIBLE_DEVICES are counted.
"""

import os
import re
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from types import ModuleType

import psutil

from core import errors
from core.errors import UserError
from core.hardware.gpu import Gpu

PACKAGE = "nvidia-ml-py"
PATIENCE = 20  # seconds that CUDA's driver gets to count its cards
SPLIT = 8  # instances of a card at most, where the driver does not say how many there may be
# Prints the UUIDs of CUDA's cards in CUDA's own order. In a process of its own: a page that opened the driver itself
# would hold it for as long as it lives.
ORDER = """
import ctypes, uuid
cuda = ctypes.CDLL({library!r})
count, device, id = ctypes.c_int(), ctypes.c_int(), (ctypes.c_ubyte * 16)()
assert cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0
for at in range(count.value):
    assert cuda.cuDeviceGet(ctypes.byref(device), at) == 0 and cuda.cuDeviceGetUuid(id, device) == 0
    print("GPU-" + str(uuid.UUID(bytes=bytes(id))))
"""
KEPT_SECONDS = 10.0  # that an answer of the driver holds
FRESH_SECONDS = 1.0  # that it holds for who asks how much memory is free
_kept: tuple[tuple, float, "Driver"] | None = None
_lock = threading.Lock()


@dataclass(frozen=True)
class Driver:
    """What the driver says: its cards, the newest CUDA that it runs, what is wrong with it, and its own version."""

    gpus: tuple[Gpu, ...] = ()
    cuda: tuple[int, int] = (0, 0)
    trouble: str = ""
    on_bus: tuple[Gpu, ...] = ()  # all cards, whatever CUDA_VISIBLE_DEVICES leaves of them
    version: str = ""
    command: str = ""  # that repairs the package by which it is asked, where that is what is wrong

    @property
    def error(self) -> UserError | None:
        """What is wrong, and what to do about it."""
        if self.command:
            return errors.named("DriverNotAsked", command=self.command)
        return errors.named("DriverSilent", reason=self.trouble.rstrip(".")) if self.trouble else None


@dataclass(frozen=True)
class _Card:
    """A card on the bus with what CUDA_VISIBLE_DEVICES may call it."""

    gpu: Gpu
    names: tuple[str, ...]  # the UUID first
    speed: float  # cores x MHz, to guess which card CUDA counts first
    instances: tuple["_Card", ...] = ()  # of a card in MIG mode; they are what computes

    @property
    def parts(self) -> tuple["_Card", ...]:
        return self.instances or (self,)


def driver(seconds: float = KEPT_SECONDS) -> Driver:
    """The driver and the cards that a process of this environment can compute on. It never raises.

    An answer of the last `seconds` is given again: where nothing else keeps the driver loaded, it takes a second to be
    asked.
    """
    global _kept
    seen = tuple(os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"))
    with _lock:
        if _kept is None or _kept[0] != seen or time.monotonic() - _kept[1] > seconds:
            answer = _ask()
            _kept = seen, time.monotonic(), answer
        return _kept[2]


def _ask() -> Driver:
    try:
        import pynvml as nvml  # noqa: PLC0415 - a machine without a card does without the package
    except ImportError:
        missing = Driver(trouble="the package nvidia-ml-py is not installed", command=f"pip install {PACKAGE}")
        # Whether a driver of NVIDIA's runs here, as far as that shows without NVML.
        return missing if os.path.exists("/proc/driver/nvidia/version") else Driver()
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return Driver(trouble="" if error.value == nvml.NVML_ERROR_LIBRARY_NOT_FOUND else str(error))
    try:
        return _answer(nvml)
    except nvml.NVMLError as error:
        return Driver(trouble=str(error))
    except (AttributeError, TypeError):
        # Other packages bring a module of the same name, and one of years ago lacks what is asked here.
        anew = f"pip uninstall -y pynvml {PACKAGE} && pip install {PACKAGE}"
        return Driver(trouble="an old package pynvml hides nvidia-ml-py", command=anew)
    finally:
        with suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def _answer(nvml: ModuleType) -> Driver:
    cards, trouble = [], ""
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            cards.append(_card(nvml, nvml.nvmlDeviceGetHandleByIndex(index)))
        except nvml.NVMLError as error:  # one that fell off the bus does not take the others along
            trouble = str(error)
    cuda = _or(nvml, 0, lambda: nvml.nvmlSystemGetCudaDriverVersion_v2())
    version = _or(nvml, "", lambda: nvml.nvmlSystemGetDriverVersion())
    on_bus = tuple(part.gpu for card in cards for part in card.parts)
    return Driver(visible(cards), (cuda // 1000, cuda % 1000 // 10), trouble, on_bus, version)


def _card(nvml: ModuleType, handle) -> _Card:
    name, uuid = _text(nvml.nvmlDeviceGetName(handle)), _text(nvml.nvmlDeviceGetUUID(handle))
    total, free, memory = _memory(nvml, handle)
    major, minor = _or(nvml, (0, 0), lambda: nvml.nvmlDeviceGetCudaComputeCapability(handle))
    watts = _or(nvml, 0, lambda: nvml.nvmlDeviceGetPowerManagementLimit(handle)) / 1000
    gpu = Gpu(name, total, free, float(f"{major}.{minor}"), watts, uuid, memory=memory)
    cores = _or(nvml, 0, lambda: nvml.nvmlDeviceGetNumGpuCores(handle))
    clock = _or(nvml, 0, lambda: nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM))
    on_bus = _Card(gpu, (uuid,), cores * clock)
    if not _or(nvml, False, lambda: nvml.nvmlDeviceGetMigMode(handle)[0] == nvml.NVML_DEVICE_MIG_ENABLE):
        return on_bus
    return replace(on_bus, instances=tuple(_instances(nvml, handle, gpu)))


def _instances(nvml: ModuleType, handle, parent: Gpu):
    for index in range(_or(nvml, SPLIT, lambda: nvml.nvmlDeviceGetMaxMigDeviceCount(handle))):
        try:
            part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
        except nvml.NVMLError:  # there may be as many; there are fewer
            continue
        uuid, (total, free, memory) = _text(nvml.nvmlDeviceGetUUID(part)), _memory(nvml, part)
        name = _text(_or(nvml, f"{parent.name} MIG", partial(nvml.nvmlDeviceGetName, part)))
        whole = _or(nvml, 0, partial(nvml.nvmlDeviceGetGpuInstanceId, part))
        within = _or(nvml, 0, partial(nvml.nvmlDeviceGetComputeInstanceId, part))
        old_name = f"MIG-{parent.uuid}/{whole}/{within}"
        if not total and (size := re.search(r"\.(\d+)gb", name)):  # that its name says: "1g.10gb"
            total = int(size[1]) * 10**9
        gpu = replace(parent, name=name, total_bytes=total, free_bytes=free or total, uuid=uuid, memory=memory, watts=0)
        yield _Card(gpu, (uuid, old_name), 0.0)


def _memory(nvml: ModuleType, handle) -> tuple[int, int, str]:
    """Bytes in all, bytes free, and whose memory it is."""
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        if memory.total:
            return memory.total, memory.free, "own"
    except nvml.NVMLError as error:
        if error.value != nvml.NVML_ERROR_NOT_SUPPORTED:  # no permission (vGPU, MIG), a card that is lost
            return 0, 0, "unknown"
    # GB10 and Jetson have no memory of their own: https://docs.nvidia.com/dgx/dgx-spark/known-issues.html
    machine = psutil.virtual_memory()
    return machine.total, machine.available, "shared"


def _or(nvml: ModuleType, otherwise, ask):
    """What the driver answers, or something else where it, or the package, does not know or may not say."""
    try:
        return ask()
    except (nvml.NVMLError, AttributeError):
        return otherwise


def _text(text: str | bytes) -> str:
    """Text of the driver: bytes in packages of years ago."""
    return text.decode() if isinstance(text, bytes) else text


# ---------------------------------------------------------------------------------------------------------------------
# What CUDA makes of it


def visible(cards: list[_Card]) -> tuple[Gpu, ...]:
    """The cards that CUDA_VISIBLE_DEVICES leaves, in its order; all of them where it is not set.

    As CUDA reads it: numbers, or UUIDs or beginnings of one, or MIG ids; the list ends at the first that names no card,
    and one that names a card twice names none at all. Without it CUDA would show one MIG instance only; each can be
    chosen by its UUID, so all are listed.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return tuple(part.gpu for card in in_cuda_order(cards) for part in card.parts)
    counted = in_cuda_order(cards) if re.search(r"(^|,)\s*\+?\d", named) else cards
    chosen: list[Gpu] = []
    for entry in named.split(","):
        gpu = _named(entry.strip(), counted)
        if gpu is None:
            break
        if gpu in chosen:
            return ()
        chosen.append(gpu)
    return tuple(chosen)


def _named(entry: str, cards: list[_Card]) -> Gpu | None:
    if number := re.match(r"\+?(\d+)", entry):
        at = int(number[1])
        return cards[at].parts[0].gpu if at < len(cards) else None
    if entry.startswith("MIG-"):
        parts = [part for card in cards for part in card.instances]
        fits = [part for part in parts if any(name.startswith(entry) for name in part.names)]
    else:
        fits = [card for card in cards if entry.startswith("GPU-") and card.gpu.uuid.startswith(entry)]
    return fits[0].parts[0].gpu if len(fits) == 1 else None


def in_cuda_order(cards: list[_Card]) -> list[_Card]:
    """Cards of the PCI bus as CUDA counts them: by CUDA_DEVICE_ORDER, the fastest first unless it says PCI_BUS_ID."""
    alike = len({card.gpu.name for card in cards}) < 2
    if alike or os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID":
        return cards
    order = _counted_by_cuda(tuple(card.gpu.uuid for card in cards))
    if order:
        return sorted(cards, key=lambda card: order.index(card.gpu.uuid) if card.gpu.uuid in order else len(order))
    # CUDA cannot be asked. Its manual: the fastest becomes device 0, the order of the rest is unspecified.
    first = max(cards, key=lambda card: card.speed)
    return [first, *(card for card in cards if card is not first)]


@cache
def _counted_by_cuda(on_bus: tuple[str, ...]) -> tuple[str, ...]:
    """UUIDs in the order of CUDA's own driver; nothing where it cannot be asked. Kept for the cards that are on the bus."""
    library = {"win32": "nvcuda.dll"}.get(sys.platform, "libcuda.so.1")
    environment = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
    command = [sys.executable, "-I", "-c", ORDER.format(library=library)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True, env=environment)
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(line for line in done.stdout.split() if line in on_bus)
