"""Encode and decode messages: the POST binding (saml-bindings 3.5) in a form, the Redirect binding (3.4) in a query.

A signature of the Redirect binding covers the octets of the query as they were sent.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias
from urllib.parse import quote, unquote_to_bytes

import xmlsec
from onelogin.saml2.constants import OneLogin_Saml2_Constants as Constants
from onelogin.saml2.utils import OneLogin_Saml2_Utils
from xmlsec import constants

from .documents import Limits, from_base64
from .errors import Fault, SamlError
from .signatures import SIGNATURE_ALGORITHMS, WEAK_SIGNATURE_ALGORITHMS

if TYPE_CHECKING:
    from ..config.settings import KeyPair
    from .service_provider import ServiceProvider

Kind: TypeAlias = Literal["SAMLRequest", "SAMLResponse"]

LARGEST_ENCODED = 256 * 1024
"""Characters of base64."""

LIMITS = Limits(size=1024 * 1024, depth=32, elements=5000, attributes=32, namespaces=24)

_DEFLATE = "urn:oasis:names:tc:SAML:2.0:bindings:URL-Encoding:DEFLATE"
_MESSAGES: tuple[Kind, ...] = ("SAMLRequest", "SAMLResponse")
_OURS = frozenset({*_MESSAGES, "RelayState", "SigAlg", "Signature", "SAMLEncoding"})
_LONGEST_RELAY_STATE = 1024
"""Characters that are returned to the provider. The binding allows 80 bytes (saml-bindings 3.4.3); many send more."""
_LONGEST_QUERY = 64 * 1024
_MOST_PARAMETERS = 32


def decode(encoded: str) -> bytes:
    """Decode a form field of the POST binding (saml-bindings 3.5.4).

    :param encoded: base64, line breaks allowed.
    :raises SamlError: if it is too large, or not in base64.
    """
    if len(encoded) > LARGEST_ENCODED:
        raise SamlError(Fault.TOO_LARGE, f"{len(encoded)} characters, more than {LARGEST_ENCODED}")
    try:
        return from_base64(encoded)
    except ValueError as error:
        raise SamlError(Fault.MALFORMED, f"the message is {error}") from error


def sign_message(xml: str, service: ServiceProvider) -> bytes:
    """Sign a message with an enveloped signature after its Issuer (saml-core 5.4).

    Without a signing key the message is returned unsigned.

    :param xml: from python3-saml; its root has an ID and an Issuer.
    """
    signing = service.keys.signing
    if signing is None:
        return xml.encode()
    signed: bytes = OneLogin_Saml2_Utils.add_sign(
        xml,
        signing.key.reveal(),
        signing.certificate,
        sign_algorithm=Constants.RSA_SHA256,
        digest_algorithm=Constants.SHA256,
    )
    return signed


def form_field(message: bytes) -> str:
    """Encode a message for a form field (saml-bindings 3.5.4)."""
    return base64.b64encode(message).decode("ascii")


@dataclass(frozen=True, slots=True)
class RedirectMessage:
    """A message of the Redirect binding, unverified until :meth:`verify`.

    :param kind: the name of its parameter.
    :param xml: inflated.
    :param algorithm: the value of ``SigAlg``.
    :param signed: the signed octets, as they were sent (saml-bindings 3.4.4.1).
    """

    kind: Kind
    xml: bytes
    relay_state: str
    algorithm: str
    signature: bytes
    signed: bytes

    def verify(self, keys: tuple[xmlsec.Key, ...], *, allow_sha1: bool = False) -> None:
        """Check the signature with the sender's keys.

        :raises SamlError: unless one of them verifies it, with an allowed algorithm.
        """
        transform = SIGNATURE_ALGORITHMS.get(self.algorithm)
        if transform is None and allow_sha1:
            transform = WEAK_SIGNATURE_ALGORITHMS.get(self.algorithm)
        if transform is None:
            raise SamlError(Fault.ALGORITHM, f"SigAlg {self.algorithm!r} is not allowed")
        for key in keys:
            context = xmlsec.SignatureContext()
            context.key = key
            try:
                context.verify_binary(self.signed, transform, self.signature)
            except (xmlsec.Error, TypeError):
                continue
            return
        raise SamlError(
            Fault.BAD_SIGNATURE, f"none of the provider's {len(keys)} configured keys verifies this query's signature"
        )


def read_query(raw_query: str) -> RedirectMessage:
    """Read a message from a raw query.

    Ambiguous queries are refused: repeated parameters, and percent-encoded names of SAML parameters. Otherwise a
    signature over one parameter could be used for another.

    :param raw_query: the octets after the ``?``, not decoded.
    :raises SamlError: if it is not a signed message in DEFLATE encoding, or too large.
    """
    if len(raw_query) > _LONGEST_QUERY:
        raise SamlError(Fault.TOO_LARGE, f"{len(raw_query)} characters, more than {_LONGEST_QUERY}")
    if raw_query.count("&") >= _MOST_PARAMETERS:
        raise SamlError(Fault.TOO_LARGE, f"the query has more than {_MOST_PARAMETERS} parameters")
    found = _parameters(raw_query)
    kinds = [kind for kind in _MESSAGES if kind in found]
    if len(kinds) != 1:
        raise SamlError(Fault.MALFORMED, "the query does not have exactly one of SAMLRequest and SAMLResponse")
    if "SigAlg" not in found or "Signature" not in found:
        raise SamlError(Fault.NOT_SIGNED, "the query is not signed: configure the provider to sign logout messages")
    if _text(found.get("SAMLEncoding", _DEFLATE), "SAMLEncoding") != _DEFLATE:
        raise SamlError(Fault.MALFORMED, "the query's SAMLEncoding is not DEFLATE")
    names = [kinds[0], "RelayState", "SigAlg"] if "RelayState" in found else [kinds[0], "SigAlg"]
    return RedirectMessage(
        kind=kinds[0],
        xml=_inflated(_base64(found[kinds[0]], kinds[0])),
        relay_state=check_relay_state(_text(found.get("RelayState", ""), "RelayState")),
        algorithm=_text(found["SigAlg"], "SigAlg"),
        signature=_base64(found["Signature"], "Signature"),
        signed="&".join(f"{name}={found[name]}" for name in names).encode("ascii"),
    )


def location(address: str, kind: Kind, xml: bytes, relay_state: str, signing: KeyPair) -> str:
    """Return the URL of a message of ours by the Redirect binding, signed with RSA and SHA-256.

    :param address: the provider's endpoint, perhaps with a query.
    :param relay_state: empty: none.
    """
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    deflated = compressor.compress(xml) + compressor.flush()
    parameters: dict[str, str] = {kind: base64.b64encode(deflated).decode("ascii")}
    if relay_state:
        parameters["RelayState"] = relay_state
    parameters["SigAlg"] = constants.TransformRsaSha256.href
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items())
    context = xmlsec.SignatureContext()
    context.key = xmlsec.Key.from_memory(signing.key.reveal().encode(), constants.KeyDataFormatPem, None)
    signature = context.sign_binary(query.encode("ascii"), constants.TransformRsaSha256)
    query += f"&Signature={quote(base64.b64encode(signature).decode('ascii'), safe='')}"
    return f"{address}{'&' if '?' in address else '?'}{query}"


def _parameters(raw_query: str) -> dict[str, str]:
    """Return the SAML parameters, not decoded; others are ignored."""
    if not raw_query.isascii():
        raise SamlError(Fault.MALFORMED, "the query is not in ASCII")
    found: dict[str, str] = {}
    for part in raw_query.split("&"):
        written, _, value = part.partition("=")
        name = unquote_to_bytes(written.replace("+", " ")).decode("utf-8", "replace").strip()
        if name not in _OURS:
            continue
        if name != written:
            raise SamlError(Fault.MALFORMED, f"the parameter {name} is written {written!r:.80}")
        if name in found:
            raise SamlError(Fault.MALFORMED, f"the parameter {name} occurs twice")
        found[name] = value
    return found


def check_relay_state(text: str) -> str:
    """Return a RelayState unless it is too long.

    :raises SamlError: if it is.
    """
    if len(text) > _LONGEST_RELAY_STATE:
        raise SamlError(Fault.TOO_LARGE, f"RelayState has {len(text)} characters, more than {_LONGEST_RELAY_STATE}")
    return text


def _text(value: str, name: str) -> str:
    try:
        return unquote_to_bytes(value.replace("+", " ")).decode("utf-8")
    except UnicodeDecodeError as error:
        raise SamlError(Fault.MALFORMED, f"{name} is not in UTF-8") from error


def _base64(value: str, name: str) -> bytes:
    # An unescaped "+" means a space in a form; in base64 it can only be a plus.
    decoded = unquote_to_bytes(value)
    try:
        return base64.b64decode(b"".join(decoded.split()), validate=True)
    except binascii.Error as error:
        raise SamlError(Fault.MALFORMED, f"{name} is not in base64") from error


def _inflated(data: bytes) -> bytes:
    """Undo DEFLATE (RFC 1951), bounded."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        xml = inflater.decompress(data, LIMITS.size + 1)
    except zlib.error as error:
        raise SamlError(Fault.MALFORMED, "the message is not deflated") from error
    if len(xml) > LIMITS.size:
        raise SamlError(Fault.TOO_LARGE, f"the message inflates to more than {LIMITS.size} bytes")
    if not inflater.eof or inflater.unused_data:
        raise SamlError(Fault.MALFORMED, "the deflated message is truncated, or data follow it")
    return xml
