"""The slow work on corpora in processes of their own, so that the page stays alive; who stops reading ends the process."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from core import errors
from core.corpus.reading import Options
from core.errors import UserError
from core.process import CommandFailed, json_lines


class ImportBroke(UserError):
    template = "The import ended unexpectedly: {reason}. Nothing was changed."


def create(sources: list[Path], name: str, options: Options) -> Iterator[dict]:
    """Progress as {"done", "total", "rows"}, and last {"card"}; closing the iterator cancels and leaves nothing behind.

    Raises:
        ErrorElsewhere: what the import met, by the name of its class.
        ImportBroke: when it ended without a result.
    """
    command = ["-m", "core.corpus", "import", "--name", name, "--json", "--progress"]
    yield from run([*command, "--options", json.dumps(asdict(options), ensure_ascii=False), "--", *map(str, sources)])


def report(corpus_id: str, model: str | None, max_length: int, learn: str) -> Iterator[dict]:
    """Progress as {"stage", "done", "total"}, and last {"report"}."""
    command = ["-m", "core.corpus", "report", corpus_id, "--json", "--progress", "--max-length", str(max_length)]
    yield from run([*command, "--learn", learn, *(["--model", model] if model else [])])


def clean(corpus_id: str, name: str, rules: dict) -> dict:
    """The card of a cleaned corpus."""
    command = ["-m", "core.corpus", "clean", corpus_id, "--json", "--name", name, "--rules", json.dumps(rules)]
    return list(run(command))[-1]


def export(corpus_id: str, form: str, out: Path) -> dict:
    """What was written: path, rows, bytes."""
    return list(run(["-m", "core.corpus", "export", corpus_id, str(out), "--as", form, "--json"]))[-1]


def run(arguments: list[str], look: Callable[[], None] = lambda: None) -> Iterator[dict]:
    """The JSON objects that `python *arguments` prints; raises as create() does, and what look() raises."""
    try:
        with closing(json_lines(arguments, look=look)) as lines:
            for values in lines:
                if "trouble" in values:
                    raise errors.from_dict(values)
                yield values
    except CommandFailed as failed:
        raise ImportBroke(reason=str(failed)) from None
