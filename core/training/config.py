"""TrainConfig: all that decides a run, with the limits of its fields."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from .errors import TrainingError

CHOICES = {
    "method": ("qlora", "lora", "full"),
    "task": ("chat", "text", "preference"),
    "preference_loss": ("dpo", "kto", "orpo"),
    "init_lora_weights": ("default", "gaussian", "pissa", "pissa_niter_16"),
    "lr_scheduler_type": (
        *("cosine", "linear", "constant", "constant_with_warmup", "cosine_with_min_lr"),
        *("warmup_stable_decay", "inverse_sqrt", "polynomial"),
    ),
    "learn": ("assistant", "all"),
    "precision": ("auto", "fp32", "bf16", "fp16"),
}
LIMITS = {  # field: (least value, greatest value, what to try)
    "max_length": (8, None, 1024),
    "batch_size": (1, None, 4),
    "gradient_accumulation_steps": (1, None, 1),
    "max_steps": (0, None, 0),
    "learning_rate": (None, 1, 0.0002),
    "beta": (0.001, None, 0.1),
    "label_smoothing": (0, 0.49, 0),
    "desirable_weight": (0, None, 1),
    "undesirable_weight": (0, None, 1),
    "lora_rank": (1, None, "8 or 16"),
    "lora_alpha": (1, None, 32),
    "lora_dropout": (0, 0.9, 0.05),
    "loraplus_lr_ratio": (0, None, 16),
    "embedding_learning_rate": (0, 1, 0.00002),
    "neftune_noise_alpha": (0, None, 5),
    "warmup_ratio": (0, 0.9, 0.03),
    "weight_decay": (0, None, 0),
    "max_grad_norm": (0, None, 1),
    "validation_share": (0, 0.5, 0.1),
    "eval_steps": (0, None, 0),
    "logging_steps": (1, None, 1),
    "save_total_limit": (2, None, 2),
    "early_stopping": (0, None, 3),
    "seed": (0, None, 7),
}
MOST_MIXED = 0.9  # the share of all further corpora together
EARLIER_NAMES = {"film_strip": "eval_samples"}  # of fields, in configs of older versions
NUMBERS = {"int": int, "float": (int, float)}
LOSS_TILE = 1024  # positions whose logits exist at one time, at most
LEAST_TILE = 128  # and at least: below that the products of matrices become slow
TILE_BYTES = 2**26  # of logits in 16 bit and in fp32


def tile_rows(vocabulary: int) -> int:
    """How many positions have logits at one time while the head is not trained."""
    return min(LOSS_TILE, max(LEAST_TILE, TILE_BYTES // (6 * max(1, vocabulary))))


@dataclass(frozen=True)
class TrainConfig:
    """All that decides a run; JSON on disk, and the form's keys are these names."""

    base_model: str  # a directory with safetensors, or a hub id
    corpus: str  # a directory with rows-*.jsonl, or one JSONL file of `messages` or `text`
    start: str = (
        ""  # where training goes on from: a run (run:ID, run:ID/checkpoint-N), or an adapter, a folder or a hub id
    )
    mix: tuple = ()  # more corpora, (corpus, share of the tokens that are read) each; `corpus` has what they leave
    method: str = (
        "qlora"  # qlora: LoRA on a base in 4-bit NF4, double quantisation; lora: on the base; full: all weights
    )
    # chat: conversations; text: continued pretraining on raw text, every token of which is learned; preference: pairs
    # of a chosen and a rejected reply
    task: str = "chat"
    preference_loss: str = "dpo"  # arXiv:2305.18290; kto: arXiv:2402.01306; orpo: arXiv:2403.07691
    # of dpo and kto: the higher, the nearer the model stays to the one it started from; of orpo: how much it counts that
    # the chosen reply is likelier than the rejected one, beside learning the chosen one
    beta: float = 0.1
    label_smoothing: float = 0.0  # of dpo: share of pairs that are the wrong way round, arXiv:2403.00409
    desirable_weight: float = 1.0  # of kto: how much chosen replies count in the loss
    undesirable_weight: float = 1.0  # and rejected ones
    learn: str = "assistant"  # assistant: only replies and their end token count in the loss; all: every token
    max_length: int = 1024  # tokens of a row, or of a block; the rest is cut off
    packing: bool = False  # rows share blocks of max_length without seeing each other; long texts go on in more blocks
    batch_size: int = 4  # rows per device and step
    gradient_accumulation_steps: int = 1
    epochs: float = 3.0
    max_steps: int = 0  # optimizer steps; 0: as many as epochs need
    learning_rate: float = 2e-4  # AdamW on LoRA weights; Dettmers et al. 2023, arXiv:2305.14314, table 9
    lr_scheduler_type: str = "cosine"
    warmup_ratio: float = 0.03  # share of the steps, arXiv:2305.14314
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    lora_rank: int = 16
    lora_alpha: int = 32  # the update is scaled by lora_alpha / lora_rank
    lora_dropout: float = 0.05
    target_modules: str = "all-linear"  # or names with commas: q_proj,v_proj
    use_rslora: bool = False  # scale by lora_alpha / sqrt(lora_rank); Kalajdzievski 2023, arXiv:2312.03732
    use_dora: bool = False  # learn length and direction apart; Liu et al. 2024, arXiv:2402.09353
    init_lora_weights: str = "default"  # pissa: from the base's largest singular values, arXiv:2404.02948
    loraplus_lr_ratio: float = 0.0  # B learns so many times faster than A, arXiv:2402.12354; 0: equally fast
    train_embeddings: bool = False  # embeddings and head are trained whole beside the adapter
    embedding_learning_rate: float = 0.0  # theirs; 0: a tenth of learning_rate (learning_rate itself for method full)
    neftune_noise_alpha: float = 0.0  # noise on the embeddings while training, arXiv:2310.05914; 0: none
    precision: str = "auto"  # auto: bf16 where it is computed in hardware, fp16 on other cards, fp32 on other CPUs
    gradient_checkpointing: bool = False  # a third more time for much less memory
    use_liger_kernel: bool = False  # fused norms, rotary positions and MLPs; needs a card and liger-kernel
    optim: str = "adamw_torch"  # any name that transformers knows
    validation_share: float = 0.1  # of the rows, held out by content hash
    eval_steps: int = 0  # steps between evaluations and checkpoints; 0: ten times a run
    logging_steps: int = 1
    save_total_limit: int = 2  # newest checkpoints kept; the one with the lowest evaluation loss is kept besides
    early_stopping: int = 0  # end after so many evaluations in a row without a new lowest loss; 0: never
    keep_best: bool = False  # save the weights of the checkpoint with the lowest evaluation loss, not the last ones
    eval_samples: bool = False  # replies to the person's own prompts at each evaluation too; train.py makes none
    forgetting_meter: bool = False  # old knowledge is asked about at each evaluation too; train.py does not ask
    seed: int = 7

    def __post_init__(self):
        object.__setattr__(self, "mix", self._checked_mix())
        for field in fields(self):
            self._check(field.name, field.type, getattr(self, field.name))
        if self.method == "qlora" and self.init_lora_weights.startswith("pissa"):
            raise TrainingError("PissaNeedsWholeBase", value=self.init_lora_weights)
        if not self.learning_rate > 0:
            raise TrainingError("NotPositive", field="learning_rate", value=self.learning_rate, suggestion=0.0002)
        if not self.max_steps and not self.epochs > 0:
            raise TrainingError("NotPositive", field="epochs", value=self.epochs, suggestion=3)

    def _check(self, field: str, kind: str, value) -> None:
        """Refuse a value of another kind, one that is not among the choices, and one beyond the limits."""
        if kind in NUMBERS and (isinstance(value, bool) or not isinstance(value, NUMBERS[kind])):
            raise TrainingError("NotANumber", field=field, value=repr(value), kind=kind)
        if field in CHOICES and value not in CHOICES[field]:
            raise TrainingError("NotOneOf", field=field, allowed=", ".join(CHOICES[field]), value=value)
        least, most, suggestion = LIMITS.get(field, (None, None, None))
        if least is not None and not value >= least:  # NaN too
            raise TrainingError("TooSmall", field=field, least=least, value=value, suggestion=suggestion)
        if most is not None and not value <= most:
            raise TrainingError("TooLarge", field=field, most=most, value=value, suggestion=suggestion)

    def _checked_mix(self) -> tuple[tuple[str, float], ...]:
        """The further corpora as pairs; JSON has lists."""
        try:
            mix = tuple((str(corpus), float(share)) for corpus, share in self.mix)
        except (TypeError, ValueError):
            raise TrainingError("NotAMix", value=self.mix) from None
        for corpus, share in mix:
            if not share > 0:
                raise TrainingError("NotPositive", field=f"mix ({corpus})", value=share, suggestion=0.2)
        if not math.fsum(share for _, share in mix) <= MOST_MIXED:
            value = f"{math.fsum(share for _, share in mix):g}"
            raise TrainingError("TooLarge", field="mix", most=MOST_MIXED, value=value, suggestion=0.2)
        if len({self.corpus, *(corpus for corpus, _ in mix)}) <= len(mix):
            raise TrainingError("MixedTwice", value=", ".join([self.corpus, *(corpus for corpus, _ in mix)]))
        return mix

    def with_typed(self, field: str, text: str) -> TrainConfig:
        """The config with one field as a person typed it.

        Raises:
            UnknownField, NoSuchValue, and what the config has against the value.
        """
        kinds, text = {known.name: known.type for known in fields(self)}, text.strip()
        if field not in kinds:
            self.from_dict({field: text})
        read = {"bool": lambda: {"true": True, "false": False}[text.lower()], "tuple": lambda: json.loads(text)}
        read |= {"int": lambda: int(text), "float": lambda: float(text.replace(",", ".")), "str": lambda: text}
        try:
            return replace(self, **{field: read[kinds[field]]()})
        except (KeyError, json.JSONDecodeError) as error:
            raise TrainingError("NoSuchValue", field=field, value=text) from error
        except ValueError as error:
            if isinstance(error, TrainingError):
                raise
            raise TrainingError("NoSuchValue", field=field, value=text) from error

    @classmethod
    def from_dict(cls, values: dict) -> TrainConfig:
        values = {EARLIER_NAMES.get(key, key): value for key, value in values.items()}
        known = {field.name for field in fields(cls)}
        for key in values:
            if key not in known:
                raise TrainingError("UnknownField", field=key, known=", ".join(sorted(known)[:3]) + "…")
        return cls(**values)

    @classmethod
    def load(cls, path: Path) -> TrainConfig:
        return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))

    def save(self, path: Path) -> None:
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False)
        Path(path).write_text(text + "\n", encoding="utf-8")
