"""The most expensive messages within the size cap that an attacker without a key can send."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from typing import Any

from lxml import etree

from flask_genesys_auth.saml import gate, verify
from flask_genesys_auth.saml.documents import EXCLUSIVE_C14N, SAML
from flask_genesys_auth.saml.errors import SamlError
from flask_genesys_auth.saml.service_provider import ServiceProvider
from flask_genesys_auth.saml.transport import LARGEST_ENCODED
from flask_genesys_auth.saml.trust import Trust

from .saml_fixtures import Desk

ROOM = LARGEST_ENCODED // 4 * 3
"""Bytes of XML under the cap."""

_XENC = "http://www.w3.org/2001/04/xmlenc#"


def worst_messages(desk: Desk, service: ServiceProvider, tries: int) -> Iterator[tuple[str, float, str]]:
    """Yield each message's name, its milliseconds of CPU (the best of several), and its result."""
    trust = service.providers["okta"].current()
    genuine = etree.tostring(desk.message(service).signed(desk.key)).decode()
    for name, text in candidates(genuine):
        encoded = base64.b64encode(text.encode()).decode()
        assert len(encoded) <= LARGEST_ENCODED, (name, len(encoded))
        took, outcome = min(_timed(trust, service.keys.decryption, encoded) for _ in range(tries))
        yield name, took * 1e3, outcome


def _timed(trust: Trust, keys: tuple[Any, ...], encoded: str) -> tuple[float, str]:
    began = time.process_time()
    try:
        verify.verify(gate.admit(encoded), trust, keys)
    except SamlError as error:
        return time.process_time() - began, str(error.reason)
    return time.process_time() - began, "accepted"


def candidates(genuine: str) -> Iterator[tuple[str, str]]:
    """Yield messages of the largest size, made from a genuine one; the assertion's content is canonicalized."""
    room = ROOM - len(genuine) - 600
    for place, put in (("Extensions", _extended), ("assertion", _valued)):
        for name, inside in _fillings(room):
            yield f"{name}, in {place}", put(genuine, inside)
    for prefixes, declared in ((16, 32), (16, 2000), (10000, 1000)):
        names = " ".join(f"p{number:x}" for number in range(prefixes))
        filled = _valued(genuine, f"<q {_declared(declared)}>{'<a/>' * 4800}</q>")
        transform = f'<ds:Transform Algorithm="{EXCLUSIVE_C14N}"'
        inclusive = f'<ec:InclusiveNamespaces xmlns:ec="{EXCLUSIVE_C14N}" PrefixList="{names}"/>'
        yield (
            f"{prefixes} prefixes to look up, {declared} namespaces, 4,800 elements",
            filled.replace(f"{transform}/>", f"{transform}>{inclusive}</ds:Transform>"),
        )
    yield "white space in SignatureValue", genuine.replace("</ds:SignatureValue>", f"{' ' * room}</ds:SignatureValue>")
    yield "white space in DigestValue", genuine.replace("</ds:DigestValue>", f"{' ' * room}</ds:DigestValue>")
    failed = genuine.replace("status:Success", "status:Responder")
    yield "long StatusMessage", failed.replace("</samlp:Status>", f"{_said('x' * room)}</samlp:Status>")
    yield "4,800 StatusMessages", failed.replace("</samlp:Status>", f"{'<samlp:StatusMessage/>' * 4800}</samlp:Status>")
    key = f"<xenc:EncryptedKey>{_method('rsa-oaep-mgf1p')}{_cipher(256)}</xenc:EncryptedKey>"
    yield "EncryptedKeys", _encrypted(genuine, key * ((ROOM - 3000) // len(key)), 64)
    yield "long EncryptedData", _encrypted(genuine, key, (ROOM - 3000) // 4 * 3)


def _fillings(room: int) -> Iterator[tuple[str, str]]:
    yield "4,800 elements", "<a/>" * 4800
    yield "4,800 elements, each with text", "x<a/>" * 4800
    yield "4,800 elements, each with an ID", "".join(f'<a ID="i{number}"/>' for number in range(4800))
    yield "4,800 elements, each with a namespace", '<a xmlns="u:a"/>' * 4800
    yield "elements 21 deep", ("<a>" * 20 + "</a>" * 20) * 240
    many = f"<a {_attributes('a', 32)}/>"
    yield "32 attributes on each element", many * (room // len(many))
    spaced = "<a " + " ".join(f"n{number:x}:{_attributes('a', 1)}" for number in range(31)) + "/>"
    yield (
        "31 attributes of other namespaces on each",
        f"<q {_declared(31)}>{spaced * ((room - 800) // len(spaced))}</q>",
    )
    yield "10,000 namespaces on one element", f"<a {_declared(9000)}/>"
    yield "2,000 namespaces, 4,000 elements", f"<a {_declared(2000)}>{'<n0:b/><n7cf:b/>' * 2000}</a>"
    long = "u" * (room // 2)
    yield "a long namespace, elements side by side", f'<q xmlns:n="{long}">{"<n:a/>" * 4800}</q>'
    yield "a namespace as long as may be, elements side by side", f'<q xmlns:n="{"u" * 256}">{"<n:a/>" * 4800}</q>'
    yield "long text", "x" * room
    yield "entities", "&lt;" * (room // 4)
    yield "CDATA sections", "x<![CDATA[y]]>" * (room // 14)
    yield "long attribute", f'<a a="{"&lt;" * (room // 4)}"/>'


def _declared(count: int) -> str:
    return " ".join(f'xmlns:n{number:x}="u:{number:x}"' for number in range(count))


def _attributes(prefix: str, count: int) -> str:
    return " ".join(f'{prefix}{number:x}=""' for number in range(count))


def _extended(genuine: str, inside: str) -> str:
    return genuine.replace("<samlp:Status>", f"<samlp:Extensions>{inside}</samlp:Extensions><samlp:Status>", 1)


def _valued(genuine: str, inside: str) -> str:
    return genuine.replace("<saml:AttributeValue>agents<", f"<saml:AttributeValue>{inside}<", 1)


def _said(text: str) -> str:
    return f"<samlp:StatusMessage>{text}</samlp:StatusMessage>"


def _method(name: str) -> str:
    return f'<xenc:EncryptionMethod Algorithm="{_XENC}{name}"/>'


def _cipher(size: int) -> str:
    value = base64.b64encode(bytes(size)).decode()
    return f"<xenc:CipherData><xenc:CipherValue>{value}</xenc:CipherValue></xenc:CipherData>"


def _encrypted(genuine: str, keys: str, size: int) -> str:
    head, _, _ = genuine.partition("<saml:Assertion ")
    info = f'<ds:KeyInfo xmlns:ds="http://www.w3.org/2000/09/xmldsig#">{keys}</ds:KeyInfo>'
    data = (
        f'<xenc:EncryptedData xmlns:xenc="{_XENC}" Type="{_XENC}Element"><xenc:EncryptionMethod '
        f'Algorithm="http://www.w3.org/2009/xmlenc11#aes256-gcm"/>{info}{_cipher(size)}</xenc:EncryptedData>'
    )
    shell = f'<saml:EncryptedAssertion xmlns:saml="{SAML}">{data}</saml:EncryptedAssertion>'
    return f"{head}{shell}</samlp:Response>"
