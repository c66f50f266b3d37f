"""How fast a corpus is made: `python tests/bench_synth.py [--model DIR] [--recipe NAME] [--tokens N] [--processes 2]`.

Grammar to de-duplicated, counted, published rows, each process with its own seed; then tokenized blocks of 2048 packed
from the corpus. Without --model a byte-level tokenizer of 32,000 tokens is trained on the recipe's own language here.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
BLOCK = 2048


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", help="a directory with a tokenizer.json")
    parser.add_argument("--recipe", default="fractals-ru")
    parser.add_argument("--tokens", type=int, default=10_000_000)
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or trained(Path(folder) / "tokenizer")
        began = time.perf_counter()
        jobs = [start(options, model, Path(folder) / f"out{at}", at) for at in range(options.processes)]
        results = [json.loads(job.communicate()[0]) for job in jobs]
        seconds = time.perf_counter() - began
        packed = pack(Path(folder) / "out0", model)
        disk = sum(file.stat().st_size for file in (Path(folder) / "out0").iterdir())
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
                "packing": packed,
                "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            },
            indent=2,
        )
    )


def start(options, model: str, out: Path, seed: int) -> subprocess.Popen:
    command = [sys.executable, "-m", "core.synth", options.recipe, "--tokens", str(options.tokens), "--model", model]
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    command += ["--out", str(out), "--seed", str(seed), "--json"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment)


def trained(path: Path) -> str:
    """A byte-level tokenizer of about the fertility of today's models, made of the recipes' texts themselves."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    from core.synth import recipes

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    texts = [path.read_text(encoding="utf-8") for path in recipes.folder().glob("*.yaml")]
    trainer = trainers.BpeTrainer(vocab_size=8000, special_tokens=["<|end|>"], show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    path.mkdir()
    tokenizer.save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end|>"}), encoding="utf-8")
    return str(path)


def pack(corpus: Path, model: str) -> dict:
    """Tokenize the corpus again and pack its tokens into blocks on disk, as a trainer of whole blocks would read them."""
    import numpy as np

    from core.corpus import disk
    from core.synth.weighing import Scale

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    scale, began, tokens, left, batch = Scale(model, "ru"), time.perf_counter(), 0, [], []
    with (corpus / "blocks.bin").open("wb") as file:

        def flush() -> None:
            nonlocal tokens, left
            for ids in scale.ids(batch):
                left += ids
            whole = len(left) // BLOCK * BLOCK
            np.asarray(left[:whole], np.uint32).tofile(file)
            tokens, left = tokens + whole, left[whole:]
            batch.clear()

        for row in disk.all_rows(corpus):
            batch.append(row)
            if len(batch) == 500:
                flush()
        flush()
    seconds = time.perf_counter() - began
    return {"tokens": tokens, "tokens_per_second": round(tokens / seconds)}


if __name__ == "__main__":
    main()
