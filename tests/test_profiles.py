"""Prompt profiles: what is said before a chat, kept as one file."""

import pytest

from core.chat import profiles
from core.chat.profiles import Profile
from tests.conftest import raises

KEEPER = Profile(
    name="Смотритель 1",
    base_model="starter",
    system_prompt="You keep a lighthouse.",
    examples=(("Who are you?", "The keeper."), ("Рад видеть!", "И я рад.")),
)


def test_a_profile_survives_the_disk():
    assert profiles.save(KEEPER) == "смотритель-1"
    assert profiles.load("смотритель-1") == KEEPER
    assert profiles.listed() == [KEEPER]


def test_a_profile_speaks_before_the_chat():
    assert profiles.messages(KEEPER, [{"role": "user", "content": "Hi"}]) == [
        {"role": "system", "content": "You keep a lighthouse."},
        {"role": "user", "content": "Who are you?"},
        {"role": "assistant", "content": "The keeper."},
        {"role": "user", "content": "Рад видеть!"},
        {"role": "assistant", "content": "И я рад."},
        {"role": "user", "content": "Hi"},
    ]


def test_a_chat_has_one_system_message_at_most():
    bare = Profile(name="a", system_prompt="A.")
    chat = [{"role": "system", "content": "B."}, {"role": "user", "content": "Hi"}]
    assert profiles.messages(bare, chat) == [{"role": "system", "content": "A.\n\nB."}, chat[1]]
    shown = Profile(name="b", examples=(("q", "a"),))
    assert [message["role"] for message in profiles.messages(shown, chat[1:])] == ["user", "assistant", "user"]


def test_a_deleted_profile_is_named():
    profiles.save(KEEPER)
    profiles.delete(KEEPER.id)
    assert profiles.listed() == []
    with raises("ProfileGone", match="choose another one"):
        profiles.load(KEEPER.id)
    with raises("ProfileGone"):
        profiles.load("../runs/x")


def test_a_damaged_file_does_not_hide_the_others(home):
    profiles.save(KEEPER)
    (home / "profiles" / "broken.json").write_text('{"name": "x", "examples": 3}')
    assert profiles.listed() == [KEEPER]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"name": " ", "system_prompt": "x"}, "A profile needs a name"),
        ({"name": "a"}, "needs a system prompt or at least one example"),
        ({"name": "a", "examples": (("q", "a"), ("q", " "))}, "Example 2 lacks its question or its reply"),
        ({"name": "a", "examples": (("q", "a"),) * 51}, "51 examples would fill"),
    ],
)
def test_a_profile_that_says_nothing_is_refused(values, words):
    with pytest.raises(profiles.UserError, match=words):
        Profile(**values)
