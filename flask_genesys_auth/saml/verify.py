"""Who signed it: signatures are checked with configured keys only, and what is read is what they cover.

A signature's bytes are computed twice: by libxmlsec, which verifies them, and here, where their digest must be the
one that was signed; these bytes are then parsed anew, and nothing else of the assertion is ever looked at
(CVE-2025-54369, CVE-2025-54419).
"""

from __future__ import annotations

import copy
import hashlib
import hmac
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import xmlsec
from lxml import etree
from xmlsec import constants

from . import decryption
from .certificates import public_key_info
from .documents import DS, SAML, MalformedXml, local_name, reparse
from .errors import Fault, SamlError
from .gate import Admitted
from .signatures import SignatureForm

if TYPE_CHECKING:
    from .trust import Trust

_REFERENCE_TRANSFORMS = (
    constants.TransformEnveloped,
    constants.TransformExclC14N,
    constants.TransformSha256,
    constants.TransformSha384,
    constants.TransformSha512,
)
_WEAK_TRANSFORMS = (constants.TransformSha1, constants.TransformRsaSha1)
_SIGNATURE_TRANSFORMS = (
    constants.TransformExclC14N,
    constants.TransformRsaSha256,
    constants.TransformRsaSha384,
    constants.TransformRsaSha512,
    constants.TransformEcdsaSha256,
    constants.TransformEcdsaSha384,
    constants.TransformEcdsaSha512,
)


@dataclass(frozen=True, slots=True)
class Verified:
    """What the provider has signed.

    :param assertion: parsed from the very bytes that its signature covers.
    :param response: likewise if the Response is signed too; else the message as it came, of which only such values
        are read as can make us refuse.
    """

    assertion: etree._Element
    response: etree._Element


def load_key(certificate: bytes) -> xmlsec.Key:
    """Return the public key of a certificate.

    Its dates and issuer do not matter: the metadata is what says that the key is the provider's.

    :param certificate: X.509 in DER.
    :raises ValueError: if it is none.
    """
    try:
        whole = xmlsec.Key.from_memory(certificate, constants.KeyDataFormatCertDer, None)
    except (xmlsec.Error, TypeError) as error:
        raise ValueError("no X.509 certificate with a key") from error
    try:
        # libxmlsec copies a key for each use, with its certificate, which takes as long as a verification.
        return xmlsec.Key.from_memory(public_key_info(certificate), constants.KeyDataFormatDer, None)
    except (xmlsec.Error, ValueError):
        return whole


@cache
def protocol_schema() -> etree.XMLSchema:
    """Return the schema of SAML's protocol, which python3-saml ships; parsed once per process."""
    found = find_spec("onelogin.saml2")
    folder = Path(next(iter(found.submodule_search_locations or ()))) if found else Path()
    return etree.XMLSchema(etree.parse(folder / "schemas" / "saml-schema-protocol-2.0.xsd"))


def verify(message: Admitted, trust: Trust, decryption_keys: tuple[xmlsec.Key, ...] = ()) -> Verified:
    """Decrypt, check every signature and return what they cover.

    The assertion itself must be signed, as our metadata says (``WantAssertionsSigned``, saml-metadata 2.4.4): a
    signature around it alone is not enough. A Response that is signed as well must be signed well, and is looked at
    first: who sends what nobody has signed has nothing decrypted.

    :param trust: whose keys may have signed.
    :param decryption_keys: ours.
    :raises SamlError: if a signature is missing or bad, or the message is not valid against the schema. What was
        wrong with something encrypted shows in its reason alone: the way there is the same.
    """
    _check_signed(message, trust)
    response = message.response
    if message.response_signature is not None:
        check_signature(message.response_signature, trust.keys)
        response = covered(message.response_signature)
    form, refusal = message.assertion_signature, None
    if form is None:
        form, refusal = decryption.decrypted_assertion(message, trust, decryption_keys)
    try:
        check_signature(form, trust.keys)
        assertion = covered(form)
    except SamlError as error:
        raise refusal or error from None
    revealed = decryption.reveal_name_id(assertion, trust, decryption_keys)
    name_id = assertion.find(f"{{{SAML}}}Subject/{{{SAML}}}NameID") if revealed else None
    if not all(protocol_schema().validate(part) for part in _as_sent(message, form, name_id)):
        raise SamlError(Fault.SCHEMA, "the message is not valid against saml-schema-protocol-2.0")
    return Verified(assertion=assertion, response=response)


def _check_signed(message: Admitted, trust: Trust) -> None:
    """Make sure, before any key is asked, that what must be signed is, and with what this provider may use."""
    if message.encrypted is None and message.assertion_signature is None:
        raise SamlError(Fault.NOT_SIGNED, "the assertion is not signed: let the provider sign assertions")
    if message.response_signature is None and trust.settings.want_response_signed:
        raise SamlError(Fault.NOT_SIGNED, "the Response is not signed and want_response_signed asks for it")
    for form in (message.response_signature, message.assertion_signature):
        if form is not None:
            refuse_weak(form, trust)


def refuse_weak(form: SignatureForm, trust: Trust) -> None:
    """Refuse SHA-1 unless this provider may use it.

    :raises SamlError: then.
    """
    if form.weak and not trust.settings.allow_sha1:
        raise SamlError(Fault.ALGORITHM, f"{local_name(form.signed)} is signed with SHA-1: allow_sha1 is not set")


def _as_sent(message: Admitted, form: SignatureForm, name_id: etree._Element | None) -> tuple[etree._Element, ...]:
    """Return the message, and its assertion as it was opened where that was encrypted: for the schemas.

    They do not know all of what may encrypt (xmlenc-core 1.1); its form has been read by a stricter list. What the
    signature covers is not asked: a prefix that only a value has (``xsi:type="xs:string"``) means nothing there any
    more (xml-exc-c14n 1.1).

    :param form: the assertion's signature.
    :param name_id: what stands in the place of its EncryptedID.
    """
    sealed = None if name_id is None else form.signed.find(f"{{{SAML}}}Subject/{{{SAML}}}EncryptedID")
    subject = None if sealed is None else sealed.getparent()
    if name_id is not None and sealed is not None and subject is not None:
        subject.replace(sealed, copy.deepcopy(name_id))
    if message.encrypted is None:
        return (message.response,)
    message.response.remove(message.encrypted.holder)
    return message.response, form.signed


def check_signature(form: SignatureForm, keys: tuple[xmlsec.Key, ...]) -> None:
    """Verify one signature.

    :raises SamlError: unless one of these keys made it.
    """
    for key in keys:
        context = xmlsec.SignatureContext()
        for transform in _REFERENCE_TRANSFORMS:
            context.enable_reference_transform(transform)
        for transform in _SIGNATURE_TRANSFORMS:
            context.enable_signature_transform(transform)
        for transform in _WEAK_TRANSFORMS if form.weak else ():
            context.enable_reference_transform(transform)
            context.enable_signature_transform(transform)
        # The key is given, so that KeyInfo is not asked for one.
        context.key = key
        context.register_id(form.signed, "ID")
        try:
            context.verify(form.element)
        except xmlsec.Error:
            continue
        return
    raise SamlError(Fault.BAD_SIGNATURE, f"no configured key of the provider ({len(keys)}) made this signature")


def covered(form: SignatureForm) -> etree._Element:
    """Return the signed element, parsed from the bytes whose digest is signed.

    :param form: of a document that was parsed within its limits.
    :raises SamlError: if the signature covers other bytes.
    """
    data = _canonical(form)
    if not hmac.compare_digest(hashlib.new(form.digest, data).digest(), form.digest_value):
        raise SamlError(Fault.BAD_SIGNATURE, "the signature covers other bytes than the element it stands in")
    try:
        return reparse(data)
    except MalformedXml as error:
        raise SamlError(Fault.BAD_SIGNATURE, f"what is signed cannot be read: {error}") from error


def _canonical(form: SignatureForm) -> bytes:
    """Apply the two transforms: take the signature out, then exclusive canonicalization (xml-exc-c14n)."""
    parent = form.signed.getparent()
    root = copy.deepcopy(form.signed if parent is None else parent)
    element = root if parent is None else root[parent.index(form.signed)]
    for signature in element.findall(f"{{{DS}}}Signature"):
        # lxml removes an element with the text behind it; that text stays signed.
        before = signature.getprevious()
        if before is not None:
            before.tail = (before.tail or "") + (signature.tail or "")
        element.remove(signature)
    return etree.tostring(
        element,
        method="c14n",
        exclusive=True,
        with_comments=False,
        inclusive_ns_prefixes=list(form.prefixes) or None,
    )
