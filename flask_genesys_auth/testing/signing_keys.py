"""RSA keys with self-signed certificates, made when they are needed: for tests and development, not for production."""

from __future__ import annotations

from dataclasses import dataclass, field

import xmlsec
from xmlsec import constants

from ..saml.keys import generate_pair


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key and its certificate, both in PEM."""

    private_pem: str = field(repr=False)
    certificate_pem: str

    @property
    def certificate(self) -> str:
        """The certificate as XML carries it: DER in base64, on one line."""
        return "".join(line for line in self.certificate_pem.splitlines() if not line.startswith("-"))

    def load(self) -> xmlsec.Key:
        """Return the key as libxmlsec wants it."""
        return xmlsec.Key.from_memory(self.private_pem.encode(), constants.KeyDataFormatPem, None)


def generate_signing_key(name: str = "development") -> SigningKey:
    """Make an RSA key of 2048 bits and a certificate that is valid for a year.

    :param name: the certificate's common name.
    """
    private, certificate = generate_pair(name, days=365, bits=2048)
    return SigningKey(private.decode(), certificate.decode())
