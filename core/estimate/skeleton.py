"""A model of transformers without weights, prepared as core/training prepares it: kernels, 4 bit, adapter."""

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.masking_utils import AttentionMaskInterface
from transformers.modeling_utils import AttentionInterface

from core.estimate import fake_kernels
from core.estimate.setup import Setup

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def text_config(config: dict):
    """The config of the decoder, of transformers' class, whose defaults fill what it leaves out."""
    settings = dict(config)
    return AutoConfig.for_model(settings.pop("model_type"), **settings).get_text_config()


def build(known, setup: Setup) -> nn.Module:
    """The model of a text_config() as it would be trained: attention kernel, 4-bit layers, adapter."""
    for name, function in (("fused_shape", fake_kernels.flash), ("efficient_shape", fake_kernels.memory_efficient)):
        AttentionInterface.register(name, function)
        AttentionMaskInterface.register(name, lambda *_, **__: None)
    kernel = "efficient_shape" if setup.memory_efficient else "fused_shape"
    dtype = DTYPES["fp32"] if setup.weight_width == 4 else DTYPES[setup.precision]
    capped = getattr(known, "attn_logit_softcapping", None)  # no fused kernel of torch caps scores
    attention = "eager" if setup.attention == "eager" or capped else kernel
    model = AutoModelForCausalLM.from_config(known, dtype=dtype, attn_implementation=attention)
    model.config.use_cache = False
    if setup.method == "qlora":
        _pack(model, setup)
    if setup.adapts:
        return _adapt(model, setup)
    return model


def _pack(model: nn.Module, setup: Setup) -> None:
    head = model.get_output_embeddings()
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear) and child is not head:
                setattr(module, name, fake_kernels.linear_4bit(child, setup.double_quant, DTYPES[setup.precision]))
    model.is_loaded_in_4bit = model.is_quantized = True


def _adapt(model: nn.Module, setup: Setup) -> nn.Module:
    model.requires_grad_(False)
    if setup.kbit_prepare:
        _recast(model, lambda p: p.dtype in (torch.float16, torch.bfloat16), torch.float32)
    names, whole = setup.target_modules, _vocabulary_layers(model) if setup.saves else []
    if names == "all-linear":  # which peft takes to mean the experts of a mixture too, and refuses dropout there
        head = model.get_output_embeddings()
        linear = [name for name, part in model.named_modules() if isinstance(part, nn.Linear) and part is not head]
        names = ",".join(dict.fromkeys(name.rpartition(".")[2] for name in linear))
    lora = LoraConfig(
        r=setup.lora_rank,
        lora_dropout=setup.lora_dropout,
        target_modules=names.split(","),
        modules_to_save=whole or None,
        ensure_weight_tying=len(whole) == 1,
        task_type="CAUSAL_LM",
    )
    # Fake tensors can neither be moved in place nor copied with their storage; their dtype is set afterwards.
    to, copy = nn.Module.to, torch.Tensor.__deepcopy__
    nn.Module.to, torch.Tensor.__deepcopy__ = lambda self, *_, **__: self, _fresh
    try:
        model = get_peft_model(model, lora, autocast_adapter_dtype=False)
    finally:
        nn.Module.to, torch.Tensor.__deepcopy__ = to, copy
    width = torch.float32 if setup.adapter_width == 4 else DTYPES[setup.precision]
    _recast(model, lambda p: p.requires_grad and p.dtype != width, width, only="lora_")
    saved = torch.float32 if setup.saved_width == 4 else DTYPES[setup.precision]
    _recast(model, lambda p: p.requires_grad and p.dtype != saved, saved, only=".modules_to_save.")
    return model


def _fresh(weight: torch.Tensor, _memo: dict) -> nn.Parameter:
    return nn.Parameter(torch.empty_like(weight), requires_grad=weight.requires_grad)


def _vocabulary_layers(model: nn.Module) -> list[str]:
    """The names of embedding and head, as core/training gives them to peft; of tied ones that of the embedding."""
    names = {id(module): name.rpartition(".")[2] for name, module in model.named_modules()}
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    return [names[id(module)] for module in ((embedding,) if head.weight is embedding.weight else (embedding, head))]


def _recast(model: nn.Module, chosen, dtype: torch.dtype, only: str = "") -> None:
    done: dict[int, tuple] = {}
    for path, module in model.named_modules():
        if only and only not in path:
            continue
        for name, weight in list(module._parameters.items()):
            if weight is not None and chosen(weight):
                fresh = nn.Parameter(torch.empty(weight.shape, dtype=dtype), requires_grad=weight.requires_grad)
                module._parameters[name] = done.setdefault(id(weight), (weight, fresh))[1]
