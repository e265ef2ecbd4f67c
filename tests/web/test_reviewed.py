"""What a second pair of eyes found at the seam: each case beside the one that is accepted."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import flask_login
import pytest
from flask import Flask, Response, render_template_string
from flask_login import LoginManager, login_user, logout_user

from flask_genesys_auth import GenesysAuth, current_user, unprotected

from .conftest import MakeApp, accounts_of

ANN = ("ann@acme.example", "ann's: password")
FOREIGN = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}


def with_manager(app: Flask) -> None:
    LoginManager().init_app(app)


@pytest.mark.parametrize("path", ["/out", "/out-open", "/out-ours"])
def test_logging_out_ends_a_session_that_lives_by_the_remember_cookie(make_app: MakeApp, path: str) -> None:
    app = make_app(prepare=with_manager)

    @app.post("/in")
    @unprotected
    def log_in() -> str:
        login_user(accounts_of(app).get_by_name("acme", ANN[0]), remember=True)
        return "in"

    @app.post("/out", endpoint="out")
    @app.post("/out-open", endpoint="open-out")
    def log_out() -> str:
        logout_user()
        return "out"

    @app.post("/out-ours")
    def log_out_ours() -> str:
        GenesysAuth().logout()
        return "out"

    app.view_functions["open-out"] = unprotected(lambda: log_out())
    client = app.test_client()
    client.post("/in")
    kept = client.get_cookie("remember_token")
    assert kept is not None
    client.delete_cookie("session")  # the browser was closed
    assert client.get("/private").status_code == 200
    client.delete_cookie("session")
    assert client.post(path).status_code == 200
    stolen = app.test_client()
    stolen.set_cookie("remember_token", kept.value)
    assert stolen.get("/private").status_code == 401


def test_a_foreign_request_is_refused_however_often_its_user_is_asked_for(make_app: MakeApp) -> None:
    app = make_app({"protect_by_default": False})

    @app.before_request
    def peek() -> None:
        with suppress(Exception):  # as careless as applications are
            _ = flask_login.current_user.is_authenticated

    @app.post("/pay")
    @flask_login.login_required  # type: ignore[untyped-decorator]  # Flask-Login has no type hints
    def pay() -> str:
        return current_user.user_name

    client = app.test_client(user=ANN[0])
    assert client.post("/pay", headers=FOREIGN).status_code == 403
    assert client.post("/pay").text == ANN[0]


def test_what_a_view_shows_stays_private_when_it_logs_in_or_out(make_app: MakeApp) -> None:
    app = make_app()

    @app.post("/bye")
    def bye() -> str:
        name = current_user.user_name
        logout_user()
        return name

    for answer in (app.test_client(user=ANN[0]).post("/bye"), app.test_client().get("/private", auth=ANN)):
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "private, no-store"
        assert "Cookie" in answer.headers["Vary"]
    assert "Cache-Control" not in app.test_client().get("/open").headers


def test_no_shared_cache_keeps_a_protected_file(make_app: MakeApp) -> None:
    app = make_app()

    def cached() -> Response:
        return Response("file", headers={"Cache-Control": "public, max-age=3600"})

    app.add_url_rule("/file", view_func=cached)
    app.add_url_rule("/logo", "logo", unprotected(lambda: cached()))
    protected: Any = app.test_client().get("/file", auth=ANN).cache_control
    assert (protected.public, protected.private, protected.max_age) == (False, True, 3600)
    open_: Any = app.test_client().get("/logo").cache_control
    assert (open_.public, open_.max_age) == (True, 3600)


def test_a_garbage_remember_cookie_hides_no_good_password(make_app: MakeApp) -> None:
    app = make_app({"protect_by_default": False}, prepare=with_manager)

    @app.get("/fl")
    @flask_login.login_required  # type: ignore[untyped-decorator]  # Flask-Login has no type hints
    def fl() -> str:
        return "in"

    client = app.test_client()
    client.set_cookie("remember_token", "garbage")
    assert client.get("/fl").status_code == 401
    assert client.get("/fl", auth=ANN).status_code == 200
    assert app.test_client().get("/fl", auth=ANN).status_code == 200


def test_the_template_of_an_error_shows_a_foreign_request_nobody(make_app: MakeApp) -> None:
    app = make_app()

    @app.errorhandler(404)
    def missing(_: Exception) -> tuple[str, int]:
        return render_template_string("{{ current_user.user_name or 'nobody' }}"), 404

    @app.post("/open-form")
    @unprotected
    def open_form() -> str:
        shown = render_template_string("{{ current_user.user_name or 'nobody' }}")
        return f"{shown}, {current_user.user_name}" if shown != "nobody" else shown

    client = app.test_client(user=ANN[0])
    foreign, own = (client.post("/nope", headers=headers) for headers in (FOREIGN, {}))
    assert (foreign.status_code, foreign.text) == (404, "nobody")
    assert (own.status_code, own.text) == (404, ANN[0])
    assert client.post("/open-form", headers=FOREIGN).text == "nobody"
    assert client.post("/open-form").text == f"{ANN[0]}, {ANN[0]}"
    assert client.post("/private", headers=FOREIGN).status_code in {403, 405}


def test_flask_login_asks_for_the_user_in_every_template() -> None:
    """Leaned on: its context processor is this one function."""
    app = Flask("plain")
    LoginManager().init_app(app)
    assert flask_login.utils._user_context_processor in app.template_context_processors[None]
