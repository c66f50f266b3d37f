"""The shape of a decoder language model, read from its config: all that memory and time depend on."""

import math
from dataclasses import dataclass

from core.estimate.troubles import IncompleteConfig, NeedsTrace, UnknownArchitecture

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
GATED = ("gate_proj", "up_proj", "down_proj")

# Families by model_type: what their modules do differently from Llama's.
FAMILIES = {
    "llama": {},
    "mistral": {},
    "ministral": {},
    "ministral3": {},
    "smollm3": {},
    "qwen": {"qkv_bias": True},
    "qwen2": {"qkv_bias": True},
    "qwen3": {"qk_norm": True},
    "qwen3_moe": {"qk_norm": True},
    "qwen2_moe": {"qkv_bias": True},
    "mixtral": {},
    "phi3": {"fused": True},
    "gemma": {"gemma": True, "scales_embedding": True},
    "gemma2": {"gemma": True, "scales_embedding": True, "sandwich": True},
    "gemma3_text": {"gemma": True, "scales_embedding": True, "sandwich": True, "qk_norm": True},
    "gpt2": {"layer_norm": True, "gated": False, "biased": True},
    "phi": {"layer_norm": True, "gated": False, "biased": True, "one_norm": True},
}
HYBRID = ("qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_next", "jamba", "mamba", "mamba2", "lfm2", "bamba")


@dataclass(frozen=True)
class ModelShape:
    """Sizes of one model; `kind` is the model_type of transformers."""

    name: str
    kind: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    vocabulary: int
    tied: bool
    longest: int = 0  # positions it was trained for; 0: not known
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    fused: bool = False
    gemma: bool = False
    sandwich: bool = False
    scales_embedding: bool = False
    layer_norm: bool = False
    one_norm: bool = False
    gated: bool = True
    softcap: bool = False
    attention_softcap: bool = False
    sliding_window: int = 0
    experts: int = 0
    experts_used: int = 0
    expert_inner: int = 0
    shared_inner: int = 0
    dense_layers: int = 0  # of a mixture of experts: layers that have an ordinary MLP

    @property
    def q(self) -> int:
        return self.heads * self.head_dim

    @property
    def kv(self) -> int:
        return self.kv_heads * self.head_dim

    def attention_linears(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of the attention's linear layers."""
        if self.fused:
            return {"qkv_proj": (self.hidden, self.q + 2 * self.kv), "o_proj": (self.q, self.hidden)}
        h, q, kv = self.hidden, self.q, self.kv
        return {"q_proj": (h, q), "k_proj": (h, kv), "v_proj": (h, kv), "o_proj": (q, h)}

    def mlp_linears(self, inner: int | None = None) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of an MLP's linear layers."""
        inner = inner or self.inner
        if self.fused:
            return {"gate_up_proj": (self.hidden, 2 * inner), "down_proj": (inner, self.hidden)}
        names = GATED if self.gated else GATED[1:]
        return {n: (inner, self.hidden) if n == "down_proj" else (self.hidden, inner) for n in names}

    def linears(self) -> dict[str, tuple[int, int]]:
        """All linear layers of one decoder layer that an adapter or 4-bit storage can take."""
        found = self.attention_linears()
        if not self.experts:
            return found | self.mlp_linears()
        return found | (self.mlp_linears(self.shared_inner) if self.shared_inner else {})

    @property
    def linear_parameters(self) -> int:
        """Weights of the linear layers in all decoder layers, experts left out."""
        return self.layers * sum(a * b for a, b in self.linears().values())

    @property
    def expert_parameters(self) -> int:
        """Weights of all experts and their routers: one fused parameter in transformers 5, never in 4 bit."""
        if not self.experts:
            return 0
        one = self.hidden * self.expert_inner * (3 if self.gated else 2)
        dense = self.dense_layers * self.hidden * self.inner * 3
        return (self.layers - self.dense_layers) * (self.experts * one + self.hidden * self.experts) + dense

    @property
    def embedding(self) -> int:
        return self.vocabulary * self.hidden

    @property
    def small_parameters(self) -> int:
        """Norms and biases."""
        norms = (1 if self.one_norm else 4 if self.sandwich else 2) * self.hidden * (2 if self.layer_norm else 1)
        norms += 2 * self.head_dim if self.qk_norm else 0
        biases = (self.q + 2 * self.kv if self.qkv_bias else 0) + (self.hidden if self.o_bias else 0)
        biases += self.inner * (2 if self.gated else 1) + self.hidden if self.mlp_bias else 0
        head = self.vocabulary if self.kind == "phi" else 0
        return self.layers * (norms + biases) + self.hidden * (2 if self.layer_norm else 1) + head

    @property
    def positions(self) -> int:
        """Learned positions, of the GPT-2 family."""
        return self.longest * self.hidden if self.kind == "gpt2" else 0

    @property
    def parameters(self) -> int:
        """All weights, tied ones once."""
        embeddings = self.embedding * (1 if self.tied else 2) + self.positions
        return self.linear_parameters + self.expert_parameters + embeddings + self.small_parameters

    @property
    def active_parameters(self) -> int:
        """Weights that one token meets: those of the chosen experts only."""
        if not self.experts:
            return self.parameters
        one = self.hidden * self.expert_inner * 3
        return self.parameters - (self.layers - self.dense_layers) * (self.experts - self.experts_used) * one

    def lora_parameters(self, rank: int, targets: tuple[str, ...]) -> int:
        return self.layers * rank * sum(sum(ends) for name, ends in self.linears().items() if name in targets)


def from_config(config: dict, name: str) -> ModelShape:
    """The shape in a config.json of transformers.

    Raises:
        UnknownArchitecture, NeedsTrace, IncompleteConfig: in words, with the nearest thing that works.
    """
    inner = config.get("text_config")
    if isinstance(inner, dict):
        config = {**config, **inner}
    kind = str(config.get("model_type") or "").lower()
    kind = {"gemma3": "gemma3_text", "mistral3": "ministral3"}.get(kind, kind)
    if kind in HYBRID:
        raise NeedsTrace(name=name, nearest="Qwen/Qwen3-8B")
    if kind not in FAMILIES:
        raise UnknownArchitecture(name=kind or "(none)", nearest=", ".join(_nearest_family(kind)))
    return ModelShape(**_sizes(config, name, kind), **_habits(config, kind))


def _nearest_family(kind: str) -> list[str]:
    import difflib

    return difflib.get_close_matches(kind, FAMILIES, n=3, cutoff=0.4) or ["llama", "qwen3", "mistral"]


def _sizes(config: dict, name: str, kind: str) -> dict:
    def must(*fields: str) -> int:
        for field in fields:
            value = config.get(field)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
        raise IncompleteConfig(path=name, field=fields[0])

    heads = must("num_attention_heads", "n_head")
    hidden = must("hidden_size", "n_embd")
    experts = config.get("num_experts") or config.get("num_local_experts") or 0
    expert_inner = config.get("moe_intermediate_size") or (config.get("intermediate_size") or 0) if experts else 0
    return {
        "name": name,
        "kind": kind,
        "hidden": hidden,
        "layers": must("num_hidden_layers", "n_layer"),
        "heads": heads,
        "kv_heads": config.get("num_key_value_heads") or heads,
        "head_dim": config.get("head_dim") or math.ceil(hidden / heads),
        "inner": config.get("n_inner") or 4 * hidden if kind == "gpt2" else must("intermediate_size"),
        "vocabulary": must("vocab_size"),
        "longest": config.get("max_position_embeddings") or config.get("n_positions") or 0,
        "experts": experts,
        "experts_used": config.get("num_experts_per_tok") or 0,
        "expert_inner": expert_inner,
        "shared_inner": config.get("shared_expert_intermediate_size") or 0,
    }


def _habits(config: dict, kind: str) -> dict:
    family = dict(FAMILIES[kind])
    biased = family.pop("biased", False) or bool(config.get("attention_bias"))
    family["qkv_bias"] = family.get("qkv_bias", False) or biased
    family["o_bias"] = biased
    family["mlp_bias"] = bool(config.get("mlp_bias")) or kind in ("gpt2", "phi")
    ties = kind in ("gemma", "gemma2", "gemma3_text", "gpt2")
    family["tied"] = bool(config.get("tie_word_embeddings", ties))
    family["softcap"] = bool(config.get("final_logit_softcapping"))
    family["attention_softcap"] = bool(config.get("attn_logit_softcapping"))
    window = config.get("sliding_window") if config.get("use_sliding_window", True) else 0
    family["sliding_window"] = window or 0
    return family
