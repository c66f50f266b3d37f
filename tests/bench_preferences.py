"""DPO and KTO beside TRL: `python -m tests.bench_preferences [--loss kto] [--rows N] [--json]`.

The same pairs, weights, adapter, optimizer and number of pairs a step go to core/training and to TRL's trainer as it
comes (the reference is a second forward pass at every step) and with its reference computed beforehand, each job in a
process of its own, a step each in turn (tests/bench_train.py). Seconds of steps, seconds with the pass before the first
step, and peak memory.
"""

import argparse
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from core import paths
from core.models import models
from core.training import corpus_rows, devices, model_loading, preferences, tokenizer_loading, training_loop
from core.training.config import TrainConfig
from tests import bench_train


@dataclass(frozen=True)
class Job(bench_train.Job):
    loss: str = "dpo"
    beforehand: bool = False
    gradient_checkpointing: bool = True  # as TRL's configs have it
    program: str = "tests.bench_preferences"

    def config(self, folder: Path) -> TrainConfig:
        more = {"task": "preference", "preference_loss": self.loss, "learning_rate": 5e-5, "logging_steps": 1}
        return replace(super().config(folder), **more)


def write_pairs(folder: Path, count: int) -> None:
    """Pairs out of the bundled sample: a question with its own reply and with two others."""
    chats = [row["messages"] for row in corpus_rows.read_rows(paths.assets() / "samples" / "lighthouse-en.jsonl")]
    draw, lines = random.Random(1), []
    for _ in range(count):
        chat, *others = draw.sample(chats, draw.randint(2, 4))
        more = " ".join(other[-1]["content"] for other in others)
        pair = {"messages": chat[:-1], "chosen": chat[-1:], "rejected": [{"role": "assistant", "content": more}]}
        lines.append(json.dumps(pair, ensure_ascii=False) + "\n")
    (folder / "train.jsonl").write_text("".join(lines), encoding="utf-8")


def measure(job: Job, folder: Path) -> dict:
    """Train one job and return its figures."""
    import transformers

    seen, step, train = {}, bench_train._in_turn(), transformers.Trainer.train

    def timed(trainer, *args, **kwargs):
        trainer.add_callback(step)
        result = train(trainer, *args, **kwargs)
        seen.update(step_seconds=step.seconds / trainer.state.global_step, steps=trainer.state.global_step)
        return result

    transformers.Trainer.train = timed
    before = (by_us if job.by == "ours" else by_trl)(job, job.config(folder), folder / "out")
    return {
        **seen,
        "before_seconds": before,
        "whole_seconds": before + step.seconds,
        "peak_memory_gib": devices.peak_memory_gib(),
    }


def by_us(job: Job, config: TrainConfig, out: Path) -> float:
    add, took = preferences.add_reference, []

    def timed(*args):
        began = time.monotonic()
        done = add(*args)
        took.append(time.monotonic() - began)
        return done

    preferences.add_reference = timed
    training_loop.train(config, out, report=lambda *_, **__: None)
    return took[0]


def by_trl(job: Job, config: TrainConfig, out: Path) -> float:
    """TRL with the settings of the config; whatever the config does not say is TRL's default."""
    import datasets
    import trl
    from peft import LoraConfig

    kind = devices.precision(config)
    rows = [
        {"prompt": row["messages"], "chosen": row["chosen"], "rejected": row["rejected"]}
        for row in corpus_rows.read_rows(config.corpus)
    ]
    trainer, settings = {"dpo": (trl.DPOTrainer, trl.DPOConfig), "kto": (trl.KTOTrainer, trl.KTOConfig)}[job.loss]
    began = time.monotonic()
    made = trainer(
        model=model_loading.load_base(config),
        args=settings(
            output_dir=str(out),
            # KTO takes the two sides of a pair as rows of their own.
            per_device_train_batch_size=config.batch_size * (2 if job.loss == "kto" else 1),
            num_train_epochs=config.epochs,
            max_length=config.max_length,
            learning_rate=config.learning_rate,
            lr_scheduler_type=config.lr_scheduler_type,
            warmup_steps=0,
            optim=config.optim,
            bf16=kind == "bf16",
            use_cpu=True,
            gradient_checkpointing=config.gradient_checkpointing,
            precompute_ref_log_probs=job.beforehand,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=config.seed,
        ),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer_loading.load_tokenizer(config),
        peft_config=LoraConfig(
            r=config.lora_rank,
            lora_alpha=config.lora_alpha,
            lora_dropout=config.lora_dropout,
            target_modules=config.target_modules,
            task_type="CAUSAL_LM",
        ),
    )
    before = time.monotonic() - began if job.beforehand else 0.0
    made.train()
    return before


def bench(jobs: list[Job], rows: int, repeats: int, seconds: float) -> dict:
    found: dict[str, list[dict]] = {job.name: [] for job in jobs}
    with tempfile.TemporaryDirectory(prefix="bench-preferences-") as scratch:
        folder = Path(scratch) / "starter"
        folder.mkdir()
        shutil.copytree(models.prepare(models.STARTER), folder / "model")
        write_pairs(folder, rows)
        for _ in range(repeats):
            for job, figures in zip(jobs, bench_train.run(jobs, folder, seconds), strict=True):
                found[job.name].append(figures)
                print(job.name, figures, file=sys.stderr, flush=True)
    ratios = {}
    for job in jobs[1:]:
        both = [
            (ours, theirs)
            for ours, theirs in zip(found[jobs[0].name], found[job.name], strict=True)
            if "trouble" not in ours | theirs
        ]
        for figure in ("step_seconds", "whole_seconds", "peak_memory_gib") if both else ():
            shares = [round(ours[figure] / theirs[figure], 3) for ours, theirs in both]
            ratios[f"{figure}_ours_to_{job.name}"] = statistics.median(shares)
    return {"rows": rows, "jobs": found} | ratios


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench_preferences", description=__doc__.split("\n\n")[0])
    parser.add_argument("--loss", choices=["dpo", "kto"], default="dpo")
    parser.add_argument("--rows", type=int, default=16, help="pairs, four a step")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--seconds", type=int, default=330, help="after which what is not done is given up")
    parser.add_argument("--json", action="store_true", help="print one JSON object on one line")
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        print("\n" + json.dumps(measure(Job(**arguments.job), arguments.folder)))
        return
    loss = arguments.loss
    jobs = [
        Job(f"ours {loss}", "ours", loss=loss),
        Job(f"trl {loss}", "trl", loss=loss),
        Job(f"trl {loss} beforehand", "trl", loss=loss, beforehand=True),
    ]
    found = bench(jobs, arguments.rows, arguments.repeats, arguments.seconds)
    print(json.dumps(found, indent=None if arguments.json else 2))


if __name__ == "__main__":
    main()
