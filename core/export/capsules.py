"""The capsule of a run: one zip with train.py, core/training as it is, config.json, the rows, pinned requirements, the
curves and the adapter's card."""

import json
import zipfile
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from core import events, models, paths
from core.chat import chat_models
from core.chat.types import NoAdapter
from core.export import adapters
from core.runs import runs, trainer
from core.training import corpus_rows, program

README = """# {name}

Trains the run again, without Soulsmith, in an empty directory:

    python -m venv .venv
    .venv/bin/pip install -r requirements.txt
    .venv/bin/python train.py config.json

config.json names the base model ({base_model}); change it to where that model is on your machine, or to its hub id.
The adapter appears in adapter/. One JSON line is printed for each event.
The run was made by Soulsmith {version}.

events.jsonl holds the curves of the first time: loss, held-out loss, learning rate and the norm of the gradient by step.
adapter-card.md describes the adapter that came of it, where one did.

Over several cards, a process each. Every process has a batch of its own: a step takes batch_size x
gradient_accumulation_steps x the number of processes. For the steps of the first time, divide batch_size by that number.

    .venv/bin/accelerate launch --config_file accelerate/ddp.yaml train.py config.json

accelerate/fsdp.yaml and accelerate/deepspeed.yaml share out the weights too; set num_processes in them to your cards.
On a processor, two processes start with (`accelerate launch --cpu` starts one):

    CUDA_VISIBLE_DEVICES= .venv/bin/torchrun --standalone --nproc_per_node 2 train.py config.json
"""


def write(run_id: str, out: Path) -> Path:
    """Write the zip of a run: the recipe, its config, its rows and the versions it was trained with."""
    run_dir, config = runs.directory(run_id), runs.config(run_id)
    base = models.local(config.base_model) or config.base_model
    packed = asdict(config) | {"corpus": "corpus.jsonl", "base_model": base}
    versions = next((e["versions"] for e in events.read(run_dir)[0] if "versions" in e), None) or trainer.versions()
    packages = versions.keys() - {"python", "soulsmith"}
    pins = "".join(f"{name}=={versions[name].split('+')[0]}\n" for name in sorted(packages))
    unfinished = out.with_suffix(".unfinished")
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive:
        program.write(archive)
        archive.writestr("config.json", json.dumps(packed, indent=2, ensure_ascii=False) + "\n")
        archive.writestr("requirements.txt", pins)
        for plan in sorted((paths.assets() / "accelerate").glob("*.yaml")):
            archive.write(plan, f"accelerate/{plan.name}")
        archive.writestr(
            "README.md",
            README.format(name=runs.label(run_id)["name"], base_model=base, version=versions.get("soulsmith", "0.8")),
        )
        if (run_dir / "events.jsonl").exists():
            archive.write(run_dir / "events.jsonl", "events.jsonl")
        with suppress(NoAdapter):
            one = chat_models.find(f"run:{run_id}")
            if not one.whole:
                archive.writestr("adapter-card.md", adapters.card(run_id, one, "adapter"))
        with archive.open("corpus.jsonl", "w", force_zip64=True) as rows:
            for row in corpus_rows.read_rows(runs.corpus_path(config)):
                rows.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    unfinished.replace(out)
    return out
