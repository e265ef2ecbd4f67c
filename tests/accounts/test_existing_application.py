"""A Flask-SQLAlchemy and Flask-Login application adopts the extension with its own model."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, redirect, request
from flask_login import LoginManager, UserMixin, current_user, login_required, login_user, logout_user
from flask_sqlalchemy import SQLAlchemy
from werkzeug.security import check_password_hash, generate_password_hash
from werkzeug.wrappers import Response

from flask_genesys_auth import GenesysAuth, current_decision, roles_required, unprotected
from flask_genesys_auth.accounts import from_model
from flask_genesys_auth.web.runtime import runtime

db: SQLAlchemy = SQLAlchemy()


class User(UserMixin, db.Model):  # type: ignore[misc, name-defined]  # neither base has type hints
    """The application's own model, which does not import the extension."""

    id = db.Column(db.Integer, primary_key=True)
    email = db.Column(db.String, unique=True, nullable=False)
    password_hash = db.Column(db.String)
    active = db.Column(db.Boolean, default=True)
    roles = db.relationship("Role")

    @property
    def is_active(self) -> bool:
        return bool(self.active)


class Role(db.Model):  # type: ignore[misc, name-defined]  # the base has no type hints
    id = db.Column(db.Integer, primary_key=True)
    name = db.Column(db.String, nullable=False)
    user_id = db.Column(db.ForeignKey("user.id"))


def existing_application(folder: Path) -> Flask:
    """Return the application without the extension."""
    app = Flask("existing", instance_path=str(folder))
    app.secret_key = "a secret key of the tests"
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{folder / 'application.sqlite3'}"
    db.init_app(app)
    manager = LoginManager(app)
    manager.login_view = "login"

    @app.route("/login", methods=["GET", "POST"])
    @unprotected
    def login() -> Any:
        if request.method == "POST":
            user = db.session.scalars(db.select(User).filter_by(email=request.form["email"])).one_or_none()
            if user is not None and check_password_hash(user.password_hash, request.form["password"]):
                login_user(user)
                return redirect("/")
        return "the form"

    @app.get("/")
    @login_required  # type: ignore[untyped-decorator]  # Flask-Login has no type hints
    def home() -> str:
        assert isinstance(current_user._get_current_object(), User)
        return f"{current_user.email} by {current_decision.authenticated_by}"

    @app.get("/supervise")
    @roles_required("ROLE_SUPERVISOR")
    def supervise() -> str:
        return "supervised"

    @app.post("/logout")
    def logout() -> Response:
        logout_user()
        return redirect("/login")

    return app


def hash_of(password: str) -> str:
    return generate_password_hash(password, "pbkdf2:sha256:10")


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    app = existing_application(tmp_path)
    with app.app_context():
        db.create_all()
        db.session.add_all(
            [
                User(email="Ann@acme.example", password_hash=hash_of("ann's"), roles=[Role(name="ROLE_SUPERVISOR")]),
                User(email="bob@acme.example", password_hash=hash_of("bob's")),
            ]
        )
        db.session.commit()
    app.config["GENESYS_AUTH"] = {
        "state_url": "memory://",
        "login_view": "login",
        "contact_centers": {"acme": {"web_services": {}}},
    }
    GenesysAuth(
        app,
        accounts=from_model(
            db.session,
            User,
            user_name="email",
            roles="roles",
            password_hash="password_hash",
            verify=check_password_hash,
            dummy_hash=hash_of("nobody's"),
        ),
    )
    yield app
    with app.app_context():
        db.engine.dispose()


def basic(user_name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user_name}:{password}".encode()).decode()}


PAGE = {"Accept": "text/html"}
SAME = {"Sec-Fetch-Site": "same-origin"}


def test_existing_login_form_users_and_views_keep_working(app: Flask) -> None:
    client = app.test_client()
    assert client.get("/", headers=PAGE).headers["Location"].startswith("/login")
    assert (
        client.post("/login", data={"email": "bob@acme.example", "password": "wrong"}, headers=SAME).text == "the form"
    )
    sent = client.post("/login", data={"email": "bob@acme.example", "password": "bob's"}, headers=SAME)
    assert sent.headers["Location"] == "/"
    assert client.get("/").text == "bob@acme.example by application"
    assert client.get("/supervise").status_code == 403
    assert client.post("/logout", headers=SAME).status_code == 302
    assert client.get("/").status_code == 401


def test_basic_verifies_existing_hashes_without_replacing_them(app: Flask) -> None:
    client = app.test_client()
    answer = client.get("/", headers=basic("ann@ACME.example", "ann's"))
    assert answer.text == "Ann@acme.example by web_services"
    assert "Set-Cookie" not in answer.headers
    assert client.get("/supervise", headers=basic("ann@acme.example", "ann's")).text == "supervised"
    assert client.get("/supervise", headers=basic("bob@acme.example", "bob's")).status_code == 403
    assert client.get("/", headers=basic("ann@acme.example", "bob's")).status_code == 401
    assert client.get("/", headers=basic("nobody", "nobody's")).status_code == 401
    with app.app_context():
        assert all(user.password_hash.startswith("pbkdf2:") for user in db.session.scalars(db.select(User)))


def test_account_changes_apply_at_the_next_request(app: Flask) -> None:
    client = app.test_client()
    good = basic("bob@acme.example", "bob's")
    client.post("/login", data={"email": "bob@acme.example", "password": "bob's"}, headers=SAME)
    assert client.get("/").status_code == 200
    assert app.test_client().get("/", headers=good).status_code == 200
    with app.app_context():
        bob = db.session.scalars(db.select(User).filter_by(email="bob@acme.example")).one()
        bob.active = False
        db.session.commit()
    assert client.get("/").status_code == 401
    assert app.test_client().get("/", headers=good).status_code == 401
    with app.app_context():
        bob = db.session.scalars(db.select(User).filter_by(email="bob@acme.example")).one()
        bob.active, bob.password_hash = True, generate_password_hash("new", "pbkdf2:sha256:10")
        db.session.commit()
    assert app.test_client().get("/", headers=good).status_code == 401
    assert app.test_client().get("/", headers=basic("bob@acme.example", "new")).status_code == 200


def test_revoking_ends_existing_logins(app: Flask) -> None:
    client = app.test_client()
    client.post("/login", data={"email": "bob@acme.example", "password": "bob's"}, headers=SAME)
    assert client.get("/").status_code == 200
    assert runtime(app).sessions.revoke(account_id="2") == 1
    assert client.get("/").status_code == 401


def test_database_outage_answers_503_not_401(app: Flask) -> None:
    client = app.test_client()
    with app.app_context():
        db.drop_all()
    answer = client.get("/", headers=basic("bob@acme.example", "bob's"))
    assert answer.status_code == 503
    assert "Retry-After" in answer.headers
    with app.app_context():
        db.create_all()
    assert client.get("/", headers=basic("bob@acme.example", "bob's")).status_code == 401
