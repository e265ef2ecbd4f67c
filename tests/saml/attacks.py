"""The attacks that run against every form of a login.

``docs/saml-attacks.md`` is the same list for people; a test keeps the two together.
"""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import xmlsec
from lxml import etree
from xmlsec import constants

from flask_genesys_auth.saml.documents import DS, SAML, SAMLP, XENC
from flask_genesys_auth.testing.saml_messages import (
    Encryption,
    Hook,
    LogoutMessage,
    Message,
    SigningKey,
    provider_metadata,
    sign,
)

from .addresses import IDP
from .trees import EVIL, REFERENCE, evil_twin, find
from .twists import (
    add,
    double,
    drop,
    evil_assertion_around,
    evil_assertion_first,
    evil_assertion_in_advice,
    evil_assertion_in_extensions,
    evil_assertion_of_another_namespace,
    evil_assertion_with_signature,
    genuine_assertion_in_object,
    genuine_assertion_in_signature,
    in_signature,
    set_algorithm,
    set_text,
    set_value,
    wrap_response_beside_signature,
    wrap_response_in_signature,
)

PLAIN, ASSERTION, NAME_ID = "plain", "encrypted assertion", "encrypted NameID"
SEALS = (PLAIN, ASSERTION, NAME_ID)


@dataclass(frozen=True)
class Form:
    """How a genuine provider sends its response.

    :param binding: of the request that it answers.
    :param both: Response and assertion are signed; else the assertion alone.
    :param seal: what of it is encrypted.
    """

    binding: str
    both: bool
    seal: str

    def __str__(self) -> str:
        return f"{self.binding}, {'both' if self.both else 'assertion'} signed, {self.seal}"


FORMS = tuple(Form(binding, both, seal) for binding in ("redirect", "post") for both in (False, True) for seal in SEALS)


@dataclass(frozen=True)
class Keys:
    """The keys of the provider, of an attacker, and ours."""

    provider: SigningKey
    stranger: SigningKey
    ours: SigningKey

    def sealed(self, message: Message, seal: str) -> Message:
        """Return the message with the provider's encryption, before or between its signatures."""
        encryption = Encryption(self.ours)
        if seal == ASSERTION:
            return message.but(between_signing=encryption.assertion)
        return message.but(before_signing=encryption.name_id) if seal == NAME_ID else message


@dataclass(frozen=True)
class Attack:
    """One attack of an attacker or of a foreign provider.

    :param reasons: what the log may say of it, plain or encrypted; the first is usual.
    :param make: takes the genuine message, the keys and the form; returns the form's fields that differ.
    :param possible: tells in which forms there is such a thing.
    """

    name: str
    reasons: tuple[str, ...]
    make: Callable[[Message, Keys, Form], dict[str, str]]
    possible: Callable[[Form], bool] = field(default=lambda _: True)


def _posted(root: etree._Element) -> dict[str, str]:
    return {"SAMLResponse": base64.b64encode(etree.tostring(root)).decode()}


def says(name: str, reason: str, *others: str, **changes: Any) -> Attack:
    """A message that the provider has really signed, and that is not for us, for now, or for this request."""

    def make(message: Message, keys: Keys, form: Form) -> dict[str, str]:
        given = {key: value(message) if callable(value) else value for key, value in changes.items()}
        return {"SAMLResponse": keys.sealed(message.but(**given), form.seal).encoded(keys.provider)}

    return Attack(name, (reason, *others), make)


def twisted(
    name: str, reason: str, *others: str, by: Hook, response_only: bool = False, seals: tuple[str, ...] = SEALS
) -> Attack:
    """A genuine message, changed after it was signed, then encrypted for us by the attacker.

    :param seals: the forms in which there is what it changes.
    """

    def make(message: Message, keys: Keys, form: Form) -> dict[str, str]:
        before = {"before_signing": Encryption(keys.ours).name_id} if form.seal == NAME_ID else {}
        root = message.but(**before).signed(keys.provider)
        by(root)
        if form.seal == ASSERTION:
            Encryption(keys.ours).assertion(root)
        return _posted(root)

    def possible(form: Form) -> bool:
        if form.seal not in seals:
            return False
        # What is encrypted after it was signed leaves no good signature of the Response.
        return form.both or not response_only if form.seal == PLAIN else not form.both and not response_only

    return Attack(name, (reason, *others), make, possible)


def written(name: str, reason: str, *others: str, by: Callable[[bytes], bytes]) -> Attack:
    """A genuine message whose bytes were changed."""

    def make(message: Message, keys: Keys, form: Form) -> dict[str, str]:
        data = base64.b64decode(keys.sealed(message, form.seal).encoded(keys.provider))
        return {"SAMLResponse": base64.b64encode(by(data)).decode()}

    return Attack(name, (reason, *others), make)


def misplaced(name: str, reason: str, by: Callable[[Message, Keys], etree._Element]) -> Attack:
    """Something else that the provider has really signed, posted in the place of a response."""
    return Attack(name, (reason,), lambda m, k, _: _posted(by(m, k)), lambda form: form.seal == PLAIN and not form.both)


def forged(name: str, reason: str, *others: str, by: Callable[[Message, Keys], etree._Element]) -> Attack:
    """A message that the attacker has made, and encrypted for us."""

    def make(message: Message, keys: Keys, form: Form) -> dict[str, str]:
        root = by(message.but(sign_response=False), keys)
        if form.seal == ASSERTION:
            Encryption(keys.ours).assertion(root)
        return _posted(root)

    return Attack(name, (reason, *others), make, lambda form: form.seal != NAME_ID and not form.both)


def sealed(
    name: str, reason: str, *others: str, change: Mapping[str, Any] | None = None, by: Hook | None = None
) -> Attack:
    """A message of which the encryption is wrong.

    :param change: of :class:`Encryption`.
    :param by: is done to the tree when all is signed and encrypted.
    """

    def make(message: Message, keys: Keys, form: Form) -> dict[str, str]:
        encryption = Encryption(keys.ours, **(change or {}))
        hook = (
            {"between_signing": encryption.assertion}
            if form.seal == ASSERTION
            else {"before_signing": encryption.name_id}
        )
        root = message.but(**hook).signed(keys.provider)
        if by is not None:
            by(root)
        return _posted(root)

    return Attack(name, (reason, *others), make, lambda form: form.seal == ASSERTION and not (by and form.both))


def _unsigned(message: Message, _: Keys) -> etree._Element:
    return message.but(sign_assertion=False).tree()


def _by_a_stranger(message: Message, keys: Keys) -> etree._Element:
    return message.but(name_id=EVIL).signed(keys.stranger)


def _around_alone(message: Message, keys: Keys) -> etree._Element:
    return message.but(name_id=EVIL, sign_assertion=False).tree()


def _logout_response(message: Message, keys: Keys) -> etree._Element:
    answer = LogoutMessage(IDP, message.acs_url, "LogoutResponse", in_response_to=message.request_id).tree()
    sign(answer, keys.provider)
    return answer


def _metadata(_: Message, keys: Keys) -> etree._Element:
    entity = etree.fromstring(provider_metadata(IDP, "https://idp.example/sso", (keys.provider.certificate,)))
    entity.set("ID", "_metadata")
    sign(entity, keys.provider)
    return entity


def _assertion_alone(message: Message, keys: Keys) -> etree._Element:
    return find(message.signed(keys.provider), "saml:Assertion")


class _Hmac(SigningKey):
    def load(self) -> xmlsec.Key:
        return xmlsec.Key.from_binary_data(constants.KeyDataHmac, base64.b64decode(self.certificate))


def _hmac(message: Message, keys: Keys) -> etree._Element:
    forger = _Hmac("", keys.provider.certificate_pem)
    return message.but(name_id=EVIL, signature_algorithm="HmacSha256").signed(forger)


def _another_name(response: etree._Element) -> None:
    find(response, "saml:Assertion/saml:Subject").append(etree.Element(f"{{{SAML}}}NameID"))


def _change_text(path: str, text: str) -> Hook:
    def change(response: etree._Element) -> None:
        find(response, path).text = text

    return change


def _comment_in(path: str, node: Callable[[str], etree._Element]) -> Hook:
    def change(response: etree._Element) -> None:
        element = find(response, path)
        text = element.text or ""
        element.text = text[: len(text) // 2]
        split = node("x")
        split.tail = text[len(text) // 2 :]
        element.append(split)

    return change


def _relative_namespace(response: etree._Element) -> None:
    """A relative namespace, which canonicalization does not support (xml-exc-c14n 1.3)."""
    etree.SubElement(find(response, "saml:Assertion/saml:Conditions"), "{relative}Condition")


def _strip(response: etree._Element) -> None:
    assertion = find(response, "saml:Assertion")
    assertion.remove(find(assertion, "ds:Signature"))


def _duplicate_id(response: etree._Element) -> None:
    find(response, "samlp:Status").set("ID", find(response, "saml:Assertion").get("ID", ""))


def _xml_id(response: etree._Element) -> None:
    name = "{http://www.w3.org/XML/1998/namespace}id"
    find(response, "samlp:Status").set(name, find(response, "saml:Assertion").get("ID", ""))


def _digest_outside(response: etree._Element) -> None:
    """CVE-2024-45409: a second digest, of the changed content, before the signed one."""
    assertion = find(response, "saml:Assertion")
    find(assertion, "saml:Subject").set("forged", "1")
    digest = copy.deepcopy(find(assertion, f"ds:Signature/{REFERENCE}/ds:DigestValue"))
    extensions = etree.Element(f"{{{SAMLP}}}Extensions")
    extensions.append(digest)
    find(response, "saml:Issuer").addnext(extensions)


def _two_encrypted(response: etree._Element) -> None:
    response.append(copy.deepcopy(find(response, "saml:EncryptedAssertion")))


def _plain_beside(response: etree._Element) -> None:
    twin = etree.SubElement(response, f"{{{SAML}}}Assertion", ID="_evil", Version="2.0")
    etree.SubElement(twin, f"{{{SAML}}}Issuer").text = IDP


def _cipher_reference(response: etree._Element) -> None:
    data = response.find(f".//{{{XENC}}}EncryptedData/{{{XENC}}}CipherData")
    assert data is not None
    for child in list(data):
        data.remove(child)
    etree.SubElement(data, f"{{{XENC}}}CipherReference", URI="http://127.0.0.1:1/")


def _retrieval(response: etree._Element) -> None:
    information = response.find(f".//{{{XENC}}}EncryptedData/{{{DS}}}KeyInfo")
    assert information is not None
    for child in list(information):
        information.remove(child)
    etree.SubElement(information, f"{{{DS}}}RetrievalMethod", URI="http://127.0.0.1:1/", Type=f"{XENC}EncryptedKey")


def _evil_in_object(response: etree._Element) -> None:
    assertion = find(response, "saml:Assertion")
    etree.SubElement(find(assertion, "ds:Signature"), f"{{{DS}}}Object").append(evil_twin(assertion))


def _flipped(place: int) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[place] ^= 1
        return bytes(changed)

    return change


def _in_front(text: str) -> Callable[[bytes], bytes]:
    return lambda data: text.encode() + data


def _laughs(data: bytes) -> bytes:
    entities = '<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    return f"<!DOCTYPE x [{entities}]>".encode() + data.replace(b"ann@acme.example", b"&a9;", 1)


def _as(encoding: str) -> Callable[[bytes], bytes]:
    return lambda data: f'<?xml version="1.0" encoding="{encoding}"?>'.encode(encoding) + data.decode().encode(encoding)


def _deep(data: bytes) -> bytes:
    nested = b"<samlp:Extensions>" + b"<a>" * 64 + b"</a>" * 64 + b"</samlp:Extensions>"
    return data.replace(b"<samlp:Status>", nested + b"<samlp:Status>", 1)


_NAME = "saml:Assertion/saml:Subject/saml:NameID"
_DIGEST = f"saml:Assertion/ds:Signature/{REFERENCE}/ds:DigestValue"
_SUBJECT = f'<Subject xmlns="{SAML}"/>'.encode()
_TRANSFORM = "ds:Reference/ds:Transforms/ds:Transform"
_FORM, _NO = "signature_form", "decryption"

ATTACKS: tuple[Attack, ...] = (
    # Messages that the provider has signed for another recipient or for another time.
    says("audience of another service", "audience", audience="https://else.example/metadata"),
    says("prefix of our audience", "audience", audience=lambda m: m.audience[:-1]),
    says("audience that starts with ours", "audience", audience=lambda m: m.audience + ".evil.example"),
    says("no audience", "audience", audiences=()),
    says("one of two audience restrictions names us", "audience", audiences=lambda m: ((m.audience,), ("https://x",))),
    says("destination of another service", "destination", destination="https://else.example/acs"),
    says("destination that starts with ours", "destination", destination=lambda m: m.acs_url + "/evil"),
    says("no destination", "destination", destination=None),
    says("recipient of another service", "recipient", recipient="https://else.example/acs"),
    says("recipient that contains ours", "recipient", recipient=lambda m: f"https://evil.example/?{m.acs_url}"),
    says("no recipient", "recipient", recipient=None),
    says("another issuer of the response", "issuer", response_issuer="https://evil.example/metadata"),
    says("no issuer of the response", "issuer", "structure", "signature_form", response_issuer=None),
    says("another issuer of the assertion", "issuer", assertion_issuer="https://evil.example/metadata"),
    says("expired conditions", "expired", conditions_not_on_or_after=-3600),
    says("expired confirmation", "expired", confirmation_not_on_or_after=-3600),
    says("not valid yet", "not_yet_valid", conditions_not_before=3600),
    says("conditions without NotOnOrAfter", "conditions", conditions_not_on_or_after=None),
    says("confirmation without NotOnOrAfter", "conditions", confirmation_not_on_or_after=None),
    says("confirmation with NotBefore", "confirmation", confirmation_not_before=-5),
    says("expired session", "session_expired", session_not_on_or_after=-3600),
    says("holder-of-key confirmation", "confirmation", method="urn:oasis:names:tc:SAML:2.0:cm:holder-of-key"),
    says("answer to another request", "unsolicited", in_response_to="_other", confirmed_request="_other"),
    says("answer whose assertion is for another request", "in_response_to", confirmed_request="_other"),
    says("request id removed from the assertion", "unsolicited", confirmed_request=None),
    says("request id removed everywhere", "unsolicited", in_response_to=None, confirmed_request=None),
    says("status other than Success", "status", status="urn:oasis:names:tc:SAML:2.0:status:AuthnFailed"),
    says("transient name", "name_id", name_id_format="urn:oasis:names:tc:SAML:2.0:nameid-format:transient"),
    says("name in a foreign domain", "email_domain", name_id="mallory@evil.example"),
    says("SHA-1 signature", "algorithm", signature_algorithm="RsaSha1"),
    says("SHA-1 digest", "algorithm", digest_algorithm="Sha1"),
    says("only the Response signed", "not_signed", sign_assertion=False),
    misplaced("logout response", "structure", by=_logout_response),
    misplaced("metadata", "structure", by=_metadata),
    misplaced("assertion without a Response", "structure", by=_assertion_alone),
    # Changed after it was signed.
    twisted("XSW 1", "structure", _FORM, by=wrap_response_in_signature, response_only=True),
    twisted("XSW 2", "structure", _FORM, by=wrap_response_beside_signature, response_only=True),
    twisted("XSW 3", "structure", by=evil_assertion_first),
    twisted("XSW 4", "structure", _FORM, by=evil_assertion_around),
    twisted("XSW 5", "structure", _FORM, by=evil_assertion_with_signature),
    twisted("XSW 6", "structure", _FORM, by=genuine_assertion_in_signature),
    twisted("XSW 7", "structure", _FORM, "encrypted", by=evil_assertion_in_extensions),
    twisted("XSW 8", "structure", _FORM, by=genuine_assertion_in_object),
    twisted("copy in Object", "structure", _FORM, by=_evil_in_object),
    twisted("copy in Advice", "structure", by=evil_assertion_in_advice),
    twisted("copy under another namespace", "structure", "encrypted", by=evil_assertion_of_another_namespace),
    twisted("second NameID", "structure", "bad_signature", by=_another_name),
    twisted("name in a relative namespace", "bad_signature", "schema", "decryption", by=_relative_namespace),
    twisted("audience changed", "bad_signature", by=_change_text("saml:Assertion/saml:Conditions//saml:Audience", "x")),
    twisted("comment in a value", "forbidden_xml", _NO, by=_comment_in("saml:Assertion/saml:Issuer", etree.Comment)),
    twisted("comment in the NameID", "forbidden_xml", _NO, by=_comment_in(_NAME, etree.Comment), seals=SEALS[:2]),
    twisted(
        "processing instruction in a value",
        "forbidden_xml",
        _NO,
        by=_comment_in("saml:Assertion/saml:Issuer", etree.ProcessingInstruction),
    ),
    twisted(
        "comment in DigestValue",
        "forbidden_xml",
        _NO,
        by=_comment_in(_DIGEST, etree.Comment),
    ),
    twisted("digest outside of SignedInfo", "bad_signature", _FORM, by=_digest_outside),
    twisted("duplicate ID", "duplicate_id", by=_duplicate_id),
    twisted("xml:id", "duplicate_id", by=_xml_id),
    twisted("signature removed", "not_signed", by=_strip),
    twisted("empty signature", _FORM, by=in_signature(set_text("ds:SignatureValue", ""))),
    twisted("empty digest", _FORM, by=in_signature(set_text(f"{REFERENCE}/ds:DigestValue", ""))),
    twisted("reference to the document", _FORM, by=in_signature(set_value(REFERENCE, "URI", ""))),
    twisted("reference to a file", _FORM, by=in_signature(set_value(REFERENCE, "URI", "file:///etc/passwd"))),
    twisted("reference to a URL", _FORM, by=in_signature(set_value(REFERENCE, "URI", "http://127.0.0.1:1/"))),
    twisted("two references", _FORM, by=in_signature(double(REFERENCE))),
    twisted("two SignedInfo", _FORM, by=in_signature(double("ds:SignedInfo"))),
    twisted("no transform", _FORM, by=in_signature(drop(f"{REFERENCE}/ds:Transforms"))),
    twisted("XSLT", "algorithm", by=set_algorithm(_TRANSFORM, "http://www.w3.org/TR/1999/REC-xslt-19991116")),
    twisted("XPath", "algorithm", by=set_algorithm(_TRANSFORM, "http://www.w3.org/TR/1999/REC-xpath-19991116")),
    twisted(
        "base64 transform",
        "algorithm",
        by=set_algorithm(f"{_TRANSFORM}[2]", "http://www.w3.org/2000/09/xmldsig#base64"),
    ),
    twisted(
        "MD5",
        "algorithm",
        by=set_algorithm("ds:Reference/ds:DigestMethod", "http://www.w3.org/2001/04/xmldsig-more#md5"),
    ),
    twisted(
        "key by reference",
        _FORM,
        by=in_signature(add("ds:KeyInfo", f'<ds:RetrievalMethod xmlns:ds="{DS}" URI="http://127.0.0.1:1/"/>')),
    ),
    # Made by the attacker.
    forged("unsigned", "not_signed", by=_unsigned),
    forged("signed with a key in the message", "bad_signature", by=_by_a_stranger),
    forged("HMAC keyed with the certificate", "algorithm", by=_hmac),
    # Other bytes.
    written("document type", "forbidden_xml", by=_in_front('<!DOCTYPE x [<!ENTITY e "mallory">]>')),
    written("external entity", "forbidden_xml", by=_in_front('<!DOCTYPE x SYSTEM "file:///etc/passwd">')),
    written("billion laughs", "forbidden_xml", by=_laughs),
    written("UTF-16", "malformed", by=_as("utf-16")),
    written("UTF-7", "forbidden_xml", "malformed", by=_as("utf-7")),
    written("another declared encoding", "forbidden_xml", by=_in_front('<?xml version="1.0" encoding="latin-1"?>')),
    written("comment beside the root", "forbidden_xml", by=_in_front("<!-- x -->")),
    written("deep nesting", "forbidden_xml", by=_deep),
    written("oversized message", "too_large", by=lambda data: data + b" " * 300_000),
    written("not XML", "malformed", by=lambda _: b"{}"),
    # Encrypted badly.
    sealed("tag changed", _NO, change={"change_cipher": _flipped(-1)}),
    sealed("ciphertext changed", _NO, change={"change_cipher": _flipped(40)}),
    sealed("session key changed", _NO, change={"change_key": _flipped(8)}),
    sealed("CBC when not allowed", "algorithm", change={"algorithm": f"{XENC}aes256-cbc"}),
    sealed("RSA 1.5 when not allowed", "algorithm", change={"transport": f"{XENC}rsa-1_5"}),
    sealed("two encrypted assertions", "structure", by=_two_encrypted),
    sealed("plain assertion beside the encrypted one", "structure", by=_plain_beside),
    sealed("content by reference", "encrypted", by=_cipher_reference),
    sealed("session key by reference", "encrypted", by=_retrieval),
    sealed(
        "another element encrypted",
        "structure",
        change={"change_plain": lambda _: f'<Subject xmlns="{SAML}"/>'.encode()},
    ),
    # The form around it.
    Attack("another RelayState", ("relay_state",), lambda m, k, f: {"RelayState": "x" * 43}),
)
