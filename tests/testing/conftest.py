"""An application under test, as a user of the library would write it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, jsonify

from flask_genesys_auth import GenesysAuth, current_decision, current_user, roles_required
from flask_genesys_auth.accounts.store import SqlAccounts
from flask_genesys_auth.testing import (
    AuthClient,
    DevelopmentIdentityProvider,
    SigningKey,
    generate_signing_key,
)
from flask_genesys_auth.web.runtime import runtime

MakeApp = Callable[..., Flask]

ANN = "ann@acme.example"


@pytest.fixture(scope="session")
def key() -> SigningKey:
    return generate_signing_key("their provider")


@pytest.fixture
def provider(key: SigningKey) -> DevelopmentIdentityProvider:
    """Return a provider that is not served: no server listens at its address."""
    made = DevelopmentIdentityProvider("http://127.0.0.1:9", key=key)
    made.add_user("Ann", name_id=ANN)
    made.add_user("Bob", attributes={"groups": ["agents", "leads"]})
    return made


def accounts_of(app: Flask) -> SqlAccounts:
    store = runtime(app).accounts
    assert isinstance(store, SqlAccounts)
    return store


@pytest.fixture
def make_app(tmp_path: Path) -> Iterator[MakeApp]:
    made: list[Flask] = []

    def make(*, settings: dict[str, Any] | None = None, testing: bool = True, **steps: Any) -> Flask:
        app = Flask(f"portal{len(made)}", instance_path=str(tmp_path))
        app.config.update(TESTING=testing, SECRET_KEY="k" * 32)
        app.config["GENESYS_AUTH"] = {
            "state_url": "memory://",
            "accounts_url": f"sqlite:///accounts{len(made)}.sqlite3",
            "passwords": {"memory_kib": 8, "iterations": 1},
            "contact_centers": {"acme": steps or {"web_services": {}}},
            **(settings or {}),
        }
        app.test_client_class = AuthClient
        app.add_url_rule(
            "/me", "me", lambda: jsonify(user=current_user.user_name, by=current_decision.authenticated_by)
        )
        app.add_url_rule("/reports", "reports", roles_required("ROLE_SUPERVISOR")(lambda: "reports"))
        GenesysAuth(app)
        made.append(app)
        accounts_of(app).create_tables()
        return app

    yield make
    for app in made:
        accounts_of(app).close()
        runtime(app).state.close()


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app()
