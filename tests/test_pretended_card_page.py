"""The page on a machine with cards: every tab drawn on every kind of machine, and runs trained through it on a card."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core.estimate import probe
from tests import pretended_card
from tests.pretended_card import A100

ROOT = Path(__file__).parent.parent
SECONDS = 900

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(pretended_card.missing()), reason=pretended_card.missing() or "there is a compiler"),
]


def walked(what: str, home: Path, corpus: str, model: str) -> dict:
    """What `python -m tests.card_page WHAT` found in a process with a pretended card and a data directory of its own."""
    home.mkdir(parents=True)
    shutil.copy(corpus, home / "rows.jsonl")
    shutil.copytree(model, home / "tiny")
    environment = pretended_card.environment(cards=[A100 | {"capability": (8, 0)}])
    done = subprocess.run(
        [sys.executable, "-m", "tests.card_page", what],
        cwd=ROOT,
        env=environment | {"SOULSMITH_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_every_tab_is_drawn_on_every_machine_with_a_pretended_card(home, tiny_corpus, tiny_model):
    found = walked("draw", home, tiny_corpus, tiny_model)
    assert len(found) > 12
    assert {name: languages for name, languages in found.items() if any(languages.values())} == {}


def test_a_run_is_trained_through_the_page_on_a_pretended_card(home, tiny_corpus, tiny_model):
    found = walked("train", home, tiny_corpus, tiny_model)
    trained, refused, damaged, hidden = (found[name] for name in ("trained", "refused", "damaged", "hidden"))
    assert [run["problems"] for run in (trained, refused, damaged, hidden)] == [[], [], [], []]
    assert (trained["state"], trained["device"], trained["precision"]) == ("finished", A100["name"], "bf16")
    assert "training" in trained["stages"]
    assert "6 / 6" in trained["status"]
    assert "ГиБ (по расчёту" in trained["status"]  # memory beside its forecast: a card's
    assert f"Устройство: {A100['name']} bf16" in trained["facts"]
    assert "Видеопамять: по расчёту" in trained["facts"]
    assert "Поправка по запускам на этой машине (4): память × 1,25, время × 2." in found["answer"]
    assert (refused["state"], refused["trouble"]) == ("failed", "LigerMissing")
    assert "liger-kernel" in refused["status"]
    assert (damaged["state"], damaged["trouble"]) == ("failed", "JobFailed")
    assert (hidden["state"], hidden["device"]) == ("finished", "cpu")
    assert "ГиБ (по расчёту" not in hidden["status"]  # a process's memory is no card's


def test_the_rate_of_a_pretended_card_is_measured_under_its_name(home, tiny_corpus, tiny_model):
    found = walked("measure", home, tiny_corpus, tiny_model)
    assert found["name"] == A100["name"]
    assert probe.stored() == {A100["name"]: found["tflops"]}
