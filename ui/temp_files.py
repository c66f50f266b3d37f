"""Where files lie that the page gives out: a temporary directory that goes when the server ends."""

import tempfile
from functools import cache
from pathlib import Path


def folder(name: str = "") -> Path:
    """A new empty directory, or the one that has this name."""
    if not name:
        return Path(tempfile.mkdtemp(dir=_scratch().name))
    named = Path(_scratch().name) / name
    named.mkdir(exist_ok=True)
    return named


@cache
def _scratch() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="soulsmith-")
