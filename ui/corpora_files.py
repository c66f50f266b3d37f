"""What a person dropped into the page: files, and a folder with the names of its sub-folders."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

# Gradio sends a folder's files without the folders' names, but the browser's own list has them.
NAMES_OF_FOLDER = """(names, folder) => [JSON.stringify(
  [...document.querySelectorAll('input[type=file][webkitdirectory]')].filter(input => input.files.length).slice(-1)
  .flatMap(input => [...input.files].map(file => file.webkitRelativePath))), folder]"""


def names(text: str, folder: list | None) -> list[str]:
    """The relative names of a folder's files as the browser gives them; none when they do not fit the files."""
    try:
        relative = [str(name) for name in json.loads(text)]
    except (TypeError, ValueError):
        return []
    return relative if len(relative) == len(folder or []) and all(map(_parts, relative)) else []


def _parts(name: str) -> tuple[str, ...]:
    """The parts of a relative name; none of one that leads out of its folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    return () if path.is_absolute() or ".." in path.parts or "\x00" in name else path.parts


@contextmanager
def gathered(files: list | None, folder: list | None, relative: list[str]) -> Iterator[list[Path]]:
    """The paths to read: single files as they are, a folder laid out again as it was, for as long as it is needed."""
    paths = [Path(path) for path in files or []]
    with tempfile.TemporaryDirectory(prefix="soulsmith-folder-", ignore_cleanup_errors=True) as copy:
        if folder and len(relative) == len(folder):
            for path, name in zip(folder, relative, strict=True):
                _place(Path(path), Path(copy).joinpath(*_parts(name)))
            paths += sorted(Path(copy).iterdir())
        else:
            paths += [Path(path) for path in folder or []]
        yield paths


def _place(path: Path, wanted: Path) -> None:
    wanted.parent.mkdir(parents=True, exist_ok=True)
    if wanted.exists():
        return
    try:
        os.link(path, wanted)
    except OSError:  # another disk
        shutil.copyfile(path, wanted)
