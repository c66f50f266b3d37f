"""Callbacks of the Trainer: what is reported while a model trains, and requests that are answered between two steps."""

from __future__ import annotations

import math
import shutil
import time
from collections import deque
from collections.abc import Callable, Collection
from contextlib import contextmanager
from pathlib import Path

from . import batching, checkpoints, devices, environment, preferences
from .config import TrainConfig
from .errors import TrainingError

STOP_CHECK_SECONDS = 1.0  # between two looks for a request to stop, during an evaluation
LAST_EVALUATION_SECONDS = 60.0  # that a stopped run may take to measure the weights that it has saved


class Watcher:
    """Hooks of the caller of train(); these do nothing."""

    def once_requests(self, step: int) -> Collection[str]:
        """The requests that are new after a step: "save", "sample"."""
        return ()

    def before_save(self, step: int) -> None:
        """Called before a checkpoint is written: it may wait until there is room."""

    def on_evaluation(self, model, tokenizer, step: int) -> None:
        """Called after each evaluation."""

    def unsound(self) -> Collection[int]:
        """The steps whose weights are not to be taken for the best ones, however low their loss is."""
        return ()

    def on_end(self, model, tokenizer, step: int) -> None:
        """Called once the weights of the last step are saved, unless the run was stopped."""

    def on_sample(self, model, tokenizer, step: int) -> None:
        """Called when a sample was requested."""


class Progress:
    """Turn the Trainer's logs into events, and requests to stop, save and sample into its control flags."""

    def __init__(self, config: TrainConfig, report: Callable[..., None], should_stop, watcher: Watcher):
        self.config, self.report, self.should_stop, self.watcher = config, report, should_stop, watcher
        self.stopped, self.eval_loss, self.evaluated_at = "", None, None
        self.until = None  # when the last evaluation of a stopped run ends
        self.stopped_early, self.kept_step, self.stop_checked = False, None, time.monotonic()
        self.step = 0
        self.tokenizer, self.evals = None, []  # evals: [step, loss] of every evaluation after training began
        self.step_began, self.tokens, self.seconds = 0.0, 0, 0.0
        self.all_seconds, self.all_tokens, self.all_steps = 0.0, 0, 0  # of this process: a resumed run counts anew
        self.warm = False
        self.batches = []  # of the step that goes on: [numbers of rows, loss]
        self.measures = []  # of preferences.loss(), since the last log
        self.latest = None  # shape and rows of the batch that was computed last
        self.recent = deque(maxlen=50)  # seconds of the latest steps, for the time that is left
        self.eval_seconds = 0.0  # of the latest evaluation

    def ending(self) -> dict:
        """How it ended, in figures; the seconds of a step do not count the first one."""
        return {
            "stopped": bool(self.stopped),
            "paused": self.stopped == "pause",
            "stopped_early": self.stopped_early,
            "kept_step": self.kept_step,
            "eval_loss": self.eval_loss if self.measures_its_weights() else None,
            "step_seconds": round(self.all_seconds / max(1, self.all_steps), 4),
            "step_tokens": round(self.all_tokens / max(1, self.all_steps), 1),
        }

    def measures_its_weights(self) -> bool:
        """Whether the last evaluation was that of the weights that the run leaves; a pause leaves none."""
        return self.stopped == "pause" or self.evaluated_at == (self.kept_step or self.step)

    def stop_requested(self) -> bool:
        """Whether an evaluation should end where it is; asked between its batches, answered once a second."""
        if self.until:
            return time.monotonic() > self.until
        if time.monotonic() - self.stop_checked < STOP_CHECK_SECONDS:
            return False
        self.stop_checked = time.monotonic()
        if request := self.should_stop():
            self.stopped = "pause" if request == "pause" else "stop"
            self.watcher.once_requests(self.step)  # says that it was seen
        return bool(request)

    @contextmanager
    def naming_batch(self):
        """Give errors from between two batches, as those of an optimizer's step, the batch that was computed last."""
        try:
            yield
        except Exception as error:
            if self.latest and not hasattr(error, "batch_shape"):
                error.batch_shape, error.batch_rows = self.latest
            raise

    def on_step_begin(self, args, state, control, **_):
        self.step_began, self.batches = time.monotonic(), []

    def on_step_end(self, args, state, control, model=None, **_):
        self.step = state.global_step
        # What is logged is looked at then: asking here as well would wait for the device a second time.
        if (
            not control.should_log
            and environment.process_count() == 1
            and not devices.all_finite(loss for _, loss in self.batches)
        ):
            control.should_log = True  # whatever logging_steps says: the curve shows it, and the run ends
        if request := self.should_stop():
            self.stopped = "pause" if request == "pause" else "stop"
            control.should_training_stop = control.should_save = control.should_log = True
        requests = self.watcher.once_requests(state.global_step)
        if "save" in requests:
            control.should_save = True
        if "sample" in requests:
            devices.synchronize()
            began = time.monotonic()
            self.watcher.on_sample(model, self.tokenizer, state.global_step)
            self.step_began += time.monotonic() - began  # the time of the sample is not the step's
        if control.should_save:
            began = time.monotonic()
            self.watcher.before_save(state.global_step)
            self.step_began += time.monotonic() - began

    def on_step_computed(self):
        """Called once a step when the device is known to be done with it, before the step is logged."""
        if not self.step_began:
            return
        took, self.step_began = time.monotonic() - self.step_began, 0.0
        self.seconds += took
        # The first step of a process compiles, allocates and reads from disk: it says nothing of the pace.
        if self.warm:
            self.all_seconds, self.all_steps = self.all_seconds + took, self.all_steps + 1
        self.recent.append(took)

    def on_log(self, args, state, control, logs, **_):
        if "loss" not in logs:
            return
        loss, tokens = logs["loss"], state.num_input_tokens_seen
        self.all_tokens += (tokens - self.tokens) * self.warm
        self.warm = True
        seconds_a_step = sum(self.recent) / max(1, len(self.recent))
        left = seconds_a_step * (state.max_steps - state.global_step)
        if args.eval_strategy != "no":  # that of this step comes after its log, and one comes at the end
            done, every = state.global_step - 1, args.eval_steps
            left += self.eval_seconds * (math.ceil(state.max_steps / every) - done // every)
        self.report(
            "step",
            step=state.global_step,
            max_steps=state.max_steps,
            epoch=round(state.epoch, 4),
            loss=loss,
            grad_norm=logs.get("grad_norm"),
            learning_rate=logs.get("learning_rate"),
            tokens=tokens,
            tokens_per_second=round((tokens - self.tokens) / max(1e-9, self.seconds), 1),
            seconds_left=round(left, 1),
            memory_gib=devices.peak_memory_gib(),
        )
        self.tokens, self.seconds = tokens, 0.0
        if self.measures:
            means, self.measures = preferences.means(self.measures), []
            self.report("preference", step=state.global_step, part="train", **means)
        if not math.isfinite(loss):
            self.not_finite(loss, state.global_step, args.output_dir)
        if loss == 0 and not logs.get("grad_norm"):
            raise TrainingError("LossIsZero", step=state.global_step)

    def not_finite(self, loss: float, step: int, out: str):
        """Raise LossNotFinite with the rows whose loss it is; those of the whole step, where the gradient broke it."""
        guilty = [rows for rows, loss in self.batches if not loss.isfinite()] or [rows for rows, _ in self.batches]
        good = Path(checkpoints.whole_checkpoint(out) or "checkpoint-0").name.split("-")[1]
        suggestion = f"{self.config.learning_rate / 10:g}"
        raise TrainingError(
            "LossNotFinite", value=loss, step=step, rows=batching.named_rows(guilty), good=good, suggestion=suggestion
        )

    def on_train_begin(self, args, state, control, optimizer=None, lr_scheduler=None, **_):
        self.tokens, self.step = state.num_input_tokens_seen, state.global_step
        if state.global_step and hasattr(lr_scheduler, "base_lrs"):
            change_learning_rate(optimizer, lr_scheduler, self.config.learning_rate)

    def on_save(self, args, state, control, model=None, **_):
        if not devices.all_finite(weight.detach() for weight in model.parameters() if weight.requires_grad):
            self.not_finite(math.nan, state.global_step, args.output_dir)
        checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        devices.wait_for_everyone()  # each writes its part
        if not environment.is_main_process():
            return
        size = checkpoints.seal(checkpoint, state.global_step, self.evals)
        self.report("checkpoint", step=state.global_step, path=checkpoint.name, bytes=size)
        checkpoints.rotate(Path(args.output_dir), self.config.save_total_limit, self.watcher.unsound())

    def misses_evaluation(self, args, state) -> bool:
        """Whether training goes on from a checkpoint whose evaluation was due and did not come about."""
        due = args.eval_strategy != "no" and state.global_step and state.global_step % args.eval_steps == 0
        return bool(due) and state.global_step not in dict(self.evals)

    def on_evaluation(
        self, step: int, loss: float, model, control, out: Path, by_corpus: list | None, recall: float | None
    ):
        self.eval_loss, self.evaluated_at = loss, step
        if step:
            self.evals = [known for known in self.evals if known[0] != step] + [[step, loss]]
        more = {"by_corpus": by_corpus, "recall_loss": recall}
        self.report("eval", step=step, eval_loss=loss, **{name: value for name, value in more.items() if value})
        sealed = environment.is_main_process() and (out / f"checkpoint-{step}" / "whole.json").is_file()
        if sealed:
            checkpoints.note_evals(out / f"checkpoint-{step}", self.evals)
        self.watcher.on_evaluation(model, self.tokenizer, step)
        unsound = self.watcher.unsound()
        if sealed:
            checkpoints.rotate(out, self.config.save_total_limit, unsound)
        best = checkpoints.best_of(self.evals, unsound)
        since = [known for known, _ in self.evals if best is not None and known > best]
        if self.config.early_stopping and len(since) >= self.config.early_stopping:
            self.stopped_early = control.should_training_stop = True

    def keep_best(self, target: Path, step: int):
        """Put the weights of the best checkpoint that is there into the place of those of the last step."""
        best = checkpoints.best_of(self.evals, self.watcher.unsound())
        checkpoint = target.parent / f"checkpoint-{best}"
        if best in (None, step) or not (checkpoint / "whole.json").is_file():
            return
        for file in checkpoint.glob("*.safetensors"):
            scratch = target / (file.name + ".unfinished")
            shutil.copyfile(file, scratch)
            scratch.replace(target / file.name)
        self.eval_loss, self.evaluated_at, self.kept_step = dict(self.evals)[best], best, best


def change_learning_rate(optimizer, scheduler, learning_rate: float) -> None:
    """Let a resumed run go on at another learning rate: a checkpoint brings the old one with it."""
    for at, (group, before) in enumerate(zip(optimizer.param_groups, scheduler.base_lrs, strict=True)):
        rate = learning_rate * group["times"]
        if not math.isclose(rate, before):
            group["initial_lr"] = scheduler.base_lrs[at] = rate
            group["lr"] *= rate / before
    scheduler._last_lr = [group["lr"] for group in optimizer.param_groups]


def progress_callback(progress: Progress):
    from transformers import TrainerCallback  # noqa: PLC0415 - it imports PEFT, and PEFT bitsandbytes

    names = ("on_train_begin", "on_step_begin", "on_step_end", "on_log", "on_save")
    return type("Events", (TrainerCallback,), {name: staticmethod(getattr(progress, name)) for name in names})()
