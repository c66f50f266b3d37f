"""Tiny models of the families that people train: random weights, two layers (those that mix kinds of layers: one of each).

Make one: `python -m tests.zoo FAMILY DIR`.
"""

import sys
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
MULTIMODAL = ("gemma3", "gemma4", "mistral3", "qwen3_5_vl")
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


if __name__ == "__main__":
    from tests.tiny_tokenizers import chatml

    print(make(sys.argv[1], sys.argv[2], chatml()))
