"""Jinja for a person's recipes: a sandbox with limits on names, size and work, and values by expression."""

import functools
import json
import re

import jinja2
from jinja2 import meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError

from core import errors
from core.synth import lemmas

MOST_SOURCE, MOST_TEXT = 20_000, 100_000  # characters of a template, of what it makes
MOST_STEPS, MOST_LOOPS = 1000, 2  # of a range; of loops within each other
FILTERS = (
    *("capitalize", "default", "first", "int", "last", "length", "list", "lower", "map", "reverse", "round", "sort"),
    *("string", "trim", "unique", "upper"),
)
METHODS = {
    str: {"endswith", "lower", "lstrip", "rstrip", "split", "splitlines", "startswith", "strip", "title", "upper"},
    dict: {"get", "items", "keys", "values"},
    list: {"count", "index"},
    tuple: {"count", "index"},
}
_TAG = re.compile(r"\{%.*?%\}", re.DOTALL)
_LOADING = (nodes.Import, nodes.FromImport, nodes.Include, nodes.Extends, nodes.Block)
_GROWING = (nodes.Macro, nodes.CallBlock, nodes.Assign, nodes.AssignBlock, nodes.With, nodes.Concat)


class TemplateWrong(errors.NamedError):
    """What is wrong with a template or a step, by its name; the error that holds this one names the step."""


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(["+", "*", "**", "%"])

    def call_binop(self, context, operator: str, left, right):
        """Sums of moderate numbers; nothing that makes one long text of a short one."""
        if operator == "+" and isinstance(left, str) and isinstance(right, str):
            return _limited(left + right)
        if operator == "+" and isinstance(left, list) and isinstance(right, list):
            return left + right
        numbers = all(isinstance(one, int | float) and abs(one) <= 10**6 for one in (left, right))
        if not numbers or operator == "**":
            raise SecurityError(f"{operator} is for numbers up to a million")
        return super().call_binop(context, operator, left, right)

    def getattr(self, obj, attribute: str):
        """A field of a mapping comes before its methods: a card may have `values` or `items`."""
        return obj[attribute] if isinstance(obj, dict) and attribute in obj else super().getattr(obj, attribute)

    def wrap_str_format(self, value):
        """None: format is not among the methods, since a width of a billion is a billion characters."""

    def is_safe_attribute(self, obj, attr: str, value) -> bool:
        if isinstance(obj, jinja2.runtime.LoopContext):
            return super().is_safe_attribute(obj, attr, value)
        return any(isinstance(obj, kind) and attr in names for kind, names in METHODS.items())


def _limited(made: str) -> str:
    if len(made) > MOST_TEXT:
        raise SecurityError(f"a text has at most {MOST_TEXT} characters")
    return made


def _join(values, between: str = "") -> str:
    pieces = [str(one) for one in values]
    if sum(map(len, pieces)) + len(between) * len(pieces) > MOST_TEXT:
        raise SecurityError(f"a text has at most {MOST_TEXT} characters")
    return between.join(pieces)


def _replace(text: str, old: str, new: str) -> str:
    if text.count(old) * len(new) > MOST_TEXT:
        raise SecurityError(f"a text has at most {MOST_TEXT} characters")
    return text.replace(old, new)


def _range(*bounds: int) -> range:
    numbers = range(*bounds)
    if len(numbers) > MOST_STEPS:
        raise SecurityError(f"a range has at most {MOST_STEPS} numbers")
    return numbers


def _to_json(value) -> str:
    return json.dumps(value, ensure_ascii=False)


@functools.cache
def _environment() -> _Sandbox:
    environment = _Sandbox(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters = {name: environment.filters[name] for name in FILTERS}
    environment.filters |= {"tojson": _to_json, "join": _join, "replace": _replace, "masked": lemmas.masked}
    environment.globals = {"range": _range}
    return environment


def check(source: str, known: set[str]) -> None:
    """Refuse a template that cannot work: unreadable, too long, loops too deep, a name that nothing before it has.

    Raises:
        TemplateWrong
    """
    if len(source) > MOST_SOURCE:
        raise TemplateWrong("TemplateTooLong", count=len(source), most=MOST_SOURCE)
    try:
        tree = _environment().parse(_with_line_ends(source))
        _compiled(source)
    except jinja2.TemplateError as error:
        raise _wrong(error) from error
    if refused := next(tree.find_all(_LOADING + _GROWING), None):
        raise TemplateWrong("StatementRefused", line=refused.lineno, statement=type(refused).__name__.lower())
    if _depth(tree) > MOST_LOOPS:
        raise TemplateWrong("LoopsTooDeep", most=MOST_LOOPS)
    if unknown := sorted(meta.find_undeclared_variables(tree) - known - {"range"}):
        raise TemplateWrong("NameUnknown", name=unknown[0], known=", ".join(sorted(known)))


def check_value(expression: str, known: set[str]) -> None:
    """Refuse an expression that cannot work.

    Raises:
        TemplateWrong
    """
    check("{{ (" + expression + "\n) }}", known)


def text(source: str, values: dict) -> str:
    """What a template says with these values.

    Raises:
        TemplateWrong: where a field is missing or a limit is met.
    """
    pieces, size = [], 0
    try:
        for piece in _compiled(source).generate(values):
            size += len(piece)
            if size > MOST_TEXT:
                raise TemplateWrong("StepTooLong", most=MOST_TEXT)
            pieces.append(piece)
    except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise _wrong(error) from error
    return "".join(pieces).strip()


def value(expression: str, values: dict):
    """The value of an expression: a list, a number, a text.

    Raises:
        TemplateWrong: where a field is missing or a limit is met.
    """
    try:
        found = _expression(expression)(values)
    except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise _wrong(error) from error
    if isinstance(found, jinja2.Undefined):
        raise TemplateWrong("ValueMissing", expression=expression)
    return found


def _with_line_ends(source: str) -> str:
    """A template whose lines keep their ends behind a tag, but for lines that are nothing but tags (trim_blocks)."""
    if "raw" in source:
        return source

    def kept(tag: re.Match) -> str:
        before = source[source.rfind("\n", 0, tag.start()) + 1 : tag.start()]
        ends = source[tag.end() : tag.end() + 1] == "\n" and tag[0][-3] not in "+-"
        return tag[0][:-2] + "+%}" if ends and _TAG.sub("", before).strip() else tag[0]

    return _TAG.sub(kept, source)


@functools.lru_cache(1000)
def _compiled(source: str) -> jinja2.Template:
    return _environment().from_string(_with_line_ends(source))


@functools.lru_cache(1000)
def _expression(source: str):
    return _environment().compile_expression(source, undefined_to_none=False)


def _depth(node: nodes.Node) -> int:
    below = max(map(_depth, node.iter_child_nodes()), default=0)
    return below + isinstance(node, nodes.For)


def _wrong(error: Exception) -> TemplateWrong:
    """An error of Jinja or of an operation, in its own words."""
    line = getattr(error, "lineno", None)
    reason = (getattr(error, "message", None) or str(error)).rstrip(".")
    return (
        TemplateWrong("TemplateUnreadable", line=line, reason=reason)
        if line
        else TemplateWrong("TemplateWrong", reason=reason)
    )
