"""One GGUF file of a model directory: the settings, the tokenizer and the tensors of the Llama, Mistral and Qwen families.

Each tensor is read, rounded and written before the next one, so memory for the largest one is enough.
"""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import gguf
import numpy as np
from gguf import MODEL_ARCH, GGMLQuantizationType, GGUFWriter
from safetensors import safe_open

from core import errors
from core.export import gguf_tokenizer, quantizer

FAMILIES = {  # model_type: (architecture, whether q and k are interleaved there)
    "llama": (MODEL_ARCH.LLAMA, True),
    "mistral": (MODEL_ARCH.LLAMA, True),
    "qwen2": (MODEL_ARCH.QWEN2, False),
    "qwen3": (MODEL_ARCH.QWEN3, False),
}
ROPE_TYPES = ("default", "linear", "yarn", "llama3")


class Tensor(NamedTuple):
    """A tensor of a model directory and of the GGUF file that is made of it."""

    name: str  # in the directory
    new_name: str  # in the file
    file: Path
    shape: list[int]
    type: GGMLQuantizationType


def check(directory: Path) -> None:
    """Raise GgufFamily or GgufTokenizer for a model that cannot be written."""
    config = _config(directory)
    if config["model_type"] not in FAMILIES:
        raise errors.named("GgufFamily", family=config["model_type"])
    if (kind := _rope(config).get("rope_type", "default")) not in ROPE_TYPES:
        raise errors.named("GgufFamily", family=f"{config['model_type']} (rope {kind})")
    if config.get("attention_bias") and config["model_type"] in ("llama", "mistral", "qwen3"):
        raise errors.named("GgufFamily", family=f"{config['model_type']} (attention_bias)")
    gguf_tokenizer.kind(directory)


def write(
    directory: Path, tokenizer, path: Path, kind: str, report: Callable, importance: dict[str, np.ndarray] | None = None
) -> None:
    """Write a model directory as one file of a kind (quantizer.KINDS); progress is reported by tensors.

    `importance` holds a weight (columns,) for each column of a tensor, by its name in the directory.
    """
    config = _config(directory)
    architecture, _ = FAMILIES[config["model_type"]]
    writer = GGUFWriter(path, gguf.MODEL_ARCH_NAMES[architecture])
    _add_settings(writer, config, kind, path.stem)
    gguf_tokenizer.add(writer, directory, tokenizer, config["vocab_size"])
    tensors = tensors_of(directory, kind)
    counted = Counter(tensor.type.name for tensor in tensors)
    writer.add_string("soulsmith.tensor_types", ", ".join(f"{count} {name}" for name, count in counted.most_common()))
    for tensor in tensors:
        plain = {GGMLQuantizationType.F32: np.float32, GGMLQuantizationType.F16: np.float16}.get(tensor.type, np.uint8)
        shape = tensor.shape if plain != np.uint8 else gguf.quants.quant_shape_to_byte_shape(tensor.shape, tensor.type)
        size = quantizer.stored_bytes(tensor.shape, tensor.type)
        writer.add_tensor_info(tensor.new_name, shape, np.dtype(plain), size, raw_dtype=tensor.type)
    if (factors := _rope_factors(config)) is not None:
        writer.add_tensor_info("rope_freqs.weight", factors.shape, factors.dtype, factors.nbytes)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for done, tensor in enumerate(tensors):
        report("progress", stage="writing", done=done, total=len(tensors))
        weights = (importance or {}).get(tensor.name) if tensor.type.name not in ("F32", "F16") else None
        writer.write_tensor_data(quantizer.quantize(read(tensor.file, tensor.name, config), tensor.type, weights))
    if factors is not None:
        writer.write_tensor_data(factors)
    writer.close()


def tensors_of(directory: Path, kind: str) -> list[Tensor]:
    """The tensors of a model directory as a file of a kind holds them.

    Raises:
        GgufFamily: with the name of a tensor that the family's files do not have.
    """
    config = _config(directory)
    names = gguf.get_tensor_name_map(FAMILIES[config["model_type"]][0], config["num_hidden_layers"])
    tied, found = config.get("tie_word_embeddings", False), []
    for name, file, shape in _stored(directory):
        if tied and name == "lm_head.weight":
            continue
        if (new_name := names.get_name(name, try_suffixes=(".weight", ".bias"))) is None:
            raise errors.named("GgufFamily", family=name)
        kept_as = quantizer.tensor_type(new_name, shape, kind, config["num_hidden_layers"], tied)
        found.append(Tensor(name, new_name, file, shape, kept_as))
    return found


def _add_settings(writer: GGUFWriter, config: dict, kind: str, name: str) -> None:
    heads, size, rope = config["num_attention_heads"], config["hidden_size"], _rope(config)
    head = config.get("head_dim") or size // heads
    writer.add_name(name)
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{kind.upper()}"])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(size)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(_kv_heads(config))
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0))
    if (kind := rope.get("rope_type")) in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(kind))
        writer.add_rope_scaling_factor(float(rope["factor"]))
        if original := rope.get("original_max_position_embeddings"):
            writer.add_rope_scaling_orig_ctx_len(int(original))
    slides = config.get("use_sliding_window", config["model_type"] == "mistral")
    if slides and (window := config.get("sliding_window")):
        writer.add_sliding_window(int(window))


def _rope_factors(config: dict) -> np.ndarray | None:
    """The factors by which Llama 3 stretches the slow frequencies of its rotary embedding."""
    rope = _rope(config)
    if rope.get("rope_type") != "llama3":
        return None
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    base = float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0)
    factor, low, high = float(rope["factor"]), float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
    original = float(rope["original_max_position_embeddings"])
    waves = 2 * np.pi * base ** (np.arange(0, head, 2, dtype=np.float64) / head)
    smooth = np.clip((original / waves - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)


def _config(directory: Path) -> dict:
    return json.loads((directory / "config.json").read_text(encoding="utf-8"))


def _rope(config: dict) -> dict:
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    return {**rope, "rope_type": rope.get("rope_type") or rope.get("type") or "default"}


def _kv_heads(config: dict) -> int:
    return config.get("num_key_value_heads") or config["num_attention_heads"]


def _stored(directory: Path) -> list[tuple[str, Path, list[int]]]:
    """(name, file, shape) of every tensor of a model directory."""
    listed = []
    for file in sorted(directory.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            listed += [(name, file, tensors.get_slice(name).get_shape()) for name in tensors.keys()]  # noqa: SIM118
    return listed


def read(file: Path, name: str, config: dict) -> np.ndarray:
    """A tensor in fp32, q and k in the order of llama.cpp's rotary embedding: pairs side by side, not halves apart."""
    with safe_open(file, "pt") as tensors:
        data = tensors.get_tensor(name).float().numpy()
    if not FAMILIES[config["model_type"]][1] or not name.endswith(("q_proj.weight", "k_proj.weight")):
        return data
    heads = config["num_attention_heads"] if "q_proj" in name else _kv_heads(config)
    half = data.shape[0] // heads // 2
    return data.reshape(heads, 2, half, *data.shape[1:]).swapaxes(1, 2).reshape(data.shape)
