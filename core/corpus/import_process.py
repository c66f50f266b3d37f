"""Slow work on corpora in subprocesses, so that the page stays responsive; closing the iterator ends the subprocess."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

from core import errors, process
from core.corpus import hub
from core.corpus.reading import Options
from core.errors import UserError
from core.process import CommandFailed, json_lines

MEMORY = process.MEMORY  # bytes for an import, however large its files are; 1 GB of JSONL takes 71 MB
SILENT_SECONDS = 300  # that a file may take without giving fifty rows
REPORT_SILENT_SECONDS = 1800  # between two words of a report: it looks for the near copies of millions of rows
MOST_GIVEN_UP = 5  # files of one import
REASONS = {"memory": "too_large", "time": "too_slow", "output": "too_large"}


class ImportBroke(UserError):
    template = "The import ended unexpectedly: {reason}. Nothing was changed."


def create(sources: list[Path], name: str, options: Options, out: Path | None = None) -> Iterator[dict]:
    """Progress as {"done", "total", "rows"}, and last {"card"}; closing the iterator cancels and leaves nothing behind.

    A file that takes too much memory or time, or ends the process, is set aside with its reason, and the others are
    read again.

    Raises:
        ErrorElsewhere: what the import met, by the name of its class.
        ImportBroke: when it ended without a result.
    """
    command = ["-m", "core.corpus", "import", "--name", name, "--json", "--progress"]
    command += ["--out", str(out.absolute())] if out else []
    # The process has a working directory of its own.
    given = [str(path if not path.exists() and hub.place(str(path)) else path.absolute()) for path in sources]
    for _ in range(MOST_GIVEN_UP + 1):
        told = ["--options", json.dumps(asdict(options)), "--", *given]
        try:
            yield from run([*command, *told], memory=MEMORY, silent=SILENT_SECONDS)
            return
        except ImportBroke as broke:
            failed = broke.__cause__
            if not failed.at or failed.at in options.given_up or len(options.given_up) >= MOST_GIVEN_UP:
                raise
            reason = REASONS.get(failed.cause, "file_damaged")
            options = replace(options, given_up=options.given_up | {failed.at: reason})


def report(corpus_id: str, model: str | None, max_length: int, learn: str) -> Iterator[dict]:
    """Progress as {"stage", "done", "total"}, and last {"report"}."""
    command = ["-m", "core.corpus", "report", corpus_id, "--json", "--progress", "--max-length", str(max_length)]
    command += ["--learn", learn, *(["--model", model] if model else [])]
    yield from run(command, memory=MEMORY, silent=REPORT_SILENT_SECONDS)


def clean(corpus_id: str, name: str, rules: dict) -> dict:
    """The card of a cleaned corpus."""
    command = ["-m", "core.corpus", "clean", corpus_id, "--json", "--name", name, "--rules", json.dumps(rules)]
    return list(run(command))[-1]


def export(corpus_id: str, form: str, out: Path) -> dict:
    """What was written: path, rows, bytes."""
    return list(run(["-m", "core.corpus", "export", corpus_id, str(out), "--as", form, "--json"]))[-1]


def run(arguments: list[str], look: Callable[[], None] = lambda: None, **limits) -> Iterator[dict]:
    """The JSON objects that `python *arguments` prints; raises as create() does, and what look() raises."""
    try:
        with closing(json_lines(arguments, look=look, **limits)) as lines:
            for values in lines:
                if "trouble" in values:
                    raise errors.from_dict(values)
                yield values
    except CommandFailed as failed:
        reason = f"{failed.at}: too much {failed.cause}".removeprefix(": ") if failed.cause else str(failed)
        raise ImportBroke(reason=reason) from failed
