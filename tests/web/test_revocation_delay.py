"""``session.revocation_delay`` in applications: no round trip within the delay, and which users are cached."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flask_login
import pytest
from flask import Flask, request
from flask.testing import FlaskClient

from flask_genesys_auth import AccountState, GenesysAuth, Identity, current_user
from flask_genesys_auth.accounts.store import SqlAccounts
from flask_genesys_auth.testing import AuthClient
from flask_genesys_auth.web.runtime import runtime
from tests.servers import RedisServer, own_redis_server, redis_server

from .conftest import MakeApp, accounts_of

__all__ = ["own_redis_server", "redis_server"]

LONG = 60
SHORT = 0.2


def another_client(app: Flask, client: FlaskClient) -> FlaskClient:
    cookie = client.get_cookie("session")
    assert cookie is not None
    other = app.test_client()
    other.set_cookie("session", cookie.value)
    return other


def test_within_the_delay_no_store_is_read(own_redis_server: RedisServer, make_app: MakeApp, tmp_path: Path) -> None:
    app = make_app({"state_url": own_redis_server.url, "session": {"revocation_delay": LONG}})
    client, other = app.test_client(user="ann@acme.example"), app.test_client(user="sue@acme.example")
    assert client.get("/private").json == {"user": "ann@acme.example", "by": "application"}
    own_redis_server.stop()
    accounts_of(app).close()
    file = Path(accounts_of(app).name)
    file.rename(tmp_path / "away")
    for _ in range(3):
        assert client.get("/private").status_code == 200
        assert client.get("/supervisors").status_code == 403
    assert other.get("/private").status_code == 503
    (tmp_path / "away").rename(file)


def test_without_a_delay_both_stores_are_read(own_redis_server: RedisServer, make_app: MakeApp) -> None:
    app = make_app({"state_url": own_redis_server.url})
    client = app.test_client(user="ann@acme.example")
    assert client.get("/private").status_code == 200
    own_redis_server.stop()
    assert client.get("/private").status_code == 503


def change_by(name: str, *values: Any) -> Callable[[SqlAccounts, str], object]:
    return lambda store, account_id: getattr(store, name)(account_id, *values)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (change_by("set_enabled", False), 401),
        (change_by("delete"), 401),
        (change_by("set_roles", {"ROLE_SUPERVISOR"}), 200),
        (change_by("link", "okta", "1"), 403),
    ],
)
def test_changes_of_this_process_apply_at_once(
    make_app: MakeApp, change: Callable[[SqlAccounts, str], object], status: int
) -> None:
    app = make_app({"session": {"revocation_delay": LONG}})
    store = accounts_of(app)
    client = app.test_client(user="ann@acme.example")
    assert client.get("/supervisors").status_code == 403
    ann = store.get_by_name("acme", "ann@acme.example")
    assert ann is not None
    change(store, ann.id)
    assert client.get("/supervisors").status_code == status


def test_changes_of_other_processes_apply_after_the_delay(make_app: MakeApp) -> None:
    app = make_app({"session": {"revocation_delay": SHORT}})
    elsewhere = SqlAccounts(f"sqlite:///{accounts_of(app).name}")
    client = app.test_client(user="ann@acme.example")
    assert client.get("/private").status_code == 200
    ann = elsewhere.get_by_name("acme", "ann@acme.example")
    assert ann is not None
    elsewhere.set_enabled(ann.id, False)
    time.sleep(SHORT)
    assert client.get("/private").status_code == 401
    elsewhere.set_enabled(ann.id, True)
    time.sleep(SHORT)
    assert client.get("/private").status_code == 200
    elsewhere.close()


def test_logout_and_revocation_apply_at_once(make_app: MakeApp) -> None:
    app = make_app({"session": {"revocation_delay": LONG}})
    auth = GenesysAuth()
    app.add_url_rule("/out", "out", lambda: str(flask_login.logout_user()), methods=["POST"])
    client = app.test_client(user="ann@acme.example")
    copied = another_client(app, client)
    assert copied.get("/private").status_code == 200
    assert client.post("/out").status_code == 200
    assert copied.get("/private").status_code == 401
    client = app.test_client(user="ann@acme.example")
    assert client.get("/private").status_code == 200
    with app.app_context():
        assert auth.revoke(contact_center="acme") == 1
    assert client.get("/private").status_code == 401


def test_explain_ignores_the_cache(make_app: MakeApp) -> None:
    app = make_app({"session": {"revocation_delay": LONG}})
    client = app.test_client(user="ann@acme.example")
    assert client.get("/private").status_code == 200
    here = runtime(app)
    elsewhere = SqlAccounts(f"sqlite:///{accounts_of(app).name}")
    ann = elsewhere.get_by_name("acme", "ann@acme.example")
    assert ann is not None
    elsewhere.set_enabled(ann.id, False)
    elsewhere.close()
    with client.session_transaction() as browser:
        opaque = browser["_user_id"]
    with app.test_request_context("/private"):
        sent = request._get_current_object()  # type: ignore[attr-defined]  # Flask's documented way
        assert here.chain.walk(sent, lambda: opaque).authenticated
        assert not here.chain.walk(sent, lambda: opaque, dry_run=True).authenticated


@dataclass
class Person(flask_login.UserMixin):  # type: ignore[misc]  # Flask-Login has no type hints
    """A user of the application's own, bound to who knows what."""

    id: str
    user_name: str = "ann"


class People:
    """An account store of the application's own; it counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def find(self, identity: Identity) -> Person | None:
        return None

    def get(self, account_id: str) -> Person | None:
        self.asked += 1
        return Person(account_id)

    def describe(self, user: Person) -> AccountState:
        return AccountState(user.id)


class PlainPeople(People):
    """One that says that its users are values."""

    def __init__(self) -> None:
        super().__init__()
        self.listeners: list[Callable[[], None]] = []

    def on_change(self, listener: Callable[[], None]) -> None:
        self.listeners.append(listener)


@pytest.mark.parametrize(("store", "asked"), [(People(), 3), (PlainPeople(), 1)])
def test_only_immutable_users_are_cached(tmp_path: Path, store: People, asked: int) -> None:
    app = Flask("portal", instance_path=str(tmp_path))
    app.secret_key, app.test_client_class = "k", AuthClient
    app.config["GENESYS_AUTH"] = {
        "state_url": "memory://",
        "session": {"revocation_delay": LONG},
        "contact_centers": {"acme": {}},
    }
    GenesysAuth(app, accounts=store)
    app.add_url_rule("/", view_func=lambda: current_user.user_name)
    client = app.test_client(user=Person("7"))
    for _ in range(3):
        assert client.get("/").text == "ann"
    assert store.asked == asked
    if isinstance(store, PlainPeople):
        (listener,) = store.listeners
        listener()
        assert client.get("/").text == "ann"
        assert store.asked == 2
