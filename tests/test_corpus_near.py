"""Rows of one pattern are no near copies; rows that differ in a letter or a word are."""

import random

import pytest

from core.corpus import duplicates
from tests.test_corpus_damage import chat

RNG = random.Random(4)


def word(syllables: int = 3) -> str:
    return "".join(RNG.choice("бвгдклмнпрст") + RNG.choice("аеиоу") for _ in range(syllables))


PATTERNS = {
    "word": ("How do you say {} in Russian?", lambda: f"По-русски это будет {word()}."),
    "label": (
        'What part of speech is the word "{}"? Answer with one word only.',
        lambda: RNG.choice(["noun", "verb"]),
    ),
    "sentence": ("Где {}?", lambda: f"Ответ на этот вопрос довольно прост: это, конечно же, {word()}, как знают все."),
}


@pytest.mark.parametrize("asked_and_reply", PATTERNS.values(), ids=PATTERNS)
@pytest.mark.parametrize("as_chat", [True, False], ids=["chat", "text"])
def test_two_hundred_rows_of_one_pattern_are_no_near_copies(asked_and_reply, as_chat):
    asked, reply = asked_and_reply
    rows = [(asked.format(word()), reply()) for _ in range(200)]
    rows = [chat(*row) if as_chat else {"text": " ".join(row)} for row in rows]
    found = duplicates.find(map(duplicates.said, rows))
    assert found.counts()["near"] <= 3


@pytest.mark.parametrize("words", [10, 15, 30])
def test_short_rows_that_differ_in_a_letter_are_near_copies_in_a_pattern_too(words):
    asked, reply = PATTERNS["sentence"]
    others = [chat(asked.format(word()), reply()) for _ in range(200)]
    texts = [" ".join(word() for _ in range(words)) for _ in range(30)]
    twins = [{"text": text[:20] + "ж" + text[21:]} for text in texts]
    found = duplicates.find(map(duplicates.said, [*({"text": text} for text in texts), *others, *twins]))
    assert sum(found.kind[-30:] > 0) >= 27
    assert [first for first in found.first[-30:] if first < 30] == [at for at in range(30) if found.kind[at - 30] > 0]
