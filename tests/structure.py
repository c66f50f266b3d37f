"""The structure of the product in figures: `python -m tests.structure [--json]`.

Import circles (a package's __init__ counts), files, lines by package, functions over 60 lines, the longest module, modules
under 40 lines, imports inside functions.
"""

import argparse
import ast
import json
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parent.parent
LONGEST_FUNCTION, SHORTEST_MODULE = 60, 40


def sources() -> dict[str, Path]:
    """{dotted name of a module: its file}."""
    files = [ROOT / "app.py", *sorted((ROOT / "core").rglob("*.py")), *sorted((ROOT / "ui").rglob("*.py"))]
    return {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def imports(name: str, file: Path, known: dict[str, Path]) -> set[str]:
    """Modules of ours that a module imports anywhere, at its top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = name.split(".")[: None if file.name == "__init__.py" else -1]
            package = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            base = ".".join(part for part in (package, node.module) if part)
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return (found & known.keys()) - {name}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one import circle, or none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def measure() -> dict:
    """All figures of the product as it is in the working tree."""
    known, lines, packages = sources(), {}, Counter()
    late, long = 0, []
    for name, file in known.items():
        text = file.read_text(encoding="utf-8")
        lines[name] = text.count("\n")
        packages[".".join(name.split(".")[:2]) if file.parent != ROOT / name.split(".")[0] else name.split(".")[0]] += (
            lines[name]
        )
        for node in functions(ast.parse(text)):
            late += sum(isinstance(inner, (ast.Import, ast.ImportFrom)) for inner in ast.walk(node))
            if (length := node.end_lineno - node.lineno + 1) > LONGEST_FUNCTION:
                long.append(f"{name}.{node.name} {length}")
    short = [name for name, file in known.items() if lines[name] < SHORTEST_MODULE and not file.name.startswith("__")]
    return {
        "circle": circle({name: imports(name, file, known) for name, file in known.items()}),
        "files": len(known),
        "lines": sum(lines.values()),
        "lines_by_package": dict(packages.most_common()),
        "functions_over_60_lines": long,
        "longest_module": max((count, name) for name, count in lines.items()),
        "modules_under_40_lines": short,
        "imports_in_functions": late,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.structure", description=__doc__.split(":")[0] + ".")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    found = measure()
    if parser.parse_args().json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
