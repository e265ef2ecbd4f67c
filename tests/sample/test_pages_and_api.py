"""The pages and the API, in process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_genesys_auth.accounts.store import SqlAccounts
from flask_genesys_auth.web.runtime import runtime
from sample_app import build_app

PASSWORD = "wendy knows"


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    settings = {
        "state_url": "memory://",
        "accounts_url": "sqlite:///accounts.sqlite3",
        "login_view": "pages.login",
        "passwords": {"memory_kib": 64, "iterations": 1},
        "throttle": {"per_account": "3 per 5 minutes"},
        "contact_centers": {"acme": {"web_services": {}}},
    }
    app = build_app({"SECRET_KEY": "of a test", "TESTING": True, "GENESYS_AUTH": settings}, tmp_path)
    accounts_of(app).create_tables()
    add_account(app, "wendy", first_name="Wendy")
    yield app
    accounts_of(app).close()
    runtime(app).state.close()


def accounts_of(app: Flask) -> SqlAccounts:
    accounts = runtime(app).accounts
    assert isinstance(accounts, SqlAccounts)
    return accounts


def add_account(app: Flask, user_name: str, first_name: str) -> None:
    password_hash = runtime(app).hasher.hash(PASSWORD)
    accounts_of(app).add("acme", user_name, first_name=first_name, roles=["ROLE_AGENT"], password_hash=password_hash)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def log_in(client: FlaskClient, password: str = PASSWORD, **fields: str) -> tuple[int, str, str]:
    answer = client.post("/login", data={"user_name": "wendy", "password": password, **fields})
    return answer.status_code, answer.headers.get("Location", ""), answer.text


def test_form_logs_in_and_session_is_resumed(client: FlaskClient) -> None:
    assert log_in(client)[:2] == (303, "/")

    page = client.get("/agent").text
    assert "Wendy" in page
    assert "resumed from a login session" in page
    assert "Sign out" in page


def test_the_form_returns_to_the_requested_page(client: FlaskClient) -> None:
    assert 'value="/agent?day=1"' in client.get("/login?next=/agent%3Fday%3D1").text
    assert log_in(client, next="/agent?day=1")[:2] == (303, "/agent?day=1")


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example/",
        "\\\\evil.example",
        "javascript:alert(1)",
        "/a\n//b",
    ],
)
def test_the_form_never_redirects_elsewhere(client: FlaskClient, elsewhere: str) -> None:
    assert log_in(client, next=elsewhere)[:2] == (303, "/")


def test_a_wrong_password_shows_the_form_again(client: FlaskClient) -> None:
    status, _, page = log_in(client, "wrong", next="/agent")

    assert status == 401
    assert "do not match an account" in page
    assert 'value="wendy"' in page
    assert 'value="/agent"' in page
    assert "wrong" not in page
    assert client.get("/agent", headers={"Accept": "text/html"}).status_code == 302


def test_too_many_wrong_passwords_are_429(client: FlaskClient) -> None:
    assert [log_in(client, "wrong")[0] for _ in range(3)] == [401] * 3
    answer = client.post("/login", data={"user_name": "wendy", "password": PASSWORD})

    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) >= 1
    assert "Please wait" in answer.text


def test_unavailable_accounts_are_not_a_wrong_password(app: Flask, client: FlaskClient, tmp_path: Path) -> None:
    accounts_of(app).close()
    (tmp_path / "accounts.sqlite3").write_bytes(b"this is no database" * 100)
    answer = client.post("/login", data={"user_name": "wendy", "password": PASSWORD})

    assert answer.status_code == 503
    assert "Retry-After" in answer.headers
    assert "Your password cannot be checked" in answer.text


def test_logging_out_ends_the_session(client: FlaskClient) -> None:
    log_in(client)
    answer = client.post("/logout", headers={"Sec-Fetch-Site": "same-origin"})

    assert (answer.status_code, answer.headers["Location"]) == (303, "/signed-out")
    page = client.get("/signed-out").text
    assert "You are signed out" in page
    assert 'href="/login"' in page
    assert "Hello, anonymous" in client.get("/").text
    assert client.post("/logout").status_code == 303


def test_another_site_cannot_log_users_out(client: FlaskClient) -> None:
    log_in(client)

    assert client.post("/logout", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert "Wendy" in client.get("/").text


def test_the_api_ends_the_contact_center_session(client: FlaskClient) -> None:
    log_in(client)
    here = {"Sec-Fetch-Site": "same-origin"}
    assert client.get("/api/v2/me").json["user"]["userName"] == "wendy"  # type: ignore[index]

    ended = client.post("/api/v2/me", json={"operationName": "EndContactCenterSession"}, headers=here)
    assert (ended.status_code, ended.json) == (200, {"statusCode": 0})
    assert client.get("/api/v2/me").status_code == 401


@pytest.mark.parametrize(
    ("sent", "code"), [({}, 1), ([], 1), ({"operationName": "MakeCoffee"}, 10), ({"operationName": 5}, 10)]
)
def test_unknown_operations_get_an_error_envelope(client: FlaskClient, sent: object, code: int) -> None:
    answer = client.post("/api/v2/me", json=sent, auth=("wendy", PASSWORD))

    assert answer.status_code == 400
    assert answer.json is not None
    assert answer.json["statusCode"] == code
    assert set(answer.json) == {"statusCode", "statusMessage"}


@pytest.mark.parametrize("path", ["/", "/login", "/signed-out", "/agent", "/supervisor"])
def test_every_page_forbids_scripts_and_framing(client: FlaskClient, path: str) -> None:
    log_in(client)
    answer = client.get(path, headers={"Accept": "text/html"})

    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "<script" not in answer.text
    assert " style=" not in answer.text
    assert "<style" not in answer.text
    assert answer.text.count("<h1") == 1
    assert '<html lang="en">' in answer.text


def test_account_values_in_pages_are_escaped(app: Flask, client: FlaskClient) -> None:
    add_account(app, "<b>eve", "<script>alert(1)</script>")
    page = client.get("/agent", auth=("<b>eve", PASSWORD)).text

    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_the_not_found_page_links_home(client: FlaskClient) -> None:
    log_in(client)
    for headers in ({}, {"Origin": "https://evil.example"}):
        answer = client.post("/nope", headers=headers) if headers else client.get("/nope")
        assert answer.status_code == 404
        assert "Page not found" in answer.text
        assert '<a href="/">Go to the start page</a>' in answer.text
    assert "Page not found" not in client.get("/api/v2/nope").text
    assert client.get("/agent").status_code == 200


def test_users_without_a_role_see_a_link_home(client: FlaskClient) -> None:
    log_in(client)
    refused = client.get("/supervisor", headers={"Accept": "text/html"})
    assert refused.status_code == 403
    assert '<a class="ga-button" href="/">Go to the start page</a>' in refused.text
    assert "Sign out" not in refused.text
    assert client.get("/agent").status_code == 200
