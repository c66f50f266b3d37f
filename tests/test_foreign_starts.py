"""A folder that a run is to go on from may be a stranger's: what is wrong with its files ends in words."""

import json
import os
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from core import paths
from core.models import models
from core.runs import starts
from core.training import start as training_start
from core.training.config import TrainConfig
from tests.conftest import raises
from tests.test_foreign import lora

LORA = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"], "base_model_name_or_path": "a/b"}


def config(start: Path, method: str = "lora") -> TrainConfig:
    return TrainConfig(base_model="a/b", corpus="", method=method, start=str(start), lora_rank=8, lora_alpha=16)


@pytest.mark.parametrize(
    "content",
    [
        "[" * 10**5,
        json.dumps(LORA)[:-1] + ', "a": ' + '{"a":' * 10**5,
        json.dumps(LORA).replace("16", "NaN"),
        '{"peft_type": "LORA"}',
        *(json.dumps(LORA | {name: value}) for name, value in (("r", "many"), ("r", [1]), ("lora_alpha", "x"))),
        *(json.dumps(LORA | {"target_modules": value}) for value in (5, [5], {"q": 1})),
    ],
)
def test_an_adapter_of_other_values_is_refused_before_a_run_is_made(tmp_path, content):
    (tmp_path / "adapter_config.json").write_text(content)
    for ask in (starts.fields, lambda start: starts.check(config(start))):
        with raises("StartUnreadable", match=r"adapter_config\.json is missing or damaged"):
            ask(str(tmp_path))


def test_a_config_without_an_end_is_not_read(tmp_path):
    (tmp_path / "adapter_config.json").touch()
    os.truncate(tmp_path / "adapter_config.json", 2**28)
    tracemalloc.start()
    with raises("StartUnreadable"):
        starts.fields(str(tmp_path))
    assert tracemalloc.get_traced_memory()[1] < training_start.MOST_BYTES
    tracemalloc.stop()


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes among the files")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "adapter_config.json")
    os.close(os.open(tmp_path / "adapter_config.json", os.O_RDWR))
    with raises("StartUnreadable"):
        starts.check(config(tmp_path))


def test_what_only_its_weights_tell_is_refused_before_a_run_is_made(tmp_path):
    folder = lora(tmp_path / "a", [8, 4], LORA | {"r": 10**6})
    with raises("AdapterUnsound", match="r is 1000000 and its weights have 8"):
        starts.check(replace(config(folder), lora_rank=10**6))
    (tmp_path / "config.json").write_text('{"num_hidden_layers": 1000000}')
    with raises("ModelConfigUnfit", match="num_hidden_layers is 1000000"):
        starts.check(config(tmp_path, "full"))


def test_a_card_of_another_type_beside_an_adapter_says_nothing(tmp_path):
    folder = lora(tmp_path / "a", [8, 4], LORA)
    (folder / "soulsmith.json").write_text('{"base_model": 5, "id": 7}')
    starts.check(config(folder))
    assert starts.fields(str(folder))["base_model"] == "a/b"


def test_a_user_who_is_not_there_has_no_home():
    assert paths.expanded("~nobody-of-this-name/a") == Path("~nobody-of-this-name/a")
    with raises("ModelUnknown"):
        models.check("~nobody-of-this-name/a/b")
    with raises("StartGone"):
        starts.source("~nobody-of-this-name/a/b")
