"""The licences of what Soulsmith is built on, by the packages' own metadata: `python -m tests.licences [--write | --json]`.

What requirements.txt names and all that this needs in turn, as it is installed here; --write puts them into README.md's
last line.
"""

import argparse
import json
import re
from collections import defaultdict
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
# By the beginning of what packages write of themselves: SPDX's name of it.
NAMES = (
    (r"apache", "Apache-2.0"),
    (r"mit( license)?\b", "MIT"),
    (r"(new |modified |3-clause )?bsd.?(3|license)|bsd 3|bsd$|bsd license", "BSD-3-Clause"),
    (r"bsd-2|2-clause", "BSD-2-Clause"),
    (r"isc", "ISC"),
    (r"mozilla|mpl", "MPL-2.0"),
    (r"python software|psf", "PSF-2.0"),
    (r"historical|hpnd", "HPND"),
    (r"the unlicense|unlicense", "Unlicense"),
)
OWN = "Soulsmith is under the Apache License 2.0."
STRONG = re.compile(r"\bA?GPL")  # whose terms would reach the product


def packages() -> list[str]:
    """The packages of requirements.txt and those that they need here, by name; what is not installed is left out."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pending, found = [Requirement(line) for line in lines if line and line[0] != "#"], {}
    while pending:
        wanted = pending.pop()
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        if wanted.marker and not any(wanted.marker.evaluate({"extra": extra}) for extra in (*wanted.extras, "")):
            continue
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue
        needs = [Requirement(line) for line in found[name].requires or ()]
        pending += [need for need in needs if not need.marker or need.marker.evaluate({"extra": ""})]
    return sorted(found)


def licence(package: str) -> str:
    """The licence that a package says it has, by SPDX's name where it is a known one."""
    about = distribution(package).metadata
    if said := about.get("License-Expression"):
        return said
    classes = [
        line.rpartition(" :: ")[2] for line in about.get_all("Classifier") or () if line.startswith("License ::")
    ]
    for said in (*classes, about.get("License") or ""):
        first = said.strip().split("\n")[0].strip()
        for pattern, name in NAMES:
            if first and len(first) < 100 and re.match(pattern, first, re.IGNORECASE):
                return name
    return (classes or [(about.get("License") or "not said").strip().split("\n")[0][:40]])[0]


def by_licence() -> dict[str, list[str]]:
    grouped = defaultdict(list)
    for package in packages():
        grouped[licence(package)].append(package)
    return dict(sorted(grouped.items(), key=lambda pair: (-len(pair[1]), pair[0])))


def line() -> str:
    """README.md's last line."""
    names = {
        part for name in by_licence() for part in re.split(r" (?:AND|OR|WITH) ", name.replace("(", "").replace(")", ""))
    }
    return f"{OWN} What it is built on, by its metadata: {', '.join(sorted(names))} (`python -m tests.licences`)."


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.licences", description=__doc__.split(":")[0] + ".")
    parser.add_argument("--write", action="store_true", help="into README.md")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    readme = ROOT / "README.md"
    if args.write:
        text = readme.read_text(encoding="utf-8").rstrip("\n")
        readme.write_text(f"{text.rpartition(OWN)[0]}{line()}\n", encoding="utf-8")
    if args.json:
        print(json.dumps(by_licence()))
    else:
        print(*(f"{name}: {', '.join(known)}" for name, known in by_licence().items()), sep="\n")


if __name__ == "__main__":
    main()
