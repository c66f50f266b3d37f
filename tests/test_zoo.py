"""The zoo: a tiny model of every family is trained, talked to, merged and opened in plain PEFT, or refused in words."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.chat import chat_models, engine
from core.export import export, merging
from core.models import models
from core.training import adapters, attention_kernels, checks, devices, model_loading
from core.training.config import TrainConfig
from tests import pretended_card, zoo, zoo_walk
from tests.conftest import chat_rows, raises

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def let_go():
    yield
    engine.close()


@pytest.fixture(scope="session")
def animal(tmp_path_factory, tiny_tokenizer):
    """A function that gives the directory of a family's tiny model."""
    made = {}

    def of(family: str) -> str:
        if family not in made:
            made[family] = zoo.make(family, tmp_path_factory.mktemp("zoo") / family, tiny_tokenizer)
        return made[family]

    return of


@pytest.fixture(scope="session")
def few_rows(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("few") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in chat_rows(16)), encoding="utf-8")
    return str(path)


@pytest.fixture
def train(animal, few_rows, home):
    """A function that trains a family for two steps: (id of the run, its "model" event)."""

    def trained(family: str, method: str = "lora", **settings) -> tuple[str, dict]:
        return zoo_walk.train(animal(family), few_rows, method, **settings)

    return trained


@pytest.mark.slow
@pytest.mark.parametrize("family", zoo.TITLES)
def test_zoo_a_family_trains_talks_merges_and_opens_plainly(zoo_walked, family):
    assert zoo_walked(family) == zoo.can(family)


@pytest.mark.slow
@pytest.mark.parametrize("family", zoo.REFUSES_PACKING)
def test_zoo_packing_is_refused_before_weights_are_read(animal, few_rows, tiny_tokenizer, family):
    config = TrainConfig(base_model=animal(family), corpus=few_rows, method="lora", packing=True, max_length=64)
    with raises("PackingUnsupported", match="Switch packing off"):
        checks.check_model(config, tiny_tokenizer)


def test_the_table_of_the_readme_is_that_of_the_zoo():
    assert zoo.table() in (ROOT / "README.md").read_text(encoding="utf-8")
    assert zoo.TITLES.keys() == zoo.FAMILIES.keys()


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gemma3", "mistral3"])
def test_zoo_the_card_of_a_multimodal_adapter_opens_it(train, animal, family, tmp_path):
    run_id, _ = train(family)
    made, found = export.make(run_id, "adapter", tmp_path / "adapter", lambda *_, **__: None), {}
    assert ("AutoModelForImageTextToText" in made["lines"]) == (family == "mistral3")
    exec(made["lines"].replace(f"DIRECTORY OF {family}", animal(family)), found)
    one = chat_models.find(f"run:{run_id}")
    wanted = merging.logits(zoo_walk.opened_plainly(Path(one.config.base_model), one.weights), found["tokenizer"])
    assert merging.distance(merging.logits(found["model"].eval(), found["tokenizer"]), wanted) == 0


# ---------------------------------------------------------------------------------------------------------------------
# Experts


def adapter_of(animal, few_rows, family: str, **settings):
    settings = {"method": "lora", "lora_rank": 4} | settings
    config = TrainConfig(base_model=animal(family), corpus=few_rows, **settings)
    return adapters.add_adapter(model_loading.load_base(config), config)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen2_moe", "qwen3_moe", "mixtral", "gpt_oss", "deepseek_v3", "qwen3_next"])
def test_zoo_experts_have_adapters_and_the_router_has_none(animal, few_rows, family):
    model = adapter_of(animal, few_rows, family)
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert sum(".experts." in name for name in trained) >= 4
    assert [name for name in trained if ".gate." in name or "router" in name or "shared_expert_gate" in name] == []


@pytest.mark.slow
def test_zoo_dropout_goes_where_it_can_and_the_adapter_opens_again(animal, few_rows):
    import torch

    model = adapter_of(animal, few_rows, "qwen3_moe", lora_dropout=0.25)
    drops = {
        name: module.lora_dropout["default"]
        for name, module in model.named_modules()
        if hasattr(module, "lora_dropout")
    }
    shares = {getattr(drop, "p", 0.0) for name, drop in drops.items() if "experts" not in name}
    assert shares == {0.25}
    assert all(isinstance(drop, torch.nn.Identity) for name, drop in drops.items() if "experts" in name)
    assert model.peft_config["default"].lora_dropout == 0.0  # with another PEFT would not open it again
    assert adapter_of(animal, few_rows, "llama", lora_dropout=0.25).peft_config["default"].lora_dropout == 0.25


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"use_dora": True}, "use_dora is on. Set use_dora to off, or target_modules to q_proj"),
        ({"init_lora_weights": "pissa"}, "Set init_lora_weights to default"),
    ],
)
def test_zoo_what_experts_cannot_take_is_said(animal, few_rows, tiny_tokenizer, settings, words):
    config = TrainConfig(base_model=animal("qwen3_moe"), corpus=few_rows, method="lora", **settings)
    with raises("ExpertsTakePlainLora", match=words):
        checks.check_model(config, tiny_tokenizer)
    with raises("ExpertsTakePlainLora", match=words):
        adapters.add_adapter(model_loading.load_base(config), config)


@pytest.mark.slow
def test_zoo_two_adapters_around_experts_stand_side_by_side(train, animal):
    base = f"base:{animal('qwen3_moe')}"
    one, other = (f"run:{train('qwen3_moe', seed=seed)[0]}" for seed in (1, 2))
    alone = {id: zoo_walk.talk(id)[id].text for id in (one, other)}
    together = zoo_walk.talk(base, one, other)
    assert {id: together[id].text for id in (one, other)} == alone
    assert len(engine._opened) == 1


@pytest.mark.slow
def test_zoo_adapters_around_other_experts_have_a_base_each(train, animal):
    base = f"base:{animal('qwen3_moe')}"
    whole = f"run:{train('qwen3_moe')[0]}"
    named = f"run:{train('qwen3_moe', target_modules='q_proj,down_proj')[0]}"
    plain = f"run:{train('qwen3_moe', target_modules='q_proj,v_proj')[0]}"
    alone = {id: zoo_walk.talk(id)[id].text for id in (base, whole, named, plain)}
    together = zoo_walk.talk(base, whole, named, plain)
    assert {id: reply.text for id, reply in together.items()} == alone
    assert len(engine._opened) == 2


# ---------------------------------------------------------------------------------------------------------------------
# What is trained, and with which attention


@pytest.mark.slow
@pytest.mark.parametrize("family", ["mistral3", "gemma3", "gemma4"])
@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
def test_zoo_only_the_text_part_of_a_multimodal_model_is_trained(animal, few_rows, family, method):
    config = TrainConfig(base_model=animal(family), corpus=few_rows, method=method, lora_rank=4)
    base = model_loading.load_base(config)
    model = adapters.add_adapter(base, config)
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained
    assert all("language_model." in name or "lm_head" in name for name in trained)
    seen = any("vision" in name for name, _ in model.named_parameters())
    assert seen == (method == "full")  # all weights are saved, so all are there


@pytest.mark.slow
def test_zoo_each_class_says_which_attention_it_takes(animal, monkeypatch):
    import torch
    import transformers.utils

    monkeypatch.setattr(devices, "device_type", lambda: "cuda")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (8, 0))
    outlines = {family: model_loading.skeleton(model_loading.model_config(animal(family))) for family in zoo.TITLES}
    without = {family: attention_kernels.attention("bf16", base) for family, base in outlines.items()}
    assert {family for family, kind in without.items() if kind == "eager"} == {"gemma2", "gpt_oss", "mamba"}
    monkeypatch.setattr(transformers.utils, "is_flash_attn_2_available", lambda **_: True)
    refuse = {
        family for family, base in outlines.items() if attention_kernels.attention("bf16", base) != "flash_attention_2"
    }
    assert refuse == {"gemma3", "gemma4", "gpt_oss", "mamba"}
    assert {attention_kernels.flash_attention_lacks("bf16", outlines[family]) for family in refuse} == {"class"}
    outlines["llama"].config._attn_implementation_internal = "kernels-community/flash-attn2"  # as kernels names it
    assert attention_kernels.uses_flash_attention(outlines["llama"])
    outlines["llama"].config.head_dim = 512
    assert attention_kernels.flash_attention_lacks("bf16", outlines["llama"]) == "class"


@pytest.mark.slow
def test_zoo_four_bits_are_stored_for_sharding_under_a_launcher_only(animal, few_rows, monkeypatch):
    import torch

    config = TrainConfig(base_model=animal("llama"), corpus=few_rows, method="qlora", precision="fp32")
    weight = lambda: model_loading.load_base(config).model.layers[0].self_attn.q_proj.weight  # noqa: E731
    assert weight().dtype == torch.uint8
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert weight().dtype == torch.float32
    assert model_loading.load_base(config).num_parameters() == 118_208


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stored", "method", "words"),
    [
        ("quanto", "lora", r"stored in quanto, and method lora cannot begin with those \(methods that can: none\)"),
        ("gptq", "qlora", r"methods that can: lora\)"),
        ("fp8", "qlora", r"methods that can: lora, full"),
        ("bitsandbytes", "full", r"methods that can: lora, qlora"),
    ],
)
def test_zoo_weights_that_are_stored_quantised_are_refused_by_name(animal, few_rows, stored, method, words):
    config = TrainConfig(base_model=animal("llama"), corpus=few_rows, method=method)
    base = model_loading.skeleton(model_loading.model_config(config.base_model))
    base.config.quantization_config = {"quant_method": stored}
    with raises("StoredQuantized", match=words):
        model_loading.quantization(config, base)


@pytest.mark.slow
def test_zoo_a_hub_model_is_refused_before_its_weights_are_fetched(animal, few_rows, monkeypatch, tmp_path):
    """A hub that gives out what it is asked for: nobody asks it for weights."""
    import shutil
    from fnmatch import fnmatch

    import huggingface_hub

    from core.runs import trainer

    asked = []

    def snapshot_download(name, allow_patterns, **_):
        asked.extend(allow_patterns)
        target = tmp_path / "snapshot"
        target.mkdir(exist_ok=True)
        for file in Path(animal(name.split("/")[1])).iterdir():
            if any(fnmatch(file.name, pattern) for pattern in allow_patterns):
                shutil.copyfile(file, target / file.name)
        return str(target)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    config = TrainConfig(base_model="someone/mamba", corpus=few_rows, method="lora", packing=True, max_length=64)
    with raises("PackingUnsupported", match="Switch packing off"):
        trainer.local_config(config, lambda *_, **__: None)
    monkeypatch.setattr(model_loading, "auto_class", lambda shape: None)
    with raises("ArchitectureUnknown", match="of the kind mamba"):
        models.prepare("someone/mamba")
    assert "*.safetensors" not in asked


# ---------------------------------------------------------------------------------------------------------------------
# On the pretended card

CARD = """
import json, sys
from pathlib import Path
import pretended_torch
from core import paths
from core.runs import runs
from core.training import callbacks, training_loop
from core.training.config import TrainConfig
from core.chat import generation
from core.chat.types import Question, Sampling
from core.runs import eval_samples
from core.runs import forgetting

config, watched = TrainConfig(**json.loads(sys.argv[1])), sys.argv[2] == "1"
eval_samples.REPLY_TOKENS = forgetting.REPLY_TOKENS = 2
some = forgetting.questions()
some["items"], some["russian"] = some["items"][::16], some["russian"][:1]
said = {}

class Watcher(callbacks.Watcher):
    def on_evaluation(self, model, tokenizer, step):
        if watched:
            said.setdefault("samples", eval_samples.sample(model, tokenizer))
            said.setdefault("score", forgetting.measure(model, tokenizer)["score"])

pretended_torch.card.clear()
run = runs.create(config)
ending = training_loop.train(config, paths.run(run), report=lambda e, **v: said.setdefault(e, v), watcher=Watcher())
asked = {id: Question(id, [{"role": "user", "content": "lamp?"}]) for id in (f"base:{config.base_model}", f"run:{run}")}
*_, columns = generation.replies(asked, Sampling(max_new_tokens=2))
print(json.dumps({
    "attention": said["model"]["attention"], "lacks": said["model"]["flash_attention_lacks"],
    "precision": said["model"]["precision"], "loss": ending["eval_loss"], "samples": bool(said.get("samples")),
    "score": said.get("score"), "columns": len(columns), "mixed": pretended_torch.card.mixed(),
}))
"""


def on_card(config: dict, *, flash: bool, watched: bool = False, capability=(8, 0)) -> dict:
    """What a run and a chat with it say in a process with a pretended card."""
    environment = pretended_card.environment(capability, flash=flash)
    environment["SOULSMITH_HOME"] = os.environ["SOULSMITH_HOME"]
    command = [sys.executable, "-c", CARD, json.dumps(config), str(int(watched))]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def settings(animal, few_rows, family: str, **more) -> dict:
    steps = {"max_steps": 2, "eval_steps": 2, "max_length": 128, "lora_rank": 4, "learning_rate": 0.01}
    return {"base_model": animal(family), "corpus": few_rows} | steps | more


needs_card = pytest.mark.skipif(bool(pretended_card.missing()), reason=pretended_card.missing() or "-")


@pytest.mark.slow
@needs_card
@pytest.mark.parametrize(
    ("family", "flash", "attention", "lacks"),
    [
        ("llama", True, "flash_attention_2", ""),
        ("gemma2", True, "flash_attention_2", ""),
        ("gemma2", False, "eager", "package"),
        ("qwen3_moe", True, "flash_attention_2", ""),
        ("mistral3", True, "flash_attention_2", ""),
        ("gemma3", True, "sdpa", "class"),
        ("gpt_oss", True, "eager", "class"),
    ],
)
def test_zoo_a_family_trains_and_talks_on_a_pretended_card(animal, few_rows, home, family, flash, attention, lacks):
    found = on_card(settings(animal, few_rows, family, method="qlora"), flash=flash)
    assert (found["attention"], found["lacks"], found["columns"]) == (attention, lacks, 2)
    assert found["mixed"] == []


@pytest.mark.slow
@needs_card
@pytest.mark.parametrize("options", [{"method": "full"}, {"method": "lora", "train_embeddings": True}])
@pytest.mark.parametrize("packing", [False, True])
def test_what_is_trained_in_fp32_is_watched_with_flash_attention_on_a_pretended_card(
    animal, few_rows, home, options, packing
):
    """Probes, evaluations, the sample replies and the forgetting meter compute as the training does."""
    found = on_card(settings(animal, few_rows, "llama", packing=packing, **options), flash=True, watched=True)
    assert (found["attention"], found["precision"], found["samples"]) == ("flash_attention_2", "bf16", True)
    assert found["score"] < 0


@pytest.mark.slow
@needs_card
def test_zoo_experts_and_softcaps_train_in_fp16_on_a_pretended_card(animal, few_rows, home):
    for family in ("qwen3_moe", "gemma2"):
        config = settings(animal, few_rows, family, method="full")
        found = on_card(config, flash=False, watched=True, capability=(7, 5))
        assert (found["precision"], found["lacks"]) == ("fp16", "capability")
