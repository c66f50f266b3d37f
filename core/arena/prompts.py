"""Sets of prompts by topic: built-in ones in English and Russian, and a person's own, one prompt a line."""

from pathlib import Path

from core import damage, errors, files, paths

MOST = 500


def listed() -> list[dict]:
    """All sets: {"id", "title", "count"}, the built-in ones first; a damaged file is passed over."""
    sets = []
    for path in [*sorted((paths.assets() / "prompts").glob("*.json")), *sorted(_own().glob("*.json"))]:
        if values := damage.read(path, "prompts/*.json"):
            sets.append({"id": path.stem, "title": values["title"], "count": len(values["prompts"])})
    return sets


def load(name: str) -> list[dict]:
    """The prompts of a set: [{"topic", "prompt"}]."""
    return _values(name)["prompts"]


def title(name: str) -> str:
    return _values(name)["title"]


def parse(text: str) -> list[dict]:
    """Prompts written one a line; "# cooking" names the topic of the lines after it."""
    topic, prompts = "", []
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("#"):
            topic = line.lstrip("#").strip()
        else:
            prompts.append({"topic": topic, "prompt": line.replace("\\n", "\n")})
    if not prompts:
        raise errors.named("PromptsEmpty")
    if len(prompts) > MOST:
        raise errors.named("TooManyPrompts", count=len(prompts), most=MOST)
    return prompts


def save(name: str, text: str) -> str:
    """Keep a person's own set and return its id.

    Raises:
        PromptsEmpty, TooManyPrompts.
    """
    prompts, id = parse(text), f"own-{paths.slug(name)}"
    files.write_json(_own() / f"{id}.json", {"title": name.strip() or id, "prompts": prompts})
    return id


def written(name: str) -> str:
    """A set as parse() reads it."""
    lines, topic = [], ""
    for one in load(name):
        if one["topic"] != topic:
            topic = one["topic"]
            lines.append(f"# {topic}")
        lines.append(one["prompt"].replace("\n", "\\n"))
    return "\n".join(lines)


def edited(name: str, draft: str) -> str:
    """A set's text for a place that holds `draft`; raises DraftInTheWay if that is another text."""
    text = written(name)
    if draft.strip() not in ("", text):
        raise errors.named("DraftInTheWay")
    return text


def delete(name: str, draft: str) -> tuple[str, str]:
    """Delete a person's own set and return its title and its text; matches that were played on it keep their prompts.

    Raises:
        NotYourPrompts: for a set that comes with Soulsmith.
        DraftInTheWay: if `draft`, the place for the text, holds another one.
    """
    path = _place(name)
    if not path.is_relative_to(_own()):
        raise errors.named("NotYourPrompts", title=title(name))
    values = title(name), edited(name, draft)
    path.unlink()
    return values


def _own() -> Path:
    path = paths.home() / "prompts"
    path.mkdir(parents=True, exist_ok=True)
    return path


def _values(name: str) -> dict:
    if values := damage.read(_place(name), "prompts/*.json"):
        return values
    raise errors.named("PromptsMissing", name=name)


def _place(name: str) -> Path:
    for folder in (paths.assets() / "prompts", _own()):
        path = folder / f"{Path(name or '.').name}.json"
        if Path(name or ".").name == name and path.is_file():
            return path
    raise errors.named("PromptsMissing", name=name)
