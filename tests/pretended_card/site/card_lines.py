"""Which statements of ours that ask for cuda, mps or xpu a process reaches: each says so before it runs.

A process with a pretended card imports core, ui and app through here; what it reached is written to the directory
CARD_LINES, one file a process and one line a statement: "core/runs.py 78". tests/test_zz_card_guard.py reads them.
"""

import ast
import importlib.abc
import importlib.machinery
import os
import re
import sys
import tokenize
from io import StringIO
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
ASKS = re.compile(r"(?<![\w.{-])(cuda|mps|xpu)(?![\w-])")  # not {cuda}, the place of a value
OURS = ("core", "ui", "app")
_told: set[tuple[str, int]] = set()


def asking(source: str) -> dict[int, int]:
    """{a line that asks for cuda, mps or xpu: the first line of its statement}; comments and docstrings ask nothing."""
    tree = ast.parse(source)
    docstrings = {id(node.body[0]) for node in ast.walk(tree) if _has_docstring(node)}
    heads = {}
    for statement in ast.walk(tree):
        if isinstance(statement, ast.stmt) and id(statement) not in docstrings:
            for line in range(statement.lineno, _head_end(statement) + 1):
                heads[line] = statement.lineno
    kinds = (tokenize.NAME, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING))
    found, before = {}, ""
    for token in tokenize.generate_tokens(StringIO(source).readline):
        is_name, after, before = token.type == tokenize.NAME, before, token.string
        if token.type in kinds and token.start[0] in heads and (after == "." or not is_name):  # no variable's name
            for number, text in enumerate(token.string.split("\n"), token.start[0]):
                if ASKS.search(text):
                    found[number] = heads.get(number, heads[token.start[0]])
    return found


def _has_docstring(node) -> bool:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return isinstance(node, kinds) and ast.get_docstring(node, clean=False) is not None


def _head_end(statement: ast.stmt) -> int:
    """The last line of a statement without the statements inside it: of an `if` its condition."""
    inner = [getattr(node, "lineno", None) for part in _blocks(statement) for node in part]
    return max(statement.lineno, min(inner) - 1) if inner else statement.end_lineno


def _blocks(statement: ast.stmt) -> list[list]:
    parts = [getattr(statement, name, []) for name in ("body", "handlers", "orelse", "finalbody", "cases")]
    return [part for part in parts if part]


class _Told(ast.NodeTransformer):
    """Puts `card_lines.reached(file, line)` before every statement that asks."""

    def __init__(self, name: str, lines: set[int]):
        self.name, self.lines = name, lines

    def generic_visit(self, node):
        super().generic_visit(node)
        for field in ("body", "orelse", "finalbody"):
            part = getattr(node, field, None)
            if isinstance(part, list):
                setattr(node, field, [new for statement in part for new in self._before(statement)])
        return node

    def _before(self, statement) -> list:
        if not isinstance(statement, ast.stmt) or statement.lineno not in self.lines:
            return [statement]
        call = ast.parse(f"__import__('card_lines').reached({self.name!r}, {statement.lineno})").body[0]
        for node in ast.walk(call):
            ast.copy_location(node, statement)
        return [call, statement]


class _Loader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname):  # never from __pycache__: what lies there says nothing
        return self.source_to_code(self.get_data(self.path), self.path)

    def source_to_code(self, data, path, **_):
        source, name = data.decode("utf-8"), Path(path).relative_to(ROOT).as_posix()
        tree = ast.parse(source, path)
        lines = set(asking(source).values())
        return compile(_Told(name, lines).visit(tree) if lines else tree, path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] not in OURS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec and isinstance(spec.loader, importlib.machinery.SourceFileLoader) and spec.origin.startswith(str(ROOT)):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


def reached(name: str, line: int) -> None:
    if (name, line) in _told:
        return
    _told.add((name, line))
    with open(os.path.join(os.environ["CARD_LINES"], f"{os.getpid()}.txt"), "a", encoding="utf-8") as file:
        file.write(f"{name} {line}\n")


def install() -> None:
    sys.meta_path.insert(0, _Finder())
