"""Sentences, numbers and lengths of time in two languages."""

import importlib
import json
import re
import shutil
import sys

import pytest

import app
from core import errors, paths
from core.training.errors import TrainingError
from ui.text import LOCALES, Say, in_markdown


@pytest.mark.parametrize(
    ("value", "english", "russian"),
    [
        (0, "0", "0"),
        (1234.5, "1,234", "1\u00a0234"),
        (0.123456, "0.123", "0,123"),
        (0.00042, "0.00042", "0,00042"),
        (12.345, "12.3", "12,3"),
        (999.9, "1,000", "1\u00a0000"),
        (-2.5, "-2.5", "-2,5"),
        (float("nan"), "NaN", "NaN"),
        (None, "NaN", "NaN"),
    ],
)
def test_a_number_has_at_most_three_digits(value, english, russian):
    assert Say("en").number(value) == english
    assert Say("ru").number(value) == russian


@pytest.mark.parametrize(
    ("seconds", "english", "russian"),
    [
        (0, "0\u00a0s", "0\u00a0с"),
        (59, "59\u00a0s", "59\u00a0с"),
        (3725, "1\u00a0h 2\u00a0min", "1\u00a0ч 2\u00a0мин"),
        (90_000, "1\u00a0d 1\u00a0h", "1\u00a0сут 1\u00a0ч"),
        (86_400 + 120, "1\u00a0d", "1\u00a0сут"),
        (3605, "1\u00a0h", "1\u00a0ч"),
    ],
)
def test_a_length_of_time_has_its_largest_unit_and_the_next(seconds, english, russian):
    assert Say("en").duration(seconds) == english
    assert Say("ru").duration(seconds) == russian


def test_a_trouble_is_said_in_the_person_s_language():
    error = TrainingError("TooSmall", field="lora_rank", least=1, value=0, suggestion="8 or 16")
    assert Say("en").trouble(error) == "lora_rank must be at least 1, got 0. Try 8 or 16."
    assert Say("ru").trouble(error) == "Поле lora_rank должно быть не меньше 1, задано 0. Попробуйте 8 или 16."


def test_the_state_inside_a_trouble_is_translated_too():
    error = errors.named("AlreadyRunning", name="проба", state="queued")
    assert "уже есть (в очереди)" in Say("ru").trouble(error)


def test_a_text_in_markdown_is_shown_as_it_is_written():
    assert in_markdown("![a](http://b/c_d.png) <i>") == r"\!\[a\](http://b/c\_d.png) \<i\>"


def test_an_unknown_language_is_english():
    assert Say("de").lang == "en"


@pytest.mark.slow
def test_a_third_language_is_one_file(tmp_path, monkeypatch):
    """Put into assets/locales it is on the page; what it lacks is said in English."""
    shutil.copytree(paths.assets(), tmp_path / "assets")
    words = {"training.train": "Trainieren", "number.thousands": ".", "number.decimal": ","}
    german = {"language": "Deutsch", "words": words, "errors": {}, "formula_units": {}}
    (tmp_path / "assets" / "locales" / "de.json").write_text(json.dumps(german), encoding="utf-8")
    monkeypatch.setattr(paths, "assets", lambda: tmp_path / "assets")
    for name in [name for name in sys.modules if name.partition(".")[0] in ("app", "ui")]:
        monkeypatch.delitem(sys.modules, name)  # the page is read anew, as after a start
    page, text = importlib.import_module(app.__name__), importlib.import_module(Say.__module__)
    say = text.Say("de")
    blocks = page.build_page(say).blocks.values()
    buttons = {block.value for block in blocks if block.get_block_name() == "button"}
    head = next(block.value for block in blocks if "page-head" in str(getattr(block, "value", "")))
    assert text.LANGUAGES == ("en", "de", "ru")
    assert (buttons & {"Trainieren", "Stop"}, say.number(1234.5)) == ({"Trainieren", "Stop"}, "1.234")
    assert re.findall(r'lang="(\w+)"[^>]*>(\w+)<', head) == [("en", "English"), ("ru", "Русский")]


# What a Russian of the field writes in Latin letters: names, and the words that stand in a config or on a command line.
LATIN = """
accelerate AdamW Adaptation Add Admin all all-linear alpaca alpha Apple Arrow arXiv assistant auto axolotl Base
beta bitsandbytes c capability chat Chat chosen code Completion compute config Connect Connection Connections
Ctrl+C cuBLAS Custom d Direct Discord DoRA dpo dropout Dropout e Endpoint Enter Esc estimate-memory Excel Face
flash flash-attn flash-linear-attention FlashAttention Google Gradio grid Hub Hugging Id id import Intel Jupyter Kahneman-Tversky kto learn Liger
liger-kernel Lines Llama log-softmax LoRA LoRA+ loss Loss Low-Rank m man Markdown merged messages Mistral mix
Modelfile n NEFTune Nexus Odds offline Ollama Open OpenAI openai-compat-endpoint OpenAI-compatible optim Optimization orpo packing
paged Parquet peft pissa PowerPoint precision preference Preference prompt Python python PyTorch QLoRA Qwen r rank Ratio
rejected ROCm rsLoRA run s sdpa seed Self-BLEU Settings sharegpt Shift+Enter SillyTavern Soulsmith start Studio
system tar task temperature text think torch Trainer transformers tuning Vendi vLLM WebUI WhatsApp Wi-Fi Word zip
Zstandard
"""


def test_no_english_is_left_in_a_russian_sentence():
    """A new Latin word is put into LATIN on purpose. What holds "_", "." or a digit, or is written in capitals, is a name."""
    texts = LOCALES["ru"]["words"] | {term: text for term, (_, text) in LOCALES["ru"]["glossary"].items()}
    found = {}
    for key, text in texts.items():
        if key == "synth.help.text":  # the format of a recipe
            continue
        bare = re.sub(r"`[^`]*`|{[^}]*}", "", text)
        words = {word.rstrip(".-") for word in re.findall(r"[A-Za-z][A-Za-z0-9_.+-]*", bare)}
        if left := {
            word for word in words - set(LATIN.split()) if not re.search(r"[_.\d]", word) and not word.isupper()
        }:
            found[key] = left
    assert found == {}
