"""Packages whose compiled code does not load, or has no kernels for the card: a run goes on without them, or says which."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers.utils

from core import paths
from core.runs import trainer
from core.training import attention_kernels, checks, devices, model_loading, packages
from core.training.config import TrainConfig
from tests.conftest import raises
from ui.text import LOCALES, Say

ROOT = Path(__file__).parent.parent
SYMBOL = "flash_attn_2_cuda.so: undefined symbol: _ZN3c105Error"
REINSTALL = "pip install --force-reinstall --no-deps --no-cache-dir"


@pytest.fixture(autouse=True)
def forgetful():
    """What is found out once a process is asked again in every test."""
    packages.fault.cache_clear()
    yield
    packages.fault.cache_clear()


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """A function that installs a package that does not load; a file beside it has a line for each time it is tried."""

    def install(module: str, reason: str = SYMBOL) -> Path:
        folder, tried = tmp_path / module, tmp_path / f"{module}.txt"
        folder.mkdir()
        code = f"open({str(tried)!r}, 'a').write('tried\\n')\nraise ImportError({reason!r})\n"
        (folder / "__init__.py").write_text(code, encoding="utf-8")
        for name in [name for name in sys.modules if name.split(".")[0] == module]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.syspath_prepend(str(tmp_path))
        return tried

    return install


@pytest.fixture
def a100(monkeypatch):
    monkeypatch.setattr(devices, "device_type", lambda: "cuda")
    monkeypatch.setattr(devices, "has_bf16", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (8, 0))


def config(**fields) -> TrainConfig:
    return TrainConfig(base_model="m", corpus="c", **{"method": "lora"} | fields)


def test_a_package_that_does_not_load_is_tried_once_and_says_why(broken):
    tried = broken("flash_attn")
    assert [packages.fault("flash-attn") for _ in range(3)] == [SYMBOL] * 3
    assert tried.read_text() == "tried\n"


def test_what_is_not_installed_is_not_broken():
    assert (packages.fault("flash-attn"), packages.fault("liger-kernel")) == ("", "")


def test_sdpa_takes_the_place_of_a_flash_attn_that_does_not_load(broken, a100, monkeypatch):
    monkeypatch.setattr(transformers.utils, "is_flash_attn_2_available", lambda **_: True)
    assert attention_kernels.flash_attention_lacks("bf16") == ""
    packages.fault.cache_clear()
    tried = broken("flash_attn")
    found = [attention_kernels.flash_attention_lacks(kind) for kind in ("fp32", "bf16")]
    assert (found, attention_kernels.attention("bf16")) == (["precision", "broken"], "sdpa")
    assert tried.read_text() == "tried\n"


def test_a_bitsandbytes_that_does_not_load_is_missed_by_those_alone_who_need_it(broken):
    broken("bitsandbytes", "libcudart.so.12: cannot open shared object file.\nand more")
    checks.check_machine(config())
    checks.check_machine(config(method="full"))
    reason = "libcudart.so.12: cannot open shared object file"
    for what, fields in (("QLoRA", {"method": "qlora"}), ("paged_adamw_8bit", {"optim": "paged_adamw_8bit"})):
        with raises("PackageBroken") as caught:
            checks.check_machine(config(**fields))
        assert str(caught.value) == (
            f"{what} needs the package bitsandbytes, which is installed but does not load: {reason}. Do without {what}, "
            f"or reinstall the package: {REINSTALL} bitsandbytes"
        )
    with raises("PackageBroken"):
        model_loading.load_base(config(method="qlora"))


@pytest.mark.slow
def test_an_adapter_is_put_on_where_bitsandbytes_does_not_load(tmp_path, tiny_model):
    """PEFT imports it for every adapter, wherever it is installed."""
    (tmp_path / "bitsandbytes").mkdir()
    (tmp_path / "bitsandbytes" / "__init__.py").write_text(f"raise ImportError({SYMBOL!r})\n", encoding="utf-8")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from core.training import adapters, model_loading\n"
        "from core.training.config import TrainConfig\n"
        f"model = {tiny_model!r}\n"
        "base = model_loading.skeleton(model_loading.model_config(model))\n"
        "model = adapters.add_adapter(base, TrainConfig(base_model=model, corpus='', method='lora'))\n"
        "print(type(model).__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["PeftModelForCausalLM"], done.stderr[-2000:]


def test_a_bitsandbytes_without_a_library_for_this_cuda_does_not_load(monkeypatch):
    """It can be imported all the same, and says so only when one of its functions is called."""
    from bitsandbytes import cextension

    reason = "No compatible CUDA binary found at libbitsandbytes_cuda140.so"
    stand_in = cextension.ErrorHandlerMockBNBNativeLibrary(f"{reason}\nmore")
    assert packages.fault("bitsandbytes") == ""
    monkeypatch.setattr(cextension, "lib", stand_in)
    found = []
    for on_card in (False, True):  # a processor can do without
        monkeypatch.setattr(torch.cuda, "is_available", lambda on_card=on_card: on_card)
        packages.fault.cache_clear()
        found.append(packages.fault("bitsandbytes"))
    assert found == ["", reason]
    packages.before_peft()
    assert sys.modules["bitsandbytes"] is not None  # PEFT can import it


def test_liger_kernels_that_do_not_load_are_refused_before_anything_is_read(broken, a100, monkeypatch):
    broken("liger_kernel", "cannot import name 'x' from 'triton'")
    monkeypatch.setattr(transformers.utils, "is_liger_kernel_available", lambda: True)
    with raises("PackageBroken", match=r"use_liger_kernel needs the package liger-kernel, .* from 'triton'"):
        checks.check_machine(config(use_liger_kernel=True))


def test_liger_kernels_are_not_offered_for_installation_where_no_card_could_run_them(monkeypatch):
    for kind in ("cpu", "mps"):
        monkeypatch.setattr(devices, "device_type", lambda kind=kind: kind)
        with raises("LigerNeedsCard", match=r"torch sees none here\. Switch it off\.$"):
            checks.check_machine(config(use_liger_kernel=True))


def worded(monkeypatch, has: list[str], installed: list[str], said: str) -> Exception:
    """What a run says of an error on an RTX 5090, of which torch has these kernels."""
    monkeypatch.setattr(devices, "device_name", lambda: "NVIDIA RTX 5090")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (12, 0))
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: has)
    monkeypatch.setattr(packages, "installed", lambda: installed)
    return trainer._worded(RuntimeError(said), paths.run("none"))


NO_IMAGE = "CUDA error (flash_fwd_launch_template.h:188): no kernel image is available for execution on the device"


def test_kernels_that_torch_has_are_missed_in_the_packages_beside_it(monkeypatch):
    found = worded(monkeypatch, ["sm_90", "sm_120"], ["flash-attn", "bitsandbytes"], NO_IMAGE)
    assert str(found) == (
        "torch has kernels for NVIDIA RTX 5090 (sm_120); a package that the run uses has none. Installed are: "
        f"flash-attn, bitsandbytes. Reinstall what it uses: {REINSTALL} --no-build-isolation flash-attn bitsandbytes. "
        "Or do without: pip uninstall flash-attn; method = lora, optim = adamw_torch."
    )
    russian = Say("ru").trouble(found)
    assert russian == LOCALES["ru"]["errors"]["PackageLacksKernels"].format(**found.values)
    assert "ядра для NVIDIA RTX 5090 (sm_120) есть" in russian


def test_kernels_that_torch_lacks_are_missed_in_torch(monkeypatch):
    found = worded(monkeypatch, ["sm_80", "sm_90"], ["bitsandbytes"], NO_IMAGE)
    assert "cannot compute on NVIDIA RTX 5090" in str(found)


def test_kernels_that_nobody_lacks_are_the_driver_s_affair(monkeypatch):
    assert worded(monkeypatch, ["sm_120"], [], NO_IMAGE).name == "DriverTrouble"
    assert trainer.DO_WITHOUT.keys() == packages.MODULES.keys()


def test_the_packages_that_are_installed_are_those_of_which_there_is_metadata():
    assert packages.installed() == ["bitsandbytes"]
