"""X.509 certificates: their bytes, their fingerprint, their end, and new ones with their keys."""

from __future__ import annotations

import hashlib
import ssl
from datetime import datetime, timedelta, timezone

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

_EARLY = timedelta(minutes=5)
"""A new certificate is valid from a little before now: another server's clock may be behind."""


def der_of(pem: str) -> bytes:
    """Return the first certificate of a PEM text (RFC 7468 5) in DER, without the rest of the text.

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
    """Return the SHA-256 of a certificate in DER, in pairs of hexadecimal digits."""
    return hashlib.sha256(der).digest().hex(":").upper()


def public_key_info(der: bytes) -> bytes:
    """Return a certificate's SubjectPublicKeyInfo (RFC 5280 4.1.2.7) in DER.

    :raises ValueError: if it cannot be read.
    """
    try:
        key = x509.load_der_x509_certificate(der).public_key()
    except UnsupportedAlgorithm as error:
        raise ValueError("a key of another kind") from error
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def rsa_bits(der: bytes) -> int | None:
    """Return the size of a certificate's RSA key in bits, or ``None`` if it has no such key."""
    try:
        key = x509.load_der_x509_certificate(der).public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None
    return key.key_size if isinstance(key, rsa.RSAPublicKey) else None


def not_after(der: bytes) -> float | None:
    """Return the unix time at which a certificate ends (RFC 5280 4.1.2.5), or ``None`` if it cannot be read."""
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
