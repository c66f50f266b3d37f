"""The search for a better prompt: parts, halving, losses like a run's, going on, and what it is quoted for."""

import json
import math
from collections import Counter

import pytest

from core import events, jobs, paths
from core.chat import profiles
from core.prompt_search import candidates, searches
from core.prompt_search.candidates import NONE, Candidate
from core.runs import gpu_access
from core.training import corpus_rows, encoding
from core.training.config import TrainConfig
from tests.conftest import chat_rows


@pytest.fixture
def search(tiny_model, tiny_corpus, monkeypatch):
    """A function that makes the directory of a small search."""
    from core.prompt_search import judge

    monkeypatch.setattr(judge, "PROPOSAL_TOKENS", 8)

    def make(**more):
        config = TrainConfig(tiny_model, tiny_corpus, precision="fp32", seed=3)
        return searches.create(config, **{"candidates": 8, "rows": 8, "system_prompt": "Sea and lamp."} | more)

    return make


def run(directory) -> dict:
    """Work on a search in this process; its last event."""
    from core.prompt_search import search

    jobs.run(directory, search.work)
    return events.last(directory)


def test_a(search):
    import time
    d = search()
    t = time.time()
    print(run(d), time.time() - t)
    print((d/"log.txt").exists() and (d/"log.txt").read_text())
    p = searches.progress(d)
    for c in p["candidates"]: print(c)
    print(p["ending"], p["done"], p["total"])
    assert 0
