"""Our own keys, python3-saml's settings with them, and certificates."""

from __future__ import annotations

import base64
import dataclasses
import datetime
from pathlib import Path
from typing import Any

import pytest
import xmlsec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from lxml import etree
from xmlsec import constants

from flask_genesys_auth.config.secrets import Secret
from flask_genesys_auth.config.settings import KeyPair
from flask_genesys_auth.errors import ConfigurationError
from flask_genesys_auth.saml.documents import MD
from flask_genesys_auth.saml.keys import der_of, fingerprint, not_after, pem_of
from flask_genesys_auth.saml.service_provider import ServiceProvider, build_service_provider
from flask_genesys_auth.testing.saml_messages import SigningKey, provider_metadata

from ..addresses import IDP, PUBLIC_URL, SSO
from ..conftest import center, trust_of

CLASSES = ("urn:oasis:names:tc:SAML:2.0:ac:classes:TimeSyncToken", "urn:oasis:names:tc:SAML:2.0:ac:classes:Kerberos")


def pair(key: SigningKey) -> KeyPair:
    return KeyPair(Secret(key.private_pem), key.certificate_pem)


def built(metadata: Path, provider: dict[str, object] | None = None, **saml: object) -> ServiceProvider:
    """A service provider whose ``saml`` table says this."""
    made = center(metadata, **(provider or {}))  # type: ignore[arg-type]  # free-form for tests
    assert made.saml is not None
    table = dataclasses.replace(made.saml, **saml)  # type: ignore[arg-type]  # free-form for tests
    return build_service_provider(dataclasses.replace(made, saml=table), public_url=PUBLIC_URL, prefix="/saml")


def test_decryption_keys_keep_the_configured_order(metadata_file: Path, key: SigningKey, other_key: SigningKey) -> None:
    service = built(metadata_file, encryption_keys=(pair(key), pair(other_key)))
    assert len(service.keys.decryption) == 2
    for made, loaded in zip((key, other_key), service.keys.decryption, strict=True):
        signer, verifier = xmlsec.SignatureContext(), xmlsec.SignatureContext()
        signer.key, verifier.key = loaded, made.load()
        verifier.verify_binary(
            b"x", constants.TransformRsaSha256, signer.sign_binary(b"x", constants.TransformRsaSha256)
        )
    assert service.keys.signing is None


def test_signing_pair_is_loaded(metadata_file: Path, key: SigningKey) -> None:
    service = built(metadata_file, signing_key=Secret(key.private_pem), signing_certificate=key.certificate_pem)
    assert service.keys.signing == pair(key)
    assert service.keys.signing is not None
    assert "PRIVATE" not in repr(service)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("no key", r"saml\.encryption_keys\.1\.key: must be an RSA key"),
        ("-----BEGIN ENCRYPTED PRIVATE KEY-----", r"saml\.encryption_keys\.1\.key: must be an RSA key"),
        ("ec", r"saml\.encryption_keys\.1\.key: must be an RSA key"),
        ("mixed", r"saml\.encryption_keys\.1\.certificate: must be the certificate of key"),
        ("no certificate", r"saml\.encryption_keys\.1\.certificate: must be the certificate of key"),
        ("damaged", r"saml\.encryption_keys\.1\.certificate: must be the certificate of key"),
    ],
)
def test_unusable_decryption_key_is_named_at_start(
    metadata_file: Path, key: SigningKey, other_key: SigningKey, wrong: str, said: str
) -> None:
    curve = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    second = {
        "ec": KeyPair(Secret(curve.decode()), other_key.certificate_pem),
        "mixed": KeyPair(Secret(other_key.private_pem), key.certificate_pem),
        "no certificate": KeyPair(Secret(other_key.private_pem), other_key.private_pem),
        "damaged": KeyPair(Secret(other_key.private_pem), pem_of(b"0" + der_of(other_key.certificate_pem)[1:99])),
    }.get(wrong, KeyPair(Secret(wrong), other_key.certificate_pem))
    assert len(built(metadata_file, encryption_keys=(pair(key), pair(other_key))).keys.decryption) == 2
    with pytest.raises(ConfigurationError, match=said) as refusal:
        built(metadata_file, encryption_keys=(pair(key), second))
    assert "PRIVATE" not in str(refusal.value)


def test_next_signing_certificate_must_be_a_certificate(
    metadata_file: Path, key: SigningKey, other_key: SigningKey
) -> None:
    signing: dict[str, Any] = {"signing_key": Secret(key.private_pem), "signing_certificate": key.certificate_pem}
    rolling = built(metadata_file, **signing, next_signing_certificate=other_key.certificate_pem)
    assert trust_of(rolling).toolkit.get_sp_cert_new().strip() == other_key.certificate_pem.strip()
    for wrong in ("none", pem_of(b"\x30\x00")):
        with pytest.raises(ConfigurationError, match=r"saml\.next_signing_certificate: must be a certificate"):
            built(metadata_file, **signing, next_signing_certificate=wrong)


def test_toolkit_settings_escape_both_logout_services(tmp_path: Path, key: SigningKey) -> None:
    root = etree.fromstring(provider_metadata(IDP, SSO, (key.certificate,)))
    role = root[0]
    for binding, place in (("HTTP-POST", "p"), ("HTTP-Redirect", "r")):
        service = etree.Element(f"{{{MD}}}SingleLogoutService", Location=f"https://idp.example/{place}?a=1&b=2")
        service.set("Binding", f"urn:oasis:names:tc:SAML:2.0:bindings:{binding}")
        service.set("ResponseLocation", f"https://idp.example/{place}/answer")
        role.insert(1, service)
    path = tmp_path / "idp.xml"
    path.write_bytes(etree.tostring(root))
    service_provider = built(path)
    toolkit = trust_of(service_provider).toolkit
    assert toolkit.get_idp_slo_url() == "https://idp.example/r?a=1&amp;b=2"
    assert toolkit.get_idp_slo_response_url() == "https://idp.example/r/answer"
    assert toolkit.get_sp_data()["singleLogoutService"]["url"] == service_provider.slo_url
    assert trust_of(service_provider).metadata.single_logout["redirect"].location == "https://idp.example/r?a=1&b=2"


def test_toolkit_settings_without_single_logout(metadata_file: Path) -> None:
    assert trust_of(built(metadata_file)).toolkit.get_idp_slo_url() is None


def test_configured_authentication_contexts_are_required(metadata_file: Path) -> None:
    security = trust_of(built(metadata_file)).toolkit.get_security_data()
    assert (security["requestedAuthnContext"], security["failOnAuthnContextMismatch"]) == (False, False)
    security = trust_of(built(metadata_file, {"authn_context": CLASSES})).toolkit.get_security_data()
    assert (security["requestedAuthnContext"], security["failOnAuthnContextMismatch"]) == (list(CLASSES), True)
    with pytest.raises(ConfigurationError, match="characters that are not allowed"):
        built(metadata_file, {"authn_context": ("urn:a</saml:AuthnContextClassRef>",)})


def test_python3_saml_refuses_sha1_unless_allowed(metadata_file: Path) -> None:
    assert trust_of(built(metadata_file)).toolkit.get_security_data()["rejectDeprecatedAlgorithm"]
    allowed = built(metadata_file, {"allow_sha1": True})
    assert not trust_of(allowed).toolkit.get_security_data()["rejectDeprecatedAlgorithm"]


@pytest.mark.parametrize("year", [2049, 2051])  # UTCTime and GeneralizedTime
def test_certificate_expiry_and_fingerprint_are_read(year: int) -> None:
    made = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a name that is long" * 3)])
    ends = datetime.datetime(year, 2, 3, 4, 5, 6, tzinfo=datetime.timezone.utc)
    certificate = (x509.CertificateBuilder(name, name, made.public_key(), 7, ends.replace(year=2001), ends)).sign(
        made, hashes.SHA256()
    )
    der = certificate.public_bytes(serialization.Encoding.DER)
    assert not_after(der) == ends.timestamp()
    assert fingerprint(der).replace(":", "") == certificate.fingerprint(hashes.SHA256()).hex().upper()
    assert der_of(pem_of(der)) == der
    assert [not_after(der[:size]) for size in (0, 1, 2, 5, 40, len(der) - 1)] == [None] * 6


@pytest.mark.parametrize(
    "der", [b"\x30\x00", b"\x02\x01\x00", b"\x30\x02\x30\x00", bytes.fromhex("300e300c0200300030003006020100040161")]
)
def test_unreadable_certificate_has_no_expiry(der: bytes) -> None:
    assert not_after(der) is None


def test_pem_without_certificate_is_refused(key: SigningKey) -> None:
    assert der_of("text before\n" + key.certificate_pem + key.private_pem) == base64.b64decode(key.certificate)
    for text in ("", key.private_pem, "-----BEGIN CERTIFICATE-----\nQ\n-----END CERTIFICATE-----"):
        with pytest.raises(ValueError, match="no certificate in PEM"):
            der_of(text)
