"""Two seconds of matrix products on this machine: `python -m core.estimate.probe --json`.

The rate is stored by the device's name, and estimates for it then use it instead of the catalogue's. It imports torch,
so the page starts it as a process of its own.
"""

import argparse
import json
import time

from core import errors, files, paths, process
from core.hardware import hardware
from core.hardware.gpu import Gpu

SECONDS = 2.0
SIZES = (1024, 8192)  # of the matrices, at least and at most
PATIENCE = 120  # of the page; importing torch takes most of it


def file():
    return paths.home() / "estimates" / "rates.json"


def stored() -> dict[str, float]:
    """Measured TFLOP/s by device name."""
    return {name: rate for name, rate in files.read_json(file()).items() if isinstance(rate, (int, float)) and rate > 0}


def measure(seconds: float = SECONDS) -> dict:
    """TFLOP/s of square products: bf16 or fp16 on a card, fp32 on a processor."""
    import torch  # noqa: PLC0415 - the page opens without torch

    from core.training import devices  # noqa: PLC0415 - the page opens without torch

    kind = devices.device_type()
    dtype = torch.float32 if kind == "cpu" else torch.bfloat16 if devices.has_bf16() else torch.float16

    def rate(size: int, seconds: float) -> tuple[float, float]:
        """Floating point operations a second, and the seconds of one product."""
        a = torch.randn(size, size, device=devices.device()).to(dtype)
        a @ a
        devices.synchronize()
        began, turns = time.perf_counter(), 0
        while not turns or time.perf_counter() - began < seconds:
            a @ a
            devices.synchronize()
            turns += 1
        took = time.perf_counter() - began
        return turns * 2 * size**3 / took, took / turns

    size = SIZES[0]
    while kind != "cpu" and size < SIZES[1] and 8 * rate(size, 0)[1] < seconds:  # a slow card shows its rate by less
        size *= 2
    return {"name": _name(kind, devices.device_name()), "tflops": rate(size, seconds)[0] / 1e12}


def _name(kind: str, device: str) -> str:
    """The device by the name that estimates know it by: the driver's, which of other makes torch does not use."""
    if kind == "cpu":
        return "CPU"
    gpu = hardware.card()
    return gpu.name if gpu and gpu.kind != "cuda" else device


def run(gpu: Gpu | None = None) -> dict:
    """Measure a card in a process of its own, which imports torch and stores the rate; by default the usual card.

    Raises:
        ProbeFailed: with the reason.
    """
    command, more = ["-m", "core.estimate.probe", "--json"], hardware.environment(gpu or hardware.card())
    try:
        return list(process.json_lines(command, more=more, seconds=PATIENCE))[-1]
    except process.CommandFailed as failed:
        reason = f"it took longer than {PATIENCE} seconds" if failed.cause == "time" else str(failed)[:300]
        raise errors.named("ProbeFailed", reason=reason) from None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m core.estimate.probe", description=__doc__.split(":")[0] + ".")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    as_json = parser.parse_args().json
    measured = measure()
    file().parent.mkdir(parents=True, exist_ok=True)
    files.write_json(file(), stored() | {measured["name"]: measured["tflops"]})
    print(json.dumps(measured) if as_json else f"{measured['name']}: {measured['tflops']:.2f} TFLOP/s")


if __name__ == "__main__":
    main()
