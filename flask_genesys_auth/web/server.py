"""The server that runs the application, as far as it can be seen from here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from ..checks import Check

_NAME = "application.server"
_FORKING = ("gunicorn", "uwsgi", "pyuwsgi")


def server_findings() -> Iterator[str]:
    """Find settings of uWSGI under which the application does not run as it should."""
    # uWSGI provides this module to the applications that it runs, and to no other program.
    uwsgi = sys.modules.get("uwsgi")
    if uwsgi is not None and not getattr(uwsgi, "has_threads", True):
        yield (
            "uWSGI runs without threads, its default before version 2.0.27: background threads stand still between "
            "requests, so that SAML metadata are not refreshed; set enable-threads = true in uWSGI's configuration"
        )


def server_check() -> Check:
    """Say which server runs the application, or which ones are installed: doctor itself runs in none."""
    for finding in server_findings():
        problem, _, advice = finding.partition("; ")
        return Check(_NAME, "warning", problem, advice)
    if "uwsgi" in sys.modules:
        return Check(_NAME, "ok", "uWSGI runs the application, with threads")
    installed = [f"{name} {found}" for name in _FORKING if (found := _version(name))]
    return Check(
        _NAME,
        "ok",
        f"this command runs outside the server and does not see its settings; installed: {', '.join(installed)}"
        if installed
        else "this command runs outside the server; neither gunicorn nor uWSGI is installed here",
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
