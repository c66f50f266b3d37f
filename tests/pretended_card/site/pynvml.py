"""A driver that is pretended: the part of nvidia-ml-py that Soulsmith asks, over the `cards` of PRETENDED_CARD.

A card is {"name", "uuid", "total", "free", "capability"} and may have: "pci", its place on the bus (else the order of
the list, which is CUDA's), "cores" and "clock", "watts", "memory": "unsupported" or "forbidden", "lost": true, and
"mig": a list of instances {"name", "uuid", "total", "free", "ids"}. Beside `cards`: "cuda" of the driver, and "error",
the number of the error with which it refuses to start.
"""

import json
import os
from types import SimpleNamespace

NVML_SUCCESS, NVML_ERROR_NOT_SUPPORTED, NVML_ERROR_NO_PERMISSION, NVML_ERROR_NOT_FOUND = 0, 3, 4, 6
NVML_ERROR_DRIVER_NOT_LOADED, NVML_ERROR_LIBRARY_NOT_FOUND, NVML_ERROR_GPU_IS_LOST = 9, 12, 15
NVML_ERROR_LIB_RM_VERSION_MISMATCH = 18
NVML_DEVICE_MIG_ENABLE, NVML_CLOCK_SM = 1, 1
WORDS = {
    NVML_ERROR_NOT_SUPPORTED: "Not Supported",
    NVML_ERROR_NO_PERMISSION: "Insufficient Permissions",
    NVML_ERROR_NOT_FOUND: "Not Found",
    NVML_ERROR_DRIVER_NOT_LOADED: "Driver Not Loaded",
    NVML_ERROR_LIBRARY_NOT_FOUND: "NVML Shared Library Not Found",
    NVML_ERROR_GPU_IS_LOST: "GPU is lost",
    NVML_ERROR_LIB_RM_VERSION_MISMATCH: "RM has detected an NVML/RM version mismatch.",
}


class NVMLError(Exception):
    def __init__(self, value: int):
        super().__init__(WORDS.get(value, f"error {value}"))
        self.value = value

    def __str__(self) -> str:
        return self.args[0]


def _driver() -> dict:
    return json.loads(os.environ.get("PRETENDED_CARD", '{"error": 12}'))


def _on_bus() -> list[dict]:
    cards = _driver().get("cards", [])
    return sorted(cards, key=lambda card: card.get("pci", cards.index(card)))


def _said(card: dict, name: str):
    if name not in card:
        raise NVMLError(NVML_ERROR_NOT_SUPPORTED)
    return card[name]


def nvmlInit() -> None:
    if error := _driver().get("error"):
        raise NVMLError(error)


def nvmlShutdown() -> None: ...


def nvmlSystemGetDriverVersion() -> str:
    return "570.86.15"


def nvmlSystemGetCudaDriverVersion_v2() -> int:
    return _driver().get("cuda", 13000)


def nvmlDeviceGetCount() -> int:
    return len(_on_bus())


def nvmlDeviceGetHandleByIndex(index: int) -> dict:
    card = _on_bus()[index]
    if card.get("lost"):
        raise NVMLError(NVML_ERROR_GPU_IS_LOST)
    return card


def nvmlDeviceGetName(handle: dict) -> str:
    return handle["name"]


def nvmlDeviceGetUUID(handle: dict) -> str:
    return handle["uuid"]


def nvmlDeviceGetMemoryInfo(handle: dict):
    refusals = {"unsupported": NVML_ERROR_NOT_SUPPORTED, "forbidden": NVML_ERROR_NO_PERMISSION}
    if refusal := refusals.get(handle.get("memory")):
        raise NVMLError(refusal)
    total = handle.get("total") or 40 * 2**30
    return SimpleNamespace(total=total, free=handle.get("free") or 3 * total // 4, used=total // 4)


def nvmlDeviceGetCudaComputeCapability(handle: dict) -> tuple[int, int]:
    return tuple(handle.get("capability") or _driver()["capability"])


def nvmlDeviceGetPowerManagementLimit(handle: dict) -> int:
    return int(_said(handle, "watts") * 1000)


def nvmlDeviceGetNumGpuCores(handle: dict) -> int:
    return _said(handle, "cores")


def nvmlDeviceGetMaxClockInfo(handle: dict, _) -> int:
    return _said(handle, "clock")


def nvmlDeviceGetMigMode(handle: dict) -> list[int]:
    return [int("mig" in handle), int("mig" in handle)]


def nvmlDeviceGetMaxMigDeviceCount(_) -> int:
    return 7


def nvmlDeviceGetMigDeviceHandleByIndex(handle: dict, index: int) -> dict:
    if index >= len(handle["mig"]):
        raise NVMLError(NVML_ERROR_NOT_FOUND)
    return handle["mig"][index]


def nvmlDeviceGetGpuInstanceId(handle: dict) -> int:
    return handle.get("ids", (0, 0))[0]


def nvmlDeviceGetComputeInstanceId(handle: dict) -> int:
    return handle.get("ids", (0, 0))[1]
