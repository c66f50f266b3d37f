"""The process of one run: `python -m core.trainer RUN_DIR` takes the lock, trains by the recipe, writes the events."""

import argparse
import errno
import json
import logging
import os
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from filelock import FileLock, Timeout

from core import VERSION, errors, events, files, model_files, models, paths, process
from core.errors import UserError
from core.estimate import forecast
from core.hardware import hardware, nvidia, torch_build
from core.runs import assigned_gpu, disk_space, queue, requests, runs
from core.runs.observer import Observer
from core.training import packages
from core.training.checkpoints import whole_checkpoint
from core.training.config import TrainConfig
from core.training.environment import grow_segments, is_out_of_memory

LOCK_SECONDS = 10  # somebody who looks whether this run is alive holds the lock for an instant
SURELY = 0.9  # of what the calculator predicts is needed for sure: it errs by a few percent
FEWEST_STEPS = 3  # the first, slow one is not counted
DO_WITHOUT = {  # the same in every language
    "flash-attn": "pip uninstall flash-attn",
    "bitsandbytes": "method = lora, optim = adamw_torch",
    "liger-kernel": "use_liger_kernel = false",
}


class AlreadyTraining(UserError):
    template = "The run {run} is being trained by another process already."


class OutOfMemory(UserError):
    template = (
        "Memory ran out at step {step}, in a batch of {rows} rows of {tokens} tokens (in the corpus: {numbers}). Halve "
        "batch_size and double gradient_accumulation_steps: the result is the same. If that is not enough, lower "
        "max_length."
    )


class ModelTooLarge(UserError):
    template = "Memory ran out while the model was loaded. Choose QLoRA, a smaller model, or close other programs."


class DoesNotFit(UserError):
    template = (
        "This needs about {need} GiB and there are {there} GiB. Lower max_length ({length}) or batch_size ({rows}), "
        "switch gradient_checkpointing on, choose QLoRA, or take a smaller model."
    )


class DiskRanFull(UserError):
    template = "The disk of {path} is full. Free some space, then resume the run."


class DriverTrouble(UserError):
    template = (
        "The graphics card or its driver gave up: {reason} Restart the machine, update the driver if it comes back, "
        "then resume the run."
    )


class PackageLacksKernels(UserError):
    template = (
        "torch has kernels for {card} ({needed}); a package that the run uses has none. Installed are: {packages}. "
        "Reinstall what it uses: {command}. Or do without: {without}."
    )


class DeviceAssert(UserError):
    template = (
        "The card stopped at a check inside a kernel: an index was out of range, usually a token id outside the "
        "vocabulary. Take the tokenizer that came with the model. If it did, start the run with "
        "CUDA_LAUNCH_BLOCKING=1 in the environment: log.txt then names the line."
    )


class Unexpected(UserError):
    template = "{kind}: {reason} The details are in log.txt in the run's directory."


class _StopAsked(Exception):
    """Somebody pressed Stop or Pause before there was anything to save."""


def run(run_dir: Path, seen: int | None = None) -> str:
    """Train the run in this directory to its end and return the name of its last event.

    `seen` are the bytes of its log when it was chosen: where there are others now, another trainer was faster.
    """
    lock = FileLock(run_dir / "run.lock")
    # The lock comes before torch is imported: for those seconds the run must already count as alive.
    try:
        lock.acquire(timeout=LOCK_SECONDS)
    except Timeout:
        raise AlreadyTraining(run=run_dir.name) from None
    try:
        return "overtaken" if seen not in (None, events.size(run_dir)) else _recorded(run_dir)
    finally:
        lock.release()


def _recorded(run_dir: Path) -> str:
    """Train between two events that say how it began and how it ended, whatever happens in between."""
    if requests.waits(run_dir) == "hold":  # held in the very moment in which its turn came
        return "held"
    events.mend(run_dir)
    checkpoint = whole_checkpoint(run_dir)
    _count_life(run_dir, bool(checkpoint))
    events.append(run_dir, "started", pid=os.getpid(), resumed_from=checkpoint and Path(checkpoint).name)
    try:
        ending = _train(run_dir, checkpoint)
    except _StopAsked as asked:
        ending = {"event": "paused" if str(asked) == "pause" else "stopped", "steps": 0}
    except Exception as error:  # what we cannot word better keeps its traceback in the log
        with suppress(OSError):  # of a full disk
            traceback.print_exc()
        trouble = _worded(error, run_dir)
        if short := isinstance(trouble, DiskRanFull) and _short_of_room(run_dir):
            disk_space.clear(run_dir)  # the last words need room too
        events.mend(run_dir)  # a full disk may have cut the last line short
        events.append(run_dir, "failed", **errors.to_dict(trouble))
        if short:  # its next start waits, in words, until there is room
            requests.ask(run_dir, "resume")
        return "failed"
    events.append(run_dir, **ending)
    return ending["event"]


def _short_of_room(run_dir: Path) -> bool:
    """Whether a run would find too little room if it started now. Where there is enough, a limit of another kind was met."""
    config = runs.config(run_dir.name)
    base = models.local(config.base_model) or config.base_model
    return disk_space.free_bytes(run_dir) < disk_bytes(replace(config, base_model=base))


def _count_life(run_dir: Path, got_somewhere: bool) -> None:
    """Note who trains the run in which life of the machine, and how often in a row it was begun without a checkpoint."""
    before = runs.last_life(run_dir.name) if (run_dir / "life.json").exists() else {}
    starts = 1 if got_somewhere else before.get("starts", 0) + 1
    files.write_json(run_dir / "life.json", {"boot": process.boot_id(), "pid": os.getpid(), "starts": starts})


def _train(run_dir: Path, checkpoint: str | None) -> dict:
    # Before torch is imported, which then sees no other card.
    os.environ.update(hardware.environment(assigned_gpu.take(run_dir)))
    said: dict[str, dict] = {}

    def report(event: str, **values) -> None:
        said[event] = values
        if event == "preparing" and (asked := observer.should_stop()):
            raise _StopAsked(asked)
        events.append(run_dir, event, **values)
        if event == "data" and (forecast := _forecast(config, _length(config, said))):
            report("forecast", **forecast)
            need_memory(forecast["predicted_bytes"], config, _length(config, said), _card().memory_bytes)
        if event == "model":
            observer.on_model(values["trainable_parameters"])

    observer = Observer(run_dir, report)
    config = local_config(TrainConfig.load(run_dir / "config.json"), report, observer.should_stop)
    observer.config = config
    disk_space.need(run_dir, disk_bytes(config), report, observer.should_stop)
    _end_if_asked(observer)
    report("loading", corpus_hash=_corpus_hash(config.corpus), versions=versions())
    from core.training import training_loop  # noqa: PLC0415 - the page opens without torch

    ending = training_loop.train(
        config,
        run_dir,
        report=report,
        should_stop=observer.should_stop,
        watcher=observer,
        resume_from=checkpoint,
        cache=paths.home() / "tokens",
    )
    if "forecast" in said and ending["steps"] >= FEWEST_STEPS:
        _learn(config, said, ending)
    stopped, paused = ending.pop("stopped"), ending.pop("paused")
    return {"event": "paused" if paused else "stopped" if stopped else "finished", **ending}


def _end_if_asked(observer: Observer) -> None:
    if asked := observer.should_stop():
        raise _StopAsked(asked)


def disk_bytes(config: TrainConfig) -> int:
    """Room that a run may take: an adapter's is small. Of all weights, each checkpoint has AdamW's two states besides:
    the newest ones, the best one, and the one that is being written; and there is the model at the end, in fp32."""
    if config.method != "full":
        return disk_space.RUN_BYTES
    trained = model_files.count(Path(config.base_model))
    return disk_space.RUN_BYTES + trained * ((config.save_total_limit + 2) * disk_space.ADAM_BYTES + 4)


def _forecast(config: TrainConfig, longest: int) -> dict | None:
    """What the calculator expects of the run's longest batch, or None for a model that it does not know."""
    try:
        return forecast.of_config(asdict(config) | {"max_length": longest}, _card())
    except UserError:
        return None


def _card():
    """What this process computes on, as the calculator knows it: its card, or the processor where torch sees none."""
    from core.training import devices  # noqa: PLC0415 - the page opens without torch

    return forecast.card_of(None if devices.device_type() == "cpu" else hardware.card())


def need_memory(predicted_bytes: float, config: TrainConfig, length: int, there: float) -> None:
    """Raise DoesNotFit, before the model loads, when a run would surely not fit into so many bytes."""
    if predicted_bytes * SURELY > there:
        need, there = (f"{size / 2**30:.1f}" for size in (predicted_bytes, there))
        raise DoesNotFit(need=need, there=there, length=length, rows=config.batch_size)


def _length(config: TrainConfig, said: dict) -> int:
    """Tokens of the longest row of a batch: packed blocks are as long as they may be."""
    return config.max_length if config.packing else said["data"]["longest"]


def _learn(config: TrainConfig, said: dict, ending: dict) -> None:
    """Let later estimates learn from this run: peak bytes of the card, and seconds of a step of the forecast's size.

    A run that was not on the card of its forecast teaches nothing.
    """
    if not forecast.ran_on(_card(), said["model"]["device"]):
        return
    tokens = config.batch_size * config.gradient_accumulation_steps * _length(config, said)
    on_card = said["model"]["device"] != "cpu"
    forecast.learn(
        said["forecast"],
        measured_bytes=ending["peak_memory_gib"] * 2**30 if on_card else 0,
        measured_seconds=ending["step_seconds"] * tokens / max(1, ending["step_tokens"]),
    )


def local_config(config: TrainConfig, report, should_stop=lambda: "") -> TrainConfig:
    """The config with directories for the names of its model and corpus; the model is made ready if it is not."""
    corpus = runs.corpus_path(config)
    told = 0.0

    def on_prepare(stage: str, done: float, total: float) -> None:
        nonlocal told
        if asked := should_stop():
            raise _StopAsked(asked)
        if time.monotonic() - told > 1 or done == total:
            told = time.monotonic()
            report("preparing", stage=stage, done=done, total=total)

    if outline := models.outline(config.base_model):
        check_outline(replace(config, base_model=outline))
    return replace(config, corpus=str(corpus), base_model=models.prepare(config.base_model, on_prepare))


def check_outline(config: TrainConfig) -> None:
    """Refuse a run that this machine or this model cannot do, by the model's config and tokenizer alone."""
    from core.training import checks, tokenizer_loading  # noqa: PLC0415 - the page opens without torch

    checks.check_machine(config)
    checks.check_model(config, tokenizer_loading.load_tokenizer(config))


def versions() -> dict[str, str]:
    """The versions that decide what a run computes."""
    from importlib.metadata import version

    names = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "tokenizers")
    return {name: version(name) for name in names} | {"python": sys.version.split()[0], "soulsmith": VERSION}


def _corpus_hash(corpus: str) -> str | None:
    card = Path(corpus) / "card.json"
    return json.loads(card.read_text(encoding="utf-8")).get("content_hash") if card.is_file() else None


def _worded(error: Exception, run_dir: Path) -> UserError:
    if isinstance(error, UserError):
        return error
    said = str(error).lower()
    if getattr(error, "errno", None) == errno.ENOSPC or "os error 28" in said or "no space left" in said:
        return DiskRanFull(path=run_dir)
    if is_out_of_memory(error):
        return _out_of_memory(error, run_dir)
    if any(words in said for words in torch_build.NO_KERNELS) and (trouble := _no_kernels()):
        return trouble
    if "device-side assert" in said:
        return DeviceAssert()
    reason = (str(error).strip().split("\n")[0] or "no message").rstrip(".") + "."
    if any(word in said for word in ("cuda error", "cuda driver", "nvidia driver", "cudnn", "nvml")):
        return DriverTrouble(reason=reason)
    return Unexpected(kind=type(error).__name__, reason=reason)


def _out_of_memory(error: Exception, run_dir: Path) -> UserError:
    """Where memory ran out: the step, and the batch that it was too small for."""
    seen = events.read(run_dir)[0]
    if not any(event["event"] == "model" for event in seen):
        return ModelTooLarge()
    done = ([event["step"] for event in seen if event["event"] == "step"] or [0])[-1]
    step = getattr(error, "step", done + 1)  # an evaluation belongs to the step before it
    rows, tokens = getattr(error, "batch_shape", None) or ("?", "?")
    return OutOfMemory(step=step, rows=rows, tokens=tokens, numbers=getattr(error, "batch_rows", "?"))


def _no_kernels() -> UserError | None:
    """What mends that torch, or a package beside it, has no kernels for the card; None where neither can be."""
    import torch  # noqa: PLC0415 - the page opens without torch

    from core.training import devices  # noqa: PLC0415 - the page opens without torch

    (needed, has), name = devices.architectures(), devices.device_name()
    if torch_build.covers(has, needed):
        found = packages.installed()
        command, without = packages.reinstall(*found), "; ".join(DO_WITHOUT[package] for package in found)
        told = {"packages": ", ".join(found), "command": command, "without": without}
        return PackageLacksKernels(card=name, needed=needed, **told) if found else None
    print(f"The card is {needed}; torch has kernels for {' '.join(has) or 'none'}.", file=sys.stderr)  # for the log
    return torch_build.without_code(name, needed, torch.__version__, nvidia.driver().cuda).error


def _quiet() -> None:
    """Leave out of the log what libraries tell their developers: progress bars, and kernels that they tried in vain."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def main() -> None:
    _quiet()
    grow_segments()
    parser = argparse.ArgumentParser(prog="python -m core.trainer", description=__doc__)
    parser.add_argument("run_dir", type=Path, help="directory with a config.json")
    parser.add_argument("--seen", type=int, metavar="BYTES", help="do nothing if the log has another length by now")
    parser.add_argument("--json", action="store_true", help="print the last event")
    args = parser.parse_args()
    if not (args.run_dir / "config.json").is_file():
        sys.exit(f"There is no config.json in {args.run_dir}. Give the directory of a run.")
    before = dict(os.environ)
    try:
        ending = run(args.run_dir.absolute(), args.seen)
    except UserError as error:
        sys.exit(str(error))
    os.environ.clear()
    os.environ.update(before)  # a worker that is started here sees all cards, not this run's only
    if queue.needs_worker():  # the worker that started this run is gone, and others wait
        runs.start_worker()
    if args.json:
        print(json.dumps(events.last(args.run_dir), ensure_ascii=False))
    sys.exit(1 if ending == "failed" else 0)


if __name__ == "__main__":
    main()
