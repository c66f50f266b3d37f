"""What to do about a check that is slow or broken: each advice names the one command that mends it."""

from core.errors import UserError
from core.hardware import hardware, nvidia, torch_build
from core.hardware.gpu import Gpu
from core.runs import assigned_gpu
from core.training.config import TrainConfig


class TorchSeesNoCard(UserError):
    template = (
        "torch {torch} fits {card} and its driver, but does not see the card. Restart the machine, or start the container "
        "with access to the card (docker run --gpus all). A card in MIG mode needs an instance."
    )


class CardNotPermitted(UserError):
    template = (
        "torch {torch} fits {card}, but does not see it. Add your user to the groups render and video, then restart the "
        "machine; start a container with access to the card (docker run --device /dev/kfd --device /dev/dri)."
    )


class MetalNotSeen(UserError):
    template = "torch {torch} does not see {card}. Update macOS, then check again."


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


class PackedRowsStaySlow(UserError):
    template = (
        "Documents of a packed row are computed one after the other here, which is slower: flash-attn is not used, this "
        "torch has no kernel of its own that takes them at once, and no newer one computes on {card} with its driver. "
        "Training without packing may be as fast."
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
    """The command that installs packages; where torch is among them, a torch for the card that is used, or none."""
    if "torch" in arguments:
        arguments = torch_build.upgrade(arguments, hardware.card(), nvidia.driver().cuda)
    return f"pip install {' '.join(arguments)}"


def torch_for() -> str:
    """The command that installs torch anew: a build for the card that is used if nobody chooses, where there is one."""
    gpu = hardware.card()
    return (gpu and torch_build.mend(gpu, nvidia.driver().cuda).command) or "pip install --force-reinstall torch"


def unseen(gpu: Gpu, torch: str) -> UserError:
    """What to do about a card that the driver lists and torch does not see: the build, the driver, or neither is wrong."""
    found = hardware.unseen(gpu)
    blind = {"cuda": TorchSeesNoCard, "mps": MetalNotSeen}.get(gpu.kind, CardNotPermitted)
    return found.error if found else blind(card=gpu.name, torch=torch)


def packed_rows_slow() -> UserError:
    """What to do about packed rows that one call with a mask attends to."""
    gpu, newer = hardware.card(), ("--upgrade", "torch")
    if gpu and torch_build.upgrade(newer, gpu, nvidia.driver().cuda) == newer[:1]:
        return PackedRowsStaySlow(card=gpu.name)
    return PackedRowsSlow(command=pip(*newer))


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
