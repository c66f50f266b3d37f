"""Limits of the structure that `python -m tests.structure` measures."""

import pytest

from tests import structure

# Modules of fewer than 40 lines that stay on their own: {name: reason}.
SHORT = {
    "core.trainer": "the command by which a trainer's process is recognised; older versions started it too",
    "core.corpus.text_normalization": "corpora and synthesis compare texts by it",
    "ui.corpora_plots": "plots stand apart from handlers, as in every tab",
    "ui.buttons": "six tabs import it",
    "ui.model_choices": "four tabs import it",
    "ui.temp_files": "three tabs import it",
    "ui.templates": "every tab imports it",
}


@pytest.fixture(scope="module")
def figures() -> dict:
    return structure.measure()


def test_no_module_imports_itself_through_others(figures):
    assert figures["circle"] == []


def test_no_function_is_longer_than_a_screen(figures):
    assert figures["functions_over_60_lines"] == []


def test_no_module_is_longer_than_400_lines(figures):
    assert figures["modules_over_400_lines"] == []


def test_core_itself_holds_at_most_a_dozen_files():
    assert len(list((structure.ROOT / "core").glob("*.py"))) <= 12


def test_a_short_module_has_a_reason(figures):
    assert sorted(set(figures["modules_under_40_lines"]) - SHORT.keys()) == []


def test_a_reason_stands_for_a_module_that_is_short(figures):
    assert sorted(SHORT.keys() - figures["modules_under_40_lines"]) == []
