"""Models of the catalogue by what people call them: hub ids, aliases, "saiga 13", «Мистраль 7B»."""

import difflib
import functools
import math
import re

from core import errors
from core.estimate.shape import read_models
from core.models.models import STARTER, is_hub_id

ALIKE = 1.15  # sizes that differ by less are one model to who names a family alone


@functools.cache
def models() -> dict[str, dict]:
    """The catalogue's entries by hub id, in its order."""
    return {entry["hub_id"]: entry for entry in read_models()["models"]}


@functools.cache
def _names() -> dict[str, tuple[str, dict]]:
    """By every spelling in small letters: the name as it is on the hub, and the entry."""
    names: dict[str, tuple[str, dict]] = {STARTER: (STARTER, models()["HuggingFaceTB/SmolLM2-135M"])}
    for entry in models().values():
        for alias in (entry["hub_id"], *entry["aliases"]):
            for form in (alias.lower(), alias.lower().rpartition("/")[2], _letters(alias)):
                names.setdefault(form, (alias if is_hub_id(alias) else entry["hub_id"], entry))
    return names


def find(name: str) -> dict | None:
    """The catalogue's entry of a hub id, an alias, or the last part of either, whatever the capitals and spaces."""
    found = _named(name)
    return found[1] if found else None


def is_exact(name: str) -> bool:
    """Whether a hub id is one of the catalogue's own, not a copy by another owner."""
    return name.strip().lower() in _names()


def _named(name: str) -> tuple[str, dict] | None:
    known, small = _names(), name.strip().lower()
    return known.get(small) or known.get(small.rpartition("/")[2]) or known.get(_letters(latin(small)))


def resolve(name: str) -> tuple[str, dict]:
    """The name on the hub and the entry of what a person calls a model, the words in any order.

    Raises:
        NoSuchModel, AmbiguousModel, UnknownModel: with the nearest.
    """
    plain = latin(name)
    for entry in read_models()["absent"]:
        if _letters(plain) in map(_letters, entry["names"]):
            raise errors.named("NoSuchModel", name=name, nearest=", ".join(entry["nearest"]))
    if found := _named(name):
        return found
    said = words(plain)
    fits = _fitting(said)
    if not fits:
        raise errors.named("UnknownModel", name=name, nearest=", ".join(nearest(name)))
    sizes = [entry["params_exact"] for _, entry in fits if entry["params_exact"]]
    has_size = any(f"{word.rstrip('b')}b" in words(fits[0][0]) for word in said if word[0].isdigit())
    if not has_size and sizes and max(sizes) > ALIKE * min(sizes):
        raise errors.named(
            "AmbiguousModel", name=name, models=", ".join(dict.fromkeys(entry["hub_id"] for _, entry in fits[:6]))
        )
    return fits[0]


def _fitting(said: list[str]) -> list[tuple[str, dict]]:
    """Names that have all of the words, those first that begin with the first one and say least besides."""
    letters = [word for word in said if word.isalpha() and len(word) > 1]
    if not letters:
        return []
    fits, versions = [], [word for word in said if word[0].isdigit() and not word.endswith("b")]
    for order, (name, found) in enumerate(_spelt()):
        own = words(name)
        if all(any(_means(word, other) for other in own) for word in said):
            tail = words(name.rpartition("/")[2])
            begins = bool(tail) and tail[0].startswith(letters[0])
            more = [word for word in tail if not any(_means(one, word) for one in said)]
            as_sizes = sum(word not in own for word in versions)  # "gemma 4" is the fourth before it is one of 4B
            fits.append(((as_sizes, not begins, len(more), order), found))
    fits = [fit for fit in fits if fit[0][0] == min(fit[0][0] for fit in fits)]
    return [found for _, found in sorted(fits, key=lambda fit: fit[0])]


@functools.cache
def _spelt() -> list[tuple[str, tuple[str, dict]]]:
    """Every hub id and alias as it is spelt, with the name on the hub and the entry."""
    return [
        (alias, _names()[alias.lower()])
        for entry in models().values()
        for alias in (entry["hub_id"], *entry["aliases"])
    ]


def _means(word: str, other: str) -> bool:
    if word[0].isdigit():
        return other in (word, f"{word}b")
    return other == word or (len(word) > 2 and other.startswith(word))


@functools.lru_cache(4096)
def words(name: str) -> list[str]:
    """A name in its words: letters, versions and sizes apart: "Qwen2.5-7B-Instruct" is qwen, 2.5, 7b, instruct."""
    name = re.sub(r"(?<![a-z\d])(\d)_(?=\d+b)", r"\1.", name.lower())  # Qwen-1_8B
    name = re.sub(r"(?<=\d)\s+(?=b\b)", "", name.replace(",", "."))
    return re.findall(r"\d+(?:\.\d+)?b(?![a-z])|\d+(?:\.\d+)?|[a-z]+", name)


def latin(name: str) -> str:
    """A name in small Latin letters: «Сайга 13Б» is saiga 13b."""
    name = re.sub(r"(?<=\d)\s*(б|в|млрд|миллиард\w*)(?![а-яё])", "b", name.strip().lower())
    for word, known in read_models()["spellings"].items():
        name = re.sub(rf"(?<![а-яё]){word}(?![а-яё])", known, name)
    name = re.sub(r"(?<=\d),(?=\d)", ".", name)
    return "".join(read_models()["letters"].get(letter, letter) for letter in name)


def nearest(name: str, n: int = 3) -> list[str]:
    """Hub ids of the catalogue that are most like a name, of models whose shape is known: of its family by size."""
    said = words(latin(name))
    size = next((float(word.rstrip("b")) for word in said if word.endswith("b") and word[0].isdigit()), None)
    family = [word for word in said if word.isalpha() and len(word) > 2][:1]
    kin = [entry for _, entry in _fitting(family) if "config" in entry and entry["params_exact"]]
    if kin and size and "/" not in name:
        kin.sort(key=lambda entry: abs(math.log(entry["params_exact"] / 1e9 / size)))
        return list(dict.fromkeys(entry["hub_id"] for entry in kin))[:n]
    ids = {form: entry["hub_id"] for form, (_, entry) in _names().items() if "config" in entry}
    close = difflib.get_close_matches(name.lower().rpartition("/")[2], ids, n * 2, 0.4)
    return list(dict.fromkeys(ids[form] for form in close))[:n] or ["Qwen/Qwen2.5-7B", "Qwen/Qwen3-8B"]


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9.]", "", name.lower().rpartition("/")[2])
