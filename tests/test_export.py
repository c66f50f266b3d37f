"""Exports: an adapter that plain libraries load, a merge that is measured, GGUF files that reply as the model does."""

import json
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import gradio as gr
import pytest

from core import errors, events, jobs, paths
from core.chat import chat_models, engine
from core.export import adapters, export, gguf_export, gguf_file, gguf_tokenizer, merging, quantizer
from core.models import model_files, models
from core.runs import runs
from core.training import base_weights
from core.training.config import TrainConfig
from tests.conftest import chat_rows, raises
from tests.page_session import Session
from ui import export as ui_export
from ui.text import Say

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def let_go():
    yield
    engine.close()


def quiet(*_, **__) -> None:
    """A report to nobody."""


@pytest.mark.slow
def test_an_adapter_is_loaded_by_the_lines_of_its_card(trained_run, tmp_path):
    made = export.make(trained_run, "adapter", tmp_path / "мой adapter", quiet)
    assert sorted(zipfile.ZipFile(made["zip"]).namelist()) == [
        f"мой adapter/{name}"
        for name in (
            "README.md",
            "adapter_config.json",
            "adapter_model.safetensors",
            "base.json",
            "chat_template.jinja",
            "tokenizer.json",
            "tokenizer_config.json",
        )
    ]
    model = chat_models.find(f"run:{trained_run}")
    assert adapters.lines(model, "мой adapter") in (tmp_path / "мой adapter" / "README.md").read_text(encoding="utf-8")
    found: dict = {}
    base = runs.config(trained_run).base_model
    exec(made["lines"].replace("DIRECTORY OF tiny model", base), found)
    assert len(made["lines"].splitlines()) == 3
    merged = tmp_path / "merged"
    export.make(trained_run, "merged", merged, quiet)
    wanted = merging.logits(merging.load(merged), found["tokenizer"])
    assert merging.distance(merging.logits(found["model"].eval(), found["tokenizer"]), wanted) < 1e-5


def test_a_capsule_holds_all_that_trains_again_and_no_secret(trained_run, tmp_path, monkeypatch):
    secrets = ("hf_planted_in_the_environment", "sk-planted-too")
    monkeypatch.setenv("HF_TOKEN", secrets[0])
    monkeypatch.setenv("SOULSMITH_API_KEY", secrets[1])
    export.make(trained_run, "capsule", tmp_path / "capsule.zip", quiet)
    with zipfile.ZipFile(tmp_path / "capsule.zip") as archive:
        held = {name: archive.read(name) for name in archive.namelist() if not name.startswith("accelerate/")}
    program = {name: held.pop(name) for name in list(held) if name.startswith("training/")}
    assert list(held) == [
        "train.py",
        "config.json",
        "requirements.txt",
        "README.md",
        "base.json",
        "events.jsonl",
        "adapter-card.md",
        "corpus.jsonl",
    ]
    carried = [file for file in (ROOT / "core" / "training").iterdir() if file.suffix in (".py", ".json")]
    assert program == {f"training/{file.name}": file.read_bytes() for file in carried}
    first = [{**event, "model": ""} for event in events.read(paths.run(trained_run))[0]]
    assert [{**json.loads(line), "model": ""} for line in held["events.jsonl"].splitlines()] == first
    assert len(held["corpus.jsonl"].splitlines()) == 40
    assert b"36 rows to learn from, 4 held out" in held["adapter-card.md"]
    assert b"torch==" in held["requirements.txt"]
    assert not any(secret.encode() in content for secret in secrets for content in held.values())


def test_a_merge_is_measured_and_can_speak(trained_run, home):
    directory = jobs.create(paths.exports(), {"name": "x", "run": trained_run, "kind": "merged"})
    made = export.make(trained_run, "merged", directory / "merged", quiet)
    assert made["precision"] == "float32"
    assert made["difference"] < 1e-5
    assert f"merged:{directory.name}" in [one.id for one in chat_models.listed()]
    shutil.rmtree(directory)


def test_a_merge_that_speaks_differently_is_refused(trained_run, tmp_path, monkeypatch):
    load = merging.load

    def damaged(directory):
        model = load(directory)
        if Path(directory).name.endswith("unfinished"):
            model.get_output_embeddings().weight.data.mul_(-1)
        return model

    monkeypatch.setattr(merging, "load", damaged)
    with raises("MergeDiffers", match=r"its logits differ by .*Nothing was written"):
        export.make(trained_run, "merged", tmp_path / "merged", quiet)
    assert list(tmp_path.glob("merged*")) == []
    with raises("MergeDiffers"):
        merging.check(float("nan"), 1)


@pytest.fixture(params=["llama", "mistral", "qwen2", "qwen3"])
def family(request, tmp_path, tiny_tokenizer) -> Path:
    """A tiny model of each family, its matrices as wide as q8_0's blocks need."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        request.param,
        vocab_size=len(tiny_tokenizer) + 3,  # rows that no token has, as in Qwen
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=256,
        tie_word_embeddings=request.param in ("llama", "qwen2"),
        initializer_range=0.15,
        eos_token_id=tiny_tokenizer.eos_token_id,
        pad_token_id=tiny_tokenizer.pad_token_id,
    )
    model = AutoModelForCausalLM.from_config(config)
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            weight.data.normal_(std=0.5)
    model.half().float().save_pretrained(tmp_path / request.param)  # an f16 file rounds nothing and changes no reply
    tiny_tokenizer.save_pretrained(tmp_path / request.param)
    return tmp_path / request.param


ROWS = ([], chat_rows(8), "held_out")


def asked() -> list[dict]:
    """Questions with answers, as rows."""
    return [
        {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "It is so."}]}
        for text in merging.PROMPTS
    ]


@pytest.mark.slow
def test_gguf_files_reply_as_the_model_does(family, tiny_tokenizer):
    files = gguf_export.write_files("имя", family, family, ("f16", "q8_0"), ROWS, quiet)
    assert [one["file"] for one in files] == ["имя-f16.gguf", "имя-q8_0.gguf"]
    assert (files[0]["changed"], files[0]["replies"]) == (0, 8)
    assert files[0]["kl"] < 1e-5
    assert files[1]["kl"] < 1e-2
    import gguf

    fields = gguf.GGUFReader(family / "имя-q8_0.gguf").fields
    architecture = fields["general.architecture"].contents()
    assert architecture == {"mistral": "llama"}.get(family.name, family.name)
    assert fields["tokenizer.chat_template"].contents() == tiny_tokenizer.chat_template
    assert fields["tokenizer.ggml.eos_token_id"].contents() == tiny_tokenizer.eos_token_id
    assert fields["tokenizer.ggml.pre"].contents() == "gpt-2"
    assert fields["tokenizer.ggml.tokens"].contents()[-3:] == [f"[PAD{len(tiny_tokenizer) + at}]" for at in range(3)]
    assert fields[f"{architecture}.attention.head_count_kv"].contents() == 2


@pytest.mark.slow
def test_gguf_files_of_a_run_come_with_a_modelfile(trained_run, tmp_path):
    made = export.make(trained_run, "gguf", tmp_path / "gguf", quiet, ("f16", "q8_0"))
    name = paths.slug(runs.label(trained_run)["name"])
    made_files = [path.relative_to(tmp_path / "gguf").as_posix() for path in (tmp_path / "gguf").rglob("*.*")]
    assert sorted(made_files) == [
        "README.md",
        f"soulsmith/{name}/{name}-f16.gguf",
        f"soulsmith/{name}/{name}-q8_0.gguf",
    ]
    assert made["files"][0]["kl"] < 1e-4
    assert made["measured_on"] == {"rows": 4, "from": "held_out"}
    notes, modelfile = (tmp_path / "gguf" / "Modelfile").read_text(encoding="utf-8").split("FROM ")
    assert notes.splitlines()[0].startswith(
        f"# {name}-f16.gguf: 0 MB, {made['files'][0]['changed']} of 4 greedy replies changed, KL "
    )
    assert modelfile == (
        f'./{made["chosen"]}\nPARAMETER stop "<|im_end|>"\nPARAMETER temperature 0.7\nPARAMETER top_p 0.9\n'
        'PARAMETER top_k 50\nPARAMETER repeat_penalty 1.1\nPARAMETER num_ctx 1024\nTEMPLATE """{{ range .Messages }}'
        '{{ if eq .Role "user" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n'
        '{{ else if eq .Role "assistant" }}<|im_start|>assistant\n{{ .Content }}<|im_end|>\n'
        "{{ else }}<|im_start|>system\n{{ .Content }}<|im_end|>\n{{ end }}{{ end }}<|im_start|>assistant\n"
        '"""\n'
    )


@pytest.mark.slow
def test_a_file_that_speaks_differently_is_refused(family, tiny_tokenizer, monkeypatch):
    right = quantizer.quantize
    monkeypatch.setattr(quantizer, "quantize", lambda data, kind, weights=None: right(-data, kind, weights))
    with raises("GgufDiffers", match=r"(embed_tokens|lm_head).weight differs by 200.00% and at most 0.10%"):
        gguf_export.write_files("x", family, family, ("f16",), ROWS, quiet)


def test_other_families_and_tokenizers_are_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma3"}))
    with raises("GgufFamily", match=r"this model is gemma3. .*convert_hf_to_gguf.py"):
        gguf_file.check(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"type": "Unigram"}}))
    with raises("GgufTokenizer", match="Export the model merged"):
        gguf_file.check(tmp_path)


@pytest.mark.parametrize(
    ("before", "name"),
    [
        (
            [
                {"type": "Split", "pattern": {"Regex": gguf_tokenizer.LLAMA3_SPLIT}},
                {"type": "ByteLevel", "use_regex": False},
            ],
            "llama-bpe",
        ),
        ([{"type": "Digits", "individual_digits": True}, {"type": "ByteLevel", "use_regex": True}], "smollm"),
        ([{"type": "ByteLevel"}], "gpt-2"),
    ],
)
def test_ways_to_split_have_their_names(tmp_path, before, name):
    values = {"model": {"type": "BPE"}, "pre_tokenizer": {"type": "Sequence", "pretokenizers": before}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    assert gguf_tokenizer.kind(tmp_path) == name


def test_llama_3_s_slow_frequencies_are_stretched():
    """As transformers computes them."""
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rope = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0}
    rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    config = LlamaConfig(hidden_size=512, num_attention_heads=4, max_position_embeddings=131072, rope_parameters=rope)
    wanted, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    factors = gguf_file._rope_factors(config.to_dict())
    plain = 1 / 500000.0 ** (gguf_file.np.arange(0, 128, 2) / 128)
    assert (plain / factors) == pytest.approx(wanted.numpy(), rel=1e-5)


def test_a_full_disk_is_said_before_the_work(trained_run, monkeypatch):
    monkeypatch.setattr(models.shutil, "disk_usage", lambda _: type("Disk", (), {"free": 1000}))
    for kind in export.KINDS:
        with pytest.raises(models.DiskFull, match="GB are needed"):
            export.start(trained_run, kind)
    assert jobs.listed(paths.exports()) == []


def test_what_a_gguf_export_needs_is_known_before_it_is_made(trained_run, monkeypatch):
    monkeypatch.setattr(models.shutil, "disk_usage", lambda _: type("Disk", (), {"free": 1000}))
    base = Path(runs.config(trained_run).base_model)
    size, weights = model_files.size(base), model_files.count(base)
    needs = export.needs(trained_run, "gguf", ("f16", "q8_0"))
    files = {"f16": 2 * weights, "q8_0": int(weights * 34 / 32)}
    whole = export.SLACK + size + sum(files.values())
    assert needs == {"bytes": whole, "free": 1000, "merged": size, "files": files, "seconds": None}
    assert export.needs(trained_run, "merged") == needs | {"bytes": export.SLACK + size, "files": {}}
    # An export of one file, q8_0, that took 50 seconds for a million weights.
    directory = jobs.create(paths.exports(), {"name": "x", "run": trained_run, "kind": "gguf"})
    made = {"files": [{"file": "x-q8_0.gguf", "kind": "q8_0", "bytes": 34 * 1_000_000 // 32}], "path": "", "bytes": 1}
    (directory / "job.json").write_text(json.dumps(jobs.request(directory) | {"created": time.time() - 50}))
    events.append(directory, "finished", **made)
    assert export.needs(trained_run, "gguf", ("f16", "q8_0"))["seconds"] == pytest.approx(2 * 50e-6 * weights, rel=0.1)


@pytest.mark.parametrize("lang", ["en", "ru"])
def test_the_page_says_what_an_export_needs_and_warns_of_a_full_disk(trained_run, monkeypatch, lang):
    say, base = Say(lang), Path(runs.config(trained_run).base_model)
    whole, size = export.needed_bytes(trained_run, "gguf", ("q8_0",)), say.size(model_files.size(base), "mb")
    for free, key in ((whole, "export.needs"), (whole - 1, "export.needs.full")):
        monkeypatch.setattr(models.shutil, "disk_usage", lambda _, free=free: type("Disk", (), {"free": free}))
        said = ui_export.on_need(say, trained_run, "gguf", ["q8_0"])
        assert said.startswith(say(key, need=say.size(whole, "mb"), free=say.size(free, "mb")))
        assert say("export.needs.merged", merged=size) in said
        assert f"Q8_0 {say.size(model_files.count(base) * 34 // 32, 'mb')}" in said
        capsule = say.size(export.needed_bytes(trained_run, "capsule"), "mb")
        assert capsule in ui_export.on_need(say, trained_run, "capsule", ["q8_0"])
    monkeypatch.setattr(chat_models, "ready_base_directory", lambda _: None)
    unknown = ui_export.on_need(say, trained_run, "gguf", ["q8_0"])
    assert unknown == say("export.needs.unknown", free=say.size(whole - 1, "mb"))
    assert ui_export.on_need(say, None, "gguf", []) == ""


def test_what_an_export_needs_stands_on_the_page_as_it_is_chosen(trained_run):
    say = Say("en")
    with gr.Blocks() as page:
        loaded = ui_export.build(say)
        page.load(loaded["load"], loaded["inputs"], loaded["outputs"])
    session = Session(page)
    session.open()
    capsule = say.size(export.needed_bytes(trained_run, "capsule"), "mb")
    assert any(text.startswith(f"Needs {capsule} of disk") for text in session.texts())
    session.put(session.find("radio", label=say("export.kind")), "gguf")
    session.put(session.find("checkboxgroup", label=say("export.files")), ["f16"])
    (said,) = (text for text in session.texts() if text.startswith("Needs "))
    assert "The files, at most: F16, not rounded" in said
    assert "Q8_0" not in said


def test_a_capsule_says_how_to_compare_its_base(trained_run, tmp_path):
    """By train.py itself, and by the command of its README, which prints the same."""
    export.make(trained_run, "capsule", tmp_path / "capsule.zip", quiet)
    with zipfile.ZipFile(tmp_path / "capsule.zip") as archive:
        archive.extractall(tmp_path)
    base = shutil.copytree(runs.config(trained_run).base_model, tmp_path / "base")
    readme = (tmp_path / "README.md").read_text(encoding="utf-8")
    command = next(line.strip() for line in readme.splitlines() if "sha256sum" in line)
    assert 'prints the "sha256" of base.json.' in readme
    recorded = json.loads((tmp_path / "base.json").read_text(encoding="utf-8"))["sha256"]
    if shutil.which("sha256sum"):
        assert subprocess.check_output(command, shell=True, cwd=base, text=True).split()[0] == recorded
    same = {"same": True, "recorded": recorded, "here": recorded}
    assert base_weights.compared(str(base), tmp_path) == same
    with (base / "model.safetensors").open("ab") as weights:
        weights.write(b" ")
    other = base_weights.compared(str(base), tmp_path)
    assert (other["same"], other["recorded"]) == (False, recorded)
    assert other["here"] not in ("", recorded)
    assert base_weights.compared("nobody/nothing", tmp_path) is None
    assert base_weights.compared(str(base), tmp_path / "base") is None


def test_what_does_not_fit_into_memory_is_said_before_the_work(trained_run, tmp_path, monkeypatch):
    import psutil

    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1000}))
    for kind in ("merged", "gguf"):
        with raises("NoRoom", match="Choose fewer models, or close other programs"):
            export.make(trained_run, kind, tmp_path / kind, quiet)
    assert list(tmp_path.glob("[mg]*")) == []


def test_what_lies_at_the_place_of_an_export_is_never_replaced(trained_run, tmp_path):
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "novel.txt").write_text("call me")
    for kind in export.KINDS:
        with raises("PlaceTaken", match=r"There is something in .*documents already"):
            export.make(trained_run, kind, tmp_path / "documents", quiet)
    assert [path.name for path in tmp_path.rglob("*")] == ["documents", "novel.txt"]
    (tmp_path / "empty").mkdir()
    export.make(trained_run, "adapter", tmp_path / "empty", quiet)
    with raises("PlaceTaken"):
        export.make(trained_run, "adapter", tmp_path / "empty", quiet)
    export.make(trained_run, "capsule", tmp_path / "new folder" / "capsule.zip", quiet)


def test_a_deleted_run_cannot_be_exported(home):
    with pytest.raises(runs.RunGone):
        export.start("nothing", "adapter")


def test_an_export_through_a_base_that_is_gone_is_refused_at_once(trained_run, home, monkeypatch, tiny_corpus):
    """And nothing is downloaded for that: it is the page that asks."""
    adapter = paths.run(trained_run) / "adapter"
    monkeypatch.setenv("SOULSMITH_HOME", str(home))
    asked = []
    monkeypatch.setattr(models, "prepare", asked.append)
    gone, hub = (
        runs.create(TrainConfig(base_model=name, corpus=tiny_corpus, method="lora"), "сирота")
        for name in (str(home / "gone"), "somebody/some-model")
    )
    for run_id in (gone, hub):
        shutil.copytree(adapter, paths.run(run_id) / "adapter")
    for kind in ("merged", "gguf"):
        with raises("BaseGone", match="gone is gone, and сирота needs it"):
            export.start(gone, kind)
        export.check(hub, kind, home)
    assert asked == []


def test_a_whole_model_needs_no_merge(trained_run, home, monkeypatch, tiny_model, tiny_corpus):
    monkeypatch.setenv("SOULSMITH_HOME", str(home))
    run_id = runs.create(TrainConfig(base_model=tiny_model, corpus=tiny_corpus, method="full"))
    shutil.copytree(tiny_model, paths.run(run_id) / "model")
    with raises("NothingToMerge", match="is a whole model already"):
        export.start(run_id, "merged")


@pytest.mark.slow
def test_exports_are_jobs_and_commands(trained_run, home, monkeypatch, tmp_path):
    import time

    directory = export.start(trained_run, "capsule")
    for _ in range(300):
        if jobs.state(directory) not in ("queued", "running"):
            break
        time.sleep(0.2)
    assert jobs.state(directory) == "finished"
    assert zipfile.is_zipfile(directory / "capsule.zip")
    jobs.delete(directory)
    command = [sys.executable, "-m", "core.export", trained_run, "--as", "adapter", str(tmp_path / "out"), "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["kind"] == "adapter"


@pytest.mark.slow
def test_the_starter_as_gguf_replies_as_it_did(starter_home, monkeypatch, tmp_path):
    """The real weights: f16 word for word; q8_0 is rounded and is held to its logits."""
    monkeypatch.setenv("SOULSMITH_HOME", str(starter_home))
    directory = models.starter_directory()
    gguf_file.check(directory)
    files = gguf_export.write_files("starter", directory, tmp_path, ("f16", "q8_0"), ([], asked(), "questions"), quiet)
    assert files[0]["changed"] == 0
    assert files[0]["kl"] < 1e-4
    assert files[1]["kl"] < 5e-3


def test_the_table_of_exports_shows_names_and_errors_as_text(home):
    done, broken = (jobs.create(paths.exports(), {"name": name, "run": "r", "kind": "gguf"}) for name in ("<b>a", "b"))
    jobs.run(done, lambda *_: {"path": "/<i>", "bytes": 12_300_000})

    def fail(*_):
        raise errors.named("JobGone", job="<u>")

    jobs.run(broken, fail)
    table = ui_export.draw(Say("ru"), None)[0]
    assert [tag for tag in ("<b>", "<i>", "<u>") if tag in table] == []
    assert "&lt;b&gt;a" in table
    assert "12,3\u00a0МБ" in table
    assert "Задания &lt;u&gt; нет" in table


def test_no_button_for_exports_is_there_before_an_export_is(home):
    chosen, stop, delete = ui_export.draw(Say("ru"), None)[1:4]
    assert (chosen.visible, stop.visible, delete.visible) == ("hidden", False, False)
    jobs.run(
        jobs.create(paths.exports(), {"name": "a", "run": "r", "kind": "gguf"}), lambda *_: {"path": "/a", "bytes": 1}
    )
    chosen, stop, delete = ui_export.draw(Say("ru"), None)[1:4]
    assert (chosen.visible, stop.visible, delete.visible) == (True, False, True)
