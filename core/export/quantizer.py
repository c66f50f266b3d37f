"""Weights rounded as GGUF files round them: which tensor gets which type, and llama.cpp's own quantiser from a wheel.

A file is named after the type of most of its weights. The head, and where the name ends with M the values of attention
and the last matrix of the feed-forward layers in half of the layers, get more bits; what a type's blocks do not divide
gets the next larger type that does. What a file holds is written in its metadata and measured, not promised.
"""

import ctypes
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

from core import errors

# {kind of file: (type of most weights, type of those that get more bits)}, largest first.
MIXES = {
    "f16": (Type.F16, Type.F16),
    "q8_0": (Type.Q8_0, Type.Q8_0),
    "q6_k": (Type.Q6_K, Type.Q6_K),
    "q5_k_m": (Type.Q5_K, Type.Q6_K),
    "q4_k_m": (Type.Q4_K, Type.Q6_K),
    "iq4_xs": (Type.IQ4_XS, Type.Q5_K),
    "iq3_s": (Type.IQ3_S, Type.Q4_K),
    "iq3_xxs": (Type.IQ3_XXS, Type.Q4_K),
    "iq2_s": (Type.IQ2_S, Type.Q4_K),
    "iq2_xs": (Type.IQ2_XS, Type.Q4_K),
    "iq2_xxs": (Type.IQ2_XXS, Type.Q4_K),
}
KINDS = tuple(MIXES)
WITHOUT_ENGINE = ("f16", "q8_0")  # what the package gguf rounds by itself
PACKAGE, SYMBOL = "xllamacpp", "ggml_quantize_chunk"
SUPER_BLOCK, BLOCK = 256, 32  # numbers that share their scales
INSTEAD = {Type.Q6_K: Type.Q8_0, Type.Q5_K: Type.Q5_1, Type.Q4_K: Type.Q5_0}  # in rows that no super-block divides
NEED_IMPORTANCE = (Type.IQ2_XS, Type.IQ2_XXS)  # without it llama.cpp ends the process
# Twice the error, as a share of a tensor's length, of weights that are distributed normally: a wrong layout has 1.4.
ERRORS = {
    **{Type.F32: 1e-6, Type.F16: 1e-3, Type.Q8_0: 0.015, Type.Q6_K: 0.05, Type.Q5_K: 0.1, Type.Q5_1: 0.1},
    **{Type.Q5_0: 0.12, Type.Q4_K: 0.2, Type.IQ4_NL: 0.2, Type.IQ4_XS: 0.2, Type.IQ3_S: 0.4, Type.IQ3_XXS: 0.6},
    **{Type.IQ2_S: 0.7, Type.IQ2_XS: 0.9, Type.IQ2_XXS: 1.1},
}


def check(kinds: list[str] | tuple[str, ...]) -> None:
    """Raise QuantizerMissing, with the command, where one of these kinds cannot be made here."""
    wanted = [kind for kind in kinds if kind not in WITHOUT_ENGINE]
    if wanted and not is_here():
        raise errors.named("QuantizerMissing", kinds=", ".join(wanted), command=command())


def check_importance(kinds: list[str] | tuple[str, ...]) -> None:
    """Raise ImportanceMissing for a kind that cannot be made where importance is not measured."""
    for kind in kinds:
        if set(MIXES[kind]) & set(NEED_IMPORTANCE):
            raise errors.named("ImportanceMissing", kind=kind)


def is_here() -> bool:
    """Whether llama.cpp's quantiser can be called."""
    return _engine() is not None


def command() -> str:
    """The command that installs it."""
    return f"{sys.executable} -m pip install {PACKAGE}"


def usual() -> tuple[str, ...]:
    """The kinds that are made when nobody says."""
    return ("q8_0", "q6_k", "q5_k_m", "q4_k_m") if is_here() else WITHOUT_ENGINE


def tensor_type(name: str, shape: list[int], kind: str, layers: int, tied: bool) -> Type:
    """The type of a tensor in a file of a kind; `name` is GGUF's, `shape` ends with the length of a row."""
    if len(shape) < 2:
        return Type.F32
    most, better = MIXES[kind]
    if name == "output.weight" or (tied and name == "token_embd.weight"):
        most = better if kind in ("f16", "q8_0") else Type.Q6_K
    elif name == "token_embd.weight" or (name.startswith("blk.") and _gets_more(name, layers)):
        most = better
    if most in (Type.F16, Type.Q8_0):
        return most if shape[-1] % BLOCK == 0 else Type.F16
    if shape[-1] % SUPER_BLOCK:
        most = INSTEAD.get(most, Type.IQ4_NL)
    return most if shape[-1] % BLOCK == 0 else Type.F16


def _gets_more(name: str, layers: int) -> bool:
    """Whether a tensor of a layer is one of those that get more bits: near both ends, and in each third between."""
    _, number, part, *_ = name.split(".")
    layer, eighth = int(number), layers // 8
    chosen = layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2
    return part in ("attn_v", "ffn_down") and chosen


def bits(kind: str) -> float:
    """Bits that a weight takes in a file of a kind, at most."""
    return max(8 * size / numbers for numbers, size in (gguf.GGML_QUANT_SIZES[one] for one in MIXES[kind]))


def stored_bytes(shape: list[int], kind: Type) -> int:
    """Bytes of a tensor of a type."""
    numbers, size = gguf.GGML_QUANT_SIZES[kind]
    return int(np.prod(shape)) // numbers * size


def quantize(data: np.ndarray, kind: Type, importance: np.ndarray | None = None) -> np.ndarray:
    """fp32 numbers (rows, columns) as a type stores them; `importance` (columns,) weighs the errors of each column.

    The rows are shared out over the processor's cores.
    """
    if kind in (Type.F32, Type.F16, Type.Q8_0):  # these the package gguf rounds, with or without llama.cpp
        return gguf.quants.quantize(data, kind)
    if importance is None and kind in NEED_IMPORTANCE:
        raise errors.named("ImportanceMissing", kind=kind.name)
    data = np.ascontiguousarray(data, np.float32)
    out = np.zeros(gguf.quants.quant_shape_to_byte_shape(data.shape, kind), np.uint8)
    weights = None if importance is None else np.ascontiguousarray(importance, np.float32)
    weigh, (rows, columns) = None if weights is None else weights.ctypes.data, data.shape
    step = -(-rows // (4 * (os.cpu_count() or 1)))

    def chunk(start: int) -> None:
        count = min(step, rows - start)
        _engine()(int(kind), data.ctypes.data, out.ctypes.data, start * columns, count, columns, weigh)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(chunk, range(0, rows, step)))
    return out


@cache
def _engine():
    """The function of llama.cpp's that quantises, or None: it is no documented part of the package."""
    spec = find_spec(PACKAGE)
    for file in sorted(Path(spec.origin).parent.glob(f"{PACKAGE}*.[sp][oy]*")) if spec and spec.origin else ():
        try:
            function = getattr(ctypes.CDLL(str(file)), SYMBOL)
        except (OSError, AttributeError):
            continue
        function.restype = ctypes.c_size_t
        function.argtypes = [ctypes.c_int, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 3, ctypes.c_void_p]
        return function
    return None
