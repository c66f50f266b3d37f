"""Kill anything at any moment: `python -m tests.torture --kills 100`.

Short runs of a tiny model are trained through the real queue while a page reads and writes the database; the trainer,
the worker or the page is killed (SIGKILL) at a random moment, or in the middle of a checkpoint, of its deletion, of a
line of events, of saving the adapter, of a transaction, of a request. After each kill: no run is reported wrong, what
was before the last checkpoint is there, the database is sound. At the end of each round: every run is finished, its
losses and its adapter are those of a run that nobody disturbed, and the database says what the files say.
The last line is `survived N/100`. `--faults all` adds what strikes once (tests/torture_faults.py). Processes are forked from this one, so that torch is imported once.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")

from core import events, files, jobs, paths, process
from core.runs import curves as runs_curves
from core.runs import queue, runs, store, trainer, worker
from core.training import checkpoints, training_loop
from core.training.checkpoints import whole_checkpoint
from core.training.config import TrainConfig
from tests import tiny_tokenizers
from tests.conftest import chat_rows

STEPS, EVERY = 12, 2
SECONDS = 60  # the longest that anything here may take; a machine under load is slow
TRAINER = ("random", "half checkpoint", "unsealed", "unrotated", "rotation", "line", "adapter", "last word", "in save")
WORKER = ("random", "before a trainer", "after a trainer")
PAGE = ("random", "transaction", "request")


class Wrong(Exception):
    """Something that must hold does not."""


def die(*_, **__) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wait_until(condition, what: str):
    """The first true value of a condition."""
    end = time.monotonic() + SECONDS
    while not (found := condition()):
        if time.monotonic() > end:
            raise Wrong(f"{what} did not happen within {SECONDS} s")
        time.sleep(0.005)
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Processes


class Forked:
    """A process forked from this one, with nothing open but its log: what Popen is to the queue."""

    def __init__(self, work, log):
        self.pid = os.fork()
        if self.pid:
            return
        code = 1
        try:
            os.setsid()
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            let_go()
            code = work() or 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def let_go() -> None:
    """Let go of all open files, above all of the locks of whoever forked.

    Their numbers stay taken: objects that were inherited with them close them when they are collected, and would close
    a lock of this process that got such a number.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            with suppress(OSError):  # the listing's own
                os.fstat(int(name))
                os.dup2(nothing, int(name))


def spawn(command: list[str], log) -> Forked:
    """Stands in for process.spawn_detached: the same main(), but no second import of torch."""
    module = command[2]
    (paths.home() / "pids").mkdir(exist_ok=True)

    def work():
        name = "trainer" if module == "core.trainer" else "worker"
        (paths.home() / "pids" / f"{name}-{os.getpid()}").touch()
        sabotage(name)
        sys.argv = command[2:]
        return {"trainer": trainer.main, "worker": worker.main}[name]()

    return Forked(work, log)


def pids(name: str) -> list[int]:
    """The living processes of a kind, newest last."""
    files = sorted((paths.home() / "pids").glob(f"{name}-*"), key=lambda file: file.stat().st_mtime_ns)
    return [pid for pid in (int(file.name.split("-")[1]) for file in files) if alive(pid)]


def alive(pid: int) -> bool:
    reap()
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


def reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def kill(pid: int) -> None:
    if alive(pid):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not alive(pid), f"the end of process {pid}")


# ---------------------------------------------------------------------------------------------------------------------
# Moments


def plan(kind: str, moment: str, number: int) -> None:
    """The next process of this kind dies at a moment of its own, the number-th time that it comes to it."""
    (paths.home() / f"plan-{kind}.json").write_text(json.dumps([moment, number]))


def sabotage(kind: str) -> None:
    """Make this process die as it was planned."""
    try:
        file = paths.home() / f"plan-{kind}.json"
        moment, number = json.loads(file.read_text())
        file.unlink()
    except FileNotFoundError:
        return
    countdown = iter(range(number, -1_000_000, -1))
    place, name, dies = MOMENTS[moment]
    stock = getattr(place, name)

    def deadly(*args, **values):
        return dies(stock, *args, **values) if next(countdown) == 1 else stock(*args, **values)

    setattr(place, name, deadly)


def half_a_line(stock, run_dir, event, **values) -> None:
    with events.file(run_dir).open("ab") as file:
        file.write(json.dumps({"event": event, "time": time.time(), **values}).encode()[: random.randint(1, 60)])
    die()


def half_a_deletion(stock, path, *_, **__) -> None:
    for file in list(path.iterdir())[: random.randint(0, 4)]:
        file.unlink()
    die()


def unfinished_adapter(stock, path, model, tokenizer) -> None:
    model.save_pretrained(path.with_name(path.name + ".unfinished"))
    die()


def half_a_request(stock, path, values) -> None:
    path.with_suffix(".tmp").write_text(json.dumps(values)[:10])
    die()


def after_it(stock, *args, **values) -> None:
    stock(*args, **values)
    die()


def moments() -> dict:
    """Where a planned death strikes: {moment: (object, name of its function, what happens there)}."""
    import transformers

    return {
        "half checkpoint": (transformers.Trainer, "_save_optimizer_and_scheduler", die),
        "unsealed": (checkpoints, "seal", die),
        "unrotated": (checkpoints, "rotate", die),
        "rotation": (checkpoints.shutil, "rmtree", half_a_deletion),
        "line": (events, "append", half_a_line),
        "adapter": (checkpoints, "save_whole", unfinished_adapter),
        "last word": (training_loop, "_conclude", after_it),
        "transaction": (runs_curves, "add", after_it),
        "request": (files, "write_json", half_a_request),
        "before a trainer": (worker, "run_trainer", die),
        "after a trainer": (worker, "run_trainer", after_it),
    }


MOMENTS: dict = {}


# ---------------------------------------------------------------------------------------------------------------------
# A round


def page() -> None:
    """What an open page does all the time: look, draw, note, ask."""
    sabotage("page")
    count = 0
    while True:
        for row in store.sync_all():
            store.curves(row["id"])
            count += 1
            if count % 5 == 0:
                store.rename(row["id"], row["name"], f"note {count}")
        time.sleep(0.01)


def open_page() -> Forked:
    with (paths.home() / "page.log").open("ab") as log:
        return Forked(page, log)


def round_of(draw: random.Random, config: TrainConfig, straight: dict, kills: int) -> None:
    """Two runs in the queue, so many kills, and everything as it should be in the end."""
    names = [runs.create(config, name) for name in ("first", "second")]
    for _ in range(kills):
        one_kill(draw, names)
    heal(names)
    for run_id in names:
        check_finished(run_id, straight)
    check_database(names)


def one_kill(draw: random.Random, names: list[str]) -> None:
    """Bring everything to work, kill one process, and look at what is said of the runs."""
    kind = draw.choices(("trainer", "worker", "page"), (5, 2, 2))[0]
    moment = draw.choice({"trainer": TRAINER, "worker": WORKER, "page": PAGE}[kind])
    print(f"  {kind}: {moment}", end="", flush=True)
    if moment not in ("random", "in save"):
        number = {"line": draw.randint(1, 25), "transaction": draw.randint(1, 8)}.get(moment, draw.randint(1, 3))
        plan(kind, moment, 1 if moment in ("adapter", "last word") or kind == "worker" else number)
    wake(names)
    viewer = open_page()
    try:
        victim = {"trainer": lambda: pids("trainer"), "worker": lambda: pids("worker"), "page": lambda: [viewer.pid]}
        strike(draw, kind, moment, victim[kind], names)
        check_said(names)
    finally:
        kill(viewer.pid)
        for left in paths.home().glob("plan-*.json"):
            left.unlink()
    print(".", flush=True)


def strike(draw, kind: str, moment: str, victims, names: list[str]) -> None:
    """Kill, or wait until the planned death has come, or until there was nothing left to die of."""
    if moment == "in save":
        wait_until(lambda: unsealed(names) or not busy(names), "a checkpoint")
    elif moment == "random" or kind == "page":
        time.sleep(draw.uniform(0, 1.2))
    if moment in ("random", "in save"):
        for pid in victims()[-1:]:
            kill(pid)
        return
    before = victims()
    wait_until(lambda: not busy(names) or (before and not all(map(alive, before))), f"{kind}: {moment}")


def busy(names: list[str]) -> bool:
    return bool(pids("worker") or pids("trainer")) and any(runs.state(name) in runs.ACTIVE for name in names)


def unsealed(names: list[str]) -> bool:
    found = [path for name in names for path in paths.run(name).glob("checkpoint-*")]
    return any(not (path / "whole.json").exists() for path in found)


def wake(names: list[str]) -> None:
    """What a person does who opens the app: resume what was lost, begin again what is done, let the queue work."""
    for name in names:
        if runs.state(name) in ("lost", "failed", "stopped", "paused"):
            jobs.ask(paths.run(name), "resume")
    if not any(runs.state(name) in runs.ACTIVE for name in names):
        shutil.rmtree(paths.run(names[0]))  # both are done: another one, so that there is something to kill
        names[0] = runs.create(runs.config(names[1]), "another")
    if queue.needs_worker():
        runs.start_worker()
    wait_until(lambda: pids("trainer") or not queue.needs_worker(), "a worker")


def heal(names: list[str]) -> None:
    """Resume until every run is finished: each time from its newest whole checkpoint."""
    for _ in range(8):
        wait_until(lambda: not pids("trainer") and not pids("worker"), "the end of the queue")
        if all(runs.state(name) == "finished" for name in names):
            return
        wake(names)
    raise Wrong(f"not finished: {[(name, runs.state(name), events.last(paths.run(name))) for name in names]}")


# ---------------------------------------------------------------------------------------------------------------------
# What must hold


def check_said(names: list[str]) -> None:
    """No run is reported wrong: what is said of it agrees with the processes and with its files."""
    for name in names:
        wait_until(lambda name=name: truth(name) == runs.state(name), f"the truth about {name}: {truth(name)}")
        run_dir = paths.run(name)
        logged = {event["step"] for event in events.read(run_dir)[0] if event["event"] == "step"}
        if checkpoint := whole_checkpoint(run_dir):
            reached = int(Path(checkpoint).name.split("-")[1])
            if missing := set(range(1, reached + 1)) - logged:
                raise Wrong(f"{name}: steps {missing} before checkpoint {reached} are lost")
    with store.opened() as db:
        if (said := db.execute("pragma quick_check").fetchone()[0]) != "ok":
            raise Wrong(f"the database: {said}")


def truth(name: str) -> str:
    """The state that follows from whether a process holds the run, found out without the lock."""
    run_dir = paths.run(name)
    last = events.last(run_dir)
    if any(str(run_dir) in open_files(pid) for pid in pids("trainer")):
        return "running"
    if jobs.waits(run_dir) == "resume" or last is None:
        return "queued"
    return last["event"] if last["event"] in events.FINAL else "lost"


def open_files(pid: int) -> str:
    """The paths of the files that a process has open; a trainer has its run's lock."""
    found = []
    for link in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            found.append(os.readlink(link))
        except OSError:
            continue
    return "\n".join(path for path in found if path.endswith("run.lock"))


def result(name: str) -> dict:
    """Losses by step, evaluations by step and the bytes of the adapter."""
    seen, adapter = events.read(paths.run(name))[0], paths.run(name) / "adapter" / "adapter_model.safetensors"
    return {
        "losses": {event["step"]: event["loss"] for event in seen if event["event"] == "step"},
        "evals": {event["step"]: event["eval_loss"] for event in seen if event["event"] == "eval"},
        "adapter": adapter.read_bytes(),
    }


def check_finished(name: str, straight: dict) -> None:
    found = result(name)
    for part, expected in straight.items():
        if found[part] != expected:
            raise Wrong(f"{name}: {part} differ from the run that nobody disturbed")
    if left := [path.name for path in paths.run(name).glob("*.unfinished")]:
        raise Wrong(f"{name}: {left} was left behind")


def check_database(names: list[str]) -> None:
    """The database says what it would say if it were made anew."""
    before = [(store.sync(name), store.curves(name)) for name in names]
    paths.database().rename(paths.home() / "old.db")
    for suffix in ("-wal", "-shm"):
        Path(f"{paths.database()}{suffix}").unlink(missing_ok=True)
    after = [(store.sync(name), store.curves(name)) for name in names]
    for (row, curves), (row_anew, curves_anew) in zip(before, after, strict=True):
        # What a run occupies is looked up now and then; its log may have grown by the last words of its process.
        if differ := {
            key: (row[key], row_anew[key]) for key in row.keys() - {"disk_bytes"} if row[key] != row_anew[key]
        }:
            raise Wrong(f"the database differs from the files: {differ}")
        if curves != curves_anew:
            raise Wrong("the curves in the database differ from the files")


# ---------------------------------------------------------------------------------------------------------------------


def prepared(folder: Path) -> TrainConfig:
    """A model of a hundred thousand parameters, a corpus of forty chats, and the config that trains one on the other."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    model = tiny_tokenizers.build(folder / "model", "chatml")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    vocabulary = len(AutoTokenizer.from_pretrained(model))
    LlamaForCausalLM(
        LlamaConfig(vocab_size=vocabulary, max_position_embeddings=256, initializer_range=0.15, **sizes)
    ).save_pretrained(model)
    corpus = folder / "rows.jsonl"
    corpus.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in chat_rows(40)), encoding="utf-8")
    return TrainConfig(
        base_model=str(model),
        corpus=str(corpus),
        method="lora",
        max_length=64,
        max_steps=STEPS,
        eval_steps=EVERY,
        learning_rate=0.01,
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="0: another one each time")
    parser.add_argument("--faults", default="", help="all, or names with commas between: see tests/torture_faults.py")
    args = parser.parse_args()
    seed = args.seed or random.randrange(1, 10**6)
    print(f"seed {seed}")
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    os.environ["SOULSMITH_HOME"] = str(folder / "straight")
    config = prepared(folder)
    MOMENTS.update(moments())
    process.spawn_detached_for_real, process.spawn_detached = process.spawn_detached, spawn
    run_id = runs.create(config, "straight")
    with (paths.home() / "log.txt").open("ab") as log:
        Forked(lambda: trainer.run(paths.run(run_id)) == "failed", log).wait()
    straight = result(run_id)
    from tests import torture_faults

    known = torture_faults.FAULTS
    names = list(known) if args.faults == "all" else [name for name in args.faults.split(",") if name]
    if unknown := set(names) - known.keys():
        parser.error(f"there is no fault {', '.join(unknown)}; there are: {', '.join(known)}")
    met, tried = torture_faults.strike(names, folder, config, straight)
    if names:
        print(f"faults survived {met}/{tried}, not tried here: {len(names) - tried}")
    survived = rounds(folder, config, straight, random.Random(seed), args.kills)
    print(f"survived {survived}/{args.kills}")
    all_well = (survived, met) == (args.kills, tried)
    if all_well:
        shutil.rmtree(folder)
    return 0 if all_well else 1


def rounds(folder: Path, config: TrainConfig, straight: dict, draw: random.Random, kills: int) -> int:
    """How many kills were survived, in rounds of a few; a round in which something is wrong counts none of its kills."""
    survived = done = 0
    while done < kills:
        few = min(draw.randint(2, 5), kills - done)
        os.environ["SOULSMITH_HOME"] = str(folder / f"round {done}")
        paths.home().mkdir()
        began = time.monotonic()
        try:
            round_of(draw, config, straight, few)
            survived += few
            print(f"{done + few} kills, {time.monotonic() - began:.1f} s", flush=True)
            shutil.rmtree(paths.home(), ignore_errors=True)
        except Exception as error:
            print(f"WRONG after {done} kills in {paths.home()}: {type(error).__name__}: {error}", flush=True)
            for pid in pids("worker") + pids("trainer"):
                kill(pid)
        done += few
    return survived


if __name__ == "__main__":
    from tests import torture  # the module by its name: tests.torture_faults has it too

    sys.exit(torture.main())
