"""What can be wrong with a config, a corpus or a model, as sentences for the person at the screen."""

from __future__ import annotations

from typing import Any, ClassVar


class UserError(Exception):
    """What is wrong, with the value, and what to do next."""

    template: ClassVar[str] = "{message}"

    def __init__(self, **values: Any):
        super().__init__(self.template.format(**values))
        self.name, self.values = type(self).__name__, values


def first_line(error: object) -> str:
    """The first line of an error's message without its full stop; of one without a message the name of its class."""
    return str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__


class TrainingError(UserError, ValueError):
    """Something in a config, a corpus or a model that it cannot be trained with."""


class UnknownField(TrainingError):
    template = "The config has no field {field}. Take it out, or write the name as {known} do."


class NotOneOf(TrainingError):
    template = "{field} must be one of {allowed}, got {value}."


class NotANumber(TrainingError):
    template = "{field} must be a number ({kind}), got {value}."


class TooSmall(TrainingError):
    template = "{field} must be at least {least}, got {value}. Try {suggestion}."


class NotPositive(TrainingError):
    template = "{field} must be above 0, got {value}. Try {suggestion}."


class TooLarge(TrainingError):
    template = "{field} must be at most {most}, got {value}. Try {suggestion}."


class NoSuchValue(TrainingError):
    template = "{field} cannot be {value}. Write it as in the config of this run."


class NotAMix(TrainingError):
    template = 'mix must be a list of corpora and shares, got {value}. Try [["my-texts", 0.2]].'


class MixedTwice(TrainingError):
    template = "A corpus stands twice in {value}. Name each once, with its share."


class PreferencesAlone(TrainingError):
    template = (
        'The corpus "{name}" holds preference pairs ({pairs}), which are learned alone: they have a loss of their own. '
        "Train on the other corpora first, then go on from that run with this corpus."
    )


class CorpusGone(TrainingError):
    template = "There is no corpus in {path}. It was moved or deleted: choose another one."


class CorpusTooSmall(TrainingError):
    template = (
        "The corpus {name} has {rows} different rows; at least {needed} are needed to hold some out for evaluation."
    )


class NothingToLearn(TrainingError):
    template = (
        "No row of {name} leaves the model a word to learn within max_length {max_length}. "
        "Raise max_length, or choose a corpus with assistant replies."
    )


class NoChatTemplate(TrainingError):
    template = "{model} has no chat template, and {name} holds chats. Choose an instruct model, or a corpus of texts."


class TemplateRefused(TrainingError):
    template = "The chat template refuses the roles {roles}: {reason}"


class ModelUnreadable(TrainingError):
    template = "{model} could not be opened as a language model: {reason}"


class LayersUnknown(TrainingError):
    template = "{model} has no layers named {names} that an adapter fits. Set target_modules to all-linear."


class AdapterRefused(TrainingError):
    template = (
        "{model} takes no adapter with these settings: {reason} "
        "Set target_modules to all-linear, use_dora to off and init_lora_weights to default."
    )


class ExpertsTakePlainLora(TrainingError):
    template = (
        "{model} keeps its experts in one tensor a layer, which take plain LoRA only, and {field} is {value}. "
        "Set {field} to {suggestion}, or target_modules to {names}: adapters on the attention alone."
    )


class StoredQuantized(TrainingError):
    template = (
        "The weights of {model} are stored in {kind}, and method {method} cannot begin with those (methods that can: "
        "{methods}). Choose the same model in 16 bit."
    )


class ChatsForPretraining(TrainingError):
    template = (
        'The corpus "{name}" holds {chats} chats, and continued pretraining reads plain texts. '
        "Choose a corpus of texts, or tune on chats: set task to chat."
    )


class PreferencePairs(TrainingError):
    template = (
        'The corpus "{name}" holds preference pairs ({pairs}). Train on preferences (set task to preference), or import '
        "its chosen replies as chats: choose the columns of the question and of the chosen reply yourself."
    )


class NotPreferencePairs(TrainingError):
    template = (
        'The corpus "{name}" holds {others} rows that are no preference pairs, and training on preferences compares '
        "two replies. Choose a corpus of pairs, or tune on chats: set task to chat."
    )


class RepliesNeedKto(TrainingError):
    template = (
        'The corpus "{name}" holds replies that were liked or disliked one by one ({judged}), and {loss} compares two '
        "replies to one prompt. Set preference_loss to kto, or choose a corpus of pairs."
    )


class TextsForChat(TrainingError):
    template = (
        'The corpus "{name}" holds plain texts only, and chat tuning learns replies. '
        "Choose continued pretraining (set task to text), or a corpus of chats."
    )


class StartUnreadable(TrainingError):
    template = (
        "{start} is no adapter and no model to go on from: {missing} is missing or damaged. Choose a folder with "
        "adapter_config.json and adapter_model.safetensors, or a run."
    )


class StartNotPlainLora(TrainingError):
    template = "This adapter is of a kind that cannot be trained on here: {kind}. Choose a LoRA adapter of one rank."


class StartIsWhole(TrainingError):
    template = (
        "{start} is a whole model, and method {method} trains an adapter. Leave start empty and set base_model to that "
        "folder, or set method to full."
    )


class StartIsAdapter(TrainingError):
    template = (
        "{start} is an adapter, and method full trains all weights. Set method to lora or qlora, or export the adapter "
        "merged and set base_model to that folder."
    )


class StartSetting(TrainingError):
    template = (
        "{start} has {field} {theirs}, and the run has {ours}. An adapter goes on as it was begun: set {field} to "
        "{theirs}."
    )


class StartForeign(TrainingError):
    template = (
        "{start} does not fit {model}: {matched} of its {tensors} tensors do, and {wanted} are wanted. It was trained "
        "on {base}, layers {targets}. Choose that base_model and those target_modules."
    )


class ArchitectureUnknown(TrainingError):
    template = (
        "{model} is of the kind {kind}, which transformers {version} cannot train as a language model. "
        "Choose another model, or update transformers."
    )


class LongerThanTheModel(TrainingError):
    template = "max_length is {value}, and {model} reads {limit} tokens at most. Set max_length to {limit} or less."


class VocabularyTooLarge(TrainingError):
    template = (
        "The tokenizer of {model} knows {tokens} tokens and its weights only {rows}. "
        "Take the tokenizer that belongs to the model, or enlarge the model's embeddings first."
    )


class NoBf16(TrainingError):
    template = "{card} does not compute bf16. Set precision to auto: it takes fp16 there, with adapters in fp32."


class NoBf16TakesFp32(TrainingError):
    template = "{card} does not compute bf16. Set precision to auto: it takes fp32 there."


class Bf16NeedsNewerMacOS(TrainingError):
    template = (
        "Apple's GPU computes bf16 from macOS 14 on. Update macOS, or set precision to auto: it takes fp32 until then."
    )


class Fp16NeedsCard(TrainingError):
    template = "precision fp16 needs a graphics card, and torch computes on the processor here. Set precision to auto."


class Fp16NotOnApple(TrainingError):
    template = "Training in fp16 is not for Apple's GPU. Set precision to auto: it takes {instead} there."


class LigerNeedsCard(TrainingError):
    template = "use_liger_kernel needs a card of NVIDIA, AMD or Intel, and torch sees none here. Switch it off."


class LigerMissing(TrainingError):
    template = (
        "use_liger_kernel needs a graphics card and the package liger-kernel; {missing} is missing here. "
        "Switch it off, or install it with: pip install liger-kernel"
    )


class PackageBroken(TrainingError):
    template = (
        "{what} needs the package {package}, which is installed but does not load: {reason}. Do without {what}, or "
        "reinstall the package: {command}"
    )


class PissaNeedsWholeBase(TrainingError):
    template = (
        "init_lora_weights {value} takes the base apart, which it cannot do with 4-bit weights. "
        "Set method to lora, or init_lora_weights to default."
    )


class PackingUnsupported(TrainingError):
    template = (
        "Rows in one block would leak into each other in {model}: its layers do not keep documents apart. "
        "Switch packing off."
    )


class NotFinite(TrainingError):
    template = (
        "{model} computes NaN or infinity in {precision}. Set precision to fp32, or to bf16 where the card has it."
    )


class SeesAhead(TrainingError):
    template = (
        "{model} sees the words that it should predict, as encoders of BERT's kind do: it would learn nothing. "
        "Choose a model that writes text."
    )


class LossIsZero(TrainingError):
    template = (
        "The loss is exactly 0 by step {step}: nothing is being learned. "
        "Look at the corpus's colours on the Corpus tab, and set learn to all if no reply is coloured."
    )


class LossNotFinite(TrainingError):
    template = (
        "The loss became {value} at step {step}, in a batch of these rows of the corpus: {rows}. The newest good "
        "checkpoint is that of step {good} (0: there is none). Lower learning_rate to {suggestion} and start again."
    )
