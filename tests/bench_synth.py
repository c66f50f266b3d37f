"""How fast a corpus is made: `python tests/bench_synth.py [--model DIR] [--recipe NAME] [--tokens N] [--processes 2]`.

Grammar to de-duplicated (equal and near), tokenized, published rows and packed blocks of 2048 tokens, each process with
its own seed. Without --model a byte-level tokenizer is trained here on the recipes. With --writer DIR a local model
writes ten rows in batches and three of the same one by one.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from core.corpus import storage, turns  # noqa: E402 - this file is run by its path
from core.synth import recipes  # noqa: E402

BLOCK = 2048


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", help="a directory with a tokenizer.json")
    parser.add_argument("--recipe", default="fractals-ru")
    parser.add_argument("--tokens", type=int, default=10_000_000)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--writer", help="only measure this local model: in batches beside one by one")
    options = parser.parse_args()
    if options.writer:
        print(json.dumps(written(options.writer), indent=2))
        return
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or trained(Path(folder) / "tokenizer")
        began = time.perf_counter()
        jobs = [start(options, model, Path(folder) / f"out{at}", at) for at in range(options.processes)]
        results = [json.loads(job.communicate()[0]) for job in jobs]
        seconds = time.perf_counter() - began
        blocks = (Path(folder) / "out0" / f"blocks-{BLOCK}.bin").stat().st_size // (4 * BLOCK)
        disk = sum(file.stat().st_size for file in (Path(folder) / "out0").iterdir())
        length = characters(Path(folder) / "out0")
    tokens = sum(result["tokens"] for result in results)
    print(
        json.dumps(
            {
                "recipe": options.recipe,
                "processes": options.processes,
                "tokens": tokens,
                "rows": sum(result["rows"] for result in results),
                "loop_tokens_per_second": [result["tokens_per_second"] for result in results],
                "wall_seconds": round(seconds, 1),
                "wall_tokens_per_second": round(tokens / seconds),
                "memory_mb": max(result["memory_mb"] for result in results),
                "corpus_mb_of_the_first": round(disk / 1e6, 1),
                "blocks_of_the_first": blocks,
                "copies_dropped": [result["copies"] for result in results],
                "characters_a_token": round(length / results[0]["tokens"], 2),
                "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            },
            indent=2,
        )
    )


def start(options, model: str, out: Path, seed: int) -> subprocess.Popen:
    command = [sys.executable, "-m", "core.synth", options.recipe, "--tokens", str(options.tokens), "--model", model]
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    command += ["--out", str(out), "--seed", str(seed), "--pack", str(BLOCK), "--json"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment)


def characters(corpus: Path) -> int:
    return sum(len(text) for row in storage.all_rows(corpus) for text in turns.texts(row))


def trained(path: Path) -> str:
    """A byte-level tokenizer of about the fertility of today's models, made of the recipes' texts themselves."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    texts = [path.read_text(encoding="utf-8") for path in recipes.folder().glob("*.yaml")]
    trainer = trainers.BpeTrainer(vocab_size=8000, special_tokens=["<|end|>"], show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    path.mkdir()
    tokenizer.save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>"}), encoding="utf-8")
    return str(path)


def written(writer: str) -> dict:
    """Tokens a second that a local model writes in batches and one by one, on the same prompts in the same run."""
    command = [sys.executable, "-m", "core.synth", "grid-en", "--preview", "--writer", writer, "--max-tokens", "64"]
    done = subprocess.run([*command, "--parallel", "10", "--json"], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    found = json.loads(done.stdout)
    return {name: found[f"{name}_tokens_per_second"] for name in ("batch", "one_by_one")}


if __name__ == "__main__":
    main()
