"""Files and directories that appear whole or not at all."""

import errno
import os
import stat
import sys
import threading
import tracemalloc
from pathlib import Path

import pytest

from core import files


def test_a_file_is_replaced_only_when_all_of_it_was_written(tmp_path):
    path = tmp_path / "rates.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(TypeError), files.replaced(path) as file:
        file.writelines([b"half", None])
    assert (files.read_json(path), list(tmp_path.iterdir())) == ({"a": 1}, [path])
    with files.replaced(path) as file:
        file.write(b'{"a": 2}')
        assert files.read_json(path) == {"a": 1}
    assert (files.read_json(path), list(tmp_path.iterdir())) == ({"a": 2}, [path])


@pytest.mark.skipif(sys.platform == "win32", reason="other rights")
def test_a_private_file_is_never_readable_by_others(tmp_path):
    path = tmp_path / "chat.json"
    with files.replaced(path, mode=0o600) as file:
        assert [stat.S_IMODE(scratch.stat().st_mode) for scratch in tmp_path.iterdir()] == [0o600]
        file.write(b"{}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), RuntimeError("I/O error: os error 28")])
def test_a_full_disk_is_known_by_its_number_or_its_words(error):
    assert files.is_disk_full(error)
    assert not files.is_disk_full(OSError(errno.EACCES, "denied"))


def test_a_full_disk_leaves_the_old_file_and_says_so(tmp_path):
    path = tmp_path / "rates.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(files.NothingWritten, match="nothing could be written"), files.replaced(path):
        raise OSError(errno.ENOSPC, "full")
    assert (files.read_json(path), list(tmp_path.iterdir())) == ({"a": 1}, [path])


def test_a_directory_appears_when_it_is_filled_and_replaces_none_that_holds_something(tmp_path):
    target = tmp_path / "merged"
    with pytest.raises(ZeroDivisionError), files.new_directory(target):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    left = tmp_path / ".merged.unfinished"  # by a process that was killed
    left.mkdir()
    (left / "part").touch()
    target.mkdir()
    with files.new_directory(target) as directory:
        (directory / "model").touch()
        assert list(target.iterdir()) == []
    assert ([path.name for path in target.iterdir()], list(tmp_path.iterdir())) == (["model"], [target])
    with pytest.raises(OSError, match="not empty"), files.new_directory(target):
        pass
    assert ([path.name for path in target.iterdir()], list(tmp_path.iterdir())) == (["model"], [target])


def test_damaged_lines_are_passed_over_and_the_others_read(tmp_path):
    assert files.parsed(b'{"a": 1}\n{"a": \n[1]\n\n{"a": 2}') == [{"a": 1}, {"a": 2}]
    (tmp_path / "rows.jsonl").write_bytes(b'{"a": 1}\n{"a": 2}\n')
    assert list(files.lines(tmp_path / "rows.jsonl")) == [{"a": 1}, {"a": 2}]
    assert list(files.lines(tmp_path / "none.jsonl")) == []


def test_a_file_in_a_closed_directory_is_named_and_nothing_breaks(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files, "_damage", {})
    for name in ("read_text", "stat"):  # root may enter every directory
        monkeypatch.setattr(Path, name, refuse)
    path = tmp_path / "closed" / "card.json"
    assert (files.read_json(path), files.damage()) == ({}, {path: "unreadable"})


def test_a_value_fits_a_shape():
    shape = {"name": str, "every": range(1, 9), "tags": ([str], None), "rows": {str: int | float}}
    whole = {"name": "a", "every": 1, "rows": {"b": 0.5}}
    assert files.fits(whole, shape)
    assert files.fits(whole | {"tags": ["c"], "more": 1}, shape)
    for other in ({"name": 5}, {"every": 0}, {"every": 1.5}, {"tags": [1]}, {"tags": "c"}, {"rows": {"b": "c"}}):
        assert not files.fits(whole | other, shape)
    assert not files.fits({"name": "a"}, shape)
    assert not files.fits([], shape)


def test_what_is_too_long_for_json_is_not_read(tmp_path):
    path = tmp_path / "a.json"
    path.touch()
    os.truncate(path, 4 * files.MOST_BYTES)
    tracemalloc.start()
    assert files.read_json(path) == {}
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (peak < files.MOST_BYTES, files.damage()[path]) == (True, "wrong_kind")


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes among the files")
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path):
    path = tmp_path / "a.json"
    os.mkfifo(path)
    threading.Thread(target=path.write_text, args=["{}"], daemon=True).start()
    assert files.read_json(path) == {}
    assert files.damage()[path] == "unreadable"
