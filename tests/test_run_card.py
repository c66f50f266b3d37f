"""The card that a run trains on: chosen, kept by name, shown, and the one that it is judged by."""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import gradio as gr
import pytest

from core import events, files, paths
from core.chat import chat, reply_gpu
from core.estimate import calibration, catalogue, forecast
from core.estimate import cards as known_cards
from core.hardware import hardware, nvidia, other_gpus, torch_build
from core.hardware.gpu import Gpu
from core.hardware.torch_build import Build
from core.runs import assigned_gpu, diagnosis, gpu_access, queue, runs, trainer
from core.training.config import TrainConfig
from tests import pretended_card, pretended_driver
from tests.conftest import raises
from tests.pretended_driver import FAST, GIB, ROOMY
from ui import cards, opening, run_html, run_queue, training
from ui.text import Say

ROOT = Path(__file__).parent.parent
EN, RU = Say("en"), Say("ru")
CUDA = Build("2.13.0+cu130", "13.0")


@pytest.fixture
def driver(monkeypatch):
    """A pretended driver: call it with the cards that it lists, in CUDA's order; torch is one that sees them."""
    monkeypatch.setattr(torch_build, "installed", lambda: CUDA)
    return pretended_driver.install(monkeypatch)


@pytest.fixture
def config(tiny_model, tiny_corpus) -> TrainConfig:
    return TrainConfig(base_model=tiny_model, corpus=tiny_corpus, method="lora", max_steps=2)


def test_a_run_keeps_the_card_that_was_chosen_and_else_the_usual_one(driver, config, no_worker):
    driver(FAST, ROOMY)
    usual, chosen = runs.start(config), runs.start(replace(config, seed=8), card=FAST["uuid"])
    assert assigned_gpu.read(paths.run(usual)) == {"uuid": ROOMY["uuid"], "name": ROOMY["name"]}
    assert assigned_gpu.of(paths.run(chosen)).name == FAST["name"]
    runs.put_on(usual, FAST["uuid"])
    assert assigned_gpu.of(paths.run(usual)).name == FAST["name"]
    with raises("CardNotHere", match=r"not available any more\. Reload the page"):
        runs.put_on(usual, "GPU-gone")


def test_a_run_without_a_record_takes_the_usual_card(driver, config):
    run_id = runs.create(config)
    assert assigned_gpu.of(paths.run(run_id)) is None
    driver(FAST, ROOMY)
    assert assigned_gpu.of(paths.run(run_id)).name == ROOMY["name"]
    (paths.run(run_id) / "card.json").write_text("[1]")
    assert assigned_gpu.read(paths.run(run_id)) == {}


def test_a_run_is_deleted_with_its_record(driver, config, no_worker):
    driver(FAST)
    run_id = runs.start(config)
    runs.delete(run_id)
    assert not paths.run(run_id).exists()


def test_a_card_that_was_taken_out_is_said_and_resuming_takes_the_one_that_is_named(driver, config, no_worker):
    driver(FAST, ROOMY)
    run_id = runs.start(config)
    driver(FAST)
    assert trainer.run(paths.run(run_id)) == "failed"
    last = events.last(paths.run(run_id))
    assert last["trouble"] == "CardTakenOut"
    assert last["message"] == (
        "This run was to train on NVIDIA RTX A6000, which is not available any more. Resume it to train on "
        "NVIDIA GeForce RTX 4090, or bring the card back first."
    )
    assert "был назначен на NVIDIA RTX A6000" in RU.worded("CardTakenOut", last["values"], last["message"])
    assert diagnosis.diagnose(run_id)["changes"] == {}
    runs.resume(run_id)
    assert assigned_gpu.of(paths.run(run_id)).name == FAST["name"]


def test_a_run_whose_card_nothing_replaces_names_the_processor_in_both_languages(driver, config, no_worker):
    driver(FAST)
    run_id = runs.start(config)
    driver()
    with pytest.raises(assigned_gpu.CardTakenOut) as caught:
        assigned_gpu.of(paths.run(run_id))
    assert "Resume it to train on the CPU, or" in EN.trouble(caught.value)
    assert "тогда считать будет процессор." in RU.trouble(caught.value)


def test_a_card_of_the_same_name_takes_the_place_of_one_that_was_taken_out(driver, config, no_worker):
    driver(FAST, ROOMY)
    run_id = runs.start(config, card=FAST["uuid"])
    driver(FAST | {"uuid": "GPU-another"}, ROOMY)
    assert assigned_gpu.of(paths.run(run_id)).uuid == "GPU-another"
    assert assigned_gpu.is_shared(paths.run(run_id), "GPU-another")
    assert not assigned_gpu.is_shared(paths.run(run_id), ROOMY["uuid"])


def test_a_forecast_is_about_the_run_s_own_card(driver, config, tiny_model):
    driver(FAST, ROOMY)
    values = asdict(config)
    assert forecast.of_config(values)["card"] == ROOMY["name"]
    assert forecast.of_config(values, forecast.card_of(hardware.card(FAST["uuid"])))["card"] == FAST["name"]


def test_the_diagnosis_looks_at_the_run_s_own_card(driver, config, no_worker):
    driver(FAST, ROOMY)
    run_id = runs.start(replace(config, base_model="Qwen/Qwen2.5-7B"), card=FAST["uuid"])
    events.append(paths.run(run_id), "failed", trouble="ModelTooLarge", values={}, message="words")
    assert diagnosis.diagnose(run_id)["free"] == FAST["free"]


@pytest.mark.parametrize(
    ("card", "device", "same"),
    [
        ("RTX 4090", "NVIDIA GeForce RTX 4090", True),
        ("RTX 4090", "NVIDIA RTX A6000", False),
        ("RTX 4090", "cpu", False),
        ("RX 7900 XTX", "AMD Radeon Graphics", True),  # torch's name for what the system calls so
        ("RX 7900 XTX", "AMD Radeon RX 7900 XTX", True),
        ("RX 7900 XTX", "AMD Radeon RX 9070 XT", False),
        ("RX 7900 XTX", "Intel(R) Arc(TM) A770 Graphics", False),
        ("RX 7900 XTX", "NVIDIA GeForce RTX 4090", False),
        ("Arc A770 16GB", "Intel(R) Arc(TM) A770 Graphics", True),
        ("8060S 96GB", "AMD Ryzen AI MAX+ 395 w/ Radeon 8060S", True),
        ("Apple M3 Max 36GB", "Apple GPU", True),
        ("RX 7900 XTX", "cpu", False),
    ],
)
def test_nothing_is_learned_from_a_run_that_was_not_on_the_card_of_its_forecast(
    monkeypatch, config, card, device, same
):
    monkeypatch.setattr(trainer, "_card", lambda: known_cards.card(card))
    said = {"forecast": forecast.of_config(asdict(config), known_cards.card(card)), "model": {"device": device}}
    said["data"] = {"longest": 100}
    trainer._learn(config, said, {"peak_memory_gib": 1.0, "step_seconds": 1.0, "step_tokens": 400})
    assert bool(calibration.rows()) is same


def test_where_torch_sees_no_card_the_processor_is_forecast_and_learned_from(driver, config):
    driver(FAST)
    assert trainer._card().name == known_cards.CPU  # the torch of the tests has no CUDA
    assert forecast.ran_on(trainer._card(), "cpu")


def test_a_run_that_missed_its_card_says_so(driver, config):
    driver(FAST)
    run_id = runs.create(config, gpu=hardware.card())
    missed = f"training on the CPU: torch did not see {FAST['name']}"
    for device, said in (("cpu", True), (FAST["name"], False)):
        events.append(paths.run(run_id), "model", attention="sdpa", flash_attention_lacks="", device=device)
        assert (missed in run_html.start_line(EN, run_id)) is said


# ---------------------------------------------------------------------------------------------------------------------
# What bitsandbytes can


def gpu(kind: str, **fields) -> Gpu:
    return Gpu(f"a card of {kind}", GIB, GIB, fields.pop("capability", 0.0), 0, "GPU-1", kind, **fields)


def test_qlora_is_refused_with_the_reason_where_bitsandbytes_has_no_kernels(monkeypatch, config):
    monkeypatch.setattr(hardware, "unseen", lambda gpu: None)
    qlora = replace(config, method="qlora")
    for good in (gpu("cuda", capability=8.0), gpu("rocm", architecture="gfx1100"), gpu("xpu"), gpu("mps"), None):
        assigned_gpu.check(qlora, good)
    with raises("NoFourBitKernels", match=r"a card of rocm, so it cannot train with QLoRA\. Choose"):
        assigned_gpu.check(qlora, gpu("rocm", architecture="gfx906"))
    assigned_gpu.check(config, gpu("rocm", architecture="gfx906"))
    monkeypatch.setattr(torch_build, "four_bit_lacks", lambda gpu: "package")
    with raises("BitsandbytesTooOld", match="pip install --upgrade bitsandbytes"):
        assigned_gpu.check(qlora, gpu("mps"))
    with raises("NoEightBitOptimizer", match="no adamw_8bit for a card of mps yet"):
        assigned_gpu.check(replace(config, optim="adamw_8bit"), gpu("mps"))


# ---------------------------------------------------------------------------------------------------------------------
# The page


def test_a_choice_is_shown_only_where_there_are_several_cards(driver):
    assert cards.choice().visible is False
    driver(FAST)
    assert cards.choice().visible is False
    driver(FAST, ROOMY)
    shown = cards.choice()
    assert (shown.visible, shown.value) == (True, ROOMY["uuid"])
    assert shown.choices == [("GeForce RTX 4090 · 24 GiB", FAST["uuid"]), ("RTX A6000 · 48 GiB", ROOMY["uuid"])]
    assert cards.choice(FAST["uuid"]).value == FAST["uuid"]
    twins = FAST, FAST | {"uuid": "GPU-4090eeee-1"}
    driver(*twins)
    assert [title for title, _ in cards.choice().choices] == [
        "GeForce RTX 4090 · 24 GiB · GPU-4090aaaa",
        "GeForce RTX 4090 · 24 GiB · GPU-4090eeee",
    ]


RADEON = Gpu("AMD Radeon RX 7900 XTX", 24 * GIB, 23 * GIB, 11.0, 339.0, "GPU-f00d", "rocm", architecture="gfx1100")
ARC = Gpu("Intel Arc A770", 16 * GIB, 16 * GIB, 0.0, 0.0, "0000:04:00.0", "xpu")
MAKES = [
    (CUDA, [FAST["name"]], [RADEON.name, ARC.name]),
    (Build("2.13.0+rocm7.2", hip="7.2"), [RADEON.name], [FAST["name"], ARC.name]),
    (Build("2.13.0+xpu", xpu="20250302"), [ARC.name], [FAST["name"], RADEON.name]),
]


@pytest.mark.parametrize(("build", "offered", "left_out"), MAKES)
def test_a_card_of_another_make_than_torch_is_built_for_cannot_be_chosen(
    driver, config, monkeypatch, build, offered, left_out
):
    """CUDA's torch would have trained on the NVIDIA card, whichever was chosen."""
    driver(FAST)
    monkeypatch.setattr(other_gpus, "gpus", lambda: (RADEON, ARC))
    monkeypatch.setattr(torch_build, "installed", lambda: Build("2.13.0+cpu"))
    assert [gpu.name for gpu in hardware.gpus()] == [FAST["name"], RADEON.name, ARC.name]  # the processor computes
    strange = next(gpu for gpu in hardware.gpus() if gpu.name == left_out[-1])
    chat.move(strange.uuid)
    run_id = runs.create(config, gpu=strange)
    monkeypatch.setattr(torch_build, "installed", lambda: build)
    assert [gpu.name for gpu in hardware.gpus()] == offered
    assert ([*hardware.machine().unseen], [one.card for one in hardware.machine().left_out]) == ([], left_out)
    assert cards.choice(reply_gpu.chosen()).visible is False
    assert (cards.choice(strange.uuid).value, reply_gpu.card().name) == (hardware.card().uuid, offered[0])
    assert reply_gpu.environment() == {}  # torch finds no other one
    with pytest.raises(assigned_gpu.CardTakenOut, match=f"Resume it to train on {offered[0]}"):
        assigned_gpu.of(paths.run(run_id))
    said = [EN("cards.other_make", card=name, version=build.version) for name in left_out]
    assert [words for words in cards.warnings(EN) if "is not used" in words] == said


def test_the_form_trains_on_the_chosen_card_and_the_queue_shows_and_changes_it(driver, config, no_worker, monkeypatch):
    said = []
    monkeypatch.setattr(gr, "Info", said.append)
    driver(FAST, ROOMY)
    training.on_train(EN, "a", card=FAST["uuid"], **asdict(config))
    (run_id,) = runs.listed()
    assert "NVIDIA GeForce RTX 4090" in run_queue.listed(EN, [run_id])
    assert run_queue.on_look(EN, run_id)[3].value == FAST["uuid"]
    run_queue.on_card(EN, run_id, ROOMY["uuid"])
    assert said[-1] == "“a” will train on NVIDIA RTX A6000."
    assert run_queue.on_look(EN, run_id)[3].value == ROOMY["uuid"]
    driver(FAST)
    assert "NVIDIA" not in run_queue.listed(EN, [run_id])  # one card: nothing to tell apart


@pytest.mark.parametrize("say", [EN, RU])
def test_the_start_says_what_keeps_torch_from_a_card_and_what_mends_it(driver, monkeypatch, say):
    assert opening.card_warning(say).visible is False
    driver(FAST)
    assert opening.card_warning(say).visible is False
    monkeypatch.setattr(torch_build, "installed", lambda: Build("2.13.0+cpu"))
    shown = opening.card_warning(say)
    assert shown.visible
    assert FAST["name"] in shown.value
    assert "--index-url https://download.pytorch.org/whl/cu130" in shown.value
    driver(FAST, error=18)
    assert say.trouble(nvidia.driver().error).rpartition(";")[0] in opening.card_warning(say).value
    assert "NVML/RM version mismatch" in opening.card_warning(say).value
    monkeypatch.setattr(torch_build, "installed", lambda: CUDA)
    driver(FAST, FAST | {"name": "NVIDIA GeForce GTX 1080", "capability": (6, 1), "uuid": "GPU-1080"})
    assert "GTX 1080" in opening.card_warning(say).value
    assert "pip install" not in opening.card_warning(say).value  # the other card is seen as it is


def test_before_a_run_it_is_said_that_the_processor_would_compute_it(driver, config, no_worker, monkeypatch):
    warned = []
    monkeypatch.setattr(gr, "Info", lambda words: None)
    monkeypatch.setattr(gr, "Warning", lambda words, **_: warned.append(words))
    driver(FAST)
    training.on_train(EN, "a", **asdict(config))
    assert warned == []
    monkeypatch.setattr(torch_build, "installed", lambda: Build("2.13.0+cu126", "12.6"))
    driver(FAST | {"capability": (12, 0), "name": "NVIDIA GeForce RTX 5090"}, cuda=12080)
    training.on_train(EN, "b", **asdict(replace(config, seed=9)))
    assert warned[0].startswith("NVIDIA GeForce RTX 5090 is newer than torch 2.13.0+cu126: it has no code")
    assert "to one for CUDA 13 (https://www.nvidia.com/drivers), then start Soulsmith again" in warned[0]
    assert "which brings the older torch 2.11" in warned[0]
    assert warned[0].endswith("https://download.pytorch.org/whl/cu128")
    driver(FAST, error=18)
    training.on_train(EN, "c", **asdict(replace(config, seed=10)))
    assert warned[1] == str(nvidia.driver().error)


@pytest.mark.parametrize("say", [EN, RU])
def test_hardware_that_nothing_was_run_on_says_so(monkeypatch, say):
    from core.estimate import answer
    from core.estimate.setup import Setup
    from ui import calculator, calculator_html

    monkeypatch.setattr(hardware, "gpus", lambda: (gpu("mps"),))
    assert any("a card of mps" in words for words in cards.warnings(say))
    titles = dict(map(reversed, calculator.card_choices(say)))
    untried = say("calculator.card.untried", name="AMD Radeon RX 7900 XTX")
    assert titles["AMD Radeon RX 7900 XTX"] == untried
    for name in ("AMD Radeon RX 7900 XTX", "Intel Arc A770", "Apple M3 Max 36GB"):
        found = answer.ask(catalogue.shape("Qwen/Qwen2.5-7B"), Setup(method="lora"), known_cards.card(name))
        assert say("calculator.untried") in calculator_html.verdict(say, found)
        assert found.pace.tokens_per_second > 0
    tried = answer.ask(catalogue.shape("Qwen/Qwen2.5-7B"), Setup(method="lora"), known_cards.card("RTX 4090"))
    assert say("calculator.untried") not in calculator_html.verdict(say, tried)


def test_no_advice_of_the_check_brings_a_torch_without_the_card(driver):
    from core.check_card import advice

    driver(FAST)
    index = "https://download.pytorch.org/whl/cu130"
    assert advice.pip("--upgrade", "torch", "peft") == f"pip install --upgrade torch peft --extra-index-url {index}"
    assert advice.torch_for() == f"pip install --force-reinstall torch --index-url {index}"
    assert str(advice.packed_rows_slow()).endswith(f": pip install --upgrade torch --extra-index-url {index}")
    driver(FAST | {"capability": (12, 0)}, cuda=12080)  # the last build for such a driver is torch 2.11
    assert advice.torch_for() == f"pip install --force-reinstall torch --index-url {index.replace('cu130', 'cu128')}"
    assert advice.pip("--upgrade", "torch", "peft") == "pip install --upgrade peft"
    slow = "no newer one computes on NVIDIA GeForce RTX 4090 with its driver. Training without packing may be as fast."
    assert str(advice.packed_rows_slow()).endswith(slow)
    driver()
    assert advice.torch_for() == "pip install --force-reinstall torch"
    assert str(advice.packed_rows_slow()).endswith(": pip install --upgrade torch")


BLACKWELL = FAST | {"name": "NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "capability": (12, 0)}
K80 = FAST | {"name": "Tesla K80", "capability": (3, 7)}


@pytest.mark.parametrize(
    ("card", "cuda", "build", "mends"),
    [
        (BLACKWELL, 12080, CUDA, "cards.update_or_install"),
        (FAST, 11080, CUDA, "cards.update_driver"),
        (FAST, 12040, CUDA, "cards.install"),
        (K80, 12000, Build("2.13.0+cu126", "12.6"), "cards.no_build"),
    ],
)
@pytest.mark.parametrize("say", [EN, RU])
def test_check_and_run_say_the_same_as_the_start_of_what_mends_torch(
    driver, monkeypatch, say, card, cuda, build, mends
):
    from core.check_card import advice

    driver(card, cuda=cuda)
    monkeypatch.setattr(torch_build, "installed", lambda: build)
    (found,) = hardware.machine().unseen
    words = say(mends, command=found.command, drivers=torch_build.DRIVERS)
    assert cards.unseen(say, found).endswith(words)
    cannot = {"en": "cannot compute on", "ru": "не умеет считать на"}[say.lang]
    told = f"torch {build.version} {cannot} {card['name']}. {words}"
    assert say.trouble(advice.unseen(hardware.card(), build.version)) == told
    architecture = "sm_{}{}".format(*card["capability"])
    ran = torch_build.without_code(card["name"], architecture, build.version, (cuda // 1000, cuda % 1000 // 10))
    assert say.trouble(ran.error) == told


def test_a_card_that_the_right_torch_does_not_see_needs_no_other_torch(driver):
    from core.check_card import advice

    driver(FAST)
    assert str(advice.unseen(hardware.card(), "2.13.0+cu130")) == (
        "torch 2.13.0+cu130 fits NVIDIA GeForce RTX 4090 and its driver, but does not see the card. Restart the machine, "
        "or start the container with access to the card (docker run --gpus all). A card in MIG mode needs an instance."
    )


@pytest.mark.parametrize(
    ("kind", "build", "does"),
    [
        ("rocm", Build("2.13.0+rocm7.2", hip="7.2"), "Add your user to the groups render and video"),
        ("xpu", Build("2.13.0+xpu", xpu="20250302"), "Add your user to the groups render and video"),
        ("mps", Build("2.13.0"), "Update macOS"),
    ],
)
def test_a_card_of_another_make_that_the_right_torch_does_not_see_is_not_restarted_with_gpus_all(
    driver, monkeypatch, kind, build, does
):
    from core.check_card import advice

    monkeypatch.setattr(torch_build, "installed", lambda: build)
    said = str(advice.unseen(gpu(kind), build.version))
    assert does in said
    assert "--gpus all" not in said


def test_a_card_that_torch_does_not_see_is_not_said_to_work(monkeypatch):
    radeon = gpu("rocm", architecture="gfx1100")
    monkeypatch.setattr(hardware, "gpus", lambda: (radeon,))
    for build, key in (
        (Build("2.13.0+cpu"), "cards.unseen.build"),
        (Build("2.13.0+rocm7.2", hip="7.2"), "cards.untried"),
    ):
        monkeypatch.setattr(torch_build, "installed", lambda build=build: build)
        (said,) = cards.warnings(EN)
        assert said.startswith(EN(key, card=radeon.name, version=build.version))


def test_the_chat_has_a_card_of_its_own_and_is_not_in_the_way_of_a_run_on_another(driver, config, monkeypatch):
    driver(FAST, ROOMY)
    assert reply_gpu.card().name == ROOMY["name"]
    chat.move(FAST["uuid"])
    assert reply_gpu.card().name == FAST["name"]
    run_id = runs.create(config, gpu=hardware.card(ROOMY["uuid"]))
    monkeypatch.setattr(gpu_access, "training", lambda: run_id)
    gpu_access.need()
    gpu_access.need(sees_card=True)
    assert gpu_access.busy() is None  # the run is on a card that replies do not come from
    chat.move(ROOMY["uuid"])
    assert gpu_access.busy() == run_id
    with pytest.raises(gpu_access.CardBusy):
        gpu_access.need(sees_card=True)
    driver(FAST)
    assert reply_gpu.card().name == FAST["name"]  # the chosen one was taken out


BUSY = """
import json, sys
from core.chat import reply_gpu
from core.hardware import torch_build
from core.runs import gpu_access
from core.hardware.torch_build import Build

torch_build.installed = lambda: Build("2.13.0+cu130", "13.0")
run_id = sys.argv[1]
gpu_access.training = lambda: run_id
print(json.dumps([reply_gpu.card().uuid, gpu_access.busy(), gpu_access.busy(sees_card=True)]))
"""


@pytest.mark.parametrize("other", [ROOMY, FAST | {"uuid": "GPU-4090eeee-0000-0000-0000-000000000000", "pci": 3}])
def test_a_process_that_sees_its_card_only_knows_that_a_run_is_on_another(driver, config, home, tmp_path, other):
    (tmp_path / "pynvml.py").write_text((pretended_driver.SITE / "pynvml.py").read_text())
    driver(FAST, other)
    run_id = runs.create(config, gpu=hardware.card(other["uuid"]))
    for uuid, blocked in ((FAST["uuid"], None), (other["uuid"], run_id)):
        reply_gpu.choose(uuid)
        environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "SOULSMITH_HOME": str(home)}
        environment |= reply_gpu.environment()
        assert environment["CUDA_VISIBLE_DEVICES"] == uuid
        command = [sys.executable, "-c", BUSY, run_id]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == [uuid, blocked, blocked]


def test_a_card_that_torch_cannot_compute_on_refuses_no_chat(driver, config, monkeypatch):
    driver(FAST)
    run_id = runs.create(config, gpu=hardware.card())
    monkeypatch.setattr(gpu_access, "training", lambda: run_id)
    assert gpu_access.busy() == run_id
    monkeypatch.setattr(torch_build, "installed", lambda: Build("2.13.0+cpu"))
    gpu_access.need()
    assert gpu_access.busy() is None
    assert gpu_access.busy(sees_card=True) == run_id
    assert reply_gpu.gives_way_to(run_id)  # both are in the machine's memory
    driver(FAST, ROOMY)
    assert reply_gpu.card().name == ROOMY["name"]
    assert reply_gpu.gives_way_to(run_id)
    monkeypatch.setattr(torch_build, "installed", lambda: CUDA)
    assert not reply_gpu.gives_way_to(run_id)


def test_a_run_that_took_another_card_of_the_name_puts_it_on_record(driver, config):
    twin = FAST | {"uuid": "GPU-4090eeee-0000-0000-0000-000000000000"}
    driver(FAST)
    run_id = runs.create(config, gpu=hardware.card())
    driver(twin, ROOMY)
    assert assigned_gpu.take(paths.run(run_id)).uuid == twin["uuid"]
    assert assigned_gpu.read(paths.run(run_id))["uuid"] == twin["uuid"]


def test_a_worker_that_a_trainer_starts_sees_all_cards(driver, config, no_worker, monkeypatch):
    driver(FAST, ROOMY)
    run_id, seen = runs.start(config, card=FAST["uuid"]), []

    def trained(run_dir, length):
        os.environ.update(hardware.environment(assigned_gpu.take(run_dir)))
        seen.append(os.environ["CUDA_VISIBLE_DEVICES"])
        return "finished"

    monkeypatch.setattr(trainer, "run", trained)
    monkeypatch.setattr(queue, "needs_worker", lambda: True)
    monkeypatch.setattr(runs, "start_worker", lambda: seen.append(os.environ.get("CUDA_VISIBLE_DEVICES")))
    monkeypatch.setattr(sys, "argv", ["trainer", str(paths.run(run_id))])
    with pytest.raises(SystemExit):
        trainer.main()
    assert seen == [FAST["uuid"], None]


# ---------------------------------------------------------------------------------------------------------------------
# Whole

TWO_RUNS = """
import json, sys, time
from core import events, paths
from core.runs import runs
from core.estimate import calibration
from core.training.config import TrainConfig

model, corpus, *uuids = sys.argv[1:]
values = {"base_model": model, "corpus": corpus, "method": "lora", "max_steps": 4, "validation_share": 0.0}
started = [runs.start(TrainConfig(**values, seed=seed), card=uuid) for seed, uuid in enumerate(uuids)]
end = time.monotonic() + 240
while time.monotonic() < end and any(runs.state(one) in runs.ACTIVE for one in started):
    time.sleep(0.2)
seen = [{event["event"]: event for event in events.read(paths.run(one))[0]} for one in started]
print(json.dumps({"seen": seen, "learned": calibration.rows()}))
"""


CHAT = """
import json, os, sys, time
from pathlib import Path
from core import paths
from core.chat import chat
from core.chat.types import Question, Sampling

model, *uuids = sys.argv[1:]
said = []
for uuid in uuids:
    chat.move(uuid)
    asked = {"0": Question(f"base:{model}", [{"role": "user", "content": "storm?"}])}
    *_, replies = chat.talk(asked, Sampling(max_new_tokens=3))
    pid = json.loads((paths.home() / "chat.json").read_text())["pid"]
    variables = Path(f"/proc/{pid}/environ").read_text().split(chr(0))
    said.append([pid, replies["0"].tokens, [one for one in variables if one.startswith("CUDA_VISIBLE")]])
chat._ask_if_there({"do": "leave"})
print(json.dumps(said))
"""


@pytest.mark.slow
@pytest.mark.skipif(bool(pretended_card.missing()), reason=pretended_card.missing())
def test_replies_move_to_the_other_card_pretended_card(trained_run, tiny_model):
    environment = pretended_card.environment((8, 6), cards=[FAST, ROOMY])
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    command = [sys.executable, "-c", CHAT, tiny_model, ROOMY["uuid"], FAST["uuid"], FAST["uuid"]]
    end = time.monotonic() + 60
    while gpu_access.owner() and time.monotonic() < end:  # the trainer of the finished run is about to end
        time.sleep(0.1)
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    first, second, third = json.loads(done.stdout)
    assert (first[1], second[1]) == (3, 3)
    assert first[2] == [f"CUDA_VISIBLE_DEVICES={ROOMY['uuid']}"]
    assert second[2] == [f"CUDA_VISIBLE_DEVICES={FAST['uuid']}"]
    assert (second[0] != first[0], third[0] == second[0]) == (True, True)  # the same card: the same process


@pytest.mark.slow
@pytest.mark.skipif(bool(pretended_card.missing()), reason=pretended_card.missing())
def test_each_run_trains_on_its_own_of_two_cards_pretended_card(tiny_model, tiny_corpus, home):
    listed = [FAST, ROOMY]
    environment = pretended_card.environment((8, 6), cards=listed) | {"SOULSMITH_HOME": str(home)}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    command = [sys.executable, "-c", TWO_RUNS, tiny_model, tiny_corpus, ROOMY["uuid"], FAST["uuid"]]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for seen, card in zip(found["seen"], (ROOMY, FAST), strict=True):
        assert "finished" in seen, seen
        assert (seen["model"]["device"], seen["forecast"]["card"]) == (card["name"], card["name"])
    assert [row["card"] for row in found["learned"]] == [ROOMY["name"], FAST["name"]]


def test_the_record_is_written_in_one_step(driver, config, monkeypatch):
    driver(FAST)
    written = []
    monkeypatch.setattr(files, "write_json", lambda path, values: written.append((path.name, values)))
    assigned_gpu.write(paths.runs() / "x", hardware.card())
    assert written == [("card.json", {"uuid": FAST["uuid"], "name": FAST["name"]})]
