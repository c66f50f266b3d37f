"""The whole of Soulsmith without a page: `python -m core.demo --json`.

Starter model, sample corpus, a queued QLoRA run, and one prompt answered by the base and by the adapter. Needs the
package registry on first use, about 800 MB of disk, and under five minutes on two cores.
"""

import argparse
import json
import os
import sys

from core import errors, jobs, models, paths
from core.chat import chat_models, types
from core.corpus import corpus
from core.errors import UserError
from core.runs import runs, store
from core.training.config import TrainConfig

SAMPLE = "lighthouse-en"
PROMPT = "I can't sleep. What should I do?"
STEPS = 48


def run(method: str = "qlora", steps: int = STEPS, tell=lambda line: None) -> dict:
    """Do the job and return its figures; raises the trouble of a run that failed."""
    tell("model")
    models.prepare(models.STARTER, lambda stage, done, total: tell(f"{stage} {done / 1e6:.0f}/{total / 1e6:.0f} MB"))
    tell("corpus")
    config = TrainConfig(
        base_model=models.STARTER,
        corpus=sample_corpus(),
        method=method,
        max_steps=steps,
        eval_steps=steps,
        **models.suggested(models.STARTER),
    )
    run_id = runs.start(config, "demo")
    for event in jobs.follow(paths.run(run_id)):
        tell(json.dumps(event, ensure_ascii=False))
    row, curves = store.sync(run_id), store.curves(run_id)
    if row["state"] != "finished":
        raise UserError(message=row["error_message"] or f"The run ended as {row['state']}.")
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


def ab(run_id: str) -> dict:
    """The same prompt, settings and seed to both columns."""
    from core.chat import generation  # noqa: PLC0415 - imports torch, and a run that fails comes first

    conversation = [{"role": "user", "content": PROMPT}]
    sampling = types.Sampling(temperature=0, max_new_tokens=90)
    asked = {name: types.Question(id, conversation) for name, id in chat_models.ids_of_run(run_id).items()}
    *_, columns = generation.replies(asked, sampling)
    return {"prompt": PROMPT, "base_reply": columns[types.BASE].text, "tuned_reply": columns[types.TUNED].text}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m core.demo", description=__doc__.split("\n")[0])
    parser.add_argument("--method", choices=["lora", "qlora"], default="qlora")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"optimizer steps, default {STEPS}")
    parser.add_argument("--home", help="data directory; default: SOULSMITH_HOME, or soulsmith/ in your home")
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    args = parser.parse_args()
    if args.home:
        os.environ["SOULSMITH_HOME"] = args.home
    try:
        result = run(args.method, args.steps, lambda line: print(line, file=sys.stderr, flush=True))
    except UserError as error:
        if args.json:  # the page says it in its own language
            sys.exit(json.dumps(errors.to_dict(error), ensure_ascii=False))
        sys.exit(str(error))
    print(json.dumps(result, ensure_ascii=False, indent=None if args.json else 2))


if __name__ == "__main__":
    main()
