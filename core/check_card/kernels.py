"""torch, and whether its products are right and fast on this device; runs in a process of its own."""

import importlib.metadata
import platform
import time

import torch

from core.check_card import advice as advices
from core.check_card.results import result, say
from core.hardware import hardware, nvidia, torch_build
from core.training import devices
from core.training.devices import DTYPES, distance

SIZE = 512  # of the products that are held against the processor's
SIZES = (512, 1024, 2048, 4096, 8192)  # of the products that are timed
LONG_SECONDS = 0.005  # of one product: larger ones tell nothing new
SECONDS = 0.4  # that one rate is measured for
SLOW = 0.5  # of the rate that the calculator counts with
# Norm of the difference, relative. The factors are the same rounded ones on both sides: what is left is the rounding of
# the product (2^-9 for bf16) and, in fp32, TF32 where somebody switched it on.
BOUNDS = {"fp32": 0.002, "bf16": 0.01, "fp16": 0.005}


def check_torch() -> dict:
    """The installed torch, and that it sees the card that the driver has."""
    kind, gpu = devices.device_type(), hardware.card()
    # What the other checks and the forecasts need to know about the device.
    name, free = devices.device_name(), devices.free_bytes()
    say(facts={"torch": torch.__version__, "kind": kind, "device": name, "free": free})
    built_for = {"rocm": torch.version.hip} if torch.version.hip else {"cuda": torch.version.cuda or "none"}
    value = {"torch": torch.__version__} | built_for
    value |= {"transformers": importlib.metadata.version("transformers"), "device": name}
    value |= {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    if gpu and kind == "cpu":
        return result("torch", "broken", value, {"device": gpu.name}, advices.unseen(gpu, torch.__version__))
    return result("torch", "ok", value)


def check_architecture() -> dict | None:
    """Whether this build of torch has kernels for the card's architecture, before one of them is launched."""
    if devices.device_type() != "cuda":
        return None
    needed, has = devices.architectures()
    value = {"architecture": needed, "kernels": " ".join(has) or "none listed"}
    if not has or torch_build.covers(has, needed):
        return result("architecture", "ok", value)
    wrong = torch_build.without_code(devices.device_name(), needed, torch.__version__, nvidia.driver().cuda)
    return result("architecture", "broken", value, {"kernels": needed}, wrong.error)


def check_matmul_fp32() -> dict:
    return _matmul("fp32")


def check_matmul_bf16() -> dict | None:
    return _matmul("bf16") if devices.has_bf16() else None  # no run computes in it where it is not


def check_matmul_fp16() -> dict | None:
    return None if devices.device_type() in ("cpu", "mps") else _matmul("fp16")  # no run computes in it there


def _matmul(kind: str) -> dict:
    """A product against the processor's in double precision, and how many TFLOP/s large ones reach."""
    dtype, draw = DTYPES[kind], torch.Generator().manual_seed(0)
    a, b = (torch.randn(SIZE, SIZE, generator=draw).to(dtype) for _ in range(2))
    right, device = a.double() @ b.double(), devices.device()
    error = distance((a.to(device) @ b.to(device)).cpu().double(), right)
    value, expected = {"error": error, "tflops": tflops(dtype)}, {"error": BOUNDS[kind]}
    if not error <= BOUNDS[kind]:  # NaN too
        return result(f"matmul_{kind}", "broken", value, expected, advices.numbers_wrong("torch"))
    if known := advices.measured_rates(devices.device_name()):
        expected["tflops"] = known.fp32_tflops if kind == "fp32" else known.matmul_tflops
    if value["tflops"] < SLOW * expected.get("tflops", 0):
        return result(f"matmul_{kind}", "slow", value, expected, advices.slow(on_card=True))
    return result(f"matmul_{kind}", "ok", value, expected)


def tflops(dtype) -> float:
    """TFLOP/s of the largest square products that this device computes in a few milliseconds."""
    for size in SIZES:
        # Of random numbers: a card computes with equal ones at less power, and faster than with a model's.
        a = torch.randn(size, size, device=devices.device()).to(dtype)
        a @ a
        devices.synchronize()
        began = time.perf_counter()
        a @ a
        devices.synchronize()
        if (took := time.perf_counter() - began) > LONG_SECONDS:
            break
    turns, many = 0, max(1, int(LONG_SECONDS / max(took, 1e-6)))  # enough work between two waits
    began = time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        for _ in range(many):
            a @ a
        turns += many
        devices.synchronize()
    return turns * 2 * size**3 / (time.perf_counter() - began) / 1e12
