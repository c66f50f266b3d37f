"""What a person can ask of the calculator that has no answer, and the nearest thing that has one."""

from core.errors import UserError

# What is written in a field, for a person who wrote something else there.
EXAMPLES = {
    "tokens": "100M, 2.5B, 40000",
    "memory_gb": "12, 7.5",
    "epochs": "3, 0.5",
    "mix": "20",
    "price": "0.3",
    "lora_rank": "16",
    "batch_size": "4",
    "gradient_accumulation_steps": "8",
    "max_length": "2048",
    "prompt_tokens": "500",
}


class UnknownModel(UserError):
    template = (
        'No model "{name}" is in the catalogue, on the hub, in a folder or in a GGUF file here. The nearest: {nearest}. '
        "A folder with its config.json is enough, or the text of that file."
    )


class NoSuchModel(UserError):
    template = '"{name}" was never published. The nearest that exist: {nearest}.'


class UnknownCard(UserError):
    template = (
        'No card "{name}" is in the catalogue. The nearest: {nearest}. '
        "Of any other card its memory in GB is enough: write it in its own field (--memory-gb), or alone: 12 GB."
    )


class AmbiguousCard(UserError):
    template = '"{name}" is sold with different memories: {cards}. Write the memory too, for example "{example}".'


class CardGone(UserError):
    template = "This card of the computer does not answer any more. Choose another one, or restart the computer."


class UnknownArchitecture(UserError):
    template = (
        "The architecture {name} is not one that the calculator can work out. "
        "The nearest that it knows: {nearest}. Check the spelling in config.json, choose one of these, "
        "or check exactly (--trace) if transformers has it."
    )


class NotInTransformers(UserError):
    template = (
        "The installed transformers has no architecture {name}, so its step cannot be run. The nearest that it has: "
        "{nearest}. Check model_type in config.json."
    )


class NeedsTrace(UserError):
    template = (
        "{name} has kinds of layers that the instant formula does not cover. "
        'Use "Check exactly" (--trace), or choose {nearest}.'
    )


class IncompleteConfig(UserError):
    template = "{path} does not say {field}. It must be the config.json of a decoder language model."


class WrongInConfig(UserError):
    template = "{path} says {field}: {value}. It must be a whole number from {least} to {most}."


class NotTrueOrFalse(UserError):
    template = "{path} says {field}: {value}. It must be true or false."


class NotJson(UserError):
    template = (
        "{path} is no JSON. It must be the config.json of a decoder language model, from its first {{ to its last }}."
    )


class NotAnObject(UserError):
    template = "{path} holds a {kind}. A config.json is an object: names and values in curly brackets."


class ConfigGated(UserError):
    template = (
        "The hub gives {name} only to who has accepted its terms. Accept them on its page there and set HF_TOKEN, "
        "or paste its config.json here."
    )


class ConfigUnreachable(UserError):
    template = (
        "{name} is not in the catalogue, and the hub cannot be reached for its config.json: {reason}. "
        "Check the network, or give a folder, a GGUF file or the text of its config.json."
    )


class AmbiguousModel(UserError):
    template = '"{name}" means models of several sizes: {models}. Add the size, such as 7B.'


class NoConfig(UserError):
    template = (
        "There is no {path}. A model's folder has its config.json; give that folder, the file itself or a GGUF file."
    )


class ShapeUnknown(UserError):
    template = (
        "The catalogue does not know the shape of {name}. Give the folder with its config.json, or choose {nearest}."
    )


class NotAnAmount(UserError):
    template = '{field} must be a number such as {examples}, got "{value}".'

    def __init__(self, *, field: str, value, examples: str = ""):
        super().__init__(field=field, value=value, examples=examples or EXAMPLES.get(field, "0.05, 1"))


class OutOfRange(UserError):
    template = "{field} must be a number x with {range}, got {value}. Try {suggestion}."


class RankTooLarge(UserError):
    template = (
        "lora_rank is {value}, and {model} is only {hidden} wide: such an adapter would be larger than the layers that "
        "it adapts. Take {hidden} or less; 8 to 64 is usual."
    )


class NotWhole(UserError):
    template = "{field} must be a whole number, got {value}. Try {suggestion}."


class NoBf16OnCard(UserError):
    template = "{card} has no bf16 (it needs compute capability 8.0, this is {capability}). Choose fp16."


class NoFlashAttention(UserError):
    template = (
        "{card} cannot run FlashAttention 2 (it needs compute capability 8.0, this is {capability}). Choose sdpa."
    )


class FlashNeedsNvidia(UserError):
    template = "The calculator knows FlashAttention 2 on NVIDIA cards only, and this is {card}. Choose sdpa."


class NotOnProcessor(UserError):
    template = "A processor does not train with {what}. Choose {instead}."


class NoFourBitPrompt(UserError):
    template = "A system prompt is worked out on 16-bit weights only. Leave 4-bit out, or choose qlora."


class PromptFillsContext(UserError):
    template = (
        "prompt_tokens is {value}, and a conversation has room for {length}. Shorten the prompt, or raise max_length."
    )


class NothingToTrace(UserError):
    template = "A system prompt trains nothing, so there is no step to check exactly. Choose lora or qlora."


class NoFourBitFull(UserError):
    template = (
        "4-bit weights have no gradient: full fine-tuning and 4-bit exclude each other. "
        "Choose qlora for 4-bit, or full in 16 bit."
    )


class UnknownTargets(UserError):
    template = "{model} has no layers named {names}. It has {known}."


class TraceFailed(UserError):
    template = "The exact check ended without a result: {reason}"


class ProbeFailed(UserError):
    template = "This machine could not be measured: {reason}"
