"""What the machine has, read from nvidia-smi's lines."""

import pytest

from core import hardware
from core.hardware import Gpu

LINES = """NVIDIA RTX PRO 6000 Blackwell Workstation Edition, 97887, 96000, 12.0, 600.00
NVIDIA GeForce GTX 1050, 4096, 3000, 6.1, [N/A]
Unable to determine the device handle
"""


def test_cards_are_read_and_lines_without_one_passed_over():
    assert hardware.parse(LINES) == (
        Gpu("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 97887 * 2**20, 96000 * 2**20, 12.0, 600.0),
        Gpu("NVIDIA GeForce GTX 1050", 4096 * 2**20, 3000 * 2**20, 6.1, 0.0),
    )


def test_what_a_card_can_run_follows_from_its_capability():
    new, old = hardware.parse(LINES)
    assert (new.has_bf16, new.has_flash_attention, old.has_bf16, old.has_flash_attention) == (True, True, False, False)


def test_a_machine_without_a_driver_has_no_cards(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert hardware.gpus() == ()


def test_the_machine_is_described_even_before_the_data_directory_exists(home):
    found = hardware.machine()
    assert found.memory_bytes > found.memory_free_bytes > 0
    assert found.disk_free_bytes > 0
    assert found.cores >= 1


@pytest.mark.parametrize(
    ("driver", "gib", "known"),
    [
        ("NVIDIA H100 80GB HBM3", 79.6, "NVIDIA H100 80GB SXM"),
        ("NVIDIA H100 PCIe", 79.6, "NVIDIA H100 80GB PCIe"),
        ("NVIDIA A100-SXM4-80GB", 79.3, "NVIDIA A100 80GB SXM"),
        ("NVIDIA A100-PCIE-40GB", 39.4, "NVIDIA A100 40GB"),
        ("NVIDIA GeForce RTX 3060", 11.8, "NVIDIA GeForce RTX 3060 12GB"),
        ("Tesla T4", 14.6, "NVIDIA T4"),
    ],
)
def test_a_card_is_known_by_its_driver_s_name(driver, gib, known):
    from core.estimate import catalogue

    gpu = Gpu(driver, int(gib * 2**30), int(gib * 2**30), 8.0, 300)
    found = catalogue.of_machine(gpu)
    assert found.matmul_tflops == catalogue.card(known).matmul_tflops
    assert (found.name, found.measured) == (driver, catalogue.card(known).measured)
