"""One question to the calculator: how a model is trained, checked for sense, with the defaults of our own recipe."""

from dataclasses import dataclass, replace

from core.errors import named
from core.estimate import amounts, errors
from core.estimate.shape import ModelShape
from core.training import config
from core.training.errors import TrainingError

# Of training; of_kind() gives the fields of one.
KINDS = ("full", "lora", "qlora", "dpo", "kto", "orpo", "cpt", "prompt")
OPTIMIZERS = {  # bytes of state for a trained parameter of fp32 and of 16 bit; how much of it lies on the card
    "adamw_torch": (8, 4),
    "adamw_torch_fused": (8, 4),
    "adamw_8bit": (2 + 8 / 256, 2 + 8 / 256),
    "paged_adamw_8bit": (0, 0),
    "paged_adamw_32bit": (0, 0),
    "adafactor": (0.02, 0.02),
    "sgd": (0, 0),
}
CHOICES = {
    "method": ("full", "lora", "qlora", "prompt"),
    "optim": tuple(OPTIMIZERS),
    "attention": ("sdpa", "flash_attention_2", "eager"),
    "loss": ("tiled", "fused", "logits", "held", "half"),
    "precision": ("bf16", "fp16", "fp32"),
}
SUGGESTED = {
    "max_length": 512, "batch_size": 1, "gradient_accumulation_steps": 8, "lora_rank": 16, "prompt_tokens": 500,
}  # fmt: skip


def saved_bytes(optim: str, width: int = 4) -> float:
    """Bytes of a trained number in a checkpoint: itself, of `width` bytes, and the optimizer's states."""
    return width + OPTIMIZERS.get(optim.removeprefix("paged_"), (8, 8))[0 if width == 4 else 1]


@dataclass(frozen=True)
class Setup:
    """Everything about a run that its memory and time depend on.

    What TrainConfig has too bears its name there and means the same; the rest is the software around the step, whose
    defaults are what core/training does.
    """

    method: str = "qlora"  # those of TrainConfig, or prompt: a system prompt and examples, and nothing is trained
    task: str = "chat"
    preference_loss: str = "dpo"
    paired: bool = True  # of preferences: two replies to a prompt in a row, not one that was judged by itself
    max_length: int = 2048
    batch_size: int = 1
    gradient_accumulation_steps: int = 8
    lora_rank: int = 16
    lora_dropout: float = 0.05
    target_modules: str = "all-linear"  # or names with commas
    optim: str = "adamw_torch"
    train_embeddings: bool = False  # as full copies beside an adapter
    gradient_checkpointing: bool = True
    attention: str = "sdpa"  # the kernel: sdpa and flash_attention_2 need no matrix of scores, eager does
    loss: str = (
        "tiled"  # tiled: our own; fused: TRL's and Liger's; logits: the stock Trainer's; held, half: see loss.py
    )
    precision: str = "bf16"
    use_liger_kernel: bool = False  # norms, rotary positions and the MLP's product in a kernel each
    prompt_tokens: int = 500  # of a system prompt with its examples, before every message
    labelled: float = 1.0  # share of the tokens that count in the loss
    # The software path. Ours: fp32 adapters under autocast, no preparation of the 4-bit base, double quantisation.
    autocast: bool = True
    adapter_width: int = 4
    weight_width: int = 2
    double_quant: bool = True
    packed_experts: bool = (
        False  # of a mixture, in 4 bit: as transformers 4 did, whose experts were layers of their own
    )
    kbit_prepare: bool = False  # peft's prepare_model_for_kbit_training: embeddings, head and norms in fp32
    old_bitsandbytes: bool = False  # before 0.48: unpacks more slowly
    fused_mlp: bool = True  # among Liger's kernels; those of fms-acceleration have none for it
    saved_width: int = 4  # bytes of an element of the copies of embedding and head
    memory_efficient: bool = False  # the attention kernel of cards without FlashAttention: expands grouped heads
    padded_mask: bool = False  # sdpa with a mask of T x T

    @property
    def kind(self) -> str:
        """Which of KINDS it is: continued pretraining is that of all weights on text."""
        if self.task == "preference":
            return self.preference_loss
        return "cpt" if self.method == "full" and self.task == "text" else self.method

    @property
    def tokens(self) -> int:
        return self.max_length * self.sequences

    @property
    def sequences(self) -> int:
        """Of a batch: a preference pair has two, each the prompt with a reply."""
        return self.batch_size * (2 if self.task == "preference" and self.paired else 1)

    @property
    def learned(self) -> int:
        """How many tokens count in the loss."""
        return max(1, int(self.tokens * self.labelled))

    @property
    def half(self) -> int:
        return 4 if self.precision == "fp32" else 2

    @property
    def autocast_width(self) -> int:
        """Bytes of a number in products under autocast; 0 without it."""
        return self.half if self.autocast else 0

    @property
    def foreach(self) -> bool:
        """torch's AdamW goes over all tensors at once by default, with one more copy of all gradients."""
        return self.optim == "adamw_torch"

    @property
    def saves(self) -> bool:
        """Copies of embedding and head are trained beside an adapter."""
        return self.adapts and self.train_embeddings

    @property
    def adapts(self) -> bool:
        return self.method in ("lora", "qlora")

    def changed(self, **fields) -> "Setup":
        return replace(self, **fields)


def of_kind(kind: str) -> dict:
    """The fields of a kind of training: its method and task; preferences are learned by QLoRA.

    Raises:
        NotOneOf: if there is no such kind.
    """
    if kind not in KINDS:
        raise TrainingError("NotOneOf", field="method", allowed=", ".join(KINDS), value=kind)
    if kind in config.CHOICES["preference_loss"]:
        return {"method": "qlora", "task": "preference", "preference_loss": kind}
    return {"method": "full", "task": "text"} if kind == "cpt" else {"method": kind, "task": "chat"}


def for_method(setup: Setup) -> Setup:
    """What follows from the method: full fine-tuning with weights of 16 bit is pure, its states of the same type.

    fp32 weights (weight_width 4, which answer.suited() chooses for our own recipe) stay so under autocast.
    """
    if setup.method == "full":
        if setup.weight_width == 4 and setup.precision != "fp32" and setup.autocast:
            return setup
        return replace(setup, autocast=False, adapter_width=setup.half, weight_width=setup.half)
    if setup.precision == "fp32":
        return replace(setup, autocast=False, weight_width=4, adapter_width=4, saved_width=4)
    return setup


def targets(setup: Setup, shape: ModelShape) -> tuple[str, ...]:
    """The linear layers that get an adapter.

    Raises:
        UnknownTargets: if the model has no layer of that name.
    """
    known = shape.linears()
    if setup.target_modules == "all-linear":
        return tuple(known)
    names = [name.strip() for name in setup.target_modules.split(",") if name.strip()]
    wrong = [name for name in names if name not in known]
    if wrong or not names:
        raise named("UnknownTargets", model=shape.name, names=", ".join(wrong) or '""', known=", ".join(known))
    return tuple(name for name in known if name in names)


def named_targets(setup: Setup, shape: ModelShape) -> Setup:
    """The setup with its layers by name where "all-linear" would mean more than layers.

    In a mixture of experts peft takes it to mean every expert too, and refuses dropout there.
    """
    if shape.experts and setup.target_modules == "all-linear":
        return replace(setup, target_modules=",".join(targets(setup, shape)))
    return setup


def check(setup: Setup, shape: ModelShape, card=None) -> None:
    """Raise the error of a setup that cannot be trained or makes no sense."""
    for field, choices in CHOICES.items():
        if getattr(setup, field) not in choices:
            raise TrainingError("NotOneOf", field=field, allowed=", ".join(choices), value=getattr(setup, field))
    for field, suggestion in SUGGESTED.items():
        value = getattr(setup, field)
        if value < 1 or value != int(value):
            raise TrainingError("TooSmall", field=field, least=1, value=value, suggestion=suggestion)
    _check_ranges(setup, shape)
    if shape.longest and setup.max_length > shape.longest:
        raise TrainingError("LongerThanTheModel", model=shape.name, limit=shape.longest, value=setup.max_length)
    if setup.method == "prompt" and setup.prompt_tokens > setup.max_length:
        raise named("PromptFillsContext", value=setup.prompt_tokens, length=setup.max_length)
    targets(setup, shape)
    if card is not None:
        _check_card(setup, card)


def _check_ranges(setup: Setup, shape: ModelShape) -> None:
    if not 0 < setup.labelled <= 1:
        raise errors.OutOfRange(field="labelled", range="0 < x ≤ 1", value=setup.labelled, suggestion=1)
    if not 0 <= setup.lora_dropout < 1:
        raise errors.OutOfRange(field="lora_dropout", range="0 ≤ x < 1", value=setup.lora_dropout, suggestion=0.05)
    if setup.adapts and setup.lora_rank > shape.hidden:
        raise named("RankTooLarge", value=setup.lora_rank, model=shape.name, hidden=shape.hidden)


def _check_card(setup: Setup, card) -> None:
    if card.kind == "cpu":
        if setup.attention == "flash_attention_2":
            raise named("NotOnProcessor", what="FlashAttention 2", instead="sdpa")
        if setup.precision == "fp16":
            raise named("NotOnProcessor", what="fp16", instead="fp32")
    elif card.kind != "cuda":
        if setup.attention == "flash_attention_2":
            raise named("FlashNeedsNvidia", card=card.name)
    elif card.capability < 8.0:
        if setup.precision == "bf16":
            raise named("NoBf16OnCard", card=card.name, capability=card.capability)
        if setup.attention == "flash_attention_2":
            raise named("NoFlashAttention", card=card.name, capability=card.capability)


def count(text: str | float, field: str = "tokens") -> int:
    """A count as people write it: 100M, 2.5B, 10 000, 10 млн, «сто миллионов».

    Raises:
        NotAnAmount, TooSmall, NotWhole: with what to write instead.
    """
    value = text if isinstance(text, (int, float)) else amounts.read(str(text))
    if value is None:
        raise errors.NotAnAmount(field=field, value=text)
    if not 1 <= value < 1e16:
        raise TrainingError("TooSmall", field=field, least=1, value=text, suggestion=SUGGESTED.get(field, "10M"))
    if value != round(value):
        raise named("NotWhole", field=field, value=text, suggestion=max(1, round(value)))
    return round(value)


def number(text: str | float, field: str) -> float:
    """A number as people write it, with a point, a comma or a sign of per cent, or in words; check() judges it.

    Raises:
        NotAnAmount: if it is none.
    """
    plain = str(text).strip().removesuffix("%")
    try:
        return float(plain.replace(",", "."))
    except ValueError:
        if (value := amounts.read(plain)) is None:
            raise errors.NotAnAmount(field=field, value=text) from None
        return value


def with_mix(tokens: float, percent: str | float) -> int:
    """Tokens of an epoch, one pass over a corpus of so many, where others have so many per cent of what is read.

    Raises:
        NotAnAmount, OutOfRange.
    """
    share = number(percent or 0, "mix") / 100
    if not 0 <= share <= config.MOST_MIXED:
        raise errors.OutOfRange(field="mix", range="0 ≤ x ≤ 90", value=percent, suggestion=20)
    return round(tokens / (1 - share))


def price(text: str | float) -> float:
    """What a kWh costs.

    Raises:
        NotAnAmount, OutOfRange.
    """
    value = number(text or 0, "price")
    if not 0 <= value < 1e9:
        raise errors.OutOfRange(field="price", range="x ≥ 0", value=text, suggestion=0.3)
    return value


def epochs(text: str | float) -> float:
    """A number of epochs; half an epoch is fine."""
    value = number(text, "epochs")
    if not 0 < value <= 1000:
        raise errors.OutOfRange(field="epochs", range="0 < x ≤ 1000", value=text, suggestion=3)
    return value
