"""Cards for a pretended driver in the tests' own process; in processes of their own tests.pretended_card lists them."""

import importlib.util
import json
import sys
from pathlib import Path

SITE = Path(__file__).parent / "pretended_card" / "site"
GIB = 2**30
FAST = {"name": "NVIDIA GeForce RTX 4090", "uuid": "GPU-4090aaaa-0000-0000-0000-000000000000", "total": 24 * GIB}
FAST |= {"free": 23 * GIB, "capability": (8, 9), "watts": 450, "cores": 16384, "clock": 2520, "pci": 2}
ROOMY = {"name": "NVIDIA RTX A6000", "uuid": "GPU-a6000bbb-0000-0000-0000-000000000000", "total": 48 * GIB}
ROOMY |= {"free": 47 * GIB, "capability": (8, 6), "watts": 300, "cores": 10752, "clock": 1800, "pci": 1}


def install(monkeypatch):
    """Put the driver in; call what is returned with the cards that it lists, in CUDA's order."""
    from core.hardware import nvidia, other_gpus

    spec = importlib.util.spec_from_file_location("pynvml", SITE / "pynvml.py")
    fake = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fake)
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(other_gpus, "gpus", lambda: ())
    monkeypatch.setattr(other_gpus, "on_bus", lambda: ())

    def lists(*cards: dict, **said) -> None:
        monkeypatch.setattr(nvidia, "_kept", None)
        monkeypatch.setenv("PRETENDED_CARD", json.dumps({"cards": cards, "capability": (8, 0)} | said))

    lists()
    return lists
