"""Where files lie that the page gives out: a temporary directory that goes when the server ends."""

import tempfile
from functools import cache
from pathlib import Path


def folder() -> Path:
    """A new empty directory."""
    return Path(tempfile.mkdtemp(dir=_scratch().name))


@cache
def _scratch() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="soulsmith-")
