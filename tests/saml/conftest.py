"""A service provider, a signer, and the way of a message through gate, verification and binding."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from onelogin.saml2.response import OneLogin_Saml2_Response
from onelogin.saml2.utils import OneLogin_Saml2_Utils

from flask_genesys_auth.config.settings import ContactCenterSettings, IdentityProvider, Saml
from flask_genesys_auth.saml.binding import bind
from flask_genesys_auth.saml.errors import Fault, SamlError
from flask_genesys_auth.saml.gate import admit
from flask_genesys_auth.saml.requests import Login, PendingLogin, digest
from flask_genesys_auth.saml.service_provider import ServiceProvider, build_service_provider
from flask_genesys_auth.saml.trust import Trust
from flask_genesys_auth.saml.verify import verify
from flask_genesys_auth.state.memory import MemoryState
from flask_genesys_auth.testing.saml_messages import Message, SigningKey, generate_signing_key, provider_metadata

from .addresses import IDP, PUBLIC_URL, SSO
from .application import app, browser, make_app

__all__ = ["app", "browser", "make_app"]

REQUEST_ID = "_request-1"
NOW = float(int(time.time()))


@pytest.fixture(scope="session")
def key() -> SigningKey:
    return generate_signing_key("the provider")


@pytest.fixture(scope="session")
def other_key() -> SigningKey:
    return generate_signing_key("somebody else")


def center(metadata: Path, name: str = "acme", **provider: object) -> ContactCenterSettings:
    """A contact center with one identity provider, ``okta``."""
    saml = Saml({"okta": IdentityProvider("okta", metadata, **provider)})  # type: ignore[arg-type]  # free-form for tests
    return ContactCenterSettings(name=name, id=name, saml=saml)


@pytest.fixture
def metadata_file(tmp_path: Path, key: SigningKey) -> Path:
    path = tmp_path / "idp.xml"
    path.write_text(provider_metadata(IDP, SSO, (key.certificate,)))
    return path


@pytest.fixture
def service(metadata_file: Path) -> ServiceProvider:
    return build_service_provider(center(metadata_file), public_url=PUBLIC_URL, prefix="/saml", clock=lambda: NOW)


def trust_of(service: ServiceProvider) -> Trust:
    """What the service provider knows of its one identity provider."""
    (provider,) = service.providers.values()
    return provider.current()


def pending(service: ServiceProvider, **changes: Any) -> PendingLogin:
    """The login that was begun with ``REQUEST_ID``."""
    begun = PendingLogin(
        request_id=REQUEST_ID,
        contact_center=service.contact_center,
        provider=trust_of(service).name,
        return_to="/",
        nonce_hash=digest("nonce"),
        relay_state_hash=digest("relay"),
    )
    return dataclasses.replace(begun, **changes)


def genuine(service: ServiceProvider) -> Message:
    """What the provider really sends."""
    return Message(
        issuer=trust_of(service).entity_id,
        acs_url=service.acs_url,
        audience=service.entity_id,
        request_id=REQUEST_ID,
        now=NOW,
    )


def referee_accepts(service: ServiceProvider, encoded: str) -> bool:
    """Whether python3-saml accepts a message, too, by the tests' clock."""
    address = urlsplit(service.acs_url)
    posted = {"https": "on", "http_host": address.netloc, "script_name": address.path, "get_data": {}}
    message = OneLogin_Saml2_Response(trust_of(service).toolkit, encoded)
    with pytest.MonkeyPatch.context() as clock:
        # It knows none but the machine's, which has gone on since these messages were made.
        clock.setattr(OneLogin_Saml2_Utils, "now", staticmethod(lambda: int(NOW)))
        return bool(message.is_valid(posted, REQUEST_ID, raise_exceptions=True))


@dataclass(frozen=True)
class Door:
    """All rooms behind the assertion consumer service."""

    service: ServiceProvider
    key: SigningKey
    state: MemoryState

    def enter(
        self,
        message: Message | str,
        *,
        service: ServiceProvider | None = None,
        request: PendingLogin | None = None,
        referee: bool = True,
    ) -> Login:
        """Accept a message or raise; what is accepted, python3-saml must accept as well.

        Every part is asked in the consumer's own order, but the request need not have been begun.
        """
        service = service or self.service
        if service.clock is time.time:
            # However long the tests before this one took.
            service = dataclasses.replace(service, clock=lambda: NOW)
        encoded = message if isinstance(message, str) else message.encoded(self.key)
        admitted = admit(encoded)
        trust = trust_of(service)
        verified = verify(admitted, trust)
        login = bind(verified, service, trust, request or pending(service), self.state)
        assert not referee or referee_accepts(service, encoded)
        return login

    @property
    def genuine(self) -> Message:
        """A new one each time."""
        return genuine(self.service)

    def refuses(self, message: Message | str, *faults: Fault, service: ServiceProvider | None = None) -> SamlError:
        """Check that the genuine message is accepted and this one is not, for the right reason."""
        assert self.enter(self.genuine).subject == "ann@acme.example"
        with pytest.raises(SamlError) as refusal:
            self.enter(message, service=service)
        assert refusal.value.reason in faults, refusal.value
        return refusal.value


@pytest.fixture
def door(service: ServiceProvider, key: SigningKey) -> Door:
    return Door(service, key, MemoryState("tests"))
