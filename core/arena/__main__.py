"""Matches from the command line, and the process of a match in the background: `python -m core.arena`."""

import argparse
from pathlib import Path

from core import arena, jobs, paths
from core.arena import judging, matches, numbers, verdict, votes


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m core.arena", description=arena.__doc__.split("\n")[0])
    parser.add_argument("command", nargs="?", choices=["new", "list", "show", "pairs", "judge"])
    parser.add_argument("match", nargs="?", help="id of a match, as printed by list")
    parser.add_argument("--a", help="who stands for a, as python -m core.chat --list prints them")
    parser.add_argument("--b", help="who stands for b")
    parser.add_argument("--prompts", default="en", help="a set of prompts, default en")
    parser.add_argument("--endpoint", help="for judge: the address of an OpenAI-compatible server")
    parser.add_argument("--model", default="", help="for judge: the model's name there")
    parser.add_argument("--out", type=Path, help="for pairs: the JSONL file to write")
    parser.add_argument("--preferences", metavar="NAME", help="for pairs: the corpus of preference pairs to make")
    jobs.command(parser, _command, _work)


def _work(directory: Path, request: dict, report) -> dict:
    return (judging.work if request.get("judge") else matches.answer)(directory, request, report)


def _command(args, parser):
    if args.command == "new":
        if not (args.a and args.b):
            parser.error("new needs --a and --b")
        return {"match": matches.create(args.a, args.b, args.prompts).name}
    if args.command == "list":
        return [
            {"match": path.name, "state": jobs.state(path), **jobs.request(path)["titles"]}
            for path in jobs.listed(paths.arena())
        ]
    if args.command == "pairs" and args.preferences:
        card = votes.make_corpus(args.preferences, args.match)
        return {name: card[name] for name in ("id", "name", "pairs", "reasons")}
    if args.command == "pairs":
        return {"pairs": votes.write_pairs(args.out, args.match)} if args.out else votes.pairs(args.match)
    if not args.match:
        parser.error(f"{args.command} needs the id of a match")
    if args.command == "judge":
        if not args.endpoint:
            parser.error("judge needs --endpoint and --model")
        return {"job": judging.start(args.match, args.endpoint, args.model).name}
    path = jobs.find(paths.arena(), args.match)
    voters = {voter: verdict.of(votes.of_match(args.match, voter)) for voter in votes.voters(args.match)}
    shown = {"match": args.match, "state": jobs.state(path), "votes": voters}
    return shown | {"numbers": numbers.of(path, jobs.request(path))}


if __name__ == "__main__":
    main()
