"""The order of all checks and the time that they get: kernels, quantisation, attention, trainings, a kill and a resume."""

import math
import tempfile
import time
from collections.abc import Callable, Collection
from dataclasses import asdict
from pathlib import Path

from core import models
from core.chat import chat
from core.check_card import advice as advices
from core.check_card import children, stand_in, training
from core.check_card.children import Starter
from core.check_card.results import GROUPS, STAND_IN, final, result
from core.errors import UserError
from core.estimate import calibration, catalogue, forecast
from core.estimate import forecast as forecasts
from core.hardware import hardware, nvidia
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


class CardInUse(UserError):
    template = (
        "This machine is busy: a model is writing rows, a chat is open in a terminal, or another check is running. Stop "
        "it, then check again."
    )


def need_quiet() -> None:
    """Raise CheckFirst while a run is training, or about to, on whatever card."""
    if run_id := gpu_access.owner():
        raise CheckFirst(name=runs.label(run_id)["name"])


def give_way() -> None:
    """Raise RunBegan once a run has begun, or waits for the check to leave the card."""
    if run_id := gpu_access.owner():
        raise RunBegan(name=runs.label(run_id)["name"])


def run(tell: Callable, *, minutes: float = MINUTES, log: Path | None = None, only: Collection[str] = ()) -> dict:
    """Do all checks and return the object for a report: device, torch, checks, state.

    `tell("begins", name=...)`, `tell("step", ...)` and `tell("check", **result)` are called on the way. `log` is where a person finds what
    the processes said, by default the terminal. `only` names the checks that are wanted, by default all.

    Raises:
        CheckFirst: while a run is training.
        CardInUse: where somebody does not leave the card.
        RunBegan: as soon as a run has begun: the check leaves the card to it.
    """
    need_quiet()
    chat.close()  # as a run does that starts: what a chat holds of the card would be missing here
    if not gpu_access.wait_for_guests(GUEST_SECONDS):
        raise CardInUse
    with gpu_access.guest():
        give_way()  # to a run that did not see this guest
        return _run(tell, minutes, log, only)


def _run(tell: Callable, minutes: float, log: Path | None, only: Collection[str]) -> dict:
    with tempfile.TemporaryDirectory(prefix="soulsmith-check-", ignore_cleanup_errors=True) as scratch:
        plan = Plan(tell, Path(scratch), time.monotonic() + minutes * 60, str(log or "the terminal's output"), only)
        with Starter(wanted=any(map(plan.wants, TRAININGS))) as starter:
            plan.do(starter)
    return final(plan.facts.get("device", "unknown"), plan.facts.get("torch", "none"), plan.checks)


class Plan:
    """What has been found so far, and how much time is left."""

    def __init__(self, tell: Callable, scratch: Path, end: float, log: str, only: Collection[str] = ()):
        self.tell, self.scratch, self.end, self.log, self.only = tell, scratch, end, log, only
        self.checks, self.facts, self.losses = [], {}, {}
        self.stands_in, self.model = False, ""

    def do(self, starter: Starter) -> None:
        if self.wants("card"):
            self.add(driver())
        for group in GROUPS:
            self.group(group)
            if not self.facts:  # torch itself does not work: nothing else can
                return
        if not any(map(self.wants, TRAININGS)):
            return
        if not self.prepare(starter):
            self.all_late(TRAININGS[1:])
            return
        for method in METHODS:
            self.train(method, packing=False)
        self.resume()
        for method in METHODS:
            self.train(method, packing=True)

    def wants(self, name: str) -> bool:
        return not self.only or name in self.only or name == "torch"  # which tells what the others compute on

    def add(self, found: dict) -> None:
        self.checks.append(found)
        self.tell("check", **found)

    def seconds(self, most: float) -> float:
        return min(most, self.end - time.monotonic())

    def late(self, name: str) -> bool:
        """Whether there is no time left for a check, which is then told."""
        if self.seconds(math.inf) > SPARE_SECONDS:
            return False
        self.add(result(name, "slow", {"left_out": "time"}, None, _time_was_short()))
        return True

    def all_late(self, names: Collection[str]) -> bool:
        """The same of several checks: once there is no time for one, there is none for those after it."""
        wanted = [name for name in names if self.wants(name)]
        if not wanted or not self.late(wanted[0]):
            return False
        for name in wanted[1:]:
            self.late(name)
        return True

    def ask(self, request: dict, seconds: float, on_line: Callable = lambda said: None) -> children.Ended:
        """Let a process do what the request says, until a run begins; what it leaves behind goes with the check."""
        return children.run(request | {"scratch": str(self.scratch)}, self.seconds(seconds), on_line, give_way)

    def broken(self, name: str, reason: str, advice: Exception | None = None) -> None:
        """A check that could not be brought to its end; when all the time is over, it was slow, not broken."""
        if self.seconds(math.inf) <= 0:
            self.add(result(name, "slow", {"left_out": "time"}, None, _time_was_short()))
            return
        self.add(result(name, "broken", {"reason": reason}, None, advice or advices.CheckBroke(log=self.log)))

    # -----------------------------------------------------------------------------------------------------------------
    # Groups of checks in a process of their own

    def group(self, group: str) -> None:
        """Run the checks of a group; after a crash, those that are left go on in another process."""
        left = [name for name in GROUPS[group] if self.wants(name)]
        while left:
            if self.all_late(left):
                return
            now = left[0]

            def on_line(said: dict) -> None:
                nonlocal now
                if "begins" in said:
                    now = said["begins"]
                    self.tell("begins", name=now)
                elif "facts" in said:
                    self.facts = said["facts"]
                elif "check" in said:
                    left.remove(said["check"]["name"])
                    self.add(said["check"])
                elif "skipped" in said:
                    left.remove(said["skipped"])

            before = list(left)
            ended = self.ask({"do": "check", "group": group, "names": before}, GROUP_SECONDS, on_line)
            if left and (now in left or left == before):
                self.broken(now, ended.reason, _advice_for(group))
                left.remove(now)
            if left and group == "kernels" and not self.facts:
                return

    # -----------------------------------------------------------------------------------------------------------------
    # Trainings

    def prepare(self, starter: Starter) -> bool:
        """Wait for the starter model, or make one that stands in for it; whether there is a model."""
        self.tell("begins", name="model")
        found = starter.wait(self.seconds(STARTER_SECONDS), give_way)
        advice = None
        if not found:
            self.stands_in, folder = True, self.scratch / "stand-in"
            ended = self.ask({"do": "stand_in", "folder": str(folder)}, GROUP_SECONDS)
            if ended.code:
                self.broken("model", ended.reason, _advice_for("attention"))
                return False
            found = str(folder / "model")
            command = "python -m core.models prepare starter"
            advice = advices.StarterMissing(reason=starter.reason, command=command)
        self.model = found
        name, state = (STAND_IN, "slow") if self.stands_in else (models.STARTER_TITLE, "ok")
        self.add(result("model", state, {"model": name}, {"model": models.STARTER_TITLE}, advice))
        for kind, words in (("long", 1200), ("short", self.length() // DOCUMENTS - 8)):
            stand_in.write_rows(self.scratch / f"{kind}.jsonl", words)
        return True

    def on_card(self) -> bool:
        return self.facts["kind"] != "cpu"

    def length(self) -> int:
        return 512 if self.on_card() else 64

    def steps(self) -> int:
        return 8 if self.on_card() else 4

    def enough(self) -> int:
        """After so many steps a training ends that is only timed: the first one is not counted."""
        return self.steps() - 1 if self.on_card() else 2

    def config(self, method: str, packing: bool = False, checkpoint: int = 0) -> TrainConfig:
        steps = self.steps()
        return TrainConfig(
            base_model=self.model,
            corpus=str(self.scratch / f"{'short' if packing else 'long'}.jsonl"),
            method=method,
            task="text",
            max_length=self.length(),
            packing=packing,
            batch_size=4 if self.on_card() else 2,
            max_steps=steps,
            eval_steps=checkpoint or steps,
            save_total_limit=4,
            validation_share=0,
        )

    def train(self, method: str, packing: bool) -> None:
        """A few steps; LoRA without packing goes to its very end, for resume() to be held against it."""
        name = f"train_{method}" + "_packed" * packing
        if not self.wants(name) and not (name == "train_lora" and self.wants("resume")):
            return
        if self.late(name):
            return
        whole = method == "lora" and not packing
        config = self.config(method, packing, self.steps() // 2 if whole else 0)
        if self.on_card() and (refused := advices.refused(config)):
            self.add(result(name, "ok", {"left_out": "unsupported"}, None, refused))
            return
        forecast = self.forecast(config)
        need = forecast.get("predicted_bytes", 0)
        if need > self.facts["free"]:
            short = {"left_out": "memory", "free_gib": self.facts["free"] / 2**30}
            self.add(result(name, "ok", short, {"peak_gib": need / 2**30}))
            return
        self.tell("begins", name=name)
        request = {"config": asdict(config), "out": name} | ({} if whole else {"stop_after": self.enough()})
        said, ended = self.child(request)
        if not self.done(name, said, ended):
            return
        steps = [one for one in said if one.get("event") == "step"]
        if whole:
            self.losses = training.losses(steps)
        self.judge(name, config, steps, forecast)

    def child(self, request: dict, on_event: Callable[[dict], bool | None] = lambda said: None) -> tuple:
        """What a training said, and how it ended."""
        said = []

        def on_line(line: dict) -> bool | None:
            said.append(line)
            if line.get("event") == "step":
                self.tell("step", step=line["step"])  # who was told to stop says so then
            return on_event(line)

        more = {"do": "train", "out": str(self.scratch / request["out"]), "cache": str(self.scratch / "tokens")}
        return said, self.ask(request | more, TRAIN_SECONDS, on_line)

    def done(self, name: str, said: list[dict], ended: children.Ended) -> bool:
        """Whether a training came to its end; else it is told why not."""
        if any(one.get("event") == "done" for one in said):
            return True
        if ended.timed_out and any(one.get("event") == "step" for one in said):  # it trains, but not in this time
            self.add(result(name, "slow", {"left_out": "time"}, None, _time_was_short()))
            return False
        told = next((one for one in said if "trouble" in one), None)
        self.broken(name, told["message"] if told else ended.reason)
        if told:
            self.checks[-1]["advice"] = told
        return False

    def forecast(self, config: TrainConfig) -> dict:
        """What the calculator expects of a training on this very device; nothing where it does not know it."""
        try:
            found = {} if self.stands_in else forecast.of_config(asdict(config))
        except UserError:
            return {}
        # Where torch computes on something else than the driver's card, the forecast is not of this device.
        here = self.facts["device"] if self.on_card() else catalogue.CPU
        return found if found.get("card") == here else {}

    def judge(self, name: str, config: TrainConfig, steps: list[dict], forecast: dict) -> None:
        """Pace, peak memory and first loss beside what was expected; a good pace teaches the calculator."""
        tokens = config.batch_size * config.max_length
        pace, loss, peak = training.pace(steps), steps[0]["loss"], max(step["memory_gib"] for step in steps)
        value, expected = {"tokens_per_second": pace, "peak_gib": peak, "loss": loss}, {}
        if forecast:
            expected["tokens_per_second"] = tokens / forecast["predicted_seconds"]
            if self.on_card():
                expected["peak_gib"] = forecast["predicted_bytes"] / 2**30
        state, advice = "ok", None
        known = not self.on_card() or _rates_known(self.facts["device"])
        if known and pace < SLOW * expected.get("tokens_per_second", 0):
            state, advice = "slow", advices.slow(self.on_card())
        if not config.packing and config.method in LOSS_BOUNDS and (right := self.losses.get(1)):
            expected["loss"] = right
            if not abs(loss / right - 1) <= LOSS_BOUNDS[config.method]:
                state, advice = "broken", advices.CheckBroke(log=self.log)
        self.add(result(name, state, value, expected, advice))
        # Two steps on a processor that other programs use too would teach little.
        if forecast and state == "ok" and self.on_card() and not config.packing:
            _learn(forecast, peak * 2**30, tokens / pace)

    def resume(self) -> None:
        """Kill a training once its first checkpoint is written, resume it, and compare its losses."""
        name, config = "resume", asdict(self.config("lora", checkpoint=self.steps() // 2))
        if not self.wants(name) or self.late(name):
            return
        if not self.losses:
            self.add(result(name, "ok", {"left_out": "losses"}))
            return
        self.tell("begins", name=name)
        killed, ended = self.child(
            {"config": config, "out": name, "hold": True}, lambda one: one.get("event") == "checkpoint"
        )
        if not any(one.get("event") == "checkpoint" for one in killed):
            self.done(name, killed, ended)
            return
        said, ended = self.child({"config": config, "out": name, "resume": True})
        if not self.done(name, said, ended):
            return
        after = training.losses([one for one in said if one.get("event") == "step"])
        wanted = {step: loss for step, loss in self.losses.items() if step > self.steps() // 2}
        if set(after) != set(wanted):
            self.broken(name, f"it went on with the steps {sorted(after)}, not {sorted(wanted)}")
            return
        error = max(abs(after[step] / wanted[step] - 1) for step in wanted)
        bound = RESUME_BOUND if self.on_card() else 0.0
        state, advice = ("ok", None) if error <= bound else ("broken", advices.CheckBroke(log=self.log))
        self.add(result(name, state, {"steps": len(wanted), "error": error}, {"error": bound}, advice))


def driver() -> dict:
    """What the driver says, before torch is asked."""
    one, version, error = hardware.card(), nvidia.driver().version, nvidia.driver().error
    state = "broken" if error else "ok"
    if one is None:
        here = hardware.machine()
        value = {"card": "none", "cores": here.cores, "memory_gib": here.memory_bytes / 2**30}
        return result("card", state, value | ({"driver": version} if version else {}), advice=error)
    value = {"card": one.name, "driver": version or "unknown", "capability": one.compute_capability}
    if one.total_bytes:
        value |= {"memory_gib": one.total_bytes / 2**30, "free_gib": one.free_bytes / 2**30}
    count = len(hardware.gpus())
    return result("card", state, value | ({"cards": count} if count > 1 else {}), advice=error)


def _rates_known(name: str) -> bool:
    """Whether the calculator has rates of this very card; those of an unknown one are a guess that nobody is held to."""
    return any(catalogue.of_machine(gpu).measured for gpu in hardware.gpus() if gpu.name == name)


def _learn(forecast: dict, measured_bytes: float, measured_seconds: float) -> None:
    measured = {"measured_bytes": measured_bytes, "measured_seconds": measured_seconds}
    forecasts.learn(forecast, **measured, origin=calibration.CHECK)


def _time_was_short() -> UserError:
    return advices.TimeWasShort(command=advices.again("--minutes 15"))


def _advice_for(group: str) -> UserError:
    """What to do where a process of the group died without a word."""
    if group == "kernels":
        return advices.TorchUnusable(command=advices.torch_for())
    if group == "quantisation":
        return advices.BitsandbytesUnusable(command=advices.pip("--force-reinstall", "--no-deps", "bitsandbytes"))
    packages = ("--upgrade", "torch", "transformers", "peft", "accelerate")
    return advices.PackageUnusable(command=advices.pip(*packages))
