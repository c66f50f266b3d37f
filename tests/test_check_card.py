"""The check of this machine: its arithmetic, whole checks on the processor and on pretended cards, what breaks, the page."""

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from markupsafe import escape

from core import errors as core_errors
from core import events, jobs, paths
from core import process as core_process
from core.chat import reply_gpu
from core.check_card import advice, attention, children, kernels, plan, quantisation, results, stand_in
from core.check_card import jobs as checks
from core.check_card.children import Starter
from core.estimate import calibration, forecast
from core.hardware import hardware, torch_build
from core.models import models
from core.runs import gpu_access, runs
from core.training import attention_kernels, devices, packages
from core.training import checks as training_checks
from core.training.config import TrainConfig
from tests import pretended_card, pretended_driver
from tests.conftest import raises
from tests.pretended_driver import FAST, ROOMY
from tests.test_browser import CHROMIUM, FLAGS, Server
from ui import opening_check
from ui.text import ENGLISH, LANGUAGES, LOCALES, Say

ROOT = Path(__file__).parent.parent
KEYS = {"device", "torch", "checks", "state"}
SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
on_card = pytest.mark.skipif(bool(pretended_card.missing()), reason=pretended_card.missing())


def check(*options: str, environment: dict | None = None, code: int = 0) -> dict:
    """The object that the command prints last; states by name under "by"."""
    command = [sys.executable, "-m", "core.check_card", "--json", "--minutes", "9", *options]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stderr[-3000:] + done.stdout[-3000:]
    found = json.loads(done.stdout.strip().split("\n")[-1])
    assert set(found) == KEYS
    return found | {"by": {one["name"]: one for one in found["checks"]}}


@pytest.fixture
def tiny_starter(home, monkeypatch) -> None:
    """A tiny model in the starter's place: what is fetched is somebody else's test."""
    folder = models.starter_directory()
    monkeypatch.setattr(stand_in, "SHAPE", stand_in.SHAPE | SMALL)
    stand_in.make(str(folder.parent / "made"))
    (folder.parent / "made" / "model").rename(folder)
    card = {"id": models.STARTER, "title": models.STARTER_TITLE}
    (folder / "soulsmith.json").write_text(json.dumps(card), encoding="utf-8")


# ---------------------------------------------------------------------------------------------------------------------
# Parts


@pytest.mark.parametrize(
    ("has", "needed", "runs_there"),
    [
        (["sm_80"], "sm_80", True),
        (["sm_80"], "sm_86", True),  # the same major version, a higher minor one
        (["sm_86"], "sm_80", False),
        (["sm_90"], "sm_120", False),
        (["sm_90", "compute_90"], "sm_120", True),  # intermediate code is compiled for later cards
        (["sm_90a"], "sm_90", True),
        (["sm_100a"], "sm_103", False),  # a letter: exactly this one
        (["sm_100f"], "sm_103", True),  # the family
        (["sm_120"], "sm_121", True),  # GB10
        (["sm_75", "sm_80"], "sm_70", False),
        (["gfx90a", "gfx1100"], "gfx1100", True),
        (["gfx90a", "gfx1100"], "gfx1101", False),
        ([], "sm_80", False),
    ],
)
def test_kernels_run_on_cards_of_their_own_major_version(has, needed, runs_there):
    assert torch_build.covers(has, needed) is runs_there


def test_the_worst_state_is_that_of_all():
    assert [results.worst(states) for states in ((), ("ok",), ("slow", "ok"), ("ok", "broken", "slow"))] == [
        "ok",
        "ok",
        "slow",
        "broken",
    ]


def test_the_report_says_advice_in_plain_english():
    first = plan.CheckFirst(name="x")
    found = results.final("A card", "2.13.0", [results.result("torch", "slow", {"tflops": 1.23456}, None, first)])
    assert found == {
        "device": "A card",
        "torch": "2.13.0",
        "checks": [
            {
                "name": "torch",
                "state": "slow",
                "value": {"tflops": 1.235},
                "expected": {},
                "advice": 'The run "x" is training now, and the two would slow each other down. Check this machine when it has ended.',
            }
        ],
        "state": "slow",
    }


def child(code: str, seconds: float = 60, on_line=lambda said: None, monkeypatch=None) -> children.Ended:
    """A process that runs this code in place of the checks."""
    real = subprocess.Popen

    def popen(command, **more):
        return real([sys.executable, "-c", code], **more)

    monkeypatch.setattr(core_process.subprocess, "Popen", popen)
    return children.run({}, seconds, on_line)


def test_a_crash_is_told_by_the_name_of_its_signal(monkeypatch):
    ended = child("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", monkeypatch=monkeypatch)
    assert ended.reason == "the process was ended by SIGSEGV"


def test_a_check_that_hangs_is_ended(monkeypatch):
    began = time.monotonic()
    ended = child("import time; time.sleep(60)", 1, monkeypatch=monkeypatch)
    assert (ended.timed_out, ended.reason) == (True, "it took too long and was ended")
    assert time.monotonic() - began < 30


def test_the_last_words_of_a_process_are_its_reason(monkeypatch):
    assert child("raise ValueError('no such kernel')", monkeypatch=monkeypatch).reason == "ValueError: no such kernel"


def test_noise_between_the_lines_is_passed_over(monkeypatch):
    said = []
    child("print('Loading...'); print('{\"a\": 1}'); print('[1]')", on_line=said.append, monkeypatch=monkeypatch)
    assert said == [{"a": 1}]


def crashing(monkeypatch, crashes: dict[str, str]) -> list[str]:
    """Let the checks be pretended: all are ok, but some crash their process. The names that processes were asked for."""
    asked = []

    def run(request, seconds, on_line, look):
        asked.append(",".join(request["names"]))
        for name in request["names"]:
            on_line({"begins": name})
            if name in crashes:
                return children.Ended(-11, False, "")
            if name == "torch":
                on_line({"facts": {"torch": "2", "kind": "cpu", "device": "cpu", "free": 0}})
            on_line({"check": results.result(name, "ok", {})})
        return children.Ended(0, False, "")

    monkeypatch.setattr(children, "run", run)
    return asked


def test_a_check_that_crashes_does_not_stop_the_others(home, monkeypatch):
    asked = crashing(monkeypatch, {"matmul_bf16": ""})
    told = []
    made = plan.Plan(lambda event, **values: told.append(values), home, time.monotonic() + 60, "log.txt")
    made.group("kernels")
    assert asked == ["torch,architecture,matmul_fp32,matmul_bf16,matmul_fp16", "matmul_fp16"]
    assert {one["name"]: one["state"] for one in made.checks} == {
        "torch": "ok",
        "architecture": "ok",
        "matmul_fp32": "ok",
        "matmul_bf16": "broken",
        "matmul_fp16": "ok",
    }
    assert made.checks[3]["value"] == {"reason": "the process was ended by SIGSEGV"}
    assert "pip install" in made.checks[3]["advice"]["message"]


def test_nothing_else_is_tried_where_torch_itself_does_not_start(home, monkeypatch):
    asked = crashing(monkeypatch, {"torch": ""})
    made = plan.Plan(lambda event, **values: None, home, time.monotonic() + 60, "log.txt")
    made.do(None)
    assert ([one["name"] for one in made.checks], len(asked)) == (["card", "torch"], 1)


def test_what_there_was_no_time_for_is_slow_not_broken(home):
    made = plan.Plan(lambda event, **values: None, home, time.monotonic(), "log.txt")
    assert made.late("train_full")
    assert made.checks[0]["state"] == "slow"
    assert "--minutes 15" in made.checks[0]["advice"]["message"]


def test_every_check_that_there_was_no_time_for_is_told_once(home, monkeypatch):
    """Time is over before the second group, or while the model is being made ready."""
    crashing(monkeypatch, {})
    made = plan.Plan(lambda event, **values: None, home, time.monotonic() + 60, "log.txt")
    made.group("kernels")
    made.end = time.monotonic()
    made.group("quantisation")
    made.group("attention")
    made.late(*plan.TRAININGS)
    assert [one["name"] for one in made.checks] == list(plan.NAMES[1:])
    assert {one["state"] for one in made.checks[5:]} == {"slow"}
    assert {one["value"]["left_out"] for one in made.checks[5:]} == {"time"}


def test_trainings_without_time_for_their_model_are_told_too(home, monkeypatch):
    crashing(monkeypatch, {})

    class Slow:
        reason = "the download takes longer than this check"

        def wait(self, seconds, look):
            made.end = time.monotonic()

    def run(request, *others):
        return children.Ended(-9, True, "") if request["do"] == "stand_in" else answer(request, *others)

    answer = children.run
    monkeypatch.setattr(children, "run", run)
    made = plan.Plan(lambda event, **values: None, home, time.monotonic() + 60, "log.txt")
    made.do(Slow())
    assert [one["name"] for one in made.checks] == list(plan.NAMES)
    assert {one["state"] for one in made.checks if one["name"] in plan.TRAININGS} == {"slow"}


def test_a_resume_without_a_training_to_compare_with_says_so(home):
    made = plan.Plan(lambda event, **values: None, home, time.monotonic() + 60, "log.txt")
    made.facts = {"kind": "cpu"}
    made.resume()
    assert [(one["name"], one["state"], one["value"]) for one in made.checks] == [
        ("resume", "ok", {"left_out": "losses"})
    ]


@pytest.mark.slow
def test_what_a_process_leaves_behind_goes_with_the_check(home, tmp_path, monkeypatch):
    monkeypatch.setattr(children, "environment", lambda: dict(os.environ))
    code = "import json, sys, tempfile; sys.argv[1:] = [%r]; from core.check_card import child, stand_in\n"
    code += "stand_in.make = lambda folder: print(json.dumps({'there': tempfile.mkdtemp()})) or 0\nchild.main()"
    request = {"do": "stand_in", "folder": "", "seconds": 60, "scratch": str(tmp_path)}
    said = []
    child(code % json.dumps(request), on_line=said.append, monkeypatch=monkeypatch)
    assert Path(said[0]["there"]).parent == tmp_path


# ---------------------------------------------------------------------------------------------------------------------
# Whose turn it is


@pytest.fixture
def training(home, no_worker, tiny_model, tiny_corpus) -> str:
    """A run that waits for its turn."""
    return runs.create(TrainConfig(base_model=tiny_model, corpus=tiny_corpus), "смотритель")


def test_a_check_is_a_guest_on_the_card_until_it_ends(home, monkeypatch):
    monkeypatch.setattr(plan, "_run", lambda *_: {"was alone": gpu_access.wait_for_guests(0)})
    assert plan.run(lambda *_, **__: None) == {"was alone": False}
    assert gpu_access.wait_for_guests(0)


def test_a_check_waits_for_guests_and_says_so_when_they_stay(home, monkeypatch):
    monkeypatch.setattr(plan, "GUEST_SECONDS", 0.3)
    with gpu_access.guest(), raises("CardInUse"):
        plan.run(lambda *_, **__: None)


def test_a_check_leaves_the_card_as_soon_as_a_run_has_begun(training, tmp_path, monkeypatch):
    """A worker claims the card for a run while a process of the check is at work: it ends, and the guest leaves."""
    processes, real = [], subprocess.Popen

    def popen(command, **more):
        processes.append(real([sys.executable, "-c", "import time; print('{}', flush=True); time.sleep(60)"], **more))
        return processes[-1]

    monkeypatch.setattr(core_process.subprocess, "Popen", popen)
    monkeypatch.setattr(core_process, "LOOK_SECONDS", 0.1)
    claims = ExitStack()
    began = iter([claims])

    def tell(event, **values):
        if one := next(began, None):
            one.enter_context(gpu_access.claim(training))

    with claims, pytest.raises(plan.RunBegan, match='The run "смотритель" started'):
        plan.run(tell, only=["card"])
    assert [process.returncode for process in processes] == [-9]
    assert gpu_access.wait_for_guests(0)


def test_a_run_that_is_about_to_start_keeps_a_check_away(training):
    with gpu_access.claim(training), pytest.raises(plan.CheckFirst, match='The run "смотритель" is training now'):
        plan.run(lambda *_, **__: None)


MISMATCH = {
    "trouble": "DriverSilent",
    "values": {"reason": "RM has detected an NVML/RM version mismatch"},
    "message": "The driver of the NVIDIA card does not answer: RM has detected an NVML/RM version mismatch. Restart the "
    "machine; if the problem returns, reinstall the driver.",
}


def test_a_driver_that_does_not_answer_is_broken_not_a_machine_without_a_card(monkeypatch):
    lists = pretended_driver.install(monkeypatch)
    lists(FAST, error=18)
    found = plan.driver()
    assert (found["state"], found["value"]["card"], found["advice"]) == ("broken", "none", MISMATCH)
    lists(FAST | {"lost": True}, ROOMY)
    found = plan.driver()
    assert (found["state"], found["value"]["card"]) == ("broken", ROOMY["name"])
    assert found["advice"]["values"] == {"reason": "GPU is lost"}
    lists()
    assert (plan.driver()["state"], plan.driver()["advice"]) == ("ok", None)


@pytest.mark.parametrize(
    ("cuda", "hip", "said"), [("13.0", None, "CUDA: 13.0"), (None, "7.2", "ROCm: 7.2"), (None, None, "CUDA: none")]
)
def test_the_version_of_rocm_is_not_called_cuda_s(monkeypatch, cuda, hip, said):
    import torch

    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.version, "hip", hip)
    value = kernels.check_torch()["value"]
    assert said in opening_check.figures(Say("en"), value)
    assert ("CUDA" in str(opening_check.figures(Say("en"), value))) is (not hip)


TWO = [hardware.Gpu("NVIDIA L4", 24 * 2**30, 23 * 2**30, 8.9, 72.0, "GPU-small")]
TWO += [hardware.Gpu("NVIDIA H100", 80 * 2**30, 79 * 2**30, 9.0, 700.0, "GPU-large")]


def test_the_button_checks_the_card_that_a_run_takes_not_the_one_that_replies_come_from(home, monkeypatch):
    monkeypatch.setattr(hardware, "gpus", lambda: tuple(TWO))
    monkeypatch.setattr(torch_build, "unseen", lambda *_, **__: None)
    reply_gpu.choose("GPU-small")
    started = []
    monkeypatch.setattr(core_process, "spawn_detached", lambda command, log, seen: started.append(seen))
    jobs.start(jobs.create(home, {"name": "another job"}), "core.export", reply_gpu.environment())
    checks.start()
    assert started == [{"CUDA_VISIBLE_DEVICES": "GPU-small"}, {"CUDA_VISIBLE_DEVICES": "GPU-large"}]


# ---------------------------------------------------------------------------------------------------------------------
# Attention


@pytest.fixture
def tiny_base(monkeypatch):
    """The model of the check, loaded on the processor; then this process takes itself for one with an A100."""
    import torch
    from transformers import AttentionInterface

    monkeypatch.setattr(stand_in, "SHAPE", stand_in.SHAPE | SMALL)
    attention.tiny_base.cache_clear()
    attention.tiny_base()
    monkeypatch.setitem(AttentionInterface._global_mapping, "sdpa", AttentionInterface._global_mapping["sdpa"])
    monkeypatch.setattr(devices, "device_type", lambda: "cuda")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (8, 0))
    yield
    attention.tiny_base.cache_clear()


def by_hand(query, key, value, ends, ends_k, longest, longest_k, **more):
    """What torch's kernel for rows that lie end to end does, (T, H, D)."""
    import torch

    lengths = ends.diff().tolist()
    parts = zip(*(x.transpose(0, 1).split(lengths, dim=1) for x in (query, key, value)), strict=True)
    seen = [
        torch.nn.functional.scaled_dot_product_attention(*part, is_causal=True, enable_gqa=True, scale=more["scale"])
        for part in parts
    ]
    return torch.cat(seen, dim=1).transpose(0, 1)


SLOW = "Documents of a packed row are computed one after the other here, which is slower: flash-attn is not used, and "
SLOW += (
    "this torch has no kernel of its own that takes them at once. Install a newer torch: pip install --upgrade torch"
)


@pytest.mark.parametrize(
    ("kernel", "capability", "hip", "way", "advice"),
    [
        (by_hand, (8, 0), None, "varlen", None),
        (None, (8, 0), None, "by_document", SLOW),  # torch before 2.12
        (None, (7, 5), None, "by_document", None),  # no torch has it for such a card
        (None, (11, 0), "7.2", "by_document", None),
    ],
)
def test_the_way_of_packed_rows_is_told_and_slow_where_another_torch_has_a_faster_one(
    tiny_base, monkeypatch, kernel, capability, hip, way, advice
):
    import torch

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    monkeypatch.setattr(torch.version, "hip", hip)
    monkeypatch.setattr(attention_kernels, "varlen_attention", lambda: kernel)
    monkeypatch.setattr(attention_kernels, "_kernel_lacks", lambda query, value: "")
    monkeypatch.setattr(hardware, "card", lambda uuid=None: None)
    found = attention.check_packing()
    told = found["advice"] and found["advice"]["message"]
    assert (found["state"], found["value"], told) == (
        "slow" if advice else "ok", {"documents": "apart", "way": way}, advice,
    )  # fmt: skip


def test_a_layout_that_was_given_up_leaves_no_trace_in_the_way(tiny_base, monkeypatch):
    monkeypatch.setattr(attention_kernels, "varlen_attention", lambda: by_hand)
    monkeypatch.setattr(attention_kernels, "_kernel_lacks", lambda query, value: "")
    distance = training_checks.devices.distance
    found = iter((1.0, 0.0))  # the first layout leaks
    monkeypatch.setattr(training_checks.devices, "distance", lambda *pair: distance(*pair) + next(found))
    base, config = attention.tiny_base()
    calls = attention_kernels.attend_by_document()
    assert training_checks.check_packing(config, base, calls) == {}
    assert dict(calls) == {"one_by_one": 4}  # two blocks through two layers


def test_a_flash_attn_that_does_not_load_is_slow_and_its_advice_is_to_reinstall_it(tiny_base, monkeypatch):
    monkeypatch.setattr(attention_kernels, "flash_attention_lacks", lambda kind: "broken")
    monkeypatch.setattr(packages, "fault", lambda package: "undefined symbol: _ZN3c105Error")
    found = attention.check_attention()
    told = (found["value"]["attention"], found["value"]["lacks"], found["value"]["reason"])
    assert (found["state"], *told) == ("slow", "sdpa", "broken", "undefined symbol: _ZN3c105Error")
    command = "pip install --force-reinstall --no-deps --no-cache-dir --no-build-isolation flash-attn"
    assert found["advice"]["message"] == (
        "The installed flash-attn does not load, which happens after an upgrade of torch. Runs use torch's own attention "
        f"instead. Remove it (pip uninstall flash-attn), or reinstall it for this torch: {command}"
    )


@pytest.mark.parametrize(
    ("has", "taken", "trouble"),
    [
        (["sm_80"], "flash_attention_2", "FlashAttentionLacksKernels"),
        (["sm_80"], "sdpa", "PackageUnusable"),
        (["sm_90"], "flash_attention_2", "PackageUnusable"),  # torch itself has none
    ],
)
def test_kernels_that_are_missing_in_attention_are_missed_in_flash_attn_where_torch_has_them(
    monkeypatch, has, taken, trouble
):
    monkeypatch.setattr(devices, "architectures", lambda: ("sm_80", has))
    monkeypatch.setattr(devices, "device_name", lambda: "NVIDIA A100")
    monkeypatch.setattr(attention_kernels, "attention", lambda kind: taken)
    error = RuntimeError("CUDA error: no kernel image is available for execution on the device")
    assert attention.advice_for(error).name == trouble
    assert attention.advice_for(RuntimeError("another")).name == "PackageUnusable"


def test_arithmetic_that_no_run_computes_in_is_not_measured(monkeypatch):
    monkeypatch.setattr(kernels, "_matmul", lambda kind: {"name": kind})
    found = {}
    for kind, has_bf16 in (("cuda", True), ("cuda", False), ("mps", False), ("mps", True), ("cpu", False)):
        monkeypatch.setattr(devices, "device_type", lambda kind=kind: kind)
        monkeypatch.setattr(devices, "has_bf16", lambda has_bf16=has_bf16: has_bf16)
        found[kind, has_bf16] = [
            one["name"] for one in (kernels.check_matmul_bf16(), kernels.check_matmul_fp16()) if one
        ]
    assert found == {
        ("cuda", True): ["bf16", "fp16"],
        ("cuda", False): ["fp16"],
        ("mps", False): [],
        ("mps", True): ["bf16"],
        ("cpu", False): [],
    }


# ---------------------------------------------------------------------------------------------------------------------
# Hardware of other kinds


def gpu(kind: str, capability: float = 0.0, architecture: str = "") -> hardware.Gpu:
    return hardware.Gpu("a card", 2**34, 2**34, capability, 0.0, "0", kind, architecture=architecture)


@pytest.mark.parametrize(
    ("one", "four_bit", "eight_bit"),
    [
        (gpu("mps"), None, "NoEightBitOptimizer"),
        (gpu("rocm", architecture="gfx906"), "NoFourBitKernels", "NoEightBitOptimizer"),
        (gpu("cuda", 5.2), "NoFourBitKernels", None),
        (gpu("cuda", 8.0), None, None),
    ],
)
def test_what_bitsandbytes_has_no_kernels_for_is_left_out_not_broken(monkeypatch, one, four_bit, eight_bit):
    monkeypatch.setattr(hardware, "card", lambda uuid=None: one)
    monkeypatch.setattr(hardware, "unseen", lambda gpu: None)
    monkeypatch.setattr(quantisation.devices, "device_type", lambda: "mps" if one.kind == "mps" else "cuda")
    for name, more, trouble in (
        ("bnb_4bit", {"method": "qlora"}, four_bit),
        ("bnb_8bit", {"method": "lora", "optim": "adamw_8bit"}, eight_bit),
    ):
        found = quantisation._refused(name, **more)
        if trouble is None:
            assert found is None
        else:
            told = (found["state"], found["value"], found["advice"]["trouble"])
            assert told == ("ok", {"left_out": "unsupported"}, trouble)
            assert found == getattr(quantisation, f"check_{name}")()


def test_a_training_that_the_app_refuses_is_left_out_not_broken(home, monkeypatch):
    monkeypatch.setattr(hardware, "card", lambda uuid=None: gpu("rocm", architecture="gfx906"))
    monkeypatch.setattr(hardware, "unseen", lambda gpu: None)
    made = plan.Plan(lambda event, **values: None, home, time.monotonic() + 60, "log.txt")
    made.facts, made.model = {"kind": "cuda", "device": "a card", "free": 2**34}, "starter"
    for packing in (False, True):
        made.train("qlora", packing)
    assert [(one["name"], one["state"], one["advice"]["trouble"]) for one in made.checks] == [
        ("train_qlora", "ok", "NoFourBitKernels"),
        ("train_qlora_packed", "ok", "NoFourBitKernels"),
    ]


@pytest.mark.parametrize(
    ("kind", "trouble"), [("cuda", "NvidiaCardSlow"), ("rocm", "CardSlow"), ("xpu", "CardSlow"), ("mps", "CardSlow")]
)
def test_only_a_slow_card_of_nvidia_is_looked_at_with_nvidia_smi(monkeypatch, kind, trouble):
    monkeypatch.setattr(hardware, "card", lambda uuid=None: gpu(kind))
    found = advice.slow(on_card=True)
    assert found.name == trouble
    assert ("nvidia-smi" in str(found)) is (kind == "cuda")


# ---------------------------------------------------------------------------------------------------------------------
# What a training teaches


FORECAST = {"model": "starter", "card": "NVIDIA L4", "attention": "sdpa", "method": "lora", "parameters": 10**8}
FORECAST |= {"predicted_bytes": 2**31, "predicted_seconds": 0.5}
STEPS = [{"step": at, "loss": 3.0, "tokens_per_second": 4096.0, "memory_gib": 1.5} for at in (1, 2, 3)]


def judged(home, device: str, monkeypatch, **more) -> plan.Plan:
    """A plan on a card of this name that has judged a training, the calculator expecting it on an NVIDIA L4."""
    monkeypatch.setattr(forecast, "of_config", lambda config: FORECAST)
    made = plan.Plan(lambda event, **values: None, home, time.monotonic() + 60, "log.txt")
    made.facts, made.model = {"kind": "cuda", "device": device, "free": 2**34}, "starter"
    for key, value in more.items():
        setattr(made, key, value)
    config = made.config("lora")
    made.judge("train_lora", config, STEPS, made.forecast(config))
    return made


def test_a_training_on_the_card_of_its_forecast_teaches_the_calculator(home, monkeypatch):
    made = judged(home, "NVIDIA L4", monkeypatch)
    assert made.checks[0]["expected"] == {"tokens_per_second": 4096.0, "peak_gib": 2.0}
    (row,) = calibration.rows()
    assert {key: row[key] for key in ("card", "measured_bytes", "measured_seconds")} == {
        "card": "NVIDIA L4",
        "measured_bytes": 1.5 * 2**30,
        "measured_seconds": 0.5,
    }


def test_a_check_corrects_forecasts_of_its_own_model_only_and_a_later_one_replaces_it(home, monkeypatch):
    """Steps of a tiny model take four times as long as computed, for kernels that start; a 7B model's do not."""
    for seconds in (2.0, 1.0):
        steps = [one | {"tokens_per_second": 2048 / seconds} for one in STEPS]
        monkeypatch.setattr(sys.modules[__name__], "STEPS", steps)
        judged(home, "NVIDIA L4", monkeypatch)
    assert [row["measured_seconds"] for row in calibration.rows()] == [1.0]
    asked = {"card": "NVIDIA L4", "attention": "sdpa", "method": "lora", "parameters": 10**8}
    own = calibration.correction("starter", **asked)
    assert (own.seconds, own.runs) == (pytest.approx(calibration.FAR), 1)
    assert calibration.correction("another of its size", **asked) == calibration.Correction()
    calibration.record(**FORECAST | {"model": "a third"}, measured_seconds=0.6)
    other = calibration.correction("another of its size", **asked)
    assert (other.seconds, other.runs) == (pytest.approx(1.2), 1)


def test_figures_of_another_device_or_of_a_stand_in_teach_nothing(home, monkeypatch):
    for made in (judged(home, "NVIDIA T4", monkeypatch), judged(home, "NVIDIA L4", monkeypatch, stands_in=True)):
        assert (made.checks[0]["state"], made.checks[0]["expected"]) == ("ok", {})
    assert calibration.rows() == []


def test_a_first_loss_unlike_that_of_the_base_is_broken(home, monkeypatch):
    made = judged(home, "NVIDIA L4", monkeypatch, losses={1: 3.0})
    for method, loss, state in (("qlora", 3.3, "ok"), ("qlora", 4.0, "broken"), ("full", 3.2, "broken")):
        made.judge(f"train_{method}", made.config(method), [STEPS[0] | {"loss": loss}], {})
        assert (made.checks[-1]["state"], made.checks[-1]["expected"]) == (state, {"loss": 3.0})


# ---------------------------------------------------------------------------------------------------------------------
# Whole checks


@pytest.mark.slow
def test_without_the_starter_a_tiny_model_stands_in_and_it_is_said(home):
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "0", "PIP_CONFIG_FILE": os.devnull}
    found = check("--only", "model,train_lora", environment=os.environ | nowhere)["by"]
    assert (found["model"]["state"], found["model"]["value"]) == ("slow", {"model": "random weights"})
    assert "python -m core.models prepare starter" in found["model"]["advice"]
    assert (found["train_lora"]["state"], found["train_lora"]["expected"]) == ("ok", {})


def test_a_data_directory_that_cannot_be_written_to_is_a_reason_not_an_error(home):
    home.mkdir()
    (home / "models").write_text("a file where the models should be")
    with Starter() as starter:
        assert starter.wait(1) is None
    assert "File exists" in starter.reason


@on_card
@pytest.mark.slow
def test_a_pretended_card_with_flash_attn_is_checked_from_end_to_end(tiny_starter):
    """One packed training of the three: tests/test_pretended_card_training.py walks each of them."""
    names = [
        name
        for name in plan.NAMES
        if name not in ("train_qlora", "train_full", "train_lora_packed", "train_full_packed")
    ]
    found = check("--only", ",".join(names), environment=pretended_card.environment((8, 0), flash=True))
    assert found["device"] == pretended_card.A100["name"]
    assert [name for name, one in found["by"].items() if one["state"] == "broken"] == []
    assert list(found["by"]) == names
    taken = found["by"]["attention"]["value"]
    assert (taken["attention"], taken["precision"], "lacks" in taken) == ("flash_attention_2", "bf16", False)
    assert found["by"]["packing"]["value"] == {"documents": "apart", "way": "flash"}
    assert found["by"]["resume"]["value"]["steps"] == 4
    assert all(found["by"][name]["value"]["tokens_per_second"] > 0 for name in ("train_lora", "train_qlora_packed"))


@on_card
@pytest.mark.slow
def test_a_pretended_card_before_ampere_trains_in_fp16(tiny_starter):
    environment = pretended_card.environment((7, 5))
    found = check("--only", "attention,packing,train_full_packed", environment=environment)["by"]
    assert {name: one["state"] == "broken" for name, one in found.items()} == dict.fromkeys(found, False)
    taken = found["attention"]["value"]
    assert (taken["attention"], taken["precision"], taken["lacks"]) == ("sdpa", "fp16", "capability")
    assert (found["packing"]["state"], found["packing"]["value"]["way"]) == ("ok", "by_document")
    assert "train_full_packed" in found


@on_card
@pytest.mark.slow
def test_a_flash_attn_that_does_not_load_hinders_no_run_on_a_pretended_card(tiny_starter, tmp_path):
    """As torch leaves it when it is upgraded: the metadata is there, the compiled part has an undefined symbol."""
    flash = tmp_path / "flash"
    shutil.copytree(Path(pretended_card.__file__).parent / "flash", flash)
    (flash / "flash_attn" / "__init__.py").write_text("raise ImportError('undefined symbol: _ZN3c105Error')\n")
    environment = pretended_card.environment((8, 0))
    environment["PYTHONPATH"] += os.pathsep + str(flash)
    found = check("--only", "attention,packing", environment=environment)["by"]
    taken = found["attention"]["value"]
    assert (found["attention"]["state"], taken["attention"], taken["lacks"]) == ("slow", "sdpa", "broken")
    assert taken["reason"] == "undefined symbol: _ZN3c105Error"
    assert (found["packing"]["state"], found["packing"]["value"]["way"]) == ("ok", "varlen")


def sabotaged(tmp_path: Path, code: str) -> dict:
    """The environment of a pretended card in which some code runs as soon as Python starts."""
    environment = pretended_card.environment()
    (tmp_path / "sabotage.py").write_text(code, encoding="utf-8")
    first = Path(environment["PYTHONPATH"].split(":")[0]) / "sitecustomize.py"
    (tmp_path / "sitecustomize.py").write_text(
        f"exec(open({str(first)!r}).read())\nimport sabotage\n", encoding="utf-8"
    )
    return environment | {"PYTHONPATH": f"{tmp_path}:{environment['PYTHONPATH']}"}


SABOTAGE = """
import os, signal
import torch, bitsandbytes

torch.cuda.get_arch_list = lambda: ["sm_50", "sm_60", "sm_70"]


def broken(*_, **__):
    raise RuntimeError("Error invalid device function at line 76")


bitsandbytes.functional.quantize_4bit = broken
bitsandbytes.optim.AdamW8bit.step = lambda *_: os.kill(os.getpid(), signal.SIGSEGV)
"""


@on_card
@pytest.mark.slow
def test_what_is_broken_on_a_pretended_card_is_told_with_what_mends_it_and_the_rest_goes_on(home, tmp_path):
    """torch has no kernels for the card, quantising raises, and the 8-bit optimizer crashes its process."""
    names = "architecture,bnb_4bit,bnb_8bit,attention"
    found = check("--only", names, environment=sabotaged(tmp_path, SABOTAGE), code=1)["by"]
    assert {name: found[name]["state"] for name in names.split(",")} == {
        "architecture": "broken",
        "bnb_4bit": "broken",
        "bnb_8bit": "broken",
        "attention": "ok",
    }
    assert found["architecture"]["value"]["architecture"] == "sm_80"
    told = found["architecture"]["advice"]
    assert "cannot compute on NVIDIA A100-SXM4-40GB. Stop Soulsmith, run this" in told
    assert "pip install --force-reinstall torch" in told
    assert found["bnb_4bit"]["value"] == {"reason": "RuntimeError: Error invalid device function at line 76"}
    assert found["bnb_8bit"]["value"] == {"reason": "the process was ended by SIGSEGV"}
    assert "pip install --force-reinstall --no-deps bitsandbytes" in found["bnb_4bit"]["advice"]
    assert found["attention"]["value"]["lacks"] == "package"


# ---------------------------------------------------------------------------------------------------------------------
# The page


def said(say: Say, events_seen: list[dict], home: Path) -> str:
    """The panel of a check that wrote these events and is at work no more."""
    directory = jobs.create(paths.checks(), {"name": "check"})
    for event in events_seen:
        events.append(directory, **event)
    return opening_check.panel(say, directory, jobs.state(directory))


CHECKED = results.result(
    "train_qlora_packed",
    "slow",
    {"tokens_per_second": 815.0, "peak_gib": 1.25, "loss": 6.7},
    {"tokens_per_second": 2100.0},
    advice.slow(on_card=False),
)


def test_every_check_and_every_figure_has_words_of_its_own():
    assert {name for name in plan.NAMES if f"check.name.{name}" not in ENGLISH} == set()
    assert {state for state in results.STATES if f"check.state.{state}" not in ENGLISH} == set()


def test_a_result_is_shown_in_the_language_of_the_page(home):
    final = results.final("cpu", "2.13.0", [CHECKED])
    shown = said(Say("ru"), [{"event": "check", **CHECKED}, {"event": "finished", "result": final}], home)
    assert "Всё работает, но что-то медленнее, чем должно быть: процессор." in shown
    assert "<td>Обучение, QLoRA с упаковкой</td>" in shown
    assert "815\u00a0токенов/с<br>пик памяти: 1,25\u00a0ГиБ<br>loss на шаге 1: 6,7" in shown
    assert LOCALES["ru"]["errors"]["ProcessorSlow"].format(command="<code>python -m core.check_card</code>") in shown
    assert escape(json.dumps(final, ensure_ascii=False)) in shown


@pytest.mark.parametrize(
    ("one", "verdict"),
    [
        (results.result("train_full", "ok", {"tokens_per_second": 9.0}), "ok"),
        (results.result("train_full", "ok", {"left_out": "unsupported"}), "ok"),
        (results.result("train_full", "slow", {"tokens_per_second": 1.0}), "slow"),
        (results.result("train_full", "slow", {"left_out": "time"}), "incomplete"),
        (results.result("train_full", "ok", {"left_out": "memory"}), "incomplete"),
        (results.result("resume", "ok", {"left_out": "losses"}), "incomplete"),
        (results.result("model", "slow", {"model": "random weights"}), "incomplete"),
        (results.result("train_full", "broken", {"reason": "no"}), "broken"),
    ],
)
@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_check_that_left_something_out_does_not_say_that_everything_works(home, lang, one, verdict):
    final = results.final("A card", "2.13.0", [one, results.result("packing", "ok", {"documents": "apart"})])
    shown = said(Say(lang), [{"event": "check", **one}, {"event": "finished", "result": final}], home)
    assert f"<b>{Say(lang)(f'check.verdict.{verdict}', device='A card')}</b>" in shown


def test_a_starter_that_cannot_be_downloaded_is_slow_not_ok(home, tmp_path, monkeypatch):
    class Missing:
        reason = "no network"

        def wait(self, seconds, look):
            return None

    monkeypatch.setattr(children, "run", lambda *_: children.Ended(0, False, ""))
    made = plan.Plan(lambda event, **values: None, tmp_path, time.monotonic() + 60, "log.txt")
    made.facts = {"kind": "cpu"}
    assert made.prepare(Missing())
    (one,) = made.checks
    assert (one["state"], one["value"], one["advice"]["trouble"]) == (
        "slow",
        {"model": "random weights"},
        "StarterMissing",
    )


def test_a_check_that_is_broken_off_by_the_clock_was_left_out(home):
    made = plan.Plan(lambda event, **values: None, home, time.monotonic(), "log.txt")
    made.broken("train_full", "it took too long and was ended")
    assert [(one["state"], one["value"]) for one in made.checks] == [("slow", {"left_out": "time"})]
    assert results.is_whole(made.checks) is False


@pytest.mark.parametrize(("said", "state"), [([{"event": "step", "step": 1}], "slow"), ([], "broken")])
def test_a_training_that_steps_too_slowly_for_the_check_is_slow_and_one_that_hangs_broken(home, said, state):
    made = plan.Plan(lambda event, **values: None, home, time.monotonic() + 600, "log.txt")
    assert not made.done("train_lora", said, children.Ended(-9, True, ""))
    assert [one["state"] for one in made.checks] == [state]


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_page_without_a_check_a_broken_off_and_a_failed_one_say_so(home, lang):
    say = Say(lang)
    assert say("check.none") in opening_check.shown(say)[0]
    assert say("check.ended.stopped") in said(say, [{"event": "check", **CHECKED}, {"event": "stopped"}], home)
    told = {"trouble": "JobFailed", "values": None, "message": "OSError: <disk> full."}
    failed = said(say, [{"event": "failed", **told}], home)
    assert say("check.ended.failed") in failed
    assert "&lt;disk&gt;" in failed


def test_a_second_press_finds_the_check_that_goes_on(home, monkeypatch):
    started = []
    monkeypatch.setattr(jobs, "start", lambda directory, module, environment: started.append(directory))
    assert checks.start() == checks.start() == started[0]
    assert len(started) == 1


def test_no_check_begins_beside_a_training(training, monkeypatch):
    monkeypatch.setattr(jobs, "is_alive", lambda directory: directory.parent.name == "runs")
    with pytest.raises(plan.CheckFirst, match='The run "смотритель" is training now'):
        checks.start()


@pytest.mark.slow
def test_a_processor_is_checked_by_the_same_list_in_the_background(tiny_starter):
    directory = checks.start()
    end = time.monotonic() + 500
    while (state := jobs.state(directory)) in opening_check.ACTIVE and time.monotonic() < end:
        time.sleep(0.5)
    assert state == "finished"
    assert set(events.last(directory)["result"]) == KEYS
    assert Say("en")("check.report") in opening_check.panel(Say("en"), directory, state)
    by = {one["name"]: one for one in checks.results(directory)[0]}
    on_processor = [name for name in plan.NAMES if name not in ("architecture", "matmul_fp16", "matmul_bf16")]
    assert set(on_processor) <= set(by) <= set(plan.NAMES)
    assert by["card"]["value"]["card"] == "none"
    assert [name for name, one in by.items() if one["state"] == "broken"] == []
    assert by["resume"]["value"] == {"steps": 2, "error": 0.0}
    assert by["train_lora"]["expected"]["tokens_per_second"] > 0
    assert calibration.rows() == []  # two steps on a busy processor teach nothing


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="no chromium here: apt-get install chromium")
def test_a_check_begun_in_the_browser_survives_a_reload_and_can_be_stopped(home, tiny_starter):
    from playwright.sync_api import sync_playwright

    say, server = Say("ru"), Server(home)
    server.start()
    try:
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            page = chromium.new_context(locale="ru-RU").new_page()
            page.set_default_timeout(120_000)
            page.goto(server.address)
            page.get_by_text(say("check.title"), exact=True).first.click()
            page.get_by_text(say("check.none")).wait_for()
            page.get_by_role("button", name=say("check.go.computer"), exact=True).click()
            page.get_by_text(say("check.name.matmul_fp32"), exact=True).wait_for()
            page.reload()
            page.get_by_text(say("check.title"), exact=True).first.click()
            page.get_by_text(say("check.name.matmul_fp32"), exact=True).wait_for()
            page.get_by_role("button", name=say("check.stop"), exact=True).click()
            page.get_by_text(say("check.ended.stopped")).wait_for()
            page.get_by_role("button", name=say("check.go.computer"), exact=True).wait_for()
            chromium.close()
    finally:
        server.kill()


def test_a_download_that_takes_too_long_is_said_in_russian_too():
    reason = "the download takes longer than this check"
    assert reason in Path(sys.modules[Starter.__module__].__file__).read_text(encoding="utf-8")
    missing = core_errors.named("StarterMissing", reason=reason, command="python")
    assert "скачать не удалось (загрузка идёт дольше, чем сама проверка), поэтому" in Say("ru").trouble(missing)


def test_what_flash_attention_lacks_has_words_on_the_page(home):
    for name in ("attention", "packing"):
        one = results.result(name, "ok", {"lacks": "precision"})
        for lang, words in (("ru", "для FlashAttention 2 не хватает 16-битной точности"), ("en", "16-bit precision")):
            assert words in said(Say(lang), [{"event": "check", **one}, {"event": "stopped"}], home)
    lacks = ("card", "apple", "capability", "class", "precision", "package", "broken")
    words = {f"{kind}.{code}" for kind in ("check.word", "data.lacks") for code in lacks}
    assert words | {"check.word.flash", "check.word.varlen", "check.word.by_document"} <= set(ENGLISH)
