"""Health checks of the application: each fault beside the same application without it."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask_login import LoginManager
from werkzeug.middleware.profiler import ProfilerMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_genesys_auth import GenesysAuth, unprotected
from flask_genesys_auth.checks import Check
from flask_genesys_auth.testing.saml_messages import SigningKey, generate_signing_key, provider_metadata
from flask_genesys_auth.web.health import (
    access_checks,
    application_checks,
    cookie_checks,
    flask_login_checks,
    secret_checks,
)
from flask_genesys_auth.web.runtime import runtime

RANDOM = hashlib.sha256(b"as good as random").digest()
PUBLIC = "https://portal.acme.example"
Look = Callable[[Flask, Any], Iterator[Check]]
Build = Callable[..., Flask]


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return generate_signing_key("idp")


@pytest.fixture
def build(tmp_path: Path) -> Build:
    def make(config: dict[str, Any] | None = None, *, manager: bool = False, **settings: Any) -> Flask:
        app = Flask("portal", instance_path=str(tmp_path))
        app.secret_key = secrets.token_urlsafe(32)
        app.config.update(config or {})
        if manager:
            LoginManager(app).session_protection = None
        table = {"state_url": "memory://", "contact_centers": {"acme": {"web_services": {}}}, **settings}
        app.config["GENESYS_AUTH"] = {"passwords": {"memory_kib": 8, "iterations": 1}, **table}
        GenesysAuth(app)
        app.add_url_rule("/login", "login", unprotected(lambda: "log in"))
        app.add_url_rule("/", "home", lambda: "home")
        return app

    return make


def look(checks: Look, app: Flask) -> dict[str, Check]:
    return {check.name: check for check in checks(app, runtime(app))}


def troubles(checks: Look, app: Flask) -> dict[str, str]:
    """Return the status of each check that is not ok; each of these says what to do."""
    found = {name: check for name, check in look(checks, app).items() if check.status != "ok"}
    assert all(check.advice for check in found.values())
    return {name: check.status for name, check in found.items()}


@pytest.mark.parametrize(
    ("secret", "status"),
    [
        (RANDOM.hex(), "ok"),
        (RANDOM, "ok"),
        (base64.b64encode(RANDOM).decode(), "ok"),
        (RANDOM.hex()[:20], "warning"),
        ("dev", "failure"),
        ("0" * 64, "failure"),
        ("dev" * 20, "failure"),
        ("changeme-changeme-changeme-changeme", "failure"),
        ("your-secret-key-change-this-default-password", "failure"),
        ("q7#x", "failure"),
    ],
)
def test_weak_secret_keys_are_reported_but_never_shown(build: Build, secret: str | bytes, status: str) -> None:
    app = build()
    app.secret_key = secret
    (check,) = secret_checks(app)
    assert check.status == status
    shown = secret.decode("latin-1") if isinstance(secret, bytes) else secret
    assert len(shown) < 5 or shown not in f"{check.finding}{check.advice}"


def test_random_keys_are_not_reported_as_words(build: Build) -> None:
    app = build()
    for make in (secrets.token_urlsafe, secrets.token_bytes, secrets.token_hex):
        for _ in range(200):
            app.secret_key = make(32)
            assert [check.status for check in secret_checks(app)] == ["ok"]


def test_secret_key_fallbacks_are_checked(build: Build) -> None:
    app = build({"SECRET_KEY_FALLBACKS": [secrets.token_urlsafe(32), "dev"]})
    assert [check.status for check in secret_checks(app)] == ["ok", "ok", "failure"]


def test_a_plain_application_is_healthy(build: Build) -> None:
    app = build()
    for checks in (application_checks, access_checks, cookie_checks, flask_login_checks):
        assert troubles(checks, app) == {}
    assert "SameSite=Lax" in look(cookie_checks, app)["cookies.session"].finding
    assert look(access_checks, app)["access.endpoints"].finding.endswith(", 2 unprotected: login, static")


def test_a_proxy_needs_proxy_fix(build: Build) -> None:
    name = "application.proxy_fix"
    app = build(public_url=PUBLIC)
    assert troubles(application_checks, app) == {name: "warning"}
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=0, x_proto=1)  # type: ignore[method-assign]
    assert troubles(application_checks, app) == {name: "warning"}
    assert "does not set the client address" in look(application_checks, app)[name].finding
    app = build(public_url=PUBLIC)
    app.wsgi_app = ProfilerMiddleware(ProxyFix(app.wsgi_app))  # type: ignore[method-assign]
    assert troubles(application_checks, app) == {}
    assert "x_for=1" in look(application_checks, app)[name].finding
    app.wsgi_app = ProfilerMiddleware(app)  # type: ignore[method-assign]
    assert troubles(application_checks, app) == {name: "warning"}


def test_unreadable_client_addresses_are_explained(build: Build) -> None:
    check = look(application_checks, build(public_url=PUBLIC))["application.client_address"]
    assert check.status == "ok"
    assert "receives no request" in check.finding
    assert "configuration_warning" in check.finding
    assert "counts all such clients as one" in check.finding


def test_proxy_fix_without_proxies_avoids_the_warning(build: Build) -> None:
    name = "application.proxy_fix"
    app = build(public_url=PUBLIC)
    assert "x_for=0, x_proto=0" in look(application_checks, app)[name].advice
    plain = app.wsgi_app
    app.wsgi_app = ProxyFix(plain, x_for=0, x_proto=0)  # type: ignore[method-assign]
    assert troubles(application_checks, app) == {}
    assert "trusts no proxy" in look(application_checks, app)[name].finding
    # An application that trusts any other header has a proxy.
    app.wsgi_app = ProxyFix(plain, x_for=0, x_proto=0, x_prefix=1)  # type: ignore[method-assign]
    assert troubles(application_checks, app) == {name: "warning"}


@pytest.mark.parametrize("flag", ["DEBUG", "TESTING"])
def test_debug_mode_in_public_is_reported(build: Build, flag: str) -> None:
    app = build({flag: True}, public_url="http://127.0.0.1:5000")
    assert troubles(application_checks, app) == {}
    app = build({flag: True}, public_url="http://portal.acme.example", allow_http=True)
    assert troubles(application_checks, app) == {f"application.{flag.lower()}": "warning"}


def test_login_disabled_is_reported(build: Build) -> None:
    app = build({"TESTING": True, "LOGIN_DISABLED": True})
    assert troubles(application_checks, app) == {"application.login_disabled": "failure"}


def test_unknown_endpoint_names_are_reported(build: Build) -> None:
    app = build(login_view="login", unprotected_endpoints=["home"])
    assert troubles(access_checks, app) == {}
    app = build(login_view="logon", unprotected_endpoints=["hom"])
    assert troubles(access_checks, app) == {"access.login_view": "warning", "access.unprotected_endpoints": "warning"}


def test_a_protected_login_view_is_reported(build: Build) -> None:
    assert troubles(access_checks, build(login_view="home")) == {"access.login_view": "failure"}


def test_a_contact_center_without_steps_is_reported(build: Build) -> None:
    app = build(contact_centers={"acme": {"web_services": {}}, "globex": {}}, default_contact_center="acme")
    assert troubles(access_checks, app) == {"access.contact_centers.globex": "warning"}


def test_long_lists_of_unprotected_endpoints_are_cut(build: Build) -> None:
    app = build()
    for place in range(20):
        app.add_url_rule(f"/{place}", f"page{place}", unprotected(lambda: ""))
    assert look(access_checks, app)["access.endpoints"].finding.endswith(", ...")


@pytest.mark.parametrize(
    ("config", "address", "expected"),
    [
        ({}, PUBLIC, {}),
        ({"SESSION_COOKIE_SECURE": True}, "http://127.0.0.1:5000", {}),
        ({"SESSION_COOKIE_HTTPONLY": False}, PUBLIC, {"cookies.httponly": "warning"}),
        ({"SESSION_COOKIE_SAMESITE": "None"}, PUBLIC, {"cookies.samesite": "warning"}),
        ({"SESSION_COOKIE_SAMESITE": "None"}, "http://127.0.0.1:5000", {"cookies.samesite": "failure"}),
        ({"SESSION_COOKIE_SECURE": True}, "http://portal.acme.example", {"cookies.secure": "failure"}),
        ({"SESSION_COOKIE_DOMAIN": "acme.example"}, PUBLIC, {"cookies.domain": "warning"}),
        ({"SESSION_COOKIE_DOMAIN": "globex.example"}, PUBLIC, {"cookies.domain": "failure"}),
        ({"SESSION_COOKIE_PATH": "/portal"}, PUBLIC, {"cookies.path": "failure"}),
        ({"SESSION_COOKIE_PATH": "/portal"}, f"{PUBLIC}/portal", {}),
        ({"APPLICATION_ROOT": "/port"}, f"{PUBLIC}/portal", {"cookies.path": "failure"}),
    ],
)
def test_cookies_are_checked_against_public_url(
    build: Build, config: dict[str, Any], address: str, expected: dict[str, str]
) -> None:
    assert troubles(cookie_checks, build(config, public_url=address, allow_http=True)) == expected


def test_a_cookie_made_insecure_later_is_reported(build: Build) -> None:
    app = build(public_url=PUBLIC)
    assert troubles(cookie_checks, app) == {}
    app.config["SESSION_COOKIE_SECURE"] = False
    assert troubles(cookie_checks, app) == {"cookies.secure": "failure"}


def test_the_cookie_path_must_cover_the_saml_endpoints(build: Build, tmp_path: Path, key: SigningKey) -> None:
    described = provider_metadata("https://idp.example", "https://idp.example/sso", (key.certificate,))
    (tmp_path / "idp.xml").write_text(described)
    saml = {"identity_providers": {"okta": {"metadata": "idp.xml"}}}
    given: dict[str, Any] = {"public_url": PUBLIC, "contact_centers": {"acme": {"saml": saml}}}
    assert troubles(cookie_checks, build({"SESSION_COOKIE_PATH": "/saml"}, **given)) == {}
    assert troubles(cookie_checks, build({"SESSION_COOKIE_PATH": "/app"}, **given)) == {"cookies.path": "failure"}


def test_provider_on_our_host_requires_another_cookie_name(build: Build) -> None:
    def given(metadata: str) -> dict[str, Any]:
        saml = {"identity_providers": {"dev": {"metadata": metadata}}}
        return {"public_url": "http://127.0.0.1:5000", "contact_centers": {"acme": {"saml": saml}}}

    same, other = given("http://127.0.0.1:5002/metadata"), given("http://localhost:5002/metadata")
    assert troubles(cookie_checks, build(**same)) == {"cookies.acme.dev": "warning"}
    assert troubles(cookie_checks, build({"SESSION_COOKIE_NAME": "portal"}, **same)) == {}
    assert troubles(cookie_checks, build(**other)) == {}


def test_the_applications_login_manager_is_checked(build: Build) -> None:
    app = build(manager=True)
    assert troubles(flask_login_checks, app) == {}
    assert look(flask_login_checks, app)["flask_login.manager"].finding == "the application's own"
    manager = app.login_manager  # type: ignore[attr-defined]  # set by Flask-Login
    manager.session_protection = "strong"
    manager.login_view = "login"
    assert troubles(flask_login_checks, app) == {
        "flask_login.session_protection": "warning",
        "flask_login.login_view": "warning",
    }
    assert look(flask_login_checks, build())["flask_login.manager"].finding.startswith("built in")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"REMEMBER_COOKIE_SECURE": True}, set()),
        ({}, {"secure"}),
        ({"REMEMBER_COOKIE_SECURE": True, "REMEMBER_COOKIE_HTTPONLY": False}, {"httponly"}),
        ({"REMEMBER_COOKIE_SECURE": True, "REMEMBER_COOKIE_REFRESH_EACH_REQUEST": True}, {"refresh"}),
        ({"REMEMBER_COOKIE_SECURE": True, "REMEMBER_COOKIE_DURATION": timedelta(days=30)}, {"duration"}),
        ({"REMEMBER_COOKIE_SECURE": True, "REMEMBER_COOKIE_DURATION": 60}, set()),
    ],
)
def test_dangerous_remember_cookie_settings_are_reported(
    build: Build, config: dict[str, Any], expected: set[str]
) -> None:
    found = troubles(flask_login_checks, build(config, manager=True, public_url=PUBLIC))
    assert set(found) == {f"flask_login.remember_cookie_{name}" for name in expected}
