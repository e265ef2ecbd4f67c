"""Mark tests by what they need, so that a part of them can be run; with REQUIRE_SERVERS set, skipping is failing."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

SERVERS = {
    "own_postgresql",
    "own_redis_server",
    "own_slapd",
    "postgresql",
    "redis_server",
    "simplesamlphp",
    "slapd",
}
"""Fixtures that run a server."""

OWN_SERVERS = ("tests/state/test_redis", "tests/web/test_start.py")
"""Where fixtures of the file's own run a server."""

SLOW = (
    "tests/browser/",
    "tests/cli/test_shell.py",
    "tests/nodes/",
    "tests/packaging/test_howto.py",
    "tests/packaging/test_identity_provider_command.py",
    "tests/packaging/test_pictures.py",
    "tests/packaging/test_readme.py",
    "tests/packaging/test_testing_kit.py",
    "tests/packaging/test_tutorial.py",
    "tests/packaging/test_typing.py",
    "tests/packaging/test_wheel.py",
    "tests/saml/test_attacks.py",
    "tests/saml/login/test_concurrent_posts.py",
    "tests/saml/mutants/",
    "tests/sample/",
    "tests/state/test_sessions_many.py",
    "tests/limits/test_throttle_redis.py",
    "tests/test_benchmark",
)
"""Where tests post thousands of messages, or run whole deployments, programs of pages, and benchmarks."""

if "PYTEST_XDIST_WORKER" in os.environ:
    # Coverage counts what the tests' own processes run. Following their hundreds of subprocesses takes minutes.
    os.environ.pop("COVERAGE_PROCESS_CONFIG", None)

CASES = 2
"""Of a test with more cases than these, spread over all of them, every other case is a further one."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by what they need: ``browser``, ``server``, ``slow`` and ``further``; all others are ``quick``."""
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
        fixtures = set(getattr(item, "fixturenames", ()))
        values = getattr(getattr(item, "callspec", None), "params", {}).values()
        if "chromium" in fixtures:
            item.add_marker("browser")
        # A parameter names the server whose fixture a test asks for while it runs.
        named = any(value in ("postgresql", "redis") for value in values)
        if named or not SERVERS.isdisjoint(fixtures) or item.nodeid.startswith(OWN_SERVERS):
            item.add_marker("server")
        if item.nodeid.startswith(SLOW):
            item.add_marker("slow")
    for of_one in cases.values():
        spread = {len(of_one) * number // CASES for number in range(CASES)}
        for number, item in enumerate(of_one):
            if len(of_one) > CASES and number not in spread:
                item.add_marker("further")
    for item in items:
        if not {"browser", "further", "network", "server", "slow"} & {mark.name for mark in item.iter_markers()}:
            item.add_marker("quick")
    # Long tests come first, lest one process still has one to run when the other has run out.
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


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
