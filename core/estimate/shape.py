"""The shape of a decoder language model, read from its config: all that memory and time depend on."""

import difflib
import functools
import json
import math
from dataclasses import dataclass

from core import paths
from core.estimate.errors import IncompleteConfig, NeedsTrace, UnknownArchitecture

TEXT_MODELS = {"gemma3": "gemma3_text", "mistral3": "ministral3"}  # whose decoder is the other


@functools.cache
def read_models() -> dict:
    """The catalogue of models: its entries, what their architectures do differently, names that do not exist."""
    return json.loads((paths.assets() / "models.json").read_text(encoding="utf-8"))


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
    layer_norm: bool = False
    one_norm: bool = False
    gated: bool = True
    softcap: bool = False
    attention_softcap: bool = False
    experts: int = 0
    experts_used: int = 0
    expert_inner: int = 0
    shared_inner: int = 0

    @property
    def q(self) -> int:
        return self.heads * self.head_dim

    @property
    def kv(self) -> int:
        return self.kv_heads * self.head_dim

    def linears(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of one decoder layer's linear layers that an adapter or 4-bit storage can take."""
        hidden, q, kv = self.hidden, self.q, self.kv
        inner = self.shared_inner if self.experts else self.inner
        if self.fused:
            linears = {"qkv_proj": (hidden, q + 2 * kv), "o_proj": (q, hidden), "gate_up_proj": (hidden, 2 * inner)}
        else:
            linears = {"q_proj": (hidden, q), "k_proj": (hidden, kv), "v_proj": (hidden, kv), "o_proj": (q, hidden)}
            linears |= {"gate_proj": (hidden, inner)} if self.gated else {}
            linears |= {"up_proj": (hidden, inner)}
        linears |= {"down_proj": (inner, hidden)}
        return {name: ends for name, ends in linears.items() if 0 not in ends}  # routed experts alone have no MLP here

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
        return self.layers * (self.experts * one + self.hidden * self.experts)

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
    def parameters(self) -> int:
        """All weights, tied ones once."""
        positions = self.longest * self.hidden if self.kind == "gpt2" else 0  # learned ones
        embeddings = self.embedding * (1 if self.tied else 2) + positions
        return self.linear_parameters + self.expert_parameters + embeddings + self.small_parameters

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
    kind = TEXT_MODELS.get(kind, kind)
    families = read_models()["families"]
    if kind in read_models()["hybrid"]:
        raise NeedsTrace(name=name, nearest="Qwen/Qwen3-8B")
    if kind not in families:
        near = difflib.get_close_matches(kind, families, n=3, cutoff=0.4) or ["llama", "qwen3", "mistral"]
        raise UnknownArchitecture(name=kind or "(none)", nearest=", ".join(near))
    return ModelShape(**_sizes(config, name, kind), **_differences(config, kind, families[kind]))


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


def _differences(config: dict, kind: str, family: dict) -> dict:
    """What the modules of a model do differently from Llama's: by its architecture, and by its own config."""
    family = dict(family)
    biased = family.pop("biased", False) or bool(config.get("attention_bias"))
    ties = kind in ("gemma", "gemma2", "gemma3_text", "gpt2")
    return family | {
        "qkv_bias": family.get("qkv_bias", False) or biased,
        "o_bias": biased,
        "mlp_bias": bool(config.get("mlp_bias")) or kind in ("gpt2", "phi"),
        "tied": bool(config.get("tie_word_embeddings", ties)),
        "softcap": bool(config.get("final_logit_softcapping")),
        "attention_softcap": bool(config.get("attn_logit_softcapping")),
    }
