"""Train: a config and a corpus in, an adapter out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
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
    model_loading,
    preferences,
    token_cache,
    tokenizer_loading,
)
from .config import TrainConfig
from .errors import CorpusTooSmall, NoChatTemplate, NothingToLearn


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
    base = model_loading.load_base(config)
    parameters = base.num_parameters()
    checks.check_causal(config, base)
    calls = attention_kernels.attend_by_document()
    layout = checks.check_packing(config, base, calls)
    base.config.use_cache = False
    base.generation_config.eos_token_id = encoding.stop_ids(base, tokenizer) or None
    cross_entropy.without_logits(base)
    model = adapters.add_adapter(base, config)
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
        experts=sum(hasattr(module, "parameter_name") for module in model.modules()),  # tensors with adapters around
    )
    return model, layout


def _conclude(trainer, target: Path, *, evaluates: bool) -> None:
    """Save what was trained, and evaluate it if that was not done at this step."""
    progress, step = trainer.soulsmith, trainer.state.global_step
    progress.watcher.before_save(step)
    # Saved before the evaluation: nobody should lose it while that goes on.
    state = trainer.gathered_weights()  # all processes have a part in it
    if environment.is_main_process():
        checkpoints.save_whole(target, partial(trainer.save_weights, state=state), progress.tokenizer)
    if evaluates and step and progress.evaluated_at != step:
        trainer.evaluate()
    if progress.config.keep_best and environment.is_main_process():
        progress.keep_best(target)


def prepare_rows(config: TrainConfig, tokenizer, report: Callable[..., None], cache: Path) -> tuple:
    """The encoded training and held-out rows, mapped into memory; raises when there is nothing that could be learned."""
    name = Path(config.corpus).name
    place = token_cache.encoded_corpus(config, tokenizer, cache, report)
    about = json.loads((place / "about.json").read_text(encoding="utf-8"))
    if about["rows"] < token_cache.FEWEST_ROWS:
        raise CorpusTooSmall(name=name, rows=about["rows"], needed=token_cache.FEWEST_ROWS)
    corpus_rows.check_task(config, name, about["rows"], about["chats"], about.get("pairs", 0))
    if about["chats"] and not tokenizer.chat_template:
        raise NoChatTemplate(model=Path(config.base_model).name, name=name)
    training, held_out = token_cache.Tokens(place, "train"), token_cache.Tokens(place, "eval")
    if not training:
        raise NothingToLearn(name=name, max_length=config.max_length)
    pairs = config.task == "preference"
    blocks = token_cache.Blocks(training, config.max_length) if config.packing and not pairs else None
    shown = blocks or training
    report(
        "data",
        rows_train=len(set(training.numbers.tolist())),
        rows_eval=len(set(held_out.numbers.tolist())),
        rows_left_out=about["left_out"],
        rows_cut=about["cut"],
        rows_alike=about["alike"],
        rows_text=about["rows"] - about["chats"] if config.task == "chat" else 0,
        tokens_train=sum(training.lengths),
        tokens_learned=training.learned(packed=config.packing and not pairs),
        longest=max(training.lengths),
        blocks=blocks and len(blocks),
        fill=sum(training.lengths) / (len(shown) * config.max_length),
    )
    return tuple(preferences.Pairs(part, config) for part in (training, held_out)) if pairs else (shown, held_out)
