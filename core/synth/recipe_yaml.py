"""YAML as a recipe has it: words stay words, and no number takes minutes to read."""

import re

import yaml

from core import errors

WORDS = ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp")  # what YAML reads as these stays a word
LONGEST_NUMBER = 80  # characters
# What is a number: 12:30 is none, nor 007, nor one of so many digits that to read it takes minutes.
NUMBERS = {
    "tag:yaml.org,2002:int": re.compile(r"[-+]?(?:0|[1-9][\d_]{0,17})$", re.ASCII),
    "tag:yaml.org,2002:float": re.compile(
        r"[-+]?(?:\d[\d_]{0,30}\.[\d_]{0,30}|\.\d{1,30})(?:[eE][-+]\d{1,3})?$|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$",
        re.ASCII,
    ),
}


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """YAML where "yes", "no", dates and times stay the words that a person wrote, and so do numbers without an end."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the name is the library's
        first: [(tag, NUMBERS.get(tag, fits)) for tag, fits in resolvers if tag not in WORDS]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_object(self, node, deep=False):
        """The value of a node; what a tag like !!int does not fit is an error of the recipe as all others are."""
        try:
            if node.tag in NUMBERS and len(node.value) > LONGEST_NUMBER:
                raise ValueError(node.tag)
            return super().construct_object(node, deep)
        except (ValueError, ArithmeticError, LookupError, AttributeError, TypeError) as error:
            kind = node.tag.rpartition(":")[2]
            raise yaml.constructor.ConstructorError(None, None, f"this is no {kind}", node.start_mark) from error


def unreadable(error: yaml.YAMLError, file: str) -> errors.NamedError:
    """What is wrong with the YAML of a recipe, with its line."""
    mark = getattr(error, "problem_mark", None)
    reason = getattr(error, "problem", None) or str(error).split("\n")[0]
    return errors.named("RecipeUnreadable", file=file, line=mark.line + 1 if mark else 1, reason=reason)
