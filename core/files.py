"""Small JSON files replaced in one step, and files of lines, as a kill or a power cut may leave them; which are damaged."""

import errno
import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import orjson

from core import errors
from core.errors import UserError

BLOCK_BYTES = 65_536
MOST_BYTES = 2**26  # of JSON that is read whole
MOST_CHARACTERS = 2**20  # of a text that a person writes or hands in whole
_damage: dict[Path, str] = {}  # files that this process found damaged: what was wrong when they were read last


class NothingWritten(UserError):
    template = "The disk of {path} is full, so nothing could be written. Free some space, then try again."


class FilesExhausted(UserError):
    template = "The system lets this program open no more files at once. Raise the limit (ulimit -n), then try again."


class LineDamaged(UserError):
    template = "{path}, line {line}: this is no object of JSON. Put a copy of the file back, or cut that line out, and try again."


class TextTooLong(UserError):
    template = (
        "{file} has more than {most} characters, too many for a text that is read at once. Shorten it and try again."
    )


def worded(error: OSError, path: Path | None = None) -> UserError:
    """An error of the system as a sentence; `path` where it does not say which file it is about."""
    named = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else path
    shown = str(named or Path.cwd())
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return NothingWritten(path=shown)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return errors.named("NotAllowed", path=shown)
    if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
        return errors.named("PathTooLong", path=shown[:60] + "…" * (len(shown) > 60))
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return FilesExhausted()
    return errors.named("SystemRefused", path=shown, reason=error.strerror or error)


def read_json(path: Path, shape=dict):
    """What a file holds if it is of this shape, as fits() takes it; else an empty dict or list.

    A file that is there and cannot be read so is noted: see damage().
    """
    kind = list if shape is list or isinstance(shape, list) else dict
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):  # a pipe may never end
            return note_damage(path, reason(path)) or kind()
        if about.st_size > MOST_BYTES:
            return note_damage(path, "wrong_kind") or kind()
        values = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        _damage.pop(path, None)
        return kind()
    except OSError:
        return note_damage(path, reason(path)) or kind()
    except (ValueError, RecursionError):
        return note_damage(path, "empty" if _is_empty(path) else "not_json") or kind()
    if not fits(values, shape):
        return note_damage(path, "wrong_kind") or kind()
    _damage.pop(path, None)
    return values


def fits(value, shape) -> bool:
    """Whether a value is of a shape.

    A shape is a type (`int | None` may be absent), a range, {key: shape}, {str: the shape of every value}, [the shape of
    every item], or a tuple of shapes of which one has to fit.
    """
    if isinstance(shape, tuple):
        return any(fits(value, one) for one in shape)
    if isinstance(shape, dict) and str in shape:
        return isinstance(value, dict) and all(fits(one, shape[str]) for one in value.values())
    if isinstance(shape, dict):
        return isinstance(value, dict) and all(fits(value.get(name), one) for name, one in shape.items())
    if isinstance(shape, list):
        return isinstance(value, list) and all(fits(one, shape[0]) for one in value)
    if isinstance(shape, range):
        return isinstance(value, int) and value in shape
    return value is None if shape is None else isinstance(value, shape)


def note_damage(path: Path, reason: str) -> None:
    """Remember that a file is damaged, until it is read well or gone."""
    _damage[path] = reason


def is_damaged(path: Path) -> bool:
    """Whether a file was damaged when this process read it last."""
    return path in _damage


def damage() -> dict[Path, str]:
    """The damaged files that this process has met and that are still there: {path: what is wrong with it}."""
    for path in list(filter(_is_gone, _damage)):
        del _damage[path]
    return dict(sorted(_damage.items()))


def set_aside(path: Path) -> Path:
    """Rename what stands in the place of a file, with the date, so that a new file can be written; its new path."""
    stem = f"{path.stem}.damaged-{time.strftime('%Y%m%d-%H%M%S')}"
    names = [stem, *(f"{stem}-{number}" for number in range(2, 100))]
    target = next(
        path.with_name(name + path.suffix) for name in names if not path.with_name(name + path.suffix).exists()
    )
    return path.rename(target)


def reason(path: Path) -> str:
    """What keeps a file from being opened: "directory", that one is in its place, or "unreadable"."""
    return "directory" if os.path.isdir(path) else "unreadable"  # Path.is_dir() raises in a closed directory


def _is_gone(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:  # in a directory that is closed to this user
        return False
    return False


def _is_empty(path: Path) -> bool:
    return path.is_file() and path.stat().st_size == 0


def write_json(path: Path, values: dict | list, indent: int | None = None) -> None:
    """Replace a small file of JSON in one step: see write_text()."""
    write_text(path, json.dumps(values, ensure_ascii=False, indent=indent))


def write_text(path: Path, text: str) -> None:
    """Replace a small file atomically, also in case of a power cut.

    Raises:
        NothingWritten: where the disk is full; the file is as it was.
    """
    if path.is_dir() and not path.is_symlink():
        set_aside(path)
    with replaced(path) as file:
        file.write(text.encode())


@contextmanager
def replaced(path: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """A file to write, which replaces the one at `path` when the block ends, and goes when something is raised.

    Raises:
        NothingWritten: where the disk is full.
    """
    scratch = path.with_name(f"{path.stem}.{secrets.token_hex(4)}.tmp")  # two processes may write at one moment
    try:
        scratch.touch(mode)
        with scratch.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # else the new name may outlive the new contents
        _rename(scratch, path)
    except OSError as error:
        raise NothingWritten(path=path.parent) if is_disk_full(error) else worded(error, path) from error
    finally:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)


def _rename(scratch: Path, path: Path) -> None:
    for attempt in range(20):
        try:
            scratch.replace(path)
            return
        except PermissionError:  # Windows, while somebody reads the file
            if attempt == 19:
                raise
            time.sleep(0.05)


def read_text(path: Path) -> str:
    """The text of a file that a person hands in.

    Raises:
        TextTooLong: before more is read. OSError, UnicodeDecodeError.
    """
    with path.open(encoding="utf-8-sig") as file:
        return check_length(file.read(MOST_CHARACTERS + 1), path.name)


def check_length(text: str, file: str) -> str:
    """The same text, refused where it is too long to be read at once.

    Raises:
        TextTooLong.
    """
    if len(text) > MOST_CHARACTERS:
        raise TextTooLong(file=file, most=MOST_CHARACTERS)
    return text


def read_secret(path: Path) -> str:
    """What write_secret() wrote; nothing where it cannot be read."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def write_secret(path: Path, secret: str) -> str:
    """Write a token or key into a file of its own, which only this user can read, and return it."""
    if path.is_dir():
        set_aside(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path, 0o600) as file:
        file.write(secret.encode())
    return secret


@contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """A directory to fill, which gets the name `target` when the block ends, and goes when something is raised.

    Of a process that was killed its unfinished directory stays until the next attempt.
    """
    unfinished = target.with_name(f".{target.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        if target.is_dir():
            target.rmdir()  # an empty one; what is in another one is not replaced
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def is_disk_full(error: Exception) -> bool:
    """Whether an error says so: the system's own, or that of a library in Rust or C++, which has only words."""
    words = str(error).lower()
    return getattr(error, "errno", None) == errno.ENOSPC or "os error 28" in words or "no space left" in words


def lines(path: Path, shape=dict) -> Iterator[dict]:
    """The object of every line of a file that is whole; nothing where there is no file.

    Raises:
        LineDamaged: at the first line that is none, or not of this shape.
    """
    if path.exists():
        with path.open("rb", buffering=1 << 20) as file:
            for number, line in enumerate(file, 1):
                try:
                    values = orjson.loads(line)
                except ValueError:
                    values = None
                if not fits(values, shape):
                    raise LineDamaged(path=path, line=number)
                yield values


def undamaged_lines(path: Path) -> Iterator[dict]:
    """The objects of a file's lines, damaged ones passed over; nothing where it cannot be opened."""
    with suppress(OSError), path.open("rb") as file:
        for line in file:
            yield from parsed(line)


def parsed(lines: bytes) -> list[dict]:
    """The objects of some lines; those that a kill, a power cut or a full disk has damaged are passed over."""
    objects = []
    for line in lines.split(b"\n"):
        with suppress(ValueError):
            values = orjson.loads(line)  # a million steps are read four times as fast as by json
            if isinstance(values, dict):
                objects.append(values)
    return objects


def size(path: Path) -> int:
    """Bytes of the files under a directory; files that vanish meanwhile are not counted."""
    total = 0
    for folder, _, names in os.walk(path):  # a directory that is being deleted is passed over
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total


def cut_partial_line(path: Path) -> None:
    """Truncate a partial last line, of any length, left by a killed process."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - BLOCK_BYTES)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                file.truncate(start + newline + 1)
                return
            end = start
        file.truncate(0)


def last_lines(path: Path) -> Iterator[bytes]:
    """The whole lines of a file from the last one to the first, without their newlines; read backwards in blocks."""
    with path.open("rb") as file:
        start, rest, whole = file.seek(0, os.SEEK_END), b"", False
        while start:
            end, start = start, max(0, start - BLOCK_BYTES)
            file.seek(start)
            first, *lines = (file.read(end - start) + rest).split(b"\n")
            for line in reversed(lines):
                if whole:
                    yield line
                whole = True  # what follows the last newline is half a line
            rest = first
        if whole:
            yield rest
