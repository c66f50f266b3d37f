"""Which cards the installed torch can compute on, read from its version file as text: the page never imports torch."""

import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from core.gpu import Gpu

INSTALL = "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/{build}"
NEWER = "pip install --upgrade bitsandbytes"
BLACKWELL = 10.0  # capability of the first cards that CUDA 12.6 does not know
FOR_BLACKWELL = (12, 8)
PASCAL, VOLTA, TURING = 6.0, 7.0, 7.5
WITHOUT_VOLTA = (2, 11)  # from this torch on, none but CUDA 12.6 has code for Volta
# What bitsandbytes names in its own table of accelerators.
AMD_4BIT = re.compile(r"gfx(908|90a|942|950|1250|101.|103.|110.|115.|120.)")


@dataclass(frozen=True)
class Build:
    """What the installed torch was built for: versions, or nothing."""

    version: str = ""
    cuda: str = ""
    hip: str = ""
    xpu: str = ""

    @property
    def cuda_version(self) -> tuple[int, int]:
        return _numbers(self.cuda)

    @property
    def oldest(self) -> float:
        """The capability of the oldest cards that a build for CUDA has code for."""
        if self.cuda_version < FOR_BLACKWELL:
            return 0.0
        # https://github.com/pytorch/pytorch/issues/157517
        return TURING if self.cuda_version >= (12, 9) or _numbers(self.version) >= WITHOUT_VOLTA else VOLTA


@dataclass(frozen=True)
class Unseen:
    """Why torch does not compute on a card, and what mends it."""

    card: str
    reason: str  # build: made for another kind of device; new, old: lacks this card's code; driver: is too old for it
    version: str  # of torch
    needs: str  # the newest CUDA that the driver runs, or the card's capability; for `build` its kind
    command: str  # what to type; nothing where only the driver can be changed


def installed() -> Build:
    """The torch that a process would import; all fields empty where it cannot be told."""
    for folder in sys.path:
        file = Path(folder) / "torch" / "version.py"
        with suppress(OSError):
            return parse(file.read_text(encoding="utf-8"))
    return Build()


def parse(text: str) -> Build:
    """The build that torch/version.py describes: `cuda: Optional[str] = '12.8'`, or None."""

    def said(name: str) -> str:
        found = re.search(rf"^{name}\s*(?::[^=]*)?=\s*['\"]([^'\"]*)['\"]", text, re.MULTILINE)
        return found[1] if found else ""

    return Build(said("__version__"), said("cuda"), said("hip") or said("rocm"), said("xpu"))


def unseen(gpu: Gpu, driver_cuda: tuple[int, int] = (0, 0), build: Build | None = None) -> Unseen | None:
    """What keeps the installed torch from computing on a card, or None; `driver_cuda` is the newest that the driver runs."""
    build = build or installed()
    if not build.version:
        return None
    if gpu.kind == "mps":  # every torch for Apple chips has it
        return None
    if not getattr(build, {"cuda": "cuda", "rocm": "hip", "xpu": "xpu"}[gpu.kind]):
        return Unseen(gpu.name, "build", build.version, gpu.kind, command(gpu, driver_cuda))
    if gpu.kind != "cuda":
        return None
    needs = f"{gpu.compute_capability}"
    if gpu.compute_capability >= BLACKWELL and build.cuda_version < FOR_BLACKWELL:
        return Unseen(gpu.name, "new", build.version, needs, command(gpu, driver_cuda))
    if 0 < gpu.compute_capability < build.oldest:
        return Unseen(gpu.name, "old", build.version, needs, command(gpu, driver_cuda))
    if driver_cuda[0] and driver_cuda[0] < build.cuda_version[0]:
        runs = ".".join(map(str, driver_cuda))
        return Unseen(gpu.name, "driver", build.version, runs, command(gpu, driver_cuda))
    return None


def command(gpu: Gpu, driver_cuda: tuple[int, int] = (0, 0)) -> str:
    """What installs a torch that computes on this card; nothing where the driver is too old for any, or none is made."""
    if gpu.kind == "cuda":
        if 0 < driver_cuda[0] < 12:
            return ""
        return INSTALL.format(build="cu126" if 0 < gpu.compute_capability < TURING else "cu128")
    if gpu.kind == "rocm":
        return INSTALL.format(build="rocm6.4") if sys.platform == "linux" else ""
    return INSTALL.format(build="xpu")


def _numbers(version: str) -> tuple[int, int]:
    """The first two numbers of a version: (12, 8) of "12.8", (0, 0) of none."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def four_bit_lacks(gpu: Gpu) -> str:
    """What QLoRA lacks on a card, by bitsandbytes' own table of accelerators: capability, architecture, package; or nothing."""
    if gpu.kind == "cuda":
        return "capability" if 0 < gpu.compute_capability < PASCAL else ""
    if gpu.kind == "rocm":
        return "" if not gpu.architecture or AMD_4BIT.fullmatch(gpu.architecture) else "architecture"
    return "" if _has_backend(gpu.kind) else "package"


def _has_backend(name: str) -> bool:
    """Whether the installed bitsandbytes brings kernels for a kind of device; where it is not found, nothing is held
    against it."""
    folders = [Path(folder) / "bitsandbytes" / "backends" for folder in sys.path]
    found = [folder for folder in folders if folder.is_dir()]
    return not found or (found[0] / name / "ops.py").is_file()
