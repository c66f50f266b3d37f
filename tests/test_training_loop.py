"""The loop of training: what is saved before what, what an error carries with it, and what a step waits for."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from core.runs import alerts
from core.training import batching, checkpoints, devices, environment, training_loop
from core.training.config import TrainConfig
from tests.conftest import put_program, slow_but

ROOT = Path(__file__).parents[1]


@pytest.fixture
def config(tiny_model, tiny_corpus) -> TrainConfig:
    return TrainConfig(
        base_model=tiny_model,
        corpus=tiny_corpus,
        method="lora",
        max_steps=6,
        eval_steps=2,
        lora_dropout=0.0,
        learning_rate=0.01,
        precision="fp32",
    )


def events_of(config: TrainConfig, out: Path, **more) -> list[dict]:
    found = []
    training_loop.train(config, out, report=lambda event, **values: found.append({"event": event, **values}), **more)
    return found


def evals_in(events: list[dict]) -> list[list]:
    return [[event["step"], event["eval_loss"]] for event in events if event["event"] == "eval" and event["step"]]


@pytest.mark.slow
def test_an_evaluation_that_fails_costs_no_checkpoint_and_is_made_up_for(config, tmp_path, monkeypatch):
    whole = events_of(config, tmp_path / "whole")
    held_out_loss, calls = batching.held_out_loss, []

    def fails_at_the_third(*args):
        calls.append(1)
        if len(calls) == 4:  # of the held-out rows for the third time: the rows for recall follow the first one
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return held_out_loss(*args)

    monkeypatch.setattr(batching, "held_out_loss", fails_at_the_third)
    with pytest.raises(RuntimeError, match="out of memory"):
        events_of(config, tmp_path / "out")
    checkpoint = checkpoints.whole_checkpoint(tmp_path / "out")
    assert Path(checkpoint).name == "checkpoint-4"
    assert [step for step, _ in checkpoints.evals_of(checkpoint)] == [2]
    resumed = events_of(config, tmp_path / "out", resume_from=checkpoint)
    assert evals_in(resumed) == evals_in(whole)[1:]
    assert checkpoints.evals_of(tmp_path / "out" / "checkpoint-6") == evals_in(whole)


def test_a_seal_holds_the_evaluation_of_its_own_step(config, tmp_path):
    events = events_of(replace(config, save_total_limit=9), tmp_path)
    for step in (2, 4, 6):
        checkpoint = tmp_path / f"checkpoint-{step}"
        assert checkpoints.is_whole(checkpoint)
        assert checkpoints.evals_of(checkpoint) == [known for known in evals_in(events) if known[0] <= step]


def test_evaluations_are_put_into_a_seal_in_one_moment(tmp_path, monkeypatch):
    """Cut short anywhere, the old seal is there or the new one."""
    checkpoint = tmp_path / "checkpoint-1"
    checkpoint.mkdir()
    (checkpoint / "weights").write_text("w")
    checkpoints.seal(checkpoint, 1, [])

    def power_cut(*_):
        assert checkpoints.is_whole(checkpoint)
        raise OSError("no power")

    monkeypatch.setattr("pathlib.Path.replace", power_cut)
    with pytest.raises(OSError, match="no power"):
        checkpoints.note_evals(checkpoint, [[1, 2.0]])
    assert (checkpoints.is_whole(checkpoint), checkpoints.evals_of(checkpoint)) == (True, [])
    monkeypatch.undo()
    checkpoints.note_evals(checkpoint, [[1, 2.0]])
    assert (checkpoints.is_whole(checkpoint), checkpoints.evals_of(checkpoint)) == (True, [[1, 2.0]])


WORDINGS = [
    MemoryError(),
    RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 11.75 GiB"),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("HIP out of memory. Tried to allocate 64.00 MiB"),
    RuntimeError("HIP error: hipErrorOutOfMemory"),
    RuntimeError("CUDA error: HIPBLAS_STATUS_ALLOC_FAILED when calling `hipblasCreate(handle)`"),
    RuntimeError("MPS backend out of memory (MPS allocated: 9.06 GB, other allocations: 0 bytes, max allowed: 9 GB)"),
    RuntimeError("XPU out of memory. Tried to allocate 4.00 GiB"),
    RuntimeError("level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)"),
    RuntimeError("Native API failed. Native API returns: 40 (UR_RESULT_ERROR_OUT_OF_RESOURCES): out of memory"),
    RuntimeError("Error out of memory at line 380 in file /src/csrc/pythonInterface.cpp"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you tried 9 bytes"),
    RuntimeError("std::bad_alloc"),
    OSError(12, "Cannot allocate memory"),
    OSError("The paging file is too small for this operation to complete. (os error 1455)"),
]


@pytest.mark.parametrize("error", WORDINGS, ids=str)
def test_memory_that_ran_out_is_known_in_every_dialect(error):
    from core import paths
    from core.runs import trainer

    assert environment.is_out_of_memory(error)
    assert trainer._worded(error, paths.run("none")).name == "ModelTooLarge"


def test_memory_of_torch_s_own_class_is_known_without_a_word():
    import torch

    assert environment.is_out_of_memory(torch.OutOfMemoryError())
    assert not environment.is_out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))
    assert not environment.is_out_of_memory(ValueError("lora_rank must be at least 1"))


@pytest.mark.parametrize("where", slow_but(["backward"], ["optimizer", "backward", "evaluation"]))
def test_memory_that_ran_out_anywhere_reaches_the_diagnosis_with_step_and_batch(config, monkeypatch, where):
    import torch
    from accelerate import Accelerator

    from core import events, paths
    from core.runs import diagnosis, runs, trainer

    calls, stock = [], batching.held_out_loss

    def third_fails(function):
        def called(*args, **kwargs):
            calls.append(1)
            if len(calls) == 3:
                raise RuntimeError("CUDA error: out of memory")
            return function(*args, **kwargs)

        return called

    def third_batch_fails(model, *args):
        model.forward = third_fails(model.forward)
        return stock(model, *args)

    if where == "optimizer":
        monkeypatch.setattr(torch.optim.AdamW, "step", third_fails(torch.optim.AdamW.step))
    elif where == "backward":
        monkeypatch.setattr(Accelerator, "backward", third_fails(Accelerator.backward))
    else:
        monkeypatch.setattr(batching, "held_out_loss", third_batch_fails)
    run_id = runs.create(replace(config, batch_size=2, validation_share=0.2))
    assert trainer.run(paths.run(run_id)) == "failed"
    last = events.last(paths.run(run_id))
    assert (last["trouble"], last["values"]["step"]) == ("OutOfMemory", "0" if where == "evaluation" else "3")
    assert last["values"]["rows"] == "2"
    assert int(last["values"]["tokens"]) > 8
    assert len(last["values"]["numbers"].split(", ")) == 2
    assert diagnosis.diagnose(run_id)["cause"] == "OutOfMemory"


def test_what_a_card_says_of_itself_is_worded(monkeypatch, capsys):
    import torch

    from core import paths
    from core.runs import trainer

    monkeypatch.setattr(devices, "device_name", lambda: "NVIDIA RTX 5090")
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_80", "sm_90"])
    said = RuntimeError("CUDA error: no kernel image is available for execution on the device")
    for capability, build in (((12, 0), "cu130"), ((6, 1), "cu126")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda capability=capability: capability)
        worded = str(trainer._worded(said, paths.run("none")))
        assert worded.startswith(f"torch {torch.__version__} cannot compute on NVIDIA RTX 5090. ")
        assert worded.endswith(f"/{build}")
        listed = f"The card is sm_{capability[0]}{capability[1]}; torch has kernels for sm_80 sm_90.\n"
        assert capsys.readouterr().err == listed
    monkeypatch.setattr(torch.version, "hip", "7.2")
    said = RuntimeError("HIP error: invalid device function")
    for architecture, found in (
        ("gfx1100", "/rocm7.2"),
        ("gfx803", "CUDA_VISIBLE_DEVICES=-1 in the environment to train on the processor."),
    ):
        properties = type("Properties", (), {"gcnArchName": f"{architecture}:sramecc+"})
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda found=properties: found)
        worded = str(trainer._worded(said, paths.run("none")))
        assert worded.endswith(found)
        assert f"The card is {architecture};" in capsys.readouterr().err
    assertion = RuntimeError("CUDA error: device-side assert triggered")
    assert "outside the vocabulary" in str(trainer._worded(assertion, paths.run("none")))


@pytest.mark.slow
def test_samples_or_a_meter_that_memory_does_not_hold_is_skipped_with_an_alert(config, monkeypatch):
    """At step 2 there is too little for both; later there is enough again for the samples."""
    from core import events, paths
    from core.runs import eval_samples, forgetting, runs, store, trainer
    from ui import run_html
    from ui.text import Say

    def full_at(steps, found):
        looked = iter(range(9))

        def look(model, tokenizer):
            if next(looked) in steps:
                raise RuntimeError("CUDA out of memory")
            return found

        return look

    monkeypatch.setattr(eval_samples, "sample", full_at((1,), [{"prompt": "a", "reply": "b"}]))
    monkeypatch.setattr(forgetting, "measure", full_at((1, 2, 3), {"score": -1.0, "parts": {}, "foreign": None}))
    run_id = runs.create(replace(config, eval_samples=True, forgetting_meter=True))
    assert trainer.run(paths.run(run_id)) == "finished"
    said = [(e["event"], e["step"]) for e in events.read(paths.run(run_id))[0] if e["event"] in ("samples", "skipped")]
    skipped, shot = ("skipped", "samples")
    assert said == [(shot, 0), (skipped, 2), (skipped, 2), (shot, 4), (skipped, 4), (shot, 6), (skipped, 6)]
    found = alerts.found(store.sync(run_id), store.curves(run_id), store.forgetting(run_id))
    assert found == [("skipped.forgetting_meter", {"step": 6})]
    assert "At step 6 there was not enough memory for the forgetting meter" in run_html.alert(Say("en"), *found[0])


@pytest.mark.slow
def test_a_gradient_of_nothing_is_an_alert_by_the_third_step(config, monkeypatch):
    from core import paths
    from core.runs import runs, store, trainer

    monkeypatch.setattr("transformers.Trainer._get_grad_norm", lambda *_, **__: 0.0)
    run_id = runs.create(replace(config, max_steps=3, validation_share=0.0))
    assert trainer.run(paths.run(run_id)) == "finished"
    row, curves = store.sync(run_id), store.curves(run_id)
    assert alerts.found(row, curves, []) == [("nothing_moved", {"step": 3, "loss": row["loss"]})]
    one = {**curves, "steps": curves["steps"][:1]}
    assert alerts.found(row, one, []) == []


@pytest.mark.parametrize(
    ("release", "chosen", "found"),
    [
        ("2.13.0", {}, {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}),
        ("2.8.0+cu128", {}, {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}),
        ("2.13.0", {"PYTORCH_CUDA_ALLOC_CONF": "backend:native"}, {"PYTORCH_CUDA_ALLOC_CONF": "backend:native"}),
    ],
)
def test_segments_grow_unless_somebody_chose_otherwise(monkeypatch, release, chosen, found):
    import os

    names = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(environment, "version", lambda name: release)
    monkeypatch.setattr("sys.platform", "linux")
    environment.grow_segments()
    assert {name: os.environ[name] for name in names if name in os.environ} == found
    for name in names:
        os.environ.pop(name, None)


def launched(command: list[str], out: Path) -> list[dict]:
    """The events of train.py under a launcher of two processes, on the processor."""
    variables = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"}
    put_program(out)
    command = [sys.executable, "-m", *command, "train.py", "config.json"]
    done = subprocess.run(command, env=variables, cwd=out, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.mark.slow
def test_two_processes_are_one_with_the_double_batch_and_resume(config, tmp_path):
    """Losses, steps and tokens; checkpoints are sealed by one when both have written, and go on from there."""
    config = replace(config, packing=True, max_length=96, epochs=2.0, max_steps=0)
    one = events_of(replace(config, batch_size=4), tmp_path / "one")
    out = tmp_path / "two"
    out.mkdir()
    replace(config, batch_size=2).save(out / "config.json")
    torchrun = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    two = launched(torchrun, out)
    steps, known = ([event for event in said if event["event"] == "step"] for said in (two, one))
    assert [event["loss"] for event in steps] == pytest.approx([event["loss"] for event in known], abs=1e-5)
    assert [(e["step"], e["max_steps"], e["tokens"]) for e in steps] == [
        (e["step"], e["max_steps"], e["tokens"]) for e in known
    ]
    assert evals_in(two) == [[step, pytest.approx(loss, abs=1e-5)] for step, loss in evals_in(one)]
    assert [event["event"] for event in two].count("finished") == 1
    checkpoint = Path(checkpoints.whole_checkpoint(out))
    assert sorted(path.name for path in checkpoint.glob("rng_state_*")) == ["rng_state_0.pth", "rng_state_1.pth"]
    (checkpoint / "whole.json").unlink()
    before = int(Path(checkpoints.whole_checkpoint(out)).name.split("-")[1])
    again = [event for event in launched(torchrun, out) if event["event"] == "step"]
    assert [(e["step"], e["loss"], e["tokens"]) for e in again] == [
        (e["step"], pytest.approx(e["loss"], abs=1e-6), e["tokens"]) for e in steps if e["step"] > before
    ]
    assert (out / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize(("flags", "kind"), [("sse avx512_bf16", "bf16"), ("amx_bf16", "bf16"), ("avx2", "fp32")])
def test_a_processor_takes_bf16_where_it_is_native_and_the_calculator_says_the_same(tmp_path, monkeypatch, flags, kind):
    from core.estimate import answer, cards
    from core.hardware import hardware

    (tmp_path / "cpuinfo").write_text(f"flags\t\t: {flags}\n", encoding="utf-8")
    for module in (environment, hardware):
        native = module.processor_has_bf16(tmp_path / "cpuinfo")
        monkeypatch.setattr(module, "processor_has_bf16", lambda native=native: native)
    monkeypatch.setattr(devices, "device_type", lambda: "cpu")
    config = TrainConfig(base_model="m", corpus="c")
    processor = cards.processor(4, 2**34)
    assert (devices.precision(config), answer.best_precision(processor)) == (kind, kind)
    assert devices.precision(replace(config, precision="fp32")) == "fp32"
    assert (processor.matmul_tflops > processor.fp32_tflops) == (kind == "bf16")


@pytest.mark.parametrize(("rows", "most"), [(24, 1.4), (41, 1.3), (1000, 1.15)])
def test_rows_of_like_length_share_a_batch_whatever_the_size_of_the_corpus(rows, most):
    """Padding costs little; every row comes once an epoch, with others in the next one, and the longest one first."""
    import random

    draw = random.Random(3)
    lengths = [min(512, 40 + int(draw.expovariate(1 / 120))) for _ in range(rows)]
    sampler = batching.ByLength(lengths, 4, 7)
    epochs = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
    assert epochs[0] == epochs[2] != epochs[1]
    for order in epochs:
        assert sorted(order) == list(range(rows))
        batches = [order[start : start + 4] for start in range(0, rows, 4)]
        padded = sum(len(batch) * max(lengths[at] for at in batch) for batch in batches)
        assert padded / sum(lengths) < most
        assert max(lengths) in [lengths[at] for at in batches[0]]


def test_few_rows_come_in_one_batch():
    assert sorted(batching.ByLength([5, 9, 7], 4, 7)) == [0, 1, 2]


def test_a_stopped_run_names_the_loss_of_the_weights_that_it_leaves(config, tmp_path, monkeypatch):
    """Evaluated at steps 0 and 2, stopped at 3."""
    monkeypatch.setattr(training_loop.callbacks, "STOP_CHECK_SECONDS", math.inf)  # asked after each step alone
    steps, out = iter(range(1, 9)), tmp_path / "out"
    seen, stop = [], lambda: next(steps) >= 3
    ending = training_loop.train(
        replace(config, keep_best=True), out, report=lambda event, **values: seen.append(values), should_stop=stop
    )
    losses = {values["step"]: values["eval_loss"] for values in seen if "eval_loss" in values}
    assert list(losses) == [0, 2, 3]
    named = ending["kept_step"] or ending["steps"]
    assert (ending["steps"], ending["eval_loss"]) == (3, losses[named])
    assert losses[named] == min(losses[2], losses[3])


@pytest.mark.slow
def test_an_evaluation_that_a_stop_leaves_no_time_for_names_no_loss(config, tmp_path, monkeypatch):
    monkeypatch.setattr(training_loop.callbacks, "STOP_CHECK_SECONDS", math.inf)
    monkeypatch.setattr(training_loop.callbacks, "LAST_EVALUATION_SECONDS", -1.0)
    steps = iter(range(1, 9))
    ending = training_loop.train(
        config, tmp_path / "out", report=lambda *_, **__: None, should_stop=lambda: next(steps) >= 3
    )
    assert (ending["steps"], ending["stopped"], ending["eval_loss"]) == (3, True, None)


@pytest.mark.parametrize(("keep_best", "recalled"), [(False, [0, 6]), (True, [0, 2, 4, 6])])
def test_the_loss_of_rows_that_are_trained_on_is_known_of_the_weights_that_a_run_may_leave(
    config, tmp_path, keep_best, recalled
):
    evals = [e for e in events_of(replace(config, keep_best=keep_best), tmp_path) if e["event"] == "eval"]
    assert [event["step"] for event in evals if event.get("recall_loss")] == recalled


def test_the_best_weights_are_not_those_that_forgot(config, tmp_path, monkeypatch):
    """The lowest loss is that of step 6, which the watcher knows to be unsound."""
    losses = iter([9.0, 9.0, 3.0, 9.0, 4.0, 9.0, 1.0, 9.0])  # every second one is of the rows for recall
    monkeypatch.setattr(batching, "held_out_loss", lambda *_: next(losses))
    watcher = training_loop.callbacks.Watcher()
    watcher.unsound = lambda: [6]
    ending = training_loop.train(
        replace(config, keep_best=True), tmp_path, report=lambda *_, **__: None, watcher=watcher
    )
    assert (ending["kept_step"], ending["eval_loss"]) == (2, 3.0)


@pytest.mark.slow
def test_every_run_replies_at_both_ends_and_is_measured_on_a_card(config, monkeypatch):
    """The tests' processor stands for a card where it says that it is none."""
    from core import events, paths
    from core.runs import eval_samples, forgetting, observer, runs, trainer

    class OnCard(observer.Observer):
        def on_evaluation(self, model, tokenizer, step):
            super().on_evaluation(SimpleNamespace(device=SimpleNamespace(type="cuda")), tokenizer, step)

    monkeypatch.setattr(eval_samples, "sample", lambda *_: [{"prompt": "a", "reply": "b"}])
    monkeypatch.setattr(forgetting, "measure", lambda *_: {"score": -1.0, "parts": {}, "foreign": None})
    for watcher, measured in ((observer.Observer, []), (OnCard, [0, 6])):
        monkeypatch.setattr(trainer, "Observer", watcher)
        run_id = runs.create(config)
        assert trainer.run(paths.run(run_id)) == "finished"
        found = events.read(paths.run(run_id))[0]
        assert [e["step"] for e in found if e["event"] == "samples"] == [0, 6]
        assert [e["step"] for e in found if e["event"] == "forgetting"] == measured


def test_what_forgot_or_drifted_is_unsound():
    from core.runs import forgetting

    def rows(*readings) -> list[dict]:
        return [{"step": at, "score": score, "foreign_share": share} for at, (score, share) in enumerate(readings)]

    base = (-1.0, 0.1)
    now = [(-1.6, 0.1), (-1.7, 0.1), (-1.0, 0.3), (-1.0, None)]
    assert [forgetting.is_sound(rows(base, one), 1) for one in now] == [True, False, False, True]
    scores = forgetting.since_base({"score": -1.0, "foreign": 0.1}, rows((-1.4, 0.1), (-1.8, 0.1)))
    assert [forgetting.is_sound(scores, step) for step in (0, 1)] == [True, False]  # 0.4 nats since its own start
