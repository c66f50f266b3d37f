"""Cards that the calculator knows: the catalogue's by the names that people and drivers use, and this machine's."""

import difflib
import functools
import json
import math
import re
from dataclasses import dataclass, replace

from core import paths
from core.errors import named
from core.estimate import amounts, errors, probe
from core.hardware import hardware

GIB = 2**30
DEFAULT_CARD = "NVIDIA RTX PRO 6000 Blackwell Workstation Edition"
CPU = "CPU"
CPU_BF16 = 2.1  # how much faster whole steps are where bf16 is native: tests/benchmarks.md, 3.30 and 1.56 ms a token
CORE_TFLOPS = 0.06  # fp32 products of one core with AVX2 at 3 GHz, two thirds of its peak; the probe replaces it
CPU_BANDWIDTH = 20e9  # two channels of DDR4, half of the data sheet
CORE_WATTS = 10
# Of a data sheet's rate that torch's products reach: the middle of 38 measured GeForce RTX, which clock higher than the
# sheet says, and of 26 other cards in the catalogue.
REACHED = {True: 1.0, False: 0.8}
MINE = "mine:"  # before the UUID of a card of this machine, where a card is chosen by name
LEAST_GB, MOST_GB = 0.5, 4096  # of a card's memory that a person can type
SIZE = re.compile(r"(?<![\d.,])(\d{1,4}(?:[.,]\d+)?)\s*gi?b\b|(?<![\w.,])(\d{1,3})\s*g\b")  # not the end of A10G
LOOKALIKES = str.maketrans(
    "авекмнорстхл", "abekmhopctxl"
)  # Cyrillic letters on the keys and in the shape of Latin ones


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
    is_shared: bool = False  # its memory is the machine's, of which it is sold with several sizes
    sold_gb: float = 0  # memory by its name; 0: not known
    sizes_gb: tuple[float, ...] = ()  # with which a machine with shared memory is sold
    is_guess: bool = False  # only the memory was named: the rates are of a typical card with as much
    asked: int = 1  # how many of it were asked for; every answer is for one

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
def _data() -> dict:
    return json.loads((paths.assets() / "gpus.json").read_text(encoding="utf-8"))


@functools.cache
def cards() -> dict[str, Card]:
    """The catalogue's cards by name."""
    return {entry["name"]: _card(entry) for entry in (*_data()["gpus"], *_data()["others"])}


def _card(entry: dict) -> Card:
    measured = entry.get("measured_bf16_matmul_tflops")
    sheet = entry["dense_bf16_tflops"] or entry["dense_fp16_tflops"]
    reached = REACHED["GeForce RTX" in entry["name"]]
    rate = sum(measured) / len(measured) if isinstance(measured, list) else measured or reached * sheet
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
        is_shared="shared" in entry["memory_type"],
        sold_gb=entry["memory_nominal_GB"],
        sizes_gb=tuple(entry.get("memory_sizes_GB", ())),
    )


@dataclass(frozen=True)
class Said:
    """What a name says: the words that tell cards apart, the socket, the memory in GB, and how many cards."""

    words: frozenset[str]
    socket: str  # pcie, or sxm where nothing is said: of cards in that socket drivers often name the memory alone
    gb: float | None
    asked: int


@functools.lru_cache(1024)
def said(name: str) -> Said:
    """A name of a card taken apart; "8x H100 80GB", "rtx4090", "4070ti", «РТХ 3060 12 ГБ» and drivers' names are read."""
    text = _latin(_counted(name.lower().replace("_", " ")))
    asked = re.match(r"\s*(\d{1,3})\s*[x×*]\s*(?=\S)", text) or re.search(
        r"[\s(]*(?<![a-z])[x×*]\s*(\d{1,3})\)?\s*$", text
    )
    if asked:
        text = text.replace(asked[0], " ", 1)
    size = SIZE.search(text)
    gb = float((size[1] or size[2]).replace(",", ".")) if size else None
    text = SIZE.sub(" ", text)
    text = re.sub(r"(rtx|gtx|rx|tesla|quadro|geforce|radeon)(?=\d)", r"\1 ", text)
    text = re.sub(r"\b(i?mac|macbook)( (pro|air|studio|mini))?\b", " ", text)
    text = re.sub(r"(?<=\d{4})-?(?=(ti|super|xtx?|gre|laptop|mobile|d)\b|tis(uper)?\b)", " ", text)
    text = re.sub(r"\btis(uper)?\b", "ti super", text)
    text = re.sub(r"\b([1-5]0[5-9]0)s\b", r"\1 super", text)
    text = re.sub(r"\bmax[\s-]?q\b", "maxq", text)
    text = re.sub(r"\b(mobile|notebook)\b", "laptop", text)
    words = set(re.findall(r"[\w.]+", text))
    words = {word for word in words if not re.fullmatch(r"(hbm|gddr|lpddr|ddr)\d?\w*", word)}
    sockets = {word for word in words if re.fullmatch(r"pcie|sxm\d?|oam", word)}
    words -= sockets | set(_data()["common_words"]) - ({"rtx"} if "titan" in words else set())
    if gb is None and len(words) > 1:  # "a100 80"
        number = next((word for word in words if re.fullmatch(r"\d{1,3}", word)), None)
        gb, words = (float(number), words - {number}) if number else (gb, words)
    return Said(frozenset(words), "pcie" if "pcie" in sockets else "sxm", gb, max(1, int(asked[1])) if asked else 1)


def _counted(text: str) -> str:
    """Cards counted in front of their name: «два 3090», "8 H100" and "two 4090" as 2 x 3090, 8 x h100, 2 x 4090."""
    found = re.match(
        r"\s*([^\W\d_]{2,}|\d{1,2})\s+(?=(?:rtx|gtx|rx|ртх|гтх|рх|geforce|tesla)\b|[a-zа-я]*\d{2}|[a-zа-я]{1,3}\d)",
        text,
    )
    number = amounts.read(found[1]) if found else None
    if not number or number != int(number) or number > 16:
        return text
    return f"{number:.0f} x {text[found.end() :]}"


def _latin(text: str) -> str:
    for word, latin in _data()["spellings"].items():
        text = re.sub(rf"(?<![а-яё]){word}(?![а-яё])", latin, text)
    return text.translate(LOOKALIKES)


def _named(words: frozenset[str]) -> list[Card]:
    """The cards of exactly these words; else those that say more than they do, as "DGX Spark" for the GB10."""
    known = [(card, said(card.name).words) for card in cards().values()]
    optional = set(_data()["optional_words"])
    exact = [card for card, own in known if own - optional <= words <= own | optional]
    return exact or [card for card, own in known if words and words <= own]


def _order(name: str):
    """A key that puts first the card whose edition and socket a name says."""
    of = said(name)

    def key(card: Card) -> tuple:
        own = said(card.name)
        return len(of.words - own.words), own.socket != of.socket

    return key


def card(name: str, memory_gb: float | None = None) -> Card:
    """A card by its name as people and drivers say it: "RTX PRO 6000", "4090", "a100 80", "12 GB".

    `memory_gb` goes before all that the name says. Of cards that have as much memory the catalogue's first is taken.

    Raises:
        UnknownCard: with the nearest names.
        AmbiguousCard: where cards of this name have different memories.
    """
    of = said(name)
    gb = memory_gb if memory_gb is not None else of.gb
    if not of.words and gb:
        return replace(typical(gb), asked=of.asked)
    exact = name in cards() and memory_gb is None
    fits = [cards()[name]] if exact else sorted(_named(of.words), key=_order(name))
    if not fits:
        raise named("UnknownCard", name=name, nearest=", ".join(_nearest(of.words)))
    sizes = list(dict.fromkeys(card.sold_gb for card in fits))
    if gb is None and len(sizes) > 1:
        listed = ", ".join(card.name for card in fits[:6])
        example = next((card.name for card in fits if f"{card.sold_gb:g}GB" in card.name), fits[0].name)
        raise named("AmbiguousCard", name=name, cards=listed, example=example.rpartition("GeForce ")[2])
    if gb is None and len(fits[0].sizes_gb) > 1:
        sizes_said = [f"{fits[0].name} {size:g}GB" for size in fits[0].sizes_gb]
        raise named("AmbiguousCard", name=name, cards=", ".join(sizes_said), example=sizes_said[0])
    chosen = min(fits, key=lambda card: abs(card.sold_gb - gb)) if gb else fits[0]
    if gb and gb != chosen.sold_gb:
        if memory_gb is None and not chosen.is_shared:
            raise named("UnknownCard", name=name, nearest=", ".join(card.name for card in fits[:3]))
        chosen = with_memory(chosen, gb)
    return replace(chosen, asked=of.asked)


def _nearest(words: frozenset[str]) -> list[str]:
    by_words = {" ".join(sorted(said(name).words)): name for name in reversed(cards())}
    near = difflib.get_close_matches(" ".join(sorted(words)), by_words, 3, 0.3)
    return [by_words[name] for name in near] or [DEFAULT_CARD]


def with_memory(card: Card, gb: float) -> Card:
    """The same card with another memory, of which it can use the same share; a Mac gives its GPU two thirds or more."""
    if gb == card.sold_gb:
        return card
    share = card.memory_bytes / GIB / card.sold_gb if card.sold_gb else 1.0
    if card.kind == "mps":
        share = 2 / 3 if gb <= 36 else 3 / 4
    name = re.sub(r"\d+GB", f"{gb:g}GB", card.name)
    return replace(card, name=name, memory_bytes=int(gb * min(share, 1.0) * GIB), sold_gb=gb)


def gigabytes(value: str | float | None) -> float | None:
    """A memory in GB as people write it: 12, "12,5", "12 GB", «12 ГБ»; None where nothing is said.

    Raises:
        NotAnAmount, OutOfRange.
    """
    if value is None or value == "":
        return None
    gb = float(value) if isinstance(value, (int, float)) else None
    if gb is None:
        whole = re.fullmatch(r"\s*(\d+(?:[.,]\d+)?)\s*(gi?b?)?\s*", _latin(str(value).lower()))
        if not whole:
            raise errors.NotAnAmount(field="memory_gb", value=value)
        gb = float(whole[1].replace(",", "."))
    if not LEAST_GB <= gb <= MOST_GB:
        raise errors.OutOfRange(field="memory_gb", range=f"{LEAST_GB} ≤ x ≤ {MOST_GB}", value=value, suggestion=12)
    return gb


def typical(gb: float) -> Card:
    """Any card of so much memory: the rates are those of a card that many with as much have, which is a guess."""
    sizes = {float(size): name for size, name in _data()["typical"].items()}
    like = cards()[sizes[min(sizes, key=lambda size: abs(math.log(size / gb)))]]
    return replace(with_memory(like, gb), name=f"{gb:g} GB (≈ {like.name})", measured=False, is_guess=True)


def chosen(name: str | None = None, memory_gb: float | None = None) -> tuple[Card, float]:
    """A card and the bytes that are free on it: one of the catalogue by name, "CPU", or MINE and the UUID of one here.

    Without a name this machine's usual card, and DEFAULT_CARD where there is none; with a memory alone any card of it.

    Raises:
        UnknownCard, AmbiguousCard, CardGone.
    """
    if memory_gb is not None:
        known = _of_memory(name, memory_gb)
        return known, known.memory_bytes
    if _is_processor(name):
        return processor(), hardware.machine().memory_free_bytes
    gpu = None
    if not name or name.startswith(MINE):
        gpu = hardware.card(name and name.removeprefix(MINE))
    if gpu:
        known = of_machine(gpu)
        return known, hardware.free_bytes(gpu) or known.memory_bytes
    if name and name.startswith(MINE):
        raise named("CardGone")
    known = card(name or DEFAULT_CARD)
    return known, known.memory_bytes


def _is_processor(name: str | None) -> bool:
    return bool(name) and _latin(name.strip().lower()) in ("cpu", "processor")


def _of_memory(name: str | None, gb: float) -> Card:
    """The card of a name, or any, with the memory that a person says it has."""
    if not name:
        return typical(gb)
    if _is_processor(name):
        return processor(memory_bytes=int(gb * GIB))
    if name.startswith(MINE):
        return replace(with_memory(chosen(name)[0], gb), sold_gb=gb)
    return card(name, gb)


def of_machine(gpu) -> Card:
    """A card that hardware.py found: its own memory, its measured rate, or the catalogue's of its name.

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
        sold_gb=0,
        matmul_tflops=rate or known.matmul_tflops,
        measured=known.measured or rate is not None,
        capability=gpu.compute_capability or known.capability,
        watts=int(gpu.watts) or known.watts,
        lacks_bf16=gpu.kind == "mps" and not gpu.has_bf16,
    )


def _known(gpu) -> Card:
    """The catalogue's card of a driver's name, of the whole one where it is split; else one of its kind with as much
    memory, whose rates are a guess: not measured."""
    name = gpu.name.partition(" MIG ")[0]
    fits = [card for card in _named(said(name).words) if card.kind == gpu.kind]
    if fits:
        edition = _order(name)
        known = min(fits, key=lambda card: (*edition(card), abs(card.memory_bytes - gpu.total_bytes)))
        is_it = said(name).words <= said(known.name).words and said(known.name).socket == said(name).socket
        return replace(known, measured=known.measured and is_it)
    alike = [c for c in cards().values() if c.kind == gpu.kind and not (gpu.memory == "shared" and c.has_hbm)]
    return replace(min(alike, key=lambda c: abs(c.memory_bytes - gpu.total_bytes)), measured=False)


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
