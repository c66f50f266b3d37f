"""Chats of other messengers and assistants, in the forms in which they are exported."""

import json

import pytest

from tests.test_corpus_formats import lines, made, said

TURNS = [("user", "привет"), ("assistant", "и тебе ❤")]


def latin(text):
    return text.encode().decode("latin-1")


META = {
    "participants": [{"name": latin("Аня")}, {"name": latin("Боря")}],
    "messages": [  # the newest first
        {"sender_name": latin("Боря"), "timestamp_ms": 1700000060000, "content": latin("и тебе ❤")},
        {"sender_name": latin("Аня"), "timestamp_ms": 1700000030000, "photos": [{"uri": "x"}]},
        {"sender_name": latin("Аня"), "timestamp_ms": 1700000000000, "content": latin("привет")},
    ],
}
SLACK = [
    {"type": "message", "user": "U1", "text": "привет", "ts": "1700000000.1"},
    {"type": "message", "subtype": "channel_join", "user": "U2", "text": "<@U2> has joined", "ts": "1700000001.1"},
    {"type": "message", "user": "U2", "text": "и тебе ❤", "ts": "1700000002.1"},
]
DEEPSEEK = [
    {
        "mapping": {
            "root": {"id": "root", "parent": None, "message": None},
            "1": {"parent": "root", "message": {"fragments": [{"type": "REQUEST", "content": "привет"}]}},
            "2": {"parent": "1", "message": {"fragments": [{"type": "THINK", "content": "h"}, {"type": "RESPONSE", "content": "и тебе ❤"}]}},
        }
    }
]  # fmt: skip
GROK = {
    "conversations": [
        {
            "conversation": {"title": ""},
            "responses": [
                {"response": {"message": "привет", "sender": "human"}},
                {"response": {"message": "и тебе ❤", "sender": "ASSISTANT"}},
            ],
        }
    ]
}


@pytest.mark.parametrize("export", [META, SLACK, DEEPSEEK, GROK], ids=["meta", "slack", "deepseek", "grok"])
def test_a_chat_is_read_as_its_program_wrote_it(tmp_path, export):
    assert said(made(tmp_path, "a.json", json.dumps(export))) == [TURNS]


def test_links_and_names_in_slack_are_words(tmp_path):
    said_of = "<@U2> смотри <https://a.b|сюда> и <https://c.d>, R&amp;D"
    profile = {"user_profile": {"real_name": "Боря"}}
    export = [SLACK[0] | {"text": said_of}, SLACK[2] | profile, SLACK[2] | {"text": "да", "ts": "1700000003.1"}]
    turns = [("user", "@Боря смотри сюда и https://c.d, R&D"), ("assistant", "и тебе ❤\nда")]
    assert said(made(tmp_path, "a.json", json.dumps(export))) == [turns]


def test_messages_of_threads_have_their_words_in_values(tmp_path):
    rows = [
        {"thread_id": "t", "role": role, "content": [{"type": "text", "text": {"value": words, "annotations": []}}]}
        for role, words in TURNS
    ]
    assert said(made(tmp_path, "a.jsonl", lines(rows))) == [TURNS]
