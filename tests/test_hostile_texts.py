"""Texts of strangers that are read in the page's own process: too long, too deep, or of another type."""

import json

import pytest

from core import files
from core.chat import engine
from core.chat.chat_models import ChatModel
from core.errors import UserError
from core.estimate import config_sources, errors
from core.models import model_files
from core.serve import api
from core.serve.requests import RequestRefused
from core.sharing import gate, walls
from core.synth import endpoint, recipes
from core.training import tokenizer_loading
from ui import synth_form
from ui.errors import Refused
from ui.text import Say

LONG = "a" * (2**20 + 1)


def test_a_text_that_is_too_long_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\ufeffa\r\nb", newline="")
    assert (files.read_text(path), synth_form.on_personas(Say("en"), str(path))) == ("a\nb", "a\nb")
    path.write_text(LONG)
    with pytest.raises(files.TextTooLong):
        recipes.read_text(path)
    with pytest.raises(Refused, match=r"a\.txt has more than 1048576 characters"):
        synth_form.on_personas(Say("en"), str(path))
    with pytest.raises(files.TextTooLong, match=r"config\.json has more"):
        config_sources.pasted("[" * len(LONG))
    path.with_suffix(".json").write_text(json.dumps({"a": LONG}))
    with pytest.raises(errors.NotJson):
        config_sources.from_disk(path.with_suffix(".json"))


@pytest.mark.parametrize("content", ["[]", "5", "[" * 100_000, "{", '{"model_type": [], "dtype": {}}'])
def test_a_config_of_another_type_says_nothing(tmp_path, monkeypatch, content):
    monkeypatch.setattr(engine.chat_models, "base_directory", lambda one: str(tmp_path))
    for name in ("config.json", "adapter_config.json"):
        (tmp_path / name).write_text(content)
    adapter = ChatModel("adapter:a", "adapter", "a", "m", tmp_path)
    assert (model_files.width(tmp_path), tokenizer_loading.is_mistral(tmp_path)) == (2, False)
    assert engine._key(adapter, "cpu", {}).parameters == ()


@pytest.mark.parametrize("body", [b"{", b"[" * 1_000_000, b'{"seed": ' + b"9" * 5000 + b"}", b"\xff"])
def test_a_body_that_is_no_json_is_refused_by_name(body):
    with pytest.raises(RequestRefused, match="The body is not JSON") as refused:
        api._json(body)
    assert refused.value.status == 400


@pytest.mark.parametrize("body", [b"{", b"[" * 60_000, b'{"data": ' + b"9" * 5000 + b"}", b"\xff", b"[]", b"5"])
def test_a_visitor_s_message_that_is_none_is_refused_by_its_status(body):
    with pytest.raises(walls.Refused, match="400"):
        gate.Gate(None, None, None)._check_body(body, None)


@pytest.mark.parametrize(
    "url",
    ["http://[::1", "http://a]b", "http://127.0.0.1:x", "http://127.0.0.1:99999", "http://127.0.0.1/я", "http://я:9"],
)
def test_what_is_no_address_of_a_server_is_named(url):
    with pytest.raises(UserError, match="is not the address of a server"):
        endpoint.address(url)


def test_a_host_that_cannot_be_is_down(monkeypatch):
    monkeypatch.setattr(endpoint, "ATTEMPTS", 1)
    for host in ("a" * 70 + ".com", "a..b"):
        with pytest.raises(endpoint.EndpointDown, match="label"):
            endpoint.Endpoint(f"http://{host}", "m").ask([{"role": "user", "content": "a"}])


@pytest.mark.parametrize(("told", "count"), [("7", 7), ("1e999", 0), ("NaN", 0), ("-5", 0), ("9" * 400, 0), ("[]", 0)])
def test_a_number_of_tokens_that_can_be_none_counts_as_0(told, count):
    assert endpoint._count(json.loads(told)) == count


@pytest.mark.parametrize("value", ["9" * 5000, "1" + ":1" * 300_000, "1" + ":1" * 100_000 + ".5", "0x" + "f" * 900_000])
def test_a_number_without_an_end_stays_a_word_of_the_recipe(value):
    with pytest.raises(UserError, match=r"depth is .*; it has to be a number"):
        recipes.from_text(f"depth: {value}\nrules:\n  text: [a]", "a.yaml")


@pytest.mark.parametrize(
    "value",
    ["!!int abc", "!!int 1" + ":1" * 300_000, "!!float abc", "!!bool abc", "!!timestamp abc", "!!timestamp 1-9-9"],
)
def test_what_does_not_fit_its_tag_is_named_with_its_line(value):
    with pytest.raises(UserError, match=r"a\.yaml, line 2: this is not YAML: this is no "):
        recipes.from_text(f"rules: {{text: [a]}}\nlang: {value}", "a.yaml")


def test_times_and_names_of_digits_stay_as_a_person_wrote_them():
    recipe = recipes.from_text("rules:\n  text: [12:30, 007, 0x1f, 3, 2.5]", "a.yaml")
    assert recipe.values["rules"]["text"] == ["12:30", "007", "0x1f", 3, 2.5]
