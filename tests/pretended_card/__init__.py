"""A graphics card that is pretended: tensors live on cuda:0, and the processor computes what they need.

`environment()` gives the variables that put it into a process and into all that this process starts: the page, a
worker, a trainer, the chat. Autograd, CUDA autocast, GradScaler and the complaint about tensors on two devices are
torch's own. Blind to: kernels' own limits, streams, how much memory there is, bitsandbytes' CUDA kernels (those of the
processor run), inference_mode (it becomes no_grad), pinned memory.

The card is C++ and is compiled once a machine, in half a minute to five: `python -m tests.pretended_card`.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
A100 = {"name": "NVIDIA A100-SXM4-40GB", "uuid": "GPU-a1000000-0000-0000-0000-000000000000", "total": 40 * 2**30}
COMPILE_SECONDS = 900


def environment(capability: tuple[int, int] = (8, 0), *, flash: bool = False, cards: list[dict] | None = None) -> dict:
    """Variables of a process that finds a card of this compute capability, and flash-attn beside it if `flash`.

    `cards` are what the driver lists, one by default: {"name", "uuid", "total", "free", "capability", ...}, bytes.
    """
    cards = [A100 | {"capability": capability}] if cards is None else cards
    paths = [HERE / "site", *([HERE / "flash"] if flash else []), ROOT]
    return os.environ | {
        "PRETENDED_CARD": json.dumps({"library": str(library()), "capability": capability, "cards": cards}),
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "TORCHDYNAMO_DISABLE": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "1",
    }


def missing() -> str:
    """Why the card cannot be compiled here, or nothing."""
    if sys.platform != "linux":
        return "the pretended card is compiled on Linux only"
    if not shutil.which("g++"):
        return "the pretended card needs g++ (Debian: apt-get install g++)"
    headers = Path(sys.base_prefix) / "include"
    if not list(headers.glob("python3*/Python.h")):
        return "the pretended card needs the headers of Python (Debian: apt-get install python3-dev)"
    return ""


@cache
def library() -> Path:
    """The compiled card; it is kept beside other temporary files, by the version of torch and the source."""
    from filelock import FileLock

    version = subprocess.run(
        [sys.executable, "-c", "import torch; print(torch.__version__)"], capture_output=True, text=True, check=True
    ).stdout.strip()
    told = hashlib.sha256((HERE / "card.cpp").read_bytes() + f"{version} {sys.version}".encode()).hexdigest()[:12]
    place = Path(tempfile.gettempdir()) / f"pretended-card-{told}"
    place.mkdir(exist_ok=True)
    built = place / "pretended_card.so"
    with FileLock(place.with_suffix(".lock")):
        if not built.is_file():
            command = [sys.executable, str(HERE / "compile.py"), str(place)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_SECONDS)
            if done.returncode:
                raise RuntimeError(f"The pretended card did not compile:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return built
