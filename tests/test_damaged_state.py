"""Whatever happens to a file that we write, the page starts, hides nothing else, and names the file."""

import json
import os
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import pytest

import app
from core import damage, events, files, jobs, paths
from core.arena import matches, prompts, votes
from core.chat import chat_models, chats, profiles, reply_gpu
from core.corpus import corpus, import_presets, report, storage
from core.estimate import calibration, probe
from core.models import models
from core.runs import database, eval_samples, queue, runs, store
from core.synth import votes as synth_votes
from core.training.config import TrainConfig
from tests.conftest import home_at, slow_but
from tests.page_session import Session
from ui import pages
from ui.text import Say

PLACES = ("synth", "arena", "exports", "checks", "demos", "serve", "hub", "prompt-searches")
OF_A_RUN = {"control.json": {"after": -1}, "once.json": {"save": 1.0}, "wishes.json": {"sample": 1.0},
            "card.json": {"uuid": None}, "start.json": {"ancestry": []}, "life.json": {"starts": 1}}  # fmt: skip
NOBODY = 65534
WEIGHTS = ("adapter", "model", "checkpoint-*")  # of a run: read by libraries, and checked where they are loaded


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def garbage(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 40)


def a_list(path: Path) -> None:
    path.write_text("[]")


def a_number(path: Path) -> None:
    path.write_text("5")


def a_word(path: Path) -> None:
    path.write_text('"x"')


def inner_type(path: Path) -> None:
    """The keys are right, and what they hold is of another type."""
    values = json.loads(path.read_text())
    other = [5] if isinstance(values, list) else {name: of_other_type(value) for name, value in values.items()}
    path.write_text(json.dumps(other))


def of_other_type(value):
    return [True] if isinstance(value, int | float | None) else 5


def unreadable(path: Path) -> None:
    path.chmod(0)


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "in it").write_text("kept")


DAMAGES = (empty, cut, garbage, a_list, a_number, a_word, unreadable, a_directory)


@pytest.fixture(scope="module")
def full_home(trained, tiny_corpus, tmp_path_factory) -> Path:
    """A data directory with two of everything: the first of each is going to be damaged."""
    home = tmp_path_factory.mktemp("full") / "дом"
    shutil.copytree(trained[0], home)
    with home_at(home):
        shutil.copytree(paths.run(trained[1]), paths.runs() / "20200101-000000-first")
        for run_id in runs.listed():
            for name in ("run.lock", "log.txt"):
                (paths.run(run_id) / name).touch()
            for name, values in OF_A_RUN.items():
                files.write_json(paths.run(run_id) / name, values)
        for name in ("sea", "tide"):
            corpus.create([tiny_corpus], name)
        for card in corpus.listed():
            report.make(corpus.directory(card["id"]))
        for name in ("Ann", "Ben"):
            profiles.save(profiles.Profile(name, system_prompt="Be brief."))
            prompts.save(name, "# sea\nWhat is a tide?")
            fill_model(home / "models" / name, id=name, title=name)
            for place in (home / "exports" / f"merged {name}" / "merged", home / "adapters" / name):
                files.write_json(made(place / "base.json"), {"name": "me/base"})
            fill_model(home / "exports" / f"merged {name}" / "merged", title=name, base_model="Ann")
            fill_model(home / "adapters" / name, id=f"me/{name}", title=name, base_model="Ann")
            for place in PLACES:
                fill_job(home / place / f"2020-{name}", place)
            fill_job(home / "arena" / "2020-Ann" / "judges" / name, "judge")
            files.write_json(made(home / "estimates" / "traces" / f"{name}.json"), {"peak": 1})
            files.write_json(made(home / "tokens" / name / "about.json"), {})
            synth_votes.vote(f"{name}.toml", {"text": "A tide."}, True)
        files.write_json(home / "estimates" / "rates.json", {"a card": 9.0})
        calibration.record(model="m", card="c", attention="sdpa", method="lora", predicted_bytes=1, measured_bytes=1)
        eval_samples.keep(["Who?"])
        import_presets.keep(["a"], mapping={"schema": "text"})
        files.write_json(home / "order.json", runs.listed())
        files.write_json(home / "chat-card.json", {"uuid": "GPU-1"})
        files.write_json(home / "chat.json", {"address": ["127.0.0.1", 1], "key": "00"})
        files.write_json(home / "set-aside.json", [])
        for name in (
            "demo.log",
            "chat.log",
            "worker.log",
            "queue.lock",
            "tunnel.pem",
            "card/claim.run",
            "models/a.lock",
            "page.token",
            "open.html",
            "serve.key",
        ):
            made(home / name).touch()
        store.sync_all()
        votes.cast("2020-Ann", 0, "left")
        chats.keep("2020-a", {"branches": [[{"prompt": "Who?", "replies": {}}]], "current": 0})
    return home


def made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def fill_model(directory: Path, **card) -> None:
    files.write_json(made(directory / "soulsmith.json"), card)


def fill_job(directory: Path, place: str) -> None:
    request = {"name": directory.name, "kind": "capsule", "tokens": 5, "model": "m", "a": "run:1", "b": "base:2",
               "titles": {"a": "A", "b": "B"}, "prompts": [{"topic": "", "prompt": "Who?"}], "system": ""}  # fmt: skip
    files.write_json(made(directory / "job.json"), request)
    files.write_json(directory / "control.json", {"request": "stop", "after": 0, "asked": 1.0})
    for name in ("run.lock", "log.txt"):
        (directory / name).touch()
    events.append(directory, "started", pid=1)
    events.append(directory, "stopped")
    if place == "synth":
        row = {"text": "A tide.", "row": 0, "number": 0, "recipe": {"row": 0, "tokens": 2}}
        for name in ("rows", "aside", "dropped", "again", "received"):
            (directory / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    if place == "arena":
        reply = {"text": "A tide.", "tokens": 2, "finish_reason": "stop"}
        row = json.dumps({"prompt": 0, "a": reply, "b": reply | {"text": "No."}})
        (directory / "answers.jsonl").write_text(row + "\n")
        files.write_json(directory / "measured.json", {"a": {}, "b": {}})


@pytest.fixture
def hurt_home(full_home, tmp_path, monkeypatch, request) -> Iterator[Path]:
    """A copy of it that may be damaged."""
    home = shutil.copytree(full_home, tmp_path / "дом")
    monkeypatch.setenv("SOULSMITH_HOME", str(home))
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    (tmp_path / "uploads").mkdir(mode=0o777)
    monkeypatch.setattr(files, "_damage", {})
    hurt = request.node.callspec.params.get("hurt") if hasattr(request.node, "callspec") else None
    with somebody(home) if hurt is unreadable and os.geteuid() == 0 else nullcontext():
        yield home


@contextmanager
def somebody(home: Path):
    """Be a user for a while, the owner of a data directory: root reads everything."""
    pages.damage_notice(Say("en"))  # imports: Python itself may be in root's home
    for path in (home, *home.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    closed = [path for path in home.parents if path.owner() == "root" and not path.stat().st_mode & 0o001]
    modes = {path: path.stat().st_mode for path in closed}
    for path in closed:
        path.chmod(0o711)
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        for path, mode in modes.items():
            path.chmod(mode)


def first(home: Path, pattern: str) -> Path:
    return min(path for path in home.glob(pattern) if path.is_file() and not path.name.startswith("."))


def listed() -> dict[str, set[str]]:
    """What the lists of the page show, by kind; and each thing in them is read."""
    for match in jobs.listed(paths.arena()):
        matches.answers(match), votes.of_match(match.name)
    for place in PLACES:
        for job in jobs.listed(paths.home() / place):
            jobs.request(job), jobs.state(job), jobs.progress(job)
    for card in corpus.listed():
        with suppress(storage.CorpusDamaged):
            corpus.rows(card["id"], 0, 5)
    queue.waiting(), queue.interrupted(), calibration.rows(), probe.stored(), reply_gpu.chosen()
    import_presets.recall(["a"]), eval_samples.prompts()
    return {
        "runs": {row["id"] for row in store.sync_all()},
        "corpora": {card["id"] for card in corpus.listed()},
        "models": {model["id"] for model in models.ready()},
        "profiles": {profile.id for profile in profiles.listed()},
        "prompts": {one["id"] for one in prompts.listed()},
        "chats": {model.id for model in chat_models.listed()},
        **{place: {path.name for path in jobs.listed(paths.home() / place)} for place in PLACES},
    }


def missing(before: dict[str, set[str]]) -> set[str]:
    """What the lists showed before and do not show any more."""
    now = listed()
    return {f"{kind} {name}" for kind, names in before.items() for name in names - now[kind]}


# What may go with a file, because nothing else says what it says.
GOES = {
    "corpora/*/card.json": "corpora ",
    "models/*/soulsmith.json": "models ",
    "exports/*/merged/soulsmith.json": "chats merged:",
    "adapters/*/soulsmith.json": "chats adapter:",
    "profiles/*.json": "profiles ",
    "prompts/*.json": "prompts ",
    **{f"{place}/*/job.json": f"{place} " for place in PLACES},
    "runs/*/config.json": "chats run:",
    "runs/*/checkpoint-*/whole.json": "chats run:",
}


def test_the_list_holds_every_file_that_is_written(full_home):
    patterns = [
        *damage.OBJECTS,
        *damage.LINES,
        *damage.LOGS,
        damage.RECIPES,
        "soulsmith.*",
        "corpora/*/*",
        "*/.*",
        "exports/*/*",
    ]
    known = {path for pattern in patterns for path in full_home.glob(pattern)}
    weights = {path for part in WEIGHTS for path in full_home.glob(f"runs/*/{part}/**/*")}
    weights |= set(full_home.glob("tokens/*/*"))
    assert {path for path in full_home.rglob("*") if path.is_file()} - known - weights == set()
    assert [pattern for pattern in (*damage.OBJECTS, *damage.LINES) if not list(full_home.glob(pattern))] == []


@contextmanager
def damaged(path: Path, hurt):
    """A file that is damaged for a while."""
    content, mode = path.read_bytes(), path.stat().st_mode
    hurt(path)
    yield
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.chmod(mode)
    path.write_bytes(content)


def is_allowed_to_go(pattern: str, gone: set[str]) -> bool:
    """Whether only one thing went, the one that the file says something of; and out of the chats what it replied with."""
    own = {one for one in gone if not one.startswith("chats ") or GOES.get(pattern, "").startswith("chats ")}
    few = len(own) <= 1 or all(one.startswith("chats run:20200101-000000-first") for one in own)
    return not gone or (pattern in GOES and few and all(one.startswith((GOES[pattern], "chats ")) for one in gone))


@pytest.mark.parametrize("hurt", slow_but([garbage], (*DAMAGES, inner_type)), ids=lambda hurt: hurt.__name__)
def test_a_damaged_file_hides_nothing_else_and_is_named(hurt_home, hurt):
    before, wrong = listed(), {}
    for pattern, (shape, _) in damage.OBJECTS.items():
        path = first(hurt_home, pattern)
        is_fine = (hurt is a_list and shape is list) or (hurt is inner_type and shape in (dict, list))
        with damaged(path, hurt):
            gone, named = missing(before), [one.path for one in damage.found()]
            if not is_allowed_to_go(pattern, gone) or named != ([] if is_fine else [path]):
                wrong[pattern] = gone, named
        if gone := missing(before):  # whole again, it is listed again
            wrong[pattern] = gone, "after"
    assert wrong == {}


@pytest.mark.parametrize("hurt", slow_but([garbage], DAMAGES), ids=lambda hurt: hurt.__name__)
def test_damaged_lines_hide_nothing(hurt_home, hurt):
    before, wrong = listed(), {}
    for pattern in damage.LINES:
        path = first(hurt_home, pattern)
        with damaged(path, hurt):
            gone, named = missing(before), [one.path for one in damage.found()]
            # Lines that a power cut has taken look like lines that were never written.
            if gone or named != ([] if hurt in (empty, cut) else [path]):
                wrong[pattern] = gone, named
    assert wrong == {}


@pytest.mark.parametrize("hurt", DAMAGES, ids=lambda hurt: hurt.__name__)
def test_a_damaged_database_is_set_aside_rebuilt_and_said(hurt_home, hurt):
    before, path = listed(), paths.database()
    content = path.read_bytes() if hurt is unreadable else None
    hurt(path)
    if path.is_file():
        os.utime(path, (time.time() - 60,) * 2)
        content = content or path.read_bytes()
    assert missing(before) == set()
    (aside,) = damage.set_aside()
    kept = hurt_home / aside["file"]
    assert kept.name.startswith("soulsmith.damaged-")
    if hurt is unreadable:
        kept.chmod(0o600)
    assert (kept.read_bytes() if kept.is_file() else None) == content
    assert aside["file"] in pages.damage_notice(Say("en")).value
    assert (len(votes.of_match("2020-Ann")), chats.listed()[1]) == (aside["votes"], aside["chats"])


def test_what_nothing_can_rebuild_is_rescued_from_a_database_that_is_damaged_in_part(hurt_home):
    path, pages_of = paths.database(), 0
    with sqlite3.connect(path) as db:
        db.execute("pragma wal_checkpoint(truncate)")
        size = db.execute("pragma page_size").fetchone()[0]
        (pages_of,) = db.execute("select rootpage from sqlite_master where name = 'steps'").fetchone()
    db.close()
    with path.open("r+b") as file:
        file.seek((pages_of - 1) * size)
        file.write(b"\xff" * size)
    with pytest.raises(database.DatabaseRebuilt, match="set aside as"), database.opened() as db:
        list(db.query("select count(*) from steps"))
    store.sync_all()
    assert [(one["votes"], one["chats"], one["complete"]) for one in damage.set_aside()] == [(1, 1, True)]
    assert [chat["name"] for chat in chats.listed()[0]] == ["Who?"]
    assert [vote["verdict"] for vote in votes.of_match("2020-Ann")] == [matches.sides("2020-Ann", 0)[0]]


@pytest.mark.slow
def test_a_directory_where_a_log_or_a_lock_is_opened_is_renamed_at_the_start(hurt_home):
    before = listed()
    for pattern in damage.LOGS:
        path = first(hurt_home, pattern)
        a_directory(path)
        (aside,) = damage.rename_obstacles()
        assert (path.exists(), (aside / "in it").read_text(), missing(before)) == (False, "kept", set())
        path.touch()
    assert damage.rename_obstacles() == []


@pytest.mark.parametrize("name", damage.DIRECTORIES)
def test_a_file_where_a_directory_belongs_is_renamed_at_the_start_and_said(name, tmp_path, monkeypatch):
    for variable in ("GRADIO_TEMP_DIR", "TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("SOULSMITH_HOME", str(tmp_path / "home"))
    place = made(tmp_path / "home" / name)
    place.write_text("kept")
    app.prepare_home()
    damage.rename_obstacles()
    made(place / "a").touch()
    assert [one.path.read_text() for one in damage.found()] == ["kept"]
    assert not any(listed()[kind] for kind in PLACES)
    for lang, words in (("en", "a file where a directory belongs"), ("ru", "файл на месте папки")):
        assert words in pages.damage_notice(Say(lang)).value


@pytest.mark.parametrize("pattern", ["runs/*/config.json", "runs/*/events.jsonl", "runs/*/run.lock", "order.json"])
def test_a_pipe_in_the_place_of_a_file_is_renamed_at_the_start(hurt_home, pattern):
    path = first(hurt_home, pattern)
    path.unlink()
    os.mkfifo(path)
    (aside,) = damage.rename_obstacles()
    assert (aside.parent, aside.is_fifo(), path.exists()) == (path.parent, True, False)


def test_a_pipe_in_the_place_of_the_database_makes_way_for_a_new_one(hurt_home):
    path = paths.database()
    path.unlink()
    os.mkfifo(path)
    store.sync_all()
    assert path.is_file()
    assert [one["file"] for one in damage.set_aside()] == [one.name for one in hurt_home.glob("soulsmith.damaged-*.db")]


@pytest.mark.slow
@pytest.mark.parametrize("hurt", DAMAGES, ids=lambda hurt: hurt.__name__)
def test_the_page_opens_with_every_file_damaged_at_once(hurt_home, hurt, monkeypatch):
    monkeypatch.setattr(runs, "start_worker", lambda: None)
    if not os.access(sys.executable, os.X_OK):
        pytest.skip("Python is in root's home, and its readers cannot be started by another user")
    for pattern in (*damage.OBJECTS, *damage.LINES, "soulsmith.db"):
        hurt(first(hurt_home, pattern))
    damage.rename_obstacles()
    queue.needs_worker()
    window = Session(app.build_page(Say("en")))
    window.open()
    for tab in app.TABS:
        window.select(tab)
    assert window.refused == []
    notice = pages.damage_notice(Say("en")).value
    assert notice.count("<li>") >= 10
    assert "runs/20200101-000000-first/config.json" in notice


def test_a_new_run_is_queued_beside_one_whose_settings_are_damaged(hurt_home, tiny_model, tiny_corpus, monkeypatch):
    monkeypatch.setattr(runs, "start_worker", lambda: None)
    config = TrainConfig(base_model=tiny_model, corpus=tiny_corpus, method="lora", max_steps=1)
    damaged = runs.create(config)
    a_list(paths.run(damaged) / "config.json")
    new = runs.start(config, "new")
    assert queue.next_ones() == [new]
    with pytest.raises(runs.RunDamaged, match=f"{damaged}.*config.json is damaged"):
        runs.config(damaged)


def test_a_run_whose_events_are_gone_is_lost_and_does_not_begin_anew(hurt_home):
    run_id = runs.listed()[0]
    empty(events.file(paths.run(run_id)))
    (paths.run(run_id) / "control.json").unlink()
    assert runs.state(run_id) == "lost"
