"""Data sets of the hub by their ids, with a `datasets` that answers from memory."""

from pathlib import Path
from types import SimpleNamespace

import datasets
import gradio as gr
import huggingface_hub
import pytest

from core.corpus import corpus, export, hub
from core.corpus.reading import Options
from core.errors import NamedError
from tests.test_corpus_formats import said
from ui import corpora
from ui.text import Say

ROWS = [{"instruction": f"q{at}", "output": f"a{at}"} for at in range(5)]


@pytest.fixture
def calls(monkeypatch):
    """What was asked of the hub, which has one data set of two parts."""
    asked = []

    def load_dataset(id, config=None, *, split=None, streaming):
        asked.append((id, config, split, streaming))
        if id == "owner/broken":
            return datasets.IterableDataset.from_generator(broken)
        parts = {"test": ROWS[:1], "train": ROWS}
        parts = {name: datasets.Dataset.from_list(rows).to_iterable_dataset() for name, rows in parts.items()}
        return parts[split] if split else datasets.IterableDatasetDict(parts)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(huggingface_hub, "dataset_info", lambda id: SimpleNamespace(card_data={"license": "cc-by-4.0"}))
    return asked


def broken():
    yield {"text": "раз"}
    raise ConnectionResetError("reset by peer")


def turns(rows):
    return [[("user", row["instruction"]), ("assistant", row["output"])] for row in rows]


def test_a_data_set_is_streamed_with_its_licence(calls, tmp_path):
    card = corpus.create([Path("owner/name")], "x", options=Options(most_rows=3))
    assert (said(card), calls) == (turns(ROWS[:3]), [("owner/name", None, None, True)])
    source = {"file": "owner/name@train", "format": "hub", "encoding": "", "bytes": 0, "licence": "cc-by-4.0"}
    assert card["sources"] == [source | {"most_rows": 3, "rows": 3, "set_aside": 0}]
    export.export(corpus.directory(card["id"]), "messages", tmp_path / "a.jsonl")
    assert "- owner/name@train (hub, 3 rows, licence: cc-by-4.0)" in (tmp_path / "a.jsonl.md").read_text("utf-8")
    card = corpus.create([Path("https://huggingface.co/datasets/owner/name:config@test")], "y")
    assert (said(card), calls[1:]) == (turns(ROWS[:1]), [("owner/name", "config", "test", True)])


def test_what_came_before_the_connection_broke_is_kept(calls):
    card = corpus.create([Path("owner/broken@train")], "x")
    assert (said(card), card["reasons"], card["rows_in"]) == (["раз"], {"stream_broke": 1}, 2)
    assert datasets.config.STREAMING_READ_MAX_RETRIES == hub.RETRIES


class Refused(Exception):
    """As huggingface_hub has it for an answer of 401."""

    response = SimpleNamespace(status_code=401)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Refused("Client error '401 Unauthorized'"), "or it is closed to you"),
        (RuntimeError("It broke\nFor more information see"), "RuntimeError: It broke. Download"),
        (ConnectionError("Couldn't reach 'owner/name' on the Hub (LocalEntryNotFoundError)"), "hub cannot be reached. Check the connection"),
        (datasets.exceptions.DatasetNotFoundError("Dataset 'owner/name' doesn't exist"), "or it is closed to you"),
        (ValueError("Config name is missing.\nPlease pick one among the available configs: ['en', 'ru']\nExample"), "several configs: en, ru. Type owner/name:CONFIG"),
        (RuntimeError("Dataset scripts are no longer supported"), "cannot be read from the hub: RuntimeError: Dataset scripts"),
    ],
)  # fmt: skip
def test_the_trouble_of_a_data_set_is_said_and_nothing_is_left(monkeypatch, error, words):
    def load_dataset(*_, **__):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(NamedError, match=words):
        corpus.create([Path("owner/name")], "x")
    assert corpus.listed() == []


def test_a_missing_file_is_no_data_set():
    assert hub.place("data/train.jsonl") is None
    assert hub.place("train") is None
    assert hub.place("owner/name-1.2_x") == ("owner/name-1.2_x", None, None)
    with pytest.raises(gr.Error, match=r'"poems" is no id of a data set. Type it as owner/name'):
        next(corpora.on_hub(Say("en"), "poems"))
