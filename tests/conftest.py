"""Shared fixtures: a data directory of the test's own, a tiny model that is built here; `slow` and `gpu` are skipped unless asked."""

import gc
import os
import shutil
import tempfile
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

from core.errors import UserError

# Set before anything imports gradio or transformers: a test asks no host for anything.
os.environ.update(GRADIO_ANALYTICS_ENABLED="False", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
if "PYTEST_XDIST_WORKER" in os.environ:  # one of several processes: each with all the threads would wait for the others
    os.environ["OMP_NUM_THREADS"] = "1"


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the tests that take real weights, a browser or seconds")
    parser.addoption("--screenshots", metavar="DIR", help="keep the browser tests' pictures of the page")
    parser.addoption("--gpu", action="store_true", help="run the tests that take a graphics card")


def pytest_configure(config):
    if not getattr(config.option, "numprocesses", None):  # where the tests are read: importing takes half the time
        gc.disable()  # until pytest_collection_finish
    config.addinivalue_line("markers", "slow: takes real weights, a browser or seconds; run with --slow")
    config.addinivalue_line("markers", "gpu: takes a graphics card; run with --gpu")
    if config.getoption("--slow") and "CARD_LINES" not in os.environ:  # for tests/test_zz_card_guard.py
        os.environ["CARD_LINES"] = config.card_lines = tempfile.mkdtemp(prefix="card-lines-")


def pytest_unconfigure(config):
    if walk := getattr(config, "zoo_walk", None):
        walk.kill()
        walk.wait()
        config.zoo_folder.cleanup()
    if made := getattr(config, "card_lines", ""):
        shutil.rmtree(made, ignore_errors=True)


def pytest_collection_modifyitems(config, items):
    for marker in ("slow", "gpu"):
        if not config.getoption(f"--{marker}"):
            skip = pytest.mark.skip(reason=f"asked for with --{marker}")
            for item in items:
                if marker in item.keywords:
                    item.add_marker(skip)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Where .ci/run has installed a browser and a compiler, a test that is skipped for lack of one has failed."""
    report = yield
    if "SOULSMITH_CI" in os.environ and report.skipped and "apt-get install" in str(report.longrepr):
        report.outcome = "failed"
    return report


def slow_but(fast, values) -> list:
    """Values to parametrise a test with, all slow but some: one case shows a fault, the others its edges."""
    return [pytest.param(value, marks=[] if value in fast else [pytest.mark.slow]) for value in values]


def raises(*kinds: str | type[UserError], match: str | None = None):
    """pytest.raises for one of some errors, each by its class, or by its name where it has none."""
    names = [kind if isinstance(kind, str) else kind.__name__ for kind in kinds]
    return pytest.raises(UserError, match=match, check=lambda error: error.name in names)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Every test has a data directory of its own, with a space and Cyrillic in its name."""
    path = tmp_path / "дом soulsmith"
    monkeypatch.setenv("SOULSMITH_HOME", str(path))
    return path


CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WORDS = "sea lamp oil rope gull tide brass fog light storm keeper bread coffee window stair море лампа туман канат"


def encode_rows(rows: list[dict], tokenizer, config) -> tuple[list[dict], Counter]:
    """The pieces of all rows, and how many rows are cut or left out for which reason."""
    from core.training import encoding

    counted = Counter()
    return [piece for row in rows for piece in encoding.encode_pieces(row, tokenizer, config, counted)], +counted


@pytest.fixture(scope="session")
def tiny_tokenizer():
    return make_tiny_tokenizer()


def make_tiny_tokenizer():
    """A byte-level BPE tokenizer of 400 tokens with a ChatML template; its pad token is its end token, as in SmolLM2."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator([WORDS] * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|im_end|>", chat_template=CHATML
    )


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Path:
    """A folder of all of pytest's processes."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def made_once(path: Path, make) -> Path:
    """A file or folder that make(path) puts there, in whichever process comes first; the others wait for it."""
    from filelock import FileLock

    with FileLock(f"{path}.lock"):
        if not path.exists():
            unfinished = path.with_name(f"{path.name} unfinished")
            make(unfinished)
            unfinished.rename(path)
    return path


@pytest.fixture(scope="session")
def tiny_model(shared, tiny_tokenizer) -> str:
    """The directory of a Llama of about 150,000 parameters with random weights."""
    return str(made_once(shared / "tiny model", lambda path: save_tiny_model(path, tiny_tokenizer)))


def save_tiny_model(path: Path, tokenizer) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        initializer_range=0.15,  # at the usual 0.02 no hidden state of 64 numbers could tell one token from another
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)


def put_program(out: Path) -> None:
    """Put into a folder what a capsule has: train.py and the package that it runs."""
    import zipfile

    from core.training import program

    with zipfile.ZipFile(out / "program.zip", "w") as archive:
        program.write(archive)
    shutil.unpack_archive(out / "program.zip", out)


def chat_rows(count: int) -> list[dict]:
    """Chats of different lengths made of a few words, the same at every call."""
    import random

    words, draw = WORDS.split(), random.Random(1)
    return [
        {
            "messages": [
                {"role": "user", "content": " ".join(draw.choices(words, k=draw.randint(2, 6))) + "?"},
                {"role": "assistant", "content": " ".join(draw.choices(words, k=draw.randint(3, 12))) + "."},
            ]
        }
        for _ in range(count)
    ]


@pytest.fixture(scope="session")
def tiny_corpus(shared) -> str:
    """A JSONL file of 40 chats."""
    import json

    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in chat_rows(40))
    return str(made_once(shared / "rows.jsonl", lambda path: path.write_text(lines, encoding="utf-8")))


@contextmanager
def home_at(path: Path):
    """Another data directory for a while."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOULSMITH_HOME", str(path))
        yield


def begin_training(request) -> str:
    """Start the run of `trained` in whichever process comes first; its id."""
    from core.runs import runs
    from core.training.config import TrainConfig

    config = TrainConfig(
        base_model=request.getfixturevalue("tiny_model"),
        corpus=request.getfixturevalue("tiny_corpus"),
        method="lora",
        max_steps=6,
        eval_steps=3,
        learning_rate=0.01,
        precision="fp32",
    )
    shared = request.getfixturevalue("shared")
    with home_at(shared / "trained" / "дом"):
        begun = made_once(shared / "begun", lambda path: path.write_text(runs.start(config, "первый запуск")))
    return begun.read_text()


@pytest.fixture(scope="session", autouse=True)
def training_begun(request):
    """Where processes share the tests, the run of `trained` is trained while they are at others: it takes ten seconds."""
    wants = [item for item in request.session.items if "trained" in getattr(item, "fixturenames", ())]
    if "PYTEST_XDIST_WORKER" in os.environ and any(item.get_closest_marker("skip") is None for item in wants):
        begin_training(request)


@pytest.fixture(scope="session")
def trained(request, tmp_path_factory, shared):
    """A finished run of six steps, trained by a real worker and trainer: (home, run id). Read it, do not change it."""
    from filelock import FileLock

    from core.runs import runs

    run_id, home = begin_training(request), tmp_path_factory.mktemp("trained") / "дом"
    with home_at(shared / "trained" / "дом"):
        wait_for(run_id, "finished")
        with FileLock(runs.queue_lock()):  # its worker is gone
            shutil.copytree(shared / "trained" / "дом", home, ignore=shutil.ignore_patterns("*.lock"))
    return home, run_id


@pytest.fixture
def trained_run(trained, monkeypatch) -> str:
    """The id of the finished run, in a data directory where it is."""
    monkeypatch.setenv("SOULSMITH_HOME", str(trained[0]))
    return trained[1]


@pytest.fixture
def no_worker(monkeypatch):
    """Nobody takes what is queued: states can be looked at in peace."""
    from core.runs import runs

    monkeypatch.setattr(runs, "start_worker", lambda: None)


def wait_for(run_id: str, *states: str, seconds: float = 120) -> None:
    """Wait until a run is in one of the states; a run that ended otherwise fails with its last event."""
    import time

    from core import events, paths
    from core.runs import runs

    end = time.monotonic() + seconds
    while (now := runs.state(run_id)) not in states:
        if time.monotonic() > end or now in ("finished", "failed", "stopped", "lost"):
            log = paths.run(run_id) / "log.txt"
            tail = log.read_text(encoding="utf-8", errors="replace")[-2000:] if log.exists() else ""
            pytest.fail(f"the run is {now}, not {states}: {events.last(paths.run(run_id))}\n{tail}")
        time.sleep(0.05)


@pytest.fixture(scope="session")
def starter_home(tmp_path_factory):
    """A data directory in which the starter model is ready: one download for all slow tests.

    Nobody has prompts there, whose replies would take longer than the short trainings of the tests.
    """
    from core.models import models
    from core.runs import eval_samples

    home = tmp_path_factory.mktemp("starter") / "дом soulsmith"
    with home_at(home):
        models.prepare(models.STARTER)
        eval_samples.keep([])
    return home


def pytest_collection_finish(session):
    """Take what importing made out of the collector's sight: it looked through a million objects in every test.

    The families of the zoo begin now, in a process of their own: other tests use one core.
    """
    walked = [item for item in session.items if "zoo_walked" in getattr(item, "fixturenames", ())]
    families = [item.callspec.params["family"] for item in walked if not item.get_closest_marker("skip")]
    if families and not session.config.option.collectonly:
        from tests import zoo_walk

        session.config.zoo_folder = tempfile.TemporaryDirectory(prefix="zoo-")
        session.config.zoo_walk = zoo_walk.begin(Path(session.config.zoo_folder.name), families)
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def page(tmp_path_factory):
    """A client of the whole page's server, in all languages."""
    from starlette.testclient import TestClient

    import app

    with home_at(tmp_path_factory.mktemp("page") / "дом"), TestClient(app.build_server(None)) as client:
        yield client


@pytest.fixture(scope="session")
def english_page(tmp_path_factory):
    """The whole page in English, for windows of tests.page_session; made where nobody has anything yet."""
    import app
    from ui.text import Say

    with home_at(tmp_path_factory.mktemp("english page") / "дом"):
        return app.build_page(Say("en"))


@pytest.fixture(scope="session")
def page_config(page) -> dict:
    """{language: what the page tells a browser about its components}."""
    from ui.text import LANGUAGES

    return {lang: page.get("/config", headers={"accept-language": lang}).json() for lang in LANGUAGES}


@pytest.fixture
def zoo_walked(request):
    """A function that gives what a family can, from the process that walks them."""
    from tests import zoo_walk

    return lambda family: zoo_walk.result(family, request.config.zoo_walk)
