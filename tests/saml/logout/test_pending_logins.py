"""A provider's logout request also ends pending logins (saml-core 3.7.3.2)."""

from __future__ import annotations

import time
from typing import Any

import pytest
from flask import Flask, session, template_rendered

from flask_genesys_auth import GenesysAuth, SessionInfo, logged_in
from flask_genesys_auth.errors import StateUnavailable
from flask_genesys_auth.testing.saml_messages import LogoutMessage, SigningKey
from flask_genesys_auth.web.browser import LOGIN
from flask_genesys_auth.web.runtime import runtime

from ..addresses import IDP, PUBLIC_URL
from ..application import ANN, BreakableState, Browser, MakeApp, assert_refused
from ..login.test_unsolicited import agree, sent, ticket_of

SESSION = "session-1"
AGO = -60
"""The assertions of these tests are as old as this, so that a request can be older, as old, or newer."""


def logs_out(browser: Browser, **changes: Any) -> None:
    message = LogoutMessage(IDP, f"{browser.url}{browser.base}/slo").but(**changes)
    stranger = browser.client.application.test_client(use_cookies=False)
    answer = stranger.post("/saml/acme/slo", data=message.form(browser.key), base_url=PUBLIC_URL)
    assert answer.status_code == 303, answer.text


@pytest.mark.parametrize(
    ("changes", "counts"),
    [
        ({}, True),
        ({"session_indexes": ()}, True),
        ({"session_indexes": ("session-0", SESSION)}, True),
        ({"session_indexes": ("session-0",)}, False),
        ({"name_id": "bob@acme.example"}, False),
        ({"issued": AGO}, True),
        ({"issued": AGO - 1}, False),
    ],
)
def test_pending_login_ends_with_providers_session(
    browser: Browser, caplog: pytest.LogCaptureFixture, changes: dict[str, Any], counts: bool
) -> None:
    now = float(int(time.time()))
    code = browser.code(now=now + AGO)
    logs_out(browser, now=now, **changes)
    answer = browser.get(code)
    if counts:
        assert_refused(answer, caplog, "logged_out")
        assert browser.user == ""
        # What the provider says after its request is a new login.
        browser.log_in(now=now + 1)
    assert browser.user == ANN


def test_assertion_after_the_logout_request_is_refused(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    now = float(int(time.time()))
    logs_out(browser, now=now)
    assert_refused(browser.log_in(now=now - 1), caplog, "logged_out")
    assert browser.user == ""
    assert browser.log_in(now=now + 1).status_code == 303
    assert browser.user == ANN


def test_older_request_keeps_the_newer_one(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    now = float(int(time.time()))
    code, later = browser.code(now=now - 10), browser.code(now=now + 1)
    logs_out(browser, now=now)
    logs_out(browser, now=now, issued=-20)
    assert_refused(browser.get(code), caplog, "logged_out")
    assert browser.get(later).status_code == 303
    assert browser.user == ANN


def test_logout_at_another_contact_center_has_no_effect(make_app: MakeApp, key: SigningKey) -> None:
    app = make_app(("acme", "umbra"))
    browser = Browser(app, key)
    code = browser.code(now=time.time() - 10)
    other = Browser(app, key, "https://umbra.example", "umbra")
    message = LogoutMessage(IDP, f"{other.url}{other.base}/slo")
    assert other.post("/saml/umbra/slo", data=message.form(key)).status_code == 303
    assert browser.get(code).status_code == 303
    assert browser.user == ANN


def test_confirmation_page_respects_the_logout(
    make_app: MakeApp, key: SigningKey, caplog: pytest.LogCaptureFixture
) -> None:
    browser = Browser(make_app(okta={"allow_unsolicited": True}), key)
    ticket = ticket_of(sent(browser, browser.unsolicited(now=time.time() - 10)))
    logs_out(browser)
    assert_refused(agree(browser, ticket), caplog, "logged_out")
    assert browser.user == ""
    assert agree(browser, ticket_of(sent(browser, browser.unsolicited(now=time.time() + 2)))).status_code == 303
    assert browser.user == ANN


class LoggedOutMeanwhile(BreakableState):
    """A provider's request comes in just when the session has been made."""

    other: Browser
    armed = False

    def find(self, term: str) -> list[str]:
        if self.armed:
            self.armed = False
            logs_out(self.other)
        return super().find(term)


class NobodyCanTell(BreakableState):
    """Keeps everything, and finds nothing."""

    def find(self, term: str) -> list[str]:
        raise StateUnavailable("told to fail")


def sessions_of(app: Flask) -> list[SessionInfo]:
    with app.app_context():
        return GenesysAuth().sessions()


def test_simultaneous_logout_leaves_no_session(
    make_app: MakeApp, key: SigningKey, caplog: pytest.LogCaptureFixture
) -> None:
    state = LoggedOutMeanwhile("desk")
    app = make_app(state=state)
    browser, state.other = Browser(app, key), Browser(app, key)
    code = browser.code(now=time.time() - 10)
    state.armed = True
    assert_refused(browser.get(code), caplog, "logged_out")
    assert browser.user == ""
    assert sessions_of(app) == []


def test_login_fails_while_the_state_is_down(browser: Browser, app: Flask) -> None:
    browser.get("/keep")
    code = browser.code()
    state = runtime(app).state
    assert isinstance(state, BreakableState)
    seen: list[str] = []
    state.__class__ = NobodyCanTell
    with logged_in.connected_to(lambda *_, **__: seen.append("logged in"), app):
        answer = browser.get(code)
    state.__class__ = BreakableState
    assert (answer.status_code, "Retry-After" in answer.headers, seen) == (503, True, [])
    with browser.client.session_transaction(base_url=PUBLIC_URL) as kept:
        assert LOGIN not in kept
        assert "_user_id" not in kept
        assert kept["basket"] == "full"
    assert browser.user == ""
    assert sessions_of(app) == []
    assert browser.log_in().status_code == 303
    assert browser.user == ANN


def test_refusal_page_shows_no_user(browser: Browser, app: Flask) -> None:
    greeted: list[bool] = []

    def look(_: Flask, context: dict[str, Any], **__: object) -> None:
        greeted.append(context["current_user"].is_authenticated)

    code = browser.code(now=time.time() - 10)
    logs_out(browser)
    with template_rendered.connected_to(look, app):
        assert browser.get(code).status_code == 400
    assert greeted == [False]


def test_refused_login_keeps_the_former_session(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    now = float(int(time.time()))
    stale = browser.code(now=now - 10, session_index="session-9")
    browser.log_in(now=now)
    logs_out(browser, now=now, session_indexes=("session-9",))
    assert_refused(browser.get(stale), caplog, "logged_out")
    assert browser.user == ANN


# The browser's cookie, which does not come along from another site


@pytest.fixture
def permanent(app: Flask) -> Flask:
    """An application that touches the session of every request, as many do."""

    @app.before_request
    def touch() -> None:
        session.permanent = True

    return app


def test_cross_site_answer_keeps_the_session(permanent: Flask, key: SigningKey) -> None:
    browser = Browser(permanent, key)
    request, relay_state = browser.begin()
    stranger = permanent.test_client(use_cookies=False)
    assert "Set-Cookie" in stranger.get("/keep", base_url=PUBLIC_URL).headers
    # Accepted and refused, by either address.
    accepted = browser.answer(browser.message(request), relay_state)
    assert (accepted.status_code, "Set-Cookie" in accepted.headers) == (303, False)
    logout = LogoutMessage(IDP, f"{PUBLIC_URL}/saml/acme/slo", issued=-2)
    for path, form, status in (
        ("acs", {"SAMLResponse": "PHgvPg=="}, 400),
        ("slo", {"SAMLRequest": "PHgvPg=="}, 400),
        ("slo", logout.form(key), 303),
    ):
        answer = stranger.post(f"/saml/acme/{path}", data=form, base_url=PUBLIC_URL)
        assert (answer.status_code, "Set-Cookie" in answer.headers) == (status, False)
    # The browser still is the one that began the login.
    assert browser.get(accepted.headers["Location"].removeprefix(PUBLIC_URL)).status_code == 303
    assert browser.user == ANN
    # One whose cookie came along is told that its session has ended.
    query = logout.but(message_id="_another").query(key)
    assert "Set-Cookie" in browser.get(f"/saml/acme/slo?{query}").headers
