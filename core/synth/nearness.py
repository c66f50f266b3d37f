"""How near two texts are to a model: 0 for texts that have nothing to do with each other, 1 for a text and its paraphrase.

A text is the mean of its tokens' hidden states in one layer, less the mean of all texts of assets/recipes/nearness.json:
hidden states point mostly one way, and without that any two texts are near. Cosines are put on the scale of that file's
pairs, so thresholds of a recipe hold for every model. Hidden states see the subject of a text and not its meaning: a near
copy and another subject can be refused by them, kinship is for a judge. What they tell apart: tests/benchmarks.md.
"""

import json
import statistics
import threading
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from core import paths
from core.synth import prompts

KEPT = 4096  # vectors that are remembered: a text is compared with several, and once more when another was mended


class Nearness:
    """Compares texts of one language; `vectors` are a model's, one a text."""

    def __init__(self, vectors: Callable[[list[str]], np.ndarray], lang: str):
        self._vector = lru_cache(KEPT)(lambda text: vectors([text])[0])
        self.lang, self._scale = lang, None
        self._reading = threading.Lock()  # chains that a server writes ask at the same time

    def __call__(self, text: str, others: list[str]) -> list[float]:
        """How near a text is to each of the others."""
        with self._reading:
            centre, unrelated, paraphrase = self.scale()
            own = self._vector(text) - centre
            cosines = [_cosine(own, self._vector(other) - centre) for other in others]
        return [(cosine - unrelated) / (paraphrase - unrelated) for cosine in cosines]

    def scale(self) -> tuple[np.ndarray, float, float]:
        """The mean of the known texts; the median cosines of those of different pairs, and of those of one."""
        if self._scale is None:
            known = [[self._vector(text) for text in pair] for pair in pairs(self.lang)]
            centre = np.mean([vector for pair in known for vector in pair], axis=0)
            first, second = ([vector - centre for vector in side] for side in zip(*known, strict=True))
            different = [_cosine(a, b) for at, a in enumerate(first) for b in second[:at] + second[at + 1 :]]
            same = [_cosine(a, b) for a, b in zip(first, second, strict=True)]
            self._scale = centre, statistics.median(different), statistics.median(same)
        return self._scale


def pairs(lang: str) -> list[list[str]]:
    """Texts and a paraphrase of each."""
    known = json.loads((paths.assets() / "recipes" / "nearness.json").read_text(encoding="utf-8"))
    return prompts.in_language(known, lang)


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b) or 1.0))
