"""XML encryption in the one form that SAML allows (saml-core 2.3.4, 6), checked before anything is decrypted.

Encrypted data are not verified yet. An attacker who changes them could learn the content from which changes still
decrypt (Jager and Somorovsky, 2011; Bleichenbacher, 1998). So every key is tried, and a session key that cannot be
decrypted is replaced with a random one, and the same steps follow.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import xmlsec
from lxml import etree
from xmlsec import constants

from .documents import DS, SAML, XENC, ForbiddenXml, MalformedXml, from_base64, local_name, parse_within, text_of
from .errors import Fault, SamlError
from .signatures import KEY_INFO
from .transport import LIMITS

if TYPE_CHECKING:
    from .trust import Trust

XENC11 = "http://www.w3.org/2009/xmlenc11#"
RSA_15 = f"{XENC}rsa-1_5"
ELEMENT = f"{XENC}Element"

CONTENT: Mapping[str, int] = MappingProxyType(
    {f"{XENC11}aes{bits}-gcm": bits // 8 for bits in (128, 192, 256)}
    | {f"{XENC}aes{bits}-cbc": bits // 8 for bits in (128, 192, 256)}
)
"""Bytes of a session key, by content encryption algorithm."""

_TRANSPORT = frozenset({f"{XENC}rsa-oaep-mgf1p", f"{XENC11}rsa-oaep", RSA_15})
_DIGESTS = frozenset({f"{DS}sha1", f"{XENC}sha256", "http://www.w3.org/2001/04/xmldsig-more#sha384", f"{XENC}sha512"})
_MASKS = frozenset(f"{XENC11}mgf1sha{bits}" for bits in (1, 256, 384, 512))
_ENCRYPTED_KEY_TYPE = f"{XENC}EncryptedKey"
_MOST_KEYS = 8
_LONGEST_KEY = 1024
_NAME_ID_ATTRIBUTES = frozenset({"Format", "NameQualifier", "SPNameQualifier", "SPProvidedID"})

_DATA, _KEY = f"{{{XENC}}}EncryptedData", f"{{{XENC}}}EncryptedKey"
_METHOD, _VALUE = f"{{{XENC}}}EncryptionMethod", f"{{{XENC}}}CipherValue"
_CIPHER, _REFERENCES = f"{{{XENC}}}CipherData", f"{{{XENC}}}ReferenceList"
_DATA_REFERENCE, _NAME = f"{{{XENC}}}DataReference", f"{{{XENC}}}CarriedKeyName"
_INFO, _RETRIEVAL = f"{{{DS}}}KeyInfo", f"{{{DS}}}RetrievalMethod"
_DIGEST, _MASK = f"{{{DS}}}DigestMethod", f"{{{XENC11}}}MGF"

# Allowed attributes and children, by element. The functions below check order and number.
_ALLOWED: Mapping[str, tuple[frozenset[str], frozenset[str]]] = MappingProxyType(
    {
        _DATA: (frozenset({"Id", "Type", "MimeType"}), frozenset({_METHOD, _INFO, _CIPHER})),
        _KEY: (frozenset({"Id", "Recipient"}), frozenset({_METHOD, _INFO, _CIPHER, _REFERENCES, _NAME})),
        _METHOD: (frozenset({"Algorithm"}), frozenset({_DIGEST, _MASK})),
        _CIPHER: (frozenset(), frozenset({_VALUE})),
        _REFERENCES: (frozenset(), frozenset({_DATA_REFERENCE})),
        _DATA_REFERENCE: (frozenset({"URI"}), frozenset()),
        _RETRIEVAL: (frozenset({"URI", "Type"}), frozenset()),
        _DIGEST: (frozenset({"Algorithm"}), frozenset()),
        _MASK: (frozenset({"Algorithm"}), frozenset()),
        _VALUE: (frozenset(), frozenset()),
        _NAME: (frozenset(), frozenset()),
    }
)


@dataclass(frozen=True, slots=True)
class KeyForm:
    """An ``xenc:EncryptedKey``: a session key, encrypted for one recipient.

    :param recipient: the ``Recipient`` hint (xmlenc-core 3.5.1), or empty.
    """

    element: etree._Element
    algorithm: str
    recipient: str


@dataclass(frozen=True, slots=True)
class EncryptedForm:
    """Encrypted data of the allowed form.

    :param holder: ``EncryptedAssertion`` or ``EncryptedID``.
    :param data: its ``xenc:EncryptedData``.
    """

    holder: etree._Element
    data: etree._Element
    algorithm: str
    keys: tuple[KeyForm, ...]

    @property
    def key_size(self) -> int:
        """Bytes of the session key."""
        return CONTENT[self.algorithm]


def read_encrypted(holder: etree._Element) -> EncryptedForm:
    """Check the form of an ``EncryptedAssertion`` or ``EncryptedID``.

    :raises SamlError: unless it contains its cipher text and session keys, uses the algorithms of the lists above, and
        references nothing else.
    """
    if holder.keys() or not len(holder) or holder[0].tag != _DATA:
        raise _refused(f"{local_name(holder)} does not begin with EncryptedData")
    data, *siblings = holder
    for child in holder:
        _check_parts(child, within=None)
    if any(child.tag != _KEY for child in siblings):
        raise _refused(f"{local_name(holder)} holds more than EncryptedData and EncryptedKey")
    if data.get("Type", ELEMENT) != ELEMENT:
        raise _refused(f"EncryptedData has type {data.get('Type')!r}, not Element")
    algorithm = _algorithm(data, frozenset(CONTENT))
    if len(_only(data, _METHOD)):
        raise _refused("EncryptionMethod of the content has parameters")
    _cipher_value(data)
    keys = _keys(data, siblings)
    if not 1 <= len(keys) <= _MOST_KEYS:
        raise _refused(f"{len(keys)} EncryptedKey elements, not one to {_MOST_KEYS}")
    return EncryptedForm(holder, data, algorithm, tuple(_read_key(key) for key in keys))


def _keys(data: etree._Element, siblings: list[etree._Element]) -> list[etree._Element]:
    """Return the session keys: inside EncryptedData, or beside it, perhaps named inside (saml-core 2.3.4)."""
    if data.find(_INFO) is None:
        return siblings
    inside = list(_only(data, _INFO))
    if inside and all(child.tag == _KEY for child in inside) and not siblings:
        return inside
    names = []
    for child in inside:
        if child.tag != _RETRIEVAL or child.get("Type") != _ENCRYPTED_KEY_TYPE:
            raise _refused("KeyInfo of EncryptedData holds more than one kind of key")
        names.append(child.get("URI", ""))
    named = [key for key in siblings if key.get("Id") and f"#{key.get('Id')}" in names]
    if len(named) != len(names):
        raise _refused(f"RetrievalMethod names {', '.join(names)!r}, which is not an EncryptedKey beside it")
    return named


def _read_key(key: etree._Element) -> KeyForm:
    algorithm = _algorithm(key, _TRANSPORT)
    for parameter in _only(key, _METHOD):
        allowed = _DIGESTS if parameter.tag == _DIGEST else _MASKS
        if algorithm == RSA_15 or parameter.get("Algorithm") not in allowed:
            raise SamlError(Fault.ALGORITHM, f"{local_name(parameter)} {parameter.get('Algorithm')!r} is not allowed")
    if _cipher_value(key) > _LONGEST_KEY:
        raise _refused(f"an encrypted key of more than {_LONGEST_KEY} bytes")
    return KeyForm(key, algorithm, key.get("Recipient", ""))


def _check_parts(element: etree._Element, within: str | None) -> None:
    """Check names and attributes of all elements. KeyInfo of a key is allowed and ignored."""
    if element.tag == _INFO:
        allowed = KEY_INFO if within == _KEY else frozenset({_KEY, _RETRIEVAL})
        attributes = frozenset({"Id"})
    elif element.tag in KEY_INFO:
        return
    else:
        attributes, allowed = _ALLOWED.get(str(element.tag), (frozenset(), frozenset()))
        if element.tag not in _ALLOWED:
            raise _refused(f"{local_name(element)} is not allowed in encrypted data")
    for name in element.keys():  # noqa: SIM118 - an element is not a mapping
        if name not in attributes:
            raise _refused(f"attribute {name!s} on {local_name(element)}")
    for child in element.iter(etree.Element) if element.tag == _INFO and within == _KEY else element:
        if child is not element and child.tag not in allowed:
            raise _refused(f"{local_name(child)} in {local_name(element)}")
    for child in element:
        _check_parts(child, within=str(element.tag))


def _only(element: etree._Element, name: str) -> etree._Element:
    found = element.findall(name)
    if len(found) != 1:
        raise _refused(f"{len(found)} {name.rpartition('}')[2]} in {local_name(element)}, not one")
    return found[0]


def _algorithm(element: etree._Element, allowed: frozenset[str]) -> str:
    found = _only(element, _METHOD).get("Algorithm", "")
    if found not in allowed:
        raise SamlError(Fault.ALGORITHM, f"{local_name(element)} by {found!r} is not allowed")
    return found


def _cipher_value(element: etree._Element) -> int:
    """Return the size of the cipher text in bytes."""
    text = text_of(_only(_only(element, _CIPHER), _VALUE))
    try:
        size = len(from_base64(text))
    except ValueError as error:
        raise _refused(f"CipherValue is {error}") from error
    if not size:
        raise _refused("CipherValue is empty")
    return size


def _refused(detail: str) -> SamlError:
    return SamlError(Fault.ENCRYPTED, detail)


def decrypt_name_id(parent: etree._Element, trust: Trust, keys: tuple[xmlsec.Key, ...]) -> bool:
    """Replace the ``EncryptedID`` child of an element with its NameID (saml-core 2.2.4, 3.7.1).

    :param parent: a Subject or LogoutRequest, verified, so that the provider made the cipher text.
    :returns: whether there was an ``EncryptedID``.
    :raises SamlError: if it does not decrypt to a NameID.
    """
    holder = parent.find(f"{{{SAML}}}EncryptedID")
    if holder is None:
        return False
    form = read_encrypted(holder)
    for content in decrypt(form, trust, keys):
        try:
            (name_id, *more) = parse_within(content, holder, LIMITS)
        except (MalformedXml, ForbiddenXml):
            continue
        if name_id.tag == f"{{{SAML}}}NameID" and not more and _NAME_ID_ATTRIBUTES.issuperset(name_id.keys()):
            name_id.tail = None
            parent.replace(holder, name_id)
            return True
    raise unreadable(form, f"none of our {len(keys)} keys decrypts it to a NameID")


def unreadable(form: EncryptedForm, detail: str) -> SamlError:
    """Return the error for data that cannot be decrypted."""
    return SamlError(Fault.DECRYPTION, f"{local_name(form.holder)}: {detail}")


def decrypt(form: EncryptedForm, trust: Trust, keys: tuple[xmlsec.Key, ...]) -> list[bytes]:
    """Try all our keys and return each result; usually one key decrypts.

    :raises SamlError: if the algorithm is not allowed for this provider, or no session key is for us.
    """
    name = local_name(form.holder)
    if not keys:
        raise SamlError(Fault.ENCRYPTED, f"the message has {name}, and encryption_keys is not set")
    if form.algorithm.endswith("-cbc") and not trust.settings.allow_cbc:
        raise SamlError(Fault.ALGORITHM, f"{name} by {form.algorithm!r}: allow_cbc is not set")
    key = _own_key(form, trust)
    if key.algorithm == RSA_15 and not trust.settings.allow_rsa15:
        raise SamlError(Fault.ALGORITHM, f"{name} by {key.algorithm!r}: allow_rsa15 is not set")
    return [content for content in _attempts(form, key, keys) if content is not None]


def _own_key(form: EncryptedForm, trust: Trust) -> KeyForm:
    """Return the session key for us. A single one is ours, whatever its ``Recipient``."""
    if len(form.keys) == 1:
        return form.keys[0]
    own = trust.toolkit.get_sp_data()["entityId"]
    found = [key for key in form.keys if key.recipient in ("", own)]
    if len(found) != 1:
        raise SamlError(Fault.ENCRYPTED, f"{len(found)} of {len(form.keys)} EncryptedKey are for {own!r}, not one")
    return found[0]


def _attempts(form: EncryptedForm, key: KeyForm, keys: tuple[xmlsec.Key, ...]) -> Iterator[bytes | None]:
    # Without a Type libxmlsec returns bytes. With one it would parse them, and print fragments to stderr on failure.
    # The attribute is removed after signatures were checked, and nothing else reads it.
    form.data.attrib.pop("Type", None)
    for own in keys:
        session = _decrypted(key.element, own)
        if session is None or len(session) != form.key_size:
            session = secrets.token_bytes(form.key_size)
        yield _decrypted(form.data, xmlsec.Key.from_binary_data(constants.KeyDataAes, session))


def _decrypted(element: etree._Element, key: xmlsec.Key) -> bytes | None:
    context = xmlsec.EncryptionContext()
    # With a key set, libxmlsec ignores KeyInfo.
    context.key = key
    try:
        # The type hints of xmlsec only mention elements.
        found: object = context.decrypt(element)
    except xmlsec.Error:
        return None
    return found if isinstance(found, bytes) else None
