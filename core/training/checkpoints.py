"""Checkpoints that are complete or do not count: sealed after all files are written, verified before use."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

DIGEST_BYTES = 2**28  # of a checkpoint's file are read to see whether it is still what was written


def sweep(out: Path, report: Callable[..., None]) -> None:
    """Remove checkpoints that were cut short or damaged, and say so: rotation would count them among those to keep."""
    for path in sorted(out.glob("checkpoint-*")):
        if not is_whole(path):
            shutil.rmtree(path)
            report("damaged", checkpoint=path.name)


def seal(checkpoint: Path, step: int, evals: list) -> int:
    """Declare a checkpoint whole and return its bytes. What does not say so was cut short and is passed over."""
    size = 0
    for path in filter(Path.is_file, checkpoint.rglob("*")):
        with path.open("rb+") as file:  # before the seal, on the disk itself: the power may fail too
            os.fsync(file.fileno())
        size += path.stat().st_size
    files = {path.relative_to(checkpoint).as_posix(): _digest(path) for path in checkpoint.rglob("*") if path.is_file()}
    for name in ("whole.json", "whole.unfinished"):  # of a checkpoint that is written anew
        files.pop(name, None)
    _write_seal(checkpoint, {"step": step, "evals": evals, "files": files})
    return size


def note_evals(checkpoint: Path, evals: list) -> None:
    """Put the evaluations so far into a checkpoint that was declared whole before the latest of them."""
    sealed = json.loads((checkpoint / "whole.json").read_text(encoding="utf-8"))
    _write_seal(checkpoint, sealed | {"evals": evals})


def _write_seal(checkpoint: Path, about: dict) -> None:
    """Write whole.json, or replace it, so that at every moment there is the old one or the new one."""
    scratch = checkpoint / "whole.unfinished"
    with scratch.open("w", encoding="utf-8") as file:
        file.write(json.dumps(about))
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(checkpoint / "whole.json")


def evals_of(checkpoint: str | None) -> list:
    """[step, loss] of the evaluations before a checkpoint."""
    if not checkpoint:
        return []
    return json.loads((Path(checkpoint) / "whole.json").read_text(encoding="utf-8")).get("evals", [])


def best_of(evals: list, unsound: Collection[int] = ()) -> int | None:
    """The step of the lowest loss, the earliest of several; one of `unsound` only where there is no other."""
    finite = [(loss, step) for step, loss in evals if math.isfinite(loss)]
    sound = [(loss, step) for loss, step in finite if step not in unsound]
    return min(sound or finite)[1] if finite else None


def rotate(out: Path, newest: int, unsound: Collection[int] = ()) -> None:
    """Delete all checkpoints but the newest ones and the best; a deletion that is cut short leaves none that looks whole."""
    whole = complete(out)
    best = best_of(evals_of(str(whole[max(whole)])), unsound)
    for step in sorted(whole)[:-newest]:
        if step != best:
            (whole[step] / "whole.json").unlink()
            shutil.rmtree(whole[step])


def whole_checkpoint(out: str | Path) -> str | None:
    """The newest checkpoint in a directory that was written to its end and has not been damaged since."""
    newest_first = reversed(complete(Path(out)).values())
    return next((str(path) for path in newest_first if is_whole(path)), None)


def complete(out: Path) -> dict[int, Path]:
    """The checkpoints in a directory that were written to their end, by step, the oldest first; their files are not read."""
    found = [path.parent for path in out.glob("checkpoint-*/whole.json")]
    return dict(sorted((int(path.name.split("-")[1]), path) for path in found))


def is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint was written to its end and its files are as they were then."""
    try:
        files = json.loads((checkpoint / "whole.json").read_text(encoding="utf-8")).get("files", {})
        return all(_digest(checkpoint / name) == digest for name, digest in files.items())
    except (OSError, ValueError):
        return False


def _digest(path: Path) -> str:
    """Size and SHA-256 of a file; of a large one, of its beginning and its end."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= DIGEST_BYTES:
            return f"{size} {hashlib.file_digest(file, 'sha256').hexdigest()}"
        head = file.read(DIGEST_BYTES // 2)
        file.seek(size - DIGEST_BYTES // 2)
        return f"{size} {hashlib.sha256(head + file.read()).hexdigest()}"


def save_whole(path: Path, save_weights: Callable[[Path], None], tokenizer) -> None:
    """Save what was trained and the tokenizer so that the directory appears only when it is complete."""
    unfinished = path.with_name(path.name + ".unfinished")
    save_weights(unfinished)
    tokenizer.save_pretrained(unfinished)
    if path.exists():
        shutil.rmtree(path)
    unfinished.rename(path)
