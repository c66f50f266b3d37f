"""What a page on a machine with cards shows: machines of every odd kind, and runs that trained on them.

`python -m tests.card_page draw` draws every tab in both languages on each machine and prints what cannot be read;
`... train` trains through the page, `... measure` measures the card; all want SOULSMITH_HOME, and a process with a pretended card (tests.pretended_card).
"""

import dataclasses
import inspect
import json
import os
import shutil
import sys
import time
from contextlib import ExitStack
from functools import cache

from filelock import FileLock

from core import events, files, jobs, paths
from core.corpus import corpus
from core.estimate import calibration, cards, forecast, probe
from core.hardware import hardware
from core.runs import runs, store
from core.training.config import TrainConfig
from tests.page_session import Session
from ui.text import LANGUAGES, Say

GIB = 2**30
DEVICE = "NVIDIA RTX PRO 6000 Blackwell Workstation Edition"


def gpu(name: str, total: float, capability: float = 0.0, watts: float = 0.0, *, free: float | None = None, **more):
    """A card of so many GiB, nine tenths of them free; 0 is memory that the driver does not tell."""
    sizes = {"total_bytes": int(total * GIB), "free_bytes": int((0.9 * total if free is None else free) * GIB)}
    known = {"name": name, "compute_capability": capability, "watts": watts, "uuid": f"GPU-{name}", **sizes, **more}
    fields = [field.name for field in dataclasses.fields(hardware.Gpu)]
    return hardware.Gpu(**{field: known[field] for field in fields if field in known})


MACHINES = {
    "one of 12 GB": (gpu("NVIDIA GeForce RTX 3060", 12, 8.6, 170),),
    "two cards": (gpu("NVIDIA GeForce RTX 3090", 24, 8.6, 350), gpu("NVIDIA GeForce RTX 4090", 24, 8.9, 450)),
    "RTX PRO 6000": (gpu(DEVICE, 95.6, 12.0, 600),),
    "MIG": (gpu("NVIDIA A100-SXM4-40GB MIG 1g.5gb", 4.75, 8.0),),
    "shared memory": (gpu("NVIDIA GB10", 119.7, 12.1, free=100, memory="shared"),),
    "insufficient permissions": (gpu("NVIDIA A100-SXM4-80GB", 0, 8.0, 400, memory="unknown"),),
    "unknown in every way": (gpu("Graphics Device", 0, memory="unknown"),),
    "a virtual one": (gpu("GRID A100-10C", 10, 8.0, free=10),),
    "a full one": (gpu("NVIDIA GeForce RTX 3060", 12, 8.6, 170, free=0.2),),
    "GTX 1080": (gpu("NVIDIA GeForce GTX 1080", 8, 6.1, 180),),
    "AMD": (gpu("AMD Radeon RX 7900 XTX", 24, 11.0, 339, kind="rocm", architecture="gfx1100"),),
    "Intel": (gpu("Intel Arc B580", 12, free=12, kind="xpu"),),
    "Apple": (gpu("Apple M3 Max", 48, kind="mps", memory="shared"),),
    "none": (),
}
IN_BOTH = ("two cards", "insufficient permissions", "shared memory", "none")


def furnish(corpus_path: str, model: str = "Qwen/Qwen2.5-7B-Instruct") -> ExitStack:
    """Runs on a card in every state and with every alert; the stack that is returned keeps those at work alive."""
    alive, number = ExitStack(), iter(range(100))

    def made(name: str, **fields) -> str:
        config = TrainConfig(
            base_model=model, corpus=corpus_path, max_length=2048, batch_size=4, seed=next(number), **fields
        )
        return runs.create(config, name)

    def at_work(name: str, **more) -> str:
        run_id = made(name)
        begin(run_id, **more)
        alive.enter_context(FileLock(paths.run(run_id) / "run.lock"))
        return run_id

    flat = [3.0 - step / 50 for step in range(50)] + [2.0] * 50
    goes_up = [2.0] * 10 + [1.0] * 10 + [1.0 + 0.2 * step for step in range(20)]
    done = made("finished")
    begin(done)
    end(done, "finished", kept_step=60)
    begin(diverging := made("diverging"), losses=goes_up)
    end(diverging, "stopped", stopped_early=True)
    begin(paused := made("paused"))
    end(paused, "paused")
    for name, values in TROUBLES.items():
        begin(failed := made(name))
        events.append(paths.run(failed), "failed", trouble=name, values=values, message=f"{name} happened.")
    begin(made("lost"))
    begin(made("before its forecast"), upto="model")
    at_work("plateau", losses=flat)
    at_work("stalled", silent=4000)
    unanswered = at_work("unanswered")
    asked = {"request": "stop", "after": events.size(paths.run(unanswered)), "asked": time.time() - 600}
    files.write_json(paths.run(unanswered) / "control.json", asked)
    at_work("waiting for disk", upto="waiting")
    at_work("loading", upto="loading")
    for name in ("queued", "held"):
        run_id = made(name)
        if name == "held":
            jobs.ask(paths.run(run_id), "hold")
    return alive


TROUBLES = {
    "OutOfMemory": {"step": "41", "rows": "4", "tokens": "2048", "numbers": "3, 17"},
    "ModelTooLarge": {},
    "DoesNotFit": {"need": "33.1", "there": "12.0", "length": "2048", "rows": "4"},
    "LossNotFinite": {"value": "nan", "step": "7", "rows": "3", "good": "5", "suggestion": "2e-05"},
    "DriverTrouble": {"reason": "CUDA error: an illegal memory access was encountered."},
}


def begin(run_id: str, *, losses: list[float] | None = None, silent: float = 0, upto: str = "") -> None:
    """What a trainer on a card writes, up to its last step, or to the event that `upto` names."""
    losses = [3 * 0.97**step + 0.3 for step in range(100)] if losses is None else losses
    at, lines = time.time() - silent - len(losses), []

    def put(event: str, **values) -> None:
        lines.append({"event": event, "time": round(at + len(lines) / 3, 3), **values})

    put("started", pid=1, resumed_from=None)
    put("loading", corpus_hash="0" * 64, versions={})
    if upto == "waiting":
        put("waiting", needed=9e9, free=1e9)
    if upto not in ("waiting", "loading"):
        _prepared(put, upto)
    if not upto:
        _trained(put, losses)
    with events.file(paths.run(run_id)).open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def _prepared(put, upto: str) -> None:
    data = {"rows_train": 4000, "rows_eval": 40, "tokens_train": 900_000, "tokens_learned": 500_000, "longest": 2048}
    put("data", rows_left_out={"nothing_to_learn": 3}, blocks=420, fill=0.97, **data)
    if upto != "model":
        put("forecast", predicted_bytes=21.5 * GIB, predicted_seconds=1.9, card=DEVICE, attention="flash")
    kernel = {"attention": "sdpa", "varlen": True, "by_document": False, "flash_attention_lacks": "package"}
    counts = {"parameters": 7_600_000_000, "trainable_parameters": 40_000_000}
    put("model", device=DEVICE, precision="bf16", **counts, **kernel)


def _trained(put, losses: list[float]) -> None:
    evals = {0: 3.2, 20: 1.6, 40: 1.2, 60: 1.1, 80: 1.3, 100: 1.4}  # learns by heart after step 60
    for step in range(len(losses) + 1):
        if step:
            figures = {"grad_norm": 1.2, "learning_rate": 2e-4, "tokens_per_second": 4962.0, "seconds_left": 2.0}
            memory = {"memory_gib": round(18 + step / 100, 3)}
            put("step", step=step, max_steps=100, loss=losses[step - 1], tokens=step * 8192, **figures, **memory)
        if step in evals:
            put("eval", step=step, eval_loss=evals[step])
            put("forgetting", step=step, score=-1.0 - step / 90, foreign=step / 400, parts={"ru": -1.0, "fact": -2.0})
            samples = [{"prompt": "Кто ты?", "reply": f"Смотритель маяка, шаг {step}."}]
            put("samples", step=step, samples=samples)
            if step:
                put("checkpoint", step=step, path=f"checkpoint-{step}", bytes=80_000_000)


def end(run_id: str, event: str, **more) -> None:
    took = {"step_seconds": 2.0, "step_tokens": 8192, "peak_memory_gib": 19.4, "eval_loss": 1.1}
    events.append(paths.run(run_id), event, steps=100, max_steps=100, **took, **more)


def problems(lang: str) -> list[str]:
    """What is wrong with the page on this machine as it is now: what was refused, and what cannot be read."""
    say, window = Say(lang), Session(_page(lang))
    window.open()
    window.expand()
    found = [f"at once: {text}" for text in window.unreadable()]
    shown = window.find("dropdown", "training", label=say("training.shown"))
    picked = window.find("dropdown", "runs", label=say("runs.pick"))
    for run_id in runs.listed():
        if len(hardware.gpus()) == 1 and runs.state(run_id) not in ("failed", "lost"):
            continue  # of the others the card changes nothing: on the machines with none and with two they are drawn
        for place in (shown, picked):
            window.put(place, run_id)
        window.tick()
        found += [f"{runs.label(run_id)['name']}: {text}" for text in window.unreadable()]
    window.put(window.find("dropdown", label=say("compare.runs")), runs.listed()[:3])
    card, method = (
        window.find("dropdown", "calculator", label=say(f"calculator.{name}")) for name in ("card", "method")
    )
    for choice in [value for _, value in window.parts[card]["choices"] if value.startswith("mine:")] or [cards.CPU]:
        window.put(card, choice)
        for way in ("lora", "full", "qlora"):
            window.put(method, way)
            found += [f"{choice} {way}: {text}" for text in window.unreadable()]
    choices = [name for name, _ in window.parts[card]["choices"]]
    found += [f"{gpu.name} is nowhere" for gpu in hardware.gpus() if not any(gpu.name in name for name in choices)]
    return list(dict.fromkeys([*found, *window.refused]))


@cache
def _page(lang: str):
    import app

    return app.build_page(Say(lang))


def draw() -> None:
    """Every tab on every machine, printed as JSON: {machine: {language: problems}}.

    The machines take turns in the languages; what differs most is drawn in both.
    """
    listed, found = hardware.gpus, {}
    with furnish(str(paths.home() / "rows.jsonl")):
        for number, (name, cards) in enumerate({"as the driver lists it": None, **MACHINES}.items()):
            hardware.gpus = listed if cards is None else lambda cards=cards: cards
            languages = LANGUAGES if name in IN_BOTH else LANGUAGES[number % 2 :][:1]
            found[name] = {lang: problems(lang) for lang in languages}
    print(json.dumps(found, ensure_ascii=False))


def train() -> None:
    """Short runs through the page: the form is filled in, Train is pressed, and the page is read until each has ended.

    One that trains, one that asks for what this card's kernels lack, one whose weights have other shapes, one from which the
    card is hidden. Printed as JSON: {"trained", "refused", "damaged", "hidden": {"state", "device", "status", "facts",
    "problems", ...}, "answer": the calculator's}.
    """
    import app

    say = Say("ru")
    window, tiny = Session(app.build_page(say)), paths.home() / "tiny"
    damaged = shutil.copytree(tiny, paths.home() / "damaged")
    shape = json.loads((damaged / "config.json").read_text(encoding="utf-8"))
    (damaged / "config.json").write_text(json.dumps(shape | {"intermediate_size": 96}), encoding="utf-8")
    made = corpus.create([paths.home() / "rows.jsonl"], "строки", options=corpus.Options())
    window.open()
    fields = {"corpus": made["id"], "method": "lora", "eval_samples": True, "forgetting_meter": True}
    fields |= {"max_steps": 6, "eval_steps": 3, "max_length": 128, "batch_size": 2}
    found = {"trained": _walked(say, window, base_model=str(tiny), **fields)}
    found["refused"] = _walked(say, window, use_liger_kernel=True)
    found["damaged"] = _walked(say, window, use_liger_kernel=False, base_model=str(damaged))
    while runs.has_worker():  # else it would take the next run too, and it sees the card
        time.sleep(0.1)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    window.open()  # the page as it is found after a restart without the card
    few = {"eval_samples": False, "forgetting_meter": False, "max_steps": 2, "eval_steps": 2}
    found["hidden"] = _walked(say, window, base_model=str(tiny), **few)
    del os.environ["CUDA_VISIBLE_DEVICES"]
    window.open()  # and with it again
    found["answer"] = _asked_again(say, window, str(tiny))
    print(json.dumps(found, ensure_ascii=False))


def _walked(say: Say, window: Session, **fields) -> dict:
    """Fill these fields of the form, train, and read what the page says of the run until it has ended."""
    kinds = {str: "dropdown", bool: "checkbox", int: "number"}
    for name, value in fields.items():
        kind = "radio" if name == "method" else kinds[type(value)]
        window.put(window.find(kind, "training", label=say(f"training.{name}")), value)
    before, found, stages = set(runs.listed()), [], set()
    window.click(say("training.train"))
    assert not window.refused, window.refused
    (run_id,) = set(runs.listed()) - before
    while runs.state(run_id) in runs.ACTIVE:
        window.tick()
        found += window.unreadable()
        stages.add(store.sync(run_id)["stage"] or "")
        time.sleep(0.2)
    window.tick()
    window.tick()
    row, texts = store.sync(run_id), window.texts()
    status = next(text for text in texts if text.startswith('<div class="state">'))
    window.select("runs")
    window.put(window.find("dropdown", "runs", label=say("runs.pick")), run_id)
    state = say("runs.state")  # a column to choose has the same name
    facts = next(text for text in window.texts() if text.startswith(state) and text != state)
    told = {name: row[name] for name in ("state", "device", "precision", "attention", "step")}
    told |= {"trouble": row["error"], "message": row["error_message"]}
    problems = list(dict.fromkeys([*found, *window.unreadable(), *window.refused]))
    return told | {"stages": sorted(stages), "status": status, "facts": facts, "problems": problems}


def _asked_again(say: Say, window: Session, model: str) -> str:
    """What the calculator answers of the same model, once this machine's runs have shown by how much it was wrong."""
    first = min(runs.listed(), key=lambda run_id: runs.label(run_id)["created"])
    expected = forecast.of_config(dataclasses.asdict(runs.config(first)))
    expected = {
        name: value for name, value in expected.items() if name in inspect.signature(calibration.record).parameters
    }
    as_much, longer = 1.25 * expected["predicted_bytes"], 2 * expected["predicted_seconds"]
    calibration.file().unlink(missing_ok=True)  # of the run: a pretended card has the memory that it likes
    for _ in range(4):  # one run alone moves little
        calibration.record(**expected, measured_bytes=as_much, measured_seconds=longer)
    card = window.find("dropdown", "calculator", label=say("calculator.card"))
    mine = [value for _, value in window.parts[card]["choices"] if value.startswith("mine:")]
    window.put(card, (mine or [cards.CPU])[0])
    window.put(window.find("dropdown", "calculator", label=say("calculator.model")), model)
    window.put(window.find("dropdown", "calculator", label=say("calculator.method")), expected["method"])
    window.put(window.find("number", "calculator", label=say("calculator.max_length")), 512)
    said = [text for text in window.texts() if text.startswith(('<div class="state" style', '<div class="trouble"'))]
    return " ".join(said)


def measure() -> None:
    """The rate of a card, measured as the calculator's button does it but on small matrices, and the card that it makes."""
    import torch

    randn = torch.randn
    torch.randn = lambda *sizes, **more: randn(*(min(size, 256) for size in sizes), **more)
    sys.argv[1:] = ["--json"]
    probe.main()


if __name__ == "__main__":
    {"draw": draw, "train": train, "measure": measure}[sys.argv[1]]()
