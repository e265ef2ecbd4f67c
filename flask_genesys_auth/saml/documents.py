"""Parse untrusted XML within limits. Also: namespaces, instants, base64, and the schema of SAML's protocol."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cache
from html import escape
from importlib.util import find_spec
from pathlib import Path

from lxml import etree

from .errors import Fault, SamlError

SAML = "urn:oasis:names:tc:SAML:2.0:assertion"
SAMLP = "urn:oasis:names:tc:SAML:2.0:protocol"
DS = "http://www.w3.org/2000/09/xmldsig#"
MD = "urn:oasis:names:tc:SAML:2.0:metadata"
XENC = "http://www.w3.org/2001/04/xmlenc#"
EXCLUSIVE_C14N = "http://www.w3.org/2001/10/xml-exc-c14n#"

# saml-core 1.3.3: an instant is in UTC, with the time zone "Z".
_INSTANT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,12})?Z", re.ASCII)
_DECLARED_ENCODING = re.compile(r"\A\ufeff?<\?xml[^>]*?encoding\s*=\s*[\"']([^\"']*)[\"']", re.ASCII)
_WHITE_SPACE = " \t\r\n"
# 9999-12-31T23:59:59Z: many providers write it for "never".
_LAST_SECOND = 253402300799.0
_FIRST_SECOND = -62135596800.0


class ForbiddenXml(ValueError):
    """The document has a construct that is not allowed; the text names it."""


class MalformedXml(ValueError):
    """The bytes are not well-formed XML in UTF-8."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a document.

    :param size: bytes.
    :param depth: nesting of elements; the root has depth 1.
    :param attributes: of one element.
    :param namespaces: declarations in scope at one element, hidden ones included: a prefix look-up walks all of them.
    :param namespace_length: characters of a namespace URI: canonicalization repeats it at sibling elements.
    :param all_attributes: of all elements together; ``None``: as many as elements.
    """

    size: int
    depth: int
    elements: int
    attributes: int
    namespaces: int = 64
    namespace_length: int = 256
    all_attributes: int | None = None


def parse(data: bytes, limits: Limits, *, skip_comments: bool = False) -> etree._Element:
    """Parse a document of elements and text, and return its root.

    Two parsers must not read a document differently. So document types, entities, other encodings, comments and
    instructions are refused (CVE-2017-11427, CVE-2025-25291, CVE-2025-29775).

    :param skip_comments: remove comments and instructions and join the text around them, as canonicalization does
        (xml-c14n 2.1). For metadata, where comments are common.
    :raises MalformedXml: if it is not XML.
    :raises ForbiddenXml: if it has a construct that is not allowed, or exceeds a limit.
    """
    return parse_listed(data, limits, skip_comments=skip_comments)[0]


def parse_listed(data: bytes, limits: Limits, *, skip_comments: bool = False) -> list[etree._Element]:
    """Parse like :func:`parse`; return the root and all elements below it, level by level."""
    if len(data) > limits.size:
        raise ForbiddenXml(f"{len(data)} bytes, more than {limits.size}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedXml("not in UTF-8") from error
    declared = _DECLARED_ENCODING.match(text)
    if declared and declared.group(1).lower() not in {"utf-8", "us-ascii"}:
        raise ForbiddenXml(f"encoding {declared.group(1)!r}")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ForbiddenXml("a document type")
    root = _parsed(data, skip_comments)
    tree = root.getroottree()
    if tree.docinfo.internalDTD is not None or tree.docinfo.externalDTD is not None:
        raise ForbiddenXml("a document type")
    if root.getprevious() is not None or root.getnext() is not None:
        raise ForbiddenXml("a comment or an instruction beside the root")
    # Before element names are read: each would copy its namespace URI.
    _check_namespaces(root, limits)
    return _listed(root, limits)


def parse_within(data: bytes, context: etree._Element, limits: Limits) -> list[etree._Element]:
    """Parse decrypted bytes that hold one element; return it and all elements below it.

    The bytes may use prefixes that were declared around the encrypted element (xmlenc-core 4.2).

    :param context: the element that held the encrypted data.
    :raises MalformedXml: also if there is more than one element.
    """
    declared = "".join(
        f' xmlns{f":{prefix}" if prefix else ""}="{escape(uri)}"' for prefix, uri in context.nsmap.items()
    )
    root, *elements = parse_listed(f"<context{declared}>".encode() + data + b"</context>", limits)
    if len(root) != 1 or (root.text or "").strip() or (root[0].tail or "").strip():
        raise MalformedXml("not one element")
    return elements


def reparse(data: bytes) -> etree._Element:
    """Parse canonical bytes of a document that :func:`parse` accepted, and return the root.

    :raises MalformedXml: if they cannot be parsed.
    """
    return _parsed(data, False)


def _parsed(data: bytes, skip_comments: bool) -> etree._Element:
    # A parser has state: one for each document.
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        attribute_defaults=False,
        huge_tree=False,
        recover=False,
        remove_comments=skip_comments,
        remove_pis=skip_comments,
        encoding="utf-8",
    )
    try:
        return etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise MalformedXml("not well-formed") from error


def _listed(root: etree._Element, limits: Limits) -> list[etree._Element]:
    found: list[etree._Element] = []
    level: list[etree._Element] = [root]
    depth, attributes = 1, 0
    while level:
        if depth > limits.depth:
            raise ForbiddenXml(f"elements nested deeper than {limits.depth}")
        found.extend(level)
        if len(found) > limits.elements:
            raise ForbiddenXml(f"more than {limits.elements} elements")
        below: list[etree._Element] = []
        for element in level:
            if not isinstance(element.tag, str):
                raise ForbiddenXml("a comment, an instruction or an entity")
            count = len(element.keys())
            attributes += count
            if count > limits.attributes:
                raise ForbiddenXml(f"more than {limits.attributes} attributes on one element")
            below.extend(element)
        if attributes > (limits.elements if limits.all_attributes is None else limits.all_attributes):
            raise ForbiddenXml(f"{attributes} attributes")
        level = below
        depth += 1
    return found


def _check_namespaces(root: etree._Element, limits: Limits) -> None:
    holding = 0
    for event, declared in etree.iterwalk(root, events=("start-ns", "end-ns")):
        holding += 1 if event == "start-ns" else -1
        if declared is not None and len(declared[1]) > limits.namespace_length:
            raise ForbiddenXml(f"a namespace of more than {limits.namespace_length} characters")
        if holding > limits.namespaces:
            raise ForbiddenXml(f"more than {limits.namespaces} namespaces in scope at one element")


def local_name(element: etree._Element) -> str:
    """Return an element's name without its namespace."""
    return str(element.tag).rpartition("}")[2]


def text_of(element: etree._Element) -> str:
    """Return the text of an element without surrounding white space.

    :raises ForbiddenXml: if it has child elements: the text would be cut at the first one.
    """
    if len(element):
        raise ForbiddenXml(f"elements in {local_name(element)}, which may only hold text")
    return (element.text or "").strip(_WHITE_SPACE)


def from_base64(text: str) -> bytes:
    """Decode base64, line breaks allowed.

    :raises ValueError: if it is not base64.
    """
    try:
        return base64.b64decode("".join(text.split()).encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise ValueError("not in base64") from error


def instant(value: str) -> float:
    """Return the unix time of an instant (saml-core 1.3.3).

    :raises ValueError: if it is not an instant in UTC.
    """
    found = _INSTANT.fullmatch(value.strip(_WHITE_SPACE))
    if found is None:
        raise ValueError(f"{value[:64]!r} is not an instant in UTC")
    whole = datetime.fromisoformat(f"{found.group(1)}+00:00")
    return min(whole.timestamp() + float(found.group(2) or 0), _LAST_SECOND)


def instant_of(element: etree._Element, attribute: str) -> float:
    """Return the unix time of an attribute.

    :raises SamlError: if it is not an instant.
    """
    try:
        return instant(element.get(attribute, ""))
    except ValueError as error:
        raise SamlError(Fault.CONDITIONS, f"{attribute}: {error}") from error


def as_instant(seconds: float) -> str:
    """Format a unix time as an instant, to the second; times beyond the years 1 to 9999 are clamped."""
    reachable = min(max(seconds, _FIRST_SECOND), _LAST_SECOND)
    return datetime.fromtimestamp(reachable, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


@cache
def protocol_schema() -> etree.XMLSchema:
    """Return the schema of SAML's protocol from python3-saml; parsed once per process."""
    found = find_spec("onelogin.saml2")
    folder = Path(next(iter(found.submodule_search_locations or ()))) if found else Path()
    return etree.XMLSchema(etree.parse(folder / "schemas" / "saml-schema-protocol-2.0.xsd"))
