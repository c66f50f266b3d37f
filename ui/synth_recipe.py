"""The recipe of the tab that makes corpora: what it is, five rows of it, and its text, checked as one types."""

from functools import partial
from pathlib import Path

import gradio as gr

from core import paths
from core.errors import UserError
from core.synth import preview, recipes
from ui import buttons, synth_html, templates
from ui.errors import Refused, show_errors
from ui.text import Say

DOWNLOAD = """(text, name) => {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], {type: 'application/yaml'}));
  link.download = (name || 'recipe').replace(/[^\\p{L}\\p{N}_-]+/gu, '-') + '.yaml';
  link.click();
  URL.revokeObjectURL(link.href);
}"""


def build(say: Say, form: dict, about: gr.Markdown, shown: gr.HTML) -> None:
    """The text of the chosen recipe, folded; it changes with the recipe, and `shown` has five rows of it."""
    with gr.Accordion(say("synth.text"), open=False):
        gr.Markdown(say("synth.text.about"))
        _, _, written, called = on_recipe(say, form["recipe"].value)
        text = gr.Code(written, language="yaml", label=say("synth.text.code"), lines=12, max_lines=24)
        said = gr.HTML()
        name = gr.Textbox(called, label=say("synth.text.name"), info=say("synth.text.name.info"))
        with gr.Row():
            save = gr.Button(say("synth.text.save"), size="sm", min_width=120)
            new = gr.Button(say("synth.text.new"), size="sm", min_width=120)
            take = gr.Button(say("synth.text.download"), size="sm", min_width=120)
        buttons.needs(save, text, name)
        buttons.needs(take, text)
        form["file"] = gr.File(label=say("synth.own"), file_types=[".yaml", ".yml"], height=110)
        with gr.Accordion(say("synth.help"), open=False):
            gr.Markdown(say("synth.help.text"))
    recipe = form["recipe"]
    recipe.change(partial(on_recipe, say), recipe, [about, shown, text, name], show_progress="hidden")
    text.input(partial(on_text, say), [text, name], [said, shown], show_progress="hidden")
    new.click(partial(on_new, say), None, [text, name, said, shown], show_progress="hidden")
    save.click(partial(on_save, say), [text, name], [recipe, said], show_progress="hidden")
    take.click(None, [text, name], None, js=DOWNLOAD)
    form["file"].upload(partial(on_own, say), form["file"], recipe)


def choices(say: Say) -> list[tuple[str, str]]:
    """Recipes of the program, the page's language first, then the person's own."""
    ours = sorted(recipes.listed(), key=lambda one: one["lang"] != say.lang)
    return [(_title(say, one), one["name"]) for one in ours] + [(path.name, str(path)) for path in recipes.own()]


def _title(say: Say, recipe: dict) -> str:
    """The title of a recipe of the program; written recipes and grammars of one name are told from each other."""
    title = say.pick(recipe["title"])
    return say("synth.recipe.no_model", title=title) if recipe["kind"] == "grammar" else title


def told(say: Say, name: str | None) -> str:
    """What a recipe is in a sentence, and the steps of a chain in their order."""
    try:
        recipe = recipes.load(name) if name else None
    except UserError as error:
        return say.trouble(error)
    about = recipe.values.get("about") if recipe else None
    text = say.pick({"en": "", **about}) if isinstance(about, dict) else str(about or "")
    if not recipe or not recipe.chain:
        return text
    verbs: dict[str, list[str]] = {}
    for step in recipe.chain.steps:
        verbs.setdefault(step.name, []).append(say(f"synth.recipe.verb.{step.verb}"))
    steps = "; ".join(f"`{name}` {', '.join(some)}" for name, some in verbs.items())
    return f"{text}\n\n{say('synth.recipe.steps', steps=steps)}"


def first(say: Say, name: str | None) -> str:
    """Five rows of a recipe, before anything was asked of a model."""
    try:
        return synth_html.first(say, preview.first(recipes.load(name))) if name else ""
    except UserError as error:
        return templates.macro("trouble", say.trouble(error))


def on_recipe(say: Say, name: str | None):
    """What a recipe is, five rows of it, its text, and the name that a copy of it would have."""
    try:
        text = recipes.source(name) if name else ""
    except (UserError, OSError):
        text = ""
    return told(say, name), first(say, name), text, _own_name(say, name)


def _own_name(say: Say, name: str | None) -> str:
    """The name under which a text is saved: the person's own as it is, another as a copy."""
    stem = Path(name or "").stem
    return stem if not name or Path(name).is_file() else say("synth.text.copy", name=stem)


def on_text(say: Say, text: str, name: str):
    """Whether a text reads as a recipe, in a sentence, and five rows of it if so."""
    if not (text or "").strip():
        return "", gr.skip()
    try:
        shown = preview.first(recipes.from_text(text, f"{name or 'recipe'}.yaml"))
    except UserError as error:
        return templates.macro("trouble", say.trouble(error)), gr.skip()
    return templates.macro("paragraph", say("synth.text.reads")), synth_html.first(say, shown)


def on_new(say: Say):
    """A small recipe to begin with."""
    file = paths.assets() / "recipes" / "new" / f"{say.lang}.yaml"
    if not file.is_file():
        file = file.with_name("en.yaml")
    text, name = file.read_text(encoding="utf-8"), say("synth.text.mine")
    return (text, name, *on_text(say, text, name))


@show_errors
def on_save(say: Say, text: str, name: str):
    """Keep a text among the person's own recipes and choose it."""
    if not (name or "").strip():
        raise Refused(say("synth.text.nameless"))
    path = recipes.keep(text, name.strip())
    return gr.update(choices=choices(say), value=str(path)), templates.macro("paragraph", say("synth.text.saved"))


@show_errors
def on_own(say: Say, file: str | None):
    """Keep a person's recipe among their own, after it was read without complaint."""
    if not file:
        return gr.skip()
    path = recipes.keep(recipes.read_text(Path(file)), Path(file).stem)
    return gr.update(choices=choices(say), value=str(path))
