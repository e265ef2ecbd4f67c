"""Passive logins succeed, or the browser continues without one."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from flask import Flask
from lxml import etree
from werkzeug.test import TestResponse

from flask_genesys_auth.saml.documents import SAML
from flask_genesys_auth.testing.saml_messages import SigningKey
from flask_genesys_auth.web.runtime import runtime

from ..addresses import PUBLIC_URL
from ..application import ANN, Browser, MakeApp, assert_refused

STATUS = "urn:oasis:names:tc:SAML:2.0:status:"
NO_PASSIVE = f"{STATUS}NoPassive"


def declined(browser: Browser, request: etree._Element, code: str = NO_PASSIVE, **changes: Any) -> bytes:
    """Return the unsigned answer, without an assertion, of a provider that cannot log in without the user."""
    response = browser.message(request, status=f"{STATUS}Responder", **changes).tree()
    response.remove(response[-1])
    outer = response.find("{*}Status/{*}StatusCode")
    assert outer is not None
    etree.SubElement(outer, outer.tag, Value=code)
    assert response.find(f"{{{SAML}}}Assertion") is None
    return etree.tostring(response)


def post(browser: Browser, message: bytes, relay_state: str | None) -> TestResponse:
    fields = {"SAMLResponse": base64.b64encode(message).decode()}
    if relay_state is not None:
        fields["RelayState"] = relay_state
    stranger = browser.client.application.test_client(use_cookies=False)
    return stranger.post(f"{browser.base}/acs", base_url=browser.url, data=fields)


def test_passive_login_with_session_succeeds(browser: Browser) -> None:
    request, relay_state = browser.begin(is_passive="true")
    assert request.get("IsPassive") == "true"
    answer = browser.answer(browser.message(request), relay_state)
    assert browser.get(answer.headers["Location"].removeprefix(PUBLIC_URL)).status_code == 303
    assert browser.user == ANN


def test_passive_login_without_session_returns_quietly(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    request, relay_state = browser.begin("/private?x=1", is_passive="true")
    answer = post(browser, declined(browser, request), relay_state)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/private?x=1")
    assert "Set-Cookie" not in answer.headers
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    assert browser.user == ""
    # That was the answer: there is no other.
    assert_refused(browser.answer(browser.message(request), relay_state), caplog, "unsolicited")
    assert_refused(post(browser, declined(browser, request), relay_state), caplog, "status")


def test_passive_answer_without_relay_state_is_refused(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    request, relay_state = browser.begin(is_passive="true")
    for wrong in (None, "", "guess", "/private", "https://evil.example"):
        assert_refused(post(browser, declined(browser, request), wrong), caplog, "status")
    assert post(browser, declined(browser, request), relay_state).status_code == 303


def test_other_statuses_and_requests_are_refused(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    request, relay_state = browser.begin(is_passive="true")
    for code in (f"{STATUS}AuthnFailed", f"{STATUS}NoPassive ", "NoPassive"):
        assert_refused(post(browser, declined(browser, request, code), relay_state), caplog, "status")
    for changes in ({"in_response_to": None}, {"in_response_to": "_other"}):
        assert_refused(post(browser, declined(browser, request, **changes), relay_state), caplog, "status")
    assert post(browser, declined(browser, request), relay_state).status_code == 303
    # A login that may ask the user has no such end.
    request, relay_state = browser.begin()
    assert_refused(post(browser, declined(browser, request), relay_state), caplog, "status")


def test_other_contact_center_cannot_finish_passive_login(
    make_app: MakeApp, key: SigningKey, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(("acme", "umbra"))
    acme, umbra = Browser(app, key), Browser(app, key, "https://umbra.example", "umbra")
    request, relay_state = acme.begin(is_passive="true")
    assert_refused(post(umbra, declined(acme, request), relay_state), caplog, "status")
    assert post(acme, declined(acme, request), relay_state).status_code == 303


def test_parallel_passive_answers_count_once(browser: Browser, app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    request, relay_state = browser.begin(is_passive="true")
    state = runtime(app).state
    own = type(state)

    class Racing(own):  # type: ignore[misc, valid-type]  # whatever the desk's state is
        def take(self, key: str) -> Any:
            return None

    state.__class__ = Racing  # another process takes the request between the look-up and the end
    assert_refused(post(browser, declined(browser, request), relay_state), caplog, "status")
    state.__class__ = own
    assert post(browser, declined(browser, request), relay_state).status_code == 303
