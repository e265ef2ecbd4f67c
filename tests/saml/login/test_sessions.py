"""From a response to an account and its login session, and logout."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from flask_genesys_auth import roles_required
from flask_genesys_auth.chain.outcomes import LoginSession
from flask_genesys_auth.saml.requests import NameId
from flask_genesys_auth.testing.saml_messages import EMAIL, SigningKey
from flask_genesys_auth.web.runtime import runtime

from ..addresses import PUBLIC_URL
from ..application import ANN, BreakableState, Browser, MakeApp, accounts, assert_refused


def test_unknown_and_disabled_accounts_get_one_answer(
    browser: Browser, app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    store = accounts(app)
    ann = store.get_by_name("acme", ANN)
    assert ann is not None
    assert_refused(browser.log_in(name_id="bob@acme.example"), caplog, "account")
    assert "no_account" in caplog.text
    store.set_enabled(ann.id, False)
    assert_refused(browser.log_in(), caplog, "account")
    assert "account_disabled" in caplog.text
    store.set_enabled(ann.id, True)
    assert browser.log_in().status_code == 303


def test_log_carries_no_control_characters_and_no_secrets(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    request, relay_state = browser.begin()
    answer = browser.answer(browser.message(request, issuer="evil\nFAKE LINE \x9b31m"), relay_state)
    assert_refused(answer, caplog, "issuer")
    assert caplog.records[-1].getMessage().isprintable()
    path = browser.code()
    browser.get(path)
    assert browser.get(path).status_code == 400
    assert parse_qs(urlsplit(path).query)["code"][0] not in caplog.text
    assert relay_state not in caplog.text


def test_login_ends_with_the_providers_own_session(browser: Browser, app: Flask) -> None:
    browser.log_in(session_not_on_or_after=3600.0)
    with browser.client.session_transaction(base_url=PUBLIC_URL) as kept:
        found = runtime(app).sessions.resume(kept["_user_id"])
    assert isinstance(found, LoginSession)
    assert (found.step, found.provider, found.session_index) == ("saml", "okta", "session-1")
    assert NameId.of_text(found.name_id) == NameId(ANN, EMAIL)
    assert abs(found.expires - (time.time() + 3600)) < 60


def test_logout_does_not_log_in_again(browser: Browser) -> None:
    browser.log_in()
    page = browser.get("/saml/acme/logout")
    assert page.status_code == 200
    assert 'action="/saml/acme/logout"' in page.text
    assert ANN in page.text
    assert browser.user == ANN
    answer = browser.post("/saml/acme/logout", headers={"Origin": PUBLIC_URL})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/saml/acme/signed-out")
    assert browser.user == ""
    page = browser.get("/saml/acme/signed-out")
    assert (page.status_code, page.headers["Cache-Control"]) == (200, "no-store")
    assert 'href="/saml/acme/login"' in page.text
    assert browser.get("/private", headers={"Sec-Fetch-Mode": "navigate"}).status_code == 401
    assert browser.get("/saml/acme/logout").headers["Location"] == "/saml/acme/signed-out"


def test_other_site_cannot_log_out(browser: Browser) -> None:
    browser.log_in()
    assert browser.post("/saml/acme/logout", headers={"Origin": "https://evil.example"}).status_code == 403
    assert browser.user == ANN
    assert browser.post("/saml/acme/logout", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 303
    assert browser.user == ""


def test_login_after_logout_forces_authentication_where_configured(make_app: MakeApp, key: SigningKey) -> None:
    for told in (True, False):
        browser = Browser(make_app(force_authn_after_logout=told), key)
        assert browser.begin()[0].get("ForceAuthn") is None
        browser.log_in()
        browser.post("/saml/acme/logout", headers={"Origin": PUBLIC_URL})
        assert browser.begin()[0].get("ForceAuthn") == ("true" if told else None)
        browser.log_in()
        assert browser.begin()[0].get("ForceAuthn") is None


def test_unavailable_state_is_not_a_refusal(browser: Browser, app: Flask) -> None:
    state = runtime(app).state
    assert isinstance(state, BreakableState)
    request, relay_state = browser.begin()
    message = browser.message(request)
    path = browser.code()

    def broken(ask: Callable[[], TestResponse]) -> TestResponse:
        state.broken = True
        answer = ask()
        state.broken = False
        assert answer.status_code == 503
        assert "Retry-After" in answer.headers
        return answer

    broken(lambda: browser.get("/saml/acme/login"))
    broken(lambda: browser.answer(message, relay_state))
    broken(lambda: browser.get(path))
    browser.log_in()
    broken(lambda: browser.get("/saml/acme/logout"))
    broken(lambda: browser.post("/saml/acme/logout", headers={"Origin": PUBLIC_URL}))
    assert browser.user == ANN
    assert browser.answer(message, relay_state).status_code == 303
    assert browser.get(path).status_code == 303


def test_unavailable_accounts_are_not_a_refusal(browser: Browser, app: Flask) -> None:
    path, later = browser.code(), browser.code()
    store = accounts(app)
    store.broken = True
    assert browser.get(path).status_code == 503
    store.broken = False
    assert browser.get(later).status_code == 303


def test_logins_create_accounts_and_follow_groups(make_app: MakeApp, key: SigningKey) -> None:
    okta = {
        "metadata": "idp.xml",
        "provision": True,
        "sync_roles": True,
        "attributes": {"groups": "memberOf", "first_name": "givenName"},
        "role_map": {"cc-agents": "ROLE_AGENT", "cc-bosses": "ROLE_SUPERVISOR"},
    }
    plain = make_app()
    nobody = Browser(plain, key)
    assert nobody.log_in(name_id="new@acme.example").status_code == 400
    app = make_app(identity_providers={"okta": {**okta, "metadata": metadata_path(plain)}})
    browser = Browser(app, key)
    groups = {"memberOf": ("cc-agents", "everybody"), "givenName": ("Nora",)}
    assert browser.log_in(name_id="new@acme.example", attributes=groups).status_code == 303
    assert browser.user == "new@acme.example"
    (made,) = [one for one in accounts(app).list() if one.user_name == "new@acme.example"]
    assert (made.first_name, made.roles) == ("Nora", frozenset({"ROLE_AGENT"}))
    again = Browser(app, key)
    assert again.log_in(name_id="new@acme.example", attributes={"memberOf": ("cc-bosses",)}).status_code == 303
    assert accounts(app).details(made.id).account.roles == {"ROLE_SUPERVISOR"}


def metadata_path(app: Flask) -> str:
    saml = runtime(app).settings.contact_centers["acme"].saml
    assert saml is not None
    return str(saml.identity_providers["okta"].metadata)


def test_missing_role_page_offers_home_and_logout(browser: Browser, app: Flask) -> None:
    app.add_url_rule("/reports", "reports", roles_required("ROLE_ADMIN")(lambda: "reports"))
    assert "Sign out" not in browser.get("/reports", headers={"Accept": "text/html"}).text
    browser.log_in()
    refused = browser.get("/reports", headers={"Accept": "text/html"})
    assert refused.status_code == 403
    assert re.findall(r'<a [^>]*href="(/[^"]*)"', refused.text) == ["/", "/saml/acme/logout"]
    assert browser.get("/private").status_code == 200
