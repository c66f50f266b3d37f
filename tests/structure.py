"""The structure of the product in figures: `python -m tests.structure [--json]`.

Import circles (a package's __init__ counts), files, lines by package, functions over 60 lines, modules over 400 lines and
under 40, imports inside functions. tests/test_structure.py holds the limits.
"""

import argparse
import ast
import json
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parent.parent
LONGEST_FUNCTION, LONGEST_MODULE, SHORTEST_MODULE = 60, 400, 40


def sources() -> dict[str, Path]:
    """{dotted name of a module: its file}."""
    files = [ROOT / "app.py", *sorted((ROOT / "core").rglob("*.py")), *sorted((ROOT / "ui").rglob("*.py"))]
    return {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def imports(name: str, file: Path, known: dict[str, Path]) -> set[str]:
    """Modules of ours that a module imports anywhere, at its top or inside functions."""
    imported = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = name.split(".")[: None if file.name == "__init__.py" else -1]
            package = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            base = ".".join(part for part in (package, node.module) if part)
            imported |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return (imported & known.keys()) - {name}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one import circle, or none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def package(name: str, file: Path) -> str:
    """core.corpus of everything below core/corpus; core, ui or app of the modules beside."""
    parts = file.relative_to(ROOT).parts
    return ".".join(parts[:2]) if len(parts) > 2 else name.split(".")[0]


def measure() -> dict:
    """All figures of the product as it is in the working tree."""
    known, lines, packages = sources(), {}, Counter()
    late, long = 0, []
    for name, file in known.items():
        text = file.read_text(encoding="utf-8")
        lines[name] = text.count("\n")
        packages[package(name, file)] += lines[name]
        for node in functions(ast.parse(text)):
            late += sum(isinstance(inner, (ast.Import, ast.ImportFrom)) for inner in ast.walk(node))
            if (length := node.end_lineno - node.lineno + 1) > LONGEST_FUNCTION:
                long.append(f"{name}.{node.name} {length}")
    counted = {name: count for name, count in lines.items() if not known[name].name.startswith("__")}
    return {
        "circle": circle({name: imports(name, file, known) for name, file in known.items()}),
        "files": len(known),
        "lines": sum(lines.values()),
        "lines_by_package": dict(packages.most_common()),
        "functions_over_60_lines": long,
        "modules_over_400_lines": [f"{name} {count}" for name, count in lines.items() if count > LONGEST_MODULE],
        "longest_module": max((count, name) for name, count in lines.items()),
        "modules_under_40_lines": [name for name, count in counted.items() if count < SHORTEST_MODULE],
        "imports_in_functions": late,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.structure", description=__doc__.split(":")[0] + ".")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    figures = measure()
    if parser.parse_args().json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
