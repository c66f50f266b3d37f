"""The process of one run, `python -m core.trainer RUN_DIR`: takes the lock, trains, writes the events."""

import argparse
import json
import logging
import os
import sys
import time
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

from core import VERSION, damage, errors, events, files, jobs, paths, process
from core.errors import UserError
from core.estimate import forecast
from core.estimate.setup import saved_bytes
from core.hardware import hardware, nvidia, torch_build
from core.models import model_files, models
from core.runs import assigned_gpu, disk_space, queue, runs, starts
from core.runs.observer import Observer
from core.training import mixing, packages
from core.training.checkpoints import whole_checkpoint
from core.training.config import TrainConfig
from core.training.environment import grow_segments, is_out_of_memory

SURELY = 0.95  # of what the tensors alone are predicted to take: nine in ten of these are off by less
FEWEST_STEPS = 3  # that a rate is learned from; the first, slow one is not counted
DO_WITHOUT = {  # what to change in the run or the machine, the same in every language
    "flash-attn": "pip uninstall flash-attn",
    "bitsandbytes": "method = lora, optim = adamw_torch",
    "liger-kernel": "use_liger_kernel = false",
}


class DiskRanFull(UserError):
    template = "The disk of {path} is full. Free some space, then resume the run."


def run(run_dir: Path, seen: int | None = None) -> str:
    """Train the run in this directory to its end and return the name of its last event.

    `seen` is the size of its log when the worker chose it: where it has changed, another trainer was faster.

    Raises:
        AlreadyAtWork: while another process trains it.
    """
    # The lock comes before torch is imported: for those seconds the run must already count as alive.
    with jobs.lock(run_dir):
        if seen not in (None, events.size(run_dir)):
            return "overtaken"
        if jobs.waits(run_dir) == "hold":  # held in the moment when its turn came
            return "held"
        return _recorded(run_dir)


def _recorded(run_dir: Path) -> str:
    """Train from the newest checkpoint; a run that filled the disk is queued again and waits for room when it starts."""
    checkpoint, waits_for_room = whole_checkpoint(run_dir), False

    def describe(error: Exception) -> UserError:
        nonlocal waits_for_room
        error = _worded(error, run_dir)
        waits_for_room = isinstance(error, DiskRanFull) and _short_of_room(run_dir)
        if waits_for_room:
            disk_space.clear(run_dir)  # the last event needs room too
        return error

    _record_process(run_dir, bool(checkpoint))
    resumed_from = checkpoint and Path(checkpoint).name
    ending = jobs.record(run_dir, lambda: _train(run_dir, checkpoint), describe, resumed_from=resumed_from)
    if waits_for_room and not jobs.end_request(run_dir):
        jobs.ask(run_dir, "resume")
    return ending


def _short_of_room(run_dir: Path) -> bool:
    """Whether a run that started now would find too little room; else a quota or the like has stopped it."""
    config = runs.config(run_dir.name)
    base = models.local(config.base_model) or config.base_model
    return disk_space.free_bytes(run_dir) < disk_bytes(replace(config, base_model=base))


def _record_process(run_dir: Path, has_checkpoint: bool) -> None:
    """Record the trainer's process, the boot of the machine, and how often in a row it started without a checkpoint."""
    starts = 1 if has_checkpoint else jobs.last_process(run_dir).get("starts", 0) + 1
    files.write_json(run_dir / "process.json", {"boot_id": process.boot_id(), "pid": os.getpid(), "starts": starts})


def _train(run_dir: Path, checkpoint: str | None) -> dict:
    # Before torch is imported, which then sees no other card.
    os.environ.update(hardware.environment(assigned_gpu.take(run_dir)))
    reported: dict[str, dict] = {}

    def report(event: str, **values) -> None:
        reported[event] = values
        if event == "preparing":
            jobs.end_if_requested(run_dir)
        events.append(run_dir, event, **values)
        if event == "data" and (forecast := _forecast(config, _length(config, reported))):
            report("forecast", **forecast)
            need_memory(forecast["predicted_least_bytes"], config, _length(config, reported), _card().memory_bytes)
        if event == "model":
            observer.on_model(values["trainable_parameters"])

    observer = Observer(run_dir, report)
    config = local_config(TrainConfig.load(run_dir / "config.json"), report)
    config = starts.ready(config, run_dir, preparing(report))
    observer.config = config
    disk_space.need(run_dir, disk_bytes(config), report, observer.should_stop)
    jobs.end_if_requested(run_dir)
    card = damage.read(Path(config.corpus) / "card.json", "corpora/*/card.json")
    base_hash = model_files.digest(Path(config.base_model))
    report("loading", corpus_hash=card.get("content_hash"), base_hash=base_hash, versions=versions())
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
    if "forecast" in reported and ending["steps"] >= FEWEST_STEPS:
        _learn(config, reported, ending)
    stopped, paused = ending.pop("stopped"), ending.pop("paused")
    return {"event": "paused" if paused else "stopped" if stopped else "finished", **ending}


def disk_bytes(config: TrainConfig) -> int:
    """Disk space that a run may take, in bytes; an adapter takes little.

    With all weights trained, a checkpoint has them in fp32 and the optimizer's states. There are the newest ones, the best one and the
    one that is being written, and at the end the model in fp32.
    """
    if config.method != "full":
        return disk_space.RUN_BYTES
    trained = model_files.count(Path(config.base_model))
    return disk_space.RUN_BYTES + int(trained * ((config.save_total_limit + 2) * saved_bytes(config.optim) + 4))


def _forecast(config: TrainConfig, longest: int) -> dict | None:
    """Memory and time that the calculator expects of the longest batch, or None for a model that it does not know."""
    try:
        return forecast.of_config(asdict(config) | {"max_length": longest}, _card())
    except UserError:
        return None


def _card():
    """The device of this process as the calculator knows it: its card, or the processor where torch sees none."""
    from core.training import devices  # noqa: PLC0415 - the page opens without torch

    return forecast.card_of(None if devices.device_type() == "cpu" else hardware.card())


def need_memory(least_bytes: float, config: TrainConfig, length: int, there: float) -> None:
    """Raise DoesNotFit, before the model loads, when a run certainly needs more than `there` bytes.

    As in the calculator's verdict, what the allocator keeps for later counts as free: `least_bytes` are without it.
    """
    if least_bytes * SURELY > there:
        need, there = (f"{size / 2**30:.1f}" for size in (least_bytes, there))
        raise errors.named("DoesNotFit", need=need, there=there, length=length, rows=config.batch_size)


def _length(config: TrainConfig, reported: dict) -> int:
    return forecast.longest_of(asdict(config), reported["data"]["longest"])


def _learn(config: TrainConfig, reported: dict, ending: dict) -> None:
    """Store the run's peak bytes on the card and its seconds a step beside the forecast, to correct later estimates.

    A run that was not on the card of its forecast is left out.
    """
    if not forecast.ran_on(_card(), reported["model"]["device"]):
        return
    tokens = forecast.step_tokens(asdict(config), reported["data"]["longest"])
    on_card = reported["model"]["device"] != "cpu"
    forecast.learn(
        reported["forecast"],
        measured_bytes=ending["peak_memory_gib"] * 2**30 if on_card else 0,
        measured_seconds=ending["step_seconds"] * tokens / max(1, ending["step_tokens"]),
    )


def local_config(config: TrainConfig, report) -> TrainConfig:
    """The config with directories in place of the ids of its model and corpus; prepares the model if need be."""
    corpus, *others = map(str, map(runs.corpus_path, mixing.corpora(config)))
    mix = [(other, share) for other, (_, share) in zip(others, config.mix, strict=True)]
    if outline := models.outline(config.base_model):
        check_outline(replace(config, base_model=outline, start=""))
    return replace(config, corpus=corpus, mix=mix, base_model=models.prepare(config.base_model, preparing(report)))


def preparing(report) -> models.Report:
    """What models.prepare() reports to, as events; one a second."""
    reported_at = 0.0

    def on_prepare(stage: str, done: float, total: float) -> None:
        nonlocal reported_at
        if time.monotonic() - reported_at > 1 or done == total:
            reported_at = time.monotonic()
            report("preparing", stage=stage, done=done, total=total)

    return on_prepare


def check_outline(config: TrainConfig) -> None:
    """Refuse what this machine or this model cannot do, by the model's config and tokenizer alone."""
    from core.training import checks, tokenizer_loading  # noqa: PLC0415 - the page opens without torch

    checks.check_machine(config)
    checks.check_model(config, tokenizer_loading.load_tokenizer(config))


def versions() -> dict[str, str]:
    """The versions that decide what a run computes."""
    names = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "tokenizers")
    return {name: version(name) for name in names} | {"python": sys.version.split()[0], "soulsmith": VERSION}


def _worded(error: Exception, run_dir: Path) -> UserError:
    """An error of training as a sentence for the person."""
    if isinstance(error, UserError):
        return error
    if files.is_disk_full(error):
        return DiskRanFull(path=run_dir)
    if is_out_of_memory(error):
        return _out_of_memory(error, run_dir)
    words = str(error).lower()
    if any(sign in words for sign in torch_build.NO_KERNELS) and (missing := _no_kernels()):
        return missing
    if "device-side assert" in words:
        return errors.named("DeviceAssert")
    if any(sign in words for sign in ("cuda error", "cuda driver", "nvidia driver", "cudnn", "nvml")):
        return errors.named("DriverTrouble", reason=errors.first_line(error) + ".")
    return jobs.described(error, run_dir)


def _out_of_memory(error: Exception, run_dir: Path) -> UserError:
    """The step and the batch at which memory ran out."""
    latest = jobs.progress(run_dir)
    if "model" not in latest:
        return errors.named("ModelTooLarge")
    done = latest.get("step", {}).get("step", 0)
    step = getattr(error, "step", done + 1)  # an evaluation belongs to the step before it
    rows, tokens = getattr(error, "batch_shape", None) or ("?", "?")
    return errors.named("OutOfMemory", step=step, rows=rows, tokens=tokens, numbers=getattr(error, "batch_rows", "?"))


def _no_kernels() -> UserError | None:
    """The error for torch, or a package beside it, without kernels for the card; None where it is neither."""
    import torch  # noqa: PLC0415 - the page opens without torch

    from core.training import devices  # noqa: PLC0415 - the page opens without torch

    (needed, has), name = devices.architectures(), devices.device_name()
    if torch_build.covers(has, needed):
        if not (installed := packages.installed()):
            return None
        command, without = packages.reinstall(*installed), "; ".join(DO_WITHOUT[package] for package in installed)
        return errors.named(
            "PackageLacksKernels",
            card=name,
            needed=needed,
            packages=", ".join(installed),
            command=command,
            without=without,
        )
    print(f"The card is {needed}; torch has kernels for {' '.join(has) or 'none'}.", file=sys.stderr)  # for the log
    return torch_build.without_code(name, needed, torch.__version__, nvidia.driver().cuda).error


def _quiet() -> None:
    """Keep progress bars and messages for the developers of libraries out of the log."""
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
    if queue.needs_worker():  # the worker that started this run is gone, and other runs wait
        runs.start_worker()
    if args.json:
        print(json.dumps(events.last(args.run_dir), ensure_ascii=False))
    sys.exit(1 if ending == "failed" else 0)


if __name__ == "__main__":
    main()
