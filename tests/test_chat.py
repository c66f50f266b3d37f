"""Chat: the base is the base, the adapter is the adapter, and markup is shown as it was written."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from core import chat, paths, recipe, runs
from core.chat import engine
from core.chat import BASE, TUNED, Sampling
from core.recipe import TrainConfig
from tests.conftest import chat_rows
from ui.playground import literal

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
    recipe.train(config, out, report=lambda *_, **__: None)
    return out / "adapter"


@pytest.fixture
def stubborn_run(tiny_model, tiny_corpus, stubborn_adapter) -> str:
    run_id = runs.create(TrainConfig(base_model=tiny_model, corpus=tiny_corpus, method="lora"))
    shutil.copytree(stubborn_adapter, paths.run(run_id) / "adapter")
    return run_id


def voice_of(run_id: str) -> engine.Voice:
    return engine.voiced({TUNED: f"run:{run_id}"})[TUNED]


def said(run_id: str, **settings) -> dict:
    *_, columns = chat.replies(run_id, {BASE: ASK, TUNED: ASK}, Sampling(max_new_tokens=12, **settings))
    return columns


def test_both_columns_grow_token_by_token(trained_run):
    lengths = [
        (columns[BASE].tokens, columns[TUNED].tokens)
        for columns in chat.replies(trained_run, {BASE: ASK, TUNED: ASK}, Sampling(max_new_tokens=5, seed=3))
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


def test_the_base_is_the_base_under_sends_at_the_same_time(stubborn_run):
    with ThreadPoolExecutor(4) as windows:
        answers = list(windows.map(lambda seed: said(stubborn_run, seed=seed, repetition_penalty=1.0), range(8)))
    assert all("storm storm" in columns[TUNED].text for columns in answers)
    assert not any("storm" in columns[BASE].text for columns in answers)


def test_a_reply_may_grow_on_any_thread(trained_run, stubborn_adapter):
    """Gradio takes each step of a generator on whatever thread is free, and closes it on another one."""
    first, second = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
    replies = chat.replies(trained_run, {BASE: ASK, TUNED: ASK}, Sampling(max_new_tokens=50))
    first.submit(next, replies).result()
    second.submit(replies.close).result()
    engine.close()
    again = chat.replies(trained_run, {BASE: ASK, TUNED: ASK}, Sampling(max_new_tokens=50))
    first.submit(next, again).result()
    second.submit(next, again).result()
    again.close()


def test_closing_the_chat_ends_a_reply_that_grows(trained_run):
    replies = chat.replies(trained_run, {TUNED: ASK}, Sampling(max_new_tokens=200, temperature=0))
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
    first = voice_of(trained_run)
    assert voice_of(trained_run) == first
    (paths.run(trained_run) / "adapter" / "adapter_model.safetensors").touch()
    anew = voice_of(trained_run)
    assert anew.weights is first.weights
    assert anew.adapter != first.adapter


def test_a_model_without_a_chat_template_goes_on_with_the_text(tiny_tokenizer):
    import copy

    from core import recipe

    bare = copy.deepcopy(tiny_tokenizer)
    bare.chat_template = None
    assert bare.decode(recipe.prompt_ids(ASK, bare)) == "lamp?"
    model = type("Model", (), {"generation_config": type("Config", (), {"eos_token_id": 2})})
    assert engine.stop_ids(model, bare) == {2}


def test_closing_the_iterator_frees_the_card_at_once(trained_run):
    replies = chat.replies(trained_run, {TUNED: ASK}, Sampling(max_new_tokens=200))
    next(replies)
    assert engine.LOCK.locked()
    replies.close()
    assert not engine.LOCK.locked()


def test_a_reply_ends_at_the_turn_s_own_end_token(trained_run, tiny_tokenizer):
    assert tiny_tokenizer.convert_tokens_to_ids("<|im_end|>") in voice_of(trained_run).weights.stop_ids


def test_the_base_loses_as_in_training(trained_run, tiny_corpus):
    """The base inside the pair and the base of the run's first evaluation are the same model."""
    from core import events
    from core.chat import measuring

    config = runs.config(trained_run)
    held_out = recipe.split(list(recipe.read_rows(tiny_corpus)), config.validation_share)[1]
    evals = [event["eval_loss"] for event in events.read(paths.run(trained_run))[0] if event["event"] == "eval"]
    voice_of(trained_run)
    base, tuned = (measuring.held_out(id, held_out) for id in (f"base:{config.base_model}", f"run:{trained_run}"))
    assert base == {"loss": pytest.approx(evals[0], abs=1e-5), "rows": 4}
    assert tuned == {"loss": pytest.approx(evals[-1], abs=1e-5), "rows": 4}


def test_a_prompt_over_the_context_is_refused_in_words(trained_run):
    long = [{"role": "user", "content": "море " * 3000}]
    with pytest.raises(chat.PromptTooLong, match="Shorten it, or begin a new conversation"):
        list(chat.replies(trained_run, {BASE: long}, Sampling(max_new_tokens=10)))
    assert not engine.LOCK.locked()


def test_a_run_without_an_adapter_says_so(tiny_model, tiny_corpus):
    run_id = runs.create(TrainConfig(base_model=tiny_model, corpus=tiny_corpus), "пустой")
    with pytest.raises(chat.NoAdapter, match='The run "пустой" has no adapter yet'):
        list(chat.replies(run_id, {BASE: ASK}))


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
    with pytest.raises(chat.AdapterForeign, match="4 of 28 tensors matched"):
        list(chat.replies(run_id, {TUNED: ASK}))


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


def test_all_weights_training_makes_a_model_that_speaks_beside_its_base(tiny_model, stubborn_adapter, monkeypatch):
    rows = stubborn_adapter.parent / "rows.jsonl"
    config = TrainConfig(
        base_model=tiny_model, corpus=str(rows), method="full", max_steps=60, learning_rate=0.005, eval_steps=60
    )
    run_id = runs.create(config)
    recipe.train(config, paths.run(run_id), report=lambda *_, **__: None)
    assert (paths.run(run_id) / "model" / "model.safetensors").is_file()
    assert not (paths.run(run_id) / "adapter").exists()
    columns = said(run_id, temperature=0, repetition_penalty=1.0)
    assert "storm storm" in columns[TUNED].text
    assert "storm" not in columns[BASE].text
