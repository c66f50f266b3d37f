"""A recipe of kind chain, read and checked: steps in order, each of which may use those before it by name.

    steps:
      - name: plan                      # fields, each a text of the grammar
        plan: {thing: "{thing}", words: [9, 28]}
      - name: sentence                  # a model writes; the prompt is Jinja
        write: "A sentence of {{ plan.words[0] }} words at least, with {{ plan.thing }}."
        check: {words: plan.words, must: "[plan.thing]"}
        rewrite: true                   # once, where a check or the judge asks for it
      - name: read
        judge: {of: [sentence], rubric: "…", scores: [exact, alive], keep: {least: 6, mean: 7}, drop: 5}
    rows:
      - text: "{{ sentence }}"

`join: "{{ a }} {{ b }}"` makes a text of others. A check is a mapping of core.synth.chain_checks; a value in quotes is an
expression, a list stands for itself, but where texts are wanted (`apart: [sentence]`) its items are expressions.
`near: {to: [base], least: 0.1, most: 1.2}` takes a model of this machine (core.synth.nearness): the request's `embedder`,
the recipe's, the writer or the judge. `given: [plan.case]` names the words of the order, which no check takes for a fault.
Each of `rows` becomes a row; those of one chain share a group. With `material: true` the steps see a passage of the person's own
texts, {{ passage.text }} and {{ passage.topic }}, each passage once before any comes again. Every chain sees the {{ names }} of a corpus that was chosen, else an empty list.
"""

from dataclasses import dataclass, field

from core import errors
from core.synth import chain_checks, chain_templates
from core.synth.chain_templates import TemplateWrong

VERBS = ("plan", "write", "join", "check", "judge", "rewrite")
OPTIONS = {"name", "system", "temperature", "max_tokens"}
OF_TEXTS = {"apart", "given", "nouns_apart", "names_apart", "numbers"}  # checks whose value are texts
PARTS = {  # checks that are mappings; the part that is texts or phrases stands first
    "few": ("of", "most"),
    "longer": ("than", "times"),
    "new": ("than", "share"),
    "near": ("to", "least", "most"),
}
JUDGE = {"of", "rubric", "scores", "keep", "drop", "expect", "share"}
MOST_STEPS, MOST_ROWS = 60, 20
LEAST, MEAN, DROP = 6, 7, 5  # of 10: each score, their mean; a mean below which nothing is mended


@dataclass(frozen=True)
class Step:
    """One verb of a named step."""

    name: str
    verb: str
    value: object  # a template, a mapping of checks, a judge, the template of a rewriting
    of: tuple[str, ...]  # the texts that it checks, judges or rewrites
    options: dict = field(default_factory=dict)


@dataclass
class Chain:
    """Steps in their order, and the rows that they make."""

    steps: list[Step]
    rows: list[dict]
    fields: set[str]  # names of plan fields and steps: no text may open a line with them

    def plans(self) -> dict[str, object]:
        return {step.name: step.value for step in self.steps if step.verb == "plan"}

    def checks(self, name: str) -> bool:
        """Whether a step of it has this check."""
        return any(step.verb == "check" and name in step.value for step in self.steps)


def read(values: dict, file: str) -> Chain:
    """The chain of a recipe's values.

    Raises:
        StepsMissing, StepUnnamed, StepNameTaken, StepFieldUnknown, StepEmpty, StepNameUnknown, StepWrong, RowsMissing,
        RowWrong.
    """
    written = values.get("steps")
    if not isinstance(written, list) or not 0 < len(written) <= MOST_STEPS:
        raise errors.named("StepsMissing", file=file, most=MOST_STEPS)
    known, texts, steps, fields = {"cards", "lang", "names"}, set(), [], set()
    if values.get("material"):
        known.add("passage")
    for number, one in enumerate(written, 1):
        name, more = _named(one, number, known, file)
        for step in more:
            try:
                _check(step, values, known, texts)
            except TemplateWrong as error:
                if error.name in ("NameUnknown", "TextUnknown"):
                    unknown, choices = error.values["name"], error.values["known"]
                    raise errors.named("StepNameUnknown", file=file, step=name, name=unknown, known=choices) from error
                raise errors.named("StepWrong", file=file, step=name, verb=step.verb, reason=error) from error
            if step.verb in ("plan", "write", "join"):
                known.add(name)
            if step.verb in ("write", "join"):
                texts.add(name)
            if step.verb == "plan":
                fields |= _names(step.value)
        steps += more
        fields.add(name)
    return Chain(steps, _rows(values.get("rows"), known, file), fields)


def _named(one, number: int, known: set[str], file: str) -> tuple[str, list[Step]]:
    if not isinstance(one, dict) or not str(one.get("name", "")).isidentifier():
        raise errors.named("StepUnnamed", file=file, number=number)
    name = one["name"]
    if name in known:
        raise errors.named("StepNameTaken", file=file, number=number, step=name)
    if unknown := sorted(set(one) - OPTIONS - set(VERBS)):
        raise errors.named(
            "StepFieldUnknown", file=file, step=name, field=unknown[0], known=", ".join([*VERBS, *sorted(OPTIONS)])
        )
    verbs = [verb for verb in VERBS if verb in one]
    if not verbs or sum(verb in ("plan", "write", "join") for verb in verbs) > 1:
        raise errors.named("StepEmpty", file=file, step=name, known=", ".join(VERBS))
    options = {key: one[key] for key in OPTIONS - {"name"} if key in one}
    return name, [_step(name, verb, one[verb], options, file) for verb in verbs]


def _step(name: str, verb: str, value, options: dict, file: str) -> Step:
    if verb in ("check", "judge") and not isinstance(value, dict):
        raise errors.named("StepWrong", file=file, step=name, verb=verb, reason=TemplateWrong("NotMapping"))
    if verb == "rewrite" and not isinstance(value, dict):
        value = {"prompt": value if isinstance(value, str) and value not in ("true", "yes") else None}
    if verb in ("write", "join") and not isinstance(value, str):
        raise errors.named("StepWrong", file=file, step=name, verb=verb, reason=TemplateWrong("NotText"))
    of = (name,) if verb in ("plan", "write", "join") else value.get("of", name)
    if verb in ("check", "judge", "rewrite"):
        value = {key: one for key, one in value.items() if key != "of"}
    return Step(name, verb, value, (of,) if isinstance(of, str) else tuple(of), options)


def _check(step: Step, values: dict, known: set[str], texts: set[str]) -> None:
    """Refuse a step that cannot work with what is known before it."""
    if missing := sorted(set(step.of) - texts) if step.verb in ("check", "judge", "rewrite") else []:
        raise TemplateWrong("TextUnknown", name=missing[0], known=", ".join(sorted(texts)))
    if "system" in step.options:
        chain_templates.check(str(step.options["system"]), known)
    if step.verb in ("write", "join"):
        chain_templates.check(step.value, known)
    elif step.verb == "rewrite" and step.value.get("prompt"):
        chain_templates.check(step.value["prompt"], known | {"text", "faults", "prompt"})
    elif step.verb == "check":
        _check_checks((values.get("checks") or {}) | step.value, known)
    elif step.verb == "judge":
        _check_judge(step.value, known)


def _check_checks(checks: dict, known: set[str]) -> None:
    if unknown := sorted(set(checks) - chain_checks.CHECKS.keys()):
        raise TemplateWrong("CheckUnknown", name=unknown[0], known=", ".join(sorted(chain_checks.CHECKS)))
    for name, value in checks.items():
        wanted = PARTS.get(name)
        if wanted and (not isinstance(value, dict) or set(value) != set(wanted)):
            raise TemplateWrong("CheckIncomplete", name=name, parts=", ".join(wanted))
        for expression in _expressions(name, value):
            chain_templates.check_value(expression, known)


def _expressions(name: str, value) -> list[str]:
    if name in PARTS:
        numbers = [value[part] for part in PARTS[name][1:] if isinstance(value[part], str)]
        return numbers + _expressions("ban" if name == "few" else "apart", value[PARTS[name][0]])
    if isinstance(value, str):
        return [value]
    return [str(one) for one in value] if name in OF_TEXTS else []


def _check_judge(judge: dict, known: set[str]) -> None:
    if unknown := sorted(set(judge) - JUDGE):
        raise TemplateWrong("JudgeFieldUnknown", name=unknown[0], known=", ".join(sorted(JUDGE)))
    if not isinstance(judge.get("rubric"), str) or not (judge.get("scores") or judge.get("expect")):
        raise TemplateWrong("JudgeIncomplete")
    chain_templates.check(judge["rubric"], known)
    if judge.get("expect"):
        chain_templates.check_value(judge["expect"], known)


def _rows(rows, known: set[str], file: str) -> list[dict]:
    if not isinstance(rows, list) or not 0 < len(rows) <= MOST_ROWS:
        raise errors.named("RowsMissing", file=file, most=MOST_ROWS)
    for number, row in enumerate(rows, 1):
        if (
            not isinstance(row, dict)
            or set(row) - {"name", "text", "messages"}
            or ("text" in row) == ("messages" in row)
        ):
            raise errors.named("RowWrong", file=file, number=number, reason=TemplateWrong("RowNeither"))
        try:
            for template in templates(row):
                chain_templates.check(template, known)
        except TemplateWrong as error:
            raise errors.named("RowWrong", file=file, number=number, reason=error) from error
    return rows


def templates(row: dict) -> list[str]:
    """The templates of a row.

    Raises:
        TemplateWrong: where a turn is none.
    """
    if "text" in row:
        return [str(row["text"])]
    for turn in row["messages"]:
        if not isinstance(turn, dict) or len(turn) != 1 or not turn.keys() <= {"system", "user", "assistant"}:
            raise TemplateWrong("TurnsUnreadable")
    return [str(text) for turn in row["messages"] for text in turn.values()]


def _names(plan) -> set[str]:
    """The names of a plan's fields, whatever their depth."""
    if isinstance(plan, dict):
        return {str(key).lower() for key in plan}.union(*map(_names, plan.values()))
    return set().union(*map(_names, plan)) if isinstance(plan, list) else set()
