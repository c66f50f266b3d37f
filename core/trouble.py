"""Known trouble: an error that is a sentence for the person at the screen.

A module names its own troubles as subclasses with an English `template`; the page translates by the class name
(ui/text) and fills in the same `values`. Everything else keeps its traceback.
"""

from typing import Any, ClassVar


class Trouble(Exception):
    """What is wrong, with the value, and what to do next."""

    template: ClassVar[str] = "{message}"

    def __init__(self, **values: Any):
        super().__init__(self.template.format(**values))
        self.values = values
