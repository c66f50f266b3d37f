"""HTML of the page: Jinja templates in assets/html, every value escaped unless it is markup already.

A template sees `say`, so that its words, numbers and sizes are written in the person's language: {{ say("live.step") }},
{{ say.number(row.loss) }}. Shared pieces stand in macros.html: {% from "macros.html" import table %}.
"""

from functools import cache

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from core import paths
from ui.text import Say


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(paths.assets() / "html"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )


def render(say: Say, name: str, **values) -> Markup:
    """The HTML of assets/html/NAME.html with these values."""
    return Markup(_environment().get_template(f"{name}.html").render(say=say, **values).strip())


def macro(name: str, *arguments, **values) -> Markup:
    """What one macro of macros.html draws."""
    return Markup(getattr(_environment().get_template("macros.html").module, name)(*arguments, **values).strip())
