"""Reverse proxies and several hosts: addresses come from the configuration."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest
from flask import Flask, Response
from werkzeug.test import create_environ, run_wsgi_app

from flask_genesys_auth.testing.saml_messages import SigningKey

from ..addresses import PUBLIC_URL
from ..application import NAVIGATION, Browser, MakeApp

DESK = "https://desk.acme.example"


def test_login_on_another_host_moves_to_public_host(app: Flask, key: SigningKey) -> None:
    desk = Browser(app, key, DESK)
    query = "next=%2Fprivate%3Fa%3D1%26b%3D%252F&idp=okta&login_hint=a%26b"
    answer = desk.get(f"/saml/acme/login?{query}")
    assert (answer.status_code, answer.headers["Location"]) == (302, f"{PUBLIC_URL}/saml/acme/login?{query}&moved=1")
    assert "Set-Cookie" not in answer.headers
    assert answer.headers["Cache-Control"] == "no-store"
    browser = Browser(app, key)
    answer = browser.get(answer.headers["Location"].removeprefix(PUBLIC_URL))
    assert answer.headers["Location"].startswith("https://idp.example/sso")
    assert "Set-Cookie" in answer.headers
    for host in ("desk.acme.example", "DESK.acme.example", "desk.acme.example:8443"):
        answer = desk.get("/saml/acme/login", headers={"Host": host})
        assert answer.headers["Location"] == f"{PUBLIC_URL}/saml/acme/login?moved=1"


def test_page_on_another_host_is_reached_after_login(app: Flask, key: SigningKey) -> None:
    answer = Browser(app, key, DESK).get("/private?x=1", headers=NAVIGATION)
    answer = Browser(app, key, DESK).get(answer.headers["Location"])
    moved = urlsplit(answer.headers["Location"])
    assert f"{moved.scheme}://{moved.netloc}" == PUBLIC_URL
    assert dict(parse_qsl(moved.query))["next"] == "/private?x=1"


@pytest.mark.parametrize(
    "host", ["portal.acme.example", "PORTAL.ACME.EXAMPLE", "portal.acme.example:443", "portal.acme.example:8443"]
)
def test_login_begins_on_the_public_host(app: Flask, key: SigningKey, host: str) -> None:
    answer = Browser(app, key, f"https://{host}").get("/saml/acme/login")
    assert answer.headers["Location"].startswith("https://idp.example/sso")


def test_proxy_with_a_listed_name_makes_no_loop(app: Flask, key: SigningKey) -> None:
    # A proxy that rewrites every Host to desk.acme.example, one that we list.
    desk = Browser(app, key, DESK)
    answer = desk.get("/saml/acme/login?next=/private")
    answer = desk.get(answer.headers["Location"].removeprefix(PUBLIC_URL))
    assert answer.headers["Location"].startswith("https://idp.example/sso")


def visit(app: Flask, path: str, host: str) -> Response:
    """Ask without Werkzeug's client, whose cookies want a host that is one."""
    environ = create_environ(path)
    environ.update(HTTP_HOST=host, HTTP_X_FORWARDED_HOST=host)
    return Response(*run_wsgi_app(app, environ))


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "backend:8000",
        "desk.acme.example.evil.example",
        "evil.example:desk.acme.example",
        "desk.acme.example@evil.example",
        "[::1]",
        "[",
        "",
    ],
)
def test_unlisted_host_changes_nothing(app: Flask, key: SigningKey, host: str) -> None:
    browser = Browser(app, key)
    plain = browser.get("/saml/acme/login?next=/private")
    poisoned = visit(app, "/saml/acme/login?next=/private", host)
    assert poisoned.status_code == plain.status_code == 302
    for answer in (plain, poisoned):
        assert answer.headers["Location"].startswith("https://idp.example/sso")
    metadata = visit(app, "/saml/acme/metadata", host)
    assert not host or host not in metadata.get_data(as_text=True)
    assert PUBLIC_URL in metadata.get_data(as_text=True)


def test_login_works_behind_a_renaming_proxy(make_app: MakeApp, key: SigningKey) -> None:
    app = make_app()
    browser = Browser(app, key)
    outside = browser.url
    browser.url = "http://backend.internal:8000"
    request, relay_state = browser.begin("/private")
    assert request.get("AssertionConsumerServiceURL") == f"{outside}/saml/acme/acs"
    answer = browser.answer(browser.message(request), relay_state)
    location = answer.headers["Location"]
    assert location.startswith(f"{outside}/saml/acme/complete?code=")
    answer = browser.get(location.removeprefix(outside))
    assert (answer.status_code, answer.headers["Location"]) == (303, "/private")


def test_forged_forwarding_changes_no_address(browser: Browser) -> None:
    forged = {
        "Host": "evil.example",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Prefix": "/evil",
        "Forwarded": "host=evil.example",
        "X-Original-URL": "//evil.example/",
    }
    request, relay_state = browser.begin()
    answer = browser.answer(browser.message(request), relay_state, headers=forged)
    assert answer.headers["Location"].startswith(f"{PUBLIC_URL}/saml/acme/complete?code=")
    for path in ("login", "choose", "metadata", "signed-out", "complete?code=x"):
        answer = browser.get(f"/saml/acme/{path}", headers=forged)
        assert "evil" not in answer.text
        assert "evil" not in answer.headers.get("Location", "")
