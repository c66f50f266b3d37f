"""Packages with compiled code of their own: whether they load, or an upgrade of torch has broken them."""

from __future__ import annotations

import functools
import sys
import traceback
from importlib import import_module, metadata
from importlib.util import find_spec

from .errors import TrainingError, first_line

# What is imported of each: a package may load while the part that is called does not.
MODULES = {
    "flash-attn": ("flash_attn", "flash_attn.bert_padding"),
    "bitsandbytes": ("bitsandbytes",),
    "liger-kernel": ("liger_kernel", "liger_kernel.transformers"),
}


@functools.cache
def fault(package: str) -> str:
    """Why an installed package does not load, in one line; nothing where it does, or is not installed.

    transformers asks for a package's version only, which is there as well where its compiled code fits another torch.
    """
    module, *_ = MODULES[package]
    if find_spec(module) is None:
        return ""
    try:
        for name in MODULES[package]:
            import_module(name)
    except Exception as error:  # whatever compiled code raises
        traceback.print_exc()  # to the log
        return first_line(error)
    return _missing_library() if package == "bitsandbytes" else ""


def need(package: str, what: str) -> None:
    """Raise PackageBroken where the package that something needs is installed and does not load."""
    if reason := fault(package):
        raise TrainingError("PackageBroken", what=what, package=package, reason=reason, command=reinstall(package))


def before_peft() -> None:
    """Let PEFT do without a bitsandbytes that does not load: it imports it for any adapter, wherever it is installed."""
    if fault("bitsandbytes") and "bitsandbytes" not in sys.modules:
        sys.modules["bitsandbytes"] = None  # Python's own mark of a module that cannot be imported


def reinstall(*packages: str) -> str:
    """The command that installs packages anew; flash-attn is compiled, for the torch that is there."""
    compiled = "--no-build-isolation " * ("flash-attn" in packages)
    return f"pip install --force-reinstall --no-deps --no-cache-dir {compiled}{' '.join(packages)}"


def installed() -> list[str]:
    """Those of the packages that are installed."""
    return [package for package in MODULES if _is_installed(package)]


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _missing_library() -> str:
    """Why bitsandbytes has no compiled code for this card; it raises that only when it is called."""
    import torch  # noqa: PLC0415 - the page opens without torch
    from bitsandbytes import cextension  # noqa: PLC0415 - an optional package

    # Not getattr(): a library that did load answers any name with a function.
    message = vars(cextension.lib).get("error_msg")
    return first_line(message) if message and torch.cuda.is_available() else ""
