"""Train: a config and a corpus in, an adapter out."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import transformers

from . import (
    adapters,
    attention_kernels,
    callbacks,
    checkpoints,
    checks,
    corpus_rows,
    cross_entropy,
    devices,
    encoding,
    environment,
    hf_trainer,
    mixing,
    model_loading,
    preferences,
    start,
    token_cache,
    tokenizer_loading,
)
from .config import TrainConfig
from .errors import TrainingError

ADDED = ("rows_train", "rows_eval", "rows_cut", "rows_alike", "rows_text", "tokens_train", "tokens_learned")


def train(
    config: TrainConfig,
    out: str | Path,
    *,
    report: Callable[..., None],
    should_stop: Callable[[], bool | str] = lambda: False,
    watcher: callbacks.Watcher | None = None,
    resume_from: str | None = None,
    cache: Path | None = None,
) -> dict:
    """Train an adapter into out/adapter, or all weights into out/model, and return how it ended: steps, stopped, losses, seconds, peak memory.

    Encoded corpora are kept in `cache`, or else in out/tokens.

    `report(event, **values)` is called for everything worth knowing on the way; `should_stop()` is asked at each step:
    "pause" ends the run with a checkpoint alone, anything else that is true ends it with what was trained.
    """
    environment.first_card_only()
    from transformers.trainer_callback import PrinterCallback  # noqa: PLC0415 - it imports PEFT, and PEFT bitsandbytes

    out, began = Path(out), time.monotonic()
    if environment.is_main_process():
        checkpoints.sweep(out, report)
    else:  # under a launcher with several processes one of them reports and writes
        report = lambda event, **values: None  # noqa: E731
    devices.use_device()
    transformers.set_seed(config.seed)
    checks.check_machine(config)
    tokenizer = tokenizer_loading.load_tokenizer(config)
    checks.check_model(config, tokenizer)
    training, held_out = prepare_rows(config, tokenizer, report, cache or out / "tokens")
    model, layout = _ready_model(config, tokenizer, report)
    trainer = hf_trainer.make_trainer(config, out, model, tokenizer, training, held_out, layout)
    progress = trainer.soulsmith = callbacks.Progress(config, report, should_stop, watcher or callbacks.Watcher())
    progress.tokenizer, progress.evals = tokenizer, checkpoints.evals_of(resume_from)
    trainer.add_callback(callbacks.progress_callback(progress))
    trainer.remove_callback(PrinterCallback)  # the events say it all
    if config.task == "preference" and not preferences.add_reference(
        model, [training, held_out], config, training.rows.place, report, progress.stop_requested
    ):
        return _ending(trainer, began)
    if held_out and not resume_from:
        trainer.evaluate()
    if not progress.stopped:
        with progress.naming_batch():
            trainer.train(resume_from_checkpoint=resume_from)
    if progress.stopped != "pause" and trainer.state.global_step:
        _conclude(trainer, out / ("model" if config.method == "full" else "adapter"), evaluates=bool(held_out))
    return _ending(trainer, began)


def _ending(trainer, began: float) -> dict:
    """How a run ended, in figures."""
    return {
        "steps": trainer.state.global_step,
        "max_steps": trainer.state.max_steps,
        **trainer.soulsmith.ending(),
        "seconds": round(time.monotonic() - began, 1),
        "peak_memory_gib": devices.peak_memory_gib(),
    }


def _ready_model(config: TrainConfig, tokenizer, report: Callable[..., None]) -> tuple[Any, dict]:
    """Load the base, patch its loss and stop tokens, add the adapter; with it the layout of collate() for its rows."""
    base = model_loading.load_base(start.base_of(config))
    parameters = base.num_parameters()
    checks.check_causal(config, base)
    calls = attention_kernels.attend_by_document()
    layout = checks.check_packing(config, base, calls)
    base.config.use_cache = False
    base.generation_config.eos_token_id = encoding.stop_ids(base, tokenizer) or None
    cross_entropy.without_logits(base)
    model = adapters.add_adapter(base, config)
    if config.start and config.method != "full":
        start.load(config, model)
    if config.task == "preference":
        preferences.without_dropout(model)
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    report(
        "model",
        parameters=parameters,
        trainable_parameters=trained,
        device=devices.device_name(),
        precision=devices.precision(config),
        attention=base.config._attn_implementation,
        flash_attention_lacks=attention_kernels.flash_attention_lacks(devices.precision(config), base),
        by_document=calls["one_by_one"] > 0,  # check_packing() has let it look at a block
        varlen=calls["varlen"] > 0,
        goes_on=bool(config.start),  # with the weights of its start; the optimizer's states begin anew
        experts=sum(hasattr(module, "parameter_name") for module in model.modules()),  # tensors with adapters around
    )
    return model, layout


def _conclude(trainer, target: Path, *, evaluates: bool) -> None:
    """Save what was trained, and evaluate it if that was not done at this step; a stopped run takes a minute for it."""
    progress, step = trainer.soulsmith, trainer.state.global_step
    progress.watcher.before_save(step)
    # Saved before the evaluation: nobody should lose it while that goes on.
    state = trainer.gathered_weights()  # all processes have a part in it
    if environment.is_main_process():
        checkpoints.save_whole(target, partial(trainer.save_weights, state=state), progress.tokenizer)
    if progress.stopped:
        progress.until = time.monotonic() + callbacks.LAST_EVALUATION_SECONDS
    if evaluates and step and progress.evaluated_at != step:
        trainer.evaluate()
    if not progress.stopped:
        progress.watcher.on_end(trainer.model, progress.tokenizer, step)
    if progress.config.keep_best and environment.is_main_process():
        progress.keep_best(target, step)


def prepare_rows(config: TrainConfig, tokenizer, report: Callable[..., None], cache: Path) -> tuple:
    """The encoded training and held-out rows, mapped into memory; raises when there is nothing that could be learned."""
    names, told, pairs = mixing.corpora(config), [], config.task == "preference"
    training, held_out, read = [], [], []
    for corpus in names:
        rows, kept, about = _encoded(config, corpus, tokenizer, report, cache)
        blocks = token_cache.Blocks(rows, config.max_length) if config.packing and not pairs else None
        training.append(blocks or rows)
        held_out.append(kept)
        read.append(_described(config, rows, kept, about))
    if len(names) > 1:
        told = [
            {"corpus": Path(corpus).name, "share": share}
            | {name: of_one[name] for name in ("rows_train", "rows_eval", "tokens_train", "tokens_learned")}
            for corpus, share, of_one in zip(names, mixing.shares(config), read, strict=True)
        ]
        shown, kept = (mixing.Mixture(parts, mixing.shares(config)) for parts in (training, held_out))
    else:
        shown, kept = training[0], held_out[0]
    whole = {name: sum(filter(None, (of_one[name] for of_one in read))) for name in ADDED}
    if pairs:
        whole["pairs_cut"] = whole.pop("rows_cut")
    report(
        "data",
        **whole,
        rows_left_out=sum((Counter(of_one["rows_left_out"]) for of_one in read), Counter()),
        blocks=sum(map(len, training)) if config.packing and not pairs else None,
        longest=max(of_one["longest"] for of_one in read),
        fill=sum(shown.lengths) / (len(shown) * config.max_length),
        **({"corpora": told} if told else {}),
    )
    return tuple(preferences.Pairs(part, config) for part in (shown, kept)) if pairs else (shown, kept)


def _encoded(config: TrainConfig, corpus: str, tokenizer, report: Callable[..., None], cache: Path) -> tuple:
    """One corpus of a run: training rows, held-out rows, what there is to know of it; raises as prepare_rows()."""
    name, beside = Path(corpus).name, [other for other in mixing.corpora(config) if other != corpus]
    place = token_cache.encoded_corpus(replace(config, corpus=corpus, mix=()), tokenizer, cache, report, beside)
    about = json.loads((place / "about.json").read_text(encoding="utf-8"))
    if about["rows"] < token_cache.FEWEST_ROWS:
        raise TrainingError("CorpusTooSmall", name=name, rows=about["rows"], needed=token_cache.FEWEST_ROWS)
    mixing.check_alone(config, name, about.get("pairs", 0), about.get("judged", 0))
    if corpus == config.corpus:
        corpus_rows.check_task(
            config, name, about["rows"], about["chats"], about.get("pairs", 0), about.get("judged", 0)
        )
    if about["chats"] and not tokenizer.chat_template:
        raise TrainingError("NoChatTemplate", model=Path(config.base_model).name, name=name)
    training, held_out = token_cache.Tokens(place, "train"), token_cache.Tokens(place, "eval")
    if not training:
        raise TrainingError("NothingToLearn", name=name, max_length=config.max_length)
    return training, held_out, about


def _described(config: TrainConfig, training, held_out, about: dict) -> dict:
    """What the event "data" says of one corpus."""
    return {
        "rows_train": len(set(training.numbers.tolist())),
        "rows_eval": len(set(held_out.numbers.tolist())),
        "rows_left_out": about["left_out"],
        "rows_cut": about["cut"],
        "rows_alike": about["alike"],
        "rows_text": about["rows"] - about["chats"] if config.task == "chat" else 0,
        "tokens_train": sum(training.lengths),
        "tokens_learned": training.learned(packed=config.packing and config.task != "preference"),
        "longest": max(training.lengths),
    }
