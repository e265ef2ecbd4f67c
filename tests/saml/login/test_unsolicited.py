"""Logins that begin at the provider need allow_unsolicited and the user's confirmation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from lxml import etree
from werkzeug.test import TestResponse

from flask_genesys_auth.saml.documents import SAML
from flask_genesys_auth.testing.saml_messages import Message, SigningKey
from flask_genesys_auth.web.runtime import runtime

from ..addresses import PUBLIC_URL
from ..application import ANN, CSP, BreakableState, Browser, MakeApp, accounts, assert_refused, idp_of

COMPLETE = "/saml/acme/complete"
SAME = {"Sec-Fetch-Site": "same-origin"}


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app(okta={"allow_unsolicited": True})


def sent(browser: Browser, message: Message | None = None, relay_state: str | None = None) -> TestResponse:
    """The page that the browser sees after its provider has sent it here unasked."""
    answer = browser.answer(message or browser.unsolicited(), relay_state)
    assert answer.status_code == 303, answer.text
    return browser.get(answer.headers["Location"].removeprefix(PUBLIC_URL))


def ticket_of(page: TestResponse) -> str:
    assert page.status_code == 200, page.text
    (ticket,) = re.findall(r'name="ticket" value="([\w-]{43})"', page.text)
    return str(ticket)


def agree(browser: Browser, ticket: str, **headers: str) -> TestResponse:
    return browser.post(COMPLETE, data={"ticket": ticket}, headers=headers or SAME)


def test_user_confirms_and_is_logged_in(browser: Browser) -> None:
    page = sent(browser, relay_state="/private?x=1")
    assert f"Continue as {ANN}?" in page.text
    assert f'action="{COMPLETE}"' in page.text
    assert 'method="post"' in page.text
    assert browser.user == ""
    answer = agree(browser, ticket_of(page))
    assert (answer.status_code, answer.headers["Location"]) == (303, "/private?x=1")
    assert browser.user == ANN


def test_confirmation_page_cannot_be_framed(browser: Browser) -> None:
    page = sent(browser)
    assert "frame-ancestors 'none'" in page.headers[CSP]
    assert "form-action 'self'" in page.headers[CSP]
    assert "script-src" not in page.headers[CSP]
    assert page.headers["X-Frame-Options"] == "DENY"
    assert page.headers["Cache-Control"] == "no-store"
    assert "code" not in page.text
    assert "Set-Cookie" not in page.headers


def test_unsolicited_login_is_refused_by_default(
    make_app: MakeApp, key: SigningKey, browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    assert agree(browser, ticket_of(sent(browser))).status_code == 303
    strict = Browser(make_app(), key)
    assert_refused(strict.answer(strict.unsolicited(), None), caplog, "unsolicited")
    assert strict.log_in().status_code == 303


def test_code_is_used_once_and_not_as_ticket(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    answer = browser.answer(browser.unsolicited(), None)
    path = answer.headers["Location"].removeprefix(PUBLIC_URL)
    code = path.partition("code=")[2]
    assert_refused(agree(browser, code), caplog, "code")
    ticket = ticket_of(browser.get(path))
    assert ticket != code
    assert_refused(browser.get(path), caplog, "code")
    assert_refused(browser.get(f"{COMPLETE}?code={ticket}"), caplog, "code")
    assert agree(browser, ticket).status_code == 303
    assert_refused(agree(browser, ticket), caplog, "code")
    assert browser.user == ANN


def test_head_request_uses_nothing_up(browser: Browser) -> None:
    path = browser.answer(browser.unsolicited(), None).headers["Location"].removeprefix(PUBLIC_URL)
    assert browser.client.head(path, base_url=PUBLIC_URL).status_code == 405
    assert agree(browser, ticket_of(browser.get(path))).status_code == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "cross-site", "Origin": PUBLIC_URL},
        {"Origin": "https://evil.example"},
        {"Origin": "https://partner.example"},
        {"Origin": "null"},
        {"X-Nothing": "at all"},
    ],
)
def test_only_our_own_page_can_confirm(make_app: MakeApp, key: SigningKey, headers: dict[str, str]) -> None:
    app = make_app(okta={"allow_unsolicited": True}, table={"allowed_origins": ["https://partner.example"]})
    browser = Browser(app, key)
    ticket = ticket_of(sent(browser))
    answer = agree(browser, ticket, **headers)
    assert answer.status_code == 403
    assert browser.user == ""
    assert agree(browser, ticket, Origin=PUBLIC_URL).status_code == 303
    assert browser.user == ANN


def test_replay_is_refused_in_any_browser(
    app: Flask, browser: Browser, key: SigningKey, caplog: pytest.LogCaptureFixture
) -> None:
    message = browser.unsolicited()
    ticket = ticket_of(sent(browser, message))
    for who in (browser, Browser(app, key)):
        assert_refused(who.answer(message, None), caplog, "replayed")
        # Also in another Response around the same assertion.
        assert_refused(who.answer(browser.unsolicited(assertion_id=message.assertion_id), None), caplog, "replayed")
    assert agree(browser, ticket).status_code == 303


def test_pending_login_does_not_skip_the_confirmation(browser: Browser) -> None:
    request, relay_state = browser.begin()
    page = sent(browser)
    assert browser.user == ""
    assert ticket_of(page)
    # Nor does the other's RelayState make it an answer to that login.
    ticket = ticket_of(sent(browser, relay_state=relay_state))
    assert browser.user == ""
    assert agree(browser, ticket).headers["Location"] == "/"
    answer = browser.answer(browser.message(request), relay_state)
    assert browser.get(answer.headers["Location"].removeprefix(PUBLIC_URL)).headers["Location"] == "/private"


@pytest.mark.parametrize(
    "relay_state",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "<script>alert(1)</script>",
        "/saml/acme/logout",
        "x" * 80,
        "",
        None,
    ],
)
def test_relay_state_is_used_only_as_local_path(browser: Browser, relay_state: str | None) -> None:
    assert agree(browser, ticket_of(sent(browser, relay_state="/private"))).headers["Location"] == "/private"
    page = sent(browser, relay_state=relay_state)
    assert "alert" not in page.text
    assert agree(browser, ticket_of(page)).headers["Location"] == "/"


def _data(response: etree._Element) -> etree._Element:
    found = response.find(f".//{{{SAML}}}SubjectConfirmationData")
    assert found is not None
    return found


def _second(response: etree._Element) -> None:
    """Put a confirmation of another method, which names a request, beside the bearer's."""
    confirmation = _data(response).getparent()
    assert confirmation is not None
    other = etree.fromstring(etree.tostring(confirmation))
    other.set("Method", "urn:oasis:names:tc:SAML:2.0:cm:sender-vouches")
    other[0].set("InResponseTo", "_other")
    confirmation.addnext(other)


@pytest.mark.parametrize(
    "changes",
    [
        {"confirmed_request": "_other"},
        {"in_response_to": "_other"},
        {"request_id": "_other"},
        {"before_signing": _second},
        {"before_signing": lambda response: _data(response).set("InResponseTo", "")},
        {"before_signing": lambda response: response.set("InResponseTo", "")},
    ],
)
def test_message_with_a_request_id_is_an_answer(
    browser: Browser, caplog: pytest.LogCaptureFixture, changes: dict[str, Any]
) -> None:
    answer = browser.answer(browser.unsolicited(**changes), None)
    assert answer.status_code == 400
    assert vars(caplog.records[-1])["genesys_auth"]["reason"] in {"unsolicited", "in_response_to", "schema"}
    assert agree(browser, ticket_of(sent(browser))).status_code == 303


def test_unsolicited_provider_is_proven_by_its_key(
    make_app: MakeApp, key: SigningKey, other_key: SigningKey, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(okta={"allow_unsolicited": True}, others={"adfs": {}, "ping": {"allow_unsolicited": True}})
    browser = Browser(app, key)
    for issuer, provider in ((browser.unsolicited().issuer, "okta"), (idp_of("ping"), "ping")):
        page = sent(browser, browser.unsolicited(issuer=issuer))
        assert f"{provider} has signed you in" in page.text
        assert agree(browser, ticket_of(page)).status_code == 303
    for issuer in (idp_of("adfs"), "https://evil.example", ""):
        assert_refused(browser.answer(browser.unsolicited(issuer=issuer), None), caplog, "unsolicited")
    # The two issuers of a message are one.
    for changes in ({"response_issuer": idp_of("ping")}, {"assertion_issuer": idp_of("ping")}):
        assert_refused(browser.answer(browser.unsolicited(**changes), None), caplog, "issuer")
    browser.key = other_key
    assert_refused(browser.answer(browser.unsolicited(), None), caplog, "bad_signature")
    assert vars(caplog.records[-1])["genesys_auth"]["provider"] == "okta"


def test_issuer_that_holds_elements_is_refused(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    def split(response: etree._Element) -> None:
        etree.SubElement(response[0], "x")

    assert_refused(browser.answer(browser.unsolicited(after_signing=split), None), caplog, "issuer")
    assert ticket_of(sent(browser))


def test_request_tells_providers_with_one_name_apart(
    make_app: MakeApp, key: SigningKey, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "copy.xml").write_text((tmp_path / "idp.xml").read_text())
    twin = {"metadata": str(tmp_path / "copy.xml"), "allow_unsolicited": True}
    browser = Browser(make_app(okta={"allow_unsolicited": True}, others={"twin": twin}), key)
    assert_refused(browser.answer(browser.unsolicited(), None), caplog, "unsolicited")
    assert "2 providers" in vars(caplog.records[-1])["genesys_auth"]["detail"]
    request, relay_state = browser.begin(idp="twin")
    assert browser.answer(browser.message(request), relay_state).status_code == 303


def test_ticket_of_another_contact_center_is_refused(
    make_app: MakeApp, key: SigningKey, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(("acme", "umbra"), okta={"allow_unsolicited": True})
    browser = Browser(app, key)
    path = browser.answer(browser.unsolicited(), None).headers["Location"].removeprefix(PUBLIC_URL)
    assert_refused(browser.get(path.replace("acme", "umbra")), caplog, "other_contact_center")
    ticket = ticket_of(sent(browser))
    umbra = browser.post("/saml/umbra/complete", data={"ticket": ticket}, headers=SAME)
    assert_refused(umbra, caplog, "other_contact_center")
    assert_refused(agree(browser, ticket), caplog, "code")
    # Nor does a message for one count at the other.
    at_umbra = Browser(app, key, "https://umbra.example", "umbra")
    assert_refused(at_umbra.answer(browser.unsolicited(), None), caplog, "destination")
    assert agree(browser, ticket_of(sent(browser))).status_code == 303


def test_name_on_the_page_is_escaped(browser: Browser, app: Flask) -> None:
    evil = "<script>alert(1)</script>\"'&"
    store = accounts(app)
    bob = store.add("acme", "bob")
    store.link(bob.id, "okta", evil)
    page = sent(browser, browser.unsolicited(name_id=evil))
    assert "<script" not in page.text
    assert "&lt;script&gt;alert(1)" in page.text
    assert agree(browser, ticket_of(page)).status_code == 303
    assert browser.user == "bob"


def test_account_is_looked_up_at_confirmation(browser: Browser, app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    ticket = ticket_of(sent(browser, browser.unsolicited(name_id="bob@acme.example")))
    assert_refused(agree(browser, ticket), caplog, "account")
    ticket = ticket_of(sent(browser, browser.unsolicited(name_id="bob@acme.example")))
    store = accounts(app)
    store.link(store.add("acme", "bob").id, "okta", "bob@acme.example")
    assert agree(browser, ticket).status_code == 303
    assert browser.user == "bob"


@pytest.mark.parametrize("data", [{}, {"ticket": ""}, {"ticket": "x" * 43}, {"ticket": "x" * 5000}, b"\x00"])
def test_form_without_a_ticket_is_refused(
    browser: Browser, caplog: pytest.LogCaptureFixture, data: dict[str, str] | bytes
) -> None:
    assert_refused(browser.post(COMPLETE, data=data, headers=SAME), caplog, "code")
    too_much = isinstance(data, dict) and len(data.get("ticket", "")) > 4096
    assert ("cannot be parsed" in vars(caplog.records[-1])["genesys_auth"]["detail"]) is too_much
    assert agree(browser, ticket_of(sent(browser))).status_code == 303


def test_requested_login_cannot_be_confirmed_by_form(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    path = browser.code()
    assert_refused(agree(browser, path.partition("code=")[2]), caplog, "code")
    assert browser.get(path).status_code == 303


def test_unavailable_state_is_not_a_refusal(browser: Browser, app: Flask) -> None:
    state = runtime(app).state
    assert isinstance(state, BreakableState)
    ticket = ticket_of(sent(browser))
    path = browser.answer(browser.unsolicited(), None).headers["Location"].removeprefix(PUBLIC_URL)
    state.broken = True
    assert agree(browser, ticket).status_code == 503
    assert browser.get(path).status_code == 503
    state.broken = False
    assert ticket_of(browser.get(path))
    assert agree(browser, ticket).status_code == 303


def test_confirmation_changes_the_session(browser: Browser) -> None:
    browser.get("/keep")
    assert agree(browser, ticket_of(sent(browser))).status_code == 303
    with browser.client.session_transaction(base_url=PUBLIC_URL) as after:
        assert "basket" not in after
        first = after["_user_id"]
    assert agree(browser, ticket_of(sent(browser))).status_code == 303
    with browser.client.session_transaction(base_url=PUBLIC_URL) as again:
        assert again["_user_id"] != first
