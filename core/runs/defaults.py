"""Defaults of a run: fields of TrainConfig that suit a model, a method, a corpus and this machine."""

from dataclasses import asdict
from pathlib import Path

from core import paths
from core.corpus import storage, token_counter
from core.errors import UserError
from core.estimate import catalogue
from core.hardware import hardware
from core.models import model_files, models
from core.training.config import TrainConfig

FIELDS = (
    *("learning_rate", "batch_size", "gradient_accumulation_steps", "max_length", "epochs", "gradient_checkpointing"),
    *("logging_steps", "eval_steps", "eval_samples"),
)
PREFERENCE_SLOWER = 20  # 1e-5 for adapters, 1e-6 for all weights: https://huggingface.co/docs/trl/dpo_trainer
FULL_SLOWER = 10  # LoRA takes about ten times the learning rate of all-weights training
ROOMY = 40 * 2**30  # bytes of a card that holds four rows of a 7B model in 4 bits without recomputing
LARGE = 1_000_000_000  # bytes of weights above which a smaller card takes one row at a time
EVERY = 1000  # steps between evaluations and log entries of a long run
LOGGED = 200  # log entries of a shorter one


def suited(base_model: str, method: str, corpus_id: str | None, card: str | None = None, task: str = "") -> dict:
    """The fields of FIELDS, in their order: three epochs, and what the card and the corpus make of the rest.

    `card` is the UUID of the card that is trained on; by default the usual one.
    """
    values = {name: value for name, value in asdict(TrainConfig("", "")).items() if name in FIELDS}
    place, config = None, {}
    try:
        values |= models.suggested(base_model)
        place = models.local(base_model)
        config = catalogue.config(place) if place else {}
    except UserError:  # a directory that is no model is refused when Train is pressed
        pass
    longest = (config | config.get("text_config", {})).get("max_position_embeddings")
    values["max_length"] = min(values["max_length"], longest or values["max_length"])
    if method == "full":
        values["learning_rate"] /= FULL_SLOWER
    if "preference" in (task, kind(corpus_id)):
        values["learning_rate"] /= PREFERENCE_SLOWER
    gpu = hardware.card(card) or hardware.card()
    values["eval_samples"] = gpu is not None  # a processor may reply for as long as it trains
    if gpu and gpu.total_bytes < ROOMY and (not place or model_files.size(Path(place)) > LARGE):
        values |= {"batch_size": 1, "gradient_accumulation_steps": 16, "gradient_checkpointing": True}
    samples = _samples(corpus_id, base_model, values["max_length"])
    steps = samples * values["epochs"] / (values["batch_size"] * values["gradient_accumulation_steps"])
    long = steps >= 10 * EVERY
    values["eval_steps"] = EVERY if long else 0  # 0: ten times a run
    values["logging_steps"] = EVERY if long else max(1, int(steps / LOGGED))
    return {name: values[name] for name in FIELDS}


def kind(corpus_id: str | None) -> str:
    """What a corpus holds: chat, text, preference, judged, mixed; nothing where that is not known."""
    return _card(corpus_id).get("kind", "")


def _samples(corpus_id: str | None, base_model: str, max_length: int) -> float:
    """What is read in an epoch: the rows of a corpus; of texts, which are packed, the blocks; 0 if there is none."""
    card = _card(corpus_id)
    if card.get("kind") == "text":
        return token_counter.of_corpus(paths.corpus(corpus_id), base_model)[0] / max_length
    return card.get("rows", 0)


def _card(corpus_id: str | None) -> dict:
    try:
        return storage.read_card(paths.corpus(corpus_id or ""))
    except UserError:
        return {}
