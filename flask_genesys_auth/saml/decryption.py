"""Decryption that tells nobody how it went: whatever fails ends where a bad signature ends.

What comes encrypted is not proven yet, so that anybody may have changed it, and whoever learns which change could
still be decrypted reads what is inside (Jager and Somorovsky, 2011; Bleichenbacher, 1998). Every key is tried to the
end, a session key that cannot be had is replaced by a random one, and what cannot be read by an assertion that
nobody has signed (:func:`decoy`): the next call is the same.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING

import xmlsec
from lxml import etree
from xmlsec import constants

from .documents import DS, EXCLUSIVE_C14N, SAML, ForbiddenXml, MalformedXml, local_name, parse_within, reparse
from .encryption import RSA_15, EncryptedForm, KeyForm, read_encrypted
from .errors import Fault, SamlError
from .gate import LIMITS, admit_decrypted
from .signatures import ENVELOPED, SignatureForm, read_form

if TYPE_CHECKING:
    from .gate import Admitted
    from .trust import Trust

_WRONG = {
    Fault.STRUCTURE: "what is encrypted is no Assertion of version 2.0, or copies what may be there once",
    Fault.DUPLICATE_ID: "an ID in the encrypted assertion is there twice, or is missing where it is due",
    Fault.ENCRYPTED: "something in the encrypted assertion is encrypted that may not be",
    Fault.NOT_SIGNED: "the encrypted assertion is not signed: let the provider sign assertions",
    Fault.SIGNATURE_FORM: "the signature of the encrypted assertion has a form that is not allowed",
    Fault.ALGORITHM: "the signature of the encrypted assertion has an algorithm that is not allowed",
}
_NAME_ID_ATTRIBUTES = frozenset({"Format", "NameQualifier", "SPNameQualifier", "SPProvidedID"})


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
    for content in _contents(form, trust, keys):
        found = _signature_of(content, message, trust)
        if isinstance(found, SignatureForm):
            return found, None
        # What is wrong with an assertion says more than that there is none.
        refusal = found if refusal is None or found.reason is not Fault.DECRYPTION else refusal
    # The decoy goes the whole way of an assertion, which takes as long.
    stand_in = _signature_of(_DECOY, message, trust)
    return stand_in if isinstance(stand_in, SignatureForm) else decoy(), refusal or _unreadable(
        form, f"none of our {len(keys)} keys decrypts it"
    )


def _signature_of(content: bytes, message: Admitted, trust: Trust) -> SignatureForm | SamlError:
    form = message.encrypted
    assert form is not None  # noqa: S101 - see above
    try:
        signature = admit_decrypted(parse_within(content, form.holder, LIMITS), message)
    except MalformedXml as error:
        return _unreadable(form, f"what is decrypted is {error}")
    except ForbiddenXml:
        return _unreadable(form, "what is decrypted has what no message may have")
    except SamlError as error:
        # Not in its words: they may be those of what was decrypted, which may be anybody's.
        return SamlError(error.reason, _WRONG.get(error.reason, "what is encrypted is no assertion that is allowed"))
    if signature.weak and not trust.settings.allow_sha1:
        return SamlError(Fault.ALGORITHM, "the encrypted assertion is signed with SHA-1: allow_sha1 is not set")
    return signature


def reveal_name_id(assertion: etree._Element, trust: Trust, keys: tuple[xmlsec.Key, ...]) -> bool:
    """Put the NameID in the place of the subject's ``EncryptedID``, and tell if there is one (saml-core 2.2.4).

    :param assertion: as its signature covers it: nobody but the provider has encrypted what is in there.
    :raises SamlError: if that is no NameID.
    """
    subject = assertion.find(f"{{{SAML}}}Subject")
    return subject is not None and reveal_child(subject, trust, keys)


def reveal_child(parent: etree._Element, trust: Trust, keys: tuple[xmlsec.Key, ...]) -> bool:
    """Do the same where the ``EncryptedID`` is a child of this very element, as of a LogoutRequest (saml-core 3.7.1).

    :param parent: as its signature covers it.
    :raises SamlError: if that is no NameID.
    """
    holder = parent.find(f"{{{SAML}}}EncryptedID")
    if holder is None:
        return False
    form = read_encrypted(holder)
    for content in _contents(form, trust, keys):
        try:
            (name_id, *more) = parse_within(content, holder, LIMITS)
        except (MalformedXml, ForbiddenXml):
            continue
        if name_id.tag == f"{{{SAML}}}NameID" and not more and _NAME_ID_ATTRIBUTES.issuperset(name_id.keys()):
            name_id.tail = None
            parent.replace(holder, name_id)
            return True
    raise _unreadable(form, f"none of our {len(keys)} keys decrypts it to a NameID")


def _unreadable(form: EncryptedForm, detail: str) -> SamlError:
    return SamlError(Fault.DECRYPTION, f"{local_name(form.holder)}: {detail}")


def _contents(form: EncryptedForm, trust: Trust, keys: tuple[xmlsec.Key, ...]) -> list[bytes]:
    """Return what our keys make of it, each of them asked: usually one makes anything.

    :raises SamlError: if the provider may not encrypt like that, or not for us.
    """
    name = local_name(form.holder)
    if not keys:
        raise SamlError(Fault.ENCRYPTED, f"the message has {name}, and there are no encryption_keys")
    if form.algorithm.endswith("-cbc") and not trust.settings.allow_cbc:
        raise SamlError(Fault.ALGORITHM, f"{name} by {form.algorithm!r}: allow_cbc is not set")
    key = _ours(form, trust)
    if key.algorithm == RSA_15 and not trust.settings.allow_rsa15:
        raise SamlError(Fault.ALGORITHM, f"{name} by {key.algorithm!r}: allow_rsa15 is not set")
    return [content for content in _attempts(form, key, keys) if content is not None]


def _ours(form: EncryptedForm, trust: Trust) -> KeyForm:
    """Return the session key that is for us; one that is there alone is, whatever it says."""
    if len(form.keys) == 1:
        return form.keys[0]
    own = trust.toolkit.get_sp_data()["entityId"]
    found = [key for key in form.keys if key.recipient in ("", own)]
    if len(found) != 1:
        raise SamlError(Fault.ENCRYPTED, f"{len(found)} of {len(form.keys)} EncryptedKey are for {own!r}, not one")
    return found[0]


def _attempts(form: EncryptedForm, key: KeyForm, keys: tuple[xmlsec.Key, ...]) -> Iterator[bytes | None]:
    # Without its type libxmlsec gives bytes, and does not parse them, which would print of them what is not XML.
    # Of an unsigned message nothing else reads it; of a signed one its signature is checked, and it is read anew.
    form.data.attrib.pop("Type", None)
    for own in keys:
        session = _decrypted(key.element, own)
        if session is None or len(session) != form.key_size:
            session = secrets.token_bytes(form.key_size)
        yield _decrypted(form.data, xmlsec.Key.from_binary_data(constants.KeyDataAes, session))


def _decrypted(element: etree._Element, key: xmlsec.Key) -> bytes | None:
    context = xmlsec.EncryptionContext()
    # The key is given, so that KeyInfo is not asked for one.
    context.key = key
    try:
        # Its type hints know elements alone.
        found: object = context.decrypt(element)
    except xmlsec.Error:
        return None
    return found if isinstance(found, bytes) else None


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
