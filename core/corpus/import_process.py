"""An import in a process of its own, so that the page stays alive; ending the reader ends the import."""

import json
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from core import errors
from core.corpus.reading import Options
from core.errors import UserError
from core.process import ROOT


class ImportBroke(UserError):
    template = "The import ended unexpectedly: {reason}. Nothing was changed."


def create(sources: list[Path], name: str, options: Options) -> Iterator[dict]:
    """Progress as {"done", "total", "rows"}, and last {"card"}; closing the iterator cancels and leaves nothing behind.

    Raises:
        ErrorElsewhere: what the import met, by the name of its class.
        ImportBroke: when it ended without a word.
    """
    command = [sys.executable, "-m", "core.corpus", "import", "--name", name, "--json", "--progress"]
    command += ["--options", json.dumps(asdict(options), ensure_ascii=False), "--", *map(str, sources)]
    yield from run(command)


def run(command: list[str], beat: float | None = None) -> Iterator[dict]:
    """What a command of this package says, line by line; {} whenever it said nothing for `beat` seconds."""
    # What goes wrong is said to a file: a pipe that nobody empties while the other is read stops the process.
    with tempfile.TemporaryFile() as wrong:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=wrong, encoding="utf-8", errors="replace"
        )
        try:
            for line in process.stdout if beat is None else _lines(process.stdout, beat):
                if line is None:
                    yield {}
                    continue
                try:
                    last = json.loads(line)
                except ValueError:
                    continue
                if "trouble" in last:
                    raise errors.from_dict(last)
                yield last
            if process.wait() != 0:
                wrong.seek(0)
                reason = wrong.read().decode("utf-8", "replace").strip().rpartition("\n")[2]
                raise ImportBroke(reason=reason or f"exit status {process.returncode}")
        finally:
            _end(process)


def _lines(stream, beat: float) -> Iterator[str | None]:
    """The lines of a stream, and None whenever there was none for so many seconds."""
    said: queue.SimpleQueue = queue.SimpleQueue()

    def listen() -> None:
        with suppress(ValueError):  # closed meanwhile
            for line in stream:
                said.put(line)
        said.put("")

    threading.Thread(target=listen, daemon=True).start()
    while True:
        try:
            line = said.get(timeout=beat)
        except queue.Empty:
            yield None
            continue
        if not line:
            return
        yield line


def _end(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    process.stdout.close()


def report(corpus_id: str, model: str | None, max_length: int, learn: str) -> Iterator[dict]:
    """Progress as {"stage", "done", "total"}, and last {"report"}."""
    command = [sys.executable, "-m", "core.corpus", "report", corpus_id, "--json", "--progress"]
    command += ["--max-length", str(max_length), "--learn", learn, *(["--model", model] if model else [])]
    yield from run(command)


def clean(corpus_id: str, name: str, rules: dict) -> dict:
    """The card of a cleaned corpus."""
    command = [sys.executable, "-m", "core.corpus", "clean", corpus_id, "--json", "--name", name]
    return list(run([*command, "--rules", json.dumps(rules)]))[-1]


def export(corpus_id: str, form: str, out: Path) -> dict:
    """What was written: path, rows, bytes."""
    return list(run([sys.executable, "-m", "core.corpus", "export", corpus_id, str(out), "--as", form, "--json"]))[-1]
