"""What the Calculator tab says: every sentence in both languages, and pieces that hold the answer's own figures."""

import inspect
import json
import re
from html import unescape
from pathlib import Path

import pytest

from core import paths
from core.errors import UserError, named
from core.estimate import answer, cards, catalogue, errors, page, setup, shape
from core.estimate.setup import Setup
from tests.conftest import slow_but
from ui import calculator_html, calculator_plots
from ui.text import ENGLISH, LOCALES, Say

UI = Path(__file__).parent.parent / "ui"


def ask(card=cards.DEFAULT_CARD, **fields):
    return answer.ask(catalogue.shape("Qwen/Qwen3-14B"), Setup(**fields), cards.card(card), tokens=10**8)


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
    found = LOCALES["en"]["errors"] | {
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
    assert "Память, ГБ: нужно число, например 12, 7.5, а указано «много»." in html


def test_a_formula_is_written_with_the_readers_commas_and_units():
    html = calculator_html.formulas(Say("ru"), ask())
    assert "ГиБ × 1,08" in html
    assert "GiB" not in html


def test_words_of_a_person_are_never_markup():
    error = named("UnknownModel", name="<script>alert(1)</script>", nearest="a")
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


@pytest.mark.parametrize("lang", slow_but(["en"], ["en", "ru"]))
@pytest.mark.parametrize("kind", setup.KINDS)
@pytest.mark.parametrize("model", ["Qwen/Qwen3-8B", "Qwen/Qwen3-30B-A3B"])
def test_every_kind_of_training_has_its_whole_answer(lang, kind, model):
    say, card = Say(lang), cards.card("RTX 4090")
    chosen = Setup(**setup.of_kind(kind))
    found = answer.ask(catalogue.shape(model), chosen, card, tokens=10**10, epochs=20)
    shown = calculator_html.verdict(say, found, price=5.5)
    assert say(f"calculator.{found.verdict}") in shown
    assert (say("calculator.reply.note") in shown) == (kind == "prompt")
    if kind != "prompt":
        assert say("calculator.nearest") in shown
        assert say("calculator.reason.cost", kwh=say.number(found.kilowatt_hours), cost="X").partition("X")[0] in shown
    stays = say("calculator.experts", gib=say.number(2 * found.shape.expert_parameters / 2**30))
    assert (stays in shown) == (found.setup.method == "qlora" and found.shape.experts > 0)
    assert calculator_html.formulas(say, found)
    assert "calculator." not in re.sub("<.*?>", "", shown + calculator_html.changes(say, found))


def test_a_system_prompt_has_neither_an_epoch_nor_a_checkpoint_in_the_table():
    card = cards.card("RTX 4090")
    html = calculator_html.all_tables(Say("en"), "Qwen/Qwen3-8B", Setup(), card, card.memory_bytes, 10**8)
    (row,) = [row for row in html.split("<tr>") if Say("en")("calculator.kind.prompt") in row]
    assert re.findall("<td.*?>(.*?)</td>", row)[2:] == ["—", "16.8", "fits", "—", "—"]


@pytest.mark.parametrize("kind", ["full", "qlora", "prompt"])
def test_every_tile_of_the_mosaic_is_a_button_that_fills_the_form(kind):
    chosen = Setup(**setup.of_kind(kind))
    found = answer.ask(catalogue.shape("Qwen/Qwen3-4B"), chosen, cards.card("RTX 4090"), tokens=10**8)
    html = calculator_html.mosaic(Say("ru"), found, {"model": "Qwen/Qwen3-4B", "method": kind})
    fields = [json.loads(unescape(text)) for text in re.findall('data-fields="(.*?)"', html)]
    models = len(shape.read_models()["table"])
    assert len(fields) == 4 * models + (0 if kind == "prompt" else 12)
    assert {frozenset(one) for one in fields[:4]} == {
        frozenset({"model", "method", "optim", "target_modules", "max_length"})
    }
    current = re.findall('data-fields="([^"]*)"[^>]*aria-current="true"', html)
    (here,) = (json.loads(unescape(text)) for text in current)
    assert (here["model"], here["method"], here["optim"]) == ("Qwen/Qwen3-4B", kind, "adamw_torch")
    assert html.count('tabindex="0"') == (1 if kind == "prompt" else 2)


@pytest.mark.slow
def test_the_static_page_holds_the_same_figures_and_asks_no_other_host(tmp_path):
    told = page.write(tmp_path / "out.html", 2048)
    text = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert re.findall(r"(?:https?:)?//[\w.-]+\.\w+|(?:src|href)=", text) == []
    data = json.loads(re.search(r"const figures = (.*);\n", text)[1])
    assert (told["cards"], told["models"]) == (len(data["cards"]), len(data["models"]))
    assert set(data["words"]) == {"en", "ru"}
    assert set(data["words"]["en"]) == set(data["words"]["ru"])
    at = [card["name"] for card in data["cards"]].index("NVIDIA GeForce RTX 4090")
    kind, model = data["methods"].index("qlora"), data["models"].index("Qwen/Qwen3-8B")
    verdict, gib, rate = data["cells"][model][kind][at]
    found = answer.ask(catalogue.shape("Qwen/Qwen3-8B"), Setup(), cards.card("RTX 4090"))
    assert (data["marks"][verdict], gib) == (found.verdict, pytest.approx(found.process / 2**30, rel=0.03))
    assert rate == round(found.pace.tokens_per_second)
