"""XML signatures in the one form that SAML allows (saml-core 5.4), checked before anything is computed.

The signed bytes are computed twice: by libxmlsec, which verifies the signature, and here, where their digest must equal
the signed one. The bytes are then parsed again, and only the result is used (CVE-2025-54369, CVE-2025-54419).
"""

from __future__ import annotations

import copy
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

import xmlsec
from lxml import etree
from xmlsec import constants

from .documents import DS, EXCLUSIVE_C14N, SAML, MalformedXml, from_base64, local_name, reparse, text_of
from .errors import Fault, SamlError
from .keys import public_key_info

ENVELOPED = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"

# libxmlsec's transforms, by algorithm URI.
SIGNATURE_ALGORITHMS = MappingProxyType(
    {
        transform.href: transform
        for transform in (
            constants.TransformRsaSha256,
            constants.TransformRsaSha384,
            constants.TransformRsaSha512,
            constants.TransformEcdsaSha256,
            constants.TransformEcdsaSha384,
            constants.TransformEcdsaSha512,
        )
    }
)
WEAK_SIGNATURE_ALGORITHMS = MappingProxyType({constants.TransformRsaSha1.href: constants.TransformRsaSha1})
_READ_ALGORITHMS = frozenset({*SIGNATURE_ALGORITHMS, *WEAK_SIGNATURE_ALGORITHMS})
_DIGESTS: Mapping[str, str] = MappingProxyType(
    {
        constants.TransformSha256.href: "sha256",
        constants.TransformSha384.href: "sha384",
        constants.TransformSha512.href: "sha512",
        constants.TransformSha1.href: "sha1",
    }
)

# Canonicalization looks up each prefix at each element, before any signature is checked.
_MOST_PREFIXES = 16
# Content of KeyInfo is allowed and ignored: keys come from the metadata only, and nothing is fetched.
_DSIG11 = "http://www.w3.org/2009/xmldsig11#"
KEY_INFO = frozenset(
    {
        *(f"{{{DS}}}{name}" for name in ("KeyInfo", "KeyName", "KeyValue", "RSAKeyValue", "Modulus", "Exponent")),
        *(f"{{{DS}}}X509{name}" for name in ("Data", "Certificate", "CRL", "SubjectName", "SKI")),
        *(f"{{{DS}}}X509{name}" for name in ("IssuerSerial", "IssuerName", "SerialNumber")),
        *(f"{{{_DSIG11}}}{name}" for name in ("ECKeyValue", "NamedCurve", "PublicKey", "X509Digest")),
    }
)

_REFERENCE_TRANSFORMS = (
    constants.TransformEnveloped,
    constants.TransformExclC14N,
    constants.TransformSha256,
    constants.TransformSha384,
    constants.TransformSha512,
)
_SIGNATURE_TRANSFORMS = (constants.TransformExclC14N, *SIGNATURE_ALGORITHMS.values())
_WEAK_TRANSFORMS = (constants.TransformSha1, constants.TransformRsaSha1)


@dataclass(frozen=True, slots=True)
class SignatureForm:
    """A signature of the allowed form.

    :param element: ``ds:Signature``.
    :param signed: its parent, the signed element.
    :param digest: hashlib's name of the digest algorithm.
    :param digest_value: the digest in the signature.
    :param prefixes: PrefixList of InclusiveNamespaces.
    :param weak: whether it uses SHA-1.
    """

    element: etree._Element
    signed: etree._Element
    digest: str
    digest_value: bytes
    prefixes: tuple[str, ...]
    weak: bool = False


def read_form(signature: etree._Element, signed: etree._Element) -> SignatureForm:
    """Check the form of one signature.

    :raises SamlError: unless it has one reference to its parent, is enveloped and exclusively canonicalized, and uses
        the algorithms of the lists above. SHA-1 is only marked: the caller refuses it unless ``allow_sha1`` is set.
    """
    _attributes(signature, {"Id"})
    children = _children(signature, ("SignedInfo", "SignatureValue"), ("KeyInfo",))
    _attributes(children[1], {"Id"})
    if not _binary(children[1]):
        raise SamlError(Fault.SIGNATURE_FORM, "SignatureValue is empty")
    for element in children[2].iter() if len(children) > 2 else ():
        if element.tag not in KEY_INFO:
            raise SamlError(Fault.SIGNATURE_FORM, f"{local_name(element)} in KeyInfo")
    signed_info = children[0]
    _attributes(signed_info, {"Id"})
    canonicalization, method, reference = _children(
        signed_info, ("CanonicalizationMethod", "SignatureMethod", "Reference")
    )
    _algorithm(canonicalization, {EXCLUSIVE_C14N})
    _prefixes(canonicalization)
    _algorithm(method, _READ_ALGORITHMS)
    _children(method, ())
    return _read_reference(reference, signature, signed, method.get("Algorithm") in WEAK_SIGNATURE_ALGORITHMS)


def _read_reference(
    reference: etree._Element, signature: etree._Element, signed: etree._Element, weak: bool
) -> SignatureForm:
    _attributes(reference, {"URI"})
    if reference.get("URI") != f"#{signed.get('ID')}":
        raise SamlError(Fault.SIGNATURE_FORM, f"a reference to {reference.get('URI', '')!r}, not to its parent")
    transforms, method, value = _children(reference, ("Transforms", "DigestMethod", "DigestValue"))
    _attributes(transforms, set())
    enveloped, canonicalization = _children(transforms, ("Transform", "Transform"))
    _algorithm(enveloped, {ENVELOPED})
    _children(enveloped, ())
    _algorithm(canonicalization, {EXCLUSIVE_C14N})
    _algorithm(method, _DIGESTS)
    _children(method, ())
    _attributes(value, set())
    digest = _DIGESTS[method.get("Algorithm", "")]
    digest_value = _binary(value)
    if len(digest_value) != hashlib.new(digest).digest_size:
        raise SamlError(Fault.SIGNATURE_FORM, f"DigestValue is not a {digest} digest")
    return SignatureForm(signature, signed, digest, digest_value, _prefixes(canonicalization), weak or digest == "sha1")


def _children(
    element: etree._Element, names: tuple[str, ...], optional: tuple[str, ...] = ()
) -> tuple[etree._Element, ...]:
    """Return the children, and check that they are exactly these ``ds`` elements in this order."""
    found = tuple(child.tag for child in element)
    if found != _qualified(names) and found != _qualified(names + optional):
        listed = ", ".join(local_name(child) for child in element)
        raise SamlError(Fault.SIGNATURE_FORM, f"{local_name(element)} holds [{listed}], not [{', '.join(names)}]")
    return tuple(element)


@cache
def _qualified(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{{{DS}}}{name}" for name in names)


def _attributes(element: etree._Element, allowed: set[str]) -> None:
    for name in element.attrib:
        if name not in allowed:
            raise SamlError(Fault.SIGNATURE_FORM, f"attribute {name!s} on {local_name(element)}")


def _algorithm(element: etree._Element, allowed: set[str] | frozenset[str] | Mapping[str, str]) -> None:
    _attributes(element, {"Algorithm"})
    found = element.get("Algorithm", "")
    if found not in allowed:
        raise SamlError(Fault.ALGORITHM, f"{local_name(element)} {found!r} is not allowed")


def _prefixes(element: etree._Element) -> tuple[str, ...]:
    """Return the PrefixList of an exclusive canonicalization (xml-exc-c14n 3)."""
    if len(element) == 0:
        return ()
    inclusive = element[0]
    if len(element) > 1 or inclusive.tag != f"{{{EXCLUSIVE_C14N}}}InclusiveNamespaces" or len(inclusive):
        raise SamlError(Fault.SIGNATURE_FORM, f"{local_name(inclusive)} in {local_name(element)}")
    _attributes(inclusive, {"PrefixList"})
    prefixes = tuple(inclusive.get("PrefixList", "").split())
    if len(prefixes) > _MOST_PREFIXES:
        raise SamlError(Fault.SIGNATURE_FORM, f"{len(prefixes)} prefixes in PrefixList, more than {_MOST_PREFIXES}")
    return prefixes


def _binary(element: etree._Element) -> bytes:
    text = text_of(element)
    try:
        return from_base64(text)
    except ValueError as error:
        raise SamlError(Fault.SIGNATURE_FORM, f"{local_name(element)} is {error}") from error


def load_key(certificate: bytes) -> xmlsec.Key:
    """Return the public key of a certificate.

    Dates and issuer are not checked: the metadata, not the certificate, prove that the key is the provider's.

    :param certificate: X.509 in DER.
    :raises ValueError: if it cannot be read.
    """
    try:
        whole = xmlsec.Key.from_memory(certificate, constants.KeyDataFormatCertDer, None)
    except (xmlsec.Error, TypeError) as error:
        raise ValueError("not an X.509 certificate") from error
    try:
        # Without the certificate: libxmlsec would copy it with the key at each use, which is slow.
        return xmlsec.Key.from_memory(public_key_info(certificate), constants.KeyDataFormatDer, None)
    except (xmlsec.Error, ValueError):
        return whole


def check_place(signature: etree._Element) -> None:
    """Check that a signature directly follows the Issuer, the first child (saml-core 3.2.1).

    :raises SamlError: if not.
    """
    issuer = signature.getprevious()
    if issuer is None or issuer.tag != f"{{{SAML}}}Issuer" or issuer.getprevious() is not None:
        raise SamlError(Fault.SIGNATURE_FORM, "a Signature that does not follow the Issuer")


def check_signature(form: SignatureForm, keys: tuple[xmlsec.Key, ...]) -> None:
    """Verify one signature with the given keys only.

    :raises SamlError: unless one of them verifies it.
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
        # With a key set, libxmlsec ignores KeyInfo.
        context.key = key
        context.register_id(form.signed, "ID")
        try:
            context.verify(form.element)
        except xmlsec.Error:
            continue
        return
    raise SamlError(Fault.BAD_SIGNATURE, f"none of the provider's {len(keys)} configured keys verifies this signature")


def covered(form: SignatureForm) -> etree._Element:
    """Return the signed element, parsed again from the signed bytes.

    :raises SamlError: if the digest of the bytes is not the signed one.
    """
    data = _canonical(form)
    if not hmac.compare_digest(hashlib.new(form.digest, data).digest(), form.digest_value):
        raise SamlError(Fault.BAD_SIGNATURE, "the digest of the signed element does not match")
    try:
        return reparse(data)
    except MalformedXml as error:
        raise SamlError(Fault.BAD_SIGNATURE, f"the signed bytes are {error}") from error


def _canonical(form: SignatureForm) -> bytes:
    """Apply the two transforms: remove the signature, then exclusive canonicalization (xml-exc-c14n)."""
    parent = form.signed.getparent()
    root = copy.deepcopy(form.signed if parent is None else parent)
    element = root if parent is None else root[parent.index(form.signed)]
    for signature in element.findall(f"{{{DS}}}Signature"):
        # lxml also removes the text after an element; that text is signed.
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
