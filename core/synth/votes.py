"""Rows of a recipe that a person kept or rejected: they steer its judge, and become a corpus of preference pairs.

A recipe's votes are in votes/<recipe>.json: {identity of the row: {"kept", "row"}}.
"""

import hashlib
from pathlib import Path

import orjson

from core import damage, errors, files, paths
from core.corpus import importer, turns
from core.synth import prompts, recipes

EXAMPLES, EXAMPLE_CHARACTERS = 3, 600  # of each kind that a judge is shown


def vote(recipe: str, row: dict, kept: bool | None) -> None:
    """Write down that a row of a recipe is kept, rejected, or neither any more."""
    path = _path(recipe)
    path.parent.mkdir(parents=True, exist_ok=True)
    votes = known(recipe)
    votes.pop(identity(row), None)  # the newest stands last
    files.write_json(path, votes | ({} if kept is None else {identity(row): {"kept": kept, "row": row}}))


def known(recipe: str) -> dict[str, dict]:
    """The votes on a recipe's rows by their identity, the newest last: {"kept", "row"}."""
    return damage.read(_path(recipe), "votes/*.json")


def identity(row: dict) -> str:
    """A row's name among the votes: a digest of its texts."""
    return hashlib.blake2b("\x00".join(turns.texts(row)).encode(), digest_size=8).hexdigest()


def examples(recipe: str) -> dict[str, list[str]]:
    """The newest kept and rejected rows as a judge is shown them: {"kept": [...], "rejected": [...]}, or {}."""
    votes = list(known(recipe).values())[::-1]
    texts = {
        name: ["\n".join(turns.texts(one["row"]))[:EXAMPLE_CHARACTERS] for one in votes if one["kept"] is kept]
        for name, kept in (("kept", True), ("rejected", False))
    }
    return {name: some[:EXAMPLES] for name, some in texts.items()} if all(texts.values()) else {}


def make_corpus(recipe: str, name: str) -> dict:
    """The card of a corpus of pairs: replies to one prompt where there are some, else rows written for the recipe.

    Raises:
        VotesOneSided
    """
    loaded, votes = recipes.load(recipe), list(known(recipe).values())
    kept, rejected = ([one["row"] for one in votes if one["kept"] is wanted] for wanted in (True, False))
    if not kept or not rejected:
        raise errors.named("VotesOneSided", recipe=loaded.name, kept=len(kept), rejected=len(rejected))
    rows = [{**pair, "lang": loaded.lang} for pair in _pairs(kept, rejected, _request(loaded))]
    note = {"votes": {"recipe": loaded.name, "hash": loaded.hash, "kept": len(kept), "rejected": len(rejected)}}
    return importer.create_from_rows(rows, name, parent=None, note=note)


def _request(recipe) -> str:
    """What a row of the recipe is asked for in, as a person would ask."""
    for field in ("ask", "about", "title"):
        value = recipe.values.get(field)
        if value:
            return str(prompts.in_language(value, recipe.lang) if isinstance(value, dict) else value)
    return recipe.name


def _pairs(kept: list[dict], rejected: list[dict], request: str) -> list[dict]:
    """Pairs of replies to the same turns first; the others as whole rows, each used again only when it has to be."""
    asked: dict[str, list[dict]] = {}
    for row in rejected:
        asked.setdefault(_prompt(row), []).append(row)
    pairs, left = [], []
    for row in kept:
        others = asked.get(_prompt(row)) if "messages" in row else None
        if others:
            sides = {"chosen": row["messages"][-1:], "rejected": others.pop()["messages"][-1:]}
            pairs.append({"messages": row["messages"][:-1], **sides})
        else:
            left.append(row)
    others = [row for some in asked.values() for row in some] or rejected
    count = max(len(left), len(others)) if left else 0
    for good, bad in zip(_repeated(left, count), _repeated(others, count), strict=True):
        sides = {"chosen": [_whole(good)], "rejected": [_whole(bad)]}
        pairs.append({"messages": [{"role": "user", "content": request}], **sides})
    return pairs


def _repeated(rows: list[dict], count: int) -> list[dict]:
    return [rows[at % len(rows)] for at in range(count)]


def _whole(row: dict) -> dict:
    return {"role": "assistant", "content": "\n\n".join(turns.texts(row))}


def _prompt(row: dict) -> str:
    return orjson.dumps(row["messages"][:-1]).decode() if "messages" in row else ""


def _path(recipe: str) -> Path:
    return paths.home() / "votes" / f"{paths.slug(Path(recipe).stem)}.json"
