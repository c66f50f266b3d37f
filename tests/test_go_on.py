"""A run that goes on from a run, a checkpoint or an adapter: its first loss, its ancestry, what is refused."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest

from core import events, files, paths
from core.chat import chat, chat_models, engine
from core.export import export, merging
from core.runs import promote_checkpoint, runs, starts, store
from core.runs import trainer as run_trainer
from core.training import start, training_loop
from core.training.checkpoints import whole_checkpoint
from core.training.config import TrainConfig
from tests.conftest import home_at, raises, slow_but, wait_for
from ui import history_details, run_html, training, training_start
from ui.text import Say

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def config(tiny_model, tiny_corpus) -> TrainConfig:
    return TrainConfig(
        base_model=tiny_model,
        corpus=tiny_corpus,
        method="lora",
        max_steps=4,
        eval_steps=2,
        learning_rate=0.01,
        precision="fp32",
    )


@pytest.fixture(autouse=True)
def let_go():
    yield
    engine.close()


def events_of(config: TrainConfig, out: Path, **more) -> list[dict]:
    found = []
    training_loop.train(config, out, report=lambda event, **values: found.append({"event": event, **values}), **more)
    return found


@pytest.fixture(scope="module")
def adapter(config, tmp_path_factory) -> Path:
    """What one step leaves. Read it, do not change it."""
    out = tmp_path_factory.mktemp("before")
    with home_at(out / "дом"):
        events_of(replace(config, max_steps=1), out)
    return out / "adapter"


def evals(found: list[dict]) -> list[float]:
    return [event["eval_loss"] for event in found if event["event"] == "eval"]


def trained_here(config: TrainConfig, name: str = "") -> str:
    """A run that this process has trained to its end."""
    run_id = runs.start(config, name)
    assert run_trainer.run(paths.run(run_id)) == "finished"
    return run_id


WAYS = {
    "lora": {},
    "dora rslora": {"use_dora": True, "use_rslora": True},
    "embeddings": {"train_embeddings": True},
    "packed": {"packing": True, "max_length": 64},
    "one layer": {"target_modules": "q_proj,v_proj", "lora_rank": 4},
    "qlora": {"method": "qlora", "precision": "auto"},
    "full": {"method": "full", "learning_rate": 0.001},
}


@pytest.mark.parametrize("way", slow_but(["lora", "full"], WAYS))
def test_the_first_loss_is_the_last_one_of_the_run_before(config, tmp_path, way):
    config = replace(config, **WAYS[way])
    before = evals(events_of(config, tmp_path / "before"))
    weights = tmp_path / "before" / ("model" if config.method == "full" else "adapter")
    after = events_of(replace(config, start=str(weights)), tmp_path / "after")
    assert evals(after)[0] == before[-1]
    assert evals(after)[-1] != before[-1]
    assert next(event for event in after if event["event"] == "model")["goes_on"] is True


@pytest.mark.slow
def test_what_began_as_pissa_goes_on_as_the_plain_adapter_that_it_was_saved_as(config, tmp_path):
    config = replace(config, init_lora_weights="pissa")
    before = evals(events_of(config, tmp_path / "before"))
    weights = tmp_path / "before" / "adapter"
    own = start.fields_of(start.read_adapter(weights))
    assert own == {
        "lora_rank": 32,
        "lora_alpha": 64,
        "target_modules": "down_proj,gate_proj,k_proj,o_proj,q_proj,up_proj,v_proj",
        "use_rslora": False,
        "use_dora": False,
        "train_embeddings": False,
        "init_lora_weights": "default",
    }
    after = evals(events_of(replace(config, **own, start=str(weights)), tmp_path / "after"))
    assert after[0] == pytest.approx(before[-1], abs=1e-5)


@pytest.mark.slow
def test_go_on_from_a_run_resumes_to_the_last_bit_when_the_run_before_is_gone(config, no_worker):
    """Killed after a checkpoint, with nothing left of the parent but what the child has kept."""
    parent = trained_here(config)
    whole = trained_here(replace(config, start=f"run:{parent}"), "whole")
    cut = runs.start(replace(config, start=f"run:{parent}", seed=config.seed), "cut")
    shutil.rmtree(paths.run(parent))
    command = [sys.executable, "-m", "core.trainer", str(paths.run(cut))]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not (paths.run(cut) / "checkpoint-2" / "whole.json").exists() and process.poll() is None:
            time.sleep(0.01)
        process.kill() if process.poll() is None else None
    if (paths.run(cut) / "checkpoint-4").exists():  # it was faster: what it did after step 2 is undone
        shutil.rmtree(paths.run(cut) / "checkpoint-4")
        shutil.rmtree(paths.run(cut) / "adapter", ignore_errors=True)
    assert Path(whole_checkpoint(paths.run(cut))).name == "checkpoint-2"
    assert run_trainer.run(paths.run(cut)) == "finished"
    one, other = ((paths.run(run) / "adapter" / start.WEIGHTS).read_bytes() for run in (whole, cut))
    assert one == other
    assert starts.ancestry(cut)[0]["gone"] is True


def test_all_weights_go_on_from_a_model_of_the_hub(config, no_worker, monkeypatch, tmp_path):
    def download(_, patterns: list[str], *__) -> str:
        out = tmp_path / "snapshot"
        for file in (file for pattern in patterns for file in hub.glob(pattern)):
            out.mkdir(exist_ok=True)
            shutil.copyfile(file, out / file.name)
        return str(out)

    monkeypatch.setattr(starts.models, "download", download)
    hub = Path(config.base_model)
    asked = replace(config, method="full", start="someone/model")
    run_dir = paths.run(runs.create(asked))
    (run_dir / "start").mkdir()  # as a run of before has it, which failed for want of files
    ready = starts.ready(asked, run_dir, print)
    assert {"config.json", "model.safetensors"} <= {file.name for file in Path(ready.start).iterdir()}
    hub = tmp_path / "empty"
    shutil.rmtree(tmp_path / "snapshot")
    shutil.rmtree(run_dir / "start")
    for method, missing in (("full", "config.json"), ("lora", "adapter_config.json")):
        with raises("StartUnreadable", match=missing):
            starts.ready(replace(asked, method=method), run_dir, print)
        assert not (run_dir / "start").exists()


@pytest.mark.slow
def test_a_run_that_is_trained_again_goes_on_from_what_it_went_on_from(config, no_worker):
    parent = trained_here(config)
    child = runs.start(replace(config, start=f"run:{parent}"))
    weights = paths.run(parent) / "adapter" / start.WEIGHTS
    before = weights.read_bytes()
    weights.write_bytes(before[:-4] + b"\0\0\0\1")  # the parent went on since
    again = history_details.again(child, "seed", "8")
    assert (paths.run(again) / "start" / start.WEIGHTS).read_bytes() == before
    assert starts.ancestry(again) == starts.ancestry(child)


@pytest.mark.slow
def test_the_ancestry_names_parent_and_grandparent_and_who_was_deleted(config, no_worker):
    first = trained_here(config, "первый")
    second = trained_here(replace(config, start=f"run:{first}/checkpoint-2", max_steps=2), "второй")
    third = trained_here(replace(config, start=f"run:{second}", max_steps=2), "третий")
    told = [(entry["name"], entry["step"], entry["gone"]) for entry in starts.ancestry(third)]
    assert told == [("второй", 2, False), ("первый", 2, False)]
    evals_before = {row["step"]: row["eval_loss"] for row in store_curves(first)["evals"]}
    assert starts.ancestry(second)[0]["eval_loss"] == evals_before[2]
    assert store_curves(second)["evals"][0]["eval_loss"] == evals_before[2]
    store.delete(first)
    assert [entry["gone"] for entry in starts.ancestry(third)] == [False, True]
    assert starts.ancestry(first) == []


def store_curves(run_id: str) -> dict:
    store.sync(run_id)
    return store.curves(run_id)


@pytest.mark.slow
def test_go_on_from_a_taken_checkpoint_begins_with_its_weights(config, no_worker):
    parent = trained_here(config)
    promote_checkpoint.take(parent, 2)
    child = trained_here(replace(config, start=f"run:{parent}", max_steps=2))
    losses = {row["step"]: row["eval_loss"] for row in store_curves(parent)["evals"]}
    assert store_curves(child)["evals"][0]["eval_loss"] == losses[2]
    assert (starts.ancestry(child)[0]["step"], starts.ancestry(child)[0]["eval_loss"]) == (2, losses[2])


@pytest.mark.slow
def test_a_checkpoint_that_is_written_anew_does_not_change_what_goes_on_from_it(config, no_worker):
    parent = trained_here(replace(config, method="full", learning_rate=0.001))
    child = runs.start(replace(runs.config(parent), start=f"run:{parent}/checkpoint-4"))
    kept = paths.run(child) / "start" / "model.safetensors"
    before = kept.read_bytes()
    with (paths.run(parent) / "checkpoint-4" / "model.safetensors").open("r+b") as file:
        file.write(b"gone")
    assert kept.read_bytes() == before


@pytest.mark.slow
def test_the_merged_model_of_a_run_that_went_on_replies_as_it_does_live(config, no_worker, tmp_path):
    parent = trained_here(config)
    child = trained_here(replace(config, start=f"run:{parent}", learning_rate=0.02))
    made = export.make(child, "merged", tmp_path / "merged", lambda *_, **__: None)
    assert made["difference"] < 1e-5
    model = chat_models.find(f"run:{child}")
    loaded = engine.load_models({"tuned": model.id, "before": f"run:{parent}"})
    live = {}
    for name, one in loaded.items():
        engine.set_adapter(one.weights, one.adapter)
        live[name] = merging.logits(one.weights.inner, one.weights.tokenizer)
    merged = merging.logits(merging.load(tmp_path / "merged"), loaded["tuned"].weights.tokenizer)
    assert merging.distance(merged, live["tuned"]) < 1e-5
    assert merging.distance(merged, live["before"]) > 0.01
    chat.close()


@pytest.mark.slow
def test_the_capsule_of_a_run_that_goes_on_carries_its_start(config, no_worker, tmp_path):
    parent = trained_here(config)
    child = trained_here(replace(config, start=f"run:{parent}", max_steps=2))
    store.delete(parent)
    export.make(child, "capsule", tmp_path / "capsule.zip", lambda *_, **__: None)
    with zipfile.ZipFile(tmp_path / "capsule.zip") as archive:
        archive.extractall(tmp_path / "elsewhere")
    packed = json.loads((tmp_path / "elsewhere" / "config.json").read_text(encoding="utf-8"))
    assert packed["start"] == "start"
    # The base is not on the hub: the capsule's README asks for its directory.
    (tmp_path / "elsewhere" / "config.json").write_text(json.dumps(packed | {"base_model": config.base_model}))
    done = subprocess.run(
        [sys.executable, "train.py", "config.json"],
        cwd=tmp_path / "elsewhere",
        env=os.environ | {"SOULSMITH_HOME": str(tmp_path / "nobody"), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert evals(lines)[0] == store_curves(child)["evals"][0]["eval_loss"]
    assert [line["same"] for line in lines if line["event"] == "base"] == [True]


REFUSED = {
    "rank": (
        {"lora_rank": 8},
        "StartSetting",
        "has lora_rank 16, and the run has 8. An adapter goes on as it was begun",
    ),
    "alpha": ({"lora_alpha": 16}, "StartSetting", "has lora_alpha 32, and the run has 16"),
    "dora": ({"use_dora": True}, "StartSetting", "has use_dora False, and the run has True"),
    "embeddings": ({"train_embeddings": True}, "StartSetting", "set train_embeddings to False"),
    "pissa": ({"init_lora_weights": "pissa"}, "StartSetting", "set init_lora_weights to default"),
    "layers": ({"target_modules": "q_proj"}, "StartForeign", r"4 of its 28 tensors do, and 4 are wanted"),
    "full": ({"method": "full"}, "StartIsAdapter", "Set method to lora or qlora, or export the adapter merged"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_adapter_that_does_not_fit_is_refused_in_words_before_weights_are_read(config, adapter, tmp_path, case):
    changed, error, words = REFUSED[case]
    with raises(error, match=words):
        events_of(replace(config, start=str(adapter), **changed), tmp_path / "after")


def test_an_adapter_of_another_kind_and_a_whole_model_are_refused(config, adapter, tiny_model, tmp_path):
    path = shutil.copytree(adapter, tmp_path / "adapter") / start.ADAPTER
    values = json.loads(path.read_text(encoding="utf-8"))
    for changed, words in (({"peft_type": "LOHA"}, "LOHA"), ({"rank_pattern": {"q_proj": 2}}, "LORA, rank_pattern")):
        path.write_text(json.dumps(values | changed), encoding="utf-8")
        with raises("StartNotPlainLora", match=words):
            start.check_settings(replace(config, start=str(path.parent)))
    with raises("StartIsWhole", match="Leave start empty and set base_model to that folder"):
        start.check_settings(replace(config, start=tiny_model))


@pytest.mark.slow
def test_a_run_goes_on_only_from_what_is_there_and_on_the_base_that_it_had(config, no_worker, tmp_path):
    parent = trained_here(replace(config, max_steps=2))
    with raises("StartGone", match="There is no nobody to go on from"):
        runs.start(replace(config, start="run:nobody"))
    with raises("StartHasNoWeights", match="no weights of checkpoint-9"):
        runs.start(replace(config, start=f"run:{parent}/checkpoint-9"))
    with raises("StartOtherBase", match="Set base_model to"):
        runs.start(replace(config, base_model="starter", start=f"run:{parent}"))
    assert [runs.label(run_id)["name"] for run_id in runs.listed()] == [runs.label(parent)["name"]]


@pytest.mark.slow
def test_a_base_whose_weights_are_others_by_now_is_refused(config, no_worker, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(config.base_model, base)
    parent = trained_here(replace(config, base_model=str(base), max_steps=2))
    from safetensors.torch import load_file, save_file

    tensors = load_file(base / "model.safetensors")
    save_file({name: tensor + 0.5 for name, tensor in tensors.items()}, base / "model.safetensors", {"format": "pt"})
    child = runs.start(replace(runs.config(parent), start=f"run:{parent}"))
    assert run_trainer.run(paths.run(child)) == "failed"
    assert events.last(paths.run(child))["trouble"] == "StartOtherWeights"


@pytest.mark.slow
def test_go_on_from_the_command_line(config, no_worker, capsys):
    from core.runs import __main__ as command_line

    parent = trained_here(config)
    texts = Path(config.corpus).with_name("texts.jsonl")
    texts.write_text("".join(json.dumps({"text": f"The lamp of number {n}."}) + "\n" for n in range(12)))
    line = ["start", "--from", f"{parent}:2", "--set", f"corpus={texts}", "--set", "task=text", "--set", "epochs=1,5"]
    sys.argv = ["core.runs", *line, "--json"]
    command_line.main()
    child = json.loads(capsys.readouterr().out)["run"]
    made = {"start": f"run:{parent}/checkpoint-2", "corpus": str(texts), "task": "text", "epochs": 1.5}
    assert runs.config(child) == replace(config, **made)
    sys.argv = ["core.runs", "show", child, "--json"]
    command_line.main()
    assert [entry["run"] for entry in json.loads(capsys.readouterr().out)["ancestry"]] == [parent]


@pytest.mark.slow
def test_an_adapter_s_folder_brings_its_base_and_its_rank(config, no_worker, tiny_model):
    parent = trained_here(replace(config, max_steps=1, lora_rank=4, lora_alpha=8))
    known = starts.fields(str(paths.run(parent) / "adapter"))
    assert {name: known[name] for name in ("base_model", "lora_rank", "lora_alpha")} == {
        "base_model": tiny_model,
        "lora_rank": 4,
        "lora_alpha": 8,
    }


@pytest.mark.slow
def test_a_killed_worker_of_a_run_that_goes_on_leaves_it_lost_and_it_is_resumed(config):
    """The whole way, by worker and trainer."""
    parent = runs.start(replace(config, max_steps=2))
    wait_for(parent, "finished")
    child = runs.start(replace(config, start=f"run:{parent}", max_steps=2000))
    while not (events.last(paths.run(child)) or {}).get("step", 0) >= 1:
        if runs.state(child) not in ("queued", "running"):
            pytest.fail(str(events.last(paths.run(child))))
        time.sleep(0.1)
    os.kill(files.read_json(paths.run(child) / "process.json")["pid"], signal.SIGKILL)
    wait_for(child, "lost")
    runs.change(child, max_steps=4)
    runs.resume(child)
    wait_for(child, "finished")
    assert store_curves(child)["evals"][0]["eval_loss"] == store_curves(parent)["evals"][-1]["eval_loss"]


@pytest.mark.slow
def test_preferences_go_on_from_chats_and_compare_with_their_start(config, tmp_path):
    events_of(config, tmp_path / "before")
    pairs = tmp_path / "pairs.jsonl"
    rows = [json.loads(line) for line in Path(config.corpus).read_text(encoding="utf-8").splitlines()]
    fog = [{"role": "assistant", "content": "fog"}]
    made = [{"messages": row["messages"][:1], "chosen": row["messages"][1:], "rejected": fog} for row in rows]
    pairs.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made), encoding="utf-8")
    asked = replace(config, corpus=str(pairs), task="preference", start=str(tmp_path / "before" / "adapter"))
    losses = evals(events_of(asked, tmp_path / "after"))
    assert losses[0] == pytest.approx(math.log(2), abs=1e-6)  # nothing is preferred over the reference yet
    assert losses[-1] < losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("lang", ["en", "ru"])
def test_the_form_is_filled_with_a_run_to_go_on_from(config, no_worker, lang):
    say = Say(lang)
    parent = trained_here(replace(config, lora_rank=4, lora_alpha=8, max_steps=2), "отец")
    filled = training.on_go_on(say, ["start", "lora_rank", "corpus", "name"], parent)
    # The corpus is a file, which no list of the form has.
    assert (filled[0].value, filled[1:4], filled[4].value) == (f"run:{parent}", [4, None, ""], "lora")
    assert ("отец", f"run:{parent}") in [tuple(choice) for choice in filled[0].choices]
    offered = training_start.choices(say, [("отец", parent)])
    assert [start for _, start in offered] == ["", f"run:{parent}", f"run:{parent}/checkpoint-2"]
    brought = training_start.on_start(say, ["lora_rank", "method", "epochs"], f"run:{parent}/checkpoint-2")
    assert brought[:2] == [4, "lora"]
    assert brought[2] == gr.skip()  # what a start says nothing of stays
    child = trained_here(replace(runs.config(parent), start=f"run:{parent}"))
    loss = say.number(starts.ancestry(child)[0]["eval_loss"])
    words = say("runs.start.one", name="отец", step=2)
    assert f"{words} ({say('runs.start.loss', loss=loss)})" in history_details.facts(say, store.sync(child), None)
    assert say("data.goes_on", name="отец") in run_html.start_line(say, child)
    store.delete(parent)
    assert say("runs.start.gone") in history_details.facts(say, store.sync(child), None)
    again = history_details.again(child, "seed", "8")
    assert starts.ancestry(again) == starts.ancestry(child)


def test_runs_of_before_have_no_ancestry(config, no_worker):
    run_id = runs.start(config)
    values = json.loads((paths.run(run_id) / "config.json").read_text(encoding="utf-8"))
    for field in ("start", "mix"):
        del values[field]
    (paths.run(run_id) / "config.json").write_text(json.dumps(values), encoding="utf-8")
    assert (runs.config(run_id), starts.ancestry(run_id)) == (config, [])
    assert store.sync(run_id)["corpus"] == config.corpus
