"""Everybody but a run on a pretended card: chat, arena, measuring, a local writer, merge and GGUF; who makes room for whom."""

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from core import events, paths
from core.chat import profiles
from core.runs import runs
from core.training import training_loop
from core.training.config import TrainConfig
from tests import pretended_card
from tests.conftest import chat_rows

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(pretended_card.missing()), reason=pretended_card.missing() or "there"),
]
ROOT = Path(__file__).parent.parent


CARD, OLD_CARD = (8, 0), (7, 5)
SAMPLED = {"temperature": 0.8, "repetition_penalty": 1.1, "tokens": 8}


def walk(environment: dict, home: Path, walks: dict) -> dict:
    """What walks of tests/pretended_card/chat.py found, in one process with these variables, over this data directory."""
    environment = environment | {"SOULSMITH_HOME": str(home), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.pretended_card.chat", json.dumps(walks)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=400)
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
        training_loop.train(config, out, report=lambda *_, **__: None)
        found[word] = out / "adapter"
    return found


@pytest.fixture(scope="module")
def house(stubborn, tiny_model, tiny_corpus, tmp_path_factory):
    """A data directory with runs of both adapters and a profile: (directory, ids of four columns by how a base is held)."""
    home, found = tmp_path_factory.mktemp("house") / "дом", {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOULSMITH_HOME", str(home))
        profiles.save(profiles.Profile("Keeper", base_model=tiny_model, system_prompt="You keep the lamp."))
        for kind, settings in (("exact", {"precision": "fp32"}), ("lora", {}), ("qlora", {"method": "qlora"})):
            ids = {"base": f"base:{tiny_model}", "profile": "profile:keeper"}
            for word, adapter in stubborn.items():
                config = TrainConfig(base_model=tiny_model, corpus=tiny_corpus, **{"method": "lora"} | settings)
                run_id = runs.create(config, f"{word} {kind}")
                shutil.copytree(adapter, paths.run(run_id) / "adapter")
                events.append(paths.run(run_id), "finished", steps=40)  # else a worker would train it
                ids[word] = f"run:{run_id}"
            found[kind] = ids
    return home, found


@pytest.fixture(scope="module")
def walked(house, tiny_model):
    """What was found where: "cpu", "card" (with flash-attn), "plain" (without) and "old", each walked once, when asked for."""
    home, ids = house
    two = {name: ids["exact"][name] for name in ("base", "storm")}
    replies = {key: ["columns", {"ids": one}] for key, one in (("two", two), ("four", ids["exact"]))}
    sampled = {
        "even": ["columns", {"ids": {name: ids["lora"][name] for name in ("base", "storm", "bread")}} | SAMPLED],
        "padded": ["columns", {"ids": ids["lora"]} | SAMPLED],
    }
    kinds = {kind: ["columns", {"ids": ids[kind]}] for kind in ("lora", "qlora")} | {
        "written": ["written", {"model": tiny_model}]
    }
    exact = {
        "measured": ["measured", {"contestant": ids["exact"]["storm"]}],
        "exported": ["exported", {"run_id": ids["lora"]["storm"].removeprefix("run:")}],
        "matched": ["matched", {"a": ids["exact"]["base"], "b": ids["exact"]["storm"]}],
    }
    small = {
        "on_cpu": ["columns", {"ids": {name: ids["qlora"][name] for name in ("base", "storm")}, "on_cpu": True}],
        "small": ["written", {"model": tiny_model, "free": 200_000}],
        "too_small": ["refused_writer", {"model": tiny_model, "free": 50_000}],
    }
    places = {
        "cpu": (lambda: dict(os.environ), replies | exact),
        "card": (lambda: with_driver(home, flash=True), replies | sampled | kinds | exact | small),
        "plain": (lambda: pretended_card.environment(), replies | sampled),
        "old": (lambda: pretended_card.environment(OLD_CARD, flash=True), kinds),
    }

    @cache
    def at(place: str) -> dict:
        environment, walks = places[place]
        return walk(environment(), home, walks)

    return at


@pytest.mark.parametrize("card", ["card", "plain"])
def test_pretended_card_replies_like_the_processor_in_fp32_in_two_and_four_columns(walked, card):
    for columns in ("two", "four"):
        found, wanted = walked(card)[columns], walked("cpu")[columns]
        assert found["texts"] == wanted["texts"]
        assert found["held"] == [wanted["held"][0] | {"device": "cuda:0"}]
        assert found["mixed"] == []
    assert "storm storm storm" in found["texts"]["storm"]
    assert "bread bread bread" in found["texts"]["bread"]


@pytest.mark.parametrize(("card", "dtype"), [("card", "torch.bfloat16"), ("old", "torch.float16")])
@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_pretended_card_holds_a_base_in_what_it_computes_fast(walked, method, card, dtype):
    found = walked(card)[method]
    held = {"device": "cuda:0", "dtype": dtype, "quantised": method == "qlora", "attention": "sdpa"}
    assert (found["held"], found["mixed"]) == ([held], [])
    assert "storm storm storm" in found["texts"]["storm"]
    assert "bread bread bread" in found["texts"]["bread"]


@pytest.mark.parametrize("card", ["card", "plain"])
def test_pretended_card_is_waited_for_once_a_token(walked, card):
    """Sampling too. Where prompts of different lengths share a batch, transformers asks once more whether the mask is full."""
    even, padded = (walked(card)[name]["waits"] for name in ("even", "padded"))
    assert len(even) > 5
    assert even[1:-1] == [{"_to_copy": 1}] * (len(even) - 2)
    whole = [step for step in padded[1:] if step]
    assert whole[:3] == [{"_to_copy": 1, "_local_scalar_dense": 1}] * 3


def test_pretended_card_is_left_alone_by_replies_from_the_processor(walked):
    found = walked("card")["on_cpu"]
    assert found["held"] == [{"device": "cpu", "dtype": "torch.float32", "quantised": False, "attention": "sdpa"}]
    assert "storm storm storm" in found["texts"]["storm"]
    assert found["waits"] == [{}] * len(found["waits"])


def test_pretended_card_measures_the_held_out_loss_of_the_processor(walked):
    found, wanted = walked("card")["measured"], walked("cpu")["measured"]
    assert found["loss"] == pytest.approx(wanted["loss"], rel=1e-5)
    assert (found["rows"], found["mixed"]) == (wanted["rows"], [])


@pytest.mark.parametrize(("card", "dtype"), [("card", "torch.bfloat16"), ("old", "torch.float16")])
def test_pretended_card_takes_a_local_writer(walked, card, dtype):
    found = walked(card)["written"]
    assert found["held"] == {"device": "cuda:0", "dtype": dtype, "quantised": False, "attention": "sdpa"}
    assert found["texts"] == found["alone"]
    assert found["mixed"] == []


def test_pretended_card_with_little_memory_takes_a_local_writer_in_4_bit(walked):
    found = walked("card")
    assert (found["small"]["held"]["quantised"], found["small"]["mixed"]) == (True, [])
    assert "GiB are free" in found["too_small"]["message"]


def test_pretended_card_merges_and_writes_gguf_to_the_same_bytes(walked):
    found, wanted = walked("card")["exported"], walked("cpu")["exported"]
    assert found == wanted
    assert {name.rsplit(".")[-1] for name in found["files"]} >= {"safetensors", "gguf"}


def test_pretended_card_answers_and_measures_a_match(walked):
    found, wanted = walked("card")["matched"], walked("cpu")["matched"]
    assert found["answers"] == wanted["answers"]
    assert found["losses"] == pytest.approx(wanted["losses"], rel=1e-5)


def with_driver(home: Path, **settings) -> dict:
    """The card's environment with a driver's tool that lists it: the page asks that one, and never torch."""
    environment = pretended_card.environment(**settings)
    tool = home / "bin" / "nvidia-smi"
    tool.parent.mkdir(parents=True, exist_ok=True)
    tool.write_text("#!/bin/sh\necho 'NVIDIA A100-SXM4-40GB, 40960, 30720, 8.0, 400'\n")
    tool.chmod(0o755)
    return environment | {"PATH": f"{tool.parent}{os.pathsep}{environment['PATH']}"}


def test_pretended_card_goes_from_the_chat_to_a_run_and_the_processor_s_chat_stays(house, tiny_model, tiny_corpus):
    home, ids = house
    values = {"run_id": ids["lora"]["storm"].removeprefix("run:"), "model": tiny_model, "corpus": tiny_corpus}
    assert walk(with_driver(home), home, {"evicted": ["evicted", values]})["evicted"] == {
        "before": True,
        "during": False,
        "busy": 'The run "first" is training and has the card. Wait for its end, or let the reply come from the CPU.',
        "ended": ["ChatClosed"],
        "on_cpu_stays": True,
        "on_cpu_finish": "length",
        "resumed": [False, True],
    }


def test_pretended_card_goes_from_a_writer_to_a_run_and_back(house, tiny_model, tiny_corpus, tmp_path):
    home, _ = house
    values = {"model": tiny_model, "corpus": tiny_corpus, "folder": str(tmp_path)}
    found = walk(with_driver(home), home, {"found": ["written_beside_a_run", values]})["found"]
    assert found["events"] == ["started", "progress", "waiting", "resumed", "progress", "paused"]
    assert found["waits_for"] == "the run"
    assert found["guests_during"] is False
    assert found["rows_after"] > found["rows_before"] > 0
