"""A provider that publishes its metadata over HTTP, and a clock that tests set."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flask import Flask
from lxml import etree
from werkzeug.wrappers import Request, Response

from flask_genesys_auth.chain.protocols import StateStore
from flask_genesys_auth.config.settings import ContactCenterSettings, IdentityProvider, Saml
from flask_genesys_auth.saml.service_provider import ServiceProvider, build_service_provider
from flask_genesys_auth.saml.trust import TrustedProvider
from flask_genesys_auth.testing.saml_messages import SigningKey, provider_metadata, sign
from flask_genesys_auth.testing.server import Emulator
from flask_genesys_auth.web.runtime import runtime

from .addresses import IDP, PUBLIC_URL, SSO

BEGIN = 1_800_000_000.0
HOUR = 3600.0
SECONDS = 120.0
"""Longest wait for an answer or a background refresh, enough for a slow machine."""


class Clock:
    """Unix time that moves only on request."""

    def __init__(self, now: float = BEGIN) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


class Site(Emulator):
    """Publishes one document."""

    def __init__(self, document: str | bytes) -> None:
        super().__init__()
        self.document = document

    @property
    def asked(self) -> int:
        return len(self.requests)

    @property
    def address(self) -> str:
        return f"{self.url}/metadata"

    def respond(self, request: Request) -> Response:
        return Response(self.document, mimetype="application/samlmetadata+xml")


def metadata_of(*keys: SigningKey, valid_until: float | None = None, entity_id: str = IDP) -> str:
    return provider_metadata(entity_id, SSO, tuple(key.certificate for key in keys), valid_until=valid_until)


def signed_root(document: str, key: SigningKey, signature_algorithm: str = "RsaSha256") -> etree._Element:
    """Return metadata whose root is signed as their schema has it: the signature first."""
    root = etree.fromstring(document)
    root.set("ID", "_metadata")
    root.insert(0, sign(root, key, signature_algorithm))
    return root


def signed(document: str, key: SigningKey) -> bytes:
    return etree.tostring(signed_root(document, key))


def center_at(metadata: object, **provider: object) -> ContactCenterSettings:
    """A contact center with one identity provider, ``okta``, described there."""
    one = IdentityProvider("okta", metadata, **provider)  # type: ignore[arg-type]  # free-form for tests
    return ContactCenterSettings(name="acme", id="acme", saml=Saml({"okta": one}))


@contextmanager
def service_at(
    metadata: object,
    clock: Clock,
    state: StateStore | None = None,
    *,
    public_url: str = PUBLIC_URL,
    fetch_timeout: float = SECONDS,
    patience: float = SECONDS,
    **provider: object,
) -> Iterator[ServiceProvider]:
    """A service provider, whose background comes to rest in the end."""
    saml = {key: provider.pop(key) for key in list(provider) if key in SAML_KEYS}
    center = center_at(metadata, **provider)
    assert center.saml is not None
    table = dataclasses.replace(center.saml, **saml)  # type: ignore[arg-type]  # free-form for tests
    service = build_service_provider(
        dataclasses.replace(center, saml=table),
        public_url=public_url,
        prefix="/saml",
        state=state,
        clock=clock,
        fetch_timeout=fetch_timeout,
        metadata_wait=patience,
    )
    yield service
    settle(okta(service))


SAML_KEYS = {field.name for field in dataclasses.fields(Saml)} - {
    field.name for field in dataclasses.fields(IdentityProvider)
}


def age_metadata_by(clock: Callable[[], float], app: Flask) -> None:
    """Replace the identity providers of an application, so that their metadata age by this clock."""
    here = runtime(app)
    services = here.saml.service_providers
    assert isinstance(services, dict)
    for name, service in list(services.items()):
        anew = build_service_provider(
            here.settings.contact_centers[name],
            public_url=here.settings.public_url,
            prefix=here.settings.saml_url_prefix,
            state=here.state,
            clock=clock,
        )
        services[name] = dataclasses.replace(service, providers=anew.providers)


def okta(service: ServiceProvider) -> TrustedProvider:
    return service.providers["okta"]


def settle(provider: TrustedProvider) -> None:
    """Wait until nothing is under way in the background."""
    provider.wait(SECONDS)


def keys_after_looking(provider: TrustedProvider) -> set[bytes]:
    """Use the provider, wait for its background refresh, and return the trusted certificates."""
    provider.current()
    settle(provider)
    return set(provider.current().metadata.certificates)
