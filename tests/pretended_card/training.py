"""Train on whatever this process finds, case by case: `python -m tests.pretended_card.training MODEL CORPUS OUT CASES`.

CASES is JSON, {name: fields of TrainConfig}; with "resume" the last step is trained once more from the checkpoint before
it; with "goes_on" the run goes on from another one. One JSON line a case, and a last one about the card: operators that met tensors of two devices, and calls of kernels.
"""

import json
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path

from core.training import callbacks, checkpoints, corpus_rows, training_loop
from core.training.config import TrainConfig

STEPS = 4


class Waits:
    """Counts, by step, how often the program asked the card for a value and had to wait for it; and where."""

    ASKING = ("_local_scalar_dense", "nonzero", "equal", "masked_select", "unique", "unique_consecutive", "bincount")

    def __init__(self):
        self.found: list[str] = []

    def __enter__(self):
        import torch
        from torch.utils._python_dispatch import TorchDispatchMode

        waits = self

        class Mode(TorchDispatchMode):
            def __torch_dispatch__(self, function, types, args=(), kwargs=None):
                out = function(*args, **(kwargs or {}))
                name = function.overloadpacket.__name__
                given = [x for x in args if isinstance(x, torch.Tensor)]
                on_card = any(x.device.type == "cuda" for x in given)
                down = on_card and isinstance(out, torch.Tensor) and out.device.type == "cpu" and out.numel()
                if ((name in waits.ASKING and on_card) or down) and not by_a_stand_in():
                    waits.found.append(f"{name} {where()}")
                return out

        self.mode, self.stock = Mode(), torch.cuda.synchronize
        torch.cuda.synchronize = lambda *_: waits.found.append(f"synchronize {where()}")
        self.mode.__enter__()
        return self

    def __exit__(self, *error):
        import torch

        torch.cuda.synchronize = self.stock
        self.mode.__exit__(*error)


def by_a_stand_in() -> bool:
    """Whether a stand-in for a kernel asks: the kernel itself would not."""
    names = ("flash_attn/__init__.py", "pretended_varlen.py")
    return any(line.filename.endswith(names) for line in traceback.extract_stack())


def where() -> str:
    """The line outside torch that is being computed."""
    lines = [
        f for f in traceback.extract_stack()[:-2] if "/torch/" not in f.filename and "training.py" not in f.filename
    ]
    return " < ".join(f"{Path(line.filename).name}:{line.lineno}" for line in lines[-3:][::-1])


def waits_of(config, out: Path) -> list[list[str]]:
    """What each step waits for, from its first batch to the first of the next one."""
    steps, latest = [], []
    begin = callbacks.Progress.on_step_begin

    def begun(self, args, state, control, **more):
        steps.append(list(latest))
        latest.clear()
        return begin(self, args, state, control, **more)

    callbacks.Progress.on_step_begin = begun
    try:
        with Waits() as waits:
            latest = waits.found
            training_loop.train(config, out, report=lambda *_, **__: None)
    finally:
        callbacks.Progress.on_step_begin = begin
    return steps[2:]  # the first two hold what comes before training, and the first step


def pairs_of(corpus: str, out: Path) -> str:
    """A corpus of preference pairs: each chat's question with its own reply and with that of the next chat."""
    chats = [row["messages"] for row in corpus_rows.read_rows(corpus)]
    pairs = zip(chats, chats[1:] + chats[:1], strict=True)
    rows = [{"messages": chat[:-1], "chosen": chat[-1:], "rejected": other[-1:]} for chat, other in pairs]
    out.mkdir(parents=True, exist_ok=True)
    place = out / "pairs.jsonl"
    place.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(place)


def train(fields: dict, model: str, corpus: str, out: Path) -> dict:
    common = {"max_length": 64, "batch_size": 2, "eval_steps": 2, "max_steps": STEPS, "learning_rate": 0.001}
    resumes, waits, goes_on = (fields.pop(name, False) for name in ("resume", "waits", "goes_on"))
    corpus = pairs_of(corpus, out) if fields.get("task") == "preference" else corpus
    config = TrainConfig(**{"base_model": model, "corpus": corpus, "lora_dropout": 0.0} | common | fields)
    if waits:
        return {"waits": waits_of(config, out)}
    if goes_on:
        before = training_loop.train(config, out / "before", report=lambda *_, **__: None)
        config = replace(config, start=str(out / "before" / "adapter"))
    events: list = []
    began = time.monotonic()
    ending = training_loop.train(config, out, report=lambda event, **values: events.append({"event": event, **values}))
    found = {"losses": [e["loss"] for e in events if e["event"] == "step"], "eval_loss": ending["eval_loss"]}
    found |= {"grad_norms": [e["grad_norm"] for e in events if e["event"] == "step"]}
    found |= next(e for e in events if e["event"] == "model")
    if goes_on:
        begins = next(e["eval_loss"] for e in events if e["event"] == "eval")
        found["begins"] = [before["eval_loss"], begins]
    if resumes:
        (out / f"checkpoint-{STEPS}" / "whole.json").unlink()
        events.clear()
        training_loop.train(
            config,
            out,
            report=lambda event, **values: events.append({"event": event, **values}),
            resume_from=checkpoints.whole_checkpoint(out),
        )
        found["resumed"] = [e["loss"] for e in events if e["event"] == "step"]
    return found | {"seconds": round(time.monotonic() - began, 1)}


def main() -> None:
    model, corpus, out, cases = sys.argv[1:]

    for number, (name, fields) in enumerate(json.loads(cases).items()):
        try:
            found = train(fields, model, corpus, Path(out) / str(number))
        except Exception as error:
            traceback.print_exc()
            found = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
        print("\n" + json.dumps({"case": name, **found}), flush=True)
    print("\n" + json.dumps({"case": "", **card()}), flush=True)


def card() -> dict:
    """What the card met, where there is one."""
    if "pretended_torch" not in sys.modules:
        return {}
    import pretended_torch
    import pretended_varlen

    flash = sys.modules.get("flash_attn")
    found = {"mixed": sorted(set(pretended_torch.card.mixed())), "varlen": pretended_varlen.CALLS}
    return found | {"flash": flash.CALLS if flash else None}


if __name__ == "__main__":
    main()
