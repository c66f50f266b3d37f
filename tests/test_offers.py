"""What can be typed into a model field."""

import contextlib

import pytest

from core.estimate import catalogue, model_choices, model_names
from core.estimate.errors import NeedsTrace
from ui import model_choices as ui_model_choices
from ui.text import Say

FAMILIES = ("Qwen1.5", "Qwen2.5", "Qwen3", "Saiga", "Mistral", "Llama", "Gemma", "SmolLM", "Yandex", "T-Bank", "Vikhr")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A hub cache with one whole model of the catalogue, one that is not in it, and one half downloaded."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    for name, files in (
        ("Qwen--Qwen3-0.6B", ["config.json", "model.safetensors"]),
        ("someone--else--s", ["config.json", "model.safetensors"]),
        ("Qwen--Qwen3-4B", ["config.json"]),
    ):
        folder = tmp_path / "hub" / f"models--{name}" / "snapshots" / "abc"
        folder.mkdir(parents=True)
        for file in files:
            (folder / file).write_text("{}")


def test_the_catalogue_has_every_family_with_size_and_terms():
    entries = list(model_names.models().values())
    assert {family for family in FAMILIES if any(entry["family"] == family for entry in entries)} == set(FAMILIES)
    assert [entry["hub_id"] for entry in entries if "license" not in entry or "gated" not in entry] == []


def test_what_is_on_the_disk_comes_first_and_says_so(cache):
    assert model_choices.on_disk() == {"Qwen/Qwen3-0.6B", "someone/else--s"}
    assert [offer.name for offer in model_choices.listed()][:3] == ["starter", "Qwen/Qwen3-0.6B", "someone/else--s"]


def test_a_label_can_be_found_by_any_of_its_words(cache):
    labels = {name: label for label, name in ui_model_choices.choices(Say("en"))}
    assert labels["Qwen/Qwen3-0.6B"] == "Qwen/Qwen3-0.6B · 0.596 B · 1.19 GB · apache-2.0 · on this disk"
    assert labels["google/gemma-2-9b"].endswith("· gemma · terms to accept on the hub")
    russian = {name: label for label, name in ui_model_choices.choices(Say("ru"))}
    assert russian["Qwen/Qwen2.5-7B-Instruct"] == ("Qwen/Qwen2.5-7B-Instruct · 7,62 млрд · 15,2 ГБ · apache-2.0")


def test_the_calculator_offers_only_what_it_can_work_out(cache):
    names = [name for _, name in ui_model_choices.choices(Say("en"), only_shaped=True)]
    assert "someone/else--s" not in names
    for name in names:
        with contextlib.suppress(NeedsTrace):
            catalogue.shape(name)
