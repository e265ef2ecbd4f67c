"""The testing kit as an application's own suite uses it: a suite of its own, run by a pytest of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CONFTEST = """
import pytest
from flask import Flask

from flask_genesys_auth import GenesysAuth, current_user, roles_required
from flask_genesys_auth.testing import AuthClient

pytest_plugins = ["flask_genesys_auth.testing.fixtures"]


@pytest.fixture
def make_app(tmp_path):
    def make(public_url="", **steps):
        app = Flask("portal", instance_path=str(tmp_path))
        app.config.update(TESTING=True, SECRET_KEY="k" * 32)
        app.config["GENESYS_AUTH"] = {
            "state_url": "memory://",
            "public_url": public_url,
            "passwords": {"memory_kib": 8, "iterations": 1},
            "contact_centers": {"acme": steps},
        }
        app.test_client_class = AuthClient
        app.add_url_rule("/me", "me", lambda: current_user.user_name)
        app.add_url_rule("/reports", "reports", roles_required("ROLE_SUPERVISOR")(lambda: "reports"))
        GenesysAuth(app)
        return app

    return make
"""
SUITE = """
def test_reports_are_for_supervisors(make_app):
    app = make_app(web_services={})
    assert app.test_client().get("/reports").status_code == 401
    assert app.test_client(user="ann@acme.example").get("/reports").status_code == 403
    assert app.test_client(user="ann@acme.example", roles=["ROLE_SUPERVISOR"]).get("/reports").text == "reports"


def test_a_service_that_fails_is_not_a_wrong_password(make_app, genesys_emulator):
    app = make_app(
        configuration_server={"url": genesys_emulator.url, "client_id": "portal", "client_secret": "secret"}
    )
    genesys_emulator.fail(500)
    assert app.test_client().get("/me", auth=("ann", "a password")).status_code == 503


def test_a_session_that_salesforce_does_not_know_is_refused(make_app, salesforce_emulator):
    organization = "00D000000000001"
    app = make_app(salesforce={"organizations": [organization], "identity_hosts": [salesforce_emulator.url]})
    surl = f"{salesforce_emulator.url}/id/{organization}/005000000000001"
    assert app.test_client().get("/me", headers={"ssid": "unknown", "surl": surl}).status_code == 401
    assert len(salesforce_emulator.requests) == 1


def test_a_browser_is_sent_to_the_identity_provider(make_app, development_identity_provider, tmp_path):
    metadata = development_identity_provider.write_metadata(tmp_path / "idp.xml")
    app = make_app(
        public_url="http://127.0.0.1:5000", saml={"identity_providers": {"development": {"metadata": str(metadata)}}}
    )
    browser = app.test_client()
    begins = browser.get("/me", headers={"Accept": "text/html", "Sec-Fetch-Mode": "navigate"})
    assert begins.status_code == 302
    assert browser.get(begins.location).location.startswith(development_identity_provider.url)
"""


def test_an_applications_own_suite_runs_with_the_fixtures(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST, "utf-8")
    (tmp_path / "test_portal.py").write_text(SUITE, "utf-8")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "--rootdir", str(tmp_path)],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    assert "4 passed" in ran.stdout
