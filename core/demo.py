"""The whole of Soulsmith without a page: `python -m core.demo --json`.

Starter model, sample corpus, a queued QLoRA run, and a prompt it has not seen answered by base and adapter. Needs the
package registry on first use, about 800 MB of disk, and under five minutes on two cores. The page runs it as a job.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from core import errors, events, jobs, paths
from core.chat import chat_models, reply_gpu, types
from core.corpus import corpus
from core.errors import ErrorElsewhere, UserError
from core.models import models
from core.runs import runs, store
from core.training import mixing
from core.training.config import TrainConfig

SAMPLE = "lighthouse-en"
STEPS = 48
STAGES = ("model", "corpus", "training", "chat")


def latest() -> Path | None:
    """The newest demo that the page has started."""
    return next(iter(jobs.listed(paths.demos())), None)


def start() -> None:
    """Start the demo as a job, unless one is at work; it takes the place of the one before."""
    if latest() and jobs.state(latest()) in jobs.ACTIVE:
        return
    for directory in jobs.listed(paths.demos()):
        jobs.delete(directory)
    jobs.start(jobs.create(paths.demos(), {"name": "demo"}), "core.demo", reply_gpu.environment())


def run(report: Callable, method: str = "qlora", steps: int = STEPS, look: Callable[[], None] = lambda: None) -> dict:
    """Do the job and return its figures.

    `report(event, **values)` is told "stage" (one of STAGES, with bytes done and in all of a download) and "step" (those
    of the run); what `look()` raises, which is called all the time, ends the demo and its run.

    Raises:
        ErrorElsewhere: of a run that failed.
    """
    report("stage", stage="model")
    models.prepare(models.STARTER, lambda what, done, total: report("stage", stage="model", done=done, total=total))
    report("stage", stage="corpus")
    config = TrainConfig(
        base_model=models.STARTER,
        corpus=sample_corpus(),
        method=method,
        max_steps=steps,
        eval_steps=steps,
        **models.suggested(models.STARTER),
    )
    run_id = runs.start(config, "demo")
    try:
        report("stage", stage="training")
        for event in jobs.follow(paths.run(run_id), look):
            if event["event"] == "step":
                shown = ("step", "max_steps", "loss", "tokens_per_second", "seconds_left")
                report("step", **{name: event.get(name) for name in shown})
    except BaseException:
        with suppress(UserError):
            runs.stop(run_id)
        raise
    row, curves = store.sync(run_id), store.curves(run_id)
    if row["state"] != "finished":
        message = row["error_message"] or f"The run ended as {row['state']}."
        raise ErrorElsewhere(row["error"] or "", json.loads(row["error_values"] or "null"), message)
    report("stage", stage="chat")
    return {
        "run": run_id,
        "status": row["state"],
        "base_eval_loss": row["base_eval_loss"],
        "tuned_eval_loss": row["eval_loss"],
        **ab(run_id),
        "tokens_per_second": round(sum(s["tokens_per_second"] for s in curves["steps"]) / len(curves["steps"]), 1),
        "peak_memory_gib": row["memory_gib"],
    }


def sample_corpus() -> str:
    """The id of the corpus made of the bundled English sample; made once."""
    for card in corpus.listed():
        if card["name"] == SAMPLE:
            return card["id"]
    sample = next(sample for sample in corpus.samples() if sample["id"] == SAMPLE)
    return corpus.create([sample["path"]], SAMPLE)["id"]


def add_recorded_runs() -> list[str]:
    """Put recorded runs and the corpus that they learned from into the data directory; the ids of the runs.

    They were trained for real; what they wrote about themselves is bundled, their weights are not.
    """
    sample_corpus()
    recorded = sorted((paths.assets() / "recorded").iterdir())
    for source in recorded:
        if not paths.run(source.name).exists():
            shutil.copytree(source, paths.run(source.name))
    return [source.name for source in recorded]


def ab(run_id: str) -> dict:
    """The same prompt, settings and seed to both columns.

    Nothing is picked for its reply: the prompt is the first of the rows that the run held out, sampled as a chat is. The
    likeliest tokens alone would have so small a model go round in circles.
    """
    from core.chat import generation  # noqa: PLC0415 - imports torch, and a run that fails comes first

    prompt = question(run_id)
    conversation = [{"role": "user", "content": prompt}]
    asked = {name: types.Question(id, conversation) for name, id in chat_models.ids_of_run(run_id).items()}
    *_, columns = generation.replies(asked, types.Sampling())
    return {"prompt": prompt} | {f"{name}_reply": whole(columns[name]) for name in (types.BASE, types.TUNED)}


def question(run_id: str) -> str:
    """The first message of the first row that a run held out."""
    config = runs.config(run_id)
    rows = mixing.held_out_rows(map(runs.corpus_path, mixing.corpora(config)), config.validation_share)
    return next(turn["content"] for turn in rows[0]["messages"] if turn["role"] == "user")


def whole(reply: types.Reply) -> str:
    """A reply as far as its sentences are whole, with an ellipsis where it was cut off."""
    text = reply.text.strip()
    if reply.finish_reason == "stop":
        return text
    end = max(text.rfind(mark) for mark in ".!?\n")
    return f"{text[: end + 1].rstrip() or text} …"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m core.demo", description=__doc__.split("\n")[0])
    parser.add_argument("--method", choices=["lora", "qlora"], default="qlora")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"optimizer steps, default {STEPS}")
    parser.add_argument("--home", help="data directory; default: SOULSMITH_HOME, or soulsmith/ in your home")
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    parser.add_argument("--job", metavar="DIRECTORY", help=argparse.SUPPRESS)  # how the page starts it
    args = parser.parse_args()
    if args.home:
        os.environ["SOULSMITH_HOME"] = args.home
    if args.job:
        jobs.main(parser, args.job, work)
    try:
        result = run(events.echo, args.method, args.steps)
    except UserError as error:
        sys.exit(errors.tell(error, args.json))
    print(json.dumps(result, ensure_ascii=False, indent=None if args.json else 2))


def work(directory: Path, request: dict, report: Callable) -> dict:
    """The demo as the work of a job."""
    return run(report, look=lambda: jobs.end_if_requested(directory))


if __name__ == "__main__":
    main()
