"""Parse the metadata of identity providers. If a signer is pinned, only signed bytes are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

import xmlsec
from lxml import etree

from ..errors import GenesysAuthError
from .documents import (
    DS,
    MD,
    SAMLP,
    ForbiddenXml,
    Limits,
    MalformedXml,
    as_instant,
    from_base64,
    instant,
    parse,
    text_of,
)
from .errors import Fault, SamlError, printable
from .signatures import check_signature, covered, load_key, read_form

LIMITS = Limits(size=10 * 1024 * 1024, depth=32, elements=200_000, attributes=64)
REDIRECT = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect"
POST = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST"
BINDINGS: Mapping[str, str] = MappingProxyType({"redirect": REDIRECT, "post": POST})
"""URIs of the supported bindings, by their names in the configuration."""

_ENTITY = f"{{{MD}}}EntityDescriptor"
_ENTITIES = f"{{{MD}}}EntitiesDescriptor"
_ROLE = f"{{{MD}}}IDPSSODescriptor"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The addresses of one service by one binding.

    :param location: of requests.
    :param response_location: of responses (saml-metadata 2.2.2: ResponseLocation, else Location).
    """

    location: str
    response_location: str


@dataclass(frozen=True, slots=True)
class ProviderMetadata:
    """The metadata of one identity provider.

    :param single_sign_on: endpoints by ``"redirect"`` and ``"post"``, at least one.
    :param single_logout: likewise, perhaps none.
    :param certificates: signing certificates in DER; several during key rollover.
    :param valid_until: unix time, or ``None``: no end.
    :param wants_signed_requests: WantAuthnRequestsSigned (saml-metadata 2.4.3).
    :param fetched: unix time.
    """

    entity_id: str
    single_sign_on: Mapping[str, Endpoint]
    single_logout: Mapping[str, Endpoint]
    certificates: tuple[bytes, ...]
    valid_until: float | None
    wants_signed_requests: bool = False
    fetched: float = field(default=0.0, compare=False)


class MetadataRefused(GenesysAuthError):
    """Metadata cannot be fetched or used. Text from the document is shortened and made printable."""

    def __init__(self, finding: str) -> None:
        super().__init__(printable(finding))


def parse_metadata(
    data: bytes, *, entity_id: str, now: float, signer: bytes | None = None, must_end: bool = False
) -> ProviderMetadata:
    """Read one identity provider from metadata, which may be an aggregate.

    :param entity_id: of the provider; may be empty if there is only one.
    :param now: unix time.
    :param signer: certificate, in DER, whose key must have signed the root (saml-metadata 3). Then only signed bytes
        are read.
    :param must_end: refuse metadata without validUntil (saml-metadata 2.3.2). Over plain http, an attacker could
        otherwise replay old metadata with revoked keys forever.
    :raises MetadataRefused: if the metadata cannot be used.
    """
    try:
        root = parse(data, LIMITS, skip_comments=True)
        if signer is not None:
            root = _covered_by(signer, root)
        entity, role = _choose(root, entity_id)
        single_sign_on = _endpoints(role, "SingleSignOnService")
        if not single_sign_on:
            raise ValueError("the identity provider offers no SingleSignOnService by HTTP-Redirect or HTTP-POST")
        return ProviderMetadata(
            entity_id=entity.get("entityID", ""),
            single_sign_on=single_sign_on,
            single_logout=_endpoints(role, "SingleLogoutService"),
            certificates=tuple(dict.fromkeys(_signing_certificates(role))),
            valid_until=_valid_until(role, now, must_end),
            wants_signed_requests=role.get("WantAuthnRequestsSigned", "").strip() in {"true", "1"},
            fetched=now,
        )
    except MalformedXml as error:
        raise MetadataRefused(f"the document is not XML: {error}") from error
    except ForbiddenXml as error:
        raise MetadataRefused(f"metadata must not have {error}") from error
    except ValueError as error:
        raise MetadataRefused(str(error)) from error


def bytes_of(path: Path) -> bytes:
    """Read a metadata file, up to one byte more than the limit.

    :raises MetadataRefused: if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(LIMITS.size + 1)
    except OSError as error:
        raise MetadataRefused(f"the file cannot be read ({error.strerror})") from error


def _covered_by(signer: bytes, root: etree._Element) -> etree._Element:
    """Verify the signature of the root and return the signed root.

    Signatures of single entities in an aggregate are ignored: they do not protect the rest.
    """
    signatures = root.findall(f"{{{DS}}}Signature")
    if len(signatures) != 1 or not root.get("ID"):
        raise ValueError("the root is not signed, and metadata_certificate is set")
    try:
        form = read_form(signatures[0], root)
        if form.weak:
            raise SamlError(Fault.ALGORITHM, "it uses SHA-1")
        check_signature(form, (load_key(signer),))
        return covered(form)
    except (SamlError, xmlsec.Error) as error:
        raise ValueError(f"the signature does not match metadata_certificate ({error})") from error


def _choose(root: etree._Element, entity_id: str) -> tuple[etree._Element, etree._Element]:
    if root.tag not in {_ENTITY, _ENTITIES}:
        raise ValueError("the document is not SAML metadata: neither EntityDescriptor nor EntitiesDescriptor")
    found = [
        (entity, role)
        for entity in _entities(root)
        for role in entity.findall(_ROLE)
        if SAMLP in role.get("protocolSupportEnumeration", "").split()
    ]
    names = [entity.get("entityID", "") for entity, _ in found]
    if not found:
        raise ValueError("the document has no SAML 2.0 identity provider (IDPSSODescriptor)")
    if entity_id:
        found = [(entity, role) for entity, role in found if entity.get("entityID") == entity_id]
        if not found:
            raise ValueError(f"the document does not have {entity_id!r}; it has {', '.join(names[:5])}")
    if len(found) > 1:
        raise ValueError(
            f"the document has {len(found)} identity providers ({', '.join(names[:5])}): set entity_id to one of them"
        )
    if not found[0][0].get("entityID"):
        raise ValueError("the identity provider has no entityID")
    return found[0]


def _entities(root: etree._Element) -> Iterator[etree._Element]:
    """Yield the entities of the document, but not those inside Extensions (saml-metadata 2.3)."""
    if root.tag == _ENTITY:
        yield root
    elif root.tag == _ENTITIES:
        for child in root:
            yield from _entities(child)


def _endpoints(role: etree._Element, service: str) -> dict[str, Endpoint]:
    """Return the first endpoint of each supported binding."""
    found: dict[str, Endpoint] = {}
    for element in role.findall(f"{{{MD}}}{service}"):
        for name, binding in BINDINGS.items():
            if element.get("Binding") == binding and name not in found:
                location = web_address(element.get("Location", ""))
                found[name] = Endpoint(location, web_address(element.get("ResponseLocation", location)))
    return found


def web_address(address: str) -> str:
    """Check that an endpoint is an http(s) URL without credentials, fragment or unprintable characters.

    :raises ValueError: if it is not.
    """
    parts = urlsplit(address)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None or "#" in address:
        raise ValueError(f"endpoint {address[:200]!r} is not an http(s) URL")
    if any(not character.isascii() or not character.isprintable() or character in ' "<>\\' for character in address):
        raise ValueError(f"endpoint {address[:200]!r} has characters that are not allowed in a URL")
    return address


def _signing_certificates(role: etree._Element) -> Iterator[bytes]:
    found = False
    for descriptor in role.findall(f"{{{MD}}}KeyDescriptor"):
        if descriptor.get("use", "signing") != "signing":
            continue
        for element in descriptor.iterfind(f"{{{DS}}}KeyInfo/{{{DS}}}X509Data/{{{DS}}}X509Certificate"):
            found = True
            text = text_of(element)
            try:
                certificate = from_base64(text)
            except ValueError as error:
                raise ValueError(f"a signing certificate is {error}") from error
            load_key(certificate)
            yield certificate
    if not found:
        raise ValueError("the identity provider has no signing certificate (KeyDescriptor, X509Certificate)")


def _valid_until(role: etree._Element, now: float, must_end: bool) -> float | None:
    """Return the earliest validUntil of the role and the elements around it (saml-metadata 2.3.1, 2.3.2, 2.4.1)."""
    ends = [
        instant(element.get("validUntil", ""))
        for element in (role, *role.iterancestors())
        if element.get("validUntil") is not None
    ]
    if not ends and must_end:
        raise ValueError(
            "metadata by plain http need a validUntil; without it, old metadata could be replayed for ever"
        )
    if not ends:
        return None
    if now >= min(ends):
        raise ValueError(f"the metadata have expired: they were valid until {as_instant(min(ends))}")
    return min(ends)
