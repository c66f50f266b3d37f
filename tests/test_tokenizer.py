"""The light tokenizer says the same as transformers' AutoTokenizer."""

import json

import pytest

from core.models import tokenizer
from core.training import tokenizer_loading
from core.training.config import TrainConfig
from tests import tiny_tokenizers
from tests.conftest import raises

CHATS = [
    [{"role": "user", "content": "Привет, как дела?"}, {"role": "assistant", "content": "Хорошо, спасибо!"}],
    [
        {"role": "user", "content": "  два  пробела\n\n"},
        {"role": "assistant", "content": "<think>\nдумаю</think>\nHello 🍸 é \u200b"},
        {"role": "user", "content": "<|im_end|></s><s> «цитата»"},
        {"role": "assistant", "content": "да"},
    ],
]
TEXTS = [
    "Привет,  мир! Qwen — №1 ₽ ° 🙂",
    "",
    " leading",
    "a\u0301 e\u0301 </s><|im_end|>x",
    "\n\n\t <s>",
    "[INST] q [/INST]",
]


def both(directory):
    from transformers import AutoTokenizer

    return tokenizer.load(directory), AutoTokenizer.from_pretrained(directory)


def same(light, full, text, **options):
    mine = light(text, return_offsets_mapping=True, **options)
    theirs = full(text, return_offsets_mapping=True, **options)
    spans = [tuple(span) for span in theirs["offset_mapping"]]
    return mine["input_ids"] == theirs["input_ids"] and mine["offset_mapping"] == spans


@pytest.mark.parametrize("template", tiny_tokenizers.TEMPLATES)
def test_ids_offsets_and_chats_are_those_of_transformers(tmp_path, template):
    light, full = both(tiny_tokenizers.build(tmp_path / "model", template))
    for chat in CHATS:
        for asks in (False, True):
            text = light.apply_chat_template(chat, add_generation_prompt=asks)
            assert text == full.apply_chat_template(chat, tokenize=False, add_generation_prompt=asks)
            assert same(light, full, text, add_special_tokens=False)
    for text in TEXTS:
        assert same(light, full, text, add_special_tokens=True)
    assert (light.eos_token_id, light.bos_token_id) == (full.eos_token_id, full.bos_token_id)
    special = {id: token.special for id, token in full.added_tokens_decoder.items()}
    assert {id: token.special for id, token in light.added_tokens_decoder.items()} == special


@pytest.mark.parametrize("legacy", [True, False, None])
@pytest.mark.parametrize("model_type", ["llama", "mistral"])
def test_metaspace_models_of_the_llama_class_split_as_transformers_does(tmp_path, model_type, legacy):
    model = tiny_tokenizers.build(tmp_path / "model", "saiga2")
    config = json.loads((model / "tokenizer_config.json").read_text("utf-8")) | {"tokenizer_class": "LlamaTokenizer"}
    if legacy is not None:
        config["legacy"] = legacy
    (model / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    (model / "config.json").write_text(json.dumps({"model_type": model_type}), "utf-8")
    light, full = both(model)
    for text in [*TEXTS, "<s>bot\nПривет</s>\n<s>user\nда"]:
        assert same(light, full, text, add_special_tokens=False), text


def test_old_special_token_files_and_padding_settings_are_read(tmp_path):
    model = tiny_tokenizers.build(tmp_path / "model", "chatml")
    shown = json.loads((model / "tokenizer.json").read_text("utf-8"))
    shown["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    (model / "tokenizer.json").write_text(json.dumps(shown), "utf-8")
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": "{{ messages[0]['content'] + eos_token }}"}
    (model / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    (model / "chat_template.jinja").unlink()
    tokens = {
        "eos_token": {
            "content": "<|endoftext|>",
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
        }
    }
    (model / "special_tokens_map.json").write_text(json.dumps(tokens), "utf-8")
    light, full = both(model)
    assert same(light, full, "Привет, как дела?")
    assert light.eos_token_id == full.eos_token_id
    assert light.apply_chat_template(CHATS[0]) == "Привет, как дела?<|endoftext|>"


def test_a_directory_without_a_tokenizer_says_so(tmp_path):
    with raises("NoTokenizer", match=r"tokenizer\.json"):
        tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}", "utf-8")
    with raises("TokenizerUnreadable", match="Copy the model's files again"):
        tokenizer.load(tmp_path)


def test_a_changed_template_is_read_again(tmp_path):
    model = tiny_tokenizers.build(tmp_path / "model", "chatml")
    assert "im_start" in tokenizer.load(model).apply_chat_template(CHATS[0])
    (model / "chat_template.jinja").write_text("{{ messages[0]['content'] }}!", "utf-8")
    assert tokenizer.load(model).apply_chat_template(CHATS[0]) == "Привет, как дела?!"


@pytest.mark.parametrize(
    "attack", ["{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}", "{% for i in range(10**9) %}{% endfor %}"]
)
def test_a_template_cannot_leave_its_sandbox(tmp_path, attack):
    model = tiny_tokenizers.build(tmp_path / "model", "chatml")
    (model / "chat_template.jinja").write_text(attack, "utf-8")
    light = tokenizer.load(model)
    with pytest.raises(Exception, match=r"unsafe|not safe|too big|Range"):
        light.apply_chat_template(CHATS[0])


def splits(directory, split: str, **config) -> str:
    """A byte-level tokenizer that splits so, beside this config.json."""
    from tokenizers import Regex, Tokenizer, pre_tokenizers

    tiny_tokenizers.build(directory, "mistral-nemo")
    backend = Tokenizer.from_file(str(directory / "tokenizer.json"))
    parts = [
        pre_tokenizers.Split(Regex(split), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
    backend.pre_tokenizer = pre_tokenizers.Sequence(parts)
    backend.save(str(directory / "tokenizer.json"))
    (directory / "config.json").write_text(json.dumps(config))
    return str(directory)


def split_of(backend) -> str:
    return json.loads(backend.to_str())["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]


QWEN_SPLIT = tokenizer_loading.LLAMA3_SPLIT.replace("{1,3}", "")


@pytest.mark.parametrize(
    ("model_type", "version", "split", "right"),
    [
        ("mistral", "4.55.0", tokenizer_loading.LLAMA3_SPLIT, tokenizer_loading.TEKKEN_SPLIT),
        ("mistral3", None, tokenizer_loading.LLAMA3_SPLIT, tokenizer_loading.TEKKEN_SPLIT),
        (
            "mistral",
            "5.24.0",
            tokenizer_loading.LLAMA3_SPLIT,
            tokenizer_loading.TEKKEN_SPLIT,
        ),  # saved anew by somebody who did not know
        ("mistral", "4.55.0", tokenizer_loading.TEKKEN_SPLIT, tokenizer_loading.TEKKEN_SPLIT),
        ("mistral", "4.55.0", QWEN_SPLIT, QWEN_SPLIT),
        ("llama", "4.55.0", tokenizer_loading.LLAMA3_SPLIT, tokenizer_loading.LLAMA3_SPLIT),
        ("qwen2", "4.55.0", QWEN_SPLIT, QWEN_SPLIT),
    ],
)
def test_a_mistral_splits_as_it_was_trained_and_nobody_else_is_touched(tmp_path, model_type, version, split, right):
    """https://github.com/huggingface/transformers/issues/42591"""
    more = {"transformers_version": version} if version else {}
    directory = splits(tmp_path / "model", split, model_type=model_type, **more)
    config = TrainConfig(base_model=directory, corpus="c")
    light, full = tokenizer.load(directory), tokenizer_loading.load_tokenizer(config)
    assert split_of(light.backend) == split_of(full.backend_tokenizer) == right
    for text in ("12345 HelloWorld ПриветМир can't", *(TEXTS if model_type != "qwen2" else ())):  # it adds NFC
        assert same(light, full, text, add_special_tokens=True)
    saved = tmp_path / "saved"
    full.save_pretrained(saved)  # as a run, an adapter and a merged model do
    (saved / "config.json").write_text((tmp_path / "model" / "config.json").read_text())
    again = tokenizer_loading.load_tokenizer(TrainConfig(base_model=str(saved), corpus="c"))
    assert split_of(again.backend_tokenizer) == right
    assert "fix_mistral_regex" not in (saved / "tokenizer_config.json").read_text()


def test_a_mistral_with_the_vocabulary_of_llama_3_splits_as_that_does(tmp_path):
    directory = splits(tmp_path / "model", tokenizer_loading.LLAMA3_SPLIT, model_type="mistral")
    from tokenizers import AddedToken, Tokenizer

    backend = Tokenizer.from_file(f"{directory}/tokenizer.json")
    backend.add_special_tokens([AddedToken("<|begin_of_text|>", special=True)])
    backend.save(f"{directory}/tokenizer.json")
    assert split_of(tokenizer.load(directory).backend) == tokenizer_loading.LLAMA3_SPLIT
    loaded = tokenizer_loading.load_tokenizer(TrainConfig(base_model=directory, corpus="c"))
    assert split_of(loaded.backend_tokenizer) == tokenizer_loading.LLAMA3_SPLIT
