"""The watcher of a training: reads what the page asks for, waits for disk space, samples and measures."""

import traceback
from pathlib import Path

from core import events, jobs
from core.runs import disk_space, eval_samples, forgetting, starts
from core.training.environment import is_out_of_memory
from core.training.errors import TemplateRefused


class Observer:
    """What the trainer's process does at each step and at each evaluation besides training: a callbacks.Watcher."""

    def __init__(self, run_dir: Path, report):
        self.run_dir, self.report, self.config = run_dir, report, None
        self.done_once = jobs.once_requests(run_dir)  # what was asked of an earlier process is not done again
        self.seen = None  # the latest request to stop or pause that was reported
        self.trained = 0  # parameters, known when the model is loaded
        self.samples, self.scores = False, []  # whether there are samples; rows of the forgetting meter so far
        self.tried = {}  # the step at which a measurement was tried last, by its name

    def should_stop(self) -> str:
        """stop or pause, if one of them was asked."""
        return jobs.end_request(self.run_dir)

    def once_requests(self, step: int) -> list[str]:
        asked = jobs.latest_request(self.run_dir)
        if asked.get("request") in jobs.ENDS and self.seen != asked:
            self.seen = asked
            self.report("request_seen", step=step, request=asked["request"], requested_at=asked["asked"])
        once = jobs.once_requests(self.run_dir)
        fresh = {request: when for request, when in once.items() if self.done_once.get(request) != when}
        self.done_once |= fresh
        for request, when in fresh.items():
            self.report("request_seen", step=step, request=request, requested_at=when)
        self._wait_for_space(disk_space.SPARE_BYTES)
        return list(fresh)

    def on_model(self, trained: int) -> None:
        """Called when the model is loaded: space for a first checkpoint is waited for now, not hours later."""
        self.trained = trained
        for event in events.read(self.run_dir)[0]:  # of earlier processes
            self._remember(event)
        self.before_save(0)

    def before_save(self, step: int) -> None:
        self._wait_for_space(disk_space.checkpoint_bytes(self.run_dir, self.trained))

    def _wait_for_space(self, needed: int) -> None:
        disk_space.need(self.run_dir, needed, self.report, self.should_stop)

    def on_evaluation(self, model, tokenizer, step: int) -> None:
        """Every run replies before its first step; the rest as it was asked, and where the best checkpoint is chosen.

        On a processor the meter may take as long as the training: there it has to be asked for.
        """
        on_card = model.device.type != "cpu"
        chooses = self.config.keep_best or self.config.early_stopping
        if not step or self.config.eval_samples:
            self.on_sample(model, tokenizer, step)
        if self.config.forgetting_meter or (on_card and (chooses or not step)):
            self._on_meter(model, tokenizer, step)

    def on_end(self, model, tokenizer, step: int) -> None:
        """Measure what was measured before the first step once more: "Did it learn?" compares the two."""
        if self.samples and self.tried.get("eval_samples") != step:
            self.on_sample(model, tokenizer, step)
        if self.scores and self.tried.get("forgetting_meter") != step:
            self._on_meter(model, tokenizer, step)

    def unsound(self) -> list[int]:
        """The steps whose weights forgot or drifted too much since the base, as the report on the run will count it."""
        scores = forgetting.since_base(starts.base_forgetting(self.run_dir.name), self.scores)
        return [one["step"] for one in self.scores if not forgetting.is_sound(scores, one["step"])]

    def on_sample(self, model, tokenizer, step: int) -> None:
        samples = self._try_measurement("eval_samples", step, lambda: eval_samples.sample(model, tokenizer))
        if samples is not None:
            self._measured("samples", step=step, samples=samples)

    def _on_meter(self, model, tokenizer, step: int) -> None:
        scores = self._try_measurement("forgetting_meter", step, lambda: forgetting.measure(model, tokenizer))
        if scores is not None:
            self._measured("forgetting", step=step, **scores)

    def _measured(self, event: str, **values) -> None:
        self._remember({"event": event, **values})
        self.report(event, **values)

    def _remember(self, event: dict) -> None:
        if event["event"] == "samples":
            self.samples = True
        elif event["event"] == "forgetting":
            self.scores.append({"step": event["step"], "score": event["score"], "foreign_share": event["foreign"]})

    def _try_measurement(self, what: str, step: int, measure):
        """The result of measure(), or None and a "skipped" event if memory runs out or the chat template refuses the prompt."""
        self.tried[what] = step
        try:
            return measure()
        except TemplateRefused:  # some want a system message first
            traceback.print_exc()
            what = f"{what}.refused"
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        from core.training import devices  # noqa: PLC0415 - the page opens without torch

        devices.empty_cache()  # after the error is gone, and with it the tensors of its frames
        self.report("skipped", step=step, what=what)
        return None
