"""What the development identity provider reads of service providers: their metadata and their AuthnRequests."""

from __future__ import annotations

import base64
import binascii
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

from ..saml.documents import DS, MD, SAML, SAMLP, ForbiddenXml, Limits, MalformedXml, parse, text_of
from ..saml.keys import pem_of
from ..saml.metadata import BINDINGS, POST

_METADATA_LIMITS = Limits(size=1024 * 1024, depth=32, elements=10_000, attributes=64)
_REQUEST_LIMITS = Limits(size=64 * 1024, depth=16, elements=200, attributes=32)
_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class ServiceProvider:
    """What a service provider says of itself (saml-metadata 2.4.4).

    :param acs_url: where answers go that nobody has asked for.
    :param single_logout: addresses by ``redirect`` and ``post``; those of answers in ``logout_answers``.
    :param keys: that it signs with.
    :param encryption: the certificate, in PEM, that it wants assertions encrypted for; or nothing.
    """

    entity_id: str
    acs_url: str
    single_logout: Mapping[str, str]
    logout_answers: Mapping[str, str]
    keys: tuple[xmlsec.Key, ...] = field(repr=False)
    encryption: str = ""


class ServiceProviders:
    """Those that were added, and those of this machine whose entity id is the address of their metadata.

    The latter are asked anew each time, so that whatever they change counts at once.
    """

    def __init__(self) -> None:
        self._added: dict[str, ServiceProvider] = {}
        self._seen: dict[str, None] = {}
        self._lock = threading.Lock()

    @property
    def names(self) -> list[str]:
        """The entity ids of those that were added or found."""
        with self._lock:
            return list(dict.fromkeys((*self._added, *self._seen)))

    def add(self, metadata: bytes) -> str:
        """Know a service provider by these metadata; return its entity id.

        :raises ValueError: if they are none.
        """
        found = read_service_provider(metadata)
        with self._lock:
            self._added[found.entity_id] = found
        return found.entity_id

    def find(self, entity_id: str) -> ServiceProvider | None:
        """Return what is known of a service provider, which may be nothing."""
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

    :raises ValueError: if they are none.
    """
    try:
        root = parse(metadata, _METADATA_LIMITS, skip_comments=True)
    except (MalformedXml, ForbiddenXml) as error:
        raise ValueError(f"these are no metadata: {error}") from error
    role = root.find(f"{{{MD}}}SPSSODescriptor")
    consumers = [] if role is None else role.findall(f"{{{MD}}}AssertionConsumerService[@Binding='{POST}']")
    if role is None or not consumers:
        raise ValueError("these metadata name no service provider with an AssertionConsumerService by HTTP-POST")
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
    """An AuthnRequest as it came, and what it asks for.

    :param encoded: empty where nobody has asked: the login begins here.
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
    """Read an AuthnRequest of either binding (saml-bindings 3.4, 3.5); what is inflated is bounded.

    :param binding: ``redirect`` or ``post``, whatever brings it now.
    :raises BadRequest: if it is none.
    """
    fields = request.args if request.method == "GET" else request.form
    encoded = fields.get("SAMLRequest", "")
    try:
        data = base64.b64decode(encoded.encode("ascii"), validate=True)
        if binding == "redirect":
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, _REQUEST_LIMITS.size + 1)
        root = parse(data, _REQUEST_LIMITS)
        issuer = root.find(f"{{{SAML}}}Issuer")
        named = text_of(issuer) if issuer is not None else ""
    except (UnicodeEncodeError, binascii.Error, zlib.error, MalformedXml, ForbiddenXml) as error:
        raise BadRequest("This is no AuthnRequest.") from error
    acs_url = root.get("AssertionConsumerServiceURL", "")
    if root.tag != f"{{{SAMLP}}}AuthnRequest" or not named or urlsplit(acs_url).scheme not in {"http", "https"}:
        raise BadRequest("This is no AuthnRequest that says who asks and where the answer goes.")
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
    """Tell whether an http address is one of this machine's."""
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
        return parts.scheme in {"http", "https"} and (host == "localhost" or ip_address(host).is_loopback)
    except ValueError:
        return False


def _certificates(role: etree._Element, use: str) -> list[str]:
    """Return the certificates of a use in PEM, in their order."""
    return [
        pem_of(base64.b64decode("".join(text_of(element).split())))
        for descriptor in role.findall(f"{{{MD}}}KeyDescriptor")
        if descriptor.get("use", use) == use
        for element in descriptor.iter(f"{{{DS}}}X509Certificate")
    ]


def _key(pem: str) -> xmlsec.Key:
    try:
        return xmlsec.Key.from_memory(pem.encode(), constants.KeyDataFormatCertPem, None)
    except xmlsec.Error as error:
        raise ValueError("a certificate of these metadata cannot be read") from error
