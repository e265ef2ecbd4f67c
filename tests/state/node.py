"""A process with applications on a shared store, which executes orders line by line (run as a program)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from flask import Flask

from flask_genesys_auth import GenesysAuth, current_user, roles_required
from flask_genesys_auth.accounts.store import SqlAccounts
from flask_genesys_auth.testing import AuthClient
from flask_genesys_auth.web.runtime import runtime

auth = GenesysAuth()


def make_app(folder: str, settings: dict[str, Any]) -> Flask:
    app = Flask("portal", instance_path=folder)
    app.secret_key = "the same for all"
    app.test_client_class = AuthClient
    app.config["GENESYS_AUTH"] = {
        "contact_centers": {"acme": {"web_services": {}}},
        "passwords": {"memory_kib": 8, "iterations": 1, "reuse_verified_for": 3600},
        "state_timeout": 30,
        **settings,
    }
    auth.init_app(app)
    app.add_url_rule("/", view_func=lambda: current_user.user_name, endpoint="home")
    app.add_url_rule("/agents", view_func=roles_required("ROLE_AGENT")(lambda: "agents"), endpoint="agents")
    return app


class Node:
    """What it can be told; each method returns what JSON can say."""

    def __init__(self, apps: dict[str, Flask]) -> None:
        self._apps = apps

    def do(self, order: dict[str, Any]) -> Any:
        app = self._apps[order.pop("app")]
        with app.app_context():
            return getattr(self, order.pop("do"))(app=app, **order)

    def log_in(self, app: Flask, user: str) -> str:
        """Return the cookie of a new login session."""
        cookie = app.test_client(user=user).get_cookie("session")
        assert cookie is not None
        return cookie.value

    def ask(self, app: Flask, *, path: str = "/", cookie: str = "", password: str = "", user: str = "") -> int:
        """Return the status of a request by session or by password."""
        client = app.test_client()
        if cookie:
            client.set_cookie("session", cookie)
        return client.get(path, auth=(user, password) if password else None).status_code

    def change(self, app: Flask, user: str, method: str, values: list[Any]) -> None:
        """Change an account, which is made where it is missing."""
        store = _accounts(app)
        found = store.get_by_name("acme", user) or store.add("acme", user)
        if method == "set_password":
            values = [runtime(app).hasher.hash(values[0])]
        getattr(store, method)(found.id, *values)

    def account(self, app: Flask, user: str) -> str:
        """Return an account's id."""
        found = _accounts(app).get_by_name("acme", user)
        assert found is not None
        return found.id

    def revoke(self, app: Flask, **named: Any) -> int:
        """End login sessions."""
        return auth.revoke(**named)

    def sessions(self, app: Flask, **named: Any) -> list[str]:
        """Return the handles of the living login sessions."""
        return [one.handle for one in auth.sessions(**named)]

    def purge(self, app: Flask) -> int:
        """Remove what has expired."""
        return runtime(app).state.purge()


def _accounts(app: Flask) -> SqlAccounts:
    store = runtime(app).accounts
    assert isinstance(store, SqlAccounts)
    return store


def main(folder: str, apps: dict[str, dict[str, Any]]) -> None:
    node = Node({name: make_app(folder, settings) for name, settings in apps.items()})
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(node.do(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(str(Path(sys.argv[1])), json.loads(sys.argv[2]))
