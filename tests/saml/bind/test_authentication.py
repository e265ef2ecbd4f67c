"""Authentication context and time, attributes, and unsolicited messages."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from flask_genesys_auth.saml.binding import bind
from flask_genesys_auth.saml.documents import SAML, as_instant
from flask_genesys_auth.saml.errors import Fault, SamlError
from flask_genesys_auth.saml.gate import admit
from flask_genesys_auth.saml.requests import Login, PendingLogin
from flask_genesys_auth.saml.service_provider import ServiceProvider, build_service_provider
from flask_genesys_auth.saml.verify import verify
from flask_genesys_auth.testing.saml_messages import Hook, Message

from ..addresses import PUBLIC_URL
from ..conftest import NOW, Consumer, center, pending, trust_of

PASSWORD = "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport"
KERBEROS = "urn:oasis:names:tc:SAML:2.0:ac:classes:Kerberos"


def service_with(metadata: Path, **provider: Any) -> ServiceProvider:
    return build_service_provider(
        center(metadata, **provider), public_url=PUBLIC_URL, prefix="/saml", clock=lambda: NOW
    )


def authenticated_by(*classes: str) -> Hook:
    def change(response: etree._Element) -> None:
        context = response.find(f".//{{{SAML}}}AuthnContext")
        assert context is not None
        del context[:]
        for one in classes:
            etree.SubElement(context, f"{{{SAML}}}AuthnContextClassRef").text = one
        if not classes:
            etree.SubElement(context, f"{{{SAML}}}AuthnContextDeclRef").text = "urn:x"

    return change


def test_only_requested_context_is_accepted(consumer: Consumer, metadata_file: Path) -> None:
    service = service_with(metadata_file, authn_context=(KERBEROS, PASSWORD))
    for good in (KERBEROS, PASSWORD, f"\n {KERBEROS}\t"):
        message = consumer.genuine.but(before_signing=authenticated_by(good))
        # An xs:anyURI has no white space around it; python3-saml compares it all the same: our listed exception.
        login = consumer.accept(message, service=service, referee=good == good.strip())
        assert login.subject == "ann@acme.example"
    for bad in ((f"{KERBEROS}x",), (KERBEROS[:-1],), (KERBEROS.upper(),), ("",), ()):
        message = consumer.genuine.but(before_signing=authenticated_by(*bad))
        error = consumer.refuses(message, Fault.AUTHN_CONTEXT, service=service)
        assert KERBEROS in error.detail


def test_any_context_is_accepted_without_setting(consumer: Consumer) -> None:
    for classes in ((KERBEROS,), ()):
        assert (
            consumer.accept(consumer.genuine.but(before_signing=authenticated_by(*classes))).subject
            == "ann@acme.example"
        )


def authenticated_at(seconds: float) -> Hook:
    def change(response: etree._Element) -> None:
        statement = response.find(f".//{{{SAML}}}AuthnStatement")
        assert statement is not None
        statement.set("AuthnInstant", as_instant(seconds))

    return change


def test_authentication_before_forced_request_is_refused(consumer: Consumer) -> None:
    forced = pending(consumer.service, forced_at=NOW)
    for seconds in (0, -60, 30):
        message = consumer.genuine.but(before_signing=authenticated_at(NOW + seconds))
        assert consumer.accept(message, request=forced).subject == "ann@acme.example"
    old = consumer.genuine.but(before_signing=authenticated_at(NOW - 61))
    with pytest.raises(SamlError) as refusal:
        consumer.accept(old, request=forced)
    assert refusal.value.reason is Fault.AUTHN_STATEMENT
    assert "a new authentication was required" in refusal.value.detail
    # An old authentication is accepted unless a new one was required.
    assert consumer.accept(old.but(assertion_id="_another")).subject == "ann@acme.example"


def test_attributes_come_by_our_names(consumer: Consumer, metadata_file: Path) -> None:
    names = {"first_name": "givenName", "last_name": "urn:oid:2.5.4.4", "email": "mail", "groups": "groups"}
    service = service_with(metadata_file, attributes=names)
    said = {
        "givenName": ("Ann",),
        "urn:oid:2.5.4.4": (" Ångström ",),
        "groups": ("a", "", "b\nc", "d" * 256, "e"),
        "givenname": ("Bob",),
        "role": ("admin",),
    }
    login = consumer.accept(consumer.genuine.but(attributes=said), service=service)
    assert dict(login.attributes) == {"first_name": ("Ann",), "last_name": ("Ångström",), "groups": ("a", "e")}
    assert dict(consumer.accept(consumer.genuine, service=service).attributes) == {}
    assert dict(consumer.accept(consumer.genuine.but(attributes=said)).attributes) == {}


def test_attribute_that_is_not_signed_is_not_read(consumer: Consumer, metadata_file: Path) -> None:
    service = service_with(metadata_file, attributes={"groups": "groups"})
    message = consumer.genuine.but(attributes={"groups": ("agents",)})
    assert consumer.accept(message, service=service).attributes["groups"] == ("agents",)

    def promote(response: etree._Element) -> None:
        value = response.find(f".//{{{SAML}}}AttributeValue")
        assert value is not None
        value.text = "admins"

    consumer.refuses(message.but(after_signing=promote), Fault.BAD_SIGNATURE, service=service)


def unasked(
    consumer: Consumer, message: Message, service: ServiceProvider, request: PendingLogin | None = None
) -> Login:
    trust = trust_of(service)
    return bind(verify(admit(message.encoded(consumer.key)), trust), service, trust, request, consumer.state)


def test_unsolicited_message_needs_allow_unsolicited(consumer: Consumer, metadata_file: Path) -> None:
    allowing = service_with(metadata_file, allow_unsolicited=True)
    nobody_asked = consumer.genuine.but(request_id=None)
    assert unasked(consumer, nobody_asked, allowing).subject == "ann@acme.example"
    with pytest.raises(SamlError) as refusal:
        unasked(consumer, nobody_asked.but(assertion_id="_2"), consumer.service)
    assert refusal.value.reason is Fault.UNSOLICITED
    # What was asked for is bound to its request there too.
    with pytest.raises(SamlError) as refusal:
        unasked(consumer, nobody_asked.but(assertion_id="_3"), allowing, pending(allowing))
    assert refusal.value.reason is Fault.UNSOLICITED
    assert unasked(consumer, consumer.genuine, allowing, pending(allowing)).subject == "ann@acme.example"


@pytest.mark.parametrize("changes", [{}, {"in_response_to": None}, {"confirmed_request": None}])
def test_answer_to_a_request_is_never_unsolicited(
    consumer: Consumer, metadata_file: Path, changes: dict[str, None]
) -> None:
    allowing = service_with(metadata_file, allow_unsolicited=True)
    with pytest.raises(SamlError) as refusal:
        unasked(consumer, consumer.genuine.but(**changes), allowing)
    assert refusal.value.reason is Fault.IN_RESPONSE_TO
    assert "no request" in refusal.value.detail
    assert unasked(consumer, consumer.genuine.but(request_id=None), allowing).subject == "ann@acme.example"


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"audience": "https://other.example"}, Fault.AUDIENCE),
        ({"destination": "https://other.example"}, Fault.DESTINATION),
        ({"recipient": None}, Fault.RECIPIENT),
        ({"assertion_issuer": "https://other.example"}, Fault.ISSUER),
        ({"confirmation_not_on_or_after": -60}, Fault.EXPIRED),
        ({"conditions_not_on_or_after": None}, Fault.CONDITIONS),
    ],
)
def test_unsolicited_message_is_bound_as_strictly(
    consumer: Consumer, metadata_file: Path, changes: dict[str, Any], fault: Fault
) -> None:
    allowing = service_with(metadata_file, allow_unsolicited=True)
    nobody_asked = consumer.genuine.but(request_id=None)
    with pytest.raises(SamlError) as refusal:
        unasked(consumer, nobody_asked.but(**changes), allowing)
    assert refusal.value.reason is fault
    assert unasked(consumer, nobody_asked, allowing).subject == "ann@acme.example"
    with pytest.raises(SamlError) as refusal:
        unasked(consumer, nobody_asked, allowing)
    assert refusal.value.reason is Fault.REPLAYED


def test_pending_login_of_older_release_is_read(consumer: Consumer) -> None:
    kept = dataclasses.asdict(pending(consumer.service))
    del kept["passive"], kept["forced_at"]
    assert PendingLogin(**kept) == pending(consumer.service)
