"""The gate: what a response must look like before a single byte of it is trusted, verified or looked up.

Everything here is an allow-list. A message that passes holds exactly one assertion, and signatures of a form in
which nothing can be executed, fetched or pointed elsewhere.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass

from lxml import etree

from .documents import DS, SAML, SAMLP, ForbiddenXml, Limits, MalformedXml, local_name, parse, text_of
from .errors import Fault, SamlError, StatusRefused
from .signatures import SignatureForm, read_form

LARGEST_ENCODED = 256 * 1024
"""Characters of base64 that are looked at."""

LIMITS = Limits(size=1024 * 1024, depth=32, elements=5000, attributes=32, namespaces=24)
SUCCESS = "urn:oasis:names:tc:SAML:2.0:status:Success"

_RESPONSE_CHILDREN = frozenset(
    {f"{{{SAML}}}Issuer", f"{{{DS}}}Signature", f"{{{SAML}}}Assertion"}
    | {f"{{{SAMLP}}}{name}" for name in ("Extensions", "Status")}
)
_ENCRYPTED = frozenset(
    {"EncryptedAssertion", "EncryptedID", "NewEncryptedID", "EncryptedAttribute", "EncryptedData", "EncryptedKey"}
)
# Names of which a second one anywhere, in whatever namespace, is a copy that somebody hopes will be read.
_SINGLE = frozenset({"Response", "Assertion", "Subject", "NameID", "Conditions"})


@dataclass(frozen=True, slots=True)
class Admitted:
    """A message of the right form; nothing of it is proven.

    :param response: the root.
    :param assertion: its one assertion.
    :param forms: the signatures, by the element that each signs.
    """

    response: etree._Element
    assertion: etree._Element
    response_signature: SignatureForm | None
    assertion_signature: SignatureForm | None

    @property
    def in_response_to(self) -> str:
        """The request that the message says it answers: good to look the request up, proof of nothing."""
        claimed = self.response.get("InResponseTo")
        if claimed is None:
            data = self.assertion.find(
                f"{{{SAML}}}Subject/{{{SAML}}}SubjectConfirmation/{{{SAML}}}SubjectConfirmationData"
            )
            claimed = data.get("InResponseTo") if data is not None else None
        return claimed or ""


def admit(encoded: str) -> Admitted:
    """Decode and parse a ``SAMLResponse`` of the POST binding (saml-bindings 3.5) and check its form.

    :param encoded: base64, line breaks allowed.
    :raises SamlError: whatever is wrong with it.
    """
    try:
        response = parse(_decoded(encoded), LIMITS)
        return _admitted(response)
    except MalformedXml as error:
        raise SamlError(Fault.MALFORMED, f"the message is {error}") from error
    except ForbiddenXml as error:
        raise SamlError(Fault.FORBIDDEN_XML, f"the message has {error}") from error


def _decoded(encoded: str) -> bytes:
    if len(encoded) > LARGEST_ENCODED:
        raise SamlError(Fault.TOO_LARGE, f"{len(encoded)} characters, more than {LARGEST_ENCODED}")
    try:
        return base64.b64decode("".join(encoded.split()).encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise SamlError(Fault.MALFORMED, "the message is not in base64") from error


def _admitted(response: etree._Element) -> Admitted:
    if response.tag != f"{{{SAMLP}}}Response":
        raise SamlError(Fault.STRUCTURE, f"the message is a {local_name(response)}, not a Response")
    _check_encryption(response)
    _check_status(response)
    assertion = _one_assertion(response)
    check_ids(response)
    if not response.get("ID") or not assertion.get("ID"):
        raise SamlError(Fault.STRUCTURE, "Response or Assertion without an ID")
    _check_names(response)
    for element in (response, assertion):
        if element.get("Version") != "2.0":
            raise SamlError(Fault.STRUCTURE, f"{local_name(element)} is not of version 2.0")
    signatures = dict(_signatures(response, assertion))
    return Admitted(
        response=response,
        assertion=assertion,
        response_signature=signatures.get("Response"),
        assertion_signature=signatures.get("Assertion"),
    )


def _check_encryption(response: etree._Element) -> None:
    for element in response.iter():
        if local_name(element) in _ENCRYPTED:
            raise SamlError(
                Fault.ENCRYPTED, f"the message has {local_name(element)}: switch encryption off at the provider"
            )


def _check_status(response: etree._Element) -> None:
    """Refuse a message that brings bad news, naming it: it may well be unsigned and without an assertion."""
    found = response.findall(f"{{{SAMLP}}}Status")
    codes = found[0].findall(f"{{{SAMLP}}}StatusCode") if len(found) == 1 else []
    if len(codes) != 1:
        raise SamlError(Fault.STRUCTURE, "the message has not exactly one status")
    if codes[0].get("Value") != SUCCESS:
        listed = [code.get("Value", "") for code in found[0].iter(f"{{{SAMLP}}}StatusCode")]
        said = [text_of(text) for text in found[0].iter(f"{{{SAMLP}}}StatusMessage")]
        detail = f"the provider says {' / '.join(listed + said)}"
        raise StatusRefused(detail, tuple(listed), response.get("InResponseTo", ""))


def _one_assertion(response: etree._Element) -> etree._Element:
    for child in response:
        if child.tag not in _RESPONSE_CHILDREN:
            raise SamlError(Fault.STRUCTURE, f"{local_name(child)} in Response")
    found = response.findall(f"{{{SAML}}}Assertion")
    if len(found) != 1:
        raise SamlError(Fault.STRUCTURE, f"{len(found)} assertions in Response, not one")
    return found[0]


def check_ids(root: etree._Element) -> None:
    """Make sure that an ID means one element, whoever reads it: also as ``Id``, ``id`` and ``xml:id``."""
    seen: set[str] = set()
    for element in root.iter():
        for name, value in element.attrib.items():
            attribute = etree.QName(name)
            if attribute.localname.lower() != "id":
                continue
            if attribute.namespace is not None:
                raise SamlError(Fault.DUPLICATE_ID, f"an ID in a namespace on {local_name(element)}")
            if str(value) in seen:
                raise SamlError(Fault.DUPLICATE_ID, f"ID {value!s:.64} is there twice")
            seen.add(str(value))


def _check_names(response: etree._Element) -> None:
    """Refuse copies: in Extensions, Advice, Object, status details, attribute values, under another namespace."""
    counted: dict[str, int] = {}
    for element in response.iter():
        name = local_name(element)
        if name not in _SINGLE or _is_identifier_value(element):
            continue
        counted[name] = counted.get(name, 0) + 1
        if counted[name] > 1:
            raise SamlError(Fault.STRUCTURE, f"{name} is there more than once")


def _is_identifier_value(element: etree._Element) -> bool:
    """Tell whether this is a NameID that is an attribute's value (eduPersonTargetedID) or a confirmation's."""
    parent = element.getparent()
    return (
        element.tag == f"{{{SAML}}}NameID"
        and parent is not None
        and parent.tag in {f"{{{SAML}}}AttributeValue", f"{{{SAML}}}SubjectConfirmation"}
    )


def _signatures(response: etree._Element, assertion: etree._Element) -> Iterator[tuple[str, SignatureForm]]:
    """Yield the signatures of Response and Assertion; any other, anywhere, is refused."""
    for element in response.iter():
        if local_name(element) != "Signature":
            continue
        signed = element.getparent()
        if element.tag != f"{{{DS}}}Signature" or signed is None or signed not in (response, assertion):
            raise SamlError(Fault.SIGNATURE_FORM, "a Signature that is no child of Response or Assertion")
        issuer = element.getprevious()
        if issuer is None or issuer.tag != f"{{{SAML}}}Issuer" or issuer.getprevious() is not None:
            raise SamlError(Fault.SIGNATURE_FORM, "a Signature that does not follow the Issuer")
        yield local_name(signed), read_form(element, signed)
