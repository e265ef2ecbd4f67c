"""The gate: check the form of a response against allow-lists before anything in it is verified or looked up.

A message that passes has exactly one assertion. Its signatures cannot execute, fetch or reference anything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from lxml import etree

from .documents import DS, SAML, SAMLP, ForbiddenXml, MalformedXml, local_name, parse_listed, text_of
from .encryption import EncryptedForm, read_encrypted
from .errors import Fault, SamlError, StatusRefused
from .signatures import SignatureForm, check_place, read_form
from .transport import LIMITS, decode

SUCCESS = "urn:oasis:names:tc:SAML:2.0:status:Success"

_RESPONSE_CHILDREN = frozenset(
    {f"{{{DS}}}Signature"}
    | {f"{{{SAML}}}{name}" for name in ("Issuer", "Assertion", "EncryptedAssertion")}
    | {f"{{{SAMLP}}}{name}" for name in ("Extensions", "Status")}
)
_ENCRYPTED_ASSERTION = f"{{{SAML}}}EncryptedAssertion"
_ENCRYPTED = frozenset(
    {"EncryptedAssertion", "EncryptedID", "NewEncryptedID", "EncryptedAttribute", "EncryptedData", "EncryptedKey"}
)
# A second element of such a name, in any namespace, may be a copy that another parser would read instead.
_SINGLE = frozenset({"Response", "Assertion", "Subject", "NameID", "Conditions"})
_WATCHED = _ENCRYPTED | _SINGLE | {"Signature"}

_Named = list[tuple[str, etree._Element]]
_NOTHING: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Admitted:
    """A message of the allowed form. Nothing in it is verified yet.

    :param assertion: the assertion, or ``None`` if it is encrypted.
    :param encrypted: the encrypted assertion, or ``None``.
    :param ids: all IDs in the message.
    :param names: how often each element name of ``_SINGLE`` occurs.
    """

    response: etree._Element
    assertion: etree._Element | None
    encrypted: EncryptedForm | None
    response_signature: SignatureForm | None
    assertion_signature: SignatureForm | None
    ids: frozenset[str]
    names: Mapping[str, int]

    @property
    def issuer(self) -> str:
        """The claimed issuer, unverified.

        :raises SamlError: if it holds elements.
        """
        issuer = self.response.find(f"{{{SAML}}}Issuer")
        try:
            return "" if issuer is None else text_of(issuer)
        except ForbiddenXml as error:
            raise SamlError(Fault.ISSUER, str(error)) from error

    @property
    def in_response_to(self) -> str:
        """ID of the request that the message claims to answer, unverified: used for the look-up only."""
        claimed = self.response.get("InResponseTo")
        if claimed is None and self.assertion is not None:
            data = self.assertion.find(
                f"{{{SAML}}}Subject/{{{SAML}}}SubjectConfirmation/{{{SAML}}}SubjectConfirmationData"
            )
            claimed = data.get("InResponseTo") if data is not None else None
        return claimed or ""


def admit(encoded: str) -> Admitted:
    """Decode and parse a ``SAMLResponse`` of the POST binding (saml-bindings 3.5) and check its form.

    :param encoded: base64, line breaks allowed.
    :raises SamlError: if any check fails.
    """
    try:
        return _admitted(parse_listed(decode(encoded), LIMITS))
    except MalformedXml as error:
        raise SamlError(Fault.MALFORMED, f"the message is {error}") from error
    except ForbiddenXml as error:
        raise SamlError(Fault.FORBIDDEN_XML, f"the message has {error}") from error


def admit_decrypted(elements: list[etree._Element], message: Admitted) -> SignatureForm:
    """Check a decrypted assertion like one that was sent in plain text, and return its signature.

    The rest of the message is not checked again: the time this takes would show an attacker whether decryption
    succeeded.

    :param elements: the assertion, and all elements in it.
    :param message: the message that it was encrypted in.
    :raises SamlError: unless it is one signed assertion that repeats no ID or single element of the message.
    """
    assertion = elements[0]
    if assertion.tag != f"{{{SAML}}}Assertion":
        raise SamlError(Fault.STRUCTURE, f"the decrypted element is a {local_name(assertion)}, not an Assertion")
    watched = _watched(elements)
    _check_encryption(watched, None)
    check_ids(elements, message.ids)
    _check_names(watched, message.names)
    check_head(assertion)
    signatures = dict(_signatures(watched, (assertion,)))
    if "Assertion" not in signatures:
        raise SamlError(
            Fault.NOT_SIGNED, "the encrypted assertion is not signed: configure the provider to sign assertions"
        )
    return signatures["Assertion"]


def _admitted(elements: list[etree._Element]) -> Admitted:
    response = elements[0]
    if response.tag != f"{{{SAMLP}}}Response":
        raise SamlError(Fault.STRUCTURE, f"the message is a {local_name(response)}, not a Response")
    watched = _watched(elements)
    _check_encryption(watched, response)
    _check_status(response)
    child = _one_assertion(response)
    encrypted = read_encrypted(child) if child.tag == _ENCRYPTED_ASSERTION else None
    ids = check_ids(elements)
    names = _check_names(watched)
    signing = (response,) if encrypted is not None else (response, child)
    for element in signing:
        check_head(element)
    signatures = dict(_signatures(watched, signing))
    return Admitted(
        response=response,
        assertion=child if encrypted is None else None,
        encrypted=encrypted,
        response_signature=signatures.get("Response"),
        assertion_signature=signatures.get("Assertion"),
        ids=ids,
        names=names,
    )


def _watched(elements: Iterable[etree._Element]) -> _Named:
    """Return the elements that any rule applies to, by their names in any namespace."""
    named = [(str(element.tag).rpartition("}")[2], element) for element in elements]
    return [pair for pair in named if pair[0] in _WATCHED]


def check_head(element: etree._Element) -> None:
    """Check that an element has an ID and is SAML 2.0.

    :raises SamlError: if not.
    """
    if not element.get("ID"):
        raise SamlError(Fault.STRUCTURE, f"{local_name(element)} without an ID")
    if element.get("Version") != "2.0":
        raise SamlError(Fault.STRUCTURE, f"{local_name(element)} is not version 2.0")


def _check_encryption(watched: _Named, response: etree._Element | None) -> None:
    """Allow encryption in two places: the assertion in the Response, and the NameID of its subject."""
    inside: set[etree._Element] = set()
    for name, element in watched:
        if name not in _ENCRYPTED or element in inside:
            continue
        parent = element.getparent()
        if element.tag == _ENCRYPTED_ASSERTION and parent is not None and parent is response:
            inside.update(element.iter())
        elif element.tag == f"{{{SAML}}}EncryptedID" and parent is not None and parent.tag == f"{{{SAML}}}Subject":
            read_encrypted(element)
            inside.update(element.iter())
        else:
            raise SamlError(
                Fault.ENCRYPTED,
                f"{name} is not allowed there: configure the provider to encrypt only assertions, "
                "or the NameID of the subject",
            )


def _check_status(response: etree._Element) -> None:
    """Refuse a status other than Success first: such a message may be unsigned and without an assertion."""
    found = response.findall(f"{{{SAMLP}}}Status")
    codes = found[0].findall(f"{{{SAMLP}}}StatusCode") if len(found) == 1 else []
    if len(codes) != 1:
        raise SamlError(Fault.STRUCTURE, "the message does not have exactly one status")
    if codes[0].get("Value") != SUCCESS:
        listed = [code.get("Value", "") for code in found[0].iter(f"{{{SAMLP}}}StatusCode")]
        said = [text_of(text) for text in found[0].iter(f"{{{SAMLP}}}StatusMessage")]
        detail = f"the provider answered {' / '.join(listed + said)}"
        raise StatusRefused(detail, tuple(listed), response.get("InResponseTo", ""))


def _one_assertion(response: etree._Element) -> etree._Element:
    for child in response:
        if child.tag not in _RESPONSE_CHILDREN:
            raise SamlError(Fault.STRUCTURE, f"{local_name(child)} in Response")
    found = [child for child in response if child.tag in {f"{{{SAML}}}Assertion", _ENCRYPTED_ASSERTION}]
    if len(found) != 1:
        raise SamlError(Fault.STRUCTURE, f"{len(found)} assertions in Response, not one")
    return found[0]


def check_ids(elements: Iterable[etree._Element], taken: frozenset[str] = frozenset()) -> frozenset[str]:
    """Check that every ID is unique, also as ``Id``, ``id`` and ``xml:id``.

    :param taken: IDs of the message around these elements.
    :returns: the IDs of these elements.
    :raises SamlError: if an ID occurs twice.
    """
    seen: set[str] = set()
    for element in elements:
        for name in element.keys():  # noqa: SIM118 - an element is not a mapping
            if name[-2:].lower() != "id":
                continue
            namespace, _, attribute = name.rpartition("}")
            if attribute.lower() != "id":
                continue
            value = element.get(name)
            if namespace:
                raise SamlError(Fault.DUPLICATE_ID, f"an ID in a namespace on {local_name(element)}")
            if str(value) in seen or str(value) in taken:
                raise SamlError(Fault.DUPLICATE_ID, f"ID {value!s:.64} occurs twice")
            seen.add(str(value))
    return frozenset(seen)


def _check_names(watched: _Named, around: Mapping[str, int] = _NOTHING) -> Mapping[str, int]:
    """Refuse copies: in Extensions, Advice, Object, status details, attribute values, or another namespace.

    :param around: counts of the message around these elements.
    """
    counted = dict(around)
    for name, element in watched:
        if name not in _SINGLE or _is_identifier_value(element):
            continue
        counted[name] = counted.get(name, 0) + 1
        if counted[name] > 1:
            raise SamlError(Fault.STRUCTURE, f"{name} occurs more than once")
    return counted


def _is_identifier_value(element: etree._Element) -> bool:
    """Return whether a NameID is an attribute's value (eduPersonTargetedID) or belongs to a confirmation."""
    parent = element.getparent()
    return (
        element.tag == f"{{{SAML}}}NameID"
        and parent is not None
        and parent.tag in {f"{{{SAML}}}AttributeValue", f"{{{SAML}}}SubjectConfirmation"}
    )


def _signatures(watched: _Named, signing: tuple[etree._Element, ...]) -> Iterator[tuple[str, SignatureForm]]:
    """Yield the signatures of these elements; refuse any other Signature."""
    for name, element in watched:
        if name != "Signature":
            continue
        signed = element.getparent()
        if element.tag != f"{{{DS}}}Signature" or signed is None or signed not in signing:
            raise SamlError(Fault.SIGNATURE_FORM, "a Signature that is not a child of Response or Assertion")
        check_place(element)
        yield local_name(signed), read_form(element, signed)
