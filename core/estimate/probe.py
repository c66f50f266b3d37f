"""Two seconds of matrix products on this machine: `python -m core.estimate.probe --json`.

The rate is stored by the device's name, and estimates for it then use it instead of the catalogue's. It imports torch,
so the page starts it as a process of its own.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from core import paths
from core.estimate.troubles import ProbeFailed

SECONDS = 2.0
PATIENCE = 120  # of the page; importing torch takes most of it


def file():
    return paths.home() / "estimates" / "rates.json"


def stored() -> dict[str, float]:
    """Measured TFLOP/s by device name."""
    try:
        found = json.loads(file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: rate for name, rate in found.items() if isinstance(rate, (int, float)) and rate > 0}


def measure(seconds: float = SECONDS) -> dict:
    """TFLOP/s of square products: bf16 or fp16 on a card, fp32 on a processor."""
    import torch

    card = torch.cuda.is_available()
    size = 8192 if card else 1024
    kind = (
        (torch.bfloat16 if torch.cuda.get_device_capability() >= (8, 0) else torch.float16) if card else torch.float32
    )
    a = torch.randn(size, size, device="cuda" if card else "cpu").to(kind)
    wait = torch.cuda.synchronize if card else lambda: None
    a @ a
    wait()
    began, turns = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        a @ a
        wait()
        turns += 1
    took = time.perf_counter() - began
    name = torch.cuda.get_device_name() if card else "CPU"
    return {"name": name, "tflops": turns * 2 * size**3 / took / 1e12}


def run() -> dict:
    """Measure in a process of its own, which imports torch and stores the rate.

    Raises:
        ProbeFailed: with the reason.
    """
    command = [sys.executable, "-m", "core.estimate.probe", "--json"]
    options = {"capture_output": True, "encoding": "utf-8", "errors": "replace", "timeout": PATIENCE}
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent.parent.parent, **options)
        return json.loads(done.stdout.strip().splitlines()[-1])
    except subprocess.TimeoutExpired:
        raise ProbeFailed(reason=f"it took longer than {PATIENCE} seconds") from None
    except (OSError, ValueError, IndexError):
        raise ProbeFailed(reason=(done.stderr.strip().splitlines() or ["no answer"])[-1][:300]) from None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m core.estimate.probe", description=__doc__.split(":")[0] + ".")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    as_json = parser.parse_args().json
    found = measure()
    file().parent.mkdir(parents=True, exist_ok=True)
    file().write_text(json.dumps(stored() | {found["name"]: found["tflops"]}), encoding="utf-8")
    print(json.dumps(found) if as_json else f"{found['name']}: {found['tflops']:.2f} TFLOP/s")


if __name__ == "__main__":
    main()
