"""What everybody but a run does on a card: `python -m tests.pretended_card.chat '{"KEY": ["WALK", {"ARGUMENT": 1}]}'`.

The walks are the functions here; what they found is printed as one JSON object. They run as well on a processor, which
their numbers are compared with.
"""

import json
import sys

ASK = [{"role": "user", "content": "lamp?"}]


def mixed() -> list[str]:
    """The operators so far that met tensors of both devices."""
    import torch

    if not torch.cuda.is_available():
        return []
    import pretended_torch

    return sorted(set(pretended_torch.card.mixed()))


def waits():
    """A mode that counts, by name, the operators that make the host wait for a card: values read, copies either way."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Waits(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.counts = {}

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            name, kwargs = function._schema.name.removeprefix("aten::"), kwargs or {}
            result = function(*args, **kwargs)
            devices = {str(getattr(one, "device", "")) for one in (*args[:2], result)} & {"cpu", "cuda:0"}
            alone = name in ("_local_scalar_dense", "nonzero", "equal", "is_nonzero") and "cuda:0" in devices
            if alone or (name in ("_to_copy", "copy_", "_copy_from") and len(devices) == 2):
                self.counts[name] = self.counts.get(name, 0) + 1
            return result

    return Waits()


def columns(ids: dict[str, str], tokens: int = 12, on_cpu: bool = False, **settings) -> dict:
    """Greedy replies, how the weights are held, and what the last tokens asked of the card."""
    from core.chat import engine, generation
    from core.chat.types import Question, Sampling

    sampling = Sampling(**{"temperature": 0, "repetition_penalty": 1.0, "max_new_tokens": tokens} | settings)
    asked = {name: Question(id, ASK) for name, id in ids.items()}
    replies, waited, growing = {}, [], generation.replies(asked, sampling, on_cpu=on_cpu)
    while True:
        with waits() as mode:
            replies, before = next(growing, None), replies
        if replies is None:
            break
        waited.append(mode.counts)
    kept = [held(weights.inner, key.quantised) for key, weights in engine._opened.items()]
    engine.unload()
    texts = {name: reply.text for name, reply in before.items()}
    return {"texts": texts, "held": kept, "mixed": mixed(), "waits": waited}


def held(model, quantised: bool) -> dict:
    """How a model is held."""
    attention = model.config._attn_implementation
    dtype = str(model.get_input_embeddings().weight.dtype)
    return {"device": str(model.device), "dtype": dtype, "quantised": quantised, "attention": attention}


def measured(contestant: str) -> dict:
    """The held-out loss."""
    from core.chat import generation
    from tests.conftest import chat_rows

    return generation.held_out_loss(contestant, chat_rows(10)) | {"mixed": mixed()}


CHATS = [[{"role": "user", "content": text}] for text in ("sea?", "a longer question about the lamp?", "fog")]


def written(model: str, free: int | None = None) -> dict:
    """Greedy replies of a local writer, together and one by one, where so much memory is free."""
    from core.synth.local import Local
    from core.training import devices as devices_module

    if free:
        devices_module.free_bytes = lambda: free
    local = Local(model)
    sampling = {"temperature": 0.0, "max_tokens": 12}
    texts = [reply.text for reply in local.batch(CHATS[:1] * 3, **sampling)]
    alone = [local.ask(CHATS[0], **sampling).text for _ in range(3)]
    local.batch(CHATS, temperature=0.9, max_tokens=12)
    kept = held(local.model, hasattr(local.model, "hf_quantizer"))
    local.close()
    return {"texts": texts, "alone": alone, "held": kept, "mixed": mixed()}


def refused_writer(model: str, free: int) -> dict:
    """The sentence of a writer that does not fit."""
    from core.errors import UserError
    from core.synth.local import Local
    from core.training import devices as devices_module

    devices_module.free_bytes = lambda: free
    try:
        Local(model).batch(CHATS, temperature=0.0, max_tokens=2)
    except UserError as error:
        return {"message": str(error) if error.name == "NoRoom" else error.name}
    return {"message": ""}


def exported(run_id: str) -> dict:
    """SHA-256 of what merging and GGUF write, by the files' names, and the differences that they measure."""
    import hashlib
    import tempfile
    from pathlib import Path

    from core.export import export

    with tempfile.TemporaryDirectory() as folder:
        found = export.make(run_id, "merged", Path(folder) / "merged", lambda *_, **__: None)
        files = export.make(run_id, "gguf", Path(folder) / "gguf", lambda *_, **__: None)
        paths = [path for path in Path(folder).rglob("*") if path.is_file() and path.name != "soulsmith.json"]
        told = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    differences = [found["difference"], *(one["kl"] for one in files["files"])]
    return {"files": told, "differences": differences, "mixed": mixed()}


def matched(a: str, b: str) -> dict:
    """The answers and the losses of a match, by the chat's own process."""
    from core import jobs
    from core.arena import matches, numbers

    start, jobs.start = jobs.start, lambda *_: None
    directory = matches.create(a, b, "en", {"temperature": 0, "max_new_tokens": 8, "repetition_penalty": 1.0})
    jobs.start, request = start, jobs.request(directory)
    request["prompts"] = request["prompts"][:3]
    try:
        matches.answer(directory, request, lambda *_, **__: None)
    finally:
        hang_up()
    told = numbers.of(directory, request)
    answers = [[row[side]["text"] for side in "ab"] for row in matches.answers(directory)]
    return {"answers": answers, "losses": [told[side]["held_out_loss"] for side in "ab"]}


def hang_up() -> None:
    """End the chat's own process."""
    import os
    import signal

    from core import paths

    os.kill(json.loads((paths.home() / "chat.json").read_text(encoding="utf-8"))["pid"], signal.SIGKILL)


def started(model: str, corpus: str, name: str) -> str:
    """A run that is training: it has taken a step."""
    from core.runs import runs
    from core.training.config import TrainConfig

    more = {"max_steps": 2000, "eval_steps": 2000, "seed": len(runs.listed())}
    run_id = runs.start(TrainConfig(base_model=model, corpus=corpus, method="lora", **more), name)
    stepped(run_id)
    return run_id


def stepped(run_id: str) -> None:
    """Wait until a run has taken a step since it was last started."""
    import time

    from core import events, paths

    end = time.monotonic() + 120
    while (events.last(paths.run(run_id)) or {}).get("event") != "step":
        assert time.monotonic() < end, events.read(paths.run(run_id))[0][-3:]
        time.sleep(0.1)


def ended(run_id: str) -> None:
    """Stop a run, and wait until nobody has the card."""
    import time

    from core.runs import gpu_access, runs

    runs.stop(run_id)
    while gpu_access.owner():
        time.sleep(0.1)


def evicted(run_id: str, model: str, corpus: str) -> dict:
    """What a run that starts does to a chat on the card, and, when it is resumed, to one on the processor."""
    from core import errors, events, paths
    from core.chat import chat
    from core.chat.types import Question, Sampling
    from core.runs import gpu_access, runs

    asked, found = {"a": Question(f"run:{run_id}", ASK)}, {"ended": []}
    long = Sampling(temperature=1.5, max_new_tokens=400)
    try:
        growing = chat.talk(asked, Sampling(temperature=1.5, max_new_tokens=900))
        next(growing)
        found["before"] = chat.look()["open"]
        first = started(model, corpus, "first")
        found["during"] = chat.look()["open"]
        try:
            list(growing)
        except errors.ErrorElsewhere as error:
            found["ended"].append(error.name)
        try:
            list(chat.talk(asked, long))
        except gpu_access.CardBusy as error:
            found["busy"] = str(error)
        growing = chat.talk(asked, long, on_cpu=True)
        next(growing)
        ended(first)
        runs.resume(first)  # asks the chat for the card while it replies on the processor
        stepped(first)
        found["on_cpu_stays"] = chat.look()["open"]
        *_, last = growing
        found["on_cpu_finish"] = last["a"].finish_reason
        ended(first)
        began = [event for event in events.read(paths.run(first))[0] if event["event"] == "started"]
        found["resumed"] = [bool(event["resumed_from"]) for event in began]
    finally:
        hang_up()
    return found


def written_beside_a_run(model: str, corpus: str, folder: str) -> dict:
    """A job with a local writer, and a run that starts in its middle."""
    import threading
    import time
    from itertools import groupby
    from pathlib import Path

    from core import events, jobs
    from core.runs import gpu_access
    from core.synth import job_files, replies, synth_jobs, worker

    replies.checked = lambda reply, *_: (reply.text, None)  # whatever a model of random weights says
    job_files.NOVELTY_LEAST = 0
    path = Path(folder) / "recipe.yaml"
    path.write_text("kind: model\nlang: en\nmethod: free\nseeds: [sea, lamp, fog, tide]\n", encoding="utf-8")
    job = synth_jobs.create(
        {"recipe": str(path), "tokens": 10_000_000, "writer": model, "max_tokens": 16, "parallel": 2}
    )
    working = threading.Thread(target=worker.run, args=[job], daemon=True)
    working.start()

    def rows() -> int:
        return synth_jobs.progress(job)["progress"].get("rows", 0)

    def until(asked) -> None:
        end = time.monotonic() + 60
        while not asked():
            assert time.monotonic() < end, events.last(job)
            time.sleep(0.1)

    until(rows)
    run_id, found = started(model, corpus, "the run"), {}
    until(lambda: synth_jobs.progress(job)["waits_for"])
    found |= {"waits_for": synth_jobs.progress(job)["waits_for"], "rows_before": rows()}
    found["guests_during"] = not gpu_access.wait_for_guests(0)
    ended(run_id)
    until(lambda: rows() > found["rows_before"])
    found["rows_after"] = rows()
    jobs.ask(job, "pause")
    working.join()
    told = [event["event"] for event in events.read(job)[0]]
    return found | {"events": [name for name, _ in groupby(told)]}


def main() -> None:
    print(json.dumps({key: globals()[walk](**values) for key, (walk, values) in json.loads(sys.argv[1]).items()}))


if __name__ == "__main__":
    main()
