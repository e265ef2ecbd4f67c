"""Signs any SAML response, genuine or wrong: what an identity provider would send, and what an attacker would.

A field that is ``None`` is left out. What cannot be said with fields is done to the tree, before or after signing.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import xmlsec
from lxml import etree
from xmlsec import constants

from ..saml.documents import DS, EXCLUSIVE_C14N, MD, SAML, SAMLP, as_instant
from ..saml.signatures import ENVELOPED
from .signing_keys import SigningKey

EMAIL = "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress"
PERSISTENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"
BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
SUCCESS = "urn:oasis:names:tc:SAML:2.0:status:Success"

_PASSWORD = "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport"  # noqa: S105 - a name, no password
_PREFIXES = {"saml": SAML, "samlp": SAMLP, "xs": "http://www.w3.org/2001/XMLSchema"}

Hook = Callable[[etree._Element], None]


def new_id() -> str:
    """Return an ID that nobody can guess (saml-core 1.3.4)."""
    return f"_{secrets.token_hex(20)}"


def _nothing(_: etree._Element) -> None:
    return


@dataclass(frozen=True, slots=True)
class Message:
    """A response with one assertion; every default is what a genuine one has.

    :param acs_url: fills ``destination`` and ``recipient`` unless they are given.
    :param issuer: fills ``response_issuer`` and ``assertion_issuer`` unless they are given.
    :param request_id: fills ``in_response_to`` (of the Response) and ``confirmed_request`` (of the assertion).
    :param now: unix time that the relative times count from, in seconds.
    :param audiences: one inner tuple for each AudienceRestriction.
    :param sign_assertion: with ``sign_response`` in any combination.
    :param before_signing: is given the Response; ``between_signing`` when the assertion is signed already;
        ``after_signing`` when all is.
    """

    issuer: str
    acs_url: str
    audience: str
    request_id: str | None
    name_id: str | None = "ann@acme.example"
    name_id_format: str | None = EMAIL
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    now: float = field(default_factory=time.time)
    destination: str | None = ""
    recipient: str | None = ""
    in_response_to: str | None = ""
    confirmed_request: str | None = ""
    response_issuer: str | None = ""
    assertion_issuer: str | None = ""
    audiences: tuple[tuple[str, ...], ...] | None = None
    status: str = SUCCESS
    method: str = BEARER
    confirmation_not_before: float | None = None
    confirmation_not_on_or_after: float | None = 300
    conditions_not_before: float | None = -5
    conditions_not_on_or_after: float | None = 300
    session_index: str | None = "session-1"
    session_not_on_or_after: float | None = 28800
    response_id: str = field(default_factory=new_id)
    assertion_id: str = field(default_factory=new_id)
    sign_assertion: bool = True
    sign_response: bool = False
    signature_algorithm: str = "RsaSha256"
    digest_algorithm: str = "Sha256"
    before_signing: Hook = _nothing
    between_signing: Hook = _nothing
    after_signing: Hook = _nothing

    def but(self, **changes: object) -> Message:
        """Return this message with other fields."""
        return replace(self, **changes)  # type: ignore[arg-type]  # the dataclass itself refuses unknown names

    def tree(self) -> etree._Element:
        """Return the message, not signed."""
        response = etree.Element(f"{{{SAMLP}}}Response", nsmap=_PREFIXES)
        response.set("ID", self.response_id)
        response.set("Version", "2.0")
        response.set("IssueInstant", as_instant(self.now))
        _set(response, "Destination", _default(self.destination, self.acs_url))
        _set(response, "InResponseTo", _default(self.in_response_to, self.request_id))
        _add(response, SAML, "Issuer", _default(self.response_issuer, self.issuer))
        etree.SubElement(etree.SubElement(response, f"{{{SAMLP}}}Status"), f"{{{SAMLP}}}StatusCode", Value=self.status)
        self._add_assertion(response)
        return response

    def signed(self, key: SigningKey) -> etree._Element:
        """Return the message, signed as its fields say."""
        response = self.tree()
        self.before_signing(response)
        assertion = response.find(f"{{{SAML}}}Assertion")
        if self.sign_assertion and assertion is not None:
            sign(assertion, key, self.signature_algorithm, self.digest_algorithm)
        self.between_signing(response)
        if self.sign_response:
            sign(response, key, self.signature_algorithm, self.digest_algorithm)
        self.after_signing(response)
        return response

    def encoded(self, key: SigningKey) -> str:
        """Return the message as the form field ``SAMLResponse`` carries it."""
        return encode(self.signed(key))

    def _add_assertion(self, response: etree._Element) -> None:
        assertion = etree.SubElement(response, f"{{{SAML}}}Assertion", ID=self.assertion_id, Version="2.0")
        assertion.set("IssueInstant", as_instant(self.now))
        _add(assertion, SAML, "Issuer", _default(self.assertion_issuer, self.issuer))
        subject = etree.SubElement(assertion, f"{{{SAML}}}Subject")
        name_id = _add(subject, SAML, "NameID", self.name_id)
        if name_id is not None:
            _set(name_id, "Format", self.name_id_format)
        confirmation = etree.SubElement(subject, f"{{{SAML}}}SubjectConfirmation", Method=self.method)
        data = etree.SubElement(confirmation, f"{{{SAML}}}SubjectConfirmationData")
        _set(data, "Recipient", _default(self.recipient, self.acs_url))
        _set(data, "InResponseTo", _default(self.confirmed_request, self.request_id))
        self._set_time(data, "NotBefore", self.confirmation_not_before)
        self._set_time(data, "NotOnOrAfter", self.confirmation_not_on_or_after)
        conditions = etree.SubElement(assertion, f"{{{SAML}}}Conditions")
        self._set_time(conditions, "NotBefore", self.conditions_not_before)
        self._set_time(conditions, "NotOnOrAfter", self.conditions_not_on_or_after)
        for audiences in ((self.audience,),) if self.audiences is None else self.audiences:
            restriction = etree.SubElement(conditions, f"{{{SAML}}}AudienceRestriction")
            for audience in audiences:
                _add(restriction, SAML, "Audience", audience)
        self._add_statements(assertion)

    def _add_statements(self, assertion: etree._Element) -> None:
        statement = etree.SubElement(assertion, f"{{{SAML}}}AuthnStatement", AuthnInstant=as_instant(self.now))
        _set(statement, "SessionIndex", self.session_index)
        self._set_time(statement, "SessionNotOnOrAfter", self.session_not_on_or_after)
        context = etree.SubElement(statement, f"{{{SAML}}}AuthnContext")
        _add(context, SAML, "AuthnContextClassRef", _PASSWORD)
        if not self.attributes:
            return
        attributes = etree.SubElement(assertion, f"{{{SAML}}}AttributeStatement")
        for name, values in self.attributes.items():
            attribute = etree.SubElement(attributes, f"{{{SAML}}}Attribute", Name=name)
            for value in values:
                _add(attribute, SAML, "AttributeValue", value)

    def _set_time(self, element: etree._Element, name: str, offset: float | None) -> None:
        _set(element, name, None if offset is None else as_instant(self.now + offset))


def sign(
    element: etree._Element,
    key: SigningKey,
    signature_algorithm: str = "RsaSha256",
    digest_algorithm: str = "Sha256",
    *,
    uri: str | None = None,
    prefixes: str = "",
) -> etree._Element:
    """Put an enveloped signature behind the Issuer of a Response or an Assertion (saml-core 5.4); return it.

    :param signature_algorithm: libxmlsec's name, such as ``RsaSha512`` or ``EcdsaSha256``; digests likewise.
    :param uri: what the reference points to, unless to the element itself.
    :param prefixes: the PrefixList of the exclusive canonicalization (xml-exc-c14n 3).
    """
    signature = _template(
        uri=f"#{element.get('ID')}" if uri is None else uri,
        method=getattr(constants, f"Transform{signature_algorithm}").href,
        digest=getattr(constants, f"Transform{digest_algorithm}").href,
        prefixes=prefixes,
    )
    element.insert(1, signature)
    context = xmlsec.SignatureContext()
    context.key = key.load()
    context.register_id(element, "ID")
    context.sign(signature)
    add_key_info(signature, key)
    return signature


def _template(*, uri: str, method: str, digest: str, prefixes: str) -> etree._Element:
    # Built here: lxml cannot search for names that libxmlsec itself has put into a tree.
    signature = etree.Element(f"{{{DS}}}Signature", nsmap={"ds": DS})
    signed_info = etree.SubElement(signature, f"{{{DS}}}SignedInfo")
    etree.SubElement(signed_info, f"{{{DS}}}CanonicalizationMethod", Algorithm=EXCLUSIVE_C14N)
    etree.SubElement(signed_info, f"{{{DS}}}SignatureMethod", Algorithm=method)
    reference = etree.SubElement(signed_info, f"{{{DS}}}Reference", URI=uri)
    transforms = etree.SubElement(reference, f"{{{DS}}}Transforms")
    etree.SubElement(transforms, f"{{{DS}}}Transform", Algorithm=ENVELOPED)
    canonicalization = etree.SubElement(transforms, f"{{{DS}}}Transform", Algorithm=EXCLUSIVE_C14N)
    if prefixes:
        name = f"{{{EXCLUSIVE_C14N}}}InclusiveNamespaces"
        etree.SubElement(canonicalization, name, nsmap={"ec": EXCLUSIVE_C14N}, PrefixList=prefixes)
    etree.SubElement(reference, f"{{{DS}}}DigestMethod", Algorithm=digest)
    etree.SubElement(reference, f"{{{DS}}}DigestValue")
    etree.SubElement(signature, f"{{{DS}}}SignatureValue")
    return signature


def add_key_info(signature: etree._Element, key: SigningKey) -> None:
    """Say which certificate the signature claims to be made with."""
    information = etree.SubElement(signature, f"{{{DS}}}KeyInfo")
    data = etree.SubElement(information, f"{{{DS}}}X509Data")
    etree.SubElement(data, f"{{{DS}}}X509Certificate").text = key.certificate


def encode(root: etree._Element) -> str:
    """Return a tree as the POST binding carries it."""
    return base64.b64encode(etree.tostring(root)).decode()


def provider_metadata(
    entity_id: str,
    sso_url: str,
    certificates: tuple[str, ...],
    *,
    valid_until: float | None = None,
    slo_url: str = "",
    slo_bindings: tuple[str, ...] = ("HTTP-Redirect", "HTTP-POST"),
) -> str:
    """Return the metadata of an identity provider (saml-metadata 2.4.3).

    :param certificates: DER in base64.
    :param valid_until: unix time.
    :param slo_url: its single logout service, by the bindings of ``slo_bindings``; empty: none.
    """
    entity = etree.Element(f"{{{MD}}}EntityDescriptor", nsmap={"md": MD, "ds": DS})
    entity.set("entityID", entity_id)
    _set(entity, "validUntil", None if valid_until is None else as_instant(valid_until))
    role = etree.SubElement(entity, f"{{{MD}}}IDPSSODescriptor", protocolSupportEnumeration=SAMLP)
    for certificate in certificates:
        descriptor = etree.SubElement(role, f"{{{MD}}}KeyDescriptor", use="signing")
        data = etree.SubElement(etree.SubElement(descriptor, f"{{{DS}}}KeyInfo"), f"{{{DS}}}X509Data")
        etree.SubElement(data, f"{{{DS}}}X509Certificate").text = certificate
    for binding in slo_bindings if slo_url else ():
        service = etree.SubElement(role, f"{{{MD}}}SingleLogoutService")
        service.set("Binding", f"urn:oasis:names:tc:SAML:2.0:bindings:{binding}")
        service.set("Location", slo_url)
    _add(role, MD, "NameIDFormat", EMAIL)
    for binding in ("HTTP-Redirect", "HTTP-POST"):
        service = etree.SubElement(role, f"{{{MD}}}SingleSignOnService")
        service.set("Binding", f"urn:oasis:names:tc:SAML:2.0:bindings:{binding}")
        service.set("Location", sso_url)
    return etree.tostring(entity, encoding="unicode")


def _default(given: str | None, fallback: str | None) -> str | None:
    return fallback if given == "" else given


def _set(element: etree._Element, name: str, value: str | None) -> None:
    if value is not None:
        element.set(name, value)


def _add(parent: etree._Element, namespace: str, name: str, text: str | None) -> etree._Element | None:
    if text is None:
        return None
    element = etree.SubElement(parent, f"{{{namespace}}}{name}")
    element.text = text
    return element
