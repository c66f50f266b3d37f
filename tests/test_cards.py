"""Names of cards: what people and drivers write is the card that is meant, or a question."""

import re

import pytest

from core.estimate import __main__ as command
from core.estimate import cards, errors
from core.estimate.cards import GIB
from core.estimate.setup import SUGGESTED
from tests.conftest import raises
from ui import calculator
from ui.text import Say

SAID = {
    "RTX 4070": "NVIDIA GeForce RTX 4070 12GB",
    "RTX 4070 12GB": "NVIDIA GeForce RTX 4070 12GB",
    "rtx4070": "NVIDIA GeForce RTX 4070 12GB",
    "4070ti": "NVIDIA GeForce RTX 4070 Ti 12GB",
    "4070 Ti Super": "NVIDIA GeForce RTX 4070 Ti SUPER 16GB",
    "4070TiSuper": "NVIDIA GeForce RTX 4070 Ti SUPER 16GB",
    "4070S": "NVIDIA GeForce RTX 4070 SUPER 12GB",
    "NVIDIA GeForce RTX 4070 Laptop GPU": "NVIDIA GeForce RTX 4070 Laptop 8GB",
    "4070 mobile": "NVIDIA GeForce RTX 4070 Laptop 8GB",
    "ноутбук RTX 4070": "NVIDIA GeForce RTX 4070 Laptop 8GB",
    "5070": "NVIDIA GeForce RTX 5070 12GB",
    "5070 Ti": "NVIDIA GeForce RTX 5070 Ti",
    "4060": "NVIDIA GeForce RTX 4060 8GB",
    "3060 12GB": "NVIDIA GeForce RTX 3060 12GB",
    "rtx 3060 8 gb": "NVIDIA GeForce RTX 3060 8GB",
    "РТХ 3060 12 ГБ": "NVIDIA GeForce RTX 3060 12GB",
    "4060ti16gb": "NVIDIA GeForce RTX 4060 Ti 16GB",
    "4090": "NVIDIA GeForce RTX 4090",
    "rtx4090": "NVIDIA GeForce RTX 4090",
    "1080 ti": "NVIDIA GeForce GTX 1080 Ti 11GB",
    "RTX PRO 6000": "NVIDIA RTX PRO 6000 Blackwell Workstation Edition",
    "RTX PRO 6000 Max-Q": "NVIDIA RTX PRO 6000 Blackwell Max-Q",
    "rtx pro 6000 server": "NVIDIA RTX PRO 6000 Blackwell Server Edition",
    "RTX 6000 Ada": "NVIDIA RTX 6000 Ada Generation",
    "Quadro RTX 6000": "NVIDIA Quadro RTX 6000 24GB",
    "A6000": "NVIDIA RTX A6000",
    "a100 80": "NVIDIA A100 80GB SXM",
    "А100 80ГБ": "NVIDIA A100 80GB SXM",  # with a Cyrillic А
    "A100-SXM4-80GB": "NVIDIA A100 80GB SXM",
    "NVIDIA A100-PCIE-40GB": "NVIDIA A100 40GB PCIe",
    "H100": "NVIDIA H100 80GB SXM",
    "NVIDIA H100 PCIe": "NVIDIA H100 80GB PCIe",
    "NVIDIA H100 80GB HBM3": "NVIDIA H100 80GB SXM",
    "H200": "NVIDIA H200 SXM",
    "B200": "NVIDIA B200",
    "Tesla T4 16GB": "NVIDIA T4",
    "Tesla V100-SXM2-16GB": "NVIDIA V100 16GB",
    "L40S 48GB": "NVIDIA L40S",
    "A10G-24GB": "NVIDIA A10G 24GB",
    "DGX Spark": "NVIDIA GB10 (DGX Spark)",
    "7900 XTX": "AMD Radeon RX 7900 XTX",
    "RX 6900XT": "AMD Radeon RX 6900 XT 16GB",
    "MI300X": "AMD Instinct MI300X",
    "Arc A770 16GB": "Intel Arc A770",
    "B580": "Intel Arc B580",
    "M3 Max 36": "Apple M3 Max",
    "MacBook Pro M3 Max 64 ГБ": "Apple M3 Max",
    "Apple M5 16GB": "Apple M5",
    "4070TiS": "NVIDIA GeForce RTX 4070 Ti SUPER 16GB",
    "4090D": "NVIDIA GeForce RTX 4090 D 24GB",
    "rtx_4070": "NVIDIA GeForce RTX 4070 12GB",
}
AMBIGUOUS = {
    "3060": "RTX 3060 12GB",
    "4060 Ti": "RTX 4060 Ti 16GB",
    "A100": "NVIDIA A100 40GB",
    "V100": "NVIDIA V100 32GB",
    "RTX 6000": "NVIDIA Quadro RTX 6000 24GB",
    "3080": "RTX 3080 10GB",
    "3080 laptop": "RTX 3080 Laptop 8GB",
    "RX 7900": "AMD Radeon RX 7900 GRE 16GB",
}


@pytest.mark.parametrize("name", SAID)
def test_a_name_is_the_card_that_is_meant(name):
    assert cards.card(name).name == SAID[name]


@pytest.mark.parametrize("name", cards.cards())
def test_every_card_is_found_by_its_own_name_in_any_capitals(name):
    shared = f" {cards.cards()[name].sold_gb:g} GB" if cards.cards()[name].sizes_gb else ""
    found = cards.card(name.lower() + shared if name.count("GB") or shared else name)
    assert (found.name, found.memory_bytes) == (name, cards.cards()[name].memory_bytes)


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_a_card_that_is_sold_with_several_memories_is_asked_for(name):
    with raises("AmbiguousCard") as trouble:
        cards.card(name)
    assert trouble.value.values["example"] == AMBIGUOUS[name]
    assert cards.card(AMBIGUOUS[name]).name in trouble.value.values["cards"]


@pytest.mark.parametrize(("name", "sizes"), [("Apple M3 Max", "36GB|48GB|64GB|96GB|128GB"), ("макбук м1", "8GB|16GB")])
def test_a_machine_that_is_sold_with_several_memories_is_asked_for(name, sizes):
    with raises("AmbiguousCard") as trouble:
        cards.card(name)
    assert re.findall(r"\d+GB", trouble.value.values["cards"]) == sizes.split("|")
    assert cards.card(trouble.value.values["example"]).sold_gb == float(sizes.partition("GB")[0])


@pytest.mark.parametrize("name", ["RTX 9090", "banana", "", "RTX", "24", "4090 48GB", "1000000x H100", "NVIDIA"])
def test_a_card_that_is_none_is_refused_with_the_nearest(name):
    with raises("UnknownCard") as trouble:
        cards.card(name)
    assert trouble.value.values["nearest"].split(", ")[0] in cards.cards()


@pytest.mark.parametrize(
    "name", ["8x H100", "8×H100", "H100 x8", "8 H100", "восемь H100", "8 х Н100"]
)  # the last in Cyrillic
def test_of_several_cards_one_is_answered_for(name):
    found = cards.card(name)
    assert (found.name, found.asked) == ("NVIDIA H100 80GB SXM", 8)


@pytest.mark.parametrize(("name", "asked"), [("два 3090", 2), ("2 3090", 2), ("two rtx 3090", 2), ("0x 3090", 1)])
def test_cards_that_are_counted_in_words_are_counted(name, asked):
    found = cards.card(name)
    assert (found.name, found.asked) == ("NVIDIA GeForce RTX 3090", asked)


@pytest.mark.parametrize("name", ["12 GB", "12gb", "12 ГБ", "карта 12 ГБ", "12 GB card", "видеокарта на 12 ГБ"])
def test_a_memory_alone_is_a_guess_at_a_typical_card(name):
    found, like = cards.card(name), cards.card("3060 12GB")
    assert found.name == "12 GB (≈ NVIDIA GeForce RTX 3060 12GB)"
    assert (found.is_guess, found.measured, found.memory_bytes) == (True, False, like.memory_bytes)
    assert (found.bandwidth, found.matmul_tflops) == (like.bandwidth, like.matmul_tflops)


@pytest.mark.parametrize(
    ("name", "gb", "known", "gib"),
    [
        ("3060", 8, "NVIDIA GeForce RTX 3060 8GB", 7.76),
        ("NVIDIA GeForce RTX 3060 12GB", 8, "NVIDIA GeForce RTX 3060 8GB", 7.76),
        ("4090", 48, "NVIDIA GeForce RTX 4090", 47.28),
        ("A100", 12, "NVIDIA A100 12GB", 11.82),
        ("M3 Max", 36, "Apple M3 Max", 24.0),
        (None, 12, "12 GB (≈ NVIDIA GeForce RTX 3060 12GB)", 11.6),
        ("CPU", 16, "CPU", 16.0),
        ("процессор", 16, "CPU", 16.0),
    ],
)
def test_the_memory_that_a_person_says_goes_before_the_name(name, gb, known, gib):
    found, free = cards.chosen(name, gb)
    assert (found.name, free) == (known, found.memory_bytes)
    assert free / GIB == pytest.approx(gib, abs=0.01)


@pytest.mark.parametrize(
    ("text", "value"), [("12", 12), ("12,5", 12.5), ("12 ГБ", 12), ("24GB", 24), (8, 8), (None, None), ("", None)]
)
def test_a_memory_is_read_as_people_write_it(text, value):
    assert cards.gigabytes(text) == value


@pytest.mark.parametrize(
    ("text", "trouble"), [("0", errors.OutOfRange), (-1, errors.OutOfRange), ("much", errors.NotAnAmount)]
)
def test_a_memory_that_is_none_is_refused(text, trouble):
    with pytest.raises(trouble):
        cards.gigabytes(text)


def test_the_command_line_says_which_card_it_answers_for():
    def run(*words):
        found = command.run(command.parser().parse_args([*words, "--model", "starter"]))
        return {key: found.get(key) for key in ("gpu", "card_gib", "rates", "gpus_asked")}

    assert run("--memory-gb", "12") == {
        "gpu": "12 GB (≈ NVIDIA GeForce RTX 3060 12GB)", "card_gib": 11.6,
        "rates": "a guess: those of a typical card with as much memory", "gpus_asked": None,
    }  # fmt: skip
    assert run("--gpu", "8x H100") == {
        "gpu": "NVIDIA H100 80GB SXM", "card_gib": 79.1, "rates": None, "gpus_asked": 8,
    }  # fmt: skip


def test_every_entry_has_a_source_and_rates_that_are_possible():
    recalled = []
    for entry in (*cards._data()["gpus"], *cards._data()["others"]):
        assert entry["dense_bf16_source"]
        assert entry["source"]
        recalled += [entry["name"]] * ("from memory" in entry["source"] + entry["dense_bf16_source"])
        found = cards.cards()[entry["name"]]
        assert 0.5 < found.memory_bytes / GIB / found.sold_gb <= 1
        assert found.fp32_tflops <= 1.1 * (entry.get("dense_bf16_tflops") or entry["dense_fp16_tflops"])
    assert len(recalled) < 24, recalled


# Of the fp32 rate: what tensor cores of a family reach with fp16 or bf16 and sums in fp32, without sparsity.
FAMILIES = {
    "GTX 10": 1, "GTX 16": 2, "GeForce RTX 20": 4, "GeForce RTX 30": 2, "GeForce RTX 40": 2, "GeForce RTX 50": 2,
    "Quadro RTX": 8, "RTX A": 4, "Ada Generation": 4, "RTX PRO": 4, "RX 6": 2, "RX 7": 2, "RX 9": 4, "Arc": 8,
    "Apple M": 1,
}  # fmt: skip


def test_the_tensor_rate_of_a_card_is_that_of_its_family():
    for entry in (*cards._data()["gpus"], *cards._data()["others"]):
        times = next((times for words, times in FAMILIES.items() if words in entry["name"]), None)
        rate = entry["dense_bf16_tflops"] or entry["dense_fp16_tflops"]
        if times:
            assert rate / entry["fp32_tflops"] == pytest.approx(times, rel=0.08), entry["name"]


def test_a_laptops_card_is_slower_than_the_desktop_one_of_its_number():
    names = {name: card for name, card in cards.cards().items() if "Laptop" in name}
    assert len(names) > 15
    for name, laptop in names.items():
        number = name.partition(" Laptop")[0]
        desktop = [card for other, card in cards.cards().items() if re.fullmatch(rf"{number}( \d+GB)?", other)]
        assert not desktop or laptop.fp32_tflops < max(card.fp32_tflops for card in desktop), name


def test_a_measured_rate_is_near_the_data_sheets_but_where_the_reason_is_written():
    for entry in (*cards._data()["gpus"], *cards._data()["others"]):
        if entry.get("measured_bf16_matmul_tflops"):
            sheet = entry["dense_bf16_tflops"] or entry["dense_fp16_tflops"]
            share = cards.cards()[entry["name"]].matmul_tflops / sheet
            explained = "slowly" in entry["measured_source"] or "power-capped" in entry["measured_source"]
            assert explained or 0.5 < share < 1.3, entry["name"]
            assert entry["measured_source"]


QUESTION = SUGGESTED | {
    "model": "Qwen/Qwen2.5-7B", "method": "qlora", "corpus": "", "tokens": "100M", "epochs": "3", "max_length": 2048,
    "target_modules": "all-linear", "optim": "adamw_torch", "attention": "sdpa", "loss": "tiled", "precision": "auto",
    "gradient_checkpointing": True, "train_embeddings": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("card", "gb", "words"),
    [
        ("RTX 4070", None, "GiB of 11.6 GiB on GeForce RTX 4070 12GB."),
        ("3060", 12, "GiB of 11.6 GiB on GeForce RTX 3060 12GB."),
        ("12 GB", None, "Only the memory is known"),
        ("8x H100", None, "You named 8 cards. This is the answer for one H100 80GB SXM"),
        ("3060", None, "sold with different memories: NVIDIA GeForce RTX 3060 12GB, NVIDIA GeForce RTX 3060 8GB."),
        ("RTX 9090", None, "No card “RTX 9090” is in the catalogue"),
        ("RTX 4070", -1, "Memory, GB must be a number"),
    ],
)
def test_the_page_answers_for_the_card_that_was_typed_or_not_at_all(card, gb, words):
    html = calculator.on_ask(Say("en"), **QUESTION, card=card, memory_gb=gb)[0]
    assert (
        words.replace("“", "&#34;").replace("”", "&#34;") in html or words.replace("“", '"').replace("”", '"') in html
    )
