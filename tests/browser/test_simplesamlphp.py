"""The same login with SimpleSAMLphp, an independent identity provider, on another site."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_genesys_auth.accounts.store import SqlAccounts

from ..saml.simplesaml import SimpleSamlPhp
from ..sample.running import RunningSample, running_sample
from ..servers import free_port
from .chromium import Browser


@pytest.fixture
def served(tmp_path: Path, simplesamlphp: SimpleSamlPhp) -> Iterator[RunningSample]:
    """The sample application on ``localhost``: SimpleSAMLphp is on 127.0.0.1, which is another site."""
    port = free_port()
    url = f"http://localhost:{port}"
    simplesamlphp.write_metadata(tmp_path / "idp.xml")
    simplesamlphp.trust(f"{url}/saml/acme/metadata", f"{url}/saml/acme/acs")
    provider = {"metadata": "idp.xml"}
    settings = {
        "public_url": url,
        "accounts_url": "sqlite:///accounts.sqlite3",
        "contact_centers": {"acme": {"saml": {"identity_providers": {"simplesamlphp": provider}}}},
    }
    (tmp_path / "settings.json").write_text(json.dumps({"SECRET_KEY": "of a test", "GENESYS_AUTH": settings}))
    accounts = SqlAccounts(f"sqlite:///{tmp_path / 'accounts.sqlite3'}")
    accounts.create_tables()
    accounts.add("acme", "ann", first_name="Ann", identities=[("simplesamlphp", simplesamlphp.name_id)])
    accounts.close()
    arguments = ("--host", "localhost", "--port", str(port), "--config", str(tmp_path / "settings.json"))
    with running_sample(tmp_path, *arguments) as running:
        assert running.url == url
        yield running


def test_login_returns_and_logout_ends_the_session(
    served: RunningSample, simplesamlphp: SimpleSamlPhp, browser: Browser
) -> None:
    browser.open(served.url + "/agent?shift=early")
    assert browser.url.startswith(simplesamlphp.url)

    browser.fill(username=simplesamlphp.user_name, password=simplesamlphp.password)
    browser.submit("password")
    browser.wait_for("Agent desk")
    assert browser.url == served.url + "/agent?shift=early"
    assert "Good to see you, Ann" in browser.text

    browser.press("Sign out")
    assert browser.heading.startswith("You are signed out")
    browser.open(served.url + "/agent")
    assert browser.heading.startswith("You are signed out")

    browser.press("Sign in again")
    browser.wait_for("Agent desk")
