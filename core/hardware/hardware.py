"""What this machine has: cards, memory, disk, and whether torch sees the cards.

No torch is imported: NVIDIA's cards are asked for through NVML, others of the system, and torch's build is read as text.
"""

import os
import platform
import shutil
from dataclasses import dataclass, field

import psutil

from core import paths
from core.hardware import nvidia, other_gpus, torch_build
from core.hardware.gpu import Gpu
from core.hardware.torch_build import Build, Unseen
from core.training.environment import processor_has_bf16 as processor_has_bf16


@dataclass(frozen=True)
class Machine:
    """Cards, processor, memory and the disk that the data directory is on; what keeps torch from the cards."""

    gpus: tuple[Gpu, ...]
    processor: str
    cores: int
    memory_bytes: int
    memory_free_bytes: int
    disk_free_bytes: int
    cuda: tuple[int, int] = (0, 0)  # the newest that NVIDIA's driver runs
    driver_trouble: str = ""  # what NVIDIA's driver says instead of an answer
    torch: Build = field(default_factory=Build)
    unseen: tuple[Unseen, ...] = ()  # of these cards, those that torch cannot compute on
    left_out: tuple[Unseen, ...] = ()  # other cards, of a make that torch is not built for: they cannot be chosen


def machine() -> Machine:
    """This machine as it is now."""
    memory, cards, driver, build = psutil.virtual_memory(), gpus(), nvidia.driver(), torch_build.installed()
    uuids, home = {gpu.uuid for gpu in cards}, paths.home()
    others = [gpu for gpu in _of_use() if gpu.uuid not in uuids]
    disk = next(folder for folder in (home, *home.parents) if folder.exists())
    return Machine(
        gpus=cards,
        processor=platform.processor() or platform.machine(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_bytes=memory.total,
        memory_free_bytes=memory.available,
        disk_free_bytes=shutil.disk_usage(disk).free,
        cuda=driver.cuda,
        driver_trouble=driver.trouble,
        torch=build,
        unseen=tuple(filter(None, (torch_build.unseen(gpu, driver.cuda, build) for gpu in cards))),
        left_out=tuple(filter(None, (torch_build.unseen(gpu, driver.cuda, build) for gpu in others))),
    )


def gpus() -> tuple[Gpu, ...]:
    """The cards that a process started here could compute on; none if there is no driver.

    Where torch is built for the make of one of them, those of other makes are left out: a run would compute on the first.
    """
    cards, build = _of_use(), torch_build.installed()
    return tuple(gpu for gpu in cards if not torch_build.lacks_make(gpu, build)) or cards


def _of_use() -> tuple[Gpu, ...]:
    """The cards of all makes that the installed torch, or one that is published, computes on."""
    build = torch_build.installed()
    return tuple(gpu for gpu in (*nvidia.driver().gpus, *other_gpus.gpus()) if torch_build.is_of_use(gpu, build))


def on_bus() -> tuple[Gpu, ...]:
    """All cards of this machine, those too that CUDA_VISIBLE_DEVICES and its like hide from this process."""
    return (*nvidia.driver().on_bus, *other_gpus.on_bus())


def free_bytes(gpu: Gpu) -> int:
    """How much memory a card has free at this moment; 0 where the driver does not say."""
    now = (*nvidia.driver(nvidia.FRESH_SECONDS).gpus, *other_gpus.gpus())
    return next((card.free_bytes for card in now if card.uuid == gpu.uuid), gpu.free_bytes)


def card(uuid: str | None = None) -> Gpu | None:
    """The card of this name, None if it is not there; without a name the card that is used if nobody chooses.

    That is one that torch can compute on, with the most memory; of equal ones the first.
    """
    cards = gpus()
    if uuid:
        return next((gpu for gpu in cards if gpu.uuid == uuid), None)
    if len(cards) < 2:
        return cards[0] if cards else None
    build = torch_build.installed()
    return max(cards, key=lambda gpu: (torch_build.unseen(gpu, build=build) is None, gpu.total_bytes))


def unseen(gpu: Gpu) -> Unseen | None:
    """What keeps the installed torch from computing on a card, or None."""
    return torch_build.unseen(gpu, nvidia.driver().cuda)


def environment(gpu: Gpu | None) -> dict[str, str]:
    """Variables with which a process, before it imports torch, finds this card and no other one."""
    if gpu is None or len(gpus()) < 2 or not gpu.uuid.startswith(("GPU-", "MIG-")):
        return {}  # nothing to choose from, or of a make whose cards cannot be chosen
    if gpu.kind == "rocm":
        # ROCR leaves one card, which HIP then counts from 0; left as they were, HIP's own lists might not name it.
        return {"ROCR_VISIBLE_DEVICES": gpu.uuid, "HIP_VISIBLE_DEVICES": "0", "CUDA_VISIBLE_DEVICES": "0"}
    return {"CUDA_VISIBLE_DEVICES": gpu.uuid}
