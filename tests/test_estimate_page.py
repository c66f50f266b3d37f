"""What the Calculator tab says: every sentence in both languages, and pieces that hold the answer's own figures."""

import inspect
import json
import re
from pathlib import Path

import pytest

from core import paths
from core.errors import UserError
from core.estimate import answer, catalogue, errors
from core.estimate.setup import Setup
from ui import calculator_html, calculator_plots
from ui.text import ENGLISH, LOCALES, Say

UI = Path(__file__).parent.parent / "ui"


def ask(card=catalogue.DEFAULT_CARD, **fields):
    return answer.ask(catalogue.shape("Qwen/Qwen3-14B"), Setup(**fields), catalogue.card(card), tokens=10**8)


def test_every_key_that_the_tab_uses_has_a_sentence():
    used = set()
    for file in [*UI.glob("calculator*.py"), *(paths.assets() / "html").glob("calculator*.html")]:
        used |= set(re.findall(r"say\(\s*\"(calculator\.[a-z_0-9.]+)\"", file.read_text(encoding="utf-8")))
    beginnings = {key for key in used if key.endswith(".")}  # the template adds the rest
    assert used - beginnings - set(ENGLISH) == set()
    assert [key for key in beginnings if not any(known.startswith(key) for known in ENGLISH)] == []


def test_both_languages_of_an_error_ask_for_the_same_values():
    def holes(text):
        return sorted(re.findall(r"{(\w+)}", text))

    russian = LOCALES["ru"]["errors"]
    found = {
        name: kind.template
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, UserError) and kind is not UserError
    }
    assert [name for name, english in found.items() if holes(english) != holes(russian[name])] == []


@pytest.mark.parametrize(("lang", "words"), [("en", "Fits"), ("ru", "Помещается")])
def test_the_verdict_says_the_answer_in_both_languages(lang, words):
    html = calculator_html.verdict(Say(lang), ask())
    assert f">{words}</div>" in html


def test_a_trouble_names_the_field_as_the_page_does():
    error = errors.NotAnAmount(field="memory_gb", value="много")
    html = calculator_html.trouble(Say("ru"), error)
    assert "Память, ГБ: нужно число, например 100M, 2.5B или 40000, а указано «много»." in html


def test_a_formula_is_written_with_the_readers_commas_and_units():
    html = calculator_html.formulas(Say("ru"), ask())
    assert "ГиБ × 1,08" in html
    assert "GiB" not in html


def test_words_of_a_person_are_never_markup():
    error = errors.UnknownModel(name="<script>alert(1)</script>", nearest="a")
    assert "<script>" not in calculator_html.trouble(Say("en"), error)


def test_what_does_not_fit_is_followed_by_a_way_that_does():
    html = calculator_html.changes(Say("en"), ask("RTX 3060 12GB", method="lora", loss="logits"))
    assert "The shortest way to make it fit" in html
    assert "method: lora → qlora" in html


def test_the_bar_holds_all_of_the_process():
    found = ask()
    figure = calculator_plots.bar(Say("en"), found)
    assert sum(trace.x[0] for trace in figure.data) == pytest.approx(found.process / 2**30, abs=0.01)


def test_the_stored_check_is_of_the_table_that_comes_with_it():
    found = json.loads((paths.assets() / "check.json").read_text(encoding="utf-8"))
    assert [len(found[name]["errors"]) == found[name]["rows"] for name in ("instant", "trace", "time")] == [True] * 3
    assert found["instant"]["rows"] + found["instant"]["left_out"] == 453
