"""The command line of runs: `python -m core.runs list|show|start|queue|pause|resume|stop|compare --json` and more."""

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from core import errors, events, paths
from core.errors import UserError
from core.runs import (
    assigned_gpu,
    compare,
    diagnosis,
    disk_space,
    metrics,
    promote_checkpoint,
    queue,
    runs,
    starts,
    terminate,
)
from core.training.checkpoints import whole_checkpoint
from core.training.config import TrainConfig


def parser() -> argparse.ArgumentParser:
    """One verb each with its own arguments: a flag that a verb does not take is refused."""
    whole = argparse.ArgumentParser(
        prog="python -m core.runs", description="Runs: list, queue, watch, stop, look back."
    )
    verbs = whole.add_subparsers(dest="verb", metavar="VERB", required=True)

    def verb(name: str, words: str, command, *, run: bool = True) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=words, description=words[0].upper() + words[1:] + ".")
        added.add_argument("--json", action="store_true", help="print one JSON object")
        added.set_defaults(command=command)
        if run:
            added.add_argument("run", help="id of a run, as printed by list")
        return added

    verb("list", "all runs with their states, oldest first", lambda args: many(runs.listed()), run=False)
    verb("show", "all that is known of a run but its curves", lambda args: show(args.run))
    start = verb("start", "queue a new run", on_start, run=False)
    start.add_argument("--config", help="a JSON file with the fields of TrainConfig")
    start.add_argument(
        "--from",
        dest="start",
        metavar="RUN[:STEP]",
        help="go on from a run, its checkpoint of a step, or an adapter (a folder or a hub id); what --config leaves out "
        "is as it was there",
    )
    start.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="one field; may be repeated")
    start.add_argument("--name", default="", help="what to call the run; default: after its corpus and method")
    start.add_argument("--card", metavar="UUID", help="the card to train on, as core.hardware prints it")
    verb("queue", "the runs that wait, in their order", lambda args: many(queue.waiting()), run=False)
    move = verb("move", "move a waiting run in the queue", lambda args: many(queue.move(args.run, args.places)))
    move.add_argument(
        "--places", type=int, default=-1, help="places down the queue, negative: up; default: %(default)s"
    )
    several = verb("compare", "settings and results of several runs side by side", on_compare, run=False)
    several.add_argument("run", nargs="+", help="ids of two runs or more, as printed by list")
    written = verb("metrics", "write all that was logged for other programs; by default metrics.csv here", on_metrics)
    written.add_argument("--csv", metavar="FILE", help="a table, a row a step")
    written.add_argument("--tensorboard", metavar="DIR", help="an event file of TensorBoard (needs tensorboardX)")
    written.add_argument("--trackio", metavar="PROJECT", help="a project of trackio (needs trackio)")
    take = verb("take", "make a checkpoint the result of its run", on_take)
    take.add_argument("--step", type=int, required=True, help="the step of the checkpoint")
    verb("delete", "delete a run that is not at work, with its adapter and checkpoints", on_delete)
    verb("stop", "end a run early: it saves its adapter", asks(runs.stop))
    verb("pause", "give the card back: the run saves a checkpoint and waits", asks(runs.pause))
    verb("resume", "queue a run again; it goes on from its newest checkpoint", asks(runs.resume))
    verb("hold", "let a waiting run wait until let-go; the others pass it", asks(queue.hold))
    verb("let-go", "let a held run have its turn again", asks(queue.let_go))
    verb("end", "kill the process of a run that neither stops nor pauses; resume continues it", asks(terminate.end))
    verb("save-now", "let a training run save a checkpoint after its step", asks(partial(runs.ask_once, what="save")))
    verb("sample-now", "let a training run reply to your prompts", asks(partial(runs.ask_once, what="sample")))
    return whole


def main() -> None:
    args = parser().parse_args()
    try:
        result = args.command(args)
    except (UserError, OSError, json.JSONDecodeError) as error:
        sys.exit(errors.tell(error, args.json))
    if args.json:
        print(json.dumps(result, ensure_ascii=False))
        return
    for row in result if isinstance(result, list) else [result]:
        print("  ".join(str(value) for value in row.values()))


def asks(request: Callable[[str], None]) -> Callable:
    """A verb that asks something of a run and prints its state."""

    def command(args) -> dict:
        request(args.run)
        return brief(args.run, named=False)

    return command


def on_start(args) -> dict:
    if not (args.config or args.start):
        sys.exit("start needs --config FILE, --from RUN, or both.")
    values = starts.fields(starts.spelled(args.start)) if args.start else {}
    start = {"start": values["start"]} if args.start else {}
    values |= json.loads(Path(args.config).read_text(encoding="utf-8")) if args.config else {}
    told = [one.partition("=")[::2] for one in args.set]
    values |= {field: text for field, text in told if field in ("base_model", "corpus")}  # an adapter names no corpus
    if missing := [field for field in ("base_model", "corpus") if not values.get(field)]:
        sys.exit(f"{' and '.join(missing)} must be named: --set {missing[0]}=NAME.")
    config = TrainConfig.from_dict(values | start)
    for field, text in told:
        config = config.with_typed(field, text)
    return brief(runs.start(config, args.name, card=args.card), named=False)


def on_compare(args) -> dict:
    if len(args.run) < 2:
        sys.exit("compare needs the ids of two runs or more.")
    return compare.compare(args.run)


def on_metrics(args) -> dict:
    return {"run": args.run} | metrics.write(args.run, args.csv, args.tensorboard, args.trackio)


def on_take(args) -> dict:
    return {"run": args.run, "step": args.step, "path": str(promote_checkpoint.take(args.run, args.step))}


def on_delete(args) -> dict:
    runs.delete(args.run)
    return {"run": args.run, "state": "deleted"}


def many(ids: list[str]) -> list[dict]:
    return [brief(run_id) for run_id in ids]


def brief(run_id: str, named: bool = True) -> dict:
    shown = {"run": run_id, "state": runs.state(run_id)}
    return shown | {"name": runs.label(run_id)["name"]} if named else shown


def show(run_id: str) -> dict:
    """All that is known of a run except its curves."""
    return {
        "run": run_id,
        "state": runs.state(run_id),
        **runs.label(run_id),
        "last": events.last(paths.run(run_id)),
        "checkpoint": whole_checkpoint(paths.run(run_id)),
        "disk": disk_space.taken(run_id),
        "doctor": diagnosis.diagnose(run_id),
        "card": assigned_gpu.read(paths.run(run_id)) or None,
        "ancestry": starts.ancestry(run_id),
        "config": vars(runs.config(run_id)),
    }


if __name__ == "__main__":
    main()
