"""The parts of the Corpus tab that judge a corpus and write it out."""

from ui.text import Say


def build(say: Say, listing, model, max_length, changed) -> list:
    return []


def build_export(say: Say, listing) -> None:
    pass


def cleared() -> list:
    return []
