"""Whose turn it is on the card: claims of runs, guests who leave, and memory that is given back, all on the processor."""

import gc
import subprocess
import sys
import time
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock

from core import events
from core.chat import chat, chat_models, engine, generation, server
from core.chat.types import Question, Sampling
from core.runs import gpu_access, runs, worker
from core.synth import local, synth_jobs
from core.training import devices, model_loading
from core.training.config import TrainConfig
from tests.conftest import raises, slow_but
from ui import synth_html
from ui.text import Say

ROOT = Path(__file__).parent.parent
ASK = [{"role": "user", "content": "lamp?"}]
LONG = Sampling(temperature=1.5, max_new_tokens=300)


@pytest.fixture(autouse=True)
def let_go(tiny_model, monkeypatch):
    monkeypatch.setitem(chat_models._base_directories, tiny_model, tiny_model)  # a base that was spoken to before
    yield
    engine.unload()


@pytest.fixture
def waiting(tiny_model, tiny_corpus, no_worker) -> str:
    """A run that waits in the queue."""
    return runs.start(TrainConfig(base_model=tiny_model, corpus=tiny_corpus, method="lora"), "the night run")


@pytest.fixture
def with_card(monkeypatch):
    monkeypatch.setattr(gpu_access.reply_gpu, "is_taken_by", lambda run_id: True)


def ask(tiny_model: str) -> dict[str, Question]:
    return {"a": Question(f"base:{tiny_model}", ASK)}


def test_a_claimed_card_is_busy_before_its_run_trains(waiting, with_card):
    assert gpu_access.busy() is None
    with gpu_access.claim(waiting):
        assert (gpu_access.training(), gpu_access.busy()) == (None, waiting)
        with pytest.raises(gpu_access.CardBusy, match='The run "the night run" is training and has the card'):
            gpu_access.need()
    assert gpu_access.busy() is None


def test_a_machine_without_a_card_is_never_busy(waiting, monkeypatch):
    monkeypatch.setattr(gpu_access.reply_gpu, "is_taken_by", lambda run_id: False)
    with gpu_access.claim(waiting):
        gpu_access.need()
        assert (gpu_access.busy(), gpu_access.owner()) == (None, waiting)


@pytest.mark.slow
def test_a_run_waits_until_guests_have_left_and_a_dead_guest_is_none(home):
    assert gpu_access.wait_for_guests(0)
    with gpu_access.guest(), gpu_access.guest():
        assert not gpu_access.wait_for_guests(0)
    assert gpu_access.wait_for_guests(0)
    code = "import time; from core.runs.gpu_access import guest\nwith guest(): print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        assert not gpu_access.wait_for_guests(0)
        other.kill()
    assert gpu_access.wait_for_guests(5)


def test_who_waited_for_its_turn_is_refused_once_a_run_has_claimed_the_card(tiny_model, waiting, monkeypatch):
    """Its question came before the claim; its model would be loaded after the chat gave the memory back."""
    monkeypatch.setattr(engine, "_device", lambda on_cpu: engine.ON_CPU if on_cpu else "cuda")
    with gpu_access.claim(waiting):
        with pytest.raises(gpu_access.CardBusy):
            next(generation.replies(ask(tiny_model), LONG))
        with pytest.raises(gpu_access.CardBusy):
            generation.held_out_loss(f"base:{tiny_model}", [])
        assert next(generation.replies(ask(tiny_model), LONG, on_cpu=True))


@pytest.mark.slow
def test_a_run_that_starts_leaves_the_processor_s_chat_alone(tiny_model, monkeypatch):
    monkeypatch.setattr(engine, "_device", lambda on_cpu: engine.ON_CPU)
    replies = generation.replies(ask(tiny_model), LONG, on_cpu=True)
    next(replies)
    began = time.monotonic()
    assert not engine.close()  # does not wait for the reply either
    assert time.monotonic() - began < 5
    *_, last = replies
    assert last["a"].finish_reason
    assert not engine.close()
    assert engine.is_open()
    monkeypatch.setattr(engine, "_device", lambda on_cpu: "cpu")
    list(generation.replies(ask(tiny_model), Sampling(max_new_tokens=2)))
    assert engine.close()
    assert not engine.is_open()


def broken(monkeypatch, error: Exception, kept: list):
    """Let the third forward pass run out of memory in the middle of a layer; `kept` gets weak references to what it held."""
    from transformers.models.llama.modeling_llama import LlamaMLP

    forward, calls = LlamaMLP.forward, []

    def failing(self, x):
        calls.append(1)
        scratch = x * 2
        if len(calls) > 5:
            kept.append(weakref.ref(scratch))
            raise error
        return forward(self, x)

    monkeypatch.setattr(LlamaMLP, "forward", failing)


DIALECTS = [
    lambda: MemoryError(),
    lambda: RuntimeError("CUDA error: out of memory"),
    lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
]


@pytest.mark.parametrize("made", slow_but(DIALECTS[:1], DIALECTS))
def test_after_it_ran_out_of_memory_a_chat_holds_nothing(tiny_model, trained_run, monkeypatch, made):
    kept, init = [], generation.Group.__init__

    def remembered(self, *arguments):
        init(self, *arguments)
        kept.extend(map(weakref.ref, [self, self.cache, self.weights.inner, *self.weights.inner.parameters()]))

    monkeypatch.setattr(generation.Group, "__init__", remembered)
    broken(monkeypatch, made(), kept)
    emptied = []
    monkeypatch.setattr(devices, "empty_cache", lambda: emptied.append(sum(one() is not None for one in kept)))
    with raises("MemoryRanOut", match="Memory ran out while") as caught:
        list(generation.replies(ask(tiny_model) | {"b": Question(f"run:{trained_run}", ASK)}, LONG))
    assert len(kept) > 40
    assert [one() for one in kept if one() is not None] == []  # though the error is still held
    assert emptied[-1] == 0  # nothing lived any more when the allocator was asked to give its memory back
    assert not engine.is_open()
    assert caught.value.__cause__


def test_after_it_ran_out_of_memory_measuring_holds_nothing(tiny_model, monkeypatch):
    kept, load = [], engine._load_weights

    def remembered(*arguments):
        weights = load(*arguments)
        kept.extend(map(weakref.ref, weights.inner.parameters()))
        return weights

    monkeypatch.setattr(engine, "_load_weights", remembered)
    broken(monkeypatch, RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), kept)
    rows = [{"messages": [*ASK, {"role": "assistant", "content": "sea lamp"}]}] * 20
    with raises("MemoryRanOut"):
        generation.held_out_loss(f"base:{tiny_model}", rows)
    assert len(kept) > 10
    assert [one() for one in kept if one() is not None] == []


def test_what_is_no_lack_of_memory_stays_what_it_is(tiny_model, monkeypatch):
    broken(monkeypatch, RuntimeError("shapes differ"), [])
    with pytest.raises(RuntimeError, match="shapes differ"):
        list(generation.replies(ask(tiny_model), LONG))
    assert not engine.LOCK.locked()


def test_scores_that_are_no_numbers_are_said_in_words(tiny_model, monkeypatch):
    from transformers.models.llama.modeling_llama import LlamaMLP

    monkeypatch.setattr(LlamaMLP, "forward", lambda self, x: x * float("nan"))
    for temperature in (0.0, 1.0):
        with raises("NotNumbers", match=r"produces NaN or infinity in (float32|bfloat16)"):
            list(generation.replies(ask(tiny_model), Sampling(temperature=temperature)))


def test_a_draw_is_that_of_multinomial():
    import torch

    probabilities = torch.rand(1, 400, generator=torch.Generator().manual_seed(3)).softmax(-1)
    for seed in range(20):
        one, other = (torch.Generator().manual_seed(seed) for _ in range(2))
        drawn = (probabilities / torch.empty_like(probabilities).exponential_(generator=one)).argmax(-1)
        assert drawn.item() == torch.multinomial(probabilities, 1, generator=other).item()


CHATS = [[{"role": "user", "content": text}] for text in ("sea?", "a longer question about the lamp?", "fog", "tide")]
GREEDY = {"temperature": 0.0, "max_tokens": 6}


def test_a_writer_without_memory_for_a_batch_takes_smaller_ones(tiny_model, monkeypatch):
    writer, sizes = local.Local(tiny_model), []
    wanted = [reply.text for reply in writer.batch(CHATS, **GREEDY)]
    generated = local.Local._generated

    def scarce(self, chats, *arguments):
        sizes.append(len(chats))
        if len(chats) > most:
            raise RuntimeError("CUDA error: out of memory")
        return generated(self, chats, *arguments)

    monkeypatch.setattr(local.Local, "_generated", scarce)
    most = 1
    assert [reply.text for reply in writer.batch(CHATS, **GREEDY)] == wanted
    assert sizes == [4, 2, 1, 1, 1, 1]
    most = 0
    with raises("WriterOutOfMemory", match="even one row at a time"):
        writer.batch(CHATS, **GREEDY)


def test_a_writer_that_memory_runs_out_for_while_it_is_loaded_leaves_nothing(tiny_model, monkeypatch):
    writer, load, kept = local.Local(tiny_model), model_loading.load_base, []

    def failing(config):
        base = load(config)
        kept.extend(map(weakref.ref, base.parameters()))
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(model_loading, "load_base", failing)
    with raises("WriterOutOfMemory") as caught:
        writer.batch(CHATS, **GREEDY)
    assert caught.value.values == {"model": Path(tiny_model).name}
    assert [one() for one in kept if one() is not None] == []
    assert gpu_access.wait_for_guests(0)


def test_a_writer_leaves_in_the_middle_of_a_reply_when_a_run_claims_the_card(tiny_model, waiting, monkeypatch):
    monkeypatch.setattr(local, "LOOK_SECONDS", 0)
    writer = local.Local(tiny_model)
    writer.batch(CHATS, **GREEDY)
    kept = [weakref.ref(one) for one in writer.model.parameters()]
    monkeypatch.setattr(devices, "device_type", lambda: "mps")
    monkeypatch.setattr(devices, "empty_cache", lambda: None)
    opened = local.Local.open
    monkeypatch.setattr(local.Local, "open", lambda self: None)  # the claim comes when the batch has begun
    with (
        gpu_access.claim(waiting),
        pytest.raises(local.WriterWaits, match='The run "the night run" is training') as caught,
    ):
        writer.batch(CHATS, **GREEDY)
    gc.collect()
    assert [one() for one in kept if one() is not None] == []
    assert caught.value.values["name"] == "the night run"
    monkeypatch.setattr(local.Local, "open", opened)
    monkeypatch.undo()
    assert len(writer.batch(CHATS, **GREEDY)) == 4


def test_a_writer_for_which_there_is_no_room_asks_the_chat_first_and_takes_4_bit(tiny_model, monkeypatch):
    free, asked = [100_000], []
    monkeypatch.setattr(engine, "free_bytes", lambda device: free[0])
    monkeypatch.setattr(chat, "close", lambda **how: (asked.append(how), free.insert(0, 200_000)))
    assert local.Local(tiny_model)._method() == "qlora"
    assert asked == [{"at_once": False}]
    free[0] = 10**9
    assert local.Local(tiny_model)._method() == "lora"
    free[0] = 10
    monkeypatch.setattr(chat, "close", lambda **how: None)
    with raises("NoRoom", match="GiB are free"):
        local.Local(tiny_model)._method()


def test_a_card_that_shares_the_machine_s_memory_has_what_is_free_there(monkeypatch):
    """Its driver takes what the system keeps of files for used memory; it is given back when somebody asks for it."""
    import psutil
    import torch

    monkeypatch.setattr(devices, "device_type", lambda: "cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (2 * 2**30, 120 * 2**30))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 90 * 2**30}))
    for integrated, free in ((1, 90), (0, 2)):
        properties = type("Properties", (), {"is_integrated": integrated})
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda *_, found=properties: found)
        assert devices.free_bytes() == free * 2**30
    assert engine.free_bytes(engine.ON_CPU) == engine.free_bytes("cpu") == 90 * 2**30


def test_an_intel_card_that_does_not_say_what_is_free_has_what_this_process_did_not_reserve(monkeypatch):
    """https://github.com/pytorch/pytorch/issues/164429"""
    import torch

    def refuses():
        raise RuntimeError("The device does not support querying the available free memory.")

    monkeypatch.setattr(devices, "device_type", lambda: "xpu")
    monkeypatch.setattr(torch.xpu, "mem_get_info", refuses)
    properties = type("Properties", (), {"total_memory": 16 * 2**30})
    monkeypatch.setattr(torch.xpu, "get_device_properties", lambda: properties)
    monkeypatch.setattr(torch.xpu, "memory_reserved", lambda: 5 * 2**30)
    assert devices.free_bytes() == 11 * 2**30
    monkeypatch.setattr(torch.xpu, "mem_get_info", lambda: (3 * 2**30, 16 * 2**30))
    assert devices.free_bytes() == 3 * 2**30
    monkeypatch.setattr(devices, "device_type", lambda: "cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", refuses)
    with pytest.raises(RuntimeError, match="querying"):  # there it is a broken driver
        devices.free_bytes()


def test_a_chat_s_process_of_another_version_is_asked_in_words_that_it_knows(home, monkeypatch):
    """Before an update it knew no `at_once`; after one it may be asked for more than this one knows, or less."""
    asked = []

    def old(request):
        asked.append(request)
        return [{"trouble": "TypeError", "values": None, "message": ""} if "at_once" in request else {"closed": True}]

    monkeypatch.setattr(chat, "_ask_if_there", old)
    assert chat.close()
    assert asked == [{"do": "close", "at_once": True}, {"do": "close"}]
    assert not chat.close(at_once=False)  # a reply that grows is left alone
    for request in ({}, {"at_once": False}, {"at_once": True, "of_tomorrow": 1}):
        assert list(server.Server()._close(None, **request)) == [{"closed": False}]


def test_a_chat_that_fails_to_close_stops_no_run(waiting, monkeypatch):
    started = []

    def failing():
        raise KeyError("closed")

    monkeypatch.setattr(worker.reply_gpu, "gives_way_to", lambda run_id: True)
    monkeypatch.setattr(worker.chat, "close", failing)
    monkeypatch.setattr(
        worker.process,
        "spawn_detached",
        lambda command, log: started.append(command) or SimpleNamespace(wait=lambda: 0),
    )
    worker.run_trainer(waiting)
    assert len(started) == 1


def test_a_chat_s_process_ends_after_an_error_that_the_card_does_not_recover_from():
    lost = [
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        type("AcceleratorError", (Exception,), {})(),
    ]
    assert [server.is_card_lost(error) for error in lost] == [True, True]
    assert not server.is_card_lost(RuntimeError("shapes differ"))


def test_the_page_says_which_run_a_writing_job_waits_for(tmp_path, waiting):
    path = tmp_path / "recipe.yaml"
    path.write_text("kind: model\nlang: en\nmethod: free\nseeds: [sea, lamp, fog, tide]\n", encoding="utf-8")
    job = synth_jobs.create({"recipe": str(path), "tokens": 2000, "name": "rows"})
    events.append(job, "started", pid=1)
    events.append(job, "waiting", run="<night> run")
    with FileLock(job / "run.lock"):
        found = synth_jobs.progress(job)
        assert "The run “&lt;night&gt; run” is using the card. The job waits" in synth_html.job(Say("en"), found)
        assert "Видеокарта занята обучением «&lt;night&gt; run»" in synth_html.job(Say("ru"), found)
        events.append(job, "resumed")
        assert synth_jobs.progress(job)["waits_for"] is None
