"""What other programs write: preference pairs, exports of assistants and messengers, office files."""

import json

import pytest

from core.corpus import corpus, export
from core.corpus.reading import Options
from core.runs import runs
from core.training import corpus_rows, encoding
from core.training.config import TrainConfig
from core.training.errors import PreferencePairs
from tests import tiny_tokenizers
from tests.test_corpus_formats import lines, made, messages, said

Q, A, B = ({"role": role, "content": words} for role, words in (("user", "q"), ("assistant", "a"), ("assistant", "b")))
SYSTEM = {"role": "system", "content": "s"}
PAIR = {"messages": [Q], "chosen": [A], "rejected": [B]}


def rows_of(card):
    return [
        {key: value for key, value in row.items() if key not in ("id", "source")}
        for row in corpus.rows(card["id"], 0, 10_000)
    ]


@pytest.mark.parametrize(
    ("record", "row"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, PAIR),
        ({"prompt": [Q], "chosen": [A], "rejected": [B]}, PAIR),
        ({"chosen": [Q, A], "rejected": [Q, B]}, PAIR),
        ({"prompt": "q", "chosen": [Q, A], "rejected": [Q, B], "score_chosen": 9}, PAIR | {"fields": {"score_chosen": 9}}),
        ({"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}, PAIR),
        ({"system": "s", "question": "q", "chosen": "a", "rejected": "b"}, PAIR | {"messages": [SYSTEM, Q]}),
        ({"instruction": "q", "input": "", "chosen": "a", "rejected": "b"}, PAIR),
        (
            {
                "conversations": [{"from": "human", "value": "q"}],
                "chosen": {"from": "gpt", "value": "a"},
                "rejected": {"from": "gpt", "value": "b"},
            },
            PAIR,
        ),
        (
            {"input": {"messages": [Q], "tools": []}, "preferred_output": [A], "non_preferred_output": [B]},
            PAIR,
        ),
    ],
)  # fmt: skip
def test_a_preference_pair_keeps_its_question_and_both_replies(tmp_path, record, row):
    card = made(tmp_path, "a.jsonl", lines([record]))
    assert (card["kind"], rows_of(card)) == ("preference", [row])
    assert corpus_rows.row_id(row) == corpus.rows(card["id"])[0]["id"]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "a"}, "equal_pair"),
        ({"prompt": "q", "chosen": "a", "rejected": None}, "empty_reply"),
        ({"chosen": "The sky is blue.", "rejected": "The sky is green."}, "no_prompt"),
        ({"prompt": "q", "completion": "bad", "label": False}, "unwanted_reply"),
        ({"prompt": [Q], "completion": [B], "label": False}, "unwanted_reply"),
        ({"messages": [Q, A], "images": ["cat.png"]}, "part_without_text"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}, A]}, "part_without_text"),
        ({"messages": [Q, {"role": "assistant", "content": [{"type": "tool_use", "name": "f"}]}]}, "tool_calls"),
        ({"messages": [Q, A | {"weight": 0}]}, "no_reply"),
    ],
)  # fmt: skip
def test_what_would_teach_something_else_is_set_aside_by_name(tmp_path, record, reason):
    card = made(tmp_path, "a.jsonl", lines([{"text": "да"}, record]))
    assert (said(card), card["reasons"]) == (["да"], {reason: 1})


def test_a_good_kto_reply_is_a_chat_and_tools_are_counted(tmp_path):
    records = [{"prompt": "q", "completion": "a", "label": True}, {"messages": [Q, B], "tools": [{"type": "function"}]}]
    card = made(tmp_path, "a.jsonl", lines(records))
    assert rows_of(card) == [{"messages": [Q, A], "fields": {"label": True}}, {"messages": [Q, B]}]
    assert card["repairs"] == {"tools_dropped": 1}


def test_a_reply_of_weight_0_is_kept_and_not_learned(tmp_path):
    model = tiny_tokenizers.build(tmp_path / "model", "chatml")
    turns = [Q, A | {"weight": 0}, {"role": "user", "content": "again"}, B | {"weight": 1}]
    card = made(tmp_path, "a.jsonl", lines([{"messages": turns}]))
    row = corpus.rows(card["id"])[0]
    assert row["messages"] == [Q, A | {"weight": 0}, turns[2], B]
    from transformers import AutoTokenizer

    encoded = encoding.encode(row, AutoTokenizer.from_pretrained(model))
    learned = [span for span, label in zip(encoded["spans"], encoded["labels"], strict=True) if label != -100]
    text = "".join(encoded["text"][start:end] for start, end in learned)
    assert text.startswith("b")
    assert "a<" not in text


def test_thoughts_stand_before_the_reply_and_are_counted(tmp_path):
    records = [
        {"messages": [Q, {"role": "assistant", "reasoning_content": "r", "content": "a"}]},
        {"messages": [Q, {"role": "assistant", "content": [{"type": "thinking", "thinking": "r"}, {"type": "text", "text": "a"}]}]},
        {"question": "q", "reasoning": "r", "answer": "a"},
    ]  # fmt: skip
    card = made(tmp_path, "a.jsonl", lines(records))
    assert said(card) == [[("user", "q"), ("assistant", "<think>\nr\n</think>\n\na")]] * 3
    assert card["repairs"] == {"thoughts_kept": 3}


def test_pairs_are_exported_for_trl_and_a_run_on_them_is_refused(tmp_path):
    card = made(tmp_path, "a.jsonl", lines([{"prompt": f"q{at}", "chosen": "a", "rejected": "b"} for at in range(20)]))
    out = tmp_path / "out.jsonl"
    export.export(corpus.directory(card["id"]), "preference", out)
    first = json.loads(out.read_text("utf-8").splitlines()[0])
    assert first == {"prompt": messages([("user", "q0")]), "chosen": [A], "rejected": [B]}
    with pytest.raises(export.RowsDoNotFit, match="it is a preference pair"):
        export.export(corpus.directory(card["id"]), "messages", tmp_path / "b.jsonl")
    with pytest.raises(PreferencePairs, match=r"holds preference pairs \(20\)"):
        runs.check_corpus(TrainConfig(base_model="m", corpus=card["id"]))
    chosen = Options(mapping={"schema": "pair", "ask": ["prompt"], "answer": "chosen"})
    assert rows_of(corpus.create([tmp_path / "a.jsonl"], "chats", options=chosen))[0] == {
        "messages": [Q | {"content": "q0"}, A],
        "fields": {"rejected": "b"},
    }
