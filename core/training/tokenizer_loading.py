"""Load a tokenizer, with the regex of Mistral's repaired where it is wrong."""

from __future__ import annotations

import json
from pathlib import Path

from .config import TrainConfig
from .errors import TrainingError, first_line

MISTRALS = ("mistral", "mistral3", "voxtral", "ministral", "ministral3", "pixtral")  # model types of Mistral's makers
# How a text is split before its merges: by Llama 3's tokenizer, and by Mistral's Tekken.
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
TEKKEN_SPLIT = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def load_tokenizer(config: TrainConfig):
    """The tokenizer of a model; that of a Mistral with the splitting it was trained with."""
    from transformers import AutoTokenizer  # noqa: PLC0415 - the page opens without transformers

    # Not transformers' own repair: it goes by the version in config.json and by nothing in the tokenizer.
    more = {"fix_mistral_regex": False} if is_mistral(config.base_model) else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(config.base_model, **more)
    except (OSError, ValueError) as error:
        raise TrainingError("ModelUnreadable", model=config.base_model, reason=first_line(error) + ".") from error
    for name in more:  # it would be saved along, and tell others that something is wrong
        tokenizer.init_kwargs.pop(name, None)
    repair_mistral(tokenizer.backend_tokenizer, config.base_model)
    return tokenizer


def is_mistral(directory: str | Path) -> bool:
    """Whether a model directory holds a Mistral, by its config.json."""
    try:
        values = json.loads((Path(directory) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(values, dict) and values.get("model_type") in MISTRALS


def repair_mistral(backend, directory: str | Path) -> None:
    """Give a Mistral's tokenizer the splitting that its vocabulary was made with, where its file has another.

    Before 4.57 transformers wrote these tokenizers with Llama 3's splitting, which takes three digits at a time and
    knows nothing of case: https://github.com/huggingface/transformers/issues/42591. `backend` is of the package
    tokenizers. A tokenizer that belongs to another family, and one that is right, stay as they are.
    """
    from tokenizers import Regex, pre_tokenizers  # noqa: PLC0415 - the page opens without it

    steps = json.loads(backend.to_str())["pre_tokenizer"] or {}
    steps = steps.get("pretokenizers", [steps])
    split = steps[0].get("pattern", {}).get("Regex") if steps[0].get("type") == "Split" else None
    of_llama3 = backend.token_to_id("<|begin_of_text|>") is not None  # some Mistrals were given that vocabulary
    if split != LLAMA3_SPLIT or of_llama3 or not is_mistral(directory):
        return
    right = pre_tokenizers.Split(Regex(TEKKEN_SPLIT), behavior="isolated")
    if len(steps) == 1:
        backend.pre_tokenizer = right
    else:
        backend.pre_tokenizer[0] = right
