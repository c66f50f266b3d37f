"""Texts of a set that are too near to each other, or too far, by the hidden states of a model of this machine."""

import threading
import zlib

import numpy as np
import pytest

from core.errors import UserError
from core.synth import chain_checks, lemmas, preview, recipes
from core.synth.chain_source import FromChain
from core.synth.local import Local, WriterWaits
from core.synth.nearness import Nearness, pairs
from tests.endpoint_server import serving
from tests.test_synth_chains import Batches, author, told

RECIPE = """
kind: chain
lang: en
cards: {worn: [tapestry]}
steps:
  - name: plan
    plan: {thing: "{thing}"}
  - name: line
    write: "Write a line with {{ plan.thing }}."
  - name: more
    write: "Go on after: {{ line }}"
    check: {near: {to: [line], least: 0.1, most: "0.8"}}
    rewrite: true
rows:
  - text: "{{ line }} {{ more }}"
rules:
  thing: [kettle, rope, lamp, anvil, ferry, saddle, basin, lantern]
"""
NEAR = 'least: 0.1, most: "0.8"'


@pytest.fixture
def serve(monkeypatch):
    yield from serving(monkeypatch)


def bags(texts: list[str], lang: str = "en") -> np.ndarray:
    """Bags of lemmas that all lie one way, as hidden states do."""
    rows = np.full((len(texts), 2048), 3.0)
    for row, text in zip(rows, texts, strict=True):
        for token in lemmas.tokens(text):
            row[zlib.crc32(lemmas.of(token, lang)[0].encode()) % 2048] += 1
    return rows


@pytest.mark.parametrize("lang", ["en", "ru"])
def test_the_scale_goes_from_unrelated_texts_to_paraphrases(lang):
    nearness = Nearness(lambda texts: bags(texts, lang), lang)
    (one, again), (other, _) = pairs(lang)[:2]
    raw = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in [bags([one, other], lang)]]
    assert raw[0] > 0.99
    alike, unlike, same = nearness(one, [again, other, one])
    assert unlike < 0.3 < 0.5 < alike < same


@pytest.mark.parametrize(("near", "fault"), [(0.81, "too_near"), (0.5, None), (0.09, "too_far")])
def test_a_text_lies_between_what_is_too_near_and_what_is_too_far(near, fault):
    values = {"near": {"to": ["a", "b"], "least": 0.1, "most": 0.8}}
    given = chain_checks.Given("en", set(), values, lambda text, others: [-1.0, near])
    faults = chain_checks.found("The ferry left without a lamp, and the rope was wet.", given)
    assert faults == ([(fault, f"{near:.2f}: 0.1-0.8")] if fault else [])


class Copyist(Batches):
    """Says the first line again, in another order, for each second prompt; and once more when it is told of it."""

    def __init__(self, mends: bool):
        super().__init__()
        self.mends, self.read = mends, []

    def line(self, chat, salt) -> str:
        asked = chat[-1]["content"]
        if asked.startswith("Write"):
            return told(salt, asked.split()[-1].strip("."))
        first = lemmas.sentences(asked)[-1]
        if asked.startswith("A text:"):
            self.read.append(asked)
            return pairs("en")[salt % 12][0] if self.mends else asked.split("\n")[2]
        return "And so " + ", ".join(reversed(first.strip(".").split(", "))) + "."

    def hidden_means(self, texts: list[str]) -> np.ndarray:
        return bags(texts)


def made(monkeypatch, writer, text: str = RECIPE, **request) -> tuple[FromChain, list[dict]]:
    monkeypatch.setattr("core.synth.writers.open_writer", lambda recipe, request: writer)
    monkeypatch.setattr("core.synth.chain_source.open_writer", lambda recipe, request: writer)
    source = FromChain(recipes.read(text, "x.yaml"), 0, {"writer": "m", "parallel": 3} | request)
    rows = source.batch(0)
    source.close()
    return source, rows


def test_a_variation_that_says_the_same_again_is_not_kept(monkeypatch):
    source, rows = made(monkeypatch, Copyist(mends=False))
    assert ([row["reason"] for row in rows], source.unmeasured) == (["too_near"] * 3, ())
    assert rows[0]["detail"].startswith("more: ")


def test_its_writer_is_told_and_may_mend_it(monkeypatch):
    writer = Copyist(mends=True)
    loose = RECIPE.replace("least: 0.1", "least: -9")
    _, rows = made(monkeypatch, writer, loose)
    assert [row["provenance"]["rewritten"] for row in rows] == [["more"]] * 3
    assert all("it says the same as an earlier text, in other words" in asked for asked in writer.read)


def test_the_model_that_a_recipe_names_reads_what_a_server_writes(serve, monkeypatch):
    reader, opened = Copyist(mends=False), []

    def opening(recipe, request):
        opened.append(request.get("writer"))
        return reader

    monkeypatch.setattr("core.synth.chain_source.open_writer", opening)
    text = RECIPE.replace("lang: en\n", "lang: en\nembedder: small\n").replace(NEAR, "least: 98, most: 99")
    request = {"endpoint": serve(author({})).url, "endpoint_model": "m", "parallel": 2}
    source = FromChain(recipes.read(text, "x.yaml"), 0, request)
    rows = source.batch(0)
    source.close()
    assert (opened, source.unmeasured) == (["small"], ())
    assert {row.get("reason") for row in rows} == {"too_far"}


@pytest.mark.slow
def test_a_server_writes_several_rows_at_once_while_a_chosen_model_compares_them(serve, monkeypatch):
    reader, opened, together = Copyist(mends=False), [], threading.Barrier(3, timeout=20)

    def opening(recipe, request):
        opened.append(request.get("writer"))
        return reader

    def reply(number, body):
        if body["messages"][-1]["content"].startswith("Write"):
            together.wait()  # until three rows are asked for
        return author({})(number, body)

    monkeypatch.setattr("core.synth.chain_source.open_writer", opening)
    request = {"endpoint": serve(reply).url, "endpoint_model": "m", "parallel": 3, "embedder": "chosen"}
    text = RECIPE.replace("lang: en\n", "lang: en\nembedder: small\n").replace(NEAR, "least: -98, most: 99")
    source = FromChain(recipes.read(text, "x.yaml"), 0, request)
    rows = []
    while len(rows) < 3:
        rows += source.batch(len(rows))
    source.close()
    assert (opened, source.unmeasured) == (["chosen"], ())
    assert all("row" in row for row in rows)


def test_rows_of_a_server_wait_for_the_model_that_compares_and_are_not_asked_for_again(serve, monkeypatch, tmp_path):
    class Waiting(Copyist):
        busy = True

        def hidden_means(self, texts: list[str]) -> np.ndarray:
            if self.busy:
                raise WriterWaits(name="r")
            return bags(texts)

    reader, server = Waiting(mends=False), serve(author({}))
    monkeypatch.setattr("core.synth.chain_source.open_writer", lambda recipe, request: reader)
    request = {"endpoint": server.url, "endpoint_model": "m", "parallel": 1, "embedder": "chosen"}
    text = RECIPE.replace(NEAR, "least: -98, most: 99")
    source = FromChain(recipes.read(text, "x.yaml"), 0, request, tmp_path)
    for _ in range(2):
        with pytest.raises(WriterWaits):
            source.batch(0)
    asked, reader.busy = len(server.asked), False
    rows = source.batch(0)
    source.close()
    assert (asked, len(server.asked)) == (2, 2)
    assert "row" in rows[0]


@pytest.mark.slow
def test_without_a_model_of_this_machine_that_is_said(serve):
    server = serve(author({}))
    wanted = {"endpoint": server.url, "endpoint_model": "m"}
    shown = preview.preview(recipes.read(RECIPE, "x.yaml"), 0, wanted)
    assert (shown["unmeasured"], bool(shown["rows"])) == (["near"], True)
    assert preview.preview(recipes.load("style-en"), 0, {}).get("unmeasured", []) == []


@pytest.mark.parametrize("lang", ["en", "ru"])
def test_the_sets_of_resonance_are_compared(lang):
    recipe = recipes.load(f"resonance-set-{lang}")
    checks = {
        step.name: step.value["near"] for step in recipe.chain.steps if step.verb == "check" and "near" in step.value
    }
    assert [len(one["to"]) for one in checks.values()] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("near", "words"),
    [
        ("{to: [line], least: 0.1}", "near needs to, least, most"),
        ("{to: [lime], least: 0.1, most: 1}", '"lime", which no step'),
        ("{to: [line], least: plan.thing +, most: 1}", "check cannot be read"),
    ],
)
def test_a_wrong_comparison_is_refused(near, words):
    with pytest.raises(UserError) as error:
        recipes.read(RECIPE.replace('{to: [line], least: 0.1, most: "0.8"}', near), "x.yaml")
    assert words in str(error.value)


@pytest.mark.slow
def test_a_local_model_gives_a_vector_a_text_and_its_memory_back_where_a_run_wants_the_card(tiny_model, monkeypatch):
    writer = Local(str(tiny_model))
    sea, again, lamp = writer.hidden_means(["sea lamp oil", "sea lamp oil", "coffee window"])
    assert np.allclose(sea, again)
    assert not np.allclose(sea, lamp)
    assert np.linalg.norm(sea) <= 1

    def wanted(self):
        raise WriterWaits(name="r")

    monkeypatch.setattr(Local, "_need_card", wanted)
    with pytest.raises(WriterWaits):
        writer.hidden_means(["sea"])
    assert writer.model is None


CASE = (
    "Past the second lock the skipper in the next bunk gave me tea from his can. For three days he filled the cup without "
    "asking, and he went ashore while I slept. The can stood on the shelf, warm. In its lid was scratched: “Per, 1974”."
)
AGAIN = CASE.replace("second lock", "fourth lock").replace("skipper", "pilot").replace("Per, 1974", "Nils, 1969")
YEARS_LATER = (
    "The nurse asked why they did not buy a new can. It hung in the ferry's galley with its dent to the wall. When she left "
    "for the north there was a parcel on her seat, warm, and in the lid, under two names, room for one more."
)
MINUTES = (
    "The committee approved the budget for the coming year by seven votes to two. The school roof is to be repaired in "
    "August; the tender is published on the town's site, and questions are answered until Friday."
)


@pytest.mark.slow
def test_the_starter_tells_a_copy_and_another_subject_from_a_variation(starter_home, monkeypatch):
    from core.synth.local import Local

    monkeypatch.setenv("SOULSMITH_HOME", str(starter_home))
    writer = Local("starter", precision="fp32")
    nearness = Nearness(writer.hidden_means, "en")
    again, later, minutes = nearness(CASE, [AGAIN, YEARS_LATER, MINUTES])
    _, unrelated, paraphrase = nearness.scale()
    writer.close()
    assert paraphrase - unrelated > 0.4
    assert minutes < later < 1.2 < again
