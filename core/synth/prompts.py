"""What a model is asked: ways to make rows from seeds, the grid of persona, topic, style and form, and who speaks.

A prompt is {"messages", "shape", "parent"?, "cell"?, "ask"?, "said"?, "persona"?}; `shape` says how the reply becomes a
row (see core.synth.replies), `said` what a person would have asked for it: the recipe's `ask`. {name} in these texts is
filled in, {name|gent} in a grammatical form (core.synth.agreement). The words of the prompts are in assets/recipes/methods.json. Personas are lines of a person's own,
such as "a ferry captain": they take the place of a grid's personas or introduce each prompt.
"""

import json
import math
import random
import re

from core import errors, paths
from core.synth import agreement

WORDS = json.loads((paths.assets() / "recipes" / "methods.json").read_text(encoding="utf-8"))
METHODS = WORDS["methods"]
EXAMPLE_CHARACTERS = 300  # of a seed that is one of three
PERSONA_AXES = ("persona", "персона", "кто")  # of a grid
LEAST_PERSONAS = 2
TEMPLATES = ("prompt", "ask", "system", "style")  # texts of a recipe in which names are filled in
_PLACE = re.compile(r"\{([^\W\d][\w ]*)(?:\|([^{}]+))?\}")


def check_placeholders(kind: str, lang: str, values: dict) -> None:
    """Refuse a recipe whose texts name what nothing fills.

    Raises:
        PlaceholderUnknown. FormUnknown: for {name|form} in a form that the language lacks.
    """
    known = list(map(str, values["axes"])) if kind == "grid" else ["seed", "style"]
    if kind == "model":
        known += {"self_instruct": ["a", "b", "c"], "evolve": ["how"]}.get(str(values.get("method", "free")), [])
    for where in TEMPLATES:
        for place in _PLACE.finditer(str(values.get(where) or "")):
            if place[1] not in known:
                names = ", ".join(f"{{{name}}}" for name in known)
                raise errors.named("PlaceholderUnknown", where=where, name=place[0], known=names)
            if place[2]:
                agreement.of(lang, {}).how(place[2], where)


def filled(template: str, values: dict, lang: str) -> str:
    """A text with its {names} filled in; other braces stay as they are, doubled ones become one."""

    def value(place: re.Match) -> str:
        if place[1] not in values:
            return place[0]
        text = str(values[place[1]])
        inflector = agreement.of(lang, {}) if place[2] else None
        return inflector.inflect(text, inflector.how(place[2], place[1]), "") if inflector else text

    pieces = re.split(r"(\{\{|\}\})", template) if "{{" in template else [template]
    return "".join(piece[0] if piece in ("{{", "}}") else _PLACE.sub(value, piece) for piece in pieces)


def of_method(recipe, seeds: list[dict], seed: int, number: int) -> dict:
    """The prompt of a row: seeds are taken in a shuffled order, each once before any comes again."""
    name = recipe.values.get("method", "free")
    draw, start = random.Random((seed << 64) + number), seeds[shuffled(len(seeds), seed, number)]
    values = {"seed": start["text"], "style": recipe.values.get("style", "")}
    if name == "self_instruct":
        examples = draw.sample(range(len(seeds)), 3)
        values |= {key: seeds[at]["text"][:EXAMPLE_CHARACTERS] for key, at in zip("abc", examples, strict=True)}
    if name == "evolve":
        values["how"] = draw.choice(in_language(WORDS["harder"], recipe.lang))
    template = recipe.values.get("prompt") or in_language(METHODS[name], recipe.lang)
    return {
        "messages": _with_system(recipe, filled(template, values, recipe.lang), values),
        "shape": METHODS[name]["shape"],
        "ask": values["seed"],
        "said": _said(recipe, values),
        "parent": start.get("id"),
    }


def of_grid(recipe, seed: int, number: int, own: list[str] | None = None) -> dict:
    """The prompt of a row of the grid: every cell once, in shuffled order, before any comes again.

    `own` personas take the place of the grid's, if one of its axes is theirs.
    """
    axes = recipe.values["axes"]
    if own:
        axes = axes | {name: own for name in PERSONA_AXES if name in axes}
    at, cell = shuffled(math.prod(map(len, axes.values())), seed, number), {}
    for name, values in axes.items():
        at, place = divmod(at, len(values))
        cell[name] = str(values[place])
    text = filled(str(recipe.values["prompt"]), cell, recipe.lang)
    messages = _with_system(recipe, text, cell)
    return {"messages": messages, "shape": "answer", "ask": text, "said": _said(recipe, cell), "cell": cell}


def in_language(words: dict, lang: str):
    """The Russian words for Russian, the English for every other language."""
    return words["ru" if lang == "ru" else "en"]


def shuffled(size: int, seed: int, number: int) -> int:
    """The number-th place of an endless shuffle of range(size), made without a list: a walk through a permutation.

    Within a cycle of `size` numbers every place comes exactly once; each cycle has another order. A Feistel network
    over the next power of four, walked until it lands inside.
    """
    if size < 2:
        return 0
    cycle, at = divmod(number, size)
    bits = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << bits) - 1
    while True:
        left, right = at >> bits, at & mask
        for turn in range(4):
            mixed = random.Random((((seed << 20) + cycle) << 64) + (turn << 60) + right).getrandbits(bits)
            left, right = right, left ^ mixed
        at = (left << bits) | right
        if at < size:
            return at


def check(recipe, seeds: list[dict]) -> None:
    """Refuse what cannot give rows.

    Raises:
        SeedsMissing: if there are too few texts to begin with. TooFewSeeds: for an axis of one value.
    """
    if recipe.kind == "grid":
        for name, values in recipe.values["axes"].items():
            if len(values) < 2:
                raise errors.named("TooFewSeeds", what=name, count=len(values), least=2)
        return
    if recipe.kind == "chain":
        if recipe.values.get("material") and not seeds:
            raise errors.named("SeedsMissing", count=0, least=1)
        return
    least = METHODS[recipe.values.get("method", "free")]["least_seeds"]
    if len(seeds) < least:
        raise errors.named("SeedsMissing", count=len(seeds), least=least)


def read_personas(text: str) -> list[str]:
    """The personas of a text, one a line, each once.

    Raises:
        PersonaAlone: if there is only one.
    """
    lines = (line.strip(" \t-•*\ufeff") for line in (text or "").splitlines())
    personas = list(dict.fromkeys(filter(None, lines)))
    if len(personas) == 1:
        raise errors.named("PersonaAlone", persona=personas[0][:60], least=LEAST_PERSONAS)
    return personas


def check_personas(recipe, personas: list[str]) -> None:
    """Refuse personas that nothing would come of.

    Raises:
        PersonasUnused: if no model writes the recipe.
    """
    if personas and recipe.kind not in ("grid", "model"):
        raise errors.named("PersonasUnused", recipe=recipe.name)


def introduced(prompt: dict, recipe, personas: list[str], seed: int, number: int) -> dict:
    """The prompt of a row as one of the personas gets it, each of them before any comes again."""
    if not personas or (recipe.kind == "grid" and any(name in recipe.values["axes"] for name in PERSONA_AXES)):
        return prompt
    persona = personas[shuffled(len(personas), seed + 1, number)]
    system = in_language(WORDS["persona"], recipe.lang).format(persona=persona)
    messages = prompt["messages"]
    if messages[0]["role"] == "system":
        system, messages = f"{system} {messages[0]['content']}", messages[1:]
    return prompt | {"messages": [{"role": "system", "content": system}, *messages], "persona": persona}


def steered(question: str, examples: dict, lang: str) -> str:
    """A judge's question with a person's examples before it."""
    if not examples:
        return question
    listed = {name: "\n\n".join(f"<{name}>\n{one}\n</{name}>" for one in some) for name, some in examples.items()}
    return f"{in_language(WORDS['steer'], lang).format(**listed)}\n\n{question}"


def _said(recipe, values: dict) -> str | None:
    """What the user's turn of a row says, if not the whole prompt."""
    ask = recipe.values.get("ask")
    return filled(str(ask), values, recipe.lang) if ask else None


def _with_system(recipe, text: str, values: dict) -> list[dict]:
    system = recipe.values.get("system")
    before = [{"role": "system", "content": filled(str(system), values, recipe.lang)}] if system else []
    return [*before, {"role": "user", "content": text}]
