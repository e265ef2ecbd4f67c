"""Nothing of one test is left for the next: neither in an outer application context, nor in what is remembered."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flask_login
import pytest
from flask import Flask, g

from flask_genesys_auth import GenesysAuth, current_decision, current_user
from flask_genesys_auth.chain.protocols import StateStore
from flask_genesys_auth.errors import ConfigurationError
from flask_genesys_auth.state.memory import MemoryState
from flask_genesys_auth.testing import AuthClient, GenesysEmulator, reset
from flask_genesys_auth.web.runtime import runtime

from ..servers import RedisServer, redis_server
from .conftest import ANN, MakeApp, accounts_of

__all__ = ["redis_server"]


def names(*clients: Any) -> list[Any]:
    return [(client.get("/me").json or {}).get("user") for client in clients]


def test_clients_do_not_mix_in_outer_context(app: Flask) -> None:
    with app.app_context():
        ann, nobody, bob = app.test_client(user=ANN), app.test_client(), app.test_client(user="bob")
        assert names(ann, nobody, bob, ann, nobody) == [ANN, None, "bob", ANN, None]
        assert "_login_user" not in g


def test_request_after_a_client_is_anonymous(app: Flask) -> None:
    with app.app_context():
        assert app.test_client(user=ANN).get("/me").status_code == 200
        with app.test_request_context("/me"):
            assert not current_user.is_authenticated


def test_flask_login_alone_would_mix_clients(tmp_path: Path) -> None:
    app = Flask("alone", instance_path=str(tmp_path))
    app.secret_key = "k" * 32
    manager = flask_login.LoginManager(app)
    manager.user_loader(lambda _: None)
    manager.request_loader(lambda request: flask_login.UserMixin() if "X-Ann" in request.headers else None)
    app.add_url_rule("/", "who", lambda: str(flask_login.current_user.is_authenticated))
    with app.app_context():
        assert app.test_client().get("/", headers={"X-Ann": "1"}).text == "True"
        assert app.test_client().get("/").text == "True", "this is the trap"


def test_user_stays_while_context_is_kept(app: Flask) -> None:
    with app.test_client(user=ANN) as client:
        assert client.get("/me").status_code == 200
        assert current_user.user_name == ANN


@pytest.mark.parametrize("outer", [False, True])
def test_failing_view_leaves_no_user(app: Flask, outer: bool) -> None:
    @app.get("/broken")
    def broken() -> str:
        raise ZeroDivisionError(current_user.user_name)

    def ask() -> None:
        with pytest.raises(ZeroDivisionError):
            app.test_client(user=ANN).get("/broken")
        assert app.test_client().get("/me").status_code == 401

    if outer:
        with app.app_context():
            ask()
            assert "_login_user" not in g
    else:
        ask()


def exhaust(app: Flask) -> int:
    client = app.test_client()
    for _ in range(10):
        client.get("/me", auth=(ANN, "wrong"))
    return client.get("/me", auth=(ANN, "wrong")).status_code


def test_reset_clears_the_throttle(app: Flask) -> None:
    assert exhaust(app) == 429
    assert app.test_client().get("/me", auth=(ANN, "wrong")).status_code == 429
    reset(app)
    assert app.test_client().get("/me", auth=(ANN, "wrong")).status_code == 401


def test_reset_clears_the_throttle_in_redis(make_app: MakeApp, redis_server: RedisServer) -> None:
    app = make_app(settings={"state_url": redis_server.url, "state_namespace": f"reset-{time.time_ns()}"})
    other = make_app(settings={"state_url": redis_server.url, "state_namespace": f"other-{time.time_ns()}"})
    client, bystander = app.test_client(user=ANN), other.test_client(user=ANN)
    assert exhaust(app) == 429
    assert client.get("/me").status_code == bystander.get("/me").status_code == 200
    reset(app)
    assert app.test_client().get("/me", auth=(ANN, "wrong")).status_code == 401
    assert client.get("/me").status_code == 401
    assert bystander.get("/me").status_code == 200, "another application's namespace"
    reset(other)


@pytest.mark.parametrize("state", ["memory://", "sqlite:///state.sqlite3"])
def test_reset_ends_login_sessions(make_app: MakeApp, state: str) -> None:
    app = make_app(settings={"state_url": state, "session": {"revocation_delay": 60}})
    client = app.test_client(user=ANN)
    assert client.get("/me").status_code == 200
    reset(app)
    assert client.get("/me").status_code == 401


def test_reset_clears_verified_credentials(make_app: MakeApp) -> None:
    genesys = GenesysEmulator()
    with genesys.serve() as server:
        table = {"url": server.url, "client_id": genesys.client_id, "client_secret": genesys.client_secret}
        app = make_app(configuration_server=table)
        accounts_of(app).add("acme", "ann")
        client = app.test_client(headers=genesys.add_user("ann", "a password"))
        for _ in range(2):
            assert client.get("/me").status_code == 200
        assert genesys.count == 2, "a token and whose it is"
        reset(app)
        assert client.get("/me").status_code == 200
        assert genesys.count == 4

        # An open circuit and the failures that reached the directory are forgotten likewise.
        genesys.fail(500)
        for _ in range(6):
            app.test_client().get("/me", auth=("somebody", "a password"))
        genesys.repair()
        reasons = [row for row in _walk(client) if row["step"] == "configuration_server"]
        assert reasons[0]["outcome"] == "authenticated"  # remembered, the server need not be asked
        genesys.forget()
        assert app.test_client().get("/me", auth=("ann", "a password!")).status_code == 503
        assert genesys.count == 0, "the circuit is open"
        reset(app)
        assert client.get("/me").status_code == 200
        assert genesys.count == 2


def _walk(client: Any) -> list[dict[str, Any]]:
    with client:
        client.get("/me")
        return current_decision.explain()


def test_reset_undoes_only_the_clients_accounts(app: Flask) -> None:
    store = accounts_of(app)
    mine = store.add("acme", "mine", roles={"ROLE_AGENT"})
    app.test_client(user="made", roles=["ROLE_ADMIN"])
    app.test_client(user="made", roles=["ROLE_SUPERVISOR"])
    app.test_client(user=mine, roles=["ROLE_ADMIN"])
    app.test_client(user=store.get(mine.id), roles=["ROLE_SUPERVISOR"])
    store.add("acme", "yours")
    reset(app)
    assert {one.user_name: one.roles for one in store.list()} == {"mine": {"ROLE_AGENT"}, "yours": frozenset()}
    app.test_client(user="made", roles=["ROLE_ADMIN"])
    made = store.get_by_name("acme", "made")
    assert made is not None
    store.delete(made.id)
    reset(app)
    assert len(store.list()) == 2


def test_reset_affects_one_application(make_app: MakeApp) -> None:
    first, second = make_app(), make_app()
    clients = first.test_client(user=ANN), second.test_client(user=ANN)
    reset(first)
    assert names(*clients) == [None, ANN]


def test_reset_requires_testing(make_app: MakeApp) -> None:
    app = make_app(testing=False)
    client = app.test_client(user=ANN)
    with pytest.raises(RuntimeError, match="TESTING"):
        reset(app)
    assert client.get("/me").status_code == 200


class OwnState:
    """An application's own store, which has what the protocol has and nothing more."""

    def __init__(self) -> None:
        inner = MemoryState("own")
        for name in vars(StateStore):
            if not name.startswith("_"):
                setattr(self, name, getattr(inner, name))


class OwnPeople:
    """An application's own accounts."""

    def find(self, identity: object) -> None:
        return None

    def get(self, account_id: str) -> Any:
        person = flask_login.UserMixin()
        person.id = account_id
        person.user_name = account_id
        return person


@pytest.mark.parametrize("missing", ["find_each", "take"])
def test_incomplete_store_is_refused_at_start(tmp_path: Path, missing: str) -> None:
    app = Flask("own", instance_path=str(tmp_path))
    app.config.update(TESTING=True, SECRET_KEY="k" * 32)
    app.config["GENESYS_AUTH"] = {"contact_centers": {"acme": {}}}
    state = OwnState()
    delattr(state, missing)
    make: Callable[..., Any] = GenesysAuth
    with pytest.raises(ConfigurationError, match=rf"has no {missing}\(\): see"):
        make(app, accounts=OwnPeople(), state=state)
    make(app, accounts=OwnPeople(), state=OwnState())


def test_reset_leaves_the_applications_own_stores(tmp_path: Path) -> None:
    app = Flask("own", instance_path=str(tmp_path))
    app.config.update(TESTING=True, SECRET_KEY="k" * 32)
    app.config["GENESYS_AUTH"] = {"contact_centers": {"acme": {}}}
    app.test_client_class = AuthClient
    people = OwnPeople()
    make: Callable[..., Any] = GenesysAuth
    make(app, accounts=people, state=OwnState())
    app.add_url_rule("/me", "me", lambda: {"user": current_user.user_name})
    client = app.test_client(user=people.get("ann"))
    assert names(client) == ["ann"]
    runtime(app).state.put("kept", 1, 60)
    reset(app)
    assert names(client) == [None]
    assert runtime(app).state.get("kept") == 1
