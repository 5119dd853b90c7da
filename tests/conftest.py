"""Options of the whole suite, and what several folders need."""

import os
from collections.abc import Generator
from pathlib import Path
from typing import TypeVar

import pytest

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)
Answers = Generator[None, Report, Report]  # of a hook around others

pytest_plugins = ["tests.watchdog"]
PACKAGES = ("mate-backgrounds", "plasma-workspace-wallpapers")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--photographs",
        action="store_true",
        help=f"run the tests that need Debian's {' and '.join(PACKAGES)}",
    )


def pytest_configure() -> None:
    # Nodes are started some three hundred times, and not compiled for each: 0.2 s.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--photographs"):
        return
    chosen = [item for item in items if item.get_closest_marker("photographs") is None]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> "Answers[pytest.TestReport]":
    report = yield
    return _without_skips(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> "Answers[pytest.CollectReport]":
    report = yield
    return _without_skips(report)


def _without_skips(report: Report) -> Report:
    """Under CI nothing is skipped: what a test needs and cannot have is a failure."""
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} is skipped under CI: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).parents[1]
