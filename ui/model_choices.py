"""The choices of every model field: names to type, with size, licence, terms, and what needs no download."""

from core.estimate import model_choices
from ui.text import Say


def choices(say: Say, *, only_shaped: bool = False) -> list[tuple[str, str]]:
    """(label, name) for a dropdown, in which typing any part of a label finds it."""
    return [(label(say, offer), offer.name) for offer in model_choices.listed() if offer.shaped or not only_shaped]


def label(say: Say, offer: model_choices.Offer) -> str:
    """One line: Qwen/Qwen2.5-7B · 7.62 B · 15.2 GB · apache-2.0 · on this disk."""
    facts = [offer.title]
    if offer.parameters:
        facts.append(say("offer.parameters", billions=say.number(offer.parameters / 1e9)))
        facts.append(say("offer.bytes", gb=say.number(2 * offer.parameters / 1e9)))  # 16 bit
    if offer.licence:
        facts.append(offer.licence)
    if offer.gated:
        facts.append(say("offer.gated"))
    if offer.here:
        facts.append(say("offer.here"))
    return " · ".join(facts)
