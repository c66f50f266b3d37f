"""Graphics cards on the page: which one, where there are several; and what keeps torch from computing on one."""

from collections import Counter

import gradio as gr

from core.hardware import hardware, nvidia, torch_build
from core.hardware.gpu import Gpu
from core.hardware.torch_build import Unseen
from ui import errors
from ui.text import Say

GIB = 2**30


def build(say: Say, use: str) -> gr.Dropdown:
    """A choice of card for `use` (training, queue, playground), which choice() fills and shows if there are several."""
    return gr.Dropdown([], label=say("cards.card"), info=say(f"cards.{use}.info"), visible=False, interactive=True)


def choice(chosen: str | None = None) -> gr.Dropdown:
    """The choice as it is now: hidden where there is none; what is chosen stays as long as it is there."""
    gpus, usual = hardware.gpus(), hardware.card(chosen) or hardware.card()
    return gr.Dropdown(
        choices=titles(gpus), value=usual.uuid if usual else None, visible=len(gpus) > 1, interactive=True
    )


def titles(gpus: tuple[Gpu, ...]) -> list[tuple[str, str]]:
    """(name with its memory, UUID) of each card; of cards of one name with the beginning of the UUID."""
    counts = Counter(gpu.name for gpu in gpus)
    return [(_title(gpu, alike=counts[gpu.name] > 1), gpu.uuid) for gpu in gpus]


def _title(gpu: Gpu, *, alike: bool) -> str:
    parts = [gpu.name.removeprefix("NVIDIA ")]
    if gpu.total_bytes:
        parts.append(f"{gpu.total_bytes / GIB:.0f} GiB")
    return " · ".join([*parts, gpu.uuid[:12]] if alike else parts)


def warnings(say: Say) -> list[str]:
    """What an owner of a card has to know before anything else: cards that torch does not see, a driver that fails, a
    make that nothing was run on yet."""
    machine = hardware.machine()
    if len(machine.unseen) < len(machine.gpus):  # what helps one card might take torch from those that it sees
        found = [say("cards.left_out", card=one.card, version=one.version) for one in machine.unseen]
    else:
        found = list(dict.fromkeys(unseen(say, one) for one in machine.unseen))
    if error := nvidia.driver().error:
        found.append(say.trouble(error))
    found += [say("cards.other_make", card=one.card, version=one.version) for one in machine.left_out]
    left = {one.card for one in machine.unseen}
    makes = {gpu.name for gpu in machine.gpus if gpu.kind != "cuda"} - left
    return [*found, *(say("cards.untried", card=name) for name in sorted(makes))]


def unseen(say: Say, found: Unseen) -> str:
    """Why torch does not compute on a card, and the command that mends it."""
    why = say(f"cards.unseen.{found.reason}", card=found.card, version=found.version, needs=found.needs)
    helps = {"driver": "cards.update_driver", "either": "cards.update_or_install", "none": "cards.no_build"}
    key = helps.get(found.mend, "cards.install")
    return f"{why} {say(key, command=found.command, drivers=torch_build.DRIVERS)}"


def warn(say: Say, uuid: str | None) -> None:
    """Say before a run that the processor would compute it, though there is a card."""
    gpu = hardware.card(uuid)
    if gpu and (found := hardware.unseen(gpu)):
        errors.warn(unseen(say, found), duration=None)
    if gpu is None and (error := nvidia.driver().error):
        errors.warn(say.trouble(error), duration=None)
