"""The plan that follows from an answer: fields of TrainConfig, and the files to take away."""

import json
import zipfile
from dataclasses import asdict, fields
from pathlib import Path

from core.estimate.answer import Answer
from core.estimate.setup import named_targets
from core.models import base_identity, models
from core.training import program
from core.training.config import TrainConfig

EVERY = 1000  # steps between two evaluations, as the original answer recommends; a short run takes a tenth of it
# These leave the form as it is.
UNSAID = {"task": "chat", "preference_loss": "dpo", "train_embeddings": False, "use_liger_kernel": False}


def config_fields(answer: Answer, model: str, corpus: str = "") -> dict:
    """Fields of TrainConfig: what the Training tab is filled with.

    Continued pretraining is of all weights, on texts; a system prompt trains nothing, so there is no plan.
    """
    if answer.setup.method == "prompt":
        return {}
    setup = named_targets(answer.setup, answer.shape)
    setup = setup.changed(train_embeddings=setup.saves)
    rows = answer.tokens * setup.batch_size / setup.tokens
    steps = rows * answer.epochs / (setup.batch_size * setup.gradient_accumulation_steps)
    every = int(max(1, min(EVERY, steps // 10)))
    known = {field.name for field in fields(TrainConfig)}
    config = {name: value for name, value in asdict(setup).items() if name in known and UNSAID.get(name) != value}
    config |= {
        "base_model": models.STARTER if model == base_identity.STARTER_HUB_ID else model,
        "epochs": float(answer.epochs),
        "lora_alpha": 2 * setup.lora_rank,
        "optim": "adamw_torch" if setup.optim == "adamw_torch_fused" else setup.optim,
        "precision": "auto",
        "eval_steps": every,
        "logging_steps": every if every == EVERY else max(1, every // 10),
    }
    if setup.task == "text":
        config |= {"learn": "all", "packing": not answer.shape.linear_layers}  # whose scan would run across documents
    return config | ({"corpus": corpus} if corpus else {})


def pack(config: dict, out: Path) -> Path:
    """A ZIP file with train.py and config.json, which trains without Soulsmith: `python train.py config.json`."""
    whole = {"corpus": "corpus.jsonl"} | config
    out.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        program.write(archive)
        archive.writestr("config.json", json.dumps(whole, ensure_ascii=False, indent=2) + "\n")
    return out
