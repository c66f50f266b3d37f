"""What Soulsmith is built on: its licences stand in the README, and the tested versions in .ci/constraints.txt."""

import re
from importlib.metadata import version

from tests import licences


def test_the_readme_s_last_line_names_the_licences():
    last = (licences.ROOT / "README.md").read_text(encoding="utf-8").rstrip("\n").rpartition("\n")[2]
    assert last == licences.line()


def test_no_licence_reaches_the_product_and_none_is_unknown():
    grouped = licences.by_licence()
    assert [name for name in grouped if licences.STRONG.search(name) or name == "not said"] == []
    assert {"torch", "transformers", "gradio", "peft", "pyarrow"} <= {
        one for known in grouped.values() for one in known
    }


def test_every_package_is_pinned_in_the_tested_set():
    lines = (licences.ROOT / ".ci" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    names = {re.sub(r"[-_.]+", "-", name).lower() for name in pinned}
    # torch is chosen by the person's card, and brings what it needs; pip and setuptools come with Python.
    apart = {"torch", "pip", "setuptools", "fsspec", "sympy", "networkx", "mpmath"}
    assert sorted(set(licences.packages()) - names - apart) == []
    assert all(re.fullmatch(r"\d[\w.]*", found) for found in pinned.values())
    assert version("gradio") == pinned["gradio"]
