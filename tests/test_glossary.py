"""The glossary of the page: every term has a sentence in every language, and stands somewhere on the page."""

import json
import re

import pytest

from ui import pages
from ui.text import LANGUAGES, LOCALES, glossary

# What a newcomer did not know when the page was tried.
ASKED_FOR = {
    "accumulation", "adapter", "allocator", "alpha", "attention", "batch", "capsule", "dora", "gradient_checkpointing",
    "held_out", "lora", "nats", "nf4", "packing", "perplexity", "pissa", "qlora", "rank", "rslora", "self_bleu", "vendi",
}  # fmt: skip


def pattern(forms: str) -> re.Pattern:
    """As assets/glossary.js reads them: a bar between forms, * for any ending."""
    each = [re.escape(form).replace(r"\*", r"[^\W\d_]*").replace(r"\ ", r"\s+") for form in forms.split("|")]
    return re.compile(rf"(?<!\w)(?:{'|'.join(each)})(?!\w)", re.IGNORECASE)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_term_is_explained_in_every_language(lang):
    assert LOCALES[lang]["glossary"].keys() == LOCALES["en"]["glossary"].keys() >= ASKED_FOR
    odd = {
        term: text for term, (_, text) in glossary(lang).items() if not re.fullmatch(r"[A-ZА-ЯЁ0-9].{20,220}\.", text)
    }
    assert odd == {}


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_form_of_a_term_stands_on_the_page(lang):
    """A form that no sentence has would be a word that nobody can ask about."""
    sentences = "\n".join(LOCALES[lang]["words"].values())
    assert [term for term, (forms, _) in glossary(lang).items() if not pattern(forms).search(sentences)] == []


@pytest.mark.parametrize("lang", LANGUAGES)
def test_no_form_means_two_terms(lang):
    forms = [form.lower() for written, _ in glossary(lang).values() for form in written.split("|")]
    assert sorted({form for form in forms if forms.count(form) > 1}) == []


def test_an_explanation_is_data_and_no_markup(monkeypatch):
    monkeypatch.setitem(LOCALES["en"]["glossary"], "loss", ["loss", "</script><script>alert(1)</script>"])
    script = pages.script("en")
    assert script.count("<script>") == script.count("</script>") == 1
    told, _ = json.JSONDecoder().raw_decode(script.split("window.glossary = ")[1])
    assert told["loss"][1] == "</script><script>alert(1)</script>"
