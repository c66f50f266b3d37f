"""The calculator against a real card: `python -m tests.bench_gpu [--json] [--out DIR] [--quick] [--tiny] [--cpu]`.

Random weights in the shapes of Qwen2.5 are trained for a few steps by core/training on rows of full length, and on
packed blocks of shorter ones, each job in a process of its own; what was predicted (at once, and by the trace) stands
beside what was measured, as JSON and as Markdown for tests/benchmarks.md. The ways of attention over packed rows are
timed as tests/bench_attention.py does. --quick ends within eight minutes. About 4 GB are needed in the temporary
directory (TMPDIR) for the 1.5B shape and 17 GB for the 7B shape, no network.
"""

import argparse
import itertools
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from core import paths
from core.errors import UserError
from core.estimate import answer, cards, catalogue, forecast, model_names, speed, trace_runner
from core.estimate.errors import TraceFailed
from core.hardware import hardware
from core.models import models
from core.training.config import TrainConfig
from core.training.environment import grow_segments
from core.training.token_cache import FEWEST_ROWS
from tests import bench_gpu_tables as tables
from tests import tiny_tokenizers

ROOT = Path(__file__).parents[1]
STEPS = 6  # the first one is not counted
MAKING_SECONDS = 600
JOB_SECONDS = 240  # a job that takes longer is given up
ATTENTION_SECONDS = 150
ATTENTION_AFTER = 3  # jobs: one of each method
QUICK_MINUTES = 8  # within which --quick ends
FEWEST_SECONDS = 15  # a job that has less is left out
DISK_BYTES = {"1.5B": 4e9, "7B": 17e9, "tiny": 1e8}  # the weights: nothing that was trained is saved
DOCUMENTS = 8  # of a packed block, about
PACKED_ROWS = 80
TINY = {
    "model_type": "qwen2", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 1024, "max_position_embeddings": 256,
    "tie_word_embeddings": True,
}  # fmt: skip


class _Enough(Exception):
    """All steps are done: a checkpoint of all weights would take longer than they did."""


class NoCard(UserError):
    template = "torch finds no NVIDIA card here. Try the same on the processor with --cpu."


@dataclass(frozen=True)
class Job:
    """One training: which model, how, and on how long rows."""

    model: str
    method: str
    max_length: int
    gradient_checkpointing: bool
    packing: bool = False

    @property
    def name(self) -> str:
        kinds = " packed" * self.packing + " checkpointed" * self.gradient_checkpointing
        return f"{self.model} {self.method} {self.max_length}{kinds}"

    def config(self, folder: Path) -> TrainConfig:
        """The recipe's config for a model and a corpus that were made in a folder."""
        return TrainConfig(
            base_model=str(folder / "model"),
            corpus=str(folder / ("short.jsonl" if self.packing else "rows.jsonl")),
            method=self.method,
            task="text",
            max_length=self.max_length,
            packing=self.packing,
            batch_size=1,
            max_steps=STEPS + 1,  # the last one is not taken: no checkpoint is written
            gradient_checkpointing=self.gradient_checkpointing,
            validation_share=0,
            eval_steps=STEPS + 1,
        )


def jobs(kind: str) -> list[Job]:
    """The jobs of --tiny and --cpu, of --quick, or all; should time run out, the last ones are left out."""
    if kind == "tiny":
        jobs = [Job("tiny", "qlora", 64, False), Job("tiny", "lora", 128, True), Job("tiny", "full", 64, False)]
        return [*jobs, Job("tiny", "lora", 128, False, packing=True)]
    wanted = {"1.5B": ("qlora", "lora", "full")} | ({"7B": ("qlora", "lora")} if kind == "all" else {})
    ways = [(2048, False, False), (2048, False, True), (4096, True, False)]
    if kind == "all":
        ways += [(2048, True, False), (4096, False, False)]
    return [Job(model, method, *way) for model, methods in wanted.items() for way in ways for method in methods]


# ---------------------------------------------------------------------------------------------------------------------
# In processes of their own


def make(model: str, folder: Path, longest: int) -> None:
    """Write random weights, a tokenizer and a corpus into a folder."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = TINY if model == "tiny" else catalogue.config_of(model_names.find(f"Qwen/Qwen2.5-{model}"))
    roomy = torch.cuda.is_available() and torch.cuda.mem_get_info()[0] > DISK_BYTES[model]
    torch.manual_seed(0)
    with torch.device("cuda" if roomy else "cpu"):  # seven billion random numbers take a processor minutes
        made = AutoModelForCausalLM.from_config(AutoConfig.for_model(**shape), dtype=torch.bfloat16)
    made.save_pretrained(folder / "model")
    tiny_tokenizers.build(folder / "model", "chatml")
    write_rows(folder / "rows.jsonl", longest)
    write_rows(folder / "short.jsonl", longest // DOCUMENTS // 4, PACKED_ROWS)  # a letter is about a token


def machine() -> dict:
    """Card or processor, its measured rate, and the libraries."""
    import torch

    from core.estimate import probe
    from core.runs.trainer import versions

    facts = {"card": cards.CPU, "tflops": probe.measure()["tflops"], "versions": versions()}
    if not torch.cuda.is_available():
        return facts
    card = torch.cuda.get_device_properties(0)
    facts["versions"]["cuda"] = torch.version.cuda
    return facts | {"card": card.name, "total_bytes": card.total_memory, "capability": card.major + card.minor / 10}


def write_rows(path: Path, length: int, count: int = FEWEST_ROWS) -> None:
    """Texts of random letters, each of which is more than `length` tokens and is cut off there unless it is packed."""
    draw = random.Random(1)
    rows = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz ", k=4 * length)) for _ in range(count)]
    path.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows), encoding="utf-8")


def measure(config: TrainConfig, out: Path) -> dict:
    """Train in this process; bytes at the peak (None on a processor), seconds a step and what the recipe said."""
    import torch

    from core.training import training_loop

    card, said, ends, load = torch.cuda.is_available(), {}, [], None

    def report(event: str, **values) -> None:
        nonlocal load
        said[event] = values
        if card:
            torch.cuda.synchronize()
        if event == "step":
            ends.append(time.monotonic())
        elif event == "model" and card:
            load = torch.cuda.max_memory_allocated()
        if event == "step" and values["step"] == STEPS:
            raise _Enough

    with suppress(_Enough):
        training_loop.train(config, out, report=report)
    tokens = said["data"]["fill"] * config.max_length * config.batch_size * config.gradient_accumulation_steps
    took = statistics.median(end - start for start, end in itertools.pairwise(ends))
    result = {"allocated": None, "reserved": None, "load_allocated": load, "context": None}
    if card:
        free, total = torch.cuda.mem_get_info()
        result["allocated"] = torch.cuda.max_memory_allocated()
        result["reserved"] = torch.cuda.max_memory_reserved()
        result["context"] = total - free - torch.cuda.memory_reserved()
    return result | {
        "seconds": took,
        "tokens_per_second": tokens / took,
        "steps": said["step"]["step"],
        "loss": said["step"]["loss"],
        "fill": said["data"]["fill"],
        **{key: said["model"][key] for key in ("parameters", "trainable_parameters", "precision", "attention")},
    }


def attention_ways(kind: str) -> dict:
    """Milliseconds of each way of attention over packed rows, by the shape of the blocks: tiny, every other one, or all."""
    import torch

    from core.training import devices
    from tests import bench_attention

    until = time.monotonic() + ATTENTION_SECONDS / 2
    if kind != "tiny":
        cases = bench_attention.cases()[1::2] if kind == "quick" else bench_attention.cases()
        return {given.name: bench_attention.measure(given, until) for given in cases}
    dtype = torch.bfloat16 if devices.has_bf16() else torch.float32
    given = bench_attention.Blocks(1, 64, 4, 4, 2, 32, dtype, devices.device_type())
    return {given.name: bench_attention.measure(given, until)}


def child(request: dict, *, cpu: bool, seconds: float) -> dict:
    """The answer of this module in another process, or {"trouble": why there is none}."""
    shown = (
        "" if cpu else os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    )  # one card: two would share a batch
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": os.environ["SOULSMITH_HOME"], "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-m", "tests.bench_gpu", "--request", json.dumps(request)]
    environment = os.environ | offline | {"CUDA_VISIBLE_DEVICES": shown}
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return {"trouble": f"given up after {seconds:.0f} seconds"}
    if done.returncode:
        return {"trouble": (done.stderr.strip() or f"ended with {done.returncode}").split("\n")[-1][:300]}
    return json.loads(done.stdout.strip().split("\n")[-1])


def serve(request: dict) -> dict:
    """What child() asks for, done here."""
    grow_segments()  # as a run does, before torch is imported
    if "make" in request:
        facts = machine()
        if request["cpu"] or facts["card"] != cards.CPU:  # else the parent says that there is no card
            make(request["make"], Path(request["folder"]), request["longest"])
        return facts
    if "attention" in request:
        return attention_ways(request["attention"])
    return measure(TrainConfig.from_dict(request["config"]), Path(request["out"]))


# ---------------------------------------------------------------------------------------------------------------------
# Predicting and running


def cards_of(facts: dict) -> tuple[cards.Card, cards.Card]:
    """The card as the calculator knows it before and after the probe."""
    if facts["card"] == cards.CPU:
        here = hardware.machine()
        known = cards.processor(here.cores, here.memory_bytes)
        return known, replace(known, matmul_tflops=facts["tflops"], fp32_tflops=facts["tflops"])
    size = facts["total_bytes"]
    known = cards.of_machine(hardware.Gpu(facts["card"], size, size, facts["capability"], 0.0))
    return known, replace(known, matmul_tflops=facts["tflops"], measured=True)


def predict(config: TrainConfig, card: cards.Card, probed: cards.Card) -> dict:
    """Bytes at the peak, at once and traced (no bytes for a processor), and seconds a step before and after the probe."""
    shape = catalogue.shape(config.base_model)
    found = answer.ask(shape, forecast.setup_of(asdict(config), card), card)
    seconds = {"known": found.pace.step_seconds, "probed": speed.pace(shape, found.setup, probed).step_seconds}
    if card.kind == "cpu":
        return {"instant": {}, "traced": {}, "seconds": seconds}
    instant = {"allocated": found.memory.allocated, "reserved": found.memory.reserved}
    try:
        checked = trace_runner.check(config.base_model, found.setup, card.capability)
        traced = {key: checked[key] for key in ("allocated", "reserved")}
    except TraceFailed as trouble:
        traced = {"trouble": str(trouble)}
    return {"instant": instant, "traced": traced, "seconds": seconds, "context": found.memory.context}


def bench(chosen: list[Job], kind: str, *, cpu: bool = False, minutes: float, tell=lambda line: None) -> dict:
    """Run the jobs of a kind (tiny, quick, all) one after another; the machine, and a row for each job with its errors
    or its trouble."""
    began, rows, facts = time.monotonic(), [], {}
    end = began + minutes * 60
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as scratch:
        os.environ["SOULSMITH_HOME"] = scratch  # what earlier runs taught must not help
        for model in dict.fromkeys(job.model for job in chosen):
            folder, mine = Path(scratch) / model, [job for job in chosen if job.model == model]
            facts = _made(model, folder, mine, cpu, tell)
            # Traces are processor work, so all of them come before the card is timed.
            with ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // 2)) as pool:
                predicted = list(pool.map(lambda job: predict(job.config(folder), *cards_of(facts)), mine))  # noqa: B023
            for job, prediction in zip(mine, predicted, strict=True):
                measured = _run(job, folder, cpu, end, minutes)
                rows.append(tables.row(asdict(job) | {"job": job.name}, prediction, measured))
                tell(tables.line(rows[-1]))
                if len(rows) == ATTENTION_AFTER:
                    ways = _attention(kind, cpu, end, tell)
            shutil.rmtree(folder)
        if len(rows) < ATTENTION_AFTER:
            ways = _attention(kind, cpu, end, tell)
    return {
        **facts,
        "catalogue_tflops": cards_of(facts)[0].matmul_tflops,
        "date": time.strftime("%Y-%m-%d"),
        "steps": STEPS,
        "batch_size": 1,
        "seconds": round(time.monotonic() - began, 1),
        "rows": rows,
        "attention": ways,
    }


def _made(model: str, folder: Path, mine: list[Job], cpu: bool, tell) -> dict:
    """Make a model and its rows in another process; the machine that it found."""
    models.need_disk(folder.parent, DISK_BYTES[model])
    tell(f"{model}: weights, rows and predictions")
    longest = max(job.max_length for job in mine)
    request = {"make": model, "folder": str(folder), "longest": longest, "cpu": cpu}
    facts = child(request, cpu=cpu, seconds=MAKING_SECONDS)
    if "trouble" in facts:
        raise RuntimeError(facts["trouble"])
    if not cpu and facts["card"] == cards.CPU:
        raise NoCard()
    return facts


def _run(job: Job, folder: Path, cpu: bool, end: float, minutes: float) -> dict:
    left = end - time.monotonic()
    if left < FEWEST_SECONDS:
        return {"trouble": f"left out: {minutes:g} minutes were over"}
    out = folder / "out"
    request = {"config": asdict(job.config(folder)), "out": str(out)}
    measured = child(request, cpu=cpu, seconds=min(JOB_SECONDS, left))
    shutil.rmtree(out, ignore_errors=True)
    return measured


def _attention(kind: str, cpu: bool, end: float, tell) -> dict:
    """The ways of attention, or {"trouble": why there are none}."""
    left = end - time.monotonic()
    if left < FEWEST_SECONDS:
        return {"trouble": "left out: the time was over"}
    ways = child({"attention": kind}, cpu=cpu, seconds=min(ATTENTION_SECONDS, left))
    for name, found in ways.items():
        tell(f"attention, {name}: {found}")
    return ways


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench_gpu", description=__doc__.split("\n\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the tables")
    parser.add_argument("--out", type=Path, help="where gpu.json and gpu.md go; default: bench/ in the data directory")
    parser.add_argument("--quick", action="store_true", help="1.5B only, three jobs a method, eight minutes")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes on the card, to try the bench itself")
    parser.add_argument("--cpu", action="store_true", help="tiny shapes on the processor")
    parser.add_argument("--only", default="", help='jobs whose name has this in it: "7B", "1.5B qlora"')
    parser.add_argument("--minutes", type=float, help=f"for everything; default: {QUICK_MINUTES} with --quick, else 60")
    parser.add_argument("--request", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.request:
        print("\n" + json.dumps(serve(arguments.request)))
        return
    out = arguments.out or paths.home() / "bench"
    out.mkdir(parents=True, exist_ok=True)
    kind = "tiny" if arguments.cpu or arguments.tiny else "quick" if arguments.quick else "all"
    chosen = [job for job in jobs(kind) if arguments.only in job.name]
    minutes = arguments.minutes or (QUICK_MINUTES if arguments.quick else 60)
    try:
        found = bench(chosen, kind, cpu=arguments.cpu, minutes=minutes, tell=lambda line: print(line, file=sys.stderr))
    except (UserError, RuntimeError) as error:
        sys.exit(str(error))
    page = tables.page(found)
    (out / "gpu.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (out / "gpu.md").write_text(page, encoding="utf-8")
    print(json.dumps(found) if arguments.json else page)


if __name__ == "__main__":
    main()
