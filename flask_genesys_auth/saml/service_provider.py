"""One contact center as a SAML service provider: addresses, keys and providers, computed once at ``init_app``."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING
from urllib.parse import quote

from lxml import etree
from onelogin.saml2.constants import OneLogin_Saml2_Constants as Constants
from onelogin.saml2.metadata import OneLogin_Saml2_Metadata

from ..checks import Check
from ..config.settings import ContactCenterSettings
from ..errors import ConfigurationError
from .documents import DS, MD, Limits, as_instant, parse, protocol_schema
from .health import own_checks, provider_checks, provider_clock_checks
from .keys import OwnKeys, der_of, load_own_keys
from .metadata import POST, REDIRECT, MetadataRefused
from .sources import FETCH_TIMEOUT, source_of
from .trust import METADATA_WAIT, UNSPECIFIED, TrustBuilder, TrustedProvider

if TYPE_CHECKING:
    from ..chain.protocols import StateStore

LONGEST_CACHE = 24 * 3600
"""Seconds of ``cacheDuration`` in our metadata, at most."""

_LIMITS = Limits(size=1024 * 1024, depth=8, elements=1000, attributes=16)
_OAEP = "http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p"
_ENCRYPTION_METHODS = (
    "http://www.w3.org/2009/xmlenc11#aes256-gcm",
    "http://www.w3.org/2009/xmlenc11#aes128-gcm",
    _OAEP,
)


@dataclass(frozen=True, slots=True)
class ServiceProvider:
    """A contact center as its identity providers see it.

    :param providers: by the names of their tables, in the configuration's order.
    :param public_url: our public URL. Addresses come from it, never from the Host header.
    :param acs_url: assertion consumer service.
    :param slo_url: single logout service.
    :param complete_url: where the browser completes the login, on the same site.
    :param clock_skew: seconds, the same for every check.
    :param request_lifetime: seconds.
    :param name_id_formats: those in our requests, each once.
    :param metadata_lifetime: seconds for which a copy of our metadata is valid.
    :param clock: unix time.
    """

    contact_center: str
    providers: Mapping[str, TrustedProvider]
    entity_id: str
    public_url: str
    acs_url: str
    slo_url: str
    complete_url: str
    clock_skew: int
    request_lifetime: int
    cross_check: bool
    force_authn_after_logout: bool
    keys: OwnKeys = field(repr=False)
    name_id_formats: tuple[str, ...]
    metadata_lifetime: int
    sign_metadata: bool
    clock: Callable[[], float] = time.time

    def metadata_xml(self) -> bytes:
        """Return our metadata for the identity providers (saml-metadata 2.4.4)."""
        return write_metadata(self)

    def checks(self, *, ask: bool = True) -> tuple[Check, ...]:
        """Return the checks of our own side and of each identity provider.

        :param ask: whether metadata that were never fetched may be fetched now.
        """
        now = self.clock()
        return (
            *own_checks(self.keys, self.contact_center, self.public_url, now),
            *(check for provider in self.providers.values() for check in provider_checks(provider, now, ask=ask)),
        )

    def clock_checks(self) -> Iterator[Check]:
        """Compare our clock with that of each provider whose metadata have a URL."""
        for provider in self.providers.values():
            yield from provider_clock_checks(provider, self.clock, self.clock_skew)


def write_metadata(service: ServiceProvider) -> bytes:
    """Write the metadata of a service provider (saml-metadata 2.4.4).

    Single logout is offered only with a signing key: without one a provider could not trust our messages.
    """
    signing = service.keys.signing
    sp = {
        "entityId": escape(service.entity_id),
        "assertionConsumerService": {"url": escape(service.acs_url), "binding": POST},
        "NameIDFormat": escape(service.name_id_formats[0]),
    }
    if signing is not None:
        sp["singleLogoutService"] = {"url": escape(service.slo_url), "binding": REDIRECT}
    written: str = OneLogin_Saml2_Metadata.builder(
        sp,
        authnsign=signing is not None,
        wsign=True,
        valid_until=as_instant(service.clock() + service.metadata_lifetime),
        cache_duration=f"PT{min(service.metadata_lifetime // 2, LONGEST_CACHE)}S",
    )
    root = parse(written.encode(), _LIMITS)
    role = root[0]
    for last in role.findall(f"{{{MD}}}NameIDFormat"):
        for name in reversed(service.name_id_formats[1:]):
            added = last.makeelement(last.tag)
            added.text = name
            last.addnext(added)
    for logout in role.findall(f"{{{MD}}}SingleLogoutService"):
        logout.addnext(logout.makeelement(logout.tag, {"Binding": POST, "Location": service.slo_url}))
    for place, descriptor in enumerate(_key_descriptors(service.keys)):
        role.insert(place, descriptor)
    etree.indent(root)
    document = etree.tostring(root, xml_declaration=True, encoding="UTF-8")
    if signing is None or not service.sign_metadata:
        return document
    signed: str | bytes = OneLogin_Saml2_Metadata.sign_metadata(
        document, signing.key.reveal(), signing.certificate, Constants.RSA_SHA256, Constants.SHA256
    )
    return signed if isinstance(signed, bytes) else signed.encode()


def _key_descriptors(keys: OwnKeys) -> Iterator[etree._Element]:
    """Yield one for each certificate, those in use first (saml-metadata 2.4.1.1)."""
    if keys.signing is not None:
        yield _key_descriptor("signing", der_of(keys.signing.certificate))
    if keys.next_signing_certificate:
        yield _key_descriptor("signing", der_of(keys.next_signing_certificate))
    for certificate in keys.encryption:
        yield _key_descriptor("encryption", certificate)


def _key_descriptor(use: str, certificate: bytes) -> etree._Element:
    descriptor = etree.Element(f"{{{MD}}}KeyDescriptor", use=use, nsmap={"md": MD, "ds": DS})
    data = etree.SubElement(etree.SubElement(descriptor, f"{{{DS}}}KeyInfo"), f"{{{DS}}}X509Data")
    etree.SubElement(data, f"{{{DS}}}X509Certificate").text = base64.b64encode(certificate).decode()
    for algorithm in _ENCRYPTION_METHODS if use == "encryption" else ():
        etree.SubElement(descriptor, f"{{{MD}}}EncryptionMethod", Algorithm=algorithm)
    return descriptor


def build_service_provider(
    center: ContactCenterSettings,
    *,
    public_url: str,
    prefix: str,
    state: StateStore | None = None,
    clock: Callable[[], float] = time.time,
    fetch_timeout: float = FETCH_TIMEOUT,
    metadata_wait: float = METADATA_WAIT,
) -> ServiceProvider:
    """Read the providers' metadata files, load keys and parse the schema.

    :param public_url: of the application; the contact center's own takes precedence.
    :param prefix: ``saml_url_prefix``.
    :param state: stores the last good metadata of a URL.
    :param clock: unix time.
    :param fetch_timeout: seconds within which the whole answer of a metadata URL must arrive.
    :param metadata_wait: seconds for which a thread waits at most while another thread fetches metadata.
    :raises ConfigurationError: if a setting cannot be used, with its dotted path.
    """
    saml = center.saml
    path = f"contact_centers.{center.name}.saml"
    if saml is None:
        raise ConfigurationError(f"{path}: this table does not exist")
    public_url = (center.public_url or public_url).rstrip("/")
    if not public_url:
        raise ConfigurationError(f"{path}: SAML requires public_url, the public URL of this application")
    base = f"{public_url}{prefix}/{quote(center.name, safe='')}"
    protocol_schema()
    keys = load_own_keys(saml, path)
    builder = TrustBuilder(keys, center.name, entity_id=saml.entity_id or f"{base}/metadata", base=base)
    providers = saml.identity_providers
    trusted = {}
    for name, settings in providers.items():
        builder.check(settings)
        try:
            source = source_of(settings, center.name, state, fetch_timeout)
        except ValueError as error:
            where = f"{builder.path_of(settings)}.metadata_certificate"
            raise ConfigurationError(f"{where}: must be a certificate in PEM") from error
        trusted[name] = TrustedProvider(
            settings, source, builder.build, contact_center=center.name, clock=clock, metadata_wait=metadata_wait
        )
        if source.is_local:  # a URL is fetched at first use
            try:
                trusted[name].load()
            except MetadataRefused as error:
                where = f"{builder.path_of(settings)}.metadata"
                raise ConfigurationError(f"{where}: {source.where}: {error}") from error
    return ServiceProvider(
        contact_center=center.name,
        providers=trusted,
        entity_id=builder.entity_id,
        public_url=public_url,
        acs_url=builder.acs_url,
        slo_url=builder.slo_url,
        complete_url=f"{base}/complete",
        clock_skew=saml.clock_skew,
        request_lifetime=saml.request_lifetime,
        cross_check=saml.cross_check,
        force_authn_after_logout=saml.force_authn_after_logout,
        keys=keys,
        name_id_formats=tuple(dict.fromkeys(one.name_id_format or UNSPECIFIED for one in providers.values())),
        metadata_lifetime=saml.metadata_lifetime,
        sign_metadata=saml.sign_metadata,
        clock=clock,
    )
