"""Python imports this first: where a card is pretended, torch finds it as soon as it is imported."""

import importlib.abc
import importlib.util
import os
import sys


class _AfterTorch(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Lets torch be imported as ever, and the card installed right after."""

    stock = None  # the loader of torch, once it is looked for; importlib.metadata asks finders long before

    def find_spec(self, name, path=None, target=None):
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        self.stock, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec):
        return self.stock.create_module(spec)

    def exec_module(self, module):
        self.stock.exec_module(module)
        import pretended_torch

        pretended_torch.install()

    def __getattr__(self, name):  # what else a loader can: get_source, get_filename
        return getattr(self.stock, name)


if "PRETENDED_CARD" in os.environ:
    sys.meta_path.insert(0, _AfterTorch())
