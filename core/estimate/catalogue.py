"""Models and cards that the calculator knows, and how to read the ones that it meets: a folder, a GGUF file."""

import difflib
import functools
import json
import os
import re
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from core import paths
from core.estimate import errors, probe
from core.estimate.shape import TEXT_MODELS, ModelShape, from_config, read_models
from core.hardware import hardware

GIB = 2**30
DEFAULT_CARD = "NVIDIA RTX PRO 6000 Blackwell Workstation Edition"
CPU = "CPU"
CPU_BF16 = 2.1  # how much faster whole steps are where bf16 is native: tests/benchmarks.md, 3.30 and 1.56 ms a token
CORE_TFLOPS = 0.06  # fp32 products of one core with AVX2 at 3 GHz, two thirds of its peak; the probe replaces it
CPU_BANDWIDTH = 20e9  # two channels of DDR4, half of the data sheet
CORE_WATTS = 10
GGUF_FORMS = ("B", "b", "H", "h", "I", "i", "f", "?", "string", "array", "Q", "q", "d")  # by the number of a type
GGUF_KEYS = {
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "intermediate_size": "feed_forward_length",
    "max_position_embeddings": "context_length",
    "vocab_size": "vocab_size",
}
MINE = "mine:"  # before the UUID of a card of this machine, where a card is chosen by name


@dataclass(frozen=True)
class Card:
    """A graphics card, or the processor: what bounds memory and time."""

    name: str
    memory_bytes: int  # that torch can allocate on an idle card
    matmul_tflops: float  # measured in 16 bit, or the data sheet's with the usual shortfall
    measured: bool
    fp32_tflops: float
    bandwidth: float  # bytes a second
    capability: float
    watts: int
    kind: str = "cuda"  # of NVIDIA's cards; rocm, xpu and mps are AMD's, Intel's and Apple's; or cpu
    lacks_bf16: bool = False  # of this machine's Apple chip, before macOS 14
    has_hbm: bool = False  # memory that no machine shares with its processor

    @property
    def is_tried(self) -> bool:
        """Whether estimates for this kind of hardware were ever held against a measurement."""
        return self.kind in ("cuda", "cpu")

    @property
    def has_bf16(self) -> bool:
        return not self.lacks_bf16 and (self.kind != "cuda" or self.capability >= 8.0)

    @property
    def has_flash_attention(self) -> bool:
        return self.kind == "cuda" and self.capability >= 8.0


@functools.cache
def models() -> dict[str, dict]:
    """The catalogue's entries by hub id, in its order."""
    return {entry["hub_id"]: entry for entry in read_models()["models"]}


@functools.cache
def cards() -> dict[str, Card]:
    """The catalogue's cards by name."""
    data = json.loads((paths.assets() / "gpus.json").read_text(encoding="utf-8"))
    return {entry["name"]: _card(entry) for entry in (*data["gpus"], *data["others"])}


def _card(entry: dict) -> Card:
    measured = entry.get("measured_bf16_matmul_tflops")
    sheet = entry["dense_bf16_tflops"] or entry["dense_fp16_tflops"]
    # 0.8 of the data sheet is the middle of the measured cards in the catalogue (0.59 for L4 to 1.15 for RTX 5090).
    rate = sum(measured) / len(measured) if isinstance(measured, list) else measured or 0.8 * sheet
    return Card(
        name=entry["name"],
        memory_bytes=int(entry["memory_usable_GiB_typical"] * GIB),
        matmul_tflops=rate,
        measured=bool(measured),
        fp32_tflops=entry["fp32_tflops"],
        bandwidth=entry["bandwidth_GBps"] * 1e9,
        capability=float(entry["compute_capability"]),
        watts=entry["tdp_W"],
        kind=entry.get("kind", "cuda"),
        has_hbm=entry["memory_type"].startswith("HBM"),
    )


def card(name: str) -> Card:
    """A card by a part of its name, as people say it: "RTX PRO 6000", "4090", "a100 80".

    Raises:
        UnknownCard: with the nearest names.
    """
    known = cards()
    if name in known:
        return known[name]
    words = _words(name)
    # "Tesla T4 16GB" and "L40S 48GB" carry a size that the name in the catalogue lacks.
    for wanted in (words, frozenset(w for w in words if not re.fullmatch(r"\d{1,3}", w))):
        fits = [c for full, c in known.items() if wanted and wanted <= _words(full)]
        if fits:
            return min(fits, key=lambda c: (len(_words(c.name) - words), list(known).index(c.name)))
    near = difflib.get_close_matches(" ".join(sorted(words)), {" ".join(sorted(_words(n))): n for n in known}, 3, 0.3)
    by_words = {" ".join(sorted(_words(n))): n for n in known}
    raise errors.UnknownCard(name=name, nearest=", ".join(by_words[n] for n in near) or DEFAULT_CARD)


def _words(name: str) -> frozenset[str]:
    name = re.sub(r"\b(rtx|gtx|tesla)(?=\d)", r"\1 ", name.lower())  # RTX4090
    name = re.sub(r"(\d+)\s*gi?b?\b", r"\1gb", name).replace("sxm4", "sxm").replace("sxm5", "sxm")
    words = set(re.split(r"[\s_/,()-]+", name)) - {"", "nvidia", "geforce", "tesla", "gpu", "generation", "edition"}
    return frozenset(w[:-2] if re.fullmatch(r"\d+gb", w) else w for w in words)


def shape(name: str) -> ModelShape:
    """The shape of a model: a hub id or alias of the catalogue, a folder, a config.json, a GGUF file.

    Raises:
        UnknownModel, NoSuchModel, ShapeUnknown, UnknownArchitecture, NeedsTrace, IncompleteConfig.
    """
    name = str(name).strip()
    path = Path(name).expanduser()
    if name and path.exists():
        return from_config(_from_disk(path), name)
    entry = _entry(name)
    return from_config(config_of(entry), entry["hub_id"])


def config(model: str) -> dict:
    """The config.json of a model of the catalogue or a folder, of a GGUF file the one that it amounts to.

    Raises:
        UnknownModel, NoSuchModel, ShapeUnknown, NoConfig, IncompleteConfig.
    """
    path = Path(model).expanduser()
    return _from_disk(path) if path.exists() else config_of(_entry(model))


def config_of(entry: dict) -> dict:
    """A catalogue entry as the config.json that it was read from."""
    if "config" not in entry:
        raise errors.ShapeUnknown(name=entry["hub_id"], nearest=", ".join(nearest(entry["family"])[:2]))
    return entry["config"]


def find(name: str) -> dict | None:
    """The catalogue's entry of a hub id, an alias, or the last part of either, whatever the capitals."""
    names = _names()
    return names.get(name.lower()) or names.get(name.lower().rpartition("/")[2])


@functools.cache
def _names() -> dict[str, dict]:
    entries: dict[str, dict] = {"starter": models()["HuggingFaceTB/SmolLM2-135M"]}
    for entry in models().values():
        for alias in (entry["hub_id"], *entry["aliases"]):
            for form in (alias.lower(), alias.lower().rpartition("/")[2]):
                entries.setdefault(form, entry)
    return entries


def nearest(name: str, n: int = 3) -> list[str]:
    """Hub ids of the catalogue that are spelt most like a name, of models whose shape is known."""
    ids = {form: entry["hub_id"] for form, entry in _names().items() if "config" in entry}
    close = difflib.get_close_matches(name.lower().rpartition("/")[2], ids, n * 2, 0.4)
    return list(dict.fromkeys(ids[form] for form in close))[:n] or ["Qwen/Qwen2.5-7B", "Qwen/Qwen3-8B"]


def _entry(name: str) -> dict:
    if entry := find(name):
        return entry
    plain = _letters(name.lower().rpartition("/")[2])
    for entry in read_models()["absent"]:
        if plain in map(_letters, entry["names"]):
            raise errors.NoSuchModel(name=name, nearest=", ".join(entry["nearest"]))
    raise errors.UnknownModel(name=name, nearest=", ".join(nearest(name)))


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9.]", "", name)


def _from_disk(path: Path) -> dict:
    if path.suffix.lower() == ".gguf":
        return gguf_config(path)
    file = path / "config.json" if path.is_dir() else path
    if not file.exists():
        raise errors.NoConfig(path=file)
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        config = None
    if not isinstance(config, dict):
        raise errors.IncompleteConfig(path=file, field="model_type")
    return config


def gguf_config(path: Path) -> dict:
    """The config of transformers that the header of a GGUF file amounts to."""
    try:
        with path.open("rb") as file:
            facts = _gguf_facts(file)
    except (OSError, struct.error, ValueError, KeyError, UnicodeDecodeError) as error:
        raise errors.IncompleteConfig(path=path, field="general.architecture") from error
    kind = facts.get("general.architecture", "")
    config = {name: facts.get(f"{kind}.{key}") for name, key in GGUF_KEYS.items()}
    config["vocab_size"] = config["vocab_size"] or facts.get("tokenizer.ggml.tokens")
    known = {name: value for name, value in config.items() if value is not None}
    tied = "output.weight" not in facts["tensors"]
    return {"model_type": TEXT_MODELS.get(kind, kind), "tie_word_embeddings": tied, **known}


def _gguf_facts(file: BinaryIO) -> dict:
    """The key-value pairs of a GGUF header and the names of its tensors; of an array only its length."""

    def read(form: str):
        return struct.unpack("<" + form, file.read(struct.calcsize("<" + form)))[0]

    def text() -> str:
        return file.read(read("Q")).decode("utf-8")

    def value(kind: int):
        form = GGUF_FORMS[kind]
        if form == "array":
            inner, length = read("I"), read("Q")
            for _ in range(length):
                value(inner)
            return length
        return text() if form == "string" else read(form)

    magic, _version, tensors, pairs = file.read(4), read("I"), read("Q"), read("Q")
    if magic != b"GGUF" or pairs > 10_000 or tensors > 100_000:
        raise ValueError("not a GGUF file")
    facts: dict = {text(): value(read("I")) for _ in range(pairs)}
    facts["tensors"] = set()
    for _ in range(tensors):
        facts["tensors"].add(text())
        file.seek(8 * read("I") + 12, os.SEEK_CUR)  # its sizes, type and offset
    return facts


def chosen(name: str | None = None) -> tuple[Card, float]:
    """A card and the bytes that are free on it: one of the catalogue by name, "CPU", or MINE and the UUID of one here.

    Without a name this machine's usual card, and DEFAULT_CARD where there is none.

    Raises:
        UnknownCard, CardGone.
    """
    if name and name.upper() == CPU:
        return processor(), hardware.machine().memory_free_bytes
    gpu = None
    if not name or name.startswith(MINE):
        gpu = hardware.card(name and name.removeprefix(MINE))
    if gpu:
        known = of_machine(gpu)
        return known, hardware.free_bytes(gpu) or known.memory_bytes
    if name and name.startswith(MINE):
        raise errors.CardGone()
    known = card(name or DEFAULT_CARD)
    return known, known.memory_bytes


def of_machine(gpu) -> Card:
    """A card that hardware.py found: its own memory, its measured rate, or the catalogue's of the nearest name.

    An instance of a split card (MIG) has its share of the whole one's rates.
    """
    known = _known(gpu)
    if gpu.instance:
        share = gpu.instance / 7
        rates = {name: getattr(known, name) * share for name in ("matmul_tflops", "fp32_tflops", "bandwidth")}
        known = replace(known, **rates, watts=int(known.watts * share), measured=False)
    rate = probe.stored().get(gpu.name)
    return replace(
        known,
        name=gpu.name,
        memory_bytes=gpu.total_bytes or known.memory_bytes,  # not every driver may tell
        matmul_tflops=rate or known.matmul_tflops,
        measured=known.measured or rate is not None,
        capability=gpu.compute_capability or known.capability,
        watts=int(gpu.watts) or known.watts,
        lacks_bf16=gpu.kind == "mps" and not gpu.has_bf16,
    )


def _known(gpu) -> Card:
    """The catalogue's card of a card's name, of the whole one where it is split; else one of its kind with as much
    memory. Where that is another chip (an RTX 4070 Ti SUPER for an RTX 4070), its rates are a guess: not measured."""
    name = gpu.name.partition(" MIG ")[0]
    try:
        known = card(name)
    except errors.UnknownCard:
        known = _of_driver_name(name, gpu)
    if known and known.kind == gpu.kind:
        return replace(known, measured=known.measured and _is_same_chip(name, known.name))
    alike = [c for c in cards().values() if c.kind == gpu.kind and not (gpu.memory == "shared" and c.has_hbm)]
    return replace(min(alike, key=lambda c: abs(c.memory_bytes - gpu.total_bytes)), measured=False)


def _of_driver_name(name: str, gpu) -> Card | None:
    """The card that a driver calls by another name: "NVIDIA A100-PCIE-40GB", and "H100 80GB HBM3" for the SXM one."""
    wanted, pcie = _chip_words(name), "pcie" in name.lower()
    alike = [c for c in cards().values() if wanted and wanted <= _chip_words(c.name)]
    return min(
        alike,
        key=lambda c: (("pcie" in c.name.lower()) != pcie, abs(c.memory_bytes - gpu.total_bytes)),
        default=None,
    )


def _chip_words(name: str) -> frozenset[str]:
    """The words that distinguish chips: not the maker's, not the size or kind of its memory, not its socket."""
    common = {"nvidia", "geforce", "tesla", "rtx", "gpu", "pcie"}
    words = re.split(r"[\s/-]+", name.lower())
    return frozenset(w for w in words if w and w not in common and not re.fullmatch(r"\d+gb|hbm\w*|sxm\d*|nvl", w))


def _is_same_chip(wanted: str, known: str) -> bool:
    """Whether a card of the catalogue is that of a driver's name: no word more (Ti, SUPER), and the same socket."""
    return _chip_words(known) <= _chip_words(wanted) and _socket(known) == _socket(wanted)


def _socket(name: str) -> str:
    """pcie, nvl or sxm: drivers name the first two always, and of cards in the third often the memory alone (HBM3)."""
    socket = re.search(r"pcie|nvl", name.lower())
    return socket[0] if socket else "sxm"


def processor(cores: int = 0, memory_bytes: int = 0) -> Card:
    """A processor, for trying things out on small models; by default this machine's."""
    here = hardware.machine()
    cores, memory_bytes = cores or here.cores, memory_bytes or here.memory_bytes
    rate = probe.stored().get(CPU)
    in_16_bit = CPU_BF16 if hardware.processor_has_bf16() else 1.0
    return Card(
        name=CPU,
        memory_bytes=memory_bytes,
        matmul_tflops=(rate or cores * CORE_TFLOPS) * in_16_bit,
        measured=rate is not None,
        fp32_tflops=rate or cores * CORE_TFLOPS,
        bandwidth=CPU_BANDWIDTH,
        capability=0.0,
        watts=CORE_WATTS * cores,
        kind="cpu",
    )
