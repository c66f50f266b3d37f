"""Who writes: lines of a person's own, such as "a ferry captain", in place of a grid's personas or before each prompt."""

from core.errors import UserError
from core.synth import prompts

AXES = ("persona", "персона", "кто")  # of a grid
LEAST = 2
SYSTEM = ("You are {persona}.", "Ты — {persona}.")


class PersonaAlone(UserError):
    template = 'There is only one persona, "{persona}". Write at least {least}, one a line.'


class PersonasUnused(UserError):
    template = 'The recipe "{recipe}" has no use for personas: no model writes it. Empty their list or choose another.'


def read(text: str) -> list[str]:
    """The personas of a text, one a line, each once.

    Raises:
        PersonaAlone: if there is only one.
    """
    found = list(dict.fromkeys(line.strip(" \t-•*\ufeff") for line in (text or "").splitlines()))
    found = [one for one in found if one]
    if len(found) == 1:
        raise PersonaAlone(persona=found[0][:60], least=LEAST)
    return found


def check(recipe, personas: list[str]) -> None:
    """Refuse personas that nothing would come of."""
    if personas and recipe.kind not in ("grid", "model"):
        raise PersonasUnused(recipe=recipe.name)


def axes(recipe, personas: list[str]) -> dict:
    """The axes of a grid, with these personas if one of its axes is theirs."""
    found = dict(recipe.values["axes"])
    return found | {name: personas for name in AXES if name in found} if personas else found


def speak(prompt: dict, recipe, personas: list[str], seed: int, number: int) -> dict:
    """The prompt of a row as one of the personas gets it, each of them before any comes again."""
    if not personas or (recipe.kind == "grid" and any(name in recipe.values["axes"] for name in AXES)):
        return prompt
    persona = personas[prompts.shuffled(len(personas), seed + 1, number)]
    said = SYSTEM[recipe.lang == "ru"].format(persona=persona)
    first, *rest = prompt["messages"]
    if first["role"] == "system":
        messages = [first | {"content": f"{said} {first['content']}"}, *rest]
    else:
        messages = [{"role": "system", "content": said}, first, *rest]
    return prompt | {"messages": messages, "persona": persona}
