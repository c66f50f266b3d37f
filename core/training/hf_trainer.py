"""transformers' Trainer with our batches, loss, evaluation and checkpoints."""

from __future__ import annotations

import math
import tempfile
import time
from functools import partial
from pathlib import Path

import torch

from . import batching, devices, environment, mixing, preferences, token_cache
from .config import TrainConfig

RECALLED = 10  # training rows whose loss is taken: see _recalls()


class _Parts:
    """What the Trainer does in another way here.

    The checkpoint comes before the evaluation; the device is waited for once a step; the order of the rows follows from
    the seed and the epoch; the held-out loss is the mean over learned tokens; what is saved has the stop tokens.
    """

    settings: TrainConfig
    start = None  # the directory of an adapter as PiSSA began it
    fresh_tokens = 0  # of this process, since the last time that those of all were added up

    def training_step(self, model, inputs, *args, **kwargs):
        rows = inputs.pop("rows")
        self.fresh_tokens += inputs.pop("tokens")
        shape, named = tuple(inputs["input_ids"].shape), batching.named_rows([rows])
        try:
            loss = super().training_step(model, inputs, *args, **kwargs)
        except Exception as error:  # whoever words the error wants to know
            error.batch_shape, error.batch_rows = shape, named
            raise
        self.soulsmith.batches.append((rows, loss))
        self.soulsmith.latest = shape, named
        return loss

    def compute_loss(self, model, inputs, *args, **kwargs):
        if self.settings.task != "preference":
            return super().compute_loss(model, inputs, *args, **kwargs)
        loss, measures = preferences.loss(model, inputs, self.settings)
        self.soulsmith.measures.append(measures)
        return loss

    def floating_point_ops(self, inputs) -> int:
        return 0  # nobody reads the sum, and it goes through all modules for every batch

    def _maybe_log_save_evaluate(self, tr_loss, grad_norm, *args, **kwargs):
        """Log, save, evaluate, in this order: an evaluation that fails must not cost the checkpoint of its step."""
        evaluates, self.control.should_evaluate = self.control.should_evaluate, False
        if self.control.should_log or self.control.should_save:
            self._add_up_tokens()
        if self.control.should_log and self.state.global_step > self._globalstep_last_logged:
            tr_loss, grad_norm = self._fetched(tr_loss, grad_norm)
        self.soulsmith.on_step_computed()
        super()._maybe_log_save_evaluate(tr_loss, grad_norm, *args, **kwargs)
        if evaluates:
            self.evaluate()

    def _fetched(self, loss, grad_norm):
        """Loss and norm of the gradient as the processor has them, and what was measured besides, in one
        transfer; the sum of losses begins anew."""
        if (
            environment.process_count() > 1
            or not isinstance(grad_norm, torch.Tensor)
            or loss.device != grad_norm.device
        ):
            return loss, grad_norm
        values, measures = torch.stack((loss.float(), grad_norm.float())), self.soulsmith.measures
        total, norm, *rest = torch.cat([values, *(some.flatten() for some in measures)]).tolist()
        self.soulsmith.measures = [torch.tensor(rest).view(-1, measures[0].shape[1])] if measures else []
        loss.zero_()
        return torch.tensor(total), norm

    def _add_up_tokens(self) -> None:
        """Count the tokens of all processes."""
        fresh, self.fresh_tokens = self.fresh_tokens, 0
        if environment.process_count() > 1:
            fresh = int(self.accelerator.gather(torch.tensor(fresh, device=self.args.device)).sum())
        self.state.num_input_tokens_seen += fresh

    def _run_epoch(self, model, epoch, *args, **kwargs):
        # The batches that a resumed run skips are wrapped once more a process: accelerate's word does not get through.
        self.rows_in_order.set_epoch(epoch)
        if self.soulsmith.misses_evaluation(self.args, self.state):
            self.evaluate()
        if self.state.global_step >= self.state.max_steps:  # resumed at its end: the stock loop would take one more
            self.control.should_training_stop = True
        return None if self.control.should_training_stop else super()._run_epoch(model, epoch, *args, **kwargs)

    def gathered_weights(self) -> dict | None:
        """The weights of all processes where they are shared out, else None: every process has to call this."""
        if not (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            return None
        return self.accelerator.get_state_dict(self.model_wrapped)

    def save_weights(self, path, state: dict | None = None) -> None:
        """Save what is trained with the tokens that end a reply. What began as PiSSA is saved as plain LoRA."""
        more = {"path_initial_model_for_weight_conversion": self.start.name} if self.start else {}
        self.model.save_pretrained(path, **({} if state is None else {"state_dict": state}), **more)
        if self.settings.method != "full":
            self.model.get_base_model().generation_config.save_pretrained(path)

    def _save(self, output_dir=None, state_dict=None):
        super()._save(output_dir, state_dict)
        if self.start and self.args.should_save:  # to go on from, it is needed as it is; to chat with, as plain LoRA
            self.model.save_pretrained(Path(output_dir) / "pissa", state_dict=state_dict)
            self.save_weights(output_dir, state_dict)

    def _load_from_checkpoint(self, checkpoint, model=None):
        inner = Path(checkpoint) / "pissa"
        super()._load_from_checkpoint(str(inner) if inner.is_dir() else checkpoint, model)

    def _get_train_sampler(self, train_dataset=None):
        self.rows_in_order = rows_in_order(self.train_dataset, self.settings)
        return self.rows_in_order

    def evaluate(self, *_, **__):
        began, progress = time.monotonic(), self.soulsmith
        try:
            loss, by_corpus = self._held_out_loss()
            recall = self._recall_loss() if loss is not None and self._recalls() else None
        except Exception as error:
            error.step = self.state.global_step
            raise
        if loss is None:
            self.control.should_training_stop = True
            return {}
        out = Path(self.args.output_dir)
        progress.on_evaluation(self.state.global_step, loss, self.model, self.control, out, by_corpus, recall)
        progress.eval_seconds = time.monotonic() - began
        metrics = {"eval_loss": loss}
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _held_out_loss(self) -> tuple[float | None, list | None]:
        """The held-out loss, and that of each corpus where there are several."""
        config, progress = self.settings, self.soulsmith
        if config.task != "preference":
            return mixing.held_out_losses(
                self.eval_dataset,
                lambda rows: batching.held_out_loss(self.model, rows, config.batch_size, progress.stop_requested),
            )
        found = preferences.held_out(self.model, self.eval_dataset, config, progress.stop_requested)
        if not found:
            return None, None
        progress.report("preference", step=self.state.global_step, part="eval", **found[1])
        return found[0], None

    def _recalls(self) -> bool:
        """Whether the weights of this step may be those that the run leaves: on a processor nothing else is recalled."""
        config, step = self.settings, self.state.global_step
        ends = step in (0, self.state.max_steps) or self.soulsmith.until is not None
        return ends or bool(config.keep_best or config.early_stopping) or devices.device_type() != "cpu"

    def _recall_loss(self) -> float | None:
        """The loss on a few training rows: far below the held-out loss, they are memorised."""
        config = self.settings
        if config.task == "preference":
            return None
        rows = self.train_dataset.parts[0] if isinstance(self.train_dataset, mixing.Mixture) else self.train_dataset
        rows = getattr(rows, "rows", rows)  # of blocks
        count = min(RECALLED, len(rows))
        few = [rows[at * len(rows) // count] for at in range(count)]
        return batching.held_out_loss(self.model, few, config.batch_size)  # a stop waits for so few

    def create_optimizer(self, *args, **kwargs):
        config = self.settings
        if self.optimizer is None and config.loraplus_lr_ratio and config.method != "full":
            from peft.optimizers import create_loraplus_optimizer  # noqa: PLC0415 - it imports bitsandbytes

            kind, settings = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            more = {"loraplus_lr_ratio": config.loraplus_lr_ratio, "loraplus_weight_decay": config.weight_decay}
            self.optimizer = create_loraplus_optimizer(self.model, kind, **settings, **more)
        optimizer = super().create_optimizer(*args, **kwargs)
        set_learning_rates(optimizer, self.model, config)
        return optimizer


def make_trainer(config: TrainConfig, out: Path, model, tokenizer, training, held_out, layout: dict | None = None):
    """The stock Trainer with our parts; layout is what collate() is called with."""
    from transformers import Trainer  # noqa: PLC0415 - it imports PEFT, and PEFT bitsandbytes

    start = None
    if config.init_lora_weights.startswith("pissa") and config.method == "lora":
        start = tempfile.TemporaryDirectory(prefix="pissa-")
        model.save_pretrained(start.name)
    base = model if config.method == "full" else model.get_base_model()
    how = {"layout": layout or {}, "tiled": getattr(base, "loss_is_tiled", False)}
    collate = partial(batching.named_batch, **how)
    if config.task == "preference":
        collate = partial(preferences.collate, **how, packed=config.packing)
    trainer = type("SoulTrainer", (_Parts, Trainer), {"settings": config, "start": start})(
        model=model,
        args=training_arguments(config, out, len(rows_in_order(training, config)), evaluates=bool(held_out)),
        train_dataset=training,
        eval_dataset=held_out if len(held_out) else None,
        data_collator=collate,
        processing_class=tokenizer,
    )
    if config.task == "preference":
        trainer.loss_is_scaled_for_ga = False  # the mean of a batch, not a sum over the tokens of all batches of a step
    return trainer


def rows_in_order(training, config: TrainConfig):
    """The sampler of a run: rows of like length together, of several corpora by their shares."""
    rows_a_step = config.batch_size * config.gradient_accumulation_steps * environment.process_count()
    if isinstance(training, mixing.Mixture):
        return mixing.ByShare(training, rows_a_step, config.seed, config.epochs)
    return batching.ByLength(token_cache.lengths_of(training), rows_a_step, config.seed)


def training_arguments(config: TrainConfig, out: Path, rows: int, *, evaluates: bool):
    """The config in the Trainer's own words."""
    from transformers import TrainingArguments  # noqa: PLC0415 - it imports PEFT, and PEFT bitsandbytes

    batches = math.ceil(rows / (config.batch_size * environment.process_count()))
    a_epoch = math.ceil(batches / config.gradient_accumulation_steps)
    steps = config.max_steps or math.ceil(config.epochs * a_epoch)
    every = min(steps, config.eval_steps or max(1, math.ceil(steps / 10)))
    kind = devices.precision(config)
    return TrainingArguments(
        output_dir=str(out),
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=config.batch_size,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        num_train_epochs=config.epochs,
        max_steps=config.max_steps or -1,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.lr_scheduler_type,
        lr_scheduler_kwargs=_schedule(config.lr_scheduler_type, steps),
        neftune_noise_alpha=None if config.task == "preference" else config.neftune_noise_alpha or None,
        use_liger_kernel=config.use_liger_kernel,
        liger_kernel_config={"cross_entropy": False, "fused_linear_cross_entropy": False},  # the loss is ours
        warmup_steps=int(config.warmup_ratio * steps),  # whole ones: the first of them has a rate of 0
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        optim=config.optim,
        bf16=kind == "bf16",
        fp16=kind == "fp16",
        activation_checkpointing=config.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        eval_strategy="steps" if evaluates else "no",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=None,  # rotate() keeps the best one too
        logging_steps=config.logging_steps,
        logging_nan_inf_filter=False,  # it would show the mean of the steps before instead of a NaN
        remove_unused_columns=False,
        use_cpu=devices.device_type() == "cpu",
        label_names=["labels"],
        report_to="none",
        disable_tqdm=True,
        seed=config.seed,
        dataloader_pin_memory=False,
    )


def _schedule(name: str, steps: int) -> dict:
    """The arguments that a schedule needs besides its name."""
    if name == "cosine_with_min_lr":
        return {"min_lr_rate": 0.1}
    return {"num_decay_steps": math.ceil(steps / 10)} if name == "warmup_stable_decay" else {}


def set_learning_rates(optimizer, model, config: TrainConfig) -> None:
    """Give embeddings and head groups of their own, and note in every group how many times learning_rate its rate is."""
    rate = config.embedding_learning_rate
    if not rate and config.train_embeddings and config.method != "full":
        rate = config.learning_rate / 10
    layers = (model.get_input_embeddings(), model.get_output_embeddings())
    theirs = {id(weight) for layer in layers for weight in layer.parameters()} if rate else set()
    for group in list(optimizer.param_groups):
        apart = [weight for weight in group["params"] if id(weight) in theirs]
        if apart:
            group["params"] = [weight for weight in group["params"] if id(weight) not in theirs]
            optimizer.add_param_group({**group, "params": apart, "lr": rate})
    optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"]]
    for group in optimizer.param_groups:
        group["times"] = group["lr"] / config.learning_rate
