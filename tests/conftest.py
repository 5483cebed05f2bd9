"""Options and fixtures that hold for the whole suite."""

import os

import pytest

# Benchmarks are scripts; without this line --doctest-modules would import them.
collect_ignore = ["benchmarks"]

# Matplotlib reads this when it is first imported; no test may open a window.
os.environ.setdefault("MPLBACKEND", "Agg")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the tests marked slow, too")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--slow") or os.environ.get("CI"):
        return
    skip = pytest.mark.skip(reason="slow: runs with --slow, or where CI is set")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def _no_outer_override(monkeypatch):
    """A CE_PARALLEL set in the developer's shell must not decide what a test measures."""
    monkeypatch.delenv("CE_PARALLEL", raising=False)
