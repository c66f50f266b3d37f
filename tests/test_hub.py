"""What is taken away works where this disk is not; and the hub: pushed with a card, imported, the token kept nowhere."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from core import events, jobs, paths
from core.chat import chat_models, engine, generation, imported
from core.chat.types import Question, Sampling
from core.errors import UserError
from core.export import adapters, cards, export, hub
from core.models import base_identity, models
from core.runs import runs, starts, store
from core.training.config import TrainConfig
from tests.conftest import raises
from tests.hub_server import REVISION, Hub
from tests.test_foreign import lora
from ui import export_hub, training_start
from ui.text import Say

TOKEN = "hf_planted_and_never_kept"
BASE = "somebody/tiny-model"
SNAPSHOT = "89abcdef0123456789abcdef0123456789abcdef"


def quiet(*_, **__) -> None:
    """A report to nobody."""


@pytest.fixture(autouse=True)
def let_go():
    yield
    engine.close()


@pytest.fixture
def hub_cache(tmp_path, tiny_model, monkeypatch) -> Path:
    """The hub's cache with the tiny model under a hub id."""
    from huggingface_hub import constants

    cache = tmp_path / "hub cache"
    folder = cache / f"models--{BASE.replace('/', '--')}"
    shutil.copytree(tiny_model, folder / "snapshots" / SNAPSHOT)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(SNAPSHOT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    return cache


@pytest.fixture
def hub_run(hub_cache, trained, home, tiny_corpus) -> str:
    """A run on that base, with an adapter that was trained."""
    source = trained[0] / "runs" / trained[1]
    config = TrainConfig(base_model=BASE, corpus=tiny_corpus, method="lora", precision="fp32")  # as a stranger loads it
    run_id = runs.create(config, "маяк")
    shutil.copytree(source / "adapter", paths.run(run_id) / "adapter")
    shutil.copyfile(source / "events.jsonl", paths.run(run_id) / "events.jsonl")
    return run_id


def texts(folder: Path) -> str:
    """All that is written in words in a folder, zips and the heads of GGUF files included."""
    found = ""
    for file in sorted(folder.rglob("*")):
        if file.suffix == ".zip":
            with zipfile.ZipFile(file) as archive:
                found += "".join(archive.read(name).decode("utf-8", "replace") for name in archive.namelist())
        elif file.is_file():
            found += file.read_bytes()[: 2**20].decode("utf-8", "replace")
    return found


@pytest.mark.slow
def test_what_is_taken_away_works_with_the_home_moved_away(hub_run, home, hub_cache, tiny_corpus, tmp_path):
    out = tmp_path / "taken"
    for kind in export.KINDS:
        export.make(hub_run, kind, out / ("capsule.zip" if kind == "capsule" else kind), quiet)
    wanted = said(f"run:{hub_run}")
    home.rename(tmp_path / "moved away")
    shutil.move(out, tmp_path / "elsewhere")
    taken = tmp_path / "elsewhere"
    written = texts(taken).replace(tiny_corpus, "")
    assert [place for place in (str(tmp_path), "дом soulsmith", "tiny model") if place in written] == []
    settings = json.loads((taken / "adapter" / "adapter_config.json").read_text())
    assert (settings["base_model_name_or_path"], settings["revision"]) == (BASE, SNAPSHOT)
    base = json.loads((taken / "adapter" / "base.json").read_text())
    assert (base["name"], base["on_hub"], base["revision"]) == (BASE, True, SNAPSHOT)
    assert base["sha256"] in (taken / "adapter" / "README.md").read_text(encoding="utf-8")
    for kind, lines in (
        ("adapter", "from peft import AutoPeftModelForCausalLM as Model"),
        ("merged", "from transformers import AutoModelForCausalLM as Model"),
    ):
        assert loaded(taken / kind, lines) == wanted
    with zipfile.ZipFile(taken / "capsule.zip") as archive:
        archive.extractall(taken / "capsule")
    assert json.loads((taken / "capsule" / "config.json").read_text())["base_model"] == BASE
    environment = os.environ | {"SOULSMITH_HOME": str(tmp_path / "nowhere"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "train.py", "config.json"],
        cwd=taken / "capsule",
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[-1])["event"] == "finished"


def said(id: str) -> str:
    question = {"a": Question(id, [{"role": "user", "content": "lamp?"}])}
    *_, columns = generation.replies(question, Sampling(temperature=0, repetition_penalty=1.0, max_new_tokens=8))
    return columns["a"].text


def loaded(folder: Path, lines: str) -> str:
    """What a model says in a process that knows nothing of Soulsmith."""
    program = (
        f"{lines}\nfrom transformers import AutoTokenizer\nm = Model.from_pretrained('.').eval()\n"
        "t = AutoTokenizer.from_pretrained('.')\n"
        "text = t.apply_chat_template([{'role': 'user', 'content': 'lamp?'}], tokenize=False, "
        "add_generation_prompt=True)\nids = t(text, return_tensors='pt')\n"
        "out = m.generate(**ids, do_sample=False, max_new_tokens=8)\n"
        "print('SAID', repr(t.decode(out[0, ids['input_ids'].shape[1]:]).removesuffix('<|im_end|>')))"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SOULSMITH")} | {"HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return eval(done.stdout.split("SAID ")[1])


def test_a_base_is_known_by_hub_id_and_hash(hub_cache, tiny_model, home):
    import hashlib

    digest = hashlib.sha256((Path(tiny_model) / "model.safetensors").read_bytes()).hexdigest()
    wanted = hashlib.sha256(f"{digest}  model.safetensors\n".encode()).hexdigest()
    snapshot = hub_cache / "models--somebody--tiny-model" / "snapshots" / SNAPSHOT
    for name in (BASE, str(snapshot)):
        assert base_identity.of(name) == base_identity.Identity(BASE, True, SNAPSHOT, wanted)
    assert base_identity.of(tiny_model) == base_identity.Identity("tiny model", False, "", wanted)
    blob = snapshot.parent.parent / "blobs" / digest
    blob.parent.mkdir()
    shutil.move(snapshot / "model.safetensors", blob)
    (snapshot / "model.safetensors").symlink_to(blob)
    base_identity.weights_hash.cache_clear()
    assert base_identity.of(BASE).sha256 == wanted
    shutil.copytree(tiny_model, models.starter_directory())
    card = {"id": "starter", "title": models.STARTER_TITLE, "source": "SmolLM2-135M-Instruct.Q4_1.gguf"}
    (models.starter_directory() / "soulsmith.json").write_text(json.dumps(card))
    for name in ("starter", str(models.starter_directory())):
        starter = base_identity.of(name)
        assert (starter.name, starter.source) == (base_identity.STARTER_HUB_ID, card["source"])
    assert base_identity.of("nobody/nothing") == base_identity.Identity("nobody/nothing", True)


def test_a_card_names_base_data_measures_licence_and_how(hub_run, monkeypatch):
    monkeypatch.setattr(cards, "licence", lambda name: {BASE: "apache-2.0"}.get(name, ""))
    text = cards.card(chat_models.find(f"run:{hub_run}"), "adapter", lines="import peft\n")
    head = text.split("---")[1]
    for line in (f'base_model: "{BASE}"', "license: apache-2.0", "library_name: peft", "base_model_relation: adapter"):
        assert line in head.splitlines()
    for words in (
        f"`{base_identity.of(BASE).sha256}`",
        "rows: 36 rows to learn from, 4 held out; 1274 tokens, of which 407 are learned",
        "6 steps",
        "learning rate 0.0002 (cosine)",
        "precision fp32",
        "transformers 5.",
    ):
        assert words in text
    assert "Loss on held-out rows: 6.6" in text
    assert "/" not in text.replace(BASE, "").replace("```", "").split("## Use")[0].split("---", 2)[2].replace("://", "")


@pytest.mark.parametrize(
    ("more", "loss", "way"),
    [
        ({}, "Loss on held-out rows: 6.", "On chats: the tokens of the assistant's replies are learned."),
        ({"learn": "all"}, "Loss on held-out rows: 6.", "On chats: every token is learned."),
        ({"task": "text"}, "Loss on held-out rows: 6.", "Continued pretraining: every token of the texts is learned."),
        (
            {"task": "preference", "preference_loss": "kto", "beta": 0.2},
            "KTO loss on held-out pairs: 6.",
            "On preferences: KTO, beta 0.2, on pairs of a chosen and a rejected reply.",
        ),
    ],
)
def test_a_card_says_what_was_learned_and_whose_loss_it_is(hub_run, more, loss, way):
    model = chat_models.find(f"run:{hub_run}")
    lines = cards.card(replace(model, config=replace(model.config, **more)), "adapter").splitlines()
    assert [line for line in lines if line.startswith(loss)]
    assert way in lines


@pytest.mark.parametrize("of_before", [False, True])
def test_a_card_names_no_folder_that_a_run_went_on_from(hub_run, home, of_before):
    secret, taken = home.parent / "anna" / "my lighthouse", home / "adapters" / "x"
    for folder in (secret, taken):
        folder.mkdir(parents=True)
    (taken / imported.CARD).write_text(json.dumps({"id": "her/lighthouse"}))
    for start, name in ((secret, "my lighthouse"), (taken, "her/lighthouse"), ("him/oil", "him/oil")):
        entry = starts._entry(str(start)) | ({"name": str(start)} if of_before else {})
        (paths.run(hub_run) / starts.CARD).write_text(json.dumps({"ancestry": [entry]}))
        text = cards.card(chat_models.find(f"run:{hub_run}"), "adapter")
        assert f"\nIt went on from {name}.\n" in text
        assert str(home.parent) not in text


def test_a_card_lists_each_corpus_and_the_step_that_was_kept(hub_run, monkeypatch):
    model, row = chat_models.find(f"run:{hub_run}"), store.sync(hub_run)
    rows = [{"share": 0.75, "rows_train": 30, "rows_eval": 3}, {"share": 0.25, "rows_train": 12, "rows_eval": 2}]
    seen = [*events.read(paths.run(hub_run))[0], {"event": "data", "rows_train": 42, "rows_eval": 5, "corpora": rows}]
    monkeypatch.setattr(events, "read", lambda *_: (seen, 0))
    monkeypatch.setattr(store, "sync", lambda _: row | {"adapter_step": 4})
    text = cards.card(replace(model, config=replace(model.config, mix=(("old-texts", 0.25),))), "adapter")
    assert "rows, old-texts: 42 rows to learn from, 5 held out" in text
    assert "| rows | 75 | 30 | 3 |" in text
    assert "| old-texts | 25 | 12 | 2 | ? |" in text
    assert "\n4 steps, " in text


def test_the_head_of_a_card_is_yaml_whatever_the_base_is_called(hub_run, monkeypatch):
    import yaml

    for name, on_hub in (("mine: best #1", False), ("me/1: x", True)):
        identity = base_identity.Identity(name, on_hub, "1234567890")
        monkeypatch.setattr(base_identity, "of", lambda _, identity=identity: identity)
        head = yaml.safe_load(cards.card(chat_models.find(f"run:{hub_run}"), "adapter").split("---")[1])
        known = (name, "1234567890", "adapter") if on_hub else (None, None, None)
        assert tuple(head.get(f"base_model{end}") for end in ("", "_revision", "_relation")) == known


def test_the_lines_of_an_adapter_download_no_base(hub_run, monkeypatch):
    monkeypatch.setattr(chat_models, "ready_base_directory", lambda _: None)
    monkeypatch.setattr(chat_models, "base_directory", lambda _: pytest.fail("it would be downloaded"))
    assert adapters.lines(chat_models.find(f"run:{hub_run}"), "here").startswith("from peft import AutoPeftModel")


def test_licences_are_the_catalogue_s():
    assert cards.licence("Qwen/Qwen2.5-0.5B-Instruct") == "apache-2.0"
    assert cards.licence(base_identity.STARTER_HUB_ID) == "apache-2.0"
    assert cards.licence("nobody/nothing") == ""


@pytest.fixture
def fake_hub(monkeypatch):
    """A hub on this machine, for the processes that are started."""
    served = Hub(TOKEN)
    for name, value in {
        "HF_ENDPOINT": served.url,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "no_proxy": "127.0.0.1",
        "NO_PROXY": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield served
    served.close()


def ended(directory: Path) -> dict:
    *_, last = jobs.follow(directory)
    return last


def test_an_export_is_pushed_with_its_card_and_the_token_goes_nowhere_else(hub_run, fake_hub, home):
    directory = jobs.create(paths.exports(), {"name": "маяк", "run": hub_run, "kind": "adapter"})
    jobs.run(directory, lambda *_: export.make(hub_run, "adapter", directory / "adapter", quiet))
    last = ended(hub.push(directory.name, "me/lighthouse", TOKEN))
    assert last["event"] == "finished", last
    pushed = fake_hub.repositories["me/lighthouse"]
    assert fake_hub.private == {"me/lighthouse": True}
    assert pushed["README.md"].decode().startswith(f'---\nbase_model: "{BASE}"\n')
    assert pushed["adapter_model.safetensors"] == (directory / "adapter" / "adapter_model.safetensors").read_bytes()
    assert "soulsmith.json" not in pushed
    assert last["url"] == f"{fake_hub.url}/me/lighthouse/commit/{REVISION}"
    assert {given for host, _, given in fake_hub.told if host == "hub"} == {f"Bearer {TOKEN}"}
    assert {given for host, _, given in fake_hub.told if host == "store"} == {None}
    kept = [file for file in home.rglob("*") if file.is_file() and TOKEN.encode() in file.read_bytes()]
    assert kept == []
    assert TOKEN not in os.environ.values()


def test_what_should_be_private_is_not_pushed_where_everybody_sees_it(fake_hub, home, tmp_path):
    directory = jobs.create(paths.exports(), {"name": "x", "run": "x", "kind": "adapter"})
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "README.md").write_text("mine")
    jobs.run(directory, lambda *_: {"path": str(tmp_path / "made")})
    fake_hub.repositories["me/lighthouse"], fake_hub.private["me/lighthouse"] = {}, False
    assert ended(hub.push(directory.name, "me/lighthouse", TOKEN))["trouble"] == "HubRepoPublic"
    assert fake_hub.repositories["me/lighthouse"] == {}
    assert ended(hub.push(directory.name, "me/lighthouse", TOKEN, private=False))["event"] == "finished"
    assert fake_hub.repositories["me/lighthouse"] == {"README.md": b"mine"}


@pytest.mark.slow
def test_a_wrong_token_and_a_wrong_name_are_said(hub_run, fake_hub, home):
    directory = jobs.create(paths.exports(), {"name": "x", "run": hub_run, "kind": "adapter"})
    jobs.run(directory, lambda *_: export.make(hub_run, "adapter", directory / "adapter", quiet))
    last = ended(hub.push(directory.name, "me/lighthouse", "hf_wrong"))
    assert last["trouble"] == "HubTokenRefused"
    assert fake_hub.repositories == {}
    with raises("NotAHubId", match="Write it as owner/name"):
        hub.push(directory.name, "my lighthouse", TOKEN)
    capsule = jobs.create(paths.exports(), {"name": "x", "run": hub_run, "kind": "capsule"})
    with raises("NothingToPush"):
        hub.push(capsule.name, "me/lighthouse", TOKEN)


@pytest.mark.slow
def test_an_adapter_from_the_hub_replies_as_it_did_where_it_was_made(hub_run, fake_hub, home, tmp_path):
    wanted = said(f"run:{hub_run}")
    made = export.make(hub_run, "adapter", tmp_path / "adapter", quiet)
    fake_hub.repositories["her/lighthouse"] = {
        file.name: file.read_bytes() for file in Path(made["path"]).iterdir() if file.name != "README.md"
    } | {"pytorch_model.bin": b"a pickle", "train.py": b"import os"}
    runs.delete(hub_run)
    last = ended(hub.fetch("her/lighthouse", TOKEN))
    assert (last["event"], last["base_model"]) == ("finished", BASE), last
    id = f"adapter:{last['adapter']}"
    assert id in [model.id for model in chat_models.listed()]
    assert f"base:{BASE}" in [model.id for model in chat_models.listed()]
    assert said(id) == wanted
    folder = paths.home() / "adapters" / last["adapter"]
    assert not (folder / "train.py").exists()
    assert json.loads((folder / "soulsmith.json").read_text())["revision"] == REVISION
    again = ended(hub.fetch("her/lighthouse", TOKEN))
    assert again["adapter"] == last["adapter"]
    imported.delete(last["adapter"])
    assert list(imported.listed()) == []


def taken(folder: Path, base: str, **identity) -> Path:
    """The directory of an adapter that was taken away, with what it says of its base."""
    values = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}
    lora(folder, [4, 4], values | {"base_model_name_or_path": base})
    base_identity.Identity(base, True, **identity).write(folder)
    return folder


def test_go_on_from_a_taken_adapter_brings_the_base_that_it_was_made_on(home, tmp_path):
    starter = base_identity.STARTER_HUB_ID
    rounded = taken(tmp_path / "rounded", starter, source="SmolLM2-135M-Instruct.Q4_1.gguf")
    assert starts.fields(str(rounded))["base_model"] == models.STARTER
    assert starts.fields(str(taken(tmp_path / "whole", starter)))["base_model"] == starter
    card = {"id": "a/b", "title": "b", "base_model": BASE, "revision": "1"}
    assert starts.fields(str(imported.write(rounded, card)))["base_model"] == BASE


def test_go_on_from_a_taken_adapter_needs_the_weights_that_it_was_trained_on(tiny_model, tiny_corpus, home, tmp_path):
    right, source = base_identity.of(tiny_model).sha256, "tiny.gguf"
    config = TrainConfig(base_model=tiny_model, corpus=tiny_corpus, method="lora")
    for number, sha256 in enumerate((right, "", "0" * 64)):
        start = taken(tmp_path / str(number), "her/base", sha256=sha256)
        asked = replace(config, start=str(start))
        run_dir = paths.run(runs.create(config))
        if sha256 in (right, ""):
            assert starts.ready(asked, run_dir, print).start == str(run_dir / "start")
            continue
        with raises("StartOtherWeights", match=f"hash {right[:16]}, then 0000000000000000"):
            starts.ready(asked, run_dir, print)
        with raises("StartOtherWeights"):  # from what the run has kept, too
            starts.ready(asked, run_dir, print)
        assert base_identity.other_weights(tiny_model, start) == (right, sha256)
    written_elsewhere = taken(tmp_path / "gguf", "her/base", sha256="0" * 64, source=source)
    here = tmp_path / "here"
    shutil.copytree(tiny_model, here)
    (here / "soulsmith.json").write_text(json.dumps({"id": "x", "title": "x", "source": source}))
    assert base_identity.other_weights(str(here), written_elsewhere) is None


@pytest.mark.parametrize("lang", ["en", "ru"])
def test_an_import_on_other_weights_is_said(hub_cache, home, tmp_path, monkeypatch, lang):
    folder = taken(tmp_path / REVISION, BASE, sha256="0" * 64)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(folder))
    made = hub._import({"repo": "a/b"}, None)
    assert made["other_weights"]
    directory = jobs.create(paths.hub(), {"name": "a/b", "do": "import", "repo": "a/b"})
    jobs.run(directory, lambda *_: made)
    jobs.create(paths.hub(), {"name": "a/b", "do": "push", "repo": "me/waiting"})  # which has made nothing yet
    say = Say(lang)
    assert "me/waiting" in export_hub.shown(say)[0]
    assert say("hub.other_weights", base=BASE) in export_hub.shown(say)[0]
    base_identity.of(BASE).write(folder)
    assert not hub._import({"repo": "a/b"}, None)["other_weights"]


def test_go_on_from_an_imported_adapter_on_the_page_until_it_is_deleted(home, tmp_path, monkeypatch):
    say, card = Say("en"), {"id": "her/oil", "title": "oil", "base_model": BASE, "revision": "1"}
    folder = imported.write(taken(tmp_path / "oil", "elsewhere"), card)
    (title, start), *more = training_start.choices(say, [])[1:]
    assert (start, more) == (str(folder), [])
    assert title.endswith(": her/oil")
    base, rank = training_start.on_start(say, ["base_model", "lora_rank"], start)
    assert (base, rank) == (BASE, 4)
    assert export_hub.on_delete(say, None)[1].choices == [("her/oil", folder.name)]
    assert export_hub.on_delete(say, folder.name)[1].choices == []
    assert len(training_start.choices(say, [])) == 1
    asked = []
    monkeypatch.setattr(hub, "fetch", lambda *args: asked.append(args))
    export_hub.on_import(say, "her/oil", "token", " starter ")
    assert asked == [("her/oil", "token", "starter")]


def test_only_the_files_of_an_adapter_are_copied(home, tmp_path):
    for name in ("adapter_config.json", "tokenizer.json", "train.py", "tokens/a.txt"):
        (tmp_path / "snapshot" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "snapshot" / name).write_text("{}")
    card = {"id": "a/b", "title": "b", "base_model": BASE, "revision": "1"}
    made = imported.write(tmp_path / "snapshot", card)
    assert {file.name for file in made.iterdir()} == {"adapter_config.json", "tokenizer.json", imported.CARD}
    assert imported.write(tmp_path / "snapshot", card) == made
    other = imported.write(tmp_path / "snapshot", card | {"base_model": "her/base"})
    assert [known["base_model"] for _, known in imported.listed()].count("her/base") == 1
    assert other != made


@pytest.mark.parametrize(
    ("files", "trouble"),
    [
        ({"config.json": b"{}"}, "AdapterUnfit"),
        ({"adapter_config.json": b'{"peft_type": "LORA"}', "adapter_model.bin": b""}, "AdapterUnfit"),
        ({"adapter_config.json": b'{"peft_type": "IA3"}', "adapter_model.safetensors": b"x"}, "AdapterUnfit"),
        (
            {
                "adapter_config.json": b'{"peft_type": "LORA", "base_model_name_or_path": "C:\\\\models\\\\x"}',
                "adapter_model.safetensors": b"x",
            },
            "AdapterBaseUnknown",
        ),
    ],
)
def test_what_cannot_be_imported_is_said(files, trouble, fake_hub, home, tmp_path, monkeypatch):
    from huggingface_hub import snapshot_download

    folder = tmp_path / REVISION
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(folder))
    assert snapshot_download is not None
    with raises(trouble):
        hub._import({"repo": "a/b"}, None)


def test_an_adapter_that_asks_for_too_much_is_not_imported(home, tmp_path, monkeypatch):
    values = {"peft_type": "LORA", "base_model_name_or_path": "a/base", "r": 10**6}
    folder = lora(tmp_path / REVISION, [8, 4], values)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(folder))
    with pytest.raises(UserError, match="r is 1000000 and its weights have 8"):
        hub._import({"repo": "a/b"}, None)
    assert list(imported.listed()) == []


def test_an_adapter_is_checked_in_a_process_of_its_own_before_it_is_attached(tmp_path):
    directory = lora(tmp_path / "a", [8, 4], {"r": 10**6})
    with pytest.raises(UserError, match="r is 1000000") as caught:
        engine.attach_adapter(
            engine.Weights(None, None, frozenset()), chat_models.ChatModel("adapter:a", "adapter", "a", "b", directory)
        )
    assert caught.value.name == "AdapterUnsound"  # as it came from there


def test_an_error_without_words_of_its_own_has_the_name_of_its_class():
    assert hub._worded(OSError(" .\nmore"), {"do": "push", "repo": "a/b"}, None).values["reason"] == "OSError"


def test_a_name_that_the_hub_does_not_know_is_not_blamed_on_the_token():
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    for kind, status in ((RepositoryNotFoundError, 401), (RepositoryNotFoundError, 404), (GatedRepoError, 403)):
        error = kind("no", response=httpx.Response(status, request=httpx.Request("GET", "http://hub")))
        worded = hub._worded(error, {"do": "import", "repo": "a/b"}, None)
        assert worded.name == "AdapterNotThere"
        assert "not there, or closed to you" in str(worded)
    assert hub._worded(error, {"do": "push", "repo": "a/b"}, None).name == "HubTokenRefused"


def test_a_token_is_not_in_what_went_wrong():
    error = hub._worded(ValueError(f"bad header {TOKEN}"), {"do": "push", "repo": "a/b"}, TOKEN)
    assert TOKEN not in str(error)


def test_the_events_of_a_capsule_name_no_place(hub_run, tmp_path, home):
    events.append(paths.run(hub_run), "failed", trouble="JobFailed", message=f"see log.txt in {paths.run(hub_run)}")
    export.make(hub_run, "capsule", tmp_path / "capsule.zip", quiet)
    with zipfile.ZipFile(tmp_path / "capsule.zip") as archive, suppress(KeyError):
        assert str(home) not in archive.read("events.jsonl").decode()
        assert archive.read("base.json")
