"""Who signed it: signatures are checked with configured keys only, and what is read is what they cover.

An assertion whose decryption fails ends where a bad signature ends: what cannot be read is replaced by an assertion
that nobody has signed (:func:`decoy`).
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
from .encryption import decrypt, decrypt_subject, unreadable
from .errors import Fault, SamlError
from .gate import Admitted, admit_decrypted
from .signatures import ENVELOPED, SignatureForm, check_signature, covered, read_form
from .transport import LIMITS

if TYPE_CHECKING:
    from .trust import Trust

_WRONG = {
    Fault.STRUCTURE: "what is encrypted is no Assertion of version 2.0, or copies what may be there once",
    Fault.DUPLICATE_ID: "an ID in the encrypted assertion is there twice, or is missing where it is due",
    Fault.ENCRYPTED: "something in the encrypted assertion is encrypted that may not be",
    Fault.NOT_SIGNED: "the encrypted assertion is not signed: let the provider sign assertions",
    Fault.SIGNATURE_FORM: "the signature of the encrypted assertion has a form that is not allowed",
    Fault.ALGORITHM: "the signature of the encrypted assertion has an algorithm that is not allowed",
}


@dataclass(frozen=True, slots=True)
class Verified:
    """What the provider has signed.

    :param assertion: parsed from the very bytes that its signature covers.
    :param response: likewise if the Response is signed too; else the message as it came, of which only such values
        are read as can make us refuse.
    """

    assertion: etree._Element
    response: etree._Element


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
        form, refusal = decrypted_assertion(message, trust, decryption_keys)
    try:
        check_signature(form, trust.keys)
        assertion = covered(form)
    except SamlError as error:
        raise refusal or error from None
    revealed = decrypt_subject(assertion, trust, decryption_keys)
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


def decrypted_assertion(
    message: Admitted, trust: Trust, keys: tuple[xmlsec.Key, ...]
) -> tuple[SignatureForm, SamlError | None]:
    """Return the signature of the assertion that is encrypted in a message.

    :param keys: ours, each of which may be the one.
    :returns: a signature of the allowed form; if there is none, that of a decoy, and what to say of it once its
        signature has been found bad.
    :raises SamlError: if nothing is decrypted at all, for reasons that everybody can see.
    """
    form = message.encrypted
    assert form is not None  # noqa: S101 - verify asks for nothing else
    refusal: SamlError | None = None
    for content in decrypt(form, trust, keys):
        found = _signature_of(content, message, trust)
        if isinstance(found, SignatureForm):
            return found, None
        # What is wrong with an assertion says more than that there is none.
        refusal = found if refusal is None or found.reason is not Fault.DECRYPTION else refusal
    # The decoy goes the whole way of an assertion, which takes as long.
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
        return unreadable(form, f"what is decrypted is {error}")
    except ForbiddenXml:
        return unreadable(form, "what is decrypted has what no message may have")
    except SamlError as error:
        # Not in its words: they may be those of what was decrypted, which may be anybody's.
        return SamlError(error.reason, _WRONG.get(error.reason, "what is encrypted is no assertion that is allowed"))
    if signature.weak and not trust.settings.allow_sha1:
        return SamlError(Fault.ALGORITHM, "the encrypted assertion is signed with SHA-1: allow_sha1 is not set")
    return signature


def decoy() -> SignatureForm:
    """Return the signature, good for nothing, of an assertion of nobody."""
    assertion = reparse(_DECOY)
    return read_form(assertion[1], assertion)


def _random(size: int) -> str:
    return base64.b64encode(secrets.token_bytes(size)).decode()


# Nobody can have one of the same name in their message.
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
