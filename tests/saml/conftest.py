from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from flask_genesys_auth.config.values import ContactCenterSettings, IdentityProvider, Saml
from flask_genesys_auth.saml.binding import bind
from flask_genesys_auth.saml.gate import admit
from flask_genesys_auth.saml.requests import Login, PendingLogin, digest
from flask_genesys_auth.saml.settings import ServiceProvider, build_service_provider
from flask_genesys_auth.saml.verify import verify
from flask_genesys_auth.state.memory import MemoryState
from flask_genesys_auth.testing.saml_messages import Message, provider_metadata
from flask_genesys_auth.testing.signing_keys import SigningKey, generate_signing_key

IDP = "https://idp.example/metadata"
SSO = "https://idp.example/sso?tenant=1&lang=en"
PUBLIC_URL = "https://portal.acme.example"
REQUEST_ID = "_request-1"
NOW = 1_900_000_000.0


@pytest.fixture(scope="session")
def key() -> SigningKey:
    return generate_signing_key("the provider")


@pytest.fixture(scope="session")
def other_key() -> SigningKey:
    return generate_signing_key("somebody else")


def center(metadata: Path, name: str = "acme", **provider: object) -> ContactCenterSettings:
    """A contact center with one identity provider, ``okta``."""
    saml = Saml(IdentityProvider("okta", metadata, **provider))  # type: ignore[arg-type]  # free-form for tests
    return ContactCenterSettings(name=name, id=name, saml=saml)


@pytest.fixture
def metadata_file(tmp_path: Path, key: SigningKey) -> Path:
    path = tmp_path / "idp.xml"
    path.write_text(provider_metadata(IDP, SSO, (key.certificate,)))
    return path


@pytest.fixture
def service(metadata_file: Path) -> ServiceProvider:
    return build_service_provider(center(metadata_file), public_url=PUBLIC_URL, prefix="/saml", clock=lambda: NOW)


def pending(service: ServiceProvider, **changes: str) -> PendingLogin:
    """The login that was begun with ``REQUEST_ID``."""
    begun = PendingLogin(
        request_id=REQUEST_ID,
        contact_center=service.contact_center,
        provider=service.provider.name,
        return_to="/",
        nonce_hash=digest("nonce"),
        relay_state_hash=digest("relay"),
    )
    return dataclasses.replace(begun, **changes)


def genuine(service: ServiceProvider) -> Message:
    """What the provider really sends."""
    return Message(
        issuer=service.idp_entity_id,
        acs_url=service.acs_url,
        audience=service.entity_id,
        request_id=REQUEST_ID,
        now=NOW,
    )


@dataclass(frozen=True)
class Door:
    """All three rooms, as the assertion consumer service walks them."""

    service: ServiceProvider
    key: SigningKey
    state: MemoryState

    def enter(self, message: Message | str, *, service: ServiceProvider | None = None, **request: str) -> Login:
        service = service or self.service
        encoded = message if isinstance(message, str) else message.encoded(self.key)
        admitted = admit(encoded)
        verified = verify(admitted, service.keys, want_response_signed=service.provider.want_response_signed)
        return bind(verified, service, pending(self.service, **request), self.state)

    @property
    def genuine(self) -> Message:
        return genuine(self.service)


@pytest.fixture
def door(service: ServiceProvider, key: SigningKey) -> Door:
    return Door(service, key, MemoryState("tests"))


Referee = Callable[[Message | str], bool]
