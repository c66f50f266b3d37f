"""Which tokens of a row are learned, where templates and tokenizers are unusual; rows that have nothing to learn."""

import copy
from types import SimpleNamespace

import pytest
from tokenizers import processors

from core.training import encoding
from core.training.config import TrainConfig
from core.training.encoding import IGNORED
from tests.conftest import encode_rows

TURN = [{"role": "user", "content": "sea?"}, {"role": "assistant", "content": "gull lamp"}]
END = 2  # <|im_end|>
CONFIG = TrainConfig(base_model="m", corpus="c", method="lora", max_length=64)


@pytest.fixture
def tokenizer(tiny_tokenizer):
    """A tokenizer that a test may change."""
    return copy.deepcopy(tiny_tokenizer)


@pytest.fixture
def framing(tokenizer):
    """A tokenizer that begins every added text with token 0 and ends it with the end token."""
    frame = processors.TemplateProcessing(
        single="<|endoftext|> $A <|im_end|>", special_tokens=[("<|endoftext|>", 0), ("<|im_end|>", END)]
    )
    tokenizer.backend_tokenizer.post_processor = frame
    return tokenizer


def learned_text(row, tokenizer) -> str:
    return tokenizer.decode([id for id in encoding.encode(row, tokenizer)["labels"] if id != IGNORED])


def test_of_a_text_the_begin_token_is_learned_too(framing):
    encoded = encoding.encode({"text": "sea lamp"}, framing)
    words = framing("sea lamp", add_special_tokens=False)["input_ids"]
    assert (encoded["input_ids"], encoded["labels"]) == ([0, *words, END], [0, *words, END])


def test_a_chat_gets_no_special_tokens_but_those_of_its_template(framing, tiny_tokenizer):
    assert encoding.encode({"messages": TURN}, framing) == encoding.encode({"messages": TURN}, tiny_tokenizer)
    assert encoding.prompt_ids(TURN[:1], framing) == encoding.prompt_ids(TURN[:1], tiny_tokenizer)


def test_a_prompt_ends_with_what_the_template_writes_to_ask_for_a_reply(tiny_tokenizer):
    asked = tiny_tokenizer.decode(encoding.prompt_ids(TURN[:1], tiny_tokenizer))
    assert asked == "<|im_start|>user\nsea?<|im_end|>\n<|im_start|>assistant\n"


def test_a_prompt_without_a_template_does_not_end_with_the_end_token(framing):
    framing.chat_template = None
    words = framing("sea?", add_special_tokens=False)["input_ids"]
    assert encoding.prompt_ids(TURN[:1], framing) == [0, *words]


def test_a_reply_that_quotes_the_prompt_does_not_let_the_next_question_be_learned(tokenizer):
    """The template asks for a reply with other words than it writes before one, so they are found in the quotation only."""
    tokenizer.chat_template = (
        "{% for m in messages %}{{ 'Bot' if m['role'] == 'assistant' else 'You' }}:{{ m['content'] }}<|im_end|>"
        "{% endfor %}{% if add_generation_prompt %}Say:{% endif %}"
    )
    quoting = [TURN[0], {"role": "assistant", "content": "Say: gull"}, *TURN]
    assert learned_text({"messages": quoting}, tokenizer) == "Say: gull<|im_end|>gull lamp<|im_end|>"


def test_words_that_the_template_puts_before_each_reply_are_learned_where_the_model_says_them(tokenizer):
    """A thought is left open by the prompt, and closed by the model."""
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m['role'] }}]{% if m['role'] == 'assistant' %}<t></t>{% endif %}{{ m['content'] }}"
        "<|im_end|>{% endfor %}{% if add_generation_prompt %}[assistant]<t>{% endif %}"
    )
    assert learned_text({"messages": [*TURN, *TURN]}, tokenizer) == "</t>gull lamp<|im_end|>" * 2


def test_a_row_whose_only_learned_token_is_its_first_has_nothing_to_learn(tiny_tokenizer):
    """Nothing stands before that token to predict it from."""
    assert encode_rows([{"id": "a", "text": ""}], tiny_tokenizer, CONFIG) == ([], {"nothing_to_learn": 1})


def stops(tokenizer, configured) -> list[int]:
    base = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=configured))
    return encoding.stop_ids(base, tokenizer)


def test_a_reply_may_end_as_the_model_the_tokenizer_or_the_template_has_it(tokenizer):
    """Texts of a base of Qwen end with <|endoftext|>, the replies of its chat template with <|im_end|>: QwenLM/Qwen3#927."""
    tokenizer.eos_token = "<|endoftext|>"
    assert stops(tokenizer, 5) == [0, END, 5]
    assert stops(tokenizer, [5, 6]) == [0, END, 5, 6]
    assert stops(tokenizer, None) == [0, END]
    tokenizer.chat_template = None
    assert stops(tokenizer, None) == [0]


REFUSES_WITHOUT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}{{ raise_exception('a system message comes first') }}{% endif %}"
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}<|im_end|>{% endfor %}"
)


def test_a_template_that_refuses_a_chat_without_a_system_message_still_tells_its_end_token(tokenizer):
    """Training, chat, samples at evaluations, synthesis and GGUF files all ask this one function."""
    tokenizer.eos_token, tokenizer.chat_template = "<|endoftext|>", REFUSES_WITHOUT_SYSTEM
    assert encoding.turn_end_id(tokenizer) == END
    assert stops(tokenizer, None) == [0, END]


def test_a_template_that_refuses_every_chat_leaves_the_other_stop_tokens(tokenizer):
    tokenizer.eos_token, tokenizer.chat_template = "<|endoftext|>", "{{ raise_exception('no') }}"
    assert encoding.turn_end_id(tokenizer) is None
    assert stops(tokenizer, 5) == [0, 5]


def test_a_word_of_the_reply_never_ends_replies(tokenizer):
    """Of a template without end tokens, and a tokenizer without an end token, the last token learned is a word."""
    tokenizer.eos_token, tokenizer.chat_template = None, "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
    assert encoding.turn_end_id(tokenizer) is None


def test_a_template_that_takes_all_memory_is_no_template_that_refuses_the_roles():
    def write(*_, **__):
        raise MemoryError

    with pytest.raises(MemoryError):
        encoding.apply_template(SimpleNamespace(apply_chat_template=write), [{"role": "user", "content": "a"}])
