"""Which cards this machine has, as a process would see them, and whether torch can compute on them."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from core.hardware import hardware, nvidia, other_gpus, torch_build
from core.hardware.gpu import Gpu
from core.hardware.torch_build import Build
from tests import pretended_driver
from tests.pretended_driver import FAST, GIB, ROOMY

ROOT = Path(__file__).parent.parent
OLD = {"name": "NVIDIA GeForce GTX 1080", "uuid": "GPU-1080cccc-0000-0000-0000-000000000000", "total": 8 * GIB}
OLD |= {"capability": (6, 1), "cores": 2560, "clock": 1733, "pci": 3}
SPLIT = {"name": "NVIDIA A100-SXM4-40GB", "uuid": "GPU-a100dddd-0000-0000-0000-000000000000", "total": 40 * GIB}
SPLIT |= {"capability": (8, 0), "cores": 20000, "clock": 1410, "pci": 0}
SPLIT |= {
    "mig": [
        {"name": "NVIDIA A100-SXM4-40GB MIG 3g.20gb", "uuid": "MIG-3333", "total": 20 * GIB, "free": 19 * GIB},
        {"name": "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "uuid": "MIG-1111", "memory": "forbidden", "ids": (7, 0)},
    ]
}


@pytest.fixture
def driver(monkeypatch):
    """A pretended driver: call it with the cards that it lists, in CUDA's order."""
    return pretended_driver.install(monkeypatch)


def names() -> list[str]:
    return [gpu.name.rpartition(" ")[2] for gpu in hardware.gpus()]


def test_a_card_is_read_with_its_uuid(driver):
    driver(FAST)
    uuid = "GPU-4090aaaa-0000-0000-0000-000000000000"
    assert hardware.gpus() == (Gpu("NVIDIA GeForce RTX 4090", 24 * GIB, 23 * GIB, 8.9, 450.0, uuid),)


def test_what_a_card_can_run_follows_from_its_capability():
    new, old = Gpu("new", GIB, GIB, 12.0, 600), Gpu("old", GIB, GIB, 6.1, 0)
    assert (new.has_bf16, old.has_bf16) == (True, False)


def test_without_a_driver_or_without_cards_there_are_none(driver):
    driver(error=12)
    assert nvidia.driver() == nvidia.Driver()
    driver()
    assert (hardware.gpus(), hardware.card(), hardware.machine().unseen) == ((), None, ())


@pytest.mark.parametrize(
    ("number", "words"), [(9, "Driver Not Loaded"), (18, "RM has detected an NVML/RM version mismatch.")]
)
def test_a_broken_driver_is_said_and_breaks_nothing(driver, number, words):
    driver(FAST, error=number)
    found = hardware.machine()
    assert (found.gpus, found.driver_trouble) == ((), words)
    assert str(nvidia.driver().error) == (
        f"The driver of the NVIDIA card does not answer: {words.rstrip('.')}. Restart the machine; if the problem returns, "
        "reinstall the driver."
    )


def test_a_card_that_fell_off_the_bus_does_not_take_the_others_along(driver):
    driver(FAST | {"lost": True}, ROOMY)
    assert names() == ["A6000"]
    assert hardware.machine().driver_trouble == "GPU is lost"


def test_an_old_package_of_the_same_name_lists_the_cards_all_the_same(driver, monkeypatch):
    driver(FAST, ROOMY)
    old, wanted = sys.modules["pynvml"], [(gpu.name, gpu.uuid, gpu.total_bytes) for gpu in hardware.gpus()]
    driver(FAST, ROOMY)
    for name in ("nvmlDeviceGetNumGpuCores", "nvmlDeviceGetMigMode", "NVML_DEVICE_MIG_ENABLE", "NVML_CLOCK_SM"):
        monkeypatch.delattr(old, name)
    monkeypatch.delattr(old, "nvmlSystemGetCudaDriverVersion_v2")
    for name in ("name", "uuid"):
        ask = {"name": "nvmlDeviceGetName", "uuid": "nvmlDeviceGetUUID"}[name]
        monkeypatch.setattr(old, ask, lambda handle, name=name: handle[name].encode())
    assert sorted((gpu.name, gpu.uuid, gpu.total_bytes) for gpu in hardware.gpus()) == sorted(wanted)
    driver(FAST)
    monkeypatch.delattr(old, "nvmlDeviceGetMemoryInfo")
    found = hardware.machine()
    assert found.gpus == ()
    assert str(nvidia.driver().error) == (
        "The driver of the NVIDIA card could not be asked: the package nvidia-ml-py is not installed, or an old pynvml hides "
        "it. Stop Soulsmith, run this in its environment, and start it again: "
        "pip uninstall -y pynvml nvidia-ml-py && pip install nvidia-ml-py"
    )


def test_the_driver_is_asked_once_for_a_page_and_anew_for_free_memory(driver, monkeypatch):
    """Where nothing keeps it loaded, it takes longer to be asked than an answer used to hold."""
    now, asked = [100.0], []

    def slow():
        asked.append(now[0])
        now[0] += 2.0
        return nvidia.Driver((Gpu("card", 8 * GIB, len(asked) * GIB, 8.9, 0, "GPU-1"),))

    driver(FAST)
    monkeypatch.setattr(nvidia, "_ask", slow)
    monkeypatch.setattr(nvidia.time, "monotonic", lambda: now[0])
    threads = [threading.Thread(target=hardware.machine) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (gpu,) = hardware.gpus()
    assert (len(asked), hardware.free_bytes(gpu)) == (1, GIB)  # it answered just now
    now[0] += 5
    assert (hardware.free_bytes(gpu), len(asked)) == (2 * GIB, 2)
    assert hardware.gpus()[0].free_bytes == 2 * GIB
    now[0] += 11
    assert (hardware.gpus()[0].free_bytes, len(asked)) == (3 * GIB, 3)


# ---------------------------------------------------------------------------------------------------------------------
# Which ones, in which order


def test_cuda_counts_the_fastest_card_first_and_nvml_the_first_on_the_bus(driver, monkeypatch):
    driver(FAST, ROOMY, OLD)
    assert names() == ["4090", "A6000", "1080"]
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert names() == ["A6000", "4090", "1080"]


def test_cuda_s_own_count_is_taken_where_it_can_be_asked(driver, monkeypatch):
    driver(FAST, ROOMY, OLD)
    monkeypatch.setattr(nvidia, "_counted_by_cuda", lambda on_bus: tuple(reversed(on_bus)))
    assert names() == ["1080", "4090", "A6000"]


@pytest.mark.parametrize(
    ("variable", "seen"),
    [
        ("", []),
        ("-1", []),
        ("0", ["4090"]),
        ("1", ["A6000"]),
        (" 2 , 0", ["1080", "4090"]),
        ("0,7,1", ["4090"]),  # what does not exist ends the list
        ("0,-1,1", ["4090"]),
        ("1,1", []),  # CUDA shows none where one is named twice
        ("GPU-a6000bbb", ["A6000"]),
        ("GPU-1080cccc-0000-0000-0000-000000000000,GPU-4090", ["1080", "4090"]),
        ("GPU-", []),  # the beginning of several
        ("GPU-ffff,0", []),
        ("1,GPU-4090", ["A6000", "4090"]),
        ("void", []),
    ],
)
def test_the_variable_cuda_visible_devices_is_read_as_cuda_reads_it(driver, monkeypatch, variable, seen):
    driver(FAST, ROOMY, OLD)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert names() == seen


def test_of_a_card_in_mig_mode_its_instances_are_the_devices(driver, monkeypatch):
    driver(SPLIT, ROOMY)
    assert [(gpu.uuid, gpu.total_bytes, gpu.memory, gpu.instance) for gpu in hardware.gpus()] == [
        ("MIG-3333", 20 * GIB, "own", 3),
        ("MIG-1111", 5 * 10**9, "unknown", 1),  # its name says what the driver may not tell
        (ROOMY["uuid"], 48 * GIB, "own", 0),
    ]
    for variable, seen in {
        "0": ["MIG-3333"],
        "MIG-1111": ["MIG-1111"],
        "MIG-GPU-a100dddd-0000-0000-0000-000000000000/7/0": ["MIG-1111"],
        "MIG-": [],
        "GPU-a100,1": ["MIG-3333", ROOMY["uuid"]],
    }.items():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
        assert [gpu.uuid for gpu in hardware.gpus()] == seen, variable


def test_a_card_without_memory_of_its_own_has_the_machine_s(driver):
    driver({"name": "NVIDIA GB10", "uuid": "GPU-10", "memory": "unsupported", "capability": (12, 1)})
    (gpu,) = hardware.gpus()
    assert (gpu.memory, gpu.total_bytes) == ("shared", psutil.virtual_memory().total)
    assert 0 < gpu.free_bytes < gpu.total_bytes


def test_a_chip_that_shares_the_machine_s_memory_is_not_estimated_as_one_with_its_own(driver):
    from core.estimate import cards

    driver({"name": "NVIDIA GB10", "uuid": "GPU-10", "memory": "unsupported", "capability": (12, 1)})
    known = cards.of_machine(hardware.card())
    assert (known.name, known.bandwidth, known.matmul_tflops, known.measured) == ("NVIDIA GB10", 273e9, 100.0, False)
    assert cards.card("DGX Spark").capability == 12.1
    of_tomorrow = Gpu("NVIDIA N1X", 128 * GIB, 100 * GIB, 12.1, 0, "GPU-11", memory="shared")
    assert cards.of_machine(of_tomorrow).bandwidth == 273e9
    radeon = Gpu("AMD Radeon 890M", 64 * GIB, 64 * GIB, 11.5, 0, "GPU-12", "rocm", memory="shared")
    assert not cards._known(radeon).has_hbm
    assert cards._known(Gpu("NVIDIA H300", 140 * GIB, 140 * GIB, 9.0, 0)).has_hbm


def test_memory_that_may_not_be_read_is_taken_from_the_catalogue(driver):
    from core.estimate import cards

    driver(ROOMY | {"memory": "forbidden"})
    (gpu,) = hardware.gpus()
    assert (gpu.memory, gpu.total_bytes, gpu.free_bytes) == ("unknown", 0, 0)
    assert cards.of_machine(gpu).memory_bytes == cards.card("RTX A6000").memory_bytes


def test_the_card_with_the_most_memory_is_used_if_nobody_chooses(driver):
    driver(FAST, ROOMY, OLD)
    assert hardware.card().name == "NVIDIA RTX A6000"
    assert hardware.card(FAST["uuid"]).name == FAST["name"]
    assert hardware.card("GPU-gone") is None


def test_a_process_is_given_its_card_by_name_where_there_are_several(monkeypatch):
    several = Gpu("n", GIB, GIB, 8.0, 0, "GPU-1"), Gpu("a", GIB, GIB, 11.0, 0, "GPU-2", "rocm")
    monkeypatch.setattr(hardware, "gpus", lambda: several)
    assert hardware.environment(several[0]) == {"CUDA_VISIBLE_DEVICES": "GPU-1"}
    assert hardware.environment(several[1])["ROCR_VISIBLE_DEVICES"] == "GPU-2"
    assert hardware.environment(Gpu("Apple M3", GIB, GIB, 0, 0, "apple", kind="mps")) == {}
    assert hardware.environment(None) == {}
    monkeypatch.setattr(hardware, "gpus", lambda: several[:1])
    assert hardware.environment(several[0]) == {}  # as it was before anybody chose


def test_the_pretended_driver_has_the_names_and_numbers_of_the_real_one(driver):
    fake = sys.modules.pop("pynvml")
    real = importlib.import_module("pynvml")
    for name in [name for name in vars(fake) if name.startswith(("nvml", "NVML_"))]:
        assert callable(getattr(real, name)) if name.startswith("nvml") else getattr(real, name) == getattr(fake, name)
    asked = set(re.findall(r"nvml\.((?:nvml|NVML)\w+)", Path(nvidia.__file__).read_text(encoding="utf-8")))
    assert asked <= set(vars(fake))


CUDA = """
int cuInit(unsigned flags) { return 0; }
int cuDeviceGetCount(int *count) { *count = 2; return 0; }
int cuDeviceGet(int *device, int at) { *device = at; return 0; }
int cuDeviceGetUuid(unsigned char *id, int device) {
    for (int at = 0; at < 16; at++) id[at] = device ? 0xa6 : 0x40;
    return 0;
}
"""


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux" or not shutil.which("gcc"), reason="a library is compiled with gcc on Linux"
)
def test_cuda_itself_is_asked_for_its_order(tmp_path, monkeypatch):
    (tmp_path / "cuda.c").write_text(CUDA)
    command = ["gcc", "-shared", "-fPIC", "-o", str(tmp_path / "libcuda.so.1"), str(tmp_path / "cuda.c")]
    subprocess.run(command, check=True)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    second, first = (f"GPU-{two * 4}-{two * 2}-{two * 2}-{two * 2}-{two * 6}" for two in ("a6", "40"))
    assert nvidia._counted_by_cuda((second, first)) == (first, second)


# ---------------------------------------------------------------------------------------------------------------------
# What torch makes of them

CUDA_128, CUDA_126 = Build("2.11.0+cu128", "12.8"), Build("2.13.0+cu126", "12.6")
CUDA_130, CPU = Build("2.13.0+cu130", "13.0"), Build("2.13.0+cpu")
ROCM = Build("2.13.0+rocm7.2", hip="7.2")


@pytest.mark.parametrize(
    ("capability", "build", "cuda", "reason", "mend"),
    [
        (12.0, CUDA_128, (12, 8), None, ""),
        (12.1, CUDA_128, (13, 0), None, ""),
        (12.0, CUDA_126, (12, 8), "new", "either cu128"),
        (12.0, CUDA_126, (13, 0), "new", "install cu130"),
        (12.0, CUDA_130, (12, 8), "driver", "either cu128"),
        (10.0, CPU, (0, 0), "build", "install cu130"),
        (12.0, CPU, (11, 8), "build", "driver "),
        (8.9, CUDA_126, (12, 4), None, ""),
        (8.9, CPU, (12, 8), "build", "install cu126"),
        (8.9, CPU, (13, 1), "build", "install cu130"),
        (8.9, ROCM, (12, 8), "build", "install cu126"),
        (8.9, CUDA_130, (12, 4), "driver", "install cu126"),
        (8.9, CUDA_130, (11, 8), "driver", "driver "),  # too old a driver for any
        (7.0, CUDA_128, (12, 8), "old", "install cu126"),
        (7.0, CUDA_130, (13, 0), "old", "install cu126"),
        (7.0, Build("2.9.1+cu128", "12.8"), (12, 8), None, ""),
        (6.1, Build("2.9.1+cu128", "12.8"), (12, 8), "old", "install cu126"),
        (3.5, CUDA_126, (12, 0), "old", "none "),
        (7.5, CUDA_130, (13, 0), None, ""),
        (8.9, Build(), (12, 8), None, ""),  # no torch that could be read
    ],
)
def test_torch_and_card_are_held_against_each_other(capability, build, cuda, reason, mend):
    gpu = Gpu("card", GIB, GIB, capability, 0)
    found = torch_build.unseen(gpu, cuda, build)
    assert (found and found.reason) == reason
    if found:
        how, _, index = mend.partition(" ")
        whole = f"pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/{index}"
        assert (found.mend, found.command) == (how, whole if index else "")
        errors = {"install": "TorchNeedsBuild", "driver": "TorchNeedsDriver"}
        errors |= {"either": "TorchNeedsDriverOrBuild", "none": "NoTorchForCard"}
        assert found.error.name == errors[how]
        said = str(found.error)
        assert said.startswith(f"torch {build.version} cannot compute on card. ")
        assert ("https://www.nvidia.com/drivers" in said) is (how in ("driver", "either"))
        assert said.endswith(f": {whole}") is bool(index)


def test_torch_is_upgraded_to_one_for_the_card():
    packages = ("--upgrade", "torch", "peft")
    ada, blackwell = Gpu("a", GIB, GIB, 8.9, 0), Gpu("b", GIB, GIB, 12.0, 0)
    index = "https://download.pytorch.org/whl/cu130"
    assert torch_build.upgrade(packages, ada, (13, 0)) == (*packages, "--extra-index-url", index)
    assert torch_build.upgrade(packages, blackwell, (12, 8)) == ("--upgrade", "peft")  # the newest needs another driver
    assert torch_build.upgrade(packages, None) == packages
    assert torch_build.upgrade(("--upgrade", "peft"), ada) == ("--upgrade", "peft")


@pytest.mark.parametrize(
    ("architecture", "listed", "sees"),
    [
        ("gfx1103", False, True),  # Radeon 780M, part of a processor
        ("gfx1150", False, True),
        ("gfx803", False, False),  # RX 580
        ("gfx1010", False, False),  # RX 5700
        ("gfx1100", True, True),
        ("gfx1151", True, True),  # bought to compute
        ("", False, True),
    ],
)
def test_a_radeon_is_a_card_where_a_torch_is_made_for_it(driver, monkeypatch, architecture, listed, sees):
    driver()
    gpu = Gpu("AMD Radeon", 8 * GIB, 8 * GIB, 0.0, 0, "GPU-1", "rocm", architecture=architecture)
    monkeypatch.setattr(other_gpus, "gpus", lambda: (gpu,))
    for build in (CPU, CUDA_130):
        monkeypatch.setattr(torch_build, "installed", lambda build=build: build)
        assert (hardware.gpus(), bool(hardware.machine().unseen)) == (((gpu,), True) if listed else ((), False))
    monkeypatch.setattr(torch_build, "installed", lambda: ROCM)
    assert hardware.gpus() == (gpu,)
    assert [(one.reason, one.needs, one.mend) for one in hardware.machine().unseen] == (
        [] if sees else [("architecture", architecture, "none")]
    )
    monkeypatch.setenv("HSA_OVERRIDE_GFX_VERSION", "10.3.0")
    assert hardware.machine().unseen == ()
    assert torch_build.unseen(gpu, build=Build("2.12.0+rocm7.14.0", hip="7.14")) is None  # AMD's own build


def test_torch_s_version_file_is_read_without_importing_it():
    text = "__version__ = '2.11.0+cu128'\ncuda: Optional[str] = '12.8'\nhip: Optional[str] = None\nxpu = None\n"
    assert torch_build.parse(text) == CUDA_128
    code = "from core.hardware.torch_build import installed; import sys; print(installed().version, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    from importlib.metadata import version

    assert done.stdout.split() == [version("torch"), "False"]


def test_a_card_that_torch_does_not_see_is_named_with_the_command_that_helps(driver, monkeypatch):
    driver(FAST)
    monkeypatch.setattr(torch_build, "installed", lambda: CPU)
    (found,) = hardware.machine().unseen
    assert (found.card, found.reason, found.version) == (FAST["name"], "build", "2.13.0+cpu")


def test_a_card_that_torch_sees_goes_before_a_larger_one(driver, monkeypatch):
    driver(ROOMY, OLD | {"total": 96 * GIB})
    monkeypatch.setattr(torch_build, "installed", lambda: CUDA_128)
    assert hardware.card().name == "NVIDIA RTX A6000"


# ---------------------------------------------------------------------------------------------------------------------
# Other makes


def amd(sysfs: Path, number: int, address: str, vram: int, gfx: int, **files: str) -> None:
    device = sysfs / "devices" / address
    device.mkdir(parents=True)
    files = {"vendor": "0x1002", "device": "0x744c", "mem_info_vram_total": str(vram)} | files
    for name, text in files.items():
        (device / name).write_text(text + "\n")
    (sysfs / "class" / "drm" / f"card{number}").mkdir(parents=True)
    (sysfs / "class" / "drm" / f"card{number}" / "device").symlink_to(device)
    (sysfs / "class" / "drm" / f"card{number}-DP-1").mkdir()
    node = sysfs / "class" / "kfd" / "kfd" / "topology" / "nodes" / str(number)
    node.mkdir(parents=True)
    bus = int(address.split(":")[1], 16)
    (node / "properties").write_text(f"location_id {bus << 8}\ngfx_target_version {gfx}\n")


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links")
def test_cards_of_amd_and_intel_are_read_from_the_system(tmp_path, monkeypatch):
    for variable in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        monkeypatch.delenv(variable, raising=False)
    small = {"product_name": "AMD Radeon Graphics"}
    amd(tmp_path, 0, "0000:0f:00.0", GIB // 2, 100306, **small)  # part of a processor: left out
    used = {"mem_info_vram_used": str(2 * GIB), "product_name": "AMD Radeon RX 7900 XTX", "unique_id": "f00d"}
    amd(tmp_path, 1, "0000:03:00.0", 24 * GIB, 110000, **used)
    amd(tmp_path, 2, "0000:0c:00.0", 64 * GIB, 90010, product_name="AMD Instinct MI210", unique_id="0x210")
    strix = {"mem_info_gtt_total": str(90 * GIB), "product_name": "AMD Radeon 8060S", "unique_id": "8060"}
    amd(tmp_path, 3, "0000:c5:00.0", GIB, 110501, **strix)
    amd(tmp_path, 4, "0000:04:00.0", 0, 0, vendor="0x8086", device="0x56a0")
    amd(tmp_path, 5, "0000:05:00.0", 0, 0, vendor="0x8086", device="0x9a49")  # integrated
    found = other_gpus.gpus(tmp_path)
    assert len(found) == len(other_gpus.on_bus(tmp_path)) == 4
    assert found[0] == Gpu(
        "AMD Radeon RX 7900 XTX", 24 * GIB, 22 * GIB, 11.0, 0.0, "GPU-f00d", "rocm", architecture="gfx1100"
    )
    assert [(gpu.name, gpu.architecture, gpu.memory, gpu.total_bytes // GIB, gpu.kind) for gpu in found[1:]] == [
        ("AMD Instinct MI210", "gfx90a", "own", 64, "rocm"),
        ("AMD Radeon 8060S", "gfx1151", "shared", 91, "rocm"),
        ("Intel Arc A770", "", "own", 16, "xpu"),
    ]
    monkeypatch.setenv("ROCR_VISIBLE_DEVICES", "1,GPU-f00d")
    assert [gpu.name for gpu in other_gpus.gpus(tmp_path)] == [found[1].name, found[0].name, found[3].name]
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "1")
    assert [gpu.name for gpu in other_gpus.gpus(tmp_path)] == [found[0].name, found[3].name]
    assert torch_build.unseen(found[0], build=CUDA_128).reason == "build"
    assert torch_build.unseen(found[0], build=ROCM) is None
    monkeypatch.delenv("ROCR_VISIBLE_DEVICES")
    monkeypatch.delenv("HIP_VISIBLE_DEVICES")
    amd(tmp_path, 6, "0000:e1:00.0", 16 * GIB, 110000, product_name="AMD Radeon RX 7800 XT")
    # One has no name that a process could be given: torch takes the first, so only that is listed.
    assert [gpu.name for gpu in other_gpus.gpus(tmp_path)] == [found[0].name, found[3].name]
    assert len(other_gpus.on_bus(tmp_path)) == 5


def test_an_apple_chip_shares_the_machine_s_memory(monkeypatch):
    monkeypatch.setattr(other_gpus.platform, "machine", lambda: "arm64")
    answer, asked = SimpleNamespace(stdout="Apple M3 Max\n"), []
    monkeypatch.setattr(other_gpus.subprocess, "run", lambda command, **_: asked.append(command) or answer)
    other_gpus._chip.cache_clear()
    (gpu,) = other_gpus.apple()
    other_gpus.apple()
    other_gpus._chip.cache_clear()
    assert len(asked) == 1  # its name does not change
    assert (gpu.name, gpu.kind, gpu.memory) == ("Apple M3 Max", "mps", "shared")
    assert 0 < gpu.total_bytes < psutil.virtual_memory().total
    assert gpu.has_bf16
    from core.estimate import answer as answers
    from core.estimate import cards

    for system, kind in (("13.6", "fp32"), ("14.0", "bf16"), ("26.1", "bf16"), ("", "bf16")):
        monkeypatch.setattr("core.hardware.gpu.platform.mac_ver", lambda system=system: (system, ("", "", ""), ""))
        assert answers.best_precision(cards.of_machine(gpu)) == kind


def test_qlora_is_offered_where_bitsandbytes_names_the_card():
    def lacks(kind, **fields):
        return torch_build.four_bit_lacks(Gpu("card", GIB, GIB, fields.pop("capability", 0.0), 0, kind=kind, **fields))

    assert (lacks("cuda", capability=8.0), lacks("cuda", capability=5.2)) == ("", "capability")
    assert (lacks("rocm", architecture="gfx1100"), lacks("rocm", architecture="gfx90a")) == ("", "")
    assert lacks("rocm", architecture="gfx906") == "architecture"
    assert (lacks("xpu"), lacks("mps")) == ("", "")


# ---------------------------------------------------------------------------------------------------------------------
# The machine


def test_the_machine_is_described_even_before_the_data_directory_exists(home):
    found = hardware.machine()
    assert found.memory_bytes > found.memory_free_bytes > 0
    assert found.disk_free_bytes > 0
    assert found.cores >= 1


def test_the_command_says_all_of_it(driver):
    driver(FAST, ROOMY | {"memory": "forbidden"}, cuda=13000)
    environment = os.environ | {"PYTHONPATH": f"{pretended_driver.SITE}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "core.hardware"]
    options = {"cwd": ROOT, "env": environment, "capture_output": True, "text": True, "check": True}
    said = json.loads(subprocess.run([*command, "--json"], **options).stdout)
    assert [(gpu["name"], gpu["uuid"], gpu["memory"]) for gpu in said["gpus"]] == [
        (FAST["name"], FAST["uuid"], "own"),
        (ROOMY["name"], ROOMY["uuid"], "unknown"),
    ]
    assert (said["cuda"], said["torch"]["cuda"], said["unseen"], said["driver_trouble"]) == ([13, 0], "13.0", [], "")
    assert "the driver does not say how much memory" in subprocess.run(command, **options).stdout


@pytest.mark.parametrize(
    ("driver_name", "gib", "known", "measured"),
    [
        ("NVIDIA GeForce RTX 4070", 12, "NVIDIA GeForce RTX 4070 12GB", False),
        ("NVIDIA GeForce RTX 4070 Ti", 12, "NVIDIA GeForce RTX 4070 Ti 12GB", False),
        ("NVIDIA GeForce RTX 4070 SUPER", 12, "NVIDIA GeForce RTX 4070 SUPER 12GB", True),
        ("NVIDIA GeForce RTX 4070 Laptop GPU", 8, "NVIDIA GeForce RTX 4070 Laptop 8GB", True),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", 16, "NVIDIA GeForce RTX 4070 Ti SUPER 16GB", True),
        ("NVIDIA GeForce RTX 5070", 12, "NVIDIA GeForce RTX 5070 12GB", True),
        ("NVIDIA GeForce RTX 4060", 8, "NVIDIA GeForce RTX 4060 8GB", True),
        ("NVIDIA GeForce RTX 4060 Ti", 8, "NVIDIA GeForce RTX 4060 Ti 8GB", True),  # a smaller memory, the same chip
        ("NVIDIA H100 80GB HBM3", 80, "NVIDIA H100 80GB SXM", True),
        ("NVIDIA H100 PCIe", 80, "NVIDIA H100 80GB PCIe", True),
        ("NVIDIA H100 NVL", 94, "NVIDIA H100 NVL 94GB", False),
        ("NVIDIA H200", 140, "NVIDIA H200 SXM", True),
        ("NVIDIA H200 NVL", 140, "NVIDIA H200 NVL 141GB", False),
        ("NVIDIA A100-SXM4-80GB", 79, "NVIDIA A100 80GB SXM", True),
        ("NVIDIA A100 80GB PCIe", 79, "NVIDIA A100 80GB PCIe", True),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 95, "NVIDIA RTX PRO 6000 Blackwell Server Edition", True),
        ("NVIDIA A100-PCIE-40GB", 39, "NVIDIA A100 40GB PCIe", True),
        ("Tesla V100-SXM2-16GB", 16, "NVIDIA V100 16GB", False),
        ("NVIDIA GeForce RTX 3060", 12, "NVIDIA GeForce RTX 3060 12GB", False),  # nobody's rates are known
        ("NVIDIA GeForce RTX 3060", 8, "NVIDIA GeForce RTX 3060 8GB", False),
        ("NVIDIA GeForce RTX 2080 with Max-Q Design", 8, "NVIDIA GeForce RTX 2080 8GB", False),
        ("Tesla T4", 15, "NVIDIA T4", True),
    ],
)
def test_a_card_is_known_by_its_driver_s_name_and_another_chip_s_rate_is_not_measured(
    driver_name, gib, known, measured
):
    from core.estimate import cards

    found, like = cards.of_machine(Gpu(driver_name, gib * GIB, gib * GIB, 8.9, 0)), cards.card(known)
    assert (found.name, found.matmul_tflops, found.measured) == (driver_name, like.matmul_tflops, measured)
