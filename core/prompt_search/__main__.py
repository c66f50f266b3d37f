"""Searches for a better prompt from the command line, and the process of one: `python -m core.prompt_search`."""

import argparse
from dataclasses import replace

from core import jobs, paths
from core.chat import profiles
from core.prompt_search import searches
from core.runs import runs
from core.training.config import TrainConfig


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m core.prompt_search", description=searches.__doc__.split("\n")[0])
    parser.add_argument("command", nargs="?", choices=["new", "list", "show", *searches.ASKED])
    parser.add_argument("search", nargs="?", help="id of a search, as printed by list")
    parser.add_argument("--run", help="for new: the base, the corpus and the held-out rows of this run")
    parser.add_argument("--base-model", help="for new without --run: starter, a directory, a GGUF file or a hub id")
    parser.add_argument("--corpus", help="for new without --run: id of a corpus, or a JSONL file's absolute path")
    parser.add_argument("--profile", help="for new: a profile whose prompt is to be beaten, by its id")
    parser.add_argument("--candidates", type=int, default=searches.CANDIDATES, help="half instructions, half examples")
    parser.add_argument("--rows", type=int, default=searches.ROWS, help="that compare the last two candidates")
    parser.add_argument("--seed", type=int, help="of the choice of rows and examples")
    jobs.command(parser, _command, _work)


def _work(directory, request: dict, report) -> dict:
    from core.prompt_search import search  # noqa: PLC0415 - it imports torch, which only the job itself needs

    return search.work(directory, request, report)


def _command(args, parser):
    if args.command == "new":
        return _new(args, parser)
    if args.command == "list":
        return [
            {"search": path.name, "state": jobs.state(path), "name": jobs.request(path)["name"]}
            for path in jobs.listed(paths.prompt_searches())
        ]
    if not (args.command and args.search):
        parser.error("a command and the id of a search are needed")
    directory = jobs.find(paths.prompt_searches(), args.search)
    if args.command == "show":
        return searches.progress(directory)
    searches.ASKED[args.command](directory)
    state = "deleted" if args.command == "delete" else jobs.state(directory)
    return {"search": args.search, "state": state}


def _new(args, parser) -> dict:
    if args.run:
        config = runs.config(args.run)
    elif args.base_model and args.corpus:
        config = TrainConfig(base_model=args.base_model, corpus=args.corpus)
    else:
        parser.error("new needs --run, or --base-model and --corpus")
    if args.seed is not None:
        config = replace(config, seed=args.seed)
    own = profiles.load(args.profile) if args.profile else None
    prompt = {"system_prompt": own.system_prompt, "examples": own.examples} if own else {}
    directory = searches.create(config, candidates=args.candidates, rows=args.rows, **prompt)
    searches.start(directory)
    return {"search": directory.name}


if __name__ == "__main__":
    main()
