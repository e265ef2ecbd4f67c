"""The encrypted response of the SAML benchmark, and the two operations that no implementation can do without."""

from __future__ import annotations

import base64
import copy

import xmlsec
from lxml import etree
from xmlsec import constants

from flask_genesys_auth.saml.documents import SAML
from flask_genesys_auth.testing.saml_messages import SigningKey, generate_signing_key

from .saml_fixtures import USER, Contender, Desk, stateless

_XENC = "http://www.w3.org/2001/04/xmlenc#"

PRIVATE = "one RSA private operation and one AES"
ENCRYPTED = "ours, encrypted"


def encrypted(response: etree._Element, key: SigningKey) -> str:
    """Return a signed response with its assertion encrypted for this key: AES-256-GCM, RSA-OAEP.

    :param key: the receiver's; only its certificate is used.
    """
    root = copy.deepcopy(response)
    assertion = root.find(f"{{{SAML}}}Assertion")
    assert assertion is not None
    shell = etree.Element(f"{{{SAML}}}EncryptedAssertion", nsmap={"saml": SAML})
    root.replace(assertion, shell)
    shell.append(assertion)
    template = xmlsec.template.encrypted_data_create(
        root, constants.TransformAes256Gcm, type=constants.TypeEncElement, ns="xenc"
    )
    xmlsec.template.encrypted_data_ensure_cipher_value(template)
    information = xmlsec.template.encrypted_data_ensure_key_info(template, ns="ds")
    wrapped = xmlsec.template.add_encrypted_key(information, constants.TransformRsaOaep)
    xmlsec.template.encrypted_data_ensure_cipher_value(wrapped)
    manager = xmlsec.KeysManager()
    manager.add_key(xmlsec.Key.from_memory(key.certificate_pem.encode(), constants.KeyDataFormatCertPem, None))
    context = xmlsec.EncryptionContext(manager)
    context.key = xmlsec.Key.generate(constants.KeyDataAes, 256, constants.KeyDataTypeSession)
    context.encrypt_xml(template, assertion)
    return base64.b64encode(etree.tostring(root)).decode()


def unavoidable(encoded: str, key: SigningKey) -> Contender:
    """Return the private operation on the encrypted key and the decryption of the content with it, nothing else."""
    from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA1
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    private = load_pem_private_key(key.private_pem.encode(), None)
    assert isinstance(private, RSAPrivateKey)
    root = etree.fromstring(base64.b64decode(encoded))
    # The key's value comes first: KeyInfo precedes CipherData (xmlenc 3.1).
    wrapped, content = (base64.b64decode(value.text or "") for value in root.iter(f"{{{_XENC}}}CipherValue"))
    padding = OAEP(MGF1(SHA1()), SHA1(), None)  # noqa: S303 - rsa-oaep-mgf1p is defined with it

    def call() -> str:
        opened = AESGCM(private.decrypt(wrapped, padding)).decrypt(content[:12], content[12:], None)
        return USER if USER.encode() in opened else ""

    return Contender(PRIVATE, call)


def of_encrypted(desk: Desk) -> tuple[Contender, Contender]:
    """Return our cost of an encrypted response, and its unavoidable part."""
    own = generate_signing_key("the receiver")
    service = desk.service(own=own)
    message = encrypted(desk.message(service).signed(desk.key), own)
    return stateless(ENCRYPTED, service, message), unavoidable(message, own)
