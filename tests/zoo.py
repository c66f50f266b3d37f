"""Tiny models of the families that people train, and what each of them can do: the table of the README.

Random weights, two layers; those that mix kinds of layers have one of each. `python -m tests.zoo` prints the table.
"""

from pathlib import Path

DENSE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 1024,
    "initializer_range": 0.15,  # at the usual 0.02 no hidden state of 64 numbers could tell one token from another
}
MOE = DENSE | {"moe_intermediate_size": 64, "num_experts": 4, "num_experts_per_tok": 2, "decoder_sparse_step": 1}
LINEAR = {  # Qwen's gated linear attention beside full attention
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_conv_kernel_dim": 4,
}
WINDOW = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 8}
SIGLIP = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
TITLES = {
    "llama": "Llama",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "qwen3_5": "Qwen3.5, text",
    "qwen3_5_vl": "Qwen3.5",
    "qwen2_moe": "Qwen2-MoE",
    "qwen3_moe": "Qwen3-MoE",
    "qwen3_next": "Qwen3-Next",
    "mistral": "Mistral",
    "ministral3": "Ministral 3, text",
    "mistral3": "Ministral 3, Mistral Small 3 (mistral3)",
    "mixtral": "Mixtral",
    "gemma": "Gemma",
    "gemma2": "Gemma 2",
    "gemma3_text": "Gemma 3, text",
    "gemma3": "Gemma 3",
    "gemma4_text": "Gemma 4, text",
    "gemma4": "Gemma 4",
    "phi3": "Phi-3",
    "gpt_neox": "GPT-NeoX",
    "gpt2": "GPT-2",
    "glm4": "GLM-4",
    "exaone4": "EXAONE 4",
    "lfm2": "LFM2",
    "granite": "Granite",
    "olmo2": "OLMo 2",
    "gpt_oss": "gpt-oss",
    "deepseek_v3": "DeepSeek-V3",
    "mamba": "Mamba",
    "falcon_h1": "Falcon-H1",
}
REFUSES_PACKING = ("qwen3_5", "qwen3_5_vl", "qwen3_next", "lfm2", "gpt_oss", "mamba", "falcon_h1")
SEES = "the text model is trained; adapters fit the published model"
EXPERTS = "adapters around the experts too, none on the router; QLoRA leaves the experts in 16 bit"
SHARED = f"{EXPERTS}; shared experts have no adapter"
NOTES = {
    "qwen3_5_vl": "transformers opens the text model alone",
    "qwen2_moe": SHARED,
    "qwen3_moe": EXPERTS,
    "qwen3_next": SHARED,
    "mistral3": SEES,
    "mixtral": EXPERTS,
    "gemma2": "eager attention where FlashAttention 2 is not",
    "gemma3": f"{SEES}; no FlashAttention 2",
    "gemma4": f"{SEES}; no FlashAttention 2",
    "gpt_oss": f"{EXPERTS}; eager attention; MXFP4 is read as 16 bit",
    "deepseek_v3": SHARED,
    "mamba": "adapters on in_proj, as its kernel goes around the others",
    "falcon_h1": "no adapter on out_proj of its Mamba blocks",
}
FAMILIES: dict[str, tuple[str, dict]] = {  # family: (model_type, settings)
    "llama": ("llama", DENSE),
    "qwen2": ("qwen2", DENSE | {"tie_word_embeddings": True}),
    "qwen3": ("qwen3", DENSE),
    "qwen3_5": ("qwen3_5_text", DENSE | LINEAR),
    "qwen3_5_vl": ("qwen3_5", {"text_config": DENSE | LINEAR}),
    "qwen2_moe": ("qwen2_moe", MOE | {"shared_expert_intermediate_size": 64}),
    "qwen3_moe": ("qwen3_moe", MOE),
    "qwen3_next": ("qwen3_next", MOE | LINEAR | {"shared_expert_intermediate_size": 64}),
    "mistral": ("mistral", DENSE | {"sliding_window": 8}),
    "ministral3": ("ministral3", DENSE),
    "mistral3": ("mistral3", {"text_config": DENSE | {"model_type": "ministral3"}}),
    "mixtral": ("mixtral", DENSE | {"num_local_experts": 4}),
    "gemma": ("gemma", DENSE),
    "gemma2": ("gemma2", DENSE | WINDOW | {"query_pre_attn_scalar": 16}),
    "gemma3_text": ("gemma3_text", DENSE | WINDOW | {"query_pre_attn_scalar": 16}),
    "gemma3": ("gemma3", {"text_config": DENSE | WINDOW | {"query_pre_attn_scalar": 16}}),
    "gemma4_text": ("gemma4_text", DENSE | WINDOW),
    "gemma4": ("gemma4", {"text_config": DENSE | WINDOW}),
    "phi3": ("phi3", DENSE | {"tie_word_embeddings": True}),
    "gpt_neox": ("gpt_neox", DENSE),
    "gpt2": ("gpt2", {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 1024, "initializer_range": 0.15}),
    "glm4": ("glm4", DENSE),
    "exaone4": ("exaone4", DENSE | WINDOW | {"sliding_window_pattern": "LG"}),
    "lfm2": ("lfm2", DENSE | {"layer_types": ["conv", "full_attention"], "block_multiple_of": 8}),
    "granite": (
        "granite",
        DENSE | {"logits_scaling": 8.0, "embedding_multiplier": 2.0, "residual_multiplier": 0.5},
    ),
    "olmo2": ("olmo2", DENSE),
    "gpt_oss": ("gpt_oss", DENSE | WINDOW | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "deepseek_v3": (
        "deepseek_v3",
        DENSE
        | {"num_key_value_heads": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1}
        | {"moe_intermediate_size": 64, "first_k_dense_replace": 1, "q_lora_rank": 32, "kv_lora_rank": 32}
        | {"qk_rope_head_dim": 16, "qk_nope_head_dim": 16, "v_head_dim": 16, "n_shared_experts": 1},
    ),
    "mamba": ("mamba", {"hidden_size": 64, "num_hidden_layers": 2, "state_size": 8, "initializer_range": 0.15}),
    "falcon_h1": (
        "falcon_h1",
        DENSE | {"mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1},
    ),
}
VISION = {
    "gemma3": SIGLIP | {"model_type": "siglip_vision_model"},
    "mistral3": SIGLIP | {"model_type": "pixtral", "head_dim": 16},
    "qwen3_5_vl": {"depth": 1, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64},
    "gemma4": SIGLIP | {"head_dim": 16, "num_key_value_heads": 2, "position_embedding_size": 16},
}


def make(family: str, path: str | Path, tokenizer) -> str:
    """Write a tiny model of a family with this tokenizer into a directory, and return it."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    model_type, settings = FAMILIES[family]
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    known = {"vocab_size": len(tokenizer), **ids}
    if family in VISION:
        text = settings["text_config"] | known
        settings = {"text_config": text, "vision_config": VISION[family], **ids}
        settings |= {"image_token_id": 5, "image_token_index": 5, "boi_token_id": 6, "eoi_token_id": 7}
        if family == "gemma3":
            settings["mm_tokens_per_image"] = 4
        if family == "gemma4":
            audio = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "output_proj_dims": 32}
            settings["audio_config"] = audio | {"subsampling_conv_channels": [8, 8]}
    else:
        settings = settings | known
    if family in ("gemma4_text", "gemma4"):
        text = settings.get("text_config", settings)
        text |= {"hidden_size_per_layer_input": 16, "vocab_size_per_layer_input": len(tokenizer)}
        text |= {"num_kv_shared_layers": 0, "global_head_dim": 16}
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **settings)
    loader = AutoModelForImageTextToText if family in VISION else AutoModelForCausalLM
    model = loader.from_config(config, dtype=torch.float32)
    for (
        name,
        weight,
    ) in model.named_parameters():  # gates and sinks begin as zeros or ones: nothing would depend on them
        if name.endswith((".sinks", ".A_log", "lora_B")):
            torch.nn.init.normal_(weight, std=0.1)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)


def can(family: str) -> dict[str, str]:
    """What the tests hold a family to: yes or refused, for each method and for packing."""
    methods = dict.fromkeys(("lora", "qlora", "full"), "yes")
    return methods | {"packing": "refused" if family in REFUSES_PACKING else "yes"}


def table() -> str:
    """The families as a table in Markdown."""
    lines = ["| family | lora | qlora | full | packing | note |", "| --- | --- | --- | --- | --- | --- |"]
    for family, title in TITLES.items():
        lines.append(f"| {' | '.join([title, *can(family).values(), NOTES.get(family, '')])} |".replace("|  |", "| |"))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
