"""Refusals: envelope, page or redirect, and the headers of each response."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask, Response
from flask_login import logout_user

from flask_genesys_auth import (
    AuthenticationRequired,
    NotApplicable,
    Outcome,
    Reason,
    Refusal,
    Unavailable,
    current_user,
    unprotected,
)
from flask_genesys_auth.testing import AuthClient

from .conftest import MakeApp

ANN = ("ann@acme.example", "ann's: password")
BROWSER = {"Sec-Fetch-Mode": "navigate", "Accept": "text/html"}
OLD_BROWSER = {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}
SCRIPT = {"Sec-Fetch-Mode": "cors"}
OLD_SCRIPT = {"X-Requested-With": "XMLHttpRequest", "Accept": "text/html"}


class Down:
    """A step that cannot be asked."""

    name = "down"

    def __init__(self, reason: Reason = Reason.TIMED_OUT) -> None:
        self.reason: Reason | None = reason

    def authenticate(self, evidence: Any, contact_center: Any) -> Outcome:
        return Unavailable(self.reason, retry_after=7) if self.reason else NotApplicable()

    def challenge(self, request: Any, contact_center: Any) -> None:
        return None


def test_api_client_gets_envelope_and_basic_challenge(app: Flask) -> None:
    answer = app.test_client().get("/private")
    assert answer.status_code == 401
    assert answer.get_json() == {"statusCode": 20, "statusMessage": "Access denied"}
    assert answer.headers["WWW-Authenticate"].startswith("Basic realm=")


@pytest.mark.parametrize("headers", [SCRIPT, OLD_SCRIPT])
def test_a_script_gets_no_basic_challenge(app: Flask, headers: dict[str, str]) -> None:
    answer = app.test_client().get("/private", headers=headers)
    assert answer.status_code == 401
    assert answer.get_json()["statusCode"] == 20
    assert "WWW-Authenticate" not in answer.headers


@pytest.mark.parametrize("headers", [BROWSER, OLD_BROWSER])
def test_navigation_without_saml_or_login_view_gets_page(app: Flask, headers: dict[str, str]) -> None:
    answer = app.test_client().get("/private", headers=headers)
    assert answer.status_code == 401
    assert answer.mimetype == "text/html"
    assert "WWW-Authenticate" not in answer.headers
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_a_navigation_goes_to_the_applications_login_view(make_app: MakeApp) -> None:
    app = make_app({"login_view": "open_"})
    answer = app.test_client().get("/private?a=1&b=%2F", headers=BROWSER)
    assert answer.status_code == 302
    assert answer.headers["Location"] == "/open?next=/private?a%3D1%26b%3D%252F"
    assert app.test_client().post("/private", headers=BROWSER).headers["Location"] == "/open"
    assert app.test_client().get("/private", headers=BROWSER, auth=ANN).status_code == 200


def test_protected_login_view_does_not_redirect_to_itself(make_app: MakeApp) -> None:
    app = make_app({"login_view": "marked"})
    assert app.test_client().get("/marked", headers=BROWSER).status_code == 401
    assert app.test_client().get("/private", headers=BROWSER).status_code == 302


def test_the_unauthenticated_status_can_be_403(make_app: MakeApp) -> None:
    app = make_app({"unauthenticated_status": 403})
    answer = app.test_client().get("/private")
    assert answer.status_code == 403
    assert answer.get_json()["statusCode"] == 20
    assert app.test_client().get("/private", auth=ANN).status_code == 200


def test_a_missing_role_is_403(app: Flask) -> None:
    answer = app.test_client().get("/supervisors", auth=ANN)
    assert (answer.status_code, answer.get_json()["statusCode"]) == (403, 5)
    page = app.test_client().get("/supervisors", auth=ANN, headers=BROWSER)
    assert (page.status_code, page.mimetype) == (403, "text/html")


@pytest.mark.parametrize("headers", [{}, BROWSER])
@pytest.mark.parametrize(("reason", "status", "code"), [(Reason.TIMED_OUT, 503, 4), (Reason.THROTTLED, 429, 3)])
def test_an_outage_is_not_a_wrong_password(
    make_app: MakeApp, headers: dict[str, str], reason: Reason, status: int, code: int
) -> None:
    step = Down(reason)
    app = make_app({"login_view": "open_"}, extra_steps=[step])
    answer = app.test_client().get("/private", headers=headers)
    assert answer.status_code == status
    assert answer.headers["Retry-After"] == "7"
    assert "WWW-Authenticate" not in answer.headers
    if not headers:
        assert answer.get_json()["statusCode"] == code
    step.reason = None
    assert app.test_client().get("/private", headers=headers).status_code in {401, 302}


def test_no_reason_reaches_the_client(app: Flask) -> None:
    client = app.test_client()
    answers = {
        (answer.status_code, answer.data, str(answer.headers.get("WWW-Authenticate")))
        for answer in (
            client.get("/private", auth=("ann@acme.example", "wrong")),
            client.get("/private", auth=("nobody@acme.example", "wrong")),
            client.get("/private", headers={"Authorization": "Basic !!!"}),
        )
    }
    assert len(answers) == 1
    assert client.get("/private", auth=ANN).status_code == 200


def test_headers_are_added_to_an_errorhandlers_response(make_app: MakeApp) -> None:
    app = make_app()

    @app.errorhandler(401)
    def mine(error: Refusal) -> Any:
        assert isinstance(error, AuthenticationRequired)
        return {"mine": error.decision.explain()[0]["step"]}, 401

    answer = app.test_client().get("/private")
    assert answer.get_json() == {"mine": "salesforce"}
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    assert "Authorization" in answer.headers["Vary"]


def test_an_errorhandlers_redirect_is_unchanged(make_app: MakeApp) -> None:
    app = make_app()
    app.register_error_handler(AuthenticationRequired, lambda error: ("", 302, {"Location": "/open"}))
    answer = app.test_client().get("/private")
    assert answer.status_code == 302
    assert "WWW-Authenticate" not in answer.headers


def test_protected_responses_vary_and_are_not_cached(make_app: MakeApp) -> None:
    app = make_app({"salesforce_headers": {"session": "x-session", "identity": "x-identity"}})

    @app.get("/cached")
    def cached() -> Any:
        return "cached", {"Cache-Control": "private, max-age=60"}

    client = app.test_client()
    answer = client.get("/private", auth=ANN)
    vary = {name.strip().lower() for name in answer.headers["Vary"].split(",")}
    assert vary == {"authorization", "cookie", "contactcenterid", "x-session", "x-identity"}
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert client.get("/cached", auth=ANN).headers["Cache-Control"] == "private, max-age=60"
    assert "Vary" not in client.get("/open").headers
    assert "Authorization" in client.get("/who").headers["Vary"]


def test_a_bug_in_a_step_is_500(make_app: MakeApp) -> None:
    class Broken(Down):
        def authenticate(self, evidence: Any, contact_center: Any) -> Outcome:
            if evidence.request.args:
                raise ZeroDivisionError
            return NotApplicable()

    app = make_app(extra_steps=[Broken()], flask_config={"PROPAGATE_EXCEPTIONS": False, "TESTING": False})
    client = app.test_client(user="ann@acme.example")
    assert client.get("/private?broken=1").status_code == 500
    assert client.get("/private").status_code == 200


def test_the_test_client_begins_logged_in(app: Flask) -> None:
    client = app.test_client(user="new@acme.example", roles=["ROLE_SUPERVISOR"])
    assert isinstance(client, AuthClient)
    assert client.get("/supervisors").status_code == 200
    assert app.test_client(user="new@acme.example", roles=[]).get("/supervisors").status_code == 403


def test_views_that_log_in_or_out_are_private(make_app: MakeApp) -> None:
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


def test_shared_caches_do_not_store_protected_files(make_app: MakeApp) -> None:
    app = make_app()

    def cached() -> Response:
        return Response("file", headers={"Cache-Control": "public, max-age=3600"})

    app.add_url_rule("/file", view_func=cached)
    app.add_url_rule("/logo", "logo", unprotected(lambda: cached()))
    protected: Any = app.test_client().get("/file", auth=ANN).cache_control
    assert (protected.public, protected.private, protected.max_age) == (False, True, 3600)
    open_: Any = app.test_client().get("/logo").cache_control
    assert (open_.public, open_.max_age) == (True, 3600)
