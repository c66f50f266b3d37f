"""The card that computes replies, where there are several: chosen on the Playground, read by the chat's process."""

from pathlib import Path

from core import damage, files, paths
from core.hardware import hardware
from core.hardware.gpu import Gpu
from core.runs import assigned_gpu


def card() -> Gpu | None:
    """The card that replies come from: the chosen one as long as it is there, else the usual one."""
    return hardware.card(chosen()) or hardware.card()


def environment() -> dict[str, str]:
    """Variables of a process that computes on that card: the chat's, and those of jobs with a model of their own."""
    return hardware.environment(card())


def chosen() -> str | None:
    """The UUID of the card that was chosen, if one was."""
    return damage.read(_file(), "chat-card.json").get("uuid")


def choose(uuid: str) -> bool:
    """Compute replies on this card from now on; whether that changes anything.

    Raises:
        CardNotHere: if it is not there any more.
    """
    gpu, before = assigned_gpu.choose(uuid), card()
    if gpu is None or (before and gpu.uuid == before.uuid):
        return False
    paths.home().mkdir(parents=True, exist_ok=True)
    files.write_json(_file(), {"uuid": gpu.uuid})
    return True


def is_taken_by(run_id: str) -> bool:
    """Whether a run trains on the card that replies come from; where one of them is not known, it may.

    Replies that the processor computes, because torch cannot compute on the card, take no memory from a run.
    """
    gpu = card()
    return gpu is not None and not hardware.unseen(gpu) and assigned_gpu.is_shared(paths.run(run_id), gpu.uuid)


def gives_way_to(run_id: str) -> bool:
    """Whether a run that starts needs the memory that a chat holds: of the same card, or of the machine for both."""
    gpu, run_dir = card(), paths.run(run_id)
    if gpu is None or assigned_gpu.is_shared(run_dir, gpu.uuid):
        return True
    return bool(hardware.unseen(gpu)) and assigned_gpu.is_on_processor(run_dir)


def _file() -> Path:
    return paths.home() / "chat-card.json"
