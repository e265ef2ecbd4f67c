"""Our own keys: each is tried with its certificate when the application starts, not at the first login."""

from __future__ import annotations

from dataclasses import dataclass, field

import xmlsec
from xmlsec import constants

from ..config.settings import KeyPair, Saml
from ..errors import ConfigurationError
from .certificates import der_of, pem_of

_RSA_KEY = "must be an RSA key in PEM without a passphrase"


@dataclass(frozen=True, slots=True)
class OwnKeys:
    """The keys of one contact center.

    :param signing: signs what we send, our metadata too if that is asked for; or ``None``.
    :param next_signing_certificate: PEM, published beside the other while the signing key rolls over; or empty.
    :param decryption_pem: those of ``decryption``, for python3-saml.
    :param encryption: the certificates of ``decryption``, in DER: the first is the one to be used.
    """

    signing: KeyPair | None = None
    next_signing_certificate: str = ""
    decryption: tuple[xmlsec.Key, ...] = field(default=(), repr=False)
    decryption_pem: tuple[str, ...] = field(default=(), repr=False)
    encryption: tuple[bytes, ...] = field(default=(), repr=False)


def load_own_keys(saml: Saml, path: str) -> OwnKeys:
    """Load the keys of the ``saml`` table and see that each belongs to its certificate.

    :param path: the table's dotted path.
    :raises ConfigurationError: if a key cannot be used, with its dotted path.
    """
    signing = None
    if saml.signing_key is not None and saml.signing_certificate:
        given = KeyPair(saml.signing_key, saml.signing_certificate)
        _load_pair(given, f"{path}.signing_key", f"{path}.signing_certificate")
        # Whatever else stands beside the certificate stays behind.
        signing = KeyPair(given.key, pem_of(der_of(given.certificate)))
    elif saml.signing_key is not None or saml.signing_certificate:
        raise ConfigurationError(f"{path}: signing_key and signing_certificate belong together, one is missing")
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
    """Return the private key, once its certificate has verified what it signed."""
    pem = pair.key.reveal()
    if "ENCRYPTED" in pem:
        # OpenSSL would ask for the passphrase at the terminal.
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
