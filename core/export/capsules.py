"""The capsule of a run: one zip with train.py, core/training as it is, config.json, the rows, pinned requirements, the
curves and the adapter's card."""

import json
import zipfile
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from core import events, files, paths
from core.chat import chat_models
from core.chat.types import NoAdapter
from core.export import adapters, cards
from core.models import base_identity
from core.runs import runs, starts, trainer
from core.training import corpus_rows, mixing, program


def write(run_id: str, out: Path) -> Path:
    """Write the zip of a run: the program, its config, its rows and the versions it was trained with."""
    run_dir, config = runs.directory(run_id), runs.config(run_id)
    base = base_identity.of(config.base_model)
    kept = run_dir / starts.FOLDER
    names = ["corpus.jsonl", *(f"corpus-{number}.jsonl" for number in range(2, len(config.mix) + 2))]
    corpora = dict(zip(names, mixing.corpora(config), strict=True))
    mix = [[name, share] for name, (_, share) in zip(names[1:], config.mix, strict=True)]
    packed = asdict(config) | {"corpus": "corpus.jsonl", "base_model": base.name, "mix": mix}
    packed |= {"start": starts.FOLDER} if kept.is_dir() else {}
    versions = next((e["versions"] for e in events.read(run_dir)[0] if "versions" in e), None) or trainer.versions()
    packages = sorted(versions.keys() - {"python", "soulsmith"})
    readme = (paths.assets() / "export" / "capsule.md").read_text(encoding="utf-8")
    made = f"; they were made from {base.source}, and the hub's own differ from them by rounding" if base.source else ""
    made = made if base.sha256 else ", which is empty: the base was not on the disk that the capsule was made on"
    said = {"name": runs.label(run_id)["name"], "base": base, "version": versions.get("soulsmith", "0.8")}
    readme = readme.format(**said, made=made)
    with files.replaced(out) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        program.write(archive)
        archive.writestr("config.json", json.dumps(packed, indent=2, ensure_ascii=False) + "\n")
        archive.writestr("requirements.txt", "".join(f"{p}=={versions[p].split('+')[0]}\n" for p in packages))
        for plan in sorted((paths.assets() / "accelerate").glob("*.yaml")):
            archive.write(plan, f"accelerate/{plan.name}")
        archive.writestr("README.md", readme)
        archive.writestr(base_identity.FILE, json.dumps(asdict(base), ensure_ascii=False) + "\n")
        if (run_dir / "events.jsonl").exists():
            archive.writestr("events.jsonl", _without_paths(run_dir, base.name))
        with suppress(NoAdapter):
            model = chat_models.find(f"run:{run_id}")
            if not model.whole:
                archive.writestr(
                    "adapter-card.md", cards.card(model, "adapter", lines=adapters.lines(model, "adapter"))
                )
        for file in sorted(kept.glob("*")):
            if file.suffix == ".json":
                archive.writestr(f"{starts.FOLDER}/{file.name}", base_identity.cleaned(file, base))
            else:
                archive.write(file, f"{starts.FOLDER}/{file.name}")
        for name, corpus in corpora.items():
            with archive.open(name, "w", force_zip64=True) as rows:
                for row in corpus_rows.read_rows(runs.corpus_path(corpus)):
                    rows.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    return out


def _without_paths(run_dir: Path, name: str) -> str:
    """The events of a run, in which the base has this name, and no directory of this disk is named."""
    seen = [event | {"model": name} if "model" in event else event for event in events.read(run_dir)[0]]
    text = "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in seen)
    for place, instead in ((run_dir, "run"), (paths.home(), "soulsmith"), (Path.home(), "~")):
        text = text.replace(json.dumps(str(place), ensure_ascii=False)[1:-1], instead)
    return text
