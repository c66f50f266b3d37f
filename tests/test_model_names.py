"""Names, configs and files of models: what people type is the model that is meant, or a sentence that helps."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from gguf import GGUFWriter

from core.errors import UserError
from core.estimate import __main__ as command
from core.estimate import catalogue, config_sources, errors
from core.estimate.setup import SUGGESTED
from core.estimate.shape import MOST_LAYERS, from_config, read_models
from tests.conftest import raises
from ui import calculator
from ui.text import Say

SAID = {
    "Qwen 1.8B": "Qwen/Qwen-1_8B",
    "qwen-1_8b": "Qwen/Qwen-1_8B",
    "Qwen 7B": "Qwen/Qwen-7B",
    "Qwen 14B": "Qwen/Qwen-14B",
    "Qwen 4B": "Qwen/Qwen1.5-4B",
    "Saiga 13B": "IlyaGusev/saiga2_13b_lora",
    "saiga 13": "IlyaGusev/saiga2_13b_lora",
    "13b saiga": "IlyaGusev/saiga2_13b_lora",
    "Сайга 13Б": "IlyaGusev/saiga2_13b_lora",
    "сайга 13 млрд": "IlyaGusev/saiga2_13b_lora",
    "Saiga 7B": "IlyaGusev/saiga_mistral_7b_lora",
    "saiga 30b": "IlyaGusev/saiga_30b_lora",
    "nemo saiga": "IlyaGusev/saiga_nemo_12b",
    "Mistral 7B": "mistralai/Mistral-7B-v0.1",
    "mistral 7b v0.3": "mistralai/Mistral-7B-v0.3",
    "Мистраль 7B": "mistralai/Mistral-7B-v0.1",
    "Мистраль 7В": "mistralai/Mistral-7B-v0.1",  # with a Cyrillic В
    "mistral small": "mistralai/Mistral-Small-24B-Base-2501",
    "mixtral": "mistralai/Mixtral-8x7B-v0.1",
    "qwen 3 8b": "Qwen/Qwen3-8B",
    "8B Qwen3": "Qwen/Qwen3-8B",
    "qwen2.5 7b instruct": "Qwen/Qwen2.5-7B",
    "qwen3 4b 2507": "Qwen/Qwen3-4B-Instruct-2507",
    "лама 8b": "meta-llama/Llama-3.1-8B",
    "llama 70b": "meta-llama/Llama-3.1-70B",
    "gemma 12b": "google/gemma-3-12b-pt",
    "phi 4": "microsoft/phi-4",
    "Т-лайт": "t-tech/T-lite-it-1.0",
    "яндексгпт": "yandex/YandexGPT-5-Lite-8B-pretrain",
    "deepseek r1 7b": "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
    "unsloth/Qwen2.5-7B": "Qwen/Qwen2.5-7B",
    "starter": "HuggingFaceTB/SmolLM2-135M",
    "t-pro": "t-tech/T-pro-it-1.0",
    "гигачат": "ai-sage/GigaChat-20B-A3B-base",
}


@pytest.mark.parametrize("name", SAID)
def test_a_name_is_the_model_that_is_meant(name):
    assert catalogue.shape(name).name == SAID[name]


@pytest.mark.parametrize(
    ("name", "hub_name"),
    [
        ("qwen2.5 7b instruct", "Qwen/Qwen2.5-7B-Instruct"),
        ("Qwen 1.8B", "Qwen/Qwen-1_8B"),
        ("unsloth/Qwen2.5-7B", "unsloth/Qwen2.5-7B"),
        ("starter", "starter"),
        ('{"model_type": "llama"}', ""),
    ],
)
def test_a_plan_names_the_model_as_the_hub_does(name, hub_name):
    assert catalogue.hub_name(name) == hub_name


@pytest.mark.parametrize(
    ("name", "trouble", "words"),
    [
        ("Saiga 1.3B", "NoSuchModel", "never published"),
        ("Сайга 1.3Б", "NoSuchModel", "Qwen/Qwen2.5-1.5B-Instruct"),
        ("saiga 1,3b", "NoSuchModel", "never published"),
        ("gemma 4", "ShapeUnknown", "google/gemma-4"),  # no gemma-3-4b
        ("GigaChat3", "ShapeUnknown", "ai-sage/GigaChat3"),
        ("Saiga 3B", "UnknownModel", r"The nearest: IlyaGusev/saiga\w*_7b_lora"),
        ("saiga", "AmbiguousModel", "IlyaGusev/saiga_nemo_12b"),
        ("llama", "AmbiguousModel", "Add the size"),
        ("7B", "UnknownModel", "nearest"),
        ("a\0b", "UnknownModel", "nearest"),
        ("x" * 5000, "UnknownModel", "nearest"),
        ("gpt-oss 20b", errors.NeedsTrace, "openai/gpt-oss-20b"),
        ("{bad", errors.NotJson, "from its first { to its last }"),
        ('{"a":' + "[" * 100_000, errors.NotJson, "no JSON"),
        ('{"model_type": "llamma"}', errors.UnknownArchitecture, "llama"),
        ('{"model_type": "qwen3_next"}', errors.NeedsTrace, "Check exactly"),
        ('{"model_type": "qwen3", "layer_types": ["linear_attention", "full_attention"]}', errors.NeedsTrace, "exact"),
        ('{"model_type": "qwen3_moe", "decoder_sparse_step": 2}', errors.NeedsTrace, "exact"),
    ],
)
def test_what_has_no_answer_is_refused_in_words(name, trouble, words):
    with raises(trouble, match=words):
        catalogue.shape(name)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"num_hidden_layers": "two"}, 'num_hidden_layers: "two". It must be a whole number from 1 to 1000'),
        ({"num_hidden_layers": MOST_LAYERS + 1}, "num_hidden_layers: 1001"),
        ({"hidden_size": 4096.5}, "hidden_size: 4096.5"),
        ({"hidden_size": 0}, "hidden_size: 0"),
        ({"vocab_size": -1}, "vocab_size: -1"),
        ({"vocab_size": True}, "vocab_size: true"),
        ({"num_key_value_heads": [1, 2]}, r"num_key_value_heads: \[1, 2\]"),
        ({"head_dim": {}}, "head_dim: {}"),
        ({"num_attention_heads": 10**30}, "num_attention_heads: 1000"),
    ],
)
def test_a_value_of_a_wrong_type_or_size_is_named(tmp_path, fields, words):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"} | fields))
    began = time.perf_counter()
    with raises("WrongInConfig", match=words):
        catalogue.shape(str(tmp_path))
    assert time.perf_counter() - began < 0.5


@pytest.mark.parametrize("field", ["tie_word_embeddings", "attention_bias", "mlp_bias"])
def test_a_truth_that_is_written_as_a_word_is_named(field):
    with raises("NotTrueOrFalse", match=f'{field}: "false". It must be true or false'):
        catalogue.shape(json.dumps({"model_type": "llama", field: "false"}))
    assert catalogue.shape(json.dumps({"model_type": "llama", field: None})).parameters == 6_738_415_616


def test_what_a_config_leaves_out_has_the_default_of_its_class():
    transformers = pytest.importorskip("transformers")
    for kind, ours in read_models()["defaults"].items():
        if kind == "qwen":  # never was in transformers
            continue
        made = transformers.AutoConfig.for_model(kind)
        for field, value in ours.items():
            assert (kind, field, getattr(made, field)) == (kind, field, value)
        shape = from_config({"model_type": kind}, kind)
        head_dim = getattr(made, "head_dim", None) or made.hidden_size // made.num_attention_heads
        kv_heads = getattr(made, "num_key_value_heads", None) or made.num_attention_heads
        sizes = made.num_hidden_layers, made.hidden_size, made.num_attention_heads, made.vocab_size
        assert (shape.layers, shape.hidden, shape.heads, shape.vocabulary) == sizes
        assert (shape.head_dim, shape.kv_heads, shape.tied) == (head_dim, kv_heads, made.tie_word_embeddings)


def test_a_pasted_config_of_a_model_that_sees_is_that_of_its_text_model():
    text = catalogue.config("google/gemma-3-4b-pt") | {"model_type": "gemma3_text"}
    pasted = {
        "model_type": "gemma3",
        "vision_config": {"hidden_size": 1152, "num_hidden_layers": 27},
        "text_config": text,
    }
    assert catalogue.shape(json.dumps(pasted, indent=1)).parameters == 3_880_263_168
    found = command.run(command.parser().parse_args(["--model", json.dumps(pasted)]))
    assert (found["model"], found["parameters"]) == ("config.json", 3_880_263_168)


@pytest.mark.parametrize("case", ["listcfg", "strcfg", "layers6", "nan", "empty", "cut"])
def test_a_folder_with_a_broken_config_is_refused_by_the_page_too(tmp_path, case):
    texts = {
        "listcfg": "[1,2]", "strcfg": '{"model_type": "llama", "num_hidden_layers": "two"}',
        "layers6": '{"model_type": "llama", "num_hidden_layers": 1000000}',
        "nan": '{"model_type": "llama", "hidden_size": NaN}', "empty": "", "cut": '{"model_type": "lla',
    }  # fmt: skip
    (tmp_path / "config.json").write_text(texts[case])
    with pytest.raises(UserError):
        catalogue.shape(str(tmp_path))
    html = calculator.on_ask(Say("ru"), **QUESTION, model=str(tmp_path))[0]
    assert "config.json" in html or str(tmp_path) in html


QUESTION = SUGGESTED | {
    "card": "RTX 4090", "memory_gb": None, "method": "qlora", "corpus": "", "tokens": "100М", "epochs": "3",
    "loss": "tiled", "target_modules": "all-linear", "optim": "adamw_torch", "attention": "sdpa", "precision": "auto",
    "gradient_checkpointing": True, "train_embeddings": False,
}  # fmt: skip


@pytest.mark.parametrize("fields", [{"target_modules": None}, {"target_modules": ""}, {"price": -5}])
def test_a_field_that_was_emptied_or_is_no_price_is_answered_in_words(fields):
    html = calculator.on_ask(Say("en"), **QUESTION | fields, model="starter")[0]
    assert "It has q_proj" in html or "must be a number x with x ≥ 0" in html


def test_the_page_plans_for_the_hub_s_name_and_not_for_a_pasted_config():
    def plan_of(model: str) -> dict:
        answer = calculator.on_ask(Say("en"), **QUESTION, model=model)
        return next(part for part in answer if isinstance(part, dict) and "base_model" in part)

    assert plan_of("Сайга 13Б")["base_model"] == "IlyaGusev/saiga2_13b_lora"
    state = plan_of('{"model_type": "llama"}')
    assert calculator.on_plan(Say("en"), state, "qlora", "RTX 4090", None, "auto")[0].startswith("A pasted config.json")


def test_the_header_of_a_gguf_file_of_experts_is_enough(tmp_path):
    writer = GGUFWriter(tmp_path / "moe.gguf", "qwen3moe")
    config = catalogue.config("Qwen/Qwen3-30B-A3B")
    writer.add_block_count(48)
    writer.add_embedding_length(2048)
    writer.add_feed_forward_length(6144)
    writer.add_head_count(32)
    writer.add_head_count_kv([4] * 48)  # a number for each layer, as some have
    writer.add_key_length(128)
    writer.add_expert_count(128)
    writer.add_expert_used_count(8)
    writer.add_expert_feed_forward_length(768)
    writer.add_context_length(40960)
    writer.add_vocab_size(config["vocab_size"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    shape = catalogue.shape(str(tmp_path / "moe.gguf"))
    assert (shape.kind, shape.experts, shape.kv_heads, shape.expert_inner) == ("qwen3_moe", 128, 4, 768)
    tied = catalogue.shape("Qwen/Qwen3-30B-A3B").parameters - config["vocab_size"] * 2048
    assert shape.parameters == tied  # the file has no tensors at all, so no head of its own


def test_the_header_of_a_gguf_file_of_a_hybrid_is_enough(tmp_path):
    known = catalogue.shape("Qwen/Qwen3.5-27B")
    writer = GGUFWriter(tmp_path / "hybrid.gguf", "qwen35")
    writer.add_block_count(known.layers)
    writer.add_embedding_length(known.hidden)
    writer.add_feed_forward_length(known.inner)
    writer.add_head_count(known.heads)
    writer.add_head_count_kv(known.kv_heads)
    writer.add_key_length(known.head_dim)
    writer.add_vocab_size(known.vocabulary)
    writer.add_ssm_conv_kernel(known.linear_kernel)
    writer.add_ssm_state_size(known.linear_key_dim)
    writer.add_ssm_group_count(known.linear_key_heads)
    writer.add_ssm_time_step_rank(known.linear_value_heads)
    writer.add_ssm_inner_size(known.linear_values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    shape = catalogue.shape(str(tmp_path / "hybrid.gguf"))
    assert (shape.kind, shape.kinds) == ("qwen3_5_text", known.kinds)
    assert shape.parameters == known.parameters - known.embedding  # no head of its own


CONFIG = {"model_type": "qwen2", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4,
          "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 1000}  # fmt: skip


class Hub(BaseHTTPRequestHandler):
    """What the hub answers for config.json: a model, an adapter on it, one behind terms, and none."""

    def do_HEAD(self):
        self.server.asked.append(self.path)
        name, _, file = self.path.removeprefix("/").partition("/resolve/main/")
        body = {
            ("me/model", "config.json"): CONFIG,
            ("me/adapter", "adapter_config.json"): {"base_model_name_or_path": "me/model"},
        }.get((name, file))
        refusal = {"me/gated": (403, "GatedRepo"), "me/adapter": (404, "EntryNotFound")}.get(
            name, (401, "RepoNotFound")
        )
        self.send_response(200 if body else refusal[0])
        content = json.dumps(body).encode() if body else b""
        if body:
            self.send_header("ETag", '"0123"')
            self.send_header("X-Repo-Commit", "0" * 40)
        else:
            self.send_header("X-Error-Code", refusal[1])
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return content

    def do_GET(self):
        self.wfile.write(self.do_HEAD())

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub on this machine, an empty cache, and nothing refused yet."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked = []
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(config_sources, "_refused", {})
    yield server
    server.shutdown()
    server.server_close()


def test_a_model_of_the_hub_is_fetched_once_and_answered_from_the_cache(hub, monkeypatch):
    catalogue.fetch("me/model")
    assert catalogue.shape("me/model").parameters == from_config(CONFIG, "me/model").parameters
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    asked = len(hub.asked)
    catalogue.fetch("me/model")
    assert (catalogue.shape("me/model").name, len(hub.asked)) == ("me/model", asked)


@pytest.mark.slow
def test_an_adapter_of_the_hub_is_its_base(hub):
    catalogue.fetch("me/adapter")
    assert catalogue.shape("me/adapter").hidden == 64


def test_a_folder_with_an_adapter_alone_is_its_base(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "Qwen/Qwen2.5-7B-Instruct"}')
    shape = catalogue.shape(str(tmp_path))
    assert (shape.name, shape.parameters) == (str(tmp_path), 7_615_616_512)


@pytest.mark.slow
def test_what_the_hub_refuses_is_said_and_not_asked_again_at_once(hub):
    with raises("ConfigGated", match="accepted its terms"):
        catalogue.fetch("me/gated")
    catalogue.fetch("me/none")
    with raises("UnknownModel"):
        catalogue.shape("me/none")
    asked = len(hub.asked)
    with raises("ConfigGated"):
        catalogue.fetch("me/gated")
    assert len(hub.asked) == asked


def test_a_hub_that_does_not_answer_is_said(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(config_sources, "PATIENCE", 1)
    html = calculator.on_ask(Say("en"), **QUESTION, model="me/model")[0]
    assert "the hub cannot be reached for its config.json" in html
