"""The SAML addresses of a real application, with a browser and an attacker."""

from __future__ import annotations

import base64
import re
import zlib
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask
from lxml import etree

from flask_genesys_auth.saml.documents import MD
from flask_genesys_auth.testing.saml_messages import SigningKey
from flask_genesys_auth.web.redirects import local_path
from flask_genesys_auth.web.runtime import runtime
from flask_genesys_auth.web.saml_views import MOST_PENDING

from ..addresses import PUBLIC_URL
from ..application import ANN, BreakableState, Browser, MakeApp, accounts, assert_refused


def test_login_returns_to_the_requested_page(browser: Browser) -> None:
    assert browser.user == ""
    answer = browser.log_in("/private?x=1&y=%2F")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/private?x=1&y=%2F")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert browser.user == ANN


@pytest.mark.parametrize(
    ("own", "alike"),
    [
        ("fiona@acme.example", "\ufb01ona@acme.example"),
        ("grosse@acme.example", "gro\u00dfe@acme.example"),
        ("kim@acme.example", "\u212aim@acme.example"),
    ],
)
def test_folded_name_is_not_linked_to_account(
    make_app: MakeApp, key: SigningKey, own: str, alike: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(okta={"link_by": "user_name", "email_domains": ["acme.example"]})
    accounts(app).add("acme", own)
    other, browser = Browser(app, key), Browser(app, key)
    assert_refused(other.log_in(name_id=alike), caplog, "account")
    assert other.user == ""
    assert browser.log_in(name_id=own).status_code == 303
    assert browser.user == own


def test_protected_page_redirects_browser_to_login(browser: Browser) -> None:
    answer = browser.get("/private?x=1", headers={"Sec-Fetch-Mode": "navigate"})
    assert answer.status_code == 302
    assert answer.headers["Location"] == "/saml/acme/login?next=%2Fprivate%3Fx%3D1"


def test_metadata_are_served(browser: Browser) -> None:
    answer = browser.get("/saml/acme/metadata")
    assert answer.mimetype == "application/samlmetadata+xml"
    assert etree.fromstring(answer.data).find(f".//{{{MD}}}AssertionConsumerService") is not None


def test_host_header_never_builds_an_address(browser: Browser) -> None:
    browser.url = "https://evil.example"
    request, _ = browser.begin()
    assert request.get("AssertionConsumerServiceURL") == f"{PUBLIC_URL}/saml/acme/acs"


@pytest.mark.parametrize("name", ["login", "metadata", "complete", "logout", "signed-out"])
def test_contact_center_without_saml_has_no_addresses(browser: Browser, name: str) -> None:
    assert browser.get(f"/saml/nowhere/{name}").status_code == 404
    assert browser.get(f"/saml/acme/{name}").status_code != 404


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "\\/evil.example",
        "/\t/evil.example",
        "/a\r\nSet-Cookie: x=1",
        "javascript:alert(1)",
        "private",
        "",
        "/" + "a" * 3000,
        "/saml/acme/login",
        "/saml/acme/logout?x=1",
    ],
)
def test_foreign_return_address_is_dropped(browser: Browser, address: str) -> None:
    assert browser.log_in("/private?fine").headers["Location"] == "/private?fine"
    assert browser.log_in(address).headers["Location"] == "/"


def test_return_addresses_stay_below_the_application(app: Flask) -> None:
    with app.test_request_context("/x", base_url=f"{PUBLIC_URL}/desk"):
        assert local_path("/desk/private") == "/desk/private"
        assert local_path("/desk/größe?q=1") == "/desk/größe?q=1"
        assert local_path("/desk/saml/acme/login") == "/desk/"
        assert local_path("") == "/desk/"


def test_replayed_message_is_refused(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    request, relay_state = browser.begin()
    message = browser.message(request)
    assert browser.answer(message, relay_state).status_code == 303
    assert_refused(browser.answer(message, relay_state), caplog, "unsolicited")
    # Also as the answer to a new request: the assertion itself was used.
    again, relay_state = browser.begin()
    replayed = browser.message(again, assertion_id=message.assertion_id)
    assert_refused(browser.answer(replayed, relay_state), caplog, "replayed")


def test_request_is_answered_once(browser: Browser, app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    request, relay_state = browser.begin()
    state = runtime(app).state
    assert isinstance(state, BreakableState)

    class Racing(BreakableState):
        def take(self, key: str) -> Any:
            return None

    state.__class__ = Racing  # another process takes the request between the look-up and the end
    assert_refused(browser.answer(browser.message(request), relay_state), caplog, "replayed")
    state.__class__ = BreakableState
    assert browser.log_in().status_code == 303


def test_code_is_used_once(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    path = browser.code()
    assert browser.get(path).status_code == 303
    assert_refused(browser.get(path), caplog, "code")
    assert_refused(browser.get("/saml/acme/complete?code=guess"), caplog, "code")
    assert_refused(browser.get("/saml/acme/complete"), caplog, "code")
    assert browser.user == ANN


def test_other_browser_is_refused_and_consumes_code(
    browser: Browser, app: Flask, key: SigningKey, caplog: pytest.LogCaptureFixture
) -> None:
    assert browser.log_in().status_code == 303
    victim = Browser(app, key)
    victim.begin()
    path = browser.code()
    assert_refused(victim.get(path), caplog, "other_browser")
    assert victim.user == ""
    assert_refused(browser.get(path), caplog, "code")


def test_head_does_not_consume_the_code(browser: Browser) -> None:
    path = browser.code()
    answer = browser.client.head(path, base_url=PUBLIC_URL)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, POST")
    assert browser.get(path).status_code == 303


def test_code_of_another_contact_center_is_refused(
    make_app: MakeApp, key: SigningKey, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(("acme", "umbra"))
    browser = Browser(app, key)
    assert browser.log_in().status_code == 303
    assert_refused(browser.get(browser.code().replace("acme", "umbra")), caplog, "other_contact_center")
    request, relay_state = browser.begin()
    message = browser.message(request, acs_url="https://umbra.example/saml/umbra/acs")
    at_umbra = Browser(app, key, "https://umbra.example", "umbra")
    assert_refused(at_umbra.answer(message, relay_state), caplog, "other_contact_center")


def test_logins_in_several_tabs_are_independent(browser: Browser) -> None:
    paths = [browser.code(f"/private?tab={number}") for number in range(MOST_PENDING)]
    for number, path in enumerate(paths):
        assert browser.get(path).headers["Location"] == f"/private?tab={number}"


def test_only_latest_logins_of_browser_are_kept(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    oldest = browser.code()
    paths = [browser.code() for _ in range(MOST_PENDING)]
    assert browser.get(paths[0]).status_code == 303
    assert_refused(browser.get(oldest), caplog, "other_browser")


def test_login_changes_the_session(browser: Browser) -> None:
    browser.get("/keep")
    with browser.client.session_transaction(base_url=PUBLIC_URL) as before:
        assert before["basket"] == "full"
    browser.log_in()
    with browser.client.session_transaction(base_url=PUBLIC_URL) as after:
        first = after["_user_id"]
        assert "basket" not in after
    browser.log_in()
    with browser.client.session_transaction(base_url=PUBLIC_URL) as again:
        assert again["_user_id"] != first


def test_relay_state_is_ours_or_absent(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    request, relay_state = browser.begin()
    for wrong in ("https://evil.example", "<script>alert(1)</script>", relay_state + "x"):
        answer = browser.answer(browser.message(request), wrong)
        assert_refused(answer, caplog, "relay_state")
        assert "evil" not in answer.text
        assert "alert" not in answer.text
    assert browser.answer(browser.message(request), None).status_code == 303


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"request_id": "_never"}, "unsolicited"),
        ({"request_id": None}, "unsolicited"),
        ({"sign_assertion": False}, "not_signed"),
        ({"audience": "https://other.example"}, "audience"),
        ({"issuer": "https://evil.example"}, "issuer"),
        ({"confirmation_not_on_or_after": -100}, "expired"),
        ({"status": "urn:oasis:names:tc:SAML:2.0:status:AuthnFailed"}, "status"),
        ({"name_id": "<script>alert(1)</script>"}, "account"),
    ],
)
def test_every_wrong_message_gets_the_same_answer(
    browser: Browser, caplog: pytest.LogCaptureFixture, changes: dict[str, Any], reason: str
) -> None:
    request, relay_state = browser.begin()
    answer = browser.answer(browser.message(request, **changes), relay_state)
    if answer.status_code == 303:
        answer = browser.get(answer.headers["Location"].removeprefix(PUBLIC_URL))
    assert_refused(answer, caplog, reason)
    assert "alert" not in answer.text
    assert browser.user == ""
    assert browser.log_in().status_code == 303


def test_forged_answer_keeps_the_login_pending(browser: Browser, other_key: SigningKey) -> None:
    request, relay_state = browser.begin()
    genuine = browser.message(request)
    browser.key, key = other_key, browser.key
    assert browser.answer(genuine, relay_state).status_code == 400
    browser.key = key
    assert browser.answer(genuine, relay_state).status_code == 303


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ({"data": {}}, "malformed"),
        ({"data": {"SAMLResponse": ["PHgvPg==", "PHgvPg=="]}}, "malformed"),
        ({"data": {"SAMLResponse": "PHgvPg==", "RelayState": ["a", "b"]}}, "malformed"),
        ({"json": {"SAMLResponse": "PHgvPg=="}}, "malformed"),
        ({"data": b"x"}, "malformed"),
        ({"data": {"SAMLResponse": "%%%"}}, "malformed"),
        ({"data": {"SAMLResponse": "A" * 300_000}}, "too_large"),
        ({"data": {"SAMLResponse": "A" * 1_100_000}}, "too_large"),
        ({"data": {"SAMLResponse": "PHgvPg=="}}, "structure"),
    ],
)
def test_other_posts_are_refused(
    browser: Browser, caplog: pytest.LogCaptureFixture, sent: dict[str, Any], reason: str
) -> None:
    assert_refused(browser.post("/saml/acme/acs", **sent), caplog, reason)
    assert browser.log_in().status_code == 303


@pytest.mark.parametrize("name", ["login", "complete", "slo"])
def test_prefetch_starts_nothing(browser: Browser, name: str) -> None:
    answer = browser.client.head(f"/saml/acme/{name}")
    assert answer.status_code == 405
    assert "GET" in answer.headers["Allow"]
    assert "Set-Cookie" not in answer.headers
    assert browser.client.get("/saml/acme/login").status_code == 302


def test_login_after_refusal_forces_authentication(browser: Browser) -> None:
    refused = browser.client.post("/saml/acme/acs", data={"SAMLResponse": "!"})
    assert refused.status_code == 400
    (again,) = re.findall(r'class="ga-button" href="([^"]+)"', refused.text)
    assert again == "/saml/acme/login?force_authn=true"
    sent = parse_qs(urlsplit(browser.client.get(again).headers["Location"]).query)["SAMLRequest"][0]
    assert etree.fromstring(zlib.decompress(base64.b64decode(sent), -15)).get("ForceAuthn") == "true"
