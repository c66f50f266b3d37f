"""The program of a capsule: train.py and the package that it runs."""

from __future__ import annotations

import json
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

from . import base_weights, checkpoints, environment
from .config import TrainConfig

ENTRY = """from training.program import main

if __name__ == "__main__":
    main()
"""


def write(archive: zipfile.ZipFile) -> None:
    """Put train.py and the package that it runs into a capsule."""
    archive.writestr("train.py", ENTRY)
    package = Path(__file__).parent
    for file in sorted([*package.glob("*.py"), *package.glob("*.json")]):
        archive.write(file, f"training/{file.name}")


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        sys.exit("Usage: python train.py config.json\nTrains into the directory of the config; one JSON line an event.")
    environment.grow_segments()
    from . import training_loop  # noqa: PLC0415 - torch reads the allocator's settings as it is imported

    path = Path(sys.argv[1])

    def report(event: str, **values):
        print(json.dumps({"event": event, **values}, ensure_ascii=False), flush=True)
        if event == "model" and (weights := base_weights.compared(config.base_model, out)):  # it was fetched by now
            report("base", **weights)

    out, config = path.absolute().parent, TrainConfig.load(path)
    mix = [(str(out / corpus), share) for corpus, share in config.mix]
    config = replace(config, corpus=str(out / config.corpus), mix=mix)  # an absolute path stays what it is
    if config.start:
        config = replace(config, start=str(out / config.start))
    ending = training_loop.train(config, out, report=report, resume_from=checkpoints.whole_checkpoint(out))
    if environment.is_main_process():
        report("finished", **ending)
