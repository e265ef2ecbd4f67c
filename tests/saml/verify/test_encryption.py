"""Encrypted assertions and identifiers; failures of decryption are indistinguishable."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
import xmlsec
from flask import Flask
from lxml import etree

from flask_genesys_auth.saml import gate, signatures, verify
from flask_genesys_auth.saml.documents import DS, SAML, SAMLP, XENC
from flask_genesys_auth.saml.encryption import CONTENT, RSA_15, XENC11
from flask_genesys_auth.saml.signatures import SignatureForm
from flask_genesys_auth.testing.saml_messages import (
    CBC,
    GCM,
    MGF1_SHA256,
    OAEP,
    OAEP_11,
    SHA256,
    Encryption,
    Hook,
    SigningKey,
    generate_signing_key,
    sign,
)

from ..application import ANN, Browser, MakeApp, assert_refused

Holder = str
ASSERTION, NAME_ID = "assertion", "name_id"
RELAXED = {"allow_cbc": True, "allow_rsa15": True}


@pytest.fixture(scope="session")
def ours() -> SigningKey:
    return generate_signing_key("our decryption")


@pytest.fixture(scope="session")
def next_ours() -> SigningKey:
    return generate_signing_key("our next decryption")


def pairs(*keys: SigningKey) -> list[dict[str, str]]:
    return [{"key": key.private_pem, "certificate": key.certificate_pem} for key in keys]


@pytest.fixture
def saml_app(make_app: MakeApp, ours: SigningKey) -> Flask:
    return make_app(encryption_keys=pairs(ours))


@pytest.fixture
def relaxed(make_app: MakeApp, ours: SigningKey) -> Flask:
    return make_app(encryption_keys=pairs(ours), okta=RELAXED)


def hooks(encryption: Encryption, what: str) -> dict[str, Hook]:
    if what == ASSERTION:
        return {"between_signing": encryption.assertion}
    return {"before_signing": encryption.name_id} if what else {}


def post(app: Flask, key: SigningKey, **changes: Any) -> Any:
    browser = Browser(app, key)
    request, relay_state = browser.begin()
    return browser.answer(browser.message(request, **changes), relay_state)


def accepts(app: Flask, key: SigningKey, encryption: Encryption, what: str = ASSERTION, **changes: Any) -> bool:
    browser = Browser(app, key)
    request, relay_state = browser.begin()
    answer = browser.answer(browser.message(request, **hooks(encryption, what), **changes), relay_state)
    if answer.status_code != 303:
        assert answer.status_code == 400
        return False
    browser.get(answer.headers["Location"].removeprefix(browser.url))
    assert browser.user == ANN
    return True


@pytest.mark.parametrize("what", [ASSERTION, NAME_ID])
@pytest.mark.parametrize("sign_response", [False, True])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        *({"algorithm": f"{XENC11}aes{bits}-gcm"} for bits in (128, 192)),
        {"digest": SHA256},
        {"transport": OAEP_11},
        {"transport": OAEP_11, "digest": SHA256, "mask": MGF1_SHA256},
        {"beside": True},
        {"beside": True, "named": False},
    ],
)
def test_encrypted_parts_are_read(
    saml_app: Flask, key: SigningKey, ours: SigningKey, what: str, sign_response: bool, changes: dict[str, Any]
) -> None:
    assert accepts(saml_app, key, Encryption(ours, **changes), what, sign_response=sign_response)


@pytest.mark.parametrize("what", [ASSERTION, NAME_ID])
def test_typed_values_are_read(saml_app: Flask, key: SigningKey, ours: SigningKey, what: str) -> None:
    # As SimpleSAMLphp and Keycloak write them. Canonicalization drops a prefix that nothing but a value has.
    encryption = Encryption(ours)

    def typed(response: etree._Element) -> None:
        for value in response.iter(f"{{{SAML}}}AttributeValue"):
            value.set("{http://www.w3.org/2001/XMLSchema-instance}type", "xs:string")
        if what == NAME_ID:
            encryption.name_id(response)

    between = {"between_signing": encryption.assertion} if what == ASSERTION else {}
    attributes = {"mail": (ANN,)}
    assert accepts(saml_app, key, encryption, "", attributes=attributes, before_signing=typed, **between)


def test_assertion_and_identifier_are_both_encrypted(saml_app: Flask, key: SigningKey, ours: SigningKey) -> None:
    encryption = Encryption(ours)
    assert accepts(saml_app, key, encryption, before_signing=encryption.name_id)


@pytest.mark.parametrize("what", [ASSERTION, NAME_ID])
@pytest.mark.parametrize(
    "changes", [*({"algorithm": name} for name in CONTENT if name.endswith("-cbc")), {"transport": RSA_15}]
)
def test_weak_encryption_needs_a_setting(
    saml_app: Flask,
    relaxed: Flask,
    key: SigningKey,
    ours: SigningKey,
    caplog: pytest.LogCaptureFixture,
    what: str,
    changes: dict[str, Any],
) -> None:
    encryption = Encryption(ours, **changes)
    assert accepts(relaxed, key, encryption, what)
    assert_refused(post(saml_app, key, **hooks(encryption, what)), caplog, "algorithm")


def test_both_keys_decrypt_during_rollover_only(
    make_app: MakeApp, key: SigningKey, ours: SigningKey, next_ours: SigningKey, caplog: pytest.LogCaptureFixture
) -> None:
    both, after = (make_app(encryption_keys=pairs(*keys)) for keys in ((next_ours, ours), (next_ours,)))
    for what in (ASSERTION, NAME_ID):
        assert accepts(both, key, Encryption(ours), what)
        assert accepts(both, key, Encryption(next_ours), what)
        assert accepts(after, key, Encryption(next_ours), what)
        assert_refused(post(after, key, **hooks(Encryption(ours), what)), caplog, "decryption")


@pytest.mark.parametrize("what", [ASSERTION, NAME_ID])
def test_nothing_is_decrypted_without_a_key(
    app: Flask, saml_app: Flask, key: SigningKey, ours: SigningKey, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    assert accepts(saml_app, key, Encryption(ours), what)
    assert_refused(post(app, key, **hooks(Encryption(ours), what)), caplog, "encrypted")
    assert "encryption_keys" in caplog.text


def test_session_key_of_our_recipient_is_used(
    saml_app: Flask, key: SigningKey, ours: SigningKey, other_key: SigningKey, caplog: pytest.LogCaptureFixture
) -> None:
    us = Browser(saml_app, key).unsolicited().audience
    somebody = Encryption(other_key, recipient="https://somebody.example")
    for beside in (False, True):
        assert accepts(saml_app, key, Encryption(ours, recipient=us, others=(somebody,), beside=beside))
        assert accepts(saml_app, key, somebody.but(others=(Encryption(ours, recipient=us),), beside=beside))
    nobody = hooks(somebody.but(others=(Encryption(ours, recipient="https://else.example"),)), ASSERTION)
    assert_refused(post(saml_app, key, **nobody), caplog, "encrypted")


def flipped(place: int, bits: int = 1) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[place] ^= bits
        return bytes(changed)

    return change


def cut(data: bytes) -> bytes:
    return data[:-1]


def without_signature(text: bytes) -> bytes:
    root = etree.fromstring(text)
    signature = root.find(f"{{{DS}}}Signature")
    assert signature is not None
    root.remove(signature)
    return etree.tostring(root)


def said(text: str) -> Callable[[bytes], bytes]:
    return lambda plain: plain.replace(b"ann@acme.example", text.encode())


# An attacker who changes the ciphertext must not learn the result of its decryption.
BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "the tag of GCM": ({"change_cipher": flipped(-1)}, "decryption"),
    "a byte of what GCM encrypts": ({"change_cipher": flipped(40)}, "decryption"),
    "too short for a tag": ({"change_cipher": lambda data: data[:20]}, "decryption"),
    "the padding of CBC": ({"algorithm": CBC, "change_cipher": flipped(-17, 0x80)}, "decryption"),
    "a block of CBC": ({"algorithm": CBC, "change_cipher": flipped(40)}, "decryption"),
    "half a block of CBC": ({"algorithm": CBC, "change_cipher": cut}, "decryption"),
    "the padding of OAEP": ({"change_key": flipped(8)}, "decryption"),
    "the padding of RSA 1.5": ({"transport": RSA_15, "change_key": flipped(8)}, "decryption"),
    "a session key of another length": ({"change_session": cut}, "decryption"),
    "another session key": ({"change_session": flipped(0)}, "decryption"),
    "not XML": ({"change_plain": lambda _: b"ann"}, "decryption"),
    "nothing": ({"change_plain": lambda _: b""}, "decryption"),
    "two elements": ({"change_plain": lambda plain: plain + b"<more/>"}, "decryption"),
    "a document type": ({"change_plain": lambda plain: b"<!DOCTYPE a>" + plain}, "decryption"),
    "another element": ({"change_plain": lambda _: f'<Subject xmlns="{SAML}"/>'.encode()}, "structure"),
    "no signature": ({"change_plain": without_signature}, "not_signed"),
    "another name": ({"change_plain": said("bob@acme.example")}, "bad_signature"),
}


@pytest.mark.parametrize("named", BROKEN)
def test_failures_of_decryption_are_indistinguishable(
    relaxed: Flask,
    key: SigningKey,
    ours: SigningKey,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    named: str,
) -> None:
    changes, reason = BROKEN[named]
    plain = {name: value for name, value in changes.items() if not name.startswith("change")}
    assert accepts(relaxed, key, Encryption(ours, **plain))
    # From outside the way that a message goes shows only in the time it takes, so these two functions are counted.
    counted: list[str] = []
    genuine = signatures.check_signature

    def counting(*given: Any) -> None:
        counted.append("signature")
        genuine(*given)

    monkeypatch.setattr(verify, "check_signature", counting)
    looked_at: list[int] = []
    admit = gate.admit_decrypted

    def looking(elements: list[etree._Element], message: gate.Admitted) -> SignatureForm:
        signature = admit(elements, message)
        looked_at.append(len(elements))
        return signature

    monkeypatch.setattr(verify, "admit_decrypted", looking)
    shown = []
    for way, why in (
        (Encryption(ours, **changes), reason),
        (Encryption(ours, change_plain=said("eve@x")), "bad_signature"),
    ):
        caplog.clear()
        answer = post(relaxed, key, **hooks(way, ASSERTION))
        assert_refused(answer, caplog, why)
        (record,) = [one for one in caplog.records if vars(one)["genesys_auth"]["event"] == "saml_refused"]
        reference = vars(record)["genesys_auth"]["reference"]
        assert record.levelno == logging.WARNING
        headers = [(name, value) for name, value in answer.headers if name != "Date"]
        shown.append((answer.status_code, answer.text.replace(reference, ""), headers, tuple(counted)))
        assert "ann@acme" not in caplog.text
        assert len(looked_at) == 1, "an assertion, or a decoy in its place, goes all the way"
        if named == "the padding of CBC" and way.change_cipher is not None:
            assert ("none of our 1 keys" in record.getMessage()) == (why == "decryption")
        counted.clear()
        looked_at.clear()
    assert shown[0] == shown[1]
    assert shown[0][3] == ("signature",)
    assert capfd.readouterr().err == ""


def test_unsigned_message_is_not_decrypted(
    saml_app: Flask,
    key: SigningKey,
    other_key: SigningKey,
    ours: SigningKey,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    genuine = xmlsec.EncryptionContext

    def counting(*given: Any) -> xmlsec.EncryptionContext:
        asked.append(1)
        return genuine(*given)

    monkeypatch.setattr(xmlsec, "EncryptionContext", counting)
    encryption = Encryption(ours)
    assert accepts(saml_app, key, encryption, sign_response=True)
    assert len(asked) == 2
    asked.clear()

    def forge(response: etree._Element) -> None:
        encryption.assertion(response)
        sign(response, other_key)

    assert_refused(post(saml_app, key, between_signing=forge), caplog, "bad_signature")
    # An identifier inside of an assertion that the provider has not signed.
    changed: dict[str, Hook] = {
        "before_signing": encryption.name_id,
        "after_signing": lambda response: response.find(f".//{{{SAML}}}Audience").__setattr__("text", "x"),
    }
    assert_refused(post(saml_app, key, **changed), caplog, "bad_signature")
    assert asked == []


def twice(response: etree._Element) -> None:
    holder = response.find(f"{{{SAML}}}EncryptedAssertion")
    assert holder is not None
    response.append(etree.fromstring(etree.tostring(holder)))


def add(where: str, tag: str, **attributes: str) -> Hook:
    def change(response: etree._Element) -> None:
        parent = response.find(where)
        assert parent is not None
        etree.SubElement(parent, tag, attributes)

    return change


def put(where: str, name: str, value: str) -> Hook:
    def change(response: etree._Element) -> None:
        element = response.find(where)
        assert element is not None
        element.set(name, value)

    return change


def text(where: str, value: str) -> Hook:
    def change(response: etree._Element) -> None:
        element = response.find(where)
        assert element is not None
        element.text = value

    return change


DATA = f".//{{{XENC}}}EncryptedData"
KEY = f".//{{{XENC}}}EncryptedKey"
METHOD = f"{{{XENC}}}EncryptionMethod"
VALUE = f"{{{XENC}}}CipherData/{{{XENC}}}CipherValue"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (twice, "structure"),
        (put(DATA, "Type", f"{XENC}Content"), "encrypted"),
        (put(DATA, "Encoding", "base64"), "encrypted"),
        (put(f"{DATA}/{METHOD}", "Algorithm", f"{XENC}tripledes-cbc"), "algorithm"),
        (put(f"{KEY}/{METHOD}", "Algorithm", f"{XENC}kw-aes256"), "algorithm"),
        (add(f"{KEY}/{METHOD}", f"{{{DS}}}DigestMethod", Algorithm=f"{DS}md5"), "algorithm"),
        (add(f"{DATA}/{METHOD}", f"{{{DS}}}DigestMethod", Algorithm=SHA256), "encrypted"),
        (add(f"{DATA}/{{{XENC}}}CipherData", f"{{{XENC}}}CipherReference", URI="http://127.0.0.1:1/"), "encrypted"),
        (add(DATA, f"{{{XENC}}}EncryptionProperties"), "encrypted"),
        (add(f"{DATA}/{{{DS}}}KeyInfo", f"{{{DS}}}RetrievalMethod", URI="file:///etc/passwd"), "encrypted"),
        (add(f"{DATA}/{{{DS}}}KeyInfo", f"{{{DS}}}KeyName"), "encrypted"),
        (add(f"{{{SAML}}}EncryptedAssertion", f"{{{SAML}}}Assertion"), "encrypted"),
        (text(f"{DATA}/{VALUE}", ""), "encrypted"),
        (text(f"{DATA}/{VALUE}", "%%%"), "encrypted"),
        (text(f"{KEY}/{VALUE}", "QUJD" * 512), "encrypted"),
        (add(".", f"{{{SAML}}}EncryptedID"), "encrypted"),
    ],
)
def test_other_encryption_forms_are_refused_before_decryption(
    saml_app: Flask,
    key: SigningKey,
    ours: SigningKey,
    caplog: pytest.LogCaptureFixture,
    change: Hook,
    reason: str,
) -> None:
    encryption = Encryption(ours)
    assert accepts(saml_app, key, encryption)
    assert_refused(post(saml_app, key, between_signing=encryption.assertion, after_signing=change), caplog, reason)


def test_id_is_unique_across_decrypted_parts(
    saml_app: Flask, key: SigningKey, ours: SigningKey, caplog: pytest.LogCaptureFixture
) -> None:
    encryption = Encryption(ours)
    assert accepts(saml_app, key, encryption, assertion_id="_one", response_id="_other")
    same = {"assertion_id": "_one", "response_id": "_one", "between_signing": encryption.assertion}
    assert_refused(post(saml_app, key, **same), caplog, "duplicate_id")


def test_nested_encrypted_assertion_is_refused(
    saml_app: Flask, key: SigningKey, ours: SigningKey, caplog: pytest.LogCaptureFixture
) -> None:
    inner = Encryption(ours)

    def wrapped(plain: bytes) -> bytes:
        return etree.tostring(inner.of(plain, "EncryptedAssertion"))

    assert accepts(saml_app, key, inner)
    assert_refused(post(saml_app, key, **hooks(inner.but(change_plain=wrapped), ASSERTION)), caplog, "structure")


def test_identifier_decrypting_to_something_else_is_refused(
    saml_app: Flask, key: SigningKey, ours: SigningKey, caplog: pytest.LogCaptureFixture
) -> None:
    encryption = Encryption(ours)
    assert accepts(saml_app, key, encryption, NAME_ID)
    for plain in (b"<NameID/>", b"ann", re.sub(b"x", b"<x/>", b"<a>x</a>"), f'<NameID xmlns="{SAML}" x="1"/>'.encode()):
        other = encryption.but(change_plain=lambda _, plain=plain: plain)
        assert_refused(post(saml_app, key, **hooks(other, NAME_ID)), caplog, "decryption")


def test_encryption_defaults_are_modern(ours: SigningKey) -> None:
    assert (Encryption(ours).algorithm, Encryption(ours).transport) == (GCM, OAEP)
    with pytest.raises(LookupError, match="EncryptedID"):
        Encryption(ours).name_id(etree.Element("empty"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda _: b"<secret-of-ann/>", "structure"),
        (lambda plain: plain.replace(b'URI="#', b'URI="secret-of-ann'), "signature_form"),
        (lambda plain: plain.replace(b"xmlenc#sha256", b"secret-of-ann"), "algorithm"),
        (
            lambda plain: plain.replace(b"<saml:Subject>", b'<saml:Subject ID="secret-of-ann" Id="secret-of-ann">'),
            "duplicate_id",
        ),
        (
            lambda plain: plain.replace(b"<saml:Subject>", b"<saml:Subject><x:NameID xmlns:x='secret-of-ann'/>"),
            "structure",
        ),
        (lambda plain: plain.replace(b"</saml:Subject>", b"</saml:Subject><!-- secret-of-ann -->"), "decryption"),
    ],
)
def test_unverified_decrypted_text_is_not_logged(
    saml_app: Flask,
    key: SigningKey,
    ours: SigningKey,
    caplog: pytest.LogCaptureFixture,
    change: Callable[[bytes], bytes],
    reason: str,
) -> None:
    assert accepts(saml_app, key, Encryption(ours))
    assert_refused(post(saml_app, key, **hooks(Encryption(ours, change_plain=change), ASSERTION)), caplog, reason)
    assert "secret" not in caplog.text


def test_id_around_encrypted_assertion_is_unique(
    saml_app: Flask, key: SigningKey, ours: SigningKey, caplog: pytest.LogCaptureFixture
) -> None:
    def extended(identifier: str) -> Hook:
        def extend(response: etree._Element) -> None:
            status = response.find(f"{{{SAMLP}}}Status")
            assert status is not None
            extensions = etree.Element(f"{{{SAMLP}}}Extensions")
            etree.SubElement(extensions, "{urn:x}a", ID=identifier)
            status.addprevious(extensions)

        return extend

    inside = "_the-assertion"
    genuine = {"assertion_id": inside, **hooks(Encryption(ours), ASSERTION)}
    assert post(saml_app, key, **genuine, after_signing=extended("_another")).status_code == 303
    assert_refused(post(saml_app, key, **genuine, after_signing=extended(inside)), caplog, "duplicate_id")
