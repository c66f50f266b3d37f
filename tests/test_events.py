"""Events: whole lines only, whatever dies while writing them."""

import json

import pytest

from core import events, files


def test_events_are_read_from_the_last_offset(tmp_path):
    events.append(tmp_path, "step", step=1)
    first, offset = events.read(tmp_path)
    events.append(tmp_path, "step", step=2)
    second, _ = events.read(tmp_path, offset)
    assert [event["step"] for event in first] == [1]
    assert [event["step"] for event in second] == [2]


def test_a_half_written_line_is_left_for_later(tmp_path):
    events.append(tmp_path, "step", step=1)
    with events.file(tmp_path).open("ab") as file:
        file.write(b'{"event": "st')
    found, offset = events.read(tmp_path)
    assert [event["step"] for event in found] == [1]
    assert events.last(tmp_path)["step"] == 1
    with events.file(tmp_path).open("ab") as file:
        file.write(b'ep", "step": 2}\n')
    assert [event["step"] for event in events.read(tmp_path, offset)[0]] == [2]


def test_mending_cuts_off_what_a_dead_trainer_left(tmp_path):
    events.append(tmp_path, "step", step=1)
    with events.file(tmp_path).open("ab") as file:
        file.write(b'{"event": "st')
    events.cut_partial_line(tmp_path)
    events.append(tmp_path, "step", step=2)
    assert [event["step"] for event in events.read(tmp_path)[0]] == [1, 2]


def test_what_json_does_not_have_becomes_null(tmp_path):
    events.append(tmp_path, "step", loss=float("nan"), more={"norm": [float("inf"), 1.0]})
    line = json.loads(events.file(tmp_path).read_text(), parse_constant=lambda name: 1 / 0)
    assert (line["loss"], line["more"]) == (None, {"norm": [None, 1.0]})


def test_a_run_without_events_has_none(tmp_path):
    assert events.read(tmp_path) == ([], 0)
    assert events.last(tmp_path) is None
    events.cut_partial_line(tmp_path)


def test_the_last_event_is_found_in_a_long_file(tmp_path):
    for step in range(2000):
        events.append(tmp_path, "step", step=step)
    assert events.size(tmp_path) > files.BLOCK_BYTES
    assert events.last(tmp_path)["step"] == 1999


@pytest.mark.parametrize("length", [files.BLOCK_BYTES - 40, files.BLOCK_BYTES, 3 * files.BLOCK_BYTES])
def test_a_line_longer_than_a_block_is_an_event_and_its_half_is_none(tmp_path, length):
    """A run whose last event is long (replies to long prompts) is not one without events."""
    events.append(tmp_path, "started", pid=1)
    events.append(tmp_path, "samples", text="x" * length)
    assert events.last(tmp_path)["event"] == "samples"
    whole = events.size(tmp_path)
    with events.file(tmp_path).open("ab") as file:
        file.write(b'{"event": "samples", "text": "' + b"y" * length)
    assert events.last(tmp_path)["text"] == "x" * length
    events.cut_partial_line(tmp_path)
    assert events.size(tmp_path) == whole
    events.append(tmp_path, "started", pid=2)
    assert [event["event"] for event in events.read(tmp_path)[0]] == ["started", "samples", "started"]


def test_a_file_of_half_a_line_is_emptied(tmp_path):
    events.file(tmp_path).write_bytes(b"x" * (files.BLOCK_BYTES + 1))
    assert events.last(tmp_path) is None
    events.cut_partial_line(tmp_path)
    assert events.size(tmp_path) == 0
