"""X.509 certificates, and our own keys. Each key is tested with its certificate when the application starts."""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

import xmlsec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from xmlsec import constants

from ..config.settings import KeyPair, Saml
from ..errors import ConfigurationError

_RSA_KEY = "must be an RSA key in PEM without a passphrase"
_EARLY = timedelta(minutes=5)
"""A new certificate is valid from this long ago, because another server's clock may be behind."""


def der_of(pem: str) -> bytes:
    """Return the first certificate of a PEM text (RFC 7468 5) in DER.

    :raises ValueError: if there is none.
    """
    try:
        return x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)
    except ValueError as error:
        raise ValueError("no certificate in PEM") from error


def pem_of(der: bytes) -> str:
    """Return a certificate in PEM."""
    return ssl.DER_cert_to_PEM_cert(der)


def fingerprint(der: bytes) -> str:
    """Return the SHA-256 of a certificate in DER as hexadecimal digits with colons."""
    return hashlib.sha256(der).digest().hex(":").upper()


def public_key_info(der: bytes) -> bytes:
    """Return a certificate's SubjectPublicKeyInfo (RFC 5280 4.1.2.7) in DER.

    :raises ValueError: if it cannot be read.
    """
    try:
        key = x509.load_der_x509_certificate(der).public_key()
    except UnsupportedAlgorithm as error:
        raise ValueError("a key of an unknown kind") from error
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def rsa_bits(der: bytes) -> int | None:
    """Return the size of a certificate's RSA key in bits, or ``None`` if it has no such key."""
    try:
        key = x509.load_der_x509_certificate(der).public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None
    return key.key_size if isinstance(key, rsa.RSAPublicKey) else None


def not_after(der: bytes) -> float | None:
    """Return the unix time at which a certificate expires (RFC 5280 4.1.2.5), or ``None`` if it cannot be read."""
    try:
        return x509.load_der_x509_certificate(der).not_valid_after_utc.timestamp()
    except ValueError:
        return None


def generate_pair(name: str, *, days: int, bits: int) -> tuple[bytes, bytes]:
    """Return a new RSA key (PKCS #8) and its self-signed certificate, both in PEM.

    :param name: the certificate's common name.
    """
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    own_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(own_name)
        .issuer_name(own_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLY)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private, certificate.public_bytes(Encoding.PEM)


@dataclass(frozen=True, slots=True)
class OwnKeys:
    """The keys of one contact center.

    :param signing: signs our messages, and our metadata if configured; or ``None``.
    :param next_signing_certificate: PEM, published with the current one during key rollover; or empty.
    :param decryption_pem: the keys of ``decryption``, for python3-saml.
    :param encryption: the certificates of ``decryption``, in DER; providers use the first.
    """

    signing: KeyPair | None = None
    next_signing_certificate: str = ""
    decryption: tuple[xmlsec.Key, ...] = field(default=(), repr=False)
    decryption_pem: tuple[str, ...] = field(default=(), repr=False)
    encryption: tuple[bytes, ...] = field(default=(), repr=False)


def load_own_keys(saml: Saml, path: str) -> OwnKeys:
    """Load the keys of the ``saml`` table and check that each matches its certificate.

    :param path: the table's dotted path.
    :raises ConfigurationError: if a key cannot be used.
    """
    signing = None
    if saml.signing_key is not None and saml.signing_certificate:
        given = KeyPair(saml.signing_key, saml.signing_certificate)
        _load_pair(given, f"{path}.signing_key", f"{path}.signing_certificate")
        # Only the certificate: the PEM file may hold the key as well.
        signing = KeyPair(given.key, pem_of(der_of(given.certificate)))
    elif saml.signing_key is not None or saml.signing_certificate:
        raise ConfigurationError(f"{path}: signing_key and signing_certificate must be set together")
    successor = saml.next_signing_certificate
    if successor:
        _public_key(successor, f"{path}.next_signing_certificate", "must be a certificate in PEM")
        successor = pem_of(der_of(successor))
    pairs = [(pair, f"{path}.encryption_keys.{place}") for place, pair in enumerate(saml.encryption_keys)]
    return OwnKeys(
        signing=signing,
        next_signing_certificate=successor,
        decryption=tuple(_load_pair(pair, f"{where}.key", f"{where}.certificate") for pair, where in pairs),
        decryption_pem=tuple(pair.key.reveal() for pair, _ in pairs),
        encryption=tuple(der_of(pair.certificate) for pair, _ in pairs),
    )


def _load_pair(pair: KeyPair, key_path: str, certificate_path: str) -> xmlsec.Key:
    """Return the private key after its certificate has verified a test signature."""
    pem = pair.key.reveal()
    if "ENCRYPTED" in pem:
        # OpenSSL would prompt for the passphrase.
        raise ConfigurationError(f"{key_path}: {_RSA_KEY}")
    try:
        key = xmlsec.Key.from_memory(pem.encode(), constants.KeyDataFormatPem, None)
        context = xmlsec.SignatureContext()
        context.key = key
        signature = context.sign_binary(b"probe", constants.TransformRsaSha256)
    except (xmlsec.Error, TypeError) as error:
        raise ConfigurationError(f"{key_path}: {_RSA_KEY}") from error
    finding = f"must be the certificate of {key_path.rpartition('.')[2]}, in PEM"
    context = xmlsec.SignatureContext()
    context.key = _public_key(pair.certificate, certificate_path, finding)
    try:
        context.verify_binary(b"probe", constants.TransformRsaSha256, signature)
    except xmlsec.Error as error:
        raise ConfigurationError(f"{certificate_path}: {finding}") from error
    return key


def _public_key(certificate: str, path: str, finding: str) -> xmlsec.Key:
    try:
        return xmlsec.Key.from_memory(der_of(certificate), constants.KeyDataFormatCertDer, None)
    except (xmlsec.Error, TypeError, ValueError) as error:
        raise ConfigurationError(f"{path}: {finding}") from error
