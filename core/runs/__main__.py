"""The commands of `python -m core.runs`: what can be asked of runs without the page."""

import argparse
import json
import sys

from core import events, paths
from core.errors import UserError
from core.runs import assigned_gpu, queue, runs, terminate
from core.training.checkpoints import whole_checkpoint
from core.training.config import TrainConfig

SIMPLE = {
    "stop": runs.stop,
    "pause": runs.pause,
    "resume": runs.resume,
    "hold": queue.hold,
    "let-go": queue.let_go,
    "end": terminate.end,
    "save-now": lambda run_id: runs.wish(run_id, "save"),
    "sample-now": lambda run_id: runs.wish(run_id, "sample"),
}
COMMANDS = ("list", "show", "start", "queue", "move", "compare", "metrics", "take", "delete", *SIMPLE)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m core.runs", description="Runs: list, queue, watch, stop, look back.")
    made.add_argument("command", choices=COMMANDS)
    made.add_argument("run", nargs="*", help="id of a run, as printed by list; compare takes several")
    made.add_argument("--config", help="for start: a JSON file with the fields of TrainConfig")
    made.add_argument("--name", default="", help="for start: what to call the run")
    made.add_argument("--card", metavar="UUID", help="for start: the card to train on, as core.hardware prints it")
    made.add_argument("--places", type=int, default=-1, help="for move: places down the queue; negative: up")
    made.add_argument("--step", type=int, default=0, help="for take: whose checkpoint is to be the run's result")
    made.add_argument("--csv", metavar="FILE", help="for metrics: write a table of all steps")
    made.add_argument("--tensorboard", metavar="DIR", help="for metrics: write an event file (needs tensorboardX)")
    made.add_argument("--trackio", metavar="PROJECT", help="for metrics: write into a trackio project (needs trackio)")
    made.add_argument("--json", action="store_true", help="print one JSON object")
    return made


def main() -> None:
    made = parser()
    args = made.parse_args()
    try:
        result = carry_out(args, made)
    except (UserError, OSError, json.JSONDecodeError) as error:
        sys.exit(str(error))
    if args.json:
        print(json.dumps(result, ensure_ascii=False))
        return
    for row in result if isinstance(result, list) else [result]:
        print("  ".join(str(value) for value in row.values()))


def carry_out(args, made) -> dict | list[dict]:
    """The answer to one command line."""
    if args.command == "list":
        return [brief(run_id) for run_id in runs.listed()]
    if args.command == "queue":
        return [brief(run_id) for run_id in queue.waiting()]
    if args.command == "start":
        if not args.config:
            made.error("start needs --config FILE")
        return brief(runs.start(TrainConfig.load(args.config), args.name, card=args.card), named=False)
    if args.command == "compare":
        from core.runs import compare

        if len(args.run) < 2:
            made.error("compare needs the ids of two runs or more")
        return compare.compare(args.run)
    if len(args.run) != 1:
        made.error(f"{args.command} needs the id of one run")
    return of_one(args, args.run[0])


def of_one(args, run_id: str) -> dict | list[dict]:
    """The answer to a command about one run."""
    if args.command == "show":
        return show(run_id)
    if args.command == "move":
        return [brief(waiting) for waiting in queue.move(run_id, args.places)]
    if args.command == "metrics":
        from core.runs import metrics

        return {"run": run_id} | metrics.write(run_id, args.csv, args.tensorboard, args.trackio)
    if args.command == "take":
        from core.runs import promote_checkpoint

        return {"run": run_id, "step": args.step, "path": str(promote_checkpoint.take(run_id, args.step))}
    if args.command == "delete":
        runs.delete(run_id)
        return {"run": run_id, "state": "deleted"}
    SIMPLE[args.command](run_id)
    return brief(run_id, named=False)


def brief(run_id: str, named: bool = True) -> dict:
    found = {"run": run_id, "state": runs.state(run_id)}
    return found | {"name": runs.label(run_id)["name"]} if named else found


def show(run_id: str) -> dict:
    """All that is known of a run without its series."""
    from core.runs import diagnosis, disk_space

    shown = {"run": run_id, "state": runs.state(run_id), **runs.label(run_id), "last": events.last(paths.run(run_id))}
    return shown | {
        "checkpoint": whole_checkpoint(paths.run(run_id)),
        "disk": disk_space.taken(run_id),
        "doctor": diagnosis.diagnose(run_id),
        "card": assigned_gpu.read(paths.run(run_id)) or None,
        "config": vars(runs.config(run_id)),
    }
