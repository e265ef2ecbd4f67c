"""One contact center as a SAML service provider: everything that can be computed before the first message."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

import xmlsec

from ..checks import Check
from ..config.settings import ContactCenterSettings, IdentityProvider, KeyPair
from ..errors import ConfigurationError
from .clock import provider_clock_checks
from .health import own_checks
from .metadata import MetadataRefused
from .own_keys import load_own_keys
from .own_metadata import OwnMetadata
from .sources import FETCH_TIMEOUT, Source, source_of
from .toolkit import UNSPECIFIED, TrustMaker
from .trust import PATIENCE, TrustedProvider
from .verify import protocol_schema

if TYPE_CHECKING:
    from ..chain.protocols import StateStore


@dataclass(frozen=True, slots=True)
class ServiceProvider:
    """What one contact center is to its identity providers.

    :param providers: by the name of their tables, in the configuration's order.
    :param public_url: what the outside calls us; our addresses come from it, never from a request's Host.
    :param acs_url: our assertion consumer service, and ``slo_url`` our single logout service.
    :param complete_url: where the browser finishes the login, on the same site.
    :param clock_skew: seconds, the same for every check; ``request_lifetime`` likewise in seconds.
    :param signing: the key that signs all we send, with its certificate; or ``None``.
    :param decryption_keys: those that may decrypt what providers send, in the configuration's order.
    :param own_metadata: writes what the providers must know of us.
    :param clock: unix time; tests set it.
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
    own_metadata: OwnMetadata = field(repr=False)
    signing: KeyPair | None = None
    decryption_keys: tuple[xmlsec.Key, ...] = field(default=(), repr=False)
    clock: Callable[[], float] = time.time

    @property
    def signs(self) -> bool:
        """There is a signing key, so that all we send is signed."""
        return self.signing is not None

    def metadata_xml(self) -> bytes:
        """Return our metadata, to be given to the identity providers (saml-metadata 2.4.4)."""
        return self.own_metadata.xml(self.clock())

    def checks(self, *, ask: bool = True) -> tuple[Check, ...]:
        """Return what is to be said of our own side and of each identity provider.

        :param ask: whether providers may be asked for what is not known of them yet.
        """
        now = self.clock()
        return (
            *own_checks(self.own_metadata.keys, self.contact_center, self.public_url, now),
            *(check for provider in self.providers.values() for check in provider.checks(ask=ask)),
        )

    def clock_checks(self) -> Iterator[Check]:
        """Ask each provider whose metadata have an address what time it is."""
        for provider in self.providers.values():
            yield from provider_clock_checks(provider, self.clock, self.clock_skew)


def build_service_provider(
    center: ContactCenterSettings,
    *,
    public_url: str,
    prefix: str,
    state: StateStore | None = None,
    clock: Callable[[], float] = time.time,
    fetch_timeout: float = FETCH_TIMEOUT,
    patience: float = PATIENCE,
) -> ServiceProvider:
    """Read the providers' metadata files, load keys, parse the schema: once, at ``init_app``.

    :param public_url: what the outside calls us; the contact center's own wins.
    :param prefix: ``saml_url_prefix``.
    :param state: where the last good copy of metadata from an address is kept.
    :param clock: unix time.
    :param fetch_timeout: seconds within which an address of metadata must have answered whole.
    :param patience: seconds for which a thread waits, at most, while another one fetches metadata.
    :raises ConfigurationError: if something cannot be used, with its dotted path.
    """
    saml = center.saml
    path = f"contact_centers.{center.name}.saml"
    if saml is None:
        raise ConfigurationError(f"{path}: there is no such table")
    public_url = (center.public_url or public_url).rstrip("/")
    if not public_url:
        raise ConfigurationError(f"{path}: SAML needs public_url, what the outside calls this application")
    base = f"{public_url}{prefix}/{quote(center.name, safe='')}"
    protocol_schema()
    keys = load_own_keys(saml, path)
    maker = TrustMaker(keys, center.name, entity_id=saml.entity_id or f"{base}/metadata", base=base)
    providers = saml.identity_providers
    return ServiceProvider(
        contact_center=center.name,
        providers={
            name: _trusted(one, _source(one, maker, state, fetch_timeout), maker, clock, patience)
            for name, one in providers.items()
        },
        entity_id=maker.entity_id,
        public_url=public_url,
        acs_url=maker.acs_url,
        slo_url=maker.slo_url,
        complete_url=f"{base}/complete",
        clock_skew=saml.clock_skew,
        request_lifetime=saml.request_lifetime,
        cross_check=saml.cross_check,
        force_authn_after_logout=saml.force_authn_after_logout,
        own_metadata=OwnMetadata(
            entity_id=maker.entity_id,
            acs_url=maker.acs_url,
            slo_url=maker.slo_url,
            keys=keys,
            name_id_formats=tuple(dict.fromkeys(one.name_id_format or UNSPECIFIED for one in providers.values())),
            lifetime=saml.metadata_lifetime,
            sign=saml.sign_metadata,
        ),
        signing=keys.signing,
        decryption_keys=keys.decryption,
        clock=clock,
    )


def _trusted(
    settings: IdentityProvider, source: Source, maker: TrustMaker, clock: Callable[[], float], patience: float
) -> TrustedProvider:
    """Return the provider, with its metadata if they are at hand: no other server is asked at the start."""
    provider = TrustedProvider(
        settings, source, maker.trust, contact_center=maker.contact_center, clock=clock, patience=patience
    )
    if source.at_hand:
        try:
            provider.load()
        except MetadataRefused as error:
            raise ConfigurationError(f"{maker.path_of(settings)}.metadata: {source.where}: {error}") from error
    return provider


def _source(settings: IdentityProvider, maker: TrustMaker, state: StateStore | None, timeout: float) -> Source:
    maker.check(settings)
    try:
        return source_of(settings, maker.contact_center, state, timeout)
    except ValueError as error:
        raise ConfigurationError(
            f"{maker.path_of(settings)}.metadata_certificate: must be a certificate in PEM"
        ) from error
