"""The device that computes: its type, name, memory and precision."""

from __future__ import annotations

import os

import psutil
import torch

from . import environment
from .config import TrainConfig

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CARDS = ("cuda", "xpu")  # devices of which a machine may have several


def device_type() -> str:
    """What this process computes on: cuda (NVIDIA, and AMD through ROCm), xpu (Intel), mps (Apple) or cpu."""
    backends = {"cuda": torch.cuda, "xpu": torch.xpu, "mps": torch.backends.mps}
    return next((name for name, backend in backends.items() if backend.is_available()), "cpu")


def device() -> str:
    """The device as torch names it: one card a process; under a distributed launcher each process has its own."""
    kind = device_type()
    if kind not in CARDS:
        return kind
    # Modulo as accelerate does it: a launcher may have shown each process its own card alone.
    return f"{kind}:{int(os.environ.get('LOCAL_RANK', 0)) % getattr(torch, kind).device_count()}"


def use_device() -> None:
    """Make the device of this process the one that torch asks and allocates on when nobody names one."""
    if (kind := device_type()) in CARDS:
        getattr(torch, kind).set_device(device())


def device_name() -> str:
    """The name of the card, as its driver gives it; "Apple GPU" and "cpu" where there is none to ask."""
    kind = device_type()
    if kind in CARDS:
        return getattr(torch, kind).get_device_name()
    return "Apple GPU" if kind == "mps" else kind


def has_bf16() -> bool:
    """Whether the device multiplies bf16 in hardware; emulation is slower than fp32.

    On Apple silicon emulation counts as well (Metal does it before M3): it is no slower than fp32 and takes half the
    memory.
    """
    kind = device_type()
    if kind == "cpu":
        return environment.processor_has_bf16()
    if kind == "mps":
        return torch.backends.mps.is_macos_or_newer(14, 0)
    return getattr(torch, kind).is_bf16_supported(including_emulation=False)


def architectures() -> tuple[str, list[str]]:
    """The architecture of this process's card (sm_86, gfx1100), and those that the installed torch has kernels for."""
    if torch.version.hip:
        needed = torch.cuda.get_device_properties().gcnArchName.split(":")[0]
    else:
        needed = "sm_{}{}".format(*torch.cuda.get_device_capability())
    return needed, torch.cuda.get_arch_list()


def synchronize() -> None:
    """Wait until the device has computed all that it was given."""
    if (kind := device_type()) != "cpu":
        getattr(torch, kind).synchronize()


def empty_cache() -> None:
    """Give the memory that the allocator keeps for later back to the driver."""
    if (kind := device_type()) != "cpu":
        getattr(torch, kind).empty_cache()


def free_bytes() -> int:
    """Memory that is free on the device; on a processor, of the machine."""
    kind, available = device_type(), psutil.virtual_memory().available
    if kind in CARDS:
        free = _driver_free_bytes(getattr(torch, kind))
        shared = kind == "cuda" and getattr(torch.cuda.get_device_properties(), "is_integrated", False)
        # A card that shares the machine's memory counts what the system keeps of files as taken; it is given back.
        return max(free, available) if shared else free
    if kind == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return available


def _driver_free_bytes(backend) -> int:
    """Memory that is free by the driver; where it does not say, what this process has not reserved."""
    try:
        return backend.mem_get_info()[0]
    except RuntimeError:
        if backend is not torch.xpu:
            raise
        # Some of Intel's cards cannot be asked: https://github.com/pytorch/pytorch/issues/164429
        return backend.get_device_properties().total_memory - backend.memory_reserved()


def peak_memory_gib() -> float:
    """The most memory held so far: reserved on the device; on a processor, resident in this process."""
    kind = device_type()
    if kind in CARDS:
        return round(getattr(torch, kind).max_memory_reserved() / 2**30, 3)
    if kind == "mps":  # it keeps no peak, and gives nothing back by itself
        return round(torch.mps.driver_allocated_memory() / 2**30, 3)
    return round(environment.peak_resident_bytes() / 2**30, 3)


def precision(config: TrainConfig) -> str:
    """fp32, bf16 or fp16: what this machine computes fast."""
    if config.precision != "auto":
        return config.precision
    if has_bf16():
        return "bf16"
    return "fp16" if device_type() == "cuda" else "fp32"


def wait_for_everyone() -> None:
    """Wait until all processes of this training have come here."""
    if environment.process_count() > 1:
        torch.distributed.barrier()


def all_finite(tensors) -> bool:
    """Whether all of some losses or weights are numbers, with one question to the device."""
    finite = [tensor.isfinite().all() for tensor in tensors]
    # Tensors that are sharded over processes cannot be stacked.
    return all(finite) if environment.process_count() > 1 else bool(torch.stack(finite).all())


def distance(tensor, reference) -> float:
    """The length of the difference of two tensors as a share of the second one's length."""
    return float((tensor - reference).norm() / reference.norm().clamp_min(1e-12))
