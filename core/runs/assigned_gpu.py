"""The card that a run trains on: card.json in its directory has its UUID; runs without the file take the usual card."""

from pathlib import Path

from core import damage, errors, files
from core.errors import UserError
from core.hardware import hardware, torch_build
from core.hardware.gpu import Gpu
from core.training.config import TrainConfig

FILE = "card.json"
PROCESSOR = "the CPU"  # in the place of a card's name; the page has a word for it


class CardTakenOut(UserError):
    template = (
        "This run was to train on {card}, which is not available any more. Resume it to train on {instead}, or bring the "
        "card back first."
    )


def choose(uuid: str | None) -> Gpu | None:
    """The card of this UUID, or the usual one if nobody chose; None on a machine without cards.

    Raises:
        CardNotHere: if the chosen one is not there.
    """
    gpu = hardware.card(uuid)
    if uuid and gpu is None:
        raise errors.named("CardNotHere")
    return gpu


def check(config: TrainConfig, gpu: Gpu | None) -> None:
    """Refuse what bitsandbytes cannot do on a card, by its own table of accelerators."""
    if gpu is None or hardware.unseen(gpu):  # the processor will compute
        return
    if config.method == "qlora" and (lacks := torch_build.four_bit_lacks(gpu)):
        if lacks == "package":
            raise errors.named("BitsandbytesTooOld", card=gpu.name, command=torch_build.NEWER)
        raise errors.named("NoFourBitKernels", card=gpu.name)
    if gpu.kind == "mps" and ("8bit" in config.optim or config.optim.startswith("paged")):
        raise errors.named("NoEightBitOptimizer", card=gpu.name, optim=config.optim)


def write(run_dir: Path, gpu: Gpu | None) -> None:
    """Let a run train on this card; on None, on whatever there is when its turn comes."""
    if gpu:
        files.write_json(run_dir / FILE, {"uuid": gpu.uuid, "name": gpu.name})
    else:
        (run_dir / FILE).unlink(missing_ok=True)


def read(run_dir: Path) -> dict:
    """{"uuid", "name"} of the card that a run trains on, or {}: a run of an older version, or no card."""
    assigned = damage.read(run_dir / FILE, "runs/*/card.json")
    return assigned if {"uuid", "name"} <= set(assigned) else {}


def of(run_dir: Path) -> Gpu | None:
    """The card that a run trains on if it begins now; None: the processor.

    Raises:
        CardTakenOut: with the card that it would get instead.
    """
    assigned, usual = read(run_dir), hardware.card()
    if not assigned:
        return usual
    same = hardware.card(assigned["uuid"]) if assigned["uuid"] else None
    # Rented machines have another card of the same name each time.
    gpu = same or next((gpu for gpu in hardware.gpus() if gpu.name == assigned["name"]), None)
    if gpu is None:
        raise CardTakenOut(card=assigned["name"], instead=usual.name if usual else PROCESSOR)
    return gpu


def take(run_dir: Path) -> Gpu | None:
    """The card of a run that begins now, as `of` finds it; recorded where it is another one than before.

    Raises:
        CardTakenOut: as `of` does.
    """
    gpu = of(run_dir)
    if gpu and gpu.uuid != read(run_dir).get("uuid"):
        write(run_dir, gpu)
    return gpu


def is_shared(run_dir: Path, uuid: str) -> bool:
    """Whether a run trains on this card; True where either is not known.

    It looks at all cards of the machine: this process may not see the run's.
    """
    assigned, on_bus = read(run_dir), hardware.on_bus()
    if not assigned or not uuid:
        return True
    if any(gpu.uuid == assigned["uuid"] for gpu in on_bus):
        return assigned["uuid"] == uuid
    same_name = {gpu.uuid for gpu in on_bus if gpu.name == assigned["name"]}
    return not same_name or uuid in same_name


def is_on_processor(run_dir: Path) -> bool:
    """Whether the processor computes a run, because torch cannot use its card or the card is not there."""
    uuid = read(run_dir).get("uuid")
    gpu = next((gpu for gpu in hardware.on_bus() if gpu.uuid == uuid), None)
    return gpu is None or bool(hardware.unseen(gpu))
