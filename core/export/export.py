"""Export a run as capsule, PEFT adapter, merged model, or GGUF files for Ollama, LM Studio and llama.cpp.

Run it: `python -m core.export RUN --as capsule|adapter|merged|gguf OUT --json`. The page starts the same as a job in
the background, whose files stay in the data directory until the export is deleted.
"""

from collections.abc import Callable
from pathlib import Path

from core import files, jobs, paths
from core.chat import chat_models, reply_gpu
from core.errors import UserError
from core.export import adapters, capsules
from core.models import model_files, models
from core.runs import runs, starts
from core.training import mixing

KINDS = ("capsule", "adapter", "merged", "gguf")
SLACK = 50_000_000  # bytes for cards, tokenizers and the zip's own
capsule = capsules.write


class NothingToMerge(UserError):
    template = 'The run "{name}" trained all weights: it is a whole model already. Take the GGUF files or the capsule.'


class PlaceTaken(UserError):
    template = "There is something in {path} already, and it stays as it is. Choose another place, or remove it first."


def start(run_id: str, kind: str) -> Path:
    """Begin an export in the background and return its job's directory; raises at once what check() finds."""
    check(run_id, kind, paths.exports())
    name = runs.label(run_id)["name"]
    directory = jobs.create(paths.exports(), {"name": name, "run": run_id, "kind": kind})
    jobs.start(directory, "core.export", reply_gpu.environment())
    return directory


def check(run_id: str, kind: str, where: Path) -> None:
    """Raise when the run, its base or the room on the disk is missing; nothing is downloaded for that.

    Raises:
        RunGone, NoAdapter, NothingToMerge, BaseGone, DiskFull.
    """
    runs.directory(run_id)
    if kind in ("adapter", "merged") and (model := chat_models.find(f"run:{run_id}")).whole:
        raise NothingToMerge(name=model.title)
    models.need_disk(where, needed_bytes(run_id, kind))


def needed_bytes(run_id: str, kind: str) -> int:
    """Room that an export takes at its largest, temporary files included, as far as the base's size is known."""
    if kind == "capsule":
        corpora = map(runs.corpus_path, mixing.corpora(runs.config(run_id)))
        rows = [file for corpus in corpora for file in (corpus.glob("rows-*.jsonl") if corpus.is_dir() else [corpus])]
        start = (runs.directory(run_id) / starts.FOLDER).glob("*")
        return SLACK + sum(file.stat().st_size for file in [*rows, *start])
    model = chat_models.find(f"run:{run_id}")
    if kind == "adapter":
        return SLACK + 2 * model_files.size(model.weights)
    base = model.weights if model.whole else chat_models.ready_base_directory(model)
    whole = model_files.size(Path(base)) if base else 0
    return SLACK + (whole if kind == "merged" else 3 * whole)  # GGUF: the merged model, f16, q8_0


def make(run_id: str, kind: str, out: Path, report: Callable) -> dict:
    """Make an export at `out`, a file for a capsule and a directory for the others: {"path", "bytes", ...}.

    Raises:
        PlaceTaken: nothing that is there already is ever replaced. And what check() raises.
    """
    parent = next(folder for folder in out.absolute().parents if folder.exists())
    check(run_id, kind, parent)
    for path in (out, out.with_name(out.name + ".zip")) if kind == "adapter" else (out,):
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            raise PlaceTaken(path=path)
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    if kind in ("capsule", "adapter"):
        report("progress", stage="packing", done=0, total=0)
    if kind == "capsule":
        return {"path": str(capsule(run_id, out)), "bytes": out.stat().st_size}
    model = chat_models.find(f"run:{run_id}")
    with files.new_directory(out) as directory:
        made = adapters.write(model, directory, out) if kind == "adapter" else _weights(model, kind, directory, report)
    return {"path": str(out), "bytes": sum(file.stat().st_size for file in out.iterdir()), **made}


def _weights(model: chat_models.ChatModel, kind: str, directory: Path, report: Callable) -> dict:
    from core.export import gguf_export, merging  # noqa: PLC0415 - torch, which the page opens without

    if not model.whole:
        chat_models.base_directory(model)  # downloads a base that is not here, whose size is known only then
        check(model.id.removeprefix("run:"), kind, directory)
    return (merging if kind == "merged" else gguf_export).write(model, directory, report)
