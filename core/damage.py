"""Every file that is written in the data directory, and which of them are damaged now.

What one of them holds counts as nothing where it is damaged; the page names it, and everything else goes on.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from core import files, paths
from core.runs import database

JOBS = (
    "synth/*",
    "arena/*",
    "arena/*/judges/*",
    "exports/*",
    "checks/*",
    "demos/*",
    "serve/*",
    "hub/*",
    "prompt-searches/*",
)
# JSON in one piece: {pattern: (kind, what it must have, what is missing without it)}.
OBJECTS = {
    "runs/*/config.json": (dict, ("base_model", "corpus"), "run"),
    "runs/*/label.json": (dict, ("name", "created"), "label"),
    "runs/*/card.json": (dict, (), "setting"),
    "runs/*/start.json": (dict, (), "setting"),
    "runs/*/control.json": (dict, (), "setting"),
    "runs/*/wishes.json": (dict, (), "setting"),
    "runs/*/life.json": (dict, (), "setting"),
    "runs/*/once.json": (dict, (), "setting"),
    "runs/*/process.json": (dict, (), "setting"),
    "runs/*/checkpoint-*/whole.json": (dict, (), "checkpoint"),
    "corpora/*/card.json": (dict, ("name",), "corpus"),
    "corpora/*/index.json": (dict, ("every", "marks"), "setting"),
    "corpora/*/report.json": (dict, ("lengths",), "setting"),
    "models/*/soulsmith.json": (dict, ("id", "title"), "model"),
    "exports/*/merged/soulsmith.json": (dict, ("title", "base_model"), "model"),
    "adapters/*/soulsmith.json": (dict, ("id", "title", "base_model"), "model"),
    "tokens/*/about.json": (dict, (), "setting"),
    "profiles/*.json": (dict, ("name",), "profile"),
    "votes/*.json": (dict, (), "setting"),
    "prompts/*.json": (dict, ("title", "prompts"), "prompts"),
    "arena/*/measured.json": (dict, ("a", "b"), "setting"),
    "estimates/traces/*.json": (dict, (), "setting"),
    "estimates/rates.json": (dict, (), "setting"),
    "prompts.json": (list, (), "setting"),
    "order.json": (list, (), "setting"),
    "chat-card.json": (dict, ("uuid",), "setting"),
    "chat.json": (dict, ("address", "key"), "setting"),
    "import-presets.json": (dict, ("shapes", "roles"), "setting"),
    "set-aside.json": (list, (), "setting"),
    **{f"{job}/job.json": (dict, ("name",), "job") for job in JOBS},
    **{f"{job}/control.json": (dict, (), "setting") for job in JOBS},
}
# An object a line; a line that a power cut has damaged is passed over, so only the first one is looked at.
LINES = (
    "runs/*/events.jsonl",
    *(f"{job}/events.jsonl" for job in JOBS),
    "arena/*/answers.jsonl",
    "corpora/*/rows-*.jsonl",
    "estimates/runs.jsonl",
)
# Whatever these hold, they are opened anew: only a directory can be in their way, and it is renamed at the start.
LOGS = (
    *("*.log", "*.lock", "*/*.lock", "tunnel.pem", "page.token", "open.html", "serve.key", "card/claim.run"),
    *(f"{job}/{name}" for job in ("runs/*", *JOBS) for name in ("run.lock", "log.txt")),
)
LOOKED_AT = 1 << 16  # bytes of a file of lines


@dataclass(frozen=True)
class Damage:
    """A file that cannot be read: what is wrong (directory, unreadable, empty, not_json, wrong_kind) and what it takes away."""

    path: Path
    reason: str
    effect: str


def found() -> list[Damage]:
    """What is damaged in the data directory now, by path."""
    damaged = []
    for pattern, (kind, needs, effect) in OBJECTS.items():
        for path in _there(pattern):
            files.read_json(path, kind, needs=needs)
            if reason := files.damage().get(path):
                damaged.append(Damage(path, reason, effect))
    for path in (path for pattern in LINES for path in _there(pattern)):
        if reason := _wrong_lines(path):
            damaged.append(Damage(path, reason, "lines"))
    odd = [path for path in files.damage() if path.parent == paths.runs()]  # runs whose parts do not fit each other
    damaged += [Damage(path, files.damage()[path], "run") for path in odd]
    return sorted(damaged, key=lambda one: one.path)


def set_aside() -> list[dict]:
    """The databases that were set aside and are still there: {"file", "votes": rescued, "complete"}."""
    kept = files.read_json(paths.home() / database.SET_ASIDE, list)
    return [one for one in kept if isinstance(one, dict) and (paths.home() / str(one.get("file"))).exists()]


def clear_the_way() -> list[Path]:
    """Rename directories that stand where a log or a lock is opened; their new paths."""
    return [files.set_aside(path) for pattern in LOGS for path in _there(pattern) if path.is_dir()]


def _there(pattern: str) -> Iterator[Path]:
    # Names with a dot in front are unfinished; those with "damaged" are what was set aside already.
    for path in paths.home().glob(pattern):
        parts = path.relative_to(paths.home()).parts
        if not any(part.startswith(".") or ".damaged-" in part for part in parts) and not path.is_symlink():
            yield path


def _wrong_lines(path: Path) -> str | None:
    """What is wrong with a file of lines: it cannot be opened, or its first line is no object."""
    try:
        with path.open("rb") as lines:
            line = lines.readline(LOOKED_AT)
    except OSError:
        return files.reason(path)
    if not line or (not line.endswith(b"\n") and len(line) == LOOKED_AT):
        return None
    try:
        return None if isinstance(orjson.loads(line), dict) else "wrong_kind"
    except ValueError:
        return "not_json" if line.endswith(b"\n") else None
