"""Put faults in, one at a time, and run the fast tests that must notice: `python -m tests.mutants [GROUP ...] [--json]`.

Each fault of tests/mutants/faults.py goes into a copy of the working tree. A fault that the group's tests let pass is
tried on the whole fast suite with --all. Prints what survived and the share that was caught; about ten seconds a fault.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from tests.mutants import faults

ROOT = Path(__file__).parent.parent.parent
SECONDS = 300  # a fault that lets the tests hang is noticed too
WANTED = 0.9  # of the faults that are not among faults.UNSEEN


def copy_tree(place: Path) -> Path:
    """The files that git tracks, as they are in the working tree."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, place / name)
    return place


def passes(tree: Path, tests: list[str]) -> bool:
    """Whether the tests pass in a tree; one that takes far too long does not."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def need_sound(groups: set[faults.Group], tree: Path) -> None:
    """End here if a group's tests fail without a fault: every fault would look as if it was caught."""
    broken = [group.place for group in groups if not passes(tree, [f"tests/{name}" for name in group.tests])]
    if broken:
        raise SystemExit(f"Without a fault the tests of {', '.join(sorted(broken))} fail. Mend them first.")


def survives(tree: Path, group: faults.Group, fault: tuple[str, str], everything: bool) -> bool:
    """Whether nobody notices a fault."""
    old, new = fault
    files = group.holds(tree, old)
    if len(files) != 1:
        raise SystemExit(
            f"{group.place} does not hold this line once: {old!r}. Bring tests/mutants/faults.py up to date."
        )
    (path,) = files
    sound = path.read_text(encoding="utf-8")
    path.write_text(sound.replace(old, new), encoding="utf-8")
    try:
        return passes(tree, [f"tests/{name}" for name in group.tests]) and not (everything and not passes(tree, []))
    finally:
        path.write_text(sound, encoding="utf-8")


def chosen(names: list[str]) -> list[tuple[str, faults.Group, tuple[str, str]]]:
    groups = {name: group for name, group in vars(faults).items() if isinstance(group, faults.Group)}
    if unknown := set(names) - set(groups):
        raise SystemExit(f"There is no group {', '.join(sorted(unknown))}. There are: {', '.join(groups)}.")
    return [
        (name, group, fault) for name, group in groups.items() if name in (names or groups) for fault in group.faults
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.split("\n")[0])
    parser.add_argument("groups", nargs="*", metavar="GROUP", help="groups of faults.py; all by default")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time, default 2")
    parser.add_argument("--all", action="store_true", help="try the whole fast suite on what a group's tests let pass")
    parser.add_argument("--json", action="store_true", help="print one JSON object on one line, last")
    args = parser.parse_args()
    jobs, survivors, trees = chosen(args.groups), [], SimpleQueue()
    with tempfile.TemporaryDirectory(prefix="mutants-") as scratch:
        for number in range(args.jobs):
            trees.put(copy_tree(Path(scratch) / str(number)))
        need_sound({group for _, group, _ in jobs}, Path(scratch) / "0")

        def attempt(job) -> None:
            name, group, fault = job
            tree = trees.get()
            try:
                if survives(tree, group, fault, args.all):
                    survivors.append(job)
                    print(f"survived  {name}: {fault[0].strip()}  ->  {fault[1].strip()}", file=sys.stderr, flush=True)
            finally:
                trees.put(tree)

        with ThreadPoolExecutor(args.jobs) as pool:
            list(pool.map(attempt, jobs))
    surprising = [job for job in survivors if job[2] not in faults.UNSEEN]
    expected = [job for job in jobs if job[2] not in faults.UNSEEN]
    caught = 1 - len(surprising) / max(1, len(expected))
    result = {
        "faults": len(jobs),
        "survived": len(survivors),
        "unseen": len(jobs) - len(expected),
        "caught": round(caught, 4),
    }
    result["survivors"] = [{"group": name, "old": old, "new": new} for name, _, (old, new) in surprising]
    print(
        json.dumps(result) if args.json else f"{len(jobs)} faults, {len(surprising)} not noticed: {caught:.1%} caught"
    )
    sys.exit(caught < WANTED)


if __name__ == "__main__":
    main()
