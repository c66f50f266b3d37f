"""Compile card.cpp into a directory: `python compile.py DIR`."""

import os
import sys
from pathlib import Path

from torch.utils import cpp_extension

os.environ.setdefault("MAX_JOBS", "1")
cpp_extension.load(
    "pretended_card",
    [str(Path(__file__).with_name("card.cpp"))],
    build_directory=sys.argv[1],
    extra_cflags=["-O0"],
    is_python_module=False,
)
