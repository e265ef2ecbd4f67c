"""The applications that the benchmarks compare; each has one page that shows the user's name.

Peers with users in a database read them at each request, as ours does. The environment variables ``DATABASE`` and
``SESSIONS`` name the servers.
"""

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
DATABASE = "BENCHMARK_DATABASE"
"""The environment variable with the SQLAlchemy address of the peers' users."""
SESSIONS = "BENCHMARK_SESSIONS"
"""The environment variable with the address of the peers' sessions: of a Redis server, or empty for ``DATABASE``."""


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


def with_flask_sqlalchemy(database: str = "") -> Flask:
    """Flask-Login with its cookie session and users by Flask-SQLAlchemy, as both quick starts show.

    :param database: a SQLAlchemy URL; default: the environment's.
    """
    app = _new_app("sqlalchemy")
    _users_in_database(app, database or os.environ[DATABASE])
    return app


def with_flask_session(database: str = "", sessions: str = "") -> Flask:
    """Flask-Login with sessions on the server by Flask-Session, and users by Flask-SQLAlchemy.

    :param database: a SQLAlchemy URL; default: the environment's.
    :param sessions: the URL of a Redis server; default: the environment's, else the database.
    """
    app = _new_app("session")
    users = _users_in_database(app, database or os.environ[DATABASE])
    _sessions_on_server(app, users, sessions)
    return app


def with_flask_security(database: str = "", sessions: str = "") -> Flask:
    """Flask-Security with sessions on the server by Flask-Session, and users by Flask-SQLAlchemy.

    :param database: a SQLAlchemy URL; default: the environment's.
    :param sessions: the URL of a Redis server; default: the environment's, else the database.
    """
    from flask_security import Security, SQLAlchemyUserDatastore, auth_required, current_user, hash_password, login_user
    from flask_security.models import fsqla_v3
    from flask_security.utils import verify_and_update_password
    from flask_sqlalchemy import SQLAlchemy

    app = _new_app("security")
    app.config.update(
        SECURITY_PASSWORD_SALT="the benchmark's own",  # noqa: S106 - it guards nothing
        SQLALCHEMY_DATABASE_URI=database or os.environ[DATABASE],
        WTF_CSRF_ENABLED=False,
    )
    users: Any = SQLAlchemy(app)
    models: Any = fsqla_v3
    models.FsModels.set_db_info(users)

    class Role(users.Model, models.FsRoleMixin):  # type: ignore[misc]  # Flask-Security has no type hints
        pass

    class User(users.Model, models.FsUserMixin):  # type: ignore[misc]  # Flask-Security has no type hints
        pass

    store = SQLAlchemyUserDatastore(users, User, Role)
    Security(app, store)
    _sessions_on_server(app, users, sessions)

    @app.post("/log-in")
    def log_in() -> tuple[str, int]:
        user = store.find_user(email=request.form["name"])
        if user is None or not verify_and_update_password(request.form["password"], user):
            return "no", 403
        login_user(user)
        users.session.commit()
        return USER, 200

    @app.get("/")
    @auth_required("session")
    def home() -> str:
        return str(current_user.email)

    with app.app_context():
        users.create_all()
        if store.find_user(email=USER) is None:
            store.create_user(email=USER, password=hash_password(PASSWORD))
            users.session.commit()
        _let_go(users)
    return app


def _users_in_database(app: Flask, database: str) -> Any:
    """Give an application Flask-Login with users by Flask-SQLAlchemy, and its two views."""
    from flask_sqlalchemy import SQLAlchemy

    app.config["SQLALCHEMY_DATABASE_URI"] = database
    users: Any = SQLAlchemy(app)
    manager = flask_login.LoginManager(app)

    class Person(users.Model, flask_login.UserMixin):  # type: ignore[misc]  # neither has type hints
        id = users.Column(users.Integer, primary_key=True)
        user_name = users.Column(users.String(80), unique=True, nullable=False)

    @manager.user_loader  # type: ignore[untyped-decorator]  # Flask-Login has no type hints
    def load(user_id: str) -> Any:
        return users.session.get(Person, int(user_id))

    def named() -> Any:
        return users.session.execute(users.select(Person).filter_by(user_name=USER)).scalar()

    @app.post("/log-in")
    def log_in() -> str:
        flask_login.login_user(named())
        return USER

    @app.get("/")
    @flask_login.login_required  # type: ignore[untyped-decorator]  # Flask-Login has no type hints
    def home() -> str:
        return str(flask_login.current_user.user_name)

    with app.app_context():
        users.create_all()
        if named() is None:
            users.session.add(Person(user_name=USER))
            users.session.commit()
        _let_go(users)
    return users


def _sessions_on_server(app: Flask, users: Any, sessions: str) -> None:
    from flask_session import Session

    address = sessions or os.environ.get(SESSIONS, "")
    if address:
        import redis

        app.config.update(SESSION_TYPE="redis", SESSION_REDIS=redis.Redis.from_url(address))
    else:
        app.config.update(SESSION_TYPE="sqlalchemy", SESSION_SQLALCHEMY=users)
    with app.app_context():
        Session(app)
        _let_go(users)


def _let_go(users: Any) -> None:
    """Leave no connection open in the process that forks."""
    users.session.remove()
    users.engine.dispose()


def with_httpauth() -> Flask:
    """Flask-HTTPAuth, whose check is cached in a dictionary."""
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
    # Imported here, so that the peers' workers do not load our modules.
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
