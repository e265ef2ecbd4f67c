"""The applications that ``benchmarks/load.py`` puts behind gunicorn: one page that says who asks, three ways."""

from __future__ import annotations

import json
import os
from functools import lru_cache
from typing import Any

import flask_login
from flask import Flask, request
from flask_httpauth import HTTPBasicAuth

SECRET = "the benchmark's own, thirty-two bytes"  # noqa: S105 - it guards nothing
PASSWORD = "correct horse"  # noqa: S105
USER = "ann@acme.example"
PLAN = "BENCHMARK_GENESYS_AUTH"
"""The environment variable that holds our configuration as JSON."""


def _new_app(name: str) -> Flask:
    app = Flask(name)
    app.secret_key = SECRET
    return app


def with_flask_login() -> Flask:
    """Flask-Login with users out of a dictionary, as its documentation begins."""
    app = _new_app("login")
    manager = flask_login.LoginManager(app)

    class User(flask_login.UserMixin):  # type: ignore[misc]  # Flask-Login has no type hints
        def __init__(self, name: str) -> None:
            self.id = self.user_name = name

    users = {USER: User(USER)}
    manager.user_loader(users.get)

    @app.post("/log-in")
    def log_in() -> str:
        flask_login.login_user(users[USER])
        return USER

    @app.get("/")
    @flask_login.login_required  # type: ignore[untyped-decorator]  # Flask-Login has no type hints
    def home() -> str:
        return str(flask_login.current_user.user_name)

    return app


def with_httpauth() -> Flask:
    """Flask-HTTPAuth, whose check is remembered in a dictionary."""
    app = _new_app("httpauth")
    auth = HTTPBasicAuth()

    @auth.verify_password  # type: ignore[untyped-decorator]  # Flask-HTTPAuth has no type hints
    @lru_cache
    def verify(user_name: str, password: str) -> str | None:
        return user_name if (user_name, password) == (USER, PASSWORD) else None

    @app.get("/")
    @auth.login_required  # type: ignore[untyped-decorator]  # Flask-HTTPAuth has no type hints
    def home() -> str:
        return str(auth.current_user())

    return app


def ours() -> Flask:
    """Our extension, with the configuration that the environment holds."""
    # Here, so that the peers' workers do not hold our modules: they are what ours is measured by.
    from flask_genesys_auth import GenesysAuth, current_user, unprotected

    app = _new_app("ours")
    plan: dict[str, Any] = json.loads(os.environ[PLAN])
    app.config["GENESYS_AUTH"] = plan
    auth = GenesysAuth(app)

    @app.post("/log-in")
    @unprotected
    def log_in() -> tuple[str, int]:
        decision = auth.log_in_with_password(request.form["name"], request.form["password"])
        return (USER, 200) if decision.authenticated else ("no", 403)

    app.add_url_rule("/", "home", lambda: current_user.user_name)
    return app
