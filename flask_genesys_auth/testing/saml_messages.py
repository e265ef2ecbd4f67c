"""SAML messages for tests, genuine or wrong: keys, responses, logout messages, encryption and metadata.

Fields that are ``None`` are left out. Hooks change the XML before or after it is signed.
"""

from __future__ import annotations

import base64
import os
import secrets
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal
from urllib.parse import quote

import xmlsec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from lxml import etree
from xmlsec import constants

from ..saml.documents import DS, EXCLUSIVE_C14N, MD, SAML, SAMLP, XENC, as_instant
from ..saml.encryption import CONTENT, ELEMENT, RSA_15, XENC11
from ..saml.keys import generate_pair
from ..saml.signatures import ENVELOPED

EMAIL = "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress"
PERSISTENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"
BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
SUCCESS = "urn:oasis:names:tc:SAML:2.0:status:Success"

_PASSWORD = "urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport"  # noqa: S105 - not a password
_PREFIXES = {"saml": SAML, "samlp": SAMLP, "xs": "http://www.w3.org/2001/XMLSchema"}

Hook = Callable[[etree._Element], None]

GCM = f"{XENC11}aes256-gcm"
CBC = f"{XENC}aes256-cbc"
OAEP = f"{XENC}rsa-oaep-mgf1p"
OAEP_11 = f"{XENC11}rsa-oaep"
SHA256 = f"{XENC}sha256"
MGF1_SHA256 = f"{XENC11}mgf1sha256"

_HASHES: dict[str, hashes.HashAlgorithm] = {
    f"{DS}sha1": hashes.SHA1(),  # noqa: S303 - the default of OAEP (xmlenc-core1 5.5.2)
    SHA256: hashes.SHA256(),
    f"{XENC}sha512": hashes.SHA512(),
    f"{XENC11}mgf1sha1": hashes.SHA1(),  # noqa: S303 - likewise
    MGF1_SHA256: hashes.SHA256(),
}


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key and its certificate, both in PEM."""

    private_pem: str = field(repr=False)
    certificate_pem: str

    @property
    def certificate(self) -> str:
        """The certificate as in XML: DER in base64, on one line."""
        return "".join(line for line in self.certificate_pem.splitlines() if not line.startswith("-"))

    def load(self) -> xmlsec.Key:
        """Return the key for libxmlsec."""
        return xmlsec.Key.from_memory(self.private_pem.encode(), constants.KeyDataFormatPem, None)


def generate_signing_key(name: str = "development") -> SigningKey:
    """Generate an RSA key of 2048 bits and a certificate that is valid for a year.

    :param name: the certificate's common name.
    """
    private, certificate = generate_pair(name, days=365, bits=2048)
    return SigningKey(private.decode(), certificate.decode())


def new_id() -> str:
    """Return a random ID (saml-core 1.3.4)."""
    return f"_{secrets.token_hex(20)}"


def _nothing(_: etree._Element) -> None:
    return


@dataclass(frozen=True, slots=True)
class Message:
    """A Response with one assertion; the defaults make a genuine one.

    :param acs_url: default of ``destination`` and ``recipient``.
    :param issuer: default of ``response_issuer`` and ``assertion_issuer``.
    :param request_id: default of ``in_response_to`` (of the Response) and ``confirmed_request`` (of the assertion).
    :param now: unix time; the relative times count from it, in seconds.
    :param audiences: one inner tuple for each AudienceRestriction.
    :param before_signing: called with the Response before anything is signed.
    :param between_signing: called after the assertion is signed.
    :param after_signing: called after everything is signed.
    """

    issuer: str
    acs_url: str
    audience: str
    request_id: str | None
    name_id: str | None = "ann@acme.example"
    name_id_format: str | None = EMAIL
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    now: float = field(default_factory=time.time)
    destination: str | None = ""
    recipient: str | None = ""
    in_response_to: str | None = ""
    confirmed_request: str | None = ""
    response_issuer: str | None = ""
    assertion_issuer: str | None = ""
    audiences: tuple[tuple[str, ...], ...] | None = None
    status: str = SUCCESS
    method: str = BEARER
    confirmation_not_before: float | None = None
    confirmation_not_on_or_after: float | None = 300
    conditions_not_before: float | None = -5
    conditions_not_on_or_after: float | None = 300
    session_index: str | None = "session-1"
    session_not_on_or_after: float | None = 28800
    response_id: str = field(default_factory=new_id)
    assertion_id: str = field(default_factory=new_id)
    sign_assertion: bool = True
    sign_response: bool = False
    signature_algorithm: str = "RsaSha256"
    digest_algorithm: str = "Sha256"
    before_signing: Hook = _nothing
    between_signing: Hook = _nothing
    after_signing: Hook = _nothing

    def but(self, **changes: object) -> Message:
        """Return this message with other fields."""
        return replace(self, **changes)  # type: ignore[arg-type]  # the dataclass itself refuses unknown names

    def tree(self) -> etree._Element:
        """Return the message, not signed."""
        response = etree.Element(f"{{{SAMLP}}}Response", nsmap=_PREFIXES)
        response.set("ID", self.response_id)
        response.set("Version", "2.0")
        response.set("IssueInstant", as_instant(self.now))
        _set(response, "Destination", _default(self.destination, self.acs_url))
        _set(response, "InResponseTo", _default(self.in_response_to, self.request_id))
        _add(response, SAML, "Issuer", _default(self.response_issuer, self.issuer))
        etree.SubElement(etree.SubElement(response, f"{{{SAMLP}}}Status"), f"{{{SAMLP}}}StatusCode", Value=self.status)
        self._add_assertion(response)
        return response

    def signed(self, key: SigningKey) -> etree._Element:
        """Return the message, signed as its fields say."""
        response = self.tree()
        self.before_signing(response)
        assertion = response.find(f"{{{SAML}}}Assertion")
        if self.sign_assertion and assertion is not None:
            sign(assertion, key, self.signature_algorithm, self.digest_algorithm)
        self.between_signing(response)
        if self.sign_response:
            sign(response, key, self.signature_algorithm, self.digest_algorithm)
        self.after_signing(response)
        return response

    def encoded(self, key: SigningKey) -> str:
        """Return the message as the form field ``SAMLResponse`` carries it."""
        return encode(self.signed(key))

    def _add_assertion(self, response: etree._Element) -> None:
        assertion = etree.SubElement(response, f"{{{SAML}}}Assertion", ID=self.assertion_id, Version="2.0")
        assertion.set("IssueInstant", as_instant(self.now))
        _add(assertion, SAML, "Issuer", _default(self.assertion_issuer, self.issuer))
        subject = etree.SubElement(assertion, f"{{{SAML}}}Subject")
        name_id = _add(subject, SAML, "NameID", self.name_id)
        if name_id is not None:
            _set(name_id, "Format", self.name_id_format)
        confirmation = etree.SubElement(subject, f"{{{SAML}}}SubjectConfirmation", Method=self.method)
        data = etree.SubElement(confirmation, f"{{{SAML}}}SubjectConfirmationData")
        _set(data, "Recipient", _default(self.recipient, self.acs_url))
        _set(data, "InResponseTo", _default(self.confirmed_request, self.request_id))
        self._set_time(data, "NotBefore", self.confirmation_not_before)
        self._set_time(data, "NotOnOrAfter", self.confirmation_not_on_or_after)
        conditions = etree.SubElement(assertion, f"{{{SAML}}}Conditions")
        self._set_time(conditions, "NotBefore", self.conditions_not_before)
        self._set_time(conditions, "NotOnOrAfter", self.conditions_not_on_or_after)
        for audiences in ((self.audience,),) if self.audiences is None else self.audiences:
            restriction = etree.SubElement(conditions, f"{{{SAML}}}AudienceRestriction")
            for audience in audiences:
                _add(restriction, SAML, "Audience", audience)
        self._add_statements(assertion)

    def _add_statements(self, assertion: etree._Element) -> None:
        statement = etree.SubElement(assertion, f"{{{SAML}}}AuthnStatement", AuthnInstant=as_instant(self.now))
        _set(statement, "SessionIndex", self.session_index)
        self._set_time(statement, "SessionNotOnOrAfter", self.session_not_on_or_after)
        context = etree.SubElement(statement, f"{{{SAML}}}AuthnContext")
        _add(context, SAML, "AuthnContextClassRef", _PASSWORD)
        if not self.attributes:
            return
        attributes = etree.SubElement(assertion, f"{{{SAML}}}AttributeStatement")
        for name, values in self.attributes.items():
            attribute = etree.SubElement(attributes, f"{{{SAML}}}Attribute", Name=name)
            for value in values:
                _add(attribute, SAML, "AttributeValue", value)

    def _set_time(self, element: etree._Element, name: str, offset: float | None) -> None:
        _set(element, name, None if offset is None else as_instant(self.now + offset))


def _quote(value: str) -> str:
    return quote(value, safe="")


@dataclass(frozen=True, slots=True)
class LogoutMessage:
    """A LogoutRequest or a LogoutResponse (saml-core 3.7); the defaults make a genuine one.

    :param parameter: name of the form field or query parameter; default: that of the kind.
    :param now: unix time; the relative times count from it, in seconds.
    :param in_response_to: of a response.
    :param statuses: of a response, the outer one first.
    :param before_signing: called with the message before it is signed.
    :param after_signing: called after it is signed (POST only).
    """

    issuer: str
    destination: str | None
    kind: Literal["LogoutRequest", "LogoutResponse"] = "LogoutRequest"
    name_id: str | None = "ann@acme.example"
    name_id_format: str | None = EMAIL
    name_qualifier: str | None = None
    sp_name_qualifier: str | None = None
    session_indexes: tuple[str, ...] = ("session-1",)
    in_response_to: str | None = None
    statuses: tuple[str, ...] = (SUCCESS,)
    now: float = field(default_factory=time.time)
    issued: float = 0
    not_on_or_after: float | None = 300
    version: str = "2.0"
    message_id: str = field(default_factory=new_id)
    relay_state: str | None = None
    parameter: str = ""
    signed: bool = True
    signature_algorithm: str = "RsaSha256"
    before_signing: Hook = _nothing
    after_signing: Hook = _nothing

    def but(self, **changes: object) -> LogoutMessage:
        """Return this message with other fields."""
        return replace(self, **changes)  # type: ignore[arg-type]  # the dataclass itself refuses unknown names

    def tree(self) -> etree._Element:
        """Return the message, not signed."""
        root = etree.Element(f"{{{SAMLP}}}{self.kind}", nsmap=_PREFIXES)
        optional = {"Destination": self.destination, "InResponseTo": self.in_response_to}
        if self.kind == "LogoutRequest" and self.not_on_or_after is not None:
            optional["NotOnOrAfter"] = as_instant(self.now + self.not_on_or_after)
        root.set("ID", self.message_id)
        root.set("Version", self.version)
        root.set("IssueInstant", as_instant(self.now + self.issued))
        for name, value in optional.items():
            if value is not None:
                root.set(name, value)
        etree.SubElement(root, f"{{{SAML}}}Issuer").text = self.issuer
        if self.kind == "LogoutRequest":
            self._add_subject(root)
        else:
            inside = etree.SubElement(root, f"{{{SAMLP}}}Status")
            for status in self.statuses:
                inside = etree.SubElement(inside, f"{{{SAMLP}}}StatusCode", Value=status)
        self.before_signing(root)
        return root

    def form(self, key: SigningKey) -> dict[str, str]:
        """Return the fields of the POST binding (saml-bindings 3.5), the message signed by an enveloped signature."""
        root = self.tree()
        if self.signed:
            sign(root, key, self.signature_algorithm)
        self.after_signing(root)
        fields = {self._parameter: encode(root)}
        if self.relay_state is not None:
            fields["RelayState"] = self.relay_state
        return fields

    def query(self, key: SigningKey, *, escaped: Callable[[str], str] = _quote, algorithm: str = "") -> str:
        """Return the query of the Redirect binding (saml-bindings 3.4), signed over its octets.

        :param escaped: percent-encodes a value; ADFS uses lower case.
        :param algorithm: value of SigAlg, if not the algorithm in use.
        """
        compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        deflated = compressor.compress(etree.tostring(self.tree())) + compressor.flush()
        transform = getattr(constants, f"Transform{self.signature_algorithm}")
        parameters = {self._parameter: base64.b64encode(deflated).decode()}
        if self.relay_state is not None:
            parameters["RelayState"] = self.relay_state
        if self.signed:
            parameters["SigAlg"] = algorithm or transform.href
        query = "&".join(f"{name}={escaped(value)}" for name, value in parameters.items())
        if not self.signed:
            return query
        context = xmlsec.SignatureContext()
        context.key = key.load()
        signature = base64.b64encode(context.sign_binary(query.encode(), transform)).decode()
        return f"{query}&Signature={escaped(signature)}"

    @property
    def _parameter(self) -> str:
        return self.parameter or ("SAMLRequest" if self.kind == "LogoutRequest" else "SAMLResponse")

    def _add_subject(self, root: etree._Element) -> None:
        if self.name_id is not None:
            name_id = etree.SubElement(root, f"{{{SAML}}}NameID")
            name_id.text = self.name_id
            qualifiers = {"NameQualifier": self.name_qualifier, "SPNameQualifier": self.sp_name_qualifier}
            for name, value in {**qualifiers, "Format": self.name_id_format}.items():
                if value is not None:
                    name_id.set(name, value)
        for index in self.session_indexes:
            etree.SubElement(root, f"{{{SAMLP}}}SessionIndex").text = index


def _as_it_is(data: bytes) -> bytes:
    return data


@dataclass(frozen=True, slots=True)
class Encryption:
    """Encrypts parts of a message, genuinely or wrongly (saml-core 6, xmlenc-core1).

    Used as a hook::

        message.but(between_signing=Encryption(ours).assertion)
        message.but(before_signing=Encryption(ours).name_id)

    It uses another library than the decryption under test. The defaults are those of a modern provider.

    :param key: encrypted for its certificate.
    :param algorithm: URI of the content encryption.
    :param transport: URI of the encryption of the session key.
    :param digest: URI of the digest of OAEP; empty: left out, which means SHA-1.
    :param mask: URI of the mask generation of OAEP; empty: left out, which means SHA-1.
    :param others: further recipients of the session key.
    :param recipient: the ``Recipient`` attribute.
    :param beside: put the session key after EncryptedData instead of inside.
    :param named: with ``beside``, refer to the key by a RetrievalMethod.
    :param change_plain: changes the bytes before they are encrypted; ``change_cipher`` the result.
    :param change_session: changes the session key before it is encrypted; ``change_key`` the result.
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
        """Replace the assertion of a Response with an EncryptedAssertion."""
        self._replace(response.find(f".//{{{SAML}}}Assertion"), "EncryptedAssertion")

    def name_id(self, response: etree._Element) -> None:
        """Replace the NameID of a Response or LogoutRequest with an EncryptedID."""
        self._replace(response.find(f".//{{{SAML}}}NameID"), "EncryptedID")

    def of(self, plain: bytes, holder: str) -> etree._Element:
        """Return an ``EncryptedAssertion`` or ``EncryptedID`` with these bytes."""
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
        """Return an EncryptedKey with the session key."""
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
            raise LookupError(f"the message has no part to replace with {holder}")
        element.tail = None
        parent.replace(element, self.of(etree.tostring(element), holder))

    def _encrypted(self, plain: bytes, session: bytes) -> bytes:
        if not self.algorithm.endswith("-cbc"):
            nonce = os.urandom(12)
            return nonce + AESGCM(session).encrypt(nonce, plain, None)
        missing = 16 - len(plain) % 16
        vector = os.urandom(16)
        # Padding of XML encryption: the last byte is its length, the others are random (xmlenc-core1 5.2).
        padded = plain + os.urandom(missing - 1) + bytes([missing])
        encryptor = Cipher(algorithms.AES(session), modes.CBC(vector)).encryptor()
        return vector + encryptor.update(padded) + encryptor.finalize()

    def _transported(self, session: bytes) -> bytes:
        public = x509.load_pem_x509_certificate(self.key.certificate_pem.encode()).public_key()
        if not isinstance(public, rsa.RSAPublicKey):
            raise TypeError("only RSA keys can encrypt a session key")
        if self.transport == RSA_15:
            return public.encrypt(session, padding.PKCS1v15())
        digest = _HASHES[self.digest or f"{DS}sha1"]
        # rsa-oaep-mgf1p always uses SHA-1 for the mask (xmlenc-core1 5.5.2).
        mask = _HASHES[self.mask or f"{DS}sha1"]
        return public.encrypt(session, padding.OAEP(padding.MGF1(mask), digest, None))


def _add_value(parent: etree._Element, value: bytes) -> None:
    data = etree.SubElement(parent, f"{{{XENC}}}CipherData")
    etree.SubElement(data, f"{{{XENC}}}CipherValue").text = base64.b64encode(value).decode()


def sign(
    element: etree._Element,
    key: SigningKey,
    signature_algorithm: str = "RsaSha256",
    digest_algorithm: str = "Sha256",
    *,
    uri: str | None = None,
    prefixes: str = "",
) -> etree._Element:
    """Put an enveloped signature behind the Issuer of a Response or an Assertion (saml-core 5.4); return it.

    :param signature_algorithm: libxmlsec's name, such as ``RsaSha512`` or ``EcdsaSha256``; digests likewise.
    :param uri: what the reference points to, unless to the element itself.
    :param prefixes: the PrefixList of the exclusive canonicalization (xml-exc-c14n 3).
    """
    signature = _template(
        uri=f"#{element.get('ID')}" if uri is None else uri,
        method=getattr(constants, f"Transform{signature_algorithm}").href,
        digest=getattr(constants, f"Transform{digest_algorithm}").href,
        prefixes=prefixes,
    )
    element.insert(1, signature)
    context = xmlsec.SignatureContext()
    context.key = key.load()
    context.register_id(element, "ID")
    context.sign(signature)
    add_key_info(signature, key)
    return signature


def _template(*, uri: str, method: str, digest: str, prefixes: str) -> etree._Element:
    # Built with lxml, which cannot search for names that libxmlsec has added to a tree.
    signature = etree.Element(f"{{{DS}}}Signature", nsmap={"ds": DS})
    signed_info = etree.SubElement(signature, f"{{{DS}}}SignedInfo")
    etree.SubElement(signed_info, f"{{{DS}}}CanonicalizationMethod", Algorithm=EXCLUSIVE_C14N)
    etree.SubElement(signed_info, f"{{{DS}}}SignatureMethod", Algorithm=method)
    reference = etree.SubElement(signed_info, f"{{{DS}}}Reference", URI=uri)
    transforms = etree.SubElement(reference, f"{{{DS}}}Transforms")
    etree.SubElement(transforms, f"{{{DS}}}Transform", Algorithm=ENVELOPED)
    canonicalization = etree.SubElement(transforms, f"{{{DS}}}Transform", Algorithm=EXCLUSIVE_C14N)
    if prefixes:
        name = f"{{{EXCLUSIVE_C14N}}}InclusiveNamespaces"
        etree.SubElement(canonicalization, name, nsmap={"ec": EXCLUSIVE_C14N}, PrefixList=prefixes)
    etree.SubElement(reference, f"{{{DS}}}DigestMethod", Algorithm=digest)
    etree.SubElement(reference, f"{{{DS}}}DigestValue")
    etree.SubElement(signature, f"{{{DS}}}SignatureValue")
    return signature


def add_key_info(signature: etree._Element, key: SigningKey) -> None:
    """Add the certificate to a signature."""
    information = etree.SubElement(signature, f"{{{DS}}}KeyInfo")
    data = etree.SubElement(information, f"{{{DS}}}X509Data")
    etree.SubElement(data, f"{{{DS}}}X509Certificate").text = key.certificate


def encode(root: etree._Element) -> str:
    """Encode a tree for the POST binding."""
    return base64.b64encode(etree.tostring(root)).decode()


def provider_metadata(
    entity_id: str,
    sso_url: str,
    certificates: tuple[str, ...],
    *,
    valid_until: float | None = None,
    slo_url: str = "",
    slo_bindings: tuple[str, ...] = ("HTTP-Redirect", "HTTP-POST"),
) -> str:
    """Return the metadata of an identity provider (saml-metadata 2.4.3).

    :param certificates: DER in base64.
    :param valid_until: unix time.
    :param slo_url: its single logout service, by the bindings of ``slo_bindings``; empty: none.
    """
    entity = etree.Element(f"{{{MD}}}EntityDescriptor", nsmap={"md": MD, "ds": DS})
    entity.set("entityID", entity_id)
    _set(entity, "validUntil", None if valid_until is None else as_instant(valid_until))
    role = etree.SubElement(entity, f"{{{MD}}}IDPSSODescriptor", protocolSupportEnumeration=SAMLP)
    for certificate in certificates:
        descriptor = etree.SubElement(role, f"{{{MD}}}KeyDescriptor", use="signing")
        data = etree.SubElement(etree.SubElement(descriptor, f"{{{DS}}}KeyInfo"), f"{{{DS}}}X509Data")
        etree.SubElement(data, f"{{{DS}}}X509Certificate").text = certificate
    for binding in slo_bindings if slo_url else ():
        service = etree.SubElement(role, f"{{{MD}}}SingleLogoutService")
        service.set("Binding", f"urn:oasis:names:tc:SAML:2.0:bindings:{binding}")
        service.set("Location", slo_url)
    _add(role, MD, "NameIDFormat", EMAIL)
    for binding in ("HTTP-Redirect", "HTTP-POST"):
        service = etree.SubElement(role, f"{{{MD}}}SingleSignOnService")
        service.set("Binding", f"urn:oasis:names:tc:SAML:2.0:bindings:{binding}")
        service.set("Location", sso_url)
    return etree.tostring(entity, encoding="unicode")


def _default(given: str | None, fallback: str | None) -> str | None:
    return fallback if given == "" else given


def _set(element: etree._Element, name: str, value: str | None) -> None:
    if value is not None:
        element.set(name, value)


def _add(parent: etree._Element, namespace: str, name: str, text: str | None) -> etree._Element | None:
    if text is None:
        return None
    element = etree.SubElement(parent, f"{{{namespace}}}{name}")
    element.text = text
    return element
