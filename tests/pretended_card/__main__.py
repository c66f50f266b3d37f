"""Compile the pretended card ahead of the tests: `python -m tests.pretended_card`."""

from tests import pretended_card

print(pretended_card.missing() or pretended_card.library())
