"""Every file that is written in the data directory, and which of them are damaged now.

What one of them holds counts as nothing where it is damaged; the page names it, and everything else goes on.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

import orjson

from core import files, paths

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
SET_ASIDE = "set-aside.json"  # the databases that were damaged, and the rows rescued from them
# Shapes as files.fits() takes them; what is MAYBE may be absent.
NUMBER, MAYBE_NUMBER, MAYBE_TEXT = int | float, int | float | None, str | None
TURNS = [{"role": str, "content": str}]
ROW = (
    {"text": str},
    {"messages": TURNS, "chosen": (TURNS, None), "rejected": (TURNS, None), "label": bool | None},
)  # of a corpus
CONTROL = {"request": MAYBE_TEXT, "after": MAYBE_NUMBER, "asked": MAYBE_NUMBER}
PROCESS = {"pid": int | None, "boot": MAYBE_TEXT, "boot_id": MAYBE_TEXT, "starts": int | None}
LABEL = {"name": str, "created": NUMBER, "note": MAYBE_TEXT, "tags": ([str], None), "taken": ([NUMBER], None)}
CORPUS_CARD = {
    "name": str,
    **dict.fromkeys(("kind", "created"), MAYBE_TEXT),
    **dict.fromkeys(("rows", "pairs", "judged", "rows_in", "rows_kept", "rows_set_aside", "duplicates"), int | None),
    **dict.fromkeys(("bytes", "characters"), MAYBE_NUMBER),
    **dict.fromkeys(("reasons", "repairs", "encodings", "formats", "learned_as"), ({str: int}, None)),
    "sources": ([dict], None),
    "repaired": ([{"before": str, "after": str}], None),
}
REPORT = {
    "lengths": [[NUMBER]],
    "sources": {str: int},
    "languages": {str: int},
    "copies": {str: int},
    "flags": {str: int},
    "pairs": [{"texts": [str]}],
    "personal": ({str: int}, None),
    "natural": {str: NUMBER},
    "xray": {"verdict": str, "texts": int, "gauges": {str: {"light": str, "value": NUMBER}}},
    "tokens": ({"histogram": [[NUMBER]], "over_max_length": NUMBER, "rows": int, "wrong": {str: int}}, None),
}
# JSON in one piece: {pattern: (its shape, what is missing without it)}.
OBJECTS = {
    "runs/*/config.json": ({"base_model": str, "corpus": str}, "run"),
    "runs/*/label.json": (LABEL, "label"),
    "runs/*/card.json": ({"uuid": MAYBE_TEXT, "name": MAYBE_TEXT}, "setting"),
    "runs/*/start.json": ({"ancestry": ([dict], None)}, "setting"),
    "runs/*/control.json": (CONTROL, "setting"),
    "runs/*/wishes.json": ({str: NUMBER}, "setting"),
    "runs/*/life.json": (PROCESS, "setting"),
    "runs/*/once.json": ({str: NUMBER}, "setting"),
    "runs/*/process.json": (PROCESS, "setting"),
    "runs/*/checkpoint-*/whole.json": (dict, "checkpoint"),
    "corpora/*/card.json": (CORPUS_CARD, "corpus"),
    "corpora/*/index.json": ({"every": range(1, 1 << 32), "marks": list}, "setting"),
    "corpora/*/report.json": (REPORT, "setting"),
    "models/*/soulsmith.json": ({"id": str, "title": str}, "model"),
    "exports/*/merged/soulsmith.json": ({"title": str, "base_model": str}, "model"),
    "adapters/*/soulsmith.json": ({"id": str, "title": str, "base_model": str}, "model"),
    "adapters/*/base.json": ({"name": str, "source": MAYBE_TEXT}, "setting"),
    "exports/*/*/base.json": ({"name": str, "source": MAYBE_TEXT}, "setting"),
    "tokens/*/about.json": (dict, "setting"),
    "profiles/*.json": ({"name": str, "examples": [[str]]}, "profile"),
    "votes/*.json": ({str: {"kept": bool, "row": ROW}}, "setting"),
    "prompts/*.json": ({"title": str, "prompts": [{"topic": str, "prompt": str}]}, "prompts"),
    "arena/*/measured.json": ({side: {"held_out_loss": MAYBE_NUMBER} for side in "ab"}, "setting"),
    "estimates/traces/*.json": (dict, "setting"),
    "estimates/rates.json": (dict, "setting"),
    "prompts.json": (list, "setting"),
    "order.json": (list, "setting"),
    "chat-card.json": ({"uuid": str}, "setting"),
    "chat.json": ({"address": (str, list), "key": str}, "setting"),
    "import-presets.json": ({"shapes": {str: dict}, "roles": {str: str}}, "setting"),
    SET_ASIDE: (list, "setting"),
    **{f"{job}/job.json": ({"name": str}, "job") for job in JOBS},
    **{f"{job}/control.json": (CONTROL, "setting") for job in JOBS},
}
# An object a line, and what is missing without it; only the first one is looked at. Of "lines" a damaged one is passed
# over, of "rows" it ends the reading in words.
LINES = {
    "runs/*/events.jsonl": "lines",
    **{f"{job}/events.jsonl": "lines" for job in JOBS},
    "arena/*/answers.jsonl": "lines",
    "corpora/*/rows-*.jsonl": "rows",
    "corpora/*/set_aside.jsonl": "lines",
    "corpora/*/attributes.jsonl": "attributes",
    **{f"synth/*/{name}.jsonl": "rows" for name in ("rows", "aside", "dropped", "again", "received")},
    "estimates/runs.jsonl": "lines",
}
# Whatever these hold, they are opened anew: only a directory can be in their way, and it is renamed at the start.
LOGS = (
    *("*.log", "*.lock", "*/*.lock", "tunnel.pem", "page.token", "open.html", "serve.key", "card/claim.run"),
    *(f"{job}/{name}" for job in ("runs/*", *JOBS) for name in ("run.lock", "log.txt")),
)
RECIPES = "recipes/*.yaml"
# The directories of the data directory, and those in them that are not somebody's: a file may be in their way.
DIRECTORIES = sorted(
    {
        parent.as_posix()
        for pattern in (*OBJECTS, *LINES, *LOGS, RECIPES, "uploads/*", "tmp/*")
        for parent in PurePath(pattern).parents
        if parent.name and "*" not in parent.as_posix()
    }
)
LOOKED_AT = 1 << 16  # bytes of a file of lines


@dataclass(frozen=True)
class Damage:
    """A file that cannot be read: what is wrong and what it takes away.

    `reason`: directory, unreadable, empty, not_json, wrong_kind; file: it stood where a directory belongs.
    """

    path: Path
    reason: str
    effect: str


def read(path: Path, pattern: str):
    """What a file holds that is like those of a pattern of OBJECTS; an empty dict or list where it is damaged."""
    return files.read_json(path, OBJECTS[pattern][0])


def found() -> list[Damage]:
    """What is damaged in the data directory now, by path."""
    damaged = []
    for pattern, (shape, effect) in OBJECTS.items():
        for path in _there(pattern):
            files.read_json(path, shape)
            if reason := files.damage().get(path):
                damaged.append(Damage(path, reason, effect))
    for pattern, effect in LINES.items():
        damaged += [Damage(path, reason, effect) for path in _there(pattern) if (reason := _wrong_lines(path))]
    damaged += [Damage(path, reason, "recipe") for path in _there(RECIPES) if (reason := _wrong_text(path))]
    odd = [path for path in files.damage() if path.parent == paths.runs()]  # runs whose parts do not fit each other
    damaged += [Damage(path, files.damage()[path], "run") for path in odd]
    damaged += [
        Damage(path, "file", "aside") for name in DIRECTORIES for path in paths.home().glob(f"{name}.damaged-*")
    ]
    return sorted(damaged, key=lambda one: one.path)


def set_aside() -> list[dict]:
    """The databases that were set aside and are still there: {"file", "votes": rescued, "complete"}."""
    kept = files.read_json(paths.home() / SET_ASIDE, list)
    whole = {"file": str, "votes": int, "chats": int | None, "complete": bool}
    return [one for one in kept if files.fits(one, whole) and (paths.home() / one["file"]).exists()]


def rename_obstacles() -> list[Path]:
    """Rename what nothing can be read from where it stands, and return the new paths.

    That is a file in the place of a directory, a directory where a log or a lock is opened, and a pipe in the place of a
    file, which whoever opens it waits for without an end.
    """
    places = [path for name in DIRECTORIES if (path := paths.home() / name).exists() and not path.is_dir()]
    return [*map(files.set_aside, places), *map(files.set_aside, _in_the_way()), *map(files.set_aside, _pipes())]


def _in_the_way() -> Iterator[Path]:
    return (path for pattern in LOGS for path in _there(pattern) if path.is_dir())


def _pipes() -> Iterator[Path]:
    return (path for pattern in (*OBJECTS, *LINES, *LOGS, RECIPES) for path in _there(pattern) if path.is_fifo())


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


def _wrong_text(path: Path) -> str | None:
    """What is wrong with a text of the person's own: it cannot be opened, or is no text."""
    try:
        return None if files.read_text(path).strip() else "empty"
    except OSError:
        return files.reason(path)
    except (UnicodeDecodeError, files.TextTooLong):
        return "wrong_kind"
