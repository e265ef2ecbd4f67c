"""Verify a response: decrypt it, check every signature with configured keys, and return only signed bytes.

If decryption fails, a decoy assertion with an invalid signature (:func:`decoy`) passes through the same steps. An
attacker cannot distinguish failed decryption from a bad signature, and so has no padding oracle.
"""

from __future__ import annotations

import base64
import copy
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import xmlsec
from lxml import etree

from .documents import (
    DS,
    EXCLUSIVE_C14N,
    SAML,
    ForbiddenXml,
    MalformedXml,
    local_name,
    parse_within,
    protocol_schema,
    reparse,
)
from .encryption import decrypt, decrypt_name_id, unreadable
from .errors import Fault, SamlError
from .gate import Admitted, admit_decrypted
from .signatures import ENVELOPED, SignatureForm, check_signature, covered, read_form
from .transport import LIMITS

if TYPE_CHECKING:
    from .trust import Trust

_WRONG = {
    Fault.STRUCTURE: "the decrypted element is not an Assertion of version 2.0, or repeats a single element",
    Fault.DUPLICATE_ID: "an ID in the encrypted assertion occurs twice",
    Fault.ENCRYPTED: "the encrypted assertion has encrypted parts that are not allowed",
    Fault.NOT_SIGNED: "the encrypted assertion is not signed: configure the provider to sign assertions",
    Fault.SIGNATURE_FORM: "the signature of the encrypted assertion has a form that is not allowed",
    Fault.ALGORITHM: "the signature of the encrypted assertion has an algorithm that is not allowed",
}


@dataclass(frozen=True, slots=True)
class Verified:
    """The signed parts of a response.

    :param assertion: parsed from the bytes that its signature covers.
    :param response: likewise if the Response is signed; else as received, and only read to refuse the message.
    """

    assertion: etree._Element
    response: etree._Element


def verify(message: Admitted, trust: Trust, decryption_keys: tuple[xmlsec.Key, ...] = ()) -> Verified:
    """Decrypt a message, check every signature and return the signed parts.

    The assertion itself must be signed, as our metadata requires (``WantAssertionsSigned``, saml-metadata 2.4.4). If
    the Response is signed too, its signature is verified before anything is decrypted.

    :param trust: the provider whose keys are accepted.
    :param decryption_keys: our private keys.
    :raises SamlError: if a signature is missing or bad, or the message does not match the schema. Only the reason
        of the error differs between failures of decryption; all steps up to it are the same.
    """
    _check_signed(message, trust)
    response = message.response
    if message.response_signature is not None:
        check_signature(message.response_signature, trust.keys)
        response = covered(message.response_signature)
    form, refusal = message.assertion_signature, None
    if form is None:
        form, refusal = decrypted_assertion(message, trust, decryption_keys)
    try:
        check_signature(form, trust.keys)
        assertion = covered(form)
    except SamlError as error:
        raise refusal or error from None
    subject = assertion.find(f"{{{SAML}}}Subject")
    decrypted = subject is not None and decrypt_name_id(subject, trust, decryption_keys)
    name_id = assertion.find(f"{{{SAML}}}Subject/{{{SAML}}}NameID") if decrypted else None
    if not all(protocol_schema().validate(part) for part in _as_sent(message, form, name_id)):
        raise SamlError(Fault.SCHEMA, "the message is not valid against saml-schema-protocol-2.0")
    return Verified(assertion=assertion, response=response)


def _check_signed(message: Admitted, trust: Trust) -> None:
    """Check, before any cryptography, that the required signatures exist and use allowed algorithms."""
    if message.encrypted is None and message.assertion_signature is None:
        raise SamlError(Fault.NOT_SIGNED, "the assertion is not signed: configure the provider to sign assertions")
    if message.response_signature is None and trust.settings.want_response_signed:
        raise SamlError(Fault.NOT_SIGNED, "the Response is not signed, and want_response_signed is set")
    for form in (message.response_signature, message.assertion_signature):
        if form is not None:
            refuse_weak(form, trust)


def refuse_weak(form: SignatureForm, trust: Trust) -> None:
    """Refuse SHA-1 unless the provider has ``allow_sha1``.

    :raises SamlError: if it is refused.
    """
    if form.weak and not trust.settings.allow_sha1:
        raise SamlError(Fault.ALGORITHM, f"{local_name(form.signed)} is signed with SHA-1: allow_sha1 is not set")


def _as_sent(message: Admitted, form: SignatureForm, name_id: etree._Element | None) -> tuple[etree._Element, ...]:
    """Return the elements to validate against the schema: the message, and a decrypted assertion.

    The schema lacks parts of xmlenc-core 1.1; ``encryption`` has checked these against a stricter list. The canonical
    bytes cannot be validated: a prefix that only a value uses (``xsi:type="xs:string"``) is lost there
    (xml-exc-c14n 1.1).

    :param form: the assertion's signature.
    :param name_id: the decrypted NameID, which replaces the EncryptedID.
    """
    sealed = None if name_id is None else form.signed.find(f"{{{SAML}}}Subject/{{{SAML}}}EncryptedID")
    subject = None if sealed is None else sealed.getparent()
    if name_id is not None and sealed is not None and subject is not None:
        subject.replace(sealed, copy.deepcopy(name_id))
    if message.encrypted is None:
        return (message.response,)
    message.response.remove(message.encrypted.holder)
    return message.response, form.signed


def decrypted_assertion(
    message: Admitted, trust: Trust, keys: tuple[xmlsec.Key, ...]
) -> tuple[SignatureForm, SamlError | None]:
    """Decrypt the assertion of a message and return its signature.

    :param keys: our private keys; every one is tried.
    :returns: the signature, and ``None``. If decryption fails: a decoy's signature, and the error to raise once that
        signature has failed.
    :raises SamlError: if decryption is not attempted, for reasons that the sender can see in the message.
    """
    form = message.encrypted
    assert form is not None  # noqa: S101 - verify calls this only for encrypted messages
    refusal: SamlError | None = None
    for content in decrypt(form, trust, keys):
        found = _signature_of(content, message, trust)
        if isinstance(found, SignatureForm):
            return found, None
        # Prefer the error of a decrypted assertion to that of a failed decryption.
        refusal = found if refusal is None or found.reason is not Fault.DECRYPTION else refusal
    # The decoy passes through all steps of an assertion, so that failure takes as long as success.
    stand_in = _signature_of(_DECOY, message, trust)
    return stand_in if isinstance(stand_in, SignatureForm) else decoy(), refusal or unreadable(
        form, f"none of our {len(keys)} keys decrypts it"
    )


def _signature_of(content: bytes, message: Admitted, trust: Trust) -> SignatureForm | SamlError:
    form = message.encrypted
    assert form is not None  # noqa: S101 - see above
    try:
        signature = admit_decrypted(parse_within(content, form.holder, LIMITS), message)
    except MalformedXml as error:
        return unreadable(form, f"the decrypted bytes are {error}")
    except ForbiddenXml:
        return unreadable(form, "the decrypted bytes are XML that is not allowed")
    except SamlError as error:
        # The text of the error may quote decrypted bytes, which are not verified: it is not used.
        return SamlError(error.reason, _WRONG.get(error.reason, "the decrypted assertion is not allowed"))
    if signature.weak and not trust.settings.allow_sha1:
        return SamlError(Fault.ALGORITHM, "the encrypted assertion is signed with SHA-1: allow_sha1 is not set")
    return signature


def decoy() -> SignatureForm:
    """Return the signature of an assertion that no key can verify."""
    assertion = reparse(_DECOY)
    return read_form(assertion[1], assertion)


def _random(size: int) -> str:
    return base64.b64encode(secrets.token_bytes(size)).decode()


# Random, so that a message cannot contain the same ID.
_DECOY_ID = f"_decoy-{secrets.token_hex(16)}"

_DECOY = (
    f'<Assertion xmlns="{SAML}" ID="{_DECOY_ID}" Version="2.0"><Issuer/><ds:Signature xmlns:ds="{DS}"><ds:SignedInfo>'
    f'<ds:CanonicalizationMethod Algorithm="{EXCLUSIVE_C14N}"/>'
    '<ds:SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"/>'
    f'<ds:Reference URI="#{_DECOY_ID}"><ds:Transforms><ds:Transform Algorithm="{ENVELOPED}"/>'
    f'<ds:Transform Algorithm="{EXCLUSIVE_C14N}"/></ds:Transforms>'
    '<ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"/>'
    f"<ds:DigestValue>{_random(32)}</ds:DigestValue></ds:Reference></ds:SignedInfo>"
    f"<ds:SignatureValue>{_random(256)}</ds:SignatureValue></ds:Signature></Assertion>"
).encode()
