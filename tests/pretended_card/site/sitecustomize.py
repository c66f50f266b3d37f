"""Python imports this first: where a card is pretended, torch finds it as soon as it is imported."""

import importlib.abc
import importlib.util
import os
import sys


class _AfterTorch(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Lets torch be imported as ever, and the card installed right after."""

    def find_spec(self, name, path=None, target=None):
        if name != "torch":
            return None
        sys.meta_path.remove(self)  # for the look at the real one; a look is no import yet
        spec = importlib.util.find_spec(name)
        sys.meta_path.insert(0, self)
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
