"""Every line that asks for cuda, mps or xpu is reached by a walk on the pretended card, or listed here with the reason.

The walks are all tests with pretended_card in their names; what their processes reach is written down by
tests/pretended_card/site/card_lines.py. The file's name lets it come last.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import pretended_card

ROOT = Path(__file__).parent.parent
SOURCES = sorted([ROOT / "app.py", *(ROOT / "core").rglob("*.py"), *(ROOT / "ui").rglob("*.py")])
APPLE = "of Apple's GPU: not run on such hardware"
INTEL = "of Intel's cards: not run on such hardware"
AMD = "of AMD's cards: not run on such hardware"
NO_KERNELS = "after an error of a kernel that torch lacks; tests/test_training_loop.py raises it"
REFUSED = "of a precision that the device lacks; tests/test_recipe_options.py asks for it"
UNASKED = "asked of Apple's chips alone, which answer before it; tests/test_hardware.py asks the others"
PROCESSOR = "of the free memory of a processor, which no walk asks for"
CONVOLVES = "of families that convolve, which no walk trains on the card"
UNSEEN = "for a card that torch does not see; tests/test_run_card.py has them"
OUTDATED = "for a torch or a package that is too old; tests/test_run_card.py has them"
TYPED = "of a memory that a person types; tests/test_cards.py types it"
# {(file, line of source): why no walk can reach it here}. An entry that is gone or is reached makes the test fail.
NOT_RUN = {
    (
        "core/training/devices.py",
        "return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()",
    ): APPLE,
    ("core/training/devices.py", "return round(torch.mps.driver_allocated_memory() / 2**30, 3)"): APPLE,
    ("core/training/devices.py", "return torch.backends.mps.is_macos_or_newer(14, 0)"): APPLE,
    (
        "core/hardware/other_gpus.py",
        'return (Gpu(name, total, min(total, memory.available), 0.0, 0.0, uuid="apple", kind="mps", memory="shared"),)',
    ): APPLE,
    (
        "core/hardware/other_gpus.py",
        'return Gpu(name, gib * GIB, gib * GIB, 0.0, 0.0, uuid=_address(device), kind="xpu")',
    ): INTEL,
    ("core/hardware/gpu.py", 'return self.kind != "cuda" or self.compute_capability >= 8.0'): UNASKED,
    ("core/training/devices.py", 'if kind == "mps":'): PROCESSOR,
    ("core/estimate/cards.py", 'if card.kind == "mps":'): TYPED,
    (
        "core/training/checks.py",
        'return devices.device_type() not in ("cuda", "xpu") or find_spec("fla") is None',
    ): CONVOLVES,
    (
        "core/hardware/torch_build.py",
        'repair = mend(gpu, driver_cuda) if gpu and gpu.kind != "mps" else None',
    ): OUTDATED,
    (
        "core/runs/trainer.py",
        "return torch_build.without_code(name, needed, torch.__version__, nvidia.driver().cuda).error",
    ): NO_KERNELS,
    (
        "core/check_card/advice.py",
        "arguments = torch_build.upgrade(arguments, hardware.card(), nvidia.driver().cuda)",
    ): OUTDATED,
    (
        "core/check_card/advice.py",
        'return (gpu and torch_build.mend(gpu, nvidia.driver().cuda).command) or "pip install --force-reinstall torch"',
    ): OUTDATED,
    (
        "core/check_card/advice.py",
        'blind = {"cuda": "TorchSeesNoCard", "mps": "MetalNotSeen"}.get(gpu.kind, "CardNotPermitted")',
    ): UNSEEN,
    (
        "core/check_card/advice.py",
        "if gpu and torch_build.upgrade(newer, gpu, nvidia.driver().cuda) == newer[:1]:",
    ): OUTDATED,
    ("core/training/devices.py", 'needed = torch.cuda.get_device_properties().gcnArchName.split(":")[0]'): AMD,
    ("core/training/devices.py", "if backend is not torch.xpu:"): INTEL,
    ("core/training/checks.py", 'if kind == "mps":'): REFUSED,
    (
        "core/training/checks.py",
        'raise TrainingError("NoBf16" if kind == "cuda" else "NoBf16TakesFp32", card=devices.device_name())',
    ): REFUSED,
}


def asking_lines() -> dict[tuple[str, str], set[tuple[str, int]]]:
    """{(file, line of source): statements (file, first line) that must be reached for it} of all that asks."""
    card_lines = _card_lines()
    found: dict = {}
    for path in SOURCES:
        source, name = path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix()
        for line, head in card_lines.asking(source).items():
            found.setdefault((name, source.split("\n")[line - 1].strip()), set()).add((name, head))
    return found


def _card_lines():
    folder = str(Path(pretended_card.__file__).parent / "site")
    sys.path.append(folder)
    try:
        import card_lines
    finally:
        sys.path.remove(folder)
    return card_lines


def reached() -> set[tuple[str, int]]:
    files = Path(os.environ["CARD_LINES"]).glob("*.txt")
    lines = [line.rpartition(" ") for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return {(name, int(number)) for name, _, number in lines}


def compared(lines: dict, seen: set, listed: set) -> tuple[list, list]:
    """Lines that are neither reached nor listed, and entries of the list that are reached or gone."""
    unreached = {line for line, statements in lines.items() if statements - seen}
    return sorted(unreached - listed), sorted(listed - unreached)


def walks() -> set[str]:
    """The names of all tests that walk the card."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in ROOT.glob("tests/test_*.py")]
    names = {node.name for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef)}
    return {name for name in names if name.startswith("test_") and "pretended_card" in name}


def test_lines_that_ask_are_found_by_their_tokens():
    source = (
        '"""A module about cuda."""\n\n\ndef f(kind):\n    """On mps."""  # on xpu\n'
        '    if kind == "cuda":\n        return torch.cuda.get(\n            "xpu:0",\n        )\n'
        '    words = """first\n    cuda error"""\n    cuda = "CUDA {cuda}"\n    return (cudart, "x-cuda12", words)\n'
    )
    assert _card_lines().asking(source) == {6: 6, 7: 7, 8: 7, 11: 10}


@pytest.mark.slow
def test_a_process_notes_the_statements_that_ask_before_they_run(tmp_path):
    code = "from core.training import devices; devices.device_type(); from core.estimate import cards"
    site = Path(pretended_card.__file__).parent / "site"
    code = f"import sys; sys.path.insert(0, {str(site)!r}); import card_lines; card_lines.install(); {code}"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"CARD_LINES": str(tmp_path)}, check=True)
    seen = {line.rpartition(" ")[0] for file in tmp_path.iterdir() for line in file.read_text().splitlines()}
    assert seen >= {"core/training/devices.py", "core/estimate/cards.py"}


def test_a_line_that_nobody_reaches_and_an_entry_that_is_gone_are_named():
    lines = {("a.py", "x"): {("a.py", 1), ("a.py", 5)}, ("a.py", "y"): {("a.py", 2)}, ("b.py", "z"): {("b.py", 3)}}
    seen, listed = {("a.py", 1), ("a.py", 2)}, {("b.py", "z"), ("a.py", "y"), ("a.py", "gone")}
    assert compared(lines, seen, listed) == ([("a.py", "x")], [("a.py", "gone"), ("a.py", "y")])


@pytest.mark.slow
def test_every_line_that_asks_for_a_card_is_reached_on_a_pretended_card(request):
    config, me = request.config, request.node.name
    if pretended_card.missing():
        pytest.skip(pretended_card.missing())
    if hasattr(config, "workerinput"):
        pytest.skip("the walks are spread over several processes: run it with -n 0")
    ran = {getattr(item, "originalname", item.name) for item in request.session.items}
    if absent := walks() - ran - {me}:
        pytest.skip(f"these walks were not run: {', '.join(sorted(absent))}")
    lines, seen = asking_lines(), reached()
    unreached = {line for line, statements in lines.items() if statements - seen}
    assert sorted(unreached - set(NOT_RUN)) == [], (
        "no walk reaches these lines: walk them, or list them with the reason"
    )
    assert sorted(set(NOT_RUN) - unreached) == [], "these are reached, or gone: take them off the list"
