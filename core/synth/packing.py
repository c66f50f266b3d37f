"""Tokens of a job's rows one after the other in blocks of one length, as trainers of whole blocks read them: uint32.

The rows lie in the order of the corpus, each with its end of text; a block cuts through rows where it ends, and what
does not fill the last block is left off.
"""

import json
from array import array
from pathlib import Path

from core.errors import UserError

FILE, WIDTH = "tokens.bin", 4


class NothingToPack(UserError):
    template = (
        "There are no blocks of {length} tokens to make: choose a model whose tokens are counted, and at least 2."
    )


def check(request: dict) -> None:
    """Refuse to pack estimated tokens, or into blocks of nothing."""
    length = request.get("pack")
    if length is not None and (length < 2 or not request.get("model")):
        raise NothingToPack(length=length)


def open_for(directory: Path):
    """The file that a job appends its tokens to, if it was asked for."""
    return (directory / FILE).open("ab", buffering=1 << 20) if _length(directory) else None


def append(file, ids: list[int]) -> None:
    array("I", ids).tofile(file)


def cut(directory: Path, tokens: int) -> None:
    """Cut the file back to the rows that are on the disk: a killed job's tokens may be ahead of them."""
    path = directory / FILE
    if path.exists():
        with path.open("rb+") as file:
            file.truncate(tokens * WIDTH)


def finish(directory: Path, corpus: Path) -> None:
    """Leave the whole blocks beside the rows of the corpus."""
    path, length = directory / FILE, _length(directory)
    if length and path.exists():
        with path.open("rb+") as file:
            file.truncate(path.stat().st_size // (WIDTH * length) * WIDTH * length)
        path.replace(corpus / f"blocks-{length}.bin")


def _length(directory: Path) -> int:
    return json.loads((directory / "job.json").read_text(encoding="utf-8")).get("pack") or 0
