"""What Soulsmith is built on: its licences stand in the README, and the tested versions in .ci/constraints.txt."""

import re
import sys
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


def test_every_package_that_is_imported_stands_in_the_requirements():
    """Not in those of another package alone, which may do without it one day."""
    named = {"yaml": "pyyaml", "pynvml": "nvidia-ml-py"}
    optional = {"tensorboardx", "trackio"}  # what exports metrics, and says so where it lacks
    places = [licences.ROOT / "app.py", *(licences.ROOT / "core").rglob("*.py"), *(licences.ROOT / "ui").rglob("*.py")]
    text = "\n".join(place.read_text(encoding="utf-8") for place in places)
    modules = set(re.findall(r"^ *(?:from (\w+)[\w.]* import|import (\w+))", text, re.M))
    modules = {one or other for one, other in modules} - set(sys.stdlib_module_names) - {"core", "ui"}
    lines = (licences.ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    required = {re.split(r"[<>=]", line)[0].replace("_", "-").lower() for line in lines}
    assert {named.get(one, one).replace("_", "-").lower() for one in modules} - required - optional == set()
