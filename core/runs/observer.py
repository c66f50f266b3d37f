"""The watcher of a training: reads what the page asks for, waits for disk space, samples and measures."""

from pathlib import Path

from core import jobs
from core.runs import disk_space, eval_samples, forgetting
from core.training.environment import is_out_of_memory


class Observer:
    """What the trainer's process does at each step and at each evaluation besides training: a callbacks.Watcher."""

    def __init__(self, run_dir: Path, report):
        self.run_dir, self.report, self.config = run_dir, report, None
        self.done_once = jobs.once_requests(run_dir)  # what was asked of an earlier process is not done again
        self.seen = None  # the latest request to stop or pause that was reported
        self.trained = 0  # parameters, known when the model is loaded

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
        self.before_save(0)

    def before_save(self, step: int) -> None:
        self._wait_for_space(disk_space.checkpoint_bytes(self.run_dir, self.trained))

    def _wait_for_space(self, needed: int) -> None:
        disk_space.need(self.run_dir, needed, self.report, self.should_stop)

    def on_evaluation(self, model, tokenizer, step: int) -> None:
        if self.config.eval_samples:
            self.on_sample(model, tokenizer, step)
        if self.config.forgetting_meter:
            scores = self._unless_full("forgetting_meter", step, lambda: forgetting.measure(model, tokenizer))
            if scores is not None:
                self.report("forgetting", step=step, **scores)

    def on_sample(self, model, tokenizer, step: int) -> None:
        samples = self._unless_full("eval_samples", step, lambda: eval_samples.sample(model, tokenizer))
        if samples is not None:
            self.report("samples", step=step, samples=samples)

    def _unless_full(self, what: str, step: int, measure):
        """What measure() returns; None, and an event, where memory does not suffice for it: the run goes on."""
        try:
            return measure()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        from core.training import devices  # noqa: PLC0415 - the page opens without torch

        devices.empty_cache()  # after the error is gone, and with it the tensors of its frames
        self.report("skipped", step=step, what=what)
        return None
