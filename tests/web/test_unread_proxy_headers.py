"""Headers of a proxy that no ProxyFix reads are logged once."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_genesys_auth import GenesysAuth, unprotected

FORWARDED = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}


@pytest.fixture
def app(tmp_path: Path) -> Flask:
    app = Flask("portal", instance_path=str(tmp_path))
    app.secret_key = "a secret key of the tests"
    app.config["GENESYS_AUTH"] = {"state_url": "memory://", "contact_centers": {"acme": {"web_services": {}}}}
    GenesysAuth(app)
    app.add_url_rule("/", "home", unprotected(lambda: "home"))
    return app


def told(caplog: pytest.LogCaptureFixture) -> int:
    return sum("no ProxyFix reads it" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.3", "::1", ""])
@pytest.mark.parametrize("header", FORWARDED)
def test_an_unread_local_proxy_is_logged_once(
    app: Flask, caplog: pytest.LogCaptureFixture, address: str, header: str
) -> None:
    caplog.set_level(logging.WARNING)
    client = app.test_client()
    assert client.get("/", environ_base={"REMOTE_ADDR": address}).status_code == 200
    assert told(caplog) == 0
    for _ in range(3):
        sent = client.get("/", environ_base={"REMOTE_ADDR": address}, headers={header: FORWARDED[header]})
        assert sent.status_code == 200
    assert told(caplog) == 1
    assert "203.0.113.7" not in caplog.text


def test_clients_outside_cannot_fill_the_log(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    app.test_client().get("/", environ_base={"REMOTE_ADDR": "8.8.8.8"}, headers=FORWARDED)
    assert told(caplog) == 0


def test_proxy_fix_avoids_the_warning(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]
    app.test_client().get("/", headers=FORWARDED)
    assert told(caplog) == 0
