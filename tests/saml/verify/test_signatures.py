"""Attacks on signatures and on what they cover, each beside the accepted genuine message."""

from __future__ import annotations

import base64
import copy
import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import xmlsec
from lxml import etree
from xmlsec import constants

from flask_genesys_auth.saml.documents import DS, SAML
from flask_genesys_auth.saml.errors import Fault, SamlError
from flask_genesys_auth.saml.gate import admit
from flask_genesys_auth.saml.service_provider import build_service_provider
from flask_genesys_auth.saml.signatures import covered
from flask_genesys_auth.saml.verify import verify
from flask_genesys_auth.testing.saml_messages import Hook, SigningKey, add_key_info, provider_metadata, sign

from ..addresses import IDP, PUBLIC_URL, SSO
from ..conftest import Consumer, center, trust_of
from ..trees import EVIL, REFERENCE, find
from ..twists import add, double, drop, in_signature, set_algorithm, set_text, set_value


def test_signed_assertion_is_accepted(consumer: Consumer) -> None:
    for message in (consumer.genuine, consumer.genuine.but(sign_response=True)):
        login = consumer.accept(message)
        assert (login.subject, login.session_index, login.provider) == ("ann@acme.example", "session-1", "okta")


@pytest.mark.parametrize("digest", ["Sha256", "Sha384", "Sha512"])
def test_every_allowed_rsa_algorithm_is_accepted(consumer: Consumer, digest: str) -> None:
    message = consumer.genuine.but(signature_algorithm=f"Rsa{digest}", digest_algorithm=digest)
    assert consumer.accept(message).subject == "ann@acme.example"


def test_ecdsa_key_is_accepted(consumer: Consumer, tmp_path: Path) -> None:
    ecdsa = elliptic_key()
    (tmp_path / "ec.xml").write_text(provider_metadata(IDP, SSO, (ecdsa.certificate,)))
    service = build_service_provider(center(tmp_path / "ec.xml"), public_url=PUBLIC_URL, prefix="/saml")
    message = consumer.genuine.but(signature_algorithm="EcdsaSha256").encoded(ecdsa)
    assert consumer.accept(message, service=service).subject == "ann@acme.example"


def elliptic_key() -> SigningKey:
    """A P-256 key, which only the tests' own library can make."""
    from datetime import datetime, timedelta, timezone

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "elliptic")])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(private, hashes.SHA256())
    )
    text = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return SigningKey(text.decode(), certificate.public_bytes(serialization.Encoding.PEM).decode())


def test_both_keys_verify_during_rollover_only(consumer: Consumer, other_key: SigningKey, tmp_path: Path) -> None:
    path = tmp_path / "both.xml"
    path.write_text(provider_metadata(IDP, SSO, (other_key.certificate, consumer.key.certificate)))
    both = build_service_provider(center(path), public_url=PUBLIC_URL, prefix="/saml")
    for key in (consumer.key, other_key):
        assert consumer.accept(consumer.genuine.encoded(key), service=both).subject == "ann@acme.example"
    path.write_text(provider_metadata(IDP, SSO, (other_key.certificate,)))
    after = build_service_provider(center(path), public_url=PUBLIC_URL, prefix="/saml")
    consumer.refuses(consumer.genuine, Fault.BAD_SIGNATURE, service=after)
    assert consumer.accept(consumer.genuine.encoded(other_key), service=after).subject == "ann@acme.example"


def test_inherited_prefixes_are_canonicalized_as_signed(consumer: Consumer) -> None:
    def typed(response: etree._Element) -> None:
        value = etree.SubElement(find(response, "saml:Assertion"), f"{{{SAML}}}AttributeStatement")
        attribute = etree.SubElement(value, f"{{{SAML}}}Attribute", Name="mail")
        element = etree.SubElement(attribute, f"{{{SAML}}}AttributeValue")
        element.set("{http://www.w3.org/2001/XMLSchema-instance}type", "xs:string")
        element.text = " ann "

    def sign_with_prefixes(response: etree._Element) -> None:
        sign(find(response, "saml:Assertion"), consumer.key, prefixes="xs unknown")

    message = consumer.genuine.but(sign_assertion=False, before_signing=typed, after_signing=sign_with_prefixes)
    assert consumer.accept(message).subject == "ann@acme.example"


def test_text_around_the_signature_stays_signed(consumer: Consumer) -> None:
    def pretty(response: etree._Element) -> None:
        etree.indent(response)

    message = consumer.genuine.but(before_signing=pretty, between_signing=lambda _: None, sign_response=True)
    assert consumer.accept(message).subject == "ann@acme.example"

    def talkative(response: etree._Element) -> None:
        signature = find(response, "saml:Assertion/ds:Signature")
        signature.tail = (signature.tail or "") + " "

    consumer.refuses(consumer.genuine.but(after_signing=talkative), Fault.BAD_SIGNATURE)


def test_identity_is_read_from_signed_bytes(consumer: Consumer) -> None:
    form = admit(consumer.genuine.encoded(consumer.key)).assertion_signature
    assert form is not None
    assert find(covered(form), "saml:Subject/saml:NameID").text == "ann@acme.example"
    with pytest.raises(SamlError) as refusal:
        covered(dataclasses.replace(form, digest_value=bytes(32)))
    assert refusal.value.reason is Fault.BAD_SIGNATURE


@pytest.mark.parametrize("sign_response", [False, True])
def test_changed_assertion_is_refused(consumer: Consumer, sign_response: bool) -> None:
    def change(response: etree._Element) -> None:
        find(response, "saml:Assertion/saml:Subject/saml:NameID").text = EVIL

    consumer.refuses(consumer.genuine.but(sign_response=sign_response, after_signing=change), Fault.BAD_SIGNATURE)


def test_response_changed_after_signing_is_refused(consumer: Consumer) -> None:
    def change(response: etree._Element) -> None:
        response.set("IssueInstant", "2020-01-01T00:00:00Z")

    consumer.accept(consumer.genuine.but(after_signing=change))
    consumer.refuses(consumer.genuine.but(sign_response=True, after_signing=change), Fault.BAD_SIGNATURE)


def test_unsigned_and_stripped_messages_are_refused(consumer: Consumer) -> None:
    def strip(response: etree._Element) -> None:
        assertion = find(response, "saml:Assertion")
        assertion.remove(find(assertion, "ds:Signature"))

    consumer.refuses(consumer.genuine.but(sign_assertion=False), Fault.NOT_SIGNED)
    consumer.refuses(consumer.genuine.but(after_signing=strip), Fault.NOT_SIGNED)


def test_signed_response_alone_is_not_enough(consumer: Consumer) -> None:
    consumer.refuses(consumer.genuine.but(sign_assertion=False, sign_response=True), Fault.NOT_SIGNED)


def test_want_response_signed_requires_a_signed_response(consumer: Consumer, metadata_file: Path) -> None:
    service = build_service_provider(
        center(metadata_file, want_response_signed=True), public_url=PUBLIC_URL, prefix="/saml"
    )
    assert consumer.accept(consumer.genuine.but(sign_response=True), service=service).subject == "ann@acme.example"
    consumer.refuses(consumer.genuine, Fault.NOT_SIGNED, service=service)


def test_other_key_with_its_certificate_is_refused(consumer: Consumer, other_key: SigningKey) -> None:
    consumer.refuses(consumer.genuine.encoded(other_key), Fault.BAD_SIGNATURE)

    def claim_the_genuine_certificate(response: etree._Element) -> None:
        signature = find(response, "saml:Assertion/ds:Signature")
        signature.remove(find(signature, "ds:KeyInfo"))
        add_key_info(signature, consumer.key)

    forged = consumer.genuine.but(after_signing=claim_the_genuine_certificate)
    consumer.refuses(forged.encoded(other_key), Fault.BAD_SIGNATURE)


def test_key_info_is_not_needed(consumer: Consumer) -> None:
    def anonymous(response: etree._Element) -> None:
        signature = find(response, "saml:Assertion/ds:Signature")
        signature.remove(find(signature, "ds:KeyInfo"))

    assert consumer.accept(consumer.genuine.but(after_signing=anonymous)).subject == "ann@acme.example"


def test_key_info_is_accepted_and_ignored(consumer: Consumer) -> None:
    def describe(response: etree._Element) -> None:
        information = find(response, "saml:Assertion/ds:Signature/ds:KeyInfo")
        etree.SubElement(information, f"{{{DS}}}KeyName").text = "the key"
        value = etree.SubElement(information, f"{{{DS}}}KeyValue")
        curve = etree.SubElement(value, "{http://www.w3.org/2009/xmldsig11#}ECKeyValue")
        etree.SubElement(curve, "{http://www.w3.org/2009/xmldsig11#}NamedCurve", URI="urn:oid:1.2.840.10045.3.1.7")
        etree.SubElement(curve, "{http://www.w3.org/2009/xmldsig11#}PublicKey").text = "AA=="

    assert consumer.accept(consumer.genuine.but(after_signing=describe)).subject == "ann@acme.example"


def test_bad_signature_beside_good_one_is_refused(consumer: Consumer, other_key: SigningKey) -> None:
    def sign_around(response: etree._Element) -> None:
        sign(response, other_key)

    consumer.refuses(consumer.genuine.but(after_signing=sign_around), Fault.BAD_SIGNATURE)


@pytest.mark.parametrize(
    ("signature_algorithm", "digest_algorithm"),
    [
        ("RsaSha1", "Sha256"),
        ("RsaSha256", "Sha1"),
        ("RsaSha1", "Sha1"),
        ("RsaSha224", "Sha256"),
        ("RsaSha256", "Sha224"),
    ],
)
def test_weak_algorithm_is_refused(consumer: Consumer, signature_algorithm: str, digest_algorithm: str) -> None:
    weak = consumer.genuine.but(signature_algorithm=signature_algorithm, digest_algorithm=digest_algorithm)
    consumer.refuses(weak, Fault.ALGORITHM)


C14N = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"


@pytest.mark.parametrize(
    ("path", "algorithm"),
    [
        ("ds:SignatureMethod", "http://www.w3.org/2001/04/xmldsig-more#rsa-md5"),
        ("ds:SignatureMethod", "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256"),
        ("ds:SignatureMethod", ""),
        ("ds:CanonicalizationMethod", C14N),
        ("ds:Reference/ds:DigestMethod", "http://www.w3.org/2001/04/xmldsig-more#md5"),
        ("ds:Reference/ds:Transforms/ds:Transform", "http://www.w3.org/TR/1999/REC-xslt-19991116"),
        ("ds:Reference/ds:Transforms/ds:Transform", "http://www.w3.org/TR/1999/REC-xpath-19991116"),
        ("ds:Reference/ds:Transforms/ds:Transform", "http://www.w3.org/2002/06/xmldsig-filter2"),
        ("ds:Reference/ds:Transforms/ds:Transform[2]", "http://www.w3.org/2000/09/xmldsig#base64"),
        ("ds:Reference/ds:Transforms/ds:Transform[2]", C14N),
        ("ds:Reference/ds:Transforms/ds:Transform[2]", "http://www.w3.org/2001/10/xml-exc-c14n#WithComments"),
    ],
)
def test_unlisted_algorithm_is_refused_before_verification(consumer: Consumer, path: str, algorithm: str) -> None:
    consumer.refuses(consumer.genuine.but(after_signing=set_algorithm(path, algorithm)), Fault.ALGORITHM)


def test_hmac_with_the_certificate_is_refused(consumer: Consumer) -> None:
    class Confused(SigningKey):
        def load(self) -> xmlsec.Key:
            return xmlsec.Key.from_binary_data(constants.KeyDataHmac, base64.b64decode(self.certificate))

    confused = Confused("", consumer.key.certificate_pem)
    forged = consumer.genuine.but(signature_algorithm="HmacSha256").encoded(confused)
    consumer.refuses(forged, Fault.ALGORITHM)


@pytest.mark.parametrize(
    "change",
    [
        set_value(REFERENCE, "URI", ""),
        set_value(REFERENCE, "URI", "#elsewhere"),
        set_value(REFERENCE, "URI", "file:///etc/passwd"),
        set_value(REFERENCE, "URI", "http://127.0.0.1:1/"),
        set_value(REFERENCE, "URI", "#xpointer(/)"),
        set_value(REFERENCE, "Type", "http://www.w3.org/2000/09/xmldsig#Object"),
        drop(f"{REFERENCE}/ds:Transforms"),
        drop(f"{REFERENCE}/ds:Transforms/ds:Transform[2]"),
        double(f"{REFERENCE}/ds:Transforms/ds:Transform"),
        double(REFERENCE),
        double("ds:SignedInfo"),
        double("ds:SignatureValue"),
        double(f"{REFERENCE}/ds:DigestValue"),
        drop(REFERENCE),
        drop("ds:SignatureValue"),
        set_text("ds:SignatureValue", ""),
        set_text("ds:SignatureValue", "not base64!"),
        set_text("ds:SignatureValue", "\u00e9"),
        set_text(f"{REFERENCE}/ds:DigestValue", ""),
        set_text(f"{REFERENCE}/ds:DigestValue", base64.b64encode(b"short").decode()),
        add(".", f'<ds:Object xmlns:ds="{DS}"/>'),
        add("ds:KeyInfo", f'<ds:RetrievalMethod xmlns:ds="{DS}" URI="http://127.0.0.1:1/"/>'),
        add("ds:KeyInfo", '<d:KeyInfoReference xmlns:d="http://www.w3.org/2009/xmldsig11#" URI="#x"/>'),
        add("ds:SignedInfo/ds:SignatureMethod", f'<ds:HMACOutputLength xmlns:ds="{DS}">1</ds:HMACOutputLength>'),
        add("ds:SignedInfo/ds:CanonicalizationMethod", '<x xmlns="urn:x"/>'),
        add(f"{REFERENCE}/ds:Transforms/ds:Transform", f'<ds:XPath xmlns:ds="{DS}">//x</ds:XPath>'),
    ],
)
def test_other_signature_form_is_refused_before_verification(
    consumer: Consumer, change: Callable[[etree._Element], None]
) -> None:
    consumer.refuses(consumer.genuine.but(after_signing=in_signature(change)), Fault.SIGNATURE_FORM)


def test_elements_in_signature_values_are_refused(consumer: Consumer) -> None:
    for path in (f"{REFERENCE}/ds:DigestValue", "ds:SignatureValue"):
        hook = in_signature(add(path, '<x xmlns="urn:x"/>'))
        consumer.refuses(consumer.genuine.but(after_signing=hook), Fault.FORBIDDEN_XML)


def test_reference_to_whole_document_is_refused(consumer: Consumer) -> None:
    def sign_all(response: etree._Element) -> None:
        sign(response, consumer.key, uri="")

    consumer.refuses(consumer.genuine.but(after_signing=sign_all), Fault.SIGNATURE_FORM)


def test_second_signature_of_the_assertion_is_refused(consumer: Consumer) -> None:
    def again(response: etree._Element) -> None:
        signature = find(response, "saml:Assertion/ds:Signature")
        signature.addnext(copy.deepcopy(signature))

    consumer.refuses(consumer.genuine.but(after_signing=again), Fault.SIGNATURE_FORM)


def test_signature_elsewhere_is_refused(consumer: Consumer) -> None:
    def elsewhere(place: str) -> Hook:
        def move(response: etree._Element) -> None:
            find(response, place).append(find(response, "saml:Assertion/ds:Signature"))

        return move

    for place in ("saml:Assertion", "saml:Assertion/saml:Subject", "samlp:Status"):
        consumer.refuses(consumer.genuine.but(after_signing=elsewhere(place)), Fault.SIGNATURE_FORM)


def test_signature_of_another_namespace_is_refused(consumer: Consumer) -> None:
    def look_alike(response: etree._Element) -> None:
        etree.SubElement(find(response, "samlp:Status"), "{urn:look-alike}Signature")

    consumer.refuses(consumer.genuine.but(after_signing=look_alike), Fault.SIGNATURE_FORM)


def test_messages_are_verified_in_parallel(consumer: Consumer, other_key: SigningKey) -> None:
    good = [consumer.genuine.but(sign_response=True).encoded(consumer.key) for _ in range(4)]
    bad = consumer.genuine.encoded(other_key)

    def attempt(number: int) -> str:
        try:
            message = admit(bad if number % 2 else good[number % 4])
            found = verify(message, trust_of(consumer.service))
        except SamlError as error:
            return str(error.reason)
        return find(found.assertion, "saml:Subject/saml:NameID").text or ""

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(attempt, range(200)))
    assert outcomes == ["ann@acme.example", "bad_signature"] * 100
