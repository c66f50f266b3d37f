"""Which cards the installed torch can compute on, read from its version file as text: the page never imports torch."""

import os
import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from core import errors
from core.errors import UserError
from core.hardware.gpu import CATALOGUE, Gpu

INDEX = "https://download.pytorch.org/whl/"
INSTALL = f"pip install --force-reinstall torch --index-url {INDEX}{{build}}"
DRIVERS = "https://www.nvidia.com/drivers"
NEWER = "pip install --upgrade bitsandbytes"
BLACKWELL = 10.0  # capability of the first cards that CUDA 12.6 does not know
FOR_BLACKWELL = (12, 8)
MAXWELL, PASCAL, VOLTA, TURING = 5.0, 6.0, 7.0, 7.5
WITHOUT_VOLTA = (2, 11)  # from this torch on, none but CUDA 12.6 has code for Volta
AMD = set(CATALOGUE["amd"]["architectures"])  # that PyTorch's own builds for ROCm have code for
OF_LAPTOPS = set(CATALOGUE["amd"]["of_laptops"])  # among them, part of processors that nobody buys for computing
ERRORS = {"driver": "TorchNeedsDriver", "either": "TorchNeedsDriverOrBuild", "none": "NoTorchForCard"}
PYTORCH_S_OWN = re.compile(r"\+rocm\d+\.\d+$")  # AMD's own builds, with three numbers, know more architectures
NO_KERNELS = ("no kernel image", "invalid device function")  # words of CUDA and HIP where a build lacks a card's code
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
            return MAXWELL
        # https://github.com/pytorch/pytorch/issues/157517
        return TURING if self.cuda_version >= (12, 9) or _numbers(self.version) >= WITHOUT_VOLTA else VOLTA


@dataclass(frozen=True)
class Unseen:
    """Why torch does not compute on a card, and what repairs it."""

    card: str
    reason: str  # build: made for another kind of device; new, old, architecture: lacks this card's code; driver: old
    version: str  # of torch
    needs: str  # the newest CUDA that the driver runs, or the card's capability or architecture; for `build` its kind
    command: str  # what to type; nothing where only the driver can be changed, or no build has code for the card
    mend: str = "install"  # how, see Mend

    @property
    def error(self) -> UserError:
        """The same as a sentence, with what repairs it."""
        name, values = ERRORS.get(self.mend, "TorchNeedsBuild"), {"torch": self.version, "card": self.card}
        return errors.named(name, **values, drivers=DRIVERS, command=self.command)


@dataclass(frozen=True)
class Mend:
    """What makes torch compute on a card.

    install: the command. driver: a newer driver, no build runs on this one. either: a driver for CUDA 13, or the command
    with an older torch. none: no build that is published has code for the card.
    """

    how: str
    build: str = ""  # the end of the index's address: cu130

    @property
    def command(self) -> str:
        return INSTALL.format(build=self.build) if self.build else ""


def installed() -> Build:
    """The torch that a process would import; all fields empty where no version file can be read."""
    for folder in sys.path:
        file = Path(folder) / "torch" / "version.py"
        with suppress(OSError):
            return parse(file.read_text(encoding="utf-8"))
    return Build()


def parse(text: str) -> Build:
    """The build that torch/version.py describes: `cuda: Optional[str] = '12.8'`, or None."""

    def value(name: str) -> str:
        assigned = re.search(rf"^{name}\s*(?::[^=]*)?=\s*['\"]([^'\"]*)['\"]", text, re.MULTILINE)
        return assigned[1] if assigned else ""

    return Build(value("__version__"), value("cuda"), value("hip") or value("rocm"), value("xpu"))


def unseen(gpu: Gpu, driver_cuda: tuple[int, int] = (0, 0), build: Build | None = None) -> Unseen | None:
    """What keeps the installed torch from computing on a card, or None; `driver_cuda` is the newest that the driver runs."""
    build = build or installed()
    if not build.version:
        return None
    if lacks_make(gpu, build):
        return _unseen(gpu, "build", build.version, gpu.kind, driver_cuda)
    if gpu.kind == "rocm" and _lacks_architecture(gpu, build):
        return _unseen(gpu, "architecture", build.version, gpu.architecture, driver_cuda)
    if gpu.kind != "cuda":
        return None
    needs = f"{gpu.compute_capability}"
    if gpu.compute_capability >= BLACKWELL and build.cuda_version < FOR_BLACKWELL:
        return _unseen(gpu, "new", build.version, needs, driver_cuda)
    if 0 < gpu.compute_capability < build.oldest:
        return _unseen(gpu, "old", build.version, needs, driver_cuda)
    if driver_cuda[0] and driver_cuda[0] < build.cuda_version[0]:
        return _unseen(gpu, "driver", build.version, ".".join(map(str, driver_cuda)), driver_cuda)
    return None


def lacks_make(gpu: Gpu, build: Build) -> bool:
    """Whether a torch is built for cards of other makes than this one, or for none."""
    if not build.version or gpu.kind == "mps":  # every torch for Apple chips has it
        return False
    return not getattr(build, {"cuda": "cuda", "rocm": "hip", "xpu": "xpu"}[gpu.kind])


def _unseen(gpu: Gpu, reason: str, version: str, needs: str, driver_cuda: tuple[int, int]) -> Unseen:
    repair = mend(gpu, driver_cuda)
    return Unseen(gpu.name, reason, version, needs, repair.command, repair.how)


def without_code(card: str, architecture: str, version: str, driver_cuda: tuple[int, int] = (0, 0)) -> Unseen:
    """The same from what a torch without code for a card knows of it: its name, and sm_120 or gfx1100."""
    if architecture.startswith("gfx"):
        gpu = Gpu(card, 0, 0, 0.0, 0.0, kind="rocm", architecture=architecture)
    else:
        gpu = Gpu(card, 0, 0, int(architecture.removeprefix("sm_")) / 10, 0.0)
    return _unseen(gpu, "architecture", version, architecture, driver_cuda)


def _lacks_architecture(gpu: Gpu, build: Build) -> bool:
    known = not gpu.architecture or gpu.architecture in AMD
    return not known and bool(PYTORCH_S_OWN.search(build.version)) and "HSA_OVERRIDE_GFX_VERSION" not in os.environ


def is_of_use(gpu: Gpu, build: Build | None = None) -> bool:
    """Whether a card is one to compute on: the installed torch is made for its kind, or one that is published would be.

    Graphics that are part of a processor, and cards that no build has code for any more, leave a machine with a torch
    for processors what it is.
    """
    build = build or installed()
    if gpu.kind == "rocm":
        return bool(build.hip) or gpu.architecture in AMD - OF_LAPTOPS
    if gpu.kind == "cuda":
        return bool(build.cuda) or not 0 < gpu.compute_capability < MAXWELL
    return True


def mend(gpu: Gpu, driver_cuda: tuple[int, int] = (0, 0)) -> Mend:
    """What makes torch compute on a card; `driver_cuda` is the newest CUDA that the driver runs, (0, 0) if unknown.

    PyTorch publishes its newest builds for CUDA 12.6, which lack Blackwell, and 13.0, which lack what is older than
    Turing and need a driver for CUDA 13; for CUDA 12.8 the last is torch 2.11.
    """
    if gpu.kind == "xpu":
        return Mend("install", "xpu")
    if gpu.kind == "rocm":
        has = not gpu.architecture or gpu.architecture in AMD
        return Mend("install", "rocm7.2") if has and sys.platform == "linux" else Mend("none")
    capability, runs = gpu.compute_capability, driver_cuda[0]
    if gpu.kind != "cuda" or 0 < capability < MAXWELL:
        return Mend("none")
    if 0 < runs < 12:
        return Mend("driver")
    if capability >= BLACKWELL:
        return Mend("either", "cu128") if runs == 12 else Mend("install", "cu130")
    return Mend("install", "cu130" if runs > 12 and not 0 < capability < TURING else "cu126")


def upgrade(packages: tuple[str, ...], gpu: Gpu | None, driver_cuda: tuple[int, int] = (0, 0)) -> tuple[str, ...]:
    """Arguments of `pip install` that keep torch one for this card: PyPI's has no CUDA on Windows, and none has ROCm."""
    repair = mend(gpu, driver_cuda) if gpu and gpu.kind != "mps" else None
    if repair is None or "torch" not in packages:
        return packages
    if repair.how == "install":
        return (*packages, "--extra-index-url", INDEX + repair.build)
    return tuple(name for name in packages if name != "torch")  # the newest is none for this card


def covers(has: list[str], needed: str) -> bool:
    """Whether kernels of these architectures run on a card of this one (sm_86, gfx1100).

    Machine code (sm_86) runs on the same major version and an equal or higher minor one; intermediate code (compute_90)
    on any later card; code with a letter (sm_90a) on exactly its own (CUDA C++ Programming Guide, compatibility).
    """
    if not needed.startswith("sm_"):
        return needed in has
    major, minor = int(needed[3:-1]), int(needed[-1])
    for name in has:
        kind, _, number = name.partition("_")
        exact, digits = not number.isdigit(), "".join(filter(str.isdigit, number))
        if len(digits) < 2:
            continue
        theirs = int(digits[:-1]), int(digits[-1])
        if kind == "compute" and not exact and theirs <= (major, minor):
            return True
        family = number.endswith("f")  # sm_100f: code for the whole family
        if kind == "sm" and theirs[0] == major and (theirs[1] <= minor if not exact or family else theirs[1] == minor):
            return True
    return False


def _numbers(version: str) -> tuple[int, int]:
    """The first two numbers of a version: (12, 8) of "12.8", (0, 0) of none."""
    digits = re.match(r"(\d+)\.(\d+)", version)
    return (int(digits[1]), int(digits[2])) if digits else (0, 0)


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
    installed_folders = [folder for folder in folders if folder.is_dir()]
    return not installed_folders or (installed_folders[0] / name / "ops.py").is_file()
