"""uWSGI without threads is reported at the start and by doctor."""

from __future__ import annotations

import logging
import sys
from types import ModuleType

import pytest

from flask_genesys_auth.checks import Check
from flask_genesys_auth.web.health import application_checks
from flask_genesys_auth.web.runtime import runtime

from .conftest import MakeApp


def run_under_uwsgi(monkeypatch: pytest.MonkeyPatch, *, has_threads: int) -> None:
    """Provide the module that uWSGI provides; ``has_threads`` is 0 where neither option is set."""
    module = ModuleType("uwsgi")
    module.__dict__["has_threads"] = has_threads
    monkeypatch.setitem(sys.modules, "uwsgi", module)


def server_check(make_app: MakeApp) -> Check:
    app = make_app()
    (found,) = [check for check in application_checks(app, runtime(app)) if check.name == "application.server"]
    return found


def test_uwsgi_without_threads_is_a_warning(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run_under_uwsgi(monkeypatch, has_threads=0)
    check = server_check(make_app)
    assert (check.status, "without threads" in check.finding) == ("warning", True)
    assert "enable-threads = true" in check.advice
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "set enable-threads = true" in record.getMessage()
    assert vars(record)["genesys_auth"]["event"] == "configuration_warning"


def test_uwsgi_with_threads_is_ok(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run_under_uwsgi(monkeypatch, has_threads=1)
    assert server_check(make_app) == Check("application.server", "ok", "uWSGI runs the application, with threads")
    assert not caplog.records


def test_doctor_names_the_installed_servers(make_app: MakeApp, caplog: pytest.LogCaptureFixture) -> None:
    check = server_check(make_app)
    assert check.status == "ok"
    assert "does not see its settings" in check.finding
    assert "gunicorn " in check.finding
    assert not caplog.records
