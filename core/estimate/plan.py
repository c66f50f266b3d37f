"""The plan that follows from an answer: fields of TrainConfig, and the files to take away."""

import json
import zipfile
from pathlib import Path

from core import models
from core.estimate.answer import Answer
from core.estimate.setup import named_targets
from core.training import program
from core.training.config import CHOICES

STARTER_HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"  # under which the catalogue knows the starter model
EVERY = 1000  # steps between two evaluations, as the original answer recommends; a short run takes a tenth of it


def fields(answer: Answer, model: str, corpus: str = "") -> dict:
    """Fields of TrainConfig: what the Training tab is filled with.

    Continued pretraining is of all weights, on texts; for a method that does not train, the plan is LoRA.
    """
    setup = named_targets(answer.setup, answer.shape)
    rows = answer.tokens / setup.sequence_length
    steps = rows * answer.epochs / (setup.batch_size * setup.gradient_accumulation_steps)
    every = int(max(1, min(EVERY, steps // 10)))
    chosen = {
        "base_model": models.STARTER if model == STARTER_HUB_ID else model,
        "method": setup.method if setup.method in CHOICES["method"] else "lora",
        "max_length": setup.sequence_length,
        "batch_size": setup.batch_size,
        "gradient_accumulation_steps": setup.gradient_accumulation_steps,
        "epochs": float(answer.epochs),
        "lora_rank": setup.lora_rank,
        "lora_alpha": 2 * setup.lora_rank,
        "lora_dropout": setup.lora_dropout,
        "target_modules": setup.target_modules,
        "optim": "adamw_torch" if setup.optimizer == "adamw_torch_fused" else setup.optimizer,
        "gradient_checkpointing": setup.gradient_checkpointing,
        "precision": "auto",
        "eval_steps": every,
        "logging_steps": every if every == EVERY else max(1, every // 10),
    }
    if setup.saves:
        chosen["train_embeddings"] = True
    if setup.method == "cpt":
        chosen |= {"method": "full", "task": "text", "learn": "all", "packing": True}
    return chosen | ({"corpus": corpus} if corpus else {})


def pack(config: dict, out: Path) -> Path:
    """A ZIP file with train.py and config.json, which trains without Soulsmith: `python train.py config.json`."""
    whole = {"corpus": "corpus.jsonl"} | config
    out.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        program.write(archive)
        archive.writestr("config.json", json.dumps(whole, ensure_ascii=False, indent=2) + "\n")
    return out
