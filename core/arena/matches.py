"""Matches: two models answer a set of prompts in the background; each prompt's sides are shuffled once for all.

A match is a job's directory: job.json holds the request and the prompts, answers.jsonl grows a line a prompt, and
measured.json holds the held-out loss of both.
"""

import hashlib
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from core import errors, files, jobs, paths
from core.arena import prompts as sets
from core.chat import chat, chat_models, reply_gpu
from core.chat.types import Question, Sampling
from core.corpus import turns
from core.errors import ErrorElsewhere, UserError
from core.runs import gpu_access, runs
from core.training import corpus_rows, mixing

SIDES = ("left", "right")
MOST_READ_BYTES = 8_000_000  # of corpora, for a few prompts of their held-out rows: about a second
MOST_LETTERS = 300  # of such a prompt
WAIT_SECONDS = 1.0  # between two looks whether the card is free


def create(a: str, b: str, prompt_set: str, sampling: dict | None = None) -> Path:
    """Make a match of two chat models, by their ids, over a set of prompts, and start answering."""
    if a == b:
        raise errors.named("SameContestant")
    named = [(chat_models.find(id).title, id) for id in (a, b)]
    titles = dict(zip("ab", (title for title, _ in runs.disambiguate(named)), strict=True))
    name = f"{titles['a']} / {titles['b']} · {sets.title(prompt_set)}"
    request = {"name": name, "a": a, "b": b, "titles": titles, "set": prompt_set, "prompts": sets.load(prompt_set)}
    request |= {"sampling": vars(Sampling(**(sampling or {}))), "system": "", "on_cpu": False}
    directory = jobs.create(paths.arena(), request)
    jobs.start(directory, "core.arena", reply_gpu.environment())
    return directory


def answer(directory: Path, request: dict, report) -> dict:
    """Answer what is not answered yet, both sides of a prompt at a time; the work of the match's process."""
    done = {row["prompt"] for row in answers(directory)}
    sampling, count = Sampling(**request["sampling"]), len(request["prompts"])
    system = [{"role": "system", "content": request["system"]}] if request["system"] else []
    for index, prompt in enumerate(request["prompts"]):
        if index in done:
            continue
        report("progress", done=len(done), total=count)
        messages = [*system, {"role": "user", "content": prompt["prompt"]}]
        asked = {side: Question(request[side], messages) for side in ("a", "b")}
        replies = _once_free(
            directory, request, report, lambda asked=asked: _last_of(directory, asked, sampling, request)
        )
        row = {"prompt": index} | {side: vars(reply) for side, reply in replies.items()}
        with (directory / "answers.jsonl").open("ab") as lines:
            lines.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        done.add(index)
    report("progress", done=len(done), total=count)
    if not (directory / "measured.json").exists():
        report("measuring")
        _once_free(directory, request, report, lambda: measure(directory, request))
    return {"answers": len(done)}


def _last_of(directory: Path, asked: dict[str, Question], sampling: Sampling, request: dict) -> dict:
    for replies in chat.talk(asked, sampling, on_cpu=request["on_cpu"]):  # noqa: B007 - the last one is the whole reply
        jobs.end_if_requested(directory)  # in the middle of a reply too: Stop stops
    return replies


def _once_free(directory: Path, request: dict, report, ask: Callable):
    """What `ask()` returns, called when no run has the card, and once more if one took it in the middle."""
    while True:
        if not request["on_cpu"] and gpu_access.busy():
            report("waiting")
            while gpu_access.busy() and not jobs.end_request(directory):
                time.sleep(WAIT_SECONDS)
            report("resumed")
        try:
            return ask()
        except gpu_access.CardBusy:
            continue
        except ErrorElsewhere as error:  # the same from the chat's own process
            if error.name not in ("ChatClosed", "CardBusy"):
                raise


def measure(directory: Path, request: dict) -> None:
    """Write the held-out loss of both models, over the rows that their run held out, into measured.json."""
    rows, losses = held_out_rows([request["a"], request["b"]]), {}
    for side in ("a", "b"):
        jobs.end_if_requested(directory)
        look = partial(jobs.end_if_requested, directory)
        measured = chat.measure(request[side], rows, look) if rows else {"loss": None, "rows": 0}
        losses[side] = {"held_out_loss": measured["loss"], "held_out_rows": measured["rows"]}
    files.write_json(directory / "measured.json", losses)


def held_out_rows(ids: list[str]) -> list[dict]:
    """The rows that the first run among the models held out of all its corpora; none if one of them is gone."""
    for id in ids:
        try:
            if config := chat_models.find(id).config:
                places = map(runs.corpus_path, mixing.corpora(config))
                return list(map(turns.as_chat, mixing.held_out_rows(places, config.validation_share)))
        except (UserError, OSError, ValueError):
            continue
    return []


def held_out_prompts(model_id: str, count: int) -> list[str]:
    """Some first messages of the rows that a run held out, spread over them; none where its corpora take long to read."""
    try:
        config = chat_models.find(model_id).config
        files_of = (
            [corpus_rows.corpus_files(runs.corpus_path(name)) for name in mixing.corpora(config)] if config else []
        )
        if sum(file.stat().st_size for files_of_one in files_of for file in files_of_one) > MOST_READ_BYTES:
            return []
    except (UserError, OSError):
        return []
    rows = held_out_rows([model_id]) if files_of else []
    firsts = (next((turn["content"] for turn in row.get("messages", ()) if turn["role"] == "user"), "") for row in rows)
    prompts = list(dict.fromkeys(text.strip() for text in firsts if 0 < len(text.strip()) <= MOST_LETTERS))
    return prompts[:: max(1, len(prompts) // count)][:count]


def answers(directory: Path) -> list[dict]:
    """The whole lines of answers so far: {"prompt", "a": reply, "b": reply}."""
    try:
        whole = (directory / "answers.jsonl").read_bytes().rpartition(b"\n")[0]
    except OSError:
        return []
    return [row for row in files.parsed(whole) if {"prompt", "a", "b"} <= row.keys()]


def sides(match_id: str, prompt: int) -> str:
    """Which models stand on the left and on the right of a prompt, "ab" or "ba": the same whoever looks and when."""
    return ("ab", "ba")[hashlib.sha256(f"{match_id} {prompt}".encode()).digest()[0] % 2]
