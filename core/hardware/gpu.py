"""One card as the driver describes it, whoever made it."""

import json
import platform
import re
from dataclasses import dataclass

from core import paths

KINDS = ("cuda", "rocm", "xpu", "mps")  # NVIDIA, AMD, Intel, Apple
CATALOGUE = json.loads((paths.assets() / "other-gpus.json").read_text(encoding="utf-8"))  # what no driver says


@dataclass(frozen=True)
class Gpu:
    """A graphics card of this machine, or one instance of a card that is split (MIG)."""

    name: str
    total_bytes: int  # 0: the driver does not say
    free_bytes: int  # total_bytes where the driver does not say
    compute_capability: float  # of CUDA; of AMD's gfx1100 it is 11.0; 0.0: unknown, or there is no such thing
    watts: float  # 0.0: unknown
    uuid: str = ""  # names the card whatever the order: GPU-..., MIG-..., or its place on the PCI bus
    kind: str = "cuda"  # one of KINDS
    memory: str = "own"  # shared: the machine's own memory; unknown: the driver may not tell
    architecture: str = ""  # of AMD: gfx1100

    @property
    def has_bf16(self) -> bool:
        """Whether torch computes bf16 on it in hardware; on Apple's chips from macOS 14 on."""
        if self.kind == "mps":
            major = platform.mac_ver()[0].partition(".")[0]
            return not major.isdigit() or int(major) >= 14
        return self.kind != "cuda" or self.compute_capability >= 8.0

    @property
    def instance(self) -> int:
        """Of a MIG instance, its share of the card in sevenths; 0 for a whole card."""
        sevenths = re.search(r" MIG (\d+)[gc]\.", self.name)
        return int(sevenths[1]) if sevenths else 0
