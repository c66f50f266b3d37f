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


class UnknownArchitecture(UserError):
    template = (
        "The architecture {name} is not one that the calculator can work out. "
        "The nearest that it knows: {nearest}. Check the spelling in config.json, choose one of these, "
        "or check exactly (--trace) if transformers has it."
    )


class NeedsTrace(UserError):
    template = (
        "{name} has kinds of layers that the instant formula does not cover. "
        'Use "Check exactly" (--trace), or choose {nearest}.'
    )


class NotJson(UserError):
    template = (
        "{path} is no JSON. It must be the config.json of a decoder language model, from its first {{ to its last }}."
    )


class NotAnObject(UserError):
    template = "{path} holds a {kind}. A config.json is an object: names and values in curly brackets."


class NotAnAmount(UserError):
    template = '{field} must be a number such as {examples}, got "{value}".'

    def __init__(self, *, field: str, value, examples: str = ""):
        super().__init__(field=field, value=value, examples=examples or EXAMPLES.get(field, "0.05, 1"))


class OutOfRange(UserError):
    template = "{field} must be a number x with {range}, got {value}. Try {suggestion}."


class TraceFailed(UserError):
    template = "The exact check ended without a result: {reason}"
