"""An application without its state: requests that need it get 503, others are served, and it recovers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, jsonify, request
from flask.testing import FlaskClient

from flask_genesys_auth import GenesysAuth, current_decision, current_user, unprotected
from flask_genesys_auth.accounts.store import SqlAccounts
from flask_genesys_auth.state.sql import SqlState
from flask_genesys_auth.testing import AuthClient
from flask_genesys_auth.web.runtime import runtime
from tests.servers import PostgresqlServer, RedisServer

SHORT, LONG = 0.5, 60.0
PATIENCE = 30.0
"""Seconds within which everything here has an answer: more than a slow machine takes, less than the long timeout."""

auth = GenesysAuth()


@dataclass
class Server:
    """A server that can go away in two ways."""

    url: str
    gone: Callable[[], AbstractContextManager[None]]
    hanging: Callable[[], AbstractContextManager[None]]


@pytest.fixture(params=["postgresql", "redis"])
def server(request: pytest.FixtureRequest) -> Server:
    if request.param == "redis":
        redis: RedisServer = request.getfixturevalue("own_redis_server")
        return Server(redis.url, lambda: _between(redis.stop, redis.start), lambda: _between(redis.hang, redis.go_on))
    postgresql: PostgresqlServer = request.getfixturevalue("own_postgresql")
    with closing(SqlState(postgresql.url, "portal", PATIENCE)) as state:
        state.create_tables()
    return Server(postgresql.url, lambda: _between(postgresql.stop, postgresql.start), postgresql.hanging)


@contextmanager
def _between(before: Callable[[], None], after: Callable[[], None]) -> Iterator[None]:
    before()
    try:
        yield
    finally:
        after()


@pytest.fixture
def make_app(server: Server, tmp_path: Path) -> Iterator[Callable[[float], Flask]]:
    """Make applications whose accounts are elsewhere, in SQLite."""
    made: list[Flask] = []

    def make(timeout: float) -> Flask:
        app = Flask("portal", instance_path=str(tmp_path))
        app.secret_key, app.test_client_class, app.testing = "k", AuthClient, True
        app.config["GENESYS_AUTH"] = {
            "state_url": server.url,
            "state_timeout": timeout,
            "accounts_url": "sqlite:///accounts.sqlite3",
            "contact_centers": {"acme": {"web_services": {}}},
            "passwords": {"memory_kib": 8, "iterations": 1, "reuse_verified_for": 0},
        }
        auth.init_app(app)
        app.add_url_rule("/", "home", lambda: current_user.user_name)
        app.add_url_rule("/open", "open", unprotected(_who))
        app.add_url_rule("/login", "login", unprotected(_log_in), methods=["POST"])
        made.append(app)
        store = _accounts(app)
        store.create_tables()
        ann = store.get_by_name("acme", "ann") or store.add("acme", "ann")
        store.set_password(ann.id, runtime(app).hasher.hash("a password"))
        return app

    yield make
    for app in made:
        runtime(app).state.close()
        _accounts(app).close()


def _accounts(app: Flask) -> SqlAccounts:
    store = runtime(app).accounts
    assert isinstance(store, SqlAccounts)
    return store


def _who() -> Any:
    return jsonify(user=current_user.user_name, unavailable=current_decision.unavailable)


def _log_in() -> tuple[str, int]:
    done = auth.log_in_with_password(request.form["name"], request.form["password"])
    return ("in", 200) if done.authenticated else ("out", 401)


def log_in(client: FlaskClient, password: str = "a password") -> Any:
    return client.post("/login", data={"name": "ann", "password": password})


def assert_unavailable(answer: Any) -> None:
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1


@pytest.mark.parametrize(("how", "timeout"), [("gone", LONG), ("hanging", SHORT)])
def test_only_requests_that_need_the_state_fail(
    server: Server, make_app: Callable[[float], Flask], how: str, timeout: float
) -> None:
    app = make_app(timeout)
    client, newcomer = app.test_client(), app.test_client()
    # The timeout is for what comes; a slow machine may need several attempts to begin with.
    deadline = time.monotonic() + PATIENCE
    while log_in(client).status_code != 200 or client.get("/open").json != {"user": "ann", "unavailable": False}:
        assert time.monotonic() < deadline
    with getattr(server, how)():
        began = time.monotonic()
        assert_unavailable(client.get("/"))
        assert time.monotonic() - began < PATIENCE
        # The view sees that the user is unknown, not anonymous.
        assert client.get("/open").json == {"user": "", "unavailable": True}
        began = time.monotonic()
        assert_unavailable(log_in(newcomer))
        assert time.monotonic() - began < PATIENCE
        assert_unavailable(log_in(client))
        headers_only = app.test_client()
        assert headers_only.get("/", auth=("ann", "a password")).text == "ann"
        assert headers_only.get("/", auth=("ann", "wrong")).status_code == 401
        assert headers_only.get("/open").json == {"user": "", "unavailable": False}
    if how == "gone" and server.url.startswith("redis"):
        # This Redis keeps nothing: the session has ended with it, and another one begins.
        assert client.get("/").status_code == 401
        assert log_in(client).status_code == 200
    deadline = time.monotonic() + PATIENCE
    while (answer := client.get("/")).status_code == 503 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert answer.text == "ann"
    assert newcomer.get("/").status_code == 401


def test_an_application_starts_without_its_state(server: Server, make_app: Callable[[float], Flask]) -> None:
    with server.gone():
        app = make_app(LONG)
        client = app.test_client()
        assert_unavailable(log_in(client))
        assert client.get("/", auth=("ann", "a password")).text == "ann"
    assert log_in(client).status_code == 200
    assert client.get("/").text == "ann"


@pytest.mark.parametrize("how", ["gone", "hanging"])
def test_an_outage_is_logged_once(
    server: Server, make_app: Callable[[float], Flask], caplog: pytest.LogCaptureFixture, how: str
) -> None:
    client = make_app(SHORT * 4).test_client()

    def told() -> list[str]:
        return [vars(one)["genesys_auth"]["event"] for one in caplog.records if "state_" in one.getMessage()[:10]]

    assert log_in(client).status_code == 200
    assert client.get("/").text == "ann"
    assert told() == []
    for number in (1, 2):
        with getattr(server, how)():
            for _ in range(2):
                assert_unavailable(client.get("/"))
            assert told() == ["state_lost", "state_regained"] * (number - 1) + ["state_lost"]
        deadline = time.monotonic() + PATIENCE
        while client.get("/").status_code == 503 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert client.get("/open").status_code == 200
        assert told() == ["state_lost", "state_regained"] * number
        assert log_in(client).status_code == 200
    lost = next(one for one in caplog.records if "state_lost" in one.getMessage())
    assert "did not answer" in vars(lost)["genesys_auth"]["detail"]
