"""What to do about a check that is slow or broken: each advice names the one command that mends it."""

from core import hardware, nvidia, torch_build
from core.gpu import Gpu
from core.trouble import Trouble


class TorchSeesNoCard(Trouble):
    template = (
        "The driver has a card, {card}, that torch {torch} does not see. Install a build of torch for it: {command}"
    )


class TorchLacksKernels(Trouble):
    template = "torch {torch} has no kernels for {card} ({architecture}; it has {has}). Install a build that has them: {command}"


class TorchUnusable(Trouble):
    template = "torch does not work here. Install it anew: {command}"


class NumbersWrong(Trouble):
    template = "The card computes other numbers than the processor. Install {package} anew: {command}"


class BitsandbytesUnusable(Trouble):
    template = "QLoRA and 8-bit optimizers need bitsandbytes, which does not work here. Install it anew: {command}"


class PackageUnusable(Trouble):
    template = "Training needs packages that do not work here. Install them anew: {command}"


class CardSlow(Trouble):
    template = (
        "This is far below what such a card does. See which other programs use it, and whether heat or a power limit "
        "slows it down: {command}"
    )


class ProcessorSlow(Trouble):
    template = "This is far below what such a processor does. Close other programs and check again: {command}"


class PackedRowsSlow(Trouble):
    template = (
        "Packed rows pay for the square of a block here: FlashAttention lacks the {lacks}, and this torch has no kernel "
        "for them. Install a newer one: {command}"
    )


class TimeWasShort(Trouble):
    template = "The time for all checks was over. Give them more: {command}"


class StarterMissing(Trouble):
    template = (
        "The starter model could not be fetched ({reason}), so a tiny random model stands in for it: its speed says "
        "little. Fetch it, then check again: {command}"
    )


class CheckBroke(Trouble):
    template = "This does not work here. Put this result into a report, with the end of {log}"


def pip(*arguments: str) -> str:
    """The command that installs packages; where torch is among them, a torch for the card that is used."""
    if "torch" in arguments and (gpu := hardware.card()):
        arguments = torch_build.upgrade(arguments, gpu, nvidia.driver().cuda)
        if arguments and all(argument.startswith("-") for argument in arguments):
            return torch_build.steps(gpu, nvidia.driver().cuda)
    return f"pip install {' '.join(arguments)}"


def torch_for(gpu: Gpu | None = None) -> str:
    """The command that installs a build of torch for a card, by default for the one that is used if nobody chooses."""
    gpu = gpu or hardware.card()
    return (gpu and torch_build.steps(gpu, nvidia.driver().cuda)) or "pip install --force-reinstall torch"


def again(*arguments: str) -> str:
    return " ".join(["python -m core.check_card", *arguments])
