"""Export a run as capsule, PEFT adapter, merged model, or GGUF files for Ollama, LM Studio and llama.cpp.

Run it: `python -m core.export RUN --as capsule|adapter|merged|gguf OUT --files q8_0,q4_k_m --json`. The page starts the same as a job in
the background, whose files stay in the data directory until the export is deleted.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

from core import errors, files, jobs, paths
from core.chat import chat_models, reply_gpu
from core.export import adapters, capsules, quantizer
from core.models import model_files, models
from core.runs import runs, starts
from core.training import mixing

KINDS = ("capsule", "adapter", "merged", "gguf")
SLACK = 50_000_000  # bytes for cards, tokenizers and the zip's own
capsule = capsules.write


def start(run_id: str, kind: str, gguf_kinds: tuple[str, ...] = ()) -> Path:
    """Begin an export in the background and return its job's directory; raises at once what check() finds.

    `gguf_kinds` are the kinds of GGUF files to make (quantizer.KINDS); none: the usual ones.
    """
    check(run_id, kind, paths.exports(), gguf_kinds)
    name = runs.label(run_id)["name"]
    request = {"name": name, "run": run_id, "kind": kind, "gguf_kinds": list(gguf_kinds)}
    directory = jobs.create(paths.exports(), request)
    jobs.start(directory, "core.export", reply_gpu.environment())
    return directory


def check(run_id: str, kind: str, where: Path, gguf_kinds: tuple[str, ...] = ()) -> None:
    """Raise when the run, its base, the quantiser or the room on the disk is missing; nothing is downloaded for that.

    Raises:
        RunGone, NoAdapter, NothingToMerge, BaseGone, QuantizerMissing, GgufKindUnknown, DiskFull.
    """
    if unknown := [name for name in gguf_kinds if name not in quantizer.KINDS]:
        raise errors.named("GgufKindUnknown", kinds=", ".join(unknown), known=", ".join(quantizer.KINDS))
    quantizer.check(gguf_kinds)
    runs.directory(run_id)
    if kind in ("adapter", "merged") and (model := chat_models.find(f"run:{run_id}")).whole:
        raise errors.named("NothingToMerge", name=model.title)
    models.need_disk(where, needed_bytes(run_id, kind, gguf_kinds))


def needed_bytes(run_id: str, kind: str, gguf_kinds: tuple[str, ...] = ()) -> int:
    """Room that an export takes at its largest, temporary files included, as far as the base's size is known."""
    if kind == "capsule":
        corpora = map(runs.corpus_path, mixing.corpora(runs.config(run_id)))
        rows = [file for corpus in corpora for file in (corpus.glob("rows-*.jsonl") if corpus.is_dir() else [corpus])]
        start = (runs.directory(run_id) / starts.FOLDER).glob("*")
        return SLACK + sum(file.stat().st_size for file in [*rows, *start])
    model = chat_models.find(f"run:{run_id}")
    if kind == "adapter":
        return SLACK + 2 * model_files.size(model.weights)
    merged, made = _parts(model, kind, gguf_kinds)
    return SLACK + merged + sum(made.values())


def needs(run_id: str, kind: str, gguf_kinds: tuple[str, ...] = ()) -> dict:
    """What an export will take, to be said before it begins.

    {"bytes": of disk at its largest, "free", "merged": of them for the merged model, which goes again where it is not the
    export, "files": {kind of GGUF file: its bytes at most}, "seconds": by the newest export of this kind here, else None}.
    "bytes" is None where the base is not on this disk.

    Raises:
        RunGone, NoAdapter, BaseGone.
    """
    found = {"free": shutil.disk_usage(paths.exports()).free, "merged": 0, "files": {}, "seconds": None}
    if kind in ("merged", "gguf"):
        model = chat_models.find(f"run:{run_id}")
        if not (base := _base(model)):
            return found | {"bytes": None}
        found["merged"], found["files"] = _parts(model, kind, gguf_kinds)
        if kind == "gguf" and (pace := _seconds_a_weight()):
            found["seconds"] = pace * model_files.count(base) * len(found["files"])
    return found | {"bytes": needed_bytes(run_id, kind, gguf_kinds)}


def _base(model: chat_models.ChatModel) -> Path | None:
    """The directory of the weights that are exported or merged into, if it is on this disk."""
    base = model.weights if model.whole else chat_models.ready_base_directory(model)
    return Path(base) if base else None


def _parts(model: chat_models.ChatModel, kind: str, gguf_kinds: tuple[str, ...]) -> tuple[int, dict[str, int]]:
    """Bytes of the merged model, and at most of each GGUF file; 0 and none where the base is not on this disk."""
    if not (base := _base(model)):
        return 0, {}
    merged = 0 if model.whole else model_files.size(base)
    kinds = (gguf_kinds or quantizer.usual()) if kind == "gguf" else ()
    return merged, {name: int(model_files.count(base) * quantizer.bits(name) / 8) for name in kinds}


def _seconds_a_weight() -> float | None:
    """Seconds that the newest GGUF export of this machine took for a weight of a file."""
    for directory in jobs.listed(paths.exports()):
        made = jobs.progress(directory).get("finished") or {}
        made_of = [file for file in made.get("files", ()) if file.get("kind") in quantizer.KINDS]  # older ones say less
        if written := sum(8 * file["bytes"] / quantizer.bits(file["kind"]) for file in made_of):
            return (made["time"] - jobs.request(directory)["created"]) / written
    return None


def make(run_id: str, kind: str, out: Path, report: Callable, gguf_kinds: tuple[str, ...] = ()) -> dict:
    """Make an export at `out`, a file for a capsule and a directory for the others: {"path", "bytes", ...}.

    Raises:
        PlaceTaken: nothing that is there already is ever replaced. And what check() raises.
    """
    parent = next(folder for folder in out.absolute().parents if folder.exists())
    check(run_id, kind, parent, gguf_kinds)
    for path in (out, out.with_name(out.name + ".zip")) if kind == "adapter" else (out,):
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            raise errors.named("PlaceTaken", path=path)
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    if kind in ("capsule", "adapter"):
        report("progress", stage="packing", done=0, total=0)
    if kind == "capsule":
        return {"path": str(capsule(run_id, out)), "bytes": out.stat().st_size}
    model = chat_models.find(f"run:{run_id}")
    with files.new_directory(out) as directory:
        if kind == "adapter":
            made = adapters.write(model, directory, out)
        else:
            made = _weights(model, kind, directory, report, gguf_kinds or quantizer.usual())
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    return {"path": str(out), "bytes": size, **made}


def files_of(directory: Path) -> dict[str, Path]:
    """The files of an export that is ready, by what they are called inside it; nothing else of its job's directory."""
    made = jobs.progress(directory).get("finished") or {}
    path = Path(made.get("zip") or made.get("path") or "")
    if jobs.state(directory) != "finished" or not path.is_relative_to(directory):
        return {}
    if path.is_file():
        return {path.name: path}
    return {file.relative_to(path).as_posix(): file for file in sorted(path.rglob("*")) if file.is_file()}


def _weights(model: chat_models.ChatModel, kind: str, directory: Path, report: Callable, gguf_kinds: tuple) -> dict:
    from core.export import gguf_export, merging  # noqa: PLC0415 - torch, which the page opens without

    if not model.whole:
        chat_models.base_directory(model)  # downloads a base that is not here, whose size is known only then
        check(model.id.removeprefix("run:"), kind, directory, gguf_kinds)
    if kind == "merged":
        return merging.write(model, directory, report)
    return gguf_export.write(model, directory, report, gguf_kinds)
