"""What to do about a check that is slow or broken: each advice names the one command that repairs it.

The sentences stand under "errors" in assets/locales.
"""

from core import errors
from core.errors import UserError
from core.estimate import cards
from core.hardware import hardware, nvidia, torch_build
from core.hardware.gpu import Gpu
from core.runs import assigned_gpu
from core.training.config import TrainConfig

AGAIN = "python -m core.check_card"
BITSANDBYTES = ("--force-reinstall", "--no-deps", "bitsandbytes")
PACKAGES = ("--upgrade", "torch", "transformers", "peft", "accelerate")


def pip(*arguments: str) -> str:
    """The command that installs packages; where torch is among them, a torch for the card that is used, or none."""
    if "torch" in arguments:
        arguments = torch_build.upgrade(arguments, hardware.card(), nvidia.driver().cuda)
    return f"pip install {' '.join(arguments)}"


def torch_for() -> str:
    """The command that installs torch anew: a build for the card that is used if nobody chooses, where there is one."""
    gpu = hardware.card()
    return (gpu and torch_build.mend(gpu, nvidia.driver().cuda).command) or "pip install --force-reinstall torch"


def for_group(group: str) -> UserError:
    """What to do where a check of this group raises, or its process dies without a reason."""
    if group == "kernels":
        return errors.named("TorchUnusable", command=torch_for())
    if group == "quantisation":
        return errors.named("BitsandbytesUnusable", command=pip(*BITSANDBYTES))
    return errors.named("PackageUnusable", command=pip(*PACKAGES))


def numbers_wrong(package: str) -> UserError:
    """What to do where the results of a package differ from the processor's; attention is torch's own."""
    command = pip(*BITSANDBYTES) if package == "bitsandbytes" else torch_for()
    return errors.named("NumbersWrong", package=package, command=command)


def unseen(gpu: Gpu, torch: str) -> UserError:
    """What to do about a card that the driver lists and torch does not see: the build, the driver, or neither is wrong."""
    wrong_build = hardware.unseen(gpu)
    blind = {"cuda": "TorchSeesNoCard", "mps": "MetalNotSeen"}.get(gpu.kind, "CardNotPermitted")
    return wrong_build.error if wrong_build else errors.named(blind, card=gpu.name, torch=torch)


def packed_rows_slow() -> UserError:
    """What to do about packed rows whose documents are computed one after the other."""
    gpu, newer = hardware.card(), ("--upgrade", "torch")
    if gpu and torch_build.upgrade(newer, gpu, nvidia.driver().cuda) == newer[:1]:
        return errors.named("PackedRowsStaySlow", card=gpu.name)
    return errors.named("PackedRowsSlow", command=pip(*newer))


def slow(on_card: bool) -> UserError:
    """What to do about a device that is far slower than it should be: only NVIDIA's drivers bring nvidia-smi."""
    if not on_card:
        return errors.named("ProcessorSlow", command=AGAIN)
    gpu = hardware.card()
    if gpu and gpu.kind == "cuda":
        return errors.named("NvidiaCardSlow", command="nvidia-smi -q -d PERFORMANCE")
    return errors.named("CardSlow", command=AGAIN)


def refused(config: TrainConfig) -> UserError | None:
    """Why a run with this config would not be let onto this machine's card: what is refused is not broken."""
    try:
        assigned_gpu.check(config, hardware.card())
    except UserError as error:
        return error
    return None


def measured_rates(name: str) -> cards.Card | None:
    """The rates of the device of this name; None where the calculator only guesses them."""
    card = next((cards.of_machine(gpu) for gpu in hardware.gpus() if gpu.name == name), None)
    return card if card and card.measured else None
