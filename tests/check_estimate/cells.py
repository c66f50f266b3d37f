"""The cells of a table of measurements, however they are spelt: numbers, units, methods, kernels, layers.

Whatever is not understood leaves its row out, with the reason: a guess would be counted as an error of the estimate. It
is the row's fault (Unanswerable) or the calculator's.
"""

import re

GIB = 2**30
UNITS = {"gib": GIB, "gb": 1e9, "mib": 2**20, "mb": 1e6, "kib": 2**10, "kb": 1e3, "bytes": 1, "byte": 1, "b": 1}
# Versions of transformers 4: until 49 the loss copied the shifted logits in fp32, from 45 on with those in 16 bit kept.
KEPT, UNSHIFTED = 45, 49
_LARGE = {"k": 1024, "": 1}  # 4k tokens are 4,096
_YES, _NO = ("true", "1", "1.0", "yes", "y", "on", "enabled"), ("false", "0", "0.0", "no", "n", "off", "disabled")


class LeftOut(Exception):
    """Why a row is not used: what it was run with is not modelled."""


class Unanswerable(LeftOut):
    """Why no calculator could answer a row: it is no measurement of a step, or does not say what its figure depends on."""


def number_of(raw: dict, field: str, default: float | None = None) -> float:
    """The number in a cell: 2048, 2,048, 2 048, 2k, r=16, 4.0; an empty cell gives the default, or leaves the row out."""
    text = raw.get(field, "")
    plain = re.sub(r"[\s\u00a0]", "", text).lower()
    plain = re.sub(r"^(?:r|rank|bs|len|seq)=?|(?:tokens?|x)$", "", plain)
    if re.fullmatch(r"\d{1,3}(,\d{3})+", plain):
        plain = plain.replace(",", "")
    found = re.fullmatch(r"(\d+(?:[.,]\d+)?(?:e[+-]?\d+)?)(k?)", plain)
    value = float(found[1].replace(",", ".")) * _LARGE[found[2]] if found else None
    if value is None or not 0 < value < 1e15:
        if default is None or text:
            raise Unanswerable(f"{field} is not given" if not text else f'{field} is "{text}"')
        return default
    return value


def whole_of(raw: dict, field: str, default: int | None = None) -> int:
    """The same, for what can only be a whole number."""
    value = number_of(raw, field, default)
    if value != int(value):
        raise Unanswerable(f'{field} is "{raw.get(field)}"')
    return int(value)


def truth_of(raw: dict, field: str) -> bool:
    """Yes or no."""
    text = raw.get(field, "").lower()
    if text in _YES or re.fullmatch(r"(true|yes|on)?\W*(non-?)?reentrant\W*", text):
        return True
    if text in _NO:
        return False
    if not text:
        raise Unanswerable(f"{field} is not given")
    raise LeftOut(f'{field} is "{text}"')


def method_of(raw: dict) -> str:
    """full, lora or qlora; continued pretraining is full."""
    text = re.sub(r"[\s_-]+", " ", raw.get("method", "").lower()).strip()
    if re.fullmatch(r"(?:full|fft)(?: (?:ft|sft|fine ?tun(?:e|ing)|parameter|training|bf16|fp16))*", text):
        return "full"
    if text in ("cpt", "continued pretraining", "continual pretraining", "pretraining"):
        return "full"
    if text in ("qlora", "q lora", "4bit lora", "4 bit lora", "lora 4bit", "lora 4 bit", "qlora 4bit", "qlora nf4"):
        return "qlora"
    if text == "lora":
        bits = raw.get("quant_bits", "")
        if bits.startswith("4") and _packs(raw):
            return "qlora"
        return "lora"
    raise LeftOut(f"method {text.split(':')[0] or '(none)'} is not modelled")


def _packs(raw: dict) -> bool:
    return any(sign in raw.get("quant_scheme", "").lower() for sign in ("nf4", "bnb", "bitsandbytes"))


def check_packing(raw: dict, method: str) -> None:
    """Only weights as they are, and bitsandbytes' 4 bit, are modelled."""
    scheme, bits = raw.get("quant_scheme", "").lower(), raw.get("quant_bits", "")
    if any(sign in scheme for sign in ("gptq", "awq", "nvfp4", "int8", "torchao", "hqq", "fp8", "gguf", "mxfp4")):
        raise LeftOut(f"{scheme.split()[0]} weights are not modelled")
    if bits.startswith(("2", "3", "8")) and not bits.startswith("32"):
        raise LeftOut(f"weights of {bits} bits are not modelled")
    if method != "qlora" and _packs(raw):
        raise LeftOut(f"{method} on quantised weights is not modelled")


def precision_of(dtype: str) -> str:
    """bf16, fp16 or fp32: what the products are made in."""
    if re.search(r"bf16|bfloat16", dtype):
        return "bf16"
    if re.search(r"fp16|float16|\bhalf\b", dtype):
        return "fp16"
    return "fp32" if re.search(r"fp32|float32|tf32", dtype) else "bf16"


def autocast_of(dtype: str) -> bool:
    """Whether the row says that it was under autocast."""
    return bool(re.search(r"\bamp\b|autocast|mixed", dtype)) and not re.search(r"no[ -](amp|autocast)", dtype)


def attention_of(text: str) -> dict:
    """The kernel: attention, memory_efficient, padded_mask."""
    if "sdpa/eager" in text or ("eager" in text and "qwen" in text):
        raise Unanswerable("the attention kernel is not clear")
    known = ("flash", "fa2", "fa3", "sdpa", "scaled_dot", "eager", "mem", "xformers", "flex")
    if text and not any(sign in text for sign in known):
        raise LeftOut(f"the attention kernel ({text}) is not modelled")
    if "math" in text:
        raise LeftOut("the attention kernel (sdpa, math) is not modelled")
    efficient = bool(re.search(r"mem|xformers", text))
    return {
        "attention": "eager" if "eager" in text else "sdpa",
        "memory_efficient": efficient,
        "padded_mask": "mask" in text,
    }


def optimizer_of(text: str) -> str:
    """The optimizer in the calculator's words."""
    if re.search(r"galore|muon|lion|4[- ]?bit|lomo|shampoo|master", text):
        raise LeftOut(f"optimizer {text} is not modelled")
    if "paged" in text:
        return "paged_adamw_8bit" if "8" in text else "paged_adamw_32bit"
    if re.search(r"8[- ]?bit", text):
        return "adamw_8bit"
    if "fused" in text or "for-loop" in text or "foreach=false" in text.replace(" ", ""):
        return "adamw_torch_fused"
    if not text or "adam" in text:
        return "adamw_torch"
    if "sgd" in text and "momentum" not in text:
        return "sgd"
    if "adafactor" in text:
        return "adafactor"
    raise LeftOut(f"optimizer {text} is not modelled")


def loss_of(text: str, stack: str, raw: dict) -> str:
    """The loss kernel in the calculator's words."""
    if "foak" in raw.get("framework", "").lower() and "liger" not in text:  # IBM's kernels
        return "in_place"
    if "held" in text:
        return "held"
    if "litgpt" in text or "no upcast" in text:
        return "half"
    if any(sign in text for sign in ("cut-cross", "cut cross", "cce", "liger", "fused", "trl")):
        return "fused"
    if "tiled" in text or "soulsmith" in text:
        return "tiled"
    if not text:
        return "fused" if stack == "trl" else "tiled" if stack == "soulsmith" else "logits"
    whole = r"\bhf\b|fp32 logits|full logits|stock|standard|default|forcausallm|cross[_ -]?entropy"
    if "chunk" not in text and re.search(whole, text):
        version = re.search(r"transformers (4\.\d+)", raw.get("framework", "").lower())
        minor = int(version[1][2:]) if version else UNSHIFTED
        return "floated" if minor < KEPT else "shifted" if minor < UNSHIFTED else "logits"
    raise LeftOut(f"the loss kernel ({text}) is not modelled")


_ATTENTION, _MLP = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")
_OTHER_NAMES = {
    "c_attn": ("q_proj", "k_proj", "v_proj"), "c_proj": ("o_proj", "down_proj"), "w1": ("up_proj",), "w2": ("gate_proj",),
    "query": ("q_proj",), "key": ("k_proj",), "value": ("v_proj",), "projection": ("o_proj",), "mlp": _MLP,
    "q": ("q_proj",), "k": ("k_proj",), "v": ("v_proj",), "o": ("o_proj",), "gate": ("gate_proj",), "up": ("up_proj",),
    "down": ("down_proj",), "head": (), "qv": ("q_proj", "v_proj"), "qkv": ("q_proj", "k_proj", "v_proj"),
    "qkvo": _ATTENTION, "attention": _ATTENTION, "attn": _ATTENTION, "self_attn": _ATTENTION,
}  # fmt: skip


def targets_of(text: str, known: dict) -> str:
    """The layers with an adapter by the names of transformers, whatever the framework calls them."""
    plain = re.sub(r"\(.*?\)", " ", text.replace("(all linear)", " all-linear ")).lower()
    if not plain.strip():
        raise Unanswerable("the target modules are not given")
    if re.search(r"\ball[- _]?linears?\b|\ball layers\b", plain) or plain.strip() == "all":
        return "all-linear"
    found: list[str] = []
    for name in re.split(r"[,;|\s/+&]+|\band\b", plain.partition("modules_to_save")[0]):
        name = name.strip("[]'\"").removeprefix("self_attn.").removeprefix("mlp.")
        if not name:
            continue
        names = (name,) if name in known else _OTHER_NAMES.get(name)
        if names is None or any(n not in known for n in names):
            raise LeftOut(f"target modules {text}")
        found += names
    return ",".join(dict.fromkeys(found))


def dropout_of(raw: dict, default: float) -> float:
    """The adapter's dropout: of its column, of a note that names it, else the framework's own."""
    found = re.search(r"lora_dropout[ :=]*([\d.]*\d)", raw.get("note", "").lower())
    text = raw.get("lora_dropout", "") or (found[1] if found else "")
    if not text:
        return default
    value = float(text.replace(",", ".")) if re.fullmatch(r"\d*[.,]?\d+", text) else -1
    if not 0 <= value < 1:
        raise LeftOut(f"lora_dropout is {text}")
    return value


def ran_of(text: str) -> str:
    """yes, no or longest; empty where the row does not say whether it ran."""
    plain = text.lower().strip()
    if re.match(r"(yes|y|true|1(\.0)?|fits|ran)\b", plain):
        return "yes"
    if re.match(r"(no|n|false|0(\.0)?|oom|out[ -]of[ -]memory|does not fit)\b", plain):
        return "no"
    return "longest" if plain.startswith(("longest", "max")) else ""


def reserved_of(note: str) -> float:
    """Bytes that a note gives as reserved beside an allocated figure; 0: none."""
    found = re.search(r"reserved[ :=]+([\d.]+)\s*(gib|mib|gb|mb)", note.lower())
    return float(found[1]) * UNITS[found[2]] if found else 0.0
