"""The Training tab's approaches: what choosing one sets, and the profile that is saved."""

from dataclasses import asdict

import gradio as gr
import pytest

from core import events, paths
from core.chat import profiles
from core.corpus import corpus
from core.runs import runs
from core.training.config import TrainConfig
from ui import run_html, training, training_approach, training_form
from ui.text import Say

SAY = Say("en")


def values(updates) -> list:
    """What handlers give to components: values as they are, of components their value and visibility."""
    kinds = (gr.components.Component, gr.Column)
    return [
        (getattr(update, "value", None), update.visible) if isinstance(update, kinds) else update for update in updates
    ]


def test_an_approach_sets_method_task_and_packing():
    def fields(approach: str) -> list:
        return values(training_approach.on_approach(SAY, approach, "starter"))[5:8]

    for approach in ("qlora", "lora", "full"):
        assert fields(approach) == [(approach, False), "chat", False]
    assert fields("text") == [("lora", True), "text", True]
    assert fields("preference") == [("lora", True), "preference", False]


def test_the_settings_of_preferences_are_there_for_preferences_alone():
    for approach in training_approach.APPROACHES:
        shown = training_approach.on_approach(SAY, approach, "starter")[8:]
        assert [field.visible for field in shown] == [approach == "preference"] * 5


@pytest.mark.parametrize(
    ("kind", "approach", "taken"),
    [
        ("text", "qlora", "text"),
        ("text", "text", None),
        ("text", "prompt", None),
        ("chat", "text", "qlora"),
        ("chat", "full", None),
        ("mixed", "text", None),
        ("mixed", "preference", "qlora"),
        ("preference", "qlora", "preference"),
        ("preference", "preference", None),
        ("chat", "preference", "qlora"),
        ("judged", "text", "preference"),
    ],
)
def test_a_corpus_chooses_its_approach(monkeypatch, kind, approach, taken):
    said = []
    monkeypatch.setattr(gr, "Info", said.append)
    (paths.corpora() / "c").mkdir()
    (paths.corpora() / "c" / "card.json").write_text(f'{{"name": "c", "kind": "{kind}"}}', encoding="utf-8")
    first, *updates = training_approach.on_corpus(SAY, "c", approach, "starter")
    assert [value for _, value in first.choices if value == "preference"] == ["preference"] * (
        kind in ("preference", "judged")
    )
    assert said == []  # a page that opens sets the approach as well, and nobody asked it anything
    training_approach.on_chosen(SAY, "c", approach)
    if taken is None:
        assert updates == [gr.skip()] * 13
        assert said == []
    else:
        assert first.value == taken
        assert values(updates) == values(training_approach.on_approach(SAY, taken, "starter", corpus_id="c"))
        assert len(said) == 1


@pytest.mark.parametrize(("approach", "loss"), [("preference", "kto"), ("text", "kto"), ("lora", None)])
def test_replies_without_pairs_are_for_kto_and_stay_chats_too(approach, loss):
    (paths.corpora() / "c").mkdir()
    (paths.corpora() / "c" / "card.json").write_text('{"name": "c", "kind": "judged"}', encoding="utf-8")
    first, *updates = training_approach.on_corpus(SAY, "c", approach, "starter")
    assert getattr(first, "value", None) == ("preference" if approach == "text" else None)
    assert [update.value for update in updates[8:9]] == [loss]
    of_chats, of_preferences = (
        training_form.usual("starter", "lora", "c", None, task)["learning_rate"] for task in ("chat", "preference")
    )
    assert of_chats == pytest.approx(20 * of_preferences)


@pytest.mark.parametrize(
    ("kind", "method", "task", "approach"),
    [
        ("preference", "qlora", "preference", "preference"),
        ("text", "full", "text", "text"),
        ("chat", "full", "chat", "full"),
    ],
)
def test_the_corpus_of_a_run_that_goes_on_leaves_its_method(kind, method, task, approach):
    (paths.corpora() / "c").mkdir()
    (paths.corpora() / "c" / "card.json").write_text(f'{{"name": "c", "kind": "{kind}"}}', encoding="utf-8")
    chosen, note, run_part, profile_part = training_approach.of_run(
        SAY, {"corpus": "c", "method": method, "task": task}
    )
    assert (chosen.value, note) == (approach, SAY(f"approach.{approach}.about"))
    assert approach in [value for _, value in chosen.choices]
    assert (run_part.visible, profile_part.visible) == (True, False)
    fields = training_approach.fields_of_run({"method": method, "task": task, "beta": 0.2})
    assert (fields["method"]["value"], fields["method"]["visible"]) == (method, task != "chat")
    assert (fields["beta"]["value"], fields["beta"]["visible"]) == (0.2, task == "preference")
    assert training_approach.on_corpus(SAY, "c", chosen.value, "starter")[1:] == (gr.skip(),) * 13


@pytest.mark.parametrize("method", ["qlora", "lora", "full"])
def test_go_on_from_texts_to_chats_to_preferences_keeps_the_method(monkeypatch, method):
    monkeypatch.setattr(gr, "Info", lambda words: None)
    for kind in ("text", "chat", "preference"):
        (paths.corpora() / kind).mkdir()
        (paths.corpora() / kind / "card.json").write_text(f'{{"name": "c", "kind": "{kind}"}}', encoding="utf-8")
    for approach, corpus_id, suited in (("text", "chat", method), (method, "preference", "preference")):
        chosen, *updates = training_approach.on_corpus(SAY, corpus_id, approach, "starter", method, "run:parent")
        task = "chat" if corpus_id == "chat" else "preference"
        assert (chosen.value, values(updates)[5:8]) == (suited, [(method, task != "chat"), task, False])
    for approach in training_approach.WITH_METHOD:  # chosen by hand
        assert values(training_approach.on_approach(SAY, approach, "starter", method, "run:parent"))[5][0] == method
        assert values(training_approach.on_approach(SAY, approach, "starter", method, ""))[5][0] == "lora"


def test_a_plan_of_the_calculator_chooses_its_approach():
    for method, task, approach in (
        ("full", "chat", "full"),
        ("full", "text", "text"),
        ("qlora", "preference", "preference"),
    ):
        chosen = training_approach.on_fields(SAY, None, "qlora", method, task)[0]
        assert chosen.value == approach
        assert approach in [value for _, value in chosen.choices]


def test_a_profile_is_saved_from_the_form_and_opened_again(monkeypatch):
    monkeypatch.setattr(gr, "Info", lambda words: None)
    rows = [["Who are you?", "The keeper."], ["", ""], [None, None]]
    saved = training_approach.on_save(SAY, " Keeper ", "starter", "You keep a lighthouse.", rows)
    assert saved.value == "keeper"
    pairs = (("Who are you?", "The keeper."),)
    assert profiles.listed() == [profiles.Profile("Keeper", "starter", "You keep a lighthouse.", pairs)]
    assert training_approach.on_open(SAY, "keeper") == ("Keeper", "starter", "You keep a lighthouse.", [list(pairs[0])])
    with pytest.raises(gr.Error, match="Example 1 lacks its question or its reply"):
        training_approach.on_save(SAY, "x", "starter", "", [["Who are you?", ""]])
    training_approach.on_delete(SAY, "keeper")
    assert profiles.listed() == []


def test_most_rows_cut_off_is_a_warning_and_no_small_print():
    (paths.runs() / "r").mkdir()
    events.append(paths.run("r"), "data", rows_train=181, rows_eval=4, tokens_train=9, tokens_learned=6, rows_cut=181)
    assert run_html.start_warning(SAY, "r").startswith("181 of 181 rows are cut off at max_length:")
    assert "cut off" not in run_html.start_line(SAY, "r")


def test_a_run_says_what_it_found_and_which_attention_it_uses_and_why():
    (paths.runs() / "r").mkdir()
    assert run_html.start_line(SAY, "r") == ""
    events.append(
        paths.run("r"), "data", rows_train=36, rows_eval=4, tokens_train=1234, tokens_learned=600, fill=0.987, blocks=3,
        rows_cut=2, rows_text=0,
    )  # fmt: skip
    assert run_html.start_warning(SAY, "r") == ""
    events.append(paths.run("r"), "model", attention="sdpa", flash_attention_lacks="package")
    assert run_html.start_line(SAY, "r") == (
        "36 rows to learn from, 4 held out · 1,234 tokens, 600 of them learned · 2 rows cut off at max_length · 3 blocks, 98.7% full · "
        "attention: sdpa, because the package flash-attn is not installed"
    )
    events.append(paths.run("r"), "model", attention="sdpa", flash_attention_lacks="card", by_document=True)
    assert "attention: sdpa, each document of a block by itself, because" in run_html.start_line(SAY, "r")
    events.append(paths.run("r"), "model", attention="sdpa", flash_attention_lacks="broken", varlen=True)
    assert run_html.start_line(SAY, "r").endswith(
        "attention: sdpa, all documents of a block in one call, because the installed flash-attn does not load: "
        "reinstall it for this torch, or remove it"
    )
    events.append(
        paths.run("r"), "model", attention="sdpa", flash_attention_lacks="apple", varlen=True, by_document=True
    )
    assert run_html.start_line(SAY, "r").endswith(
        "attention: sdpa, in some layers each document of a block by itself, because FlashAttention 2 is not made for "
        "Apple's GPU"
    )
    events.append(paths.run("r"), "model", attention="flash_attention_2", flash_attention_lacks="")
    assert run_html.start_line(Say("ru"), "r").endswith("ядро внимания: flash_attention_2")
    events.append(paths.run("r"), "model", attention="eager", flash_attention_lacks="class", experts=4)
    assert run_html.start_line(SAY, "r").endswith(
        "attention: eager, because this kind of model does not support FlashAttention 2 · "
        "adapters on the experts, without dropout; the router is not trained"
    )


def test_three_steps_are_a_trial_that_nobody_is_offered_first(monkeypatch, tiny_model, tiny_corpus):
    monkeypatch.setattr(runs, "start_worker", lambda: None)
    monkeypatch.setattr(gr, "Info", lambda words: None)
    made = corpus.create([corpus.samples()[0]["path"]], "My corpus")["id"]
    values = {"base_model": tiny_model, "corpus": made, "method": "lora"}
    config = TrainConfig(**values)
    training.on_train(SAY, "real", **asdict(config))
    training.on_try(SAY, "", **asdict(config))
    older, newer = runs.listed()
    if runs.label(older)["name"] != "real":
        older, newer = newer, older
    assert runs.label(newer)["name"] == "three steps: My corpus · lora"
    assert runs.config(newer).max_steps == 3
    assert runs.by_use() == [older, newer]


def test_a_corpus_that_was_just_made_is_the_one_to_train_on():
    assert training.on_corpus("new").value == "new"
    assert training.on_corpus(None) == gr.skip()
