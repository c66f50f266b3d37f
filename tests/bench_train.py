"""Training beside TRL: `python -m tests.bench_train [--quick] [--gpu] [--json] [--out DIR]`.

The same rows, weights, adapter, optimizer and number of rows a step go to core/training and to TRL's SFTTrainer, each
job in a process of its own: useful tokens a second (tokens of rows; padding is not counted), peak memory, and the loss
on held-out rows, measured by one function for all. Jobs that are compared take their steps in turn, a step each, so that
whatever else the machine does slows all of them down alike; the time of a step is from its batch to its new weights.
`--gpu` takes random weights in the shapes of Qwen2.5, one job after the other: a card holds one of them.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from core import paths
from core.hardware import hardware
from core.models import models
from core.training import batching, corpus_rows, devices, model_loading, tokenizer_loading, training_loop
from core.training.config import TrainConfig
from tests.conftest import encode_rows

ROOT = Path(__file__).parents[1]
JOB_SECONDS = 480
TURN = "turn of "  # what a job says when it wants to take a step, or has taken one
QUICK_MINUTES = 8.5  # of all jobs of --quick together; what is not done by then is given up
HELD_OUT = 16


PAIRS = {
    "default": ("ours, checkpointed", "trl default"),
    "packed": ("ours packed", "trl packed"),
    "default_against_ours_as_it_comes": ("ours", "trl default"),
}


@dataclass(frozen=True)
class Job:
    """One training: by whom, and how."""

    name: str
    by: str  # ours, trl, unsloth
    packing: bool = False
    gradient_checkpointing: bool = False
    method: str = "lora"
    max_length: int = 512
    model: str = "starter"
    program: str = "tests.bench_train"  # which trains it in a process of its own

    def config(self, folder: Path) -> TrainConfig:
        """What is common to all who train, as the recipe's config."""
        on_card = self.model != "starter"
        return TrainConfig(
            base_model=str(folder / "model"),
            corpus=str(folder / "train.jsonl"),
            method=self.method,
            task="text" if on_card else "chat",
            max_length=self.max_length,
            packing=self.packing,
            batch_size=2 if on_card else 4,
            epochs=1.0,
            learning_rate=2e-4 if on_card else 1e-3,
            lora_dropout=0.0,
            lr_scheduler_type="linear",
            warmup_ratio=0.0,
            precision="auto" if on_card else "bf16" if hardware.processor_has_bf16() else "fp32",
            gradient_checkpointing=self.gradient_checkpointing,
            validation_share=0,
            eval_steps=10_000,
        )


def jobs(kind: str) -> list[Job]:
    """The jobs of --quick, of --gpu, or all on a processor."""
    if kind == "gpu":
        wanted = []
        for model, length in (("1.5B", 2048), ("1.5B", 4096), ("7B", 2048), ("7B", 4096)):
            for method in ("qlora", "lora"):
                for by in ("ours", "trl", "unsloth"):
                    name = f"{by} {model} {method} {length}"
                    wanted.append(Job(name, by, True, True, method, length, model))
        return wanted
    quick = [  # those that are compared first: a slow machine may not come to the last one
        Job("ours, checkpointed", "ours", gradient_checkpointing=True),
        Job("trl default", "trl", gradient_checkpointing=True),  # SFTConfig's own default
        Job("ours packed", "ours", packing=True),
        Job("trl packed", "trl", packing=True),
        Job("ours", "ours"),
    ]
    if kind == "quick":
        return quick
    more = [
        Job("trl, not checkpointed", "trl"),
        Job("ours packed, checkpointed", "ours", packing=True, gradient_checkpointing=True),
        Job("trl packed, checkpointed", "trl", packing=True, gradient_checkpointing=True),
    ]
    return quick + more


# ---------------------------------------------------------------------------------------------------------------------
# Rows and weights


def write_rows(folder: Path, count: int) -> None:
    """Chats of one to four exchanges out of the bundled sample: few are long and most are short, as people chat."""
    sample = [row["messages"] for row in corpus_rows.read_rows(paths.assets() / "samples" / "lighthouse-en.jsonl")]
    draw = random.Random(1)
    rows = []
    for _ in range(count + HELD_OUT):
        turns = min(4, 1 + int(draw.expovariate(0.8)))
        rows.append({"messages": [message for chat in draw.sample(sample, turns) for message in chat]})
    for name, part in (("train", rows[:count]), ("held_out", rows[count:])):
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in part]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


def make(model: str, folder: Path, rows: int) -> None:
    """Put weights, training rows and held-out rows into a folder."""
    folder.mkdir(parents=True)
    if model == "starter":
        shutil.copytree(models.prepare(models.STARTER), folder / "model")
        write_rows(folder, rows)
        return
    from tests import bench_gpu

    bench_gpu.make(model, folder, 4096)
    draw = random.Random(1)
    texts = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz ", k=draw.randint(500, 12_000))) for _ in range(rows)]
    for name, part in (("train", texts), ("held_out", texts[:2])):
        lines = [json.dumps({"text": text}) + "\n" for text in part]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


# ---------------------------------------------------------------------------------------------------------------------
# In a process of its own


def measure(job: Job, folder: Path) -> dict:
    """Train one job and return its figures."""
    import transformers

    config, seen = job.config(folder), {}
    train, step = transformers.Trainer.train, _in_turn()

    def timed(trainer, *args, **kwargs):
        trainer.add_callback(step)
        result = train(trainer, *args, **kwargs)
        seen.update(seconds=step.seconds, model=trainer.model, steps=trainer.state.global_step)
        return result

    transformers.Trainer.train = timed
    {"ours": by_us, "trl": by_trl, "unsloth": by_unsloth}[job.by](config, folder / "out")
    peak = devices.peak_memory_gib()  # before the evaluation, which is the same for all
    tokenizer = tokenizer_loading.load_tokenizer(config)
    tokens = sum(len(row["input_ids"]) for row in encoded(config, folder / "train.jsonl", tokenizer))
    parameters = seen["model"].get_base_model().num_parameters()  # of 4-bit weights too, two of which share a byte
    seen.pop("model").save_pretrained(folder / "adapter")
    return {
        "useful_tokens_per_second": tokens / seen["seconds"],
        "seconds": seen["seconds"],
        "steps": seen["steps"],
        "tokens": tokens,
        "parameters": parameters,
        # Forward and backward through frozen weights: 2 + 2 operations a parameter and token; attention left out.
        "model_tflops": 4 * parameters * tokens / seen["seconds"] / 1e12,
        "peak_memory_gib": peak,
        "held_out_loss": held_out(config, folder, tokenizer),
    }


def _in_turn():
    """A callback that waits for its turn before each step, and adds up the seconds of the steps."""
    from transformers import TrainerCallback

    class InTurn(TrainerCallback):
        seconds = began = 0.0

        def on_step_begin(self, *_, **__):
            print(f"\n{TURN}begin", flush=True)
            sys.stdin.readline()
            self.began = time.monotonic()

        def on_step_end(self, *_, **__):
            devices.synchronize()
            self.seconds += time.monotonic() - self.began
            print(f"\n{TURN}end", flush=True)

    return InTurn()


def encoded(config: TrainConfig, rows: Path, tokenizer) -> list[dict]:
    return encode_rows(list(corpus_rows.read_rows(rows)), tokenizer, config)[0]


def held_out(config: TrainConfig, folder: Path, tokenizer) -> float:
    """The loss of a saved adapter, on a fresh base, by the stock path of transformers."""
    from peft import PeftModel

    model = PeftModel.from_pretrained(model_loading.load_base(config), folder / "adapter")
    return batching.held_out_loss(model, encoded(config, folder / "held_out.jsonl", tokenizer), 4)


def by_us(config: TrainConfig, out: Path) -> None:
    training_loop.train(config, out, report=lambda *_, **__: None)


def by_trl(config: TrainConfig, out: Path) -> None:
    """TRL with the settings of the config; whatever the config does not say is TRL's default."""
    import datasets
    import torch
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    tokenizer, kind = tokenizer_loading.load_tokenizer(config), devices.precision(config)
    # Without packing in the recipe's encoding: TRL packs by itself.
    plain = TrainConfig(**asdict(config) | {"packing": False})
    rows = [{key: row[key] for key in ("input_ids", "labels")} for row in encoded(plain, config.corpus, tokenizer)]
    SFTTrainer(
        model=model_loading.load_base(config),
        args=SFTConfig(
            output_dir=str(out),
            per_device_train_batch_size=config.batch_size,
            num_train_epochs=config.epochs,
            max_length=config.max_length,
            packing=config.packing,
            learning_rate=config.learning_rate,
            lr_scheduler_type=config.lr_scheduler_type,
            warmup_steps=config.warmup_ratio,
            optim=config.optim,
            bf16=kind == "bf16",
            fp16=kind == "fp16",
            gradient_checkpointing=config.gradient_checkpointing,
            use_cpu=not torch.cuda.is_available(),
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=config.seed,
        ),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=config.lora_rank,
            lora_alpha=config.lora_alpha,
            lora_dropout=config.lora_dropout,
            target_modules=config.target_modules,
            task_type="CAUSAL_LM",
        ),
    ).train()


def by_unsloth(config: TrainConfig, out: Path) -> None:
    """Unsloth's model in TRL's trainer, as its own notebooks do it; only where it is installed."""
    import unsloth

    model, _ = unsloth.FastLanguageModel.from_pretrained(
        config.base_model, max_seq_length=config.max_length, load_in_4bit=config.method == "qlora"
    )
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = unsloth.FastLanguageModel.get_peft_model(
        model, r=config.lora_rank, lora_alpha=config.lora_alpha, lora_dropout=0, target_modules=targets
    )
    base, model_loading.load_base = model_loading.load_base, lambda config: model
    import peft

    peft.LoraConfig = lambda **_: None  # the adapter is there already
    by_trl(config, out)
    model_loading.load_base = base


# ---------------------------------------------------------------------------------------------------------------------
# All jobs


class Running:
    """A job in a process of its own, which takes one step when it is told to."""

    def __init__(self, job: Job, folder: Path):
        # What a job writes is its own; weights and rows are shared.
        self.folder = folder.with_name(f"{folder.name} {job.name}")
        self.folder.mkdir()
        for shared in folder.iterdir():
            (self.folder / shared.name).symlink_to(shared)
        command = [sys.executable, "-m", job.program, "--job", json.dumps(asdict(job))]
        environment = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_WAIT_POLICY": "PASSIVE"}
        self.log = (self.folder / "log.txt").open("w+", encoding="utf-8")
        self.process = subprocess.Popen(
            [*command, "--folder", str(self.folder)],
            cwd=ROOT,
            env=os.environ | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        self.figures: dict | None = None

    def read(self) -> None:
        """Wait until it wants to take a step, has taken one, or is done."""
        for line in self.process.stdout:
            if line.startswith(TURN):
                return
            if line.startswith('{"'):  # TRL prints dicts of Python, which begin otherwise
                self.figures = json.loads(line)
        if self.process.wait() and not self.figures:
            self.log.seek(0)
            said = self.log.read().strip() or f"ended with {self.process.returncode}"
            self.figures = {"trouble": said.split("\n")[-1][:300]}

    def step(self) -> None:
        with suppress(BrokenPipeError):  # killed when its time was over
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        self.read()  # the end of its step
        self.read()  # the beginning of its next one, or of what comes after the last

    def end(self, trouble: str) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.log.close()
        self.figures = self.figures or {"trouble": trouble}
        shutil.rmtree(self.folder)


def run(jobs: list[Job], folder: Path, seconds: float) -> list[dict]:
    """The figures of jobs that take their steps in turn, or {"trouble": why there are none}."""
    until = time.monotonic() + seconds
    running = [Running(job, folder) for job in jobs]
    watch = threading.Timer(seconds, lambda: [one.process.kill() for one in running])
    watch.daemon = True  # an error here must not wait for it
    watch.start()
    for one in running:
        one.read()
    while alive := [one for one in running if one.figures is None]:
        for one in alive:
            one.step()
    watch.cancel()
    late = f"given up after {seconds:.0f} seconds" if time.monotonic() > until else "it ended without figures"
    for one in running:
        if time.monotonic() > until and "trouble" in (one.figures or {}):
            one.figures = None
        one.end(late)
    return [one.figures for one in running]


def bench(chosen: list[Job], rows: int, minutes: float, repeats: int, tell=lambda line: None) -> dict:
    """Run the jobs, each `repeats` times in turn, and compare them."""
    from importlib.metadata import version

    began, found = time.monotonic(), {job.name: [] for job in chosen}
    with tempfile.TemporaryDirectory(prefix="bench-train-") as scratch:
        for model in dict.fromkeys(job.model for job in chosen):
            folder = Path(scratch) / model
            make(model, folder, rows)
            for _ in range(repeats):
                for group in together([job for job in chosen if job.model == model]):
                    left = minutes * 60 - (time.monotonic() - began)
                    none = [{"trouble": "no time was left"}] * len(group)
                    figures = run(group, folder, min(len(group) * JOB_SECONDS, left)) if left > 0 else none
                    for job, one in zip(group, figures, strict=True):
                        found[job.name].append(one)
                        tell(f"{job.name}: {one}")
            shutil.rmtree(folder)
    best = {name: _middle(figures) for name, figures in found.items()}
    versions = {name: version(name) for name in ("torch", "transformers", "peft", "trl")}
    result = {"seconds": round(time.monotonic() - began, 1), "rows": rows, "versions": versions, "jobs": best}
    # Like beside like: the same rows a step, and activations recomputed by both or by none.
    for name, pair in PAIRS.items():
        ratios = _ratios(found, *pair) if all(job in found for job in pair) else []
        if ratios:
            result |= {f"ratio_trl_{name}": statistics.median(ratios), f"ratios_trl_{name}": ratios}
    return result


def together(jobs: list[Job]) -> list[list[Job]]:
    """Jobs in groups that take their steps in turn: on a processor all that pack and all that do not, with and without
    activations recomputed; on a card each by itself."""
    if jobs[0].model != "starter":
        return [[job] for job in jobs]
    groups: dict[bool, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.packing, []).append(job)
    return list(groups.values())


def _middle(figures: list[dict]) -> dict:
    """The run of median speed."""
    whole = [one for one in figures if "trouble" not in one]
    if not whole:
        return figures[-1]
    speed = statistics.median_low(one["useful_tokens_per_second"] for one in whole)
    return next(one for one in whole if one["useful_tokens_per_second"] == speed)


def _ratios(found: dict[str, list[dict]], ours: str, theirs: str) -> list[float]:
    """How many times as fast the first job is, of two that took their steps in turn; one a repeat."""
    speeds = [[one.get("useful_tokens_per_second") for one in found[name]] for name in (ours, theirs)]
    return [round(one / other, 3) for one, other in zip(*speeds, strict=True) if one and other]


def table(found: dict) -> str:
    """The figures as Markdown."""
    lines = [
        "| job | useful tokens/s | seconds | steps | peak memory, GiB | held-out loss | model TFLOP/s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, one in found["jobs"].items():
        if "trouble" in one:
            lines.append(f"| {name} | {one['trouble']} | | | | | |")
            continue
        cells = (one["useful_tokens_per_second"], one["seconds"], one["steps"], one["peak_memory_gib"])
        cells += (one["held_out_loss"], one["model_tflops"])
        lines.append("| {} | {:.1f} | {:.1f} | {} | {:.2f} | {:.4f} | {:.3g} |".format(name, *cells))
    lines += [f"\n{key}: {value}" for key, value in found.items() if key.startswith("ratio_")]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench_train", description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="five jobs, under nine minutes on two cores")
    parser.add_argument(
        "--gpu", action="store_true", help="shapes of Qwen2.5 1.5B and 7B on a card, Unsloth if installed"
    )
    parser.add_argument("--only", default="", help="jobs whose name has this in it")
    parser.add_argument("--rows", type=int, help="training rows; default: 24 with --quick, else 240")
    parser.add_argument("--repeats", type=int, default=1, help="run each job so often and take the median")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        print("\n" + json.dumps(measure(Job(**arguments.job), arguments.folder)))
        return
    chosen = jobs("gpu" if arguments.gpu else "quick" if arguments.quick else "all")
    chosen = [job for job in chosen if arguments.only in job.name]
    rows = arguments.rows or (24 if arguments.quick else 240)
    minutes = QUICK_MINUTES if arguments.quick else 120
    found = bench(chosen, rows, minutes, arguments.repeats, tell=lambda line: print(line, file=sys.stderr, flush=True))
    print(json.dumps(found) if arguments.json else table(found))


if __name__ == "__main__":
    main()
