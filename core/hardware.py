"""What this machine has: cards, memory, disk. Run it: `python -m core.hardware --json`.

No torch is imported: cards are asked for through the driver's own nvidia-smi, so the page stays light.
"""

import argparse
import dataclasses
import json
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

from core import paths

FIELDS = ("name", "memory.total", "memory.free", "compute_cap", "power.limit")
PATIENCE = 10  # seconds that nvidia-smi gets


@dataclass(frozen=True)
class Gpu:
    """A graphics card of this machine."""

    name: str
    total_bytes: int
    free_bytes: int
    compute_capability: float
    watts: float

    @property
    def has_bf16(self) -> bool:
        return self.compute_capability >= 8.0

    @property
    def has_flash_attention(self) -> bool:
        return self.compute_capability >= 8.0


@dataclass(frozen=True)
class Machine:
    """Cards, processor, memory and the disk that the data directory is on."""

    gpus: tuple[Gpu, ...]
    processor: str
    cores: int
    memory_bytes: int
    memory_free_bytes: int
    disk_free_bytes: int


def machine() -> Machine:
    """This machine as it is now."""
    memory = psutil.virtual_memory()
    return Machine(
        gpus=gpus(),
        processor=platform.processor() or platform.machine(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_bytes=memory.total,
        memory_free_bytes=memory.available,
        disk_free_bytes=shutil.disk_usage(_standing(paths.home())).free,
    )


def gpus() -> tuple[Gpu, ...]:
    """The NVIDIA cards of this machine; none if there is no driver."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    command = [tool, f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        listing = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return parse(listing)


def parse(listing: str) -> tuple[Gpu, ...]:
    """Cards from nvidia-smi's lines; a line that cannot be read is passed over."""
    found = []
    for line in listing.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != len(FIELDS):
            continue
        try:
            total, free = (int(float(cell)) * 2**20 for cell in cells[1:3])
            found.append(Gpu(cells[0], total, free, _number(cells[3]), _number(cells[4])))
        except ValueError:
            continue
    return tuple(found)


def processor_has_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this processor multiplies bf16 in hardware: four times as fast as fp32; others are far slower at it."""
    try:
        flags = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:  # "[N/A]" on cards that do not tell
        return 0.0


def _standing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m core.hardware", description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    as_json = parser.parse_args().json
    found = machine()
    if as_json:
        print(json.dumps(dataclasses.asdict(found)))
        return
    for gpu in found.gpus:
        print(f"{gpu.name}: {gpu.free_bytes / 2**30:.1f} of {gpu.total_bytes / 2**30:.1f} GiB free")
    print(f"{found.cores} cores, {found.memory_free_bytes / 2**30:.1f} of {found.memory_bytes / 2**30:.1f} GiB free")
    print(f"{found.disk_free_bytes / 2**30:.0f} GiB of disk free in {paths.home()}")


if __name__ == "__main__":
    main()
