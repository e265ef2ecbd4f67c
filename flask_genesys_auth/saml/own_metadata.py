"""Our metadata: what the identity providers must know of one contact center, written by python3-saml."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from html import escape

from lxml import etree
from onelogin.saml2.constants import OneLogin_Saml2_Constants as Constants
from onelogin.saml2.metadata import OneLogin_Saml2_Metadata

from .certificates import der_of
from .documents import DS, MD, Limits, as_instant, parse
from .metadata import POST, REDIRECT
from .own_keys import OwnKeys

LONGEST_CACHE = 24 * 3600
"""Seconds for which a provider is told it may go by its copy without asking."""

_LIMITS = Limits(size=1024 * 1024, depth=8, elements=1000, attributes=16)
_OAEP = "http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p"
_ENCRYPTION_METHODS = (
    "http://www.w3.org/2009/xmlenc11#aes256-gcm",
    "http://www.w3.org/2009/xmlenc11#aes128-gcm",
    _OAEP,
)


@dataclass(frozen=True, slots=True)
class OwnMetadata:
    """Writes the metadata of one contact center (saml-metadata 2.4.4).

    :param name_id_formats: those that our requests ask for, each once.
    :param lifetime: seconds for which a copy says that it is valid.
    :param sign: whether the signing key signs them.
    """

    entity_id: str
    acs_url: str
    slo_url: str
    keys: OwnKeys
    name_id_formats: tuple[str, ...] = field(default=(Constants.NAMEID_UNSPECIFIED,))
    lifetime: int = 172800
    sign: bool = False

    def xml(self, now: float) -> bytes:
        """Return the document.

        Single logout is offered only with a signing key: without one a provider could not believe us.

        :param now: unix time, from which ``validUntil`` counts.
        """
        signing = self.keys.signing
        sp = {
            "entityId": escape(self.entity_id),
            "assertionConsumerService": {"url": escape(self.acs_url), "binding": POST},
            "NameIDFormat": escape(self.name_id_formats[0]),
        }
        if signing is not None:
            sp["singleLogoutService"] = {"url": escape(self.slo_url), "binding": REDIRECT}
        written: str = OneLogin_Saml2_Metadata.builder(
            sp,
            authnsign=signing is not None,
            wsign=True,
            valid_until=as_instant(now + self.lifetime),
            cache_duration=f"PT{min(self.lifetime // 2, LONGEST_CACHE)}S",
        )
        root = parse(written.encode(), _LIMITS)
        role = root[0]
        self._add_formats(role)
        if signing is not None:
            logout = role.find(f"{{{MD}}}SingleLogoutService")
            if logout is not None:
                logout.addnext(logout.makeelement(logout.tag, {"Binding": POST, "Location": self.slo_url}))
        self._add_keys(role)
        etree.indent(root)
        document = etree.tostring(root, xml_declaration=True, encoding="UTF-8")
        if signing is None or not self.sign:
            return document
        return _signed(document, signing.key.reveal(), signing.certificate)

    def _add_formats(self, role: etree._Element) -> None:
        last = role.find(f"{{{MD}}}NameIDFormat")
        for name in self.name_id_formats[1:]:
            if last is not None:
                added = last.makeelement(last.tag)
                added.text = name
                last.addnext(added)
                last = added

    def _add_keys(self, role: etree._Element) -> None:
        """Put in all certificates, first those that are in use now (saml-metadata 2.4.1.1)."""
        descriptors = []
        if self.keys.signing is not None:
            descriptors.append(_key_descriptor("signing", der_of(self.keys.signing.certificate)))
        if self.keys.next_signing_certificate:
            descriptors.append(_key_descriptor("signing", der_of(self.keys.next_signing_certificate)))
        descriptors.extend(_key_descriptor("encryption", certificate) for certificate in self.keys.encryption)
        for place, descriptor in enumerate(descriptors):
            role.insert(place, descriptor)


def _key_descriptor(use: str, certificate: bytes) -> etree._Element:
    descriptor = etree.Element(f"{{{MD}}}KeyDescriptor", use=use, nsmap={"md": MD, "ds": DS})
    data = etree.SubElement(etree.SubElement(descriptor, f"{{{DS}}}KeyInfo"), f"{{{DS}}}X509Data")
    etree.SubElement(data, f"{{{DS}}}X509Certificate").text = base64.b64encode(certificate).decode()
    for algorithm in _ENCRYPTION_METHODS if use == "encryption" else ():
        etree.SubElement(descriptor, f"{{{MD}}}EncryptionMethod", Algorithm=algorithm)
    return descriptor


def _signed(document: bytes, key: str, certificate: str) -> bytes:
    signed: str | bytes = OneLogin_Saml2_Metadata.sign_metadata(
        document, key, certificate, Constants.RSA_SHA256, Constants.SHA256
    )
    return signed if isinstance(signed, bytes) else signed.encode()
