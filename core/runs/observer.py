"""The observer of one training: hears what the page asks for, waits for room, samples and measures."""

from pathlib import Path

from core.runs import disk_space, eval_samples, forgetting, requests
from core.training.environment import is_out_of_memory


class Observer:
    """What the trainer's process does at each step and at each evaluation besides training: a callbacks.Watcher."""

    def __init__(self, run_dir: Path, report):
        self.run_dir, self.report, self.config = run_dir, report, None
        self.wished = requests.wishes(run_dir)  # what was wished of an earlier process is not done again
        self.heard = None
        self.trained = 0  # weights, once the model says it

    def should_stop(self) -> str:
        """stop or pause, if one of them was asked."""
        asked = requests.asked(self.run_dir)
        return asked["request"] if asked.get("request") in requests.ENDS else ""

    def wishes(self, step: int) -> list[str]:
        asked = requests.asked(self.run_dir)
        if asked.get("request") in requests.ENDS and self.heard != asked:
            self.heard = asked
            self.report("heard", step=step, request=asked["request"], asked=asked["asked"])
        fresh = {what: when for what, when in requests.wishes(self.run_dir).items() if self.wished.get(what) != when}
        self.wished |= fresh
        for what, when in fresh.items():
            self.report("heard", step=step, request=what, asked=when)
        disk_space.need(self.run_dir, disk_space.SPARE_BYTES, self.report, self.should_stop)
        return list(fresh)

    def on_model(self, trained: int) -> None:
        """Called when the model is there: room for a first checkpoint is looked for now, not hours later."""
        self.trained = trained
        self.before_save(0)

    def before_save(self, step: int) -> None:
        disk_space.need(
            self.run_dir, disk_space.checkpoint_bytes(self.run_dir, self.trained), self.report, self.should_stop
        )

    def on_evaluation(self, model, tokenizer, step: int) -> None:
        if self.config.film_strip:
            self.on_sample(model, tokenizer, step)
        if self.config.forgetting_meter:
            found = self._unless_full("forgetting_meter", step, lambda: forgetting.measure(model, tokenizer))
            if found is not None:
                self.report("forgetting", step=step, **found)

    def on_sample(self, model, tokenizer, step: int) -> None:
        samples = self._unless_full("film_strip", step, lambda: eval_samples.shoot(model, tokenizer))
        if samples is not None:
            self.report("samples", step=step, samples=samples)

    def _unless_full(self, what: str, step: int, look):
        """What a look at the model finds, or None, and an event, where memory does not suffice for it: the run goes on."""
        try:
            return look()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        from core.training import devices  # noqa: PLC0415 - the page opens without torch

        devices.empty_cache()  # after the error is gone, and with it what its frames held
        self.report("skipped", step=step, what=what)
        return None
