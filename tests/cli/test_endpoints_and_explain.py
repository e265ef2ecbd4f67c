"""``endpoints`` and ``explain``."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.views import MethodView

from flask_genesys_auth import protected, unprotected
from flask_genesys_auth.cli import genesys_auth
from flask_genesys_auth.web.runtime import runtime
from tests.cli.conftest import Invoke, accounts_of, make_app, one_line

PASSWORD = "ann's pässword"


@pytest.fixture
def ann(run: Invoke) -> str:
    made = run("accounts", "add", "acme", "ann", "--role", "ROLE_AGENT", "--password-stdin", stdin=PASSWORD + "\n")
    assert made.exit_code == 0
    return "ann"


@pytest.fixture
def credentials(tmp_path: Path, ann: str) -> str:
    token = base64.b64encode(f"{ann}:{PASSWORD}".encode()).decode()
    file = tmp_path / "headers.txt"
    file.write_text(f"Authorization: Basic {token}\n\nAccept: application/json\n")
    return f"@{file}"


def explained(run: Invoke, *args: str) -> dict[str, Any]:
    result = run("explain", *args, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.output)
    return found


def test_every_endpoint_is_listed_with_its_policy(run: Invoke, app: Flask) -> None:
    class Mixed(MethodView):
        @unprotected
        def get(self) -> str:
            return "open"

        @protected
        def post(self) -> str:
            return "closed"

    app.add_url_rule("/mixed", view_func=Mixed.as_view("mixed"))
    rows = json.loads(run("endpoints", "--json").output)
    found = {(row["endpoint"], *row["methods"]): (row["policy"], row["source"]) for row in rows}
    assert found == {
        ("folder_", "GET"): ("protected", "default"),
        ("genesys_auth.static", "GET"): ("unprotected", "static"),
        ("healthz", "GET"): ("unprotected", "view"),
        ("home", "GET"): ("protected", "default"),
        ("mixed", "GET"): ("unprotected", "view"),
        ("mixed", "POST"): ("protected", "view"),
        ("static", "GET"): ("unprotected", "static"),
        ("supervise", "GET", "POST"): ("protected (ROLE_SUPERVISOR)", "view"),
    }
    plain = run("endpoints").output
    assert plain.splitlines()[0].split() == ["ENDPOINT", "RULE", "METHODS", "POLICY", "SOURCE"]
    assert "/supervise" in plain


def test_explain_shows_each_step_and_the_answer(run: Invoke, credentials: str) -> None:
    found = explained(run, "GET", "https://portal.acme.example/?x=1", "-H", credentials)
    assert (found["endpoint"], found["policy"], found["contact_center"]) == ("home", "protected", "acme")
    assert (found["authenticated_by"], found["roles"]) == ("web_services", ["ROLE_AGENT"])
    assert [(row["step"], row["outcome"], row.get("reason")) for row in found["steps"]] == [
        ("salesforce", "not_applicable", "disabled"),
        ("configuration_server", "not_applicable", "disabled"),
        ("web_services", "authenticated", None),
    ]
    assert found["answer"] == {"status": None, "by": "view"}
    plain = run("explain", "get", "/", "-H", credentials)
    assert plain.exit_code == 0
    assert "web_services          authenticated" in plain.output
    assert "from the view" in plain.output


@pytest.mark.parametrize(
    ("args", "status", "by"),
    [
        (["GET", "/"], 401, "AuthenticationRequired"),
        (["GET", "/healthz"], None, "view"),
        (["OPTIONS", "/"], None, "view"),
        (["POST", "/"], 405, "routing"),
        (["GET", "/nothing"], 404, "routing"),
        (["GET", "/folder"], 308, "routing"),
    ],
)
def test_explain_of_an_anonymous_request(run: Invoke, args: list[str], status: int | None, by: str) -> None:
    answer = explained(run, *args)["answer"]
    assert (answer["status"], answer["by"]) == (status, by)
    plain = run("explain", *args).output
    assert "authenticated   no" in plain


def test_explain_checks_roles(run: Invoke, credentials: str) -> None:
    assert explained(run, "GET", "/supervise", "-H", credentials)["answer"] == {"status": 403, "by": "RoleRequired"}
    run("accounts", "roles", "acme", "ann", "ROLE_SUPERVISOR")
    assert explained(run, "GET", "/supervise", "-H", credentials)["answer"]["by"] == "view"
    foreign = explained(run, "POST", "/supervise", "-H", credentials, "-H", "Origin: https://evil.example")
    assert foreign["answer"] == {"status": 403, "by": "ForeignOrigin"}


def test_explain_shows_the_redirect_of_browsers(tmp_path: Path) -> None:
    app = _with_login_view(tmp_path)
    runner = app.test_cli_runner()
    runner.invoke(genesys_auth, args=["init-db"])
    args = ["explain", "GET", "/", "-H", "Accept: text/html"]
    plain = runner.invoke(genesys_auth, args=args)
    assert "302 (AuthenticationRequired) to /login" in plain.output
    runtime(app).state.close()
    accounts_of(app).close()


def _with_login_view(folder: Path) -> Flask:
    app = make_app(folder, login_view="login")
    app.add_url_rule("/login", "login", unprotected(lambda: "a form"))
    return app


def test_explain_answers_preflights(tmp_path: Path) -> None:
    centers = {"acme": {"web_services": {}, "allowed_origins": ["https://acme.my.salesforce.com"]}}
    app = make_app(tmp_path, contact_centers=centers)
    headers = ["-H", "Origin: https://acme.my.salesforce.com", "-H", "Access-Control-Request-Method: POST"]
    runner = app.test_cli_runner()
    found = runner.invoke(genesys_auth, args=["explain", "OPTIONS", "/", *headers, "--json"])
    assert json.loads(found.output)["answer"] == {"status": 204, "by": "CORS preflight"}
    runtime(app).state.close()


@pytest.fixture
def session(app: Flask, ann: str) -> str:
    """A cookie of a living login session, as a header."""
    account = accounts_of(app).get_by_name("acme", ann)
    assert account is not None
    opaque = runtime(app).sessions.start(contact_center="acme", account_id=account.id, step="application")
    client = app.test_client()
    with client.session_transaction() as browser:
        browser["_genesys_login"] = browser["_user_id"] = opaque
    cookie = client.get_cookie("session")
    assert cookie is not None
    return f"Cookie: session={cookie.value}"


def test_explain_of_a_login_session(run: Invoke, session: str) -> None:
    found = explained(run, "GET", "/", "-H", session)
    assert (found["authenticated_by"], found["resumed"]) == ("application", True)


def test_explain_counts_and_rehashes_nothing(run: Invoke, app: Flask, ann: str, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.txt"
    wrong.write_text("Authorization: Basic " + base64.b64encode(b"ann:geheim").decode())
    stored = accounts_of(app).password_hash("acme", "ann")
    for _ in range(12):
        found = explained(run, "GET", "/", "-H", f"@{wrong}")
        assert found["steps"][2]["reason"] == "bad_credentials"
        assert found["answer"]["status"] == 401
    assert app.test_client().get("/", auth=(ann, PASSWORD)).status_code == 200
    assert accounts_of(app).password_hash("acme", "ann") == stored


@pytest.mark.parametrize("text", ["geheim", ": geheim", "X: ge\nheim", "X: geheim\u20ac"])
def test_malformed_headers_are_reported_without_their_value(run: Invoke, ann: str, tmp_path: Path, text: str) -> None:
    shown = one_line(run("explain", "GET", "/", "-H", "Accept: */*", "-H", text))
    assert "-H number 2" in shown
    assert "geheim" not in shown
    assert run("explain", "GET", "/", "-H", "Accept: */*").exit_code == 0


def test_an_unreadable_header_file_is_one_line(run: Invoke, tmp_path: Path) -> None:
    assert "No such file" in one_line(run("explain", "GET", "/", "-H", f"@{tmp_path / 'none'}"))
    bad = tmp_path / "bad"
    bad.write_bytes(b"X: y\n\xff")
    assert "is not UTF-8" in one_line(run("explain", "GET", "/", "-H", f"@{bad}"))
    bad.write_text("X: y\ngeheim")
    shown = one_line(run("explain", "GET", "/", "-H", f"@{bad}"))
    assert "line 2" in shown
    assert "geheim" not in shown


def test_an_unknown_method_is_a_usage_error(run: Invoke) -> None:
    assert run("explain", "FETCH", "/").exit_code == 2


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1",
        "http://portal:abc/",
        "http://portal:99999999/",
        "http://a..b/",
        "http://a b/",
        "http://ann:geheim@portal/",
        "http:///healthz",
        "ftp://portal/healthz",
        "healthz",
        "",
        "/health\udcffz",
        "/health\nz",
        "http://portal\udcff/",
    ],
)
def test_an_invalid_url_is_one_line(run: Invoke, url: str) -> None:
    assert "Invalid value for 'URL'" in one_line(run("explain", "GET", url))


@pytest.mark.parametrize(
    "url", ["/healthz", "//portal/healthz", "http://[::1]:5000/healthz", "https://bücher.example/healthz?a b=ö#c"]
)
def test_urls_may_be_paths_or_absolute(run: Invoke, url: str) -> None:
    assert explained(run, "GET", url)["endpoint"] == "healthz"


@pytest.mark.parametrize("group", [[], ["accounts"], ["saml"]])
def test_the_help_has_complete_sentences(run: Invoke, group: list[str]) -> None:
    shown = run(*group, "--help").output
    _, _, commands = shown.partition("Commands:")
    assert commands
    assert "..." not in commands
