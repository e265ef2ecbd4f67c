"""An application under test, with accounts in SQLite and the login sessions in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, jsonify

from flask_genesys_auth import GenesysAuth, current_decision, current_user, protected, roles_required, unprotected
from flask_genesys_auth.accounts.store import SqlAccounts
from flask_genesys_auth.testing import AuthClient
from flask_genesys_auth.web.runtime import runtime

MakeApp = Callable[..., Flask]

FAST = {"memory_kib": 8, "iterations": 1, "lanes": 1}


def accounts_of(app: Flask) -> SqlAccounts:
    store = runtime(app).accounts
    assert isinstance(store, SqlAccounts)
    return store


def add_people(app: Flask) -> None:
    store = accounts_of(app)
    store.create_tables()
    if store.list():
        return  # the accounts of another application under test
    ann = store.add("acme", "ann@acme.example", first_name="Ann", roles={"ROLE_AGENT"})
    store.set_password(ann.id, runtime(app).hasher.hash("ann's: password"))
    sue = store.add("acme", "sue@acme.example", roles={"ROLE_AGENT", "ROLE_SUPERVISOR"})
    store.set_password(sue.id, runtime(app).hasher.hash("sue's password"))


def add_views(app: Flask) -> None:
    @app.route("/private", methods=["GET", "POST"])
    def private() -> Any:
        return jsonify(user=current_user.user_name, by=current_decision.authenticated_by)

    @app.route("/open", methods=["GET", "POST"])
    @unprotected
    def open_() -> str:
        return "open"

    @app.route("/who", methods=["GET", "POST"])
    @unprotected
    def who() -> Any:
        return jsonify(user=current_user.user_name, by=current_decision.authenticated_by)

    @app.get("/marked")
    @protected
    def marked() -> str:
        return "marked"

    @app.get("/supervisors")
    @roles_required("ROLE_SUPERVISOR")
    def supervisors() -> str:
        return "supervisors"


@pytest.fixture
def make_app(tmp_path: Path) -> Iterator[MakeApp]:
    made: list[Flask] = []

    def make(
        settings: dict[str, Any] | None = None,
        *,
        prepare: Callable[[Flask], None] | None = None,
        flask_config: dict[str, Any] | None = None,
        **options: Any,
    ) -> Flask:
        app = Flask(f"app{len(made)}", instance_path=str(tmp_path / f"instance{len(made)}"))
        app.test_client_class = AuthClient
        app.secret_key = "a secret key of the tests"
        app.config["TESTING"] = True
        app.config.update(flask_config or {})
        app.config["GENESYS_AUTH"] = {
            "state_url": "memory://",
            "contact_centers": {"acme": {"web_services": {}}},
            "passwords": FAST,
            **(settings or {}),
        }
        if prepare:
            prepare(app)
        GenesysAuth(app, **options)
        made.append(app)
        if not options.get("accounts"):
            add_people(app)
        add_views(app)
        return app

    yield make
    for app in made:
        here = runtime(app)
        here.state.close()
        if isinstance(here.accounts, SqlAccounts):
            here.accounts.close()


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app()
