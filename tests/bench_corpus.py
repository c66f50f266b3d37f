"""Speed and memory of the corpus room beside `datasets` and datasketch: `python tests/bench_corpus.py --megabytes 100 1000`.

Every measurement runs in a process of its own; memory is its peak resident size. The rows are clean JSONL chats, half
Russian and half English, made up of words so that no two are alike; every twentieth is a near copy of another.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
NEAR_ROWS = 20_000
TOKEN_ROWS = 2_000
MAX_LENGTH = 1024


def make(path: Path, megabytes: float) -> None:
    """Write clean JSONL chats of about so many megabytes."""
    rng = random.Random(1)
    alphabets = ("абвгдежзийклмнопрстуфхцчшщыьэюя", "abcdefghijklmnopqrstuvwxyz")
    words = [["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(20_000)] for letters in alphabets]
    size, old = 0, None
    with path.open("w", encoding="utf-8") as out:
        while size < megabytes * 1e6:
            if old and rng.random() < 0.05:
                question, answer = old[0], old[1].rsplit(" ", 1)[0]
            else:
                mine = words[rng.random() < 0.5]
                question = " ".join(rng.choices(mine, k=rng.randint(5, 25))) + "?"
                answer = " ".join(rng.choices(mine, k=rng.randint(20, 150))) + "."
            old = (question, answer)
            turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            line = json.dumps({"messages": turns}, ensure_ascii=False) + "\n"
            out.write(line)
            size += len(line.encode())


def texts(path: Path, count: int) -> list[str]:
    with path.open(encoding="utf-8") as lines:
        return [
            "\n".join(t["content"] for t in json.loads(line)["messages"])
            for line, _ in zip(lines, range(count), strict=False)
        ]


def now() -> tuple[float, float]:
    """Seconds of the clock and of the processor, helpers included."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.monotonic(), time.process_time() + ended.ru_utime + ended.ru_stime


def since(began: tuple[float, float]) -> dict:
    return {name: end - start for name, start, end in zip(("seconds", "processor"), began, now(), strict=True)}


def import_ours(path: Path) -> dict:
    from core.corpus import corpus

    return {"rows": corpus.create([path], "bench")["rows"]}


def import_datasets(path: Path) -> dict:
    from datasets import load_dataset

    return {
        "rows": len(load_dataset("json", data_files=str(path), split="train", cache_dir=os.environ["SOULSMITH_HOME"]))
    }


def exact_ours(path: Path) -> dict:
    from core.corpus import duplicates

    given = texts(path, 10**9)
    began = now()
    return {"found": int((duplicates.find(given, near=False).kind == 1).sum()), "rows": len(given), **since(began)}


def exact_datasets(path: Path) -> dict:
    import hashlib

    from datasets import Dataset

    table = Dataset.from_dict({"text": texts(path, 10**9)})
    seen = set()

    def new(row):
        mark = hashlib.blake2b(row["text"].encode(), digest_size=8).digest()
        return mark not in seen and not seen.add(mark)

    began = now()
    left = table.filter(new, load_from_cache_file=False, keep_in_memory=True)
    return {"found": len(table) - len(left), "rows": len(table), **since(began)}


def near_ours(given: list[str]) -> dict:
    from core.corpus import duplicates

    began = now()
    return {"found": duplicates.find(given).counts()["near"], "rows": len(given), **since(began)}


def near_datasketch(given: list[str]) -> dict:
    """The same normalisation, shingles, permutations and threshold; texts equal to an earlier one are passed over."""
    from datasketch import MinHash, MinHashLSH

    from core.corpus import text_normalization

    began = now()
    index, found, seen = MinHashLSH(threshold=0.7, num_perm=128), 0, set()
    for number, plain in enumerate(text_normalization.many(given)):
        if plain in seen:
            continue
        seen.add(plain)
        words = plain.split()
        shingles = (
            {plain[at : at + 5] for at in range(len(plain) - 4)}
            if len(words) < 50
            else {" ".join(words[at : at + 5]) for at in range(len(words) - 4)}
        )
        sketch = MinHash(num_perm=128)
        sketch.update_batch([shingle.encode() for shingle in shingles])
        found += bool(index.query(sketch))
        index.insert(str(number), sketch)
    return {"found": found, "rows": len(given), **since(began)}


def short(path: Path) -> list[str]:
    """The last 14 words of each reply: about 80 characters; those of a near copy begin and end a word earlier."""
    return [" ".join(text.split()[-14:]) for text in texts(path, NEAR_ROWS)]


def near_long_ours(path: Path) -> dict:
    return near_ours(texts(path, NEAR_ROWS))


def near_long_datasketch(path: Path) -> dict:
    return near_datasketch(texts(path, NEAR_ROWS))


def near_short_ours(path: Path) -> dict:
    return near_ours(short(path))


def near_short_datasketch(path: Path) -> dict:
    return near_datasketch(short(path))


def _rows(path: Path) -> list[dict]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line, _ in zip(lines, range(TOKEN_ROWS), strict=False)]


def _model() -> Path:
    from tests import tiny_tokenizers

    return tiny_tokenizers.build(Path(os.environ["SOULSMITH_HOME"]) / "model", "chatml")


def tokens_ours(path: Path) -> dict:
    from core.models import tokenizer
    from core.training import encoding

    rows, light = _rows(path), tokenizer.load(_model())
    began, total = now(), 0
    for row in rows:
        total += len(encoding.encode(row, light)["input_ids"])
    return {"tokens": total, "rows": len(rows), **since(began)}


def tokens_datasets(path: Path) -> dict:
    """The whole chat without a mask: TRL's own mask needs marks in the template that this one lacks."""
    from datasets import Dataset
    from transformers import AutoTokenizer

    full, table = AutoTokenizer.from_pretrained(_model()), Dataset.from_list(_rows(path))

    def encoded(row):
        text = full.apply_chat_template(row["messages"], tokenize=False)
        return {"input_ids": full(text, add_special_tokens=False)["input_ids"]}

    began = now()
    done = table.map(encoded, load_from_cache_file=False, keep_in_memory=True)
    return {"tokens": sum(map(len, done["input_ids"])), "rows": len(table), **since(began)}


def _encoded(path: Path) -> list[dict]:
    from core.models import tokenizer
    from core.training import encoding

    light = tokenizer.load(_model())
    return [encoding.encode(row, light) | {"id": str(number)} for number, row in enumerate(_rows(path))]


def packing_ours(path: Path) -> dict:
    from core.training import packing

    rows = _encoded(path)
    began = now()
    kept = sum(len(block["input_ids"]) for block in packing.pack(rows, MAX_LENGTH))
    return {"tokens": kept, "rows": len(rows), **since(began)}


def packing_datasets(path: Path) -> dict:
    """Rows end to end, cut into blocks: what examples for `datasets` do. It cuts rows in two; ours does not."""
    from datasets import Dataset

    table = Dataset.from_list([{name: row[name] for name in ("input_ids", "labels")} for row in _encoded(path)])

    def packed(rows):
        whole = {name: [one for row in lists for one in row] for name, lists in rows.items()}
        starts = range(0, len(whole["input_ids"]), MAX_LENGTH)
        return {name: [many[at : at + MAX_LENGTH] for at in starts] for name, many in whole.items()}

    began = now()
    done = table.map(packed, batched=True, load_from_cache_file=False, keep_in_memory=True)
    kept = sum(map(len, done["input_ids"]))
    return {"tokens": kept, "rows": len(table), **since(began)}


MEASURES = {
    "import": (import_ours, import_datasets),
    "exact copies": (exact_ours, exact_datasets),
    "near, 1 KB": (near_long_ours, near_long_datasketch),
    "near, short": (near_short_ours, near_short_datasketch),
    "tokenizing": (tokens_ours, tokens_datasets),
    "packing": (packing_ours, packing_datasets),
}
ONES = {function.__name__: function for pair in MEASURES.values() for function in pair}


def one(name: str, path: Path) -> dict:
    """Run one measurement in a process of its own, after the disk has come to rest."""
    os.sync()
    with tempfile.TemporaryDirectory(prefix="bench-") as home:
        environment = os.environ | {
            "SOULSMITH_HOME": home,
            "PYTHONPATH": str(ROOT),
            "HF_HUB_OFFLINE": "1",
            "HF_HOME": home,
        }
        done = subprocess.run(
            [sys.executable, __file__, "--one", name, "--file", str(path)],
            env=environment,
            capture_output=True,
            text=True,
        )
    if done.returncode:
        return {"error": done.stderr.strip().split("\n")[-1][:200]}
    return json.loads(done.stdout.strip().split("\n")[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, nargs="+", default=[100, 1000])
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=list(MEASURES))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        began = now()
        result = ONES[arguments.one](arguments.file)
        result = since(began) | result
        # A helper's peak counts once for each core that may have one.
        helpers = os.cpu_count() * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + helpers) / 1024
        print(json.dumps(result | {"peak_mib": round(peak)}))
        return
    print(f"{'':14}{'':12}{'rows/s':>10}{'MB/s':>8}{'seconds':>9}{'of CPU':>8}{'peak MiB':>10}  found")
    for megabytes in arguments.megabytes:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            path = Path(folder) / "rows.jsonl"
            make(path, megabytes)
            for measure in arguments.only if megabytes == arguments.megabytes[0] else ["import"]:
                for function in MEASURES[measure]:
                    show(measure, megabytes, function.__name__, one(function.__name__, path), path.stat().st_size)


def show(measure: str, megabytes: float, name: str, result: dict, size: int) -> None:
    label = f"{measure:14}{name.rpartition('_')[2]:12}"
    if "error" in result:
        print(label + result["error"])
        return
    rate = f"{result['rows'] / result['seconds']:10.0f}"
    speed = f"{size / 1e6 / result['seconds']:8.1f}" if measure in ("import", "exact copies") else f"{'':8}"
    found = result.get("found") or result.get("tokens") or f"{megabytes:g} MB"
    print(
        f"{label}{rate}{speed}{result['seconds']:9.2f}{result['processor']:8.2f}{result['peak_mib']:10}  {found}",
        flush=True,
    )


if __name__ == "__main__":
    main()
