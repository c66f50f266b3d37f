"""Preference pairs: their encoding, the losses beside TRL's, the reference, and runs on them."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from core.corpus import importer
from core.estimate import forecast
from core.runs import metrics, runs, store
from core.training import cross_entropy, encoding, model_loading, preferences, training_loop
from core.training.config import TrainConfig
from tests.conftest import chat_rows, put_program, raises, slow_but, wait_for

ROOT = Path(__file__).parents[1]
LOSSES = [
    {"preference_loss": "dpo"},
    {"preference_loss": "dpo", "label_smoothing": 0.2, "beta": 0.3},
    {"preference_loss": "kto", "desirable_weight": 1.5, "undesirable_weight": 0.5},
]


def pair_rows(count: int) -> list[dict]:
    """Pairs whose chosen reply is the shorter one."""
    chats = [row["messages"] for row in chat_rows(2 * count)]
    rows = []
    for (asked, one), (_, other) in zip(chats[::2], chats[1::2], strict=True):
        more = {"role": "assistant", "content": f"{other['content']} {one['content']}"}
        rows.append({"messages": [asked], "chosen": [one], "rejected": [more]})
    return rows


def judged_rows(count: int) -> list[dict]:
    """Replies that were judged one by one, as a corpus keeps them: three shorter ones are liked, then two are not."""
    rows = []
    for at, pair in enumerate(pair_rows(count)):
        liked = at % 5 < 3
        reply = pair["chosen"][0] if liked else pair["rejected"][0] | {"weight": 0}
        rows.append({"messages": [*pair["messages"], reply], "label": liked})
    return rows


@pytest.fixture
def corpus(tmp_path) -> str:
    return write(tmp_path / "pairs.jsonl", pair_rows(30))


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def config(tiny_model, corpus) -> TrainConfig:
    return TrainConfig(
        base_model=tiny_model,
        corpus=corpus,
        task="preference",
        method="lora",
        max_steps=6,
        eval_steps=3,
        learning_rate=0.003,
        precision="fp32",
    )


def events_of(config: TrainConfig, out: Path, **more) -> list[dict]:
    found = []
    training_loop.train(config, out, report=lambda event, **values: found.append({"event": event, **values}), **more)
    return found


def measured(events: list[dict], part: str) -> list[dict]:
    return [event for event in events if event["event"] == "preference" and event["part"] == part]


# ---------------------------------------------------------------------------------------------------------------------
# The loss, beside TRL's


@pytest.mark.parametrize("more", LOSSES, ids=["dpo", "robust dpo", "kto"])
@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
def test_dpo_and_kto_have_the_loss_and_the_gradients_of_trl(config, tiny_tokenizer, tmp_path, more, packed):
    import torch

    config = replace(config, **more)
    base = model_loading.load_base(config)
    base.requires_grad_(False)
    training, _ = training_loop.prepare_rows(config, tiny_tokenizer, lambda *_, **__: None, tmp_path / "tokens")
    pairs = [training[at] for at in range(4)]
    drawn = torch.Generator().manual_seed(3)
    for pair in pairs:  # a reference that differs from the model, as after some steps
        pair["reference"][:] = -40 + 5 * torch.randn(len(pair["reference"]), generator=drawn).numpy()
    theirs = _by_trl(base, tiny_tokenizer, pairs, config, tmp_path)
    cross_entropy.without_logits(base)
    layout = {"flat": True} if packed else {}
    if packed:
        from core.training import attention_kernels

        attention_kernels.attend_by_document()
    batch = preferences.collate(pairs, layout, packed=packed, tiled=True)
    rows, tokens = batch.pop("rows"), batch.pop("tokens")
    assert tokens == sum(len(side["input_ids"]) for pair in pairs for side in pair["sides"][:2])
    assert rows == [pair["id"] for pair in pairs]
    ours = _with_gradients(base, lambda: preferences.loss(base, batch, config)[0])
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
def test_kto_without_pairs_has_the_loss_and_the_gradients_of_trl(config, tiny_tokenizer, tmp_path, packed):
    """Three liked replies and two disliked ones, and as mismatched ones those that we take."""
    import torch
    import trl

    from core.training import attention_kernels

    corpus = write(tmp_path / "judged.jsonl", judged_rows(30))
    more = {"preference_loss": "kto", "desirable_weight": 1.5, "undesirable_weight": 0.5, "beta": 0.1}
    config = replace(config, corpus=corpus, validation_share=0.0, **more)
    base = model_loading.load_base(config)
    base.requires_grad_(False)
    training, _ = training_loop.prepare_rows(config, tiny_tokenizer, lambda *_, **__: None, tmp_path / "tokens")
    rows = [training[at] for at in range(5)]
    assert [row["liked"] for row in rows] == [[True]] * 3 + [[False]] * 2
    drawn = torch.Generator().manual_seed(3)
    for row in rows:
        row["reference"][:] = -40 + 5 * torch.randn(2, generator=drawn).numpy()
    inputs, others = (_padded([row["sides"][at] for row in rows]) for at in (0, 1))
    inputs |= {f"KL_{name}": value for name, value in others.items()}
    inputs["label"] = torch.tensor([row["liked"][0] for row in rows])
    for at, name in enumerate(("ref_logps", "ref_KL_logps")):
        inputs[name] = torch.tensor([float(row["reference"][at]) for row in rows])
    weights = {name: more[name] for name in ("beta", "desirable_weight", "undesirable_weight")}
    trainer = trl.KTOTrainer(base, args=trl.KTOConfig(**_usual(tmp_path), **weights), **_any_rows(tiny_tokenizer))
    base.requires_grad_(False)
    theirs = _with_gradients(base, lambda: trainer.compute_loss(trainer.model, inputs))
    cross_entropy.without_logits(base)
    if packed:
        attention_kernels.attend_by_document()
    batch = preferences.collate(rows, {"flat": True} if packed else {}, packed=packed, tiled=True)
    assert batch.pop("tokens") == sum(len(row["sides"][0]["input_ids"]) for row in rows)
    assert batch.pop("rows") == [row["id"] for row in rows]
    ours = _with_gradients(base, lambda: preferences.loss(base, batch, config)[0])
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("prompted", [False, True])
def test_orpo_has_the_loss_and_the_gradients_of_trl(config, tiny_tokenizer, tmp_path, prompted, packed):
    """TRL as it comes where all is reply, pair by pair; with prompts but for its first term, which learns them too."""
    import torch

    from core.training import attention_kernels

    config = replace(config, preference_loss="orpo", beta=0.7)
    base = model_loading.load_base(config)
    base.requires_grad_(False)
    training, _ = training_loop.prepare_rows(config, tiny_tokenizer, lambda *_, **__: None, tmp_path / "tokens")
    pairs = [training[at] for at in range(4)]
    if not prompted:
        for side in (side for pair in pairs for side in pair["sides"]):
            side["labels"] = list(side["input_ids"])
    theirs = _orpo_by_trl(base, tiny_tokenizer, pairs, config, tmp_path, prompted)
    cross_entropy.without_logits(base)
    if packed:
        attention_kernels.attend_by_document()
    batch = preferences.collate(pairs, {"flat": True} if packed else {}, packed=packed, tiled=True)
    assert "reference" not in batch
    del batch["rows"], batch["tokens"]
    measures = []

    def compute():
        loss, found = preferences.loss(base, batch, config)
        measures.append(preferences.means([found]))
        return loss

    expected, ours = theirs.pop(), _with_gradients(base, compute)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert {name: measures[0][name] for name in expected} == pytest.approx(expected, rel=1e-4)


def _orpo_by_trl(base, tokenizer, pairs: list[dict], config: TrainConfig, tmp_path: Path, prompted: bool) -> list:
    """Loss and gradients as TRL computes them on the same tokens, and its margin and accuracy."""
    import datasets
    import torch
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    usual = {"output_dir": str(tmp_path), "beta": config.beta, "use_cpu": True, "report_to": "none", "bf16": False}
    rows = datasets.Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}])
    args = ORPOConfig(**usual, gradient_checkpointing=False)
    trainer = ORPOTrainer(base, args=args, train_dataset=rows, processing_class=tokenizer)
    forward = trainer.concatenated_forward

    def of_replies(*inputs):
        found = forward(*inputs)
        return (*found[:4], -found[0].mean(), *found[5:])

    if prompted:
        trainer.concatenated_forward = of_replies
    batches = []
    for some in [pairs] if prompted else [[pair] for pair in pairs]:
        batches.append({})
        for at, name in enumerate(("chosen", "rejected")):
            sides = [pair["sides"][at] for pair in some]
            padded = _padded(sides)
            labels = torch.full_like(padded["input_ids"], encoding.IGNORED)
            for row, side in zip(labels, sides, strict=True):
                row[: len(side["labels"])] = torch.tensor(side["labels"])
            batches[-1] |= {f"{name}_{key}": padded[key] for key in ("input_ids", "attention_mask")}
            batches[-1][f"{name}_labels"] = labels
    base.requires_grad_(False)
    found = []

    def compute():
        found.extend(trainer.get_batch_loss_metrics(trainer.model, batch) for batch in batches)
        return torch.stack([loss for loss, _ in found]).mean()

    computed = _with_gradients(base, compute)
    named = {"margin": "rewards/margins", "accuracy": "rewards/accuracies"}
    return [*computed, {ours: sum(m[theirs] for _, m in found) / len(found) for ours, theirs in named.items()}]


def test_orpo_stays_finite_where_a_reply_is_known_by_heart():
    import torch

    logps = torch.tensor([0.0, -1e-9, -40.0, -0.5], requires_grad=True)
    chosen, rejected = logps.chunk(2)
    loss = preferences._orpo(chosen, rejected, 0.1).mean()
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-4)
    assert torch.isfinite(logps.grad).all()


def _with_gradients(base, compute) -> list:
    """A loss, and its gradients in the second half of the layers."""
    weights = [weight for name, weight in base.named_parameters() if ".layers.1." in name and "proj" in name]
    for weight in weights:
        weight.requires_grad_(True).grad = None
    loss = compute()
    loss.backward()
    assert all(weight.grad.abs().max() > 1e-3 for weight in weights)
    return [loss.detach(), *(weight.grad for weight in weights)]


def _by_trl(base, tokenizer, pairs: list[dict], config: TrainConfig, tmp_path: Path) -> list:
    """Loss and gradients as TRL computes them on the same tokens, with the same reference."""
    import torch
    import trl

    usual = {"beta": config.beta, **_usual(tmp_path)}
    sides = [pair["sides"][side] for side in (0, 1) for pair in pairs]
    inputs = _padded(sides)
    if config.preference_loss == "dpo":
        kind = {"loss_type": ["robust"], "label_smoothing": config.label_smoothing} if config.label_smoothing else {}
        trainer = trl.DPOTrainer(base, args=trl.DPOConfig(**usual, **kind), **_any_rows(tokenizer))
        for side, name in enumerate(("ref_chosen_logps", "ref_rejected_logps")):
            inputs[name] = torch.tensor([float(pair["reference"][side]) for pair in pairs])
    else:
        usual |= {name: getattr(config, name) for name in ("desirable_weight", "undesirable_weight")}
        trainer = trl.KTOTrainer(base, args=trl.KTOConfig(**usual), **_any_rows(tokenizer))
        others = _padded([pair["sides"][side] for side in (2, 3) for pair in pairs])
        inputs |= {f"KL_{name}": value for name, value in others.items()}
        inputs["label"] = torch.tensor([True] * 4 + [False] * 4)
        for first, name in ((0, "ref_logps"), (2, "ref_KL_logps")):
            inputs[name] = torch.tensor([float(pair["reference"][first + side]) for side in (0, 1) for pair in pairs])
    base.requires_grad_(False)
    return _with_gradients(base, lambda: trainer.compute_loss(trainer.model, inputs))


def _usual(tmp_path: Path) -> dict:
    """Settings of TRL's trainers."""
    usual = {"output_dir": str(tmp_path), "use_cpu": True, "report_to": "none", "bf16": False}
    return usual | {"precompute_ref_log_probs": True, "gradient_checkpointing": False, "per_device_train_batch_size": 4}


def _any_rows(tokenizer) -> dict:
    """What TRL's trainers begin with; its rows are not looked at."""
    import datasets

    asked, said = [{"role": "user", "content": "a"}], [{"role": "assistant", "content": "b"}]
    rows = datasets.Dataset.from_list([{"prompt": asked, "chosen": said, "rejected": said}] * 4)
    return {"train_dataset": rows, "processing_class": tokenizer}


def _padded(sides: list[dict]) -> dict:
    import torch

    longest = max(len(side["input_ids"]) for side in sides)

    def padded(rows: list[list[int]]):
        return torch.tensor([row + [0] * (longest - len(row)) for row in rows])

    return {
        "input_ids": padded([side["input_ids"] for side in sides]),
        "attention_mask": padded([[1] * len(side["input_ids"]) for side in sides]),
        "completion_mask": padded([[int(label != encoding.IGNORED) for label in side["labels"]] for side in sides]),
    }


def test_a_loss_can_weigh_each_token_by_itself(tiny_model, monkeypatch):
    """With the head frozen, where the gradient is worked out along with the loss, and with it trained."""
    import torch

    monkeypatch.setattr("core.training.config.LOSS_TILE", 5)
    monkeypatch.setattr("core.training.config.LEAST_TILE", 5)
    torch.manual_seed(0)
    hidden, target, weights = torch.randn(13, 16, requires_grad=True), torch.randint(300, (13,)), torch.randn(13)
    for head_learns in (False, True):
        head = torch.nn.Linear(16, 300, bias=False).requires_grad_(head_learns)
        found = []
        for compute in (
            lambda head=head: cross_entropy.each_loss(head, hidden, target),
            lambda head=head: torch.nn.functional.cross_entropy(head(hidden), target, reduction="none"),
        ):
            hidden.grad = head.weight.grad = None
            losses = compute()
            (losses * weights).sum().backward()
            found.append([losses.detach(), hidden.grad, *([head.weight.grad] if head_learns else [])])
        torch.testing.assert_close(*found)


# ---------------------------------------------------------------------------------------------------------------------
# Encoding


def turn(role: str, content: str, **more) -> dict:
    return {"role": role, "content": content, **more}


def encoded(row: dict, tokenizer, max_length: int = 1024) -> tuple[list[dict], dict]:
    counted = Counter()
    return encoding.encode_preference({"id": "1", **row}, tokenizer, max_length, counted), dict(+counted)


def learned(side: dict, tokenizer) -> str:
    return tokenizer.decode([label for label in side["labels"] if label != encoding.IGNORED])


def test_of_a_pair_the_replies_alone_are_learned_whatever_was_said_before(tiny_tokenizer):
    asked = [turn("system", "s"), turn("user", "a"), turn("assistant", "old words"), turn("user", "b")]
    row = {"messages": asked, "chosen": [turn("assistant", "yes")], "rejected": [turn("assistant", "no no")]}
    sides, counted = encoded(row, tiny_tokenizer)
    assert [learned(side, tiny_tokenizer).strip() for side in sides] == ["yes<|im_end|>", "no no<|im_end|>"]
    assert all("old words" in tiny_tokenizer.decode(side["input_ids"]) for side in sides)
    assert counted == {}
    assert encoding.encode_pieces({"id": "1", **row}, tiny_tokenizer, TrainConfig("", ""), Counter()) == sides


def test_a_pair_that_is_too_long_loses_its_oldest_exchanges_and_never_a_reply(tiny_tokenizer):
    asked = [turn("system", "s"), turn("user", "a " * 40), turn("assistant", "c"), turn("user", "b")]
    row = {"messages": asked, "chosen": [turn("assistant", "yes")], "rejected": [turn("assistant", "no " * 20)]}
    whole, _ = encoded(row, tiny_tokenizer)
    short, _ = encoded(row | {"messages": [asked[0], asked[3]]}, tiny_tokenizer)
    longest = len(short[1]["input_ids"])
    assert encoded(row, tiny_tokenizer, len(whole[1]["input_ids"])) == (whole, {})
    assert encoded(row, tiny_tokenizer, len(whole[1]["input_ids"]) - 1) == (short, {"cut": 1})
    assert encoded(row, tiny_tokenizer, longest) == (short, {"cut": 1})
    assert encoded(row, tiny_tokenizer, longest - 1) == ([], {"too_long": 1})


def test_a_pair_with_an_empty_reply_is_left_out(tiny_tokenizer):
    row = {"messages": [turn("user", "a")], "chosen": [turn("assistant", "b")], "rejected": [turn("user", "c")]}
    assert encoded(row, tiny_tokenizer) == ([], {"nothing_to_learn": 1})


def test_of_a_judged_reply_the_reply_alone_is_learned_whether_it_was_liked_or_not(tiny_tokenizer):
    asked = [turn("user", "a"), turn("assistant", "old words"), turn("user", "b")]
    for liked in (True, False):
        row = {"messages": [*asked, turn("assistant", "no", weight=0)], "label": liked}
        (side,), counted = encoded(row, tiny_tokenizer)
        assert learned(side, tiny_tokenizer).strip() == "no<|im_end|>"
        assert (side["liked"], counted) == (liked, {})
        (short,), counted = encoded(row, tiny_tokenizer, len(side["input_ids"]) - 1)
        assert (learned(short, tiny_tokenizer), counted) == (learned(side, tiny_tokenizer), {"cut": 1})
        assert "old words" not in tiny_tokenizer.decode(short["input_ids"])
    assert encoded({"messages": [turn("assistant", "no")], "label": True}, tiny_tokenizer, 1) == ([], {"too_long": 1})


@pytest.mark.parametrize("learn", slow_but(["assistant"], ["assistant", "all"]))
def test_a_chat_run_leaves_out_the_replies_that_were_disliked(config, tmp_path, learn):
    rows = judged_rows(30)
    corpus = write(tmp_path / "judged.jsonl", rows)
    events = events_of(replace(config, task="chat", corpus=corpus, learn=learn, max_steps=1), tmp_path / "out")
    data = next(event for event in events if event["event"] == "data")
    assert data["rows_left_out"] == {"unwanted_reply": sum(not row["label"] for row in rows)}
    assert data["rows_train"] + data["rows_eval"] == sum(row["label"] for row in rows)


def test_a_mismatched_reply_of_kto_is_that_of_the_pair_before(config, tiny_tokenizer, tmp_path):
    config = replace(config, preference_loss="kto")
    training, _ = training_loop.prepare_rows(config, tiny_tokenizer, lambda *_, **__: None, tmp_path / "tokens")
    replies = [[learned(side, tiny_tokenizer) for side in training[at]["sides"]] for at in range(len(training))]
    for at in range(len(training)):
        assert replies[at][2:] == replies[at - 1][:2]
        chosen, mismatched = training[at]["sides"][0], training[at]["sides"][2]
        prompt = next(at for at, label in enumerate(chosen["labels"]) if label != encoding.IGNORED)
        assert mismatched["input_ids"][:prompt] == chosen["input_ids"][:prompt]


@pytest.mark.parametrize(
    ("task", "rows", "error"),
    [
        ("chat", pair_rows(12), "PreferencePairs"),
        ("text", pair_rows(12), "PreferencePairs"),
        ("preference", chat_rows(12), "NotPreferencePairs"),
        ("preference", [*pair_rows(12), *chat_rows(3)], "NotPreferencePairs"),
        ("preference", judged_rows(12), "RepliesNeedKto"),
        ("text", judged_rows(12), "ChatsForPretraining"),
    ],
)
def test_pairs_are_for_preferences_and_preferences_for_pairs(config, tmp_path, task, rows, error):
    corpus = write(tmp_path / "other.jsonl", rows)
    with raises(error):
        events_of(replace(config, task=task, corpus=corpus), tmp_path / "out")


# ---------------------------------------------------------------------------------------------------------------------
# Runs


def moved(events: list[dict], *, steps: int, begins: float, accuracy: float) -> list[float]:
    """The held-out losses of a run that began at its reference and came to tell the liked replies from the others."""
    first, *_, last = measured(events, "eval")
    assert (first["step"], last["step"]) == (0, steps)
    assert first["margin"] == pytest.approx(0, abs=1e-5)
    assert last["margin"] > 0.05
    assert last["accuracy"] > accuracy
    losses = [event["eval_loss"] for event in events if event["event"] == "eval"]
    assert losses[0] == pytest.approx(begins, abs=1e-4)
    return losses


@pytest.mark.parametrize("loss", slow_but(["dpo"], ["dpo", "kto"]))
def test_a_run_of_dpo_or_kto_begins_at_its_reference_and_moves_towards_the_chosen(config, tmp_path, loss):
    events = events_of(replace(config, preference_loss=loss, max_steps=12, epochs=9), tmp_path)
    losses = moved(events, steps=12, begins=0.6931 if loss == "dpo" else 0.5, accuracy=0.6)
    assert losses[-1] < losses[0]
    trained = measured(events, "train")
    assert [event["step"] for event in trained] == list(range(1, 13))
    assert set(preferences.MEASURES) <= trained[0].keys()
    assert trained[0]["margin"] == pytest.approx(0, abs=1e-4)
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize("rows", [[*judged_rows(12), *chat_rows(60)[-3:]], [*judged_rows(12), *pair_rows(3)]])
def test_kto_takes_replies_with_labels_or_pairs_and_nothing_beside_them(config, tmp_path, rows):
    corpus = write(tmp_path / "other.jsonl", rows)
    with raises("NotPreferencePairs", match="holds 3 rows"):
        events_of(replace(config, preference_loss="kto", corpus=corpus), tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize(
    "more", [{}, {"packing": True}, {"batch_size": 1, "gradient_accumulation_steps": 4, "logging_steps": 2}]
)
def test_a_run_of_kto_on_replies_without_pairs_moves_towards_the_liked_ones(config, tmp_path, more):
    corpus = write(tmp_path / "judged.jsonl", judged_rows(60))
    more = {"preference_loss": "kto", "corpus": corpus, "max_steps": 24, "eval_steps": 12, "epochs": 9, **more}
    events = events_of(replace(config, **more), tmp_path / "out")
    moved(events, steps=24, begins=0.5, accuracy=0.5)
    last_losses = [event["loss"] for event in events if event["event"] == "step"][-5:]
    assert sum(last_losses) / len(last_losses) < 0.47
    margins = [event["margin"] for event in measured(events, "train")]
    known = [
        margin for margin in margins if margin is not None
    ]  # of batches, of like lengths, with replies of both sides
    assert len(known) > 2
    assert sum(known[-3:]) / 3 > 0.1


@pytest.mark.slow
def test_a_run_of_kto_without_pairs_is_refused_recorded_and_forecast_by_its_corpus(tiny_model, tmp_path):
    """From the file with labels to the curves of the run: a row is one reply."""
    lines = (
        {"prompt": row["messages"][0]["content"], "completion": row["messages"][1]["content"], "label": row["label"]}
        for row in judged_rows(60)
    )
    card = importer.create([Path(write(tmp_path / "kto.jsonl", list(lines)))], "judged")
    assert (card["kind"], card["judged"]) == ("judged", 60)
    more = {"task": "preference", "method": "lora", "precision": "fp32", "max_length": 128, "max_steps": 4, "epochs": 9}
    config = TrainConfig(tiny_model, card["id"], preference_loss="dpo", learning_rate=0.003, eval_steps=2, **more)
    with raises("RepliesNeedKto", match=r"one by one \(60\), and dpo compares"):
        runs.check_corpus(config)
    config = replace(config, preference_loss="kto")
    runs.check_corpus(config)
    assert forecast.step_tokens(asdict(config), 100) == 4 * 100
    run_id = runs.start(config, "judged")
    wait_for(run_id, "finished")
    store.sync(run_id)
    curves = store.curves(run_id)["preferences"]
    assert [row["step"] for row in curves["eval"]] == [0, 2, 4]
    assert curves["eval"][-1]["accuracy"] is not None
    assert "accuracy" in metrics.rows(run_id)[-1]


def test_measures_of_batches_are_those_of_all_their_replies():
    import torch

    def found(gained, liked, paired):
        gained = torch.tensor(gained)
        return preferences._of_replies(gained - 10, gained, {"liked": torch.tensor(liked), "paired": paired}, 0.5)

    one, two = found([4.0], [True], False), found([1.0, 2.0, -4.0], [True, False, False], False)
    wanted = {"margin": 0.5 * (2.5 + 1), "accuracy": 0.75, "chosen_logp": -7.5, "rejected_logp": -11}
    assert preferences.means([one, two]) == wanted
    assert preferences.means([one]) == {"margin": None, "accuracy": None, "chosen_logp": -6, "rejected_logp": None}
    pairs = found([3.0, 1.0, 2.0, 0.0], [True, True, False, False], True), found([0.0, 1.0], [True, False], True)
    wanted = {"margin": 0.5 * (4 - 3) / 3, "accuracy": 2 / 3, "chosen_logp": -26 / 3, "rejected_logp": -9}
    assert preferences.means(list(pairs)) == pytest.approx(wanted)


@pytest.mark.parametrize(
    "more", slow_but([{"packing": True}], [{}, {"packing": True}, {"method": "full", "learning_rate": 3e-4}])
)
def test_a_run_of_orpo_asks_no_reference_and_learns_the_chosen_replies_too(config, tmp_path, monkeypatch, more):
    monkeypatch.setattr(preferences, "_ask", None)
    cache = tmp_path / "tokens"
    more = {"preference_loss": "orpo", "max_steps": 12, "epochs": 9, **more}
    events = events_of(replace(config, **more), tmp_path / "out", cache=cache)
    assert not list(cache.rglob("reference-*"))
    first, *_, last = measured(events, "eval")
    assert (first["step"], last["step"]) == (0, 12)
    assert last["margin"] > first["margin"]
    assert last["chosen_logp"] > first["chosen_logp"] + 1
    losses = [event["eval_loss"] for event in events if event["event"] == "eval"]
    assert losses[-1] < losses[0]
    assert [event["step"] for event in measured(events, "train")] == list(range(1, 13))


@pytest.mark.parametrize(
    "more", slow_but([{"method": "full"}], [{"method": "full"}, {"packing": True}, {"init_lora_weights": "pissa"}])
)
def test_dpo_begins_at_its_reference_whatever_is_trained_and_however_it_lies(config, tmp_path, more):
    events = events_of(replace(config, max_steps=2, learning_rate=1e-4, **more), tmp_path)
    assert measured(events, "train")[0]["margin"] == pytest.approx(0, abs=1e-3)
    assert measured(events, "eval")[0]["margin"] == pytest.approx(0, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["dpo", "orpo"])
def test_batches_of_dpo_and_orpo_that_are_gathered_are_one_large_batch(config, tmp_path, loss):
    """Gradients of two batches of 2 pairs are those of one of 4."""
    more = {"preference_loss": loss, "max_steps": 1, "validation_share": 0, "warmup_ratio": 0.0}
    found = []
    for rows, gathered in ((4, 1), (2, 2)):
        folder = tmp_path / str(rows)
        together = replace(config, batch_size=rows, gradient_accumulation_steps=gathered, **more)
        found.append(next(event for event in events_of(together, folder) if event["event"] == "step"))
    assert found[0]["loss"] == pytest.approx(found[1]["loss"], abs=1e-5)
    assert found[0]["grad_norm"] == pytest.approx(found[1]["grad_norm"], rel=1e-4)


@pytest.mark.slow
def test_the_reference_is_asked_once_and_anew_for_other_weights(config, tmp_path, monkeypatch):
    asked, ask = [], preferences._ask
    monkeypatch.setattr(preferences, "_ask", lambda *args: asked.append(1) or ask(*args))
    config, cache = replace(config, max_steps=1), tmp_path / "tokens"
    begun = [
        measured(events_of(replace(config, **more), tmp_path / f"out-{at}", cache=cache), "eval")[0]
        for at, more in enumerate(({}, {"beta": 0.5}, {"learning_rate": 0.1}, {"seed": 8}))
    ]
    assert len(asked) == 2  # with another seed the adapter begins with other weights
    assert [begin["margin"] for begin in begun] == pytest.approx([0] * 4, abs=1e-5)
    assert len({begin["chosen_logp"] for begin in begun[:3]}) == 1


def test_attention_drops_nothing_while_preferences_are_learned(tiny_model):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model, attention_dropout=0.3)
    dropped = [module for module in model.modules() if getattr(module, "attention_dropout", 0)]
    assert dropped
    preferences.without_dropout(model)
    assert not any(module.attention_dropout for module in dropped)


@pytest.mark.slow
def test_dpo_that_goes_on_from_an_adapter_has_the_model_with_it_as_its_reference(config, tmp_path):
    first = events_of(replace(config, learning_rate=0.01), tmp_path / "first")
    second = events_of(replace(config, max_steps=1, start=str(tmp_path / "first" / "adapter")), tmp_path / "second")
    base, trained, begin = measured(first, "eval")[0], measured(first, "eval")[-1], measured(second, "eval")[0]
    assert begin["margin"] == pytest.approx(0, abs=1e-4)
    for side in ("chosen_logp", "rejected_logp"):
        assert begin[side] == pytest.approx(trained[side], abs=1e-2)
        assert abs(begin[side] - base[side]) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["dpo", "orpo"])
def test_dpo_and_orpo_go_on_bit_by_bit_after_a_sigkill_and_elsewhere(config, tmp_path, loss):
    """In a capsule, which has nothing of ours but the package: its reference too is the one that it began with."""
    ended = {}
    for name in ("whole", "killed"):
        out = tmp_path / name
        out.mkdir()
        put_program(out)
        write(out / "rows.jsonl", pair_rows(30))
        more = {"preference_loss": loss, "logging_steps": 1, "eval_steps": 2}
        replace(config, corpus="rows.jsonl", **more).save(out / "config.json")
        process = _capsule(out)
        if name == "killed":
            for line in process.stdout:
                if line.startswith('{"event": "step", "step": 5'):
                    process.send_signal(signal.SIGKILL)
            process.wait()
            assert not (out / "adapter").exists()
            assert (out / "checkpoint-4").is_dir()
            process = _capsule(out)
        lines = process.stdout.read().splitlines()
        assert process.wait() == 0, lines[-20:]
        ended[name] = (out / "adapter" / "adapter_model.safetensors").read_bytes()
    assert ended["whole"] == ended["killed"]


def _capsule(out: Path) -> subprocess.Popen:
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    variables |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "train.py", "config.json"]
    return subprocess.Popen(
        command, cwd=out, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
