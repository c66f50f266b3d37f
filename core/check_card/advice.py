"""What to do about a check that is slow or broken: each advice names the one command that mends it."""

from core.errors import UserError
from core.hardware import hardware, nvidia, torch_build
from core.hardware.gpu import Gpu
from core.runs import assigned_gpu
from core.training.config import TrainConfig


class TorchSeesNoCard(UserError):
    template = (
        "The driver has a card, {card}, that torch {torch} does not see. Install a matching build of torch: {command}"
    )


class TorchLacksKernels(UserError):
    template = "torch {torch} has no kernels for {card} ({architecture}; it has {has}). Install a build that has them: {command}"


class TorchUnusable(UserError):
    template = "torch does not work here. Reinstall it: {command}"


class NumbersWrong(UserError):
    template = "Results on this device differ from the CPU's reference. Reinstall {package}: {command}"


class BitsandbytesUnusable(UserError):
    template = "QLoRA and 8-bit optimizers need bitsandbytes, which does not work here. Reinstall it: {command}"


class PackageUnusable(UserError):
    template = "Training needs packages that do not work here. Reinstall them: {command}"


class NvidiaCardSlow(UserError):
    template = (
        "This is far slower than such a card should be. See which other programs use it, and whether heat or a power limit "
        "slows it down: {command}"
    )


class CardSlow(UserError):
    template = (
        "This is far slower than such a card should be. Close other programs that use it, let it cool down, and check again: "
        "{command}"
    )


class ProcessorSlow(UserError):
    template = "This is far slower than such a processor should be. Close other programs and check again: {command}"


class FlashAttentionBroken(UserError):
    template = (
        "The installed flash-attn does not load, which happens after an upgrade of torch. Runs use torch's own attention "
        "instead. Remove it (pip uninstall flash-attn), or reinstall it for this torch: {command}"
    )


class FlashAttentionLacksKernels(UserError):
    template = (
        "torch has kernels for {card}, the installed flash-attn has none. Remove it, then runs use torch's own "
        "attention: {command}"
    )


class PackedRowsSlow(UserError):
    template = (
        "Documents of a packed row are computed one after the other here, which is slower: flash-attn is not used, and "
        "this torch has no kernel of its own that takes them at once. Install a newer torch: {command}"
    )


class TimeWasShort(UserError):
    template = "There was not enough time for all checks. Allow more: {command}"


class StarterMissing(UserError):
    template = (
        "The starter model could not be downloaded ({reason}), so a tiny random model replaces it, whose speed says "
        "little. Download it, then check again: {command}"
    )


class CheckBroke(UserError):
    template = "This does not work here. Include this result in a report, with the end of {log}"


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


def slow(on_card: bool) -> UserError:
    """What to do about a device that is far slower than it should be: only NVIDIA's drivers bring nvidia-smi."""
    if not on_card:
        return ProcessorSlow(command=again())
    gpu = hardware.card()
    if gpu and gpu.kind == "cuda":
        return NvidiaCardSlow(command="nvidia-smi -q -d PERFORMANCE")
    return CardSlow(command=again())


def refused(config: TrainConfig) -> UserError | None:
    """Why a run with this config would not be let onto this machine's card: what is refused is not broken."""
    try:
        assigned_gpu.check(config, hardware.card())
    except UserError as error:
        return error
    return None
