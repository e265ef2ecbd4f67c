"""Encrypts what a :class:`Message` holds, for us or for somebody else, well or badly (saml-core 6, xmlenc-core1).

Written with another library than the one that decrypts, so that each shows what the other has wrong. Used as a hook::

    message.but(between_signing=Encryption(ours).assertion)
    message.but(before_signing=Encryption(ours).name_id)
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from lxml import etree

from ..saml.documents import DS, SAML, XENC
from ..saml.encryption import CONTENT, ELEMENT, RSA_15, XENC11
from .signing_keys import SigningKey

GCM = f"{XENC11}aes256-gcm"
CBC = f"{XENC}aes256-cbc"
OAEP = f"{XENC}rsa-oaep-mgf1p"
OAEP_11 = f"{XENC11}rsa-oaep"
SHA256 = f"{XENC}sha256"
MGF1_SHA256 = f"{XENC11}mgf1sha256"

_HASHES: dict[str, hashes.HashAlgorithm] = {
    f"{DS}sha1": hashes.SHA1(),  # noqa: S303 - what OAEP does unless it is told (xmlenc-core1 5.5.2)
    SHA256: hashes.SHA256(),
    f"{XENC}sha512": hashes.SHA512(),
    f"{XENC11}mgf1sha1": hashes.SHA1(),  # noqa: S303 - likewise
    MGF1_SHA256: hashes.SHA256(),
}


def _as_it_is(data: bytes) -> bytes:
    return data


@dataclass(frozen=True, slots=True)
class Encryption:
    """How something is encrypted; every default is what a modern provider does.

    :param key: whose certificate it is encrypted for.
    :param algorithm: of the content; ``transport`` of the session key. Both are URIs.
    :param digest: of OAEP, and ``mask`` its mask generation; empty: not said, which means SHA-1.
    :param others: more recipients, each of whom gets the session key too.
    :param recipient: says for whom the key is.
    :param beside: the session key stands behind EncryptedData instead of within.
    :param named: where it stands beside, a RetrievalMethod names it.
    :param change_plain: is given the bytes before they are encrypted; ``change_cipher`` those that come out;
        ``change_session`` the session key as it is transported; ``change_key`` what comes out of that.
    """

    key: SigningKey
    algorithm: str = GCM
    transport: str = OAEP
    digest: str = ""
    mask: str = ""
    others: tuple[Encryption, ...] = ()
    recipient: str = ""
    beside: bool = False
    named: bool = True
    change_plain: Callable[[bytes], bytes] = _as_it_is
    change_cipher: Callable[[bytes], bytes] = _as_it_is
    change_session: Callable[[bytes], bytes] = _as_it_is
    change_key: Callable[[bytes], bytes] = _as_it_is

    def but(self, **changes: object) -> Encryption:
        """Return the same with other fields."""
        return replace(self, **changes)  # type: ignore[arg-type]  # the dataclass itself refuses unknown names

    def assertion(self, response: etree._Element) -> None:
        """Put an EncryptedAssertion in the place of a Response's assertion."""
        self._replace(response.find(f".//{{{SAML}}}Assertion"), "EncryptedAssertion")

    def name_id(self, response: etree._Element) -> None:
        """Put an EncryptedID in the place of the subject's NameID; of a LogoutRequest's likewise."""
        self._replace(response.find(f".//{{{SAML}}}NameID"), "EncryptedID")

    def of(self, plain: bytes, holder: str) -> etree._Element:
        """Return ``EncryptedAssertion`` or ``EncryptedID`` with these bytes in it."""
        session = os.urandom(CONTENT.get(self.algorithm, 32))
        cipher = self.change_cipher(self._encrypted(self.change_plain(plain), session))
        keys = [each.key_element(session) for each in (self, *self.others)]
        root = etree.Element(f"{{{SAML}}}{holder}", nsmap={"saml": SAML})
        data = etree.SubElement(root, f"{{{XENC}}}EncryptedData", nsmap={"xenc": XENC}, Type=ELEMENT)
        etree.SubElement(data, f"{{{XENC}}}EncryptionMethod", Algorithm=self.algorithm)
        if not self.beside or self.named:
            information = etree.SubElement(data, f"{{{DS}}}KeyInfo", nsmap={"ds": DS})
            for place, key in enumerate(keys):
                if self.beside:
                    key.set("Id", f"_key-{place}")
                    kind = f"{XENC}EncryptedKey"
                    etree.SubElement(information, f"{{{DS}}}RetrievalMethod", Type=kind, URI=f"#_key-{place}")
                else:
                    information.append(key)
        _add_value(data, cipher)
        if self.beside:
            root.extend(keys)
        return root

    def key_element(self, session: bytes) -> etree._Element:
        """Return the session key, encrypted for our recipient."""
        element = etree.Element(f"{{{XENC}}}EncryptedKey", nsmap={"xenc": XENC})
        if self.recipient:
            element.set("Recipient", self.recipient)
        method = etree.SubElement(element, f"{{{XENC}}}EncryptionMethod", Algorithm=self.transport)
        if self.digest:
            etree.SubElement(method, f"{{{DS}}}DigestMethod", nsmap={"ds": DS}, Algorithm=self.digest)
        if self.mask:
            etree.SubElement(method, f"{{{XENC11}}}MGF", nsmap={"xenc11": XENC11}, Algorithm=self.mask)
        _add_value(element, self.change_key(self._transported(self.change_session(session))))
        return element

    def _replace(self, element: etree._Element | None, holder: str) -> None:
        parent = None if element is None else element.getparent()
        if element is None or parent is None:
            raise LookupError(f"nothing to put {holder} in the place of")
        element.tail = None
        parent.replace(element, self.of(etree.tostring(element), holder))

    def _encrypted(self, plain: bytes, session: bytes) -> bytes:
        if not self.algorithm.endswith("-cbc"):
            nonce = os.urandom(12)
            return nonce + AESGCM(session).encrypt(nonce, plain, None)
        missing = 16 - len(plain) % 16
        vector = os.urandom(16)
        # Padding of XML encryption: its last byte says how long it is, the others say nothing (xmlenc-core1 5.2).
        padded = plain + os.urandom(missing - 1) + bytes([missing])
        encryptor = Cipher(algorithms.AES(session), modes.CBC(vector)).encryptor()
        return vector + encryptor.update(padded) + encryptor.finalize()

    def _transported(self, session: bytes) -> bytes:
        public = x509.load_pem_x509_certificate(self.key.certificate_pem.encode()).public_key()
        if not isinstance(public, rsa.RSAPublicKey):
            raise TypeError("keys are transported with RSA only")
        if self.transport == RSA_15:
            return public.encrypt(session, padding.PKCS1v15())
        digest = _HASHES[self.digest or f"{DS}sha1"]
        # rsa-oaep-mgf1p has SHA-1 as its mask whatever the digest is (xmlenc-core1 5.5.2).
        mask = _HASHES[self.mask or f"{DS}sha1"]
        return public.encrypt(session, padding.OAEP(padding.MGF1(mask), digest, None))


def _add_value(parent: etree._Element, value: bytes) -> None:
    data = etree.SubElement(parent, f"{{{XENC}}}CipherData")
    etree.SubElement(data, f"{{{XENC}}}CipherValue").text = base64.b64encode(value).decode()
