"""Untrusted text is escaped in the log, and secrets are never logged."""

from __future__ import annotations

import base64
import json
import logging
import unicodedata
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flask_genesys_auth.testing.fixtures import salesforce_emulator
from flask_genesys_auth.testing.salesforce import SalesforceEmulator
from flask_genesys_auth.testing.saml_messages import SigningKey
from flask_genesys_auth.web.runtime import runtime
from tests.saml.application import Browser
from tests.saml.application import MakeApp as MakeDesk

from .conftest import Told

__all__ = ["salesforce_emulator"]

SESSION = "00D000000000001!AQEAQ.TheSalesforceSessionId"
SECRET = "the client secret of the tests"
PASSWORD = "p4ssw0rd-of-the-tests"
COOKIE = "a-cookie-that-nobody-must-see"
DESK_SETTINGS = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

CONTROLS = ("\n", "\r\n", "\x1b[2J\x1b]0;x\x07", "\u202e\u2066", "\u2028", "\u200b", "\x00", "\x9b", "\x7f")
NASTY = st.sampled_from([*CONTROLS, "%s%(x)s", "'", "\\"])
TEXT = st.lists(st.one_of(NASTY, st.text(max_size=12)), max_size=6).map("".join)


def in_xml(text: str) -> str:
    """What of it may stand in XML (XML 1.0 2.2)."""
    return "".join(one for one in text if one in "\t\n\r" or " " <= one < "\ud800" or "\ue000" <= one < "\ufffe")


def in_header(text: str) -> str:
    """What of it may stand in a header as servers take them."""
    sent = text.encode("utf-8", "ignore").decode("latin-1")
    return "".join(one for one in sent if one not in "\r\n\0")


XML_TEXT = TEXT.map(in_xml)
HEADER = TEXT.map(in_header)


def everything(record: logging.LogRecord) -> str:
    """All that any handler could show of a record."""
    return json.dumps(
        [record.getMessage(), record.msg, record.args, vars(record)["genesys_auth"]], ensure_ascii=False, default=str
    )


def assert_harmless(told: Told, *secrets: str) -> None:
    for record in told.records:
        shown = [record.getMessage(), *map(str, vars(record)["genesys_auth"].values())]
        bad = [one for text in shown for one in text if unicodedata.category(one) in {"Cc", "Cf", "Cs", "Zl", "Zp"}]
        assert not bad, record.getMessage()
        assert len(record.getMessage()) < 2000
        whole = everything(record)
        assert not [secret for secret in secrets if secret in whole], record.getMessage()


@pytest.fixture
def browser(make_desk: MakeDesk, key: SigningKey, salesforce_emulator: SalesforceEmulator) -> Browser:
    table: dict[str, Any] = {
        "web_services": {},
        "realms": ["ACME"],
        "salesforce": {"organizations": ["00D000000000001"], "identity_hosts": [salesforce_emulator.url]},
        "configuration_server": {
            "directory": "genesys",
            "url": "http://127.0.0.1:9",
            "client_id": "tests",
            "client_secret": SECRET,
        },
    }
    app = make_desk(table=table)
    app.config["SESSION_COOKIE_NAME"] = "session"
    return Browser(app, key)


@given(name=TEXT, ssid=HEADER, surl=HEADER, center=HEADER, origin=HEADER, forwarded=TEXT)
@DESK_SETTINGS
def test_headers(
    browser: Browser,
    told: Told,
    salesforce_emulator: SalesforceEmulator,
    name: str,
    ssid: str,
    surl: str,
    center: str,
    origin: str,
    forwarded: str,
) -> None:
    told.records.clear()
    secret = f"{SESSION}{ssid}"
    basic = base64.b64encode(f"{name}:{PASSWORD}".encode("utf-8", "surrogatepass")).decode()
    address = f"{salesforce_emulator.url}/id/00D000000000001/005000000000001"
    for headers in (
        {"Authorization": f"Basic {basic}"},
        {"ssid": secret, "surl": surl},
        {"ssid": SESSION, "surl": address},
        {"ssid": SESSION, "surl": address.replace("001/", "002/")},
        {"ContactCenterId": center, "Authorization": f"Basic {basic}"},
    ):
        more = {"Cookie": f"session={COOKIE}", "Origin": origin, **headers}
        answer = browser.get("/private", headers=more, environ_overrides={"REMOTE_ADDR": forwarded})
        assert answer.status_code in {302, 401, 429, 503}
    assert told.records
    assert_harmless(told, PASSWORD, basic, SESSION, SECRET, COOKIE)


@given(
    name_id=XML_TEXT,
    audience=XML_TEXT,
    issuer=XML_TEXT,
    session_index=XML_TEXT,
    group=XML_TEXT,
    relay=TEXT,
    what=st.sampled_from(["name_id", "audience", "issuer", "request_id", "attributes", "destination", "status"]),
)
@DESK_SETTINGS
def test_saml_messages(
    browser: Browser,
    told: Told,
    name_id: str,
    audience: str,
    issuer: str,
    session_index: str,
    group: str,
    relay: str,
    what: str,
) -> None:
    told.records.clear()
    request, relay_state = browser.begin()
    genuine = browser.message(request, session_index="s-3cret-index")
    changes: dict[str, dict[str, Any]] = {
        "name_id": {"name_id": name_id or "x"},
        "audience": {"audience": audience},
        "issuer": {"issuer": issuer},
        "request_id": {"request_id": f"_{session_index}"},
        "attributes": {"attributes": {"groups": (group,)}, "name_id": "nobody@acme.example"},
        "destination": {"destination": f"https://x/{group}"},
        "status": {"status": f"urn:{group}"},
    }
    message = genuine.but(**changes[what])
    encoded = message.encoded(browser.key)
    stranger = browser.client.application.test_client(use_cookies=False)
    answer = stranger.post(
        f"{browser.base}/acs", base_url=browser.url, data={"SAMLResponse": encoded, "RelayState": relay_state}
    )
    if answer.status_code == 303:
        browser.get(answer.headers["Location"])
    stranger.post(f"{browser.base}/acs", base_url=browser.url, data={"SAMLResponse": encoded, "RelayState": relay})
    assert told.records
    signature = base64.b64decode(encoded).decode().partition("<ds:SignatureValue>")[2][:40].strip()
    secrets = [encoded, relay_state, "<saml", "s-3cret-index", *([signature] if signature else [])]
    assert_harmless(told, *secrets)


def test_browser_session_is_not_logged(browser: Browser, told: Told) -> None:
    assert browser.log_in().status_code == 303
    cookie = browser.client.get_cookie("session", domain="portal.acme.example")
    assert cookie is not None
    with browser.client.session_transaction(base_url=browser.url) as session:
        opaque = session["_genesys_login"]
    assert browser.user
    app = browser.client.application
    with app.app_context():
        runtime(app).sessions.end(opaque)
    assert browser.get("/private").status_code in {302, 401}
    reasons = {fields["reason"] for fields in told.fields("rejected")}
    assert reasons == {"session_ended"}
    assert told.fields("logged_in")
    assert_harmless(told, opaque, cookie.value)
