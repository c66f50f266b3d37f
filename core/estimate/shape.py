"""The shape of a decoder language model, read from its config: all that memory and time depend on."""

import difflib
import functools
import json
import math
from dataclasses import dataclass

from core import errors, paths
from core.estimate.errors import NeedsTrace, UnknownArchitecture

TEXT_MODELS = {  # whose decoder is the other
    "gemma3": "gemma3_text",
    "mistral3": "ministral3",
    "qwen2_vl": "qwen2",
    "qwen2_vl_text": "qwen2",
    "qwen2_5_vl": "qwen2",
    "qwen2_5_vl_text": "qwen2",
    "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
    "qwen3_vl": "qwen3",
    "qwen3_vl_text": "qwen3",
    "qwen3_vl_moe": "qwen3_moe",
    "qwen3_vl_moe_text": "qwen3_moe",
}
INNER = ("text_config", "llm_config", "language_config")  # of models that see or hear: their decoder's own config
ALIASES = {"n_embd": "hidden_size", "n_layer": "num_hidden_layers", "n_head": "num_attention_heads",
           "n_positions": "max_position_embeddings", "n_inner": "intermediate_size"}  # fmt: skip
MOST_LAYERS = 1000
FULL, LINEAR = "full_attention", "linear_attention"  # kinds of layers, as transformers calls them


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
    # Of a hybrid: how many of its layers have linear attention, and its sizes.
    linear_layers: int = 0
    linear_key_heads: int = 0
    linear_value_heads: int = 0
    linear_key_dim: int = 0
    linear_value_dim: int = 0
    linear_kernel: int = 0
    output_gate: bool = False  # softmax attention has one, made by q_proj

    @property
    def linear_keys(self) -> int:
        return self.linear_key_heads * self.linear_key_dim

    @property
    def linear_values(self) -> int:
        return self.linear_value_heads * self.linear_value_dim

    @property
    def kinds(self) -> dict[str, int]:
        """How many layers of each kind there are, in the order in which they first come."""
        kinds = {LINEAR: self.linear_layers, FULL: self.layers - self.linear_layers}
        return {kind: number for kind, number in kinds.items() if number}

    @property
    def q(self) -> int:
        return self.heads * self.head_dim

    @property
    def kv(self) -> int:
        return self.kv_heads * self.head_dim

    def linears(self, kind: str = "") -> dict[str, tuple[int, int]]:
        """Inputs and outputs of the linear layers of a decoder layer that an adapter or 4-bit storage can take.

        Those of one kind of layer; by default of all kinds.
        """
        hidden, q, kv = self.hidden, self.q, self.kv
        inner = self.shared_inner if self.experts else self.inner
        linears = {}
        if self.linear_layers and kind != FULL:
            keys, values, heads = self.linear_keys, self.linear_values, self.linear_value_heads
            linears = {"in_proj_qkv": (hidden, 2 * keys + values), "in_proj_z": (hidden, values)}
            linears |= {"in_proj_b": (hidden, heads), "in_proj_a": (hidden, heads), "out_proj": (values, hidden)}
        if self.fused:
            linears |= {"qkv_proj": (hidden, q + 2 * kv), "o_proj": (q, hidden), "gate_up_proj": (hidden, 2 * inner)}
        else:
            if kind != LINEAR:
                linears |= {"q_proj": (hidden, 2 * q if self.output_gate else q)}
                linears |= {"k_proj": (hidden, kv), "v_proj": (hidden, kv), "o_proj": (q, hidden)}
            linears |= {"gate_proj": (hidden, inner)} if self.gated else {}
            linears |= {"up_proj": (hidden, inner)}
        linears |= {"down_proj": (inner, hidden)}
        return {name: ends for name, ends in linears.items() if 0 not in ends}  # routed experts alone have no MLP here

    @property
    def linear_parameters(self) -> int:
        """Weights of the linear layers in all decoder layers, experts left out."""
        return sum(number * sum(a * b for a, b in self.linears(kind).values()) for kind, number in self.kinds.items())

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
        norms += 2 * self.head_dim if self.qk_norm and not self.linear_layers else 0
        biases = (self.q + 2 * self.kv if self.qkv_bias else 0) + (self.hidden if self.o_bias else 0)
        biases += self.inner * (2 if self.gated else 1) + self.hidden if self.mlp_bias else 0
        head = self.vocabulary if self.kind == "phi" else 0
        if self.linear_layers:
            convolution = self.linear_kernel * (2 * self.linear_keys + self.linear_values)
            of_linear = convolution + 2 * self.linear_value_heads + self.linear_value_dim
            head += self.linear_layers * of_linear + (self.layers - self.linear_layers) * 2 * self.head_dim
            head += self.layers * self.hidden if self.shared_inner else 0  # the gate of the shared expert
        return self.layers * (norms + biases) + self.hidden * (2 if self.layer_norm else 1) + head

    @property
    def parameters(self) -> int:
        """All weights, tied ones once."""
        positions = self.longest * self.hidden if self.kind == "gpt2" else 0  # learned ones
        embeddings = self.embedding * (1 if self.tied else 2) + positions
        return self.linear_parameters + self.expert_parameters + embeddings + self.small_parameters

    def lora_parameters(self, rank: int, targets: tuple[str, ...]) -> int:
        return rank * sum(
            number * sum(sum(ends) for name, ends in self.linears(kind).items() if name in targets)
            for kind, number in self.kinds.items()
        )


def from_config(config: dict, name: str) -> ModelShape:
    """The shape in a config.json of transformers; what it leaves out has the default of its class there.

    Raises:
        UnknownArchitecture, NeedsTrace, IncompleteConfig, WrongInConfig, NotTrueOrFalse: in words, with the nearest thing that works.
    """
    inner = next((config[key] for key in INNER if isinstance(config.get(key), dict)), None)
    if inner is not None:
        config = {**config, **inner}
    kind = _kind(config)
    families = read_models()["families"]
    if kind in read_models()["traced"] or _is_mixed(config, families.get(kind, {})):
        raise NeedsTrace(name=name, nearest="Qwen/Qwen3-8B")
    if kind not in families:
        near = difflib.get_close_matches(kind, families, n=3, cutoff=0.4) or ["llama", "qwen3", "mistral"]
        raise UnknownArchitecture(name=kind or "(none)", nearest=", ".join(near))
    said = {ALIASES.get(key, key): value for key, value in config.items()}
    whole = read_models()["defaults"].get(kind, {}) | said
    sizes = _sizes(whole, name, kind)
    if families[kind].get("output_gate"):
        sizes |= _linear_sizes(whole, name, sizes["layers"])
    for field in ("tie_word_embeddings", "attention_bias", "mlp_bias"):
        if not isinstance(whole.get(field), bool | None):
            raise errors.named(
                "NotTrueOrFalse", path=name, field=field, value=json.dumps(whole[field], ensure_ascii=False)[:40]
            )
    return ModelShape(**sizes, **_differences(whole, kind, families[kind]))


def _kind(config: dict) -> str:
    """The model_type, or what the name of its class says where that is left out."""
    kind = str(config.get("model_type") or "").lower()
    listed = config.get("architectures")
    if not kind and isinstance(listed, list) and listed:
        plain = str(listed[0]).lower().removesuffix("forcausallm")
        kind = next((known for known in read_models()["families"] if known.replace("_", "") == plain), "")
    return TEXT_MODELS.get(kind, kind)


def _is_mixed(config: dict, family: dict) -> bool:
    """Whether some layers have another kind of attention than those of the family, or no experts beside some that do."""
    layers = config.get("layer_types")
    kinds = {str(kind) for kind in layers} if isinstance(layers, list) else set()
    sparse = config.get("decoder_sparse_step") not in (None, 1) or bool(config.get("mlp_only_layers"))
    linear = {LINEAR} if family.get("output_gate") else set()
    return sparse or bool(kinds - linear - {FULL, "sliding_attention", "chunked_attention"})


def _size(config: dict, name: str, field: str, otherwise: int | None = None, most: int = 2**20) -> int:
    value = config.get(field)
    if value is None and otherwise is not None:
        return otherwise
    if value is None:
        raise errors.named("IncompleteConfig", path=name, field=field)
    if not isinstance(value, int) or isinstance(value, bool) or not (otherwise != 0) <= value <= most:
        shown = json.dumps(value, ensure_ascii=False)[:40]
        raise errors.named("WrongInConfig", path=name, field=field, value=shown, least=int(otherwise != 0), most=most)
    return value


def _linear_sizes(config: dict, name: str, layers: int) -> dict:
    """Of a hybrid: its kinds of layers by name, or every so many one of softmax attention; the sizes of the others."""
    kinds = config.get("layer_types")
    every = _size(config, name, "full_attention_interval", 4, MOST_LAYERS)
    full = kinds[:layers].count(FULL) if isinstance(kinds, list) else layers // every
    fields = {"key_heads": "num_key_heads", "value_heads": "num_value_heads", "key_dim": "key_head_dim"}
    fields |= {"value_dim": "value_head_dim", "kernel": "conv_kernel_dim"}
    sizes = {f"linear_{own}": _size(config, name, f"linear_{theirs}", most=2**16) for own, theirs in fields.items()}
    return sizes | {"linear_layers": layers - full}


def _sizes(config: dict, name: str, kind: str) -> dict:
    size = functools.partial(_size, config, name)
    heads, hidden = size("num_attention_heads", most=4096), size("hidden_size")
    experts = size("num_experts", size("num_local_experts", 0, 4096), 4096)
    expert_inner = size("moe_intermediate_size", 0, 2**22) if experts else 0
    inner = size("intermediate_size", 4 * hidden if kind == "gpt2" else expert_inner or None, 2**22)
    return {
        "name": name,
        "kind": kind,
        "hidden": hidden,
        "layers": size("num_hidden_layers", most=MOST_LAYERS),
        "heads": heads,
        "kv_heads": size("num_key_value_heads", heads, 4096),
        "head_dim": size("head_dim", math.ceil(hidden / heads), 2**16),
        "inner": inner,
        "vocabulary": size("vocab_size", most=2**24),
        "longest": size("max_position_embeddings", 0, 2**30),
        "experts": experts,
        "experts_used": size("num_experts_per_tok", 0, 4096),
        "expert_inner": expert_inner or (inner if experts else 0),
        "shared_inner": size("shared_expert_intermediate_size", 0, 2**22),
    }


def _differences(config: dict, kind: str, family: dict) -> dict:
    """What the modules of a model do differently from Llama's: by its architecture, and by its own config."""
    family = dict(family)
    biased = family.pop("biased", False) or bool(config.get("attention_bias"))
    return family | {
        "qkv_bias": family.get("qkv_bias", False) or biased,
        "o_bias": biased,
        "mlp_bias": bool(config.get("mlp_bias")) or kind in ("gpt2", "phi"),
        "tied": bool(config.get("tie_word_embeddings")),
        "softcap": bool(config.get("final_logit_softcapping")),
        "attention_softcap": bool(config.get("attn_logit_softcapping")),
    }
