"""The crash doctor: why a run ended before its time, and the smallest change with which it goes on."""

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
# What a checkpoint outlives: with other weights or another optimizer there is nothing to go on from.
RESUMABLE = ("checkpointing", "batch", "sequence")
ALWAYS = (*RESUMABLE, "optimizer", "rank", "method")


def diagnose(run_id: str) -> dict | None:
    """What befell a run, or None of one that is well.

    {"cause": name of the trouble, or "lost"; "values", "message": its words; "step": of the checkpoint from which it
    would go on, 0 without one; "changes": fields of the config with their new values; "fits": whether the estimate says
    that it then fits, None where it cannot tell; "needs", "free": bytes before the change and on the card}.
    """
    state = runs.state(run_id)
    if state not in ("failed", "lost"):
        return None
    checkpoint = whole_checkpoint(paths.run(run_id))
    step = int(checkpoint.rpartition("-")[2]) if checkpoint else 0
    found = {"cause": "lost", "values": {}, "message": "", "step": step, "changes": {}, "fits": None}
    if state == "failed":
        last = events.last(paths.run(run_id))
        found |= {"cause": last["trouble"], "values": last.get("values") or {}, "message": last["message"]}
    if found["cause"] in MEMORY or (found["cause"] == "KilledForMemory" and not hardware.gpus()):
        tokens = found["values"].get("tokens", "")
        longest = int(tokens) if tokens.isdigit() else None
        found |= memory_remedy(runs.config(run_id), longest, resumes=bool(step), gpu=_card(run_id))
    if found["cause"] == "LossNotFinite":
        found["changes"] = {"learning_rate": runs.config(run_id).learning_rate / 10}
    return found


def treat(run_id: str) -> None:
    """Apply the smallest change and queue the run again."""
    found = diagnose(run_id)
    if found and found["changes"]:
        runs.change(run_id, **found["changes"])
    runs.resume(run_id)


def _card(run_id: str) -> Gpu | None:
    """The card that a run would train on now, the processor where there is none."""
    try:
        return assigned_gpu.of(paths.run(run_id))
    except assigned_gpu.CardTakenOut:
        return hardware.card()


def memory_remedy(config: TrainConfig, tokens: int | None, *, resumes: bool, gpu: Gpu | None) -> dict:
    """The change that makes a run fit, by the estimate: the result stays the same wherever that is enough.

    The run has just shown that its card is too small for it. So the change has to bring the estimate below what is
    free now and below the estimate of what failed, whichever is less.
    """
    allowed = RESUMABLE if resumes else ALWAYS
    try:
        card = forecast.card_of(gpu)
        shape = catalogue.shape(config.base_model)
        values = asdict(config) | {"max_length": min(tokens or config.max_length, config.max_length)}
        setup = answer.suited(forecast.setup_of(values, card), card)
        needs, free = answer.quick(shape, setup, card).process, free_bytes(gpu)
        budget = min(free, needs)
        fields = way(shape, setup, card, budget, allowed)
    except UserError:  # a model or a setup that the calculator does not know
        return {"changes": plain(config), "fits": None}
    after = answer.quick(shape, replace(setup, **fields), card)
    changes = {name: value for name, value in fields.items() if name in values}
    fits = bool(changes) and answer.fits(after, budget) != "no"
    return {"changes": changes, "fits": fits, "needs": needs, "after": after.process, "free": free}


def way(shape, setup, card, budget: float, allowed: tuple[str, ...]) -> dict:
    """Fields of the calculator's setup: one change if one is enough, else one after another, the least harmful first."""
    fields: dict = {}
    for _ in range(12):
        changes = [change for change in advice.changes(shape, setup, card, budget) if change.name in allowed]
        if not changes:
            break
        enough = [change for change in changes if change.verdict == "fits"]
        chosen = (enough or sorted(changes, key=lambda change: (change.harm, -change.saves)))[0]
        fields |= chosen.fields
        setup = replace(setup, **chosen.fields)
        if enough:
            break
    return fields


def plain(config: TrainConfig) -> dict:
    """What helps whatever the model: half the rows at once, or activations computed anew, or shorter rows."""
    if config.batch_size > 1:
        half = config.batch_size // 2
        more = -(-config.gradient_accumulation_steps * config.batch_size // half)
        return {"batch_size": half, "gradient_accumulation_steps": more}
    if not config.gradient_checkpointing:
        return {"gradient_checkpointing": True}
    return {"max_length": max(8, config.max_length // 2)}


def free_bytes(gpu: Gpu | None) -> float:
    """What is free on the card now that the run is gone; without a card, memory."""
    if gpu:
        return hardware.free_bytes(gpu) or forecast.card_of(gpu).memory_bytes
    return hardware.machine().memory_free_bytes
