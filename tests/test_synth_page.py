"""The tab that makes corpora: its words, its handlers, and a job that is drawn from what is on the disk."""

import json
import time

import gradio as gr
import psutil
import pytest

from core import jobs
from core.corpus import corpus, import_process
from core.synth import prompts, synth_jobs, worker
from ui import corpora_html, synth, synth_form, synth_html, synth_recipe
from ui.text import Say


def form(**more) -> dict:
    values = {"recipe": "style-en", "volume": 0, "tokens": 5000, "model": "", "name": "", "seed": 4, "file": None}
    values |= {"endpoint": "", "endpoint_model": "", "writer": "", "corpus": "", "parallel": 4, "personas": ""}
    values |= {"temperature": 0.9, "top_p": 1, "max_tokens": 600, "thinking": "", "timeout": 300, "shard": ""}
    return (
        values
        | {
            "judge_endpoint": "",
            "judge_model": "",
            "embedder": "",
            "topics": [],
            "replay": 0,
            "replay_corpus": "",
            "curriculum": False,
        }
        | more
    )


@pytest.mark.parametrize("lang", ["en", "ru"])
def test_the_tab_is_built_in_both_languages(lang):
    say = Say(lang)
    with gr.Blocks():
        assert set(synth.build(say)) == {"changed", "load", "inputs", "outputs"}
        made, _ = synth_form.build(say)
        assert set(made) | set(synth_form.build_more(say)) | {"file"} == set(form())
    assert [name for title, name in synth_recipe.choices(say)][:2] == [
        f"fractal-answers-{lang}",
        f"fractal-story-{lang}",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("lang", ["en", "ru"])
def test_ten_rows_and_the_price_are_shown(lang):
    say = Say(lang)
    shown = list(synth.on_show(say, **form()))[-1][0]
    assert shown.count('class="synth-row"') == 10
    assert say("synth.verdict.amber") in shown
    assert say("synth.good.patterns") in shown


def test_a_bad_recipe_is_told_in_the_language_of_the_page(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("lang: ru\nrules:\n  text: ['{t}']\n  t: ['{t}']\n", encoding="utf-8")
    shown = list(synth.on_show(Say("ru"), **form(recipe=str(path))))[-1][0]
    assert "никогда не кончается" in shown
    with pytest.raises(gr.Error, match="не кончается"):
        synth_recipe.on_own(Say("ru"), str(path))
    with pytest.raises(gr.Error, match="Choose a recipe first"):
        synth.on_start(Say("en"), **form(recipe=None))


@pytest.mark.parametrize("lang", ["en", "ru"])
def test_a_job_is_drawn_and_its_corpus_marks_a_change(lang):
    say = Say(lang)
    directory = synth_jobs.create(synth_form.request(Say("en"), form()) | {"name": "первый"})
    assert worker.run(directory) == "finished"
    probe = synth.look(directory.name)
    status, pause, resume, again, stop, delete, changed, timer = synth.draw(say, directory.name, probe, 0.0)
    assert say("synth.state.finished") in status
    assert "первый" in status
    assert [one["visible"] for one in (pause, resume, again, stop, delete)] == [*[False] * 4, True]
    assert time.time() - changed < 60
    assert not timer.active
    assert synth.draw(say, directory.name, probe, changed)[-2] == gr.skip()
    card = corpus.card(json.loads(probe)["ending"]["corpus"])
    assert corpora_html.card(say, card)


@pytest.mark.parametrize("reason", ["novelty", "bad_replies", "refusals", "repeats", "asked"])
def test_a_pause_says_why(reason):
    progress = {"tokens": 5, "target": 10, "rows": 1, "dropped": 0, "aside": {"refusal": 2}}
    ending = {"event": "paused", "reason": reason, "aside": {"refusal": 2}}
    found = {"request": {"name": "<b>"}, "state": "paused", "progress": progress, "ending": ending, "xray": None}
    shown = synth_html.job(Say("ru"), found)
    assert Say("ru")(f"synth.reason.{reason}", aside="отказ — 2") in shown
    assert "&lt;b&gt;" in shown


def judged(xray: dict) -> str:
    """A job with this x-ray as the English page shows it."""
    return synth_html.job(
        Say("en"), {"request": {"name": ""}, "state": "running", "progress": {}, "ending": {}, "xray": xray}
    )


def test_a_collapse_is_called_by_its_name():
    gauge = {"light": "red", "value": 0.015, "example": ""}
    xray = {"gauges": {"vendi": gauge, "compression": gauge | {"value": 27}}, "verdict": "red"}
    assert "do not train on them" in judged(xray)
    few = {"texts": 211, "gauges": {}, "verdict": "green"}
    assert "these are few rows" in judged(few)
    assert "as varied as natural text" in judged(few | {"texts": 2000})
    xray["gauges"]["vendi"] = gauge | {"value": 0.18}
    assert "The check found a template" in judged(xray)


def test_a_cancelled_preview_leaves_no_process_behind():
    shown = synth.on_show(Say("en"), **form())
    assert "Writing ten rows" in next(shown)[0]
    next(shown)  # half a second later its process has begun
    working = [child for child in psutil.Process().children() if "--preview" in child.cmdline()]
    shown.close()
    assert len(working) == 1
    assert psutil.wait_procs(working, timeout=10)[1] == []


@pytest.mark.parametrize(("writer", "memory"), [("", import_process.MEMORY), ("a model", 0)])
def test_a_preview_without_a_local_writer_has_little_memory(monkeypatch, writer, memory):
    limits = []
    monkeypatch.setattr(import_process, "run", lambda command, **given: limits.append(given["memory"]) or [{}])
    monkeypatch.setattr(synth.synth_html, "preview", lambda say, shown: "")
    assert list(synth.on_show(Say("en"), **form(writer=writer)))[-1][0] == ""
    assert limits == [memory]


def test_settings_of_the_form_count_when_its_job_goes_on(monkeypatch):
    wanted = synth_form.request(Say("en"), form(recipe="grid-en", endpoint="http://127.0.0.1:1/v1", endpoint_model="m"))
    assert (wanted["top_p"], wanted["shard"], wanted["max_tokens"]) == (None, None, 600)
    directory = synth_jobs.create(wanted)
    monkeypatch.setattr(synth_jobs, "start", lambda _: None)
    settings = {key: form()[key] for key in synth_jobs.CHANGEABLE} | {"endpoint": "http://127.0.0.1:1/v1"}
    changed = settings | {"endpoint_model": "m", "temperature": 0.3, "top_p": 0.8, "thinking": "off"}
    synth.on_ask(Say("en"), "resume", directory.name, recipe="style-en", **changed)
    assert jobs.request(directory)["temperature"] == 0.9
    synth.on_ask(Say("en"), "resume", directory.name, recipe="grid-en", **changed)
    now = jobs.request(directory)
    assert (now["temperature"], now["top_p"], now["thinking"], now["endpoint_model"]) == (0.3, 0.8, "off", "m")


def test_a_recipe_is_told_in_a_sentence_with_its_steps():
    told = synth_recipe.told(Say("ru"), "voices-ru")
    assert told.startswith("Двое из двенадцати голосов спорят над чьим-то вопросом")
    assert "Шаги: `plan` замысел; `talk` текст, проверка, правка; `said_a` сборка, проверка;" in told
    assert "Шаги" not in synth_recipe.told(Say("ru"), "style-ru")
    assert synth_recipe.told(Say("en"), None) == ""
    assert "There is no recipe nowhere" in synth_recipe.told(Say("en"), "nowhere")


@pytest.mark.parametrize("lang", ["en", "ru"])
def test_every_reason_of_a_chain_has_words(lang):
    reasons = {"length", "turns", "turn_length", "missing_word", "banned_word", "forbidden_word", "spec", "worn"}
    reasons |= {"too_often", "ending", "repeats", "not_longer", "not_new", "shared_noun", "shared_name", "new_number"}
    reasons |= {"other_language", "low_score", "not_recognised", "no_verdict", "template", "too_near", "too_far"}
    assert {reason: reason in prompts.WORDS["faults"][lang] for reason in reasons - OF_A_ROW} == dict.fromkeys(
        reasons - OF_A_ROW, True
    )
    assert all(f"corpora.reason.{reason}" in Say(lang) for reason in reasons)


OF_A_ROW = {"low_score", "no_verdict", "template"}  # the judge's own words tell the writer, or nothing is mended
