"""Nothing that a person types reaches a file that is not theirs, no pickle is opened, no code of the hub is run."""

import ast
from pathlib import Path

import pytest

from core import paths
from core.models import models
from tests.conftest import raises

ROOT = Path(__file__).parent.parent
SOURCES = sorted([ROOT / "app.py", *(ROOT / "core").rglob("*.py"), *(ROOT / "ui").rglob("*.py")])
OWN_PIPES = {"core/corpus/parallel.py"}  # what its own helper processes send back; never a file
TRICKS = (
    "", ".", "..", "../secret", "a/../../secret", "/etc/passwd", "C:\\Windows", "..\\secret", "\\\\host\\share", "//host/share",
    "a\x00b", ".hidden", "a/b", "link",
)  # fmt: skip


@pytest.mark.parametrize("name", TRICKS)
@pytest.mark.parametrize("place", [paths.run, paths.corpus])
def test_a_name_never_leads_out_of_the_house(home, tmp_path, place, name):
    (tmp_path / "secret").mkdir()
    for parent in (paths.runs(), paths.corpora()):
        (parent / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(paths.NotOurs):
        place(name)


def test_a_plain_name_stays_inside(home):
    assert paths.run("20260101-стихи") == home / "runs" / "20260101-стихи"


@pytest.mark.parametrize("weights", ["pytorch_model.bin", "model.pt", "model.pkl", "model.ckpt"])
def test_a_model_of_pickles_is_refused(tmp_path, weights):
    for file in ("config.json", "tokenizer.json", weights):
        (tmp_path / file).write_text("{}")
    with raises("NoWeights", match=r"\*\.safetensors is missing"):
        models.prepare(str(tmp_path))


def test_no_source_trusts_the_hub_s_code_or_opens_a_pickle():
    found = {path.relative_to(ROOT).as_posix() for path in SOURCES for _ in unsafe(path)}
    assert found - OWN_PIPES == set()


def unsafe(path: Path):
    """The lines of a source that would run what a file says."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        if {"pickle", "dill", "joblib", "shelve"} & {name.split(".")[0] for name in names}:
            yield node.lineno
        if not isinstance(node, ast.Call):
            continue
        called, given = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
        if given.get("trust_remote_code", "False") != "False" or called in ("eval", "exec"):
            yield node.lineno
        if called == "torch.load" and given.get("weights_only") != "True":
            yield node.lineno
