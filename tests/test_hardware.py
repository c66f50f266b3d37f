"""What the machine has, read from nvidia-smi's lines."""

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
