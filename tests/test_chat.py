"""Chat: the base is the base, the adapter is the adapter, and markup is shown as it was written."""

import copy
import json
import os
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import pytest

from core import errors, paths
from core.chat import chat, chat_models, chats, engine, generation, profiles, server, types
from core.chat.types import BASE, TUNED, Question, Sampling
from core.errors import ErrorElsewhere
from core.runs import gpu_access, runs
from core.training import corpus_rows, encoding, training_loop
from core.training.config import TrainConfig
from tests.conftest import chat_rows, raises
from ui import playground_show as show
from ui import playground_talk as talk
from ui.playground_show import literal
from ui.text import Say

ASK = [{"role": "user", "content": "lamp?"}]


@pytest.fixture(autouse=True)
def let_go():
    yield
    engine.close()


@pytest.fixture(scope="session")
def stubborn_adapter(tiny_model, tmp_path_factory):
    """An adapter that was trained to say "storm", whatever it is asked."""
    out = tmp_path_factory.mktemp("stubborn")
    rows = [
        {"messages": [row["messages"][0], {"role": "assistant", "content": "storm " * 11 + "storm"}]}
        for row in chat_rows(40)
    ]
    (out / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = TrainConfig(
        base_model=tiny_model,
        corpus=str(out / "rows.jsonl"),
        method="lora",
        max_steps=60,
        batch_size=8,
        learning_rate=0.02,
        eval_steps=60,
    )
    training_loop.train(config, out, report=lambda *_, **__: None)
    return out / "adapter"


@pytest.fixture
def stubborn_run(tiny_model, tiny_corpus, stubborn_adapter) -> str:
    run_id = runs.create(TrainConfig(base_model=tiny_model, corpus=tiny_corpus, method="lora"))
    shutil.copytree(stubborn_adapter, paths.run(run_id) / "adapter")
    return run_id


def loaded(run_id: str) -> engine.LoadedModel:
    return engine.load_models({TUNED: f"run:{run_id}"})[TUNED]


def replies_of(run_id: str, conversations: dict[str, list[dict]], sampling: Sampling | None = None):
    """The replies of a run and of its base; `conversations` maps "base" or "tuned" to messages."""
    ids = chat_models.ids_of_run(run_id)
    asked = {name: Question(ids[name], messages) for name, messages in conversations.items()}
    return generation.replies(asked, sampling or Sampling())


def said(run_id: str, **settings) -> dict:
    *_, columns = replies_of(run_id, {BASE: ASK, TUNED: ASK}, Sampling(max_new_tokens=12, **settings))
    return columns


def test_both_columns_grow_token_by_token(trained_run):
    lengths = [
        (columns[BASE].tokens, columns[TUNED].tokens)
        for columns in replies_of(trained_run, {BASE: ASK, TUNED: ASK}, Sampling(max_new_tokens=5, seed=3))
    ]
    assert lengths == sorted(lengths)
    assert lengths[0] in ((1, 1), (0, 1), (1, 0), (0, 0))
    assert max(lengths[-1]) <= 5


def test_the_same_seed_gives_the_same_replies(trained_run):
    assert [said(trained_run, seed=1)[name].text for name in (BASE, TUNED)] == [
        said(trained_run, seed=1)[name].text for name in (BASE, TUNED)
    ]
    assert said(trained_run, seed=1)[TUNED].text != said(trained_run, seed=2)[TUNED].text


def test_an_adapter_that_changes_nothing_replies_like_its_base(tiny_model, tiny_corpus):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    run_id = runs.create(TrainConfig(base_model=tiny_model, corpus=tiny_corpus, method="lora"))
    untrained = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), LoraConfig(target_modules=["q_proj"]))
    untrained.save_pretrained(paths.run(run_id) / "adapter")
    columns = said(run_id, temperature=1.0)
    assert columns[BASE].text == columns[TUNED].text
    assert columns[BASE].tokens > 0


def test_the_base_never_says_what_the_adapter_says(stubborn_run):
    for settings in ({"temperature": 0}, {"temperature": 1.0, "seed": 1}, {"temperature": 1.0, "seed": 2}):
        columns = said(stubborn_run, repetition_penalty=1.0, **settings)
        assert "storm storm" in columns[TUNED].text
        assert "storm" not in columns[BASE].text


@pytest.mark.slow
def test_the_base_is_the_base_under_sends_at_the_same_time(stubborn_run):
    with ThreadPoolExecutor(4) as windows:
        answers = list(windows.map(lambda seed: said(stubborn_run, seed=seed, repetition_penalty=1.0), range(8)))
    assert all("storm storm" in columns[TUNED].text for columns in answers)
    assert not any("storm" in columns[BASE].text for columns in answers)


def test_a_reply_may_grow_on_any_thread(trained_run, stubborn_adapter):
    """Gradio takes each step of a generator on whatever thread is free, and closes it on another one."""
    first, second = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
    replies = replies_of(trained_run, {BASE: ASK, TUNED: ASK}, Sampling(max_new_tokens=50))
    first.submit(next, replies).result()
    second.submit(replies.close).result()
    engine.close()
    again = replies_of(trained_run, {BASE: ASK, TUNED: ASK}, Sampling(max_new_tokens=50))
    first.submit(next, again).result()
    second.submit(next, again).result()
    again.close()


def test_closing_the_chat_ends_a_reply_that_grows(trained_run):
    replies = replies_of(trained_run, {TUNED: ASK}, Sampling(max_new_tokens=200, temperature=0))
    next(replies)
    with ThreadPoolExecutor(1) as other:
        closed = other.submit(engine.close)
        while not engine.CLOSING.is_set():
            pass
        assert len(list(replies)) <= 1
        assert closed.result()


def test_weights_that_were_written_anew_are_loaded_anew(trained_run, home, monkeypatch):
    source = paths.run(trained_run)
    monkeypatch.setenv("SOULSMITH_HOME", str(home))
    shutil.copytree(source, paths.run(trained_run))
    first = loaded(trained_run)
    assert loaded(trained_run) == first
    (paths.run(trained_run) / "adapter" / "adapter_model.safetensors").touch()
    anew = loaded(trained_run)
    assert anew.weights is first.weights
    assert anew.adapter != first.adapter


def test_a_model_without_a_chat_template_goes_on_with_the_text(tiny_tokenizer):
    import copy

    from core.training import encoding

    bare = copy.deepcopy(tiny_tokenizer)
    bare.chat_template = None
    assert bare.decode(encoding.prompt_ids(ASK, bare)) == "lamp?"
    model = type("Model", (), {"generation_config": type("Config", (), {"eos_token_id": 2})})
    assert encoding.stop_ids(model, bare) == [2]


def test_closing_the_iterator_frees_the_card_at_once(trained_run):
    replies = replies_of(trained_run, {TUNED: ASK}, Sampling(max_new_tokens=200))
    next(replies)
    assert engine.LOCK.locked()
    replies.close()
    assert not engine.LOCK.locked()


def test_a_reply_ends_at_the_turn_s_own_end_token(trained_run, tiny_tokenizer):
    assert tiny_tokenizer.convert_tokens_to_ids("<|im_end|>") in loaded(trained_run).weights.stop_ids


def test_the_base_loses_as_in_training(trained_run, tiny_corpus):
    """The base inside the pair and the base of the run's first evaluation are the same model."""
    from core import events

    config = runs.config(trained_run)
    held_out = corpus_rows.split(list(corpus_rows.read_rows(tiny_corpus)), config.validation_share)[1]
    evals = [event["eval_loss"] for event in events.read(paths.run(trained_run))[0] if event["event"] == "eval"]
    loaded(trained_run)
    base, tuned = (generation.held_out_loss(id, held_out) for id in (f"base:{config.base_model}", f"run:{trained_run}"))
    assert base == {"loss": pytest.approx(evals[0], abs=1e-5), "rows": 4}
    assert tuned == {"loss": pytest.approx(evals[-1], abs=1e-5), "rows": 4}


def test_a_prompt_over_the_context_is_refused_in_words(trained_run):
    long = [{"role": "user", "content": "море " * 3000}]
    with raises("PromptTooLong", match="Shorten it, or begin a new conversation"):
        list(replies_of(trained_run, {BASE: long}, Sampling(max_new_tokens=10)))
    assert not engine.LOCK.locked()


def test_a_run_without_an_adapter_says_so(tiny_model, tiny_corpus):
    run_id = runs.create(TrainConfig(base_model=tiny_model, corpus=tiny_corpus), "пустой")
    with pytest.raises(types.NoAdapter, match='The run "пустой" has no adapter yet'):
        list(replies_of(run_id, {TUNED: ASK}))


def test_an_adapter_of_another_model_is_refused(trained_run, home, monkeypatch, tiny_model, tiny_corpus):
    source = paths.run(trained_run) / "adapter"
    monkeypatch.setenv("SOULSMITH_HOME", str(home))
    config = TrainConfig(base_model=tiny_model, corpus=tiny_corpus, method="lora")
    run_id = runs.create(replace(config, lora_rank=4))
    adapter = paths.run(run_id) / "adapter"
    shutil.copytree(source, adapter)
    settings = json.loads((adapter / "adapter_config.json").read_text())
    settings["target_modules"] = ["q_proj"]
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    with raises("AdapterForeign", match="4 of 28 tensors matched"):
        list(replies_of(run_id, {TUNED: ASK}))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>да</think> </s>", "&lt;think>да&lt;/think> &lt;/s>"),
        ("`<b>` and <b>", "`<b>` and &lt;b>"),
        ("```html\n<p>\n```\n<p>", "```html\n<p>\n```\n&lt;p>"),
        ("```\n<unclosed", "```\n<unclosed"),
        ("2 < 3", "2 &lt; 3"),
        ("``<a> ` b`` <c>", "``<a> ` b`` &lt;c>"),
        ("![x](http://there/x.png)", "!\\[x](http://there/x.png)"),
    ],
)
def test_markup_is_shown_as_it_was_written(text, expected):
    assert literal(text) == expected


@pytest.mark.slow
def test_all_weights_training_makes_a_model_that_speaks_beside_its_base(tiny_model, stubborn_adapter, monkeypatch):
    rows = stubborn_adapter.parent / "rows.jsonl"
    config = TrainConfig(
        base_model=tiny_model, corpus=str(rows), method="full", max_steps=60, learning_rate=0.005, eval_steps=60
    )
    run_id = runs.create(config)
    training_loop.train(config, paths.run(run_id), report=lambda *_, **__: None)
    assert (paths.run(run_id) / "model" / "model.safetensors").is_file()
    assert not (paths.run(run_id) / "adapter").exists()
    columns = said(run_id, temperature=0, repetition_penalty=1.0)
    assert "storm storm" in columns[TUNED].text
    assert "storm" not in columns[BASE].text


# Chat models, batches, the chat's own process --------------------------------------------------------------------------


def speak(columns: dict[str, str], messages=ASK, **settings) -> dict:
    """The replies of columns by the ids of who speaks."""
    asked = {name: Question(id, messages) for name, id in columns.items()}
    *_, replies = generation.replies(asked, Sampling(**{"max_new_tokens": 12, "repetition_penalty": 1.0, **settings}))
    return replies


def test_everything_that_can_speak_is_listed(stubborn_run, tiny_model):
    profile = profiles.save(profiles.Profile("Пират", base_model=tiny_model, system_prompt="Arr."))
    checkpoint(stubborn_run, 20)
    found = [(one.kind, one.id) for one in chat_models.listed()]
    assert found == [
        ("run", f"run:{stubborn_run}"),
        ("checkpoint", f"run:{stubborn_run}/checkpoint-20"),
        ("base", f"base:{tiny_model}"),
        ("profile", f"profile:{profile}"),
    ]


def test_columns_begin_with_the_base_and_what_was_made_of_it(stubborn_run, tiny_model):
    assert chosen() == [f"base:{tiny_model}", f"run:{stubborn_run}", None, None]
    profile = profiles.save(profiles.Profile("Пират", base_model=tiny_model, system_prompt="Arr."))
    checkpoint(stubborn_run, 20)
    assert chosen() == [f"base:{tiny_model}", f"run:{stubborn_run}", f"profile:{profile}", None]
    runs.delete(stubborn_run)
    assert chosen() == [None, f"profile:{profile}", None, None]


def test_runs_of_the_same_name_get_their_time():
    titles = [("Run: a", "run:20261125-012830-a"), ("Run: a", "run:20261125-064737-a"), ("Base: a", "base:a")]
    assert [title for title, _ in runs.disambiguate(titles)] == [
        "Run: a · 2026-11-25 01:28:30",
        "Run: a · 2026-11-25 06:47:37",
        "Base: a",
    ]
    assert runs.disambiguate([("x", "profile:x"), ("x", "20261125-012830-x-2")]) == [
        ("x · x", "profile:x"),
        ("x · 2026-11-25 01:28:30", "20261125-012830-x-2"),
    ]


def chosen() -> list[str | None]:
    """What a page that is opened for the first time has above its columns."""
    return [one.value for one in talk.on_load(Say("en"), None, *[None] * 4)[:4]]


def checkpoint(run_id: str, step: int) -> None:
    """A whole checkpoint of a run, with the weights of its end."""
    folder = paths.run(run_id) / f"checkpoint-{step}"
    shutil.copytree(paths.run(run_id) / "adapter", folder)
    (folder / "whole.json").write_text("{}")


def test_no_half_of_a_character_ends_a_reply():
    tokenizer = type("Bytes", (), {"decode": lambda _, ids: "a" + "\ufffd" * len(ids)})()
    row = object.__new__(generation.Row)
    row.loaded = type("Loaded", (), {"weights": type("Weights", (), {"tokenizer": tokenizer})})
    row.new_ids, row.opening, row.reply, row.question = [1, 2], "", types.Reply(), Question("base:m", ASK)
    row._end("length")
    assert row.reply.text == "a"


def test_four_columns_share_one_set_of_weights(stubborn_run, trained, tiny_model, tiny_corpus):
    other = runs.create(TrainConfig(base_model=tiny_model, corpus=tiny_corpus, method="lora"))
    shutil.copytree(trained[0] / "runs" / trained[1] / "adapter", paths.run(other) / "adapter")
    profile = profiles.save(profiles.Profile("p", base_model=tiny_model, system_prompt="sea sea sea"))
    columns = {"0": f"base:{tiny_model}", "1": f"run:{stubborn_run}", "2": f"run:{other}", "3": f"profile:{profile}"}
    together = speak(columns, temperature=0)
    assert len(engine._opened) == 1
    assert "storm storm" in together["1"].text
    assert not any("storm" in together[name].text for name in ("0", "2", "3"))
    alone = {name: speak({name: id}, temperature=0)[name].text for name, id in columns.items()}
    assert {name: reply.text for name, reply in together.items()} == alone
    assert len({reply.text for reply in together.values()}) == 4


def test_a_batch_of_unequal_lengths_says_what_each_would_say_alone(stubborn_run, tiny_model):
    long = [*ASK, {"role": "assistant", "content": "oil rope gull. " * 6}, {"role": "user", "content": "fog?"}]
    ids = {"a": f"base:{tiny_model}", "b": f"run:{stubborn_run}"}
    asked = {"a": Question(ids["a"], ASK), "b": Question(ids["b"], long)}
    settings = Sampling(temperature=0, max_new_tokens=20)
    *_, together = generation.replies(asked, settings)
    for name in asked:
        *_, alone = generation.replies({name: asked[name]}, settings)
        assert alone[name].text == together[name].text


def test_the_base_stays_the_base_when_it_is_asked_again(stubborn_run, tiny_model):
    ids = {"a": f"base:{tiny_model}", "b": f"run:{stubborn_run}"}
    first = speak({"a": ids["a"]}, temperature=0)["a"].text  # before any adapter was loaded
    again = [speak(ids, temperature=0), speak(ids, temperature=0), speak({"a": ids["a"]}, temperature=0)]
    assert [replies["a"].text for replies in again] == [first] * 3
    assert "storm" not in first


def test_a_base_in_4_bit_is_not_loaded_again_to_be_asked_alone(stubborn_adapter, tiny_model, tiny_corpus):
    run_id = runs.create(TrainConfig(base_model=tiny_model, corpus=tiny_corpus, method="qlora"))
    shutil.copytree(stubborn_adapter, paths.run(run_id) / "adapter")
    both = engine.load_models({"a": f"base:{tiny_model}", "b": f"run:{run_id}"})
    alone = engine.load_models({"a": f"base:{tiny_model}"})
    assert [key.quantised for key in engine._opened] == [True]
    assert both["a"].weights is both["b"].weights is alone["a"].weights


def test_special_tokens_that_a_person_typed_are_words(tiny_tokenizer):
    plain, typed = (
        generation.prompt_ids([{"role": "user", "content": text}], tiny_tokenizer)
        for text in ("sea", "sea<|im_end|>sea")
    )
    end = tiny_tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert (plain.count(end), typed.count(end)) == (1, 1)
    assert "sea<|im_end|>sea" in tiny_tokenizer.decode(typed)
    assert plain == encoding.prompt_ids([{"role": "user", "content": "sea"}], tiny_tokenizer)


def test_thinking_that_the_template_opens_belongs_to_the_reply(tiny_tokenizer):
    prompt = tiny_tokenizer("<|im_start|>assistant\n<think>\n", add_special_tokens=False)["input_ids"]
    assert generation.opening(prompt, tiny_tokenizer) == "<think>\n"
    assert generation.opening(prompt[:3], tiny_tokenizer) == ""


def test_a_reply_ends_where_the_context_does(trained_run):
    tokenizer = loaded(trained_run).weights.tokenizer
    chats = ([{"role": "user", "content": "sea " * count}] for count in range(1020, 0, -40))
    messages = next(chat for chat in chats if len(generation.prompt_ids(chat, tokenizer)) <= 1020)
    reply = speak({"a": f"run:{trained_run}"}, messages, max_new_tokens=200, temperature=2.0)["a"]
    assert reply.finish_reason == "context"
    assert reply.prompt_tokens + reply.tokens == reply.context == 1024


def test_bad_chat_models_are_named(stubborn_run, tiny_model, tiny_corpus, home):
    checks = [
        ("run:nothing", runs.RunGone, "There is no run nothing"),
        ("profile:nothing", "ProfileGone", "There is no profile nothing"),
        (f"run:{stubborn_run}/checkpoint-9", "ChatModelGone", "checkpoint-9 is gone"),
        ("base:/etc", "ChatModelGone", "/etc is gone"),
        ("merged:../runs", "ChatModelGone", "is gone"),
    ]
    for id, kind, words in checks:
        with raises(kind, match=words):
            speak({"a": id})
    gone = runs.create(TrainConfig(base_model=str(home / "gone"), corpus=tiny_corpus, method="lora"), "сирота")
    shutil.copytree(paths.run(stubborn_run) / "adapter", paths.run(gone) / "adapter")
    with raises("BaseGone", match="gone is gone, and сирота needs it"):
        speak({"a": f"run:{gone}"})


def test_a_base_from_the_hub_is_asked_for_once(tiny_model, monkeypatch):
    asked = []
    monkeypatch.setattr(chat_models, "_base_directories", {})
    monkeypatch.setattr(chat_models.models, "prepare", lambda name: asked.append(name) or tiny_model)
    one = chat_models.ChatModel("base:some/model", "base", "model", "some/model")
    assert [chat_models.base_directory(one), chat_models.base_directory(one)] == [tiny_model] * 2
    assert asked == ["some/model"]


def rewritten(run_id: str, change) -> None:
    """Change the tensors of a run's adapter."""
    from safetensors.torch import load_file, save_file

    path = paths.run(run_id) / "adapter" / "adapter_model.safetensors"
    save_file(change(load_file(path)), path)


def test_an_adapter_of_which_nothing_fits_is_an_error(stubborn_run):
    rewritten(stubborn_run, lambda tensors: {name.replace("layers", "blocks"): one for name, one in tensors.items()})
    with raises("AdapterForeign", match="0 of 28 tensors matched"):
        speak({"a": f"run:{stubborn_run}"})


def test_an_adapter_around_layers_that_the_base_lacks_is_an_error(stubborn_run):
    path = paths.run(stubborn_run) / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"target_modules": ["c_attn"]}))
    with raises("AdapterForeign", match="0 of 28 tensors matched"):
        speak({"a": f"run:{stubborn_run}"})


def test_an_adapter_without_memory_for_it_is_not_called_foreign(stubborn_run, monkeypatch):
    from peft import PeftModel

    def full(*_, **__):
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(PeftModel, "load_adapter", full)
    with raises("MemoryRanOut"):
        speak({"a": f"run:{stubborn_run}"})


def test_a_resized_vocabulary_is_an_error(stubborn_run):
    import torch

    head = {"base_model.model.lm_head.weight": torch.zeros(404, 64)}
    rewritten(stubborn_run, lambda tensors: tensors | head)
    with raises("VocabularyResized", match="a vocabulary of 404 tokens and "):
        speak({"a": f"run:{stubborn_run}"})


def test_a_model_larger_than_the_memory_is_refused(trained_run, monkeypatch):
    import psutil

    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 100_000}))
    with raises("NoRoom", match="GiB are free"):
        speak({"a": f"run:{trained_run}"})


@pytest.mark.slow
def test_the_chat_s_own_process_speaks_stops_and_lets_go(stubborn_run, tiny_model):
    ids = {"a": f"base:{tiny_model}", "b": f"run:{stubborn_run}"}
    asked = {name: Question(id, ASK) for name, id in ids.items()}
    sampling = Sampling(temperature=0, max_new_tokens=12, repetition_penalty=1.0)
    assert not chat.is_open()
    with ThreadPoolExecutor(4) as windows:  # four people at once
        answers = list(windows.map(lambda _: list(chat.talk(asked, sampling))[-1], range(4)))
    assert all("storm storm" in replies["b"].text and "storm" not in replies["a"].text for replies in answers)
    assert chat.is_open()
    endless = chat.talk(asked, replace(sampling, max_new_tokens=900, temperature=1.5))
    next(endless)
    endless.close()  # hanging up frees the card: the next one is served
    assert list(chat.talk(asked, sampling))[-1]["b"].text == answers[0]["b"].text
    with pytest.raises(ErrorElsewhere, match="There is no run nothing") as trouble:
        list(chat.talk({"a": Question("run:nothing", ASK)}, sampling))
    assert (trouble.value.name, trouble.value.values) == ("RunGone", {"run": "nothing"})
    endless = chat.talk(asked, replace(sampling, max_new_tokens=900, temperature=1.5))
    next(endless)
    assert chat.close()  # as a starting run asks
    with pytest.raises(ErrorElsewhere, match="gave the memory back to a run"):
        list(endless)
    assert not chat.is_open()
    os.kill(json.loads((paths.home() / "chat.json").read_text())["pid"], signal.SIGKILL)
    assert "storm storm" in list(chat.talk(asked, sampling))[-1]["b"].text  # started anew
    os.kill(json.loads((paths.home() / "chat.json").read_text())["pid"], signal.SIGKILL)


def test_who_hung_up_while_another_reply_grew_is_not_served(trained_run):
    caller = type("Caller", (), {"poll": lambda *_: True})()
    question = {"contestant": f"run:{trained_run}", "messages": ASK}
    with engine.LOCK:
        assert next(server.Server()._look(caller)) == {"open": False, "busy": True}
        assert list(server.Server()._reply(caller, {"a": question}, vars(Sampling()), False)) == []
    assert not chat.is_open()


def test_a_run_that_has_the_card_is_named(trained_run, monkeypatch):
    monkeypatch.setattr(gpu_access, "training", lambda: trained_run)
    monkeypatch.setattr(gpu_access.reply_gpu, "is_taken_by", lambda run_id: True)
    with pytest.raises(gpu_access.CardBusy, match='The run "первый запуск" is training and has the card'):
        next(chat.talk({"a": Question(f"run:{trained_run}", ASK)}, Sampling()))
    with pytest.raises(gpu_access.CardBusy):
        chat.measure(f"run:{trained_run}", [])


# What the page does with it --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["<b>x</b> & 2 < 3", "`<b>` <|im_end|>", "![a](b) &amp;", "a<b", "```\n<p>\n```\n<p>"])
def test_what_a_person_typed_comes_back_when_it_is_edited(text):
    assert show.written(show.typed(text)) == text


def test_thinking_is_folded_and_never_lost():
    turns = [{"prompt": "q", "replies": {"0": {"text": "<think>\nhm <b>\n</think>\n\nYes."}}}]
    assert show.messages(Say("en"), turns, "0") == [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "hm &lt;b>", "metadata": {"title": "Thinking", "status": "done"}},
        {"role": "assistant", "content": "Yes."},
    ]
    assert show.thought("<think>still") == ("still", False, "")
    assert show.turn_at(Say("en"), [*turns, *turns], "0", 3) == 1


def test_an_edit_branches_and_keeps_the_old_branch():
    say, reply = Say("en"), {"0": {"text": "a"}}
    history = talk.with_prompt(talk.EMPTY, [], "one")
    history = talk.with_replies(history, reply)
    history = talk.with_replies(talk.with_prompt(history, talk.turns_of(history), "two"), reply)
    assert [len(branch) for branch in history["branches"]] == [2]
    event = type("Event", (), {"index": 0, "value": "three"})
    edited = talk.on_edit(say, "0", history, event)[2]
    assert [[turn["prompt"] for turn in branch] for branch in edited["branches"]] == [["one", "two"], ["three"]]
    back = talk.on_back(say, 0, history)[0]
    assert [[turn["prompt"] for turn in branch] for branch in back["branches"]] == [["one", "two"], ["one"]]
    assert talk.on_branch(say, 0, edited)[4]["current"] == 0
    stopped = talk.on_stop(say, edited)
    assert stopped[0].value == "three"


def test_somebody_else_replies_in_a_branch_of_their_own():
    """No reply stands under another's name, and the old branch brings back those who replied in it."""
    say, reply = Say("en"), {"0": {"text": "a", "finish_reason": ""}}
    history = talk.with_replies(talk.with_prompt(talk.EMPTY, [], "one"), reply, {"0": "base:x"})
    field, _, _, changed, *_ = talk.on_who(say, "", history)
    assert field.value == "one"  # ready to be put to the new one
    assert [len(branch) for branch in changed["branches"]] == [1, 0]
    assert changed["branches"][0][0]["replies"]["0"]["finish_reason"] == "stopped"
    assert talk.on_who(say, "typed", history)[0].value is None  # what is typed stays
    assert talk.on_who(say, "", changed)[0].value is None
    first, second, *_ = talk.on_branch(say, 0, changed)
    assert (first["value"], second.get("value")) == ("base:x", None)


def test_a_column_that_came_later_hears_questions_and_answers_in_turn():
    turns = [{"prompt": "one", "replies": {"0": {"text": "a"}}}, {"prompt": "two", "replies": {}}]
    assert [message["content"] for message in chats.conversation(turns, "0")] == ["one", "a", "two"]
    assert [message["content"] for message in chats.conversation(turns, "1")] == ["two"]


def test_after_a_trouble_the_message_is_back_in_the_field(monkeypatch):
    def without_room(*_, **__):
        raise errors.named("NoRoom", model="m", need="9.0", free="1.0")
        yield

    monkeypatch.setattr(chat, "talk", without_room)
    monkeypatch.setattr(talk, "warn", lambda _: None)
    history = talk.with_prompt(talk.EMPTY, [], "a long story")
    values = dict.fromkeys(talk.SETTINGS) | {"who_0": "base:x"}
    *_, (field, notice, ended, *_) = talk.on_answer(Say("ru"), history, 1, talk.StopFlag(), "", "cpu", **values)
    assert (field, ended["branches"]) == ("a long story", [[]])
    assert notice.startswith("Модели m нужно около 9.0\u00a0ГиБ, а свободно 1.0\u00a0ГиБ.")


def test_a_name_with_markup_is_text_in_the_notice(monkeypatch):
    def without_room(*_, **__):
        raise errors.named("NoRoom", model="![a](http://b/c) <i>", need="9.0", free="1.0")
        yield

    warned = []
    monkeypatch.setattr(chat, "talk", without_room)
    monkeypatch.setattr("gradio.Warning", lambda words, **_: warned.append(words))
    history, values = talk.with_prompt(talk.EMPTY, [], "q"), dict.fromkeys(talk.SETTINGS) | {"who_0": "base:x"}
    *_, (_, notice, *_) = talk.on_answer(Say("en"), history, 1, talk.StopFlag(), "", "cpu", **values)
    assert notice.startswith(r"\!\[a\](http://b/c) \<i\> needs about 9.0 GiB")
    assert warned[0].startswith("![a](http://b/c) &lt;i&gt; needs")


def test_nothing_is_drawn_after_stop(monkeypatch):
    """Gradio runs Stop beside the stream that it cancels: a late piece would overwrite what Stop left."""
    closed = []

    def endless(*_, **__):
        try:
            while True:
                yield {"0": types.Reply(text="word")}
        finally:
            closed.append(True)

    monkeypatch.setattr(chat, "talk", endless)
    history, switch = talk.with_prompt(talk.EMPTY, [], "one"), talk.StopFlag()
    values = dict.fromkeys(talk.SETTINGS) | {"who_0": "base:x"}
    stream = talk.on_answer(Say("en"), history, 1, switch, "", "cpu", **values)
    pieces = [next(stream) for _ in range(3)]
    assert pieces[-1][2]["branches"][0][0]["replies"]["0"]["text"] == "word"
    switch.press()
    assert list(stream) == []
    assert closed == [True]
    *_, (_, notice, *_) = [
        next(talk.on_answer(Say("en"), history, 1, switch, "", "cpu", **values))
    ]  # the next one grows
    assert notice == Say("en")("playground.loading")


def test_a_reply_that_begins_while_the_memory_goes_back_is_never_an_empty_one(tiny_model, monkeypatch):
    monkeypatch.setitem(chat_models._base_directories, tiny_model, tiny_model)
    asked, sampling = {"0": {"contestant": f"base:{tiny_model}", "messages": ASK}}, vars(Sampling(max_new_tokens=4))
    waiting = SimpleNamespace(poll=lambda timeout=0: time.sleep(timeout))
    engine.CLOSING.set()
    threading.Timer(0.3, engine.CLOSING.clear).start()
    *_, last = server.Server()._reply(waiting, copy.deepcopy(asked), sampling, False)
    assert last["replies"]["0"]["tokens"] == 4
    monkeypatch.setattr(generation.engine, "is_closing", lambda: True)  # it comes between two looks
    with raises("ChatClosed"):
        list(server.Server()._reply(waiting, asked, sampling, False))


def test_nothing_is_measured_for_whoever_hung_up_while_it_waited():
    with raises("ChatClosed"):
        generation.held_out_loss("base:nobody", [], lambda: True)
