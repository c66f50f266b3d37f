"""Why a run failed, and the smallest change of its config that lets it resume."""

from dataclasses import asdict, replace

from core import events, paths
from core.errors import UserError
from core.estimate import advice, answer, catalogue, forecast
from core.hardware import hardware
from core.hardware.gpu import Gpu
from core.runs import assigned_gpu, runs
from core.training.checkpoints import whole_checkpoint
from core.training.config import TrainConfig

MEMORY = ("OutOfMemory", "ModelTooLarge")
# Changes after which a run still resumes from its checkpoint: with other weights or another optimizer it cannot.
RESUMABLE = ("checkpointing", "batch", "sequence")
ALWAYS = (*RESUMABLE, "optimizer", "rank", "method")


def diagnose(run_id: str) -> dict | None:
    """Failure cause and suggested change of the config, or None for a run that has neither failed nor is lost.

    {"cause": class name of the error, or "lost"; "values", "message": of the error; "step": of the checkpoint from which
    it would go on, 0 without one; "changes": fields of the config with their new values; "fits": whether it then fits by
    the estimate, None where there is none; "needs", "free": bytes before the change and on the card}.
    """
    state = runs.state(run_id)
    if state not in ("failed", "lost"):
        return None
    checkpoint = whole_checkpoint(paths.run(run_id))
    step = int(checkpoint.rpartition("-")[2]) if checkpoint else 0
    diagnosis = {"cause": "lost", "values": {}, "message": "", "step": step, "changes": {}, "fits": None}
    if state == "failed":
        last = events.last(paths.run(run_id))
        diagnosis |= {"cause": last["trouble"], "values": last.get("values") or {}, "message": last["message"]}
    if diagnosis["cause"] in MEMORY or (diagnosis["cause"] == "KilledForMemory" and not hardware.gpus()):
        tokens = diagnosis["values"].get("tokens", "")
        longest = int(tokens) if tokens.isdigit() else None
        diagnosis |= memory_remedy(runs.config(run_id), longest, resumes=bool(step), gpu=_card(run_id))
    if diagnosis["cause"] == "LossNotFinite":
        diagnosis["changes"] = {"learning_rate": runs.config(run_id).learning_rate / 10}
    return diagnosis


def treat(run_id: str) -> None:
    """Apply the smallest change and queue the run again."""
    diagnosis = diagnose(run_id)
    if diagnosis and diagnosis["changes"]:
        runs.change(run_id, **diagnosis["changes"])
    runs.resume(run_id)


def _card(run_id: str) -> Gpu | None:
    """The card that a run would train on now; None for the processor."""
    try:
        return assigned_gpu.of(paths.run(run_id))
    except assigned_gpu.CardTakenOut:
        return hardware.card()


def memory_remedy(config: TrainConfig, tokens: int | None, *, resumes: bool, gpu: Gpu | None) -> dict:
    """The change that makes a run fit by the estimate, without an effect on the result wherever that is enough.

    The run has just shown that it does not fit. So the change has to bring the estimate below what is free now and below
    the estimate of what failed, whichever is less.
    """
    allowed = RESUMABLE if resumes else ALWAYS
    try:
        card = forecast.card_of(gpu)
        shape = catalogue.shape(config.base_model)
        values = asdict(config) | {"max_length": min(tokens or config.max_length, config.max_length)}
        setup = answer.suited(forecast.setup_of(values, card), card)
        needs, free = answer.peak(shape, setup, card).process, free_bytes(gpu)
        budget = min(free, needs)
        changes = advice.way_to_fit(shape, setup, card, budget, allowed)
        fields = {name: value for change in changes for name, value in change.fields.items()}
    except UserError:  # a model or a setup that the calculator does not know
        return {"changes": plain(config), "fits": None}
    after, verdict = answer.judge(shape, replace(setup, **fields), card, budget)
    changes = {name: value for name, value in fields.items() if name in values}
    fits = bool(changes) and verdict == "fits"
    return {"changes": changes, "fits": fits, "needs": needs, "after": after.process, "free": free}


def plain(config: TrainConfig) -> dict:
    """A change that helps any model: half the batch, else gradient checkpointing, else shorter rows."""
    if config.batch_size > 1:
        half = config.batch_size // 2
        more = -(-config.gradient_accumulation_steps * config.batch_size // half)
        return {"batch_size": half, "gradient_accumulation_steps": more}
    if not config.gradient_checkpointing:
        return {"gradient_checkpointing": True}
    return {"max_length": max(8, config.max_length // 2)}


def free_bytes(gpu: Gpu | None) -> float:
    """What is free on the card, or in memory without one, now that the run has ended."""
    if gpu:
        return hardware.free_bytes(gpu) or forecast.card_of(gpu).memory_bytes
    return hardware.machine().memory_free_bytes
