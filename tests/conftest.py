"""Options of the whole suite, and what several folders need."""

import os
from pathlib import Path

import pytest

PACKAGES = ("mate-backgrounds", "plasma-workspace-wallpapers")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--photographs",
        action="store_true",
        help=f"run the tests that need Debian's {' and '.join(PACKAGES)}",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--photographs"):
        return
    chosen = [item for item in items if item.get_closest_marker("photographs") is None]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Under CI nothing is skipped: what a test needs and cannot have is a failure."""
    skipped = call.excinfo is not None and call.excinfo.errisinstance(pytest.skip.Exception)
    if skipped and os.environ.get("CI") == "true":
        raise AssertionError(f"{item.nodeid} is skipped under CI")


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).parents[1]
