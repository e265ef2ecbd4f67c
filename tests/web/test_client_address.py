"""The client's address from the server and from the proxies in front, over HTTP."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import urllib3
from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_genesys_auth.testing import GenesysEmulator, LoopbackServer
from flask_genesys_auth.testing.fixtures import genesys_emulator

from ..forking import FORKS, holds_in_child
from .conftest import MakeApp, accounts_of

__all__ = ["genesys_emulator"]

ANN = ("ann@acme.example", "ann's: password")
LIMITS = {"per_account": "3 per hour", "per_account_anywhere": "6 per hour", "per_address": "30 per hour"}


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "cannot be read" in record.getMessage()]


def behind_proxy(app: Flask) -> Flask:
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1)  # type: ignore[method-assign]
    return app


class Gateway:
    """Sends requests as a gateway does, over a new connection each."""

    def __init__(self, url: str) -> None:
        self._url = url

    def ask(self, forwarded: str, password: str) -> int:
        headers = urllib3.make_headers(basic_auth=f"wendy:{password}") | {"X-Forwarded-For": forwarded}
        with urllib3.PoolManager(retries=False) as pool:
            return pool.request("GET", f"{self._url}/private", headers=headers).status


@pytest.fixture
def gateway(make_app: MakeApp, genesys_emulator: GenesysEmulator) -> Iterator[Gateway]:
    server = {
        "url": genesys_emulator.url,
        "client_id": genesys_emulator.client_id,
        "client_secret": genesys_emulator.client_secret,
        "tenant": genesys_emulator.tenant,
        "max_failures": "100 per hour",
        "reuse_verified_for": 60,
    }
    app = behind_proxy(make_app({"contact_centers": {"acme": {"configuration_server": server}}, "throttle": LIMITS}))
    accounts_of(app).add("acme", "wendy")
    genesys_emulator.add_user("wendy", "wendy's password")
    genesys_emulator.forget()
    with LoopbackServer(app) as served:
        yield Gateway(served.url)


@pytest.mark.parametrize("form", ["203.0.113.9:{}", "[2001:db8::9]:{}", "no address {}"])
def test_guesses_over_changing_ports_are_throttled(gateway: Gateway, form: str) -> None:
    statuses = [gateway.ask(form.format(40001 + number), "a wrong password") for number in range(6)]
    assert statuses == [401] * 3 + [429] * 3
    assert gateway.ask("203.0.113.10:40001", "wendy's password") == 200


@pytest.mark.parametrize(
    ("form", "verified"), [("203.0.113.9:{}", 1), ("[2001:db8::9]:{}", 1), ("::ffff:203.0.113.9", 1), ("unknown", 5)]
)
def test_each_readable_address_is_verified_once(
    gateway: Gateway, genesys_emulator: GenesysEmulator, form: str, verified: int
) -> None:
    for number in range(5):
        assert gateway.ask(form.format(40001 + number), "wendy's password") == 200
    tokens = [one for one in genesys_emulator.requests if one.method == "POST"]
    assert len(tokens) == verified


def test_unix_socket_serves_good_users_within_the_limits(make_app: MakeApp) -> None:
    client = make_app({"throttle": LIMITS}).test_client()
    socket: dict[str, Any] = {"environ_overrides": {"REMOTE_ADDR": ""}}
    for number in range(29):
        assert client.get("/private", auth=ANN, **socket).status_code == 200
        assert client.get("/private", auth=(f"guess{number}", "wrong"), **socket).status_code == 401
    assert client.get("/private", auth=ANN, **socket).status_code == 200
    assert client.get("/private", auth=("another", "wrong"), **socket).status_code == 401
    assert client.get("/private", auth=ANN, **socket).status_code == 429
    assert client.get("/private", auth=ANN).status_code == 200


@pytest.mark.parametrize(
    ("proxied", "received", "shown", "advice"),
    [
        (False, "", "''", "set app.wsgi_app = ProxyFix("),
        (False, "/run/portal.sock", "'/run/portal.sock'", "set app.wsgi_app = ProxyFix("),
        (True, "unknown", "'unknown'", "as 203.0.113.9, 203.0.113.9:40001 or [2001:db8::9]:40001"),
        (True, "x\x1b[2J" + "y" * 9000, r"'x\x1b[2Jyyyyyyy", "as 203.0.113.9, 203.0.113.9:40001 or"),
    ],
)
def test_unreadable_addresses_are_logged_once(
    app: Flask, caplog: pytest.LogCaptureFixture, proxied: bool, received: str, shown: str, advice: str
) -> None:
    caplog.set_level(logging.WARNING)
    client = behind_proxy(app).test_client() if proxied else app.test_client()
    sent: dict[str, Any] = {"environ_overrides": {"REMOTE_ADDR": received}}
    if proxied:
        sent = {"environ_overrides": {"HTTP_X_FORWARDED_FOR": received}}
    assert client.get("/open").status_code == 200
    assert told(caplog) == []
    for _ in range(3):
        assert client.get("/open", **sent).status_code == 200
    (message,) = told(caplog)
    assert message.startswith(f"configuration_warning: the client address {shown}")
    assert advice in message
    assert len(message) < 500
    assert message.isprintable()


@pytest.mark.parametrize("fork", FORKS)
def test_forked_child_logs_by_itself(app: Flask, caplog: pytest.LogCaptureFixture, fork: str) -> None:
    def ask() -> int:
        app.test_client().get("/open", environ_overrides={"REMOTE_ADDR": ""})
        return len(told(caplog))

    assert [ask(), ask()] == [1, 1]
    assert holds_in_child(lambda: [ask(), ask()] == [2, 2], fork=fork)
