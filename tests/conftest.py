"""Shared fixtures: a data directory of the test's own, a tiny model that is built here; `slow` and `gpu` are skipped unless asked."""

import os

import pytest

# Set before anything imports gradio or transformers: a test asks no host for anything.
os.environ.update(GRADIO_ANALYTICS_ENABLED="False", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the tests that take real weights or a browser")
    parser.addoption("--gpu", action="store_true", help="run the tests that take a graphics card")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes real weights, a browser or minutes; run with --slow")
    config.addinivalue_line("markers", "gpu: takes a graphics card; run with --gpu")


def pytest_collection_modifyitems(config, items):
    for marker in ("slow", "gpu"):
        if not config.getoption(f"--{marker}"):
            skip = pytest.mark.skip(reason=f"asked for with --{marker}")
            for item in items:
                if marker in item.keywords:
                    item.add_marker(skip)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Every test has a data directory of its own, with a space and Cyrillic in its name."""
    path = tmp_path / "дом soulsmith"
    monkeypatch.setenv("SOULSMITH_HOME", str(path))
    return path
