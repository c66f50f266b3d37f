"""Whole trainings on a pretended card beside the same on the processor: every method and option, each packed and not.

The cases of one card share a process, for importing takes longer than training does.
"""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests import pretended_card

ROOT = Path(__file__).parents[1]
SECONDS = 400
PACKED = {"packing": True, "max_length": 96}
CASES = {
    "lora": {"method": "lora", "resume": True},
    "lora packed": {"method": "lora", **PACKED},
    "qlora": {"method": "qlora", "resume": True},
    "qlora packed checkpointed": {"method": "qlora", "gradient_checkpointing": True, **PACKED},
    "full": {"method": "full", "learning_rate": 1e-4},
    "full packed": {"method": "full", "learning_rate": 1e-4, "resume": True, **PACKED},
    "embeddings": {"method": "lora", "train_embeddings": True},
    "embeddings packed": {"method": "lora", "train_embeddings": True, **PACKED},
    "dora rslora": {"method": "lora", "use_dora": True, "use_rslora": True},
    "pissa": {"method": "lora", "init_lora_weights": "pissa", "resume": True},
    "loraplus": {"method": "lora", "loraplus_lr_ratio": 16.0},
    "neftune packed": {"method": "lora", "neftune_noise_alpha": 5.0, **PACKED},
    "8 bit": {"method": "qlora", "optim": "adamw_8bit"},
    "paged": {"method": "lora", "optim": "paged_adamw_8bit"},
    "lora goes on": {"method": "lora", "goes_on": True, "resume": True},
    "qlora goes on": {"method": "qlora", "goes_on": True, "resume": True},
    "fused": {"method": "lora", "optim": "adamw_torch_fused"},
    "dpo": {"method": "qlora", "task": "preference", "resume": True},
    "kto packed": {"method": "lora", "task": "preference", "preference_loss": "kto", **PACKED},
    "orpo": {"method": "lora", "task": "preference", "preference_loss": "orpo"},
}
OLD = ("lora", "lora packed", "qlora packed checkpointed", "full", "full packed", "embeddings", "pissa", "dpo")
OLD += ("lora goes on",)
FLASH = (
    *("lora", "lora packed", "qlora packed checkpointed", "full", "full packed", "embeddings", "neftune packed"),
    *("dpo", "kto packed"),
)
WAITS = {
    f"waits, {name}": {**CASES[name], "waits": True, "eval_steps": 4, "resume": False}
    for name in (*FLASH[:3], "dpo", "orpo")
}
LOGGED_SELDOM = {"waits, logged seldom": {"method": "lora", "waits": True, "eval_steps": 4, "logging_steps": 2}}
CARDS = {  # capability, flash-attn, cases
    "a100": ((8, 0), False, CASES | WAITS | LOGGED_SELDOM),
    "a100 flash": ((8, 0), True, {name: CASES[name] for name in FLASH} | WAITS),
    "t4": ((7, 5), False, {name: CASES[name] for name in OLD}),
    "processor": (None, False, {name: {**fields, "precision": "fp32"} for name, fields in CASES.items()}),
}
ALL = [(card, case) for card, (*_, cases) in CARDS.items() for case in cases if card != "processor" and case in CASES]
ROUNDING = {"bf16": 0.02, "fp16": 0.01}  # of a loss: their 8 and 11 bits, over four steps

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(pretended_card.missing()), reason=pretended_card.missing() or "it is there"),
]


@pytest.fixture(scope="module")
def walked(tiny_model, tiny_corpus, tmp_path_factory):
    """A function of a card's name: what each of its cases gave."""

    @cache
    def walk(name: str) -> dict[str, dict]:
        capability, flash, cases = CARDS[name]
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        if capability:
            environment = pretended_card.environment(capability, flash=flash)
        command = [sys.executable, "-m", "tests.pretended_card.training", tiny_model, tiny_corpus]
        command += [str(tmp_path_factory.mktemp(name)), json.dumps(cases)]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS)
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        assert done.returncode == 0, done.stderr[-3000:]
        return {line["case"]: line for line in lines}

    return walk


@pytest.mark.parametrize(("card", "case"), ALL)
def test_a_training_on_a_pretended_card_has_the_losses_of_the_processor(walked, card, case):
    found, known = walked(card)[case], walked("processor")[case]
    assert "error" not in found, found["error"]
    kind = {"a100": "bf16", "a100 flash": "bf16", "t4": "fp16"}[card]
    assert (found["precision"], found["device"]) == (kind, "NVIDIA A100-SXM4-40GB")
    assert found["attention"] == ("flash_attention_2" if card == "a100 flash" else "sdpa")
    near = 0.1 if "neftune" in case else ROUNDING[kind]  # the noise is drawn in 16 bit
    assert found["losses"] == pytest.approx(known["losses"], rel=near)
    assert found["eval_loss"] == pytest.approx(known["eval_loss"], rel=near)
    assert all(norm > 0 for norm in found["grad_norms"])


@pytest.mark.parametrize("card", ["a100", "t4"])
@pytest.mark.parametrize("case", [name for name, fields in CASES.items() if fields.get("resume")])
def test_a_training_on_a_pretended_card_resumes_to_the_same_losses(walked, card, case):
    if case not in CARDS[card][2]:
        pytest.skip("this card does not walk it")
    found = walked(card)[case]
    assert found["resumed"] == pytest.approx(found["losses"][2:], abs=1e-6)


@pytest.mark.parametrize(
    ("card", "case"), [("a100", "lora goes on"), ("a100", "qlora goes on"), ("t4", "lora goes on")]
)
def test_go_on_begins_with_the_loss_that_the_run_before_ended_with_on_a_pretended_card(walked, card, case):
    ended, begins = walked(card)[case]["begins"]
    assert begins == ended


@pytest.mark.parametrize("card", ["a100", "a100 flash", "t4"])
def test_no_operation_mixes_a_pretended_card_with_the_processor(walked, card):
    assert walked(card)[""]["mixed"] == []


def test_packed_rows_take_the_kernel_for_them_on_a_pretended_card(walked):
    """torch's own without flash-attn, with lengths that nobody waits for; on an old card, documents one by one."""
    own, flash, old = (walked(card)[""] for card in ("a100", "a100 flash", "t4"))
    assert own["varlen"]["forward"] > own["varlen"]["backward"] > 0
    assert own["flash"] is None
    assert flash["flash"]["varlen"] == flash["flash"]["varlen_int"] > 0
    assert (flash["varlen"]["forward"], old["varlen"]["forward"]) == (0, 0)
    ways = [(one["varlen"], one["by_document"]) for one in (walked(card)["lora packed"] for card in CARDS)]
    assert ways == [(True, False), (False, False), (False, True), (False, True)]


@pytest.mark.parametrize("card", ["a100", "a100 flash"])
@pytest.mark.parametrize("case", [*WAITS, *LOGGED_SELDOM])
def test_a_step_waits_for_a_pretended_card_once_at_most(walked, card, case):
    if case not in CARDS[card][2]:
        pytest.skip("this card does not walk it")
    steps = walked(card)[case]["waits"]
    assert len(steps) == 2
    assert [step for step in steps if len(step) > 1] == []
