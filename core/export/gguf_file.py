"""One GGUF file of a model directory: the settings, the tokenizer and the tensors of the Llama, Mistral and Qwen families.

Tensors are lazy: each is read and converted as it is written, so memory for the largest one is enough.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import MODEL_ARCH, GGMLQuantizationType, GGUFWriter
from gguf.lazy import LazyNumpyTensor
from safetensors import safe_open

from core.errors import UserError
from core.export import gguf_tokenizer

FAMILIES = {  # model_type: (architecture, whether q and k are interleaved there)
    "llama": (MODEL_ARCH.LLAMA, True),
    "mistral": (MODEL_ARCH.LLAMA, True),
    "qwen2": (MODEL_ARCH.QWEN2, False),
    "qwen3": (MODEL_ARCH.QWEN3, False),
}
ROPE_TYPES = ("default", "linear", "yarn", "llama3")
FILE_TYPES = {"f16": gguf.LlamaFileType.MOSTLY_F16, "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}
BLOCK = 32  # numbers that share a scale in q8_0


class GgufFamily(UserError):
    template = (
        "GGUF files are written here for Llama, Mistral, Qwen 2, 2.5 and 3; this model is {family}. "
        "Export it merged, then run llama.cpp's convert_hf_to_gguf.py on that directory."
    )


def check(directory: Path) -> None:
    """Raise GgufFamily or GgufTokenizer for a model that cannot be written."""
    config = _config(directory)
    if config["model_type"] not in FAMILIES:
        raise GgufFamily(family=config["model_type"])
    if (kind := _rope(config).get("rope_type", "default")) not in ROPE_TYPES:
        raise GgufFamily(family=f"{config['model_type']} (rope {kind})")
    if config.get("attention_bias") and config["model_type"] in ("llama", "mistral", "qwen3"):
        raise GgufFamily(family=f"{config['model_type']} (attention_bias)")
    gguf_tokenizer.kind(directory)


def write(directory: Path, tokenizer, path: Path, kind: str, report: Callable) -> None:
    """Write a model directory as one file of a kind, f16 or q8_0; progress is reported by tensors."""
    config = _config(directory)
    architecture, _ = FAMILIES[config["model_type"]]
    writer = GGUFWriter(path, gguf.MODEL_ARCH_NAMES[architecture])
    _add_settings(writer, config, kind, path.stem)
    gguf_tokenizer.add(writer, directory, tokenizer, config["vocab_size"])
    if (factors := _rope_factors(config)) is not None:
        writer.add_tensor("rope_freqs.weight", factors)
    names = gguf.get_tensor_name_map(architecture, config["num_hidden_layers"])
    tied = config.get("tie_word_embeddings", False)
    tensors = [tensor for tensor in _tensors(directory) if not (tied and tensor[0] == "lm_head.weight")]
    for done, (name, file, shape) in enumerate(tensors):
        new_name = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if new_name is None:
            raise GgufFamily(family=name)
        progress = partial(report, "progress", stage="writing", done=done, total=len(tensors))
        meta = LazyNumpyTensor.meta_with_dtype_and_shape(np.float32, tuple(shape))
        tensor, stored_as = (
            LazyNumpyTensor(meta=meta, args=(file, name, config, progress), func=_read),
            _type(shape, kind),
        )
        writer.add_tensor(new_name, _quantized(tensor, stored_as), raw_dtype=stored_as)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def rounded(model, kind: str):
    """A model with its weights rounded in place as a file of a kind rounds them."""
    with torch.no_grad():
        for weight in model.parameters():
            raw = _type(list(weight.shape), kind)
            if raw != GGMLQuantizationType.F32:
                data = gguf.quants.dequantize(_quantized(weight.numpy(), raw), raw)
                weight.copy_(torch.from_numpy(np.ascontiguousarray(data)))
    return model


def _add_settings(writer: GGUFWriter, config: dict, kind: str, name: str) -> None:
    heads, size, rope = config["num_attention_heads"], config["hidden_size"], _rope(config)
    head = config.get("head_dim") or size // heads
    writer.add_name(name)
    writer.add_file_type(FILE_TYPES[kind])
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


def _tensors(directory: Path) -> list[tuple[str, Path, list[int]]]:
    """(name, file, shape) of every tensor of a model directory."""
    listed = []
    for file in sorted(directory.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            listed += [(name, file, tensors.get_slice(name).get_shape()) for name in tensors.keys()]  # noqa: SIM118
    return listed


def _type(shape: list[int], kind: str) -> GGMLQuantizationType:
    if len(shape) < 2:
        return GGMLQuantizationType.F32
    return GGMLQuantizationType.Q8_0 if kind == "q8_0" and shape[-1] % BLOCK == 0 else GGMLQuantizationType.F16


def _read(file: Path, name: str, config: dict, progress: Callable) -> np.ndarray:
    """A tensor in fp32, q and k in the order of llama.cpp's rotary embedding: pairs side by side, not halves apart."""
    progress()
    with safe_open(file, "pt") as tensors:
        data = tensors.get_tensor(name).float().numpy()
    if not FAMILIES[config["model_type"]][1] or not name.endswith(("q_proj.weight", "k_proj.weight")):
        return data
    heads = config["num_attention_heads"] if "q_proj" in name else _kv_heads(config)
    half = data.shape[0] // heads // 2
    return data.reshape(heads, 2, half, *data.shape[1:]).swapaxes(1, 2).reshape(data.shape)


def _quantized(data, kind: GGMLQuantizationType):
    return gguf.quants.quantize(data, kind)
