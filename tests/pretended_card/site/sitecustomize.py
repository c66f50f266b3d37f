"""Python imports this first: where a card is pretended, torch finds it as soon as it is imported."""

import importlib.abc
import importlib.util
import os
import sys


class _AfterTorch(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Lets torch be imported as ever, and the card installed right after."""

    stock = None  # torch's own loader, once it is known

    def find_spec(self, name, path=None, target=None):
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)  # who only asks whether torch is there does not import it
        self.stock, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec):
        return self.stock.create_module(spec)

    def exec_module(self, module):
        sys.meta_path.remove(self)
        self.stock.exec_module(module)
        import pretended_torch

        pretended_torch.install()

    def __getattr__(self, name):  # what else a loader can: get_source, get_filename
        if name == "stock":  # nobody looked for torch yet
            raise AttributeError(name)
        return getattr(self.stock, name)


if "PRETENDED_CARD" in os.environ:
    sys.meta_path.insert(0, _AfterTorch())
    if "CARD_LINES" in os.environ:
        import card_lines

        card_lines.install()
