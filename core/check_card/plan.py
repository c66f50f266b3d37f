"""The order of all checks and the time that they get: kernels, quantisation, attention, trainings, a kill and a resume."""

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Collection
from dataclasses import asdict
from pathlib import Path

from core import errors
from core.chat import chat
from core.check_card import advice, children, stand_in
from core.check_card.results import GROUPS, STAND_IN, final, result
from core.errors import UserError
from core.estimate import calibration, cards, forecast
from core.hardware import hardware, nvidia
from core.models import models
from core.runs import gpu_access, runs
from core.training.config import TrainConfig

MINUTES = 3.0  # for everything
GROUP_SECONDS = 60
TRAIN_SECONDS = 75
SPARE_SECONDS = 3  # less than that is not worth beginning
STARTER_SECONDS = 60  # that a download may take before a model stands in
METHODS = ("lora", "qlora", "full")
PLAIN, PACKED = (tuple(f"train_{method}{kind}" for method in METHODS) for kind in ("", "_packed"))
TRAININGS = ("model", *PLAIN, "resume", *PACKED)
NAMES = ("card", *(name for group in GROUPS.values() for name in group), *TRAININGS)  # in the order of their results
SLOW = 0.4  # of the forecast's tokens a second: it is good to 1.3 times for the median run, and these steps are few
LOSS_BOUNDS = {"qlora": 0.2, "full": 0.03}  # how far the first loss may be from that of the base in 16 bit, relative
RESUME_BOUND = 0.005  # on a card, where sums have no fixed order; on a processor losses are equal
DOCUMENTS = 4  # of a packed block
GUEST_SECONDS = 20  # that others on the card get to leave it


class CheckFirst(UserError):
    template = 'The run "{name}" is training now, and the two would slow each other down. Check this machine when it has ended.'


class RunBegan(UserError):
    template = (
        'The run "{name}" started, and the check made way for it. Check this machine again when the run has ended.'
    )


def need_quiet(error: type[UserError] = CheckFirst) -> None:
    """Raise an error while a run is training, or about to, on whatever card."""
    if run_id := gpu_access.owner():
        raise error(name=runs.label(run_id)["name"])


def give_way() -> None:
    """Raise RunBegan once a run has begun, or waits for the check to leave the card."""
    need_quiet(RunBegan)


def run(tell: Callable, *, minutes: float = MINUTES, log: Path | None = None, only: Collection[str] = ()) -> dict:
    """Do all checks and return the object for a report: device, torch, checks, state.

    `tell("begins", name=...)`, `tell("step", ...)` and `tell("check", **result)` are called on the way. `log` is where a person finds what
    the processes printed, by default the terminal. `only` names the checks that are wanted, by default all.

    Raises:
        CheckFirst: while a run is training.
        CardInUse: where another process does not leave the card.
        RunBegan: as soon as a run has begun: the check leaves the card to it.
    """
    need_quiet()
    chat.close()  # as a run does that starts: what a chat holds of the card would be missing here
    if not gpu_access.wait_for_guests(GUEST_SECONDS):
        raise errors.named("CardInUse")
    with gpu_access.guest():
        give_way()  # to a run that did not see this guest
        return _run(tell, minutes, log, only)


def _run(tell: Callable, minutes: float, log: Path | None, only: Collection[str]) -> dict:
    with tempfile.TemporaryDirectory(prefix="soulsmith-check-", ignore_cleanup_errors=True) as scratch:
        plan = Plan(tell, Path(scratch), time.monotonic() + minutes * 60, str(log or "the terminal's output"), only)
        with children.Starter(wanted=any(map(plan.wants, TRAININGS))) as starter:
            plan.do(starter)
    return final(plan.facts.get("device", "unknown"), plan.facts.get("torch", "none"), plan.checks)


class Plan:
    """The results so far, and how much time is left."""

    def __init__(self, tell: Callable, scratch: Path, end: float, log: str, only: Collection[str] = ()):
        self.tell, self.scratch, self.end, self.log, self.only = tell, scratch, end, log, only
        self.checks, self.facts, self.losses = [], {}, {}
        self.stands_in, self.model = False, ""

    def do(self, starter: children.Starter) -> None:
        if self.wants("card"):
            self.add(driver())
        for group in GROUPS:
            self.group(group)
            if not self.facts:  # torch itself does not work: nothing else can
                return
        if not any(map(self.wants, TRAININGS)):
            return
        if not self.prepare(starter):
            self.late(*TRAININGS[1:])
            return
        for method in METHODS:
            self.train(method, packing=False)
        self.resume()
        for method in METHODS:
            self.train(method, packing=True)

    def wants(self, name: str) -> bool:
        return not self.only or name in self.only or name == "torch"  # which tells what the others compute on

    def add(self, check: dict) -> None:
        self.checks.append(check)
        self.tell("check", **check)

    def seconds(self, most: float) -> float:
        return min(most, self.end - time.monotonic())

    def late(self, *names: str) -> bool:
        """Whether there is no time left for some checks, which are then reported."""
        if self.seconds(math.inf) > SPARE_SECONDS:
            return False
        for name in filter(self.wants, names):
            self.cut_short(name)
        return True

    def cut_short(self, name: str) -> None:
        """Tell that the time was over before a check was."""
        longer = errors.named("TimeWasShort", command=f"{advice.AGAIN} --minutes 15")
        self.add(result(name, "slow", {"left_out": "time"}, None, longer))

    def ask(self, request: dict, seconds: float, on_line: Callable = lambda line: None) -> children.Ended:
        """Let a process do what the request says, until a run begins; what it leaves behind goes with the check."""
        return children.run(request | {"scratch": str(self.scratch)}, self.seconds(seconds), on_line, give_way)

    def broken(self, name: str, reason: str, what_to_do: Exception | None = None) -> None:
        """A check that could not be brought to its end; when all the time is over, it was slow, not broken."""
        if self.seconds(math.inf) <= 0:
            self.cut_short(name)
        else:
            self.add(result(name, "broken", {"reason": reason}, None, what_to_do or self.report_it()))

    def report_it(self) -> UserError:
        """What to do about something for which there is no advice."""
        return errors.named("CheckBroke", log=self.log)

    # -----------------------------------------------------------------------------------------------------------------
    # Groups of checks in a process of their own

    def group(self, group: str) -> None:
        """Run the checks of a group; after a crash, the remaining ones run in a new process."""
        left = [name for name in GROUPS[group] if self.wants(name)]
        while left:
            if self.late(*left):
                return
            now = left[0]

            def on_line(line: dict) -> None:
                nonlocal now
                if "begins" in line:
                    now = line["begins"]
                    self.tell("begins", name=now)
                elif "facts" in line:
                    self.facts = line["facts"]
                elif "check" in line:
                    left.remove(line["check"]["name"])
                    self.add(line["check"])
                elif "skipped" in line:
                    left.remove(line["skipped"])

            before = list(left)
            ended = self.ask({"do": "check", "group": group, "names": before}, GROUP_SECONDS, on_line)
            if left and (now in left or left == before):
                self.broken(now, ended.reason, advice.for_group(group))
                left.remove(now)
            if left and group == "kernels" and not self.facts:
                return

    # -----------------------------------------------------------------------------------------------------------------
    # Trainings

    def prepare(self, starter: children.Starter) -> bool:
        """Wait for the starter model, or make one that stands in for it; whether there is a model."""
        self.tell("begins", name="model")
        model, wrong = starter.wait(self.seconds(STARTER_SECONDS), give_way), None
        if not model:
            self.stands_in, folder = True, self.scratch / "stand-in"
            ended = self.ask({"do": "stand_in", "folder": str(folder)}, GROUP_SECONDS)
            if ended.code:
                self.broken("model", ended.reason, advice.for_group("attention"))
                return False
            model, command = str(folder / "model"), "python -m core.models prepare starter"
            wrong = errors.named("StarterMissing", reason=starter.reason, command=command)
        self.model = model
        name, state = (STAND_IN, "slow") if self.stands_in else (models.STARTER_TITLE, "ok")
        self.add(result("model", state, {"model": name}, {"model": models.STARTER_TITLE}, wrong))
        stand_in.write_rows(self.scratch / "long.jsonl", 1200)
        stand_in.write_rows(self.scratch / "short.jsonl", self.length // DOCUMENTS - 8)
        return True

    @property
    def on_card(self) -> bool:
        return self.facts["kind"] != "cpu"

    @property
    def length(self) -> int:
        return 512 if self.on_card else 64

    @property
    def steps(self) -> int:
        return 8 if self.on_card else 4

    def config(self, method: str, packing: bool = False, checkpoint: int = 0) -> TrainConfig:
        return TrainConfig(
            base_model=self.model,
            corpus=str(self.scratch / f"{'short' if packing else 'long'}.jsonl"),
            method=method,
            task="text",
            max_length=self.length,
            packing=packing,
            batch_size=4 if self.on_card else 2,
            max_steps=self.steps,
            eval_steps=checkpoint or self.steps,
            save_total_limit=4,
            validation_share=0,
        )

    def train(self, method: str, packing: bool) -> None:
        """A few steps; LoRA without packing goes to its very end, for resume() to compare with."""
        name = f"train_{method}" + "_packed" * packing
        if not self.wants(name) and not (name == "train_lora" and self.wants("resume")):
            return
        if self.late(name):
            return
        whole = name == "train_lora"
        config = self.config(method, packing, self.steps // 2 if whole else 0)
        if self.on_card and (refused := advice.refused(config)):
            self.add(result(name, "ok", {"left_out": "unsupported"}, None, refused))
            return
        expected = self.forecast(config)
        need = expected.get("predicted_bytes", 0)
        if need > self.facts["free"]:
            short = {"left_out": "memory", "free_gib": self.facts["free"] / 2**30}
            self.add(result(name, "ok", short, {"peak_gib": need / 2**30}))
            return
        self.tell("begins", name=name)
        # A training that is only timed ends early; its first step is not counted.
        end = {} if whole else {"stop_after": self.steps - 1 if self.on_card else 2}
        lines, ended = self.child({"config": asdict(config), "out": name} | end)
        if not self.done(name, lines, ended):
            return
        steps = steps_of(lines)
        if whole:
            self.losses = losses_of(steps)
        self.judge(name, config, steps, expected)

    def child(self, request: dict, on_event: Callable[[dict], bool | None] = lambda line: None) -> tuple:
        """The lines that a training printed, and how it ended."""
        lines = []

        def on_line(line: dict) -> bool | None:
            lines.append(line)
            if line.get("event") == "step":
                self.tell("step", step=line["step"])  # a job that was stopped ends at this
            return on_event(line)

        more = {"do": "train", "out": str(self.scratch / request["out"]), "cache": str(self.scratch / "tokens")}
        return lines, self.ask(request | more, TRAIN_SECONDS, on_line)

    def done(self, name: str, lines: list[dict], ended: children.Ended) -> bool:
        """Whether a training came to its end; else why not is reported."""
        if any(line.get("event") == "done" for line in lines):
            return True
        if ended.timed_out and steps_of(lines):  # it trains, but not in this time
            self.cut_short(name)
            return False
        error = next((line for line in lines if "trouble" in line), None)
        self.broken(name, error["message"] if error else ended.reason, error and errors.from_dict(error))
        return False

    def forecast(self, config: TrainConfig) -> dict:
        """What the calculator expects of a training on this very device; nothing where it does not know it."""
        try:
            expected = {} if self.stands_in else forecast.of_config(asdict(config))
        except UserError:
            return {}
        # Where torch computes on something else than the driver's card, the forecast is not of this device.
        here = self.facts["device"] if self.on_card else cards.CPU
        return expected if expected.get("card") == here else {}

    def judge(self, name: str, config: TrainConfig, steps: list[dict], forecasted: dict) -> None:
        """Pace, peak memory and first loss beside what was expected; a good pace teaches the calculator."""
        # Tokens a second: the median of the steps but the first, which compiles and allocates.
        pace = statistics.median(step["tokens_per_second"] for step in steps[1:] or steps)
        tokens, loss = config.batch_size * config.max_length, steps[0]["loss"]
        peak = max(step["memory_gib"] for step in steps)
        value, expected = {"tokens_per_second": pace, "peak_gib": peak, "loss": loss}, {}
        if forecasted:
            expected["tokens_per_second"] = tokens / forecasted["predicted_seconds"]
            if self.on_card:
                expected["peak_gib"] = forecasted["predicted_bytes"] / 2**30
        state, wrong = "ok", None
        known = not self.on_card or advice.measured_rates(self.facts["device"])
        if known and pace < SLOW * expected.get("tokens_per_second", 0):
            state, wrong = "slow", advice.slow(self.on_card)
        if not config.packing and config.method in LOSS_BOUNDS and (right := self.losses.get(1)):
            expected["loss"] = right
            if not abs(loss / right - 1) <= LOSS_BOUNDS[config.method]:
                state, wrong = "broken", self.report_it()
        self.add(result(name, state, value, expected, wrong))
        # Two steps on a processor that other programs use too would teach little.
        if forecasted and state == "ok" and self.on_card and not config.packing:
            measured = {"measured_bytes": peak * 2**30, "measured_seconds": tokens / pace}
            forecast.learn(forecasted, **measured, origin=calibration.CHECK)

    def resume(self) -> None:
        """Kill a training once its first checkpoint is written, resume it, and compare its losses."""
        name = "resume"
        if not self.wants(name) or self.late(name):
            return
        if not self.losses:
            self.add(result(name, "ok", {"left_out": "losses"}))
            return
        self.tell("begins", name=name)
        half = self.steps // 2
        request = {"config": asdict(self.config("lora", checkpoint=half)), "out": name}
        lines, ended = self.child(request | {"hold": True}, lambda line: line.get("event") == "checkpoint")
        if any(line.get("event") == "checkpoint" for line in lines):
            lines, ended = self.child(request | {"resume": True})
        if not self.done(name, lines, ended):
            return
        after = losses_of(steps_of(lines))
        expected = {step: loss for step, loss in self.losses.items() if step > half}
        if set(after) != set(expected):
            self.broken(name, f"it went on with the steps {sorted(after)}, not {sorted(expected)}")
            return
        error = max(abs(after[step] / expected[step] - 1) for step in expected)
        bound = RESUME_BOUND if self.on_card else 0.0
        state, wrong = ("ok", None) if error <= bound else ("broken", self.report_it())
        self.add(result(name, state, {"steps": len(expected), "error": error}, {"error": bound}, wrong))


def steps_of(lines: list[dict]) -> list[dict]:
    return [line for line in lines if line.get("event") == "step"]


def losses_of(steps: list[dict]) -> dict[int, float]:
    return {step["step"]: step["loss"] for step in steps}


def driver() -> dict:
    """What the driver says, before torch is asked."""
    gpu, answer = hardware.card(), nvidia.driver()
    state = "broken" if answer.error else "ok"
    if gpu is None:
        here = hardware.machine()
        value = {"card": "none", "cores": here.cores, "memory_gib": here.memory_bytes / 2**30}
        return result(
            "card", state, value | ({"driver": answer.version} if answer.version else {}), advice=answer.error
        )
    value = {"card": gpu.name, "driver": answer.version or "unknown", "capability": gpu.compute_capability}
    if gpu.total_bytes:
        value |= {"memory_gib": gpu.total_bytes / 2**30, "free_gib": gpu.free_bytes / 2**30}
    count = len(hardware.gpus())
    return result("card", state, value | ({"cards": count} if count > 1 else {}), advice=answer.error)
