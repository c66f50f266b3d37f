"""Recipes: YAML files that say how rows are made; those that come with the program lie in assets/recipes/.

`include: words-en` takes the rules that a recipe uses from assets/recipes/words/. They are copied into the text of the
recipe, so that a job and a corpus keep all that made them.
"""

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from core import errors, files, paths
from core.synth import chain_steps, recipe_yaml
from core.synth.chain_steps import Chain
from core.synth.grammar import Grammar, Row, Rule
from core.synth.prompts import METHODS, check_placeholders

KINDS = {
    "grammar": {"start", "messages", "depth", "decay", "words", "rules"},
    "grid": {"axes", "prompt", "ask", "system", "judge"},
    "model": {"method", "seeds", "prompt", "ask", "system", "style", "judge"},
    "mix": {"parts", "cap"},
    "chain": {"cards", "system", "checks", "steps", "rows", "rules", "depth", "decay", "words", "material", "embedder"},
}
COMMON = {"kind", "title", "about", "lang"}
NODE_CHARACTERS = 10  # that a list, a mapping or a text takes beside its letters
_INCLUDE = re.compile(r"^include:[ \t]*([\w-]+)[ \t]*$\n?", re.MULTILINE)
_CARDS = re.compile(r"^cards:[ \t]*([\w-]+(?: [\w-]+)*)[ \t]*$\n?", re.MULTILINE)
_BLOCK = re.compile(r"^  (\w+):", re.MULTILINE)
_USED = re.compile(r"\{(?:\w+:?=)?(\w+)")


@dataclass
class Recipe:
    """A recipe as it was read, and for a grammar its compiled rules."""

    name: str
    hash: str
    kind: str
    lang: str
    values: dict
    text: str
    grammar: Grammar | None = None
    tops: list[Rule] = field(default_factory=list)
    roles: list[str] = field(default_factory=list)
    chain: Chain | None = None
    parts: int = 1  # rows that are made together

    def make(self, seed: int, number: int, ask=None) -> dict:
        """The row of a seed and number: {"text"} or {"messages"}, and the "path" of the rules that made it."""
        row = Row(seed, number, ask)
        texts = [self.grammar.text(row, rule).strip() for rule in self.tops]
        path = ".".join(row.path[:24])
        if not self.roles:
            return {"text": texts[0], "path": path}
        turns = [{"role": role, "content": text} for role, text in zip(self.roles, texts, strict=True)]
        return {"messages": [turn for turn in turns if turn["content"]], "path": path}

    def plans(self, seed: int, number: int) -> dict:
        """The values of the plan steps of a chain, their texts drawn by the grammar."""
        row = Row(seed, number, spread=True)
        return {name: self._drawn(row, plan, name) for name, plan in self.chain.plans().items()}

    def _drawn(self, row: Row, plan, path: str):
        if isinstance(plan, dict):
            return {key: self._drawn(row, one, f"{path}.{key}") for key, one in plan.items()}
        if isinstance(plan, list):
            return [self._drawn(row, one, f"{path}.{at}") for at, one in enumerate(plan)]
        return self.grammar.phrase(row, self.grammar.rules[path]) if isinstance(plan, str) else plan


def folder() -> Path:
    return paths.assets() / "recipes"


def listed() -> list[dict]:
    """The recipes that come with the program, chains first: name, kind, lang, and title and about in each language."""
    recipes = []
    for path in sorted(folder().glob("*.yaml")):
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=recipe_yaml.Loader)
        recipes.append({"name": path.stem} | {key: values.get(key) for key in ("kind", "lang", "title", "about")})
    return sorted(recipes, key=lambda one: one["kind"] != "chain")


def load(name: str | Path) -> Recipe:
    """A recipe by its file or by the name of one that comes with the program.

    Raises:
        RecipeMissing, RecipeUnreadable and the errors of core.synth.grammar.
    """
    path = Path(name)
    if not path.is_file():
        path = folder() / f"{path.name}.yaml"
    if not path.is_file():
        raise errors.named(
            "RecipeMissing", name=name, known=", ".join(one.stem for one in sorted(folder().glob("*.yaml")))
        )
    return from_text(read_text(path), path.name)


def from_text(text: str, file: str) -> Recipe:
    """A recipe from a text as a person writes it, with `include` and `cards`; raises what load() does."""
    return read(_with_shared_rules(files.check_length(text, file), file), file)


def source(name: str | Path) -> str:
    """The text of a recipe as it was written, by its file or the name of one that comes with the program."""
    path = Path(name)
    return read_text(path if path.is_file() else folder() / f"{path.name}.yaml")


def own() -> list[Path]:
    """The files of the person's own recipes."""
    return sorted((paths.home() / "recipes").glob("*.yaml"))


def keep(text: str, name: str) -> Path:
    """Write a recipe among the person's own, once it reads without complaint; raises what load() does."""
    from_text(text, f"{name}.yaml")
    path = paths.home() / "recipes" / f"{paths.slug(name)}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(path, text)
    return path


def read_text(path: Path) -> str:
    """The text of a person's file.

    Raises:
        RecipeNotText: if it cannot be read as UTF-8. files.TextTooLong.
    """
    try:
        return files.read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise errors.named("RecipeNotText", file=path.name) from error


def _with_shared_rules(text: str, file: str) -> str:
    """The text of a recipe with the shared rules that it uses, instead of the line that names their file."""
    if cards := _CARDS.search(text):
        shared = "".join(_shared("cards", name, file) for name in cards[1].split())
        text = f"{text[: cards.start()]}cards:\n{shared}{text[cards.end() :]}"
    include = _INCLUDE.search(text)
    if not include:
        return text
    shared = _blocks(_shared("words", include[1], file))
    text = _INCLUDE.sub("", text, count=1).rstrip() + "\n"
    used, taken = set(_USED.findall(text)), set(_blocks(text))
    copied = set()
    while missing := (used & shared.keys()) - taken - copied:
        copied |= missing
        used.update(name for block in missing for name in _USED.findall(shared[block]))
    return text + "".join(block for name, block in shared.items() if name in copied)


def _shared(place: str, name: str, file: str) -> str:
    """The text of a file that recipes share."""
    path = folder() / place / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(one.stem for one in path.parent.glob("*.yaml")))
        line = "include" if place == "words" else place
        raise errors.named("IncludeUnknown", file=file, line=line, name=name, known=known)
    return path.read_text(encoding="utf-8")


def _blocks(text: str) -> dict[str, str]:
    """The rules of a text by their names, as they stand: each begins two spaces in."""
    starts = list(_BLOCK.finditer(text))
    ends = [start.start() for start in starts[1:]] + [len(text)]
    return {start[1]: text[start.start() : end].rstrip() + "\n" for start, end in zip(starts, ends, strict=True)}


def read(text: str, file: str) -> Recipe:
    """A recipe from the text of its file."""
    try:
        _check_aliases(text, file)
        values = yaml.load(text, Loader=recipe_yaml.Loader)
    except RecursionError:
        raise errors.named("RulesEndless", file=file) from None
    except yaml.YAMLError as error:
        raise recipe_yaml.unreadable(error, file) from error
    if not isinstance(values, dict):
        raise errors.named("RecipeNotMapping", file=file)
    kind = str(values.get("kind", "grammar"))
    if kind not in KINDS:
        raise errors.named("KindUnknown", file=file, kind=kind, known=", ".join(KINDS))
    if unknown := sorted(set(map(str, values)) - COMMON - KINDS[kind]):
        known = ", ".join(sorted(KINDS[kind]))
        raise errors.named("FieldUnknown", file=file, field=unknown[0], kind=kind, known=known)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    recipe = Recipe(Path(file).stem, digest, kind, str(values.get("lang", "en")), values, text)
    _READERS[kind](recipe, file)
    if kind in ("grid", "model"):
        check_placeholders(kind, recipe.lang, values)
    return recipe


def _check_aliases(text: str, file: str) -> None:
    """Refuse aliases of aliases, which make 10^9 texts of a few lines, and a list that contains itself."""
    total, sizes, opened = 0, {}, []  # characters so far, and those that an anchor stands for; what began where
    for event in yaml.parse(text, Loader=recipe_yaml.Loader) if "*" in text else ():
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, began = opened.pop()
            sizes[anchor] = total - began
        elif isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, total))
            sizes[event.anchor] = None  # until it is whole
            total += NODE_CHARACTERS
        elif isinstance(event, yaml.ScalarEvent):
            sizes[event.anchor] = NODE_CHARACTERS + len(event.value)
            total += sizes[event.anchor]
        elif isinstance(event, yaml.AliasEvent):
            size = sizes.get(event.anchor, 0)
            if size is None:
                raise errors.named("RulesEndless", file=file)
            total += size
            if total > files.MOST_CHARACTERS:
                line = event.start_mark.line + 1
                raise errors.named("AliasTooLong", file=file, alias=event.anchor, line=line, most=files.MOST_CHARACTERS)


def _check_method(recipe: Recipe, file: str) -> None:
    method = str(recipe.values.get("method", "free"))
    if method not in METHODS:
        raise errors.named("MethodUnknown", file=file, method=method, known=", ".join(METHODS))


def _check_grid(recipe: Recipe, file: str) -> None:
    values, axes = recipe.values, recipe.values.get("axes")
    if not isinstance(axes, dict) or not all(isinstance(one, list) for one in axes.values()) or not axes:
        raise errors.named("AxesMissing", file=file)
    if not values.get("prompt"):
        raise errors.named("PromptMissing", file=file)


def _check_mix(recipe: Recipe, file: str) -> None:
    parts = recipe.values.get("parts")
    if not isinstance(parts, list) or not parts:
        raise errors.named("PartsMissing", file=file)
    for number, part in enumerate(parts, 1):
        if not isinstance(part, dict) or ("corpus" in part) == ("recipe" in part):
            raise errors.named("PartUnknown", file=file, number=number)
        try:
            positive = float(part.get("share", 0)) > 0
        except (TypeError, ValueError):
            positive = False
        if not positive:
            raise errors.named("ShareMissing", file=file, number=number)


def _read_chain(recipe: Recipe, file: str) -> None:
    """The steps, rows and grammar of a chain: each text of a plan is a rule of its own, named by its place."""
    recipe.chain = chain_steps.read(recipe.values, file)
    recipe.parts = len(recipe.chain.rows)
    rules = {str(name): one for name, one in (recipe.values.get("rules") or {}).items()}
    for name, plan in recipe.chain.plans().items():
        rules |= _planned(plan, name)
    settings = {key: recipe.values[key] for key in ("depth", "decay", "words") if key in recipe.values}
    recipe.grammar = Grammar(rules, lang=recipe.lang, **settings)


def _planned(plan, path: str) -> dict[str, list[str]]:
    """The texts of a plan by their places in it."""
    if isinstance(plan, str):
        return {path: [plan]}
    places = plan.items() if isinstance(plan, dict) else enumerate(plan) if isinstance(plan, list) else ()
    return {name: text for key, one in places for name, text in _planned(one, f"{path}.{key}").items()}


def _compile(recipe: Recipe, file: str) -> None:
    values = recipe.values
    rules = values.get("rules")
    if not isinstance(rules, dict) or not rules:
        raise errors.named("RulesMissing", file=file)
    settings = {key: values[key] for key in ("depth", "decay", "words") if key in values}
    turns = list(_turns(values.get("messages") or [], file))
    start = str(values.get("start", "text"))
    if not turns and start not in rules:
        raise errors.named("StartUnknown", file=file, start=start)
    chat = {f"messages[{at + 1}]": [text] for at, (_, text) in enumerate(turns)}
    named = {str(name): one for name, one in rules.items()}
    try:
        recipe.grammar = Grammar(named | chat, lang=recipe.lang, **settings)
    except RecursionError:
        raise errors.named("RulesEndless", file=file) from None
    recipe.roles = [role for role, _ in turns]
    recipe.tops = [recipe.grammar.rules[name] for name in (chat or [start])]


def _turns(messages: list, file: str):
    """(role, text) of the turns of a chat."""
    for at, turn in enumerate(messages):
        if not isinstance(turn, dict) or len(turn) != 1 or not turn.keys() <= {"system", "user", "assistant"}:
            raise errors.named("TurnWrong", file=file, number=at + 1)
        yield from ((role, str(text)) for role, text in turn.items())


_READERS = {
    "grammar": _compile,
    "grid": _check_grid,
    "mix": _check_mix,
    "chain": _read_chain,
    "model": _check_method,
}
