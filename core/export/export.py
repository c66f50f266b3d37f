"""Take a run along: as a capsule, a PEFT adapter, a merged model, or GGUF files for Ollama, LM Studio and llama.cpp.

Run it: `python -m core.export RUN --as capsule|adapter|merged|gguf OUT --json`. The page starts the same as a job in
the background, whose files stay in the data directory until the export is deleted.
"""

from collections.abc import Callable
from pathlib import Path

from core import jobs, model_files, models, paths
from core.chat import chat_models
from core.errors import UserError
from core.export import adapters, capsules
from core.runs import runs

KINDS = ("capsule", "adapter", "merged", "gguf")
SLACK = 50_000_000  # bytes for cards, tokenizers and the zip's own
capsule = capsules.write


class NothingToMerge(UserError):
    template = 'The run "{name}" trained all weights: it is a whole model already. Take the GGUF files or the capsule.'


class PlaceTaken(UserError):
    template = "There is something in {path} already, and it stays as it is. Choose another place, or remove it first."


def start(run_id: str, kind: str) -> Path:
    """Begin an export in the background; raises at once what would surely stop it."""
    check(run_id, kind, paths.exports())
    name = runs.label(run_id)["name"]
    directory = jobs.create(paths.exports(), {"name": name, "run": run_id, "kind": kind})
    jobs.start(directory, "core.export")
    return directory


def check(run_id: str, kind: str, where: Path) -> None:
    """Raise when the run, its base or the room on the disk is missing; nothing is downloaded for that.

    Raises:
        RunGone, NoAdapter, BaseGone, DiskFull.
    """
    runs.directory(run_id)
    if kind == "capsule":
        models.need_disk(where, needed_bytes(run_id, kind))
        return
    one = chat_models.find(f"run:{run_id}")
    if one.whole and kind in ("adapter", "merged"):
        raise NothingToMerge(name=one.title)
    models.need_disk(where, needed_bytes(run_id, kind))


def needed_bytes(run_id: str, kind: str) -> int:
    """Room that an export takes at its largest, temporary files included, as far as the base's size is known."""
    if kind == "capsule":
        corpus = runs.corpus_path(runs.config(run_id))
        files = corpus.glob("rows-*.jsonl") if corpus.is_dir() else [corpus]
        return SLACK + sum(file.stat().st_size for file in files)
    one = chat_models.find(f"run:{run_id}")
    if kind == "adapter":
        return SLACK + 2 * model_files.size(one.weights)
    base = one.weights if one.whole else chat_models.ready_base_directory(one)
    whole = model_files.size(Path(base)) if base else 0
    return SLACK + (whole if kind == "merged" else 3 * whole)  # GGUF: the merged model, f16, q8_0


def make(run_id: str, kind: str, out: Path, report: Callable) -> dict:
    """Make an export at `out`, a file for a capsule and a directory for the others, and say what it is.

    Raises:
        PlaceTaken: what lies there already is never replaced.
    """
    check(run_id, kind, _standing(out))
    for path in (out, out.with_name(out.name + ".zip")) if kind == "adapter" else (out,):
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            raise PlaceTaken(path=path)
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    if kind == "capsule":
        report("progress", stage="packing", done=0, total=0)
        return {"path": str(capsule(run_id, out)), "bytes": out.stat().st_size}
    if kind == "adapter":
        return adapters.write(run_id, out, report)
    from core.export import gguf_export, merging

    one = chat_models.find(f"run:{run_id}")
    if not one.whole:
        chat_models.base_directory(one)  # downloads what is not here
        check(run_id, kind, _standing(out))
    return (merging if kind == "merged" else gguf_export).write(run_id, out, report)


def _standing(path: Path) -> Path:
    path = path.absolute().parent
    while not path.exists():
        path = path.parent
    return path
