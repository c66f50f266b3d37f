"""GGUF files below 8 bits: the types of their tensors, the measures, and what they say before they are used."""

import json
import shutil

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type

from core import jobs, paths
from core.chat import engine
from core.export import export, fidelity, gguf_export, gguf_file, merging, ollama, quantizer
from core.runs import runs
from core.training import encoding
from core.training.config import TrainConfig
from tests.conftest import chat_rows, make_tiny_tokenizer, raises
from ui import export as ui_export
from ui.text import Say

needs_engine = pytest.mark.skipif(not quantizer.is_here(), reason="llama.cpp has no wheel for this machine")


def quiet(*_, **__) -> None:
    """A report to nobody."""


@pytest.fixture(autouse=True)
def let_go():
    yield
    engine.close()


@pytest.fixture(scope="module")
def wide(tmp_path_factory, tiny_tokenizer):
    """The directory of a tiny Llama whose rows super-blocks of 256 numbers divide."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tiny_tokenizer),
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.08,
        eos_token_id=tiny_tokenizer.eos_token_id,
        pad_token_id=tiny_tokenizer.pad_token_id,
    )
    directory = tmp_path_factory.mktemp("wide") / "model"
    LlamaForCausalLM(config).half().float().save_pretrained(directory)  # what f16 keeps: near logits stay in order
    tiny_tokenizer.save_pretrained(directory)
    return directory


@pytest.mark.slow
@needs_engine
@pytest.mark.parametrize("kind", [kind for kind in Type if kind in quantizer.ERRORS and kind > Type.F16])
def test_each_type_rounds_no_more_than_is_allowed(kind):
    import gguf

    draw = np.random.default_rng(0)
    data, weights = draw.normal(size=(37, 512)).astype(np.float32), draw.chisquare(1, 512).astype(np.float32)
    read = gguf.quants.dequantize(quantizer.quantize(data, kind, weights), kind)
    error = np.linalg.norm(read - data) / np.linalg.norm(data)
    assert quantizer.ERRORS[kind] / 6 < error < quantizer.ERRORS[kind]


@needs_engine
def test_importance_keeps_the_columns_that_matter():
    import gguf

    data, weights = np.random.default_rng(0).normal(size=(64, 512)).astype(np.float32), np.ones(512, np.float32)
    weights[::8] = 100  # one in each group of numbers that share a scale

    def error(weights) -> float:
        read = gguf.quants.dequantize(quantizer.quantize(data, Type.IQ3_S, weights), Type.IQ3_S)
        return float(np.linalg.norm((read - data)[:, ::8]))

    assert error(weights) < 0.9 * error(np.ones(512, np.float32))


def test_tensors_get_the_types_that_a_kind_says():
    def kind_of(name, kind, columns=512, tied=False):
        return quantizer.tensor_type(name, [256, columns], kind, 24, tied)

    assert kind_of("blk.0.attn_q.weight", "q4_k_m") == Type.Q4_K
    assert [kind_of(f"blk.{layer}.ffn_down.weight", "q4_k_m") for layer in (0, 3, 4, 5, 22)] == [
        *(Type.Q6_K, Type.Q4_K, Type.Q4_K, Type.Q6_K, Type.Q6_K)
    ]
    assert kind_of("output.weight", "iq3_s") == Type.Q6_K
    assert kind_of("token_embd.weight", "q4_k_m", tied=True) == Type.Q6_K
    assert [kind_of("blk.9.attn_q.weight", kind, 576) for kind in ("q6_k", "q5_k_m", "q4_k_m", "iq4_xs", "iq2_s")] == [
        *(Type.Q8_0, Type.Q5_1, Type.Q5_0, Type.IQ4_NL, Type.IQ4_NL)
    ]
    assert kind_of("blk.9.attn_q.weight", "q4_k_m", 40) == Type.F16
    assert quantizer.tensor_type("output_norm.weight", [256], "q4_k_m", 24, False) == Type.F32


@pytest.mark.slow
@needs_engine
def test_files_are_measured_and_the_best_is_named(wide):
    kinds = ("f16", "q8_0", "q6_k", "q4_k_m", "iq3_xxs")
    rows = (chat_rows(40)[8:], chat_rows(8), "held_out")
    files = gguf_export.write_files("w", wide, wide, kinds, rows, quiet)
    assert [file["kind"] for file in files] == list(kinds)
    sizes, divergences = ([file[name] for file in files] for name in ("bytes", "kl"))
    assert sizes == sorted(sizes, reverse=True)
    assert divergences == sorted(divergences)
    assert files[0]["changed"] == 0
    assert files[-1]["changed"] > 0
    assert gguf_export.best(files)["changed"] == 0
    import gguf

    fields = gguf.GGUFReader(wide / "w-q4_k_m.gguf").fields
    assert fields["general.file_type"].contents() == gguf.LlamaFileType.MOSTLY_Q4_K_M
    assert fields["soulsmith.tensor_types"].contents() == "19 Q4_K, 7 F32, 4 Q6_K"  # Q6_K: both ends, layer 2


@pytest.mark.slow
@needs_engine
def test_llama_cpp_opens_each_kind(wide, tiny_tokenizer, tmp_path):
    from tests.test_llama_cpp import Engine

    for kind in quantizer.KINDS:
        gguf_file.write(wide, tiny_tokenizer, tmp_path / f"{kind}.gguf", kind, quiet, _ones(wide))
        said = Engine(tmp_path / f"{kind}.gguf").greedy(merging.prompts(tiny_tokenizer)[0])
        assert 0 < len(said) <= fidelity.REPLY_TOKENS


def _ones(directory) -> dict:
    return {t.name: np.ones(t.shape[-1], np.float32) for t in gguf_file.tensors_of(directory, "q4_k_m")}


def test_the_divergence_is_that_of_the_distributions(wide, tiny_tokenizer):
    """Against the definition, on another model."""
    import torch

    model, other = merging.load(wide).float(), merging.load(wide).float()
    with torch.no_grad():
        other.lm_head.weight.mul_(1.1)
    rows = chat_rows(3)
    reference = fidelity.Reference(model, tiny_tokenizer, rows)
    wanted, count = 0.0, 0
    for row in fidelity.encoded(rows, tiny_tokenizer):
        ids = torch.tensor([row["input_ids"]])
        with torch.inference_mode():
            p, q = (one(ids).logits[0, :-1].softmax(-1) for one in (model, other))
        learned = torch.tensor(row["labels"][1:]) >= 0
        wanted += float((p * (p / q).log()).sum(-1)[learned].sum())
        count += int(learned.sum())
    assert reference.compare(other)["kl"] == pytest.approx(wanted / count, rel=0.01)
    assert reference.compare(model) == {"kl": 0.0, "changed": 0, "replies": 3}


def test_importance_is_the_mean_square_of_what_a_layer_reads(wide, tiny_tokenizer):
    import torch

    model = merging.load(wide).float()
    rows = fidelity.encoded(chat_rows(4), tiny_tokenizer)
    read = []
    hook = model.lm_head.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0][0]))
    found = fidelity.importance(model, rows)
    hook.remove()
    assert torch.from_numpy(found["lm_head.weight"]) == pytest.approx(torch.cat(read).square().mean(0), rel=1e-4)
    assert len(found) == 3 * 7 + 1


def test_a_missing_quantiser_is_said_with_the_command(trained_run, monkeypatch):
    monkeypatch.setattr(quantizer, "_engine", lambda: None)
    with raises("QuantizerMissing", match=r"q4_k_m are rounded .* -m pip install xllamacpp"):
        export.start(trained_run, "gguf", ("q8_0", "q4_k_m"))
    assert quantizer.usual() == ("f16", "q8_0")
    with raises("GgufKindUnknown", match="There is no kind q9"):
        export.start(trained_run, "gguf", ("q9",))


def test_without_its_corpus_a_run_is_measured_on_questions(home, monkeypatch, tiny_model, tiny_tokenizer, tmp_path):
    from core.chat import chat_models

    monkeypatch.setenv("SOULSMITH_HOME", str(home))
    corpus = tmp_path / "rows.jsonl"
    corpus.write_text("".join(json.dumps(row) + "\n" for row in chat_rows(12)))
    run_id = runs.create(TrainConfig(base_model=tiny_model, corpus=str(corpus), method="full", validation_share=0.2))
    (paths.run(run_id) / "model").mkdir()
    model = chat_models.find(f"run:{run_id}")
    assert [len(part) for part in fidelity.rows_of(model, tiny_tokenizer)[:2]] == [10, 2]
    assert fidelity.rows_of(model, tiny_tokenizer)[2] == "held_out"
    for rows in ("", "".join(json.dumps({"messages": row["messages"][:1]}) + "\n" for row in chat_rows(12))):
        corpus.write_text(rows)  # in none of which anything is learned
        assert fidelity.rows_of(model, tiny_tokenizer)[2] == "questions"
    corpus.unlink()
    for template in (tiny_tokenizer.chat_template, None):
        monkeypatch.setattr(tiny_tokenizer, "chat_template", template)
        learned, held_out, source = fidelity.rows_of(model, tiny_tokenizer)
        assert (len(held_out), source) == (fidelity.HELD_OUT_ROWS, "questions")
        assert len(fidelity.encoded(learned, tiny_tokenizer)) == len(learned) > 0
    monkeypatch.setattr(tiny_tokenizer, "chat_template", "{{ raise_exception('no') }}")
    with raises("NothingToMeasure", match="refuses them all"):
        fidelity.rows_of(model, tiny_tokenizer)


def test_replies_that_begin_late_are_measured_too(tiny_tokenizer):
    asked, reply = [{"role": "user", "content": "lamp " * 600}], [{"role": "assistant", "content": "storm."}]
    late = {"messages": asked + reply}
    pair = {"messages": [*asked, {"role": "assistant", "content": "sea"}, *asked], "chosen": reply, "rejected": reply}
    for row, sides in ((late, 1), (pair, 2)):
        found = fidelity.encoded([row], tiny_tokenizer)
        assert len(found) == sides
        for one in found:
            assert len(one["input_ids"]) <= fidelity.ROW_TOKENS
            assert "storm" in tiny_tokenizer.decode([label for label in one["labels"] if label >= 0])
            assert "sea" not in tiny_tokenizer.decode([label for label in one["labels"] if label >= 0])


def test_a_pair_is_asked_by_all_its_messages(tiny_tokenizer):
    turns = [{"role": role, "content": role} for role in ("user", "assistant", "user")]
    row = {"messages": turns, "chosen": turns[1:2], "rejected": turns[1:2]}
    wanted = encoding.prompt_ids(turns, tiny_tokenizer)
    assert fidelity._prompt(row, tiny_tokenizer) == wanted[-fidelity.ROW_TOKENS :]


@pytest.mark.parametrize("lang", ["en", "ru"])
def test_quantised_files_are_written_unmeasured_where_memory_is_short(home, monkeypatch, tiny_model, tmp_path, lang):
    from core.chat import chat_models

    run_id = runs.create(TrainConfig(base_model=tiny_model, corpus=str(tmp_path / "gone.jsonl"), method="full"))
    shutil.copytree(tiny_model, paths.run(run_id) / "model")
    model = chat_models.find(f"run:{run_id}")
    monkeypatch.setattr(engine, "free_bytes", lambda _: 1000)
    monkeypatch.setattr(gguf_export, "read", lambda *_: pytest.fail("it would not fit"))
    with raises("ImportanceMissing", match="iq2_xs needs to know"):
        gguf_export.write(model, tmp_path, quiet, ("q8_0", "iq2_xs"))
    directory = jobs.create(paths.exports(), {"name": "x", "run": run_id, "kind": "gguf"})
    (out := directory / "gguf").mkdir()
    made = gguf_export.write(model, out, quiet, ("f16", "q8_0"))
    assert [set(file) for file in made["files"]] == [{"file", "kind", "bytes"}] * 2
    assert made["chosen"].endswith("-f16.gguf")
    assert "MB, not measured" in (out / "Modelfile").read_text(encoding="utf-8")
    assert "The files were not compared with the merged model" in (out / "README.md").read_text(encoding="utf-8")
    jobs.run(directory, lambda *_: made | {"path": str(out), "bytes": 1})
    say, html = Say(lang), ui_export.on_open(Say(lang), directory.name)
    assert html.index(say("export.unmeasured", need=say.size(made["unmeasured"]["need"]), free=say.size(1000))) > 0
    assert html.count("download>") == 4


@needs_engine
def test_a_kind_that_needs_importance_says_so():
    for kind in quantizer.NEED_IMPORTANCE:
        with raises("ImportanceMissing", match="was not measured"):
            quantizer.quantize(np.ones((2, 256), np.float32), kind)


@pytest.mark.parametrize("lang", ["en", "ru"])
def test_an_export_that_changes_replies_says_so_before_its_files(home, lang):
    files = [
        {
            "file": "soulsmith/x/x-q8_0.gguf",
            "kind": "q8_0",
            "bytes": 9_000_000,
            "kl": 0.0012,
            "changed": 2,
            "replies": 16,
        },
        {
            "file": "soulsmith/x/x-iq2_s.gguf",
            "kind": "iq2_s",
            "bytes": 3_000_000,
            "kl": 0.9,
            "changed": 11,
            "replies": 16,
        },
    ]
    directory = jobs.create(paths.exports(), {"name": "x", "run": "r", "kind": "gguf"})
    (directory / "gguf" / "soulsmith" / "x").mkdir(parents=True)
    for file in files:
        (directory / "gguf" / file["file"]).write_bytes(b"GGUF")
    made = {"path": str(directory / "gguf"), "bytes": 12_000_000, "files": files, "chosen": files[0]["file"]}
    jobs.run(directory, lambda *_: made | {"measured_on": {"rows": 16, "from": "held_out"}})
    html = ui_export.on_open(Say(lang), directory.name)
    warning = html.index('role="alert"')
    assert warning < html.index(f"/exports/{directory.name}/soulsmith/x/x-q8_0.gguf")
    assert ("2 of 16", "2 из 16")[lang == "ru"] in html[warning : warning + 300]
    assert ("11 of 16", "11 из 16")[lang == "ru"] in html


TEMPLATES = {
    "chatml": (True, ""),
    "llama3": (True, ""),
    "qwen3": (True, ""),
    "qwen2.5": (True, "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."),
    "gemma": (False, ""),
    "mistral-v0.1": (False, ""),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_ollama_writes_a_chat_as_the_model_s_template_does(name):
    """Read by a reader of its own of the part of Go's language that is used."""
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = (paths.assets() / "templates" / f"{name}.jinja").read_text()
    template, system, hears_system = ollama.chat_template(tokenizer)
    assert (hears_system, system) == TEMPLATES[name]
    messages = [{"role": role, "content": text} for role, text in (("user", "a"), ("assistant", "b"), ("user", "c"))]
    for chat in (messages, [{"role": "system", "content": "s"}, *messages] if hears_system else messages[:1]):
        shown = [{"role": "system", "content": system}, *chat] if system and chat[0]["role"] != "system" else chat
        wanted = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        assert _go(template, shown) == wanted


def _go(template: str, messages: list[dict]) -> str:
    import re

    inner, after = re.fullmatch(r"\{\{ range \.Messages \}\}(.*)\{\{ end \}\}(.*)", template, re.DOTALL).groups()
    branches, rest = {}, inner.removesuffix("{{ end }}")
    parts = re.split(r'\{\{ (?:else )?if eq \.Role "(\w+)" \}\}', rest)
    last, _, other = parts[-1].partition("{{ else }}")
    branches = dict(zip(parts[1::2], [*parts[2:-1:2], last], strict=True)) | {"system": other}
    return "".join(branches[one["role"]].replace("{{ .Content }}", one["content"]) for one in messages) + after


def test_a_template_that_ollama_cannot_write_is_said(tmp_path, tiny_model):
    import shutil

    shutil.copytree(tiny_model, tmp_path / "m")
    template = paths.assets() / "templates" / "mistral-v0.3.jinja"
    shutil.copyfile(template, tmp_path / "m" / "chat_template.jinja")
    written = ollama.modelfile(tmp_path / "m", "x.gguf", ["a note"])
    assert written.startswith("# a note\nFROM ./x.gguf\n")
    assert "TEMPLATE" not in written
    assert "cannot be written in Ollama's language" in written
