"""The design's own guards: who may import whom, form and config alike, the exported train.py."""

import ast
import json
import os
import re
import subprocess
import sys
import zipfile
from dataclasses import fields
from functools import cache
from pathlib import Path

import gradio as gr
import pytest

from core import events, paths
from core.export import export
from core.runs import runs
from core.training import errors as training_errors
from core.training.config import TrainConfig
from tests.conftest import made_once
from ui import training_form
from ui.errors import Refused
from ui.text import ENGLISH, LANGUAGES, LOCALES, Say

BY_NAME = ("named", "errors.named", "TemplateWrong", "TrainingError")  # raise an error by the name of its sentence
SENTENCES = LOCALES["en"]["errors"] | training_errors.sentences()

ROOT = Path(__file__).parent.parent
SOURCES = sorted([ROOT / "app.py", *(ROOT / "core").rglob("*.py"), *(ROOT / "ui").rglob("*.py")])


COMMANDS = [
    "arena",
    "chat",
    "check_card",
    "corpus",
    "demo",
    "estimate",
    "export",
    "hardware",
    "models",
    "prompt_search",
    "runs",
    "serve",
    "synth",
    "trainer",
    "chat.profiles",
    "export.hub",
]
# One fresh interpreter for three questions: a start of one takes seconds.
FRESH = """
import contextlib, importlib, io, json, runpy, sys

core, commands = json.loads(sys.argv[1])
for name in core:
    importlib.import_module(name)
found = {"core": sorted({name.split(".")[0] for name in sys.modules})}
import app

app.build_server("en")
found |= {"page": sorted({name.split(".")[0] for name in sys.modules}), "help": {}}
for name in commands:
    sys.argv, out = [name, "--help"], io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        runpy.run_module(f"core.{name}", run_name="__main__")
    found["help"][name] = out.getvalue()[:6]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def fresh(shared) -> dict:
    """A fresh interpreter: modules loaded with core alone, then with the page, and how each command's help begins."""

    def ask(path: Path) -> None:
        modules = [f"core.{path.stem}" for path in (ROOT / "core").glob("*.py") if path.stem != "__init__"]
        modules += [f"core.{path.parent.name}" for path in (ROOT / "core").glob("*/__init__.py")]
        modules += ["core.models.models", "core.models.tokenizer"]
        command = [sys.executable, "-W", "ignore", "-c", FRESH, json.dumps([modules, COMMANDS])]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        path.write_text(done.stdout.splitlines()[-1], encoding="utf-8")

    return json.loads(made_once(shared / "fresh.json", ask).read_text(encoding="utf-8"))


def test_core_works_without_gradio(fresh):
    assert not set(fresh["core"]) & {"gradio", "plotly", "torch", "transformers", "ui"}
    assert "core" in fresh["core"]


def test_the_page_opens_without_torch(fresh):
    assert not set(fresh["page"]) & {"torch", "transformers", "peft", "datasets"}
    assert "gradio" in fresh["page"]


@pytest.mark.slow
def test_every_command_explains_itself(fresh):
    assert fresh["help"] == dict.fromkeys(COMMANDS, "usage:")


def test_core_never_names_the_page():
    named = {
        path.relative_to(ROOT): name
        for path in (ROOT / "core").rglob("*.py")
        for name in imported(path)
        if name.split(".")[0] in ("ui", "gradio", "plotly", "app")
    }
    assert named == {}


@cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    """Everything in a module's source, the module first."""
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


@cache
def imported(path: Path) -> list[str]:
    nodes = nodes_of(path)
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


SHARED = (
    "buttons",
    "text",
    "cards",
    "plots",
    "pages",
    "model_choices",
    "temp_files",
    "errors",
    "templates",
    "run_view",
    "run_html",
    "run_learned",
    "run_plots",
)


def test_a_tab_never_imports_another_tab():
    """A module of ui/ knows words, plots, the view of a run and the parts of its own tab, which begin with its name."""
    strangers = {
        (path.stem, name)
        for path in (ROOT / "ui").glob("*.py")
        for name in imported(path)
        if name.startswith("ui.") and name.split(".")[1] not in SHARED
        if name.split(".")[1].split("_")[0] != path.stem.split("_")[0]
    }
    assert strangers == set()


def test_notices_are_escaped_in_one_place():
    """gr.Info and gr.Warning take their text for HTML; ui/errors escapes what it quotes."""
    bare = re.compile(r"gr\.(Info|Warning)\(")
    found = [path.name for path in (ROOT / "ui").glob("*.py") if bare.search(path.read_text(encoding="utf-8"))]
    assert found == ["errors.py"]


def test_a_refusal_on_the_page_prints_no_traceback():
    loud = [path.name for path in (ROOT / "ui").glob("*.py") if "raise gr.Error(" in path.read_text(encoding="utf-8")]
    assert loud == []
    assert not Refused("no").print_exception
    assert (Refused("no").duration, Refused("no", duration=3).duration) == (10, 3)


def test_what_a_capsule_carries_imports_nothing_of_ours():
    files = (ROOT / "core" / "training").glob("*.py")
    assert not [name for file in files for name in imported(file) if name.split(".")[0] in ("core", "ui")]


def test_the_form_has_the_fields_of_the_config():
    with gr.Blocks():
        form, _ = training_form.build(Say("en"))
    assert set(form) - {"name"} == {field.name for field in fields(TrainConfig)}


def test_every_field_is_labelled_and_explained():
    for field in fields(TrainConfig):
        assert f"training.{field.name}" in ENGLISH
        assert f"training.{field.name}.info" in ENGLISH


@pytest.mark.slow
def test_the_exported_train_py_repeats_the_run(trained_run, tmp_path):
    with zipfile.ZipFile(export.capsule(trained_run, tmp_path / "capsule.zip")) as archive:
        archive.extractall(tmp_path / "empty")
    settings = tmp_path / "empty" / "config.json"  # the base is not on the hub: the README asks for its directory
    placed = json.loads(settings.read_text()) | {"base_model": runs.config(trained_run).base_model}
    settings.write_text(json.dumps(placed))
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "SOULSMITH"))}
    done = subprocess.run(
        [sys.executable, "train.py", "config.json"],
        cwd=tmp_path / "empty",
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    again = [json.loads(line) for line in done.stdout.splitlines()]
    first = events.read(paths.run(trained_run))[0]

    def losses(seen):
        return [(e["step"], e.get("loss"), e.get("eval_loss")) for e in seen if e["event"] in ("step", "eval")]

    assert losses(again) == losses(first)
    assert (tmp_path / "empty" / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize("lang", [lang for lang in LANGUAGES if lang != "en"])
def test_a_language_says_everything_with_the_same_values(lang):
    words = LOCALES[lang]["words"]
    assert words.keys() == ENGLISH.keys()
    assert [key for key, sentence in words.items() if not sentence or values(sentence) != values(ENGLISH[key])] == []


def values(sentence: str) -> set[str]:
    return set(re.findall(r"{(\w*)[^}]*}", sentence))


def test_every_error_has_a_russian_sentence_with_known_values():
    russian = LOCALES["ru"]["errors"]
    found = {name: template for path in SOURCES for name, template in troubles(path)} | SENTENCES
    assert set(found) - set(russian) == set()
    for name, template in found.items():
        assert values(russian[name]) <= values(template), name


def test_an_error_without_a_class_is_raised_with_the_values_of_its_sentence():
    wrong = {}
    for name, given in (call for path in SOURCES for call in named(path)):
        if given != values(SENTENCES.get(name, "{unknown}")):
            wrong[name] = given
    assert wrong == {}


def named(path: Path):
    """(name, names of the values) of every error of a file that is raised by a name that is written there."""
    for node in nodes_of(path):
        is_call = isinstance(node, ast.Call) and ast.unparse(node.func) in BY_NAME
        if is_call and node.args and isinstance(node.args[0], ast.Constant):
            yield node.args[0].value, {keyword.arg for keyword in node.keywords}


def test_every_sentence_of_an_error_is_of_one_that_is_raised():
    used = set()
    for node in (node for path in SOURCES for node in nodes_of(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            used.add(node.value)  # of named(), at once or by a variable
        elif isinstance(node, ast.Name | ast.Attribute):
            used.add(node.id if isinstance(node, ast.Name) else node.attr)
    assert {lang: set(locale["errors"]) - used for lang, locale in LOCALES.items()} == {"en": set(), "ru": set()}


def test_no_two_errors_have_one_name():
    """A sentence is found by the class's name."""
    names = [
        *LOCALES["en"]["errors"],
        *training_errors.sentences(),
        *(name for path in SOURCES for name, _ in troubles(path)),
    ]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def troubles(path: Path):
    """(class name, English template) of every class of a file that has a template of its own."""
    for node in nodes_of(path):
        if isinstance(node, ast.ClassDef) and node.name != "UserError":
            for line in node.body:
                if isinstance(line, ast.Assign) and getattr(line.targets[0], "id", "") == "template":
                    yield node.name, ast.literal_eval(line.value)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the pretended card is compiled on Linux only")
def test_a_test_that_is_skipped_for_lack_of_a_compiler_fails_in_the_ci():
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        "0",
        "--slow",
        "-k",
        "rate",
        "tests/test_pretended_card_page.py",
    ]
    environment = os.environ | {"PATH": "", "SOULSMITH_CI": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.returncode, "the pretended card needs g++" in done.stdout, "1 error" in done.stdout) == (1, True, True)


def test_every_module_says_what_it_is():
    assert [str(path) for path in SOURCES if not ast.get_docstring(nodes_of(path)[0])] == []
