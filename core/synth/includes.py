"""Words that several recipes share: `include: words-en` in a recipe takes the rules it uses from assets/recipes/words/.

The rules are copied into the text of the recipe, so that a job and a corpus keep all that made them.
"""

import re
from pathlib import Path

_INCLUDE = re.compile(r"^include:[ \t]*([\w-]+)[ \t]*$\n?", re.MULTILINE)
_BLOCK = re.compile(r"^  (\w+):", re.MULTILINE)
_USED = re.compile(r"\{(?:\w+:?=)?(\w+)")


def whole(text: str, folder: Path) -> str:
    """The text of a recipe with the shared rules that it uses, instead of the line that names them.

    Raises:
        FileNotFoundError: if there are no such shared words; it says which there are.
    """
    found = _INCLUDE.search(text)
    if not found:
        return text
    path = folder / f"{found[1]}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(one.stem for one in folder.glob("*.yaml")))
        raise FileNotFoundError(f'include names "{found[1]}", known are {known}')
    text = _INCLUDE.sub("", text, count=1).rstrip() + "\n"
    shared = _blocks(path.read_text(encoding="utf-8"))
    own = set(_blocks(text))
    wanted, taken = _used(text), {}
    while missing := sorted((wanted & shared.keys()) - own - taken.keys()):
        for name in missing:
            taken[name] = shared[name]
            wanted |= _used(shared[name])
    return text + "".join(taken[name] for name in shared if name in taken)


def _blocks(text: str) -> dict[str, str]:
    """The rules of a text by their names, as they stand: each begins two spaces in."""
    starts = [(found.start(), found[1]) for found in _BLOCK.finditer(text)]
    ends = [start for start, _ in starts[1:]] + [len(text)]
    return {name: text[start:end].rstrip() + "\n" for (start, name), end in zip(starts, ends, strict=True)}


def _used(text: str) -> set[str]:
    return set(_USED.findall(text))
