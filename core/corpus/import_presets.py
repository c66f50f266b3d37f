"""How a person had files of some shape read: kept, so that the next file with the same columns is read the same way."""

import json
from pathlib import Path

from filelock import FileLock

from core import damage, files, paths

MOST = 500  # shapes


def signature(columns: list[str]) -> str:
    """What tells the shape of a file: its columns, whatever their order; "" for files without any."""
    return json.dumps(sorted(columns), ensure_ascii=False) if columns else ""


def recall(columns: list[str]) -> dict:
    """What was kept for this shape: any of "mapping", "encoding" and "me"; and all "roles" that were ever named."""
    presets = _read()
    return presets["shapes"].get(signature(columns), {}) | {"roles": presets["roles"]}


def keep(
    columns: list[str], *, mapping: dict | None, encoding: str = "", me: str = "", roles: dict | None = None
) -> None:
    """Keep how files of this shape are read; what was left to be guessed is forgotten again."""
    with FileLock(str(_path()) + ".lock", timeout=10):
        presets = _read()
        presets["roles"] |= {name: role for name, role in (roles or {}).items() if role}
        chosen = {name: value for name, value in (("mapping", mapping), ("encoding", encoding), ("me", me)) if value}
        if shape := signature(columns):
            presets["shapes"].pop(shape, None)
            if chosen:
                presets["shapes"][shape] = chosen  # the newest last
        for old in list(presets["shapes"])[:-MOST]:
            del presets["shapes"][old]
        files.write_json(_path(), presets)


def _path() -> Path:
    path, earlier = paths.home() / "import-presets.json", paths.home() / "remembered.json"
    if earlier.is_file() and not path.exists():
        earlier.replace(path)
    return path


def _read() -> dict:
    presets = damage.read(_path(), "import-presets.json")
    return {name: dict(presets.get(name) or {}) for name in ("shapes", "roles")}
