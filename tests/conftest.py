"""What holds for the whole suite: browser tests are marked; with REQUIRE_SERVERS set, skipping is failing."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what drives Chromium, so that `-m "not browser"` leaves it out."""
    for item in items:
        if "chromium" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail what was skipped where nothing may be missing."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("REQUIRE_SERVERS"):
        report.outcome = "failed"
        report.longrepr = f"skipped although REQUIRE_SERVERS is set: {report.longreprtext}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Fail a module that was skipped whole, likewise."""
    report = yield
    if report.skipped and os.environ.get("REQUIRE_SERVERS"):
        report.outcome = "failed"
        report.longrepr = f"skipped although REQUIRE_SERVERS is set: {report.longreprtext}"
    return report
