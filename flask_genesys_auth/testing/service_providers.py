"""Service providers of the development identity provider: their metadata and their AuthnRequests."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urlsplit

import urllib3
import xmlsec
from lxml import etree
from werkzeug.exceptions import BadRequest
from werkzeug.wrappers import Request
from xmlsec import constants

from ..saml.documents import DS, MD, SAML, SAMLP, ForbiddenXml, Limits, MalformedXml, from_base64, parse, text_of
from ..saml.keys import pem_of
from ..saml.metadata import BINDINGS, POST

_METADATA_LIMITS = Limits(size=1024 * 1024, depth=32, elements=10_000, attributes=64)
_REQUEST_LIMITS = Limits(size=64 * 1024, depth=16, elements=200, attributes=32)
_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class ServiceProvider:
    """The metadata of a service provider (saml-metadata 2.4.4).

    :param acs_url: of unsolicited responses.
    :param single_logout: URLs of requests by ``redirect`` and ``post``; those of responses are in ``logout_answers``.
    :param keys: public keys of its signatures.
    :param encryption: its encryption certificate in PEM, or empty.
    """

    entity_id: str
    acs_url: str
    single_logout: Mapping[str, str]
    logout_answers: Mapping[str, str]
    keys: tuple[xmlsec.Key, ...] = field(repr=False)
    encryption: str = ""


class ServiceProviders:
    """Service providers that were added, and those on this machine whose entity ID is the URL of their metadata.

    The metadata of the latter are fetched each time, so that changes take effect at once.
    """

    def __init__(self) -> None:
        self._added: dict[str, ServiceProvider] = {}
        self._seen: dict[str, None] = {}
        self._lock = threading.Lock()

    @property
    def names(self) -> list[str]:
        """Entity IDs of all that were added or found."""
        with self._lock:
            return list(dict.fromkeys((*self._added, *self._seen)))

    def add(self, metadata: bytes) -> str:
        """Add a service provider by its metadata; return its entity ID.

        :raises ValueError: if the metadata cannot be used.
        """
        found = read_service_provider(metadata)
        with self._lock:
            self._added[found.entity_id] = found
        return found.entity_id

    def find(self, entity_id: str) -> ServiceProvider | None:
        """Return the service provider with this entity ID, or ``None``."""
        with self._lock:
            known = self._added.get(entity_id)
        if known is not None or not is_local(entity_id):
            return known
        try:
            answer = urllib3.request("GET", entity_id, timeout=_TIMEOUT, retries=False, redirect=False)
            found = read_service_provider(answer.data)
        except (urllib3.exceptions.HTTPError, ValueError):
            return None
        if found.entity_id != entity_id:
            return None
        with self._lock:
            self._seen[entity_id] = None
        return found


def read_service_provider(metadata: bytes) -> ServiceProvider:
    """Read the metadata of one service provider.

    :raises ValueError: if they cannot be used.
    """
    try:
        root = parse(metadata, _METADATA_LIMITS, skip_comments=True)
    except (MalformedXml, ForbiddenXml) as error:
        raise ValueError(f"the metadata cannot be read: {error}") from error
    role = root.find(f"{{{MD}}}SPSSODescriptor")
    consumers = [] if role is None else role.findall(f"{{{MD}}}AssertionConsumerService[@Binding='{POST}']")
    if role is None or not consumers:
        raise ValueError("the metadata have no service provider with an AssertionConsumerService by HTTP-POST")
    logout = {
        name: (service.get("Location", ""), service.get("ResponseLocation", service.get("Location", "")))
        for name, binding in BINDINGS.items()
        for service in role.findall(f"{{{MD}}}SingleLogoutService[@Binding='{binding}']")
    }
    return ServiceProvider(
        entity_id=root.get("entityID", ""),
        acs_url=consumers[0].get("Location", ""),
        single_logout={name: addresses[0] for name, addresses in logout.items()},
        logout_answers={name: addresses[1] for name, addresses in logout.items()},
        keys=tuple(_key(pem) for pem in _certificates(role, "signing")),
        encryption=next(iter(_certificates(role, "encryption")), ""),
    )


@dataclass(frozen=True, slots=True)
class AuthnRequest:
    """A received AuthnRequest.

    :param encoded: as received; empty for an unsolicited login.
    """

    encoded: str
    binding: str
    relay_state: str
    request_id: str | None
    issuer: str
    acs_url: str
    force_authn: bool = False
    passive: bool = False


def read_request(request: Request, binding: str) -> AuthnRequest:
    """Read an AuthnRequest of either binding (saml-bindings 3.4, 3.5), within limits.

    :param binding: ``redirect`` or ``post``: how the message was encoded.
    :raises BadRequest: if it cannot be read.
    """
    fields = request.args if request.method == "GET" else request.form
    encoded = fields.get("SAMLRequest", "")
    try:
        data = from_base64(encoded)
        if binding == "redirect":
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, _REQUEST_LIMITS.size + 1)
        root = parse(data, _REQUEST_LIMITS)
        issuer = root.find(f"{{{SAML}}}Issuer")
        named = text_of(issuer) if issuer is not None else ""
        acs_url = root.get("AssertionConsumerServiceURL", "")
        scheme = urlsplit(acs_url).scheme
    except (zlib.error, ValueError) as error:
        raise BadRequest("Not an AuthnRequest.") from error
    if root.tag != f"{{{SAMLP}}}AuthnRequest" or not named or scheme not in {"http", "https"}:
        raise BadRequest("The AuthnRequest has no Issuer, or no AssertionConsumerServiceURL.")
    return AuthnRequest(
        encoded=encoded,
        binding=binding,
        relay_state=fields.get("RelayState", ""),
        request_id=root.get("ID", ""),
        issuer=named,
        acs_url=acs_url,
        force_authn=root.get("ForceAuthn") in {"true", "1"},
        passive=root.get("IsPassive") in {"true", "1"},
    )


def is_local(address: str) -> bool:
    """Return whether an http(s) URL is on loopback."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    host = parts.hostname or ""
    return parts.scheme in {"http", "https"} and (host == "localhost" or is_loopback(host))


def is_loopback(address: str) -> bool:
    """Return whether this is a loopback IP address."""
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def _certificates(role: etree._Element, use: str) -> list[str]:
    """Return the certificates of one use in PEM."""
    return [
        pem_of(from_base64(text_of(element)))
        for descriptor in role.findall(f"{{{MD}}}KeyDescriptor")
        if descriptor.get("use", use) == use
        for element in descriptor.iter(f"{{{DS}}}X509Certificate")
    ]


def _key(pem: str) -> xmlsec.Key:
    try:
        return xmlsec.Key.from_memory(pem.encode(), constants.KeyDataFormatCertPem, None)
    except xmlsec.Error as error:
        raise ValueError("a certificate in the metadata cannot be read") from error
