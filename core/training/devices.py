"""The device that computes: its type, name, memory and precision; and the processes that train together."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from .config import TrainConfig

OUT_OF_MEMORY = (  # torch, CUDA, cuBLAS, cuDNN, NCCL; HIP and its libraries; Level Zero and SYCL; MPS; a processor; Windows
    *("out of memory", "outofmemory", "out_of_memory", "alloc_failed", "allocfailed", "out_of_device_memory"),
    *("out_of_host_memory", "bad_alloc", "can't allocate memory", "cannot allocate memory", "not enough memory"),
    *("insufficient memory", "status_memory_error", "failed to allocate memory", "os error 1455", "paging file is too"),
)


def device_type() -> str:
    """What this process computes on: cuda (NVIDIA, and AMD through ROCm), xpu (Intel), mps (Apple) or cpu."""
    import torch

    backends = {"cuda": torch.cuda, "xpu": torch.xpu, "mps": torch.backends.mps}
    return next((name for name, backend in backends.items() if backend.is_available()), "cpu")


def device() -> str:
    """The device as torch names it: one card a process; under a distributed launcher each process has its own."""
    import torch

    kind = device_type()
    if kind not in ("cuda", "xpu"):
        return kind
    # Modulo as accelerate does it: a launcher may have shown each process its own card alone.
    return f"{kind}:{int(os.environ.get('LOCAL_RANK', 0)) % getattr(torch, kind).device_count()}"


def use_device() -> None:
    """Make the device of this process the one that torch asks and allocates on when nobody names one."""
    import torch

    if (kind := device_type()) in ("cuda", "xpu"):
        getattr(torch, kind).set_device(device())


def device_name() -> str:
    """The name of the card, as its driver gives it; "Apple GPU" and "cpu" where there is none to ask."""
    import torch

    kind = device_type()
    if kind in ("cuda", "xpu"):
        return getattr(torch, kind).get_device_name()
    return "Apple GPU" if kind == "mps" else kind


def has_bf16() -> bool:
    """Whether the device multiplies bf16 in hardware; emulation is slower than fp32.

    On Apple silicon emulation counts as well (Metal does it before M3): it is no slower than fp32 and takes half the
    memory.
    """
    import torch

    kind = device_type()
    if kind == "cpu":
        return processor_has_bf16()
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if kind == "xpu":
        return torch.xpu.is_bf16_supported(including_emulation=False)
    return torch.backends.mps.is_macos_or_newer(14, 0)


def processor_has_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this processor multiplies bf16 in hardware (AVX512-BF16, AMX).

    Whole steps took half of the time of fp32 where it does (3.30 and 1.56 ms a token), and were 40 times slower where not.
    """
    try:
        flags = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def architectures() -> tuple[str, list[str]]:
    """The architecture of this process's card (sm_86, gfx1100), and those that the installed torch has kernels for."""
    import torch

    if torch.version.hip:
        needed = torch.cuda.get_device_properties().gcnArchName.split(":")[0]
    else:
        needed = "sm_{}{}".format(*torch.cuda.get_device_capability())
    return needed, torch.cuda.get_arch_list()


def synchronize() -> None:
    """Wait until the device has computed all that it was given."""
    import torch

    if (kind := device_type()) != "cpu":
        getattr(torch, kind).synchronize()


def empty_cache() -> None:
    """Give the memory that the allocator keeps for later back to the driver."""
    import torch

    if (kind := device_type()) != "cpu":
        getattr(torch, kind).empty_cache()


def free_bytes() -> int:
    """Memory that is free on the device; on a processor, of the machine."""
    import psutil
    import torch

    kind = device_type()
    if kind in ("cuda", "xpu"):
        free = _driver_free_bytes(getattr(torch, kind))
        shared = kind == "cuda" and getattr(torch.cuda.get_device_properties(), "is_integrated", False)
        # A card that shares the machine's memory counts what the system keeps of files as taken; it is given back.
        return max(free, psutil.virtual_memory().available) if shared else free
    if kind == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return psutil.virtual_memory().available


def _driver_free_bytes(backend) -> int:
    """Memory that is free by the driver; where it does not say, what this process has not reserved."""
    import torch

    try:
        return backend.mem_get_info()[0]
    except RuntimeError:
        if backend is not torch.xpu:
            raise
        # Some of Intel's cards cannot be asked: https://github.com/pytorch/pytorch/issues/164429
        return backend.get_device_properties().total_memory - backend.memory_reserved()


def peak_memory_gib() -> float:
    """The most memory held so far: reserved on the device; on a processor, resident in this process."""
    import torch

    kind = device_type()
    if kind in ("cuda", "xpu"):
        return round(getattr(torch, kind).max_memory_reserved() / 2**30, 3)
    if kind == "mps":  # it keeps no peak, and gives nothing back by itself
        return round(torch.mps.driver_allocated_memory() / 2**30, 3)
    if sys.platform == "win32":
        import psutil

        return round(psutil.Process().memory_info().peak_wset / 2**30, 3)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30, 3)


def grow_segments() -> None:
    """Let the memory that CUDA's allocator holds grow in place, so that batches of many lengths leave no gaps in it.

    It takes effect before torch is imported, on Linux alone, and unless somebody chose the allocator's settings.
    """
    from importlib.metadata import version

    names = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")
    if sys.platform == "linux" and not any(name in os.environ for name in names):
        release = tuple(int(part) for part in version("torch").split(".")[:2])
        os.environ[names[0] if release >= (2, 9) else names[1]] = "expandable_segments:True"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, of the device or of the machine, in whichever library's words."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    said = str(error).lower()
    return any(words in said for words in OUT_OF_MEMORY)


def precision(config: TrainConfig) -> str:
    """fp32, bf16 or fp16: what this machine computes fast."""
    if config.precision != "auto":
        return config.precision
    if has_bf16():
        return "bf16"
    return "fp16" if device_type() == "cuda" else "fp32"


def is_main_process() -> bool:
    return int(os.environ.get("RANK", 0)) == 0


def process_count() -> int:
    """How many processes train together, each with rows of its own."""
    return int(os.environ.get("WORLD_SIZE", 1))


def wait_for_everyone() -> None:
    if process_count() > 1:
        import torch

        torch.distributed.barrier()


def all_finite(tensors) -> bool:
    """Whether all of some losses or weights are numbers, with one question to the device."""
    import torch

    found = [tensor.isfinite().all() for tensor in tensors]
    return all(found) if process_count() > 1 else bool(torch.stack(found).all())  # shared out ones cannot be stacked
