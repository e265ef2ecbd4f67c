"""With several providers, the user chooses one, and only that one can answer."""

from __future__ import annotations

import html
import re
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from flask_genesys_auth.testing.saml_messages import SigningKey

from ..addresses import IDP, PUBLIC_URL
from ..application import ANN, CSP, NAVIGATION, Browser, MakeApp, accounts, assert_refused, idp_of


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app(others={"adfs": {}, "ping": {}})


def links(page: TestResponse) -> dict[str, str]:
    found = re.findall(r'<a class="ga-button" href="([^"]*)">([^<]*)</a>', page.text)
    return {name: html.unescape(address) for address, name in found}


def test_chosen_provider_leads_back_to_requested_page(browser: Browser) -> None:
    answer = browser.get("/private?x=1&y=%2F", headers=NAVIGATION)
    answer = browser.get(answer.headers["Location"])
    assert answer.status_code == 302
    assert "Set-Cookie" not in answer.headers
    page = browser.get(answer.headers["Location"])
    offered = links(page)
    assert list(offered) == ["okta", "adfs", "ping"]
    request, relay_state = browser.begin("/private?x=1&y=%2F", idp="adfs")
    assert request.get("Destination") == "https://adfs.example/sso"
    for name, address in offered.items():
        assert parse_qs(urlsplit(address).query) == {"idp": [name], "next": ["/private?x=1&y=%2F"]}
        sent_to = browser.get(address).headers["Location"]
        assert sent_to.startswith("https://idp.example" if name == "okta" else f"https://{name}.example")
    answer = browser.answer(browser.message(request, issuer=idp_of("adfs")), relay_state)
    answer = browser.get(answer.headers["Location"].removeprefix(PUBLIC_URL))
    assert answer.headers["Location"] == "/private?x=1&y=%2F"
    assert browser.user == ANN


def test_login_parameters_survive_the_choice(browser: Browser) -> None:
    wishes = {"next": "/private", "login_hint": "a&b=<c>", "is_passive": "true", "force_authn": "true"}
    answer = browser.get("/saml/acme/login", query_string={**wishes, "idp": "", "other": "x"})
    page = browser.get(answer.headers["Location"])
    for name, address in links(page).items():
        assert {key: values[0] for key, values in parse_qs(urlsplit(address).query).items()} == {"idp": name, **wishes}


def test_one_provider_needs_no_choice(make_app: MakeApp, key: SigningKey) -> None:
    browser = Browser(make_app(), key)
    assert browser.get("/saml/acme/login").headers["Location"].startswith("https://idp.example")
    assert list(links(browser.get("/saml/acme/choose"))) == ["okta"]


def test_choice_page_cannot_be_framed(browser: Browser) -> None:
    page = browser.get("/saml/acme/choose?next=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")
    assert "frame-ancestors 'none'" in page.headers[CSP]
    assert "default-src 'none'" in page.headers[CSP]
    assert page.headers["X-Frame-Options"] == "DENY"
    assert page.headers["Cache-Control"] == "no-store"
    assert "<script" not in page.text
    assert "Set-Cookie" not in page.headers


@pytest.mark.parametrize("name", ["nobody", "<script>alert(1)</script>", "okta ", "OKTA", "../okta", "\u202eokta"])
def test_unknown_provider_is_not_found(browser: Browser, name: str) -> None:
    answer = browser.get("/saml/acme/login", query_string={"idp": name})
    assert answer.status_code == 404
    assert name.strip() not in answer.text
    assert "Set-Cookie" not in answer.headers
    assert browser.get("/saml/acme/login", query_string={"idp": "okta"}).status_code == 302


@pytest.mark.parametrize("whose", ["issuer", "response_issuer", "assertion_issuer"])
@pytest.mark.parametrize(("begun", "answering"), [("okta", idp_of("adfs")), ("adfs", IDP), ("adfs", idp_of("ping"))])
def test_other_provider_with_same_key_is_refused(
    browser: Browser, caplog: pytest.LogCaptureFixture, whose: str, begun: str, answering: str
) -> None:
    request, relay_state = browser.begin(idp=begun)
    own = IDP if begun == "okta" else idp_of(begun)
    genuine = browser.message(request, issuer=own)
    assert_refused(browser.answer(genuine.but(**{whose: answering}), relay_state), caplog, "issuer")
    assert vars(caplog.records[-1])["genesys_auth"]["provider"] == begun
    assert browser.answer(genuine, relay_state).status_code == 303


def test_answer_signed_by_another_provider_is_refused(
    make_app: MakeApp, key: SigningKey, other_key: SigningKey, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(others={"adfs": {}})
    browser = Browser(app, key)
    request, relay_state = browser.begin(idp="adfs")
    genuine = browser.message(request, issuer=idp_of("adfs"))
    browser.key = other_key
    assert_refused(browser.answer(genuine, relay_state), caplog, "bad_signature")
    browser.key = key
    assert browser.answer(genuine, relay_state).status_code == 303


def test_answer_to_other_providers_request_is_refused(browser: Browser, caplog: pytest.LogCaptureFixture) -> None:
    to_okta, with_okta = browser.begin(idp="okta")
    to_adfs, with_adfs = browser.begin(idp="adfs")
    crossed = browser.message(to_adfs, issuer=idp_of("adfs")).but(in_response_to=to_okta.get("ID"))
    for relay_state in (with_okta, with_adfs):
        assert browser.answer(crossed, relay_state).status_code == 400
        assert vars(caplog.records[-1])["genesys_auth"]["reason"] in {"issuer", "relay_state"}
    assert_refused(browser.answer(browser.message(to_okta), with_adfs), caplog, "relay_state")
    assert browser.answer(browser.message(to_okta), with_okta).status_code == 303
    assert browser.answer(browser.message(to_adfs, issuer=idp_of("adfs")), with_adfs).status_code == 303


def test_providers_are_separate_per_contact_center(
    make_app: MakeApp, key: SigningKey, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(("acme", "umbra"), others={"adfs": {}}, okta={"allow_unsolicited": True})
    acme = Browser(app, key)
    umbra = Browser(app, key, "https://umbra.example", "umbra")
    request, relay_state = acme.begin(idp="adfs")
    genuine = acme.message(request, issuer=idp_of("adfs"))
    assert_refused(umbra.answer(genuine, relay_state), caplog, "other_contact_center")
    retargeted = genuine.but(acs_url="https://umbra.example/saml/umbra/acs")
    assert_refused(umbra.answer(retargeted, relay_state), caplog, "other_contact_center")
    assert_refused(acme.answer(retargeted, relay_state), caplog, "destination")
    assert acme.answer(genuine, relay_state).status_code == 303


def test_account_belongs_to_one_provider(make_app: MakeApp, key: SigningKey, caplog: pytest.LogCaptureFixture) -> None:
    app = make_app(others={"adfs": {}})
    browser = Browser(app, key)
    store = accounts(app)
    bob = store.add("acme", "bob")
    store.link(bob.id, "okta", "bob@acme.example")
    request, relay_state = browser.begin(idp="adfs")
    answer = browser.answer(browser.message(request, issuer=idp_of("adfs"), name_id="bob@acme.example"), relay_state)
    assert_refused(browser.get(answer.headers["Location"].removeprefix(PUBLIC_URL)), caplog, "account")
    request, relay_state = browser.begin(idp="okta")
    answer = browser.answer(browser.message(request, name_id="bob@acme.example"), relay_state)
    assert browser.get(answer.headers["Location"].removeprefix(PUBLIC_URL)).status_code == 303
    assert browser.user == "bob"
