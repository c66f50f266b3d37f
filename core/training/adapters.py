"""Put an adapter on a base: target layers, experts, dropout, embeddings."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import torch
from transformers.pytorch_utils import Conv1D

from . import model_loading, packages
from .config import TrainConfig
from .errors import TrainingError, first_line

ROUTERS = ("gate", "router", "shared_expert_gate")  # linear layers that choose experts, by the last part of the name
MAMBAS = ("falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h")  # for which PEFT refuses out_proj


def add_adapter(base, config: TrainConfig):
    """The base with a fresh LoRA adapter around it, in fp32 whatever the base is in; for method full, the base itself.

    Raises:
        LayersUnknown, ExpertsTakePlainLora, AdapterRefused.
    """
    if config.method == "full":
        return freeze_towers(base)
    packages.before_peft()
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415 - it imports bitsandbytes

    name, names = Path(config.base_model).name, config.target_modules.strip()
    whole = vocabulary_layers(base) if config.train_embeddings else []
    experts, apart = expert_parameters(base), model_loading.towers(base)
    modules, parameters = adapter_targets(base, names)
    if parameters:
        check_experts(config, name)
    lora = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=0.0 if experts else config.lora_dropout,
        target_modules=modules,
        target_parameters=parameters or None,
        exclude_modules=rf"({'|'.join(map(re.escape, apart))})(\..*)?" if apart else None,
        use_rslora=config.use_rslora,
        use_dora=config.use_dora,
        init_lora_weights=config.init_lora_weights if config.init_lora_weights != "default" else True,
        modules_to_save=whole or None,
        ensure_weight_tying=len(whole) == 1,  # one matrix in two places stays one
        task_type="CAUSAL_LM",
    )
    try:
        with warnings.catch_warnings():  # towers that are excluded may have been left out already
            warnings.filterwarnings("ignore", message="You have passed exclude_modules")
            model = get_peft_model(base, lora)
    except ValueError as error:
        if "not found in the base model" in str(error) or "No modules were targeted" in str(error):
            raise TrainingError("LayersUnknown", names=names or '""', model=name) from error
        raise TrainingError("AdapterRefused", model=name, reason=first_line(error) + ".") from error
    if experts:
        add_dropout(model, config.lora_dropout)
    for weight_name, weight in model.named_parameters():  # its steps would be lost in the rounding of bf16
        if weight.requires_grad and ".modules_to_save." in weight_name:
            weight.data = weight.data.to(torch.float32)
    return model


def adapter_targets(base, names: str) -> tuple[str | list[str], list[str]]:
    """The modules and the bare parameters that adapters go around; all-linear means all of the text model but its head.

    Besides the linear layers, mixtures of experts keep theirs in one tensor a layer. A router is left as it is: moved
    a little, it sends a token to other experts than those that learned from it. Left out as well are layers whose
    weights bypass forward() (in Mamba), and those that PEFT takes for experts by their name (shared experts).
    """
    if names != "all-linear":
        return [name.strip() for name in names.split(",")], []
    parameters, kind = expert_parameters(base), base.config.model_type
    left_out = model_loading.bypassed(base) | ({"out_proj"} if kind in MAMBAS else set())
    if parameters:
        left_out |= {*ROUTERS, *_experts_of_peft(kind)}
    if not left_out:
        return names, []
    head = base.get_output_embeddings()
    modules = [
        name
        for name, module in base.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and module is not head
        if name.rsplit(".", 1)[-1] not in left_out and not (parameters and "router" in name.split("."))
    ]
    return modules, parameters


def expert_parameters(base) -> list[str]:
    """The ends of the names of tensors that hold a matrix an expert (E, X, Y); none in a model without such."""
    text, names = base.config.get_text_config(), []
    counts = {getattr(text, name, None) for name in ("num_experts", "num_local_experts", "n_routed_experts")} - {None}
    for name, module in base.named_modules():
        for leaf, weight in module.named_parameters(recurse=False):
            if weight.ndim != 3 or isinstance(module, torch.nn.modules.conv._ConvNd):
                continue
            if "experts" in name.split(".") or weight.shape[0] in counts:
                names.append(f"{name.rsplit('.', 1)[-1]}.{leaf}")
    return list(dict.fromkeys(names))


def _experts_of_peft(kind: str) -> set[str]:
    """The names of layers that PEFT, converting adapters made with transformers 4, takes for experts."""
    try:
        from peft.utils import transformers_weight_conversion as conversion  # noqa: PLC0415 - PEFT's own affair

        pattern = conversion._MODEL_TO_CONVERSION_PATTERN.get(kind)
        return set(conversion._MOE_TARGET_MODULE_MAPPING.get(pattern, {}))
    except (ImportError, AttributeError):  # they are PEFT's own affair
        return set()


def check_experts(config: TrainConfig, model: str) -> None:
    """Refuse what adapters around experts cannot do."""
    names = "q_proj,k_proj,v_proj,o_proj"
    if config.use_dora:
        raise TrainingError(
            "ExpertsTakePlainLora", model=model, field="use_dora", value="on", suggestion="off", names=names
        )
    if config.init_lora_weights.startswith("pissa"):
        value = config.init_lora_weights
        raise TrainingError(
            "ExpertsTakePlainLora",
            model=model,
            field="init_lora_weights",
            value=value,
            suggestion="default",
            names=names,
        )


def add_dropout(model, share: float) -> None:
    """Dropout in front of the adapters that take it: around experts there is none, and PEFT refuses a config with both.

    An adapter is saved with lora_dropout 0 where it is around experts, or it would not open again.
    """
    from peft.tuners.lora import LoraLayer  # noqa: PLC0415 - it imports bitsandbytes

    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    takes = [layer for layer in layers if not hasattr(layer, "parameter_name")]
    for layer in takes if share else ():
        layer.lora_dropout["default"] = torch.nn.Dropout(share)
    if len(takes) == len(layers):
        model.peft_config["default"].lora_dropout = share


def freeze_towers(base):
    """The same model, whose vision and audio towers are not trained."""
    for name in model_loading.towers(base):
        parent, _, child = name.rpartition(".")
        if part := getattr(base.get_submodule(parent), child):
            part.requires_grad_(False)
    return base


def vocabulary_layers(base) -> list[str]:
    """The names of a model's embeddings and head; of one that ties them, of the embeddings alone."""
    names = {id(module): name.rsplit(".", 1)[-1] for name, module in base.named_modules()}
    embeddings, head = base.get_input_embeddings(), base.get_output_embeddings()
    tied = head.weight is embeddings.weight
    return [names[id(embeddings)]] if tied else [names[id(embeddings)], names[id(head)]]
