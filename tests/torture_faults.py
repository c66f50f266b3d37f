"""Faults that strike once: `python -m tests.torture --faults all`, or their names; each starts with a home of its own."""

import errno
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from core import events, jobs, paths, process
from core.corpus import corpus
from core.errors import UserError
from core.export import export
from core.runs import database, runs, store, trainer
from core.synth import synth_jobs
from core.training import checkpoints
from core.training.config import TrainConfig
from tests import torture

LONG = 900  # chats of a corpus that takes a while to import
SECONDS = 300  # a machine under load is slow
APP_SECONDS = 300
NOBODY = 65534


class NotHere(Exception):
    """This machine cannot make this fault."""


def run_with(config: TrainConfig, before=lambda: None, name: str = "run") -> str:
    """Train a run to its end in a process of its own that is spoilt by `before()`; its id."""
    run_id = runs.create(config, name)
    return train(run_id, before)


def train(run_id: str, before=lambda: None) -> str:
    def work() -> bool:
        before()
        return trainer.run(paths.run(run_id)) == "failed"

    with (paths.home() / "log.txt").open("ab") as log:
        torture.Forked(work, log).wait()
    return run_id


def must(condition, what: str) -> None:
    if not condition:
        raise torture.Wrong(what)


def words_of(run_id: str) -> str:
    """The sentence that a run failed with: never the name of a class and a raw message."""
    last = events.last(paths.run(run_id))
    must(last["event"] == "failed", f"the run ended with {last}")
    must(last["trouble"] not in ("OSError", "RunFailed", "JobFailed"), f"raw words: {last}")
    return last["message"]


def finish(run_id: str, straight: dict) -> None:
    """Resume a run until it is finished: as if nothing had happened."""
    for _ in range(3):
        if runs.state(run_id) == "finished":
            return torture.check_finished(run_id, straight)
        jobs.ask(paths.run(run_id), "resume")
        train(run_id)
    raise torture.Wrong(f"not finished: {events.last(paths.run(run_id))}")


def python(
    code: str, *, before=None, more: dict | None = None, seconds: float = SECONDS
) -> subprocess.CompletedProcess:
    """Python code in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=process.ROOT,
        env=process.environment(more),
        preexec_fn=before,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def in_words(done: subprocess.CompletedProcess, expected: str) -> None:
    said = done.stdout + done.stderr
    must(done.returncode and "Traceback" not in said and expected in said, f"{done.returncode}: {said[-600:]}")


# ---------------------------------------------------------------------------------------------------------------------
# A training


def stopped_by_signal(config: TrainConfig, straight: dict) -> None:
    """SIGSTOP in the middle: it counts as running, and goes on."""
    run_id = runs.create(config, "stopped")
    with (paths.home() / "log.txt").open("ab") as log:
        child = torture.Forked(lambda: trainer.run(paths.run(run_id)) == "failed", log)
    torture.wait_until(lambda: "step" in jobs.progress(paths.run(run_id)), "a step")
    os.kill(child.pid, signal.SIGSTOP)
    time.sleep(2)
    must(runs.state(run_id) == "running", f"a stopped trainer counts as {runs.state(run_id)}")
    os.kill(child.pid, signal.SIGCONT)
    child.wait()
    finish(run_id, straight)


def clock_jumps(config: TrainConfig, straight: dict) -> None:
    """The clock goes back and forth by hours between two steps."""
    real, calls = time.time, iter(range(10**9))

    def before() -> None:
        time.time = lambda: real() + (-7200, 0, 86400)[next(calls) // 7 % 3]

    run_id = run_with(config, before)
    finish(run_id, straight)
    row = store.sync(run_id)
    took = {key: value for key, value in row.items() if key.endswith("seconds") and isinstance(value, int | float)}
    must(took and min(took.values()) >= 0, f"the run took {took}")
    must(len(store.curves(run_id)["steps"]) == torture.STEPS, "steps are lost")


def full_at_the_last_save(config: TrainConfig, straight: dict) -> None:
    """The disk is full when the adapter is saved: words, nothing lost, and the next try ends it."""

    def before() -> None:
        def refuse(*_, **__):
            raise OSError(errno.ENOSPC, "No space left on device")

        checkpoints.save_whole = refuse

    run_id = run_with(config, before)
    must("full" in words_of(run_id).lower(), words_of(run_id))
    finish(run_id, straight)


def few_open_files(config: TrainConfig, straight: dict) -> None:
    run_id = run_with(config, lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24)))
    if runs.state(run_id) == "failed":
        words_of(run_id)
    finish(run_id, straight)


def small_files_only(config: TrainConfig, straight: dict) -> None:
    """ulimit -f: no file may be longer than 8 kB."""

    def before() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))

    run_id = run_with(config, before)
    must(runs.state(run_id) in ("failed", "lost"), runs.state(run_id))
    if runs.state(run_id) == "failed":
        words_of(run_id)
    finish(run_id, straight)


@contextmanager
def full_directory():
    """A file system of 64 kB that is full."""
    place = paths.home() / "full"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(place)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True, check=False).returncode:
        raise NotHere("no right to mount a file system")
    try:
        with suppress(OSError):
            (place / "filler").write_bytes(bytes(2**17))
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=False)


def full_tmp(config: TrainConfig, straight: dict) -> None:
    """Nothing can be written where temporary files go: an import and a training end in words or go on."""
    with full_directory() as place:
        more = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(place))
        code = f"import sys; from core.corpus.__main__ import main; sys.exit(main(['import', {config.corpus!r}, '--name', 'a']))"
        done = python(code, more=more)
        must("Traceback" not in done.stderr, done.stderr[-600:])
        run_id = run_with(config, lambda: os.environ.update(more))
    finish(run_id, straight)


# ---------------------------------------------------------------------------------------------------------------------
# Kills in the middle of other work


def killed_in(command: list[str], begun, what: str) -> None:
    """Start a command, and kill it with all that it started once `begun()` is true."""
    with (paths.home() / "log.txt").open("ab") as log:
        child = process.spawn_detached_for_real([sys.executable, *command], log)
    torture.wait_until(lambda: begun() or child.poll() is not None, what)
    must(child.poll() is None, f"{what}: it had ended already")
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def killed_in_an_import(config: TrainConfig, straight: dict) -> None:
    source = paths.home() / "long.jsonl"
    source.write_bytes(Path(config.corpus).read_bytes() * LONG)
    command = ["-m", "core.corpus", "import", str(source), "--name", "long"]
    killed_in(command, lambda: any(paths.corpora().glob(".unfinished-*/rows-*")), "the middle of an import")
    must(corpus.listed() == [], f"half a corpus is listed: {corpus.listed()}")
    time.sleep(1)  # its reader hears of it
    card = corpus.create([source], "long")
    must(card["rows_kept"] == 40 * LONG, card["rows_kept"])
    must([path.name for path in paths.corpora().glob(".unfinished-*[0-9]")] == [], "the unfinished corpus is left")


def killed_in_a_synthesis(config: TrainConfig, straight: dict) -> None:
    wanted = {"recipe": "fractals-en", "tokens": 60_000, "seed": 7, "name": "a"}

    def rows(directory: Path) -> list[str]:
        synthesis = ["-m", "core.synth", "--job", str(directory)]
        subprocess.run([sys.executable, *synthesis], cwd=process.ROOT, check=True, capture_output=True, timeout=SECONDS)
        made = events.last(directory)
        must(made["event"] == "finished", f"the synthesis ended with {made}")
        return [json.dumps({**row, "id": ""}) for row in corpus.rows(made["corpus"], 0, 10**6)]

    whole = rows(synth_jobs.create(dict(wanted)))
    directory = synth_jobs.create(wanted)
    began = lambda: "progress" in jobs.progress(directory)  # noqa: E731
    killed_in(["-m", "core.synth", "--job", str(directory)], began, "the middle of a synthesis")
    must(jobs.state(directory) == "lost", f"a killed synthesis counts as {jobs.state(directory)}")
    again = rows(directory)
    must(sorted(again) == sorted(whole), f"{len(again)} rows after a kill, {len(whole)} without one")


def killed_in_an_export(config: TrainConfig, straight: dict) -> None:
    run_id = run_with(config)
    request = {"name": "a", "run": run_id, "kind": "merged"}
    directory = jobs.create(paths.exports(), request)
    begun = lambda: any(directory.glob("*.unfinished"))  # noqa: E731
    killed_in(["-m", "core.export", "--job", str(directory)], begun, "the middle of an export")
    must(jobs.state(directory) == "lost", f"a killed export counts as {jobs.state(directory)}")
    must(not any((directory / "merged").glob("*")), "half an export stands in its place")
    made = export.make(run_id, "merged", paths.home() / "merged", lambda *_, **__: None)
    must((Path(made["path"]) / "config.json").is_file(), "the export is not whole")


def killed_in_a_migration(config: TrainConfig, straight: dict) -> None:
    """A process dies in each of the migrations of an old database; the next one finds votes and runs."""
    run_id, names = (
        run_with(config),
        [path.stem for path in sorted(Path(database.__file__).parent.glob("migrations/*.sql"))],
    )
    for dies_in in names[1:]:
        paths.database().unlink(missing_ok=True)
        for suffix in ("-wal", "-shm"):
            Path(f"{paths.database()}{suffix}").unlink(missing_ok=True)

        def work(dies_in=dies_in) -> None:
            def dying(migrate, name: str):
                return lambda db: (migrate(db), torture.die() if name == dies_in else None)

            for one in database.migrations._migrations:
                one.fn = dying(one.fn, one.name)
            store.sync_all()

        with (paths.home() / "log.txt").open("ab") as log:
            died = torture.Forked(work, log).wait()
        must(died == -signal.SIGKILL, f"{dies_in}: it ended with {died}")
        must([row["id"] for row in store.sync_all()] == [run_id], f"the run is gone after {dies_in}")
        must(len(store.curves(run_id)["steps"]) == torture.STEPS, f"its curve is gone after {dies_in}")
    with sqlite3.connect(paths.database()) as db:
        must(db.execute("pragma quick_check").fetchone() == ("ok",), "the database is damaged")


# ---------------------------------------------------------------------------------------------------------------------
# The hub


class HalfHub(BaseHTTPRequestHandler):
    """A hub with one file, whose connection breaks in the middle of it, the first few times."""

    protocol_version = "HTTP/1.1"
    content = json.dumps({"model_type": "llama", "padding": "x" * 200_000}).encode()

    def do_GET(self) -> None:
        if "/tree/" in self.path:
            file = {"type": "file", "path": "config.json", "size": len(self.content), "oid": "2" * 40}
            return self.say(json.dumps([file]).encode())
        if "/api/models/" in self.path:
            answer = {"id": "a/b", "sha": "1" * 40, "siblings": [{"rfilename": "config.json"}]}
            return self.say(json.dumps(answer).encode())
        return self.say(self.content)

    do_HEAD = do_GET

    def say(self, body: bytes) -> None:
        self.send_response(200)
        for name, value in {"ETag": '"abc"', "X-Repo-Commit": "1" * 40, "Content-Length": len(body)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = body is self.content and self.server.cuts > 0
        self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.server.cuts -= 1
            self.close_connection = True
            self.connection.close()

    def log_message(self, *_) -> None:
        pass

    def handle(self) -> None:
        with suppress(OSError, ValueError):
            super().handle()


def hub_cut_off(config: TrainConfig, straight: dict) -> None:
    """The hub's connection breaks in the middle of a file: words; the next try has the whole file."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), HalfHub)
    server.cuts = 10**6
    threading.Thread(target=server.serve_forever, daemon=True).start()
    more = {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(paths.home() / "hub"),
        "HF_HUB_DISABLE_XET": "1",
    }
    code = (
        "import sys; from core import errors; from core.models import models\n"
        "try: print(open(models.outline('a/b') + '/config.json').read()[-20:])\n"
        "except errors.UserError as error: sys.exit(str(error))"
    )
    in_words(python(code, more=more), "The hub could not be reached for a/b")
    server.cuts = 0
    done = python(code, more=more)
    server.shutdown()
    must(done.returncode == 0 and done.stdout.strip().endswith('x"}'), done.stdout + done.stderr[-400:])


# ---------------------------------------------------------------------------------------------------------------------
# Homes


def app(home: Path, first: str = "pass") -> subprocess.CompletedProcess:
    """app.py with a home in which it cannot work: what it says at its end; `first` is done after its imports."""
    flags = ["app.py", "--no-browser", "--port", "next", "--home", str(home)]
    code = f"import app, os, sys; {first}; sys.argv = {flags!r}; app.main()"
    try:
        return python(code, more={"LANG": "C"}, seconds=APP_SECONDS)
    except subprocess.TimeoutExpired as expired:
        raise torture.Wrong(f"app.py goes on with {str(home)[:60]}: {expired.stdout}") from None


def foreign_owner(config: TrainConfig, straight: dict) -> None:
    """A home of another user: words, and nothing of it is changed."""
    if os.getuid():
        raise NotHere("not root")
    home = paths.home() / "theirs"
    home.mkdir(mode=0o700)
    paths.home().parent.chmod(0o755)
    paths.home().chmod(0o755)
    nobody = f"os.setgid({NOBODY}); os.setuid({NOBODY})"
    in_words(app(home, nobody), "belongs to another user, or is read-only")
    must([*home.iterdir()] == [], "something was written there")


def read_only_home(config: TrainConfig, straight: dict) -> None:
    if os.getuid():
        raise NotHere("not root")
    home = paths.home() / "read only"
    home.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "ro,size=64k", "none", str(home)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        raise NotHere("no right to mount a file system")
    try:
        in_words(app(home), "is read-only")
    finally:
        subprocess.run(["umount", str(home)], check=False)


def over_long_home(config: TrainConfig, straight: dict) -> None:
    in_words(app(Path("/tmp") / "/".join(["long" * 40] * 30)), "is too long for this system")
    in_words(app(paths.home() / ("x" * 300)), "is too long for this system")


def two_servers(config: TrainConfig, straight: dict) -> None:
    """Two pages on one home: both answer, a run is trained once, and both tell the same of it."""
    servers = []
    log = (paths.home() / "pages.log").open("ab")
    command = [sys.executable, "app.py", "--no-browser", "--no-token", "--port", "next", "--home", str(paths.home())]
    try:
        for _ in range(2):
            servers.append(subprocess.Popen(command, cwd=process.ROOT, stdout=log, stderr=log))
            count = len(servers)
            torture.wait_until(
                lambda count=count: (paths.home() / "pages.log").read_text().count("http://127.0.0.1") >= count,
                "a page",
            )
        run_id = runs.create(config, "once")
        codes = [subprocess.Popen([sys.executable, "-m", "core.runs.worker"], cwd=process.ROOT) for _ in range(2)]
        torture.wait_until(lambda: runs.state(run_id) == "finished", "the end of the run")
        for one in codes:
            one.wait(SECONDS)
        started = [event for event in events.read(paths.run(run_id))[0] if event["event"] == "started"]
        must(len(started) == 1, f"it was trained {len(started)} times")
        torture.check_finished(run_id, straight)
        torture.check_database([run_id])
        must(all(server.poll() is None for server in servers), "a page has ended")
    finally:
        for server in servers:
            server.kill()
            server.wait()
        log.close()


FAULTS = {
    "sigstop": stopped_by_signal,
    "clock": clock_jumps,
    "last save": full_at_the_last_save,
    "open files": few_open_files,
    "file size": small_files_only,
    "full tmp": full_tmp,
    "import": killed_in_an_import,
    "synthesis": killed_in_a_synthesis,
    "export": killed_in_an_export,
    "migration": killed_in_a_migration,
    "hub": hub_cut_off,
    "foreign uid": foreign_owner,
    "read-only home": read_only_home,
    "over-long home": over_long_home,
    "two servers": two_servers,
}


def strike(names: list[str], folder: Path, config: TrainConfig, straight: dict) -> tuple[int, int]:
    """Let faults strike, each in a home of its own: how many were survived, and how many this machine can make."""
    survived = tried = 0
    torture.SECONDS = SECONDS
    for name in names:
        os.environ["SOULSMITH_HOME"] = str(folder / f"fault {name}")
        paths.home().mkdir()
        began = time.monotonic()
        try:
            FAULTS[name](config, straight)
        except NotHere as missing:
            print(f"  {name}: not tried, {missing}", flush=True)
            continue
        except (
            torture.Wrong,
            UserError,
            OSError,
            subprocess.SubprocessError,
            sqlite3.Error,
            ValueError,
            KeyError,
        ) as error:
            print(f"  {name}: WRONG in {paths.home()}: {type(error).__name__}: {error}", flush=True)
        else:
            survived += 1
            print(f"  {name}: survived, {time.monotonic() - began:.1f} s", flush=True)
            shutil.rmtree(paths.home(), ignore_errors=True)
        tried += 1
    return survived, tried
