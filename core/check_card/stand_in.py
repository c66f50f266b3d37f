"""A tiny Llama with random weights and its tokenizer, for where the starter model cannot be fetched; and rows of text."""

import json
import random
from pathlib import Path

TEXT = (
    "the sea was calm and a lamp burned in window where keeper wrote down wind tide of every ship that passed night "
    "bread stood on table coffee grew cold he counted gulls until fog came up from south light turned slowly again"
)
ROWS = 32
SHAPE = {
    "vocab_size": 300,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
    "initializer_range": 0.1,  # at the usual 0.02 so few numbers hardly tell one token from another
}


def make(folder: str) -> int:
    """Write FOLDER/model and FOLDER/rows.jsonl; an exit code."""
    import torch  # noqa: PLC0415 - the page writes rows without torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: PLC0415 - as above
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast  # noqa: PLC0415 - as above

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=SHAPE["vocab_size"], initial_alphabet=alphabet, special_tokens=["<|end|>"], show_progress=False
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    torch.manual_seed(0)
    target = Path(folder) / "model"
    LlamaForCausalLM(LlamaConfig(**SHAPE)).save_pretrained(target)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>")
    fast.save_pretrained(target)
    write_rows(Path(folder) / "rows.jsonl", 200)
    return 0


def write_rows(path: Path, words: int) -> None:
    """Texts of so many words each, the same at every call."""
    draw = random.Random(1)
    rows = [{"text": " ".join(draw.choices(TEXT.split(), k=words))} for _ in range(ROWS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
