"""The environment of a training process: variables that torch and CUDA read, and what can be asked without torch."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from pathlib import Path

import psutil

try:
    import resource
except ImportError:  # Windows
    resource = None

ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")
OUT_OF_MEMORY = (  # torch, CUDA, cuBLAS, cuDNN, NCCL; HIP and its libraries; Level Zero and SYCL; MPS; a processor; Windows
    *("out of memory", "outofmemory", "out_of_memory", "alloc_failed", "allocfailed", "out_of_device_memory"),
    *("out_of_host_memory", "bad_alloc", "can't allocate memory", "cannot allocate memory", "not enough memory"),
    *("insufficient memory", "status_memory_error", "failed to allocate memory", "os error 1455", "paging file is too"),
)


def first_card_only() -> None:
    """Show this process one card, unless it is launched as one of several: the Trainer would use every card it sees."""
    if "LOCAL_RANK" not in os.environ:
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")


def grow_segments() -> None:
    """Let the memory that CUDA's allocator holds grow in place, so that batches of many lengths leave no gaps in it.

    It takes effect before torch is imported, on Linux alone, and unless somebody chose the allocator's settings.
    """
    if sys.platform == "linux" and not any(name in os.environ for name in ALLOCATOR):
        release = tuple(int(part) for part in version("torch").split(".")[:2])
        os.environ[ALLOCATOR[0] if release >= (2, 9) else ALLOCATOR[1]] = "expandable_segments:True"


def processor_has_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this processor multiplies bf16 in hardware (AVX512-BF16, AMX).

    Whole steps took half of the time of fp32 where it does (3.30 and 1.56 ms a token), and were 40 times slower where not.
    """
    try:
        flags = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, of the device or of the machine, in whichever library's words."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    message = str(error).lower()
    return any(words in message for words in OUT_OF_MEMORY)


def is_main_process() -> bool:
    return int(os.environ.get("RANK", 0)) == 0


def process_count() -> int:
    """How many processes train together, each with rows of its own."""
    return int(os.environ.get("WORLD_SIZE", 1))


def peak_resident_bytes() -> int:
    """The most memory that this process has held so far."""
    if resource is None:
        return psutil.Process().memory_info().peak_wset
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)  # else KiB
