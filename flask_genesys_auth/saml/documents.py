"""Read untrusted XML: names, a parser that does nothing on its own, limits, instants, and the schema of messages."""

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

# saml-core 1.3.3: an instant is UTC and carries no time zone but "Z".
_INSTANT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,12})?Z", re.ASCII)
_DECLARED_ENCODING = re.compile(r"\A\ufeff?<\?xml[^>]*?encoding\s*=\s*[\"']([^\"']*)[\"']", re.ASCII)
_WHITE_SPACE = " \t\r\n"
# 9999-12-31T23:59:59Z, which many write for "never", with a fraction that no float can tell from the year 10000.
_LAST_SECOND = 253402300799.0
_FIRST_SECOND = -62135596800.0


class ForbiddenXml(ValueError):
    """The document has what none of ours may have; the text says what."""


class MalformedXml(ValueError):
    """The bytes are no well-formed XML in UTF-8."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a document may hold.

    :param size: bytes.
    :param depth: of elements within elements; the root has depth 1.
    :param attributes: of one element.
    :param namespaces: declarations that hold at one element, those that an inner one hides included: whoever looks a
        prefix up walks through all of them.
    :param namespace_length: characters of a namespace's name: canonicalization repeats it at each element beside
        others that uses it.
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
    """Return the root of a document of elements and text: no DTD, entity, network, comment or instruction.

    Whoever reads a document must see what the signer saw, so that everything two readers could see differently
    (document types, encodings, comments that split text) is refused rather than handled (CVE-2017-11427,
    CVE-2025-25291, CVE-2025-29775).

    :param skip_comments: read on past comments and instructions as if they were not there, the text around them in
        one piece, which is what canonicalization makes of them (xml-c14n 2.1); for metadata, where they are common.
    :raises MalformedXml: if it is no XML.
    :raises ForbiddenXml: if it is XML of the wrong kind or too much of it.
    """
    return parse_listed(data, limits, skip_comments=skip_comments)[0]


def parse_listed(data: bytes, limits: Limits, *, skip_comments: bool = False) -> list[etree._Element]:
    """Return what :func:`parse` returns and all elements below it, those nearer to the root first."""
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
    if _has_conspicuous_namespaces(text, limits):
        # Before any element's name is looked at: its namespace is a part of that.
        _check_namespaces(root, limits)
    return _listed(root, limits)


def parse_within(data: bytes, context: etree._Element, limits: Limits) -> list[etree._Element]:
    """Return the one element, and those below it, of bytes that may use the namespaces of the place they come from.

    What encrypts an element need not declare in it what was declared around it (xmlenc-core 4.2).

    :param context: the element that holds what was encrypted.
    :raises MalformedXml: also if there is anything beside the element.
    """
    declared = "".join(
        f' xmlns{f":{prefix}" if prefix else ""}="{escape(uri)}"' for prefix, uri in context.nsmap.items()
    )
    root, *elements = parse_listed(f"<context{declared}>".encode() + data + b"</context>", limits)
    if len(root) != 1 or (root.text or "").strip() or (root[0].tail or "").strip():
        raise MalformedXml("not one element")
    return elements


def reparse(data: bytes) -> etree._Element:
    """Return the root of what canonicalization has made of a part of a document that :func:`parse` has let in.

    :raises MalformedXml: if it cannot be read.
    """
    return _parsed(data, False)


def _parsed(data: bytes, skip_comments: bool) -> etree._Element:
    # A parser keeps state while it parses: one for each document.
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


def _has_conspicuous_namespaces(text: str, limits: Limits) -> bool:
    """Tell, in passing, whether there may be too many declarations, or too long ones: no document of ours has them."""
    after = text.split("xmlns", limits.namespaces + 1)[1:]
    if len(after) > limits.namespaces:
        return True
    longest = limits.namespace_length
    for declaration in after:
        _, _, value = declaration.partition("=")
        value = value.lstrip(_WHITE_SPACE)[: longest + 2]
        if value[1:].find(value[:1]) < 0 and len(declaration) > longest:
            return True
    return False


def _check_namespaces(root: etree._Element, limits: Limits) -> None:
    holding = 0
    for event, declared in etree.iterwalk(root, events=("start-ns", "end-ns")):
        holding += 1 if event == "start-ns" else -1
        if declared is not None and len(declared[1]) > limits.namespace_length:
            raise ForbiddenXml(f"a namespace of more than {limits.namespace_length} characters")
        if holding > limits.namespaces:
            raise ForbiddenXml(f"more than {limits.namespaces} namespaces that hold at one element")


def local_name(element: etree._Element) -> str:
    """Return an element's name without its namespace."""
    return str(element.tag).rpartition("}")[2]


def text_of(element: etree._Element) -> str:
    """Return the text of an element without surrounding white space.

    :raises ForbiddenXml: if it holds elements as well: text cut at a child would be another text.
    """
    if len(element):
        raise ForbiddenXml(f"{local_name(element)} holds elements where text is due")
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
    """Return the unix time of an instant as SAML writes it (saml-core 1.3.3).

    :raises ValueError: if it is none.
    """
    found = _INSTANT.fullmatch(value.strip(_WHITE_SPACE))
    if found is None:
        raise ValueError(f"{value[:64]!r} is no instant in UTC")
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
    """Return a unix time as SAML writes it, to the second; the nearest that can be written where it is out of reach."""
    reachable = min(max(seconds, _FIRST_SECOND), _LAST_SECOND)
    return datetime.fromtimestamp(reachable, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


@cache
def protocol_schema() -> etree.XMLSchema:
    """Return the schema of SAML's protocol, which python3-saml ships; parsed once per process."""
    found = find_spec("onelogin.saml2")
    folder = Path(next(iter(found.submodule_search_locations or ()))) if found else Path()
    return etree.XMLSchema(etree.parse(folder / "schemas" / "saml-schema-protocol-2.0.xsd"))
