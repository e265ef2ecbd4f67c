"""AuthnRequests by both bindings, signed and escaped."""

from __future__ import annotations

import base64
import html
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import xmlsec
from flask import Flask
from lxml import etree
from werkzeug.test import TestResponse

from flask_genesys_auth.config.secrets import Secret
from flask_genesys_auth.limits import BeginLimit, LocalLedger
from flask_genesys_auth.saml.documents import SAML, SAMLP, protocol_schema
from flask_genesys_auth.saml.errors import SamlError
from flask_genesys_auth.saml.requests import begin_login, find_login
from flask_genesys_auth.saml.service_provider import ServiceProvider, build_service_provider
from flask_genesys_auth.saml.signatures import check_signature, covered, load_key, read_form
from flask_genesys_auth.saml.transport import sign_message
from flask_genesys_auth.state.memory import MemoryState
from flask_genesys_auth.testing.saml_messages import SigningKey
from flask_genesys_auth.web.runtime import EXTENSION, runtime

from ..addresses import PUBLIC_URL, SSO
from ..application import CSP, NAVIGATION, BreakableState, Browser, MakeApp
from ..conftest import NOW, center, trust_of

KERBEROS = "urn:oasis:names:tc:SAML:2.0:ac:classes:Kerberos"
MFA = "http://schemas.microsoft.com/claims/multipleauthn"


def fields_of(page: TestResponse) -> dict[str, str]:
    """The hidden fields of a form, as a browser reads them."""
    found = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', page.text)
    return {html.unescape(name): html.unescape(value) for name, value in found}


def posted(page: TestResponse) -> etree._Element:
    """The AuthnRequest that a form posts."""
    return etree.fromstring(base64.b64decode(fields_of(page)["SAMLRequest"]))


def make_service(metadata: Path, signer: SigningKey | None = None, **provider: Any) -> ServiceProvider:
    table = center(metadata, **provider)
    assert table.saml is not None
    if signer is not None:
        saml = replace(table.saml, signing_key=Secret(signer.private_pem), signing_certificate=signer.certificate_pem)
        table = replace(table, saml=saml)
    return build_service_provider(table, public_url=PUBLIC_URL, prefix="/saml", clock=lambda: NOW)


def asked(service: ServiceProvider, **wishes: Any) -> etree._Element:
    """The AuthnRequest of a login, valid against SAML's schema whatever was wished for."""
    begun = begin_login(service, trust_of(service), MemoryState("tests"), return_to="/", **wishes)
    request = etree.fromstring(base64.b64decode(begun.fields["SAMLRequest"]))
    protocol_schema().assertValid(request)
    return request


def test_request_uses_post_where_configured(make_app: MakeApp, key: SigningKey) -> None:
    browser = Browser(make_app(okta={"binding": "post"}), key)
    page = browser.get("/saml/acme/login?next=/private")
    assert page.status_code == 200
    assert f'action="{html.escape(SSO)}"' in page.text
    request = posted(page)
    assert request.tag == f"{{{SAMLP}}}AuthnRequest"
    assert request.get("Destination") == SSO
    assert request.get("AssertionConsumerServiceURL") == f"{PUBLIC_URL}/saml/acme/acs"
    assert request.find("{*}Signature") is None
    answer = browser.answer(browser.message(request), fields_of(page)["RelayState"])
    assert browser.get(answer.headers["Location"].removeprefix(PUBLIC_URL)).headers["Location"] == "/private"
    assert browser.user == "ann@acme.example"


def with_few_begun(app: Flask) -> Flask:
    """Let an address begin ten logins a minute, for the thousands that it may would take a while."""
    few = BeginLimit("0 per minute", LocalLedger(), least="10 per minute")
    here = runtime(app)
    app.extensions[EXTENSION] = replace(here, saml=replace(here.saml, begin_limit=few))
    return app


def test_unfinished_logins_per_address_are_limited(
    make_app: MakeApp, key: SigningKey, caplog: pytest.LogCaptureFixture
) -> None:
    state = BreakableState("desk")
    browser = Browser(with_few_begun(make_app(state=state)), key)
    for _ in range(10):
        assert browser.get("/saml/acme/login").status_code == 302
    kept = len(state)
    for headers in (NAVIGATION, {"Accept": "application/json"}):
        answer = browser.get("/saml/acme/login", headers=headers)
        assert answer.status_code == 429
        assert "failed" not in answer.text
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
        assert answer.headers["Cache-Control"] == "no-store" if headers is NAVIGATION else answer.json is not None
    assert len(state) == kept
    told = vars(caplog.records[-1])["genesys_auth"]
    assert (told["event"], told["step"], told["contact_center"]) == ("throttled", "saml", "acme")
    assert (told["address"], told["detail"]) == (
        "127.0.0.1",
        "over the limit of 10 logins begun in 60 s by one address",
    )
    # It is no failure: passwords have their own limits, and logins that have begun are finished.
    elsewhere = {"environ_overrides": {"REMOTE_ADDR": "192.0.2.9"}}
    assert browser.get("/saml/acme/login", **elsewhere).status_code == 302
    assert browser.get("/saml/acme/metadata").status_code == 200


@pytest.mark.parametrize("form", ["192.0.2.9:{}", "[2001:db8::9]:{}", "unknown {}"])
def test_logins_from_changing_ports_are_limited(make_app: MakeApp, key: SigningKey, form: str) -> None:
    browser = Browser(with_few_begun(make_app()), key)
    for number in range(12):
        sent = {"environ_overrides": {"REMOTE_ADDR": form.format(40001 + number)}}
        assert browser.get("/saml/acme/login", **sent).status_code == (302 if number < 10 else 429)


def test_login_starts_with_the_documented_statuses(make_app: MakeApp, key: SigningKey) -> None:
    page = (Path(__file__).parents[3] / "docs" / "http.md").read_text("utf-8")
    row = next(line for line in page.splitlines() if line.startswith("| GET | `/saml/<contact_center>/login`"))
    state = BreakableState("desk")
    browser = Browser(with_few_begun(make_app(state=state)), key)
    seen = [browser.get(f"/saml/{name}/login").status_code for name in ("nowhere", *["acme"] * 11)]
    state.broken = True
    elsewhere = {"environ_overrides": {"REMOTE_ADDR": "192.0.2.9"}}
    seen.append(browser.get("/saml/acme/login", **elsewhere).status_code)
    seen.append(Browser(make_app(okta={"binding": "post"}), key).get("/saml/acme/login").status_code)
    assert {int(status) for status in row.split("|")[3].split(",")} == set(seen)


def test_limited_address_can_finish_started_logins(make_app: MakeApp, key: SigningKey) -> None:
    app = with_few_begun(make_app())
    browser, other = Browser(app, key), Browser(app, key)
    request, relay_state = browser.begin()
    for _ in range(9):
        assert other.get("/saml/acme/login").status_code == 302
    assert browser.get("/saml/acme/login").status_code == 429
    answer = browser.answer(browser.message(request), relay_state)
    assert browser.get(answer.headers["Location"].removeprefix(PUBLIC_URL)).status_code in {302, 303}
    assert browser.user == "ann@acme.example"


def test_posting_page_has_a_strict_policy(make_app: MakeApp, key: SigningKey) -> None:
    browser = Browser(make_app(okta={"binding": "post"}), key)
    page = browser.get("/saml/acme/login")
    policy = dict(part.strip().split(" ", 1) for part in page.headers[CSP].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert (policy["script-src"], policy["form-action"]) == ("'self'", "https:")
    assert page.headers["X-Frame-Options"] == "DENY"
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["Referrer-Policy"] == "no-referrer"
    (script,) = re.findall(r"<script[^>]*>", page.text)
    (address,) = re.findall(r'src="([^"]*)"', script)
    with browser.get(address) as file:
        assert b"submit.call(document.forms[0])" in file.data
        assert file.mimetype == "text/javascript"
    assert " on" not in " ".join(re.findall(r"<[^>]*>", page.text))
    assert '<button class="ga-button" type="submit">' in page.text


def test_form_action_allows_http_only_with_http_settings(make_app: MakeApp, key: SigningKey, tmp_path: Path) -> None:
    app = make_app(okta={"binding": "post"})
    metadata = tmp_path / "idp.xml"
    metadata.write_text(metadata.read_text().replace("https://idp.example/sso", "http://127.0.0.1:9/sso"))
    assert "form-action https:" in Browser(app, key).get("/saml/acme/login").headers[CSP]
    page = Browser(make_app(okta={"binding": "post"}), key).get("/saml/acme/login")
    assert "form-action http: https:" in page.headers[CSP]


def test_post_request_is_signed_with_a_key(metadata_file: Path, other_key: SigningKey) -> None:
    request = asked(make_service(metadata_file, other_key, binding="post"), login_hint="ann")
    signature = request.find("{*}Signature")
    assert signature is not None
    issuer = signature.getprevious()
    assert issuer is not None
    assert issuer.tag == f"{{{SAML}}}Issuer"
    form = read_form(signature, request)
    check_signature(form, (load_key(base64.b64decode(other_key.certificate)),))
    assert covered(form).get("ID") == request.get("ID")
    request.set("Destination", "https://evil.example")
    with pytest.raises(SamlError):
        check_signature(form, (load_key(base64.b64decode(other_key.certificate)),))


def test_message_is_unsigned_without_a_key(service: ServiceProvider) -> None:
    assert sign_message("<x/>", service) == b"<x/>"


def test_force_authn_is_requested_where_configured(make_app: MakeApp, key: SigningKey) -> None:
    for told in (True, False):
        browser = Browser(make_app(okta={"force_authn": told}), key)
        assert browser.begin()[0].get("ForceAuthn") == ("true" if told else None)
        assert browser.begin(force_authn="true")[0].get("ForceAuthn") == "true"
        assert browser.begin(force_authn="no")[0].get("ForceAuthn") == ("true" if told else None)


def test_login_address_takes_the_parameters(metadata_file: Path) -> None:
    service = make_service(metadata_file, binding="post")
    state = MemoryState("tests")
    plain = asked(service)
    assert (plain.get("IsPassive"), plain.get("ForceAuthn")) == (None, None)
    assert plain.find("{*}RequestedAuthnContext") is None
    begun = begin_login(service, trust_of(service), state, return_to="/", passive=True, force_authn=True)
    request = etree.fromstring(base64.b64decode(begun.fields["SAMLRequest"]))
    assert (request.get("IsPassive"), request.get("ForceAuthn")) == ("true", "true")
    kept = find_login(state, request.get("ID", ""))
    assert kept is not None
    assert (kept.passive, kept.forced_at) == (True, NOW)


def test_configured_contexts_are_requested(metadata_file: Path) -> None:
    request = asked(make_service(metadata_file, binding="post", authn_context=(KERBEROS, MFA)))
    wanted = request.find(f"{{{SAMLP}}}RequestedAuthnContext")
    assert wanted is not None
    assert wanted.get("Comparison") == "exact"
    assert [one.text for one in wanted] == [KERBEROS, MFA]


@pytest.mark.parametrize(
    "hint",
    [
        "ann@acme.example",
        "Ann & Bob <ann@acme.example>",
        "größe@acme.example",
        "</saml:NameID></saml:Subject><samlp:Extensions/>",
        '"/><x a="',
        "%(id)s %s %d",
        "&lt;&#60;&amp;",
        "]]>",
        "a" * 255,
    ],
)
def test_login_hint_is_sent_escaped(metadata_file: Path, hint: str) -> None:
    service = make_service(metadata_file, binding="post")
    request, plain = asked(service, login_hint=f" {hint} "), asked(service)
    subject = request.find(f"{{{SAML}}}Subject")
    assert subject is not None
    assert subject.findtext(f"{{{SAML}}}NameID") == hint
    assert [len(one) for one in subject.iter()] == [2, 0, 0]
    request.remove(subject)
    assert [one.tag for one in request.iter()] == [one.tag for one in plain.iter()]


@pytest.mark.parametrize("hint", ["", "  ", "a" * 256, "ann\x00", "ann\nbob", "ann\u202e", "\ud800", "\ufffe"])
def test_unusable_login_hint_is_dropped(metadata_file: Path, hint: str) -> None:
    service = make_service(metadata_file, binding="post")
    assert asked(service, login_hint="ann").find(f"{{{SAML}}}Subject") is not None
    assert asked(service, login_hint=hint).find(f"{{{SAML}}}Subject") is None


def test_login_address_takes_the_hint(browser: Browser) -> None:
    request, _ = browser.begin(login_hint="<ann>&x")
    assert request.findtext(f"{{{SAML}}}Subject/{{{SAML}}}NameID") == "<ann>&x"
    assert browser.begin()[0].find(f"{{{SAML}}}Subject") is None


def test_redirect_signature_covers_all_parameters(metadata_file: Path, other_key: SigningKey) -> None:
    service = make_service(metadata_file, other_key)
    state = MemoryState("tests")
    begun = begin_login(service, trust_of(service), state, return_to="/", login_hint="a&b")
    assert begun.fields == {}
    fields = {name: values[0] for name, values in parse_qs(urlsplit(begun.location).query).items()}
    raw = dict(part.split("=", 1) for part in urlsplit(begun.location).query.split("&"))
    signed = "&".join(f"{name}={raw[name]}" for name in ("SAMLRequest", "RelayState", "SigAlg"))
    context = xmlsec.SignatureContext()
    context.key = load_key(base64.b64decode(other_key.certificate))
    signature = base64.b64decode(fields["Signature"])
    context.verify_binary(signed.encode(), xmlsec.constants.TransformRsaSha256, signature)
    with pytest.raises(xmlsec.Error):
        context.verify_binary(signed.encode() + b"A", xmlsec.constants.TransformRsaSha256, signature)
