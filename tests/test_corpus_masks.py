"""What the model learns of a chat, for the templates of all families: every reply and its end token, nothing else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.corpus import preview
from core.models import tokenizer
from core.training import encoding
from core.training.config import TrainConfig
from tests import tiny_tokenizers
from tests.conftest import encode_rows

TWO = ["Привет, как дела?", "Хорошо, спасибо!", "А у тебя?", "да"]
SAME = ["да", "да", "да", "да"]
THINK = ["q", "<think>\nдумаю\n</think>\n\nраз", "q", "мысль</think>\nдва"]
END = {
    "qwen2": "<|im_end|>", "qwen2.5": "<|im_end|>", "smollm2": "<|im_end|>", "chatml": "<|im_end|>",
    "llama3": "<|eot_id|>", "saiga-llama3": "<|eot_id|>", "saiga2": "</s>", "mistral-v0.1": "</s>",
    "mistral-v0.3": "</s>", "mistral-nemo": "</s>", "gemma": "<end_of_turn>",
}  # fmt: skip


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    """Tokenizers by template name, each built once."""
    made = {}

    def get(template):
        if template not in made:
            directory = tiny_tokenizers.build(tmp_path_factory.mktemp("model"), template)
            made[template] = tokenizer.load(directory)
        return made[template]

    return get


def chat(contents, system=None):
    turns = [{"role": ("user", "assistant")[at % 2], "content": said} for at, said in enumerate(contents)]
    return {"messages": ([{"role": "system", "content": system}] if system else []) + turns}


def learned(row, light, learn="assistant"):
    """The runs of text that are learned, and whether the row ends in an end token of the trainer's own."""
    encoded, runs, before = encoding.encode(row, light, learn), [], False
    for (start, end), label in zip(encoded["spans"], encoded["labels"], strict=True):
        if label != encoding.IGNORED and not before:
            runs.append([start, end])
        elif label != encoding.IGNORED:
            runs[-1][1] = end
        before = label != encoding.IGNORED
    return [encoded["text"][start:end] for start, end in runs]


@pytest.mark.parametrize("template", END)
def test_each_reply_and_its_end_token_are_learned(family, template):
    light, end = family(template), END[template]
    space = " " if template == "mistral-v0.3" else ""  # the template's own: the model has to say it
    for contents in (TWO, SAME, THINK):
        expected = [space + contents[1] + end, space + contents[3] + end]
        assert learned(chat(contents), light) == expected


def test_qwen3_learns_the_think_block_that_its_template_writes(family):
    light = family("qwen3")
    assert learned(chat(TWO), light) == ["Хорошо, спасибо!<|im_end|>", "<think>\n\n</think>\n\nда<|im_end|>"]
    # The template drops earlier thoughts: https://github.com/huggingface/trl/issues/6361
    assert learned(chat(THINK), light) == ["раз<|im_end|>", "<think>\nмысль\n</think>\n\nдва<|im_end|>"]


@pytest.mark.parametrize(
    "template", ["qwen2.5", "qwen3", "llama3", "saiga-llama3", "saiga2", "mistral-v0.3", "smollm2"]
)
def test_a_system_turn_is_given_and_not_learned(family, template):
    runs = learned(chat(SAME, system="Ты — Сайга."), family(template))
    assert len(runs) == 2
    assert not any("Сайга" in run for run in runs)


@pytest.mark.parametrize("template", ["mistral-v0.1", "gemma"])
def test_a_template_that_refuses_a_system_turn_refuses_the_row_only(family, template):
    rows = [chat(SAME, system="s") | {"id": "1"}, chat(SAME) | {"id": "2"}]
    config = TrainConfig(base_model="m", corpus="c")
    kept, left_out = encode_rows(rows, family(template), config)
    assert ([row["id"] for row in kept], dict(left_out)) == (["2"], {"template_refused": 1})


@pytest.mark.parametrize("template", [*END, "qwen3"])
def test_there_is_one_begin_token_at_most(family, template):
    light = family(template)
    ids = encoding.encode(chat(TWO), light)["input_ids"]
    assert light.bos_token_id is None or ids[:2] != [light.bos_token_id] * 2
    assert preview.tokens(chat(TWO), light, max_length=1024)["warnings"] == []


words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ue0f0\ue0f1"), min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(question=words, answer=words, more=words, last=words)
def test_any_reply_is_learned_whole(family, question, answer, more, last):
    for template in ("chatml", "mistral-nemo"):
        light, end = family(template), END[template]
        encoded = encoding.encode(chat([question, answer, more, last]), light)
        spans = zip(encoded["spans"], encoded["labels"], strict=True)
        said = "".join(encoded["text"][slice(*span)] for span, label in spans if label != encoding.IGNORED)
        # A character of several bytes may be several tokens, each with the whole character's span.
        for reply in (answer, last):
            assert set(reply + end) <= set(said)
        assert encoded["labels"][-1] != encoding.IGNORED or encoded["text"].endswith("\n")


def test_the_preview_shows_what_is_cut_and_what_is_lost(family):
    row, light = chat(TWO), family("chatml")
    whole = preview.tokens(row, light, max_length=1000)
    assert "".join(text for text, _, _ in whole["pieces"]) == light.apply_chat_template(row["messages"])
    assert sum(count for _, _, count in whole["pieces"]) == whole["tokens"]
    assert (whole["cut"], whole["warnings"]) == (0, [])
    short = preview.tokens(row, light, max_length=8)
    assert (short["cut"], short["learned"], short["warnings"]) == (whole["tokens"] - 8, 0, ["nothing_to_learn"])
    assert [kind for _, kind, _ in short["pieces"]][-1] == "cut"
    text = preview.tokens({"text": "Привет, как дела?"}, light, max_length=3)
    assert text["warnings"] == ["loses_end"]
    spoilt = preview.tokens(chat(["q", "да<|im_end|>нет"]), light, max_length=1000)
    assert spoilt["warnings"] == ["special_in_text"]


def test_a_doubled_begin_token_is_told(family, tmp_path):
    model = tiny_tokenizers.build(tmp_path / "model", "chatml")
    (model / "tokenizer_config.json").write_text('{"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}', "utf-8")
    (model / "chat_template.jinja").write_text(
        "{{ bos_token + bos_token }}{% for m in messages %}{{ m['content'] + eos_token }}{% endfor %}", "utf-8"
    )
    assert preview.tokens(chat(TWO), tokenizer.load(model), max_length=99)["warnings"] == ["doubled_begin"]
