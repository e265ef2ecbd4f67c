"""Audience, recipient, issuer, times and replay of a signed message."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from lxml import etree

from flask_genesys_auth.saml.binding import bind
from flask_genesys_auth.saml.documents import SAML
from flask_genesys_auth.saml.errors import Fault, SamlError
from flask_genesys_auth.saml.gate import admit
from flask_genesys_auth.saml.service_provider import build_service_provider
from flask_genesys_auth.saml.verify import verify
from flask_genesys_auth.testing.saml_messages import PERSISTENT, Hook, SigningKey, provider_metadata

from ..addresses import PUBLIC_URL, SSO
from ..conftest import NOW, Consumer, center, pending, trust_of

ACS = f"{PUBLIC_URL}/saml/acme/acs"
TRANSIENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"
WRONG_ADDRESSES = [
    None,
    "",
    " ",
    f"{ACS}/",
    f"{ACS}?x=1",
    f"{ACS}/../../evil",
    PUBLIC_URL,
    f"{PUBLIC_URL}/saml/acme/ac",
    ACS.upper(),
    ACS.replace("https", "http"),
    f"https://evil.example/?{ACS}",
    "https://portal.acme.example.evil.example/saml/acme/acs",
]


@pytest.mark.parametrize("address", WRONG_ADDRESSES)
def test_wrong_destination_is_refused(consumer: Consumer, address: str | None) -> None:
    def set_destination(response: etree._Element) -> None:
        response.attrib.pop("Destination")
        if address is not None:
            response.set("Destination", address)

    error = consumer.refuses(consumer.genuine.but(before_signing=set_destination), Fault.DESTINATION)
    assert ACS in error.detail


@pytest.mark.parametrize("address", WRONG_ADDRESSES)
def test_wrong_recipient_is_refused(consumer: Consumer, address: str | None) -> None:
    def set_recipient(response: etree._Element) -> None:
        data = the(response, "Subject/SubjectConfirmation/SubjectConfirmationData")
        data.attrib.pop("Recipient")
        if address is not None:
            data.set("Recipient", address)

    error = consumer.refuses(consumer.genuine.but(before_signing=set_recipient), Fault.RECIPIENT)
    assert ACS in error.detail


def the(response: etree._Element, path: str) -> etree._Element:
    found = response.find("/".join(f"{{{SAML}}}{name}" for name in ("Assertion", *path.split("/"))))
    assert found is not None, path
    return found


US = f"{PUBLIC_URL}/saml/acme/metadata"


@pytest.mark.parametrize(
    "audiences",
    [
        (),
        (("https://other.example",),),
        ((f"{US}/",),),
        ((US[:-1],),),
        ((US.upper(),),),
        ((PUBLIC_URL,),),
        ((US,), ("https://other.example",)),
        (("https://other.example",), (US,)),
    ],
)
def test_wrong_audience_is_refused_and_logged(consumer: Consumer, audiences: tuple[tuple[str, ...], ...]) -> None:
    error = consumer.refuses(consumer.genuine.but(audiences=audiences), Fault.AUDIENCE)
    assert US in error.detail
    assert not audiences or any(name in error.detail for name in audiences[0] + audiences[-1])


def test_several_audiences_with_ours_are_accepted(consumer: Consumer) -> None:
    for audiences in ((("https://other.example", US),), ((US,), (US, "x"))):
        assert consumer.accept(consumer.genuine.but(audiences=audiences)).subject == "ann@acme.example"


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"in_response_to": "_other"}, Fault.IN_RESPONSE_TO),
        ({"confirmed_request": "_other"}, Fault.IN_RESPONSE_TO),
        ({"request_id": "_other"}, Fault.IN_RESPONSE_TO),
        ({"confirmed_request": None}, Fault.UNSOLICITED),
        ({"request_id": None}, Fault.UNSOLICITED),
    ],
)
def test_answer_to_another_request_is_refused(consumer: Consumer, changes: dict[str, str], fault: Fault) -> None:
    consumer.refuses(consumer.genuine.but(**changes), fault)


def test_request_id_is_read_from_signed_assertion(consumer: Consumer) -> None:
    assert consumer.accept(consumer.genuine.but(in_response_to=None)).subject == "ann@acme.example"
    stripped = consumer.genuine.but(in_response_to=None, confirmed_request="_other")
    consumer.refuses(stripped, Fault.IN_RESPONSE_TO)


@pytest.mark.parametrize("issuer", ["https://evil.example", "https://idp.example/metadata/", None, ""])
@pytest.mark.parametrize("whose", ["response_issuer", "assertion_issuer"])
def test_wrong_issuer_is_refused(consumer: Consumer, whose: str, issuer: str | None) -> None:
    def empty(response: etree._Element) -> None:
        if issuer == "":
            element = response[0] if whose == "response_issuer" else the(response, "Issuer")
            element.text = ""

    wrong = consumer.genuine.but(**{whose: issuer}, before_signing=empty)
    # Without an Issuer there is no place for a signature either.
    consumer.refuses(wrong, Fault.ISSUER, Fault.SIGNATURE_FORM)


def test_issuer_of_another_format_is_refused(consumer: Consumer) -> None:
    def persistent(response: etree._Element) -> None:
        the(response, "Issuer").set("Format", PERSISTENT)

    consumer.refuses(consumer.genuine.but(before_signing=persistent), Fault.ISSUER)


def test_provider_of_another_contact_center_is_refused(
    consumer: Consumer, other_key: SigningKey, tmp_path: Path, metadata_file: Path
) -> None:
    path = tmp_path / "other.xml"
    path.write_text(provider_metadata("https://idp.other.example", SSO, (other_key.certificate,)))
    other = build_service_provider(center(path, name="other"), public_url=PUBLIC_URL, prefix="/saml")
    consumer.refuses(consumer.genuine, Fault.BAD_SIGNATURE, service=other)
    # Also where both share one provider: the request was begun for one of the two.
    shared = build_service_provider(center(metadata_file, name="other"), public_url=PUBLIC_URL, prefix="/saml")
    with pytest.raises(SamlError) as refusal:
        consumer.accept(consumer.genuine, service=shared, request=pending(consumer.service))
    assert refusal.value.reason is Fault.OTHER_CONTACT_CENTER
    with pytest.raises(SamlError) as refusal:
        consumer.accept(consumer.genuine, request=pending(consumer.service, provider="another"))
    assert refusal.value.reason is Fault.ISSUER


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"conditions_not_on_or_after": -60}, Fault.EXPIRED),
        ({"confirmation_not_on_or_after": -60}, Fault.EXPIRED),
        ({"conditions_not_before": 61}, Fault.NOT_YET_VALID),
        ({"session_not_on_or_after": -60}, Fault.SESSION_EXPIRED),
        ({"conditions_not_on_or_after": None}, Fault.CONDITIONS),
        ({"confirmation_not_on_or_after": None}, Fault.CONDITIONS),
        ({"confirmation_not_before": -5}, Fault.CONFIRMATION),
        ({"method": "urn:oasis:names:tc:SAML:2.0:cm:sender-vouches"}, Fault.CONFIRMATION),
        ({"name_id": None}, Fault.NAME_ID),
        ({"name_id": " \n"}, Fault.NAME_ID),
        ({"name_id": "a" * 256}, Fault.NAME_ID),
        ({"name_id": "ann\u202eexample"}, Fault.NAME_ID),
        ({"name_id_format": TRANSIENT}, Fault.NAME_ID),
    ],
)
def test_expired_or_incomplete_message_is_refused(consumer: Consumer, changes: dict[str, object], fault: Fault) -> None:
    error = consumer.refuses(consumer.genuine.but(**changes), fault)
    if fault in {Fault.EXPIRED, Fault.NOT_YET_VALID, Fault.SESSION_EXPIRED}:
        assert "our clock says" in error.detail
        assert "60 s of skew" in error.detail


@pytest.mark.parametrize(
    "changes",
    [
        {"conditions_not_on_or_after": -59},
        {"confirmation_not_on_or_after": -59},
        {"conditions_not_before": 60},
        {"session_not_on_or_after": -59},
        {"session_not_on_or_after": None},
        {"conditions_not_before": None},
        {"name_id": " \n ann@acme.example\t"},
    ],
)
def test_one_skew_holds_for_every_clock(consumer: Consumer, changes: dict[str, object]) -> None:
    # python3-saml allows none for SubjectConfirmationData and the session: our listed exception.
    ours_alone = bool({"confirmation_not_on_or_after", "session_not_on_or_after"} & set(changes))
    assert consumer.accept(consumer.genuine.but(**changes), referee=not ours_alone).subject == "ann@acme.example"


@pytest.mark.parametrize(
    "text", ["2026-01-01T00:00:00", "2026-01-01T00:00:00+01:00", "2026-13-01T00:00:00Z", "tomorrow", ""]
)
def test_malformed_instant_is_refused(consumer: Consumer, text: str) -> None:
    def write(response: etree._Element) -> None:
        the(response, "Conditions").set("NotOnOrAfter", text)

    consumer.refuses(consumer.genuine.but(before_signing=write), Fault.CONDITIONS, Fault.SCHEMA)


def test_fractions_of_a_second_are_read(consumer: Consumer) -> None:
    def write(response: etree._Element) -> None:
        the(response, "Conditions").set("NotOnOrAfter", "2999-01-01T00:00:00.1234567Z")

    assert consumer.accept(consumer.genuine.but(before_signing=write)).subject == "ann@acme.example"


def remove(path: str) -> Hook:
    def change(response: etree._Element) -> None:
        element = the(response, path)
        parent = element.getparent()
        assert parent is not None
        parent.remove(element)

    return change


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("Conditions", Fault.CONDITIONS),
        ("Subject", Fault.CONFIRMATION),
        ("Subject/SubjectConfirmation", Fault.CONFIRMATION),
        ("Subject/SubjectConfirmation/SubjectConfirmationData", Fault.CONFIRMATION),
        ("AuthnStatement", Fault.AUTHN_STATEMENT),
    ],
)
def test_missing_part_is_refused(consumer: Consumer, path: str, fault: Fault) -> None:
    consumer.refuses(consumer.genuine.but(before_signing=remove(path)), fault)


def test_one_valid_confirmation_among_several_suffices(consumer: Consumer) -> None:
    def more(response: etree._Element) -> None:
        subject = the(response, "Subject")
        subject.insert(1, etree.Element(f"{{{SAML}}}SubjectConfirmation", Method="urn:x"))
        bare = etree.Element(f"{{{SAML}}}SubjectConfirmation")
        bare.set("Method", "urn:oasis:names:tc:SAML:2.0:cm:bearer")
        subject.insert(1, bare)

    assert consumer.accept(consumer.genuine.but(before_signing=more)).subject == "ann@acme.example"


def test_unknown_condition_is_refused(consumer: Consumer) -> None:
    def add(response: etree._Element, name: str) -> None:
        etree.SubElement(the(response, "Conditions"), f"{{{SAML}}}{name}")

    known = consumer.genuine.but(before_signing=lambda response: add(response, "OneTimeUse"))
    assert consumer.accept(known).subject == "ann@acme.example"

    def strange(response: etree._Element) -> None:
        add(response, "Condition")
        the(response, "Conditions/Condition").set("{http://www.w3.org/2001/XMLSchema-instance}type", "saml:Strange")

    consumer.refuses(consumer.genuine.but(before_signing=strange), Fault.CONDITIONS, Fault.SCHEMA)


def test_assertion_is_accepted_once(consumer: Consumer) -> None:
    message = consumer.genuine.encoded(consumer.key)
    assert consumer.accept(message).subject == "ann@acme.example"
    with pytest.raises(SamlError) as refusal:
        consumer.accept(message)
    assert refusal.value.reason is Fault.REPLAYED


def test_assertion_is_accepted_once_across_responses(consumer: Consumer) -> None:
    one = consumer.genuine.but(assertion_id="_same")
    assert consumer.accept(one).subject == "ann@acme.example"
    consumer.refuses(consumer.genuine.but(assertion_id="_same"), Fault.REPLAYED)


def test_attribute_is_matched_with_exactly_one_value(consumer: Consumer, metadata_file: Path) -> None:
    service = build_service_provider(
        center(metadata_file, match="attribute:mail"), public_url=PUBLIC_URL, prefix="/saml"
    )
    good = consumer.genuine.but(
        attributes={"mail": (" bob@acme.example ",), "groups": ("a", "b")}, name_id_format=TRANSIENT
    )
    assert consumer.accept(good, service=service).subject == "bob@acme.example"
    for attributes in ({}, {"mail": ()}, {"mail": ("a", "b")}, {"Mail": ("a",)}):
        consumer.refuses(consumer.genuine.but(attributes=attributes), Fault.ATTRIBUTE, service=service)
    consumer.refuses(consumer.genuine.but(attributes={"mail": ("",)}), Fault.NAME_ID, service=service)


def test_attribute_value_with_elements_is_refused(consumer: Consumer) -> None:
    def nested(child: str) -> Hook:
        def change(response: etree._Element) -> None:
            value = the(response, "AttributeStatement/Attribute/AttributeValue")
            value.append(etree.fromstring(child))

        return change

    message = consumer.genuine.but(attributes={"mail": ("ann@acme.example",)})
    targeted = message.but(before_signing=nested(f'<NameID xmlns="{SAML}">x</NameID>'))
    assert consumer.accept(targeted).subject == "ann@acme.example"
    consumer.refuses(message.but(before_signing=nested('<b xmlns="urn:x">.evil.example</b>')), Fault.STRUCTURE)


@pytest.mark.parametrize(
    ("name_id", "accepted"),
    [
        ("ann@acme.example", True),
        ("ann@ACME.example", True),
        ("ann@evil.example", False),
        ("ann@sub.acme.example", False),
        ("ann@bank.example", True),
        ("ann@BANK.example", True),
        ("ann@ban\u212a.example", False),
        ("ann@stra\u00dfe.example", False),
        ("ann@acme.example.evil.example", False),
        ("ann@evil.example@acme.example", False),
        ("@acme.example", False),
        ("ann", False),
    ],
)
def test_subject_outside_email_domains_is_refused(
    consumer: Consumer, metadata_file: Path, name_id: str, accepted: bool
) -> None:
    provider = center(metadata_file, email_domains=frozenset({"acme.example", "bank.example", "strasse.example"}))
    service = build_service_provider(provider, public_url=PUBLIC_URL, prefix="/saml")
    message = consumer.genuine.but(name_id=name_id)
    if accepted:
        assert consumer.accept(message, service=service).subject == name_id
    else:
        consumer.refuses(message, Fault.EMAIL_DOMAIN, service=service)


def test_expired_metadata_refuse_logins(consumer: Consumer, key: SigningKey, tmp_path: Path) -> None:
    path = tmp_path / "short.xml"
    path.write_text(
        provider_metadata(trust_of(consumer.service).entity_id, SSO, (key.certificate,), valid_until=NOW + 100)
    )
    service = build_service_provider(center(path), public_url=PUBLIC_URL, prefix="/saml", clock=lambda: NOW)
    assert consumer.accept(consumer.genuine, service=service).subject == "ann@acme.example"
    later = dataclasses.replace(service, clock=lambda: NOW + 100)
    error = consumer.refuses(consumer.genuine, Fault.METADATA_EXPIRED, service=later)
    assert "our clock says" in error.detail


def test_signed_status_is_checked_again(consumer: Consumer) -> None:
    message = verify(admit(consumer.genuine.encoded(consumer.key)), trust_of(consumer.service))
    message.response[1][0].set("Value", "urn:oasis:names:tc:SAML:2.0:status:Responder")
    with pytest.raises(SamlError) as refusal:
        bind(message, consumer.service, trust_of(consumer.service), pending(consumer.service), consumer.state)
    assert refusal.value.reason is Fault.STATUS
