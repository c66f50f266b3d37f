"""Everybody but a run on a pretended card: chat, arena, measuring, a local writer, merge and GGUF; who makes room for whom."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core import profiles, recipe, runs
from core import paths as places
from core.recipe import TrainConfig
from tests import pretended_card
from tests.conftest import chat_rows

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(pretended_card.missing()), reason=pretended_card.missing() or "there"),
]
ROOT = Path(__file__).parent.parent


def walk(name: str, environment: dict | None = None, **values) -> dict:
    """What a walk of tests/pretended_card/chat.py says, in a process with these variables; without any, on the processor."""
    environment = (environment or os.environ | {"OMP_NUM_THREADS": "1"}) | {"SOULSMITH_HOME": str(places.home())}
    command = [sys.executable, "-m", "tests.pretended_card.chat", name, json.dumps(values)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert not done.returncode, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def stubborn(tiny_model, tmp_path_factory):
    """Adapters that say "storm" and "bread" whatever they are asked, by the word."""
    found = {}
    for word in ("storm", "bread"):
        out = tmp_path_factory.mktemp(word)
        rows = [
            {"messages": [row["messages"][0], {"role": "assistant", "content": f"{word} " * 11 + word}]}
            for row in chat_rows(40)
        ]
        (out / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        settings = {"max_steps": 40, "batch_size": 8, "learning_rate": 0.02, "eval_steps": 40, "precision": "fp32"}
        config = TrainConfig(base_model=tiny_model, corpus=str(out / "rows.jsonl"), method="lora", **settings)
        recipe.train(config, out, report=lambda *_, **__: None)
        found[word] = out / "adapter"
    return found


@pytest.fixture
def made(stubborn, tiny_model, tiny_corpus):
    """Make a run of a stubborn adapter: its id."""

    def make(word: str, **settings) -> str:
        config = TrainConfig(base_model=tiny_model, corpus=tiny_corpus, **{"method": "lora"} | settings)
        run_id = runs.create(config, f"{word} {len(runs.listed())}")
        shutil.copytree(stubborn[word], places.run(run_id) / "adapter")
        return run_id

    return make


def four(made, tiny_model, **settings) -> dict[str, str]:
    """Four columns: the base, two adapters and a profile."""
    profile = profiles.Profile("Keeper", base_model=tiny_model, system_prompt="You keep the lamp.")
    profiles.save(profile)
    return {
        "base": f"base:{tiny_model}",
        "storm": f"run:{made('storm', **settings)}",
        "bread": f"run:{made('bread', **settings)}",
        "profile": f"profile:{profile.id}",
    }


CARD, OLD_CARD = (8, 0), (7, 5)


@pytest.mark.parametrize("flash", [False, True])
def test_pretended_card_replies_like_the_processor_in_fp32_in_two_and_four_columns(made, tiny_model, flash):
    ids = four(made, tiny_model, precision="fp32")
    for asked in (dict(list(ids.items())[:2]), ids):
        found, wanted = walk("columns", pretended_card.environment(flash=flash), ids=asked), walk("columns", ids=asked)
        assert found["texts"] == wanted["texts"]
        assert found["mixed"] == []
        assert found["held"] == [wanted["held"][0] | {"device": "cuda:0"}]
    assert "storm storm storm" in found["texts"]["storm"]
    assert "bread bread bread" in found["texts"]["bread"]


@pytest.mark.parametrize(("capability", "dtype"), [(CARD, "torch.bfloat16"), (OLD_CARD, "torch.float16")])
@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_pretended_card_holds_a_base_in_what_it_computes_fast(made, tiny_model, method, capability, dtype):
    ids = four(made, tiny_model, method=method, precision="auto")
    found = walk("columns", pretended_card.environment(capability, flash=True), ids=ids)
    held = {"device": "cuda:0", "dtype": dtype, "quantised": method == "qlora", "attention": "sdpa"}
    assert (found["held"], found["mixed"]) == ([held], [])
    assert "storm storm storm" in found["texts"]["storm"]
    assert "bread bread bread" in found["texts"]["bread"]


def test_pretended_card_is_waited_for_once_a_token(made, tiny_model):
    """Sampling too. Where prompts of different lengths share a batch, transformers asks once more whether the mask is full."""
    ids = four(made, tiny_model)
    drawn = {"temperature": 0.8, "repetition_penalty": 1.1, "tokens": 8}
    for flash in (False, True):
        card = pretended_card.environment(flash=flash)
        even = walk("columns", card, ids={name: ids[name] for name in ("base", "storm", "bread")}, **drawn)
        assert even["waits"][1:-1] == [{"_to_copy": 1}] * (len(even["waits"]) - 2)
        padded = walk("columns", card, ids=ids, **drawn)
        assert max(sum(step.values()) for step in padded["waits"][2:]) <= 3
        assert all(step.get("_local_scalar_dense", 0) <= 1 for step in padded["waits"][2:])


def test_pretended_card_is_left_alone_by_replies_from_the_processor(made, tiny_model):
    ids = {"base": f"base:{tiny_model}", "storm": f"run:{made('storm', method='qlora')}"}
    found = walk("columns", pretended_card.environment(), ids=ids, on_cpu=True)
    assert found["held"] == [{"device": "cpu", "dtype": "torch.float32", "quantised": False, "attention": "sdpa"}]
    assert "storm storm storm" in found["texts"]["storm"]
    assert found["waits"] == [{}] * len(found["waits"])


def test_pretended_card_measures_the_held_out_loss_of_the_processor(made):
    one = f"run:{made('storm', precision='fp32')}"
    found, wanted = (walk("measured", card, contestant=one) for card in (pretended_card.environment(), None))
    assert found["loss"] == pytest.approx(wanted["loss"], rel=1e-5)
    assert (found["rows"], found["mixed"]) == (wanted["rows"], [])


@pytest.mark.parametrize(("capability", "dtype"), [(CARD, "torch.bfloat16"), (OLD_CARD, "torch.float16")])
def test_pretended_card_takes_a_local_writer(tiny_model, capability, dtype):
    found = walk("written", pretended_card.environment(capability, flash=True), model=tiny_model)
    assert found["held"] == {"device": "cuda:0", "dtype": dtype, "quantised": False, "attention": "sdpa"}
    assert found["texts"] == found["alone"]
    assert found["mixed"] == []


def test_pretended_card_with_little_memory_takes_a_local_writer_in_4_bit(tiny_model):
    small = {**pretended_card.A100, "free": 200_000, "capability": CARD}
    found = walk("written", pretended_card.environment(cards=[small]), model=tiny_model)
    assert (found["held"]["quantised"], found["mixed"]) == (True, [])
    too_small = pretended_card.environment(cards=[small | {"free": 50_000}])
    assert "GiB are free" in walk("refused_writer", too_small, model=tiny_model)["message"]


def test_pretended_card_merges_and_writes_gguf_to_the_same_bytes(made):
    run_id = made("storm")
    found, wanted = (walk("exported", card, run_id=run_id) for card in (pretended_card.environment(), None))
    assert found == wanted
    assert {name.rsplit(".")[-1] for name in found["files"]} >= {"safetensors", "gguf"}


def test_pretended_card_answers_and_measures_a_match(made, tiny_model):
    sides = {"a": f"base:{tiny_model}", "b": f"run:{made('storm', precision='fp32')}"}
    found, wanted = (walk("matched", card, **sides) for card in (with_driver(), None))
    assert found["answers"] == wanted["answers"]
    assert found["losses"] == pytest.approx(wanted["losses"], rel=1e-5)


def with_driver(**settings) -> dict:
    """The card's environment with a driver's tool that lists it: the page asks that one, and never torch."""
    environment = pretended_card.environment(**settings)
    tool = places.home() / "bin" / "nvidia-smi"
    tool.parent.mkdir(parents=True, exist_ok=True)
    tool.write_text("#!/bin/sh\necho 'NVIDIA A100-SXM4-40GB, 40960, 30720, 8.0, 400'\n")
    tool.chmod(0o755)
    return environment | {"PATH": f"{tool.parent}{os.pathsep}{environment['PATH']}"}


def test_pretended_card_goes_from_the_chat_to_a_run_and_the_processor_s_chat_stays(made, tiny_model, tiny_corpus):
    found = walk("evicted", with_driver(), run_id=made("storm"), model=tiny_model, corpus=tiny_corpus)
    assert found == {
        "before": True,
        "during": False,
        "busy": 'The run "first" is training and has the card. Wait for its end, or let the reply come from the CPU.',
        "ended": ["ChatClosed"],
        "on_cpu_stays": True,
        "on_cpu_finish": "length",
    }


def test_pretended_card_goes_from_a_writer_to_a_run_and_back(tiny_model, tiny_corpus, tmp_path):
    found = walk("written_beside_a_run", with_driver(), model=tiny_model, corpus=tiny_corpus, folder=str(tmp_path))
    assert found["events"] == ["started", "progress", "waiting", "going_on", "progress", "paused"]
    assert found["waits_for"] == "the run"
    assert found["guests_during"] is False
    assert found["rows_after"] > found["rows_before"] > 0
