"""Load a base model: its class, its weights as the method wants them, and its text part only."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import torch
import transformers
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    BitsAndBytesConfig,
    FineGrainedFP8Config,
    Mxfp4Config,
)

from . import attention_kernels, devices, environment, packages
from .config import TrainConfig
from .errors import TrainingError, first_line

PEFT_TAKES = ("gptq", "awq", "hqq", "aqlm", "eetq", "torchao")  # quantised weights that PEFT puts LoRA around


def context_length(shape) -> int | None:
    """The most tokens that a model reads, by its config; None where it does not say."""
    return getattr(shape.get_text_config(), "max_position_embeddings", None)


def model_config(directory: str | Path):
    """The config of a model in a directory.

    Raises:
        ArchitectureUnknown: of a kind that transformers does not know, or that does not write text.
    """
    model, version = Path(directory).name, transformers.__version__
    try:
        shape = AutoConfig.from_pretrained(directory)
    except ValueError as error:  # a kind that this version of transformers does not know
        values = json.loads((Path(directory) / "config.json").read_text(encoding="utf-8"))
        kind = values.get("model_type") if isinstance(values, dict) else None
        raise TrainingError("ArchitectureUnknown", model=model, kind=kind, version=version) from error
    if auto_class(shape) is None:
        raise TrainingError("ArchitectureUnknown", model=model, kind=shape.model_type, version=version)
    return shape


def auto_class(shape):
    """The class of transformers' that opens a model to write text, or None where there is none.

    Multimodal models that AutoModelForCausalLM does not know (mistral3) are opened as they are published: so their
    adapters fit the published weights.
    """
    if type(shape) in MODEL_FOR_CAUSAL_LM_MAPPING:
        return AutoModelForCausalLM
    text = shape.get_text_config()
    if type(shape) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING and text is not shape and not text.is_encoder_decoder:
        return AutoModelForImageTextToText
    return None


def skeleton(shape):
    """A model without weights, as it is trained: its text part alone."""
    with torch.device("meta"):
        return without_towers(auto_class(shape).from_config(shape))


def towers(base) -> list[str]:
    """The names of the vision and audio towers of a multimodal model, which text does not pass."""
    if base.config.get_text_config() is base.config:
        return []
    inner, text_parts = base.base_model, {id(base.get_decoder()), id(base.get_input_embeddings())}
    prefix = next(name for name, module in base.named_modules() if module is inner)
    apart = [
        name
        for name, part in inner._modules.items()
        if part is None or not text_parts & {id(module) for module in part.modules()}
    ]
    return [f"{prefix}.{name}".lstrip(".") for name in apart]


def without_towers(base):
    """The same model without its vision and audio towers: they are not trained, and take memory."""
    for name in towers(base):
        parent, _, child = name.rpartition(".")
        setattr(base.get_submodule(parent), child, None)
    return base


def quantization(config: TrainConfig, base):
    """How the weights are quantised as they are loaded: NF4 for QLoRA; what is stored in 4 or 8 bit is made 16 bit.

    `base` is the model's skeleton.

    Raises:
        StoredQuantized: for weights that are stored in a way that the method cannot begin with.
    """
    stored = getattr(base.config, "quantization_config", None) or {}
    stored = stored if isinstance(stored, dict) else stored.to_dict()
    kind = str(getattr(stored.get("quant_method"), "value", stored.get("quant_method", "")))
    if kind == "bitsandbytes" and config.method != "full":
        return None  # as they are
    if kind in PEFT_TAKES and config.method == "lora":
        return None  # as they are too: transformers names the package that reads them
    if kind == "mxfp4":
        return Mxfp4Config(dequantize=True)  # these are experts, which QLoRA leaves in 16 bit as well
    if kind == "fp8" and config.method != "qlora":
        return FineGrainedFP8Config(dequantize=True)
    if kind:
        methods = {"fp8": "lora, full", "bitsandbytes": "lora, qlora"} | dict.fromkeys(PEFT_TAKES, "lora")
        methods = methods.get(kind, "none")
        raise TrainingError(
            "StoredQuantized", model=Path(config.base_model).name, kind=kind, method=config.method, methods=methods
        )
    if config.method != "qlora":
        return None
    dtype = devices.DTYPES[devices.precision(config)]
    head = next((name for name, module in base.named_modules() if module is base.get_output_embeddings()), "lm_head")
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        # FSDP shards what has the type of the other weights, and leaves bytes on every card.
        bnb_4bit_quant_storage=dtype if environment.process_count() > 1 else None,
        llm_int8_skip_modules=[*sorted(around), head] if (around := bypassed(base)) else None,
    )


def load_base(config: TrainConfig):
    """The base model on the fastest device of this machine: in 4-bit NF4 for QLoRA, else as it is.

    Of a multimodal model its text part; for method full the whole, since the whole is saved.
    """
    if config.method == "qlora":
        packages.need("bitsandbytes", "QLoRA")
    kind, shape = devices.precision(config), model_config(config.base_model)
    outline = skeleton(shape)
    attends = attention_kernels.attention(kind, outline)
    # fp32 weights, 16-bit arithmetic: bf16 has 8 bits for a number's digits, and a step of 2e-5 is lost in the
    # rounding of any weight above 0.008; fp16 has no gradients that could be unscaled.
    dtype = torch.float32 if config.method == "full" else devices.DTYPES[kind]
    try:
        base = auto_class(shape).from_pretrained(
            config.base_model,
            dtype=dtype,
            quantization_config=quantization(config, outline),
            device_map={"": devices.device()},
            attn_implementation={"": attends, "text_config": attends} if shape.sub_configs else attends,
            use_safetensors=True,
        )
    except TrainingError:
        raise
    except (ImportError, OSError, ValueError) as error:
        raise TrainingError("ModelUnreadable", model=config.base_model, reason=first_line(error) + ".") from error
    base.computes_in = kind
    for module in base.modules():
        # On CPUs with AVX512-BF16, bitsandbytes repacks a layer at its first forward pass in eval mode for a kernel
        # that has no backward: an evaluation before training would silently cut the gradients of all layers below.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return base if config.method == "full" else without_towers(base)


def open_model(directory: str | Path, **more):
    """A model in 16 bit or more on the processor, for replies or for a merge; `more` goes to from_pretrained()."""
    shape = model_config(directory)
    stored = quantization(TrainConfig(base_model=str(directory), corpus="", method="lora"), skeleton(shape))
    more = {"quantization_config": stored, "use_safetensors": True} | more
    return auto_class(shape).from_pretrained(directory, **more)


def autocast(model):
    """The arithmetic in which a model is trained, for whatever else calls it: probes, evaluations, watchers.

    Weights in fp32 (of method full, or embeddings that are trained beside a 16-bit base) need it: kernels of attention
    take 16 bit only, and a product of two types is none.
    """
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(getattr(model, "computes_in", "fp32"))
    return torch.autocast(torch.device(model.device).type, dtype=dtype, enabled=dtype is not None)


def bypassed(base) -> set[str]:
    """The names of layers whose weights a recurrent block hands to its kernel: neither 4 bits nor an adapter reach that."""
    blocks = {type(module) for module in base.modules() if hasattr(module, "conv1d")}
    return {name for block in blocks for name in re.findall(r"self\.(\w+_proj)\.weight\b", inspect.getsource(block))}
