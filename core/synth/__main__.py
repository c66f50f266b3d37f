"""Make a corpus from a recipe: `python -m core.synth RECIPE --tokens 200000 --model M --out DIR --seed 7 --json`."""

import argparse
import json
import signal
import sys
import time
from pathlib import Path

from core import errors, events, jobs
from core.corpus import turns
from core.errors import UserError
from core.synth import endpoint, preview, prompts, recipes, synth_jobs, worker

PAUSES = {
    "refusals": "The model refuses: its last 25 replies were no rows. Change the prompt, or choose another model.",
    "repeats": "The model says the same again and again: its last 25 replies were no new rows. Raise the temperature, or "
    "give the recipe more seeds or axes.",
    "short": "A part of the mix has no more rows, and the shares would no longer hold. Use a larger corpus or a smaller "
    "volume, or stop and keep what is there.",
    "novelty": "Fewer than 30 % of the last 200 rows were new. Give the recipe more to say, or be content with these.",
    "bad_replies": "25 replies in a row could not be used. See what they say in aside.jsonl, and change the prompt.",
    "asked": "The same command goes on.",
}


OPTIONS = (
    "temperature",
    "top_p",
    "max_tokens",
    "thinking",
    "timeout",
    "shard",
    "pack",
    "tokens",
    "replay",
    "replay_corpus",
    "curriculum",
)


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    sys.stdout.reconfigure(encoding="utf-8", errors="replace", line_buffering=True)
    try:
        return _run(options)
    except UserError as error:
        return errors.tell(error, options.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m core.synth", description=__doc__)
    add = parser.add_argument
    add("recipe", nargs="?", help="a recipe file, or the name of one that comes with the program (see --list)")
    add("--tokens", type=volume, default=20_000, help="in tokens of the model: 20000 (the default), 10M, 1B")
    add("--model", help="whose tokens are counted: a model directory or the id of one that is ready")
    add("--out", type=Path, help="become this directory; the same command goes on where a killed one was")
    add("--name", default="", help="what to call the corpus")
    add("--seed", type=int, default=0)
    add("--endpoint", help="address of an OpenAI-compatible server, such as http://127.0.0.1:11434/v1")
    add("--endpoint-model", help="the name of the model at that server")
    add("--writer", help="a local model that writes the rows: its directory or id")
    add("--judge-endpoint", help="of a chain: the server that judges, if not the writer")
    add("--judge-model", help="the name of the model at the judge's server")
    add("--judge-writer", help="a local model that judges: its directory or id")
    add("--embedder", help="a local model that says how near the texts of a set are: its directory or id")
    add("--corpus", help="seeds for a model: the id or directory of a corpus")
    add("--topics", type=Path, help="a file of the topics of that corpus to use, one a line; all of them without it")
    add("--personas", type=Path, help="a file of those who write, one a line: for grids and recipes of a model")
    add("--pack", type=int, metavar="LENGTH", help="also write the tokens as blocks of this length; needs --model")
    add("--parallel", type=int, default=4, help="requests in flight at the endpoint (default 4)")
    add("--temperature", type=float, default=0.9)
    add("--top-p", type=float, help="of the likeliest words that make up this share")
    add("--max-tokens", type=int, default=600, help="of one reply (default 600)")
    add("--thinking", choices=("on", "off"), default="", help="ask the server to think first, or not to")
    add("--timeout", type=float, help=f"seconds of one request (default {endpoint.SECONDS:g})")
    add("--again", action="store_true", help="going on, ask once more for the rows that were set aside")
    add("--shard", help="2/4: the second of four machines that share a recipe; each makes its part of the volume")
    add("--preview", action="store_true", help="only show ten rows, the x-ray and what the volume costs")
    add(
        "--replay", type=float, default=0, metavar="PERCENT", help="of natural text beside a grammar; 20 to 50 is usual"
    )
    add("--replay-corpus", help="the corpus of that text: its id or directory")
    add("--curriculum", action="store_true", help="short rows first in the corpus")
    add("--row", type=int, help="only make this one row again")
    add("--list", action="store_true", help="list the recipes that come with the program")
    add("--job", type=Path, help=argparse.SUPPRESS)
    add("--json", action="store_true", help="print one JSON object")
    return parser


def volume(text: str) -> int:
    """A number of tokens as people write it: 200000, 1e6, 10M."""
    number, scale = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "")
    try:
        return round(float(number) * {"": 1, "K": 10**3, "M": 10**6, "B": 10**9}[scale])
    except (ValueError, OverflowError, KeyError):
        raise argparse.ArgumentTypeError(f"{text} is not a number of tokens, such as 200000 or 10M") from None


def _run(options) -> int:
    if options.list:
        known = recipes.listed()
        print(json.dumps(known, ensure_ascii=False) if options.json else "\n".join(recipe["name"] for recipe in known))
        return 0
    if options.job:
        return int(worker.run(options.job.absolute()) == "failed")
    if not options.recipe:
        _parser().error("give a recipe; --list shows those that come with the program")
    if options.row is not None:
        return _one_row(options)
    return _preview(options) if options.preview else _make(options)


def _one_row(options) -> int:
    if options.row < 0:
        _parser().error("rows are counted from 0")
    recipe = recipes.load(options.recipe)
    if recipe.kind != "grammar":
        _parser().error(f"--row makes a row of a grammar again; {recipe.name} is written by a model, or a mix")
    row = recipe.make(options.seed, options.row)
    print(json.dumps(row, ensure_ascii=False) if options.json else "\n\n".join(turns.texts(row)))
    return 0


def _preview(options) -> int:
    wanted = request(options)
    recipe = synth_jobs.with_replay(wanted)
    prompts.check_personas(recipe, wanted["personas"])
    measured = preview.preview(recipe, options.seed, wanted)
    volumes = sorted({*preview.VOLUMES, options.tokens})
    measured["costs"] = [preview.cost(measured, tokens) for tokens in volumes]
    if options.model:
        measured["epoch"] = preview.epochs(options.model, volumes)
    if options.json:
        print(json.dumps(measured, ensure_ascii=False))
        return 0
    for row in measured["rows"]:
        print("\n".join(turns.texts(row)), end="\n\n---\n\n")
    print({key: value for key, value in measured.items() if key not in ("rows", "xray", "costs")})
    for name, gauge in measured["xray"]["gauges"].items():
        print(f"  {gauge['light']:6} {name:18} {gauge['value']:10.4f}")
    print(*measured["costs"], sep="\n")
    return 0


def request(options) -> dict:
    """The options as core.synth.synth_jobs.create takes them."""
    names = ("recipe", "model", "name", "seed", "endpoint", "endpoint_model", "writer", "corpus", "parallel")
    names += ("judge_endpoint", "judge_model", "judge_writer", "embedder")
    values = {name: getattr(options, name) for name in (*names, *OPTIONS)}
    values["personas"] = prompts.read_personas(recipes.read_text(options.personas)) if options.personas else []
    values["topics"] = recipes.read_text(options.topics).splitlines() if options.topics else None
    return values | {"out": str(options.out.absolute()) if options.out else None}


def _make(options) -> int:
    """Run a job in this process, or go on with the one that an earlier call of the same command left."""
    wanted = request(options)
    directory = options.out and options.out.absolute().with_name(f".{options.out.name}.synth")
    if not _can_resume(directory, options.out, wanted):
        directory = synth_jobs.create(wanted, directory)
    elif not options.out.exists():
        synth_jobs.change(directory, wanted, again=options.again)
    jobs.forget_requests(directory)
    signal.signal(signal.SIGTERM, lambda *_: jobs.ask(directory, "pause"))
    began = time.perf_counter()
    ending = worker.run(directory)
    last = {key: value for key, value in events.last(directory).items() if key not in ("event", "time")}
    result = {"state": ending, "job": str(directory), **last, "wall_seconds": round(time.perf_counter() - began, 2)}
    if options.json:
        print(json.dumps(result, ensure_ascii=False))
    elif ending == "failed":
        print(last["message"], file=sys.stderr)
    else:
        print(f"{ending}: {last.get('rows')} rows, {last.get('tokens')} tokens, {last.get('dropped')} copies dropped")
        print(last.get("message") or PAUSES.get(last.get("reason"), "") or last.get("corpus") or "")
    return 0 if ending in ("finished", "stopped") else 1


def _can_resume(directory: Path | None, out: Path | None, wanted: dict) -> bool:
    """Whether an earlier call of the same command left a job to go on with.

    Raises:
        NameTaken: when the place is that of another corpus; OtherJobThere: when another job has rows there.
    """
    if directory is None:
        return False
    left = (directory / "job.json").exists()
    same = left and _is_same(jobs.request(directory), wanted)
    if out.exists() and not same:
        raise errors.named("NameTaken", path=out)
    if same and (out.exists() or jobs.state(directory) not in ("finished", "stopped")):
        return True
    rows = directory / "rows.jsonl"
    if left and not same and rows.exists() and rows.stat().st_size:
        raise errors.named("OtherJobThere", path=directory)
    if left:  # it has nothing to lose, or its corpus was deleted since
        jobs.delete(directory)
    return False


def _is_same(old: dict, wanted: dict) -> bool:
    recipe = synth_jobs.with_replay(wanted)
    new = wanted | {"recipe": recipe.name, "hash": recipe.hash}
    keys = ("recipe", "hash", "tokens", "seed", "shard", "model", "writer", "corpus", "topics", "personas", "pack")
    return all(old.get(key) == new.get(key) for key in keys) and bool(old.get("endpoint")) == bool(new.get("endpoint"))


if __name__ == "__main__":
    sys.exit(main())
