"""The whole job on real weights without the page, as a person would call it; and a recorded run to look at."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from core import demo, paths
from core.chat import types
from core.corpus import corpus
from core.runs import runs, store
from core.training import corpus_rows
from core.training.config import TrainConfig
from ui import opening_road
from ui.text import Say

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_the_demo_trains_the_starter_and_its_reply_changes(starter_home):
    """Half of its steps: with all 48, which take twice the minutes, the tuned reply says "Keep the lamp lit."."""
    command = [sys.executable, "-m", "core.demo", "--json", "--steps", "24", "--home", str(starter_home)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["status"] == "finished"
    assert result["tuned_eval_loss"] < 0.8 * result["base_eval_loss"]
    assert result["tuned_reply"].strip()
    assert result["tuned_reply"] != result["base_reply"]
    assert result["tokens_per_second"] > 0
    assert result["peak_memory_gib"] > 0
    assert result["run"]


def test_the_question_of_the_demo_is_one_that_the_run_has_not_seen(home):
    """The first message of a row that was held out; no row that was learned begins with it."""
    config = TrainConfig(base_model="starter", corpus=demo.sample_corpus(), max_steps=1)
    run_id = runs.create(config, "demo")
    asked = demo.question(run_id)
    learned, held_out = corpus_rows.split(
        list(corpus_rows.read_rows(paths.corpus(config.corpus))), config.validation_share
    )
    assert asked in [row["messages"][0]["content"] for row in held_out]
    assert asked not in [row["messages"][0]["content"] for row in learned]


def test_a_reply_that_was_cut_off_ends_with_a_whole_sentence():
    text = "Put the kettle on. Then watch the sea. It will"
    assert demo.whole(types.Reply(text, finish_reason="length")) == "Put the kettle on. Then watch the sea. …"
    assert demo.whole(types.Reply("no end in sight", finish_reason="length")) == "no end in sight …"
    assert demo.whole(types.Reply(" It will ", finish_reason="stop")) == "It will"


def test_a_recorded_run_has_no_weights_and_offers_nothing_that_needs_them(home):
    (run_id,) = demo.add_recorded_runs()
    addresses = re.findall(r'href="#([^"]+)"', opening_road.draw(Say("en")))
    assert f"runs/{run_id}" in addresses
    assert [one for one in addresses if one.startswith(("playground/", "export/"))] == []


def test_a_recorded_run_shows_every_tab_alive(home):
    """It says what it is, holds no path of the machine it was recorded on, and is put there once."""
    (run_id,) = demo.add_recorded_runs()
    assert demo.add_recorded_runs() == [run_id]
    row, curves = store.sync(run_id), store.curves(run_id)
    assert row["state"] == "finished"
    assert "recorded" in row["name"]
    assert runs.config(run_id).corpus in [card["id"] for card in corpus.listed()]
    assert row["eval_loss"] < row["base_eval_loss"]
    assert len(curves["steps"]) == row["max_steps"]
    written = "".join(file.read_text(encoding="utf-8") for file in (paths.assets() / "recorded").rglob("*.json*"))
    assert not re.search(r"/(tmp|work|root|home)/", written)
