"""Families of the zoo, one after another, in a process of their own: `python -m tests.zoo_walk FOLDER FAMILY ...`.

Each is trained with every method, talked to beside its base, merged and opened in plain PEFT. Prints a JSON line a
family: {"family", "found": what it can, as zoo.can()} or {"family", "error": a traceback}. pytest starts it while other
tests run (begin), as it uses one of two cores.
"""

import json
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path

from tests import zoo

ASK = [{"role": "user", "content": "lamp?"}]
ROOT = Path(__file__).parent.parent
SECONDS = 900  # that somebody waits for a family
SETTINGS = {"max_steps": 2, "eval_steps": 2, "max_length": 128, "lora_rank": 4, "learning_rate": 0.01}
_begun: list[Path] = []  # the file that is being written


def begin(folder: Path, families: list[str]) -> subprocess.Popen:
    """Start the walk; result() reads what it found."""
    _begun[:] = [folder / "found.jsonl"]
    command = [sys.executable, "-m", "tests.zoo_walk", str(folder), *families]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "SOULSMITH_HOME": str(folder / "home")}
    with _begun[0].open("wb") as out, (folder / "log.txt").open("wb") as log:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=log)


def result(family: str, walk: subprocess.Popen) -> dict:
    """What a family can, once the walk has come to it.

    Raises:
        AssertionError: with the traceback of what it could not.
    """
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        over = walk.poll() is not None
        lines = [
            json.loads(line) for line in _begun[0].read_text("utf-8").splitlines(keepends=True) if line[-1] == "\n"
        ]
        for told in lines:
            if told["family"] == family:
                assert "error" not in told, told["error"]
                return told["found"]
        if over:
            break
        time.sleep(0.2)
    raise AssertionError(f"the walk did not come to {family}:\n{_begun[0].with_name('log.txt').read_text()[-2000:]}")


def train(model: str, rows: str, method: str = "lora", **settings) -> tuple[str, dict]:
    """Train a model for two steps: (id of the run, its "model" event)."""
    from core import paths
    from core.runs import runs
    from core.training import training_loop
    from core.training.config import TrainConfig

    config = TrainConfig(base_model=model, corpus=rows, method=method, **SETTINGS | settings)
    run_id, said = runs.create(config), {}
    training_loop.train(
        runs.config(run_id), paths.run(run_id), report=lambda event, **values: said.setdefault(event, values)
    )
    return run_id, said["model"]


def talk(*ids: str) -> dict:
    """The replies of these contestants side by side."""
    from core.chat import generation
    from core.chat.types import Question, Sampling

    *_, columns = generation.replies({id: Question(id, ASK) for id in ids}, Sampling(max_new_tokens=4))
    return columns


def opened_plainly(directory: Path, adapter: Path):
    """A base with its adapter as somebody opens it who has transformers and PEFT and nothing of ours."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    try:
        base = AutoModelForCausalLM.from_pretrained(directory)
    except ValueError:
        base = AutoModelForImageTextToText.from_pretrained(directory)
    return PeftModel.from_pretrained(base, adapter).eval()


def merge(run_id: str) -> tuple[dict, float]:
    """What a merge says, and how far plain PEFT is from the merged model."""
    from core import paths
    from core.chat import chat_models
    from core.export import merging
    from core.training import tokenizer_loading

    one, out = chat_models.find(f"run:{run_id}"), paths.run(run_id) / "merged"
    out.mkdir()
    found = merging.merge(one, out, lambda *_, **__: None)
    tokenizer = tokenizer_loading.load_tokenizer(one.config)
    plain = merging.logits(opened_plainly(Path(one.config.base_model), one.weights), tokenizer)
    return found, merging.distance(plain, merging.logits(merging.load(out), tokenizer))


def walk(model: str, rows: str) -> dict[str, str]:
    """What a model can, by method, and whether packed rows are refused."""
    from core.chat import engine
    from core.training import errors

    found = {}
    for method in ("lora", "qlora", "full"):
        run_id, told = train(model, rows, method)
        assert told["flash_attention_lacks"] == "card"
        assert set(talk(f"base:{model}", f"run:{run_id}")) == {f"base:{model}", f"run:{run_id}"}
        engine.close()
        if method != "full":
            said, apart = merge(run_id)
            assert (said["difference"] < 1e-5, apart < 1e-5) == (True, True), (said["difference"], apart)
        found[method] = "yes"
    for method in ("lora", "qlora", "full"):
        try:
            train(model, rows, method, packing=True)
            packing = "yes"
        except errors.TrainingError as error:
            packing = "refused" if error.name == "PackingUnsupported" else error.name
        assert found.setdefault("packing", packing) == packing, method
    return found


def main() -> None:
    from tests.conftest import chat_rows, make_tiny_tokenizer

    folder, families = Path(sys.argv[1]), sys.argv[2:]
    rows, out = folder / "rows.jsonl", os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no result
    rows.write_text("".join(json.dumps(row) + "\n" for row in chat_rows(16)), encoding="utf-8")
    tokenizer = make_tiny_tokenizer()
    for family in families:
        try:
            told = {"found": walk(zoo.make(family, folder / family, tokenizer), str(rows))}
        except Exception:
            told = {"error": traceback.format_exc()}
        out.write(json.dumps({"family": family} | told) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
