"""Cards of AMD, Intel and Apple, as the system describes them without torch. None of this was run on such hardware yet.

Linux lists AMD's and Intel's in /sys/class/drm; of Windows they are not asked. Integrated graphics are left out unless
torch is known to compute on them.
"""

import itertools
import os
import platform
import re
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil

from core.hardware.gpu import CATALOGUE, Gpu

GIB = 2**30
SYSFS = Path("/sys")
NAMES = Path("/usr/share/libdrm/amdgpu.ids")  # device id, revision, product name
INTEGRATED = 4 * GIB  # memory of its own below which a chip of AMD's is part of a processor
INTEL = {int(id, 16): card for id, card in CATALOGUE["intel"]["cards"].items()}
SHARED = CATALOGUE["amd"]["shared_memory"]  # Ryzen AI: they compute in the machine's memory
ROOMY = 36 * GIB  # memory of a Mac from which Metal gives three quarters to a program, else two thirds


def gpus(sysfs: Path = SYSFS) -> tuple[Gpu, ...]:
    """The cards of these makers that are here, in the order of the PCI bus."""
    cards = on_bus(sysfs)
    if sys.platform == "darwin":
        return cards
    # Intel's names for a choice among several could not be tried: torch takes the first, so only that is listed. So it is
    # with AMD's where not all of them have a UUID.
    amd, intel = _left([gpu for gpu in cards if gpu.kind == "rocm"]), [gpu for gpu in cards if gpu.kind == "xpu"]
    can_choose = all(gpu.uuid.startswith("GPU-") for gpu in amd)
    return (*(amd if can_choose else amd[:1]), *intel[:1])


def on_bus(sysfs: Path = SYSFS) -> tuple[Gpu, ...]:
    """The cards of these makers, those too that ROCm's variables hide from this process."""
    if sys.platform == "darwin":
        return apple()
    return tuple(gpu for card in _drm_cards(sysfs) if (gpu := _of_device(card / "device", sysfs)))


def _left(cards: list[Gpu]) -> list[Gpu]:
    """What the variables of ROCm leave: ROCR's first; HIP's, or CUDA's in its place, counts what is left."""
    hip = "HIP_VISIBLE_DEVICES" if "HIP_VISIBLE_DEVICES" in os.environ else "CUDA_VISIBLE_DEVICES"
    for variable in ("ROCR_VISIBLE_DEVICES", hip):
        if (named := os.environ.get(variable)) is None:
            continue
        by_name = {str(at): gpu for at, gpu in enumerate(cards)} | {gpu.uuid: gpu for gpu in cards}
        entries = [entry.strip() for entry in named.split(",")]
        cards = [by_name[entry] for entry in itertools.takewhile(by_name.__contains__, entries)]
    return cards


def apple() -> tuple[Gpu, ...]:
    """The GPU of an Apple chip: it shares the machine's memory, and Metal lets a program have a part of it."""
    if platform.machine() != "arm64":
        return ()
    with suppress(OSError, subprocess.SubprocessError):
        name = _chip()
        memory = psutil.virtual_memory()
        total = int(memory.total * (0.75 if memory.total >= ROOMY else 2 / 3))
        return (Gpu(name, total, min(total, memory.available), 0.0, 0.0, uuid="apple", kind="mps", memory="shared"),)
    return ()


@cache
def _chip() -> str:
    command = ["sysctl", "-n", "machdep.cpu.brand_string"]
    return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()


def _drm_cards(sysfs: Path) -> list[Path]:
    """/sys/class/drm/card0 and so on, without their outputs (card0-HDMI-A-1), by their place on the bus."""
    cards = [path for path in (sysfs / "class" / "drm").glob("card*") if re.fullmatch(r"card\d+", path.name)]
    return sorted(cards, key=lambda card: (_address(card / "device"), int(card.name.removeprefix("card"))))


def _of_device(device: Path, sysfs: Path) -> Gpu | None:
    maker = _text(device / "vendor")
    return _amd(device, sysfs) if maker == "0x1002" else _intel(device) if maker == "0x8086" else None


def _amd(device: Path, sysfs: Path) -> Gpu | None:
    total, used = _number(device / "mem_info_vram_total"), _number(device / "mem_info_vram_used")
    architecture, memory = _architecture(device, sysfs), "own"
    if architecture in SHARED:
        memory, total = "shared", total + _number(device / "mem_info_gtt_total")
        used += _number(device / "mem_info_gtt_used")
    if total < INTEGRATED:
        return None
    unique = _text(device / "unique_id")
    return Gpu(
        name=_text(device / "product_name") or _amd_name(device) or f"AMD GPU {_text(device / 'device')}",
        total_bytes=total,
        free_bytes=max(0, total - used),
        compute_capability=_capability(architecture),
        watts=max((_number(file) for file in device.glob("hwmon/hwmon*/power1_cap")), default=0) / 1e6,
        uuid=f"GPU-{unique.removeprefix('0x')}" if unique else _address(device),
        kind="rocm",
        memory=memory,
        architecture=architecture,
    )


def _architecture(device: Path, sysfs: Path) -> str:
    """gfx1100, gfx90a: the kernel's compute topology says it as 110000, 90010; the node is found by its bus address."""
    place = re.fullmatch(r"([0-9a-f]{4}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])", _address(device))
    if not place:
        return ""
    _, bus, slot, function = (int(part, 16) for part in place.groups())
    for file in sorted((sysfs / "class" / "kfd" / "kfd" / "topology" / "nodes").glob("*/properties")):
        facts = dict(line.split(" ", 1) for line in _text(file).splitlines() if " " in line)
        version = int(facts.get("gfx_target_version", 0))
        if version and int(facts.get("location_id", -1)) == bus << 8 | slot << 3 | function:
            return f"gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}"
    return ""


def _capability(architecture: str) -> float:
    digits = re.fullmatch(r"gfx(\d+)([0-9a-f])[0-9a-f]", architecture)
    return float(f"{digits[1]}.{int(digits[2], 16)}") if digits else 0.0


def _amd_name(device: Path) -> str:
    id, revision = (_text(device / name).removeprefix("0x").upper() for name in ("device", "revision"))
    for line in _text(NAMES).splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) == 3 and (cells[0].upper(), cells[1].upper().zfill(2)) == (id, revision.zfill(2)):
            return cells[2] if cells[2].startswith("AMD") else f"AMD {cells[2]}"
    return ""


def _intel(device: Path) -> Gpu | None:
    listed = INTEL.get(int(_text(device / "device") or "0", 16))
    if not listed:
        return None
    name, gib = listed
    return Gpu(name, gib * GIB, gib * GIB, 0.0, 0.0, uuid=_address(device), kind="xpu")


def _address(device: Path) -> str:
    """Where the card is on the PCI bus: 0000:03:00.0."""
    return os.path.basename(os.path.realpath(device))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> int:
    text = _text(path)
    return int(text) if text.isdigit() else 0
