"""Ask from the command line, or hold the weights for the pages: `python -m core.chat`."""

import argparse
import json
import sys
from contextlib import nullcontext

from core import errors
from core.chat import chat, chat_models, chats, server
from core.chat.types import TUNED, Question, Reply, Sampling
from core.errors import UserError
from core.runs import gpu_access, runs


def main() -> None:
    args = parse()
    if args.serve:
        server.Server().serve()
        return
    if args.list:
        listed = [{"id": model.id, "kind": model.kind, "title": model.title} for model in chat_models.listed()]
        print(json.dumps(listed, ensure_ascii=False, indent=None if args.json else 2))
        return
    if args.chats:
        found, _ = chats.listed(args.find, most=-1)
        print(json.dumps(found, ensure_ascii=False, indent=None if args.json else 2))
        return
    try:
        with nullcontext() if args.cpu else gpu_access.guest():
            columns = answers(args)
    except UserError as error:
        sys.exit(errors.tell(error, args.json))
    if args.json:
        print(json.dumps({name: vars(reply) for name, reply in columns.items()}, ensure_ascii=False))
        return
    for name, reply in columns.items():
        print(f"[{name}] {reply.text}\n")


def answers(args) -> dict[str, Reply]:
    """The replies of all that were asked, by name."""
    from core.chat import generation  # noqa: PLC0415 - imports torch, which --serve does with the first question

    if args.run and args.run not in runs.listed():
        raise runs.RunGone(run=args.run)
    ids = {id: id for id in args.who}
    if args.run and not args.who:
        of_run = chat_models.ids_of_run(args.run)
        ids = of_run if args.ab else {TUNED: of_run[TUNED]}
    messages = [{"role": "system", "content": args.system}] if args.system else []
    messages.append({"role": "user", "content": args.prompt})
    questions = {name: Question(id, messages) for name, id in ids.items()}
    sampling = Sampling(**{name: getattr(args, name) for name in vars(Sampling())})
    *_, columns = generation.replies(questions, sampling, on_cpu=args.cpu)
    return columns


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m core.chat", description=chat.__doc__.split("\n")[0])
    parser.add_argument("--run", help="id of a run, as printed by python -m core.runs list")
    parser.add_argument("--who", action="append", default=[], metavar="ID", help="who replies, as --list prints them")
    parser.add_argument("--prompt")
    parser.add_argument("--system", default="", help="system prompt")
    parser.add_argument("--ab", action="store_true", help="the base's reply as well")
    parser.add_argument("--cpu", action="store_true", help="leave the graphics card alone")
    parser.add_argument("--list", action="store_true", help="print all that can reply")
    parser.add_argument("--chats", action="store_true", help="print the kept conversations of the Playground")
    parser.add_argument("--find", default="", metavar="WORDS", help="with --chats: those with all of these words")
    parser.add_argument("--serve", action="store_true", help="hold the weights for the pages, until nobody asks")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    for name, default in vars(Sampling()).items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(default), default=default)
    args = parser.parse_args()
    if not (args.serve or args.list or args.chats or (args.prompt and (args.run or args.who))):
        parser.error("--prompt and --run or --who are needed")
    return args


if __name__ == "__main__":
    main()
