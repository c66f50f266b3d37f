"""Tiny tokenizers built on the spot: byte-level and Metaspace BPE with the special tokens of known families."""

import json
from functools import cache
from pathlib import Path

from core import paths

TEXT = [
    "Привет, как дела? Хорошо, спасибо! user assistant system model bot\n\n",
    "Hello, how are you? Fine, thanks. [INST] [/INST] You are a helpful assistant.\n",
    "Кузнец куёт железо, пока горячо. <think>\n\n</think>\n\n",
]
# Of each family: kind of splitting, begin, end, pad, the other special tokens, which token an added text begins with.
FAMILIES = {
    "chatml": ("bytes", None, "<|im_end|>", "<|endoftext|>", ["<|im_start|>", "<|endoftext|>"], False),
    "smollm2": ("bytes", "<|im_start|>", "<|im_end|>", "<|im_end|>", ["<|endoftext|>"], False),
    "llama3": ("bytes", "<|begin_of_text|>", "<|eot_id|>", None, ["<|start_header_id|>", "<|end_header_id|>"], True),
    "mistral": ("spaces", "<s>", "</s>", None, ["<unk>"], True),
    "nemo": ("bytes", "<s>", "</s>", None, ["[INST]", "[/INST]"], True),
    "gemma": ("spaces", "<bos>", "<eos>", "<pad>", ["<start_of_turn>", "<end_of_turn>", "<unk>"], True),
}
TEMPLATES = {
    "qwen2": "chatml", "qwen2.5": "chatml", "qwen3": "chatml", "smollm2": "smollm2", "llama3": "llama3",
    "saiga-llama3": "llama3", "saiga2": "mistral", "mistral-v0.1": "mistral", "mistral-v0.3": "nemo",
    "mistral-nemo": "nemo", "gemma": "gemma", "chatml": "chatml",
}  # fmt: skip


def build(directory: Path, template: str) -> Path:
    """A tokenizer directory of a template's family, with that template."""
    kind, begin, end, pad, others, adds_begin = FAMILIES[TEMPLATES[template]]
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "tokenizer.json").write_text(_backend(kind, begin, end, pad, tuple(others), adds_begin), "utf-8")
    named = {"bos_token": begin, "eos_token": end, "pad_token": pad, "tokenizer_class": "PreTrainedTokenizerFast"}
    named = {key: value for key, value in named.items() if value is not None}
    (directory / "tokenizer_config.json").write_text(json.dumps(named), "utf-8")
    source = paths.assets() / "templates" / f"{template}.jinja"
    (directory / "chat_template.jinja").write_text(source.read_text("utf-8"), "utf-8")
    return directory


@cache
def _backend(kind: str, begin: str | None, end: str, pad: str | None, others: tuple[str, ...], adds_begin: bool) -> str:
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    special = list(dict.fromkeys(token for token in (*others, begin, end, pad) if token))
    if kind == "bytes":
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        backend = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
        special = ["<unk>", *[token for token in special if token != "<unk>"]]
        special += [f"<0x{byte:02X}>" for byte in range(256)]
        alphabet = []
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(TEXT, trainer)
    shown = json.loads(backend.to_str())
    shown["added_tokens"] = [token for token in shown["added_tokens"] if not token["content"].startswith("<0x")]
    backend = Tokenizer.from_str(json.dumps(shown))
    backend.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False)
            for token in special[: len(special)]
            if not token.startswith("<0x")
        ]
    )
    if adds_begin:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", pair=f"{begin} $A {begin} $B", special_tokens=[(begin, backend.token_to_id(begin))]
        )
    return backend.to_str()
